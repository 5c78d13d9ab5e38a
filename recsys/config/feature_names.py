"""What features are called, without Spark: for ranges of numbers, and for what a person types."""

import bisect
import itertools
import math
import re
from collections.abc import Mapping, Sequence


def range_names(edges: Sequence[float]) -> list[str]:
    """Name the ranges between edges; a number that is an edge is in the range that it begins."""
    texts = [f"{edge:.15g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    return [f"below {texts[0]}", *between, f"{texts[-1]} and above"]


def feature_name(group: str, value: str, edges: Mapping[str, Sequence[float]]) -> str:
    """Return what a feature is called, of a value as a person types it.

    Args:
        group: the group.
        value: as `recsys.ingest.feature_values` finds it, or the name of a range.
        edges: of the groups of numbers.
    """
    text = re.sub(r"\s+", " ", value).strip().lower()
    text = re.sub(r"^([+-]?\d+)\.0+$", r"\1", text)
    number = _number(text)
    if group in edges and number is not None:
        text = range_names(edges[group])[bisect.bisect_right(edges[group], number)]
    return f"{group}={text}"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
