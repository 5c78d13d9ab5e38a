"""What can be refused is refused before anything is read, trained or published."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys.errors import ConfigError, InputError, ModelError, OutputError, RecsysError
from tests.conftest import csv_input, small_ratings

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def source(ratings_csv: Any) -> dict[str, Any]:
    return csv_input(ratings_csv(small_ratings()))


@pytest.fixture
def refused(run: Run, source: dict[str, Any], tmp_path: Path) -> Callable[..., str]:
    """Run what must be refused; return the message after a look at what was done before it."""

    def execute(error: type[RecsysError], job: str = "run", **sections: Any) -> str:
        kept = {path for path in (tmp_path / "out").glob("*/*") if path.parent.name != "runs"}
        with pytest.raises(error) as caught:
            run(job, **{"run_id": "refused", "input": source, **sections})
        text = (tmp_path / "out/runs/refused/manifest.json").read_text()
        assert '"timings_seconds": {}' in text  # not even the look at everything was finished
        found = {path for path in (tmp_path / "out").glob("*/*") if path.parent.name != "runs"}
        assert found == kept  # nothing prepared, trained, staged or published
        return str(caught.value)

    return execute


def listed(path: Path, text: str = "sku\ni001\n", **more: Any) -> dict[str, Any]:
    path.write_text(text, encoding="utf-8")
    return {"path": str(path), "options": {"header": True}, **more}


def test_a_cohort_that_is_not_there_or_lacks_its_column_is_refused_before_training(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    gone = {"path": str(tmp_path / "gone.csv"), "column": "id"}
    assert "gone.csv" in refused(InputError, cohort={"users": gone})
    users = listed(tmp_path / "users.csv", "id\nu001\n", column="idd")
    message = refused(InputError, cohort={"users": users})
    assert "cohort.users.column: cohort.users has no column 'idd'; did you mean id?" in message
    users = listed(tmp_path / "users.csv", "id\nu001\n", column="id", where="age >")
    assert "cohort.users.where: " in refused(ConfigError, cohort={"users": users})
    users = listed(tmp_path / "users.csv", "id\nu001\n", column="id", liked="id")
    assert "expected an array of item ids" in refused(ConfigError, cohort={"users": users})


@pytest.mark.parametrize("name", ["allow", "deny"])
def test_a_list_of_items_without_its_column_is_refused_before_training(
    refused: Callable[..., str], tmp_path: Path, name: str
) -> None:
    items = {name: listed(tmp_path / "items.csv", column="skuu")}
    assert f"items.{name}.column: items.{name} has no column 'skuu'" in refused(
        InputError, items=items
    )


def test_candidates_without_their_columns_are_refused_before_training(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    items = {"candidates": listed(tmp_path / "pairs.csv", "user,item\nu001,i001\n", user="usr")}
    assert "items.candidates.user: items.candidates has no column 'usr'" in refused(
        InputError, items=items
    )


def test_newer_interactions_that_are_not_there_or_have_other_ids_are_refused_before_training(
    refused: Callable[..., str], run: Run, source: dict[str, Any]
) -> None:
    message = refused(ConfigError, scoring={"interactions": "nope"})
    assert "scoring.interactions: found nope, expected the id of interactions" in message
    earlier = run("train", run_id="earlier", input=source)
    name = earlier["outputs"]["interactions"]["uri"].rsplit("/", 1)[-1]
    numbers = {**source, "id_types": {"user": "string", "item": "long"}}
    message = refused(ConfigError, input=numbers, scoring={"interactions": name})
    assert "has user ids string, item ids string, expected the model's: user ids string" in message


def test_ids_of_another_type_than_the_published_ones_are_refused_before_training(
    refused: Callable[..., str], run: Run, source: dict[str, Any], ratings_csv: Any
) -> None:
    run("run", run_id="first", input=source)
    rows = [[int(u[1:]), int(i[1:]), r, t] for u, i, r, t in small_ratings()]
    numbers = csv_input(ratings_csv(rows, "n.csv"), id_types={"user": "int", "item": "int"})
    message = refused(OutputError, input=numbers)
    assert "recommendations: column user_id was string and is int" in message
    # Also where another cohort of the same root is published.
    message = refused(OutputError, input=numbers, cohort={"name": "another"})
    assert "column user_id was string and is int" in message


def test_a_day_that_would_be_forgotten_at_once_is_refused_before_training(
    refused: Callable[..., str], run: Run, source: dict[str, Any]
) -> None:
    import datetime as dt

    run("run", run_id="first", input=source)
    message = refused(ConfigError, publishing={"keep_run_dates": 1}, run_date=dt.date(2026, 11, 20))
    assert "it would be forgotten at once" in message


def test_an_input_that_cannot_be_used_is_refused_with_everything_else_at_once(
    refused: Callable[..., str], source: dict[str, Any], tmp_path: Path
) -> None:
    wrong = {**source, "columns": {**source["columns"], "item": "itm"}}
    message = refused(
        InputError,
        input=wrong,
        cohort={"users": {"path": str(tmp_path / "gone.csv"), "column": "id"}},
        items={"deny": listed(tmp_path / "items.csv", column="skuu")},
        scoring={"interactions": "nope"},
    )
    parts = ["input.columns.item", "gone.csv", "items.deny.column", "scoring.interactions: found"]
    assert [part for part in parts if part not in message] == []
    assert len(re.findall("; ", message)) >= 3
    assert "\n" not in message


def test_newer_interactions_are_looked_at_although_the_types_of_ids_in_json_are_not_known(
    refused: Callable[..., str], source: dict[str, Any], tmp_path: Path
) -> None:
    ratings = tmp_path / "ratings.json"
    ratings.write_text('{"user": "u1", "item": "i1", "rating": 5, "timestamp": 1}\n')
    columns = {name: name for name in ("user", "item", "rating", "timestamp")}
    found = {"path": str(ratings), "format": "json", "columns": columns}
    message = refused(ConfigError, input=found, scoring={"interactions": "nope"})
    assert "scoring.interactions: found nope, expected the id of interactions" in message


def test_a_model_that_is_not_there_is_refused_together_with_everything_else(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    items = {"deny": listed(tmp_path / "items.csv", column="skuu")}
    asked = {"items": items, "similar": {"items": items["deny"]}}
    message = refused(ModelError, "score", model_id="nope", **asked)
    assert "there is no model nope" in message
    assert "items.deny.column: items.deny has no column 'skuu'" in message
    message = refused(ModelError, "similar-items", model_id="nope", **asked)
    assert "there is no model nope" in message
    assert "similar.items.column: similar.items has no column 'skuu'" in message


def test_settings_that_lose_rows_are_refused_by_every_command(
    refused: Callable[..., str], run: Run, source: dict[str, Any], spark: SparkSession
) -> None:
    model = run("train", run_id="t", input=source)["model_id"]
    key = "spark.sql.files.ignoreMissingFiles"
    spark.conf.set(key, "true")
    try:
        for job in ("run", "train", "evaluate"):
            assert f"{key} is true" in refused(ConfigError, job)
        for job in ("score", "similar-items"):
            assert f"{key} is true" in refused(ConfigError, job, model_id=model)
    finally:
        spark.conf.set(key, "false")


def test_a_table_of_segments_without_its_column_is_refused_before_training(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    segment = listed(tmp_path / "segments.csv", "user_id,age\nu001,7\n", by="group")
    message = refused(InputError, "evaluate", evaluation={"segment": segment})
    assert "evaluation.segment.by: evaluation.segment has no column 'group'" in message


def test_a_list_of_items_whose_neighbours_are_wanted_is_looked_at_before_the_model_is_loaded(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    model = run("train", run_id="t", input=source)["model_id"]
    for file in (tmp_path / "out/models" / model / "items").glob("*.parquet"):
        file.write_bytes(b"damaged")  # nobody gets so far as to find that
    items = listed(tmp_path / "items.csv", column="skuu")
    with pytest.raises(
        InputError, match=r"similar\.items\.column: similar\.items has no column 'skuu'"
    ):
        run("similar-items", run_id="s", model_id=model, similar={"items": items})


def test_a_retry_of_a_trained_run_does_not_need_the_input_any_more(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    bad = listed(tmp_path / "items.csv", "sku\nnothing\n", column="sku")
    with pytest.raises(InputError, match="leave none of the model's"):
        run("run", run_id="r", input=source, items={"allow": bad})
    Path(source["path"]).unlink()
    listed(tmp_path / "items.csv", "sku\ni001\ni002\n")
    manifest = run("run", run_id="r", input=source, items={"allow": bad})
    assert manifest["state"] == "complete"
