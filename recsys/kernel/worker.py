"""What an executor does with the users that Spark hands it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.kernel.topk import ItemMatrix, KernelError, top_k


@dataclass(frozen=True)
class Catalogue:
    """The items of one model, broadcast to every executor once.

    Attributes:
        key: names the model in messages and in the worker's cache.
        ids: `(n_items,)` the items' ids in ascending order: int32, int64 or objects (str).
        embeddings: `(n_items, n_components)` float32.
        biases: `(n_items,)` float32.
    """

    key: str
    ids: NDArray[np.generic]
    embeddings: NDArray[np.float32]
    biases: NDArray[np.float32]


class Shared(Protocol):
    """Spark's broadcast, as far as a worker needs it."""

    @property
    def value(self) -> Catalogue:
        """The catalogue, fetched once per worker process."""


_prepared: dict[str, ItemMatrix] = {}


def _items(catalogue: Catalogue) -> ItemMatrix:
    """Prepare a catalogue once per worker process, which outlives its tasks."""
    if catalogue.key not in _prepared:
        _prepared.clear()
        _prepared[catalogue.key] = ItemMatrix(catalogue.embeddings, catalogue.biases)
    return _prepared[catalogue.key]


def score(
    batches: Iterator[pd.DataFrame], shared: Shared, k: int, exclude_seen: bool
) -> Iterator[pd.DataFrame]:
    """Rank the catalogue for every user of every batch.

    Args:
        batches: `user_id`, `embedding` (list of float32), `bias`, `seen` (list of item rows).
        shared: the broadcast catalogue.
        k: length of a list.
        exclude_seen: whether to leave out what is in `seen`.

    Yields:
        `user_id`, `rank` (1...), `item_id`, `score`; users in the order in which they came.
    """
    catalogue = shared.value
    items = _items(catalogue)
    for users in batches:
        if len(users) == 0:
            continue
        indptr, seen = _ragged(users["seen"]) if exclude_seen else (None, None)
        try:
            ranked = top_k(
                items,
                np.stack(users["embedding"].to_list()).astype(np.float32, copy=False),
                users["bias"].to_numpy(np.float32),
                k,
                indptr,
                seen,
            )
        except KernelError as error:
            whose = "" if error.row is None else f" of user {users['user_id'].iloc[error.row]}"
            raise KernelError(f"model {catalogue.key}: {error}{whose}", error.row) from error
        lengths = np.diff(ranked.indptr)
        first = np.repeat(ranked.indptr[:-1], lengths)
        yield pd.DataFrame(
            {
                "user_id": np.repeat(users["user_id"].to_numpy(), lengths),
                "rank": (np.arange(len(ranked.items)) - first + 1).astype(np.int32),
                "item_id": catalogue.ids[ranked.items],
                "score": ranked.scores,
            }
        )


def _ragged(lists: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Lay lists end to end; list i is `values[indptr[i]:indptr[i + 1]]`."""
    lengths = np.fromiter((len(entry) for entry in lists), np.int64, len(lists))
    values = np.concatenate(lists.to_numpy()) if len(lists) else np.empty(0, np.int32)
    return np.concatenate([[0], np.cumsum(lengths)]), values.astype(np.int32, copy=False)
