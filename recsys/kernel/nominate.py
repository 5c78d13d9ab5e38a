"""Nominate the few items that could be among a user's k best, at the speed of a matrix product.

Float32 products only choose items here; they never rank them. The promise to `topk` is one-sided:
every item that belongs in a user's list is nominated, and some others may be nominated too. The
proofs are in `margin`, for the rounding of the product, and in `packed`, for the pruning.

How the scan works
------------------
Users come as rows ``(u, 1)``, items as rows ``(v, b)``: their product is the score without the
user's bias, which does not change the order. Items lie in descending order of their norm, so that
high scores tend to come early, in blocks of ``steps * LANES`` items. A batch of at most `BATCH`
users is scored with one block at a time, in a buffer ``(n, steps, LANES)`` of a few MB that stays
in the cache:

1. Compute the product of the batch with the block, and set it to -inf where the user has seen the
   item.
2. Compute the maximum over the steps, (n, LANES): one for each group of `steps` items. In
   memory the steps come first if vectors are narrow: this is fastest over planes (n, LANES). Wide
   vectors are multiplied fastest in one product for all steps.
3. Update `best`, the running maximum over the blocks. Its lanes are maxima over disjoint sets of
   items, so at least k unseen items reach the k-th largest lane: this is the threshold.
4. Find the groups whose maximum reaches the threshold less the margin, and in these groups the
   items that reach it. They are nominated.
5. At the end, the k-th best product of the nominees themselves is a better threshold, as these are
   k unseen items as well. Those below it, less the margin, are dropped.

As soon as few enough items pass, wide vectors go through the packed product (two blocks for the
time of one, see `packed`), and only the items that pass it are scored in float32. Each batch
decides this from its own scores. The decision changes the time, never the answer.

No (users, items) matrix is ever stored: memory does not grow with the number of users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.margin import error_margin
from recsys.kernel.ordering import by_user_and_score, contains, places_in_list, where
from recsys.kernel.packed import PackedItems, PackedUsers, high_half, low_half, row_norms

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# Measured with scripts/benchmark.py. Any positive values give the same lists.
BATCH = 512  # users scored together: fewer make the product slower, more only the buffer larger
LANES = 128  # items side by side in a block, and groups kept for each user
STEPS = 16  # about how many items share a group maximum
HELD = 4  # blocks scored before the first threshold is taken
WIDE = 160  # from this width on, a block is one product, and not one for each step
DENSE = 20  # look at all items where more than one in so many groups passes
PACK_WIDTH = 32  # for narrower vectors the packed product saves no time
PACK_WIDEST = 320  # for wider ones nearly everything passes it, and it would only take memory
PACK_START = 0.01  # pack if a smaller share than this is expected to pass the low half
PACK_STOP = 0.02  # stop packing if a larger share than this passes both halves

_PAIRS_AT_ONCE = 2048  # so that their vectors stay in the cache
_MAX = np.finfo(np.float32).max
_SAFE_SCORE = 2.0**126  # below this no partial sum of a float32 product overflows


def _n_classes(k: int) -> int:
    """Sets of LANES groups: 1.5 k groups, so that few of the k best items share a group."""
    return -(-3 * k // (2 * LANES))


def nominee_limit(k: int) -> int:
    """The largest number of nominees of a user; a user with more, for ties, is left undecided."""
    return 1024 + 4 * k


def _shape(m: int) -> tuple[int, int]:
    """How many blocks m items have, and how many steps a block has."""
    steps = -(-m // (LANES * max(1, round(m / (LANES * STEPS)))))
    return -(-m // (steps * LANES)), steps


def bytes_of(n_items: int, n_components: int) -> int:
    """The bytes that `ItemBlocks` takes: the vectors once, and half as much if they are packed."""
    (n_blocks, steps), width = _shape(max(1, n_items)), n_components + 1
    packed = PACK_WIDTH <= width <= PACK_WIDEST and n_blocks > HELD + 1
    pairs = (n_blocks - HELD + 1) // 2 if packed else 0
    return 4 * (n_blocks + pairs) * steps * LANES * width


@dataclass(frozen=True)
class Nominees:
    """Items that may belong in the lists of users.

    items: (pairs,) positions in the catalogue, user by user; counts: (n,) how many each user has.
    undecided: (n,) True for users for whom the scan gave up, because of too many ties or of scores
    beyond float32. They have no pairs here.
    """

    items: I64
    counts: I64
    undecided: Bool


class ItemBlocks:
    """The items in the layout of the scan, prepared once and then only read.

    vectors: (m, width) float32, finite, m > 0; the last column is the item bias. They are copied,
    once. They should be in descending order of their norms: every order gives the same lists, this
    one fast.
    """

    def __init__(self, vectors: F32) -> None:
        m, width = vectors.shape
        self.max_norm = float(row_norms(vectors).max())
        self.n_blocks, self.steps = _shape(m)
        self.block: int = self.steps * LANES
        self.blocks: F32 = np.zeros((self.n_blocks, self.block, width), np.float32)
        self.vectors: F32 = self.blocks.reshape(-1, width)[:m]
        self.vectors[:] = vectors
        self.packed: PackedItems | None = None
        if PACK_WIDTH <= width <= PACK_WIDEST and self.n_blocks > HELD + 1:
            self.packed = PackedItems.pack(self.blocks, first=HELD)
        self.rounds = self.packed.pairs if self.packed else [(b,) for b in range(self.n_blocks)]

    def can_scan(self, k: int) -> bool:
        """Whether there are enough groups for a threshold; there are not if k is very large."""
        return self.n_blocks >= _n_classes(k)

    def held(self, k: int) -> int:
        """How many blocks to score before the first threshold: all sets of groups need a block."""
        return min(self.n_blocks, max(HELD, _n_classes(k)))

    def buffer(self, n: int, k: int) -> F32:
        """A buffer for the scores of up to n users in a scan for k, to be used for every batch."""
        return np.empty((self.held(k) + 1) * self.block * n, np.float32)

    def nominate(
        self, users: F32, biases: F32, k: int, seen_users: I64, seen: I64, buffer: F32
    ) -> Nominees:
        """Scan for a batch of users, of about `BATCH` or fewer.

        users: (n, width) float32, finite, last column 1. seen_users, seen: (pairs,) users and
        items to leave out, as positions in the batch and in `vectors`, in any order, repeats too.
        """
        return _Scan(self, users, biases, k, seen_users, seen, buffer).run()


class _Scan:
    """The scan of the blocks for one batch."""

    def __init__(
        self,
        items: ItemBlocks,
        users: F32,
        biases: F32,
        k: int,
        seen_users: I64,
        seen: I64,
        buffer: F32,
    ) -> None:
        n, width = users.shape
        norms, biases64 = row_norms(users), biases.astype(np.float64)
        self.items, self.n, self.k = items, n, k
        self.margin = error_margin(width, norms, biases64, items.max_norm)
        self.undecided = norms * items.max_norm + np.abs(biases64) >= _SAFE_SCORE
        self.users: F32 = np.where(self.undecided[:, None], np.float32(0), users)
        self.limit = nominee_limit(k)
        self.counts = np.zeros(n, np.int64)
        self.wide = width >= WIDE
        self.strides = (items.steps, 1) if self.wide else (1, n)  # of users and steps, in LANES

        # One number for each seen (user, item): its position if the scores of all blocks were laid
        # end to end. So the seen pairs of a block are a slice of the sorted numbers.
        starts = np.arange(items.n_blocks + 2) * (n * items.block)
        number = self._number(seen_users, seen)
        self.seen = np.sort(number.astype(np.int32 if starts[-1] < 2**31 else np.int64))
        self.seen_starts: list[int] = np.searchsorted(self.seen, starts).tolist()

        # Buffers: a spare one, then one for each block that is held until the first threshold. The
        # last one is used for all later blocks.
        self.held = items.held(k)
        parts = buffer[: (self.held + 1) * items.block * n].reshape(self.held + 1, -1)
        self.spare, *self.scores = parts
        self.peaks = np.empty((self.held, n, LANES), np.float32)
        self.best = np.full((n, _n_classes(k), LANES), -np.inf, np.float32)
        self.floor = np.empty(n, np.float32)  # what a product must reach to be nominated
        self.found: list[tuple[I64, I64, F32]] = []
        self.packed_users: PackedUsers | None = None
        self.packing: bool | None = None  # None: not yet decided; False: tried and stopped

    def run(self) -> Nominees:
        items = self.items
        for b in range(self.held):
            self._score(b, b)
        self._raise_floor()
        for b in range(self.held):
            self._select(b, b)

        done, raised = self.held, self.held
        for blocks in items.rounds:
            blocks_left = [b for b in blocks if self.held <= b < items.n_blocks]
            if items.packed and blocks[0] in blocks_left and self._packs(items.packed, blocks[0]):
                self._scan_packed(items.packed, *blocks)
            else:
                for b in reversed(blocks_left):  # the last one is what `_packs` judges by
                    self._score(b, -1)
                    self._select(b, -1)
            done += len(blocks_left)
            if done >= 2 * raised:  # after 8, 16, 32 ... blocks, as it takes time
                raised = done
                self._raise_floor()
        self._raise_floor()
        users, places, products = (np.concatenate(part) for part in zip(*self.found, strict=True))
        keep = products >= self.floor[users]
        return self._nominees(users[keep], places[keep], products[keep])

    def _nominees(self, users: I64, places: I64, products: F32) -> Nominees:
        """Sort the nominees by user, and drop those that the k-th best of them rules out."""
        order = by_user_and_score(users, products, self.n)
        users, places, products = users[order], places[order], products[order]
        kth = np.flatnonzero(places_in_list(np.bincount(users, minlength=self.n)) == self.k - 1)
        self.floor[users[kth]] = _below(products[kth] - self.margin[users[kth]])
        keep = products >= self.floor[users]
        counts = np.bincount(users[keep], minlength=self.n)
        return Nominees(places[keep], counts, self.undecided)

    def _number(self, users: I64, places: I64) -> I64:
        """The positions of scores, if those of all blocks were laid end to end."""
        row = places // LANES
        b = row // self.items.steps
        by_user, by_step = self.strides
        within = users * by_user + (row - b * self.items.steps) * by_step
        number: I64 = b * (self.n * self.items.block) + within * LANES + (places - row * LANES)
        return number

    def _view(self, scores: F32) -> F32:
        """A buffer as (n, steps, LANES)."""
        if self.wide:
            return scores.reshape(self.n, -1, LANES)
        return scores.reshape(-1, self.n, LANES).transpose(1, 0, 2)

    def _score(self, b: int, at: int) -> None:
        """Compute the products with block b, and update `peaks` and `best`."""
        items, scores, peaks = self.items, self.scores[at], self.peaks[at]
        block, view = items.blocks[b], self._view(scores)
        if self.wide:
            np.matmul(self.users, block.T, out=scores.reshape(self.n, -1))
        else:
            planes = block.reshape(items.steps, LANES, -1).transpose(0, 2, 1)
            np.matmul(self.users, planes, out=scores.reshape(items.steps, self.n, LANES))
        seen = self.seen[self.seen_starts[b] : self.seen_starts[b + 1]] - b * scores.size
        scores[seen] = -np.inf
        end = len(items.vectors) - b * items.block
        if end < items.block:  # places behind the last item
            view[:, end // LANES, end % LANES :] = -np.inf
            view[:, end // LANES + 1 :] = -np.inf
        np.maximum.reduce(view, axis=1, out=peaks)
        best = self.best[:, b % self.best.shape[1]]
        np.maximum(best, peaks, out=best)

    def _raise_floor(self) -> None:
        """Set the floor: the k-th largest group maximum less the margin, rounded down."""
        groups = self.best.reshape(self.n, -1)
        at = groups.shape[1] - self.k
        floor = _below(np.partition(groups, at, axis=1)[:, at] - self.margin)
        self.floor = np.where(self.undecided, np.float32(np.inf), floor)

    def _select(self, b: int, at: int) -> None:
        """Nominate the items of block b, just scored, that reach the floor."""
        scores, peaks = self.scores[at], self.peaks[at]
        passing = where(peaks >= self.floor[:, None])
        if len(passing) * DENSE > peaks.size:
            shape = (1, self.n, -1) if self.wide else (-1, self.n, LANES)
            number = where(scores.reshape(shape) >= self.floor[:, None])
        else:
            users, lanes = np.divmod(passing, LANES)
            by_user, by_step = self.strides
            steps = np.arange(self.items.steps)[:, None] * (by_step * LANES)
            number = (users * (by_user * LANES) + lanes + steps).reshape(-1)
            reaching = scores.take(number).reshape(len(steps), -1) >= self.floor[users]
            number = number[where(reaching)]
        row = number // LANES
        inner = max(self.strides)  # rows of the inner axis: steps of a user, or users of a step
        outer = row // inner
        users, steps = (outer, row - outer * inner) if self.wide else (row - outer * inner, outer)
        places = b * self.items.block + steps * LANES + (number - row * LANES)
        self._nominate(users, places, scores[number])

    def _nominate(self, users: I64, places: I64, scores: F32) -> None:
        self.found.append((users, places, scores))
        self.counts += np.bincount(users, minlength=self.n)
        flood = self.counts > self.limit
        self.undecided |= flood
        self.floor[flood] = np.inf

    def _packs(self, packed: PackedItems, b: int) -> bool:
        """Decide whether to pack block b, by the last items of the block before it."""
        if self.packing is None:
            self.packed_users = self.packed_users or PackedUsers(self.users)
            least = self.floor - packed.slack(self.packed_users, b)
            if (self._view(self.scores[-1])[:, -1] >= least[:, None]).mean() < PACK_START:
                self.packing = True
        return bool(self.packing)

    def _scan_packed(self, packed: PackedItems, low: int, high: int) -> None:
        """Scan two blocks by their packed product."""
        users = self.packed_users
        assert users is not None  # noqa: S101 - `_packs` has set them
        product, spare = (buffer.reshape(self.n, -1) for buffer in (self.scores[-1], self.spare))
        np.matmul(users.codes, packed.codes[low - packed.first], out=product)
        numbers, least = high_half(product, packed.least(users, self.floor, high))
        passed = self._refine(high, numbers >= least[:, None])
        bits, least_bits = low_half(product, packed.least(users, self.floor, low), spare)
        passed += self._refine(low, bits >= least_bits[:, None])
        if passed > PACK_STOP * 2 * product.size:
            self.packing = False

    def _refine(self, b: int, passing: Bool) -> int:
        """Nominate the `passing` items, (n, block), that reach the floor and are not seen."""
        items = self.items
        users, places = np.divmod(where(passing), items.block)
        places += b * items.block
        if b >= items.n_blocks - 1:  # places behind the last item
            inside = places < len(items.vectors)
            users, places = users[inside], places[inside]
        passed = len(users)
        products = np.empty(passed, np.float32)
        for start in range(0, passed, _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            u, v = self.users.take(users[part], axis=0), items.vectors.take(places[part], axis=0)
            np.vecdot(u, v, out=products[part])
        keep = products >= self.floor[users]
        users, places, products = users[keep], places[keep], products[keep]
        # This test is the slowest, so it comes last, when few are left.
        seen = self.seen[self.seen_starts[b] : self.seen_starts[b + 1]]
        keep = ~contains(seen, self._number(users, places))
        users, places, products = users[keep], places[keep], products[keep]
        np.maximum.at(self.best[:, b % self.best.shape[1]], (users, places % LANES), products)
        self._nominate(users, places, products)
        return passed


def _below(threshold: F64) -> F32:
    """The next float32 below each threshold, never -inf, which stands for what is left out."""
    with np.errstate(over="ignore"):  # for undecided users, whose rows were set to zero
        floor = np.nextafter(threshold.astype(np.float32), np.float32(-np.inf))
    return np.asarray(np.maximum(floor, -_MAX))
