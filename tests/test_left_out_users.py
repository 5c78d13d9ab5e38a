"""Who counts as left out of a sampled model where pairs have no weight, or users are unknown."""

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from recsys.cli import main
from recsys.errors import ModelError
from recsys.evaluate import held_out
from recsys.flows import samples, score
from recsys.model import arrays
from recsys.model.arrays import load_fold_in, load_items, load_users
from recsys.score.local import LocalModel
from tests.conftest import (
    csv_input,
    in_a_copy,
    model_folder,
    run_in,
    small_ratings,
    table,
    write_csv,
)

Again = Callable[..., dict[str, Any]]

DAY = 86_400
TODAY = 1795478400  # 2026-11-24, the run date
LONG_AGO = TODAY - 3000 * DAY  # with a half-life of 10 days no float can hold the weight
BEFORE = 1_000_000  # the window of the training begins later
LIKED = ("i001", "i003", "i010")
# Nobody has learned from these. `old` and `plain` have pairs without weight, `early` has pairs
# outside the window; `old` and `kind` have features.
OTHERS = [
    *([user, item, 5, LONG_AGO] for user in ("old", "plain") for item in LIKED),
    *(["early", item, 5, BEFORE] for item in LIKED),
    ["kind", "i001", 1, LONG_AGO],
]
WEIGHTS = {"rating": "none", "user_exponent": 0.0, "half_life_days": 10.0}


def ratings() -> list[list[Any]]:
    usual = small_ratings(2400, users=120, seed=3)
    return [[user, item, rating, TODAY - 5 * DAY + time] for user, item, rating, time in usual]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("left-out")
    some = [*(f"u{n:03},{n % 2}" for n in range(60)), "old,1", "kind,0"]
    (folder / "users.csv").write_text("\n".join(["id,kind", *some]))
    source = {"path": str(folder / "users.csv"), "options": {"header": True}, "id": "id"}
    described = {"all": {**source, "groups": {"kind": {"min_count": 1}}}}
    return {
        "input": csv_input(write_csv(folder / "ratings.csv", ratings() + OTHERS)),
        "filters": {"rating_threshold": 3.0, "since": dt.date(2000, 1, 1)},
        "training": {
            "second_view": "none",
            "epochs": 4,
            "sample_users": 0.25,
            "sample_weights": WEIGHTS,
        },
        "features": {"keep": "none", "users": described},
        "gates": {"min_to_popularity": None},
    }


@pytest.fixture(scope="module")
def done(
    spark: SparkSession, given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Give the run, whose root nobody changes."""
    return run_in(spark, tmp_path_factory.mktemp("root"), "run", **given)


@pytest.fixture
def again(
    spark: SparkSession, given: dict[str, Any], done: dict[str, Any], tmp_path: Path
) -> Again:
    """Run more in a copy of the root."""
    return in_a_copy(spark, tmp_path, done, given)


def statuses(run: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = table(run, "status").set_index("user_id")["status"].to_dict()
    return found


def test_described_users_who_like_something_without_weight_are_folded_in_by_both_ways(
    done: dict[str, Any],
) -> None:
    folder = model_folder(done)
    users, items = load_users(folder), load_items(folder)
    untrained = users.ids.filter(np.asarray(~users.trained)).to_pylist()
    assert untrained == ["kind", "old"]
    found = statuses(done)
    assert (found["old"], found["plain"], found["kind"]) == ("folded_in", "folded_in", "described")
    model, lists = LocalModel.load(folder), table(done, "recommendations")
    asked = ["old", users.ids[-1].as_py(), "plain", "kind"]
    made = model.recommend_users(asked)
    assert list(dict.fromkeys(made["user_id"])) == asked
    bias_scale = load_fold_in(folder, items).bias_scale
    for user in asked:
        published = lists[lists["user_id"] == user].sort_values("rank")
        mine = made[made["user_id"] == user]
        for column in ("item_id", "score", "source"):
            assert list(mine[column]) == list(published[column]), (user, column)
        vector, best = model.user(user), model.item(published["item_id"].iloc[0])
        folded = found[user] == "folded_in"
        score = vector.embedding @ best.embedding + vector.bias
        score += best.bias * (bias_scale if folded else 1)
        assert score == pytest.approx(published["score"].iloc[0], rel=1e-5), user


def test_without_the_interactions_those_are_served_by_features_who_have_some_and_others_are_not(
    done: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = model_folder(done)
    copied = tmp_path / folder.name
    shutil.copytree(folder, copied)
    model = LocalModel.load(copied)
    trained = load_users(folder).ids[-1].as_py()
    made = model.recommend_users([trained, "kind", "old"])
    sources = made.groupby("user_id")["source"].unique().map(list).to_dict()
    assert sources == {trained: ["model"], "kind": ["features"], "old": ["features"]}
    said = [line for line in caplog.messages if "are served by features alone" in line]
    assert len(said) == 1
    assert ": 2 of the users who are asked for have seen something" in said[0]
    # Nobody of these is folded in by the model in its root, either.
    pd.testing.assert_frame_equal(
        model.recommend_users(["kind"]), LocalModel.load(folder).recommend_users(["kind"])
    )
    kind, users = model.user("kind"), load_users(folder)
    assert (kind.embedding == users.embeddings[users.ids.index("kind").as_py()]).all()
    for ask in (model.user, lambda user: model.recommend_users(["kind", user])):
        with pytest.raises(ModelError, match="copy them with the model"):
            ask("plain")


def test_of_one_described_user_a_local_model_reads_no_others(
    done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = LocalModel.load(model_folder(done)), list[list[str]]()
    model.user("kind")
    before = arrays.pq.read_table

    def reading(place: Path, **more: Any) -> Any:
        found = before(place, **more)
        read.append(found.column("user_id").to_pylist())
        return found

    monkeypatch.setattr(arrays.pq, "read_table", reading)
    for user in ("kind", "old"):
        read.clear()
        model.user(user)
        assert {who for part in read for who in part} == {user}


def test_of_those_left_out_a_run_looks_only_for_users_who_are_asked_for(
    spark: SparkSession,
) -> None:
    pairs = [("out", 1), ("known", 1), ("doubt", 0), ("away", 1), ("out", 1)]
    trained_on = spark.createDataFrame(pairs, "user_id string, label int")
    users = spark.createDataFrame([("known",)], "user_id string")
    asked = spark.createDataFrame([("out",), ("known",), ("doubt",), (None,)], "user_id string")
    found = score._left_out(trained_on, SimpleNamespace(users=users), asked)  # type: ignore[arg-type]
    assert [row.user_id for row in found.collect()] == ["out"]


def test_the_share_of_users_who_have_an_item_is_of_users_whose_pairs_have_weight(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Any] = []
    count = samples.counts_of_items
    monkeypatch.setattr(
        samples, "counts_of_items", lambda *given: (counted.append(0), count(*given))[1]
    )
    told: list[tuple[Any, int]] = []
    before = held_out.item_traits

    def noting(holders: Any, n_users: int) -> Any:
        told.append((holders, n_users))
        return before(holders, n_users)

    monkeypatch.setattr(held_out, "item_traits", noting)
    again("evaluate", run_id="e", features={}, evaluation={"k": [5], "bootstrap": 10})
    ((holders, n_users),) = told
    everyone = {user for user, *_ in ratings()}
    assert n_users == len(everyone) == 120
    assert 0 < holders.min() <= holders.max() <= n_users
    assert len(counted) == 1  # the pairs are looked at once for all who have and who like an item


def test_a_refresh_that_is_tried_again_with_another_share_takes_up_no_model_of_the_first_try(
    again: Again, done: dict[str, Any]
) -> None:
    made: dict[str, str] = {}
    for wanted in (0.5, "auto", 0.25, "refuse"):
        run = again(
            "refresh", run_id="f", model_id=done["model_id"], training={"sample_users": wanted}
        )
        root = model_folder(run).parents[1]
        shutil.rmtree(root / "runs" / "f")  # as if it had been killed
        shutil.rmtree(root / "publications")
        made[str(wanted)] = run["model_id"]
    # Where all users fit, `auto` and `refuse` make the same.
    assert made["auto"] == made["refuse"]
    assert len(set(made.values())) == 3


def test_with_fold_in_none_nobody_is_folded_in_but_those_whom_the_sample_left_out(
    again: Again, given: dict[str, Any], done: dict[str, Any], tmp_path: Path
) -> None:
    before = statuses(done)
    assert before["early"] == before["old"] == "folded_in"
    model = {"model_id": done["model_id"], "cohort": {"name": "all"}}
    run = again("score", run_id="n", scoring={"fold_in": "none"}, **model)
    # Outside the training are the pairs of `early`; with weight, `old` would have been left out.
    assert statuses(run) == {**before, "early": "fell_back", "old": "described"}
    left_out = next(user for user, status in before.items() if status == "folded_in")
    trained = next(user for user, status in before.items() if status == "scored")
    check_explained(run, {"early": "popular", "old": "features", left_out: "fold_in"})
    (found,) = json.loads(printed(run, "diff", "r1", "n", "--json"))
    # Of popular items several are liked by as many.
    assert {row["cause"] for row in found["causes"]} == {"configuration", "tie"}

    # Nor are they with newer interactions, and with likes from the list of the cohort.
    rows = [*ratings(), *OTHERS, *(["next", item, 5, TODAY] for item in LIKED)]
    newer = csv_input(write_csv(tmp_path / "newer.csv", rows))
    made = again("train", run_id="newer", input=newer)
    interactions = made["outputs"]["interactions"]["uri"].rpartition("/")[2]
    asked = [left_out, trained, "next", "fresh"]
    lines = [json.dumps({"id": user, "likes": ["i003", "i005"]}) for user in asked]
    (tmp_path / "asked.json").write_text("\n".join(lines))
    users = {"format": "json", "path": str(tmp_path / "asked.json"), "column": "id"}
    expected = {left_out: "folded_in", trained: "scored", "next": "fell_back", "fresh": "fell_back"}
    for run_id, fold_in in (("m", "none"), ("w", "new")):
        run = again(
            "score",
            run_id=run_id,
            model_id=done["model_id"],
            scoring={"fold_in": fold_in, "interactions": interactions},
            cohort={"name": "some", "users": {**users, "liked": "likes"}},
        )
        assert statuses(run) == expected
        way = "fold_in" if fold_in == "new" else "popular"
        check_explained(run, {left_out: "fold_in", "next": way, "fresh": way})
        expected |= {"next": "folded_in", "fresh": "folded_in"}


def check_explained(run: dict[str, Any], sources: dict[str, str]) -> None:
    """Ask why the first item of users is in their lists: made again, it is the published one."""
    lists = table(run, "recommendations")
    for user, source in sources.items():
        first = lists[(lists["user_id"] == user) & (lists["rank"] == 1)].iloc[0]
        asked = ["--user", user, "--item", first["item_id"], "--run", run["run_id"]]
        cohort = ["--cohort", first["cohort"]]
        found = json.loads(printed(run, "why", *asked, *cohort, "--json"))
        assert (found["source"], found["rank"], found["reproduced"]) == (source, 1, True), user


def printed(run: dict[str, Any], *given: str) -> str:
    place = Path(run["outputs"]["recommendations"]["uri"].removeprefix("file:"))
    result = CliRunner().invoke(main, [*given, "--set", f"root={place.parents[4]}"])
    assert result.exit_code == 0, result.output
    return result.stdout
