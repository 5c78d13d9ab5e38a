"""Which users, items and ranks have changed between the lists of two runs. Arrays alone, no Spark.

Lists are compared for the users who have one on both sides. A user with a list on one side alone is
gained or lost, and their items have neither entered nor left.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.score.two_sides import Rows

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# Where lists are cut to compare their beginnings.
_CUTS = (1, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Changes:
    """What has changed from one side to the other.

    Attributes:
        user_ids, item_ids: everyone and everything in the lists or statuses of a side, ascending.
        before, after: the lists.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    before: Rows
    after: Rows

    @cached_property
    def in_both(self) -> Bool:
        """Who has a list on both sides, `(n_users,)`."""
        return (self.before.lengths > 0) & (self.after.lengths > 0)

    @cached_property
    def left(self) -> I64:
        """Rows before whose item is not in the user's list any more."""
        return self._alone(self.before)

    @cached_property
    def entered(self) -> I64:
        """Rows after whose item was not in the user's list."""
        return self._alone(self.after)

    def _alone(self, rows: Rows) -> I64:
        return np.flatnonzero((rows.other < 0) & self.in_both[rows.users])

    @cached_property
    def moved(self) -> I64:
        """Rows after whose item was in the list at another rank."""
        rows, common = self.after, np.flatnonzero(self.after.other >= 0)
        moved: I64 = common[self.before.ranks[rows.other[common]] != rows.ranks[common]]
        return moved

    def _per_user(self, rows: Rows, chosen: I64) -> I64:
        return np.bincount(rows.users[chosen], minlength=len(self.user_ids))

    @cached_property
    def n_left(self) -> I64:
        """How many items have left each list, `(n_users,)`."""
        return self._per_user(self.before, self.left)

    @cached_property
    def n_entered(self) -> I64:
        """How many items have entered each list, `(n_users,)`."""
        return self._per_user(self.after, self.entered)

    @cached_property
    def n_moved(self) -> I64:
        """How many items of each list have another rank, `(n_users,)`."""
        return self._per_user(self.after, self.moved)

    @cached_property
    def same(self) -> Bool:
        """Whose list is the same on both sides, `(n_users,)`."""
        same: Bool = self.in_both & (self.n_left + self.n_entered + self.n_moved == 0)
        return same

    @property
    def nothing(self) -> bool:
        """Whether nothing has changed: the same users, statuses and lists."""
        alike = np.array_equal(self.before.status, self.after.status)
        alone = (self.before.lengths > 0) != (self.after.lengths > 0)
        return alike and not alone.any() and bool(self.same[self.in_both].all())

    @cached_property
    def cuts(self) -> list[int]:
        """Where lists are cut; the last is the longest list."""
        lengths = [rows.lengths.max(initial=0) for rows in (self.before, self.after)]
        longest = int(max(lengths))
        return [cut for cut in _CUTS if cut < longest] + ([longest] if longest else [])

    def overlap(self, k: int) -> F64:
        """Return what the first k of both lists have in common, as a share of the shorter one.

        Returns:
            `(n_users,)`, NaN for whoever has no list on one side.
        """
        before, after = self.before, self.after
        near = np.flatnonzero((after.other >= 0) & (after.ranks <= k))
        near = near[before.ranks[after.other[near]] <= k]
        shorter = np.minimum(np.minimum(before.lengths, after.lengths), k)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = self._per_user(after, near) / shorter
        return np.where(self.in_both, share, np.nan)

    @cached_property
    def whole_overlap(self) -> F64:
        """The overlap of whole lists, `(n_users,)`, NaN likewise."""
        return self.overlap(self.cuts[-1] if self.cuts else 1)

    @cached_property
    def correlation(self) -> F64:
        """Spearman's rank correlation over the items that both lists have, `(n_users,)`.

        NaN where that are fewer than two.
        """
        before, after = self.before, self.after
        common = np.flatnonzero(after.other >= 0)
        apart = (after.places()[common] - before.places()[after.other[common]]).astype(np.float64)
        squares = np.bincount(after.users[common], apart * apart, len(self.user_ids))
        n = self._per_user(after, common).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n > 1, 1 - 6 * squares / (n * (n * n - 1)), np.nan)

    @cached_property
    def lists_with(self) -> tuple[I64, I64]:
        """In how many lists each item is, before and after, `(n_items,)` both."""
        n = len(self.item_ids)
        before, after = self.before.items, self.after.items
        return np.bincount(before, minlength=n), np.bincount(after, minlength=n)

    @property
    def n_lists(self) -> tuple[int, int]:
        """How many users have a list, before and after."""
        before, after = self.before.lengths, self.after.lengths
        return int((before > 0).sum()), int((after > 0).sum())

    @cached_property
    def rise(self) -> I64:
        """By how much the share of the lists that have an item has risen, `(n_items,)`.

        In units of 1 / (lists before * lists after), so that equal shares are equal.
        """
        (before, after), (n_before, n_after) = self.lists_with, self.n_lists
        return after * n_before - before * n_after
