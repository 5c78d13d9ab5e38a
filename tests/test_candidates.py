"""Candidates of each user's own: ranked like everything else, none lost without a count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigError, InputError
from recsys.kernel import topk
from recsys.kernel.topk import ItemMatrix, KernelError, rank, top_k
from recsys.model.arrays import Vectors, load_users
from tests.conftest import csv_input, table
from tests.test_cohorts import ROWS, Run, lists, statuses
from tests.test_topk import assert_same, model, ragged, reference


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 6),
    m=st.integers(1, 20),
    d=st.integers(1, 5),
    k=st.integers(1, 25),
    coarse=st.booleans(),
    data=st.data(),
)
def test_candidates_are_ranked_as_a_stable_sort_of_them_alone(
    seed: int, n: int, m: int, d: int, k: int, coarse: bool, data: st.DataObject
) -> None:
    items, item_biases, users, user_biases = model(seed, n, m, d)
    if coarse:  # ties
        items, item_biases, users = (np.rint(part) for part in (items, item_biases, users))
    some = st.lists(st.lists(st.integers(0, m - 1), max_size=30), min_size=n, max_size=n)
    own, seen = data.draw(some), data.draw(some)
    allowed = data.draw(st.sets(st.integers(0, m - 1)))
    matrix = ItemMatrix(items, item_biases, allowed=np.isin(np.arange(m), list(allowed)))
    found = rank(matrix, users, user_biases, k, *ragged(own), *ragged(seen))
    for i in range(n):
        alone = slice(i, i + 1)
        expected = reference(
            items, item_biases, users[alone], user_biases[alone], k, seen[alone],
            allowed & set(own[i]),
        )  # fmt: skip
        start, stop = found.indptr[i : i + 2]
        assert found.items[start:stop].tolist() == expected.items.tolist()
        assert found.scores[start:stop].tobytes() == expected.scores.tobytes()


def test_all_items_as_candidates_give_the_list_of_top_k_in_any_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items, item_biases, users, user_biases = model(3, 40, 500, 7)
    matrix = ItemMatrix(items, item_biases)
    seen = ragged([[i, 2 * i, 499] for i in range(40)])
    own = ragged([[*range(499, -1, -1), i] for i in range(40)])
    expected = top_k(matrix, users, user_biases, 12, *seen)
    assert_same(rank(matrix, users, user_biases, 12, *own, *seen), expected)
    monkeypatch.setattr(topk, "_PAIRS_IN_BATCH", 1100)  # two users at once
    assert_same(rank(matrix, users, user_biases, 12, *own, *seen), expected)
    monkeypatch.setattr(topk, "_PAIRS_IN_BATCH", 1)  # one, whatever it takes
    assert_same(rank(matrix, users, user_biases, 12, *own, *seen), expected)
    with pytest.raises(KernelError, match="user at row 1: candidate item 500") as caught:
        rank(matrix, users[:2], user_biases[:2], 3, *ragged([[0], [500]]))
    assert caught.value.row == 1


def test_a_great_many_users_are_ranked_as_each_of_them_alone() -> None:
    n, m, k = 100_000, 50, 3
    items, item_biases, users, user_biases = model(5, n, m, 2)
    matrix = ItemMatrix(items, item_biases)
    indptr = np.arange(n + 1) * 5
    own = ((np.arange(n)[:, None] * 7 + np.arange(5) * 11) % m).astype(np.int32).reshape(-1)
    found = rank(matrix, users, user_biases, k, indptr, own)
    assert (np.diff(found.indptr) == k).all()
    for i in (0, 511, 512, 70_000, n - 1):
        some = slice(i, i + 1)
        alone = rank(matrix, users[some], user_biases[some], k, np.array([0, 5]), own[5 * i :][:5])
        assert found.items[k * i : k * i + k].tolist() == alone.items.tolist()


@pytest.fixture
def trained_users(tmp_path: Path) -> Callable[[], Vectors]:
    """Load the users of the one model in the test's own directory."""

    def load() -> Vectors:
        [folder] = (tmp_path / "out" / "models").iterdir()
        return load_users(folder)

    return load


@pytest.fixture
def logistic(run: Run, ratings_csv: Callable[..., str]) -> Run:
    source = csv_input(ratings_csv(ROWS), id_types={"user": "int", "item": "int"})
    trained = run(
        "train",
        run_id="t",
        input=source,
        filters={"rating_threshold": 4.0},
        training={"loss": "logistic"},
    )

    def execute(run_id: str, **sections: Any) -> dict[str, Any]:
        return run("score", run_id=run_id, model_id=trained["model_id"], **sections)

    return execute


def test_pairs_go_in_and_come_out_ranked_with_a_probability(logistic: Run, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    # User 2 has seen 1 to 5; 8 is nobody's item, 77 an unknown user, 3 and 9 are known.
    text = "u,i,day\n2,6,1\n2,6,1\n2,1,1\n3,6,1\n3,5,1\n3,4,1\n3,5,2\n77,2,1\n77,1,1\n9,8,1\n"
    path.write_text(text + "x,1,1\n,2,1\n6,abc,1\n")
    candidates = {
        "path": str(path), "options": {"header": True}, "user": "u", "item": "i", "where": "day = 1"
    }  # fmt: skip
    manifest = logistic("s1", items={"candidates": candidates})
    rows = table(manifest, "recommendations")
    found = lists(manifest)
    assert found[2] == [6]
    assert set(found[3]) == {5, 6}  # 4 is seen
    assert found[77] == [1, 2]  # by popularity, for there is nothing else
    assert manifest["candidates"] == {
        "rows": 12,
        "invalid_users": 2,
        "unknown_items": 2,
        "pairs": 7,
        "repeated": 1,
    }
    # Without a list of its own the cohort is whom the table has.
    assert {user: row[2] for user, row in statuses(manifest).items()} == {
        "2": "scored", "3": "scored", "77": "fell_back", "9": "empty", "x": "invalid",
        None: "invalid", "6": "empty",
    }  # fmt: skip
    assert statuses(manifest)["9"][4] == "no candidates: none of the model's items was given"
    known = rows[rows["source"] == "model"]
    expected = 1 / (1 + np.exp(-known["score"].to_numpy(np.float64)))
    np.testing.assert_allclose(known["probability"], expected, rtol=1e-6)
    assert set(rows["source"]) == {"model", "popular"}
    assert rows.loc[rows["source"] == "popular", "probability"].isna().all()

    # With everything as a candidate the lists and scores are those without candidates.
    every = tmp_path / "every.csv"
    pairs = (f"{u},{i}" for u in (2, 3, 6, 9) for i in range(1, 8))
    every.write_text("user_id,item_id\n" + "\n".join(pairs) + "\n")
    candidates = {"path": str(every), "options": {"header": True}}
    ranked = logistic("s2", items={"candidates": candidates})
    users = {"path": str(every), "options": {"header": True}}
    plain = logistic("s3", cohort={"users": users})
    columns = ["user_id", "rank", "item_id", "score", "probability", "source"]
    one, other = (
        table(made, "recommendations").sort_values(columns[:2])[columns].reset_index(drop=True)
        for made in (ranked, plain)
    )
    assert len(one) > 0
    assert one.equals(other)


def test_the_probability_of_folded_in_users_has_the_mean_user_bias_and_their_score_has_not(
    logistic: Run, trained_users: Callable[[], Vectors]
) -> None:
    found = table(logistic("s1", scoring={"fold_in": "all"}), "recommendations")
    # User 9 likes nothing, so the model's own vector makes the list.
    assert set(found["source"]) == {"fold_in", "model"}
    bias = float(trained_users().biases.astype(np.float64).mean())
    assert abs(bias) > 1e-3  # else there would be nothing to see
    score = found["score"].to_numpy(np.float64)
    logit = score + np.where(found["source"] == "fold_in", bias, 0.0)
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-logit)), rtol=1e-6)


def test_a_cohort_of_its_own_limits_candidates_and_wrong_tables_are_refused(
    logistic: Run, tmp_path: Path
) -> None:
    path, users = tmp_path / "pairs.csv", tmp_path / "users.csv"
    path.write_text("user_id,item_id\n2,6\n3,6\n")
    users.write_text("user_id\n3\n4\n")
    candidates = {"path": str(path), "options": {"header": True}}
    cohort = {"users": {"path": str(users), "options": {"header": True}}}
    deny = {"path": str(path), "options": {"header": True}, "where": "user_id = 3"}
    manifest = logistic("s1", items={"candidates": candidates}, cohort=cohort)
    assert lists(manifest) == {3: [6]}
    assert statuses(manifest)["4"][2:4] == ("empty", 0)
    manifest = logistic("s2", items={"candidates": candidates, "deny": deny}, cohort=cohort)
    assert lists(manifest) == {}
    assert statuses(manifest)["3"][4] == "nothing left after the filters"
    with pytest.raises(
        InputError, match=r"items\.candidates\.item: items\.candidates has no column 'it'"
    ):
        logistic("s3", items={"candidates": {**candidates, "item": "it"}})
    with pytest.raises(
        InputError, match=r"items\.candidates\.user: items\.candidates has no column 'us'"
    ):
        logistic("s4", items={"candidates": {**candidates, "user": "us"}})
    with pytest.raises(ConfigError, match=r"items\.candidates\.where: "):
        logistic("s5", items={"candidates": {**candidates, "where": "nope = 1"}})
