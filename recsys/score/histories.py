"""What users have seen and liked, as arrays: what `recsys.score.cohorts` finds with Spark."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import ITEM, LABEL, RATING, USER, WEIGHT
from recsys.kernel.worker import Ragged
from recsys.model.manifest import PairRules
from recsys.model.whole import WholeModel

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Histories:
    """What users have done, in rows of a model's items.

    Attributes:
        seen: items that each has interacted with.
        liked: items that each likes, ascending, as far as the way of the list needs them.
        weights: `(total,)` float64, of the liked ones.
    """

    seen: Ragged
    liked: Ragged
    weights: F64

    def weights_of(self, user: int) -> F64:
        """Return the weights of the items that a user likes."""
        return self.weights[self.liked.indptr[user] : self.liked.indptr[user + 1]]

    def moved(self, rows: I64) -> "Histories":
        """Return the same in rows of another model's items.

        Args:
            rows: `(n_items,)` the other row of each item, -1 where the other model has not got it.
        """

        # Both are in ascending order of the ids, so the order of rows stays.
        def taken(lists: Ragged) -> tuple[Ragged, Bool]:
            found = rows[lists.values]
            there = found >= 0
            n = len(lists.indptr) - 1
            lengths = np.bincount(owners_of(lists)[there], minlength=n)
            indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
            return Ragged(indptr, found[there].astype(np.int32)), there

        liked, there = taken(self.liked)
        return Histories(taken(self.seen)[0], liked, self.weights[there])

    def without_seen(self, user: int, item: int) -> "Histories":
        """Return the same, but for one item that a user has seen; what they like stays."""
        owner = owners_of(self.seen)
        kept = (owner != user) | (self.seen.values != item)
        n = len(self.seen.indptr) - 1
        lengths = np.bincount(owner[kept], minlength=n)
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return replace(self, seen=Ragged(indptr, self.seen.values[kept]))


def find_histories(
    model: WholeModel,
    users: pa.Array,
    pairs: pa.Table | None,
    wanted: Bool,
    rules: PairRules,
    given: pa.Table | None = None,
) -> Histories:
    """Return what users have seen and liked.

    Args:
        model: with these users.
        users: their ids.
        pairs: `user_id`, `item_id` and `rating`; None: what the model has of the users is all.
        wanted: `(n_users,)`, whose pairs count; the model has what the others have seen.
        rules: which pairs are likes.
        given: `user_id`, `item_id` and `weight` from the cohort's list, for everyone.
    """
    n, n_items = len(users), len(model.items.ids)
    owners, rows, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for table, everyone in ((pairs, False), (given, True)):
        if table is None or not len(table):
            continue
        user = pc.index_in(table.column(USER), value_set=users.cast(table.schema.field(USER).type))
        item = pc.index_in(
            table.column(ITEM), value_set=model.items.ids.cast(table.schema.field(ITEM).type)
        )
        there = pc.and_(user.is_valid(), item.is_valid()).to_numpy(zero_copy_only=False)
        owner = user.fill_null(0).to_numpy().astype(np.int64)
        there = there if everyone else there & wanted[owner]
        weight = _given(table) if everyone else _liked(table, rules)
        owners.append(owner[there])
        rows.append(item.fill_null(0).to_numpy().astype(np.int64)[there])
        weights.append(weight[there])
    owner, row, weight = np.concatenate(owners), np.concatenate(rows), np.concatenate(weights)
    order = np.lexsort((weight, owner * n_items + row))
    owner, row, weight = owner[order], row[order], weight[order]
    keys = owner * n_items + row
    largest = np.append(keys[1:] != keys[:-1], True)[: len(keys)]  # the last of each pair
    owner, row, weight = owner[largest], row[largest], weight[largest]
    had = model.users.seen
    like = weight > 0
    return Histories(
        seen=grouped(np.append(owners_of(had), owner), np.append(had.values, row), n),
        liked=grouped(owner[like], row[like], n),
        weights=weight[like],
    )


def left_out_of(model: WholeModel, users: pa.Array, trained_on: pa.Table) -> Bool:
    """Return whom a sample left out of a model, `(n_users,)` bool: those with a labelled pair.

    Whoever has nothing but features in the model is none of them: without the sample, too, it would
    not have learned from them.

    Args:
        model: of a sample, with these users.
        users: their ids.
        trained_on: `user_id` and `label` of the model's interactions, at least of these users.
    """
    labelled = trained_on.filter(pc.not_equal(trained_on.column(LABEL), 0)).column(USER)
    found = pc.is_in(users.cast(labelled.type), value_set=labelled.combine_chunks())
    there: Bool = found.to_numpy(zero_copy_only=False)
    return there & ~model.users.known


def grouped(owners: I64, values: I64, n: int) -> Ragged:
    """Lay pairs of a list and a value end to end, each pair once and in ascending order."""
    if not len(owners):
        return Ragged(np.zeros(n + 1, np.int64), np.empty(0, np.int32))
    width = int(values.max()) + 1
    keys = np.sort(owners.astype(np.int64) * width + values)
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    lengths = np.bincount(keys // width, minlength=n)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return Ragged(indptr, (keys % width).astype(np.int32))


def owners_of(lists: Ragged) -> I64:
    """Return the list that each value is in, int64."""
    n = len(lists.indptr) - 1
    return np.repeat(np.arange(n, dtype=np.int64), np.diff(lists.indptr))


def _liked(pairs: pa.Table, rules: PairRules) -> F64:
    """Return 1 for likes and -1 for other pairs, as `recsys.ingest.pairing.liked` has it."""
    rating = pairs.column(RATING).to_numpy(zero_copy_only=False)
    like = np.ones(len(rating), np.bool_)
    if rules.rating_threshold is not None:
        like &= rating >= rules.rating_threshold
    if rules.weighed_by_rating:
        like &= rating != 0
    return np.where(like, 1.0, -1.0)


def _given(likes: pa.Table) -> F64:
    """Return the weights of a list; -1 where an item is only left out of the user's list."""
    weight = likes.column(WEIGHT).to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # as the float that the kernel works with
        single = weight.astype(np.float32)
    usable = np.isfinite(single) & (single > 0)
    return np.where(usable, weight, -1.0)
