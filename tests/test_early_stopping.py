"""Which epoch is kept, and how much each pair counts."""

import time
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recsys.config.sections import EarlyStopping, SampleWeights
from recsys.errors import InputError, TrainingError
from recsys.learn.early_stopping import Search, Validator, hold_out
from recsys.learn.embeddings import Embeddings
from recsys.learn.fitting import fit
from recsys.learn.sample_weights import Labelled, sample_weights
from recsys.learn.training import train
from tests.test_training import checkerboard, settings

# Four pairs of user 0 and one of user 1.
LABELS = sp.coo_matrix((np.ones(5, np.float32), ([0, 0, 0, 0, 1], [0, 1, 2, 3, 0])))
RATINGS = np.array([1, 3, 7, 0, 1], np.float32)
AGES = np.array([0, 10, 20, 0, 10], np.float32)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"rating": "linear"}, [1, 3, 7, 0, 1]),
        ({"rating": "log"}, [np.log(2), np.log(4), np.log(8), 0, np.log(2)]),
        ({"rating": "capped", "cap": 2.0}, [1, 2, 2, 0, 1]),
        ({"half_life_days": 10.0}, [1, 0.5, 0.25, 1, 0.5]),
        ({"user_exponent": 0.5}, [0.5, 0.5, 0.5, 0.5, 1]),
        ({"user_exponent": 1.0}, [0.25, 0.25, 0.25, 0.25, 1]),
        ({"rating": "linear", "half_life_days": 10.0}, [1, 1.5, 1.75, 0, 0.5]),
    ],
)
def test_each_policy_gives_known_weights_with_a_mean_of_one(
    policy: dict[str, object], expected: list[float]
) -> None:
    plain = {"rating": "none", "user_exponent": 0.0}
    chosen = SampleWeights.model_validate({**plain, **policy})
    weights = sample_weights(chosen, LABELS, RATINGS, AGES)
    assert weights is not None
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, np.array(expected) / np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("rating", "of_four", "of_five"),
    [("linear", 4.0, 5.0), ("log", np.log(5), np.log(6)), ("capped", 4.0, 4.5)],
)
def test_a_negative_has_the_mean_weight_of_the_positives_however_low_its_rating(
    rating: str, of_four: float, of_five: float
) -> None:
    # User 0 likes two items and dislikes three; user 1 dislikes one, below a scale that goes to 0.
    signs = np.array([1, 1, -1, -1, -1, -1], np.float32)
    labels = sp.coo_matrix((signs, ([0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 0])))
    ratings = np.array([4, 5, 0.5, 3, 0, -7], np.float32)
    ages = np.array([0, 10, 0, 10, 20, 0], np.float32)
    mean = (of_four + of_five) / 2
    capped = {"cap": 4.5} if rating == "capped" else {}

    def weights(**more: object) -> Any:
        policy = SampleWeights.model_validate({"rating": rating, **capped, **more})
        return sample_weights(policy, labels, ratings, ages)

    expected = np.array([of_four, of_five, mean, mean, mean, mean])
    found = weights(user_exponent=0.0)
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-6)
    # Age and the number of a user's pairs count for negatives as for positives.
    expected *= np.array([1, 0.5, 1, 0.5, 0.25, 1]) * np.array([1 / 5] * 5 + [1])
    found = weights(user_exponent=1.0, half_life_days=10.0)
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-6)


def test_an_empty_policy_gives_no_weights_and_impossible_weights_are_refused() -> None:
    assert sample_weights(SampleWeights(rating="none", user_exponent=0.0), LABELS) is None
    linear = SampleWeights(rating="linear")
    with pytest.raises(TrainingError, match="rating of -1, expected none below 0"):
        sample_weights(linear, LABELS, RATINGS - 1)
    with pytest.raises(InputError, match="none of the 5 pairs to learn from has a weight above 0"):
        sample_weights(linear, LABELS, RATINGS * 0)
    with pytest.raises(TrainingError, match="the mean of the weights is inf, expected a finite"):
        sample_weights(linear, LABELS, RATINGS + np.float32(np.inf))
    with pytest.raises(TrainingError, match="rating: 'linear' needs ratings, found none"):
        sample_weights(linear, LABELS)
    with pytest.raises(TrainingError, match="half_life_days needs timestamps, found none"):
        sample_weights(SampleWeights(rating="none", half_life_days=1.0), LABELS)


def test_only_differences_of_ages_count_so_old_data_has_the_weights_of_new_data() -> None:
    policy = SampleWeights(rating="none", half_life_days=1.0, user_exponent=0.0)
    new = sample_weights(policy, LABELS, None, AGES)
    # 2 ** -4096 is 0, even as a double.
    old = sample_weights(policy, LABELS, None, AGES + 4096)
    assert new is not None
    assert old is not None
    assert old.tobytes() == new.tobytes()


def test_pairs_without_weight_are_found_and_those_that_lose_theirs_without_them() -> None:
    labels = sp.coo_matrix((np.ones(5, np.float32), ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])))
    policy = SampleWeights(rating="none", half_life_days=1.0, user_exponent=0.0)

    def kept(*ages: float) -> list[bool]:
        found = Labelled(labels, None, np.array(ages, np.float32)).with_weight(policy)
        return [bool(one) for one in found]

    assert kept(0, 1, 2, 3, 140) == [True] * 5
    assert kept(0, 1, 2, 3, 200) == [True] * 4 + [False]
    # The smallest float above 0 is 2 ** -149. Of five pairs, only the first of which counts, the
    # second weighs 5 * 2 ** -151, which is 2 ** -149 as a float; of two pairs 2 ** -150, so 0.
    assert kept(0, 151, 1000, 1000, 1000) == [True] + [False] * 4
    assert Labelled(labels, None, None).with_weight(SampleWeights(
        rating="none", user_exponent=0.0)).all()  # fmt: skip


def test_epochs_are_not_judged_by_items_whose_other_pairs_weigh_nothing_meanwhile() -> None:
    # Each item has a new pair and one so old that it has a weight among all pairs, 2 ** -149, but
    # none once there are more new ones than old ones. All users have one pair.
    n = 41
    users, items = np.arange(2 * n), np.repeat(np.arange(n), 2)
    labels = sp.coo_matrix((np.ones(2 * n, np.float32), (users, items)))
    ages = np.tile([0.0, 150.999], n).astype(np.float32)
    weights = {"rating": "none", "half_life_days": 1.0, "user_exponent": 0.0}
    stop = {"share": 0.5, "every": 1, "k": 5}
    given = settings(epochs=2, early_stopping=stop, sample_weights=weights)
    assert given.early_stopping is not None
    policy = given.sample_weights
    assert Labelled(labels, None, ages).with_weight(policy).all()
    new_stays = {}
    for seed in range(20):
        stays = ~hold_out(labels, given.early_stopping, seed)
        assert stays.sum() == n
        new_stays[seed] = int((ages[stays] == 0).sum())
    seed = max(new_stays, key=lambda seed: new_stays[seed])
    assert n / 2 < new_stays[seed] < n
    fitted = fit(labels, given.model_copy(update={"seed": seed}), threads=1, ages=ages)
    # Where the new pair was held out, the old one trained nothing.
    assert fitted.report["users"] == new_stays[seed]
    assert np.isfinite(fitted.embeddings.item_embeddings).all()


def test_epochs_are_not_judged_by_items_that_were_only_disliked_in_training() -> None:
    # As above, and another user dislikes the first item, whose new pair is held out.
    n = 41
    users, items = np.arange(2 * n + 1), np.append(np.repeat(np.arange(n), 2), 0)
    values = np.append(np.ones(2 * n, np.float32), np.float32(-1))
    labels = sp.coo_matrix((values, (users, items)))
    ages = np.append(np.tile([0.0, 150.97], n), 0.0).astype(np.float32)
    weights = {"rating": "none", "half_life_days": 1.0, "user_exponent": 0.0}
    stop = {"share": 0.5, "every": 1, "k": 5}
    given = settings(epochs=2, early_stopping=stop, sample_weights=weights)
    assert given.early_stopping is not None
    assert Labelled(labels, None, ages).with_weight(given.sample_weights).all()
    new_stays = {}
    for seed in range(40):
        stays = ~hold_out(labels, given.early_stopping, seed)
        if not stays[0]:
            new_stays[seed] = int((ages[stays][:-1] == 0).sum())
    seed = max(new_stays, key=lambda seed: new_stays[seed])
    assert n / 2 < new_stays[seed] < n
    fitted = fit(labels, given.model_copy(update={"seed": seed}), threads=1, ages=ages)
    assert fitted.report["users"] == new_stays[seed]


@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.05, 0.9),
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=8),
)
def test_of_each_item_a_share_of_the_positives_is_held_out_and_one_always_stays(
    seed: int, share: float, counts: list[int]
) -> None:
    rows = [u for n in counts for u in range(n)] + [12, 12]
    cols = [i for i, n in enumerate(counts) for _ in range(n)] + [0, len(counts)]
    order = np.lexsort((cols, rows))
    labels = sp.coo_matrix(
        (np.array([1.0] * sum(counts) + [-1.0, 1.0])[order], (np.array(rows)[order],
        np.array(cols)[order])), shape=(13, len(counts) + 1),
    )  # fmt: skip
    wanted = [n - max(1, round(n * (1 - share))) if n else 0 for n in [*counts, 1]]
    if not any(wanted):
        with pytest.raises(TrainingError, match="early_stopping to null"):
            hold_out(labels, EarlyStopping(share=share), seed)
        return
    held_out = hold_out(labels, EarlyStopping(share=share), seed)
    assert (labels.data[held_out] > 0).all()
    found = np.bincount(labels.col[held_out], minlength=len(wanted))
    assert found.tolist() == wanted
    again = hold_out(labels, EarlyStopping(share=share), seed)
    assert np.array_equal(again, held_out)


def test_the_validator_gives_the_ndcg_of_lists_without_what_was_trained_on() -> None:
    # User 0 was trained on item 0, to be found are 1 and 3; user 1 on 1, to be found is 0.
    labels = sp.coo_matrix(
        (np.ones(5, np.float32), ([0, 0, 0, 1, 1], [0, 1, 3, 0, 1])), shape=(3, 4)
    )
    held_out = np.array([False, True, True, True, False])
    judge = Validator(labels, held_out, EarlyStopping(k=2), 0)
    scores = np.array([9, 1, 2, 3], np.float32)  # of the items, for everyone
    zeros = np.zeros((3, 1), np.float32)
    model = Embeddings(zeros, zeros[:, 0], np.zeros((4, 1), np.float32), scores)
    found = judge.ndcg(model)
    # User 0 gets 3, 2: a hit at rank 1 of two. User 1 gets 0, 3: the one to be found comes first.
    assert found == pytest.approx((1 / (1 + 1 / np.log2(3)) + 1) / 2)
    # By popularity items 0 and 1 were trained on once: user 0 gets 1, 2; user 1 gets 0, 2.
    assert judge.popularity_ndcg() == pytest.approx((1 / (1 + 1 / np.log2(3)) + 1) / 2)
    assert list(Validator(labels, held_out, EarlyStopping(max_users=1), 0).users) in ([0], [1])


def test_the_best_epoch_is_kept_and_a_second_model_is_trained_on_all_pairs() -> None:
    labels = checkerboard()
    stop = {"patience": 3, "k": 5, "every": 1, "smoothing": 1}
    plain = {"rating": "none", "user_exponent": 0.0}
    more = {"no_components": 4, "sample_weights": plain, "start": "auto"}
    given = settings(epochs=60, early_stopping=stop, **more)
    fitted = fit(labels, given, threads=1)
    report, curve = fitted.report, fitted.report["curve"]
    assert report["kept_epoch"] == int(np.argmax(curve)) + 1
    assert report["epochs"] == list(range(1, min(60, report["kept_epoch"] + 3) + 1))
    assert report["ndcg"] == max(curve) > report["popularity_ndcg"]
    # On all pairs, a quarter more than before, it takes a quarter more epochs.
    assert fitted.epochs == report["refit_epochs"] == round(report["kept_epoch"] * 1.25)
    assert report["start"] == "spectral"  # better than popularity at once, so both begin with it
    alike = {"no_components": 4, "start": "spectral"}
    plain = train(labels, settings(epochs=fitted.epochs, **alike), threads=1)
    assert fitted.embeddings.item_embeddings.tobytes() == plain.item_embeddings.tobytes()
    # Without a second training the model is the state of the best epoch.
    stopping = EarlyStopping.model_validate({**stop, "refit": False})
    kept = fit(labels, given.model_copy(update={"early_stopping": stopping}), threads=1)
    assert kept.report["curve"] == curve
    assert (kept.epochs, kept.report["refit_epochs"]) == (report["kept_epoch"], None)
    held_out = hold_out(labels, stopping, given.seed)
    judge = Validator(labels, held_out, stopping, given.seed)
    assert max(curve) == judge.ndcg(kept.embeddings)
    # That model has not seen the pairs that it was judged by.
    cells = labels.row[~held_out], labels.col[~held_out]
    part = sp.coo_matrix((labels.data[~held_out], cells), shape=labels.shape)
    again = train(part, settings(epochs=kept.epochs, **alike), threads=1)
    assert kept.embeddings.item_embeddings.tobytes() == again.item_embeddings.tobytes()


def test_the_kept_epoch_has_the_highest_mean_of_its_value_and_those_before() -> None:
    labels = checkerboard()

    def report(**stop: Any) -> dict[str, Any]:
        stop = {"every": 1, "refit": False, "k": 5, **stop}
        plain = {"rating": "none", "user_exponent": 0.0}
        more = {"start": "random", "early_stopping": stop, "sample_weights": plain}
        given = settings(epochs=30, no_components=4, ema_growth=0, **more)
        return fit(labels, given, threads=1).report

    found = report(smoothing=4, patience=30)
    curve = found["curve"]
    means = [np.mean(curve[max(0, end - 4) : end]) for end in range(1, 31)]
    kept = int(np.argmax(means)) + 1
    assert found["kept_epoch"] == kept != int(np.argmax(curve)) + 1
    assert found["ndcg"] == curve[kept - 1] < max(curve)
    # The same mean decides when to stop.
    stopped = next(e for e in range(1, 31) if e - 1 - int(np.argmax(means[:e])) >= 3)
    assert report(smoothing=4, patience=3)["epochs"] == list(range(1, stopped + 1))


def test_every_third_epoch_is_judged_and_always_the_last() -> None:
    labels = checkerboard()

    def report(epochs: int, every: int) -> dict[str, Any]:
        stop = {"patience": 60, "every": every, "smoothing": 1, "refit": False}
        plain = {"rating": "none", "user_exponent": 0.0}
        given = settings(epochs=epochs, early_stopping=stop, sample_weights=plain)
        return fit(labels, given, threads=1).report

    each, some = report(7, 1), report(7, 3)
    assert some["epochs"] == [3, 6, 7]
    assert some["curve"] == [each["curve"][epoch - 1] for epoch in (3, 6, 7)]
    assert some["kept_epoch"] == (3, 6, 7)[int(np.argmax(some["curve"]))]
    assert report(1, 3)["epochs"] == [1]


def test_where_pairs_say_no_more_than_popularity_the_training_begins_with_random_numbers() -> None:
    rng = np.random.default_rng(2)
    pairs = rng.random((150, 60)) < rng.random(60) ** 4
    labels = sp.coo_matrix(pairs.astype(np.float32))
    given = {"sample_weights": {"rating": "none", "user_exponent": 0.0}, "epochs": 4}

    def report(start: str) -> dict[str, Any]:
        return fit(labels, settings(**given, start=start), threads=1).report

    auto, random, forced = report("auto"), report("random"), report("spectral")
    assert (auto["start"], random["start"], forced["start"]) == ("random", "random", "spectral")
    assert auto["curve"] == random["curve"] != forced["curve"]
    assert len(auto["training_seconds"]) == len(auto["epochs"])
    assert auto["training_seconds"] == sorted(auto["training_seconds"])
    assert auto["training_seconds"][0] > 0


def test_judging_does_not_count_as_training() -> None:
    class Slow(Validator):
        def ndcg(self, model: Embeddings) -> float:
            time.sleep(0.2)
            return super().ndcg(model)

    labels = checkerboard()
    stopping = EarlyStopping(every=1, patience=99)
    judge = Slow(labels, hold_out(labels, stopping, 1), stopping, 1)
    watching = Search(judge, stopping, 3)
    train(
        labels, settings(epochs=3, start="auto"), threads=1, stop=watching, accept=watching.accept
    )
    assert watching.seconds >= 0.8  # three epochs, and the start
    assert watching.training_cpu[-1] < 0.8
    assert watching.epochs == [1, 2, 3]
