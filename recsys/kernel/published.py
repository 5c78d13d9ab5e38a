"""The published scores of pairs (user, item): float64, added in one fixed order, rounded once.

The score of user u and item i is, in float64 and in exactly this order,

    u[0] * v[0] + u[1] * v[1] + ... + u[d-1] * v[d-1] + bias_u + bias_i

rounded once to float32. It is made of separate elementwise operations, so it does not depend on
BLAS, FMA or the width of vector instructions. (The product of two float32 is exact in float64, so
only the order of the additions matters, and it is fixed.)

`in_order` computes just that. `exact` gives the same bits several times faster. It adds in any
order that BLAS likes, which gives another float64, but one that is very close. If all numbers as
close as that round to the same float32, this is the published score. If not, which is so for about
one pair in ten thousand, the pair is scored by `in_order`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_PAIRS_AT_ONCE = 2048  # of `in_order`: so that their vectors stay in the cache
_NUMBERS_AT_ONCE = 2**16  # of `exact`, for the same reason
_NUMBERS_OF_USER = 2**17  # the same for one user, so that 100 pairs of 1,152 dimensions fit
_UNIT = 2.0**-53  # unit roundoff of float64


def in_order(users: F32, biases: F32, items: F32, user: I64, item: I64) -> F32:
    """Scores of pairs, each summed in the same fixed order.

    users: (n, d + 1) with 1 in the last column; biases: (n,), of the users; items: (m, d + 1) with
    the bias in the last column; user, item: (pairs,) rows of both.

    The products are one elementwise operation, and so is each addition. This must never become a
    dot, an einsum or a sum over an axis, whose order of summation is not fixed.
    """
    scores = np.empty(len(user), np.float32)
    for start in range(0, len(user), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        products = items.take(item[part], axis=0).astype(np.float64)
        products *= users.take(user[part], axis=0)
        total = np.zeros(len(products))
        for j in range(products.shape[1] - 1):
            total += products[:, j]
        total += biases[user[part]]
        total += products[:, -1]
        with np.errstate(over="ignore"):  # `topk` checks those that are in a list
            scores[part] = total
    return scores


def exact(
    users: F32, biases: F32, items: F32, item_norms: F64, counts: I64, item: I64
) -> tuple[I64, F32]:
    """The bits of `in_order`, faster, for pairs that come user by user.

    users, biases, items: as there; item_norms: (m,) Euclidean norms of the rows of items; counts:
    (n,) how many pairs each user has; item: (pairs,). The user of each pair is returned, too.

    Why the bits are the same. Let M = |x| |y|, with x = (u, 1) and y = (v, b), and let e = 2**-53.
    The products are exact, and the sum of at most n = d + 2 terms is off by at most
    ``g (M + |bias_u|)`` in any order, with or without FMA, where ``g = n e / (1 - n e)`` (Higham,
    section 3.1, and Cauchy-Schwarz, as in `margin.error_margin`). That holds for the fixed order
    and for any other. So the published sum is at most ``2 g (M + |bias_u|)`` away from the one
    found here. Rounding to float32 never falls as its argument rises: if both ends of that range
    round to the same bits, so does the published sum. Nothing underflows, since a product of two
    float32 that is not 0 is at least 2**-298. Another ``2 e (M + |bias_u|)`` covers the rounding of
    the ends, 1.01 that of the bound, and the smallest normal float64 makes the ends of a range
    around 0 differ in their signs.
    """
    n, width = users.shape
    user = np.repeat(np.arange(n), counts)
    wide = users.astype(np.float64)
    total = _any_order(wide, items, counts, item)
    total += biases[user]
    size = np.sqrt(np.einsum("ij,ij->i", wide, wide))[user] * item_norms[item]
    size += np.abs(biases[user])
    terms = width + 1
    bound = 1.01 * (2.0 * terms / (1.0 - terms * _UNIT) + 2.0) * _UNIT * size
    bound += np.finfo(np.float64).tiny
    with np.errstate(over="ignore"):
        scores = (total - bound).astype(np.float32)
        unsure = np.flatnonzero(
            scores.view(np.uint32) != (total + bound).astype(np.float32).view(np.uint32)
        )
    scores[unsure] = in_order(users, biases, items, user[unsure], item[unsure])
    return user, scores


def _any_order(users: F64, items: F32, counts: I64, item: I64) -> F64:
    """The inner products of pairs that come user by user, to within the error of any summation.

    The pairs of a user are cut into segments, and segments of about the same length are multiplied
    together: (segments, pairs, width) times (segments, width, 1). A segment that is too short
    repeats its last pair.
    """
    width = users.shape[1]
    longest = max(1, _NUMBERS_OF_USER // width)
    pieces = -(-counts // longest)
    owner = np.repeat(np.arange(len(counts)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    ends = np.cumsum(counts)
    first = (ends - counts)[owner] + number * longest
    length = np.minimum(longest, ends[owner] - first)

    total = np.empty(len(item))
    falling = np.argsort(-length, kind="stable")
    start = 0
    narrow, wide = np.empty((longest, width), np.float32), np.empty((longest, width))
    while start < len(falling):
        most = int(length[falling[start]])
        size = max(1, _NUMBERS_AT_ONCE // (width * most))
        some = falling[start : start + size]
        start += size
        if size == 1:
            begin = int(first[some[0]])
            part = slice(begin, begin + most)
            items.take(item[part], axis=0, out=narrow[:most], mode="clip")  # clip: no buffer
            np.copyto(wide[:most], narrow[:most])
            np.matmul(wide[:most], users[owner[some[0]]], out=total[part])
        else:
            at = first[some, None] + np.minimum(np.arange(most), length[some, None] - 1)
            rows = items.take(item[at], axis=0).astype(np.float64)
            total[at] = np.matmul(rows, users[owner[some], :, None])[:, :, 0]
    return total
