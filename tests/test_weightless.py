"""Pairs that nothing can be learned from: ratings of 0, and weights that become 0."""

import datetime as dt
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from recsys.errors import InputError, TrainingError
from recsys.learn import matrices
from tests.conftest import csv_input, model_folder, table
from tests.test_command_line import BIN, command, complaint

Run = Callable[..., dict[str, Any]]
Csv = Callable[..., str]

DAY = 86_400
TODAY = 1795478400  # 2026-11-24, the run date
LONG_AGO = TODAY - 3000 * DAY
NUMBERS = {"id_types": {"user": "int", "item": "int"}}
BY_RATING = {"sample_weights": {"rating": "log", "user_exponent": 0.5}}
BY_AGE = {"sample_weights": {"rating": "none", "user_exponent": 0.0, "half_life_days": 10.0}}

# Users 1 to 6 like items: item 1 is liked by six, 2 by five, 3 by four, 4 by three, 5 by two.
LIKES = [[user, item, 2, TODAY] for item in range(1, 6) for user in range(1, 8 - item)]
# User 8 has nothing but zeros in training, and item 9 has nothing but zeros. User 6 has one more.
ZEROS = [[8, 1, 0, TODAY], [8, 2, 0, TODAY], [8, 9, 0, TODAY], [6, 2, 0, TODAY]]
# Left out of training by the date window: a zero of user 10, and a like of user 11.
OUTSIDE = [[10, 1, 0, LONG_AGO], [11, 1, 2, LONG_AGO]]
WINDOW = {"since": dt.date(2026, 1, 1)}


def statuses(manifest: dict[str, Any]) -> dict[int, str]:
    rows = table(manifest, "status")
    return dict(zip(rows["user_id"], rows["status"], strict=True))


def lists(manifest: dict[str, Any]) -> dict[int, list[int]]:
    rows = table(manifest, "recommendations").sort_values(["user_id", "rank"])
    return {user: list(group["item_id"]) for user, group in rows.groupby("user_id")}


def labels(manifest: dict[str, Any]) -> dict[tuple[int, int], int]:
    rows = table(manifest, "interactions", "pairs")
    return {(row.user_id, row.item_id): row.label for row in rows.itertuples()}


@pytest.fixture
def zeros(ratings_csv: Csv) -> dict[str, Any]:
    return {
        "input": csv_input(ratings_csv(LIKES + ZEROS + OUTSIDE), **NUMBERS),
        "filters": WINDOW,
        "scoring": {"k": 9},
    }


def test_a_user_with_nothing_but_zeros_likes_nothing_and_falls_back(
    run: Run, zeros: dict[str, Any]
) -> None:
    manifest = run(training=BY_RATING, **zeros)
    found = labels(manifest)
    for user, item, *_ in [*ZEROS, *OUTSIDE]:
        assert found[user, item] == 0
    counts = manifest["counts"]
    assert counts["positive_pairs"] == len(LIKES)
    assert counts["pairs_left_out"] == len(ZEROS) + len(OUTSIDE)
    assert (counts["users_in_training"], counts["items_in_training"]) == (6, 5)
    # Outside training, too, a zero is no like; the like of user 11 is one.
    assert statuses(manifest) == {
        **dict.fromkeys((1, 2), "empty"),
        **dict.fromkeys((3, 4, 5, 6), "scored"),
        8: "fell_back",
        10: "fell_back",
        11: "folded_in",
    }
    # What has a rating of 0 counts as seen, and an item that nobody rates higher is not there.
    assert lists(manifest)[8] == [3, 4, 5]
    assert lists(manifest)[10] == [2, 3, 4, 5]
    assert set(lists(manifest)[6]) == {3, 4, 5}
    scored = run("score", run_id="none", model_id=manifest["model_id"], training=BY_RATING,
        scoring={"fallback": "none"}, cohort={"name": "other"})  # fmt: skip
    assert {statuses(scored)[user] for user in (8, 10)} == {"none"}


def test_a_stored_model_keeps_the_rule_that_it_was_trained_with(
    run: Run, zeros: dict[str, Any]
) -> None:
    names: list[str] = []
    equal = {"sample_weights": {"rating": "none", "user_exponent": 0.0}}
    counted = run("train", run_id="counted", training=equal, **zeros)
    assert counted["counts"]["positive_pairs"] == len(LIKES) + len(ZEROS)
    weighed = run("train", run_id="weighed", training=BY_RATING, **zeros)

    def scored(model: dict[str, Any], training: dict[str, Any], **scoring: Any) -> dict[int, str]:
        name = f"c{len(names)}"
        names.append(name)
        made = {"training": training, "scoring": scoring, "cohort": {"name": name}}
        return statuses(run("score", run_id=name, model_id=model["model_id"], **made))

    # The configuration says otherwise each time.
    found = scored(counted, BY_RATING)
    assert (found[8], found[10], found[11]) == ("scored", "folded_in", "folded_in")
    found = scored(weighed, equal)
    assert (found[8], found[10], found[11]) == ("fell_back", "fell_back", "folded_in")
    # Nor is a zero a like of users whom the model knows.
    found = scored(weighed, equal, fold_in="all")
    assert (found[6], found[8], found[10]) == ("folded_in", "fell_back", "fell_back")


def test_with_a_threshold_above_zero_a_zero_stays_a_negative(
    run: Run, zeros: dict[str, Any]
) -> None:
    training = {**BY_RATING, "loss": "logistic"}
    zeros["filters"] = {"rating_threshold": 1.0, **WINDOW}
    found = labels(run("train", run_id="above", training=training, **zeros))
    assert {found[user, item] for user, item, *_ in ZEROS} == {-1}
    zeros["filters"] = {"rating_threshold": 0.0, **WINDOW}
    found = labels(run("train", run_id="from-zero", training=training, **zeros))
    assert {found[user, item] for user, item, *_ in ZEROS} == {0}


def test_a_rating_below_zero_still_says_what_to_do_and_nothing_but_zeros_too(
    run: Run, ratings_csv: Csv, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = csv_input(ratings_csv([*LIKES, [6, 2, -1, TODAY]], "below.csv"), **NUMBERS)
    with pytest.raises(TrainingError, match="a positive pair with a rating of -1, expected none"):
        run("train", run_id="below", input=below, training=BY_RATING)
    # So it is where the user of that pair is not in the sample, and before any pair is collected.
    collected = "pairs were collected"
    monkeypatch.setattr(matrices, "_matrices", lambda *_: pytest.fail(collected))
    some = {**BY_RATING, "sample_users": 0.25, "early_stopping": {"share": 0.4, "k": 2}}
    for job, more in ("train", {}), ("tune", {"tuning": {"trials": 1}}):
        with pytest.raises(TrainingError, match="pair with a rating of -1, expected none below 0"):
            run(job, run_id=f"sampled-{job}", input=below, training=some, **more)
    nothing = csv_input(ratings_csv(ZEROS, "zeros.csv"), **NUMBERS)
    with pytest.raises(InputError, match=r"no interactions are left .* ratings of 0 are left out"):
        run("train", run_id="zeros", input=nothing, training=BY_RATING)


# With a half-life of 10 days a pair of 3000 days ago weighs 2 ** -300, which no float can hold.
# User 7 and item 6 have nothing else, user 2 and item 1 have.
OLD = [[7, 1, 2, LONG_AGO], [7, 6, 2, LONG_AGO], [2, 6, 2, LONG_AGO]]


@pytest.mark.parametrize("loss", ["warp", "logistic"])
def test_who_has_only_pairs_without_weight_is_not_in_the_model(
    run: Run, ratings_csv: Csv, loss: str
) -> None:
    source = csv_input(ratings_csv(LIKES + OLD), **NUMBERS)
    stopping = {"early_stopping": {"share": 0.4, "k": 2}}
    training = {**BY_AGE, **stopping, "loss": loss}
    gates = {"min_to_popularity": None}
    manifest = run(input=source, training=training, scoring={"k": 9}, gates=gates)
    about = yaml.safe_load((model_folder(manifest) / "manifest.json").read_text())
    assert about["training"]["weightless_pairs"] == len(OLD)
    assert (about["n_users"], about["n_items"]) == (6, 5)
    items = pd.read_parquet(model_folder(manifest) / "items").sort_values("item_index")
    assert list(items["item_id"]) == [1, 2, 3, 4, 5]
    assert list(items["positives"]) == [6, 5, 4, 3, 2]  # the old like of item 1 is none of them
    found = statuses(manifest)
    assert (found[2], found[3]) == ("empty", "scored")
    assert found[7] == "folded_in"  # it likes item 1 all the same
    assert set(lists(manifest)[7]) == {2, 3, 4, 5}
    if loss == "logistic":  # of pairs in the model
        assert about["training"]["negatives"]["drawn_per_epoch"] > 0


def test_an_evaluation_knows_who_is_not_in_the_model(run: Run, ratings_csv: Csv) -> None:
    # Held out are the pairs of the last day; user 7 has only pairs without weight before that.
    last = TODAY + DAY - 1
    rows = [*LIKES, *OLD, [7, 3, 2, last], [6, 2, 2, last], [2, 5, 2, last]]
    manifest = run(
        "evaluate",
        input=csv_input(ratings_csv(rows), **NUMBERS),
        training=BY_AGE,
        evaluation={
            "k": [2],
            "bootstrap": 20,
            "split": {"kind": "last_n", "last_n": 1},
        },
    )
    users = table(manifest, "users")
    model = users[users["model"] == "model"].set_index("user_id")
    popular = users[users["model"] == "popularity"].set_index("user_id")
    # User 2 has items 1 to 4 in training, and one pair without weight.
    assert (model.loc[2, "history"], model.loc[7, "history"]) == (4, 0)
    assert 7 in model.index
    assert model.loc[7].drop("model").equals(popular.loc[7].drop("model"))
    by_popularity = manifest["evaluation"]["users_by_popularity_alone"]
    assert by_popularity == (model["history"] == 0).sum() >= 1


def test_data_that_is_older_than_the_run_by_many_half_lives_is_trained_on(
    run: Run, ratings_csv: Csv
) -> None:
    old = [[user, item, rating, 1_000_000] for user, item, rating, _ in LIKES]
    weights = {"rating": "none", "user_exponent": 0.0, "half_life_days": 1.0}
    manifest = run(
        "train", input=csv_input(ratings_csv(old), **NUMBERS), training={"sample_weights": weights}
    )
    about = yaml.safe_load((model_folder(manifest) / "manifest.json").read_text())
    assert about["training"]["weightless_pairs"] == 0
    assert (about["n_users"], about["n_items"]) == (6, 5)


def test_ids_beyond_the_result_limit_exit_with_5_and_the_remedy(tmp_path: Path) -> None:
    # 20,000 ids of 156 characters are 3 MB; the pairs themselves are 0.4 MB.
    lines = ["user,item", *(f"{n:0156},{n % 50}" for n in range(20_000))]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    spark = {
        "spark.master": "local[2]",
        "spark.driver.memory": "700m",
        "spark.driver.maxResultSize": "2m",
        "spark.sql.shuffle.partitions": 2,
        "spark.ui.enabled": False,
    }
    config = {
        "root": str(tmp_path / "out"),
        "input": {
            "path": str(tmp_path / "ratings.csv"),
            "options": {"header": True},
            "columns": {"user": "user", "item": "item", "rating": None, "timestamp": None},
        },
        "deduplication": {"policy": "count"},
        "training": {
            "threads": 1,
            "epochs": 1,
            "no_components": 2,
            "early_stopping": None,
            "sample_users": "refuse",
        },
        "spark": spark,
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    ran: subprocess.CompletedProcess[str] = command(
        BIN / "recsys", "train", "--config", tmp_path / "c.yaml", cwd=tmp_path
    )
    assert ran.returncode == 5, ran.stderr
    assert complaint(ran) == (
        "recsys: error: 20,000 user ids are about 3 MiB to collect, but spark.driver.maxResultSize "
        "is 2m; raise it, or raise the minimum numbers of interactions in filters, or train on "
        "fewer users (training.sample_users)"
    )
