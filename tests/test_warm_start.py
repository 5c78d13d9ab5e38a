"""A training that goes on: on the same pairs as if it had not stopped, on others by the ids."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from recsys.config.sections import Training
from recsys.errors import TrainingError
from recsys.learn.assembly import Recipe
from recsys.learn.embeddings import Embeddings
from recsys.learn.fold_in_candidates import Candidate
from recsys.learn.known_users import Known
from recsys.learn.matrices import Interactions
from recsys.learn.second_view import Second
from recsys.learn.state import State, position
from recsys.learn.training import train, train_on
from recsys.learn.warm_start import Kept, Matched, begin, recipe


def settings(**more: Any) -> Training:
    small = {"no_components": 6, "epochs": 3, "learning_rate": 0.05, "ema_decay": 0.5}
    return Training.model_validate({**small, **more})


def checkerboard(users: list[str], items: list[str], seed: int = 0) -> Interactions:
    """Make users of even number like half of the items of even number, and odd ones odd items."""
    random = np.random.default_rng(seed)
    cells = [
        (u, i)
        for u, user in enumerate(users)
        for i, item in enumerate(items)
        if (int(user[1:]) + int(item[1:])) % 2 == 0 and random.random() < 0.5
    ]
    rows, columns = np.ascontiguousarray(np.array(cells, np.int32).T)
    labels = sp.coo_matrix(
        (np.ones(len(cells), np.float32), (rows, columns)), shape=(len(users), len(items))
    )
    return Interactions(pa.array(users), pa.array(items), labels, None)


def names(letter: str, numbers: range) -> list[str]:
    return [f"{letter}{number:03}" for number in numbers]


USERS, ITEMS = names("u", range(20)), names("i", range(24))
BOARD = checkerboard(USERS, ITEMS)


def same(one: Embeddings, other: Embeddings) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


@pytest.mark.parametrize(
    "more",
    [
        {"loss": "warp"},
        {"loss": "bpr"},
        {"loss": "logistic"},  # which draws other negatives in each epoch
        {"learning_schedule": "adadelta"},
        {"ema_decay": 0.0},
    ],
)
def test_a_training_that_stopped_goes_on_as_if_it_had_not(more: dict[str, Any]) -> None:
    whole = train(BOARD.labels, settings(**{**more, "epochs": 5}), threads=1)
    _, state = train_on(None, BOARD.labels, settings(**{**more, "epochs": 2}), threads=1)
    assert state.epochs == 2
    found, state = train_on(
        state.copy(), BOARD.labels, settings(**{**more, "epochs": 3}), threads=1
    )
    assert state.epochs == 5
    assert same(found, whole)


def test_no_epoch_more_gives_the_same_bits() -> None:
    found, state = train_on(None, BOARD.labels, settings(), threads=1)
    before = state.copy()
    again, after = train_on(
        state, BOARD.labels, settings(epochs=1).model_copy(update={"epochs": 0}), threads=1
    )
    assert same(again, before.average)
    assert same(again, found)
    assert np.array_equal(after.random, before.random)
    assert after.epochs == 3


def kept(interactions: Interactions, **more: Any) -> Kept:
    _, state = train_on(None, interactions.labels, settings(**more), threads=1)
    return Kept(interactions.user_ids, interactions.item_ids, state)


def rows(ids: pa.Array, wanted: list[str]) -> list[int]:
    place = {one: n for n, one in enumerate(ids.to_pylist())}
    return [place[one] for one in wanted]


def test_ids_are_matched_where_some_are_gone_and_others_come_between() -> None:
    old = kept(checkerboard(names("u", range(0, 20, 2)), names("i", range(4, 24))))
    new = checkerboard(names("u", range(3, 15)), names("i", range(0, 20)), seed=1)
    started = begin(old, new, settings())
    assert started.users == Matched(known=6, new=6, gone=4)  # 4, 6, ... 14 are known
    assert started.items == Matched(known=16, new=4, gone=4)
    for ids, before, now, found in (
        (new.user_ids, old.user_ids, started.state.users, old.state.users),
        (new.item_ids, old.item_ids, started.state.items, old.state.items),
    ):
        both = sorted(set(ids.to_pylist()) & set(before.to_pylist()))
        for name in vars(found):
            mine, theirs = getattr(now, name), getattr(found, name)
            assert np.array_equal(mine[rows(ids, both)], theirs[rows(before, both)]), name
        fresh = rows(ids, sorted(set(ids.to_pylist()) - set(before.to_pylist())))
        # As LightFM begins: small embeddings that differ, no biases, and first steps of full size.
        drawn = now.embeddings[fresh]
        assert 0 < np.abs(drawn).max() <= 0.5 / 6
        assert len(np.unique(drawn, axis=0)) == len(fresh)
        assert not now.biases[fresh].any()
        assert (now.embedding_gradients[fresh] == 1).all()
        assert (now.bias_gradients[fresh] == 1).all()


def test_the_same_start_is_made_twice() -> None:
    old = kept(BOARD)
    new = checkerboard([*USERS, "u999"], ITEMS)
    one, other = (begin(old, new, settings()).state for _ in range(2))
    assert np.array_equal(one.users.embeddings, other.users.embeddings)
    assert np.array_equal(one.random, other.random)


def test_ids_of_another_data_set_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"none of the 20 users of the model .* 20 others"):
        begin(kept(BOARD), checkerboard(names("u", range(100, 120)), ITEMS), settings())


def test_the_state_of_random_numbers_goes_on() -> None:
    random = np.random.RandomState(7)
    random.rand(1000)
    state = State(None, None, 0, 0, position(random))  # type: ignore[arg-type]
    assert np.array_equal(state.generator().rand(5), random.rand(5))


def test_new_users_and_items_are_learned_in_a_few_epochs() -> None:
    """A user who came in later gets what an even user likes, from a model that never saw them."""
    old = kept(checkerboard(names("u", range(40)), names("i", range(40))), epochs=20)
    new = checkerboard(names("u", range(44)), names("i", range(44)))
    started = begin(old, new, settings())
    learned, _ = train_on(started.state, new.labels, settings(epochs=8), threads=1)
    seen = new.labels.toarray() > 0
    for user in range(40, 44):
        scores = learned.user_embeddings[user] @ learned.item_embeddings.T + learned.item_biases
        scores[seen[user]] = -np.inf
        best = np.argsort(-scores)[:8]
        assert np.mean(best % 2 == user % 2) >= 0.75


def test_known_users_are_half_as_trained_at_most_and_nothing_changes_without_an_epoch() -> None:
    ridge, mean = (Candidate(kind, 0.1, True, 0.5, 2.0) for kind in ("ridge", "mean"))
    second = Second("ease", 64, 0.7, 100.0)
    before = Recipe(Known(0.75, ridge), second)
    assert recipe(before, mean, 0) is before
    assert recipe(before, mean, 4) == Recipe(Known(0.5, ridge), second)
    less = Recipe(Known(0.25, ridge), second)
    assert recipe(less, mean, 4) == less
    # Who was served by the trained vector gets the map for new users.
    assert recipe(Recipe(), mean, 4) == Recipe(Known(0.5, mean))
