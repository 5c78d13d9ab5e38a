"""The lists of two runs laid out beside each other as arrays of integers. No Spark."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import ITEM, RANK, SCORE, STATUS, USER
from recsys.errors import ConfigError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        run_id, run_date, cohort, model_id: what published the lists, for whom and of what.
        lists: `user_id`, `rank`, `item_id` and `score`, in any order of the rows.
        served: `user_id` and `status` of everyone who was asked for, in any order; the id is null
            where it is none.
    """

    run_id: str
    run_date: str
    cohort: str
    model_id: str
    lists: pa.Table
    served: pa.Table

    def as_record(self) -> dict[str, Any]:
        """Return what names it, as JSON values."""
        names = ("run_id", "run_date", "cohort", "model_id")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Rows:
    """The lists of one side as arrays, by user and rank.

    Attributes:
        indptr: `(n_users + 1,)`, where the list of each user begins.
        users, items: `(n,)` positions among the users and the items of both sides.
        ranks: `(n,)` int64.
        scores: `(n,)` float32.
        other: `(n,)` the row of the same user and item on the other side, -1 without any.
        status: `(n_users,)` what became of each user's request, None where there was none.
    """

    indptr: I64
    users: I64
    items: I64
    ranks: I64
    scores: F32
    other: I64
    status: NDArray[np.object_]

    @cached_property
    def lengths(self) -> I64:
        """How long each user's list is, `(n_users,)`."""
        lengths: I64 = np.diff(self.indptr)
        return lengths

    def of(self, user: int) -> slice:
        """Return the rows of a user's list."""
        return slice(int(self.indptr[user]), int(self.indptr[user + 1]))

    def places(self) -> I64:
        """Return the place of each row among those of its list that the other side has, too."""
        common = self.other >= 0
        so_far = np.concatenate([np.zeros(1, np.int64), np.cumsum(common)])
        places: I64 = so_far[1:] - so_far[self.indptr[:-1]][self.users]
        return places


def lay_out(before: Side, after: Side) -> tuple[pa.Array, pa.Array, Rows, Rows]:
    """Lay two sides out.

    Returns:
        All ids of users and of items, ascending, and the rows of both sides.

    Raises:
        ConfigError: the ids of the two sides are of different types.
    """
    for name in (USER, ITEM):
        kinds = [side.lists.schema.field(name).type for side in (before, after)]
        if kinds[0] != kinds[1]:
            raise ConfigError(
                f"runs {before.run_id} and {after.run_id}: found {name} of the types {kinds[0]} "
                f"and {kinds[1]}, expected the same; compare runs whose ids have one type"
            )
    lists = [side.lists for side in (before, after)]
    served = [side.served.filter(side.served.column(USER).is_valid()) for side in (before, after)]
    users, user_codes = _coded([table.column(USER) for table in (*lists, *served)])
    items, item_codes = _coded([table.column(ITEM) for table in lists])
    n = len(users)
    one, other = (
        _rows(
            lists[at], user_codes[at], item_codes[at], _statuses(served[at], user_codes[at + 2], n)
        )
        for at in (0, 1)
    )
    # Each row is told where the same user and item is on the other side.
    keys, others = (rows.users * len(items) + rows.items for rows in (one, other))
    _, in_one, in_other = np.intersect1d(keys, others, assume_unique=True, return_indices=True)
    one.other[in_one], other.other[in_other] = in_other, in_one
    return users, items, one, other


def _coded(columns: list[pa.ChunkedArray]) -> tuple[pa.Array, list[I64]]:
    """Return all ids of some columns, ascending, and each column as positions among them."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    found = pc.unique(pa.chunked_array(chunks, columns[0].type))
    ids = found.take(pc.sort_indices(found))
    codes = [pc.index_in(column, value_set=ids) for column in columns]
    return ids, [code.to_numpy().astype(np.int64) for code in codes]


def _rows(table: pa.Table, users: I64, items: I64, status: NDArray[np.object_]) -> Rows:
    ranks = table.column(RANK).to_numpy().astype(np.int64)
    order = np.argsort(users << 32 | ranks, kind="stable")
    scores = table.column(SCORE).to_numpy().astype(np.float32)
    lengths = np.bincount(users, minlength=len(status))
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    other = np.full(len(order), -1, np.int64)
    return Rows(indptr, users[order], items[order], ranks[order], scores[order], other, status)


def _statuses(served: pa.Table, users: I64, n_users: int) -> NDArray[np.object_]:
    """Return the status of each user; an id that was asked for in two ways has the same one."""
    found = np.full(n_users, None, object)
    encoded = pc.dictionary_encode(served.column(STATUS)).combine_chunks()
    if len(served):
        names = np.array(encoded.dictionary.to_pylist(), object)
        found[users] = names[encoded.indices.to_numpy()]
    return found
