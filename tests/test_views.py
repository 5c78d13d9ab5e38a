"""Views in Spark's catalog: in a real metastore, and refused where they would not stay."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import ConfigError
from tests.conftest import ROOT, csv_input, small_ratings, write_csv

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hive")
    write_csv(folder / "ratings.csv", small_ratings())
    return folder


def in_a_process(step: str, folder: Path) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.hive_views", step, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    """Publish with views in a metastore, once, and return what was seen on the way."""
    return in_a_process("publish", folder)


def test_a_missing_database_is_refused_before_training_and_not_created(
    told: dict[str, Any],
) -> None:
    status, message = told["missing"]
    assert status == 2
    assert message.startswith("publishing.views: found shown, expected a database of Spark's cat")
    assert message.endswith(
        "there are: default; create it (CREATE DATABASE shown), or name another"
    )
    assert told["databases"] == ["default"]
    assert told["left"] == ["runs"]


def test_views_show_what_is_current_of_every_day_and_of_the_latest(told: dict[str, Any]) -> None:
    for run_id in ("r1", "r2"):
        assert told[run_id] == {view: [["all", run_id]] for view in told[run_id]}


def test_lists_have_titles_where_their_run_had_some(told: dict[str, Any]) -> None:
    assert told["titles"] == [["r2", False, False], ["r3", True, True]]


def test_another_program_sees_the_views_after_the_runs(told: dict[str, Any], folder: Path) -> None:
    every, latest = [["all", "r2"], ["all", "r3"], ["few", "r4"]], [["all", "r3"], ["few", "r4"]]
    assert in_a_process("read", folder) == {
        "recommendations": every,
        "recommendations_latest": latest,
        "recommendations_titled": every,
        "recommendations_titled_latest": latest,
        "status": every,
        "status_latest": latest,
    }
    assert not (folder / "spark-warehouse").exists()


TOLD = r"publishing\.views: found shown, and Spark's catalog in memory, .* set spark\.sql\.catal"


def test_a_catalog_in_memory_is_refused_before_anything_is_read_or_trained(
    ratings_csv: Any, tmp_path: Path
) -> None:
    config = {
        "root": "out",
        "input": csv_input(ratings_csv(small_ratings())),
        "publishing": {"views": "shown"},
        "spark": {"spark.master": "local[1]", "spark.driver.memory": "700m"},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    ran = subprocess.run(
        [sys.executable, "-m", "recsys.cli", "run", "--config", "c.yaml", "--run-id", "r"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 2, ran.stderr
    assert re.search(f"^recsys: error: {TOLD}", ran.stderr, re.MULTILINE)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    record = {"configuration.yaml", "manifest.json", "report.html"}
    assert left == {"c.yaml", "ratings.csv", *(f"out/runs/r/{name}" for name in record)}
    assert not (tmp_path / "spark-warehouse").exists()


def test_a_catalog_in_memory_is_refused_before_a_model_is_loaded(
    run: Run, ratings_csv: Any, tmp_path: Path
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    model = run("train", run_id="t", input=source)["model_id"]
    with pytest.raises(ConfigError, match=TOLD):
        run("score", run_id="r", model_id=model, publishing={"views": "shown"})
    record = json.loads((tmp_path / "out/runs/r/manifest.json").read_text())
    assert (record["exit_code"], record["timings_seconds"]) == (2, {})
