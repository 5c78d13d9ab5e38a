"""A second view that a refresh learns again, by hand: no Spark."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from recsys.columns import IdTypes
from recsys.kernel.fold_in import fold_in, plain_mean
from recsys.learn import second_view
from recsys.learn.assembly import Recipe, assemble
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import Described, Feature
from recsys.learn.matrices import Interactions
from recsys.learn.second_view import Second
from recsys.learn.side_by_side import spread
from recsys.model.arrays import FeatureVectors, Vectors
from recsys.model.features_report import DescribedCounts
from recsys.model.refreshed import BaseModel, Refreshed
from recsys.model.second_view_again import Before, share_of_older

LIKED, WIDTH, FACTORS = 11, 3, 5
SECONDS = [Second("ease", FACTORS, 0.4, 2.0), Second("als", FACTORS, 0.4)]
each_kind = pytest.mark.parametrize("second", SECONDS, ids=lambda one: one.kind)


def likes(*, more: bool = False, cold: int = 1) -> sp.csr_matrix:
    """Pairs of 40 users and 11 items, and items that nobody likes."""
    dense = np.random.default_rng(3).random((40, LIKED)) < 0.3
    dense[np.arange(40), np.arange(40) % LIKED] = True
    if more:
        dense[:20, 2] = True
    return sp.csr_matrix(np.hstack([dense, np.zeros((40, cold))]).astype(np.float32))


def as_liked(matrix: sp.csr_matrix) -> Interactions:
    n_users, n_items = matrix.shape
    users, items = ([f"{n:02}" for n in range(size)] for size in (n_users, n_items))
    return Interactions(pa.array(users), pa.array(items), sp.coo_matrix(matrix), None)


def model(second: Second, cold: int = 1, **more: object) -> BaseModel:
    """A model that has learned from `likes()`, with long items that nobody likes."""
    rng = np.random.default_rng(5)
    trained = Embeddings(
        rng.normal(size=(40, WIDTH)).astype(np.float32),
        np.zeros(40, np.float32),
        rng.normal(size=(LIKED, WIDTH)).astype(np.float32),
        rng.normal(size=LIKED).astype(np.float32),
    )
    made = assemble([trained], likes(cold=0), Recipe(second=second), seed=1)
    view, learned = made.second, made.embeddings
    assert view is not None
    others = np.full((cold, WIDTH + FACTORS), 9, np.float32)
    history = view.history
    if history is not None:
        history = np.vstack([history, np.zeros((cold, FACTORS), np.float32)])
    items = Vectors(
        as_liked(likes(cold=cold)).item_ids,
        np.vstack([learned.item_embeddings, others]),
        np.concatenate([learned.item_biases, np.zeros(cold, np.float32)]),
        np.arange(LIKED + cold) < LIKED,
        np.bincount(likes().indices, minlength=LIKED + cold).astype(np.int32),
        history,
    )
    view = view if history is None else replace(view, history=history)
    before = Before(second, 1, 2**30)
    types = IdTypes("string", "string")
    fitted = replace(plain_mean(WIDTH), second=view)
    return BaseModel(items, fitted, types, 0.0, second=before, **more)  # type: ignore[arg-type]


def about(**weights: float) -> DescribedCounts:
    return DescribedCounts(
        way="mapped",
        inside=[],
        features=2,
        untrained_features=0,
        identity=False,
        identities=0,
        cold=0,
        undescribed=0,
        weights=weights,
        edges={},
        normalised=True,
        explained=None,
    )


def known_features() -> FeatureVectors:
    """Features `x` and `y` of a group, and `z`, which nobody has today; all as they were."""
    return FeatureVectors(
        ["kind=x", "kind=y", "kind=z"],
        ["kind"] * 3,
        ["x", "y", "z"],
        [6, 6, 1],
        np.full((3, WIDTH + FACTORS), 7, np.float32),
        np.zeros(3, np.float32),
        about(kind=1.0).model_copy(update={"features": 3}),
    )


def described(ids: pa.Array) -> Described:
    """Every other id is `x`, and the rest `y`."""
    rows = np.eye(2, dtype=np.float32)[np.arange(len(ids)) % 2]
    told = [Feature("kind", "x", "x", 6), Feature("kind", "y", "y", 6)]
    return Described(ids, told, sp.csr_matrix(rows))


@each_kind
def test_the_same_pairs_give_the_same_bits(second: Second) -> None:
    base = model(second)
    found = Refreshed.of(base, as_liked(likes()))
    assert found.second_view_share == pytest.approx(0.4)
    items = found.learned.items.embeddings
    assert np.array_equal(items[:LIKED], base.items.embeddings[:LIKED])
    assert np.array_equal(items[LIKED:, :WIDTH], base.items.embeddings[LIKED:, :WIDTH])
    assert (items[LIKED:, WIDTH:] == 0).all()  # nobody likes it, and nothing describes it


@each_kind
def test_items_that_nobody_likes_change_nothing_for_others(second: Second) -> None:
    few, many = (
        Refreshed.of(model(second, cold), as_liked(likes(more=True, cold=cold))).learned
        for cold in (1, 30)
    )
    assert np.array_equal(few.items.embeddings[:LIKED], many.items.embeddings[:LIKED])
    assert np.array_equal(few.users.embeddings, many.users.embeddings)


@each_kind
def test_new_pairs_are_in_the_second_view_and_lightfm_counts_for_less(second: Second) -> None:
    base, after = model(second), likes(more=True)
    found = Refreshed.of(base, as_liked(after))
    items, users = found.learned.items, found.learned.users.embeddings
    assert np.array_equal(items.embeddings[:, :WIDTH], base.items.embeddings[:, :WIDTH])
    vectors, biases = items.embeddings[:LIKED], items.biases[:LIKED]
    factors = second_view.learn(after[:, :LIKED], second, seed=1)
    wanted, made = factors.users @ factors.items.T, users[:, WIDTH:] @ vectors[:, WIDTH:].T
    np.testing.assert_allclose(made / made.std(), wanted / wanted.std(), rtol=1e-3, atol=1e-4)
    # How much each part counts is in the spread of its scores.
    first, other = (
        spread(users[:, part], np.ascontiguousarray(vectors[:, part]), added, likes=after, seed=1)
        for part, added in ((slice(WIDTH), biases), (slice(WIDTH, None), None))
    )
    before, counts = (np.bincount(one.indices, minlength=LIKED) for one in (likes(), after))
    share = share_of_older(0.4, before, counts)
    assert share < 0.35
    assert found.second_view_share == pytest.approx(share)
    assert first / (first + other) == pytest.approx(share, rel=1e-3)


@each_kind
def test_a_refreshed_user_is_to_the_bit_what_someone_new_with_the_same_items_gets(
    second: Second,
) -> None:
    after = likes(more=True)
    found = Refreshed.of(model(second), as_liked(after)).learned
    indptr, items = after.indptr.astype(np.int64), after.indices.astype(np.int32)
    again = fold_in(found.fold_in, found.items.embeddings, indptr, items)
    assert np.array_equal(again, found.users.embeddings)


@each_kind
def test_features_make_the_factors_of_items_that_nobody_likes_alone(second: Second) -> None:
    base = model(second, item_features=known_features())
    plain = Refreshed.of(model(second), as_liked(likes(more=True))).learned.items
    found = Refreshed.of(base, as_liked(likes(more=True)), described(base.items.ids))
    items, features = found.learned.items.embeddings, found.learned.item_features
    assert np.array_equal(items[:LIKED], plain.embeddings[:LIKED])
    assert features is not None
    assert (features.embeddings[:, :WIDTH] == 7).all()
    own = features.embeddings[:, WIDTH:]
    assert np.array_equal(items[LIKED, WIDTH:], own[LIKED % 2])
    means = np.array([items[:LIKED][kind::2, WIDTH:].mean(axis=0) for kind in (0, 1)])
    mean = items[:LIKED, WIDTH:].mean(axis=0)
    for kind in (0, 1):  # between the mean of all and that of its own
        across = (own[kind] - mean) @ (means[kind] - mean) / np.sum((means[kind] - mean) ** 2)
        assert 0 < across < 1.2
    np.testing.assert_allclose(own[2], mean, atol=0.3 * np.abs(items[:LIKED, WIDTH:]).max())


def test_features_of_users_have_new_factors_too() -> None:
    base = model(SECONDS[1], user_features=known_features())
    liked = as_liked(likes(more=True))
    found = Refreshed.of(base, liked, None, described(liked.user_ids)).learned
    features = found.user_features
    assert features is not None
    assert (features.embeddings[:, :WIDTH] == 7).all()
    largest = np.abs(found.users.embeddings[:, WIDTH:]).max()
    assert 0 < np.abs(features.embeddings[:, WIDTH:]).max() <= largest


def test_a_second_view_stays_where_too_few_users_are_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    base, few = model(SECONDS[0]), as_liked(likes()[:3])
    found = Refreshed.of(base, few)
    assert found.second_view_share is None
    assert np.array_equal(found.learned.items.embeddings, base.items.embeddings)
    assert "the second view stays as it is: today's pairs give 3 factors" in caplog.text


def test_lightfm_counts_for_less_where_pairs_are_new_to_it() -> None:
    before = np.array([10, 20, 0])
    assert share_of_older(0.5, before, before) == pytest.approx(0.5)
    assert share_of_older(0.5, before, np.array([5, 20, 0])) == pytest.approx(0.5)  # gone, not new
    # A tenth of 50 pairs is new: odds of 1 become .9 ** 7.
    fewer = share_of_older(0.5, np.array([20, 25, 0]), np.array([20, 29, 1]))
    assert fewer == pytest.approx(0.9**7 / (1 + 0.9**7))
    all_new = share_of_older(0.8, np.zeros(3), before)
    assert all_new == pytest.approx(4 * 0.9**7 / (1 + 4 * 0.9**7))  # no further than was measured
