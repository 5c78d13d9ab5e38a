"""Roots of several file systems, and disks with too little room, are refused at once."""

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys.errors import InputError, MemoryLimitError, OutputError
from recsys.flows import commands, space
from recsys.flows.execution import Command, Job
from recsys.flows.manifest import Outcome
from recsys.publishing.pointer import Pointers
from recsys.runtime.disks import full_disk, is_full
from recsys.runtime.hadoop import of_session
from recsys.runtime.run import new_run
from recsys.store.files import Files
from recsys.store.hadoop import HadoopFiles
from recsys.store.posix import PosixFiles
from recsys.store.tables import Scratch, Store
from tests.conftest import configured, csv_input, small_ratings
from tests.mounts import Mount, mounted
from tests.publications import UNIT, publish_version

Run = Callable[..., dict[str, Any]]
# How a place below a root comes to be on another file system.
Elsewhere = Callable[[Path], None]


@pytest.fixture(params=["mount", "bind mount", "link"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elsewhere]:
    """Put a place on another file system."""
    made: list[Path] = []

    def mount(*arguments: str | Path) -> None:
        mounted(["mount", *map(str, arguments)])
        made.append(Path(arguments[-1]))

    def execute(place: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        if request.param == "link":
            mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", other)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(other)
            return
        place.mkdir(parents=True)
        if request.param == "mount":
            mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
        else:  # of the same device: st_dev tells nothing
            mount("--bind", other, place)
            assert place.stat().st_dev == place.parent.stat().st_dev

    yield execute
    for place in made:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    "target", ["models", "publications/all", "publications/all/2026-11-24", "x/y"]
)
def test_a_place_on_another_file_system_is_found_by_a_move(
    tmp_path: Path, elsewhere: Elsewhere, target: str
) -> None:
    files = PosixFiles(tmp_path / "root")
    staging = tmp_path / "root" / "_staging" / "r1"
    staging.mkdir(parents=True)
    uri = files.uri(*target.split("/"))
    files.check_move(files.uri("_staging", "r1"), uri)
    place = files.path(files.uri(target.split("/")[0]))
    elsewhere(place)
    with pytest.raises(OutputError, match="is on another file system") as caught:
        files.check_move(files.uri("_staging", "r1"), uri)
    assert str(caught.value).startswith(f"{place} is on another file system than {staging}, where")
    assert list(place.iterdir()) == []
    assert list(staging.iterdir()) == []


def test_a_place_that_is_a_file_or_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    files = PosixFiles(tmp_path)
    (tmp_path / "_staging").mkdir()
    (tmp_path / "models").touch()
    (tmp_path / "held").symlink_to("/nope")
    for name in ("models", "held"):
        with pytest.raises(OutputError, match=rf"^cannot write to {tmp_path}/{name}: N"):
            files.check_move(files.uri("_staging"), files.uri(name, "r1"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_staging", "held", "models"]
    assert list((tmp_path / "_staging").iterdir()) == []


@pytest.mark.parametrize("job", ["run", "train", "evaluate"])
def test_a_run_is_refused_before_anything_is_prepared(
    run: Run, ratings_csv: Any, tmp_path: Path, elsewhere: Elsewhere, job: str
) -> None:
    name = {"run": "publications", "train": "models", "evaluate": "evaluations"}[job]
    elsewhere(tmp_path / "out" / name)
    with pytest.raises(
        OutputError, match=f"out/{name} is on another file system than .*/_staging/"
    ):
        run(job, input=csv_input(ratings_csv(small_ratings())))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([name, "runs"])


def test_a_directory_that_others_remove_meanwhile_is_no_other_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = PosixFiles(tmp_path)
    (tmp_path / "_staging" / "r1").mkdir(parents=True)
    day = tmp_path / "publications" / "all"
    day.mkdir(parents=True)
    rename = Path.rename

    def slow(path: Path, target: Path) -> Path:
        if target.parent == day and day.exists():
            day.rmdir()  # as `recsys clean` does
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", slow)
    files.check_move(files.uri("_staging", "r1"), files.uri("publications", "all"))
    assert not day.exists()
    assert list((tmp_path / "publications").iterdir()) == []


def test_hadoop_s_files_try_a_move_too_and_leave_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    """On the local file system, where they are not used: HDFS is not on this machine."""
    files = HadoopFiles(of_session(spark), str(tmp_path))
    files.check_move(files.uri("_staging"), files.uri("publications", "all"))
    (tmp_path / "models").touch()
    with pytest.raises(
        OutputError, match=r"nothing can be moved from .*/_staging, where|cannot wr"
    ):
        files.check_move(files.uri("_staging"), files.uri("models", "m1"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_staging", "models"]
    assert list((tmp_path / "_staging").iterdir()) == []


@pytest.fixture(params=["posix", "hadoop"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "posix":
        return PosixFiles(tmp_path)
    return HadoopFiles(of_session(request.getfixturevalue("spark")), str(tmp_path))


def test_of_a_directory_the_manifest_is_deleted_first(
    either: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "held" / "r1"
    (folder / "status").mkdir(parents=True)
    (folder / "manifest.json").touch()
    (folder / "status" / "part-0.parquet").touch()

    class Killed(BaseException):
        """Instead of the deletion of the directory."""

    def killed(path: Any, *_: Any) -> None:
        raise Killed

    if isinstance(either, HadoopFiles):
        real = either._fs

        class Killing:
            def delete(self, path: Any, recursive: bool) -> Any:
                return killed(path) if recursive else real.delete(path, recursive)

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        monkeypatch.setattr(either, "_fs", Killing())
    else:
        monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(Killed):
        either.delete(either.uri("held", "r1"))
    assert [path.name for path in folder.iterdir()] == ["status"]
    monkeypatch.undo()
    either.delete(either.uri("held", "r1"))
    assert not folder.exists()


def test_a_file_called_like_a_directory_is_deleted(either: Files, tmp_path: Path) -> None:
    (tmp_path / "x.tmp").touch()
    either.delete(either.uri("x.tmp"))
    either.delete(either.uri("x.tmp"))  # there is none
    assert list(tmp_path.iterdir()) == []


class _Small:
    """A root on whose disk so many bytes are left."""

    def __init__(self, files: PosixFiles, free: int) -> None:
        self._files, self._free = files, free

    def free_bytes(self) -> int:
        return self._free

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


@pytest.fixture
def job(spark: SparkSession, files: PosixFiles) -> Callable[..., Job]:
    def make(free: int, **sections: Any) -> Job:
        config = configured(str(files.path(files.root)), **sections)
        store = Store(spark, config.root)
        store.files = _Small(files, free)  # type: ignore[assignment]
        return Job(spark, store, config, new_run("r9"), "", Scratch(store, ""))

    return make


def test_a_model_that_has_no_room_is_refused_by_its_numbers(job: Callable[..., Job]) -> None:
    # (900,000 + 100,000) * (4 + 1) floats of at least 3 bytes are 15,000,000 bytes.
    space.check_model(job(15_000_000), 900_000, 100_000)
    with pytest.raises(OutputError) as caught:
        space.check_model(job(14_999_999), 900_000, 100_000)
    assert caught.value.exit_code == 8
    assert "a model of 900,000 users and 100,000 items need" in str(caught.value)
    assert "at least 14.3 MiB, and 14.3 MiB are left on its disk; free space" in str(caught.value)


def test_lists_that_have_no_room_are_refused_by_what_the_version_before_took(
    job: Callable[..., Job], files: PosixFiles
) -> None:
    index = Pointers(files)
    space.check_lists(job(0), index, UNIT)  # nothing is known
    manifest = publish_version(files, UNIT, "r1", 6)
    took = sum(f.bytes for t in ("recommendations", "status") for f in _files(files, t))
    assert took > 1000
    assert manifest is not None
    half = took // 2
    users = {"users": {"path": "x.csv", "column": "id"}}

    def refused(free: int, requests: int | None = None, **sections: Any) -> bool:
        made = job(free, scoring={"k": 2}, **sections)
        try:
            space.check_lists(made, index, UNIT, requests)
        except OutputError as error:
            return "the lists, by those of run r1, need at least" in str(error)
        return False

    # As many users with lists as long: half of what they took is the least.
    assert refused(half - 1, 6, cohort=users)
    assert not refused(half, 6, cohort=users)
    assert refused(half - 1, 60, cohort=users)  # more may be packed better
    assert refused(half // 2 - 1, 3, cohort=users)
    assert not refused(half // 2 + 1, 3, cohort=users)
    assert not refused(0, cohort=users)  # how many there are is not known yet


def _files(files: PosixFiles, table: str) -> list[Any]:
    from recsys.publishing.versions import read_manifest

    current = Pointers(files).current(UNIT)
    assert current is not None
    return read_manifest(files, current).tables.of(table).files


def test_rows_of_lists_of_all_users_are_counted(job: Callable[..., Job], files: PosixFiles) -> None:
    # 1,000 users with 10 rows each, of at least 3 bytes.
    index = Pointers(files)
    space.check_lists(job(30_000), index, UNIT, 1_000, 50)
    with pytest.raises(OutputError, match="10,000 rows of lists need at least"):
        space.check_lists(job(29_999), index, UNIT, 1_000, 50)
    few = {"users": {"path": "x.csv", "column": "id"}}
    space.check_lists(job(0, cohort=few), index, UNIT, 1_000, 50)  # all may get the popular items


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("at org.apache.spark.storage.DiskBlockObjectWriter.write(X.scala:1)", "scratch"),
        ("at org.apache.spark.shuffle.sort.ShuffleExternalSorter.spill(X.java:1)", "scratch"),
        ("at org.apache.hadoop.fs.FSDataOutputStream.write(X.java:1)", "root"),
        ("at org.apache.parquet.hadoop.util.HadoopPositionOutputStream.write(X.java:1)", "root"),
    ],
)
def test_java_s_stack_tells_which_directory_was_full(
    spark: SparkSession, tmp_path: Path, frame: str, named: str
) -> None:
    error = RuntimeError(
        "Job aborted\n\tat org.apache.spark.storage.X.y(Z.scala:1)\n"
        "Caused by: java.io.IOException: No space left on device\n"
        f"\tat java.base/java.io.FileOutputStream.writeBytes(Native Method)\n\t{frame}\n"
    )
    assert is_full(error)
    told = str(full_disk(spark, error, tmp_path / "root"))
    if named == "root":
        assert told.startswith(f"cannot write in {tmp_path}/root, root: No space left on device (")
        assert "recsys clean shows" in told
    else:
        local = spark.sparkContext.getConf().get("spark.local.dir")
        assert told.startswith(f"cannot write in {local}, spark.local.dir: No space left on device")
        assert told.endswith("or set spark.local.dir to a directory with more")
    elsewhere_ = full_disk(spark, error, None)  # a root on another machine
    assert ("in a local directory of an executor" in str(elsewhere_)) == (named == "root")


def test_a_full_disk_of_this_process_is_named_by_the_file(
    spark: SparkSession, tmp_path: Path
) -> None:
    def told(name: str | None) -> str:
        error = OSError(errno.ENOSPC, "No space left on device", name)
        assert is_full(error)
        return str(full_disk(spark, error, tmp_path / "root")).partition(": ")[0]

    local = spark.sparkContext.getConf().get("spark.local.dir")
    assert told(f"{tmp_path}/root/models/x") == f"cannot write in {tmp_path}/root, root"
    assert told(f"{local}/x/y") == f"cannot write in {local}, spark.local.dir"
    assert told(None) == f"cannot write in {local}, spark.local.dir"  # as of a broadcast
    assert told("/usr/x") == "cannot write in /usr, TMPDIR"
    assert not is_full(OSError(errno.ENOENT, "No such file or directory"))


def test_too_large_a_result_ends_with_status_5_wherever_it_was_collected(
    run: Run, ratings_csv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = (
        "Job aborted due to stage failure: Total size of serialized results of 3 tasks (1025.0 MiB)"
        " is bigger than spark.driver.maxResultSize (1024.0 MiB)"
    )

    def work(job: Job) -> Outcome:
        try:
            raise RuntimeError(limit)
        except RuntimeError as error:  # as a source that is read would say it
            raise InputError("cannot read x.csv as csv") from error

    monkeypatch.setattr(
        commands,
        "train_command",
        lambda _base: Command("train", lambda _: [], lambda *_: None, work),
    )
    with pytest.raises(
        MemoryLimitError, match=r"1025\.0 MiB.*spark\.driver\.maxResultSize is 1024"
    ):
        run("train", input=csv_input(ratings_csv(small_ratings())))


SPILL = """
import sys
from recsys.errors import OutputError
from recsys.runtime import session
from recsys.store.tables import Store
spark = session.start({{"spark.master": "local[1]", "spark.driver.memory": "1g",
    "spark.ui.enabled": False, "spark.local.dir": {scratch!r}}})
store = Store(spark, {root!r})
frame = spark.range({n}).selectExpr("uuid() AS id").{how}
try:
    store.write_table(frame, store.uri("t"), "id string")
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(("full", "how"), [("scratch", "repartition(3)"), ("root", "coalesce(1)")])
def test_the_directory_that_is_full_is_named_and_not_the_other(
    tmp_path: Path, mount: Mount, full: str, how: str
) -> None:
    small = str(mount("size=12m"))
    large = str(tmp_path / "large")
    scratch, root = (small, large) if full == "scratch" else (large, small)
    script = SPILL.format(scratch=scratch, root=root, n=1_000_000, how=how)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    setting = "spark.local.dir" if full == "scratch" else "root"
    assert ran.stdout.startswith(
        f"cannot write in {small}, {setting}: No space left on device ("
    ), ran.stdout + ran.stderr
