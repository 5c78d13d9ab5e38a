"""Publishing as the job does it, with Spark: both forms, gates, views, reruns, rivals for a run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys import read_recommendations
from recsys.config.sections import Publishing
from recsys.errors import ConfigError, ConflictError, GateError, OutputError
from recsys.publishing.index import open_index
from recsys.publishing.versions import Unit
from recsys.runtime.hadoop import of_session
from recsys.runtime.run import run_lock
from recsys.store.hadoop import HadoopFiles
from recsys.store.posix import PosixFiles
from recsys.store.tables import Store
from tests.conftest import RUN_DATE, csv_input, small_ratings

Run = Callable[..., dict[str, Any]]
Csv = Callable[..., str]
BOTH = pytest.mark.parametrize("form", ["parquet", "iceberg"])


@pytest.fixture
def source(ratings_csv: Csv) -> dict[str, Any]:
    return csv_input(ratings_csv(small_ratings()))


@BOTH
def test_a_rerun_of_a_day_replaces_what_readers_see_and_retention_keeps_the_latest(
    run: Run, source: dict[str, Any], tmp_path: Path, form: str
) -> None:
    publishing = {"format": form, "keep_versions": 2}
    root, settings = str(tmp_path / "out"), Publishing.model_validate(publishing)
    model = run(input=source, publishing=publishing)["model_id"]
    for run_id in ("r2", "r3"):
        run("score", run_id=run_id, model_id=model, scoring={"k": 3}, publishing=publishing)
    published = read_recommendations(root, publishing=settings)
    assert (published.run_id, published.cohort, published.run_date) == ("r3", "all", RUN_DATE)
    assert published.recommendations.num_rows == 30 * 3
    assert set(published.status["run_id"].to_pylist()) == {"r3"}
    assert published.manifest.model_id == model
    # The one that is returned to, and nothing older.
    assert read_recommendations(root, run_id="r2", publishing=settings).run_id == "r2"
    kept = {path.name for path in (tmp_path / "out/publications/all/2026-11-24").iterdir()}
    assert kept - {"current.json"} == {"r2", "r3"}


@BOTH
def test_an_empty_cohort_publishes_empty_tables_rather_than_leaving_what_was_there(
    run: Run, source: dict[str, Any], tmp_path: Path, form: str
) -> None:
    publishing = {"format": form}
    model = run(input=source, publishing=publishing)["model_id"]
    users = tmp_path / "nobody.csv"
    users.write_text("user_id\n")
    listed = {"format": "csv", "path": str(users), "options": {"header": True}}
    run("score", run_id="r2", model_id=model, cohort={"users": listed}, publishing=publishing)
    published = read_recommendations(
        str(tmp_path / "out"), publishing=Publishing.model_validate(publishing)
    )
    assert published.run_id == "r2"
    assert (published.recommendations.num_rows, published.status.num_rows) == (0, 0)
    assert published.recommendations.column_names[:3] == ["run_date", "cohort", "user_id"]


def test_a_gate_that_fails_keeps_what_is_published_and_force_records_it(
    run: Run, source: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run(input=source)["model_id"]
    assert "--force" not in capsys.readouterr().out
    strict = {"min_users": 1, "max_top_item": 0.01}
    again = {"model_id": model, "gates": strict, "scoring": {"k": 3}}  # of 40 items: some choice
    before = (tmp_path / "out/publications/all/2026-11-24/current.json").read_bytes()
    with pytest.raises(GateError, match=r"top_item: found .*, allowed at most 0\.01") as raised:
        run("score", run_id="r2", **again)
    assert raised.value.exit_code == 9
    assert "--force" in str(raised.value)
    assert (tmp_path / "out/publications/all/2026-11-24/current.json").read_bytes() == before
    held = json.loads((tmp_path / "out/held/r2/manifest.json").read_text())
    failed = [gate for gate in held["gates"] if gate["state"] == "failed"]
    assert [gate["gate"] for gate in failed] == ["top_item"]
    record = json.loads((tmp_path / "out/runs/r2/manifest.json").read_text())
    assert (record["state"], record["exit_code"]) == ("failed", 9)
    # The same run, told to.
    for attempt in ("the first", "one that finds it complete"):
        manifest = run("score", run_id="r2", **again, force=True)
        assert manifest["forced"], attempt
        *tables, gate, last = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in tables] == ["status", "recommendations"]
        assert re.fullmatch(r"gate failed: top_item: found 0\.\d+, allowed at most 0\.01 .*", gate)
        assert last == "published all the same, because of --force"
    assert not (tmp_path / "out/held/r2").exists()
    published = read_recommendations(str(tmp_path / "out"))
    assert published.run_id == "r2"
    assert published.manifest.failed_gates == ["top_item"]


def test_a_retry_judges_again_what_a_gate_held_back_and_makes_nothing_again(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    model = run(input=source)["model_id"]
    again = {"model_id": model, "scoring": {"k": 3}}
    strict, loose = ({"min_users": 1, "max_top_item": most} for most in (0.01, 0.9))
    with pytest.raises(GateError):
        run("score", run_id="r2", gates=strict, **again)
    held = {
        path.name: path.stat().st_mtime_ns
        for path in (tmp_path / "out/held/r2").rglob("*.parquet")
        if path.parent.name != "requests"
    }
    with pytest.raises(GateError):  # another attempt fails in the same way, and keeps it
        run("score", run_id="r2", gates=strict, **again)
    manifest = run("score", run_id="r2", gates=loose, **again)
    assert {"cohort", "score"} & set(manifest["timings_seconds"]) == set()
    assert "judge" in manifest["timings_seconds"]
    version = tmp_path / "out/publications/all/2026-11-24/r2"
    found = {path.name: path.stat().st_mtime_ns for path in version.rglob("*.parquet")}
    assert found == held
    assert not (tmp_path / "out/held/r2").exists()
    # It was made under one limit, and published under another.
    published = read_recommendations(str(tmp_path / "out")).manifest
    assert (published.run_id, published.configuration["gates"]["max_top_item"]) == ("r2", 0.9)
    # Lists that were made otherwise are made anew.
    with pytest.raises(GateError):
        run("score", run_id="r3", gates=strict, **again)
    other = {"model_id": model, "scoring": {"k": 4}, "gates": loose}
    assert "score" in run("score", run_id="r3", **other)["timings_seconds"]


def test_a_local_root_opens_no_file_system_of_hadoops_and_changes_none(
    spark: SparkSession, tmp_path: Path
) -> None:
    for root in (str(tmp_path / "out"), f"file:{tmp_path}/out", f"file://{tmp_path}/out"):
        files = Store(spark, root).files
        assert isinstance(files, PosixFiles)
        assert files.root == f"file:{tmp_path}/out"
    HadoopFiles(of_session(spark), str(tmp_path))  # which has an instance of its own
    # The one that everybody shares still writes checksums.
    jvm: Any = spark.sparkContext._jvm
    path = jvm.org.apache.hadoop.fs.Path(f"file:{tmp_path}/shared")
    path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()).create(path).close()
    assert (tmp_path / ".shared.crc").exists()


def test_a_run_that_was_killed_after_the_switch_is_taken_up(
    run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    model = run(input=source)["model_id"]
    first = run("score", run_id="r2", model_id=model)
    record = tmp_path / "out/runs/r2/manifest.json"
    record.write_text(record.read_text().replace('"complete"', '"running"'))
    lists = next(
        (tmp_path / "out/publications/all/2026-11-24/r2/recommendations").glob("*.parquet")
    )
    written = lists.stat().st_mtime_ns
    again = run("score", run_id="r2", model_id=model)
    assert again["outputs"] == first["outputs"]
    assert lists.stat().st_mtime_ns == written
    record.write_text(record.read_text().replace('"complete"', '"running"'))
    with pytest.raises(ConfigError, match=r"has published .* already, with another"):
        run("score", run_id="r2", model_id=model, scoring={"k": 2})


def test_two_processes_cannot_work_on_one_run(
    run: Run, source: dict[str, Any], spark: SparkSession, tmp_path: Path
) -> None:
    store = Store(spark, str(tmp_path / "out"))
    with (
        store.files.lock(run_lock("r1")),
        pytest.raises(ConflictError, match=r"run-r1 is held by process \d+ on "),
    ):
        run(input=source)
    assert not (tmp_path / "out/runs").exists()
    assert run(input=source)["state"] == "complete"


def test_other_types_of_ids_than_the_published_are_refused(
    run: Run, ratings_csv: Csv, tmp_path: Path
) -> None:
    rows = [
        [int(user[1:]), int(item[1:]), rating, at] for user, item, rating, at in small_ratings()
    ]
    path = ratings_csv(rows)
    run(input=csv_input(path))
    with pytest.raises(OutputError, match="column user_id was string and is int"):
        run(run_id="r2", input=csv_input(path, id_types={"user": "int", "item": "int"}))
    assert read_recommendations(str(tmp_path / "out")).run_id == "r1"
    other = {"name": "numbers"}  # a new cohort joins the others in views and tables
    with pytest.raises(OutputError, match="column user_id was string"):
        run(
            run_id="r3",
            cohort=other,
            input=csv_input(path, id_types={"user": "int", "item": "int"}),
        )


def test_hadoop_s_files_keep_the_same_promises_by_themselves(
    spark: SparkSession, tmp_path: Path
) -> None:
    """On the local file system, where they are not used: HDFS is not on this machine."""
    files = HadoopFiles(of_session(spark), str(tmp_path))
    uri = files.uri("a", "pointer.json")
    with pytest.raises(FileNotFoundError):
        files.read(uri)
    for content in (b"one", b"another"):
        files.replace(uri, content)
        assert files.read(uri) == content
    assert files.names(files.uri("a")) == ["pointer.json"]
    assert files.names(files.uri("b")) == []
    files.move(files.uri("a"), files.uri("c", "d"))
    assert not files.exists(files.uri("a"))
    assert files.names(files.uri("c")) == ["d"]
    files.replace(uri, b"again")
    with pytest.raises(OutputError, match="there is something already"):
        files.move(files.uri("a"), files.uri("c", "d"))
    with files.lock("one"), pytest.raises(ConflictError, match="exists"), files.lock("one"):
        pass
    with files.lock("one"):
        pass
    files.delete(files.uri("c"))
    assert not files.exists(files.uri("c"))
    index = open_index(files, Publishing(), lambda: None)
    assert index.current(Unit("all", RUN_DATE)) is None
