"""A few users with what they have done and what is recommended to them. No Spark."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, LABEL, RANK, RATING, SCORE, SOURCE, TIMESTAMP, USER
from recsys.flows.report.records import Data
from recsys.ingest.local_pairs import ARROW

_HISTORY_SHOWN = 8
_CHOSEN_FROM = 2_000


@dataclass(frozen=True)
class Listed:
    """One row of a list, or of a history.

    Attributes:
        item: the id.
        rank: in a list; None in a history.
        score: in a list; None in a history.
        rating: in a history; None in a list, or without ratings.
        label: in a history: 1 for what is liked, -1 for what is not, 0 for what training leaves
            out; None in a list.
    """

    item: Any
    rank: int | None = None
    score: float | None = None
    rating: float | None = None
    label: int | None = None


@dataclass(frozen=True)
class Person:
    """One user.

    Attributes:
        user: the id.
        how: in which way the list was made.
        pairs: how many items the user has interacted with; None where that cannot be read.
        history: some of these, the best rated and then the latest ones first.
        recommended: the list.
    """

    user: Any
    how: str
    pairs: int | None
    history: list[Listed]
    recommended: list[Listed]


def some_people(lists: Data, pairs: Data | None, n: int) -> list[Person]:
    """Return users with short, middling and long histories, the same for the same tables.

    Args:
        lists: recommendations; users are chosen from the first rows.
        pairs: interactions; None: there are none.
        n: how many users.
    """
    columns = [USER, RANK, ITEM, SCORE, SOURCE]
    first = next(lists.batches(columns), None) if n else None
    if first is None or not len(first):
        return []
    users = pc.unique(first.column(USER))
    # The last one may have more rows in the next part.
    chosen = users[: max(1, min(len(users) - 1, _CHOSEN_FROM))]
    done = _rows_of(pairs, chosen)
    lengths = pc.value_counts(done.column(USER)) if len(done) else None
    by_user: dict[Any, int] = (
        {} if lengths is None else {one["values"]: one["counts"] for one in lengths.to_pylist()}
    )
    ordered = sorted(chosen.to_pylist(), key=lambda user: (by_user.get(user, 0), user))
    places = np.unique(np.linspace(0, len(ordered) - 1, n + 2).round().astype(int)[1:-1])
    return [
        _person(first, done, user, None if pairs is None else by_user.get(user, 0))
        for user in (ordered[at] for at in places.tolist())
    ]


def person(lists: Iterable[Data], pairs: Data | None, user: Any, kind: str) -> Person | None:
    """Return one user; None where there is neither a list nor a history.

    Args:
        lists: recommendations, of which the first with the user counts.
        pairs: interactions.
        user: the id.
        kind: Spark's name of its type.
    """
    wanted = pa.array([user], ARROW[kind])
    done = _rows_of(pairs, wanted)
    found = None
    for one in lists:
        found = _taken(one, [USER, RANK, ITEM, SCORE, SOURCE], wanted)
        if len(found):
            break
    if not len(done) and (found is None or not len(found)):
        return None
    rows = found if found is not None else pa.table({})
    return _person(rows, done, user, None if pairs is None else len(done))


def _rows_of(pairs: Data | None, users: pa.Array) -> pa.Table:
    columns = [USER, ITEM, RATING, TIMESTAMP, LABEL]
    if pairs is None or not pairs.readable:
        return pa.table({name: [] for name in columns})
    return _taken(pairs, columns, users)


def _taken(data: Data, columns: list[str], users: pa.Array) -> pa.Table:
    parts = []
    for batch in data.batches(columns):
        ids = batch.column(USER)
        parts.append(batch.filter(pc.is_in(ids, value_set=users.cast(ids.type))))
    return pa.Table.from_batches(parts) if parts else pa.table({name: [] for name in columns})


def _person(lists: Any, done: pa.Table, user: Any, pairs: int | None) -> Person:
    rows = _of(lists, user)
    history = sorted(_of(done, user), key=_first)
    return Person(
        user=user,
        how=str(rows[0][SOURCE]) if rows else "",
        pairs=pairs,
        history=[
            Listed(item=row[ITEM], rating=row[RATING], label=row[LABEL])
            for row in history[:_HISTORY_SHOWN]
        ],
        recommended=[
            Listed(item=row[ITEM], rank=row[RANK], score=row[SCORE])
            for row in sorted(rows, key=lambda row: int(row[RANK]))
        ],
    )


def _of(table: Any, user: Any) -> list[dict[str, Any]]:
    if USER not in table.schema.names or not len(table):
        return []
    found: list[dict[str, Any]] = table.filter(pc.equal(table.column(USER), user)).to_pylist()
    return found


def _first(row: dict[str, Any]) -> tuple[bool, float, float, str]:
    rating, when = row[RATING], row[TIMESTAMP]
    return (
        row[LABEL] != 1,
        0.0 if rating is None else -float(rating),
        0.0 if when is None else -when.timestamp(),
        str(row[ITEM]),
    )
