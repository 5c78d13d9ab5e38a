"""What runs on executors: exact top-k, and the functions that Spark calls with Arrow batches.

It imports only NumPy and pandas. The driver sends it to the executors (see
`recsys.runtime.session`), so they do not need this project installed.
"""
