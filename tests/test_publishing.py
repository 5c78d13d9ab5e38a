"""What readers see of plain directories: pointers, retention, gates, locks. No Spark."""

import datetime as dt
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys import read_recommendations
from recsys.config.sections import Publishing
from recsys.errors import ConfigError, ConflictError, GateError, OutputError, Terminated
from recsys.publishing.index import open_index, previous, published_before
from recsys.publishing.maintenance import rollback
from recsys.publishing.manifest import Verdict, VersionManifest
from recsys.publishing.pointer import Pointers, lock_name
from recsys.publishing.publish import held_before, publish, retain
from recsys.publishing.versions import HELD, Unit, Version, place, read_manifest
from recsys.store.files import LOCKS
from recsys.store.posix import PosixFiles
from tests.publications import DAY, SCHEMAS, UNIT, Judge, publish_version, stage, tree

NEXT = Unit("all", DAY + dt.timedelta(days=1))
LAST = Unit("all", DAY + dt.timedelta(days=2))
OTHER = Unit("vip", DAY)


@pytest.fixture
def files(tmp_path: Path) -> PosixFiles:
    # A name that URLs would write otherwise, and one that a reader could take for a partition.
    return PosixFiles(tmp_path / "root with %20" / "day=1")


def read(files: PosixFiles, **more: Any) -> Any:
    return read_recommendations(str(files.path(files.root)), **more)


def kept(files: PosixFiles, unit: Unit = UNIT) -> list[str]:
    return [version.run_id for version in Pointers(files).versions(unit)]


def current(files: PosixFiles, unit: Unit = UNIT) -> str | None:
    version = Pointers(files).current(unit)
    return version.run_id if version else None


# The pointer


def test_nothing_is_current_before_the_first_publication(files: PosixFiles) -> None:
    index = Pointers(files)
    assert (index.units(), index.current(UNIT), index.versions(UNIT)) == ([], None, [])
    assert index.in_use() == set()


def test_each_publication_becomes_current_and_the_earlier_ones_are_kept(files: PosixFiles) -> None:
    for n, run_id in enumerate(["r1", "r2", "r3"], start=1):
        publish_version(files, UNIT, run_id, n)
    assert (current(files), kept(files)) == ("r3", ["r1", "r2", "r3"])
    assert len(read(files).status) == 3
    assert Pointers(files).in_use() == {(UNIT, run_id) for run_id in ("r1", "r2", "r3")}
    assert not files.names(files.uri(LOCKS))


def test_a_switch_from_what_is_no_longer_current_is_refused(files: PosixFiles) -> None:
    first = publish_version(files, UNIT, "r1")
    publish_version(files, UNIT, "r2")
    before = tree(files.path(files.root))
    for expected in ("r1", None, "r3"):
        with pytest.raises(ConflictError, match="run r2 was published meanwhile"):
            Pointers(files).switch(first, expected=expected)
    assert tree(files.path(files.root)) == before


def test_rollback_goes_back_step_by_step_and_forward_again(files: PosixFiles) -> None:
    made = [publish_version(files, UNIT, run_id) for run_id in ("r1", "r2", "r3")]
    index = Pointers(files)
    assert rollback(files, index, UNIT, None) == (made[2], made[1])
    assert rollback(files, index, UNIT, None) == (made[1], made[0])
    with pytest.raises(ConfigError, match="no version before the current one is kept; there are"):
        rollback(files, index, UNIT, None)
    assert rollback(files, index, UNIT, "r3") == (made[0], made[2])
    assert kept(files) == ["r1", "r2", "r3"]  # with the times of their first publication
    assert index.versions(UNIT) == made
    with pytest.raises(ConfigError, match=r"no version r9 is kept.*: r1, r2, r3"):
        rollback(files, index, UNIT, "r9")
    with pytest.raises(ConfigError, match="nothing is published"):
        rollback(files, index, OTHER, None)


@pytest.mark.parametrize("cohort", ["../up", "/etc", "a/b", "..", "", "A", "a\n", "a" * 65])
def test_a_cohort_that_is_no_name_is_refused_by_rollback_before_a_file_is_touched(
    files: PosixFiles, tmp_path: Path, cohort: str
) -> None:
    publish_version(files, UNIT, "r1")
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="--cohort: found"):
        rollback(files, Pointers(files), Unit(cohort, DAY), None)
    assert tree(tmp_path) == before


def test_the_same_run_id_is_taken_up_and_never_published_twice(files: PosixFiles) -> None:
    version = publish_version(files, UNIT, "r1", 4)
    publish_version(files, UNIT, "r2", 3)
    assert published_before(Pointers(files), UNIT, "r1") == version
    assert published_before(Pointers(files), UNIT, "r3") is None
    before = tree(files.path(place(files, UNIT)))
    with pytest.raises(OutputError, match="is a published version already; choose another run id"):
        publish_version(files, UNIT, "r1", 9)
    assert tree(files.path(place(files, UNIT))) == before


def test_what_a_killed_run_placed_without_switching_is_replaced(files: PosixFiles) -> None:
    publish_version(files, UNIT, "r1", 2)
    version = files.path(place(files, UNIT, "r2"))
    version.mkdir()
    (version / "half").touch()
    publish_version(files, UNIT, "r2", 5)
    assert len(read(files).status) == 5
    assert not (version / "half").exists()


def test_cohorts_and_days_stand_apart(files: PosixFiles) -> None:
    for unit, run_id in [(UNIT, "r1"), (NEXT, "r1"), (OTHER, "r1")]:
        publish_version(files, unit, run_id)
    publish_version(files, OTHER, "r2")
    assert Pointers(files).units() == [UNIT, NEXT, OTHER]
    assert [current(files, unit) for unit in (UNIT, NEXT, OTHER)] == ["r1", "r1", "r2"]


# Retention


def test_versions_beyond_the_number_are_forgotten_and_deleted_the_oldest_first(
    files: PosixFiles,
) -> None:
    for run_id in ("r1", "r2", "r3", "r4"):
        publish_version(files, UNIT, run_id)
    removed = retain(files, Pointers(files), Publishing(keep_versions=2))
    assert removed == [place(files, UNIT, "r1"), place(files, UNIT, "r2")]
    assert (current(files), kept(files)) == ("r4", ["r3", "r4"])
    assert files.names(place(files, UNIT)) == ["current.json", "r3", "r4"]
    assert retain(files, Pointers(files), Publishing(keep_versions=2)) == []


def test_the_current_version_is_never_forgotten_however_old(files: PosixFiles) -> None:
    for run_id in ("r1", "r2", "r3"):
        publish_version(files, UNIT, run_id)
    rollback(files, Pointers(files), UNIT, "r1")
    retain(files, Pointers(files), Publishing(keep_versions=1))
    assert (current(files), kept(files)) == ("r1", ["r1", "r3"])
    assert read(files).run_id == "r1"
    retain(files, Pointers(files), Publishing(keep_versions=1, keep_run_dates=1))
    assert read(files).run_id == "r1"


def test_run_dates_beyond_the_number_are_forgotten_whole_for_each_cohort(files: PosixFiles) -> None:
    for unit in (UNIT, NEXT, LAST, OTHER):
        publish_version(files, unit, "r1")
        publish_version(files, unit, "r2")
    retain(files, Pointers(files), Publishing(keep_run_dates=2))
    assert Pointers(files).units() == [NEXT, LAST, OTHER]
    assert files.names(place(files, UNIT)) == []
    assert kept(files, OTHER) == ["r1", "r2"]
    retain(files, Pointers(files), Publishing(keep_run_dates=1))
    assert Pointers(files).units() == [LAST, OTHER]


# Readers


def test_a_reader_gets_the_latest_day_a_given_day_or_a_given_run(files: PosixFiles) -> None:
    publish_version(files, UNIT, "r1", 1)
    publish_version(files, UNIT, "r2", 2)
    publish_version(files, NEXT, "r3", 3)
    assert read(files).run_id == "r3"
    assert read(files).run_date == NEXT.run_date
    assert read(files, run_date=DAY).run_id == "r2"
    earlier = read(files, run_date=DAY, run_id="r1")
    assert (earlier.run_id, len(earlier.status), len(earlier.recommendations)) == ("r1", 1, 2)
    for name in ("status", "recommendations"):
        assert set(getattr(earlier, name).column("run_id").to_pylist()) == {"r1"}
        assert getattr(earlier, name).column_names == list(SCHEMAS[name])
    assert earlier.manifest.run_id == "r1"


def test_a_reader_is_told_which_cohorts_there_are(files: PosixFiles) -> None:
    with pytest.raises(OutputError, match="there are the cohorts: none"):
        read(files)
    publish_version(files, UNIT, "r1")
    publish_version(files, OTHER, "r1")
    with pytest.raises(OutputError, match="cohort 'lapsed'; there are the cohorts: all, vip"):
        read(files, cohort="lapsed")
    with pytest.raises(OutputError, match="cohort 'all' on 2026-11-25"):
        read(files, run_date=NEXT.run_date)
    with pytest.raises(OutputError, match="nothing is published of run r9"):
        read(files, run_id="r9")
    with pytest.raises(OutputError, match=r"cohort '\.\./\.\./x'"):
        read(files, cohort="../../x")


@pytest.mark.parametrize(
    "day",
    [
        "2026-11-24",
        "20261124",
        "2026-11-24T23:59:59+05:00",
        dt.datetime(2026, 11, 24, 23, 59, tzinfo=dt.timezone(dt.timedelta(hours=-9))),
        pd.Timestamp("2026-11-24"),
        pd.Timestamp("2026-11-24 00:30", tz="Europe/Berlin"),
    ],
)
def test_a_day_may_be_a_date_a_datetime_or_text_and_counts_as_it_is_written(
    files: PosixFiles, day: Any
) -> None:
    publish_version(files, UNIT, "r1", 1)
    publish_version(files, NEXT, "r2", 2)
    found = read(files, run_date=day)
    assert (found.run_id, found.run_date) == ("r1", DAY)
    assert type(found.run_date) is dt.date
    # The same of a unit, which names directories and rows of tables.
    assert Unit("all", day) == UNIT
    assert place(files, Unit("all", day)) == place(files, UNIT)


@pytest.mark.parametrize(
    "day", [20261124, 1.5, True, "yesterday", "2026-13-01", "", pd.NaT, pd.Period("2026-11"), b"x"]
)
def test_what_is_no_day_is_refused_before_anything_is_read(tmp_path: Path, day: Any) -> None:
    with pytest.raises(ConfigError, match=r"^run_date: found .*, expected a date, a datetime or"):
        read_recommendations(tmp_path / "nothing is here", run_date=day)


def test_a_root_may_be_a_path_and_nothing_else_that_is_no_text(files: PosixFiles) -> None:
    publish_version(files, UNIT, "r1", 1)
    root = files.path(files.root)
    for given in (root, str(root), f"file:{root}", f"file://{root}"):
        assert read_recommendations(given).run_id == "r1"
    for wrong in (None, 5, os.fsencode(root)):
        with pytest.raises(ConfigError, match=r"^root: found .*, expected a path, as text or as"):
            read_recommendations(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^cohort: found 5 \(int\), expected text"):
        read(files, cohort=5)
    with pytest.raises(ConfigError, match=r"^run_id: found 5 \(int\), expected text"):
        read(files, run_id=5)


def test_an_empty_cohort_replaces_yesterdays_lists_with_none(files: PosixFiles) -> None:
    publish_version(files, UNIT, "r1", 4)
    publish_version(files, UNIT, "r2", 0, parts=1)
    found = read(files)
    assert (found.run_id, len(found.recommendations), len(found.status)) == ("r2", 0, 0)
    assert found.recommendations.column_names == list(SCHEMAS["recommendations"])


def test_only_local_roots_can_be_read_and_only_some_can_have_pointers(tmp_path: Path) -> None:
    class Elsewhere(PosixFiles):
        def __init__(self, root: str) -> None:
            self.root = root

        def read(self, uri: str) -> bytes:
            raise FileNotFoundError(uri)

    for root in ("s3a://bucket/x", "S3A://bucket/x", "nowhere:x"):
        with pytest.raises(ConfigError, match="expected a local path"):
            read_recommendations(root)
    # Python's own parser of URLs stumbles over this one.
    with pytest.raises(OutputError, match="nothing is published"):
        read_recommendations("//\u2100.com/x")
    with pytest.raises(ConfigError) as caught:
        open_index(Elsewhere("s3a://me:hunter2@bucket/x"), Publishing(), lambda: None)
    assert "set publishing.format to iceberg" in str(caught.value)
    assert "s3a://me@bucket/x" in str(caught.value)
    open_index(Elsewhere("hdfs://name:8020/x"), Publishing(), lambda: None)
    open_index(PosixFiles(tmp_path), Publishing(), lambda: None)


# Columns and gates


def changed(**replaced: Any) -> dict[str, dict[str, str]]:
    """Return the schemas with some types of the recommendations replaced; None: left out."""
    wanted = {**SCHEMAS["recommendations"], **replaced}
    return {**SCHEMAS, "recommendations": {k: v for k, v in wanted.items() if v is not None}}


def test_new_columns_are_fine(files: PosixFiles) -> None:
    publish_version(files, UNIT, "r1")
    publish_version(files, UNIT, "r2", schemas=changed(reason="string"))
    assert current(files) == "r2"
    with pytest.raises(OutputError, match="recommendations: column reason is gone"):
        publish_version(files, UNIT, "r3")


@pytest.mark.parametrize(
    ("schemas", "complaint"),
    [
        (changed(score=None), "column score is gone"),
        (changed(score="double"), "column score was float and is double"),
        (changed(user_id="bigint"), "column user_id was string and is bigint"),
    ],
)
@pytest.mark.parametrize("unit", [UNIT, NEXT, OTHER], ids=["again", "next day", "other cohort"])
def test_other_changes_of_columns_are_refused_and_change_nothing(
    files: PosixFiles, unit: Unit, schemas: dict[str, Any], complaint: str
) -> None:
    publish_version(files, UNIT, "r1")
    before = tree(files.path(files.uri("publications")))
    with pytest.raises(OutputError, match=complaint) as caught:
        publish_version(files, unit, "r2", schemas=schemas)
    assert "compared with run r1" in str(caught.value)
    assert "new root" in str(caught.value)
    assert tree(files.path(files.uri("publications"))) == before


def test_what_a_gate_holds_back_is_kept_for_inspection_and_changes_nothing(
    files: PosixFiles,
) -> None:
    publish_version(files, UNIT, "r1")
    before = tree(files.path(files.uri("publications")))
    for n in (4, 5):  # a second attempt replaces the first
        with pytest.raises(GateError, match="failed a gate: coverage") as caught:
            publish_version(files, UNIT, "r2", n, judge=Judge(["coverage"]))
        assert files.uri(HELD, "r2") in str(caught.value)
    assert tree(files.path(files.uri("publications"))) == before
    assert files.names(files.uri(HELD, "r2")) == [
        "manifest.json",
        "recommendations",
        "requests",
        "status",
    ]
    held = files.path(files.uri(HELD, "r2", "manifest.json")).read_text()
    assert '"gate": "coverage"' in held
    assert read(files).run_id == "r1"


def test_what_a_gate_held_back_is_judged_in_place_and_survives_a_stop(files: PosixFiles) -> None:
    with pytest.raises(GateError):
        publish_version(files, UNIT, "r1", judge=Judge(["coverage"]))
    held = files.path(files.uri(HELD, "r1"))
    before = tree(held)
    manifest = VersionManifest.from_json((held / "manifest.json").read_bytes())
    made_of = (manifest.model_id, manifest.configuration_hash)
    for other in (("m0", made_of[1]), (made_of[0], "0" * 64)):
        assert held_before(files, UNIT, "r1", made_of=other) is None
    assert held_before(files, NEXT, "r1", made_of=made_of) is None
    staged = held_before(files, UNIT, "r1", made_of=made_of)
    assert staged is not None

    def stop(before: Version | None) -> list[Verdict]:
        raise Terminated("stopped by SIGTERM")

    with pytest.raises(Terminated):
        publish(files, Pointers(files), staged, stop, alive=lambda: None)
    assert tree(held) == before
    with pytest.raises(GateError):
        publish(files, Pointers(files), staged, Judge(["overlap"]), alive=lambda: None)
    assert tree(held).keys() == before.keys()
    (held / "manifest.json").rename(held / "elsewhere")  # as if somebody had begun to delete it
    assert held_before(files, UNIT, "r1", made_of=made_of) is None
    (held / "elsewhere").rename(held / "manifest.json")
    publish(files, Pointers(files), staged, Judge(), alive=lambda: None)
    assert (current(files), held.exists()) == ("r1", False)
    assert read(files).manifest.failed_gates == []
    assert files.names(place(files, UNIT, "r1")) == ["manifest.json", "recommendations", "status"]


def test_force_publishes_and_records_which_gates_failed(files: PosixFiles) -> None:
    version = publish_version(files, UNIT, "r1", judge=Judge(["coverage", "overlap"]), force=True)
    manifest = read_manifest(files, version)
    assert (manifest.forced, manifest.failed_gates) == (True, ["coverage", "overlap"])
    assert read(files).manifest.gates[0].gate == "lists"
    # Without a failure there was nothing to force.
    manifest = read_manifest(files, publish_version(files, UNIT, "r2", force=True))
    assert (manifest.forced, manifest.failed_gates) == (False, [])


def test_a_version_is_compared_with_its_predecessor_or_that_of_a_day_before(
    files: PosixFiles,
) -> None:
    judge = Judge()
    publish_version(files, NEXT, "r1", judge=judge)
    publish_version(files, UNIT, "r2", judge=judge)  # a day before: nothing is before it
    publish_version(files, OTHER, "r3", judge=judge)
    publish_version(files, NEXT, "r4", judge=judge)
    publish_version(files, LAST, "r5", judge=judge)
    assert judge.compared == [None, None, None, "r1", "r4"]
    index = Pointers(files)
    assert previous(index, LAST) == index.current(LAST)


def test_a_version_that_another_run_overtakes_is_judged_beside_that_one(
    files: PosixFiles,
) -> None:
    class Overtaken(Judge):
        def __call__(self, before: Version | None) -> Any:
            if not self.compared:
                publish_version(files, UNIT, "r2")
            return super().__call__(before)

    publish_version(files, UNIT, "r1")
    judge = Overtaken()
    version = publish_version(files, UNIT, "r3", judge=judge)
    assert judge.compared == ["r1", "r2"]
    assert read_manifest(files, version).compared_with == "r2"
    assert kept(files) == ["r1", "r2", "r3"]


def test_a_run_that_must_not_go_on_publishes_nothing(files: PosixFiles) -> None:
    def dead() -> None:
        raise OutputError("Spark's driver is gone")

    publish_version(files, UNIT, "r1")
    with pytest.raises(OutputError, match="driver is gone"):
        publish(files, Pointers(files), stage(files, UNIT, "r2"), Judge(), alive=dead)
    assert (current(files), kept(files)) == ("r1", ["r1"])


# Locks


def hold(root: str, name: str, pipe: Any) -> None:
    with PosixFiles(Path(root)).lock(name):
        pipe.send("held")
        pipe.recv()


def publishing(root: str, run_id: str) -> None:
    publish_version(PosixFiles(Path(root)), UNIT, run_id, 50)


@pytest.fixture
def holder(files: PosixFiles) -> Any:
    """Start a process that holds the lock of UNIT's publishers, and give it and its pipe."""
    context = multiprocessing.get_context("spawn")
    pipe, end = context.Pipe()
    process = context.Process(
        target=hold, args=(str(files.path(files.root)), lock_name(UNIT), end), daemon=True
    )
    process.start()
    assert pipe.recv() == "held"
    yield process, pipe
    process.kill()
    process.join()


def test_a_lock_is_one_processs_at_a_time_and_says_whose(files: PosixFiles, holder: Any) -> None:
    process, pipe = holder
    with (
        pytest.raises(ConflictError, match=f"is held by process {process.pid} on"),
        files.lock(lock_name(UNIT), wait=0.2),
    ):
        pass
    with files.lock(lock_name(OTHER)):
        pass
    pipe.send("go")
    with files.lock(lock_name(UNIT), wait=20):  # as soon as it is released
        pass
    assert files.names(files.uri(LOCKS)) == []


def test_the_lock_file_of_a_killed_process_does_not_block(files: PosixFiles, holder: Any) -> None:
    process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert files.names(files.uri(LOCKS)) == [lock_name(UNIT)]
    publish_version(files, UNIT, "r1")
    assert files.names(files.uri(LOCKS)) == []


def test_publishers_in_two_processes_both_end_whole(files: PosixFiles) -> None:
    context = multiprocessing.get_context("spawn")
    root = str(files.path(files.root))
    started = [context.Process(target=publishing, args=(root, run)) for run in ("r1", "r2")]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert sorted(kept(files)) == ["r1", "r2"]
    assert current(files) == kept(files)[-1]
    for run_id in ("r1", "r2"):
        found = read(files, run_id=run_id)
        assert set(found.recommendations.column("run_id").to_pylist()) == {run_id}
    assert files.names(files.uri(LOCKS)) == []
