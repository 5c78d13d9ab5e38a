"""Lists of two kinds of items, of which the second has places reserved at the end."""

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.topk import Ranked

I64 = NDArray[np.int64]


def with_reserved(first: Ranked, last: Ranked, k: int, n: int) -> Ranked:
    """Put the n best items of the second kind behind the k - n best of the first, for each user.

    first, last: the lists of the same users, each the k best of its kind; no item is in both.
    k: length of a list. n: places for the second kind, from 0 to k. If a user has fewer items of
    one kind than places, the other kind fills them, as far as it has items.

    The places before the reserved ones are those that the first kind alone would have: scores fall
    within each kind, and may rise from one to the other.
    """
    n_first, n_last = np.diff(first.indptr), np.diff(last.indptr)
    n_first = np.minimum(n_first, k - np.minimum(n_last, n))
    n_last = np.minimum(n_last, k - n_first)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(n_first + n_last)])
    items = np.empty(indptr[-1], np.int32)
    scores = np.empty(indptr[-1], np.float32)
    for ranked, lengths, starts in (
        (first, n_first, indptr[:-1]),
        (last, n_last, indptr[:-1] + n_first),
    ):
        within = _up_to(lengths)
        taken = np.repeat(ranked.indptr[:-1], lengths) + within
        places = np.repeat(starts, lengths) + within
        items[places], scores[places] = ranked.items[taken], ranked.scores[taken]
    return Ranked(indptr, items, scores)


def _up_to(lengths: I64) -> I64:
    """Count from 0 within each part: 2, 3 gives 0, 1, 0, 1, 2."""
    ends = np.cumsum(lengths)
    numbers: I64 = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    return numbers
