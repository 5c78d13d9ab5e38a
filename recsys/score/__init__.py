"""Who is asked for, which items may be recommended, and the lists."""
