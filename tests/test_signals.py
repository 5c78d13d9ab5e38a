"""SIGTERM and Ctrl-C, at any moment: one line, a true record, and nothing half done.

scripts/torture_signals.py does the same at random moments.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from recsys.errors import Interrupted, OutputError, Terminated
from recsys.runtime import session, signals
from recsys.runtime.stop_points import VARIABLE
from recsys.store.files import STAGING
from recsys.store.posix import PosixFiles
from tests.conftest import ROOT, csv_input, small_ratings
from tests.test_command_line import BIN, ENV, write_config

Csv = Callable[..., str]
Popen = subprocess.Popen[str]
# Takes minutes, row by row, for small_ratings.
SLOW = "size(filter(sequence(1, 2000000), x -> x % 7 = length(user))) >= 0"


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process take signals as a run does, for one test."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    monkeypatch.setattr(signals, "_state", None)  # listen() puts another there
    signals.listen()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def send(*numbers: int, after: float = 0.0) -> None:
    """Send signals to this process from another thread."""

    def later() -> None:
        time.sleep(after)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.05)

    threading.Thread(target=later, daemon=True).start()


def wait_until_stopped() -> None:
    """Be the work of a run that goes on until it is told to stop."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        signals.check_stop()
        time.sleep(0.01)


def no_jobs() -> None:
    """Cancel nothing."""


# What the work sees


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [(signal.SIGTERM, Terminated, 143), (signal.SIGINT, Interrupted, 130)],
)
def test_a_signal_ends_the_work_at_its_next_check(
    listening: None, number: signal.Signals, kind: type[Terminated], status: int
) -> None:
    send(number)
    with pytest.raises(kind, match=f"^stopped by {number.name}; run again with the same") as ended:
        signals.supervised(wait_until_stopped, no_jobs)
    assert ended.value.exit_code == status


def test_the_first_signal_counts_and_the_work_can_clean_up_during_others(listening: None) -> None:
    cleaned = []

    def work() -> None:
        try:
            wait_until_stopped()
        finally:
            time.sleep(0.5)  # three more signals come
            cleaned.append(True)

    send(signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT)
    with pytest.raises(Terminated):
        signals.supervised(work, no_jobs)
    assert cleaned == [True]


def test_what_must_be_finished_is_finished_first(listening: None) -> None:
    done = []

    def work() -> None:
        with signals.unstoppable():
            while not signals.stop_requested():
                time.sleep(0.01)
            signals.check_stop()
            done.append("both halves")
        signals.check_stop()
        done.append("more")

    send(signal.SIGTERM)
    with pytest.raises(Terminated):
        signals.supervised(work, no_jobs)
    assert done == ["both halves"]


def test_calls_that_the_work_waits_for_are_cancelled_until_it_has_noticed(listening: None) -> None:
    cancelled = threading.Semaphore(0)

    def work() -> None:
        for _ in range(3):  # each comes back with an error that somebody handles
            assert cancelled.acquire(timeout=20)
        signals.check_stop()

    send(signal.SIGTERM)
    with pytest.raises(Terminated):
        signals.supervised(work, cancelled.release)


def test_computation_is_left_alone_when_a_signal_comes(listening: None) -> None:
    def work() -> None:
        signals.interruptible(lambda: time.sleep(60))

    began = time.monotonic()
    send(signal.SIGINT, after=0.2)
    with pytest.raises(Interrupted):
        signals.supervised(work, no_jobs)
    assert time.monotonic() - began < 20


def test_computation_in_short_pieces_ends_between_two_of_them(listening: None) -> None:
    def work() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            signals.interruptible(lambda: None)

    send(signal.SIGTERM, after=0.1)
    with pytest.raises(Terminated):
        signals.supervised(work, no_jobs)


def test_what_the_work_returns_or_raises_comes_through(listening: None) -> None:
    assert signals.supervised(lambda: signals.interruptible(lambda: 7), no_jobs) == 7

    def fail() -> None:
        raise OutputError("no space")

    with pytest.raises(OutputError, match="no space"):
        signals.supervised(lambda: signals.interruptible(fail), no_jobs)


def test_a_run_that_waits_for_a_lock_stops(listening: None, tmp_path: Path) -> None:
    files = PosixFiles(tmp_path)

    def work() -> None:
        with files.lock("run-r1", wait=60):
            raise AssertionError

    began = time.monotonic()
    send(signal.SIGTERM, after=0.2)
    with files.lock("run-r1"), pytest.raises(Terminated):
        signals.supervised(work, no_jobs)
    assert time.monotonic() - began < 20


# What a run leaves behind, at named steps


@pytest.fixture
def stopped_at(
    spark: SparkSession,
    run: Callable[..., dict[str, Any]],
    ratings_csv: Csv,
    listening: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], dict[str, Any] | None]:
    """Run r1 in the suite's session until a named step, and send SIGTERM there."""
    given = csv_input(ratings_csv(small_ratings()))

    def run_and_stop(step: str) -> dict[str, Any] | None:
        folder = tmp_path / "step"
        folder.mkdir()
        monkeypatch.setenv(VARIABLE, f"{step}:{folder}")

        def once_there() -> None:
            while not (folder / "reached").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            if step == "recorded":  # the signal comes too late to end the waiting there
                (folder / "go").touch()

        threading.Thread(target=once_there, daemon=True).start()
        try:
            return signals.supervised(lambda: run(input=given), session.cancel_jobs)
        except Terminated:
            return None
        finally:
            monkeypatch.delenv(VARIABLE)
            signals.listen()

    return run_and_stop


def record_of(root: Path) -> tuple[str, str | None, int | None]:
    """Return what the record of run r1 says of its end."""
    record = json.loads((root / "runs/r1/manifest.json").read_text())
    return record["state"], record["error"], record["exit_code"]


def published(root: Path) -> list[str]:
    """Return the runs of the versions that lie where readers look, seen by them or not."""
    return sorted(path.name for path in root.glob("publications/*/*/*") if path.is_dir())


def test_a_stop_while_spark_starts_is_no_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished = SparkContext.__new__(SparkContext)  # which has no JVM's context yet
    monkeypatch.setattr(SparkContext, "_active_spark_context", unfinished)
    session.cancel_jobs()


STOPPED = ("failed", "stopped by SIGTERM; run again with the same run id to go on", 143)


@pytest.mark.parametrize(
    ("step", "visible"),
    [("judged", False), ("placed", True), ("switched", True)],
)
def test_a_version_is_published_whole_or_not_at_all_and_the_run_can_be_resumed(
    stopped_at: Callable[[str], dict[str, Any] | None],
    run: Callable[..., dict[str, Any]],
    ratings_csv: Csv,
    tmp_path: Path,
    step: str,
    visible: bool,
) -> None:
    root = tmp_path / "out"
    assert stopped_at(step) is None
    assert record_of(root) == STOPPED
    assert not (root / STAGING).exists()
    pointers = list(root.glob("publications/**/current.json"))
    assert len(pointers) == visible
    assert len(published(root)) == visible
    assert run(input=csv_input(ratings_csv(small_ratings())))["state"] == "complete"
    assert len(published(root)) == 1
    assert not list(root.glob("publications/*/*/*/requests"))  # they are not readers' matter


def test_a_stop_after_the_record_is_written_is_too_late(
    stopped_at: Callable[[str], dict[str, Any] | None], tmp_path: Path
) -> None:
    finished = stopped_at("recorded")
    assert finished is not None
    assert record_of(tmp_path / "out") == ("complete", None, None)


# Whole processes


@pytest.fixture
def config(tmp_path: Path, ratings_csv: Csv) -> Path:
    return write_config(tmp_path / "c.yaml", ratings_csv(small_ratings()))


@pytest.fixture
def start(config: Path) -> Iterator[Callable[..., Popen]]:
    """Start runs r1, each in a process group of its own, and leave none behind."""
    processes = []

    def run_r1(*arguments: str, submitted: bool = False) -> Popen:
        script = [BIN / "recsys", "run"]
        if submitted:
            script = [BIN / "spark-submit", ROOT / "jobs/run.py"]
        # What is started in the background ignores Ctrl-C, and so does what that starts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        processes.append(
            subprocess.Popen(
                [str(part) for part in [*script, "--config", config, "--run-id", "r1", *arguments]],
                cwd=config.parent,
                env=ENV,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # where spark-submit puts what Python says on either
                text=True,
                start_new_session=True,
            )
        )
        signal.signal(signal.SIGINT, before)
        return processes[-1]

    yield run_r1
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def read_until(process: Popen, words: str) -> None:
    """Read what a run says up to these words."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return
    raise AssertionError(seen)


def assert_stopped(process: Popen, out: Path, name: str = "SIGTERM") -> None:
    """Wait for the end, and look at everything that a stopped run says and leaves."""
    # What is left behind would hold the pipe open.
    rest, _ = process.communicate(timeout=120)
    status = {"SIGTERM": 143, "SIGINT": 130}[name]
    error = f"stopped by {name}; run again with the same run id to go on"
    assert process.returncode == status, rest
    assert re.findall("^.*recsys: error.*$", rest, re.M) == [f"recsys: error: {error}"]
    assert "Traceback" not in rest
    assert record_of(out) == ("failed", error, status)
    assert not (out / STAGING).exists()
    assert not (out / "publications").exists()


@pytest.fixture
def slow_cohort(config: Path) -> list[str]:
    """Make the query of the cohort take minutes."""
    users = {
        "path": str(config.parent / "ratings.csv"),
        "format": "csv",
        "options": {"header": True},
        "column": "user",
        "where": SLOW,
    }
    return ["--set", f"cohort.users={json.dumps(users)}"]


def test_sigterm_ends_a_query_and_more_signals_do_not_break_the_clean_up(
    config: Path, slow_cohort: list[str], start: Callable[..., Popen]
) -> None:
    process = start(*slow_cohort)
    read_until(process, " cohort ...")
    time.sleep(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.2)
    assert_stopped(process, config.parent / "out")
    again = start()
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert "is there already: taking it up" in said
    assert "Traceback" not in said


def test_spark_submit_waits_until_a_run_in_a_query_has_cleaned_up(
    config: Path, slow_cohort: list[str], start: Callable[..., Popen]
) -> None:
    process = start(*slow_cohort, submitted=True)
    read_until(process, " cohort ...")
    time.sleep(1)
    process.send_signal(signal.SIGTERM)  # it reaches the JVM alone
    assert_stopped(process, config.parent / "out")


@pytest.mark.parametrize("submitted", [False, True], ids=["recsys", "spark-submit"])
def test_ctrl_c_ends_training(config: Path, start: Callable[..., Popen], submitted: bool) -> None:
    process = start("--set", "training.epochs=100000000", submitted=submitted)
    read_until(process, " epoch 3 of")
    if submitted:
        process.send_signal(signal.SIGINT)  # to the JVM alone, which is to say which signal it was
    else:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert_stopped(process, config.parent / "out", "SIGINT")


def test_a_signal_during_the_launch_of_the_jvm_leaves_no_process_behind(
    config: Path, start: Callable[..., Popen]
) -> None:
    process = start()
    assert process.stdout is not None
    process.stdout.readline()  # the JVM's first word
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "recsys: error: stopped by SIGTERM" in rest
    assert "Traceback" not in rest
    assert not (config.parent / "out").exists()
