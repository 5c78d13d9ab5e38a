"""Publishing to Iceberg tables, with SQLite's catalogue and with a real PostgreSQL server."""

import datetime as dt
import hashlib
import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_manifests import version_manifest
from pyiceberg.manifest import clear_manifest_cache
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys import columns
from recsys.config.sections import Iceberg
from recsys.errors import ConfigError, DamageError, OutputError
from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.versions import TABLES, Version, place
from recsys.store.checksums import local_files
from recsys.store.files import write_json
from recsys.store.manifest import MANIFEST, File
from recsys.store.posix import PosixFiles
from tests.iceberg_tables import (
    OTHER,
    UNIT,
    duckdb_rows,
    loaded,
    publish,
    rows,
    runs,
    snapshots,
    stage,
    with_run,
)


def test_a_replace_is_one_snapshot_of_each_table_and_leaves_other_units_alone(
    tables: IcebergTables, files: PosixFiles
) -> None:
    publish(tables, files, OTHER, "o1", 3)
    publish(tables, files, UNIT, "r1", 4)
    assert snapshots(tables) == [2, 2]
    second = publish(tables, files, UNIT, "r2", 6)
    assert snapshots(tables) == [3, 3]

    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert version == second == tables.current(UNIT)
    assert (len(recommendations), runs(recommendations)) == (12, {"r2"})
    assert (len(status), runs(status)) == (6, {"r2"})
    _, others, _ = tables.read(OTHER) or pytest.fail("the other unit is gone")
    assert (len(others), runs(others)) == (6, {"o1"})
    assert [v.run_id for v in tables.versions(UNIT)] == ["r1", "r2"]
    assert tables.units() == [UNIT, OTHER]
    for name in TABLES:
        summary = loaded(tables, name).current_snapshot().summary
        assert summary["recsys.run-id"] == "r2"
        assert summary["recsys.cohort"] == UNIT.cohort
        assert summary["recsys.run-date"] == "2026-11-24"
        assert summary["recsys.published-at"] == second.published_at
        assert summary["recsys.manifest-sha256"] == second.manifest_sha256
    # Once more is one result.
    tables.switch(second, expected="r2")
    assert snapshots(tables) == [3, 3]


@pytest.mark.parametrize("parts", [0, 1])
def test_an_empty_cohort_is_published_first_and_later(
    tables: IcebergTables, files: PosixFiles, parts: int
) -> None:
    publish(tables, files, UNIT, "r1", 0, parts=parts)
    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, len(recommendations), len(status)) == ("r1", 0, 0)
    publish(tables, files, UNIT, "r2", 2)
    assert "score" in loaded(tables, "recommendations").schema().column_names
    publish(tables, files, UNIT, "r3", 0, parts=parts)
    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, len(recommendations), len(status)) == ("r3", 0, 0)
    assert snapshots(tables) == [3, 3]


def test_rollback_is_one_snapshot_and_keeps_the_time_of_publication(
    tables: IcebergTables, files: PosixFiles
) -> None:
    first = publish(tables, files, UNIT, "r1", 3)
    publish(tables, files, UNIT, "r2", 5)
    later = Version(UNIT, "r1", "2030-01-01T00:00:00+00:00", first.manifest_sha256)
    tables.switch(later, expected="r2")
    assert snapshots(tables) == [3, 3]
    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version, len(recommendations), len(status)) == (first, 6, 3)
    assert [v.run_id for v in tables.versions(UNIT)] == ["r1", "r2"]
    summary = loaded(tables, "recommendations").current_snapshot().summary
    assert summary["recsys.published-at"] == first.published_at


def test_what_is_not_as_the_manifest_says_is_refused_before_the_commit(
    tables: IcebergTables, files: PosixFiles
) -> None:
    publish(tables, files, UNIT, "r1")
    with pytest.raises(DamageError, match="recommendations have 8 rows, the manifest says 9"):
        publish(tables, files, UNIT, "r2", more_rows=1)
    version = stage(files, UNIT, "r3")
    next(files.path(place(files, UNIT, "r3", "status")).iterdir()).unlink()
    with pytest.raises(DamageError, match="is missing, though the manifest names it"):
        tables.switch(version, expected="r1")
    version = stage(files, UNIT, "r4")
    part = next(files.path(place(files, UNIT, "r4", "status")).iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DamageError, match=r"status/part-.* is damaged"):
        tables.switch(version, expected="r1")
    version = stage(files, UNIT, "r5")
    with pytest.raises(DamageError, match=r"manifest\.json is damaged"):
        tables.switch(Version(UNIT, "r5", "", "0" * 64), expected="r1")
    assert snapshots(tables) == [1, 1]


WRONG: dict[str, list[Any]] = {
    "cohort": ["everybody_in_the_shop_b"],
    "run_date": [dt.date(2026, 11, 23)],
    "run_id": ["r1"],
}


@pytest.mark.parametrize("column", WRONG)
@pytest.mark.parametrize("kind", ["other", "null", "all nulls"])
def test_rows_of_another_partition_or_run_are_refused(
    tables: IcebergTables, files: PosixFiles, column: str, kind: str
) -> None:
    good = rows(UNIT, "r2", 4)
    for table in range(2):
        content = list(good)
        values = content[table][column].to_pylist()
        values[-1:] = WRONG[column] if kind == "other" else [None]
        values = [None] * len(values) if kind == "all nulls" else values
        place_ = content[table].column_names.index(column)
        changed = pa.array(values, content[table].schema.field(column).type)
        content[table] = content[table].set_column(place_, column, changed)
        run_id = f"r2.{table}"
        content = [c if column == "run_id" else with_run(c, run_id) for c in content]
        version = stage(files, UNIT, run_id, content=(content[0], content[1]))
        with pytest.raises(OutputError, match=f"column {column} must be"):
            tables.switch(version, expected=None)
    assert tables.units() == []
    assert tables.metadata_location("recommendations") is None


def test_new_columns_are_added_and_other_changes_refused(
    tables: IcebergTables, files: PosixFiles
) -> None:
    first = publish(tables, files, UNIT, "r1")
    recommendations, status = rows(UNIT, "r2", 4)
    wider = recommendations.append_column("reason", pa.array(["new"] * 8))
    publish(tables, files, UNIT, "r2", content=(wider, status))
    assert snapshots(tables) == [2, 2]
    _, found, _ = tables.read(UNIT) or pytest.fail("nothing is published")
    assert found["reason"].to_pylist() == ["new"] * 8

    with pytest.raises(OutputError, match="column reason is gone"):
        publish(tables, files, UNIT, "r3")
    recommendations, status = rows(UNIT, "r4", 4)
    rank = recommendations.column_names.index("rank")
    other = wider.set_column(rank, "rank", recommendations["rank"].cast(pa.int64()))
    with pytest.raises(OutputError, match="column rank was int and is long"):
        publish(tables, files, UNIT, "r4", content=(with_run(other, "r4"), status))
    # What was published before can be returned to.
    tables.switch(first, expected="r2")
    _, found, _ = tables.read(UNIT) or pytest.fail("nothing is published")
    assert found["reason"].to_pylist() == [None] * 8


def test_duckdb_sees_the_same_rows(tables: IcebergTables, files: PosixFiles) -> None:
    names = ["cohort", "run_date", "user_id", "rank", "score", "run_id"]
    publish(tables, files, UNIT, "r1", 0)

    def check(names: list[str]) -> None:
        table = loaded(tables, "recommendations")
        found = duckdb_rows(table.metadata_location, ", ".join(names))
        scanned = table.scan().to_arrow().select(names).to_pylist()
        assert sorted(found, key=repr) == sorted((tuple(r.values()) for r in scanned), key=repr)

    check(names)
    publish(tables, files, UNIT, "r2", 5)
    publish(tables, files, OTHER, "o1", 3)
    publish(tables, files, UNIT, "r3", 4)
    check(names)
    recommendations, status = rows(UNIT, "r4", 4)
    wider = recommendations.append_column("reason", pa.array(["new"] * 8))
    publish(tables, files, UNIT, "r4", content=(wider, status))
    check([*names, "reason"])
    publish(tables, files, UNIT, "r5", content=(wider.slice(0, 0), status.slice(0, 0)))
    check([*names, "reason"])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "missing": lambda content: content,
    "empty": lambda content: b"",
    "a quarter": lambda content: content[: len(content) // 4],
    "a half": lambda content: content[: len(content) // 2],
    "all but the end": lambda content: content[:-40],
    "another file": lambda content: b"PK" + bytes(range(255, 0, -1)) * 20,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(tables: IcebergTables, files: PosixFiles, damage: str) -> None:
    publish(tables, files, UNIT, "r1")
    location = tables.metadata_location("status") or pytest.fail("no table")
    metadata = files.path(location.replace("file://", "file:")).parent
    data = files.path(place(files, UNIT, "r1", "recommendations"))
    for path in [*data.iterdir(), *metadata.iterdir()]:
        content = path.read_bytes()
        path.write_bytes(DAMAGES[damage](content))
        if damage == "missing":
            path.unlink()
        if not path.name.startswith("0000") or path.name in location:
            clear_manifest_cache()
            named = "Iceberg" if path.suffix == ".json" else re.escape(path.name)
            with pytest.raises((DamageError, OutputError), match=named) as raised:
                tables.read(UNIT)
            assert "\n" not in str(raised.value)
        path.write_bytes(content)


def test_a_run_id_is_published_once(tables: IcebergTables, files: PosixFiles) -> None:
    publish(tables, files, UNIT, "r1")
    manifest = place(files, UNIT, "r1", MANIFEST)
    content = json.loads(files.read(manifest))
    checksum = write_json(files, manifest, {**content, "forced": not content["forced"]})
    with pytest.raises(OutputError, match="run r1 is published already, with another manifest"):
        tables.switch(Version(UNIT, "r1", "", checksum), expected="r1")


SECRET = "hun/ter@2"  # noqa: S105


@pytest.mark.parametrize(
    ("uri", "error", "words"),
    [
        (f"postgresql+psycopg2://me:{SECRET}@127.0.0.1:1/db", OutputError, "catalog failed"),
        (f"mysterysql://me:{SECRET}@127.0.0.1/db", ConfigError, "uri"),
        (f"postgresql+nothing://me:{SECRET}@127.0.0.1/db", ConfigError, "uri|module"),
        (f"postgresql:me:{SECRET}", ConfigError, "expected a uri"),
        ("sqlite:////proc/none/catalog.db", OutputError, "unable to open"),
    ],
)
def test_a_catalogue_that_cannot_be_opened_is_one_line_without_secrets(
    files: PosixFiles, uri: str, error: type[Exception], words: str
) -> None:
    tables = IcebergTables(files, Iceberg(properties={"uri": uri}))
    with pytest.raises(error, match=words) as raised:
        tables.units()
    message = str(raised.value)
    assert "\n" not in message
    assert "hun" not in message
    assert "ter@2" not in message


def test_a_password_can_stand_in_the_environment(
    files: PosixFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # pyiceberg reads its environment when it is imported; a new process would see this one.
    from pyiceberg import catalog
    from pyiceberg.utils.config import Config

    elsewhere = tmp_path / "elsewhere.db"
    monkeypatch.setenv("PYICEBERG_CATALOG__RECSYS__URI", f"sqlite:///{elsewhere}")
    monkeypatch.setattr(catalog, "_ENV_CONFIG", Config())
    tables = IcebergTables(files, Iceberg())
    publish(tables, files, UNIT, "r1")
    tables.close()
    assert elsewhere.exists()
    assert not files.exists(files.uri("catalog.db"))


def test_without_pyiceberg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.io", None)
    monkeypatch.delitem(sys.modules, "recsys.publishing.iceberg.tables")
    with pytest.raises(ConfigError, match="extra iceberg"):
        importlib.import_module("recsys.publishing.iceberg.tables")


def test_what_spark_writes_is_read_by_pyiceberg_and_duckdb(
    spark: SparkSession, tables: IcebergTables, files: PosixFiles
) -> None:
    schema = columns.RECOMMENDATIONS_SCHEMA.format(user="string", item="bigint")
    now = dt.datetime(2026, 11, 24, 3, 0, 0, 123456)
    user = ("u1", 1, 7, 0.5, None, "model", "m1", "r1", now)
    frame = spark.createDataFrame([(UNIT.run_date, UNIT.cohort, *user)], schema)
    # As the job does: constants, which Spark takes for never null.
    frame = frame.withColumn("cohort", F.lit(UNIT.cohort)).withColumn("run_id", F.lit("r1"))
    status_schema = columns.STATUS_SCHEMA.format(user="string")
    about = ("u1", "u1", 1, "full", 1, None)
    statuses = spark.createDataFrame([(UNIT.run_date, UNIT.cohort, *about, "r1")], status_schema)
    written: dict[str, tuple[int, list[File]]] = {}
    for name, data in {"recommendations": frame, "status": statuses}.items():
        folder = place(files, UNIT, "r1", name)
        # One of the files has no rows.
        data.repartition(2).write.parquet(folder)
        found = local_files(files.path(folder))
        written[name] = (1, found)
    content = version_manifest(UNIT, "r1", written, {}).to_json()
    files.replace(place(files, UNIT, "r1", MANIFEST), content)
    checksum = hashlib.sha256(content).hexdigest()
    tables.switch(Version(UNIT, "r1", "2026-11-24T03:00:00+00:00", checksum), expected=None)

    _, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    row = recommendations.to_pylist()[0]
    assert list(row) == columns.names(schema)
    assert row["generated_at"] == now.replace(tzinfo=dt.UTC)
    assert (row["item_id"], row["score"], row["probability"]) == (7, 0.5, None)
    assert status.to_pylist()[0]["status"] == "full"
    location = tables.metadata_location("recommendations") or pytest.fail("no table")
    selected = "user_id, item_id, score, epoch_us(generated_at)"
    micros = int(row["generated_at"].timestamp()) * 1_000_000 + 123456
    assert duckdb_rows(location, selected) == [("u1", 7, 0.5, micros)]
