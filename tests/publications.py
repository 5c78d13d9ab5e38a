"""Versions as a run would stage them, written with pyarrow: for tests that need no Spark."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from example_manifests import version_manifest

from recsys.columns import RECOMMENDATIONS_SCHEMA, STATUS_SCHEMA
from recsys.config.configuration import Config
from recsys.flows.manifest import SparkSettings
from recsys.flows.record import RunRecord, continued, earlier_attempt
from recsys.publishing.manifest import Verdict
from recsys.publishing.pointer import Pointers
from recsys.publishing.publish import REQUESTS, Staged, publish
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, Unit, Version, columns
from recsys.runtime.run import Run
from recsys.store.checksums import local_files
from recsys.store.files import STAGING
from recsys.store.manifest import File
from recsys.store.posix import PosixFiles

DAY = dt.date(2026, 11, 24)
UNIT = Unit("all", DAY)

_TYPES = {
    "date": pa.date32(),
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
SCHEMAS = {
    name: columns(schema.format(user="string", item="string"))
    for name, schema in {RECOMMENDATIONS: RECOMMENDATIONS_SCHEMA, STATUS: STATUS_SCHEMA}.items()
}


@dataclass
class Judge:
    """Fails the gates that it is told to, and remembers what it was asked to compare with."""

    failing: Sequence[str] = ()
    compared: list[str | None] = field(default_factory=list)

    def __call__(self, before: Version | None) -> list[Verdict]:
        self.compared.append(before.run_id if before else None)
        passed = Verdict(gate="lists", state="passed", found=0, allowed="0")
        failed = [
            Verdict(gate=gate, state="failed", found=0.1, allowed="at least 0.2")
            for gate in self.failing
        ]
        return [passed, *failed]


def stage(
    files: PosixFiles,
    unit: Unit,
    run_id: str,
    n: int = 4,
    *,
    parts: int = 2,
    schemas: dict[str, dict[str, str]] | None = None,
    model_id: str = "m1",
) -> Staged:
    """Stage a version of n users with two items each; `schemas` only says what it has."""
    uri = files.uri(STAGING, run_id, "version")
    rows = {RECOMMENDATIONS: 2 * n, STATUS: n}
    tables: dict[str, tuple[int, list[File]]] = {}
    for name, count in rows.items():
        folder = files.path(f"{uri}/{name}")
        written = write_parts(folder, _table(name, unit, run_id, count, model_id), parts)
        (folder / "_SUCCESS").touch()  # as Spark leaves it
        tables[name] = (count, written)
    files.write(f"{uri}/{REQUESTS}/part-0.parquet", b"requests")
    manifest = version_manifest(unit, run_id, tables, schemas or SCHEMAS, model_id=model_id)
    return Staged(unit, run_id, uri, manifest)


def write_parts(folder: Path, table: pa.Table, parts: int) -> list[File]:
    """Write a table in parts, as Spark would, and return its files as a manifest has them."""
    folder.mkdir(parents=True)
    size = max(-(-len(table) // max(parts, 1)), 1)
    for part in range(parts):
        pq.write_table(table.slice(part * size, size), folder / f"part-{part:05}.snappy.parquet")
    return local_files(folder)


def _table(name: str, unit: Unit, run_id: str, n: int, model_id: str) -> pa.Table:
    width = 2 if name == RECOMMENDATIONS else 1
    values: dict[str, list[Any]] = {
        "run_date": [unit.run_date] * n,
        "cohort": [unit.cohort] * n,
        "user_id": [f"u{row // width:04}" for row in range(n)],
        "requested": [f"u{row:04}" for row in range(n)],
        "rank": [row % width + 1 for row in range(n)],
        "item_id": [f"i{row % 7}" for row in range(n)],
        "status": ["scored"] * n,
        "model_id": [model_id] * n,
        "run_id": [run_id] * n,
        "generated_at": [dt.datetime(2026, 11, 24, 3, tzinfo=dt.UTC)] * n,
    }
    return pa.table(
        {
            column: pa.array(values.get(column, [None] * n), _TYPES[kind])
            for column, kind in SCHEMAS[name].items()
        }
    )


def publish_version(
    files: PosixFiles,
    unit: Unit,
    run_id: str,
    n: int = 4,
    *,
    judge: Judge | None = None,
    force: bool = False,
    **more: Any,
) -> Version:
    """Stage a version and let readers see it."""
    return publish(
        files,
        Pointers(files),
        stage(files, unit, run_id, n, **more),
        judge or Judge(),
        alive=lambda: None,
        force=force,
    )


def tree(top: Path) -> dict[str, bytes | None]:
    """Return the content of each file below a directory, None for directories."""
    return {
        str(path.relative_to(top)): path.read_bytes() if path.is_file() else None
        for path in sorted(top.rglob("*"))
    }


def record_of(
    files: PosixFiles,
    run_id: str,
    started: dt.datetime = dt.datetime(2026, 11, 24, 4, tzinfo=dt.UTC),
    *,
    model_id: str | None = None,
    requested_run_id: str | None = None,
    run: Run | None = None,
) -> RunRecord:
    """Return what writes the record of a run."""
    config = Config.model_validate({"root": str(files.path(files.root))})
    spark = SparkSettings(
        application_id="a", master="local", driver_heap_bytes=1, default_parallelism=1, settings={}
    )
    run = run or Run(run_id, DAY, started, requested_run_id=requested_run_id)
    earlier = earlier_attempt(files, run_id)
    run = continued(run, earlier, dated=True)
    return RunRecord(files, "run", run, config, model_id=model_id, spark=spark, earlier=earlier)
