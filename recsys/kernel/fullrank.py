"""The exact ranks of single items in a ranking of the whole catalogue, in the order of `topk`.

An item's rank is the number of items ahead of it, by (score descending, item row ascending), with
the scores that `topk` publishes. Float64 products decide nearly all comparisons, with a margin that
covers the rounding to float32. Items within the margin are scored again in the way of `topk`.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.published import in_order
from recsys.kernel.topk import _check_vectors

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_SCORES_AT_ONCE = 2**22  # 32 MiB
_ROUNDING = 2.0**-22  # twice the difference of two scores that can be equal in float32
_SMALLEST = 2.0**-149


def full_ranks(
    item_embeddings: F32,
    item_biases: F32,
    embeddings: F32,
    biases: F32,
    indptr: I64,
    items: I32,
    out_indptr: I64,
    out_items: I32,
) -> I64:
    """Return the rank of each wanted item, from 0, among the items that are not left out.

    Args:
        item_embeddings: `(n_items, d)`.
        item_biases: `(n_items,)`.
        embeddings: `(n, d)`, of n users.
        biases: `(n,)`, of the same users.
        indptr: `(n + 1,)`; the wanted items of user i are `items[indptr[i]:indptr[i + 1]]`.
        items: `(total,)`, the wanted items.
        out_indptr: `(n + 1,)`, where each user's part of `out_items` begins.
        out_items: the items to leave out. Repeats count once. A wanted item must not be among them.

    Returns:
        `(total,)`, in the order of `items`.

    Raises:
        KernelError: NaN or infinity in a vector.
    """
    _check_vectors("item", item_embeddings, item_biases)
    _check_vectors("user", embeddings, biases)
    vectors = np.column_stack([item_embeddings, item_biases])
    own = np.column_stack([embeddings, np.ones(len(embeddings), np.float32)])
    wide = vectors.astype(np.float64)
    longest = float(np.linalg.norm(wide, axis=1).max(initial=0.0))
    ranks = np.empty(len(items), np.int64)
    step = max(1, _SCORES_AT_ONCE // max(1, len(vectors)))
    for start in range(0, len(own), step):
        some = own[start : start + step].astype(np.float64)
        scores = some @ wide.T + biases[start : start + step, None]
        for row in range(len(some)):
            user = start + row
            size = float(np.linalg.norm(some[row])) * longest + abs(float(biases[user]))
            slack = size * (wide.shape[1] + 3) * 2.0**-50 + _SMALLEST
            mine = slice(int(indptr[user]), int(indptr[user + 1]))
            out = out_items[out_indptr[user] : out_indptr[user + 1]]
            ranks[mine] = _ranks(
                scores[row], slack, items[mine], out, vectors, own[user], biases[user]
            )
    return ranks


def _ranks(
    scores: F64, slack: float, wanted: I32, out: I32, vectors: F32, user: F32, bias: np.float32
) -> I64:
    own = scores[wanted]
    scores[out] = -np.inf
    margin = np.abs(own) * _ROUNDING + slack
    low, high = own - margin, own + margin
    rising = np.sort(scores)
    above = len(scores) - np.searchsorted(rising, high, side="right")
    close = np.searchsorted(rising, high, side="right") - np.searchsorted(rising, low)
    for i in np.flatnonzero(close > 1):
        rivals = np.flatnonzero((scores >= low[i]) & (scores <= high[i]))
        item = int(wanted[i])
        pairs = np.append(rivals, item)
        exact = in_order(
            user[None], np.array([bias]), vectors, np.zeros(len(pairs), np.int64), pairs
        )
        ahead = (exact[:-1] > exact[-1]) | ((exact[:-1] == exact[-1]) & (rivals < item))
        above[i] += np.count_nonzero(ahead)
    return above
