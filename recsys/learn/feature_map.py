"""A linear map from features to the embeddings that were learned without them. On the driver.

It gives embeddings to items, and users, that have features and no interactions, and leaves those
of all others as they were learned. An embedding is the weighted mean of the embeddings of its
features, and these are found by a ridge regression (Hoerl & Kennard 1970, "Ridge Regression").
With x_i the weights of item i, scaled to a sum of 1, and y_i its embedding and bias, B minimises

    sum_i r_i |y_i - m - x_i B|² + penalty |B|²,    r_i = n_i / (n_i + 1)

where m is the mean of the y_i, weighted by r_i. An item with few interactions n_i has a noisy
embedding, so it counts less. As the weights sum to 1, x_i B + m = x_i (B + m): the embeddings of
the features are the rows of B + m, and a rare feature is near the mean.

The penalty is chosen by folds: each fold is predicted by the map of the others, and the penalty
with the smallest weighted squared error wins. This needs no training. Errors are compared in a few
random directions, which keep squared lengths on average (Johnson & Lindenstrauss 1984).
"""

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.errors import TrainingError

log = logging.getLogger(__name__)

F64 = NDArray[np.float64]

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
_FOLDS = 5
_DIRECTIONS = 16
_ROUGH, _FINE = 1e-2, 1e-6  # relative residuals
_STEPS = 1000


@dataclass(frozen=True)
class FeatureMap:
    """The embeddings of features that a map has found.

    Attributes:
        embeddings: `(n_features, d)` float32.
        biases: `(n_features,)` float32.
        penalty: that of the ridge regression.
        explained: the share of the variance of embeddings and biases that the folds' predictions
            explain; below 0 if the mean is nearer.
    """

    embeddings: NDArray[np.float32]
    biases: NDArray[np.float32]
    penalty: float
    explained: float


def fit(
    features: sp.csr_matrix,
    embeddings: NDArray[np.float32],
    biases: NDArray[np.float32],
    counts: NDArray[np.integer],
    seed: int,
) -> FeatureMap:
    """Find the embeddings of features.

    Args:
        features: `(n, n_features)` CSR: the weights of those that were trained, each row with a sum
            of 1; rows without any feature have no effect.
        embeddings: `(n, d)` float32, as learned.
        biases: `(n,)` float32.
        counts: `(n,)` how many interactions each embedding rests on.
        seed: decides which rows are in which fold.

    Raises:
        TrainingError: no row has both features and interactions.
    """
    used = usable(features, counts)
    if not used.any():
        raise TrainingError(
            "features: expected some that have features and interactions, found none; check the "
            "column of the ids"
        )
    x = sp.csr_matrix(features[used], dtype=np.float64)
    y = np.column_stack([embeddings[used], biases[used]]).astype(np.float64)
    reliable = counts[used] / (counts[used] + 1.0)
    rng = np.random.default_rng(seed)
    folds = rng.permutation(len(y)) % _FOLDS
    if y.shape[1] > _DIRECTIONS:
        seen = y @ rng.normal(size=(y.shape[1], _DIRECTIONS)) / np.sqrt(_DIRECTIONS)
    else:
        seen = y
    errors = np.zeros(len(PENALTIES))
    for fold in range(min(_FOLDS, len(y)) if len(y) > 1 else 0):
        errors += _errors(x, seen, reliable, folds == fold)
    best = int(np.argmin(errors))
    mean, centred = _centred(y, reliable)
    found = _solve(x, centred, reliable, PENALTIES[best], _FINE) + mean
    spread = float(reliable @ np.square(_centred(seen, reliable)[1]).sum(axis=1))
    return FeatureMap(
        found[:, :-1].astype(np.float32),
        found[:, -1].astype(np.float32),
        PENALTIES[best],
        1 - float(errors[best]) / spread if spread > 0 else 0.0,
    )


def usable(features: sp.csr_matrix, counts: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which rows a map can be fitted to: `(n,)`, those with features and interactions."""
    return np.asarray((np.diff(features.indptr) > 0) & (counts > 0))


def _errors(x: sp.csr_matrix, y: F64, reliable: F64, out: NDArray[np.bool_]) -> F64:
    """Return the weighted squared error of rows, predicted from the others, for each penalty."""
    others, known = x[~out], reliable[~out]
    mean, centred = _centred(y[~out], known)
    own, wanted = x[out], y[out] - mean
    errors, found = np.zeros(len(PENALTIES)), None
    for n in reversed(range(len(PENALTIES))):  # a large penalty is solved quickly, others from it
        found = _solve(others, centred, known, PENALTIES[n], _ROUGH, found)
        errors[n] = reliable[out] @ np.square(wanted - own @ found).sum(axis=1)
    return errors


def _centred(y: F64, reliable: F64) -> tuple[F64, F64]:
    mean = reliable @ y / reliable.sum()
    return mean, y - mean


def _solve(
    x: sp.csr_matrix,
    y: F64,
    reliable: F64,
    penalty: float,
    tolerance: float,
    start: F64 | None = None,
) -> F64:
    """Solve the normal equations by conjugate gradients, all columns of `y` at once.

    SciPy has this for one column at a time, which would read `x` as often as there are columns. A
    factorisation would need as much memory as there are pairs of features that occur together.
    """
    weighted = sp.csr_matrix(sp.diags(reliable) @ x)
    across = sp.csr_matrix(weighted.T)
    scale = np.asarray(weighted.multiply(x).sum(axis=0)).ravel()[:, None] + penalty
    right = np.asarray(across @ y)
    found = np.zeros_like(right) if start is None else start
    rest = right - (across @ (x @ found) + penalty * found)
    direction = rest / scale
    product = _dots(rest, direction)
    enough = tolerance * np.sqrt(_dots(right, right))
    for step in range(_STEPS):
        if (np.sqrt(_dots(rest, rest)) <= enough).all():
            break
        ahead = across @ (x @ direction) + penalty * direction
        length = _ratio(product, _dots(direction, ahead))
        found = found + length * direction
        rest = rest - length * ahead
        towards = rest / scale
        before, product = product, _dots(rest, towards)
        direction = towards + _ratio(product, before) * direction
        if step == _STEPS - 1:
            log.warning("the map of features has not converged after %d steps", _STEPS)
    return found


def _dots(first: F64, second: F64) -> F64:
    return np.asarray(np.einsum("ij,ij->j", first, second))


def _ratio(above: F64, below: F64) -> F64:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
