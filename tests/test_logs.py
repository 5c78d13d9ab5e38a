"""Log lines: one a record, as text or as JSON, with UTC, the run's id and its step."""

import datetime as dt
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from pyspark.sql import SparkSession

from recsys.runtime import logs, progress
from recsys.runtime.run import new_run
from tests.conftest import ROOT


@pytest.fixture
def named() -> Iterator[Callable[[str], None]]:
    """Give the function that names a run to the process, and forget the name afterwards."""
    yield logs.name_run
    logs.name_run("-")


def record(message: str, at: float = 1_795_509_000.75, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("recsys", logging.INFO, __file__, 1, message, None, None)
    made.created = at
    made.__dict__.update(more)
    return made


def test_a_line_has_the_time_in_utc_the_level_the_run_and_the_message(
    named: Callable[[str], None],
) -> None:
    line = logs.TextFormatter()
    assert line.format(record("train ...")) == "2026-11-24T08:30:00Z INFO [-] train ..."
    named("nightly-1")
    assert line.format(record("a")) == "2026-11-24T08:30:00Z INFO [nightly-1] a"


def test_a_line_of_json_has_the_step_as_well_and_whatever_its_record_brings(
    named: Callable[[str], None],
) -> None:
    line = logs.json_formatter()
    assert json.loads(line.format(record("a\nb"))) == {
        "time": "2026-11-24T08:30:00Z",
        "level": "INFO",
        "run_id": None,
        "step": None,
        "logger": "recsys",
        "message": "a\nb",
    }
    named("nightly-1")
    logs.name_step("train")
    found = line.format(record("é", rows=3))
    assert "\n" not in found
    assert "é" in found
    parsed = json.loads(found)
    assert (parsed["run_id"], parsed["step"], parsed["rows"]) == ("nightly-1", "train", 3)


def test_a_step_logs_one_line_with_its_rows_speed_and_memory(
    caplog: pytest.LogCaptureFixture, named: Callable[[str], None], spark: SparkSession
) -> None:
    caplog.set_level(logging.INFO)
    run = new_run("r1")
    with run.step("prepare") as step:
        time.sleep(0.05)
        step.rows = 1_000
    with run.step("publish"):
        pass
    told = [one for one in caplog.records if hasattr(one, "step_ended")]
    expected = (
        r"prepare took \d+\.\d s; 1,000 rows, [\d,]+ a second; "
        r"peak memory [\d,]+ MiB, JVM heap [\d,]+ MiB"
    )
    assert re.fullmatch(expected, told[0].message)
    assert re.fullmatch(r"publish took \d+\.\d s; peak memory .*", told[1].message)
    assert told[0].__dict__["rows"] == 1_000 == run.rows["prepare"]
    speed = 1_000 / run.timings["prepare"]
    assert told[0].__dict__["rows_per_second"] == pytest.approx(speed, 0.01)
    assert told[0].__dict__["peak_memory_bytes"] > 2**26  # NumPy and Spark are loaded
    assert told[0].__dict__["jvm_heap_bytes"] > 2**20
    assert "publish" not in run.rows


def test_after_a_failure_lines_still_name_the_step_that_failed(
    named: Callable[[str], None],
) -> None:
    named("r1")
    run, line = new_run("r1"), logs.json_formatter()
    with run.step("prepare"):
        pass
    assert json.loads(line.format(record("a")))["step"] is None
    with pytest.raises(ZeroDivisionError), run.step("train"):
        raise ZeroDivisionError
    assert json.loads(line.format(record("a")))["step"] == "train"
    assert "train" not in run.timings


class Terminal(io.StringIO):
    """What somebody is looking at."""

    def isatty(self) -> bool:
        return True


def test_jobs_and_stages_of_spark_are_called_by_step_and_run_and_a_terminal_shows_their_tasks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, named: Callable[[str], None]
) -> None:
    def nap(_: int) -> None:  # in here, so that workers need not import this module
        time.sleep(0.3)

    monkeypatch.setattr(progress, "_POLL", 0.05)
    shown: list[str] = []
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with new_run("r1").step("score"):
            spark.sparkContext.parallelize(range(6), 6).foreach(nap)
        shown.append(stream.getvalue())
    monkeypatch.undo()
    assert re.search(r"score:.*\d/6", shown[0])
    assert shown[1] == ""
    store = spark.sparkContext._jsc.sc().statusStore()  # type: ignore[attr-defined]
    jobs = store.jobsList(None)
    called = [job for job in map(jobs.apply, range(jobs.size())) if job.description().isDefined()]
    ours = [job for job in called if job.description().get() == "score (r1)"]
    assert len(ours) == 2
    stage = store.lastStageAttempt(ours[0].stageIds().apply(0))
    assert stage.description().get() == "score (r1)"
    assert spark.sparkContext.getLocalProperty("spark.job.description") is None


PROGRAM = """
import logging
from recsys.runtime import logs
logs.log_to_stderr(logging.INFO)
logging.getLogger("of.a.library").warning("before")
logs.name_run("r1")
logging.getLogger("recsys").info("after")
logging.getLogger("recsys").debug("not at all")
"""


def test_a_terminal_gets_no_bar_where_lines_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert logs.on_terminal()
    monkeypatch.setattr(logs._context, "form", "json")
    assert not logs.on_terminal()


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Asia/Kathmandu"])
def test_the_machine_s_time_zone_does_not_matter(zone: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TZ": zone},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == ""
    lines = [re.fullmatch(r"(\S+Z) (\w+ \[.*\] \w+)", line) for line in ran.stderr.splitlines()]
    told = [found[2] for found in lines if found]
    assert told == ["WARNING [-] before", "INFO [r1] after"]
    for found in lines:
        assert found is not None
        written = dt.datetime.fromisoformat(found[1])
        assert abs(dt.datetime.now(dt.UTC) - written) < dt.timedelta(minutes=10)
