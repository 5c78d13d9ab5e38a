"""Held-out pairs to metrics with intervals."""
