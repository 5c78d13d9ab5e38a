"""The rows that an export writes: those of a version, in order, with titles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import (
    COHORT,
    GENERATED_AT,
    ITEM,
    MODEL_ID,
    N_ITEMS,
    PROBABILITY,
    RANK,
    RUN_DATE,
    RUN_ID,
    SCORE,
    SOURCE,
    TITLE_COLUMNS,
    USER,
)
from recsys.errors import ConfigError
from recsys.publishing.lookup import Kept
from recsys.publishing.versions import RECOMMENDATIONS

PER_RANK, PER_USER = "rank", "user"

_AT_ONCE = 20_000  # rows
# In both shapes, with the values of the version.
_FIRST, _LAST = (RUN_DATE, COHORT), (MODEL_ID, RUN_ID, GENERATED_AT)
# The columns of a list, and what they are called as arrays.
ARRAYS = {
    ITEM: "item_ids",
    "title": "titles",
    "image": "images",
    "link": "links",
    SCORE: "scores",
    PROBABILITY: "probabilities",
    SOURCE: "sources",
}
_COLUMNS = {
    PER_RANK: (*_FIRST, USER, RANK, *ARRAYS, *_LAST),
    PER_USER: (*_FIRST, USER, N_ITEMS, *ARRAYS.values(), *_LAST),
}
KEYS = {PER_RANK: (*_FIRST, USER, RANK), PER_USER: (*_FIRST, USER)}


@dataclass(frozen=True)
class Rows:
    """What is exported of a version, user by user and by rank.

    Attributes:
        lists: what differs from row to row of the lists, sorted.
        titles: `item_id` and what of TITLE_COLUMNS there is.
        same: what is the same in all rows, by column.
        per: `rank` or `user`: what a row is about.
        columns: those to write, in their order.
    """

    lists: pa.Table
    titles: pa.Table
    same: Mapping[str, pa.Scalar]
    per: str
    columns: Sequence[str]

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each user's list begins, and the number of rows: int64, `(users + 1,)`."""
        users = self.lists.column(USER).combine_chunks()
        if not len(users):
            return np.zeros(1, np.int64)
        differs = pc.not_equal(users.slice(1), users.slice(0, len(users) - 1))
        inner = np.flatnonzero(differs.to_numpy(zero_copy_only=False)) + 1
        return np.concatenate([[0], inner, [len(users)]]).astype(np.int64)

    @property
    def n_users(self) -> int:
        """How many users have a list."""
        return len(self.starts) - 1

    def __len__(self) -> int:
        """How many rows are written."""
        return len(self.lists) if self.per == PER_RANK else self.n_users

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns with their Arrow types."""
        made: pa.Schema = self._made(0, 0).schema
        return made

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows, some at a time."""
        if self.per == PER_RANK:
            for start in range(0, len(self.lists), _AT_ONCE):
                yield self._made(start, min(start + _AT_ONCE, len(self.lists)))
            return
        first = 0
        while first < self.n_users:
            beyond = np.searchsorted(self.starts, self.starts[first] + _AT_ONCE, side="right") - 1
            last = max(first + 1, int(beyond))
            yield self._made(first, last)
            first = last

    def _made(self, start: int, stop: int) -> pa.Table:
        if self.per == PER_RANK:
            found = self._titled(self.lists.slice(start, stop - start))
            columns = dict(zip(found.column_names, found.columns, strict=True))
        else:
            columns = self._arrays(start, stop)
        n = stop - start
        columns |= {name: pa.repeat(value, n) for name, value in self.same.items()}
        return pa.table({name: columns[name] for name in self.columns})

    def _arrays(self, first: int, last: int) -> dict[str, Any]:
        starts = self.starts[first : last + 1]
        rows = self._titled(self.lists.slice(starts[0], starts[-1] - starts[0]))
        offsets = pa.array(starts - starts[0], pa.int32())
        made: dict[str, Any] = {
            ARRAYS[name]: pa.ListArray.from_arrays(offsets, rows.column(name).combine_chunks())
            for name in rows.column_names
            if name in ARRAYS
        }
        made[USER] = rows.column(USER).combine_chunks().take(offsets.slice(0, last - first))
        made[N_ITEMS] = pa.array(np.diff(starts), pa.int32())
        return made

    def _titled(self, rows: pa.Table) -> pa.Table:
        at = pc.index_in(rows.column(ITEM), value_set=self.titles.column(ITEM))
        for name in self.titles.column_names:
            if name != ITEM:
                rows = rows.append_column(name, self.titles.column(name).take(at))
        return rows


def read_rows(kept: Kept, titles: pa.Table | None, per: str, wanted: Sequence[str] | None) -> Rows:
    """Read what is to be exported of a version.

    Args:
        kept: the version.
        titles: `item_id` and TITLE_COLUMNS; None: nothing.
        per: `rank` or `user`.
        wanted: columns in their order; None: all that have some value.

    Raises:
        ConfigError: a column is not there, or twice.
    """
    every = _COLUMNS[per]
    if wanted is not None and (set(wanted) - {*every} or len({*wanted}) != len(wanted)):
        raise ConfigError(
            f"--columns: found {', '.join(wanted)[:300]}, expected some of {', '.join(every)}, "
            "each once"
        )
    varying = [USER, RANK, ITEM, SCORE, PROBABILITY, SOURCE]
    lists = kept.read(RECOMMENDATIONS, varying)
    lists = lists.sort_by([(USER, "ascending"), (RANK, "ascending")]).combine_chunks()
    made_at = kept.read(RECOMMENDATIONS, [GENERATED_AT]).column(0)
    manifest, unit = kept.manifest, kept.version.unit
    same = {
        RUN_DATE: pa.scalar(unit.run_date, pa.date32()),
        COHORT: pa.scalar(unit.cohort),
        MODEL_ID: pa.scalar(manifest.model_id),
        RUN_ID: pa.scalar(manifest.run_id),
        GENERATED_AT: made_at[0] if len(made_at) else pa.scalar(None, made_at.type),
    }
    if titles is None:
        nothing = {name: pa.nulls(0, pa.string()) for name in TITLE_COLUMNS}
        titles = pa.table({ITEM: pa.nulls(0, lists.schema.field(ITEM).type), **nothing})
    mine = pc.is_in(titles.column(ITEM), value_set=lists.column(ITEM).unique())
    titles = titles.filter(mine).combine_chunks()
    if wanted is None:
        empty = {n for n in TITLE_COLUMNS if titles.column(n).null_count == len(titles)}
        if lists.column(PROBABILITY).null_count == len(lists):
            empty.add(PROBABILITY)
        empty |= {ARRAYS[name] for name in empty}
        wanted = [name for name in every if name not in empty]
    return Rows(lists, titles, same, per, wanted)
