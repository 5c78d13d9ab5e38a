"""The kernel against a full stable sort of scores summed one component after the other."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernel import margin as margins
from recsys.kernel import nominate, packed, topk
from recsys.kernel.topk import ItemMatrix, KernelError, Ranked, top_k

F32 = NDArray[np.float32]
Seen = list[list[int]]


def reference(
    items: F32,
    item_biases: F32,
    users: F32,
    user_biases: F32,
    k: int,
    seen: Seen,
    allowed: set[int],
) -> Ranked:
    """Slow and plain: every score in Python order, one full stable sort a user."""
    indptr, found, scores = [0], [], []
    for u, bias, gone in zip(users.astype(np.float64), user_biases, seen, strict=True):
        total = np.zeros(len(items))
        for j in range(items.shape[1]):
            total = total + u[j] * items[:, j].astype(np.float64)
        total = total + np.float64(bias)
        total = total + item_biases.astype(np.float64)
        score = total.astype(np.float32)
        left = sorted(allowed.difference(gone))
        best = sorted(left, key=lambda i: -float(score[i]))[:k]  # sorted() is stable
        found += best
        scores += [score[i] for i in best]
        indptr.append(len(found))
    return Ranked(np.array(indptr), np.array(found, np.int32), np.array(scores, np.float32))


def ragged(seen: Seen) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    indptr = np.cumsum([0, *map(len, seen)])
    return indptr, np.array([i for row in seen for i in row], np.int32)


def assert_same(found: Ranked, expected: Ranked) -> None:
    assert found.indptr.dtype == np.int64
    assert found.items.dtype == np.int32
    assert found.scores.dtype == np.float32
    assert found.indptr.tolist() == expected.indptr.tolist()
    assert found.items.tolist() == expected.items.tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()


def check(
    items: F32,
    item_biases: F32,
    users: F32,
    user_biases: F32,
    k: int,
    seen: Seen | None = None,
    allowed: set[int] | None = None,
) -> Ranked:
    """Score, compare with the reference, return what was found."""
    mask = None
    if allowed is not None:
        mask = np.isin(np.arange(len(items)), list(allowed))
    matrix = ItemMatrix(items, item_biases, allowed=mask)
    found = top_k(matrix, users, user_biases, k, *(ragged(seen) if seen is not None else ()))
    everything = set(range(len(items)))
    assert_same(
        found,
        reference(
            items,
            item_biases,
            users,
            user_biases,
            k,
            seen if seen is not None else [[]] * len(users),
            everything if allowed is None else allowed,
        ),
    )
    return found


def normal(rng: np.random.Generator, *shape: int) -> F32:
    return rng.standard_normal(shape).astype(np.float32)


def model(seed: int, n: int, m: int, d: int) -> tuple[F32, F32, F32, F32]:
    """items, item biases, users, user biases."""
    rng = np.random.default_rng(seed)
    return normal(rng, m, d), normal(rng, m), normal(rng, n, d), normal(rng, n)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of a few hundred items in many blocks, a dozen users in several batches."""
    monkeypatch.setattr(nominate, "LANES", 8)
    monkeypatch.setattr(nominate, "STEPS", 3)
    monkeypatch.setattr(nominate, "HELD", 2)
    monkeypatch.setattr(nominate, "PACK_WIDTH", 2)
    monkeypatch.setattr(topk, "BATCH", 5)


@pytest.fixture(params=["dense", "packed"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a test twice: with no block packed, and with every block packed that can be.

    The test is not believed unless the path it names was taken.
    """
    packs = request.param == "packed"
    monkeypatch.setattr(nominate, "PACK_START", 2.0 if packs else -1.0)
    monkeypatch.setattr(nominate, "PACK_STOP", 2.0)
    taken: set[str] = set()
    for name, method in (("packed", "_scan_packed"), ("dense", "_select")):
        original = getattr(nominate._Scan, method)

        def spy(
            self: object, *args: object, _name: str = name, _original: object = original
        ) -> None:
            taken.add(_name)
            _original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(nominate._Scan, method, spy)
    yield request.param
    assert request.param in taken
    assert packs or "packed" not in taken


# Few distinct values: ties everywhere, among them zeros of both signs.
coarse = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.0])
fine = st.floats(-8, 8, width=32)
wild = st.floats(-1e9, 1e9, width=32)  # cancellation, subnormals, wide ranges


@st.composite
def problems(draw: st.DrawFn) -> dict[str, object]:
    m, n = draw(st.integers(1, 120)), draw(st.integers(0, 12))
    d, k = draw(st.integers(0, 6)), draw(st.integers(1, 130))
    values = draw(st.sampled_from([coarse, fine, wild]))
    few = draw(st.integers(1, 8))

    def rows(count: int, width: int) -> F32:
        pool = [draw(st.lists(values, min_size=width, max_size=width)) for _ in range(few)]
        chosen = draw(st.lists(st.integers(0, few - 1), min_size=count, max_size=count))
        return np.array([pool[i] for i in chosen], np.float32).reshape(count, width)

    item = st.integers(0, m - 1)
    return {
        "items": rows(m, d),
        "item_biases": rows(m, 1)[:, 0],
        "users": rows(n, d),
        "user_biases": rows(n, 1)[:, 0],
        "k": k,
        "seen": [draw(st.lists(item, max_size=m)) for _ in range(n)],
        "allowed": draw(st.none() | st.sets(item)),
    }


@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_lists_equal_a_full_stable_sort(problem: dict[str, object]) -> None:
    check(**problem)  # type: ignore[arg-type]


@pytest.mark.parametrize("packing", [False, True])
@settings(max_examples=75, deadline=None)
@given(problem=problems())
def test_lists_equal_a_full_stable_sort_when_the_catalogue_has_many_blocks(
    packing: bool, problem: dict[str, object]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LANES": 8, "STEPS": 2, "HELD": 1, "PACK_WIDTH": 1}.items():
            patch.setattr(nominate, name, value)
        patch.setattr(nominate, "PACK_START", 2.0 if packing else -1.0)
        patch.setattr(nominate, "PACK_STOP", 2.0)
        patch.setattr(topk, "BATCH", 5)
        check(**problem)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [1, 10, 100])
def test_both_paths_equal_a_full_sort_on_thousands_of_items(path: str, k: int) -> None:
    items, item_biases, users, user_biases = model(1, 37, 14_321, 64)
    rng = np.random.default_rng(2)
    seen = [rng.integers(0, len(items), 150).tolist() for _ in users]
    check(items, item_biases, users, user_biases, k, seen)


def test_both_paths_leave_out_seen_items_that_would_have_come_first(path: str) -> None:
    items, item_biases, users, user_biases = model(3, 20, 12_000, 64)
    first = check(items, item_biases, users, user_biases, 300)
    seen = [first.items[a:b].tolist() for a, b in pairwise(first.indptr)]
    check(items, item_biases, users, user_biases, 10, seen)


def test_both_paths_equal_a_full_sort_in_small_blocks(small_blocks: None, path: str) -> None:
    items, item_biases, users, user_biases = model(4, 23, 500, 7)
    rng = np.random.default_rng(5)
    seen = [rng.integers(0, 500, 30).tolist() for _ in users]
    for k in (1, 5, 12):
        check(items, item_biases, users, user_biases, k, seen)


def test_places_behind_the_last_item_are_not_listed_where_all_scores_are_negative(
    small_blocks: None, path: str
) -> None:
    items, item_biases, users, user_biases = (abs(a) for a in model(5, 9, 155, 4))
    check(-items, -item_biases, users, -user_biases, 5)


def test_packing_starts_by_itself_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = []
    original = nominate._Scan._scan_packed

    def spy(self: nominate._Scan, *args: object) -> None:
        blocks.append(args)
        original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(nominate._Scan, "_scan_packed", spy)
    items, item_biases, users, user_biases = model(6, 16, 30_000, 64)
    items[8000:] *= 0.5  # a head that wins and a long tail
    check(items, item_biases, users, user_biases, 5)
    assert blocks


@pytest.mark.parametrize("d", [3, 64])
def test_thousands_of_equal_items_give_the_smallest_rows(d: int) -> None:
    items, item_biases, users, user_biases = model(7, 9, 20_000, d)
    items[500:19_000] = items[500]
    item_biases[500:19_000] = 50.0
    found = check(items, item_biases, users, user_biases, 8)
    assert found.items[:8].tolist() == list(range(500, 508))


def test_zero_users_with_equal_biases_get_the_smallest_unseen_rows() -> None:
    items = normal(np.random.default_rng(8), 20_000, 4)
    users, zero = np.zeros((6, 4), np.float32), np.zeros(6, np.float32)
    seen = [[0, 2], [], [1, 1, 0], [5], [19_999], list(range(20_000))]
    found = check(items, np.full(20_000, -0.25, np.float32), users, zero, 4, seen)
    assert found.items[:12].tolist() == [1, 3, 4, 5, 0, 1, 2, 3, 2, 3, 4, 5]
    assert found.indptr[-1] == found.indptr[-2]


def test_a_flood_of_ties_does_not_need_memory_for_all_pairs_at_once() -> None:
    items = ItemMatrix(np.ones((30_000, 8), np.float32), np.zeros(30_000, np.float32))
    users = np.ones((128, 8), np.float32)
    tracemalloc.start()
    found = top_k(items, users, np.zeros(128, np.float32), 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.items.tolist() == list(range(10)) * 128
    assert peak < 64e6  # all pairs would be 128 * 30,000 * 20 bytes = 77 MB, and more while sorted


def test_scores_that_differ_only_after_rounding_to_float32_are_ties() -> None:
    items = np.array([[1e-9], [3e-9], [2e-9], [-1e-9]], np.float32)
    found = check(
        items, np.zeros(4, np.float32), np.ones((1, 1), np.float32), np.ones(1, np.float32), 3
    )
    assert found.items.tolist() == [0, 1, 2]


def test_scores_are_summed_in_the_documented_order_and_no_other() -> None:
    """Terms of 1e20 swallow a 1 that is added to them: each other order gives another number."""
    big = 1e20
    items = np.array([[big, -big, 1], [big, 1, -big], [1, big, -big], [big, 0, 0]], np.float32)
    one = np.ones((1, 3), np.float32)
    zeros = np.zeros(4, np.float32)
    found = top_k(ItemMatrix(items, zeros), one, zeros[:1], 4)
    assert dict(zip(found.items.tolist(), found.scores.tolist(), strict=True)) == {
        0: 1.0,
        1: 0.0,
        2: 0.0,
        3: float(np.float32(big)),
    }
    biases = np.array([0, 0, 0, 1], np.float32)
    found = top_k(ItemMatrix(items, biases), one, np.array([-big], np.float32), 1)
    assert (found.items.tolist(), found.scores.tolist()) == ([3], [1.0])


def test_a_negative_zero_ties_with_zero() -> None:
    items = np.array([[1e-30], [0], [2e-30]], np.float32)
    zeros = np.zeros(3, np.float32)
    found = check(items, zeros, np.array([[-1e-30]], np.float32), zeros[:1], 3)
    assert np.signbit(found.scores).tolist() == [True, False, True]
    assert found.items.tolist() == [0, 1, 2]


def test_a_large_user_bias_makes_ties_and_they_go_to_the_smallest_rows() -> None:
    items, item_biases, users, _ = model(9, 5, 9_000, 5)
    found = check(items, item_biases, users, np.full(5, 3e7, np.float32), 6)
    assert len(set(found.scores[:6].tolist())) < 6


def test_the_float32_product_alone_would_rank_wrongly_here(path: str) -> None:
    """Scores a few float32 units apart, with large terms that cancel: only rescoring is right."""
    rng = np.random.default_rng(10)
    items = np.tile(normal(rng, 1, 64), (16_000, 1))
    items[:, 1] = -items[:, 0]
    items[:, :2] *= 300
    items[:, 2] += (rng.permutation(16_000) * 2.0**-21).astype(np.float32)
    users = np.ones((3, 64), np.float32)
    check(items, np.zeros(16_000, np.float32), users, np.zeros(3, np.float32), 20)


def test_k_larger_than_the_catalogue_ranks_every_item() -> None:
    items, item_biases, users, user_biases = model(11, 4, 30, 3)
    found = check(items, item_biases, users, user_biases, 1000, [[3], [], [4, 4], [0]])
    assert np.diff(found.indptr).tolist() == [29, 30, 29, 29]


def test_k_a_large_part_of_many_blocks_ranks_exactly(small_blocks: None) -> None:
    items, item_biases, users, user_biases = model(12, 6, 500, 3)
    for k in (40, 100, 150, 499):
        check(items, item_biases, users, user_biases, k, [[k]] * 6)


def test_a_user_who_has_seen_everything_gets_an_empty_list_and_the_others_theirs() -> None:
    items, item_biases, users, user_biases = model(13, 3, 5_000, 3)
    found = check(items, item_biases, users, user_biases, 2, [[], list(range(5_000)), [9]])
    assert np.diff(found.indptr).tolist() == [2, 0, 2]


def test_a_user_with_three_items_left_gets_three() -> None:
    items, item_biases, users, user_biases = model(14, 2, 5_000, 3)
    left = {17, 2_500, 4_999}
    gone = [i for i in range(5_000) if i not in left]
    found = check(items, item_biases, users, user_biases, 10, [gone, []])
    assert set(found.items[:3].tolist()) == left
    assert found.indptr.tolist() == [0, 3, 13]


def test_one_item_and_one_user() -> None:
    one = np.ones((1, 1), np.float32)
    found = check(one, one[0], one, one[0], 10)
    assert (found.items.tolist(), found.scores.tolist()) == ([0], [3.0])


def test_no_users_give_no_lists() -> None:
    items, item_biases, users, user_biases = model(15, 0, 10, 3)
    found = check(items, item_biases, users, user_biases, 10, [])
    assert found.indptr.tolist() == [0]


def test_no_allowed_items_give_empty_lists() -> None:
    items, item_biases, users, user_biases = model(16, 3, 10, 3)
    found = check(items, item_biases, users, user_biases, 10, [[1], [], [2]], set())
    assert found.indptr.tolist() == [0, 0, 0, 0]


def test_no_items_at_all_give_empty_lists() -> None:
    items, item_biases, users, user_biases = model(17, 3, 0, 3)
    assert check(items, item_biases, users, user_biases, 10).indptr.tolist() == [0, 0, 0, 0]


def test_a_model_of_biases_alone_ranks_by_them() -> None:
    items, item_biases, users, user_biases = model(18, 3, 3_000, 0)
    check(items, item_biases, users, user_biases, 10)


def test_items_that_are_not_allowed_never_appear_and_may_stand_in_seen_lists() -> None:
    items, item_biases, users, user_biases = model(19, 5, 6_000, 4)
    allowed = set(range(0, 6_000, 7))
    found = check(items, item_biases, users, user_biases, 30, [[0, 1, 2, 7]] * 5, allowed)
    assert set(found.items.tolist()) <= allowed - {0, 7}


def test_seen_lists_may_be_unsorted_and_repeat_themselves() -> None:
    items, item_biases, users, user_biases = model(20, 2, 4_000, 4)
    tidy = check(items, item_biases, users, user_biases, 10, [[5, 70, 300], [1]])
    untidy = check(items, item_biases, users, user_biases, 10, [[300, 5, 70, 5, 5], [1, 1]])
    assert_same(untidy, tidy)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=8), packing=st.booleans())
def test_any_split_of_the_users_gives_the_same_bits(cuts: list[int], packing: bool) -> None:
    items, item_biases, users, user_biases = model(21, 40, 7_000, 50)
    rng = np.random.default_rng(22)
    seen = [rng.integers(0, 7_000, rng.integers(0, 90)).tolist() for _ in users]
    users[::7] = 0  # a few of the easy ways to be different
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nominate, "PACK_START", 2.0 if packing else -1.0)
        patch.setattr(nominate, "HELD", 1)
        matrix = ItemMatrix(items, item_biases)
        whole = top_k(matrix, users, user_biases, 10, *ragged(seen))
        edges = [0, *sorted(cuts), 40]
        parts = [
            top_k(matrix, users[a:b], user_biases[a:b], 10, *ragged(seen[a:b]))
            for a, b in pairwise(edges)
        ]
    joined = Ranked(
        np.cumsum(np.concatenate([[0], *(np.diff(p.indptr) for p in parts)])),
        np.concatenate([p.items for p in parts]),
        np.concatenate([p.scores for p in parts]),
    )
    assert_same(joined, whole)


@pytest.mark.parametrize("size", [1, 3, 17, 256])
def test_any_batch_size_inside_gives_the_same_bits(
    size: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, item_biases, users, user_biases = model(23, 40, 12_000, 50)
    monkeypatch.setattr(topk, "BATCH", size)
    check(items, item_biases, users, user_biases, 10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_user_that_is_not_finite_is_an_error_that_names_the_row(value: float) -> None:
    items, item_biases, users, user_biases = model(24, 700, 50, 4)
    matrix = ItemMatrix(items, item_biases)
    users[613, 2] = value
    with pytest.raises(KernelError, match="user at row 613") as error:
        top_k(matrix, users, user_biases, 10)
    assert error.value.row == 613
    users[613, 2] = 0
    user_biases[41] = value
    with pytest.raises(KernelError, match="user at row 41") as error:
        top_k(matrix, users, user_biases, 10)
    assert error.value.row == 41


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_item_that_is_not_finite_is_an_error_at_construction(value: float) -> None:
    items, item_biases, _, _ = model(25, 0, 50, 4)
    items[7, 3] = value
    with pytest.raises(KernelError, match="item at row 7") as error:
        ItemMatrix(items, item_biases)
    assert error.value.row == 7


@pytest.mark.parametrize("d", [8, 64])
@pytest.mark.parametrize("norm", [1e-42, 1e-30, 1e-18, 1e15, 1e18])
def test_huge_and_tiny_norms_stay_exact(norm: float, d: int) -> None:
    items, item_biases, users, user_biases = model(26, 20, 9_000, d)
    with np.errstate(under="ignore"):
        check(
            items * np.float32(norm),
            item_biases * np.float32(norm),
            users * np.float32(norm),
            user_biases * np.float32(norm),
            10,
        )


def test_norms_whose_float32_product_overflows_stay_exact_if_the_score_does_not() -> None:
    items, item_biases, users, user_biases = model(27, 6, 4_000, 2)
    items *= np.float32(1e25)
    items[:, 1] = -items[:, 0]
    users[2] = np.float32(1e19)  # both components: the terms overflow, their sum is zero
    found = check(items, item_biases, users, user_biases, 5)
    assert np.isfinite(found.scores).all()


def test_a_score_beyond_float32_in_a_list_is_an_error_that_names_the_row() -> None:
    items, item_biases, users, user_biases = model(28, 700, 400, 2)
    users[655] = 1e30
    with pytest.raises(KernelError, match="user at row 655: a score is inf") as error:
        top_k(ItemMatrix(items * np.float32(1e30), item_biases), users, user_biases, 5)
    assert error.value.row == 655


def test_a_seen_row_out_of_range_is_an_error_that_names_the_user() -> None:
    items, item_biases, users, user_biases = model(29, 3, 50, 4)
    for row in (-1, 50):
        with pytest.raises(KernelError, match=f"user at row 1: seen item {row}") as error:
            top_k(
                ItemMatrix(items, item_biases), users, user_biases, 5, *ragged([[1], [0, row], []])
            )
        assert error.value.row == 1


@pytest.mark.parametrize("indptr", [[0, 1, 1], [0, 2, 1, 2], [1, 1, 1, 2], [0, 1, 1, 1]])
def test_a_seen_indptr_that_does_not_fit_is_an_error(indptr: list[int]) -> None:
    items, item_biases, users, user_biases = model(30, 3, 50, 4)
    with pytest.raises(KernelError, match="seen_indptr"):
        top_k(
            ItemMatrix(items, item_biases),
            users,
            user_biases,
            5,
            np.array(indptr, np.int64),
            np.array([1, 2], np.int32),
        )


def test_wrong_shapes_types_and_k_are_errors() -> None:
    items, item_biases, users, user_biases = model(31, 3, 50, 4)
    matrix = ItemMatrix(items, item_biases)
    seen = ragged([[1], [2], []])
    for message, call in {
        "not of one model": lambda: top_k(matrix, users[:, :2], user_biases, 5),
        "user biases": lambda: top_k(matrix, users, user_biases[:2], 5),
        "expected float32": lambda: top_k(matrix, users.astype(np.float64), user_biases, 5),  # type: ignore[arg-type]
        "k is 0": lambda: top_k(matrix, users, user_biases, 0),
        "belong together": lambda: top_k(matrix, users, user_biases, 5, seen[0]),
        "expected integer": lambda: top_k(matrix, users, user_biases, 5, seen[0], seen[1] * 1.0),  # type: ignore[arg-type]
        "item biases": lambda: ItemMatrix(items, item_biases[1:]),
        "allowed": lambda: ItemMatrix(items, item_biases, allowed=np.ones(3, np.bool_)),
    }.items():
        with pytest.raises(KernelError, match=message):
            call()


def test_inputs_are_not_changed_and_later_changes_to_them_have_no_effect() -> None:
    items, item_biases, users, user_biases = model(32, 30, 9_000, 64)
    indptr, seen = ragged([[3, 1]] * 30)
    arrays: list[NDArray[Any]] = [items, item_biases, users, user_biases, indptr, seen]
    before = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    matrix = ItemMatrix(items, item_biases)
    first = top_k(matrix, users, user_biases, 10, indptr, seen)
    for now, copy in zip(arrays, before, strict=True):
        assert now.tobytes() == copy.tobytes()
    items.flags.writeable = True
    items[:] = 0
    assert_same(top_k(matrix, users, user_biases, 10, indptr, seen), first)


@pytest.mark.parametrize("width", [5, 64, 129])
def test_the_packed_product_is_exact_and_its_bound_holds(width: int) -> None:
    """Both halves equal integer arithmetic, and no true score is above the bound from them."""
    rng = np.random.default_rng(33)
    blocks = normal(rng, 3, 32, width) * np.exp(normal(rng, 3, 32, 1))
    users = normal(rng, 200, width)
    items, codes = packed.PackedItems.pack(blocks, first=1), packed.PackedUsers(users)
    product = np.matmul(codes.codes, items.codes[0])
    q = codes.codes.astype(np.int64)
    low = items.codes[0].astype(np.int64)
    low = (low + packed.BASE // 2) % packed.BASE - packed.BASE // 2
    high = (items.codes[0].astype(np.int64) - low) // packed.BASE
    low_product, high_product = q @ low, q @ high
    assert packed.row_norms(codes.codes).max() <= packed.USER_NORM
    assert packed.row_norms(low.T).max() <= packed.LOW_NORM
    assert packed.row_norms(high.T).max() <= packed.HIGH_NORM
    assert abs(low_product).max() < packed.BASE // 2
    assert (product == low_product + packed.BASE * high_product).all()

    truth = np.einsum("uj,bij->bui", users.astype(np.float64), blocks.astype(np.float64))
    for b, integer in ((1, low_product), (2, high_product)):
        bound = codes.scale[:, None] * items.scale[b] * integer + items.slack(codes, b)[:, None]
        assert (truth[b] <= bound).all()
        floor = np.sort(truth[b], axis=None)[-400:-200].astype(np.float32)
        least = items.least(codes, floor, b)
        reaches = truth[b] >= floor[:, None]
        assert reaches.any()
        assert (integer >= least[:, None])[reaches].all()
        if b == 1:
            bits, least_bits = packed.low_half(product, least, np.empty_like(product))
            passing = bits >= least_bits[:, None]
        else:
            numbers, least_numbers = packed.high_half(product, least)
            passing = numbers >= least_numbers[:, None]
        assert (passing == (integer >= least[:, None])).all()


def test_the_packed_bound_holds_where_items_point_along_the_rounding_error_of_the_user() -> None:
    users = normal(np.random.default_rng(34), 32, 64)
    codes = packed.PackedUsers(users)
    error = users - codes.scale[:, None] * codes.codes
    along = (error / packed.row_norms(error)[:, None]).astype(np.float32)
    assert_bound(users, np.stack([along, along]))


def test_the_packed_bound_holds_where_users_point_along_the_rounding_error_of_an_item() -> None:
    blocks = normal(np.random.default_rng(35), 2, 32, 64)
    for b, limit in enumerate((packed.LOW_NORM, packed.HIGH_NORM)):
        scale = packed.row_norms(blocks[b]).max() / packed._radius(limit, 64)
        error = blocks[b] - scale * np.rint(blocks[b] / scale)
        assert_bound(error.astype(np.float32), blocks)


def assert_bound(users: F32, blocks: F32) -> None:
    """No score above integer product plus slack, for the low and the high half."""
    codes, items = packed.PackedUsers(users), packed.PackedItems.pack(blocks, first=0)
    product = np.matmul(codes.codes, items.codes[0]).astype(np.int64)
    low = (product + packed.BASE // 2) % packed.BASE - packed.BASE // 2
    for b, integer in enumerate((low, (product - low) // packed.BASE)):
        bound = codes.scale[:, None] * items.scale[b] * integer + items.slack(codes, b)[:, None]
        assert (users.astype(np.float64) @ blocks[b].T.astype(np.float64) <= bound).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e3, 1e15]))
def test_the_margin_covers_the_float32_product_in_any_order(seed: int, scale: float) -> None:
    """|product - score| stays within half the margin, for BLAS and for a reversed float32 sum."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 200))
    x = normal(rng, 4, d) * np.float32(scale)
    y = normal(rng, 50, d) * np.exp(3 * normal(rng, 50, d)) / np.float32(scale)
    exact = x.astype(np.float64) @ y.T.astype(np.float64)
    norms = packed.row_norms(x)
    margin = margins.error_margin(d, norms, np.zeros(4), float(packed.row_norms(y).max()))
    backwards = np.zeros((4, 50), np.float32)
    for j in reversed(range(d)):
        backwards += x[:, j, None] * y[:, j]
    for product in (x @ y.T, backwards):
        assert (abs(product - exact) <= margin[:, None] / 2).all()
