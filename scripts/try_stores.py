"""The whole life of a root on other stores: `python scripts/try_stores.py [--only STORE]`.

hdfs   a NameNode and two DataNodes of real processes; plain directories
s3     an S3 server and PostgreSQL; Iceberg tables

On each, real commands run, publish, return, verify and clean, and readers read what is published.
Lists must be those of a local root with the same ratings and the same seed. It prints a line for
each step, and exits with 1 if one is wrong. What cannot be had on this machine is left out, with
the reason. `scripts/torture.py --store STORE` is for kills, rivals and readers all the time.
"""

import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from cluster_runs import (
    DAY,
    SAID,
    Ran,
    UnavailableError,
    checksum,
    ran,
    write_configuration,
    write_ratings,
)
from store_sites import Site, Store, below, duckdb_on, store, whole_table

from recsys.errors import ConfigError, DamageError
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, TABLES, Unit, as_day, place

UNIT = Unit("all", as_day(DAY, "DAY"))
KEEP = 2
SPARK = {
    "spark.master": "local[1]",
    "spark.driver.memory": "700m",
    "spark.sql.shuffle.partitions": 1,
    "spark.ui.enabled": False,
    # Compiling takes longer than the few rows.
    "spark.sql.codegen.wholeStage": False,
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": False,
}


class WrongError(Exception):
    """A step came to something else than it must."""


def same(what: str, found: object, expected: object) -> None:
    """Raise WrongError unless both are the same."""
    if found != expected:
        raise WrongError(f"{what}: found {found}, expected {expected}")


def said(tables: dict[str, pa.Table]) -> dict[str, str]:
    """Return checksums of what lists and statuses say."""
    found = {}
    for name in TABLES:
        rows = tables[name].select(SAID[name])
        # Readers differ in whether they know that a column is never null.
        columns = pa.schema([pa.field(column.name, column.type) for column in rows.schema])
        found[name] = checksum(rows.cast(columns))
    return found


@dataclass
class Life:
    """One root, from its first run to its last cleaning.

    Attributes:
        name: for people.
        site: the root.
        folder: for ratings, the configuration and logs.
        expected: what runs must say, by run id; a local root fills it in.
    """

    name: str
    site: Site
    folder: Path
    expected: dict[str, dict[str, str]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write ratings and the configuration."""
        for number, rows in ((1, 4_000), (2, 4_500)):
            ratings = self.folder / f"r{number}.csv"
            if not ratings.exists():
                write_ratings(ratings, rows)
        write_configuration(
            self.folder / f"{self.name}.yaml",
            self.site.root,
            "of each run",
            spark={**self.site.spark, **SPARK},
            publishing=self.site.publishing.model_dump(mode="json"),
        )

    # Commands

    def command(self, *arguments: str) -> Ran:
        """Run a command to its end."""
        script = [sys.executable, "-c", "from recsys.cli import main; main()", *arguments]
        config = ["--config", str(self.folder / f"{self.name}.yaml")]
        # A local root must not see the settings of a cluster.
        kept = {} if self.site.local else dict(self.site.environment)
        return ran([*script, *config], kept, self.folder / f"{self.name}.log")

    def do(self, *arguments: str, status: int = 0) -> str:
        """Run a command, whose exit status must be the given one, and return what it says."""
        outcome = self.command(*arguments)
        if outcome.status != status:
            last = " | ".join(outcome.output.splitlines()[-4:])
            raise WrongError(f"ended with {outcome.status}, expected {status}: {last}")
        return outcome.output

    def told(self, *arguments: str) -> Any:
        """Run a command that answers in JSON."""
        output = self.do(*arguments, "--json")
        answer = re.search(r"^[\[{]", output, re.MULTILINE)  # after what the JVM says
        if answer is None:
            raise WrongError(f"no JSON: {output[-200:]}")
        return json.loads(output[answer.start() :])

    def run(self, number: int, run_id: str) -> None:
        """Run the job on the ratings with a number."""
        ratings = f"input.path=file://{self.folder / f'r{number}.csv'}"
        self.do("run", "--run-id", run_id, "--run-date", DAY, "--set", ratings)

    # What is published

    def versions(self) -> dict[str, str]:
        """Return the manifests' checksums of what is kept, by run id."""
        return {v.run_id: v.manifest_sha256 for v in self.site.index().versions(UNIT)}

    def current(self) -> str | None:
        """Return the run id that readers see."""
        version = self.site.index().current(UNIT)
        return None if version is None else str(version.run_id)

    def check_read(self, run_id: str) -> None:
        """Read as readers in Python do: all rows must be those of a run."""
        found = self.site.read(UNIT)
        same("read_recommendations", found.run_id, run_id)
        tables: Any = {RECOMMENDATIONS: found.recommendations, STATUS: found.status}
        self.check_rows("read_recommendations", tables, run_id)

    def check_rows(self, reader: str, tables: dict[str, pa.Table], run_id: str) -> None:
        """Compare rows with those of the local root's run."""
        runs = {run for table in tables.values() for run in table["run_id"].unique().to_pylist()}
        same(f"{reader}: runs", runs, {run_id})
        same(f"{reader}: rows of {run_id}", said(tables), self.expected[run_id])

    # The steps

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield the name of each step and what it does; it raises where something is wrong."""
        yield "run r1", lambda: self.run(1, "r1")
        yield "read r1", lambda: self.check_read("r1")
        yield "run r1 again", self.again
        yield "run r2", lambda: self.run(2, "r2")
        yield "read r2", lambda: self.check_read("r2")
        yield "runs, models", self.listed
        if self.site.form == "iceberg":
            yield "read with pyiceberg", lambda: self.with_pyiceberg("r2")
            yield "read with DuckDB", lambda: self.with_duckdb("r2")
        yield "verify", lambda: self.verified(2)
        yield "rollback to r1", lambda: self.rolled_back([], "r1")
        yield "rollback to r2", lambda: self.rolled_back(["--to", "r2"], "r2")
        yield "score r3", self.scored
        yield "forgotten and expired", self.expired
        yield "clean", self.cleaned
        yield "read r3", lambda: self.check_read("r3")
        yield "no secret in any file", self.without_secrets
        yield "verify what is damaged", self.damaged

    def again(self) -> None:
        """A run id that has published changes nothing."""
        before = self.versions()
        self.run(1, "r1")
        same("versions", self.versions(), before)

    def listed(self) -> None:
        """Both runs are complete, and each has a model."""
        runs = {run["run_id"]: run["state"] for run in self.told("runs")}
        same("runs", runs, {"r1": "complete", "r2": "complete"})
        same("models", len(self.told("models")), 2)

    def with_pyiceberg(self, run_id: str) -> None:
        """Pyiceberg reads the tables by the catalog."""
        _, lists, statuses = self.site.index().read(UNIT)
        self.check_rows("pyiceberg", {RECOMMENDATIONS: lists, STATUS: statuses}, run_id)

    def with_duckdb(self, run_id: str) -> None:
        """DuckDB reads them by the place of their metadata."""
        connection, index = duckdb_on(self.site), self.site.index()
        tables = {name: whole_table(index, connection, name) for name in TABLES}
        self.check_rows("DuckDB", tables, run_id)

    def verified(self, versions: int) -> None:
        """Everything is whole."""
        found = self.told("verify")
        same("damaged", [one["name"] for one in found if not one["ok"]], [])
        published = [one for one in found if one["name"].startswith("cohort")]
        same("versions", len(published), versions)

    def rolled_back(self, to: list[str], run_id: str) -> None:
        """Readers see another version."""
        self.roll_back(*to)
        self.check_read(run_id)

    def roll_back(self, *to: str, status: int = 0) -> None:
        self.do("rollback", "--cohort", "all", "--run-date", DAY, *to, status=status)

    def scored(self) -> None:
        """A model that is there makes the same lists again."""
        model = self.told("runs", "--run-id", "r2")[0]["model_id"]
        self.do("score", "--model", model, "--run-id", "r3", "--run-date", DAY)
        self.expected["r3"] = self.expected["r2"]
        self.check_read("r3")

    def expired(self) -> None:
        """Of three versions two are kept; nothing refers to the third, and it is gone."""
        same("versions", sorted(self.versions()), ["r2", "r3"])
        files = self.site.files()
        same("directory of r1", files.exists(place(files, UNIT, "r1")), False)
        self.roll_back("--to", "r1", status=ConfigError.exit_code)
        if self.site.form == "iceberg":
            table = self.site.index()._load(RECOMMENDATIONS)
            shown = {s.summary["recsys.run-id"] for s in table.snapshots()}
            same("snapshots show", shown, {"r2", "r3"})

    def cleaned(self) -> None:
        """What killed runs leave is deleted, and nothing else."""
        files = self.site.files()
        left = [
            files.uri("_staging", "x1", "version", "part-0.parquet"),
            place(files, UNIT, "x2", "status", "part-0.parquet"),
        ]
        for uri in left:
            files.write(uri, b"x")
        before = self.versions()
        listed = self.told("clean")["delete"]
        same("deleted without --yes", [files.exists(uri) for uri in left], [True, True])
        told = self.told("clean", "--yes")
        same("listed", [one["uri"] for one in told["delete"]], [one["uri"] for one in listed])
        same("deleted", told["deleted"], len(listed))
        same("left", [files.exists(uri) for uri in left], [False, False])
        same("versions", self.versions(), before)
        self.verified(2)

    def without_secrets(self) -> None:
        """No file below the root has what only the configuration may have."""
        secrets = [str(v) for k, v in self.site.spark.items() if "secret" in k or "access.key" in k]
        secrets += [str(self.site.publishing.iceberg.properties.get("uri", ""))]
        files = self.site.files()
        for uri in below(files, files.root):
            if files.is_directory(uri):
                continue
            content = files.read(uri)
            if any(secret and secret.encode() in content for secret in secrets):
                raise WrongError(f"{uri} has a secret")

    def damaged(self) -> None:
        """A file that is changed is named."""
        files = self.site.files()
        folder = place(files, UNIT, "r2", RECOMMENDATIONS)
        part = next(name for name in files.names(folder) if name.endswith(".parquet"))
        files.write(f"{folder}/{part}", files.read(f"{folder}/{part}") + b"x")
        said = self.do("verify", status=DamageError.exit_code)
        same("names the file", part in said, True)
        self.roll_back("--to", "r2", status=DamageError.exit_code)
        same("current", self.current(), "r3")


def reference(folder: Path) -> dict[str, dict[str, str]]:
    """Run on a local root, and return what each run says."""
    with store("local", folder) as at:
        life = Life("local", at.site("local-root", "parquet"), folder)
        shutil.rmtree(life.site.root, ignore_errors=True)
        life.prepare()
        for number in (1, 2):
            life.run(number, f"r{number}")
            found: Any = life.site.read(UNIT)
            life.expected[f"r{number}"] = said(
                {RECOMMENDATIONS: found.recommendations, STATUS: found.status}
            )
    return life.expected


def live(at: Store, folder: Path, expected: dict[str, dict[str, str]]) -> bool:
    """Print what became of each step on a store; return whether all are well."""
    well = True
    for form in at.forms:
        life = Life(at.kind, at.site(f"life-{form}", form, KEEP), folder, dict(expected))
        life.prepare()
        for name, step in life.steps():
            began, verdict = time.monotonic(), "ok"
            try:
                step()
            except UnavailableError as error:
                verdict = f"left out: {error}"
            except Exception as error:  # the next steps may be well
                verdict, well = f"WRONG {type(error).__name__}: {error}", False
            print(f"{at.kind:6} {name:24} {time.monotonic() - began:6.1f} s  {verdict}", flush=True)
    return well


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(["hdfs", "s3"]), multiple=True, help="These alone.")
@click.option("--keep", type=click.Path(path_type=Path), help="Work there, and leave all.")
def main(only: tuple[str, ...], keep: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="recsys-stores-") as temporary:
        folder = keep.absolute() if keep else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        expected = reference(folder)
        well = True
        for kind in only or ("hdfs", "s3"):
            try:
                with store(kind, folder) as at:
                    well &= live(at, folder, expected)
            except UnavailableError as error:
                print(f"{kind:6} left out: {error}", flush=True)
    sys.exit(not well)


if __name__ == "__main__":
    main()
