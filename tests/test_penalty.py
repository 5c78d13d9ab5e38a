"""How strong the penalty is where the configuration leaves it to the data."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.config.sections import Training
from recsys.learn.feature_trial import Trial
from recsys.learn.features import Abouts
from recsys.learn.fitting import fit
from recsys.learn.penalty import Penalties, penalties, settled
from recsys.learn.sample_weights import Labelled
from recsys.learn.training import train


def pairs_of(n_users: int, n_each: int, n_items: int) -> sp.coo_matrix:
    """Return pairs of users who have as many items each."""
    users = np.repeat(np.arange(n_users, dtype=np.int32), n_each)
    items = np.concatenate(
        [np.sort((np.arange(n_each) * 7 + user) % n_items) for user in range(n_users)]
    ).astype(np.int32)
    ones = np.ones(len(users), np.float32)
    return sp.coo_matrix((ones, (users, items)), shape=(n_users, n_items))


def test_the_strength_of_an_epoch_grows_with_the_pairs_of_a_user_and_an_item() -> None:
    # 16 pairs a user and 64 an item, then a sixteenth of the users, with as many pairs an item.
    many = penalties(Training(), pairs_of(1024, 16, 256)).item_alpha
    assert many == pytest.approx(12 * 2 * 2 / (1024 * 16))
    few = penalties(Training(), pairs_of(64, 16, 16)).user_alpha
    assert few == pytest.approx(16 * many)
    # One pair a user, and one an item: nothing but the number of pairs is left.
    assert penalties(Training(), pairs_of(50, 1, 50)).item_alpha == pytest.approx(12 / 50)
    # 100 pairs a user and 400 an item would be 103.
    most = penalties(Training(), pairs_of(400, 100, 100)).item_alpha
    assert most == pytest.approx(70 / 40_000)


def test_dislikes_and_users_without_likes_do_not_count() -> None:
    labels = pairs_of(100, 8, 97)
    more = np.arange(100, 150)
    disliked = sp.coo_matrix(
        (
            np.concatenate([labels.data, -np.ones(50, np.float32)]),
            (np.concatenate([labels.row, more]), np.concatenate([labels.col, more - 100])),
        ),
        shape=(200, 97),
    )
    assert penalties(Training(), disliked) == penalties(Training(), labels)


def test_numbers_that_are_given_stay_and_other_losses_were_not_measured() -> None:
    labels = pairs_of(100, 8, 97)
    by_pairs = penalties(Training(), labels).user_alpha
    given = Training(item_alpha=0.0)
    assert penalties(given, labels) == Penalties(0.0, by_pairs)
    assert penalties(Training(loss="bpr"), labels) == Penalties(1e-5, 1e-5)
    assert penalties(Training(loss="logistic"), labels) == Penalties(1e-5, 1e-5)
    assert settled(given, labels) == given.model_copy(update={"user_alpha": by_pairs})


def test_lightfm_trains_with_the_number_that_is_reported() -> None:
    labels = pairs_of(100, 8, 97)
    few = {"no_components": 4, "epochs": 3, "early_stopping": None}
    auto, none = (Training.model_validate({**few, **more}) for more in ({}, {"item_alpha": 0.0}))
    found = fit(labels, auto, threads=1, ratings=labels.data)
    assert found.penalties == penalties(auto, labels)
    same = train(labels, settled(auto, labels), threads=1)
    np.testing.assert_array_equal(found.embeddings.item_embeddings, same.item_embeddings)
    other = train(labels, none, threads=1)
    assert np.abs(other.item_embeddings).max() > np.abs(same.item_embeddings).max()


@pytest.mark.parametrize("refit", [True, False])
def test_a_number_is_for_all_pairs_and_a_search_on_some_users_uses_what_is_right_for_them(
    refit: bool,
) -> None:
    labels = pairs_of(400, 8, 97)
    stopping = {"share": 0.2, "patience": 2, "max_pairs": 1000, "refit": refit}
    few = {"no_components": 4, "epochs": 4, "early_stopping": stopping}
    auto = Training.model_validate(few)
    given = settled(auto, labels)
    curves = [
        fit(labels, one, threads=1, ratings=labels.data).report["curve"] for one in (auto, given)
    ]
    # Without a second training the search is the training, and trains with the number as it is.
    assert np.allclose(*curves, atol=1e-6) == refit
    assert given.item_alpha != penalties(auto, pairs_of(100, 8, 97)).item_alpha


def test_trials_of_features_on_some_users_use_what_is_right_for_them() -> None:
    pairs = Labelled(pairs_of(400, 8, 97), None, None)
    stopping = {"share": 0.2, "patience": 2, "max_pairs": 1000}
    few = {"no_components": 4, "epochs": 4, "early_stopping": stopping}
    auto = Training.model_validate({**few, "sample_weights": {"rating": "none"}})
    assert auto.early_stopping is not None
    found = []
    for settings in (auto, settled(auto, pairs.labels)):
        trial = Trial(pairs, Abouts(None, None), settings, auto.early_stopping, 1)
        found.append(trial.run({}).warm)
    assert np.allclose(*found, atol=1e-6)
