"""What becomes of runs that stopped half way, of other catalogues, and of a neighbour's damage."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.config.sections import Iceberg, Publishing
from recsys.errors import ConfigError, DamageError, LostLockError, OutputError, UnreadableError
from recsys.flows.housekeeping import find_waste
from recsys.flows.manifest import Outcome
from recsys.flows.record import earlier_attempt
from recsys.flows.runs import list_runs
from recsys.publishing import maintenance
from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.index import check_run_date, open_index
from recsys.publishing.pointer import Pointers
from recsys.publishing.publish import publish, retain
from recsys.publishing.versions import MARKER, PUBLICATIONS, Unit, place
from recsys.store.files import STAGING
from recsys.store.posix import PosixFiles
from tests.publications import DAY, UNIT, Judge, record_of, stage


def alive() -> None:
    """Spark's driver answers."""


@pytest.fixture
def files(tmp_path: Path) -> PosixFiles:
    return PosixFiles(tmp_path / "root")


def put(files: PosixFiles, index: Any, unit: Unit, run_id: str, n: int = 4) -> None:
    try:
        publish(files, index, stage(files, unit, run_id, n), Judge(), alive=alive)
    finally:
        files.delete(files.uri(STAGING, run_id))


@pytest.mark.parametrize("first", [False, True])
def test_a_run_that_died_between_the_two_commits_is_finished_with_its_own_id(
    files: PosixFiles, first: bool
) -> None:
    tables = IcebergTables(files, Iceberg())
    if not first:
        put(files, tables, UNIT, "r1", 3)

    def dies() -> None:
        raise KeyboardInterrupt

    killed = IcebergTables(files, Iceberg(), alive=dies)
    with pytest.raises(KeyboardInterrupt):
        put(files, killed, UNIT, "r2", 5)
    seen = tables.current(UNIT)
    assert (seen.run_id if seen else None) == (None if first else "r1")
    # Computed again, the same rows have another time in them, and so another checksum.
    put(files, tables, UNIT, "r2", 6)
    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, len(recommendations), len(status)) == ("r2", 12, 6)
    kept = [v.run_id for v in tables.versions(UNIT)]
    assert kept == (["r2"] if first else ["r1", "r2"])
    retain(files, tables, Publishing(keep_versions=1))
    assert tables.in_use() == {(UNIT, "r2")}
    assert find_waste(files, tables).waste == []
    tables.close()
    killed.close()


def test_a_root_is_published_to_with_one_catalogue_alone(files: PosixFiles) -> None:
    put(files, Pointers(files), UNIT, "r1")
    iceberg = Publishing.model_validate({"format": "iceberg"})
    with pytest.raises(ConfigError, match=r'is published to with \{"format": "parquet"\}, found'):
        open_index(files, iceberg, alive)
    assert open_index(files, Publishing(), alive).current(UNIT) is not None
    files.replace(files.uri(PUBLICATIONS, MARKER), b"{")
    with pytest.raises(DamageError, match=f"{MARKER} is damaged"):
        open_index(files, Publishing(), alive)


def test_another_database_or_namespace_of_iceberg_is_refused(files: PosixFiles) -> None:
    tables = IcebergTables(files, Iceberg())
    put(files, tables, UNIT, "r1")
    tables.close()
    elsewhere = f"sqlite:///{files.path(files.root)}/other.db"
    for settings in ({"namespace": "other"}, {"properties": {"uri": elsewhere}}):
        publishing = {"format": "iceberg", "iceberg": settings}
        with pytest.raises(ConfigError, match="is published to with"):
            open_index(files, Publishing.model_validate(publishing), alive)
    secret = Iceberg(properties={"uri": "postgresql+psycopg2://me:hunter2@db/x"})
    assert "hunter2" not in json.dumps(IcebergTables(files, secret).identity())


def damage(files: PosixFiles, unit: Unit) -> None:
    files.replace(Pointers(files).uri(unit), b"{")


def test_a_damaged_pointer_is_its_own_unit_s_matter(files: PosixFiles) -> None:
    other, before = Unit("other", DAY), Unit("all", DAY - dt.timedelta(days=1))
    pointers = Pointers(files)
    for unit in (other, before):
        put(files, pointers, unit, "r0")
        damage(files, unit)
    for run_id in ("r1", "r2"):
        put(files, pointers, UNIT, run_id)
    removed = retain(files, pointers, Publishing(keep_versions=1))
    assert removed == [place(files, UNIT, "r1")]
    assert pointers.current(UNIT).run_id == "r2"  # type: ignore[union-attr]
    # Nothing of the damaged ones is waste: a pointer can be written anew.
    assert find_waste(files, pointers).waste == []
    assert list_runs(files, pointers) == []
    with pytest.raises(DamageError, match="damaged or of another format"):
        put(files, pointers, other, "r9")


def test_a_damaged_current_version_does_not_block_the_next(files: PosixFiles) -> None:
    pointers = Pointers(files)
    put(files, pointers, UNIT, "r1")
    files.replace(place(files, UNIT, "r1", "manifest.json"), b"{")
    put(files, pointers, UNIT, "r2")
    assert pointers.current(UNIT).run_id == "r2"  # type: ignore[union-attr]


def test_a_version_whose_pointer_was_lost_is_no_waste_if_its_run_was_complete(
    files: PosixFiles,
) -> None:
    pointers = Pointers(files)
    put(files, pointers, UNIT, "r1")
    files.delete(pointers.uri(UNIT))
    assert [one.uri for one in find_waste(files, pointers).waste] == [place(files, UNIT, "r1")]
    record_of(files, "r1").complete(Outcome())
    assert find_waste(files, pointers).waste == []


def test_a_lost_pointer_keeps_nothing_of_other_units(files: PosixFiles) -> None:
    pointers, lost = Pointers(files), Unit("aaa", DAY)  # looked at first
    put(files, pointers, lost, "r0")
    files.delete(pointers.uri(lost))
    for run_id in ("r1", "r2"):
        put(files, pointers, UNIT, run_id)
    for run_id in ("r0", "r1"):
        record_of(files, run_id).complete(Outcome())
    pointers.retain(versions=1, run_dates=None)  # and then the run was killed
    assert [one.uri for one in find_waste(files, pointers).waste] == [place(files, UNIT, "r1")]


@pytest.mark.parametrize("opened", [Pointers, lambda files: IcebergTables(files, Iceberg())])
def test_verify_misses_a_whole_unit_that_is_gone(
    files: PosixFiles, opened: Callable[[PosixFiles], Any]
) -> None:
    index = opened(files)
    put(files, index, UNIT, "r1")
    assert [error for _, error in maintenance.verify(files, index)] == [None]
    files.delete(place(files, UNIT, "r1"))
    [(name, error)] = maintenance.verify(files, index)
    assert (name, type(error)) == (f"{UNIT}, run r1", DamageError)
    assert "manifest.json is missing" in str(error)


def test_a_pointer_or_a_record_whose_block_is_lost_counts_as_damaged(
    files: PosixFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointers = Pointers(files)
    put(files, pointers, UNIT, "r1")
    record_of(files, "r1").complete(Outcome())

    def unreadable(uri: str) -> bytes:
        raise UnreadableError(f"cannot read {uri}")

    monkeypatch.setattr(files, "read", unreadable)
    with pytest.raises(DamageError, match="recsys rollback --to"):
        pointers.current(UNIT)
    assert earlier_attempt(files, "r1") is None
    [(name, error)] = maintenance.verify(files, pointers)
    assert (name, type(error)) == (str(UNIT), DamageError)


def test_whoever_has_lost_its_lock_neither_tries_again_nor_records_a_failure(
    files: PosixFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost, judge = LostLockError("_locks/x is not held any more"), Judge()

    def stop(*_: object) -> None:
        raise lost

    with pytest.raises(LostLockError):
        publish(files, Pointers(files), stage(files, UNIT, "r1"), judge, alive=lambda: stop())
    assert len(judge.compared) == 1
    record = record_of(files, "r1")
    monkeypatch.setattr(files, "replace", stop)
    assert record.fail("why", 10) is None
    assert caplog.messages == ["the failure is not recorded: _locks/x is not held any more"]


@pytest.mark.parametrize("error", [OutputError("cannot read it"), OSError("no block of it")])
def test_a_version_that_cannot_be_read_is_named_as_damaged_and_the_others_are_looked_at(
    files: PosixFiles, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pointers = Pointers(files)
    for run_id in ("r1", "r2"):
        put(files, pointers, UNIT, run_id)
    data_files = files.data_files

    def without_r1(uri: str) -> Any:
        if "/r1/" in uri:
            raise error
        return data_files(uri)

    monkeypatch.setattr(files, "data_files", without_r1)
    first, second = maintenance.verify(files, pointers)
    assert (str(first[1]), second[1]) == (str(error), None)
    files.delete(pointers.uri(UNIT))
    assert maintenance.rollback(files, pointers, UNIT, "r2")[1].run_id == "r2"
    assert [version.run_id for version in pointers.versions(UNIT)] == ["r2"]


def test_a_day_that_retention_would_forget_at_once_is_refused(files: PosixFiles) -> None:
    pointers = Pointers(files)
    for day in range(2):
        put(files, pointers, Unit("all", DAY + dt.timedelta(days=day)), f"r{day}")
    late = Unit("all", DAY - dt.timedelta(days=1))
    check_run_date(pointers, late, Publishing(keep_run_dates=3))
    with pytest.raises(ConfigError, match=r"--run-date: found 2026-11-23, but 2 later days"):
        check_run_date(pointers, late, Publishing(keep_run_dates=2))
    check_run_date(pointers, Unit("few", DAY), Publishing(keep_run_dates=1))


def test_models_of_damaged_versions_and_of_live_runs_are_not_cleaned(files: PosixFiles) -> None:
    pointers = Pointers(files)
    put(files, pointers, UNIT, "r1")
    for model in ("m1", "m2", "m3"):
        files.path(files.uri("models", model)).mkdir(parents=True)
    record_of(files, "r2", model_id="m2").begin()
    with files.lock("run-r2"):
        found = find_waste(files, pointers, stored=True, min_age=0)
    assert [one.uri for one in found.waste] == [files.uri("models", "m3")]
    assert [one.uri for one in found.kept] == [files.uri("models", name) for name in ("m1", "m2")]
    files.replace(place(files, UNIT, "r1", "manifest.json"), b"{")
    with pytest.raises(DamageError, match="run r1"):
        find_waste(files, pointers, stored=True)
