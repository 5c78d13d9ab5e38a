"""Versions laid in their place as Spark would write them, and Iceberg tables that show them."""

import datetime as dt
import hashlib
import importlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_manifests import version_manifest

from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.versions import TABLES, Unit, Version, place
from recsys.store.manifest import MANIFEST, File
from recsys.store.posix import PosixFiles
from tests.publications import write_parts

DAY = dt.date(2026, 11, 24)
# Longer than the 16 characters that Iceberg's own bounds keep, and equal in them.
UNIT = Unit("everybody_in_the_shop_a", DAY)
OTHER = Unit("everybody_in_the_shop_b", DAY)


def rows(unit: Unit, run_id: str, n: int, **replaced: list[Any]) -> tuple[pa.Table, pa.Table]:
    """Make the recommendations and statuses of a run: n users with two items each."""

    def table(columns: dict[str, Any]) -> pa.Table:
        n_rows = len(columns["user_id"])
        constant = {
            "run_date": pa.array([unit.run_date] * n_rows, pa.date32()),
            "cohort": pa.array([unit.cohort] * n_rows, pa.string()),
        }
        columns = {**constant, **columns, "run_id": pa.array([run_id] * n_rows, pa.string())}
        return pa.table({**columns, **{k: v for k, v in replaced.items() if k in columns}})

    users = [f"u{user:04}" for user in range(n)]
    recommendations = table(
        {
            "user_id": pa.array([user for user in users for _ in range(2)], pa.string()),
            "rank": pa.array([1, 2] * n, pa.int32()),
            "score": pa.array([hash(run_id) % 97 / 97] * (2 * n), pa.float32()),
            "generated_at": pa.array(
                [dt.datetime(2026, 11, 24, 3, tzinfo=dt.UTC)] * (2 * n), pa.timestamp("us", "UTC")
            ),
        }
    )
    status = table(
        {"user_id": pa.array(users, pa.string()), "status": pa.array(["full"] * n, pa.string())}
    )
    return recommendations, status


def stage(
    files: PosixFiles,
    unit: Unit,
    run_id: str,
    n: int = 4,
    *,
    parts: int = 2,
    more_rows: int = 0,
    content: tuple[pa.Table, pa.Table] | None = None,
    titles: pa.Table | None = None,
) -> Version:
    """Lay a version in its place as Spark would: parts of each table and a manifest."""
    recommendations, status = content or rows(unit, run_id, n)
    tables: dict[str, tuple[int, list[File]]] = {}
    staged = {"recommendations": recommendations, "status": status}
    for name, table in (staged if titles is None else {**staged, "titles": titles}).items():
        found = write_parts(files.path(place(files, unit, run_id, name)), table, parts)
        n_rows = len(table) + (more_rows if name == "recommendations" else 0)
        tables[name] = (n_rows, found)
    content = version_manifest(unit, run_id, tables, {}).to_json()
    files.replace(place(files, unit, run_id, MANIFEST), content)
    checksum = hashlib.sha256(content).hexdigest()
    published_at = dt.datetime.now(dt.UTC).isoformat()
    return Version(unit, run_id, published_at, checksum)


def publish(
    tables: IcebergTables, files: PosixFiles, unit: Unit, run_id: str, n: int = 4, **more: Any
) -> Version:
    version = stage(files, unit, run_id, n, **more)
    current = tables.current(unit)
    tables.switch(version, expected=current.run_id if current else None)
    return version


def loaded(tables: IcebergTables, name: str) -> Any:
    table = tables._load(name)
    assert table is not None
    return table


def snapshots(tables: IcebergTables) -> list[int]:
    return [len(loaded(tables, name).snapshots()) for name in TABLES]


def runs(table: pa.Table) -> set[str]:
    return set(table["run_id"].to_pylist())


def with_run(table: pa.Table, run_id: str) -> pa.Table:
    last = table.column_names.index("run_id")
    return table.set_column(last, "run_id", pa.array([run_id] * len(table), pa.string()))


def duckdb_rows(location: str, columns: str) -> list[tuple[Any, ...]]:
    duckdb = pytest.importorskip("duckdb")
    try:
        extensions = Path(next(iter(importlib.import_module("duckdb_ext").__path__)))
    except ModuleNotFoundError:
        pytest.skip("the extension duckdb-ext-iceberg is not installed")
    config = {
        "extension_directory": str(extensions / "extensions"),
        "autoinstall_known_extensions": "false",
    }
    with duckdb.connect(config=config) as connection:
        connection.execute("LOAD avro; LOAD iceberg; SET TimeZone = 'UTC'")
        query = f"SELECT {columns} FROM iceberg_scan(?) ORDER BY ALL"  # noqa: S608
        found: list[tuple[Any, ...]] = connection.execute(query, [location]).fetchall()
        return found
