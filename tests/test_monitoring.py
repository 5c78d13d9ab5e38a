"""Who else is told of a run: a metrics file, OpenLineage and MLflow, through their own clients."""

import importlib.util
import json
import logging
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser
from pyspark.sql import SparkSession

from recsys.errors import ConfigError, GateError
from recsys.flows.commands import run_command
from recsys.flows.execution import check_configuration
from recsys.flows.manifest import RunManifest
from recsys.flows.monitoring import metrics_file
from tests.conftest import configured, csv_input, run_in, small_ratings, write_csv

MONITORS = {"openlineage": "shop", "mlflow": "nightly"}


@pytest.fixture(scope="module")
def extras() -> None:
    """Skip what needs the two clients where they are not installed."""
    missing = [name for name in ("mlflow", "openlineage") if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[lineage,mlflow]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("monitoring")
    write_csv(folder / "ratings.csv", [*small_ratings(), ["u1", "", 3, 1]])
    return folder


@pytest.fixture(scope="module")
def told(
    extras: None, spark: SparkSession, folder: Path
) -> tuple[RunManifest, list[dict[str, Any]]]:
    """Give a run whose monitors are all told, and the events of OpenLineage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
        patch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(folder / "events"))
        patch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
        parent = "airflow/shop.run/0190f1a2-0000-7000-8000-000000000001"
        patch.setenv("OPENLINEAGE_PARENT_ID", parent)
        made = run_in(
            spark,
            folder / "out",
            "run",
            input=csv_input(str(folder / "ratings.csv")),
            monitoring={**MONITORS, "metrics_file": str(folder / "recsys.prom")},
        )
    events = [json.loads(line) for line in (folder / "events").read_text().splitlines()]
    return RunManifest.from_plain(made), events


def test_openlineage_is_told_what_a_run_reads_and_writes_and_who_started_it(
    told: tuple[RunManifest, list[dict[str, Any]]], folder: Path
) -> None:
    run, events = told
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    begin, end = events
    assert begin["run"]["runId"] == end["run"]["runId"] == str(uuid.UUID(end["run"]["runId"]))
    assert end["job"]["namespace"] == "shop"
    assert end["job"]["name"] == "recsys.run.all"
    source = {"namespace": "file", "name": str(folder / "ratings.csv")}
    assert [{key: one[key] for key in source} for one in begin["inputs"]] == [source]
    outputs = {one["name"]: one["outputFacets"]["outputStatistics"] for one in end["outputs"]}
    lists = run.outputs["recommendations"]
    found = outputs[lists.uri.removeprefix("file:")]
    assert found["rowCount"] == lists.rows == 300
    assert found["size"] == sum(file.bytes for file in lists.files or ())
    parent = end["run"]["facets"]["parent"]
    assert parent["job"]["namespace"] == "airflow"
    assert parent["job"]["name"] == "shop.run"


@pytest.mark.filterwarnings("ignore")  # of what MLflow is made of
def test_mlflow_gets_a_run_with_settings_counts_timings_and_gates(
    told: tuple[RunManifest, list[dict[str, Any]]], folder: Path
) -> None:
    from mlflow.tracking import MlflowClient

    run, _ = told
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("nightly")
    assert experiment is not None
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "r1")
    assert found.data.tags["recsys.model_id"] == run.model_id
    assert found.data.params["training.no_components"] == "4"
    assert found.data.metrics["counts.rows_read"] == 901
    assert found.data.metrics["seconds.train"] == run.timings_seconds["train"]
    assert found.data.metrics["gate.lists"] == 0  # faults


def test_the_metrics_file_is_openmetrics_with_counts_timings_and_gates(
    told: tuple[RunManifest, list[dict[str, Any]]], folder: Path
) -> None:
    run, _ = told
    text = (folder / "recsys.prom").read_text()
    assert text.endswith("# EOF\n")
    families = {one.name: one for one in parser.text_string_to_metric_families(text)}

    def values(name: str, label: str) -> dict[str, float]:
        return {one.labels[label]: one.value for one in families[f"recsys_{name}"].samples}

    assert values("rows_read", "command") == {"run": 901}
    assert values("rows_rejected_by_reason", "reason") == {"item_missing": 1}
    assert values("step_seconds", "step") == run.timings_seconds
    assert values("step_rows", "step") == run.step_rows
    assert run.step_rows["score"] == 300
    assert values("requests", "status") == {"scored": 30}
    assert values("gate_passed", "gate")["lists"] == 1
    assert values("run_success", "cohort") == {"all": 1}
    [info] = families["recsys_run_info"].samples
    assert (info.labels["run_id"], info.labels["model_id"]) == ("r1", run.model_id)
    assert oct((folder / "recsys.prom").stat().st_mode)[-3:] == "644"


def test_monitors_that_cannot_be_told_cost_a_line_each_and_no_result(
    told: tuple[RunManifest, list[dict[str, Any]]],
    spark: SparkSession,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "http")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__RETRY", '{"total": 0}')
    (folder / "later").mkdir()
    monkeypatch.setattr(
        metrics_file, "_about_run", lambda *_: shutil.rmtree(folder / "later", ignore_errors=True)
    )
    made = run_in(
        spark,
        folder / "out",
        "score",
        run_id="r2",
        model_id=told[0].model_id or "",
        input=csv_input(str(folder / "ratings.csv")),
        monitoring={**MONITORS, "metrics_file": str(folder / "later/recsys.prom")},
    )
    assert made["state"] == "complete"
    warned = [one.message for one in caplog.records if one.name.endswith("monitors")]
    begins = sorted(line.partition(":")[0] for line in warned)
    assert begins == [
        "monitoring.metrics_file was not told",
        "monitoring.mlflow was not told",
        "monitoring.openlineage was not told",  # when the run began, and when it ended
        "monitoring.openlineage was not told",
    ]
    assert not any("\n" in line for line in warned)


def test_a_run_that_a_gate_stops_is_recorded_and_measured_with_its_gates(
    spark: SparkSession, folder: Path
) -> None:
    place = folder / "gate.prom"
    with pytest.raises(GateError, match="coverage"):
        run_in(
            spark,
            folder / "out",
            "run",
            run_id="r3",
            input=csv_input(str(folder / "ratings.csv")),
            cohort={"name": "other"},
            gates={"min_coverage": 1.0, "min_users": 1, "min_full_lists": 1.0},
            scoring={"k": 1},
            monitoring={"metrics_file": str(place)},
        )
    families = {one.name: one for one in parser.text_string_to_metric_families(place.read_text())}
    passed = {one.labels["gate"]: one.value for one in families["recsys_gate_passed"].samples}
    assert passed["coverage"] == 0
    assert passed["statuses"] == 1
    assert families["recsys_run_exit_status"].samples[0].value == 9
    assert "recsys_published_timestamp_seconds" not in families


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mlflow": "nightly"}, "monitoring.mlflow: MLFLOW_TRACKING_URI is not set, expected"),
        ({"metrics_file": "s3://bucket/a.prom"}, "expected a local path: it is written for a coll"),
        ({"metrics_file": "/nowhere/a.prom"}, "found /nowhere/a.prom, expected a file in a dir"),
    ],
)
def test_monitors_that_cannot_work_are_refused_before_spark_starts(
    settings: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = configured(tmp_path, input=csv_input("ratings.csv"), monitoring=settings)
    with pytest.raises(ConfigError, match=message):
        check_configuration(run_command(), config)


def test_a_client_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Callable[[str], Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openlineage" else found(name)
    )
    config = configured(
        tmp_path, input=csv_input("ratings.csv"), monitoring={"openlineage": "shop"}
    )
    with pytest.raises(ConfigError, match="openlineage-python is not installed; install the extra"):
        check_configuration(run_command(), config)


def test_monitors_change_no_result_so_a_retry_may_have_others(tmp_path: Path) -> None:
    plain, more = configured(tmp_path), configured(tmp_path, monitoring={"openlineage": "shop"})
    assert plain.fingerprint() == more.fingerprint()


def test_a_path_is_named_as_openlineage_names_datasets(extras: None) -> None:
    logging.captureWarnings(False)
    from recsys.flows.monitoring.lineage import dataset

    assert dataset("hdfs://name:8020/lake/ratings/") == ("hdfs://name:8020", "lake/ratings")
    assert dataset("s3a://bucket/a/b.csv") == ("s3a://bucket", "a/b.csv")
    signed = "s3a://me:hunter2@bucket/a?sig=hunter2"
    assert dataset(signed) == ("s3a://me@bucket", "a")
    assert dataset("file:/a/b") == dataset("/a/b") == ("file", "/a/b")


@pytest.mark.filterwarnings("ignore")  # of what MLflow is made of
def test_mlflow_is_told_that_a_stopped_run_was_killed(
    extras: None, told: tuple[RunManifest, list[dict[str, Any]]]
) -> None:
    from recsys.flows.monitoring.tracking import state_of

    for status, state in ((130, "KILLED"), (143, "KILLED"), (9, "FAILED")):
        ended = told[0].model_copy(update={"state": "failed", "exit_code": status})
        assert state_of(ended) == state
