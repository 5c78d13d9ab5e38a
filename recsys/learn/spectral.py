"""Embeddings to begin a training with, from a truncated singular value decomposition.

LightFM begins with small random embeddings. Where lists depend on what goes with what more than on
what is popular, it takes tens of epochs until these have directions. A truncated decomposition
`X ~ U S V^T` of the matrix of positive pairs gives such directions in about the time of an epoch
(Cremonesi, Koren & Turrin 2010, "Performance of Recommender Algorithms on Top-N Recommendation
Tasks", PureSVD). Each user's row of X is divided by the root of the number of their pairs, so that
users with long histories do not decide alone.

**How many directions.** A direction that is there by chance is worse than none: it says of the
pairs of the training that they are right, so that nothing is learned from them. Chance is measured
(parallel analysis, Horn 1965, "A Rationale and Test for the Number of Factors in Factor Analysis"):
the items of all pairs are permuted, so that each user has as many pairs as before, and each item
too. What singular values are left after the first, which is popularity, are chance. Only directions
with larger ones are used. Made-up pairs with 24 tastes have 25, MovieTweetings has 3, and goodbooks
more than 128. The other components begin as random ones.

**How long.** Users begin with the rows of `U sqrt(S)`, items with those of `V sqrt(S)`, scaled to
fixed mean lengths. WARP looks for a negative whose score is within 1 of the positive's: embeddings
that are too short say nothing, and those that are too long leave nothing to learn.

The decomposition is a randomised one (Halko, Martinsson & Tropp 2011, "Finding Structure with
Randomness", algorithm 4.4). It needs products of the sparse matrix with narrow dense ones, and no
matrix of items times items.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

_F32 = NDArray[np.float32]

USER_LENGTH, ITEM_LENGTH = 1.0, 2.0  # means
_ITERATIONS = 4  # of the power method
_MORE = 10  # columns than asked for, which make the last ones exact
_SMALLEST = 1e-4  # singular value beside the largest; below, 32 bits leave little but rounding


@dataclass(frozen=True)
class Directions:
    """What a matrix of pairs says about users and items beyond chance.

    Attributes:
        users: `(n_users, n)` float32, with a mean length of `USER_LENGTH`.
        items: `(n_items, n)` float32, with a mean length of `ITEM_LENGTH`.
    """

    users: _F32
    items: _F32

    @property
    def n(self) -> int:
        """How many directions there are."""
        return int(self.users.shape[1])


def directions(labels: sp.coo_matrix, components: int, seed: int) -> Directions:
    """Return the directions that positive pairs have beyond chance, the strongest first.

    Args:
        labels: `(n_users, n_items)` COO, float32; positives are above 0.
        components: the largest number of directions.
        seed: of the random projection, and of the permutation.
    """
    positive = labels.data > 0
    rows, cols = labels.row[positive], labels.col[positive]
    rng = np.random.default_rng(seed)
    users, values, items = _truncated(_by_user(rows, cols, labels.shape), components, rng)
    _, chance, _ = _truncated(_by_user(rows, rng.permutation(cols), labels.shape), 2, rng)
    limit = max(chance[-1] if len(chance) > 1 else 0.0, _SMALLEST * values[0])
    n = int(np.count_nonzero(values > limit))  # values fall
    roots = np.sqrt(values[:n]).astype(np.float32)
    return Directions(
        _scaled(users[:, :n] * roots, USER_LENGTH), _scaled(items[:, :n] * roots, ITEM_LENGTH)
    )


def _by_user(
    rows: NDArray[np.int32], cols: NDArray[np.int32], shape: tuple[int, int]
) -> sp.csr_matrix:
    """Return pairs as a matrix, where a user's n pairs are 1 / sqrt(n) each."""
    lengths = np.bincount(rows, minlength=shape[0])
    values = (lengths[rows] ** -0.5).astype(np.float32)
    return sp.csr_matrix((values, (rows, cols)), shape=shape)


def _truncated(
    matrix: sp.csr_matrix, components: int, rng: np.random.Generator
) -> tuple[_F32, NDArray[np.float64], _F32]:
    """Return U, S and V of the largest singular values, which fall; fewer of a small matrix."""
    rank = min(components, *matrix.shape)
    width = min(rank + _MORE, *matrix.shape)
    transposed = matrix.T.tocsr()
    drawn = rng.standard_normal((matrix.shape[1], width), dtype=np.float32)
    basis = transposed @ (matrix @ drawn)
    for _ in range(_ITERATIONS):
        basis = transposed @ (matrix @ np.linalg.qr(basis)[0])
    basis = np.linalg.qr(basis)[0]
    projected = matrix @ basis  # = U S R^T, with V = basis R
    squares, rotation = np.linalg.eigh(projected.T.astype(np.float64) @ projected)
    largest = np.argsort(-squares, kind="stable")[:rank]
    values = np.sqrt(np.maximum(squares[largest], 0))
    turned = rotation[:, largest]
    inverse = 1 / np.maximum(values, _SMALLEST * max(values[0], np.finfo(np.float32).tiny))
    users = projected @ (turned * inverse).astype(np.float32)
    return users, values, basis @ turned.astype(np.float32)


def _scaled(vectors: _F32, length: float) -> _F32:
    """Scale all vectors alike, so that those that are not 0 have a mean length."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    longer = lengths[lengths > 0]
    made: _F32 = vectors * np.float32(length / longer.mean() if len(longer) else 1)
    return made
