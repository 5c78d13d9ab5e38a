"""Who gets what: cohorts, item lists and statuses, on small data with known answers."""

import datetime as dt
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys.errors import ConfigError, InputError
from recsys.kernel.fold_in import fold_in, plain_mean
from recsys.kernel.topk import KernelError
from recsys.kernel.worker import BroadcastModel, score
from recsys.model.arrays import load_fold_in, load_items
from tests.conftest import csv_input, run_in, table, write_csv

Run = Callable[..., dict[str, Any]]
NUMBERS = {"id_types": {"user": "int", "item": "int"}}

# Ids are numbers. Items 1-6; 7 was only ever disliked, so the model does not know it. User 9 liked
# nothing, and user 10 liked 1 and 4 after the last day that training looked at, so the model does
# not know them either. Likes: item 1 by six users, 2 by five, ...
LIKES = [(u, i) for i in range(1, 7) for u in range(1, 8 - i)]
DISLIKES = [(9, 7), (9, 1), (9, 2), (3, 7)]
LATER = [(10, 1, 5), (10, 4, 5), (10, 2, 1)]
ROWS = (
    [[u, i, 5, 1] for u, i in LIKES]
    + [[u, i, 1, 1] for u, i in DISLIKES]
    + [[u, i, rating, 90_000] for u, i, rating in LATER]
)


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Train on the data above, once; give the root and the model's id."""
    folder = tmp_path_factory.mktemp("trained")
    source = csv_input(write_csv(folder / "ratings.csv", ROWS), **NUMBERS)
    filters = {"rating_threshold": 4.0, "until": dt.date(1970, 1, 1)}
    manifest = run_in(spark, folder / "out", "train", run_id="t", input=source, filters=filters)
    return folder / "out", manifest["model_id"]


@pytest.fixture
def job(run: Run, trained: tuple[Path, str], tmp_path: Path) -> Run:
    """Score a cohort, in a copy of the root."""
    root, model_id = trained
    shutil.copytree(root, tmp_path / "out")
    numbers = itertools.count()

    def execute(**sections: Any) -> dict[str, Any]:
        return run("score", run_id=f"s{next(numbers)}", model_id=model_id, **sections)

    return execute


def listed(tmp_path: Path, name: str, text: str, column: str, **more: Any) -> dict[str, Any]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return {"path": str(path), "options": {"header": True}, "column": column, **more}


def statuses(manifest: dict[str, Any]) -> dict[Any, tuple[Any, ...]]:
    rows = table(manifest, "status")
    return {
        None if pd.isna(row.requested) else row.requested: (
            None if pd.isna(row.user_id) else int(row.user_id),
            row.times_requested,
            row.status,
            row.n_items,
            row.reason,
        )
        for row in rows.itertuples()
    }


def lists(manifest: dict[str, Any]) -> dict[int, list[int]]:
    rows = table(manifest, "recommendations").sort_values(["user_id", "rank"])
    return {user: list(group["item_id"]) for user, group in rows.groupby("user_id")}


def test_everyone_of_the_interactions_gets_a_status_and_a_way(job: Run) -> None:
    manifest = job(scoring={"k": 3})
    found = statuses(manifest)
    assert set(found) == {"1", "2", "3", "4", "5", "6", "9", "10"}
    # User 1 has seen all six items.
    assert found["1"] == (1, 1, "empty", 0, "nothing left after the filters")
    assert found["2"] == (2, 1, "scored", 1, "scored with the model")
    assert found["6"] == (6, 1, "scored", 3, "scored with the model")
    assert found["9"][1:4] == (1, "fell_back", 3)
    assert found["9"][4] == "not in the model, nothing to fold in: popular items"
    assert found["10"] == (10, 1, "folded_in", 3, "folded in from what the user likes")
    rows = table(manifest, "recommendations")
    assert set(rows.loc[rows["user_id"] < 9, "source"]) == {"model"}
    assert set(rows.loc[rows["user_id"] == 10, "source"]) == {"fold_in"}
    popular = rows[rows["user_id"] == 9].sort_values("rank")
    # The most liked that user 9 has not interacted with, and how many liked each.
    assert list(popular["item_id"]) == [3, 4, 5]
    assert list(popular["score"]) == [4.0, 3.0, 2.0]
    assert set(popular["source"]) == {"popular"}
    assert manifest["by_status"] == {
        "empty": 1,
        "fell_back": 1,
        "folded_in": 1,
        "scored": 5,
    }


def test_a_list_with_unknown_null_repeated_and_malformed_ids_loses_none_of_them(
    job: Run, tmp_path: Path
) -> None:
    text = 'user_id,n\n2,1\n2,2\n02,3\n77,4\n,5\n" ",6\nabc,7\n99999999999,8\n3.0,9\n9,10\n'
    manifest = job(
        cohort={"name": "mixed", "users": listed(tmp_path, "users.csv", text, "user_id")},
        scoring={"k": 2},
    )
    found = statuses(manifest)
    assert sum(row[1] for row in found.values()) == 10
    assert found == {
        "2": (2, 2, "scored", 1, "scored with the model"),
        "02": (2, 1, "scored", 1, "scored with the model"),
        "77": (77, 1, "fell_back", 2, "not in the model, nothing to fold in: popular items"),
        None: (None, 1, "invalid", 0, "invalid id: there is none"),
        " ": (None, 1, "invalid", 0, "invalid id: there is none"),
        "abc": (None, 1, "invalid", 0, "invalid id: not of the type int"),
        "99999999999": (None, 1, "invalid", 0, "invalid id: not of the type int"),
        "3.0": (3, 1, "scored", 2, "scored with the model"),
        "9": (9, 1, "fell_back", 2, "not in the model, nothing to fold in: popular items"),
    }
    assert lists(manifest)[77] == [1, 2]
    # Asked for three times under two names, user 2 has one list.
    rows = table(manifest, "recommendations")
    assert not rows.duplicated(["user_id", "rank"]).any()
    assert "/publications/mixed/" in manifest["outputs"]["recommendations"]["uri"]


def test_an_sql_condition_on_a_user_table_makes_a_cohort(job: Run, tmp_path: Path) -> None:
    text = "id,country,age\n2,DE,20\n3,DE,17\n4,FR,40\n9,DE,30\n"
    users = listed(tmp_path, "users.csv", text, "id", where="country = 'DE' and age >= 18")
    assert set(statuses(job(cohort={"users": users}))) == {"2", "9"}
    for where, complaint in (("no_column = 1", "no_column"), ("country =", "Syntax error|PARSE")):
        with pytest.raises(ConfigError, match=rf"cohort\.users\.where: .*({complaint})"):
            job(cohort={"users": {**users, "where": where}})


def test_a_sample_is_of_the_size_asked_for_and_the_same_for_the_same_seed(job: Run) -> None:
    first = job(cohort={"sample": 3})
    assert len(statuses(first)) == 3
    draws = {
        seed: tuple(sorted(statuses(job(cohort={"sample": 3, "seed": seed})))) for seed in (42, 43)
    }
    assert draws[42] == tuple(sorted(statuses(first)))
    assert len(set(draws.values())) > 1


def test_without_a_fallback_unknown_users_get_a_status_and_no_list(job: Run) -> None:
    manifest = job(scoring={"fallback": "none", "fold_in": "none"})
    found = statuses(manifest)
    for user in ("9", "10"):
        assert found[user][1:4] == (1, "none", 0)
        assert found[user][4].startswith("not in the model, and neither")
        assert int(user) not in lists(manifest)


def test_likes_of_the_cohorts_own_table_are_folded_in_and_left_out(
    job: Run, tmp_path: Path
) -> None:
    path = tmp_path / "new.json"
    path.write_text(
        '{"id":"50","likes":["1","4","4","x","7"],"w":[1.0,2.0,1.0,1.0,1.0]}\n'
        '{"id":"51","likes":["7"],"w":[1.0]}\n'
        '{"id":"2","likes":["6"],"w":[1.0]}\n'
    )
    users = {"format": "json", "path": str(path), "column": "id", "liked": "likes"}
    manifest = job(cohort={"users": {**users, "liked_weights": "w"}})
    found = {user: row[2] for user, row in statuses(manifest).items()}
    # 51 likes only what the model does not know; 2 is in the model.
    assert found == {"50": "folded_in", "51": "fell_back", "2": "empty"}
    folder = Path(manifest["outputs"]["recommendations"]["uri"].removeprefix("file:"))
    model = folder.parents[4] / "models" / manifest["model_id"]
    items, fitted = load_items(model), load_fold_in(model)
    rows = table(manifest, "recommendations")
    rows = rows[rows["user_id"] == 50].sort_values("rank")
    vector = fold_in(
        fitted,
        items.embeddings,
        np.array([0, 2]),
        np.array([0, 3], np.int32),
        np.array([1.0, 2.0], np.float32),
    )[0]
    scores = items.embeddings @ vector + fitted.bias_scale * items.biases
    order = [i for i in np.argsort(-scores, kind="stable") if i not in (0, 3)]
    assert list(rows["item_id"]) == [i + 1 for i in order]
    np.testing.assert_allclose(rows["score"], scores[order], rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match=r"cohort\.users\.liked: found a column of type string"):
        job(cohort={"users": {**users, "liked": "id"}})


def test_likes_are_converted_like_every_other_id_and_odd_weights_do_no_harm(
    job: Run, tmp_path: Path
) -> None:
    path = tmp_path / "new.json"
    path.write_text(
        '{"id":"50","numbers":[1.0,4.0],"texts":["1.0"," 4 "],"w":null}\n'
        '{"id":"51","numbers":[1.0,4.0],"texts":["1","4"],"w":[1e-50,1e300]}\n'
    )
    users = {"format": "json", "path": str(path), "column": "id", "liked_weights": "w"}
    for liked in ("numbers", "texts"):
        manifest = job(cohort={"users": {**users, "liked": liked}})
        # No weights are equal ones; weights that are none leave out, and are no likes.
        assert {user: row[2] for user, row in statuses(manifest).items()} == {
            "50": "folded_in",
            "51": "fell_back",
        }
        assert all(set(found) == {2, 3, 5, 6} for found in lists(manifest).values())


def test_a_list_that_cannot_be_read_is_an_error_about_the_list(job: Run, tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "a.csv").write_text("user_id,n\n2,1\n")
    (folder / "b.csv").write_text("n,user_id\n1,3\n")
    users = {"path": str(folder), "options": {"header": True}}
    with pytest.raises(InputError, match=r"cannot read .*lists as csv: .*header"):
        job(cohort={"users": users})
    pairs = {"path": str(folder), "options": {"header": True}, "item": "n"}
    with pytest.raises(InputError, match=r"cannot read .*lists as csv: .*header"):
        job(items={"candidates": pairs})
    with pytest.raises(InputError, match=r"cannot read .*lists as csv: .*header"):
        job(items={"deny": {**users, "column": "n"}})


def test_newer_interactions_are_left_out_and_folded_in(
    run: Run, job: Run, ratings_csv: Callable[..., str]
) -> None:
    rows = [*ROWS, [6, 2, 5, 1], [70, 1, 5, 1]]
    source = csv_input(ratings_csv(rows, "later.csv"), **NUMBERS)
    filters = {"rating_threshold": 4.0}
    later = run("train", run_id="later", input=source, filters=filters)
    name = later["outputs"]["interactions"]["uri"].rsplit("/", 1)[-1]
    found = job(scoring={"interactions": name})
    by_user = {user: row[2] for user, row in statuses(found).items()}
    assert (by_user["6"], by_user["70"]) == ("scored", "folded_in")
    assert set(lists(found)[6]) == {3, 4, 5, 6}  # 2 is seen since
    assert set(lists(found)[70]) == {2, 3, 4, 5, 6}
    with pytest.raises(ConfigError, match=r"scoring\.interactions: found nope, expected the id"):
        job(scoring={"interactions": "nope"})


def test_known_users_are_folded_in_on_request(job: Run) -> None:
    manifest = job(scoring={"fold_in": "all"})
    found = {user: row[2] for user, row in statuses(manifest).items()}
    assert found["2"] == found["10"] == "folded_in"
    assert found["9"] == "fell_back"
    seen = {(u, i) for u, i, *_ in ROWS}
    rows = table(manifest, "recommendations")
    assert not seen & set(zip(rows["user_id"], rows["item_id"], strict=True))


def test_allow_and_deny_lists_of_items_hold_for_every_way(job: Run, tmp_path: Path) -> None:
    text = "sku,stock,country\n3,1,DE\n4,0,DE\n5,9,DE\n6,9,FR\n6,9,DE\n7,9,DE\nx,9,DE\n"
    allow = listed(tmp_path, "a.csv", text, "sku", where="stock > 0 and country = 'DE'")
    deny = listed(tmp_path, "d.csv", "item_id\n5\n", "item_id")
    manifest = job(items={"allow": allow, "deny": deny}, scoring={"exclude_seen": False})
    assert {tuple(sorted(items)) for items in lists(manifest).values()} == {(3, 6)}
    assert lists(manifest)[9] == [3, 6]  # the popular ones
    nothing = listed(tmp_path, "n.csv", "item_id\n77\n", "item_id")
    with pytest.raises(InputError, match="leave none of the model's 6 items"):
        job(items={"allow": nothing})
    with pytest.raises(InputError, match=r"items\.deny\.column: items\.deny has no column 'itm'"):
        job(items={"deny": {**deny, "column": "itm"}})
    with pytest.raises(ConfigError, match=r"items\.deny\.format is csv: set items\.deny\.path"):
        job(items={"deny": {}})


def test_a_vector_that_is_not_finite_is_an_error_that_names_the_user() -> None:
    class Broadcast:
        value = BroadcastModel(
            key="m",
            ids=np.array([1, 2]),
            embeddings=np.ones((2, 2), np.float32),
            biases=np.zeros(2, np.float32),
            positives=np.ones(2, np.int32),
            allowed=None,
            fold_in=plain_mean(2),
        )

    users = pd.DataFrame(
        {
            "user_id": ["fine", "pop", "broken"],
            "source": ["model", "popular", "model"],
            "embedding": [np.ones(2, np.float32), None, np.array([1, np.nan], np.float32)],
            "bias": [0.0, None, 0.0],
            "seen": [[], [], []],
            "liked": [None, None, None],
            "weights": [None, None, None],
        }
    )
    with pytest.raises(KernelError, match=r"model m: .*\(user broken\)"):
        list(score(iter([users]), Broadcast(), 1, True))
    good = pd.concat(score(iter([users.iloc[[0, 1]]]), Broadcast(), 1, True))
    assert list(good["user_id"]) == ["fine", "pop"]
    assert list(good["item_id"]) == [1, 1]
