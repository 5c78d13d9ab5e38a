"""A run that trains on a sample of the users: who gets what, and what other commands make of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from recsys.cli import main
from recsys.errors import ConfigError, InputError, MemoryLimitError, ModelError
from recsys.flows import limits, refresh, samples
from recsys.ingest import features, local_pairs
from recsys.learn import matrices
from recsys.learn.sizes import FeatureSizes, Sizes
from recsys.model.arrays import load_items, load_users
from recsys.score import local_left_out
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

SEARCH = {"share": 0.3, "k": 5, "patience": 2}
TRAINING = {"early_stopping": SEARCH, "second_view": "none", "epochs": 4, "sample_users": 0.25}
LOST = ("u003", "u004")
ALONE = "u951"  # likes items that nobody else has; has features


def sections(folder: Path) -> dict[str, Any]:
    users = small_ratings(2400, users=120, seed=3)
    # An item of users whom the sample leaves out, and a user who likes nothing.
    rows = [*users, *([user, "lost", 5, 1] for user in LOST), ["u900", "i001", 1, 1]]
    rows += [[ALONE, f"mine{n}", 5, 1] for n in range(10)]
    (folder / "users.csv").write_text(
        "\n".join(["id,kind", *(f"u{n:03},{n % 2}" for n in range(60)), f"{ALONE},1", "u999,1"])
    )
    (folder / "items.csv").write_text(
        "\n".join(["id,kind", *(f"i{n:03},{n % 2}" for n in range(40)), "lost,1", "cold,0"])
    )
    about: dict[str, Any] = {"keep": "none", "cold_items": "include"}
    for kind in ("users", "items"):
        source = {"path": str(folder / f"{kind}.csv"), "options": {"header": True}, "id": "id"}
        about[kind] = {"all": {**source, "groups": {"kind": {"min_count": 1}}}}
    return {
        "input": csv_input(write_csv(folder / "ratings.csv", rows)),
        "filters": {"rating_threshold": 3.0},
        "training": TRAINING,
        "features": about,
        "gates": {"min_to_popularity": None},
    }


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sections(tmp_path_factory.mktemp("sampled"))


@pytest.fixture(scope="module")
def done(
    spark: SparkSession, given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Give the run, whose root nobody changes."""
    return run_in(spark, tmp_path_factory.mktemp("root"), "run", **given)


@pytest.fixture
def again(
    spark: SparkSession, given: dict[str, Any], done: dict[str, Any], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Run more in a copy of the root."""
    return in_a_copy(spark, tmp_path, done, given)


def manifest_of(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model_folder(run) / "manifest.json").read_text())
    return found


def trained_users(run: dict[str, Any]) -> set[str]:
    users = load_users(model_folder(run))
    return set(users.ids.filter(np.asarray(users.trained)).to_pylist())


def pairs_of(run: dict[str, Any]) -> pd.DataFrame:
    place = Path(run["outputs"]["interactions"]["uri"].removeprefix("file:"))
    return pd.read_parquet(place / "pairs")


def test_every_user_with_a_history_gets_a_list_of_their_own_and_a_status(
    done: dict[str, Any],
) -> None:
    trained = trained_users(done)
    pairs = pairs_of(done)
    liked = set(pairs[pairs["label"] == 1]["user_id"])
    status = table(done, "status").set_index("user_id")["status"]
    assert set(status.index) == set(pairs["user_id"])
    in_sample = trained & set(pairs["user_id"])
    assert 30 <= len(in_sample) < 50
    assert set(status[sorted(in_sample)]) == {"scored"}
    assert status["u900"] == "fell_back"
    left_out = sorted(liked - trained - {ALONE})
    assert len(left_out) > 60
    assert set(status[left_out]) == {"folded_in"}
    lists = table(done, "recommendations")
    theirs = lists[lists["user_id"].isin(left_out)]
    assert set(theirs["source"]) <= {"fold_in", "features"}
    assert set(theirs["user_id"]) == set(left_out)
    seen = set(zip(pairs["user_id"], pairs["item_id"], strict=True))
    assert not seen & set(zip(lists["user_id"], lists["item_id"], strict=True))
    # Who likes nothing of the model is represented by features.
    assert ALONE in liked
    assert status[ALONE] == "described"
    items = load_items(model_folder(done)).ids.to_pylist()
    assert not any(item.startswith("mine") for item in items)
    assert set(lists[lists["user_id"] == ALONE]["source"]) == {"features"}


def test_the_manifest_says_what_was_sampled_and_what_it_costs(done: dict[str, Any]) -> None:
    manifest = manifest_of(done)
    sample, pairs = manifest["sample"], pairs_of(done)
    used = pairs[pairs["label"] != 0]
    assert (sample["share"], sample["item_minimum"]) == (0.25, 5)
    assert sample["of_users"] == used["user_id"].nunique()
    assert sample["of_items"] == used["item_id"].nunique()
    assert sample["of_pairs"] == len(used)
    mine = used[used["user_id"].isin(trained_users(done))]
    assert (sample["users"], sample["pairs"]) == (mine["user_id"].nunique(), len(mine))
    assert sample["items"] == mine["item_id"].nunique() < sample["of_items"]
    out = sample["left_out"]
    assert out["metric"] == "ndcg@5"
    assert out["low"] < out["ndcg"] < out["high"]
    assert -1 < out["cost"] < 1
    assert done["sample"] == sample


def test_popularity_is_that_of_all_users_and_features_represent_those_without_history_alone(
    done: dict[str, Any],
) -> None:
    folder, pairs = model_folder(done), pairs_of(done)
    items, users = load_items(folder), load_users(folder)
    liked = pairs[pairs["label"] == 1].groupby("item_id").size()
    found = dict(zip(items.ids.to_pylist(), items.positives, strict=True))
    assert found == {item: liked.get(item, 0) for item in found}
    assert items.ids.filter(np.asarray(~items.trained)).to_pylist() == ["cold"]
    assert users.ids.filter(np.asarray(~users.trained)).to_pylist() == [ALONE, "u999"]
    about = manifest_of(done)["features"]
    assert (about["items"]["cold"], about["users"]["cold"]) == (1, 2)


def test_a_local_model_folds_in_whom_the_sample_left_out_as_the_lists_do(
    done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(done)
    model = LocalModel.load(folder)
    lists = table(done, "recommendations").sort_values(["user_id", "rank"])
    trained = load_users(folder).ids.to_pylist()
    one = next(u for u in lists["user_id"] if u not in trained and u < "u900")
    other = next(u for u in lists["user_id"] if u in trained)
    monkeypatch.setattr(local_left_out, "read_local_manifest", lambda _: pytest.fail("read again"))
    made = model.recommend_users([one, other])
    assert list(dict.fromkeys(made["user_id"])) == [one, other]
    for user in (one, other):
        published = lists[lists["user_id"] == user]
        mine = made[made["user_id"] == user]
        assert list(mine["item_id"]) == list(published["item_id"])
        assert list(mine["score"]) == list(published["score"])
        assert list(mine["source"]) == list(published["source"])
    vector = model.user(one)
    item = model.item(made["item_id"][0])
    fitted = model._lists.model.fold_in
    score = vector.embedding @ item.embedding + fitted.bias_scale * item.bias
    assert score == pytest.approx(made["score"][0], rel=1e-5)
    with pytest.raises(ConfigError, match="expected one of the model's"):
        model.user("nobody")
    with pytest.raises(ConfigError, match="the model does not have 1 of 2, such as nobody"):
        model.recommend_users([one, "nobody"])


def test_a_local_model_reads_what_those_have_done_who_are_asked_for_and_says_where_it_is_expected(
    done: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[set[str], set[str]]] = []
    before = local_left_out.read_local_pairs

    def reading(place: Path, users: Any = None) -> Any:
        found = before(place, users)
        whose = set() if users is None else set(users.to_pylist())
        read.append((whose, set(found.column("user_id").to_pylist())))
        return found

    held: set[str] = set()
    before_table = local_pairs.pq.read_table

    def reading_table(place: Path, **more: Any) -> Any:
        found = before_table(place, **more)
        if "rating" in found.column_names:
            held.update(found.column("user_id").to_pylist())
        return found

    monkeypatch.setattr(local_left_out, "read_local_pairs", reading)
    monkeypatch.setattr(local_pairs.pq, "read_table", reading_table)
    folder, status = model_folder(done), table(done, "status")
    trained = load_users(folder).ids[0].as_py()
    one, other = status[status["status"] == "folded_in"]["user_id"][:2]
    model = LocalModel.load(folder)
    model.user(one)
    assert len(model.recommend_users([trained, one, other])) == 30
    model.user(trained)
    model.user("u999")  # has nothing but features, and has seen nothing
    assert len(model.recommend_users([trained, "u999"])) == 20
    assert read == [({one}, {one}), ({one, other}, {one, other})]
    assert held == {one, other}  # the pairs of others do not even pass through memory
    copied = tmp_path / folder.name
    shutil.copytree(folder, copied)
    alone = LocalModel.load(copied)
    assert len(alone.recommend_users([trained, "u999"])) == 20
    expected = "trained on a sample of the users.* expected them in .*; copy them with the model"
    for ask in (alone.user, lambda user: alone.recommend_users([user])):
        with pytest.raises(ModelError, match=expected):
            ask(one)


def test_with_fold_in_none_and_with_newer_interactions_those_left_out_are_folded_in_too(
    again: Callable[..., dict[str, Any]], done: dict[str, Any]
) -> None:
    before = table(done, "status").set_index("user_id")["status"]
    model, name = done["model_id"], done["outputs"]["interactions"]["uri"].rpartition("/")[2]
    for n, scoring in enumerate(({"fold_in": "none"}, {"interactions": name})):
        run = again("score", run_id=f"s{n}", model_id=model, scoring=scoring)
        assert table(run, "status").set_index("user_id")["status"].to_dict() == before.to_dict()
    # What they are asked to explain is what was published.
    place = Path(run["outputs"]["recommendations"]["uri"].removeprefix("file:"))
    root = ["--set", f"root={place.parents[4]}"]
    lists = table(run, "recommendations").sort_values(["user_id", "rank"])
    theirs = lists[lists["source"] == "fold_in"].iloc[0]
    for run_id in ("r1", "s0", "s1"):
        asked = ["--user", theirs["user_id"], "--item", theirs["item_id"], "--run", run_id]
        found = json.loads(printed("why", *asked, "--json", *root))
        assert (found["source"], found["rank"], found["reproduced"]) == ("fold_in", 1, True)
        assert found["parts"]["exact"]
    (same,) = json.loads(printed("diff", "r1", "s0", "--json", *root))
    assert same["causes"] == []


def printed(*given: str) -> str:
    result = CliRunner().invoke(main, list(given))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_without_a_described_user_in_the_sample_the_features_of_users_say_nothing(
    again: Callable[..., dict[str, Any]],
    given: dict[str, Any],
    done: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = table(done, "status")
    left_out = status[status["status"] == "folded_in"]["user_id"][:3]
    (tmp_path / "few.csv").write_text("\n".join(["id,kind", *(f"{user},1" for user in left_out)]))
    few = {**given["features"]["users"]["all"], "path": str(tmp_path / "few.csv")}
    about = {**given["features"], "users": {"all": few}}
    run = again("train", run_id="few", features=about)
    assert "features.users: none of the sample (training.sample_users) has features" in caplog.text
    assert manifest_of(run)["features"]["users"] is None
    assert manifest_of(run)["features"]["items"]["cold"] == 1
    # Where nobody at all has them, it is the wrong column.
    (tmp_path / "few.csv").write_text("id,kind\nx1,1\nx2,1")
    with pytest.raises(InputError, match="none of the 2 users that have features"):
        again("train", run_id="wrong", features=about)


def test_a_retry_takes_up_the_sampled_model_whatever_the_memory_is_by_now(
    again: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = {"sample_users": "auto"}
    room_for(600, monkeypatch)
    first = again("train", run_id="t", training=auto)
    sample = manifest_of(first)["sample"]
    assert sample["share"] < 1
    assert sample["reason"] == f"{sample['of_pairs']} pairs are too many"
    monkeypatch.undo()
    record = model_folder(first).parents[1] / "runs" / "t"
    shutil.rmtree(record)  # as if it had been killed after the model
    second = again("train", run_id="t", training=auto)
    assert second["model_id"] == first["model_id"]
    shutil.rmtree(record)
    shutil.rmtree(model_folder(first))
    third = again("train", run_id="t", training=auto)
    assert third["model_id"] != first["model_id"]
    assert manifest_of(third)["sample"] is None


def room_for(n_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Any, sizes: Sizes, *__: Any, **given: Any) -> None:
        if sizes.pairs > n_pairs:
            raise MemoryLimitError(f"{sizes.pairs} pairs are too many{given['or_else']}")

    monkeypatch.setattr(matrices, "check_collectable", check)


def test_what_needs_all_users_is_refused_with_a_reason(
    again: Callable[..., dict[str, Any]], done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigError, match=r"training\.sample_users: found 0\.5, but model .* 0\.25"
    ):
        again("train", run_id="w", model_id=again_resumable(again), training={"sample_users": 0.5})
    room_for(600, monkeypatch)
    few = r"pairs are too many, or train on fewer users \(training\.sample_users\)"
    looked: list[Any] = []
    monkeypatch.setattr(limits, "training", lambda *found: looked.append(found[2].sample_users))
    with pytest.raises(MemoryLimitError, match=few):
        again("tune", run_id="x", training={"sample_users": "auto"}, tuning={"trials": 1})
    with pytest.raises(MemoryLimitError, match=few):
        again("train", run_id="y", training={"sample_users": "refuse"})
    # The preflight looks at what the commands make of the settings.
    assert looked == ["refuse", "refuse"]


def again_resumable(again: Callable[..., dict[str, Any]]) -> str:
    run = again("train", run_id="base", training={"resumable": True}, features={})
    model: str = run["model_id"]
    return model


def test_a_training_goes_on_with_the_share_that_it_had(
    again: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = again_resumable(again)
    looked: list[Any] = []
    monkeypatch.setattr(limits, "training", lambda *found: looked.append(found[2].sample_users))
    more = {"sample_users": "auto", "resumable": True, "epochs_from": 1}
    run = again("train", run_id="on", model_id=base, training=more, features={})
    manifest = manifest_of(run)
    assert manifest["sample"]["share"] == 0.25
    assert manifest["warm_start"]["new_users"] == 0
    assert looked == [0.25]
    assert manifest["sample"]["left_out"]["cost"] is None  # there is no search


def test_a_refresh_takes_a_sample_where_not_all_fit_and_everyone_is_served(
    again: Callable[..., dict[str, Any]], done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(800, monkeypatch)
    listed: list[Any] = []
    monkeypatch.setattr(refresh, "states", lambda *_: (listed.append(0), features.states(*_))[1])
    run = again("refresh", run_id="f", model_id=done["model_id"], training={"sample_users": "auto"})
    manifest = manifest_of(run)
    assert 0 < manifest["sample"]["share"] < 1
    assert manifest["sample"]["left_out"] is None
    items, pairs = load_items(model_folder(run)), pairs_of(run)
    liked = pairs[pairs["label"] == 1].groupby("item_id").size()
    found = dict(zip(items.ids.to_pylist(), items.positives, strict=True))
    assert found == {item: liked.get(item, 0) for item in found}
    # Tables of features are listed once, so that the model has the name of what it was made of.
    assert len(listed) == 1
    # The numbers are those of all users, whoever is in the sample.
    told, like = manifest["refresh"], pairs[pairs["label"] == 1]
    there = like[like["item_id"].isin(items.ids.to_pylist())]
    waiting = like[~like["item_id"].isin(items.ids.to_pylist())]
    assert (told["pairs"], told["users"]) == (len(there), there["user_id"].nunique())
    assert told["users_left_out"] == like["user_id"].nunique() - told["users"]
    assert told["waiting_items"] == waiting["item_id"].nunique()
    assert told["waiting_pairs"] == len(waiting)
    learned = load_users(model_folder(done))
    learned_ids = learned.ids.filter(np.asarray(learned.trained)).to_pylist()
    assert told["new_users"] == len(set(there["user_id"]) - set(learned_ids)) > 50
    before, after = (table(one, "status").set_index("user_id")["status"] for one in (done, run))
    personal = {"scored", "folded_in"}
    assert after.isin(personal).to_dict() == before.isin(personal).to_dict()
    # The training is the same, so that it can be compared.
    assert manifest["training"]["sample_share"] == 0.25


def test_features_that_stay_with_users_who_are_left_out_are_counted_before_they_are_collected(
    again: Callable[..., dict[str, Any]], done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FeatureSizes] = []
    most = 10_000

    def check(*_: Any, features: FeatureSizes, or_else: str, **__: Any) -> None:
        asked.append(features)
        if features.rows > most:
            raise MemoryLimitError(f"{features.rows} features are too many{or_else}")

    monkeypatch.setattr(matrices, "check_collectable", check)
    for job, model in ("train", ""), ("refresh", done["model_id"]):
        most = 10_000
        again(job, run_id=job, model_id=model)
        # ALONE likes nothing that the model has, so that features stay.
        expected, found = asked[-2:]
        assert (found.rows, found.ids) == (expected.rows + 1, expected.ids + 1)
        most = expected.rows
        with pytest.raises(MemoryLimitError, match=r"are too many, or train on fewer users"):
            again(job, run_id=f"{job}-less", model_id=model)


def test_an_evaluation_measures_those_left_out_as_they_are_served(
    again: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    before = samples.with_weight
    monkeypatch.setattr(
        samples, "with_weight", lambda *given: (looked.append(0), before(*given))[1]
    )
    run = again("evaluate", run_id="e", evaluation={"k": [5], "auc": True, "bootstrap": 10})
    assert len(looked) == 2  # for features and for the counts of items; users were counted before
    counts = run["evaluation"]
    assert counts["users_folded_in"] > 50
    assert run["training"]["sample"]["share"] == 0.25
    assert run["sample"] == run["training"]["sample"]
    assert run["sample"]["left_out"] is None
    tuned = again("tune", run_id="x", tuning={"trials": 1})
    assert tuned["sample"]["share"] == 0.25
    users = table(run, "users")
    mine = users[users["model"] == "model"]
    assert len(mine) == counts["users_evaluated"]
    # Histories are those of all pairs to learn from, and lists are not popular ones.
    assert (mine["history"] > 3).mean() > 0.9
    other = users[users["model"] == "popularity"].set_index("user_id")["auc"]
    assert (mine.set_index("user_id")["auc"] != other).mean() > 0.8
