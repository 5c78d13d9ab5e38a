"""Batch recommendations: Spark prepares and scores, LightFM learns.

Importing this package imports nothing else: executors load it beside `recsys.kernel` alone.
"""

__version__ = "0.1.0"
