"""Metrics of lists, against known answers, naive loops, LightFM and trec_eval."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from lightfm import LightFM
from lightfm.evaluation import auc_score, precision_at_k, recall_at_k, reciprocal_rank

from recsys.kernel import metrics
from recsys.kernel.fullrank import full_ranks
from recsys.kernel.popular import Popularity
from recsys.kernel.topk import ItemMatrix, KernelError, top_k
from recsys.kernel.worker import Ragged
from tests.conftest import shared_file


def measured(top: Sequence[Any], relevant: Sequence[Any], k: int, **more: Any) -> dict[str, Any]:
    lists, wanted = Ragged.of(top), Ragged.of(relevant)
    every = (lists.indptr, lists.values, wanted.indptr, wanted.values)
    return metrics.accuracy(*every, [k], **more)[k]


def log2(*values: int) -> float:
    """The sum of 1 / log2 of these."""
    return float(sum(1 / np.log2(value) for value in values))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The list 5 3 9 7, relevant 3, 7, 1, 2 and 8: hits at ranks 2 and 4.
        ("precision", 2 / 4),
        ("recall", 2 / 5),
        ("average_precision", (1 / 2 + 2 / 4) / 5),
        ("average_precision_truncated", (1 / 2 + 2 / 4) / 4),
        ("ndcg", log2(3, 5) / log2(2, 3, 4, 5)),
        ("reciprocal_rank", 1 / 2),
        ("hit_rate", 1.0),
    ],
)
def test_each_metric_has_its_known_answer(name: str, expected: float) -> None:
    found = measured([[5, 3, 9, 7]], [[3, 7, 1, 2, 8]], 4)
    assert set(found) == set(metrics.ACCURACY)
    assert found[name].dtype == np.float64
    assert found[name] == pytest.approx([expected], abs=1e-15)


def test_a_list_is_cut_at_k_and_the_best_of_few_relevant_items_has_an_ndcg_of_one() -> None:
    found = measured([[5, 3, 9, 7], [4, 6, 1, 2]], [[9, 7], [6, 4]], 2)
    assert {name: list(value) for name, value in found.items()} == {
        "precision": [0, 1],
        "recall": [0, 1],
        "average_precision": [0, 1],
        "average_precision_truncated": [0, 1],
        "ndcg": [0, 1],
        "reciprocal_rank": [0, 1],
        "hit_rate": [0, 1],
    }
    # One relevant item at the head of three: the ideal list is no longer than what is relevant.
    assert list(measured([[1, 2, 3]], [[1]], 3)["ndcg"]) == [1.0]


def test_the_missing_places_of_a_short_or_empty_list_count_as_misses() -> None:
    found = measured([[1], []], [[1], [1]], 5)
    assert list(found["precision"]) == [1 / 5, 0]
    assert list(found["recall"]) == [1, 0]
    assert list(found["reciprocal_rank"]) == [1, 0]


def test_users_with_nothing_relevant_have_no_metrics() -> None:
    found = measured([[1, 2], [1, 2]], [[], [2]], 2)
    for value in found.values():
        assert np.isnan(value[0])
        assert not np.isnan(value[1])


def test_relevant_items_outside_the_catalogue_count_as_missed() -> None:
    found = measured([[1, 2], [1, 2]], [[1], []], 2, outside=np.array([2, 1]))
    assert list(found["recall"]) == [1 / 3, 0]
    assert list(found["average_precision"]) == [1 / 3, 0]
    assert list(found["average_precision_truncated"]) == [1 / 2, 0]
    assert list(found["ndcg"]) == [log2(2) / log2(2, 3), 0]


def test_a_k_below_one_and_another_number_of_users_are_refused() -> None:
    with pytest.raises(KernelError, match="at least 1"):
        measured([[1]], [[1]], 0)
    with pytest.raises(KernelError, match="lists for 2 users"):
        measured([[1]], [[1], [2]], 1)


def test_novelty_and_popular_share_have_their_known_answers() -> None:
    # Of 8 users all have item 0, 4 item 1, 1 item 2.
    information = metrics.self_information(np.array([8, 4, 1]), 8)
    assert list(information) == [0, 1, 3]
    popular = np.array([True, False, False])
    top = Ragged.of([[0, 1], [2], []])
    found = metrics.of_lists(top.indptr, top.values, information, popular, [1, 2])
    np.testing.assert_array_equal(found[1]["novelty"], [0, 3, np.nan])
    np.testing.assert_array_equal(found[2]["novelty"], [0.5, 3, np.nan])
    np.testing.assert_array_equal(found[2]["popular_share"], [0.5, 0, np.nan])


def test_one_percent_of_the_items_are_popular_rounded_up_and_ties_go_to_the_first_rows() -> None:
    holders = np.ones(101, np.int64)
    holders[50] = 2
    assert list(np.flatnonzero(metrics.most_popular(holders))) == [0, 50]
    assert list(np.flatnonzero(metrics.most_popular(np.array([3, 9])))) == [1]


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    # Ranks 1 and 2 of 5 items: of the three others one is ahead of both. User 1 has none relevant,
    # user 2 no other item, user 3 one relevant item outside the catalogue beside the first.
    indptr, ranks = np.array([0, 2, 2, 4, 5]), np.array([2, 1, 0, 1, 0])
    outside = np.array([0, 0, 0, 1])
    found = metrics.of_ranks(indptr, ranks, np.array([3, 5, 0, 4]), outside)
    np.testing.assert_allclose(found["auc"], [4 / 6, np.nan, np.nan, 4 / 8])
    np.testing.assert_allclose(found["full_reciprocal_rank"], [1 / 2, np.nan, 1, 1])
    only_outside = metrics.of_ranks(np.array([0, 0]), ranks[:0], np.array([4]), np.array([2]))
    assert (only_outside["auc"], only_outside["full_reciprocal_rank"]) == ([0.0], [0.0])


def naive(top: Sequence[int], relevant: set[int], k: int) -> dict[str, float]:
    hits = [int(item in relevant) for item in top[:k]]
    precisions = [sum(hits[: r + 1]) / (r + 1) * hit for r, hit in enumerate(hits)]
    gains = sum(hit / np.log2(r + 2) for r, hit in enumerate(hits))
    best = min(k, len(relevant))
    return {
        "precision": sum(hits) / k,
        "recall": sum(hits) / len(relevant),
        "average_precision": sum(precisions) / len(relevant),
        "average_precision_truncated": sum(precisions) / best,
        "ndcg": gains / sum(1 / np.log2(r + 2) for r in range(best)),
        "reciprocal_rank": 1 / (hits.index(1) + 1) if any(hits) else 0.0,
        "hit_rate": float(any(hits)),
    }


items = st.integers(0, 12)
people = st.lists(
    st.tuples(st.lists(items, unique=True, max_size=9), st.lists(items, max_size=9)), max_size=8
)


@given(people, st.sets(st.integers(1, 12), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_every_metric_equals_a_plain_loop(
    users: list[tuple[list[int], list[int]]], ks: set[int]
) -> None:
    lists, wanted = Ragged.of(t for t, _ in users), Ragged.of(r for _, r in users)
    found = metrics.accuracy(lists.indptr, lists.values, wanted.indptr, wanted.values, list(ks))
    for k in ks:
        for i, (top, relevant) in enumerate(users):
            mine = {name: value[i] for name, value in found[k].items()}
            if relevant:
                assert mine == pytest.approx(naive(top, set(relevant), k), abs=1e-12)
            else:
                assert np.isnan(list(mine.values())).all()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_popular_lists_and_ranks_equal_a_plain_loop(data: st.DataObject) -> None:
    n_items = data.draw(st.integers(1, 12))
    positives = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=n_items, max_size=n_items)), np.int32
    )
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items)))
    seen = data.draw(st.lists(st.lists(st.integers(0, n_items - 1), max_size=15), max_size=5))
    k = data.draw(st.integers(1, 14))
    popularity, done = Popularity(positives, allowed), Ragged.of(seen)
    order = sorted(np.flatnonzero(allowed).tolist(), key=lambda item: (-positives[item], item))
    left = [[item for item in order if item not in own] for own in seen]
    found = Ragged(*popularity.top(k, done.indptr, done.values))
    assert [list(part) for part in found] == [part[:k] for part in left]
    assert found.values.dtype == np.int32
    wanted = Ragged.of(part[::-1] for part in left)
    ranks = popularity.ranks(wanted.indptr, wanted.values, done.indptr, done.values)
    assert list(ranks) == [r for part in left for r in range(len(part))[::-1]]


@pytest.mark.parametrize("step", [0.0, 0.5, None])
def test_full_ranks_are_the_places_in_the_list_of_everything(step: float | None) -> None:
    """Also with equal scores: many are equal with vectors of halves, all are with zeros."""
    rng = np.random.default_rng(5)

    def vectors(*shape: int) -> Any:
        drawn = rng.standard_normal(shape).astype(np.float32)
        return drawn if step is None else np.round(drawn) * np.float32(step)

    model = (vectors(60, 3), vectors(60))
    users = (vectors(25, 3), vectors(25))
    seen = Ragged.of(rng.choice(60, rng.integers(0, 50)) for _ in range(25))
    ranked = top_k(ItemMatrix(*model), *users, 60, seen.indptr, seen.values)
    # Everything that is left is asked for, in some other order.
    lists = [part[::-1] for part in Ragged(ranked.indptr, ranked.items)]
    wanted = Ragged.of(lists)
    found = full_ranks(*model, *users, wanted.indptr, wanted.values, seen.indptr, seen.values)
    assert list(found) == [r for part in lists for r in range(len(part))[::-1]]


class Split:
    """A trained model of real data, its scores exact in float32, and pairs held out of it.

    Embeddings are rounded to steps of 1/1024, so that products and sums have no rounding and
    LightFM ranks by the same scores as the kernel; it counts equal scores against the relevant
    item, so users with such items are not compared.
    """

    def __init__(self, users: Any, items: Any, n_epochs: int) -> None:
        n_users, n_items = users.max() + 1, items.max() + 1
        test = np.random.default_rng(3).random(len(users)) < 0.2
        shape = (n_users, n_items)
        self.train = self._matrix(users[~test], items[~test], shape)
        self.test = self._matrix(users[test], items[test], shape)
        self.model = LightFM(no_components=8, loss="warp", random_state=1)
        self.model.fit(self.train, epochs=n_epochs, num_threads=1)
        n = 1000  # users enough to compare
        for name in ("user_embeddings", "user_biases", "item_embeddings", "item_biases"):
            values = np.round(getattr(self.model, name) * 1024) / 1024
            chosen = values[:n] if name.startswith("user") else values
            setattr(self.model, name, chosen.astype(np.float32))
        self.train, self.test = self.train[:n], self.test[:n]
        self.evaluated = np.diff(self.test.indptr) > 0
        self.items = (self.model.item_embeddings, self.model.item_biases)
        self.users = (self.model.user_embeddings, self.model.user_biases)
        self.seen = (self.train.indptr.astype(np.int64), self.train.indices)
        self.relevant = (self.test.indptr.astype(np.int64), self.test.indices)

    @staticmethod
    def _matrix(users: Any, items: Any, shape: tuple[int, int]) -> Any:
        return sp.coo_matrix((np.ones(len(users), np.float32), (users, items)), shape).tocsr()

    @cached_property
    def untied(self) -> Any:
        """Return which users have relevant items with scores that none of their other items has."""
        fine = np.zeros(self.test.shape[0], bool)
        for user in np.flatnonzero(self.evaluated):
            scores = self.items[0] @ self.users[0][user] + self.items[1]
            scores[self.train[user].indices] = np.inf
            own = scores[self.test[user].indices]
            rising = np.sort(scores)
            assert np.abs(own).max(initial=0) < 16  # else sums would be rounded
            times = np.searchsorted(rising, own, "right") - np.searchsorted(rising, own)
            fine[user] = (times == 1).all()
        return fine


@pytest.fixture(scope="module", params=["movietweetings", "goodbooks"])
def real(request: pytest.FixtureRequest) -> Split:
    if request.param == "movietweetings":
        path = shared_file("movietweetings/ratings.dat")
        rows = pd.read_csv(path, sep=":", header=None, usecols=[0, 2]).set_axis(["u", "i"], axis=1)
    else:
        rows = pd.read_csv(shared_file("goodbooks/ratings.csv"))
        rows = rows.rename(columns={"user_id": "u", "book_id": "i"}).query("u <= 6000")
    rows = rows.drop_duplicates(["u", "i"])
    return Split(pd.factorize(rows["u"])[0], pd.factorize(rows["i"])[0], 6)


@pytest.mark.parametrize("k", [5, 10])
def test_precision_and_recall_equal_lightfms(real: Split, k: int) -> None:
    ranked = top_k(ItemMatrix(*real.items), *real.users, k, *real.seen)
    found = metrics.accuracy(ranked.indptr, ranked.items, *real.relevant, [k])[k]
    fine = real.untied[real.evaluated]
    assert len(fine) > 400
    assert fine.mean() > 0.9
    for name, theirs in (("precision", precision_at_k), ("recall", recall_at_k)):
        expected = theirs(real.model, real.test, real.train, k=k)
        mine = found[name][real.evaluated]
        np.testing.assert_allclose(mine[fine], expected[fine], atol=1e-6, rtol=0)
        assert np.count_nonzero(expected[fine]) > 20  # there is something to compare


def test_auc_and_full_reciprocal_rank_equal_lightfms(real: Split) -> None:
    ranks = full_ranks(*real.items, *real.users, *real.relevant, *real.seen)
    n_others = real.test.shape[1] - np.diff(real.seen[0]) - np.diff(real.relevant[0])
    found = metrics.of_ranks(real.relevant[0], ranks, n_others)
    fine = real.untied[real.evaluated]
    for name, theirs in (("auc", auc_score), ("full_reciprocal_rank", reciprocal_rank)):
        expected = theirs(real.model, real.test, real.train)
        mine = found[name][real.evaluated]
        np.testing.assert_allclose(mine[fine], expected[fine], atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [3, 10])
def test_ndcg_average_precision_and_reciprocal_rank_equal_trec_evals(real: Split, k: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    ranked = top_k(ItemMatrix(*real.items), *real.users, k, *real.seen)
    found = metrics.accuracy(ranked.indptr, ranked.items, *real.relevant, [k])[k]
    users = np.flatnonzero(real.evaluated)
    wanted, lists = Ragged(*real.relevant), Ragged(ranked.indptr, ranked.items)
    truth = {str(u): {str(item): 1 for item in wanted[u]} for u in users}
    # trec_eval breaks ties by name: ranks for scores leave it none.
    run = {str(u): {str(item): float(-r) for r, item in enumerate(lists[u])} for u in users}
    names = {
        f"ndcg_cut_{k}": "ndcg",
        f"map_cut_{k}": "average_precision",
        "recip_rank": "reciprocal_rank",
        f"P_{k}": "precision",
        f"recall_{k}": "recall",
        f"success_{k}": "hit_rate",
    }
    theirs = pytrec_eval.RelevanceEvaluator(
        truth,
        {name if name == "recip_rank" else name.rsplit("_", 1)[0] + f".{k}" for name in names},
    ).evaluate(run)
    for name, mine in names.items():
        expected = [theirs[str(u)][name] for u in users]
        np.testing.assert_allclose(found[mine][users], expected, atol=1e-6, rtol=0)
