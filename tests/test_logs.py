"""Log lines: one a record, with date, UTC and the run's id."""

import datetime as dt
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from recsys.runtime import logs
from tests.conftest import ROOT


@pytest.fixture
def line() -> Iterator[logging.Formatter]:
    """Give the formatter of the process, which no run is named to."""
    yield logs._formatter
    logs.name_run("-")


def record(message: str, at: float = 1_795_509_000.75) -> logging.LogRecord:
    made = logging.LogRecord("recsys", logging.INFO, __file__, 1, message, None, None)
    made.created = at
    return made


def test_a_line_has_the_time_in_utc_the_level_the_run_and_the_message(
    line: logging.Formatter,
) -> None:
    assert line.format(record("train ...")) == "2026-11-24T08:30:00Z INFO [-] train ..."
    logs.name_run("nightly-1")
    assert line.format(record("a")) == "2026-11-24T08:30:00Z INFO [nightly-1] a"


PROGRAM = """
import logging
from recsys.runtime import logs
logs.log_to_stderr(logging.INFO)
logging.getLogger("of.a.library").warning("before")
logs.name_run("r1")
logging.getLogger("recsys").info("after")
logging.getLogger("recsys").debug("not at all")
"""


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
