"""Why items have left lists and entered them: the lists made again with one cause at a time.

What a list depends on has five parts (`recsys.score.crossing.PARTS`). For each part that differs
the lists are made as they were before, but with this part as it is after. If that alone takes an
item out of the list, or brings it in, it is the cause; of several the first in the order of CAUSES.
Where a user has one part alone that differs, nothing has to be made again: it is the cause of
everything.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.kernel.ordering import contains
from recsys.kernel.worker import POPULAR
from recsys.score.changes import Changes
from recsys.score.crossing import (
    CONFIGURATION,
    FILTER,
    LIKES,
    MODEL,
    PARTS,
    SEEN,
    crossed,
    who_differs,
)
from recsys.score.histories import grouped, owners_of
from recsys.score.replay import MadeLists, Situation
from recsys.score.two_sides import Rows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# The item has the score of the one that has its place, and the ids decide.
TIE = "tie"
# No part alone does it.
TOGETHER = "together"
# The lists cannot be made again from what is stored.
UNKNOWN = "unknown"
CAUSES = ("", *PARTS, TIE, TOGETHER, UNKNOWN)
# What people read.
IN_WORDS = {
    SEEN: "newly seen, or not seen any more",
    FILTER: "a filter: items.allow, items.deny, items.candidates",
    CONFIGURATION: "the configuration: scoring, features.cold_items",
    LIKES: "what a folded-in user likes",
    MODEL: "the model",
    TIE: "a tie: the same score, and the smaller id is first",
    TOGETHER: "several of these together, and none alone",
    UNKNOWN: "unknown: the list cannot be made again",
}


@dataclass(frozen=True)
class Causes:
    """What made items leave and enter.

    Attributes:
        left: `(n,)` int8, for each row before: which of CAUSES; 0 for what has not left.
        entered: likewise for each row after.
    """

    left: NDArray[np.int8]
    entered: NDArray[np.int8]


@dataclass(frozen=True)
class _Asked:
    """Rows whose cause is wanted.

    Attributes:
        rows: their numbers on their side.
        users: positions among the users of the situations.
        items: positions among the items of the changes.
        codes: which of CAUSES, 0 as long as it is not known; filled in place.
    """

    rows: I64
    users: I64
    items: I64
    codes: NDArray[np.int8]

    def tell(self, chosen: Bool, cause: str) -> None:
        """Note the cause of those of the chosen rows that have none yet."""
        self.codes[chosen & (self.codes == 0)] = CAUSES.index(cause)


def find_causes(
    changes: Changes, before: Situation, after: Situation, *, verify: bool = True
) -> Causes:
    """Find what made items leave and enter.

    Args:
        changes: what has changed.
        before: what the lists were made of before.
        after: what they were made of after, of the same users; causes are found for these.
        verify: look first whether the lists made again are the published ones. It is not needed
            where a situation has nothing that can have changed since the lists were made.
    """
    search = _Search(changes, before, after)
    if verify:
        search.verify()
    search.look_for_ties()
    search.look_for_parts()
    found = no_causes(changes)
    found.left[search.left.rows] = search.left.codes
    found.entered[search.entered.rows] = search.entered.codes
    return found


def no_causes(changes: Changes) -> Causes:
    """Return that no cause is known of any row."""
    return Causes(*(np.zeros(len(one.users), np.int8) for one in (changes.before, changes.after)))


class _Search:
    """The rows whose causes are wanted, with all that is needed to find them."""

    def __init__(self, changes: Changes, before: Situation, after: Situation) -> None:
        self.changes, self.before, self.after = changes, before, after
        self.users = pc.index_in(before.users, value_set=changes.user_ids).to_numpy()
        self.position: I64 = np.full(len(changes.user_ids), -1, np.int64)
        self.position[self.users] = np.arange(len(self.users))
        self.left = self._asked(changes.before, changes.left)
        self.entered = self._asked(changes.after, changes.entered)

    def _asked(self, rows: Rows, chosen: I64) -> _Asked:
        chosen = chosen[self.position[rows.users[chosen]] >= 0]
        users = self.position[rows.users[chosen]]
        return _Asked(chosen, users, rows.items[chosen], np.zeros(len(chosen), np.int8))

    def _both(self) -> Iterator[_Asked]:
        yield self.left
        yield self.entered

    def _keys(self, users: I64, items: I64) -> I64:
        return users * len(self.changes.item_ids) + items

    def _items_of(self, situation: Situation) -> tuple[I64, I64]:
        """Return the item of each row of a model, and the row of each item; -1 for none."""
        ids, items = situation.model.items.ids, self.changes.item_ids
        item = pc.index_in(ids, value_set=items).fill_null(-1).to_numpy().astype(np.int64)
        row = pc.index_in(items, value_set=ids).fill_null(-1).to_numpy().astype(np.int64)
        return item, row

    def _open(self) -> Bool:
        """Say which users have rows without a cause, `(n_users,)`."""
        found = np.zeros(len(self.users), np.bool_)
        for asked in self._both():
            found[asked.users[asked.codes == 0]] = True
        return found

    def verify(self) -> None:
        """Tell of rows of users whose lists cannot be made again that their cause is unknown."""
        at = np.flatnonzero(self._open())
        wrong = np.zeros(len(self.users), np.bool_)
        for rows, situation in (
            (self.changes.before, self.before),
            (self.changes.after, self.after),
        ):
            wrong[at] |= ~self._reproduced(rows, situation, at)
        for asked in self._both():
            asked.tell(wrong[asked.users], UNKNOWN)

    def _reproduced(self, rows: Rows, situation: Situation, at: I64) -> Bool:
        """Say for some users whether their lists, made again, are the published ones."""
        made = situation.lists(at)
        item, _ = self._items_of(situation)
        lengths = rows.lengths[self.users[at]]
        place = np.full(len(self.users), -1, np.int64)
        place[at] = np.arange(len(at))
        alike: Bool = np.bincount(place[made.users], minlength=len(at)) == lengths
        starts = rows.indptr[self.users[at]]
        within = np.arange(lengths[alike].sum()) - np.repeat(
            np.cumsum(lengths[alike]) - lengths[alike], lengths[alike]
        )
        published = np.repeat(starts[alike], lengths[alike]) + within
        again = np.flatnonzero(alike[place[made.users]])
        same = (rows.items[published] == item[made.items[again]]) & (
            rows.scores[published].view(np.uint32) == made.scores[again].view(np.uint32)
        )
        alike[place[made.users[again[~same]]]] = False
        return alike

    def look_for_parts(self) -> None:
        """Change one part at a time, for whoever has several that differ."""
        differs = who_differs(self.before, self.after)
        n_parts = np.sum(list(differs.values()), axis=0)
        for asked in self._both():
            asked.tell(n_parts[asked.users] == 0, UNKNOWN)
            for part in PARTS:
                asked.tell((differs[part] & (n_parts == 1))[asked.users], part)
        for part in PARTS:
            at = np.flatnonzero(differs[part] & self._open())
            if len(at):
                self._try(part, at)
        for asked in self._both():
            asked.tell(np.ones(len(asked.rows), np.bool_), TOGETHER)

    def _try(self, part: str, at: I64) -> None:
        situation = crossed(self.before, self.after, {part})
        there = np.sort(self._made(situation, situation.lists(at)))
        tried = np.zeros(len(self.users), np.bool_)
        tried[at] = True
        for asked in self._both():
            listed = contains(there, self._keys(asked.users, asked.items))
            asked.tell(tried[asked.users] & (listed == (asked is self.entered)), part)

    def _made(self, situation: Situation, made: MadeLists) -> I64:
        items = self._items_of(situation)[0][made.items]
        return self._keys(made.users[items >= 0], items[items >= 0])

    def look_for_ties(self) -> None:
        """Find the items that took, or lost, the last places by their ids alone.

        After, an item that has left has the same score as the last one of the list, and one that
        has entered has this score, too. What a filter keeps out, or has kept out before, does not
        count.
        """
        rows, after = self.changes.after, self.after
        if after.rules.reserved:  # the last places are those of items without any interactions
            return
        lengths = rows.lengths[self.users]
        full = lengths == after.rules.k
        last = np.full(len(self.users), np.nan, np.float32)
        last[full] = rows.scores[rows.indptr[self.users[full] + 1] - 1]
        scores = self._scores(after, self.left)
        out = scores == last[self.left.users]
        entered = self.entered
        into = rows.scores[entered.rows] == last[entered.users]
        into &= ~self._kept_out(self.before, entered)
        # Both are needed: without the other, neither has taken a place from anything.
        lost, won = np.zeros((2, len(self.users)), np.bool_)
        lost[self.left.users[out]], won[entered.users[into]] = True, True
        both = lost & won
        for asked, chosen in ((self.left, out), (entered, into)):
            asked.tell(chosen & both[asked.users], TIE)

    def _scores(self, situation: Situation, asked: _Asked) -> F32:
        """Return the scores that items have where no filter keeps them out, NaN elsewhere."""
        row = self._items_of(situation)[1][asked.items]
        there = (row >= 0) & ~self._kept_out(situation, asked)
        scores = np.full(len(row), np.nan, np.float32)
        popular = there & (situation.ways[asked.users] == POPULAR)
        positives = situation.model.items.positives
        if positives is not None:
            scores[popular] = positives[row[popular]]
        ranked = np.flatnonzero(there & ~popular)
        if not len(ranked):
            return scores
        users, items = asked.users[ranked], row[ranked]
        wanted = grouped(users, items, len(self.users))
        at = np.flatnonzero(np.diff(wanted.indptr))
        lengths = np.diff(wanted.indptr)[at]
        only = type(wanted)(np.concatenate([[0], np.cumsum(lengths)]), wanted.values)
        made = situation.lists(at, k=int(lengths.max()), only=only, reserved=0)
        n_items = len(situation.model.items.ids)
        keys = made.users * n_items + made.items
        order = np.argsort(keys)
        own = users * n_items + items
        place = np.minimum(np.searchsorted(keys[order], own), max(len(keys) - 1, 0))
        if len(keys):
            found = keys[order][place] == own
            scores[ranked[found]] = made.scores[order][place[found]]
        return scores

    def _kept_out(self, situation: Situation, asked: _Asked) -> Bool:
        """Say which items a filter keeps from the user; False where the model has not got them."""
        row = self._items_of(situation)[1][asked.items]
        there = row >= 0
        users, items = asked.users[there], row[there]
        n_items = len(situation.model.items.ids)
        out = ~situation.allowed[items]
        keys = users * n_items + items
        if situation.rules.exclude_seen:
            seen = situation.histories.seen
            out |= contains(np.sort(owners_of(seen) * n_items + seen.values), keys)
        if situation.candidates is not None:
            own = situation.candidates
            out |= ~contains(np.sort(owners_of(own) * n_items + own.values), keys)
        found = np.zeros(len(row), np.bool_)
        found[there] = out
        return found
