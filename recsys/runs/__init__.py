"""A run: its id, its date and its record."""
