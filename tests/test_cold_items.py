"""Items that have nothing but features in lists: among all others, or in places of their own."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernel.fold_in import plain_mean
from recsys.kernel.reserved import with_reserved
from recsys.kernel.topk import Ranked
from recsys.kernel.worker import BroadcastModel, score

Lists = list[list[int]]


@dataclass
class Broadcast:
    value: Any


def ranked(*lists: list[int]) -> Ranked:
    """Lists of items whose scores are minus the item."""
    items = np.array([item for one in lists for item in one], np.int32)
    return Ranked(np.cumsum([0, *map(len, lists)]), items, -items.astype(np.float32))


@pytest.mark.parametrize(
    ("warm", "cold", "expected"),
    [
        ([1, 2, 3, 4, 5], [0, 9, 10, 11, 12], [1, 2, 3, 0, 9]),
        ([1, 2, 3, 4, 5], [9], [1, 2, 3, 4, 9]),  # too few of the one
        ([1], [6, 7, 8, 9, 10], [1, 6, 7, 8, 9]),  # and of the other
        ([1], [6, 7], [1, 6, 7]),  # and of both
        ([], [6, 7, 8, 9, 10], [6, 7, 8, 9, 10]),
        ([1, 2, 3, 4, 5], [], [1, 2, 3, 4, 5]),
        ([], [], []),
    ],
)
def test_two_of_five_places_are_at_the_end_and_the_other_kind_fills_them_up(
    warm: list[int], cold: list[int], expected: list[int]
) -> None:
    # Beside others, so that a list never takes a neighbour's.
    found = with_reserved(ranked([20, 21], warm, [22]), ranked([30], cold, []), 5, 2)
    assert found.indptr.tolist() == [0, 3, 3 + len(expected), 4 + len(expected)]
    assert found.items.tolist() == [20, 21, 30, *expected, 22]
    assert found.scores.tolist() == [-float(item) for item in found.items]
    assert (found.items.dtype, found.scores.dtype) == (np.int32, np.float32)


def broadcast(
    numbers: NDArray[np.float32], cold: NDArray[np.bool_], allowed: NDArray[np.bool_] | None
) -> Broadcast:
    """Make a model of one dimension, whose items have these embeddings and no biases."""
    n = len(numbers)
    among = cold if allowed is None else cold & allowed
    return Broadcast(
        BroadcastModel(
            key=f"{numbers.tobytes()!r}{cold.tobytes()!r}{allowed!r}",
            ids=np.arange(n, dtype=np.int32),
            embeddings=numbers[:, None],
            biases=np.zeros(n, np.float32),
            positives=np.where(cold, 0, np.arange(n) % 3).astype(np.int32),
            allowed=allowed,
            fold_in=plain_mean(1),
            cold=among if among.any() else None,
        )
    )


def people(sources: list[str], vectors: list[float], seen: Lists, own: Lists) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": np.arange(len(sources)),
            "source": sources,
            "embedding": [np.array([value], np.float32) for value in vectors],
            "bias": 0.0,
            "seen": seen,
            "liked": [[0]] * len(sources),
            "weights": [[1.0]] * len(sources),
            "candidates": own,
        }
    )


def expected_list(
    model: BroadcastModel, source: str, vector: float, left: set[int], k: int, n: int
) -> list[int]:
    """Slow and plain: sort what is left of each kind, and put the kinds together."""
    cold = np.zeros(len(model.ids), bool) if model.cold is None else model.cold
    worth = model.positives if source == "popular" else model.embeddings[:, 0] * vector

    def best(kind: bool) -> list[int]:
        some = [item for item in sorted(left) if cold[item] == kind]
        return sorted(some, key=lambda item: -float(worth[item]))

    warm, new = best(kind=False), best(kind=True)
    if source == "popular":
        return warm[:k]
    if not n:
        return sorted(sorted(warm + new), key=lambda item: -float(worth[item]))[:k]
    places = min(n, len(new))
    first = warm[: k - places]
    return first + new[: k - len(first)]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_way_to_make_a_list_agrees_with_a_full_sort(data: st.DataObject) -> None:
    n_items = data.draw(st.integers(1, 12))

    def flags() -> NDArray[np.bool_]:
        return np.array(data.draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items)))

    few = st.lists(st.integers(-2, 2), min_size=n_items, max_size=n_items)  # many ties
    numbers = np.array(data.draw(few), np.float32)
    shared = broadcast(numbers, flags(), flags() if data.draw(st.booleans()) else None)
    ways = ("model", "fold_in", "features", "popular")
    sources = data.draw(st.lists(st.sampled_from(ways), min_size=1, max_size=6))
    some = st.lists(st.integers(0, n_items - 1), max_size=8)
    seen, own = ([data.draw(some) for _ in sources] for _ in range(2))
    # A folded-in user has the vector of the first item.
    given = [float(data.draw(st.integers(-2, 2))) for _ in sources]
    vectors = [
        float(numbers[0]) if source == "fold_in" else value
        for source, value in zip(sources, given, strict=True)
    ]
    k = data.draw(st.integers(2, 6))
    n = data.draw(st.integers(0, k - 1))
    exclude_seen, only = data.draw(st.booleans()), data.draw(st.booleans())
    users = people(sources, vectors, seen, own)
    found = list(score(iter([users]), shared, k, exclude_seen, only, n))
    rows = pd.concat(found).groupby("user_id") if found else {}
    model = shared.value
    for user, source in enumerate(sources):
        mine = rows.get_group(user) if user in getattr(rows, "groups", {}) else None
        left = set(range(n_items)) if model.allowed is None else set(np.flatnonzero(model.allowed))
        left -= set(seen[user]) if exclude_seen else set()
        left &= set(own[user]) if only else left
        expected = expected_list(model, source, vectors[user], left, k, n)
        assert (mine is None) == (not expected)
        if mine is None:
            continue
        assert mine["item_id"].tolist() == expected
        assert mine["rank"].tolist() == list(range(1, len(expected) + 1))
        is_cold = [model.cold is not None and bool(model.cold[item]) for item in expected]
        assert mine["cold"].tolist() == is_cold
        assert set(mine["source"]) == {source}


def test_the_places_before_the_reserved_ones_are_those_without_cold_items() -> None:
    chance = np.random.default_rng(0)
    numbers = chance.normal(size=3_000).astype(np.float32)
    cold = chance.random(3_000) < 0.1
    seen = [chance.integers(0, 3_000, 40).tolist() for _ in range(50)]
    vectors = chance.normal(size=50).tolist()
    users = people(["model"] * 50, vectors, seen, [[]] * 50)
    excluded = pd.concat(score(iter([users]), broadcast(numbers, cold, ~cold), 10, True))
    both = pd.concat(score(iter([users]), broadcast(numbers, cold, None), 10, True, reserved=3))
    columns = ["user_id", "rank", "item_id", "score"]
    first = both[both["rank"] <= 7][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        first, excluded[excluded["rank"] <= 7][columns].reset_index(drop=True)
    )
    assert both.loc[both["rank"] > 7, "cold"].all()
    assert not both.loc[both["rank"] <= 7, "cold"].any()


def test_without_cold_items_places_change_nothing() -> None:
    numbers = np.random.default_rng(1).normal(size=200).astype(np.float32)
    shared = broadcast(numbers, np.zeros(200, bool), None)
    users = people(["model", "popular"], [1.0, 0.0], [[], []], [[], []])
    plain, reserved = (pd.concat(score(iter([users]), shared, 5, True, reserved=n)) for n in (0, 2))
    pd.testing.assert_frame_equal(plain, reserved)
