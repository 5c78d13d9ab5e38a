"""Lists of some users made again, without Spark: by the kernel of a batch job, so bit for bit.

A situation is all that lists depend on: a model, the rules of the configuration, filters, and what
users have done. Two situations can be crossed, such as yesterday's model with what users have done
by today, to find out what changed a list.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import ITEM, USER
from recsys.config.configuration import Config
from recsys.kernel import worker
from recsys.kernel.worker import FEATURES, FOLD_IN, MODEL, POPULAR, BroadcastModel, Ragged
from recsys.model.whole import WholeModel
from recsys.score.histories import Histories, grouped

NONE = "none"

_AT_ONCE = 10_000
_numbers = itertools.count()

Bool = NDArray[np.bool_]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """What a configuration says of how lists are made; see its keys of the same names."""

    k: int
    exclude_seen: bool
    fold_in: str
    fallback: str
    cold_items: str | int

    @classmethod
    def of(cls, config: Config) -> "Rules":
        """Take them from a configuration."""
        scoring = config.scoring
        return cls(
            scoring.k,
            scoring.exclude_seen,
            scoring.fold_in,
            scoring.fallback,
            config.features.cold_items,
        )

    @property
    def reserved(self) -> int:
        """How many places at the end of a list are for items that have nothing but features."""
        return 0 if isinstance(self.cold_items, str) else self.cold_items


@dataclass(frozen=True)
class Filters:
    """Which items may be in lists, by their ids.

    Attributes:
        allow: the only ones; None: all.
        deny: those that may not; None: none.
        candidates: `user_id` and `item_id`, the only ones for each user; None: no such table.
    """

    allow: pa.Array | None = None
    deny: pa.Array | None = None
    candidates: pa.Table | None = None

    def same_as(self, other: "Filters") -> bool:
        """Whether both have the same items, in any order."""
        alike = [
            _same_ids(self.allow, other.allow),
            _same_ids(self.deny, other.deny),
            _same_pairs(self.candidates, other.candidates),
        ]
        return all(alike)


@dataclass(frozen=True)
class MadeLists:
    """Lists as columns, user by user and by rank.

    Attributes:
        users: positions among the users of the situation, int64.
        ranks: 1 and up, int32.
        items: rows of the model's items, int64.
        scores: float32.
        cold: whether the item has nothing but features.
    """

    users: I64
    ranks: NDArray[np.int32]
    items: I64
    scores: NDArray[np.float32]
    cold: Bool


@dataclass(frozen=True)
class Situation:
    """All that the lists of some users depend on.

    Attributes:
        users: their ids, each once, as the model was asked for.
        model: with these users.
        rules, filters: what the configuration says.
        histories: what the users have done, in rows of the model's items.
        left_out: `(n_users,)`, whom a sample left out of the model; None: nobody.
    """

    users: pa.Array
    model: WholeModel
    rules: Rules
    filters: Filters
    histories: Histories
    left_out: Bool | None = None

    @cached_property
    def ways(self) -> NDArray[np.object_]:
        """How each user's list is made, as `recsys.score.cohorts.route` decides it; `none`."""
        had, rules = self.model.users, self.rules
        likes = np.diff(self.histories.liked.indptr) > 0
        way = np.full(len(self.users), POPULAR if rules.fallback == "popular" else NONE, object)
        way[had.known] = FEATURES
        if rules.fold_in == "new":
            way[likes] = FOLD_IN
        elif self.left_out is not None:
            way[likes & self.left_out] = FOLD_IN
        way[had.trained] = MODEL
        if rules.fold_in == "all":
            way[likes] = FOLD_IN
        return way

    @cached_property
    def allowed(self) -> Bool:
        """Which items may be recommended, `(n_items,)`."""
        ids, filters = self.model.items.ids, self.filters
        cold = self.rules.cold_items != "exclude"
        allowed = np.ones(len(ids), np.bool_) if cold else self.model.items.trained.copy()
        if filters.allow is not None:
            allowed &= _listed(ids, filters.allow)
        if filters.deny is not None:
            allowed &= ~_listed(ids, filters.deny)
        return allowed

    @cached_property
    def candidates(self) -> Ragged | None:
        """Rows of each user's candidates; None where there is no table of them."""
        pairs = self.filters.candidates
        return None if pairs is None else self.pairs(pairs)

    def pairs(self, pairs: pa.Table) -> Ragged:
        """Return rows of the items of each user in a table of `user_id` and `item_id`."""
        user = pc.index_in(pairs.column(USER), value_set=self.users)
        item = pc.index_in(pairs.column(ITEM), value_set=self.model.items.ids)
        there = pc.and_(user.is_valid(), item.is_valid())
        return grouped(
            user.filter(there).to_numpy().astype(np.int64),
            item.filter(there).to_numpy().astype(np.int64),
            len(self.users),
        )

    def lists(
        self,
        at: I64,
        *,
        k: int | None = None,
        only: Ragged | None = None,
        reserved: int | None = None,
    ) -> MadeLists:
        """Make the lists of some users.

        Args:
            at: their positions.
            k: the length of a list; None: the configuration's.
            only: for each of `at`, the only items; None: those of the filters.
            reserved: places at the end for items that have nothing but features; None: the
                configuration's.

        Raises:
            KernelError: a score is beyond float32, as in a batch job.
        """
        found = list(self._made(at, k or self.rules.k, only, reserved))
        table = pd.concat(found) if found else None
        if table is None or table.empty:
            nothing = np.empty(0, np.int64)
            return MadeLists(
                nothing, nothing.astype(np.int32), nothing, np.empty(0, np.float32), nothing > 0
            )
        return MadeLists(
            table["user_id"].to_numpy(np.int64),
            table["rank"].to_numpy(np.int32),
            table["item_id"].to_numpy(np.int64),
            table["score"].to_numpy(np.float32),
            table["cold"].to_numpy(np.bool_),
        )

    def _made(
        self, at: I64, k: int, only: Ragged | None, reserved: int | None
    ) -> Iterator[pd.DataFrame]:
        own = only is not None or self.candidates is not None
        places = self.rules.reserved if reserved is None else reserved
        for start in range(0, len(at), _AT_ONCE):
            some = at[start : start + _AT_ONCE]
            frame = self._frame(some)
            if only is not None:
                own_items = [only[i] for i in range(start, start + len(some))]
                frame["candidates"] = pd.Series(own_items, dtype=object)
            elif self.candidates is not None:
                own_items = [self.candidates[i] for i in some]
                frame["candidates"] = pd.Series(own_items, dtype=object)
            yield from worker.score(
                iter([frame]), self._shared, k, self.rules.exclude_seen, own, places
            )

    @cached_property
    def _shared(self) -> "_Shared":
        items, allowed = self.model.items, self.allowed
        cold = allowed & ~items.trained
        n = len(items.ids)
        positives = items.positives
        made = BroadcastModel(
            key=f"{self.model.folder.name}, situation {next(_numbers)}",
            ids=np.arange(n, dtype=np.int64),
            embeddings=items.embeddings,
            biases=items.biases,
            positives=np.zeros(n, np.int32) if positives is None else positives,
            allowed=None if allowed.all() else allowed,
            fold_in=self.model.fold_in,
            cold=cold if cold.any() else None,
        )
        return _Shared(made)

    def _frame(self, at: I64) -> pd.DataFrame:
        """Return users as the executors get them; an id is the user's position."""
        had, done, ways = self.model.users, self.histories, self.ways
        # Whoever is folded in brings what their features say, but not what the model had learned.
        stays = had.known & ((ways != FOLD_IN) | ~had.trained)
        return pd.DataFrame(
            {
                "user_id": at,
                "source": ways[at],
                "seen": [done.seen[i] for i in at],
                "embedding": [had.embeddings[i] if stays[i] else None for i in at],
                "bias": had.biases[at],
                "liked": [done.liked[i] for i in at],
                "weights": [done.weights_of(i) for i in at],
            }
        )

    def letting(self, user: int, item: int) -> "Situation":
        """Return the situation where no filter takes an item from a user."""
        ids = self.model.items.ids
        one, filters = ids.slice(item, 1), self.filters
        allow, deny, own = filters.allow, filters.deny, filters.candidates
        pair = {USER: self.users.slice(user, 1), ITEM: one}
        opened = Filters(
            None if allow is None else pa.concat_arrays([allow, one]),
            None if deny is None else deny.filter(pc.not_equal(deny, one[0])),
            None if own is None else pa.concat_tables([own.select([USER, ITEM]), pa.table(pair)]),
        )
        rules = self.rules
        if not self.model.items.trained[item] and rules.cold_items == "exclude":
            # Others that have nothing but features stay out.
            others = ids.filter(pa.array(~self.model.items.trained))
            others = others.filter(pc.not_equal(others, one[0]))
            more = [others] if opened.deny is None else [opened.deny, others]
            opened = replace(opened, deny=pa.concat_arrays(more))
            rules = replace(rules, cold_items="include")
        return replace(
            self, rules=rules, filters=opened, histories=self.histories.without_seen(user, item)
        )


@dataclass(frozen=True)
class _Shared:
    """Stands in for Spark's broadcast."""

    value: BroadcastModel


def _listed(ids: pa.Array, chosen: pa.Array) -> Bool:
    found: Bool = pc.is_in(ids, value_set=chosen.cast(ids.type)).to_numpy(zero_copy_only=False)
    return found


def _same_ids(one: pa.Array | None, other: pa.Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(pc.unique(one).sort().equals(pc.unique(other).sort()))


def _same_pairs(one: pa.Table | None, other: pa.Table | None) -> bool:
    if one is None or other is None:
        return one is other

    def distinct(table: pa.Table) -> pa.Table:
        by = [(USER, "ascending"), (ITEM, "ascending")]
        return table.select([USER, ITEM]).group_by([USER, ITEM]).aggregate([]).sort_by(by)

    return bool(distinct(one).equals(distinct(other)))
