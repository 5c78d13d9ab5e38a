"""Implicit-feedback ALS: users and items in turn, by ridge regressions. On the driver.

Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", equation 4,
with a confidence of `1 + confidence` for a pair and of 1 for every other. Each half of a sweep is
solved exactly. A user with n items needs a system of n or of `rank` unknowns, whichever is smaller:
with G = inverse(Y'Y + penalty I) and Y_u the factors of the user's items (`kernel.second_view`),

    x_u = (1 + confidence) G Y_u' inverse(I + confidence Y_u G Y_u') 1

So wide factors cost little where histories are short. Rows with about as many pairs are solved
together. A row's result depends on the other side's factors alone, not on the other rows.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_AT_ONCE = 3_000_000  # numbers of gathered factors, 12 MB
_SLACK = 1.15  # rows that are solved together differ in length by at most this


def factorise(
    matrix: sp.csr_matrix, rank: int, confidence: float, penalty: float, sweeps: int, seed: int
) -> tuple[F32, F32]:
    """Return the factors of users and of items, `(n_users, rank)` and `(n_items, rank)` float32.

    Args:
        matrix: `(n_users, n_items)` CSR of positives.
        rank: the number of factors.
        confidence: by how much more a pair counts than none.
        penalty: of the ridge regressions.
        sweeps: how often users and items are solved.
        seed: of the items' first factors.
    """
    transposed = matrix.T.tocsr()
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((matrix.shape[1], rank)).astype(np.float32) / np.float32(rank)
    for _ in range(sweeps):
        users = solve(items, matrix, confidence, penalty)
        items = solve(users, transposed, confidence, penalty)
    return solve(items, matrix, confidence, penalty), items


def operations(matrix: sp.csr_matrix, rank: int, sweeps: int) -> float:
    """Return about how many multiplications `factorise` takes."""

    def half(lengths: NDArray[np.int64]) -> float:
        smaller = np.minimum(lengths, rank).astype(np.float64)
        systems = 2 * smaller * lengths * rank + smaller**3
        return float(systems.sum()) + 4.0 * float(np.count_nonzero(lengths)) * rank * rank

    users, items = np.diff(matrix.indptr), np.bincount(matrix.indices, minlength=matrix.shape[1])
    return sweeps * (half(users) + half(items)) + half(users)


def gram(factors: F32, penalty: float) -> F32:
    """Return `inverse(Y'Y + penalty I)` of factors Y, `(rank, rank)` float32."""
    square = (factors.T @ factors).astype(np.float64)
    square[np.diag_indices(len(square))] += penalty
    made: F32 = np.linalg.inv(square).astype(np.float32)
    return made


def solve(factors: F32, pairs: sp.csr_matrix, confidence: float, penalty: float) -> F32:
    """Return the factors of the rows of `pairs`, given those of its columns.

    A row without pairs gets zeros.
    """
    inverse = gram(factors, penalty)
    mapped = factors @ inverse
    solved = np.zeros((pairs.shape[0], factors.shape[1]), np.float32)
    scale = np.float32(1 + confidence)
    for rows, columns, there in _batches(pairs, factors.shape[1]):
        own, other = factors[columns] * there[:, :, None], mapped[columns] * there[:, :, None]
        length = columns.shape[1]
        if length <= len(inverse):
            system = np.float32(confidence) * np.matmul(other, own.transpose(0, 2, 1))
            system[:, np.arange(length), np.arange(length)] += 1
            shares = np.linalg.solve(system, there[:, :, None].astype(np.float32))
            solved[rows] = scale * np.matmul(shares.transpose(0, 2, 1), other)[:, 0]
        else:
            system = np.float32(confidence) * np.matmul(other.transpose(0, 2, 1), own)
            system[:, np.arange(len(inverse)), np.arange(len(inverse))] += 1
            solved[rows] = scale * np.linalg.solve(system, other.sum(axis=1)[:, :, None])[:, :, 0]
    return solved


def _batches(
    pairs: sp.csr_matrix, width: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield rows of about the same length, with their columns, and which of these are there."""
    lengths = np.diff(pairs.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    ordered = lengths[order]
    start = 0
    while start < len(order):
        most = max(int(ordered[start] * _SLACK), int(ordered[start]) + 2)
        stop = int(np.searchsorted(ordered, most, side="right"))
        stop = min(stop, start + max(1, _AT_ONCE // (width * most)))
        rows = order[start:stop]
        place = np.arange(int(ordered[stop - 1]))
        there = place < lengths[rows][:, None]
        columns = np.zeros(there.shape, np.int64)
        columns[there] = pairs.indices[(pairs.indptr[rows][:, None] + place)[there]]
        yield rows, columns, there
        start = stop
