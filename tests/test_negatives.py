"""Unobserved items as negatives for the logistic loss, and what a model learns from them."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.learn import negatives
from recsys.learn.embeddings import Embeddings
from recsys.learn.fitting import fit
from recsys.learn.training import train
from tests.conftest import csv_input, model_folder, small_ratings
from tests.test_training import checkerboard, settings


def logistic(**more: object) -> Any:
    return settings(loss="logistic", **more)


def matrix(rows: list[list[int]], n_items: int) -> sp.coo_matrix:
    """Each user's items as a matrix of ones, sorted by user and item."""
    users = np.repeat(np.arange(len(rows)), [len(set(row)) for row in rows]).astype(np.int32)
    items = np.array([item for row in rows for item in sorted(set(row))], np.int32)
    ones = np.ones(len(users), np.float32)
    return sp.coo_matrix((ones, (users, items)), shape=(len(rows), n_items))


def drawn(found: negatives.Examples, n_positives: int) -> list[tuple[int, int]]:
    cells = zip(found.labels.row[n_positives:], found.labels.col[n_positives:], strict=True)
    return [(int(user), int(item)) for user, item in cells]


@example(rows=[[0, 1, 2, 3, 4, 5, 6, 7], [1, 6], []], per_positive=2, seed=0)
@given(
    rows=st.lists(st.lists(st.integers(0, 7), max_size=9), min_size=1, max_size=6),
    per_positive=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_each_positive_gets_its_number_of_items_that_the_user_has_no_pair_with(
    rows: list[list[int]], per_positive: int, seed: int
) -> None:
    labels = matrix(rows, 8)
    able = [user for user, row in enumerate(rows) if 0 < len(set(row)) < 8]
    weights = np.random.default_rng(seed).random(labels.nnz).astype(np.float32)
    if not able:
        with pytest.raises(TrainingError, match="every user has a pair with every item"):
            negatives.examples(labels, weights, per_positive, seed)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "_PAIRS_AT_ONCE", 7)  # so that blocks end inside of users
        found = negatives.examples(labels, weights, per_positive, seed)(1)
    n = labels.nnz
    for array, positives in ((found.labels.row, labels.row), (found.labels.col, labels.col)):
        assert array[:n].tolist() == positives.tolist()
    assert found.labels.data.tolist() == [1] * n + [-1] * (len(found.labels.data) - n)
    cells = drawn(found, n)
    assert all(item not in rows[user] and 0 <= item < 8 for user, item in cells)
    counts = np.bincount([user for user, _ in cells], minlength=len(rows))
    assert counts.tolist() == [
        len(set(row)) * per_positive if user in able else 0 for user, row in enumerate(rows)
    ]
    # Each positive's weight comes again once for each of its negatives.
    assert found.weights is not None
    assert found.weights.row.tolist() == found.labels.row.tolist()
    for user in able:
        own = weights[labels.row == user].tolist()
        again = found.weights.data[n:][found.labels.row[n:] == user].tolist()
        assert sorted(again) == sorted(own * per_positive)
    assert negatives.report(labels, logistic(negatives_per_positive=per_positive)) == {
        "in_data": 0, "drawn_per_positive": per_positive, "drawn_per_epoch": len(cells)
    }  # fmt: skip


def test_every_unobserved_item_is_drawn_equally_often() -> None:
    # Observed items at the beginning, in the middle, next to one another and at the end.
    labels = matrix([[0, 3, 4, 9], [1], [2, 5]], 10)
    found = negatives.examples(labels, None, 6000, seed=1)(1)
    counts = np.zeros((3, 10), int)
    for user, item in drawn(found, labels.nnz):
        counts[user, item] += 1
    assert counts.sum(axis=1).tolist() == [24_000, 6000, 12_000]
    for user, observed in enumerate([[0, 3, 4, 9], [1], [2, 5]]):
        others = np.delete(counts[user], observed)
        expected = counts[user].sum() / len(others)
        # Six standard deviations of a binomial count, less than one in a hundred million.
        assert np.abs(others - expected).max() < 6 * np.sqrt(expected)


def test_the_draws_depend_on_the_seed_and_the_epoch_alone() -> None:
    labels = checkerboard()

    def cells(seed: int, *epochs: int) -> NDArray[np.int32]:
        draw = negatives.examples(labels, None, 5, seed)
        for epoch in epochs:
            found = draw(epoch)
        return found.labels.col.copy()

    one = cells(1, 3)
    assert np.array_equal(one, cells(1, 1, 2, 3))
    assert not np.array_equal(one, cells(1, 4))
    assert not np.array_equal(one, cells(2, 3))


def test_a_held_out_pair_can_be_drawn_as_any_other_that_the_model_is_not_told_of() -> None:
    # The user likes all three items; item 1 is held out, so it is the only one to draw.
    part = matrix([[0, 2]], 3)
    found = negatives.examples(part, None, 2, seed=1)(1)
    assert drawn(found, 2) == [(0, 1)] * 4


def test_only_the_logistic_loss_on_data_without_negatives_draws_some() -> None:
    labels = checkerboard()
    for loss in ("warp", "bpr", "warp-kos"):
        assert negatives.drawn_per_positive(settings(loss=loss), negatives.count(labels)) == 0
        assert negatives.report(labels, settings(loss=loss)) is None
    assert negatives.drawn_per_positive(logistic(negatives_per_positive=7), 0) == 7
    labels.data[5] = -1
    assert negatives.drawn_per_positive(logistic(), negatives.count(labels)) == 0
    assert negatives.report(labels, logistic()) == {
        "in_data": 1, "drawn_per_positive": 0, "drawn_per_epoch": 0
    }  # fmt: skip
    found = negatives.examples(labels, None, 0, seed=1)
    assert found(1).labels is found(2).labels is labels


def test_drawn_negatives_do_not_multiply_the_penalty() -> None:
    # All steps shrink the embeddings. Weights of nearly 0 leave nothing but that.
    labels, tiny = checkerboard(), np.full(checkerboard().nnz, 1e-12, np.float32)

    def length(per_positive: int, epochs: int) -> float:
        given = logistic(
            negatives_per_positive=per_positive, epochs=epochs, item_alpha=1e-3, ema_decay=0
        )
        model = train(labels, given, threads=1, weights=tiny)
        return float(np.linalg.norm(model.item_embeddings))

    assert length(1, 20) < 0.8 * length(1, 1)
    assert length(9, 20) == pytest.approx(length(1, 20), rel=1e-3)


def found_of_withheld(model: Embeddings, labels: sp.coo_matrix) -> float:
    """Return how many of the withheld pairs of a checkerboard are ahead of all other unobserved."""
    scores = model.user_embeddings @ model.item_embeddings.T + model.item_biases
    scores[labels.row, labels.col] = -np.inf
    users, items = np.indices(scores.shape)
    other = np.where((users + items) % 2, scores, -np.inf).max(axis=1)
    withheld = (users + items) % 2 == 0
    withheld[labels.row, labels.col] = False
    return float((scores > other[:, None])[withheld].mean())


def test_logistic_learns_a_checkerboard_from_its_positives_alone() -> None:
    labels = checkerboard()
    model = train(labels, logistic(epochs=40), threads=1)
    assert found_of_withheld(model, labels) > 0.95
    # Negatives push the scores of the other parity below 0, where the probability is below a half.
    scores = model.user_embeddings @ model.item_embeddings.T
    scores += model.user_biases[:, None] + model.item_biases
    users, items = np.indices(scores.shape)
    assert (scores[(users + items) % 2 == 1] < 0).mean() > 0.95
    assert scores[labels.row, labels.col].mean() > 0


def test_early_stopping_averages_and_a_second_training_work_on_drawn_negatives() -> None:
    labels = checkerboard()
    stop = {"every": 1, "smoothing": 1, "patience": 15, "k": 5}
    given = logistic(
        epochs=60,
        ema_decay=0.8,
        early_stopping=stop,
        sample_weights={"rating": "none", "user_exponent": 0.5},
    )
    fitted = fit(labels, given, threads=1)
    assert fitted.report["ndcg"] > 1.5 * fitted.report["popularity_ndcg"]
    assert fitted.epochs == fitted.report["refit_epochs"] > 0
    n = int(fitted.negatives["drawn_per_positive"]) if fitted.negatives else 0
    assert fitted.negatives == {
        "in_data": 0, "drawn_per_positive": n, "drawn_per_epoch": n * labels.nnz
    }  # fmt: skip
    assert found_of_withheld(fitted.embeddings, labels) > 0.95
    again = fit(labels, given, threads=1)
    assert again.report["curve"] == fitted.report["curve"]
    assert again.embeddings.item_embeddings.tobytes() == fitted.embeddings.item_embeddings.tobytes()


def test_the_models_manifest_says_how_many_negatives_were_drawn(
    run: Callable[..., dict[str, Any]], ratings_csv: Callable[..., str]
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    training = {"loss": "logistic", "negatives_per_positive": 3}
    found = {}
    for run_id, filters in (("implicit", {}), ("explicit", {"rating_threshold": 4.0})):
        manifest = run("train", run_id=run_id, input=source, filters=filters, training=training)
        model = json.loads((model_folder(manifest) / "manifest.json").read_text())
        found[run_id] = model["training"]["negatives"], manifest["counts"]
    implicit, counts = found["implicit"]
    assert implicit == {
        "in_data": 0, "drawn_per_positive": 3, "drawn_per_epoch": 3 * counts["pairs"]
    }  # fmt: skip
    explicit, counts = found["explicit"]
    assert explicit["drawn_per_epoch"] == 0
    assert 0 < explicit["in_data"] < counts["pairs"]
