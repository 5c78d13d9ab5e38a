"""Two items in one float32: exact products of small integers, for half the time of real ones.

A float32 holds every integer up to 2**24. A BLAS product of integers is exact in any order of
summation, as long as every partial sum stays below 2**24. So the vectors are rounded to integers,
and two items a and b share one column ``qa + BASE * qb``. The product with the integer user q is
``P = A + BASE * B`` with ``A = q.qa`` and ``B = q.qb``, so one multiplication gives two inner
products. They are a filter, not a score. Items that pass it are scored properly.

Why it is exact. By Cauchy-Schwarz every partial sum of A, in any order, is at most ``|q| |qa|``,
and likewise for B. The norms are kept within ``USER_NORM``, ``LOW_NORM`` and ``HIGH_NORM``, so that
|A| < 4095, |B| < 2047 and every partial sum of P is at most 4095 + 8192 * 2047 < 2**24. Then A is
the lowest 13 bits of P as a signed number, and B needs no unpacking to be compared.

What it says about the score. Let x = (u, 1) = s q + e and y = (v, b) = z qy + r, where s and z are
scales and e and r are rounding errors, all known. Then ``x.y = s q . z qy + e.y + s q . r``, so by
Cauchy-Schwarz

    x.y <= s z (q.qy) + |e| |y| + |s q| |r|.

An item reaches a threshold only if its integer product reaches ``(threshold - |e| max|y| -
|s q| max|r|) / (s z)``, with the maxima taken over its block. This holds for any data. How many
items pass depends on the data: with 128 dimensions the slack is about 0.1 (low half) or 0.15 (high
half) of |x| |y|, and it grows with the square root of the number of dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

BASE = 8192
USER_NORM = 54.0  # of the integers; a smaller one rounds users more coarsely and items more finely
LOW_NORM = 0.999 * (BASE // 2 - 1) / USER_NORM
HIGH_NORM = 0.999 * (BASE // 4 - 1) / USER_NORM
_ABOVE = 32 - 13  # bits of an int32 above those of A
_SLACK = 1.0 + 1e-9  # float64 rounding in the bounds themselves


def row_norms(x: NDArray[np.floating]) -> F64:
    """Euclidean norm of each row. In float64, where float32 input cannot overflow or vanish."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64)))


def _radius(limit: float, width: int) -> float:
    """The norm to scale to before rounding; rounding usually raises it to just below limit."""
    return math.sqrt(max(limit**2 / 2, limit**2 - width / 12)) - 0.5


def _integers(x: F64, limit: float) -> F64:
    """Rows rounded to integers, with norms of at most limit: rows that are longer are shrunk."""
    q = np.rint(x)
    shrunk = x
    while (long := row_norms(q) > limit).any():
        shrunk = np.where(long[:, None], 0.995 * shrunk, shrunk)
        q = np.rint(shrunk)
    return q


class PackedUsers:
    """A batch of users as integers. codes: (n, width) float32; the others: (n,) float64."""

    def __init__(self, users: F32) -> None:
        x = users.astype(np.float64)
        norms = row_norms(x)
        self.scale: F64 = np.where(norms > 0, norms, 1.0) / _radius(USER_NORM, x.shape[1])
        q = _integers(x / self.scale[:, None], USER_NORM)
        self.codes: F32 = q.astype(np.float32)
        q *= self.scale[:, None]
        self.error = row_norms(x - q) * _SLACK  # |e|
        self.length = row_norms(q) * _SLACK  # |s q|


@dataclass(frozen=True)
class PackedItems:
    """Blocks from `first` on, in pairs.

    Block first + p is the low half of pair p. The high half is rounded more coarsely, so it is a
    block half of the catalogue later, where scores are lower.

    codes: (pairs, width, block) float32; pairs: both blocks of each; scale, norm, error: (blocks,)
    float64, the scale z, max |y| and max |r| of each block. With an odd number of blocks, the high
    half of the last pair is a block of zeros.
    """

    first: int
    pairs: list[tuple[int, ...]]
    codes: F32
    scale: F64
    norm: F64
    error: F64

    @classmethod
    def pack(cls, blocks: F32, first: int) -> PackedItems:
        """blocks: (n_blocks, block, width) float32."""
        n_blocks, block, width = blocks.shape
        half = (n_blocks - first + 1) // 2
        codes = np.zeros((half, width, block), np.float32)
        scale, norm, error = np.zeros((3, first + 2 * half))
        scale += 1.0
        for b in range(first, n_blocks):
            high, p = divmod(b - first, half)
            y = blocks[b].astype(np.float64)
            limit = HIGH_NORM if high else LOW_NORM
            norm[b] = row_norms(y).max() * _SLACK
            scale[b] = (norm[b] or 1.0) / _radius(limit, width)
            q = _integers(y / scale[b], limit)
            error[b] = row_norms(y - scale[b] * q).max() * _SLACK
            codes[p] += BASE * q.T if high else q.T
        pairs: list[tuple[int, ...]] = [(first + p, first + half + p) for p in range(half)]
        return cls(first, pairs, codes, scale, norm, error)

    def slack(self, users: PackedUsers, b: int) -> F64:
        """(n,) by how much an item's rounded score can be too low, in block b."""
        return np.asarray(users.error * self.norm[b] + users.length * self.error[b])

    def least(self, users: PackedUsers, floor: F32, b: int) -> F64:
        """(n,) the integer product that an item must have for its score to reach floor, in block b.

        If no score can reach floor, it is BASE / 2 - 1, which no product reaches.
        """
        with np.errstate(over="ignore"):
            exact = (floor - self.slack(users, b)) / (users.scale * self.scale[b])
        return np.asarray(np.ceil(np.clip(exact, -(BASE // 2), BASE // 2 - 1) - 1e-6))


def high_half(product: F32, least: F64) -> tuple[F32, F32]:
    """Two numbers that compare as B with least: P itself, as A is never below 1 - BASE / 2."""
    return product, (BASE * np.minimum(least, BASE // 4) - (BASE // 2 - 1)).astype(np.float32)


def low_half(product: F32, least: F64, spare: F32) -> tuple[I32, I32]:
    """Two numbers that compare as A with least: the bits of A moved to the top of an int32.

    spare: a buffer of the shape of product.
    """
    bits = spare.view(np.int32)
    np.copyto(bits, product, casting="unsafe")
    np.left_shift(bits, _ABOVE, out=bits)
    return bits, least.astype(np.int32) << _ABOVE
