"""What a file of ratings, purchases or events is: a configuration for files never seen before.

Only samples are read, with pyarrow and pandas; Spark is not started.
"""
