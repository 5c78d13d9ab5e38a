"""Batch recommendations: Spark prepares and scores, LightFM learns.

Importing this package imports nothing else: executors load it beside `recsys.kernel` alone.
"""

from typing import Any

__all__ = ["LocalModel", "Published", "fit", "measure", "read_recommendations"]


def __getattr__(name: str) -> Any:
    if name == "LocalModel":
        from recsys.score.local import LocalModel

        return LocalModel
    if name == "fit":
        from recsys.flows.frames import fit

        return fit
    if name == "measure":
        from recsys.evaluate.frames import measure

        return measure
    if name in __all__:
        from recsys.publishing import read

        return getattr(read, name)
    raise AttributeError(f"module 'recsys' has no attribute {name!r}")
