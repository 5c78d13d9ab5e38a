"""What a process stands on: the Spark session, signals, memory, and where tests may stop it."""
