import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.config.sections import Training
from recsys.errors import TrainingError
from recsys.learn.embeddings import Embeddings
from recsys.learn.fitting import fit
from recsys.learn.training import has_openmp, train

LOSSES = ["warp", "bpr", "warp-kos", "logistic"]


def checkerboard(n_users: int = 40, n_items: int = 40, seed: int = 0) -> sp.coo_matrix:
    """Users like the items of their own parity; a fifth of those pairs is withheld."""
    users, items = np.meshgrid(np.arange(n_users), np.arange(n_items), indexing="ij")
    shown = np.random.default_rng(seed).random(users.shape) < 0.8
    kept = ((users + items) % 2 == 0) & shown
    ones = np.ones(int(kept.sum()), np.float32)
    return sp.coo_matrix((ones, (users[kept], items[kept])), shape=(n_users, n_items))


def settings(**more: object) -> Training:
    small: dict[str, object] = {
        "no_components": 8, "epochs": 10, "learning_rate": 0.05, "item_alpha": 0.0
    }  # fmt: skip
    if more.get("loss") == "warp-kos":
        small["sample_weights"] = {"rating": "none", "user_exponent": 0.0}
    return Training.model_validate({**small, "user_alpha": 0.0, "max_sampled": 10, **more})


@pytest.mark.parametrize("loss", LOSSES)
def test_one_thread_and_one_seed_give_the_same_model_twice(loss: str) -> None:
    def once(seed: int) -> Embeddings:
        return train(checkerboard(), settings(loss=loss, epochs=3, seed=seed), threads=1)

    first, again, other = once(1), once(1), once(2)
    for name in ("user_embeddings", "user_biases", "item_embeddings", "item_biases"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.item_embeddings.tobytes() != other.item_embeddings.tobytes()


@pytest.mark.parametrize("loss", ["warp", "bpr", "warp-kos"])
def test_a_ranking_loss_puts_the_withheld_half_of_a_checkerboard_first(loss: str) -> None:
    model = train(checkerboard(), settings(loss=loss, epochs=30), threads=1)
    scores = model.user_embeddings @ model.item_embeddings.T + model.item_biases
    own = (np.arange(40)[:, None] + np.arange(40)) % 2 == 0
    best = np.argsort(-scores, axis=1)[:, :10]
    assert np.take_along_axis(own, best, axis=1).mean() > 0.95


def test_logistic_learns_from_negatives() -> None:
    users, items = np.meshgrid(np.arange(30), np.arange(30), indexing="ij")
    signs = np.where((users + items) % 2 == 0, 1, -1).astype(np.float32)
    labels = sp.coo_matrix((signs.ravel(), (users.ravel(), items.ravel())), shape=(30, 30))
    model = train(labels, settings(loss="logistic", epochs=60), threads=1)
    scores = (
        model.user_embeddings @ model.item_embeddings.T
        + model.user_biases[:, None]
        + model.item_biases
    )
    assert (np.sign(scores) == signs).mean() > 0.95


def test_a_diverging_model_stops_the_job_and_the_message_says_what_to_try() -> None:
    rng = np.random.default_rng(0)
    cells = np.unique(rng.integers(0, 300, (9000, 2)), axis=0)
    labels = sp.coo_matrix((np.ones(len(cells), np.float32), cells.T), shape=(300, 300))
    with pytest.raises(TrainingError) as caught:
        train(labels, settings(learning_rate=1.0, epochs=20, no_components=20), threads=1)
    message = str(caught.value)
    assert "the warp model diverged: after epoch" in message
    assert "above training.max_embedding_norm (100)" in message
    assert "try training.learning_rate 0.05 (now 1)" in message


def test_a_model_that_is_not_finite_stops_the_job() -> None:
    with pytest.raises(TrainingError, match=r"diverged: .*(not finite|longest)"):
        train(checkerboard(), settings(loss="bpr", learning_rate=1e30), threads=1)


def test_the_model_is_the_moving_average_of_its_epochs() -> None:
    states: list[Embeddings] = []

    def note(state: Embeddings) -> bool:
        states.append(state.copy())
        return False

    last = train(checkerboard(), settings(epochs=4, ema_decay=0), threads=1, stop=note)
    n_raw = len(states)
    average = train(checkerboard(), settings(epochs=4, ema_decay=0.5), threads=1, stop=note)
    for name in ("user_embeddings", "user_biases", "item_embeddings", "item_biases"):
        first, second, third, fourth = (getattr(state, name) for state in states[:n_raw])
        np.testing.assert_array_equal(getattr(last, name), fourth)
        np.testing.assert_array_equal(getattr(states[n_raw], name), first)
        expected = (first + 2 * second + 4 * third + 8 * fourth) / 15
        np.testing.assert_allclose(getattr(average, name), expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(getattr(average, name), getattr(states[-1], name))


@pytest.mark.parametrize("loss", ["warp", "bpr", "logistic"])
def test_weights_change_the_model(loss: str) -> None:
    labels = checkerboard()
    ratings = np.where(labels.col < 20, 5.0, 0.5).astype(np.float32)
    plain = train(labels, settings(loss=loss), threads=1)
    linear = settings(loss=loss, sample_weights={"rating": "linear"}, early_stopping=None)
    weighted = fit(labels, linear, threads=1, ratings=ratings).embeddings
    assert not np.array_equal(plain.item_embeddings, weighted.item_embeddings)


def test_this_lightfm_has_openmp_and_takes_two_threads() -> None:
    assert has_openmp()
    assert np.isfinite(train(checkerboard(), settings(), threads=2).item_embeddings).all()


def test_more_threads_than_a_lightfm_without_openmp_can_run_are_an_error() -> None:
    # LightFM's own fallback: the extension with OpenMP cannot be imported, the other one can.
    program = (
        "import sys; sys.modules['lightfm._lightfm_fast_openmp'] = None\n"
        "from recsys.learn.training import check_threads, has_openmp\n"
        "assert not has_openmp(); check_threads(1)\n"
        "try:\n    check_threads(2)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("TrainingError training on 2 threads needs a LightFM with OpenMP")
    assert "set training.threads to 1" in ran.stdout
