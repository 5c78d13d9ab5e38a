"""Real runs that are told to stop at random moments: `python scripts/torture_signals.py`.

Each run is sent SIGTERM or SIGINT at a random moment of one of its steps: alone, or with its whole
process group, as a terminal's Ctrl-C, `timeout` and systemd do; with and without spark-submit. Then

- it ends soon, with 143 or 130 and one line that says so, and nothing else on standard error that
  an undisturbed run does not say;
- its record says that it failed by this signal, and nothing lies below `_staging`;
- readers see the version before or the new one, whole;
- the same run id completes, and publishes what an undisturbed run publishes.

Two moments are too late or too early for that: once a run has recorded that it is complete it ends
with 0 (spark-submit itself still ends by the signal), and before it listens to signals the signal
ends the process, and nothing has begun.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import click
from store_sites import Store
from torture_runs import PATIENCE, Runs, Seen
from torture_versions import ViolationError, fresh, leftovers, marked, wait_for

BEGINNING, END = "start", "end"
STEPS = (
    BEGINNING,
    "preflight",
    "prepare",
    "collect",
    "train",
    "fold-in",
    "write model",
    "cohort",
    "score",
    "judge",
    "publish",
    END,
)
MODES = {"recsys": False, "spark-submit": True}
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}
CLEAN, LATE, EARLY, WRONG = "stopped", "complete", "not begun", "VIOLATION"
RESULTS = (CLEAN, LATE, EARLY, WRONG)
_EPOCHS = ("--set", "training.epochs=300")  # about as long as another step
_LINE = "recsys: error: "


@dataclass(frozen=True)
class Moment:
    """When and how a run is told to stop.

    Attributes:
        mode: one of MODES.
        step: one of STEPS.
        share: of the step's usual time, 0 to 1.
        signum: the signal.
        to_group: whether its process group gets it, or the process alone.
    """

    mode: str
    step: str
    share: float
    signum: int
    to_group: bool

    def __str__(self) -> str:
        name = signal.Signals(self.signum).name
        whom = "group" if self.to_group else "process"
        return f"{self.mode}, {self.step} at {self.share:.2f}, {name} to the {whom}"


@dataclass
class Ending:
    """How a run ended.

    Attributes:
        moment: when it was told to.
        status: of the process.
        seconds: from the signal to the end.
        result: one of RESULTS.
        violations: what must not be.
    """

    moment: Moment
    status: int = 0
    seconds: float = 0.0
    result: str = CLEAN
    violations: list[str] = field(default_factory=list)


def moments(count: int, seed: int, modes: list[str], steps: list[str]) -> list[Moment]:
    """Spread moments over modes, steps and signals, in a random order."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    ways = list(product(modes, SIGNALS, steps))
    chance.shuffle(ways)
    return [
        Moment(mode, step, chance.random(), int(signum), chance.random() < 0.5)
        for mode, signum, step in (ways[n % len(ways)] for n in range(count))
    ]


class Stopping:
    """A root with one good run; the next one is told to stop, again and again."""

    def __init__(self, work: Path, form: str, *, retries: bool, within: float) -> None:
        self.runs = Runs(
            fresh(work / f"signals-{form}"),
            Store("local", str(work)).site(f"signals-root-{form}", form),
        )
        self._retries = retries
        self._within = within
        self._saved = self.runs.work / "saved"
        self._said = ""
        self._base: Seen
        self._times: dict[str, dict[str, float]] = {}
        self._usual: set[str] = set()

    def prepare(self, modes: list[str]) -> None:
        """Publish a good run, and time an undisturbed next one in each mode."""
        self.runs.write_inputs(2)
        if status := self.runs.command(1):
            raise ViolationError(f"the first run ended with {status}: {self.runs.tail()}")
        self._base = self.runs.look()
        shutil.copytree(self.runs.root, self._saved)
        for mode in modes:
            self._times[mode] = self._timed(mode)
            self._usual |= {_shape(line) for line in self._lines()}
            self._said = self.runs.look().said
            self._reset()

    def stop(self, moment: Moment) -> Ending:
        """Tell a run to stop, judge what it leaves, and retry it."""
        ending = Ending(moment)
        self._reset()
        try:
            self._stop(moment, ending)
            record = self._record()
            ending.result = self._result(ending, record)
            ending.violations += self._judge(ending, record)
            if self._retries:
                ending.violations += self._retry()
        except ViolationError as error:
            ending.violations.append(str(error))
        if ending.violations:
            ending.result = WRONG
        return ending

    def _reset(self) -> None:
        shutil.rmtree(self.runs.root)
        shutil.copytree(self._saved, self.runs.root)

    # The run

    def _start(self, mode: str, mark: str) -> "subprocess.Popen[bytes]":
        arguments = (*self.runs.arguments(2), *_EPOCHS)
        return self.runs.start("run", *arguments, submitted=MODES[mode], TORTURE=mark)

    def _timed(self, mode: str) -> dict[str, float]:
        """Do an undisturbed run, and return how long each step took, with what is after it."""
        began, at = time.monotonic(), {}
        process = self._start(mode, "")
        while process.poll() is None:
            now = time.monotonic()
            for step in STEPS:
                if step not in at and self._has_begun(step):
                    at[step] = now
            time.sleep(0.01)
        if process.returncode:
            raise ViolationError(f"ended with {process.returncode}: {self.runs.tail()}")
        ends = [*(at[step] for step in STEPS[1:]), time.monotonic()]
        starts = [began, *ends[:-1]]
        return {step: end - start for step, start, end in zip(STEPS, starts, ends, strict=True)}

    def _has_begun(self, step: str) -> bool:
        if step == BEGINNING:
            return True
        said = " publish took " if step == END else f" {step} ...\n"
        return said in (self.runs.work / "log").read_text(errors="replace")

    def _stop(self, moment: Moment, ending: Ending) -> None:
        mark = f"torture-{uuid.uuid4().hex}"
        process = self._start(moment.mode, mark)
        try:
            deadline = time.monotonic() + PATIENCE
            while not self._has_begun(moment.step):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ViolationError(f"the run did not come to its step: {self.runs.tail()}")
                time.sleep(0.002)
            time.sleep(moment.share * self._times[moment.mode][moment.step])
            at = time.monotonic()
            if moment.to_group:
                os.killpg(process.pid, moment.signum)
            else:
                process.send_signal(moment.signum)
            ending.status = process.wait(timeout=PATIENCE)
            ending.seconds = time.monotonic() - at
            wait_for(lambda: not marked(mark), 60, "all that the run had started to end")
        finally:
            for pid in marked(mark):
                os.kill(pid, signal.SIGKILL)
            process.wait()

    # What it leaves

    def _lines(self) -> list[str]:
        return (self.runs.work / "log").read_text(errors="replace").splitlines()

    def _record(self) -> dict[str, Any] | None:
        path = self.runs.root / "runs" / "r2" / "manifest.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _result(self, ending: Ending, record: dict[str, Any] | None) -> str:
        said = [line for line in self._lines() if _LINE in line]
        if record is not None and record["state"] == "complete":
            return LATE
        if record is None and not said and ending.moment.step == BEGINNING:
            return EARLY
        return CLEAN

    def _judge(self, ending: Ending, record: dict[str, Any] | None) -> Iterator[str]:
        moment, lines = ending.moment, self._lines()
        code, submitted = SIGNALS[signal.Signals(moment.signum)], MODES[moment.mode]
        name = signal.Signals(moment.signum).name
        expected = f"stopped by {name}; run again with the same run id to go on"
        allowed = {
            CLEAN: {code},
            LATE: {0, code} if submitted else {0},
            EARLY: {code, -moment.signum},
        }[ending.result]
        if ending.status not in allowed:
            yield f"ended with {ending.status}, expected {' or '.join(map(str, allowed))}"
        said = [line for line in lines if _LINE in line]
        if said != ([_LINE + expected] if ending.result == CLEAN else []):
            yield f"said {said}, {ending.result}"
        if any("Traceback" in line for line in lines) and ending.result != EARLY:
            yield "a traceback: " + " | ".join(lines[-3:])
        elif not submitted and ending.result == CLEAN:
            for line in lines:
                if line not in said and _shape(line) not in self._usual:
                    yield f"said {line!r}"
        found = record and (record["state"], record["error"], record["exit_code"])
        if ending.result == CLEAN and record and found != ("failed", expected, code):
            yield f"recorded {found}"
        if ending.seconds > self._within:
            yield f"ended after {ending.seconds:.1f} s"
        if (self.runs.root / "_staging").exists():
            yield "left _staging"
        seen = self.runs.look()
        if ending.result == LATE and seen.run_id != "r2":
            yield f"recorded as complete, and run {seen.run_id} is published"
        yield from self._leftovers()

    def _leftovers(self) -> list[str]:
        with self.runs.index() as index:
            return [f"left {name}" for name in leftovers(self.runs.site.files(), index)]

    def _retry(self) -> Iterator[str]:
        if status := self.runs.recsys("run", *self.runs.arguments(2), *_EPOCHS):
            yield f"the same run id ended with {status} then: {self.runs.tail()}"
            return
        seen = self.runs.look()
        if (seen.run_id, seen.said) != ("r2", self._said):
            yield f"then run {seen.run_id} is published, or with other rows than undisturbed"
        if seen.versions.get("r1") != self._base.versions["r1"]:
            yield "version r1 is not what it was"
        yield from self._leftovers()


def _shape(line: str) -> str:
    """Return a line without what differs from run to run."""
    return re.sub(r"[0-9a-f]{8,}|[\d.]+", "#", line)


def table(endings: list[Ending]) -> Iterator[str]:
    """Count results by mode and step."""
    found = Counter((e.moment.mode, e.moment.step, e.result) for e in endings)
    yield f"{'':14} {'step':12}" + "".join(f"{result:>12}" for result in RESULTS)
    for mode, step in product(MODES, STEPS):
        counts = [found[mode, step, result] for result in RESULTS]
        if any(counts):
            yield f"{mode:14} {step:12}" + "".join(f"{count:12}" for count in counts)


@click.command(help=__doc__)
@click.option("--moments", "count", default=100, show_default=True, help="How many, in all.")
@click.option("--seed", default=1, show_default=True)
@click.option("--mode", type=click.Choice(list(MODES)), multiple=True, help="These alone.")
@click.option("--step", type=click.Choice(STEPS), multiple=True, help="These alone.")
@click.option("--form", default="parquet", show_default=True, help="Or iceberg.")
@click.option("--retry/--no-retry", "retries", default=True, help="Whether to run each again.")
@click.option("--within", default=10.0, show_default=True, help="Seconds that an end may take.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the results there.")
def main(
    count: int,
    seed: int,
    mode: tuple[str, ...],
    step: tuple[str, ...],
    form: str,
    retries: bool,
    within: float,
    target: Path | None,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a run inherits
    modes, steps = list(mode or MODES), list(step or STEPS)
    endings: list[Ending] = []
    with tempfile.TemporaryDirectory(prefix="recsys-torture-") as folder:
        stopping = Stopping(Path(folder), form, retries=retries, within=within)
        stopping.prepare(modes)
        for number, moment in enumerate(moments(count, seed, modes, steps), 1):
            ending = stopping.stop(moment)
            endings.append(ending)
            print(
                f"{number:4} {ending.result:10} {ending.status:4} {ending.seconds:5.1f} s  "
                f"{moment}",
                *(f"\n     {violation}" for violation in ending.violations),
                flush=True,
            )
            if target is not None:  # after each: a long torture may be cut short
                target.write_text(json.dumps([asdict(e) for e in endings], indent=2) + "\n")
    print("\n".join(table(endings)))
    wrong = sum(bool(ending.violations) for ending in endings)
    slowest = max(ending.seconds for ending in endings)
    print(f"{len(endings)} moments, {wrong} with violations, the slowest end {slowest:.1f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
