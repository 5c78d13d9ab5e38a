"""Versions as a run would stage them, written with pyarrow: for tests that need no Spark."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.columns import RECOMMENDATIONS_SCHEMA, STATUS_SCHEMA
from recsys.errors import GateError
from recsys.publishing.pointer import Pointers
from recsys.publishing.publish import Staged, publish
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, Unit, Version, columns
from recsys.store.checksums import local_files
from recsys.store.files import STAGING
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


@dataclass(frozen=True)
class Found:
    """A verdict."""

    gate: str
    state: str

    def plain(self) -> dict[str, Any]:
        return {"gate": self.gate, "state": self.state}


@dataclass
class Judge:
    """Fails the gates that it is told to, and remembers what it was asked to compare with."""

    failing: Sequence[str] = ()
    compared: list[str | None] = field(default_factory=list)

    def verdicts(self, before: Version | None) -> list[Found]:
        self.compared.append(before.run_id if before else None)
        return [Found("lists", "passed"), *(Found(gate, "failed") for gate in self.failing)]

    def refuse(self, verdicts: Sequence[Any], held: str) -> None:
        raise GateError(f"gate {self.failing[0]} failed; the tables are in {held}")


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
    tables = {}
    for name, count in rows.items():
        folder = files.path(f"{uri}/{name}")
        written = write_parts(folder, _table(name, unit, run_id, count, model_id), parts)
        (folder / "_SUCCESS").touch()  # as Spark leaves it
        tables[name] = {"rows": count, "files": written}
    manifest = {
        "format_version": 1,
        "run_id": run_id,
        "run_date": unit.run_date.isoformat(),
        "cohort": unit.cohort,
        "model_id": model_id,
        "schemas": schemas or SCHEMAS,
        "tables": tables,
    }
    return Staged(unit, run_id, uri, manifest)


def write_parts(folder: Path, table: pa.Table, parts: int) -> list[dict[str, Any]]:
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
