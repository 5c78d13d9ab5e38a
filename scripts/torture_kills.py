"""Real runs that are killed at each of their named steps, and what readers see and keep then."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from store_sites import Store
from torture_runs import PATIENCE, Runs, Seen
from torture_versions import (
    Verdicts,
    ViolationError,
    fresh,
    leftovers,
    marked,
    wait_for,
)

from recsys.errors import ConflictError, OutputError
from recsys.runtime.stop_points import STOP_POINTS
from recsys.store.files import LOCKS

PYTHON, JVM, BOTH = "Python", "the JVM", "both"
VICTIMS = (PYTHON, JVM, BOTH)
KEEP = 2
Cases = Sequence[tuple[str, str]]  # steps and victims
# Steps of one form alone.
_ONLY = {
    "replacing current.json": "parquet",
    "status committed": "iceberg",
    "titles committed": "iceberg",
    "lists forgotten": "iceberg",
}


def cases(form: str) -> Cases:
    """Return all steps of a form, each with each of its victims."""
    steps = [step for step in STOP_POINTS if _ONLY.get(step, form) == form]
    return [(step, victim) for step in steps for victim in VICTIMS]


def kills(at: Store, work: Path, form: str, chosen: Cases, before: int) -> Verdicts:
    """Publish a few good runs, kill the next one in each of the chosen ways, and retry it.

    Args:
        at: the store.
        work: a local directory to work in.
        form: of table.
        chosen: steps and victims.
        before: how many good runs; with as many as are kept, the next one makes one be forgotten.
    """
    began = time.monotonic()
    runs = Runs(fresh(work / f"kills-{form}"), at.site(f"kills-root-{form}", form, KEEP))
    torture = _Killing(runs)
    violations = torture.prepare(before)
    survivors = 0
    if not violations:
        for step, victim in chosen:
            start = time.monotonic()
            try:
                found = torture.kill(step, victim)
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            violations += [f"{victim} killed at {step!r}: {one}" for one in found]
            survivors += victim != BOTH
            verdict = "ok" if not found else "; ".join(found)
            print(
                f"    {form}: {victim} killed at {step!r}: {verdict} "
                f"({time.monotonic() - start:.0f} s)",
                flush=True,
                file=sys.stderr,
            )
    counts = {"kills": len(chosen), "survivors": survivors, **torture.counts}
    return Verdicts(f"kills, {form}{at.told}", counts, violations, time.monotonic() - began)


@dataclass
class _Killing:
    """One root on which runs are killed.

    A local root is set back to its beginning after each. On another store the next run is killed
    on top of what the last one has published, with the same ratings.

    Attributes:
        runs: of the job, and where.
        counts: how each killed run ended, for people.
    """

    runs: Runs
    counts: dict[str, int] = field(default_factory=dict)
    _base: Seen | None = None
    _new: int = 0
    _ratings: int = 0
    _said: str | None = None

    def prepare(self, runs: int) -> list[str]:
        """Publish good runs, and remember what they left; return what went wrong."""
        self.runs.write_inputs(runs + 1)
        for number in range(1, runs + 1):
            status = self.runs.command(number)
            if status != 0:
                return [f"the undisturbed run r{number} ended with {status}: {self.runs.tail()}"]
        self._base, self._new = self.runs.look(), runs + 1
        self._ratings = self._new
        if self.runs.site.local:
            shutil.copytree(self.runs.root, self.runs.work / "saved")
        return []

    def kill(self, step: str, victim: str) -> list[str]:
        """Kill one run, look, retry it, clean, and look again; return what must not be."""
        assert self._base is not None  # noqa: S101 - prepare() was called
        if self.runs.site.local:
            shutil.rmtree(self.runs.root)
            shutil.copytree(self.runs.work / "saved", self.runs.root)
        status = self._killed(step, victim)
        after = self.runs.look()
        problems = list(self._judge_killed(step, victim, status, after))
        self._free_locks()
        if (status := self._retry()) != 0:
            return [*problems, f"the next run ended with {status}: {self.runs.tail()}"]
        then = self.runs.look()
        problems += self._judge_retried(after, then)
        for command, *arguments in (("clean", "--yes"), ("verify",)):
            if (status := self.runs.recsys(command, *arguments)) != 0:
                problems.append(f"recsys {command} ended with {status}: {self.runs.tail()}")
        if self.runs.look() != then:
            problems.append("recsys clean changed what is published")
        with self.runs.index() as index:
            left = leftovers(self.runs.site.files(), index)
        problems += [f"left behind: {name}" for name in left]
        if not self.runs.site.local:
            self._base, self._new = then, self._new + 1
        return problems

    def _arguments(self) -> list[str]:
        return self.runs.arguments(self._new, self._ratings)

    def _count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    def _free_locks(self) -> None:
        """Remove the locks of the killed, as people must where locks are objects."""
        if urlsplit(self.runs.site.root).scheme == "s3a":
            files = self.runs.site.files()
            found = files.names(files.uri(LOCKS))
            for name in found:
                files.delete(files.uri(LOCKS, name))
            self._count("locks removed", len(found))

    def _retry(self) -> int:
        """Run again until no lock is in the way: HDFS gives those of a killed JVM away later."""
        deadline = time.monotonic() + (0 if self.runs.site.local else 180)
        while True:
            status = self.runs.recsys("run", *self._arguments())
            if status != ConflictError.exit_code or time.monotonic() > deadline:
                return status
            self._count("refused by a lock")

    def _judge_killed(self, step: str, victim: str, status: int, after: Seen) -> Iterator[str]:
        assert self._base is not None  # noqa: S101
        new = f"r{self._new}"
        if victim == JVM:
            self._count(f"survivors that ended with {status}")
            if status not in (0, OutputError.exit_code):
                yield f"the survivor ended with {status}, expected {OutputError.exit_code}"
        if step == "replacing current.json" and victim == JVM:
            pass  # the last question whether the JVM lives was asked: either result is right
        elif STOP_POINTS.index(step) < STOP_POINTS.index("switched"):
            if victim == JVM and status == 0:
                yield "the survivor ended with 0"
            if after.run_id != self._base.run_id:
                yield f"run {after.run_id} was published, expected {self._base.run_id}"
        elif after.run_id != new:
            yield f"run {after.run_id} is published, expected {new}"
        yield from self._judge_versions(after)

    def _judge_retried(self, after: Seen, then: Seen) -> Iterator[str]:
        new = f"r{self._new}"
        if then.run_id != new:
            yield f"after the next run, {then.run_id} is published, expected {new}"
        self._said = self._said or then.said
        if then.said != self._said:
            yield "the next run's rows are not those of the same run, killed at another step"
        if new in after.versions and then.versions[new] != after.versions[new]:
            yield "the next run changed what was published"
        if len(then.versions) != min(KEEP, self._new):
            yield f"the versions {sorted(then.versions)} are kept, expected {KEEP}"
        yield from self._judge_versions(then)

    def _judge_versions(self, found: Seen) -> Iterator[str]:
        assert self._base is not None  # noqa: S101
        for run_id, checksum in self._base.versions.items():
            if run_id == self._base.run_id and run_id not in found.versions:
                yield f"version {run_id} is lost"
            if run_id in found.versions and found.versions[run_id] != checksum:
                yield f"version {run_id} is not what it was"

    def _killed(self, step: str, victim: str) -> int:
        """Kill at a step, let a survivor go on, wait for its end, and return Python's status."""
        folder, mark = fresh(self.runs.work / "step"), f"torture-{uuid.uuid4().hex}"
        process = self.runs.start(
            "run", *self._arguments(), RECSYS_STOP_AT=f"{step}:{folder}", TORTURE=mark
        )
        try:
            self._wait_for_step(process, folder / "reached")
            jvms = [pid for pid, name in marked(mark).items() if name == "java"]
            if len(jvms) != 1:
                raise ViolationError(f"found {len(jvms)} JVMs, expected one")
            for pid in {PYTHON: [process.pid], JVM: jvms, BOTH: [process.pid, *jvms]}[victim]:
                os.kill(pid, signal.SIGKILL)
            (folder / "go").touch()
            status = process.wait(timeout=PATIENCE)
            wait_for(lambda: not marked(mark), 120, "what the killed process had started to end")
            return status
        finally:
            for pid in marked(mark):
                os.kill(pid, signal.SIGKILL)
            process.wait()

    def _wait_for_step(self, process: subprocess.Popen[bytes], reached: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ViolationError(f"the run did not come to its step: {self.runs.tail()}")
            time.sleep(0.01)
