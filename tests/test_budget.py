"""The time of a training: what is planned after two epochs, and what is given up."""

import time

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.config.sections import EarlyStopping, SampleWeights, Training
from recsys.learn import assembly, budget, fitting
from recsys.learn.budget import NO_REFIT, Budget, Pace
from recsys.learn.sample_weights import Labelled


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(budget.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def epochs(clock: Clock, pace: Pace, seconds: float) -> int:
    """Run epochs of so many seconds until the pace says stop or all are done."""
    for epoch in range(1, 1001):
        clock.now += seconds
        if pace():
            return epoch
    return epoch


def test_without_a_limit_nothing_is_given_up(clock: Clock) -> None:
    free = Budget()
    pace = Pace(free, 1000, 0.0, again=1.5)
    assert epochs(clock, pace, 3600.0) == 1000
    assert free.affords(1e30, "anything", 0.0)
    assert free.report() is None
    assert pace.per_epoch == 3600


def test_a_search_leaves_time_for_the_second_training(clock: Clock) -> None:
    limited = Budget(seconds=100.0, started=clock.now)
    pace = Pace(limited, 1000, kept_back=10.0, again=1.5)
    done = epochs(clock, pace, 1.0)
    # n epochs and 1.5 n more are to fit into the 90 seconds.
    assert done == 36
    assert pace.refits
    assert limited.given_up == ["epochs after 36 of 1000"]


def test_too_few_epochs_end_the_plan_of_a_second_training(clock: Clock) -> None:
    limited = Budget(seconds=100.0, started=clock.now)
    pace = Pace(limited, 1000, kept_back=10.0, again=1.5)
    done = epochs(clock, pace, 10.0)
    assert not pace.refits
    assert done == 9  # the whole time is the search's
    assert limited.given_up[0] == NO_REFIT


def test_a_training_ends_at_most_one_epoch_late(clock: Clock) -> None:
    limited = Budget(seconds=10.0, started=clock.now)
    epochs(clock, Pace(limited, 1000, 0.0), 60.0)
    assert limited.left() == -50.0  # one epoch is the least
    again = Budget(seconds=100.0, started=clock.now)
    epochs(clock, Pace(again, 1000, 0.0), 30.0)
    assert again.left() == 10.0


def test_trainings_share_what_is_left(clock: Clock) -> None:
    limited = Budget(seconds=100.0, started=clock.now)
    first = epochs(clock, Pace(limited, 1000, 0.0, shared_by=2), 1.0)
    assert 49 <= first <= 51
    second = epochs(clock, Pace(limited, 1000, 0.0), 1.0)
    assert 99 <= first + second <= 100


def test_what_does_not_fit_is_named_with_its_time() -> None:
    limited = Budget(seconds=1000.0)
    assert limited.affords(1e6, "little", 0.0)
    assert not limited.affords(1e18, "much", 0.0)
    assert limited.given_up[0].startswith("much (about ")
    assert not limited.affords(1e6, "late", 2000.0)


def tastes(n: int = 300, m: int = 80) -> sp.coo_matrix:
    """Users who like items of their own kind, of four kinds."""
    rng = np.random.default_rng(3)
    kind, of_item = rng.integers(0, 4, n), rng.integers(0, 4, m)
    dense = rng.random((n, m)) < np.where(kind[:, None] == of_item, 0.4, 0.02)
    dense[:, 0] = True
    return sp.csr_matrix(dense.astype(np.float32)).tocoo()


SETTINGS = Training(
    no_components=8,
    epochs=5,
    early_stopping=EarlyStopping(),
    sample_weights=SampleWeights(rating="none"),
)


def test_a_generous_time_changes_nothing_but_the_report() -> None:
    plain = assembly.fit(tastes(), SETTINGS, threads=1)[1]
    timed = assembly.fit(tastes(), SETTINGS, threads=1, budget=Budget(seconds=3600.0))[1]
    assert plain.embeddings.item_embeddings.tobytes() == timed.embeddings.item_embeddings.tobytes()
    assert plain.budget.report() is None
    assert timed.budget.given_up == []
    assert 0 < timed.as_record()["budget"]["used"] < 3600


def test_without_time_there_is_still_a_model_and_a_list_of_what_is_missing() -> None:
    started = time.monotonic()
    fitted, made = assembly.fit(tastes(), SETTINGS, threads=1, budget=Budget(seconds=1e-6))
    assert fitted.epochs == 1
    assert made.second is None
    given_up = made.budget.given_up
    assert NO_REFIT in given_up
    assert "epochs after 1 of 5" in given_up
    assert any("second view" in one for one in given_up)
    assert time.monotonic() - started < 60


def test_the_search_on_some_users_has_all_their_pairs() -> None:
    labels = tastes()
    pairs = Labelled(labels, None, None)
    half = len(labels.data) // 2
    stopping = EarlyStopping(max_pairs=half)
    found = fitting.search(pairs, SETTINGS, stopping, 1, fitting.IDENTITIES)
    whole = np.bincount(labels.row)
    seen = np.bincount(found.labels.row, minlength=len(whole))
    held_out = np.zeros(len(whole), int)
    held_out[found.validator.users] = 1
    drawn = seen > 0
    assert 0.3 * len(whole) < drawn.sum() < 0.6 * len(whole)
    assert (seen <= whole).all()
    assert not held_out[~drawn].any()
    assert 1.9 < found.growth < 2.7  # half of the users, less a fifth of their pairs
    again = fitting.search(pairs, SETTINGS, stopping, 1, fitting.IDENTITIES)
    assert np.array_equal(found.labels.row, again.labels.row)


def test_whoever_was_not_drawn_for_the_search_is_trained_however_short_the_time_is() -> None:
    labels = tastes()
    some = EarlyStopping(max_pairs=len(labels.data) // 2)
    settings = SETTINGS.model_copy(update={"early_stopping": some})
    fitted, made = assembly.fit(labels, settings, threads=1, budget=Budget(seconds=1e-6))
    assert fitted.report["refit_epochs"] == fitted.epochs == 1
    alike = SETTINGS.model_copy(update={"early_stopping": None, "epochs": 1})
    everyone = fitting.fit(labels, alike, threads=1).embeddings
    assert made.first.user_embeddings.tobytes() == everyone.user_embeddings.tobytes()


def test_a_user_with_more_pairs_than_are_drawn_does_not_end_the_draw() -> None:
    labels = tastes()
    longest = int(np.bincount(labels.row).max())
    found = Labelled(labels, None, None).of_some_users(longest - 1, seed=1)
    assert 0 < len(found.labels.data) <= longest - 1
    everyone = Labelled(labels, None, None)
    assert everyone.of_some_users(None, seed=1) is everyone
