"""Nearest neighbours by cosine: the exact top-k of `topk` among the rows of one table.

They are those of the same rows, or of the rows of another table.

The cosine of two rows is the inner product of their unit vectors, added up as in `topk`. Rounding
can take it slightly out of [-1, 1], so it is clipped. Ties go to the smaller row, which has the
smaller id.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.kernel.topk import ItemMatrix, Ranked, top_k


@dataclass(frozen=True)
class Directions:
    """The rows of one table of a model, broadcast to every executor once.

    Attributes:
        key: names the model, the table and the choice of its rows, for the worker's cache.
        ids: `(n,)` in ascending order: int32, int64 or objects (str).
        vectors: `(n, d)` float32, from `unit_vectors`.
    """

    key: str
    ids: NDArray[np.generic]
    vectors: NDArray[np.float32]


class Shared(Protocol):
    """Spark's broadcast, as far as a worker needs it."""

    @property
    def value(self) -> Directions:
        """The directions, fetched once per worker process."""


def unit_vectors(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows scaled to length 1, `(n, d)` float32. Rows of zeros stay zeros."""
    exact = embeddings.astype(np.float64)  # there squares of float32 cannot overflow or vanish
    squares = np.zeros(len(exact))
    for column in exact.T:  # one at a time, so that the bits do not depend on the number of rows
        squares += column * column
    lengths = np.sqrt(squares)[:, None]
    return np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0).astype(np.float32)


def with_direction(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows have a direction, that is, are not all zeros: `(n,)`."""
    return np.asarray(vectors.any(axis=1))


def candidates(vectors: NDArray[np.float32]) -> ItemMatrix:
    """Prepare the rows that can be neighbours: those with a direction.

    Args:
        vectors: `(n, d)` float32, from `unit_vectors`.
    """
    return ItemMatrix(vectors, np.zeros(len(vectors), np.float32), allowed=with_direction(vectors))


def nearest(
    items: ItemMatrix,
    vectors: NDArray[np.float32],
    k: int,
    own: NDArray[np.int32] | None = None,
) -> Ranked:
    """Return the k nearest rows of each of some vectors, by (cosine descending, row ascending).

    Args:
        items: from `candidates`.
        vectors: `(m, d)` float32, of unit length: those whose neighbours are wanted.
        k: how many for each; fewer if there are no more.
        own: `(m,)` which row each of them is, and so none of its own neighbours; None where they
            are rows of another table.

    Raises:
        KernelError: a shape, a type or k cannot be used.
    """
    ranked = _top_k(items, vectors, k, own)
    owner = np.repeat(np.arange(len(vectors)), np.diff(ranked.indptr))
    parts = [(owner, ranked.items, ranked.scores)]
    # Cosines that rounding took beyond 1 are ties, but the kernel has ordered them by the rounding.
    # This matters if a list is cut among them. It takes more than k rows with one direction, so it
    # is rare, and each such list is made again on its own, in full length.
    full = np.flatnonzero(np.diff(ranked.indptr) == k)
    cut = full[np.abs(ranked.scores[ranked.indptr[full + 1] - 1]) >= 1]
    if len(cut):
        kept = ~np.isin(owner, cut)
        parts = [(owner[kept], ranked.items[kept], ranked.scores[kept])]
    for position in cut:
        one = slice(position, position + 1)
        alone = _top_k(items, vectors[one], items.n_items, None if own is None else own[one])
        first = _ordered(np.zeros(len(alone.items), np.int64), alone.items, alone.scores)[:k]
        parts.append((np.full(len(first), position), alone.items[first], alone.scores[first]))
    owners = np.concatenate([part[0] for part in parts])
    found = np.concatenate([part[1] for part in parts])
    cosines = np.concatenate([part[2] for part in parts])
    order = _ordered(owners, found, cosines)
    counts = np.bincount(owners, minlength=len(vectors))
    return Ranked(
        indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        items=found[order],
        scores=np.clip(cosines[order], -1, 1),
    )


def _top_k(
    items: ItemMatrix, vectors: NDArray[np.float32], k: int, own: NDArray[np.int32] | None
) -> Ranked:
    """Rank; a vector's own row counts as an item that it has seen, so it is not in its list."""
    nothing = np.zeros(len(vectors), np.float32)
    if own is None:
        return top_k(items, vectors, nothing, k)
    return top_k(items, vectors, nothing, k, np.arange(len(own) + 1), own)


def _ordered(
    owners: NDArray[np.integer], found: NDArray[np.int32], cosines: NDArray[np.float32]
) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.lexsort((found, -np.clip(cosines, -1, 1), owners))
    return order


_prepared: dict[str, ItemMatrix] = {}


def _items(directions: Directions) -> ItemMatrix:
    """Return the candidates, prepared once per worker process, which outlives its tasks."""
    if directions.key not in _prepared:
        _prepared.clear()
        _prepared[directions.key] = candidates(directions.vectors)
    return _prepared[directions.key]


def neighbours(
    batches: Iterator[pd.DataFrame], shared: Shared, k: int, asked: Shared | None = None
) -> Iterator[pd.DataFrame]:
    """Find the neighbours of every row of every batch.

    Args:
        batches: `row` (int): rows of the table that is asked about, each with a direction.
        shared: the broadcast directions among which neighbours are looked for.
        k: how many neighbours for each.
        asked: the directions of the table that is asked about; None: the same table, where no row
            is its own neighbour.

    Yields:
        `id`, `rank` (1...), `neighbour_id`, `cosine`; rows in the order in which they came.
    """
    directions = shared.value
    items, table = _items(directions), directions if asked is None else asked.value
    for batch in batches:
        rows = batch["row"].to_numpy(np.int32)
        ranked = nearest(items, table.vectors[rows], k, rows if asked is None else None)
        lengths = np.diff(ranked.indptr)
        first = np.repeat(ranked.indptr[:-1], lengths)
        yield pd.DataFrame(
            {
                "id": table.ids[np.repeat(rows, lengths)],
                "rank": (np.arange(len(ranked.items)) - first + 1).astype(np.int32),
                "neighbour_id": directions.ids[ranked.items],
                "cosine": ranked.scores,
            }
        )
