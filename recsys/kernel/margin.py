"""The proof behind `nominate`: how far rounding can move a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_UNIT32 = 2.0**-24  # unit roundoff
_UNIT64 = 2.0**-53
_NORMAL32 = 2.0**-126  # smallest normal float32


def error_margin(n_terms: int, user_norms: F64, user_biases: F64, item_norm: float) -> F64:
    """How far below the k-th best product an item of the true list can lie: (n,) one per user.

    With n = `n_terms`, x = (u, 1), y = (v, b) and M = |x| max|y| (Euclidean norms):

    * Product. In any order of summation, with or without FMA, the float32 inner product s obeys
      ``|s - x.y| <= gamma_n sum |x_j y_j| <= gamma_n M``, ``gamma_n = n e / (1 - n e)``, e = 2**-24
      (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1, (3.5); then
      Cauchy-Schwarz). Underflow is outside that model: each product and each addition may lose
      another 2**-126 max(1, |x|) max(1, |y|), also on a CPU that flushes subnormals to zero. B is
      the sum of both.
    * Published score. f, the float64 sum of the n products and the user's bias, obeys
      ``|f - (x.y + bias)| <= C = gamma'_(n+1) (M + |bias|)`` with e' = 2**-53; rounding it to
      float32 gives F with ``|F - f| <= D``, e (M + |bias|) but for a factor near 1, plus 2**-126.
    * k unseen items have s >= t, hence F >= t - B + bias - C - D. The F of an item in the true list
      is at least the smallest of theirs (at least: ties stay in), hence its own
      ``s >= F - bias - B - C - D >= t - 2 (B + C + D)``.

    The factor 1.01 covers the factors near 1 and the rounding of this computation.
    """
    product = _gamma(n_terms, _UNIT32) * user_norms * item_norm
    underflow = 2 * n_terms * _NORMAL32 * (1.0 + user_norms) * (1.0 + item_norm)
    total = user_norms * item_norm + np.abs(user_biases)
    published = (_gamma(n_terms + 1, _UNIT64) + _UNIT32) * total + _NORMAL32
    return np.asarray(1.01 * 2.0 * (product + underflow + published))


def _gamma(n: int, unit: float) -> float:
    return n * unit / (1.0 - n * unit)
