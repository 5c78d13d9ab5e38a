"""Real runs of the job on small files, and what they leave for readers."""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from store_sites import SHORT_LIFE, Site
from torture_versions import UNIT, ViolationError, close

from recsys.publishing.read import check_version
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    TABLES,
    TITLES,
    VersionIndex,
    place,
)

ROOT = Path(__file__).parents[1]
PATIENCE = 1800  # seconds for a run, on a machine that has much else to do
# What a run says of a user, but for its own name and time: the same in every attempt.
_SAID = {
    RECOMMENDATIONS: ["user_id", "rank", "item_id", "score", "probability", "source"],
    STATUS: ["requested", "user_id", "status", "n_items", "reason"],
    TITLES: ["item_id", "title"],
}
_TABLES = (*TABLES, TITLES)


@dataclass(frozen=True)
class Seen:
    """What is published.

    Attributes:
        run_id: what readers see.
        said: a checksum of its rows, without what differs between two attempts.
        versions: checksums of all files and rows of each version that is kept.
    """

    run_id: str
    said: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Runs:
    """A root of real runs, r1, r2 and so on, each with other ratings.

    Attributes:
        work: a local directory to work in.
        site: the root of all runs.
    """

    work: Path
    site: Site

    @property
    def root(self) -> Path:
        """A root that is local."""
        return Path(self.site.root)

    # What is published

    @contextmanager
    def index(self) -> Iterator[VersionIndex]:
        """Open the index for a while."""
        index: Any = self.site.index()
        try:
            yield index
        finally:
            close(index)

    def look(self) -> Seen:
        """Read all that is published as readers do, and check it against what was noted of it."""
        files = self.site.files()
        with self.index() as index:
            current = index.current(UNIT)
            if current is None:
                raise ViolationError("nothing is published")
            versions = {}
            for version in index.versions(UNIT):
                check_version(files, version)
                # Not its requests, which nobody reads and which the next attempt deletes.
                parts = [version.manifest_sha256]
                for table in _TABLES:
                    found = files.data_files(place(files, UNIT, version.run_id, table))
                    parts += [f"{file.path} {file.sha256}" for file in found]
                versions[version.run_id] = _checksum(iter(parts))
            published = self.site.read(UNIT)
            tables: dict[str, Any] = {
                RECOMMENDATIONS: published.recommendations,
                STATUS: published.status,
                TITLES: published.titles,
            }
            if self.site.form == "iceberg":
                _check_iceberg(index, tables)
        run_ids = {run for name in _TABLES for run in tables[name]["run_id"].unique().to_pylist()}
        if run_ids != {current.run_id} or published.manifest.run_id != current.run_id:
            raise ViolationError(f"rows of the runs {run_ids}, named is {current.run_id}")
        said = _checksum(_rows(tables[name].select(_SAID[name])) for name in _TABLES)
        return Seen(current.run_id, said, versions)

    # Commands

    def write_inputs(self, runs: int) -> None:
        """Write the ratings of so many runs, and the configuration of all of them."""
        for number in range(1, runs + 1):
            chance = random.Random(number)  # noqa: S311 - no secret
            lines = ["user,item,rating,timestamp"]
            for _ in range(600):
                user, item = chance.randrange(30), chance.randrange(40)
                rating = chance.choice([4, 5] if (user + item) % 2 == 0 else [1, 2, 3])
                lines.append(f"u{user:03},i{item:03},{rating},{10**6 + chance.randrange(5)}")
            (self.work / f"r{number}.csv").write_text("\n".join(lines) + "\n")
        names = ["item_id,title", *(f"i{item:03},no. {item}" for item in range(40))]
        (self.work / "titles.csv").write_text("\n".join(names) + "\n")
        columns = {name: name for name in ("user", "item", "rating", "timestamp")}
        config = {
            "root": self.site.root,
            "input": {"path": "of each run", "options": {"header": True}, "columns": columns},
            "items": {
                "titles": {"path": f"file://{self.work}/titles.csv", "options": {"header": True}}
            },
            "training": {"threads": 1, "epochs": 1, "no_components": 4, "early_stopping": None},
            "publishing": self.site.publishing.model_dump(mode="json"),
            "spark": {
                **self.site.spark,
                "spark.master": "local[1]",
                "spark.driver.memory": "512m",
                "spark.sql.shuffle.partitions": 1,
                "spark.ui.enabled": False,
                # Compiling takes longer than the few rows.
                "spark.sql.codegen.wholeStage": False,
                "spark.sql.codegen.factoryMode": "NO_CODEGEN",
                "spark.sql.adaptive.enabled": False,
            },
        }
        (self.work / "conf.yaml").write_text(yaml.safe_dump(config))

    def arguments(self, number: int, ratings: int | None = None) -> list[str]:
        """Return the command line of a run.

        Args:
            number: its own.
            ratings: the number of its ratings, where that is another.
        """
        path = f"file://{self.work}/r{ratings or number}.csv"
        day = UNIT.run_date.isoformat()
        return ["--run-id", f"r{number}", "--run-date", day, "--set", f"input.path={path}"]

    def command(self, number: int) -> int:
        """Run it, and return its status."""
        return self.recsys("run", *self.arguments(number))

    def recsys(self, *arguments: str) -> int:
        """Run a command, and return its status."""
        return self.start(*arguments).wait(timeout=PATIENCE)

    def start(
        self,
        command: str,
        *arguments: str,
        log: str = "log",
        submitted: bool = False,
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own.

        Args:
            command: its name.
            arguments: beside the configuration.
            log: file for all that it says.
            submitted: by spark-submit, not as the console script does.
            variables: of its environment.
        """
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "JAVA_TOOL_OPTIONS": SHORT_LIFE,
            **variables,
        }
        script = [sys.executable, "-c", "from recsys.cli import main; main()", command]
        if submitted:
            spark_submit = str(Path(sys.executable).with_name("spark-submit"))
            script = [spark_submit, str(ROOT / "jobs" / f"{command}.py")]
        with (self.work / log).open("wb") as stream:
            return subprocess.Popen(
                [*script, "--config", str(self.work / "conf.yaml"), *arguments],
                cwd=self.work,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def tail(self, log: str = "log") -> str:
        """Return the last words of a command."""
        lines = (self.work / log).read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:])


def _check_iceberg(index: Any, files: dict[str, pa.Table]) -> None:
    """Compare the rows that the tables show with those of the files of the version."""
    read = index.read(UNIT)
    for name, table in ((RECOMMENDATIONS, read[1]), (STATUS, read[2])):
        columns = files[name].column_names
        if _rows(table.select(columns)) != _rows(files[name]):
            raise ViolationError(f"the table {name} has other rows than the files of {read[0]}")


def _rows(table: pa.Table) -> str:
    return repr(sorted(table.to_pylist(), key=repr))


def _checksum(parts: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
