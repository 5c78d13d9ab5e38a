"""Run ids as schedulers make them: what they become, and that people may use either form."""

import datetime as dt
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys import read_recommendations
from recsys.cli import main
from recsys.config.sections import RUN_ID_PATTERN
from recsys.errors import ConfigError
from recsys.flows.manifest import Outcome
from recsys.flows.record import continued, earlier_attempt, read_run
from recsys.publishing.pointer import Pointers
from recsys.runtime.run import Run, new_run, run_name
from recsys.store.posix import PosixFiles
from tests.conftest import csv_input, small_ratings
from tests.publications import DAY, UNIT, publish_version, record_of, stage

AIRFLOW = "scheduled__2026-11-24T00:00:00+00:00"
NAME = "scheduled__2026-11-24T00-00-00-00-00-5e675d27c92ec359"
PRINTABLE = st.text(min_size=1, max_size=250).filter(lambda t: t.isprintable() and t.strip())


@pytest.mark.parametrize(
    ("requested", "name"),
    [
        ("nightly-2026-11-24", "nightly-2026-11-24"),
        ("r1", "r1"),
        ("x" * 128, "x" * 128),
        (AIRFLOW, NAME),
        ("2026-11-24", "r-2026-11-24-"),
        ("20261124", "r-20261124-"),
        ("3.5e7", "r-3.5e7-"),
        ("Nightly run", "r-Nightly-run-"),
        ("a/b/../c", "a-b-..-c-"),
        ("../up", "up-"),
        ("日本", "r-"),
        ("nan", "nan-"),
        ("NaN", "r-NaN-"),
        ("null", "null-"),
        ("current.json", "current.json-"),  # the pointer's name
        ("nightly.tmp", "nightly.tmp-"),  # `recsys clean` takes such a file for waste
        ("x" * 129, "x" * 80 + "-"),
    ],
)
def test_an_id_stays_as_it_is_or_becomes_a_readable_name_with_a_hash(
    requested: str, name: str
) -> None:
    found = new_run(requested).run_id
    assert re.fullmatch(RUN_ID_PATTERN, found)
    assert new_run(requested).run_id == found  # so a retry finds its run
    assert found == (name if not name.endswith("-") else f"{name}{found[-16:]}")
    if found != requested:
        assert re.fullmatch("[0-9a-f]{16}", found[-16:])


@given(PRINTABLE, PRINTABLE)
def test_two_ids_have_two_names_which_are_safe(one: str, other: str) -> None:
    names = [new_run(requested).run_id for requested in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert re.fullmatch(RUN_ID_PATTERN, name)
        with pytest.raises(ValueError, match="could not convert"):
            float(name)


@pytest.mark.parametrize("requested", ["2026-11-24", "1", "1e5", "NaN", "nan", "null", "true"])
def test_no_reader_that_infers_types_of_partitions_takes_a_name_for_anything_but_text(
    requested: str, spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / f"run={new_run(requested).run_id}"
    folder.mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "part.parquet")
    assert dict(spark.read.parquet(str(tmp_path)).dtypes)["run"] == "string"
    column = ds.dataset(tmp_path, partitioning="hive").schema.field("run").type
    assert column == pa.string()
    rows = duckdb.sql(f"DESCRIBE FROM read_parquet('{tmp_path}/**', hive_partitioning = true)")
    assert [row[1] for row in rows.fetchall() if row[0] == "run"] == ["VARCHAR"]


@pytest.mark.parametrize(
    "requested", ["", " ", "a\n", "a\tb", "a\x00", "a\x85", "x" * 251, "\ud800"]
)
def test_an_id_that_no_line_can_show_is_refused(requested: str) -> None:
    with pytest.raises(ConfigError, match=r"--run-id: found .* expected 1 to 250 printable"):
        new_run(requested)


def test_the_log_says_once_what_an_id_has_become(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    new_run("r1")
    assert caplog.messages == []
    new_run(AIRFLOW)
    assert caplog.messages == [f"run id {AIRFLOW}: directories and tables call it {NAME}"]


@pytest.fixture
def files(tmp_path: Path) -> PosixFiles:
    """Give a root with two versions, the first of a scheduler's run, and what a gate held back."""
    files = PosixFiles(tmp_path / "out")
    for run_id, requested in ((NAME, AIRFLOW), ("r2", "r2")):
        record = record_of(files, run_id, requested_run_id=requested)
        record.begin()
        publish_version(files, UNIT, run_id)
        record.complete(Outcome(model_id="m1", cohort="all"))
    return files


def recsys(files: PosixFiles, *arguments: str) -> Result:
    root = f"root={files.path(files.root)}"
    return CliRunner().invoke(main, [*arguments, "--set", root])


@pytest.mark.parametrize("called", [AIRFLOW, NAME])
def test_rollback_and_readers_take_either_form(files: PosixFiles, called: str) -> None:
    root = files.path(files.root)
    assert read_recommendations(root, run_id=called).run_id == NAME
    unit = ("--cohort", "all", "--run-date", DAY.isoformat())
    ran = recsys(files, "rollback", *unit, "--to", called)
    assert ran.exit_code == 0, ran.output
    assert f"run {NAME} is current" in ran.stdout
    assert read_recommendations(root).run_id == NAME
    # Also where the pointer is lost.
    files.delete(Pointers(files).uri(UNIT))
    assert recsys(files, "rollback", *unit, "--to", called).exit_code == 0
    assert read_recommendations(root).run_id == NAME


def test_rollback_to_an_id_that_was_never_published_says_what_there_is(files: PosixFiles) -> None:
    unit = ("--cohort", "all", "--run-date", DAY.isoformat())
    other = AIRFLOW.replace("24T", "25T")
    ran = recsys(files, "rollback", *unit, "--to", other)
    assert ran.exit_code == 2
    assert f"no version {other} is kept; there are (oldest first): {NAME}, r2" in ran.stderr


@pytest.mark.parametrize("called", [AIRFLOW, NAME])
def test_runs_shows_both_forms_and_finds_a_run_by_either(files: PosixFiles, called: str) -> None:
    _, line, more = recsys(files, "runs", "--run-id", called).stdout.splitlines()
    assert line.split()[0] == NAME
    assert more == f"    requested as {AIRFLOW}"
    assert f'"requested_run_id": "{AIRFLOW}"' in recsys(files, "runs", "--json").stdout
    assert len(recsys(files, "runs").stdout.splitlines()) == 4
    ran = recsys(files, "runs", "--run-id", "2026-11-25")
    assert ran.exit_code == 2
    assert "--run-id: there is no run '2026-11-25'; see recsys runs" in ran.stderr


def test_clean_names_the_requested_id_of_what_a_run_has_left(files: PosixFiles) -> None:
    stage(files, UNIT, NAME)
    ran = recsys(files, "clean")
    assert f"_staging/{NAME}  staged by a killed run, requested as {AIRFLOW}" in ran.stdout
    publish = stage(files, UNIT, "r3")
    record_of(files, "r3").begin()
    files.move(publish.uri, files.uri("held", "r3"))
    assert "held/r3  held back by a gate\n" in recsys(files, "clean", "--min-age", "0").stdout


def test_a_run_may_be_called_by_its_name_but_not_by_another_id_of_the_same_name(
    files: PosixFiles,
) -> None:
    def attempt(requested: str) -> Any:
        run = Run(NAME, DAY, new_run().started_at, requested_run_id=requested)
        return record_of(files, NAME, run=run)

    record_of(files, NAME, requested_run_id=AIRFLOW).begin()  # and was killed
    by_name = attempt(NAME)
    assert by_name.finished_before() is None
    by_name.begin()
    found = read_run(files, NAME)
    assert found is not None
    assert found.requested_run_id == AIRFLOW  # the scheduler's next attempt goes on with it
    assert attempt(AIRFLOW).finished_before() is None
    with pytest.raises(ConfigError, match=r"--run-id: found 'x', but .* is that of run 'sched"):
        attempt("x").finished_before()


def test_a_scheduler_s_run_is_recorded_published_and_taken_up_under_its_name(
    run: Callable[..., dict[str, Any]], ratings_csv: Any, tmp_path: Path
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    first = run(run_id=AIRFLOW, input=source)
    assert (first["run_id"], first["requested_run_id"]) == (NAME, AIRFLOW)
    assert first["model_id"].startswith(f"{NAME}-")
    record = tmp_path / "out/runs" / NAME / "manifest.json"
    written = record.read_bytes()
    assert run(run_id=AIRFLOW, input=source) == first  # complete already
    assert record.read_bytes() == written
    for called in (AIRFLOW, NAME):
        found = read_recommendations(tmp_path / "out", run_id=called)
        assert set(found.recommendations["run_id"].to_pylist()) == {NAME}
    assert run_name(NAME) == NAME
    with pytest.raises(ConfigError, match=f"run {NAME} is complete already, with another"):
        run(run_id=AIRFLOW, input=source, scoring={"k": 3})


@pytest.mark.parametrize("dated", [True, False])
def test_every_attempt_of_a_run_knows_when_the_first_one_began(
    files: PosixFiles, dated: bool
) -> None:
    hours = [
        dt.datetime(2026, 11, 24, 23, tzinfo=dt.UTC) + dt.timedelta(hours=n) for n in (0, 2, 4)
    ]
    for began in hours:  # two were killed
        run = Run("r9", began.date(), began)
        assert run.first_started_at == began
        again = continued(run, earlier_attempt(files, "r9"), dated=dated)
        assert again.first_started_at == hours[0]
        assert again.started_at == began
        # One that was not asked for a day goes on with the first one's.
        assert again.run_date == (began if dated else hours[0]).date()
        record_of(files, "r9", run=again).begin()
    found = read_run(files, "r9")
    assert found is not None
    assert found.first_started_at == "2026-11-24T23:00:00+00:00"
    assert found.started_at == "2026-11-25T03:00:00+00:00"


def test_a_damaged_record_is_warned_of_once(
    files: PosixFiles, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(files.uri("runs", "r9", "manifest.json"), b"{}")
    record = record_of(files, "r9")
    assert record.finished_before() is None
    assert [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()] == [
        f"{files.uri('runs', 'r9', 'manifest.json')} is damaged and will be written anew: "
        "it has no schema_version"
    ]
