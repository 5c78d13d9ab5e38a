"""How sure a mean over users is: percentile bootstrap. NumPy alone; it runs on the driver.

Users are drawn with replacement, as many as there are, again and again; the 2.5 and 97.5 percent
quantiles of the means are the ends of a 95 % interval (Efron & Tibshirani 1993, "An Introduction to
the Bootstrap", 13.3). For two models the differences of the same users are drawn: their interval is
narrower than those of the two models where users who are hard for one are hard for the other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LEVEL = 0.95
_DRAWS_AT_ONCE = 2**22  # 32 MiB


@dataclass(frozen=True)
class Estimate:
    """Means over users of m metrics, each with its interval; NaN where no user has a value.

    Attributes:
        value, low, high: `(m,)` float64.
        n_users: `(m,)` int64, how many users have a value.
    """

    value: F64
    low: F64
    high: F64
    n_users: NDArray[np.int64]


def estimate(user_ids: NDArray[np.generic], values: F64, *, resamples: int, seed: int) -> Estimate:
    """Estimate means over users with their percentile bootstrap intervals.

    All metrics see the same resamples. The order in which the users come has no effect.

    Args:
        user_ids: `(n,)`, distinct: numbers or str objects.
        values: `(n, m)` float64; NaN where a user has no value.
        resamples: how many times to draw n of the n users.
        seed: of the draws.

    Raises:
        ValueError: ids and values do not fit.
    """
    if values.ndim != 2 or len(user_ids) != len(values) or resamples < 1:
        raise ValueError(
            f"expected (n,) ids, (n, m) values and a resample at least, found {user_ids.shape}, "
            f"{values.shape} and {resamples}"
        )
    values = values[np.argsort(user_ids, kind="stable")]
    there = ~np.isnan(values)
    n_users = there.sum(axis=0)
    means = _resampled_means(values, there, resamples, seed)
    with np.errstate(invalid="ignore"):
        value = np.where(there, values, 0.0).sum(axis=0) / n_users
    low, high = np.full((2, values.shape[1]), np.nan)
    for j in np.flatnonzero(n_users):
        # A resample may have drawn none of the few users who have a value.
        drawn = means[~np.isnan(means[:, j]), j]
        if len(drawn):
            low[j], high[j] = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, low, high, n_users)


def difference(
    user_ids: NDArray[np.generic], first: F64, second: F64, *, resamples: int, seed: int
) -> Estimate:
    """Estimate the mean differences `first - second` of two models on the same users, paired.

    The arguments are those of `estimate`; who lacks a value of either counts for neither.
    """
    return estimate(user_ids, first - second, resamples=resamples, seed=seed)


def _resampled_means(values: F64, there: NDArray[np.bool_], resamples: int, seed: int) -> F64:
    """`(resamples, m)`: means of the metrics over users drawn with replacement."""
    n = len(values)
    rng = np.random.default_rng(seed)
    filled = np.where(there, values, 0.0)
    complete = bool(there.all())
    means = np.empty((resamples, values.shape[1]))
    step = max(1, _DRAWS_AT_ONCE // max(1, n))
    for start in range(0, resamples if n else 0, step):
        size = min(step, resamples - start)
        times = _times_drawn(rng, size, n)
        weights: Any = n if complete else times @ there.astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[start : start + size] = times @ filled / weights
    return means


def _times_drawn(rng: np.random.Generator, size: int, n: int) -> F64:
    """`(size, n)`: how often each of n users is among n draws."""
    draws = rng.integers(0, n, size=(size, n)) + np.arange(size)[:, None] * n
    return np.bincount(draws.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
