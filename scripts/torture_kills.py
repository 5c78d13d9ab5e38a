"""Real runs that are killed at each of their named steps, and what readers see and keep then."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from torture_readers import close
from torture_versions import (
    UNIT,
    Verdicts,
    ViolationError,
    fresh,
    leftovers,
    marked,
    wait_for,
)

from recsys.filesystem import PosixFiles
from recsys.publishing.publish import open_catalogue
from recsys.publishing.read import check_version, read_recommendations
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, TABLES, Catalogue, place
from recsys.sections import Publishing
from recsys.steps import STEPS

ROOT = Path(__file__).parents[1]
PYTHON, JVM, BOTH = "Python", "the JVM", "both"
VICTIMS = (PYTHON, JVM, BOTH)
KEEP = 2
# Steps of one form alone.
_ONLY = {
    "replacing current.json": "parquet",
    "status committed": "iceberg",
    "lists forgotten": "iceberg",
}
# What a run says of a user, but for its own name and time: the same in every attempt.
_SAID = {
    RECOMMENDATIONS: ["user_id", "rank", "item_id", "score", "probability", "source"],
    STATUS: ["requested", "user_id", "status", "n_items", "reason"],
}


def cases(form: str) -> list[tuple[str, str]]:
    """Return all steps of a form, each with each of its victims."""
    steps = [step for step in STEPS if _ONLY.get(step, form) == form]
    return [(step, victim) for step in steps for victim in VICTIMS]


def kills(
    work: Path, form: str, chosen: Sequence[tuple[str, str]], *, before: int = KEEP
) -> Verdicts:
    """Publish a few good runs, kill the next one in each of the chosen ways, and retry it.

    Args:
        work: a directory to work in.
        form: of table.
        chosen: steps and victims.
        before: how many good runs; with as many as are kept, the next one makes one be forgotten.
    """
    began = time.monotonic()
    torture = _Killing(fresh(work / f"kills-{form}"), form)
    violations = torture.prepare(before)
    survivors = 0
    if not violations:
        for step, victim in chosen:
            at = time.monotonic()
            try:
                found = torture.kill(step, victim)
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            violations += [f"{victim} killed at {step!r}: {one}" for one in found]
            survivors += victim != BOTH
            verdict = "ok" if not found else "; ".join(found)
            print(
                f"    {form}: {victim} killed at {step!r}: {verdict} "
                f"({time.monotonic() - at:.0f} s)",
                flush=True,
                file=sys.stderr,
            )
    counts = {"kills": len(chosen), "survivors": survivors, **torture.counts}
    return Verdicts(f"kills, {form}", counts, violations, time.monotonic() - began)


@dataclass(frozen=True)
class _Seen:
    """What is published.

    Attributes:
        run_id: what readers see.
        said: a checksum of its rows, without what differs between two attempts.
        versions: checksums of all files and rows of each version that is kept.
    """

    run_id: str
    said: str
    versions: dict[str, str]


@dataclass
class _Killing:
    """One root on which runs are killed, and set back to its beginning after each.

    Attributes:
        work: a directory to work in.
        form: of table.
        counts: how each killed run ended, for people.
    """

    work: Path
    form: str
    counts: dict[str, int] = field(default_factory=dict)
    _base: _Seen | None = None
    _new: int = 0
    _config: dict[str, Any] = field(default_factory=dict)
    _said: str | None = None

    @property
    def root(self) -> Path:
        """The root of all runs."""
        return self.work / "root"

    def prepare(self, runs: int) -> list[str]:
        """Publish good runs, and remember what they left; return what went wrong."""
        self._write_inputs(runs + 1)
        for number in range(1, runs + 1):
            status = self._command(number)
            if status != 0:
                return [f"the undisturbed run r{number} ended with {status}: {self._tail()}"]
        self._base, self._new = self._look(), runs + 1
        shutil.copytree(self.root, self.work / "saved")
        return []

    def kill(self, step: str, victim: str) -> list[str]:
        """Kill one run, look, retry it, clean, and look again; return what must not be."""
        assert self._base is not None  # noqa: S101 - prepare() was called
        shutil.rmtree(self.root)
        shutil.copytree(self.work / "saved", self.root)
        status = self._killed(step, victim)
        after = self._look()
        problems = list(self._judge_killed(step, victim, status, after))
        if (status := self._command(self._new)) != 0:
            return [*problems, f"the next run ended with {status}: {self._tail()}"]
        then = self._look()
        problems += self._judge_retried(after, then)
        for command in ("clean", "verify"):
            if (status := self._recsys(command, *["--yes"][: command == "clean"])) != 0:
                problems.append(f"recsys {command} ended with {status}: {self._tail()}")
        if self._look() != then:
            problems.append("recsys clean changed what is published")
        with self._catalogue() as catalogue:
            problems += [f"left behind: {name}" for name in leftovers(self.root, catalogue)]
        return problems

    def _judge_killed(self, step: str, victim: str, status: int, after: _Seen) -> Iterator[str]:
        assert self._base is not None  # noqa: S101
        new = f"r{self._new}"
        if victim == JVM:
            key = f"survivors that ended with {status}"
            self.counts[key] = self.counts.get(key, 0) + 1
        if STEPS.index(step) < STEPS.index("switched"):
            # A rename that had begun when the JVM died cannot be called back.
            begun = step == "replacing current.json" and victim == JVM
            if victim == JVM and status == 0:
                yield "the survivor ended with 0"
            if after.run_id != self._base.run_id and not begun:
                yield f"run {after.run_id} was published, expected {self._base.run_id}"
        elif after.run_id != new:
            yield f"run {after.run_id} is published, expected {new}"
        yield from self._judge_versions(after)

    def _judge_retried(self, after: _Seen, then: _Seen) -> Iterator[str]:
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

    def _judge_versions(self, found: _Seen) -> Iterator[str]:
        assert self._base is not None  # noqa: S101
        for run_id, checksum in self._base.versions.items():
            if run_id == self._base.run_id and run_id not in found.versions:
                yield f"version {run_id} is lost"
            if run_id in found.versions and found.versions[run_id] != checksum:
                yield f"version {run_id} is not what it was"

    def _killed(self, step: str, victim: str) -> int:
        """Kill at a step, let a survivor go on, wait for its end, and return Python's status."""
        folder, mark = fresh(self.work / "step"), f"torture-{uuid.uuid4().hex}"
        process = self._start(
            "run", *self._arguments(self._new), RECSYS_STEP=f"{step}:{folder}", TORTURE=mark
        )
        try:
            self._wait_for_step(process, folder / "reached")
            jvms = [pid for pid, name in marked(mark).items() if name == "java"]
            if len(jvms) != 1:
                raise ViolationError(f"found {len(jvms)} JVMs, expected one")
            for pid in {PYTHON: [process.pid], JVM: jvms, BOTH: [process.pid, *jvms]}[victim]:
                os.kill(pid, signal.SIGKILL)
            (folder / "go").touch()
            status = process.wait(timeout=240)
            wait_for(lambda: not marked(mark), 60, "what the killed process had started to end")
            return status
        finally:
            for pid in marked(mark):
                os.kill(pid, signal.SIGKILL)
            process.wait()

    def _wait_for_step(self, process: subprocess.Popen[bytes], reached: Path) -> None:
        deadline = time.monotonic() + 300
        while not reached.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ViolationError(f"the run did not come to its step: {self._tail()}")
            time.sleep(0.01)

    # What is published

    @contextmanager
    def _catalogue(self) -> Iterator[Catalogue]:
        catalogue: Any = open_catalogue(PosixFiles(self.root), self._publishing(), lambda: None)
        try:
            yield catalogue
        finally:
            close(catalogue)

    def _publishing(self) -> Publishing:
        return Publishing.model_validate(self._config["publishing"])

    def _look(self) -> _Seen:
        """Read all that is published as readers do, and check it against what was noted of it."""
        files = PosixFiles(self.root)
        with self._catalogue() as catalogue:
            current = catalogue.current(UNIT)
            if current is None:
                raise ViolationError("nothing is published")
            versions = {}
            for version in catalogue.versions(UNIT):
                check_version(files, version)
                folder = files.path(place(files, UNIT, version.run_id))
                versions[version.run_id] = _checksum(
                    hashlib.sha256(path.read_bytes()).hexdigest()
                    for path in sorted(folder.rglob("*"))
                    if path.is_file()
                )
            published = read_recommendations(
                str(self.root),
                cohort=UNIT.cohort,
                run_date=UNIT.run_date,
                publishing=self._publishing(),
            )
            tables: dict[str, Any] = {
                RECOMMENDATIONS: published.recommendations,
                STATUS: published.status,
            }
            if self.form == "iceberg":
                _check_iceberg(catalogue, tables)
        run_ids = {run for name in TABLES for run in tables[name]["run_id"].unique().to_pylist()}
        if run_ids != {current.run_id} or published.manifest["run_id"] != current.run_id:
            raise ViolationError(f"rows of the runs {run_ids}, named is {current.run_id}")
        said = _checksum(_rows(tables[name].select(_SAID[name])) for name in TABLES)
        return _Seen(current.run_id, said, versions)

    # Commands

    def _write_inputs(self, runs: int) -> None:
        for number in range(1, runs + 1):
            chance = random.Random(number)  # noqa: S311 - no secret
            lines = ["user,item,rating,timestamp"]
            for _ in range(600):
                user, item = chance.randrange(30), chance.randrange(40)
                rating = chance.choice([4, 5] if (user + item) % 2 == 0 else [1, 2, 3])
                lines.append(f"u{user:03},i{item:03},{rating},{10**6 + chance.randrange(5)}")
            (self.work / f"r{number}.csv").write_text("\n".join(lines) + "\n")
        self._config = {
            "root": str(self.root),
            "input": {
                "path": "given with each run",
                "options": {"header": True},
                "columns": {name: name for name in ("user", "item", "rating", "timestamp")},
            },
            "training": {"threads": 1, "epochs": 1, "no_components": 4, "early_stopping": None},
            "publishing": {"format": self.form, "keep_versions": KEEP},
            "spark": {
                "spark.master": "local[1]",
                "spark.driver.memory": "512m",
                "spark.sql.shuffle.partitions": 1,
                "spark.ui.enabled": False,
                # Compiling takes longer than the few rows.
                "spark.sql.codegen.wholeStage": False,
            },
        }
        (self.work / "conf.yaml").write_text(yaml.safe_dump(self._config))

    def _arguments(self, number: int) -> list[str]:
        path = self.work / f"r{number}.csv"
        day = UNIT.run_date.isoformat()
        return ["--run-id", f"r{number}", "--run-date", day, "--set", f"input.path={path}"]

    def _command(self, number: int) -> int:
        return self._recsys("run", *self._arguments(number))

    def _recsys(self, *arguments: str) -> int:
        return self._start(*arguments).wait(timeout=600)

    def _start(self, command: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start the command line as the console script does."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # a short life
            **variables,
        }
        script = "from jobs.cli import main; main()"
        with (self.work / "log").open("wb") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-c", script, command),
                    *("--config", str(self.work / "conf.yaml")),
                    *arguments,
                ],
                cwd=self.work,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _tail(self) -> str:
        lines = (self.work / "log").read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:])


def _check_iceberg(catalogue: Any, files: dict[str, pa.Table]) -> None:
    """Compare the rows that the tables show with those of the files of the version."""
    read = catalogue.read(UNIT)
    for name, table in ((RECOMMENDATIONS, read[1]), (STATUS, read[2])):
        columns = files[name].column_names
        if _rows(table.select(columns)) != _rows(files[name]):
            raise ViolationError(f"the table {name} has other rows than the files of {read[0]}")


def _rows(table: pa.Table) -> str:
    return repr(sorted(table.to_pylist(), key=repr))


def _checksum(parts: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
