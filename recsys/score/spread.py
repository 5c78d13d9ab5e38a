"""How a number is spread over users: mean, quantiles and a histogram."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

QUANTILES = {
    "min": 0.0,
    "p5": 0.05,
    "p25": 0.25,
    "median": 0.5,
    "p75": 0.75,
    "p95": 0.95,
    "max": 1.0,
}
_BINS = 10


@dataclass(frozen=True)
class Spread:
    """The distribution of one number over users.

    Attributes:
        users: of how many it is known.
        mean: None without any.
        quantiles: by the names of QUANTILES; empty without any.
        edges: `bins + 1` limits of the histogram's bins; a bin has its lower limit, the last both.
        counts: users in each bin.
    """

    users: int
    mean: float | None
    quantiles: dict[str, float]
    edges: list[float]
    counts: list[int]

    @classmethod
    def of(cls, values: F64, low: float, high: float) -> "Spread":
        """Describe values, NaN where one is not known; all others lie from low to high."""
        known = values[~np.isnan(values)]
        edges = [round(low + (high - low) * n / _BINS, 6) for n in range(_BINS + 1)]
        counts = np.histogram(known, edges)[0]
        if not len(known):
            return cls(0, None, {}, edges, [0] * _BINS)
        found = np.quantile(known, list(QUANTILES.values()), method="inverted_cdf")
        quantiles = dict(zip(QUANTILES, map(float, found), strict=True))
        return cls(len(known), float(known.mean()), quantiles, edges, list(map(int, counts)))

    def as_record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "users": self.users,
            "mean": self.mean,
            "quantiles": self.quantiles,
            "edges": self.edges,
            "counts": self.counts,
        }
