"""What runs on executors: exact top-k and the function that Spark calls with Arrow batches.

It imports NumPy and pandas alone. The driver ships it (see `recsys.runtime.session`).
"""
