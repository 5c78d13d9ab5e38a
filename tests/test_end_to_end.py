"""The whole job on small data, in the suite's session."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys.config.sections import Input
from recsys.errors import (
    ConfigError,
    InputError,
    OutputError,
    TooManyRejectsError,
    TrainingError,
)
from recsys.ingest.source import read_ratings
from tests.conftest import RUN_DATE, csv_input, model_folder, small_ratings, table

Run = Callable[..., dict[str, Any]]
Csv = Callable[..., str]


def lists(manifest: dict[str, Any]) -> dict[Any, list[Any]]:
    """Return each user's items, best first."""
    found = table(manifest, "recommendations").sort_values(["user_id", "rank"])
    return {user: list(rows) for user, rows in found.groupby("user_id")["item_id"]}


def published(out: Path) -> set[str]:
    """Return all directories below a root that hold tables."""
    return {str(path.parent.relative_to(out)) for path in out.rglob("*.parquet")}


def test_the_output_keeps_its_contract(
    spark: SparkSession, run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    manifest = run(input=csv_input(ratings_csv(small_ratings())), scoring={"k": 5})
    place = tmp_path / "out/publications/all/2026-11-24/r1/recommendations"
    assert manifest["outputs"]["recommendations"]["uri"] == f"file:{place}"
    frame = spark.read.parquet(str(place))
    assert [(f.name, f.dataType.simpleString()) for f in frame.schema] == [
        ("run_date", "date"),
        ("cohort", "string"),
        ("user_id", "string"),
        ("rank", "int"),
        ("item_id", "string"),
        ("score", "float"),
        ("probability", "float"),
        ("source", "string"),
        ("model_id", "string"),
        ("run_id", "string"),
        ("generated_at", "timestamp"),
    ]
    found = table(manifest, "recommendations")
    assert len(found) == 30 * 5 == manifest["outputs"]["recommendations"]["rows"]
    for _, rows in found.groupby("user_id"):
        assert list(rows["rank"]) == [1, 2, 3, 4, 5]
        assert rows["score"].is_monotonic_decreasing
        assert rows["item_id"].is_unique
    assert set(found["model_id"]) == {manifest["model_id"]}
    assert set(found["run_id"]) == {"r1"}
    assert found["probability"].isna().all()  # by the logistic loss alone
    assert not found.drop(columns="probability").isna().any().any()
    assert set(found["run_date"]) == {RUN_DATE}
    assert set(found["cohort"]) == {"all"}
    assert not (tmp_path / "out/_staging").exists()
    assert {p.suffix for p in place.iterdir() if p.name[0] not in "._"} == {".parquet"}


def test_what_a_user_has_interacted_with_is_left_out_unless_configured(
    run: Run, ratings_csv: Csv
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    settings = {"input": source, "filters": {"rating_threshold": 4.0}}
    left_out = run(**settings, scoring={"k": 40})
    pairs = table(left_out, "interactions", "pairs")
    seen = set(zip(pairs["user_id"], pairs["item_id"], strict=True))
    items = set(pairs.loc[pairs["label"] == 1, "item_id"])
    for user, recommended in lists(left_out).items():
        # k is beyond the catalogue, so exactly what is left must be there.
        assert set(recommended) == {item for item in items if (user, item) not in seen}
    kept = run(run_id="r2", **settings, scoring={"k": 40, "exclude_seen": False})
    assert all(set(recommended) == items for recommended in lists(kept).values())


def test_the_lists_are_the_same_for_any_partitioning_and_order_of_the_rows(
    spark: SparkSession, run: Run, ratings_csv: Csv
) -> None:
    rows = small_ratings()
    answers = []
    # Small files would otherwise share a partition.
    spark.conf.set("spark.sql.files.openCostInBytes", str(2**30))
    for parts in (1, 2, 7):
        random.Random(parts).shuffle(rows)
        paths = [ratings_csv(rows[n::parts], f"{parts}-{n}.csv") for n in range(parts)]
        source = {**csv_input(paths[0]), "path": paths}
        raw = read_ratings(spark, Input.model_validate(source)).rows
        assert raw.rdd.getNumPartitions() == parts
        manifest = run(
            run_id=f"r{parts}",
            input=source,
            filters={"rating_threshold": 3.0},
            scoring={"users_per_file": 7 * parts},
        )
        found = table(manifest, "recommendations").sort_values(["user_id", "rank"])
        answers.append(found[["user_id", "rank", "item_id", "score"]].reset_index(drop=True))
    spark.conf.unset("spark.sql.files.openCostInBytes")
    pd.testing.assert_frame_equal(answers[0], answers[1], check_exact=True)
    pd.testing.assert_frame_equal(answers[0], answers[2], check_exact=True)


@pytest.mark.parametrize(("kind", "arrow"), [("int", "int32"), ("long", "int64")])
def test_ids_come_out_in_the_type_that_the_configuration_says(
    run: Run, ratings_csv: Csv, kind: str, arrow: str
) -> None:
    rows = [[user[1:], item[1:], *rest] for user, item, *rest in small_ratings(300)]
    source = csv_input(ratings_csv(rows), id_types={"user": kind, "item": kind})
    found = table(run(input=source), "recommendations")
    assert (str(found["user_id"].dtype), str(found["item_id"].dtype)) == (arrow, arrow)


def test_the_sample_that_pyspark_carries_runs_as_movielens_does(run: Run) -> None:
    import pyspark

    path = Path(pyspark.__file__).parent / "data/mllib/als/sample_movielens_ratings.txt"
    manifest = run(
        input={
            "path": str(path),
            "options": {"sep": "::"},
            "columns": {"user": "_c0", "item": "_c1", "rating": "_c2", "timestamp": "_c3"},
            "id_types": {"user": "int", "item": "int"},
        }
    )
    assert manifest["counts"]["rows_read"] == 1501
    assert len(table(manifest, "recommendations")) == 30 * 10


def test_rejected_rows_are_counted_recorded_and_kept_with_their_reasons(
    run: Run, ratings_csv: Csv
) -> None:
    bad = [["", "i1", 3, 1], ["u1", " ", 3, 1], ["u1", "i1", "x", 1], ["u1", "i1", 9, 1], ["u1"]]
    manifest = run(
        input=csv_input(ratings_csv(small_ratings() + bad)), row_checks={"rating_max": 5.0}
    )
    counts = manifest["counts"]
    assert (counts["rows_read"], counts["rows_accepted"], counts["rows_rejected"]) == (905, 900, 5)
    assert counts["rejected_by_reason"] == {
        "item_missing": 1,
        "malformed_line": 1,
        "rating_out_of_range": 1,
        "rating_unparsable": 1,
        "user_missing": 1,
    }
    rejects = table(manifest, "rejects")
    assert sorted(rejects["reason"]) == sorted(counts["rejected_by_reason"])
    assert rejects.set_index("reason").loc["malformed_line", "line"] == "u1"


def test_too_many_rejects_stop_the_job_before_training_and_stay_to_be_looked_at(
    run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    bad = [["", "i1", 3, 1]] * 30 + [["u", "i", "?", 1]] * 10
    source = csv_input(ratings_csv(small_ratings(60) + bad))
    with pytest.raises(TooManyRejectsError) as caught:
        run(input=source)
    message = str(caught.value)
    assert "40 of 100 rows (40.0%) were rejected" in message
    assert "allows 20.0%: user_missing: 30; rating_unparsable: 10, such as '?'" in message
    out = tmp_path / "out"
    assert {path.split("/")[0] for path in published(out)} == {"rejects"}
    assert not (out / "_staging").exists()
    record = json.loads((out / "runs/r1/manifest.json").read_text())
    assert (record["state"], record["exit_code"]) == ("failed", 4)
    assert "user_missing: 30" in record["error"]
    assert run(input=source, row_checks={"max_rejected_share": 0.4})["state"] == "complete"


def test_an_input_without_rows_is_an_error(run: Run, ratings_csv: Csv) -> None:
    with pytest.raises(InputError, match="the input has no rows"):
        run(input=csv_input(ratings_csv([])))


def test_a_diverged_model_leaves_no_model_and_no_recommendations(
    run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    with pytest.raises(TrainingError, match="diverged"):
        run(input=source, training={"learning_rate": 5.0, "epochs": 60, "no_components": 20})
    tables = {path.split("/")[0] for path in published(tmp_path / "out")}
    assert tables == {"rejects", "interactions"}
    assert not (tmp_path / "out/_staging").exists()


def test_a_retry_takes_up_the_model_that_its_run_had_finished(
    run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    first = run("train", run_id="first", input=source)
    allowed = tmp_path / "allowed.csv"
    allowed.write_text("item_id\nnothing\n")  # which only shows beside a model
    items = {"allow": {"path": str(allowed), "options": {"header": True}}}
    with pytest.raises(InputError, match="leave none of the model's"):
        run(input=source, items=items)
    allowed.write_text("item_id\n" + "\n".join(f"i{n:03}" for n in range(40)) + "\n")
    model = next(path for path in (tmp_path / "out/models").iterdir() if path.name[:2] == "r1")
    before = (model / "manifest.json").stat().st_mtime_ns
    # What would train another model, were it asked: the input has changed meanwhile.
    ratings_csv(small_ratings(seed=8))
    again = run(input=source, items=items)
    assert again["state"] == "complete"
    assert again["model_id"] == model.name != first["model_id"]
    assert (model / "manifest.json").stat().st_mtime_ns == before
    assert len(list((tmp_path / "out/models").iterdir())) == 2


def test_what_stands_in_the_way_of_publishing_is_found_before_training(
    run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "out/publications/all"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a directory must be")
    with pytest.raises(OutputError, match=r"cannot read .*publications/all.*Not a directory"):
        run(input=csv_input(ratings_csv(small_ratings())))
    assert not (tmp_path / "out/interactions").exists()


def test_the_same_run_id_twice_is_one_result_and_another_request_is_refused(
    run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    first = run(input=source)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    assert run(input=source) == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")} == files
    with pytest.raises(ConfigError, match="r1 is complete already, with another configuration"):
        run(input=source, scoring={"k": 3})
    with pytest.raises(ConfigError, match="with another job"):
        run("train", input=source)


def test_score_uses_an_earlier_model_and_needs_no_input(run: Run, ratings_csv: Csv) -> None:
    whole = run(input=csv_input(ratings_csv(small_ratings())))
    scored = run("score", run_id="r2", model_id=whole["model_id"])
    assert lists(scored) == lists(whole)
    assert scored["model_id"] == whole["model_id"]


@pytest.mark.parametrize("name", ["with space", "per%20cent", "ha#sh"])
def test_a_root_with_an_unusual_name_holds_everything(
    run: Run, ratings_csv: Csv, tmp_path: Path, name: str
) -> None:
    source = csv_input(ratings_csv(small_ratings(200)))
    manifest = run("train", root=str(tmp_path / name), input=source)
    assert model_folder(manifest).is_dir()
    assert {p.name for p in tmp_path.iterdir()} == {"ratings.csv", name}
    assert sorted(p.name for p in (tmp_path / name).iterdir()) == [
        "interactions",
        "models",
        "rejects",
        "runs",
    ]


@pytest.mark.parametrize("model_id", ["../r1", "", "/etc", "a/b", "x" * 300])
def test_a_model_id_cannot_leave_the_root(run: Run, model_id: str) -> None:
    with pytest.raises(ConfigError, match="--model: found"):
        run("score", model_id=model_id)


def test_rare_users_and_items_are_left_out_of_the_model(run: Run, ratings_csv: Csv) -> None:
    rows = [*small_ratings(), ["rare", "i001", 5, 1], ["u001", "once", 5, 1]]
    manifest = run(
        input=csv_input(ratings_csv(rows)),
        filters={"min_user_interactions": 2, "min_item_interactions": 2},
        scoring={"k": 100},
    )
    found = lists(manifest)
    rows = table(manifest, "recommendations")
    rare = rows["user_id"] == "rare"
    assert set(rows.loc[rare, "source"]) == {"fold_in"}  # not in the model, but likes i001
    assert set(rows.loc[~rare, "source"]) == {"model"}
    assert all("once" not in items for items in found.values())
    counts = manifest["counts"]
    assert counts["pairs_left_out"] == 2
    assert (counts["users"], counts["users_in_training"]) == (31, 30)
