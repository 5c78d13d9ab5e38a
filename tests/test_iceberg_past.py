"""What stays of Iceberg tables' past, what goes, and reading it."""

import datetime as dt
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from recsys.errors import OutputError
from recsys.publishing.iceberg import history
from recsys.publishing.iceberg import tables as iceberg_tables
from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.pointer import lock_name
from recsys.publishing.versions import TABLES, Unit
from recsys.store.posix import PosixFiles
from tests.iceberg_tables import DAY, OTHER, UNIT, loaded, publish, runs, snapshots, stage

NOW = dt.timedelta(0)


def test_statuses_without_recommendations_are_not_seen(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    tables = opened(grace=NOW)
    publish(tables, files, OTHER, "o1")
    publish(tables, files, UNIT, "r1", 3)

    def die() -> None:
        raise KeyboardInterrupt

    killed = opened(alive=die)
    with pytest.raises(KeyboardInterrupt):
        killed.switch(stage(files, UNIT, "r2", 5), expected="r1")

    def check() -> None:
        assert runs(loaded(tables, "status").scan().to_arrow()) >= {"r2"}
        version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing")
        assert (version.run_id, len(recommendations), len(status)) == ("r1", 6, 3)

    check()
    # Also when the snapshots in which those statuses were current would expire for another unit.
    publish(tables, files, OTHER, "o2")
    publish(tables, files, OTHER, "o3")
    tables.retain(versions=1, run_dates=None)
    check()
    assert (UNIT, "r2") in tables.in_use()
    publish(tables, files, UNIT, "r3")
    tables.retain(versions=1, run_dates=None)
    assert tables.in_use() == {(UNIT, "r3"), (OTHER, "o3")}


def test_retention_keeps_what_is_needed_and_no_more(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    tables = opened(grace=NOW)
    yesterday = Unit(UNIT.cohort, DAY - dt.timedelta(days=1))
    old = publish(tables, files, yesterday, "y1")
    made = [publish(tables, files, UNIT, f"r{i}", 2 + i) for i in range(5)]
    publish(tables, files, OTHER, "o1", 3)
    tables.switch(made[1], expected="r4")
    assert tables.retain(versions=10, run_dates=None) == []

    assert sorted(tables.retain(versions=2, run_dates=None)) == sorted([made[0], made[2]])
    assert tables.versions(UNIT) == [made[1], made[3], made[4]]
    assert tables.current(UNIT) == made[1]
    expected = {(yesterday, "y1"), (UNIT, "r1"), (UNIT, "r3"), (UNIT, "r4"), (OTHER, "o1")}
    assert tables.in_use() == expected
    assert referred(tables, files) <= expected
    for snapshot in loaded(tables, "recommendations").snapshots():  # all that stay can be read
        for unit in (UNIT, OTHER, yesterday):
            tables.read(unit, snapshot=snapshot.snapshot_id)

    assert tables.retain(versions=2, run_dates=1) == [old]
    assert tables.current(yesterday) is None
    assert tables.read(yesterday) is None
    assert tables.units() == [UNIT, OTHER]
    assert tables.in_use() == expected - {(yesterday, "y1")}
    assert referred(tables, files) <= expected - {(yesterday, "y1")}
    assert not files.names(files.uri("_locks"))


def referred(tables: IcebergTables, files: PosixFiles) -> set[tuple[Unit, str]]:
    """Return the version directories of all data files that any snapshot of a table refers to."""
    found = set()
    for name in TABLES:
        table = loaded(tables, name)
        for snapshot in table.snapshots():
            for task in table.scan(snapshot_id=snapshot.snapshot_id).plan_files():
                cohort, day, run_id = task.file.file_path.split("/")[-5:-2]
                assert files.exists(task.file.file_path)
                found.add((Unit(cohort, dt.date.fromisoformat(day)), run_id))
    return found


def test_metadata_is_deleted_only_once_nothing_needs_it(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    patient, tables = opened(grace=dt.timedelta(hours=1)), opened(grace=NOW)
    for i in range(6):
        publish(tables, files, UNIT, f"r{i}")
    location = tables.metadata_location("recommendations") or pytest.fail("no table")
    folder = files.path(location.replace("file://", "file:")).parent
    (folder / "notes.txt").write_text("somebody's")
    abandoned, begun = (folder / f"{uuid.uuid4()}-m0.avro" for _ in range(2))
    for path in (abandoned, begun):
        path.touch()
    old = time.time() - 7200
    for path in set(folder.iterdir()) - {begun}:
        os.utime(path, (old, old))
    before = set(folder.iterdir())
    patient.retain(versions=2, run_dates=None)
    # Whoever has read the catalogue a moment ago can go on, and who commits at this moment.
    assert before - set(folder.iterdir()) == {abandoned}
    tables.retain(versions=2, run_dates=None)
    left = sorted(path.name for path in folder.iterdir())
    assert sum(name.endswith(".metadata.json") for name in left) == 1
    assert sum(name.startswith("snap-") for name in left) == 2
    assert "notes.txt" in left
    for snapshot in loaded(tables, "recommendations").snapshots():
        assert tables.read(UNIT, snapshot=snapshot.snapshot_id) is not None
    assert [v.run_id for v in tables.versions(UNIT)] == ["r4", "r5"]


def test_a_tag_keeps_its_snapshot_from_retention(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    tables = opened(grace=NOW)
    publish(tables, files, UNIT, "r1", 3)
    table = loaded(tables, "recommendations")
    tagged = table.current_snapshot().snapshot_id
    table.manage_snapshots().create_tag(tagged, "report").commit()
    publish(tables, files, UNIT, "r2", 5)
    assert [v.run_id for v in tables.retain(versions=1, run_dates=None)] == ["r1"]
    assert [v.run_id for v in tables.versions(UNIT)] == ["r2"]
    assert tables.in_use() == {(UNIT, "r1"), (UNIT, "r2")}
    version, recommendations, status = tables.read(UNIT, snapshot=tagged) or pytest.fail("gone")
    assert (version.run_id, len(recommendations), len(status)) == ("r1", 6, 3)
    loaded(tables, "recommendations").manage_snapshots().remove_tag("report").commit()
    tables.retain(versions=1, run_dates=None)
    assert tables.in_use() == {(UNIT, "r2")}


def test_a_table_that_was_set_back_shows_what_it_was_set_back_to(
    tables: IcebergTables, files: PosixFiles
) -> None:
    publish(tables, files, UNIT, "r1", 3)
    table = loaded(tables, "recommendations")
    first = table.current_snapshot().snapshot_id
    publish(tables, files, UNIT, "r2", 5)
    loaded(tables, "recommendations").manage_snapshots().rollback_to_snapshot(first).commit()
    publish(tables, files, OTHER, "o1")
    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, len(recommendations), len(status)) == ("r1", 6, 3)
    publish(tables, files, UNIT, "r3", 7)
    version, recommendations, _ = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, len(recommendations)) == ("r3", 14)


def test_time_travel_reads_an_earlier_version(tables: IcebergTables, files: PosixFiles) -> None:
    first = publish(tables, files, UNIT, "r1", 3)
    snapshot = loaded(tables, "recommendations").current_snapshot().snapshot_id
    publish(tables, files, UNIT, "r2", 5)
    version, recommendations, status = tables.read(UNIT, snapshot=snapshot) or pytest.fail("gone")
    assert (version, len(recommendations), len(status)) == (first, 6, 3)
    with pytest.raises(OutputError, match="no snapshot 1; it may have expired"):
        tables.read(UNIT, snapshot=1)


def test_retention_does_not_undo_what_a_rival_publishes_meanwhile(
    opened: Callable[..., IcebergTables], files: PosixFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, rival = opened(grace=NOW), opened()
    for i in range(3):
        publish(tables, files, UNIT, f"r{i}")
    pending = [stage(files, UNIT, "r3", 6)]
    deciding = history.without_old

    def overtaken(*args: Any) -> Any:
        decided = deciding(*args)
        if pending:
            rival.switch(pending.pop(), expected="r2")
        return decided

    monkeypatch.setattr(history, "without_old", overtaken)
    forgotten = tables.retain(versions=2, run_dates=None)
    assert [v.run_id for v in forgotten] == ["r0", "r1"]
    assert [v.run_id for v in tables.versions(UNIT)] == ["r2", "r3"]
    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, len(recommendations), len(status)) == ("r3", 12, 6)


def test_a_version_that_is_published_at_this_moment_is_not_forgotten_with_its_day(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    tables = opened(grace=NOW)
    yesterday = Unit(UNIT.cohort, DAY - dt.timedelta(days=1))
    publish(tables, files, yesterday, "y1")
    publish(tables, files, UNIT, "r1")
    with files.lock(lock_name(yesterday)):
        assert tables.retain(versions=3, run_dates=1) == []
    assert [v.run_id for v in tables.retain(versions=3, run_dates=1)] == ["y1"]


def test_snapshots_are_bounded_though_every_version_is_kept(
    opened: Callable[..., IcebergTables], files: PosixFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg_tables, "SNAPSHOTS", 2)
    tables = opened(grace=NOW)
    units = [Unit("all", DAY + dt.timedelta(days=day)) for day in range(4)]
    made = [publish(tables, files, unit, f"r{unit.run_date.day}") for unit in units]
    assert tables.retain(versions=1, run_dates=None) == []
    assert snapshots(tables) == [2, 2]
    for unit, version in zip(units, made, strict=True):
        found = tables.read(unit)
        assert found is not None
        assert found[0] == version
    assert tables.in_use() == {(version.unit, version.run_id) for version in made}
