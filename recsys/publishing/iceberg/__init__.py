"""Iceberg tables as the form of publication; the only room that knows pyiceberg."""
