"""The difference between the lists of two runs as plain data: for tables, pages and programs.

No Spark. What has changed is found here, and why by `recsys.score.causes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.score.causes import CAUSES, Causes
from recsys.score.changes import Changes
from recsys.score.spread import Spread
from recsys.score.two_sides import Rows, Side, lay_out

I64 = NDArray[np.int64]

_MOST_ITEMS, _MOST_USERS = 20, 5


@dataclass(frozen=True)
class Differences:
    """The difference between two sides.

    Attributes:
        before, after: what is compared.
        changes: what has changed, as arrays.
        titles: of items by id.
        causes: why; None where that was not looked for.
        configuration: keys of the configuration that differ, each with its two values.
        notes: what else should be known.
    """

    before: Side
    after: Side
    changes: Changes
    titles: Mapping[Any, str] = field(default_factory=dict)
    causes: Causes | None = None
    configuration: Sequence[tuple[str, Any, Any]] = ()
    notes: Sequence[str] = ()

    def as_record(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "before": self.before.as_record(),
            "after": self.after.as_record(),
            "nothing": self.changes.nothing,
            "users": self._users(),
            "items": self._items(),
            "overlap": [
                {"k": k, **Spread.of(self.changes.overlap(k), 0, 1).as_record()}
                for k in self.changes.cuts
            ],
            "rank_correlation": Spread.of(self.changes.correlation, -1, 1).as_record(),
            "causes": self._causes(),
            "configuration": [
                {"key": key, "before": before, "after": after}
                for key, before, after in self.configuration
            ],
            "segments": self._segments(),
            "rose": self._most(-self.changes.rise),
            "fell": self._most(self.changes.rise),
            "examples": [self.of_user(user) for user in self._examples()],
            "notes": list(self.notes),
        }

    def _users(self) -> dict[str, int]:
        before, after = self.changes.before.lengths > 0, self.changes.after.lengths > 0
        return {
            "before": int(before.sum()),
            "after": int(after.sum()),
            "both": int(self.changes.in_both.sum()),
            "gained": int((after & ~before).sum()),
            "lost": int((before & ~after).sum()),
            "same": int(self.changes.same.sum()),
            "changed": int((self.changes.in_both & ~self.changes.same).sum()),
        }

    def _items(self) -> dict[str, int]:
        before, after = self.changes.lists_with
        return {
            "before": int((before > 0).sum()),
            "after": int((after > 0).sum()),
            "entered": len(self.changes.entered),
            "left": len(self.changes.left),
            "moved": len(self.changes.moved),
        }

    def _causes(self) -> list[dict[str, Any]] | None:
        if self.causes is None:
            return None
        left, entered = (
            np.bincount(codes, minlength=len(CAUSES))
            for codes in (self.causes.left, self.causes.entered)
        )
        return [
            {"cause": cause, "left": int(left[at]), "entered": int(entered[at])}
            for at, cause in enumerate(CAUSES)
            if at and (left[at] or entered[at])
        ]

    def _segments(self) -> list[dict[str, Any]]:
        """Return the users by how they were and are served; the largest segment first."""
        changes = self.changes
        then, now = (np.array([one or "" for one in rows.status], str) for rows in self._sides())
        kinds, at = np.unique(np.stack([then, now]), axis=1, return_inverse=True)
        found = []
        for kind in range(kinds.shape[1]):
            mine = at == kind
            found.append(
                {
                    "served_before": str(kinds[0, kind]) or None,
                    "served_after": str(kinds[1, kind]) or None,
                    "users": int(mine.sum()),
                    "both": int((mine & changes.in_both).sum()),
                    "entered": int(changes.n_entered[mine].sum()),
                    "left": int(changes.n_left[mine].sum()),
                    "moved": int(changes.n_moved[mine].sum()),
                    "overlap": Spread.of(changes.whole_overlap[mine], 0, 1).mean,
                    "rank_correlation": Spread.of(changes.correlation[mine], -1, 1).mean,
                }
            )
        return sorted(found, key=lambda one: -one["users"])

    def _sides(self) -> tuple[Rows, Rows]:
        return self.changes.before, self.changes.after

    def _most(self, falling: I64) -> list[dict[str, Any]]:
        """Return the items with the lowest values, as far as these are below 0."""
        first = np.argsort(falling, kind="stable")[:_MOST_ITEMS]
        first = first[falling[first] < 0]
        (before, after), (n_before, n_after) = self.changes.lists_with, self.changes.n_lists
        ids = self.changes.item_ids.take(pa.array(first)).to_pylist()
        return [
            {
                "item_id": item,
                "title": self.titles.get(item),
                "lists_before": int(before[at]),
                "lists_after": int(after[at]),
                "share_before": int(before[at]) / n_before if n_before else 0.0,
                "share_after": int(after[at]) / n_after if n_after else 0.0,
            }
            for item, at in zip(ids, first, strict=True)
        ]

    def _examples(self) -> list[int]:
        """Return the users whose lists have changed most; of equal ones those of smaller ids."""
        changed = np.flatnonzero(self.changes.in_both & ~self.changes.same)
        overlap = self.changes.whole_overlap[changed]
        return [int(user) for user in changed[np.argsort(overlap, kind="stable")][:_MOST_USERS]]

    def of_user(self, user: int) -> dict[str, Any]:
        """Return both lists of a user as JSON values.

        Args:
            user: the position among `user_ids`.
        """
        causes = self.causes
        codes = (None, None) if causes is None else (causes.left, causes.entered)
        lists = [
            self._list(rows, rows.of(user), other, code)
            for rows, other, code in zip(self._sides(), reversed(self._sides()), codes, strict=True)
        ]
        return {
            "user_id": self.changes.user_ids[user].as_py(),
            "served_before": self.changes.before.status[user],
            "served_after": self.changes.after.status[user],
            "before": lists[0],
            "after": lists[1],
        }

    def _list(
        self, rows: Rows, at: slice, other: Rows, causes: NDArray[np.int8] | None
    ) -> list[dict[str, Any]]:
        ids = self.changes.item_ids.take(pa.array(rows.items[at])).to_pylist()
        found = []
        for item, row in zip(ids, range(at.start, at.stop), strict=True):
            there = int(rows.other[row])
            found.append(
                {
                    "rank": int(rows.ranks[row]),
                    "item_id": item,
                    "title": self.titles.get(item),
                    "score": float(rows.scores[row]),
                    "other_rank": int(other.ranks[there]) if there >= 0 else None,
                    "cause": None if causes is None else CAUSES[causes[row]] or None,
                }
            )
        return found


def find_differences(
    before: Side, after: Side, titles: Mapping[Any, str] | None = None
) -> Differences:
    """Compare the lists of two sides.

    Args:
        before: what was.
        after: what is.
        titles: of items by id.

    Raises:
        ConfigError: the ids of the two sides are of different types.
    """
    return Differences(before, after, Changes(*lay_out(before, after)), titles or {})
