"""Items in the order of how many users liked them: lists and ranks for many users at once."""

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_PLACES_AT_ONCE = 2**22


class Popularity:
    """The allowed items of a model by (likes descending, row ascending).

    positives: `(n_items,)` integers, how many users liked each; allowed: `(n_items,)` bool or None.
    """

    def __init__(self, positives: NDArray[np.int32], allowed: NDArray[np.bool_] | None) -> None:
        ranked = np.argsort(-positives.astype(np.int64), kind="stable")
        self.ranked: I64 = ranked if allowed is None else ranked[allowed[ranked]]
        self._place = np.full(len(positives), -1, np.int64)  # -1: not allowed
        self._place[self.ranked] = np.arange(len(self.ranked))

    def top(self, k: int, seen_indptr: I64, seen_items: I32) -> tuple[I64, I32]:
        """Return the first k items that each of n users has not seen, as ragged lists.

        seen_indptr, seen_items: `(n + 1,)`, `(total,)`; repeats and items that are not allowed make
        no difference. The result has the same form.
        """
        n, k = len(seen_indptr) - 1, min(k, len(self.ranked))
        step = max(1, _PLACES_AT_ONCE // max(1, k))
        counts = [np.zeros(1, np.int64)]
        found = [np.empty(0, np.int32)]
        for start in range(0, n, step):
            indptr = seen_indptr[start : start + step + 1]
            # A list ends before this place, even if all seen items are at the top.
            keys, first = self._seen(indptr, seen_items, k + np.diff(indptr))
            # The place of the j-th unseen item is j plus the number of seen items before it. These
            # are the seen items that have at most j unseen ones before themselves.
            unseen_before = keys - (np.arange(len(keys)) - first[keys >> 32])
            users = np.arange(len(indptr) - 1)[:, None]
            nth = np.arange(k)
            seen_before = np.searchsorted(unseen_before, users << 32 | nth, side="right")
            places = nth + seen_before - first[:-1, None]
            there = places < len(self.ranked)
            counts.append(there.sum(axis=1))
            found.append(self.ranked[places[there]].astype(np.int32))
        return np.cumsum(np.concatenate(counts)), np.concatenate(found)

    def ranks(self, indptr: I64, items: I32, seen_indptr: I64, seen_items: I32) -> I64:
        """Return the rank of each wanted item, from 0, among those that its user has not seen.

        indptr, items: the wanted items of each user, as ragged lists; all must be allowed and not
        seen.
        """
        keys, first = self._seen(seen_indptr, seen_items)
        users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        places = self._place[items]
        return places - (np.searchsorted(keys, users << 32 | places) - first[users])

    def _seen(self, indptr: I64, items: I32, within: I64 | None = None) -> tuple[I64, I64]:
        """Return (user, place) of the seen items, ascending, and where each user's begin.

        within: `(n,)`, for each user the place from which on seen items are left out.
        """
        n = len(indptr) - 1
        users = np.repeat(np.arange(n), np.diff(indptr))
        places = self._place[items[indptr[0] : indptr[-1]]]
        wanted = places >= 0
        if within is not None:
            wanted &= places < within[users]
        keys = distinct(users[wanted] << 32 | places[wanted])
        return keys, np.searchsorted(keys, np.arange(n + 1) << 32)


def distinct(keys: I64) -> I64:
    """Return integers in ascending order without repeats, faster than `np.unique`, which hashes."""
    rising = np.sort(keys)
    return rising[np.diff(rising, prepend=rising[:1] - 1) > 0]
