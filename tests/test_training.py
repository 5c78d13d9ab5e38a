import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from recsys.config.sections import Training
from recsys.errors import TrainingError
from recsys.learn import spectral
from recsys.learn.embeddings import Average, Embeddings
from recsys.learn.features import Feature, Side, Sides
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
    halved = settings(epochs=4, ema_decay=0.5, ema_growth=0)
    average = train(checkerboard(), halved, threads=1, stop=note)
    for name in ("user_embeddings", "user_biases", "item_embeddings", "item_biases"):
        first, second, third, fourth = (getattr(state, name) for state in states[:n_raw])
        np.testing.assert_array_equal(getattr(last, name), fourth)
        np.testing.assert_array_equal(getattr(states[n_raw], name), first)
        expected = (first + 2 * second + 4 * third + 8 * fourth) / 15
        np.testing.assert_allclose(getattr(average, name), expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(getattr(average, name), getattr(states[-1], name))


def test_the_average_grows_with_the_number_of_states() -> None:
    def averages(decay: float, growth: float, n: int) -> list[float]:
        average = Average(decay, growth)
        found = []
        for value in range(1, n + 1):
            state = np.full((1, 1), value, np.float32)
            found.append(
                float(average.add(Embeddings(state, state[0], state, state[0])).user_biases[0])
            )
        return found

    # With a growth of 1, state k weighs in proportion to k: 1, 5/3, 14/6, 30/10.
    np.testing.assert_allclose(averages(0.99, 1, 4), [1, 5 / 3, 14 / 6, 3], rtol=1e-6)
    # 1/2 and 2/3 are above a decay of 0.4, so that it is as without growth.
    np.testing.assert_allclose(averages(0.4, 1, 4), averages(0.4, 0, 4), rtol=1e-6)
    np.testing.assert_allclose(averages(0.4, 0, 3)[-1], (3 + 0.8 + 0.16) / 1.56, rtol=1e-6)
    assert averages(0.95, 8, 30)[-1] > averages(0.95, 0, 30)[-1]


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


def test_the_decomposition_is_that_of_numpy() -> None:
    dense = np.random.default_rng(3).random((30, 12)) > 0.6
    rows, cols = (cells.astype(np.int32) for cells in np.nonzero(dense))
    matrix = spectral._by_user(rows, cols, (30, 12))
    exact = dense / np.sqrt(dense.sum(axis=1))[:, None]
    np.testing.assert_allclose(matrix.toarray(), exact, rtol=1e-6)
    users, values, items = spectral._truncated(matrix, 20, np.random.default_rng(1))
    np.testing.assert_allclose(values, np.linalg.svd(exact)[1], atol=1e-5)
    np.testing.assert_allclose((users * values) @ items.T, exact, atol=1e-5)
    assert users.shape == (30, 12)  # there are no more


def test_as_many_directions_are_found_as_pairs_have_tastes_and_none_where_they_have_none() -> None:
    rng = np.random.default_rng(5)
    # Users of four groups, each of which likes a quarter of the items, with some noise.
    own = rng.integers(0, 4, 400)[:, None] == rng.integers(0, 4, 80)
    tastes = sp.coo_matrix((rng.random((400, 80)) < np.where(own, 0.5, 0.05)).astype(np.float32))
    found = spectral.directions(tastes, 32, 1)
    assert found.n == 4  # popularity, and three that tell the groups apart
    scores = found.users @ found.items.T
    assert scores[own].mean() > 2 * scores[~own].mean()
    assert np.linalg.norm(found.users, axis=1).mean() == pytest.approx(spectral.USER_LENGTH)
    assert np.linalg.norm(found.items, axis=1).mean() == pytest.approx(spectral.ITEM_LENGTH)
    popular = rng.random((400, 80)) < rng.random(80) * 0.3
    assert spectral.directions(sp.coo_matrix(popular.astype(np.float32)), 32, 1).n == 1


def test_directions_come_from_positives_alone_and_are_the_same_for_a_seed() -> None:
    labels = checkerboard()
    cells = np.append(labels.row, 0), np.append(labels.col, 1)
    signs = np.append(labels.data, -1).astype(np.float32)
    more = sp.coo_matrix((signs, cells), shape=labels.shape)
    mine, theirs = (spectral.directions(some, 8, 1) for some in (labels, more))
    assert mine.users.tobytes() == theirs.users.tobytes()
    assert mine.items.tobytes() == theirs.items.tobytes()
    one_pair = sp.coo_matrix((np.ones(1, np.float32), ([0], [1])), shape=(3, 2))
    assert np.isfinite(spectral.directions(one_pair, 8, 1).items).all()


def test_auto_begins_again_with_random_embeddings_where_the_first_epoch_is_not_accepted() -> None:
    labels, shown = checkerboard(), list[Embeddings]()

    def answer(accepted: bool) -> Embeddings:
        def accept(current: Embeddings) -> bool:
            shown.append(current.copy())
            return accepted

        return train(labels, settings(epochs=3, start="auto"), threads=1, accept=accept)

    random = train(labels, settings(epochs=3, start="random"), threads=1)
    decomposed = train(labels, settings(epochs=3, start="spectral"), threads=1)
    first = train(labels, settings(epochs=1, start="spectral"), threads=1)
    assert random.item_embeddings.tobytes() != decomposed.item_embeddings.tobytes()
    rejected, accepted = answer(False), answer(True)
    for name in ("user_embeddings", "user_biases", "item_embeddings", "item_biases"):
        assert getattr(rejected, name).tobytes() == getattr(random, name).tobytes()
        assert getattr(accepted, name).tobytes() == getattr(decomposed, name).tobytes()
        assert all(getattr(one, name).tobytes() == getattr(first, name).tobytes() for one in shown)
    # Nobody to ask, or another loss: random, and nobody is asked.
    shown.clear()
    plain = train(labels, settings(epochs=3, start="auto"), threads=1)
    assert plain.item_embeddings.tobytes() == random.item_embeddings.tobytes()
    bpr = settings(epochs=1, loss="bpr", start="auto")
    train(labels, bpr, threads=1, accept=lambda current: bool(shown.append(current)))
    assert not shown


def test_of_described_items_the_identities_begin_with_the_decomposition() -> None:
    # Item 0 and 2 have an identity each, item 1 a feature alone; the feature stays near 0.
    labels = sp.coo_matrix(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 0, 0]], np.float32))
    weights = sp.csr_matrix(np.array([[1, 0, 0.5], [0, 0, 1], [0, 1, 0.5]], np.float32))
    nothing = sp.csr_matrix((0, 3), dtype=np.float32)
    side = Side(weights, 2, [Feature("g", "x", "x", 1)], pa.array([], pa.int32()), nothing, 0, 0)
    given = settings(epochs=1, start="spectral", learning_rate=1e-9)
    begun = train(labels, given, threads=1, features=Sides(items=side))
    found = spectral.directions(labels, 8, given.seed)
    assert found.n > 0
    np.testing.assert_allclose(begun.user_embeddings[:, : found.n], found.users, atol=1e-6)
    np.testing.assert_allclose(begun.item_embeddings[:2, : found.n], found.items[[0, 2]], atol=1e-6)
    assert np.abs(begun.item_embeddings[2]).max() < 0.1
    assert begun.item_embeddings[:, found.n :].all()  # random, not 0, or they would stay there


def test_auto_begins_again_where_the_spectral_start_diverges() -> None:
    labels = checkerboard()
    asked: list[Embeddings] = []

    def accept(current: Embeddings) -> bool:
        asked.append(current)
        return True

    # Longer than the random embeddings ever get here, and shorter than the spectral ones.
    few = {"epochs": 2, "learning_rate": 1e-3, "max_embedding_norm": 0.9}
    with pytest.raises(TrainingError, match="diverged"):
        train(labels, settings(**few, start="spectral"), threads=1)
    again = train(labels, settings(**few, start="auto"), threads=1, accept=accept)
    random = train(labels, settings(**few, start="random"), threads=1)
    assert not asked
    assert again.item_embeddings.tobytes() == random.item_embeddings.tobytes()
