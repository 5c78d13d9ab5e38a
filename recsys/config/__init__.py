"""The configuration: typed sections, how they agree, and how files and overrides are read."""
