"""Exact top-k: the best items of many users, with the same bits in any batch or partition.

NumPy alone, no Spark: an executor, a test or a notebook calls `top_k` with plain arrays.

The score of user u and item i is a sum in float64, in one fixed order, rounded once to float32 (see
`published`). The list is the k best by (score descending, row ascending). Rows are in the order of
item ids, so ties go to the smaller id.

To compute all scores this way would take many times as long as BLAS. So `nominate` finds the few
items that can be in the list, by float32 products and a proven margin, and only these are scored
here. If it gives up (very many equal scores, scores near the end of float32, k a large part of the
catalogue), all items are scored for that user: the same list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.nominate import BATCH, ItemBlocks, nominee_limit
from recsys.kernel.ordering import by_item, by_user_and_score, places_in_list
from recsys.kernel.packed import row_norms
from recsys.kernel.published import exact

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Pairs = tuple[I64, I64, F32]  # positions of users in the batch, items, scores

_PAIRS_IN_BATCH = 2**22  # limits the number of users in a batch if k is large


class KernelError(ValueError):
    """An input that cannot be scored. row: the position of the user or item at fault, if any."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class Ranked:
    """Ragged lists: user i has the places from indptr[i] up to indptr[i + 1], best first.

    indptr: (n_users + 1,); items: (total,) rows of the item matrix; scores: (total,).
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    scores: NDArray[np.float32]


class ItemMatrix:
    """What is prepared of the items once per worker, not once per batch.

    embeddings: (n_items, d) float32; biases: (n_items,) float32; allowed: (n_items,) bool, True for
    items that may be recommended (all, if None). The arrays are copied.

    It holds one copy of the vectors (see `nominate.bytes_of`).

    Raises KernelError: a wrong shape or type; NaN or infinity (`row` is the item).
    """

    def __init__(self, embeddings: F32, biases: F32, *, allowed: Bool | None = None) -> None:
        _check_vectors("item", embeddings, biases)
        self.n_items, self.n_components = embeddings.shape
        if self.n_items > np.iinfo(np.int32).max:
            raise KernelError(f"found {self.n_items} items, but item rows are int32")
        if allowed is None:
            allowed = np.ones(self.n_items, np.bool_)
        _check_array("allowed", allowed, np.bool_, (self.n_items,))

        vectors = np.column_stack([embeddings, biases])
        items = np.flatnonzero(allowed)
        # Here an item has a place, in descending order of norms, which makes `ItemBlocks` fast.
        norms = row_norms(vectors)
        self._item: I64 = items[np.argsort(-norms[items], kind="stable")]
        self._place: I64 = np.full(self.n_items, -1, np.int64)  # -1: not allowed
        self._place[self._item] = np.arange(len(items))
        self._norms = norms[self._item]
        vectors = vectors[self._item]
        self._blocks = ItemBlocks(vectors) if len(items) else None
        self._vectors: F32 = self._blocks.vectors if self._blocks else vectors


def top_k(
    items: ItemMatrix,
    embeddings: F32,
    biases: F32,
    k: int,
    seen_indptr: I64 | None = None,
    seen_items: NDArray[np.int32] | None = None,
) -> Ranked:
    """The k best allowed and unseen items of each user, by (score descending, item row ascending).

    embeddings: (n, d) float32; biases: (n,) float32; any n, also 0: batches are made here.
    seen_indptr: (n + 1,) integers from 0 to len(seen_items), never falling; seen_items: integers,
    rows of the item matrix to leave out for each user, in any order, repeats and items that are not
    allowed included. Inputs are not changed.

    A user with fewer than k items left gets a shorter list, and one with none left an empty list.

    Raises KernelError: a wrong shape, type or k; NaN or infinity in a user, or a score in a list
    that float32 cannot hold (`row` is the position of the user); a seen row out of range.
    """
    n = _check_users(items, embeddings, biases, k)
    indptr, seen = _check_seen(items, n, seen_indptr, seen_items)

    batch_size = min(BATCH, max(1, _PAIRS_IN_BATCH // nominee_limit(k)))
    batch = _Batch(items, min(n, batch_size), k)
    counts = [np.zeros(1, np.int64)]
    found_items: list[NDArray[np.int32]] = []
    found_scores: list[F32] = []
    for start, stop in _parts(n, batch_size):
        seen_users = np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1]))
        seen_places = items._place[seen[indptr[start] : indptr[stop]]]
        known = seen_places >= 0
        users, listed, scores = batch.ranked(
            embeddings[start:stop], biases[start:stop], seen_users[known], seen_places[known]
        )
        _check_scores(start + users, scores)
        counts.append(np.bincount(users, minlength=stop - start))
        found_items.append(listed.astype(np.int32))
        found_scores.append(scores)
    return Ranked(
        indptr=np.cumsum(np.concatenate(counts)),
        items=np.concatenate([np.empty(0, np.int32), *found_items]),
        scores=np.concatenate([np.empty(0, np.float32), *found_scores]),
    )


def rank(
    items: ItemMatrix,
    embeddings: F32,
    biases: F32,
    k: int,
    indptr: I64,
    candidates: NDArray[np.int32],
    seen_indptr: I64 | None = None,
    seen_items: NDArray[np.int32] | None = None,
) -> Ranked:
    """The k best of each user's own candidates: the order and the scores, bit for bit, of `top_k`.

    indptr, candidates: in the form of seen_indptr and seen_items, the items to rank for each user,
    in any order; repeats count once, and items that are not allowed or seen are left out. The other
    arguments, the result and what is raised are those of `top_k`.
    """
    n = _check_users(items, embeddings, biases, k)
    indptr, own = _check_ragged("candidate", items, n, indptr, candidates)
    seen_indptr, seen = _check_seen(items, n, seen_indptr, seen_items)
    vectors = np.column_stack([embeddings, np.ones(n, np.float32)])
    counts, parts = np.zeros(n, np.int64), []
    start = 0
    while start < n:  # as many users as fit by the number of their pairs, at least one
        stop = int(np.searchsorted(indptr, indptr[start] + _PAIRS_IN_BATCH, side="right")) - 1
        some = slice(start, max(start + 1, min(stop, start + BATCH, n)))
        wanted = np.unique(_keys(items, indptr, own, some))
        wanted = wanted[~np.isin(wanted, _keys(items, seen_indptr, seen, some))]
        users, rows = np.divmod(wanted, items.n_items)
        places = items._place[rows]
        users, rows, places = (part[places >= 0] for part in (users, rows, places))
        counts[some] = np.bincount(users, minlength=some.stop - start)
        users, scores = exact(
            *(vectors[some], biases[some], items._vectors, items._norms, counts[some], places)
        )
        users, rows, scores = _best(users, rows, scores, some.stop - start, k)
        _check_scores(start + users, scores)
        counts[some] = np.bincount(users, minlength=some.stop - start)
        parts.append((rows.astype(np.int32), scores))
        start = some.stop
    return Ranked(
        indptr=np.cumsum(np.concatenate([np.zeros(1, np.int64), counts])),
        items=np.concatenate([np.empty(0, np.int32), *(rows for rows, _ in parts)]),
        scores=np.concatenate([np.empty(0, np.float32), *(scores for _, scores in parts)]),
    )


def _keys(items: ItemMatrix, indptr: I64, rows: NDArray[np.integer], users: slice) -> I64:
    """One number for each pair of some users: position among them * n_items + item."""
    lengths = np.diff(indptr[users.start : users.stop + 1])
    owner = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    keys: I64 = owner * items.n_items + rows[indptr[users.start] : indptr[users.stop]]
    return keys


class _Batch:
    """Ranks batches of at most `size` users, all in the same buffer."""

    def __init__(self, items: ItemMatrix, size: int, k: int) -> None:
        self.items, self.k = items, k
        blocks = items._blocks
        self.blocks = blocks if blocks and blocks.can_scan(k) else None
        self.buffer = self.blocks.buffer(size, k) if self.blocks else np.empty(0, np.float32)

    def ranked(self, embeddings: F32, biases: F32, seen_users: I64, seen: I64) -> Pairs:
        """The lists, user by user. seen_users, seen: positions in the batch, places of items."""
        n, d = embeddings.shape
        vectors = np.ones((n, d + 1), np.float32)
        vectors[:, :-1] = embeddings
        if self.blocks is None:
            places, counts = np.empty(0, np.int64), np.zeros(n, np.int64)
            undecided = np.ones(n, np.bool_)
        else:
            found = self.blocks.nominate(vectors, biases, self.k, seen_users, seen, self.buffer)
            places, counts, undecided = found.items, found.counts, found.undecided
        parts = [self._scored(vectors, biases, counts, places)]
        for user in np.flatnonzero(undecided):
            left = np.ones(len(self.items._vectors), np.bool_)
            left[seen[seen_users == user]] = False
            places = np.flatnonzero(left)
            counts = np.where(np.arange(n) == user, len(places), 0)
            parts.append(_best(*self._scored(vectors, biases, counts, places), n, self.k))
        users, items, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _best(users, items, scores, n, self.k)

    def _scored(self, vectors: F32, biases: F32, counts: I64, places: I64) -> Pairs:
        made = self.items
        users, scores = exact(vectors, biases, made._vectors, made._norms, counts, places)
        return users, made._item[places], scores


def _best(users: I64, items: I64, scores: F32, n: int, k: int) -> Pairs:
    """Pairs sorted by (user, score descending, item), only the first k of each user."""
    order = by_item(items)
    order = order[by_user_and_score(users[order], scores[order], n)]
    order = order[places_in_list(np.bincount(users, minlength=n)) < k]
    return users[order], items[order], scores[order]


def _parts(n: int, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `most` users, as equal as possible in multiples of 16, for BLAS's sake."""
    size = -(-n // -(-n // most)) if n else 1
    size = min(most, -(-size // 16) * 16)
    for start in range(0, n, size):
        yield start, min(n, start + size)


def _check_scores(user_rows: I64, scores: F32) -> None:
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        row = int(user_rows[bad[0]])
        raise KernelError(
            f"user at row {row}: a score is {scores[bad[0]]}, beyond the range of float32; "
            "retrain with a lower learning rate",
            row,
        )


def _check_array(name: str, array: NDArray[Any], kind: Any, shape: tuple[int, ...]) -> None:
    if array.shape != shape or not np.issubdtype(array.dtype, kind):
        raise KernelError(
            f"{name}: expected {kind.__name__} of shape {shape}, "
            f"found {array.dtype} of shape {array.shape}"
        )


def _check_vectors(what: str, embeddings: F32, biases: F32) -> None:
    if embeddings.ndim != 2:
        raise KernelError(f"{what} embeddings: expected 2 dimensions, found {embeddings.ndim}")
    _check_array(f"{what} embeddings", embeddings, np.float32, embeddings.shape)
    _check_array(f"{what} biases", biases, np.float32, (len(embeddings),))
    finite = np.isfinite(embeddings).all(axis=1) & np.isfinite(biases)
    if not finite.all():
        row = int(np.argmin(finite))
        raise KernelError(
            f"{what} at row {row}: NaN or infinity in its embedding or bias "
            f"({len(finite) - int(finite.sum())} such rows); retrain with a lower learning rate",
            row,
        )


def _check_users(items: ItemMatrix, embeddings: F32, biases: F32, k: int) -> int:
    _check_vectors("user", embeddings, biases)
    n, d = int(embeddings.shape[0]), embeddings.shape[1]
    if d != items.n_components:
        raise KernelError(
            f"users have {d} components, items {items.n_components}: not of one model"
        )
    if k < 1:
        raise KernelError(f"k is {k}, but must be at least 1")
    return n


def _check_seen(
    items: ItemMatrix, n: int, indptr: I64 | None, seen: NDArray[np.int32] | None
) -> tuple[I64, NDArray[np.integer]]:
    if indptr is None or seen is None:
        if indptr is not None or seen is not None:
            raise KernelError("seen_indptr and seen_items belong together: give both or none")
        return np.zeros(n + 1, np.int64), np.empty(0, np.int64)
    return _check_ragged("seen", items, n, indptr, seen)


def _check_ragged(
    what: str, items: ItemMatrix, n: int, indptr: I64, rows: NDArray[np.integer]
) -> tuple[I64, NDArray[np.integer]]:
    _check_array(f"{what}_indptr", indptr, np.integer, (n + 1,))
    _check_array(f"{what}_items", rows, np.integer, (rows.size,))
    indptr = indptr.astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != len(rows) or (np.diff(indptr) < 0).any():
        raise KernelError(
            f"{what}_indptr: expected to rise from 0 to {len(rows)}, "
            f"found from {indptr[0]} to {indptr[-1]}"
        )
    outside = np.flatnonzero((rows < 0) | (rows >= items.n_items))
    if len(outside):
        row = int(np.searchsorted(indptr, outside[0], side="right")) - 1
        raise KernelError(
            f"user at row {row}: {what} item {rows[outside[0]]}, "
            f"expected rows from 0 to {items.n_items - 1}",
            row,
        )
    return indptr, rows
