"""The filters of a run as they were, where the files that it named have changed since.

Neither a run nor its version says which items its files of allowed and denied items had. But the
lists do: an item in a list was allowed, and one that the files of today would put into lists, but
that is in none, was not.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import ITEM, USER
from recsys.kernel.ordering import contains
from recsys.score.changes import Changes
from recsys.score.replay import Filters, Situation
from recsys.score.two_sides import Rows

I64 = NDArray[np.int64]

ALLOW, DENY, CANDIDATES = "allow", "deny", "candidates"

# Each time, the items that come into the lists instead of those that were taken out may be next.
_MOST_ROUNDS = 10


def as_they_were(
    situation: Situation, changes: Changes, rows: Rows, named: Collection[str]
) -> Situation:
    """Return a situation whose filters let pass what was published, and nothing else.

    Args:
        situation: with the filters as the files have them now.
        changes: has the ids.
        rows: the lists that were published.
        named: which of ALLOW, DENY and CANDIDATES come from files; the others stay.
    """
    published = changes.item_ids.take(pa.array(np.unique(rows.items)))
    position = pc.index_in(changes.user_ids, value_set=situation.users).fill_null(-1).to_numpy()
    mine = np.flatnonzero(position[rows.users] >= 0)
    pairs = pa.table(
        {
            USER: changes.user_ids.take(pa.array(rows.users[mine])),
            ITEM: changes.item_ids.take(pa.array(rows.items[mine])),
        }
    )
    found = replace(situation, filters=_opened(situation.filters, published, pairs, named))
    at = np.arange(len(situation.users))
    for _ in range(_MOST_ROUNDS):
        made = found.lists(at)
        ids = found.model.items.ids
        items = pc.index_in(ids, value_set=changes.item_ids).fill_null(-1).to_numpy()[made.items]
        keys = position[rows.users[mine]].astype(np.int64) << 32 | rows.items[mine]
        wrong = ~contains(np.sort(keys), made.users << 32 | items.astype(np.int64))
        wrong |= items < 0
        if not wrong.any():
            break
        users, others = made.users[wrong], ids.take(pa.array(made.items[wrong]))
        strange = others.filter(pc.invert(pc.is_in(others, value_set=published))).unique()
        filters = _closed(found.filters, situation.users, users, others, strange, named)
        if filters is None:
            break
        found, at = replace(found, filters=filters), np.unique(users)
    return found


def _opened(
    filters: Filters, published: pa.Array, pairs: pa.Table, named: Collection[str]
) -> Filters:
    """Let pass what was published."""
    allow, deny, own = filters.allow, filters.deny, filters.candidates
    if allow is not None and ALLOW in named:
        allow = pa.concat_arrays([allow, published.cast(allow.type)]).unique()
    if deny is not None and DENY in named:
        deny = deny.filter(pc.invert(pc.is_in(deny, value_set=published.cast(deny.type))))
    if own is not None and CANDIDATES in named:
        own = pa.concat_tables(
            [own.select([USER, ITEM]), pairs.cast(own.select([USER, ITEM]).schema)]
        )
    return Filters(allow, deny, own)


def _closed(
    filters: Filters,
    ids: pa.Array,
    users: I64,
    items: pa.Array,
    strange: pa.Array,
    named: Collection[str],
) -> Filters | None:
    """Keep out what is in no list; None where no filter of a file can have done it."""
    if filters.deny is not None and DENY in named and len(strange):
        return replace(filters, deny=pa.concat_arrays([filters.deny, strange]))
    if filters.allow is not None and ALLOW in named and len(strange):
        kept = pc.invert(pc.is_in(filters.allow, value_set=strange))
        return replace(filters, allow=filters.allow.filter(kept))
    if filters.candidates is not None and CANDIDATES in named:
        own = filters.candidates.select([USER, ITEM])
        gone = pa.table({USER: ids.take(pa.array(users)), ITEM: items}).cast(own.schema)
        return replace(filters, candidates=own.join(gone, [USER, ITEM], join_type="left anti"))
    return None
