"""Exact top-k by inner product, NumPy alone.

A score is the sum, in a fixed order, of float64 products of float32 factors, rounded once to
float32: the same bits for a user and an item whatever batch, partition or machine. A float32 matrix
product, whose last bits do depend on the shape of the batch, only nominates candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BATCH = 64


class KernelError(ValueError):
    """Vectors that cannot be scored; `row` is the position of the first such user, if any."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class Ranked:
    """Lists of different lengths, laid end to end: user i owns `[indptr[i], indptr[i + 1])`.

    Attributes:
        indptr: `(n_users + 1,)` int64.
        items: `(total,)` int32, rows of the item matrix, best first.
        scores: `(total,)` float32.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    scores: NDArray[np.float32]


class ItemMatrix:
    """Everything about the items that is prepared once per worker, not per batch."""

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        biases: NDArray[np.float32],
        *,
        allowed: NDArray[np.bool_] | None = None,
    ) -> None:
        """Prepare the items.

        Args:
            embeddings: `(n_items, n_components)` float32.
            biases: `(n_items,)` float32.
            allowed: `(n_items,)`; items that may be recommended, default all.
        """
        self.n_items, self.n_components = embeddings.shape
        if biases.shape != (self.n_items,):
            raise KernelError(f"expected biases of shape ({self.n_items},), found {biases.shape}")
        if not (np.isfinite(embeddings).all() and np.isfinite(biases).all()):
            raise KernelError("expected finite item embeddings and biases")
        factors = np.concatenate([embeddings, biases[:, None]], axis=1).astype(np.float32)
        self.rows = factors
        self.columns = np.ascontiguousarray(factors.T)
        norms = np.sqrt(np.einsum("ij,ij->i", factors, factors, dtype=np.float64))
        self.longest = float(norms.max(initial=0.0))
        self.forbidden = None if allowed is None else np.flatnonzero(~allowed)


def top_k(
    items: ItemMatrix,
    embeddings: NDArray[np.float32],
    biases: NDArray[np.float32],
    k: int,
    seen_indptr: NDArray[np.int64] | None = None,
    seen_items: NDArray[np.int32] | None = None,
) -> Ranked:
    """Return each user's k best items by (score descending, item row ascending).

    Args:
        items: the prepared items.
        embeddings: `(n, n_components)` float32.
        biases: `(n,)` float32.
        k: length of a list; shorter where fewer items are left.
        seen_indptr: `(n + 1,)`; user i has seen `seen_items[seen_indptr[i]:seen_indptr[i + 1]]`.
        seen_items: rows of items to leave out.

    Raises:
        KernelError: shapes do not fit, or a vector is not finite.
    """
    n = len(embeddings)
    if embeddings.shape != (n, items.n_components) or biases.shape != (n,):
        raise KernelError(
            f"expected users of shape (n, {items.n_components}) with n biases, found "
            f"{embeddings.shape} with {biases.shape}"
        )
    finite = np.isfinite(embeddings).all(axis=1) & np.isfinite(biases)
    if not finite.all():
        raise KernelError("expected finite user embeddings and biases", int(np.argmin(finite)))
    indptr = np.zeros(n + 1, np.int64)
    chosen: list[NDArray[np.int32]] = []
    scores: list[NDArray[np.float32]] = []
    for start in range(0, n, _BATCH):
        users = np.concatenate(
            [
                embeddings[start : start + _BATCH],
                np.ones((len(embeddings[start : start + _BATCH]), 1)),
            ],
            axis=1,
        ).astype(np.float32)
        nominated = users @ items.columns
        if items.forbidden is not None:
            nominated[:, items.forbidden] = -np.inf
        for offset, row in enumerate(nominated):
            user = start + offset
            if seen_indptr is not None and seen_items is not None:
                row[seen_items[seen_indptr[user] : seen_indptr[user + 1]]] = -np.inf
            best, best_scores = _best(items, users[offset], float(biases[user]), row, k)
            chosen.append(best)
            scores.append(best_scores)
            indptr[user + 1] = indptr[user] + len(best)
    return Ranked(
        indptr,
        np.concatenate(chosen) if chosen else np.empty(0, np.int32),
        np.concatenate(scores) if scores else np.empty(0, np.float32),
    )


def _best(
    items: ItemMatrix,
    user: NDArray[np.float32],
    bias: float,
    nominated: NDArray[np.float32],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    left = int(np.count_nonzero(nominated > -np.inf))
    k = min(k, left)
    if k == 0:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    kth = float(np.partition(nominated, len(nominated) - k)[len(nominated) - k])
    # |float32 product - exact| <= n u |user| |item| / (1 - n u) for any order of summation (Higham
    # 2002, section 3.1); twice that, for the k-th and for the candidate, and the rounding of both
    # published scores.
    eps = float(np.finfo(np.float32).eps)
    size = float(np.sqrt(np.dot(user.astype(np.float64), user))) * items.longest
    margin = eps * (2 * (len(user) + 2) * size + 4 * (size + abs(bias))) + 1e-37
    candidates = np.flatnonzero(nominated >= kth - margin)
    # One product and one addition at a time: no BLAS, no fused operation, one order.
    products = items.rows[candidates].astype(np.float64) * user.astype(np.float64)
    total = np.zeros(len(candidates))
    for column in range(products.shape[1]):
        total = total + products[:, column]
    scores = (total + bias).astype(np.float32)
    order = np.lexsort((candidates, -scores))[:k]
    return candidates[order].astype(np.int32), scores[order]
