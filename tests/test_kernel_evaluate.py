"""The worker that makes and measures the lists of test users, with the model and by popularity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.columns import EVALUATED_SCHEMA, names
from recsys.kernel import metrics
from recsys.kernel.evaluate import Traits, evaluate
from recsys.kernel.fold_in import plain_mean
from recsys.kernel.topk import KernelError
from recsys.kernel.worker import BroadcastModel


@dataclass
class Broadcast:
    value: Any


# Five items, the first the most popular; the model likes the last best.
CATALOGUE = Broadcast(
    BroadcastModel(
        key="measured",
        ids=np.arange(5, dtype=np.int32),
        embeddings=np.arange(5, dtype=np.float32)[:, None],
        biases=np.zeros(5, np.float32),
        positives=np.array([5, 4, 3, 2, 1], np.int32),
        allowed=None,
        fold_in=plain_mean(1),
    )
)
HOLDERS = np.array([5, 4, 3, 2, 1])
TRAITS = Broadcast(Traits(metrics.self_information(HOLDERS, 8), metrics.most_popular(HOLDERS)))


def people(**changes: Any) -> pd.DataFrame:
    """Two known users, and between them one whom the model does not know. All have seen item 2."""
    return pd.DataFrame(
        {
            "user_id": ["a", "new", "b"],
            "source": ["model", "popular", "model"],
            "embedding": [np.ones(1, np.float32), None, -np.ones(1, np.float32)],
            "bias": [0.0, None, 0.0],
            "seen": [[2], [2, 2], [2]],
            "relevant": [[0], [1], [4, 3]],
            "outside": [0, 1, 0],
            "history": [1, 0, 1],
            "segment": ["x", None, "y"],
        }
    ).assign(**changes)


def test_model_and_popularity_are_measured_by_their_own_lists_and_ranks() -> None:
    found = pd.concat(evaluate(iter([people()]), CATALOGUE, TRAITS, [1, 2], True))
    assert set(found) == set(names(EVALUATED_SCHEMA))
    two = found[found["k"] == 2].set_index(["model", "user_id"])
    lists = {key: list(items) for key, items in two["items"].items()}
    assert lists == {
        ("model", "a"): [4, 3],
        ("model", "new"): [0, 1],
        ("model", "b"): [0, 1],
        ("popularity", "a"): [0, 1],
        ("popularity", "new"): [0, 1],
        ("popularity", "b"): [0, 1],
    }
    assert two["auc"].to_dict() == {
        # Left are items 0, 1, 3 and 4. For a, three are ahead of item 0 in the model's order.
        ("model", "a"): 0.0,
        # One of three is ahead of item 1, and the item that is not in the catalogue comes last.
        ("model", "new"): pytest.approx((2 / 3 + 0) / 2),
        ("model", "b"): 0.0,
        ("popularity", "a"): 1.0,
        ("popularity", "new"): pytest.approx((2 / 3 + 0) / 2),
        ("popularity", "b"): 0.0,
    }
    assert list(two.loc["model", "full_reciprocal_rank"]) == [1 / 4, 1 / 2, 1 / 3]
    assert list(two.loc["popularity", "precision"]) == [0.5, 0.5, 0]
    assert list(two["relevant"]) == [1, 2, 2] * 2
    assert list(two["segment"].fillna("-")) == ["x", "-", "y"] * 2
    one = found[found["k"] == 1].set_index(["model", "user_id"])
    assert list(one.loc[("model", "a"), "items"]) == [4]
    assert one.loc[("model", "new"), "recall"] == 0


def test_users_are_measured_the_same_in_any_batches() -> None:
    whole = pd.concat(evaluate(iter([people()]), CATALOGUE, TRAITS, [1, 2], True))
    singly = (people().iloc[[i]] for i in range(3))
    parts = pd.concat(evaluate(singly, CATALOGUE, TRAITS, [1, 2], True))
    by = ["user_id", "model", "k"]
    pd.testing.assert_frame_equal(
        whole.sort_values(by, ignore_index=True),
        parts.sort_values(by, ignore_index=True),
        check_exact=True,
    )
    assert list(evaluate(iter([people().iloc[:0]]), CATALOGUE, TRAITS, [1], True)) == []


def test_an_error_names_the_user() -> None:
    broken = people(bias=[0.0, 0.0, np.nan])
    with pytest.raises(KernelError, match=r"model measured: .*\(user b\)"):
        list(evaluate(iter([broken]), CATALOGUE, TRAITS, [1], False))


def test_a_user_who_is_folded_in_is_measured_by_the_list_of_what_they_like() -> None:
    ways = {"source": ["model", "fold_in", "model"], "liked": [None, [3], None]}
    folded = people(**ways, seen=[[2], [2, 3], [2]], relevant=[[0], [0], [4, 3]], outside=[0, 0, 0])
    found = pd.concat(evaluate(iter([folded]), CATALOGUE, TRAITS, [2], True))
    mine = found[found["model"] == "model"].set_index("user_id")
    assert {user: list(items) for user, items in mine["items"].items()} == {
        "a": [4, 3],
        "new": [4, 1],
        "b": [0, 1],
    }
    assert mine["full_reciprocal_rank"]["new"] == 1 / 3
