"""Where tables and small files lie: local directories, Hadoop's file systems, checksums."""
