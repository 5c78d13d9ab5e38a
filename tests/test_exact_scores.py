"""Published scores computed in any order have the bits of those added in the documented one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernel import nominate, published, topk, worker
from recsys.kernel.fold_in import plain_mean
from recsys.kernel.packed import row_norms
from recsys.kernel.topk import ItemMatrix
from tests.test_topk import check, model

F32 = NDArray[np.float32]


def same_bits(users: F32, biases: F32, items: F32, counts: list[int], item: list[int]) -> None:
    asked, rows = np.array(counts, np.int64), np.array(item, np.int64)
    user, found = published.exact(users, biases, items, row_norms(items), asked, rows)
    assert user.tolist() == np.repeat(np.arange(len(users)), asked).tolist()
    assert found.tobytes() == published.in_order(users, biases, items, user, rows).tobytes()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 70),
    spread=st.sampled_from([0.0, 1.0, 10.0, 25.0]),
    numbers=st.sampled_from([1, 64, 2**17]),
)
def test_scores_in_any_order_have_the_bits_of_the_documented_order(
    seed: int, width: int, spread: float, numbers: int
) -> None:
    rng = np.random.default_rng(seed)

    def rows(n: int) -> F32:
        wide = rng.standard_normal((n, width)) * np.exp(spread * rng.standard_normal((n, width)))
        return np.clip(wide, -1e35, 1e35).astype(np.float32)

    users, items = rows(6), rows(40)
    users[:, -1] = 1
    items[::5] = np.rint(items[::5])  # ties, and sums that are exactly zero
    items[1::5] = -items[::5]
    counts = rng.integers(0, 30, 6).tolist()
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        patch.setattr(published, "_NUMBERS_AT_ONCE", numbers)
        patch.setattr(published, "_NUMBERS_OF_USER", numbers)
        biases = rows(6)[:, 0]
        same_bits(users, biases, items, counts, rng.integers(0, 40, sum(counts)).tolist())


def test_a_score_between_two_float32_is_added_in_the_documented_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1 + 2**-24 lies halfway between two float32: what is 2**-60 more or less decides."""
    asked = []
    original = published.in_order

    def spy(*args: NDArray[np.generic]) -> F32:
        asked.append(len(args[-1]))
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(published, "in_order", spy)
    tiny = 2.0**-60
    items = np.array(
        [[1, 2**-24, tiny, 0], [1, 2**-24, -tiny, 0], [tiny, 1, 2**-24, 0], [1, 2**-20, 0, 0]],
        np.float32,
    )
    users, zero = np.ones((1, 4), np.float32), np.zeros(1, np.float32)
    _, found = published.exact(
        users, zero, items, row_norms(items), np.array([4]), np.arange(4, dtype=np.int64)
    )
    assert asked == [3]
    expected = original(users, zero, items, np.zeros(4, np.int64), np.arange(4))
    assert found.tobytes() == expected.tobytes()


def test_few_pairs_need_the_documented_order(monkeypatch: pytest.MonkeyPatch) -> None:
    items, item_biases, users, user_biases = model(41, 30, 4_000, 300)
    asked = []
    original = published.in_order

    def spy(*args: NDArray[np.generic]) -> F32:
        asked.append(len(args[-1]))
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(published, "in_order", spy)
    check(items, item_biases, users, user_biases, 100)
    assert sum(asked) < 0.01 * 30 * 100


@pytest.mark.parametrize("wide", [False, True])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 700),
    k=st.integers(1, 40),
    dense=st.sampled_from([0, 3, 10**9]),
    scale=st.sampled_from([1e-42, 1e-20, 1.0, 1e18]),
)
def test_both_layouts_and_both_ways_to_select_give_the_same_lists(
    wide: bool, seed: int, m: int, k: int, dense: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    items, item_biases, users, user_biases = model(seed, int(rng.integers(1, 12)), m, 5)
    items[:: int(rng.integers(1, 5))] = items[0]  # ties
    factor = np.float32(scale)
    seen = [rng.integers(0, m, int(rng.integers(0, m))).tolist() for _ in users]
    with pytest.MonkeyPatch.context() as patch, np.errstate(under="ignore"):
        for name, value in {"LANES": 8, "STEPS": 3, "HELD": 2, "PACK_WIDTH": 10**6}.items():
            patch.setattr(nominate, name, value)
        patch.setattr(nominate, "WIDE", 0 if wide else 10**6)
        patch.setattr(nominate, "DENSE", dense)
        check(items * factor, item_biases * factor, users, user_biases * factor, k, seen)


@pytest.mark.parametrize("d", [255, 639, 1151])
def test_wide_models_give_the_documented_lists(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk, "BATCH", 2)  # two, two and one of the users
    items, item_biases, users, user_biases = model(42, 5, 2_500, d)
    items *= np.exp(-np.arange(d) / 100).astype(np.float32)  # falling, as singular values do
    check(items, item_biases, users, user_biases, 100, [[1, 2, 3]] * 5)


@pytest.mark.parametrize("d", [8, 100, 640])
def test_the_size_that_is_announced_is_that_of_the_arrays(d: int) -> None:
    items, item_biases, _, _ = model(43, 1, 14_000, d)
    blocks = ItemMatrix(items, item_biases)._blocks
    assert blocks is not None
    arrays = [blocks.blocks] + ([blocks.packed.codes] if blocks.packed else [])
    assert nominate.bytes_of(14_000, d) == sum(array.nbytes for array in arrays)


def test_the_size_of_a_broadcast_is_said_in_one_line() -> None:
    items, item_biases, _, _ = model(44, 1, 10_000, 1024)
    told = worker.sizes(
        worker.BroadcastModel(
            key="m",
            ids=np.arange(10_000),
            embeddings=items,
            biases=item_biases,
            positives=np.zeros(10_000, np.int32),
            allowed=None,
            fold_in=plain_mean(1024),
        )
    )
    assert "10,000 items x 1,024, embeddings 39.1 MiB, biases 0.0 MiB, ids 0.1 MiB" in told
    assert "40.0 MiB for the kernel" in told


def test_the_cut_at_the_kth_nominee_keeps_what_rounding_may_have_moved() -> None:
    """The same terms in other orders: one score, but products that differ in their last bits."""
    rng = np.random.default_rng(45)
    terms = rng.standard_normal(200)
    items = np.stack([rng.permutation(terms) for _ in range(600)]).astype(np.float32)
    zero = np.zeros(600, np.float32)
    found = check(items, zero, np.ones((2, 200), np.float32), zero[:2], 20)
    assert found.items[:20].tolist() == list(range(20))
