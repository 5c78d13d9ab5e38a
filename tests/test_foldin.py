import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.kernel.fold_in import FEATURES_COUNT, FoldIn, fold_in, plain_mean, with_features
from recsys.kernel.topk import KernelError
from recsys.learn.fold_in_candidates import Regression
from recsys.learn.fold_in_map import fit

ITEMS = np.array([[1, 0], [0, 1], [3, 4], [-1, 2]], np.float32)
Histories = list[list[int]]


def lay(histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    indptr = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    return indptr, np.array([item for history in histories for item in history], np.int32)


def fold(
    fitted: FoldIn,
    histories: Histories,
    weights: list[float] | None = None,
    items: NDArray[np.float32] = ITEMS,
) -> NDArray[np.float32]:
    given_weights = None if weights is None else np.array(weights, np.float32)
    return fold_in(fitted, items, *lay(histories), given_weights)


def some_map(width: int, seed: int = 0) -> FoldIn:
    rng = np.random.default_rng(seed)
    return FoldIn(
        "ridge",
        rng.normal(size=(width, width)).astype(np.float32),
        rng.normal(size=width).astype(np.float32),
        0.7,
        1.5,
    )


# The kernel: known answers.


def test_the_plain_map_gives_the_mean_embedding() -> None:
    assert fold(plain_mean(2), [[0, 1], [2]]).tolist() == [[0.5, 0.5], [3, 4]]


def test_matrix_intercept_and_shrinkage_are_applied_as_written() -> None:
    matrix = np.array([[0, 2], [1, 0]], np.float32)
    fitted = FoldIn("ridge", matrix, np.array([10, 20], np.float32), 1.0, 2.0)
    # The mean (2, 2) times the matrix is (2, 4); two items of four counted halve it.
    assert fold(fitted, [[0, 2]]).tolist() == [[11, 22]]


def test_weights_change_the_mean_and_the_number_of_items_that_shrinkage_counts() -> None:
    plain = replace(plain_mean(2), shrinkage=1.6)
    # Weights 3 and 1 stand for 16 / 10 items: 1.6 / (1.6 + 1.6) of the mean (0.75, 0.25).
    assert fold(plain, [[0, 1]], [3, 1]).tolist() == [[0.375, 0.125]]


def test_an_item_given_twice_counts_twice() -> None:
    twice = fold(plain_mean(2), [[0, 0, 1, 1, 0, 1, 0, 1]])
    assert twice.tolist() == [[0.5, 0.5]]
    assert fold(plain_mean(2), [[2, 2, 2, 1]]).tolist() == [[2.25, 3.25]]
    assert fold(plain_mean(2), [[2, 1]], [3, 1]).tolist() == [[2.25, 3.25]]


def test_features_count_as_some_items_and_less_beside_more_items() -> None:
    indptr = np.array([0, 1, 4, 6], np.int64)
    weights = np.array([7, 1, 1, 1, 1, 3], np.float32)
    vectors = np.zeros((3, 2), np.float32)
    features = np.array([[4, 8], [4, 8], [4, 8]], np.float32)
    found = with_features(vectors, features, indptr, weights)
    # One item, three, and two of which one has most of the weight: 4² / (1 + 9) = 1.6.
    shares = FEATURES_COUNT / (FEATURES_COUNT + np.array([1, 3, 1.6]))
    np.testing.assert_allclose(found, features * shares[:, None], rtol=1e-6)
    alone = with_features(vectors[1:2], features[1:2], np.array([0, 3]), weights[1:4])
    assert np.array_equal(alone, found[1:2])


@pytest.mark.parametrize("shrinkage", [0.0, 2.0])
def test_a_user_without_items_gets_the_intercept(shrinkage: float) -> None:
    fitted = replace(some_map(2), shrinkage=shrinkage)
    empty, other = fold(fitted, [[], [1]])
    assert empty.tobytes() == fitted.intercept.tobytes()
    assert not np.array_equal(other, empty)
    assert fold(fitted, []).shape == (0, 2)


# The kernel: properties.


@st.composite
def batches(draw: st.DrawFn) -> tuple[NDArray[np.float32], Histories, int]:
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    width = draw(st.sampled_from([1, 3, 17]))
    # Magnitudes far apart, so that another order of summation shows.
    items = rng.normal(size=(40, width)) * 10.0 ** rng.integers(-6, 7, size=(40, 1))
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=12))
    histories = [rng.integers(0, 40, length).tolist() for length in lengths]
    return items.astype(np.float32), histories, seed


@given(batches())
@settings(max_examples=60, deadline=None)
def test_a_user_has_the_same_bits_in_any_batch_and_with_items_in_any_order(
    batch: tuple[NDArray[np.float32], Histories, int],
) -> None:
    items, histories, seed = batch
    fitted = some_map(items.shape[1])
    rng = np.random.default_rng(seed)
    together = fold(fitted, histories, items=items)
    for user, history in enumerate(histories):
        weights = rng.uniform(0.1, 9, len(history)).tolist()
        assert fold(fitted, [history], items=items).tobytes() == together[user].tobytes()
        order = rng.permutation(len(history))
        shuffled = [history[place] for place in order]
        assert fold(fitted, [shuffled], items=items).tobytes() == together[user].tobytes()
        weighted = fold(fitted, [history], weights, items)
        again = fold(fitted, [shuffled], [weights[place] for place in order], items)
        assert again.tobytes() == weighted.tobytes()


def test_items_that_cancel_give_the_same_bits_in_any_order() -> None:
    # In float64, (1e17 + 1) - 1e17 is 0 and (1e17 - 1e17) + 1 is 1.
    items = np.array([[1e17], [1], [-1e17]], np.float32)
    orders = [[0, 1, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1]]
    assert len({row.tobytes() for row in fold(plain_mean(1), orders, items=items)}) == 1
    # And 1 + 1e-16 + 1e-16 is 1, but 1e-16 + 1e-16 + 1 is not.
    items, weights = np.array([[1], [-1]], np.float32), [1, 1e-16, 1e-16, 1]
    one = fold(plain_mean(1), [[0, 0, 0, 1]], weights, items)
    assert fold(plain_mean(1), [[1, 0, 0, 0]], weights[::-1], items).tobytes() == one.tobytes()


def test_a_user_has_the_same_bits_on_both_sides_of_an_internal_batch() -> None:
    rng = np.random.default_rng(3)
    items = rng.normal(size=(500, 32)).astype(np.float32)
    histories = [rng.integers(0, 500, rng.integers(0, 30)).tolist() for _ in range(2500)]
    fitted = some_map(32)
    together = fold(fitted, histories, items=items)
    for size in (1, 7, 256, 1023):
        for start in (0, 1020, 1024, 2047, 2499):
            part = fold(fitted, histories[start : start + size], items=items)
            assert part.tobytes() == together[start : start + size].tobytes()


@given(batches(), st.sampled_from([1.0, 0.25, 3e38, 1e-30]))
@settings(max_examples=40, deadline=None)
def test_equal_weights_give_the_same_bits_as_none(
    batch: tuple[NDArray[np.float32], Histories, int], weight: float
) -> None:
    items, histories, _ = batch
    fitted = some_map(items.shape[1])
    weights = [weight] * sum(map(len, histories))
    weighted = fold(fitted, histories, weights, items)
    assert weighted.tobytes() == fold(fitted, histories, items=items).tobytes()


def test_equal_weights_give_the_same_bits_as_none_even_if_items_nearly_cancel() -> None:
    items = np.array([[1e12, 7], [1, 3], [-1e12, 5]], np.float32)
    history = [[0, 1, 2]]
    weighted = fold(plain_mean(2), history, [0.1] * 3, items)
    assert weighted.tobytes() == fold(plain_mean(2), history, items=items).tobytes()


# The kernel: what it refuses.


@pytest.mark.parametrize(
    ("histories", "weights", "message"),
    [
        ([[0], [4]], None, "items from 0 to 3, found 4"),
        ([[0], [-1]], None, "items from 0 to 3, found -1"),
        ([[0], [1]], [1, 0], "positive, finite weights, found 0"),
        ([[0], [1]], [1, np.nan], "positive, finite weights, found nan"),
    ],
)
def test_an_error_about_an_entry_names_the_user(
    histories: Histories, weights: list[float] | None, message: str
) -> None:
    with pytest.raises(KernelError, match=message) as caught:
        fold(plain_mean(2), histories, weights)
    assert caught.value.row == 1


def test_an_error_about_a_vector_that_is_not_finite_names_the_user() -> None:
    items = np.array([[1, 1], [np.nan, 1]], np.float32)
    with pytest.raises(KernelError, match="finite") as caught:
        fold(plain_mean(2), [[0], [0], [0, 1]], items=items)
    assert caught.value.row == 2


def test_shapes_that_do_not_fit_are_refused() -> None:
    one = np.zeros(1, np.int32)
    with pytest.raises(KernelError, match=r"\(n_items, 3\), found \(4, 2\)"):
        fold_in(plain_mean(3), ITEMS, np.array([0, 1]), one)
    with pytest.raises(KernelError, match="expected 2 items"):
        fold_in(plain_mean(2), ITEMS, np.array([0, 2]), one)
    with pytest.raises(KernelError, match="never falls"):
        fold_in(plain_mean(2), ITEMS, np.array([0, 2, 1]), one)
    with pytest.raises(KernelError, match="matrix of shape"):
        FoldIn("ridge", np.eye(2, dtype=np.float32), np.zeros(3, np.float32), 1.0, 0.0)
    with pytest.raises(KernelError, match="shrinkage"):
        replace(plain_mean(2), shrinkage=-1.0)


# The choice of a map.


def world(
    seed: int = 0,
    *,
    spread: list[float],
    n_users: int = 600,
    n_items: int = 300,
    length: int = 12,
) -> dict[str, Any]:
    """Each user has a taste, a direction, and likes items that lie in this direction.

    `spread` is the items' standard deviation in each dimension. Tastes have the same one in all
    dimensions. A user's embedding is the taste itself.
    """
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(n_items, len(spread))) * spread
    taste = rng.normal(size=(n_users, len(spread)))
    scores = 1.5 * taste @ items.T + rng.gumbel(size=(n_users, n_items))
    liked = np.sort(np.argsort(-scores, axis=1)[:, :length], axis=1)
    return {
        "user_embeddings": taste.astype(np.float32),
        "item_embeddings": items.astype(np.float32),
        "item_biases": np.zeros(n_items, np.float32),
        "indptr": np.arange(0, n_users * length + 1, length, dtype=np.int64),
        "items": liked.astype(np.int32).ravel(),
    }


def found_of_the_other_half(fitted: FoldIn, data: dict[str, Any]) -> NDArray[np.float64]:
    """The share of the even places of each history among the best, given the odd places."""
    liked = data["items"].reshape(len(data["indptr"]) - 1, -1)
    wanted, shown = liked[:, ::2], liked[:, 1::2]
    vectors = fold(fitted, shown.tolist(), items=data["item_embeddings"])
    scores = vectors @ data["item_embeddings"].T + fitted.bias_scale * data["item_biases"]
    np.put_along_axis(scores, shown, -np.inf, axis=1)
    best = np.argsort(-scores, axis=1)[:, : wanted.shape[1]]
    shares: NDArray[np.float64] = (best[:, :, None] == wanted[:, None, :]).any(axis=2).mean(axis=1)
    return shares


def test_ridge_recovers_a_planted_matrix_and_intercept() -> None:
    rng = np.random.default_rng(0)
    matrix, intercept = rng.normal(size=(5, 5)), rng.normal(size=5)
    x, weights = rng.normal(size=(200, 5)) + 2, rng.uniform(1, 9, 200)
    regression = Regression(x, x @ matrix + intercept, weights)
    found, constant = regression.solve(0.0, True)
    np.testing.assert_allclose(found, matrix, atol=1e-8)
    np.testing.assert_allclose(constant, intercept, atol=1e-8)
    without, zero = regression.solve(0.0, False)
    assert not np.allclose(without, matrix, atol=0.1)
    assert not zero.any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_linear_map_is_chosen_if_the_mean_is_distorted_and_it_serves_new_users(seed: int) -> None:
    # Items are spread four times wider in two dimensions, so every mean is too long in these. The
    # taste is the mean with this reversed.
    spread = [4.0, 4.0, 1.0, 1.0, 1.0, 1.0]
    data = world(seed, spread=spread, n_users=1000)
    known = {
        **data,
        "user_embeddings": data["user_embeddings"][:800],
        "indptr": data["indptr"][:801],
        "items": data["items"][: 800 * 12],
    }
    fitted, report = fit(**known, seed=seed)
    assert fitted.kind in ("ridge", "whitening")
    assert report["difference"] > 2 * report["standard_error"] > 0
    mean = found_of_the_other_half(plain_mean(6), data)[800:].mean()
    assert found_of_the_other_half(fitted, data)[800:].mean() > mean * 1.1
    # The planted map gives the two wide directions less than the others.
    strengths = np.abs(np.diag(fitted.matrix))
    assert strengths[:2].max() < 0.7 * strengths[2:].min()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_mean_is_kept_if_it_is_better(seed: int) -> None:
    # The taste lies in two wide dimensions. The others are noise, which whitening would amplify.
    # The users' embeddings are random, so ridge has nothing to learn from.
    rng = np.random.default_rng(seed)
    data = world(seed, spread=[2.0, 2.0])
    noise = rng.normal(size=(300, 6)).astype(np.float32)
    data["item_embeddings"] = np.concatenate([data["item_embeddings"], noise], axis=1)
    data["user_embeddings"] = rng.normal(size=(600, 8)).astype(np.float32)
    fitted, report = fit(**data, seed=seed)
    assert report["chosen"]["kind"] == fitted.kind == "mean"
    assert np.array_equal(fitted.matrix, np.eye(8))
    assert not fitted.intercept.any()


def test_a_lead_within_the_noise_keeps_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    data = world(spread=[4.0, 4.0, 1.0, 1.0, 1.0, 1.0])
    assert fit(**data, seed=0)[0].kind != "mean"
    monkeypatch.setattr("recsys.learn.fold_in_map._CLEAR", 1e6)
    fitted, report = fit(**data, seed=0)
    assert report["chosen"]["kind"] == fitted.kind == "mean"
    assert report["best"]["kind"] != "mean"
    assert report["difference"] > 0
    assert "no candidate is clearly ahead" in report["reason"]


def test_a_map_that_ranks_the_held_out_half_first_has_an_ndcg_of_one() -> None:
    # Ten groups of six items, each liked by users of its own: with the given three left out, the
    # other three come first.
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 6)
    items = (np.eye(10)[group] + rng.normal(size=(60, 10)) * 0.001).astype(np.float32)
    belongs = np.arange(200) % 10
    _, report = fit(
        np.eye(10, dtype=np.float32)[belongs],
        items,
        np.zeros(60, np.float32),
        np.arange(0, 1201, 6, dtype=np.int64),
        np.concatenate([np.flatnonzero(group == own) for own in belongs]).astype(np.int32),
    )
    assert report["plain_ndcg"] == pytest.approx(1.0)
    assert report["held_out_users"] == 100


def test_misleading_biases_get_a_small_scale() -> None:
    data = world(spread=[1.0] * 4)
    data["item_biases"] = np.random.default_rng(5).normal(size=300).astype(np.float32) * 3
    fitted, _ = fit(**data, seed=0)
    assert fitted.bias_scale * np.sqrt((fitted.matrix**2).sum() / 4) ** -1 < 0.3


def test_the_trace_of_users_in_their_own_items_does_not_make_a_map_look_good() -> None:
    # Everybody likes items at random, so nothing can be predicted. But each item is the mean of its
    # few users, so the given half of a history points straight to the other half.
    rng = np.random.default_rng(0)
    n_users, n_items, length = 500, 1500, 8
    liked = np.sort([rng.choice(n_items, length, replace=False) for _ in range(n_users)], axis=1)
    users = rng.normal(size=(n_users, 64))
    counts = np.bincount(liked.ravel(), minlength=n_items)
    items = np.zeros((n_items, 64))
    np.add.at(items, liked.ravel(), np.repeat(users, length, axis=0))
    items /= np.maximum(counts, 1)[:, None]
    data: dict[str, Any] = {
        "user_embeddings": users.astype(np.float32),
        "item_embeddings": items.astype(np.float32),
        "item_biases": np.zeros(n_items, np.float32),
        "indptr": np.arange(0, n_users * length + 1, length, dtype=np.int64),
        "items": liked.astype(np.int32).ravel(),
    }
    assert found_of_the_other_half(plain_mean(64), data).mean() > 0.15  # if traces are not removed
    _, report = fit(**data, seed=0)
    assert max(candidate["ndcg"] for candidate in report["candidates"]) < 0.05


def test_one_seed_gives_the_same_map_and_report_twice() -> None:
    data = world(spread=[3.0, 1.0, 1.0])
    (first, report), (again, repeated), (_, other) = (fit(**data, seed=s) for s in (4, 4, 5))
    assert report == repeated != other
    assert first.matrix.tobytes() == again.matrix.tobytes()
    assert first.intercept.tobytes() == again.intercept.tobytes()
    assert json.loads(json.dumps(report)) == report


def test_with_too_few_users_the_mean_is_kept_and_the_report_says_so() -> None:
    fitted, report = fit(**world(spread=[3.0, 1.0], n_users=40), seed=0)
    assert (fitted.kind, fitted.bias_scale, fitted.shrinkage) == ("mean", 1.0, 0.0)
    assert "fewer than 30" in report["reason"]


def test_histories_of_one_item_or_none_keep_the_mean() -> None:
    data = world(spread=[3.0, 1.0], length=1)
    assert fit(**data, seed=0)[0].kind == "mean"
    nobody = {**data, "items": data["items"][:0], "indptr": np.zeros(601, np.int64)}
    assert fit(**nobody, seed=0)[0].kind == "mean"


def test_a_model_that_is_not_finite_or_does_not_fit_is_refused() -> None:
    data = world(spread=[3.0, 1.0])
    broken = data["user_embeddings"].copy()
    broken[7, 1] = np.inf
    with pytest.raises(TrainingError, match="finite"):
        fit(**{**data, "user_embeddings": broken})
    with pytest.raises(TrainingError, match=r"\(n_items,\)"):
        fit(**{**data, "item_biases": data["item_biases"][1:]})
