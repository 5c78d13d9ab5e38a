"""A root on a real NameNode: locks, the pointer, and the whole life of what is published."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_runs import Cluster, UnavailableError, cluster
from pyspark.sql import SparkSession

from recsys import read_recommendations
from recsys.errors import ConflictError, DamageError, LostLockError, OutputError
from recsys.flows import manage
from recsys.flows.manage import Place
from recsys.publishing.pointer import POINTER, Pointers
from recsys.publishing.publish import publish
from recsys.publishing.versions import RECOMMENDATIONS, place
from recsys.runtime.hadoop import of_session
from recsys.runtime.run import run_lock
from recsys.store.files import LOCKS
from recsys.store.hadoop import HadoopFiles
from recsys.store.posix import PosixFiles
from tests.conftest import ROOT, configured, csv_input, run_in, small_ratings
from tests.publications import DAY, UNIT, Judge, stage

pytestmark = pytest.mark.cluster

HOLDER = """
import sys, time
from pyspark import SparkContext
from recsys.runtime import hadoop
from recsys.store.hadoop import HadoopFiles
files = HadoopFiles(hadoop.without_session({}), sys.argv[1])
with files.lock("x"):
    print(SparkContext._jvm.java.lang.ProcessHandle.current().pid(), flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        with cluster("hdfs", tmp_path_factory.mktemp("hdfs") / "c") as at:
            yield at
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def root(hdfs: Cluster, request: pytest.FixtureRequest) -> str:
    return f"{hdfs.environment['HDFS']}/{request.node.name[:60]}"


@pytest.fixture
def opened(spark: SparkSession, root: str) -> Callable[[], HadoopFiles]:
    """Open the root as often as a test wants: each is a client of its own."""
    return lambda: HadoopFiles(of_session(spark), root)


def test_one_client_at_a_time_has_a_lock(opened: Callable[[], HadoopFiles]) -> None:
    one, other = opened(), opened()
    with one.lock("x"):
        assert one.is_locked("x")
        assert other.is_locked("x")
        for files in (one, other):
            with pytest.raises(ConflictError, match="_locks/x is held by another process"):
                files.lock("x", wait=0.5).__enter__()
    assert one.names(one.uri(LOCKS)) == []
    with other.lock("x"):
        pass
    assert not other.is_locked("x")


def test_whoever_has_lost_a_lock_changes_nothing(opened: Callable[[], HadoopFiles]) -> None:
    files, thief = opened(), opened()
    uri = files.uri(POINTER)
    files.replace(uri, b"old")
    with files.lock("x"):
        files.replace(uri, b"new")
        thief.delete(thief.uri(LOCKS, "x"))
        with thief.lock("x"):
            for change in (
                lambda: files.replace(uri, b"of one without a lock"),
                lambda: files.delete(uri),
                lambda: files.move(uri, files.uri("moved")),
            ):
                with pytest.raises(LostLockError, match="is not held any more"):
                    change()
        thief.replace(thief.uri(LOCKS, "x"), b"")
    assert files.read(uri) == b"new"
    assert files.names(files.root) == [LOCKS, POINTER]
    assert files.names(files.uri(LOCKS)) == ["x"]  # another's stays


@pytest.mark.parametrize("killed", ["python", "jvm"])
def test_the_lock_of_a_killed_process_is_free_a_minute_later(
    opened: Callable[[], HadoopFiles], killed: str
) -> None:
    files = opened()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, files.root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None
        jvm = int(holder.stdout.readline())
        assert files.is_locked("x")
        os.kill(jvm if killed == "jvm" else holder.pid, signal.SIGKILL)
        with files.lock("x", wait=300):
            pass
        holder.kill()


def test_readers_find_a_whole_pointer_while_it_is_replaced(
    opened: Callable[[], HadoopFiles],
) -> None:
    writer, reader = opened(), opened()
    uri = writer.uri(POINTER)
    contents = [b"%d" % (n % 10) * (1_000 + n) for n in range(100)]
    writer.replace(uri, contents[0])
    seen: list[bytes | Exception] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                seen.append(reader.read(uri))
            except Exception as error:
                seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for content in contents:
        writer.replace(uri, content)
    ended.set()
    thread.join()
    assert len(seen) > 10
    assert [one for one in seen if one not in contents] == []
    numbers = [contents.index(one) for one in seen if isinstance(one, bytes)]
    assert numbers == sorted(numbers)


def test_nothing_is_moved_over_what_is_there_and_a_directory_in_use_stays(
    opened: Callable[[], HadoopFiles],
) -> None:
    files = opened()
    files.write(files.uri("made", "part-0"), b"one")
    files.write(files.uri("there", "part-0"), b"two")
    with pytest.raises(OutputError, match="there is something already"):
        files.move(files.uri("made"), files.uri("there"))
    files.remove_if_empty(files.uri("there"))
    assert files.read(files.uri("there", "part-0")) == b"two"
    files.delete(files.uri("there", "part-0"))
    files.remove_if_empty(files.uri("there"))
    assert not files.exists(files.uri("there"))
    assert files.size_and_age(files.uri("made"))[0] == 3


def publish_on_hdfs(files: HadoopFiles, made: PosixFiles, run_id: str) -> None:
    """Stage a version on a local root, copy it to HDFS, and let readers see it there."""
    staged = stage(made, UNIT, run_id)
    for path in sorted(made.path(staged.uri).rglob("*")):
        if path.is_file():
            below = path.relative_to(made.path(made.root)).as_posix()
            files.write(files.uri(*below.split("/")), path.read_bytes())
    there = replace(staged, uri=files.uri(*staged.uri.removeprefix(f"{made.root}/").split("/")))
    publish(files, Pointers(files), there, Judge(), alive=lambda: None)


def whole_life(files: HadoopFiles, made: PosixFiles, told: Callable[[], str]) -> None:
    """Publish, look, go back, verify, damage, mend and clean.

    Args:
        files: the root on HDFS.
        made: a local root in which versions are made.
        told: returns what was printed since it was called before.
    """
    index = Pointers(files)
    here = Place(configured(files.root), files, index)
    for run_id in ("r1", "r2"):
        with files.lock(run_lock(run_id)):
            publish_on_hdfs(files, made, run_id)
    files.delete(files.uri("_staging"))

    def current() -> str:
        version = index.current(UNIT)
        assert version is not None
        return version.run_id

    assert current() == "r2"
    assert [version.run_id for version in index.versions(UNIT)] == ["r1", "r2"]
    manage.rollback(here, "all", DAY, None)
    assert current() == "r1"
    manage.rollback(here, "all", DAY, "r2")
    assert current() == "r2"
    told()
    manage.verify(here)
    assert [line.split()[0] for line in told().splitlines()] == ["ok", "ok"]
    manage.runs(here, 20, None, None, as_json=False)
    told()

    # What killed runs leave goes; what is published stays.
    files.write(files.uri("_staging", "r9", "part-0.parquet"), b"x")
    files.write(files.uri("runs", "r1", "manifest.json.abc.tmp"), b"x")
    files.write(place(files, UNIT, "r7", "status", "part-0.parquet"), b"x")
    with files.lock(run_lock("r9")):  # it goes on
        manage.clean(here, yes=True, stored=True, min_age_days=7)
    assert "deleted 2 of 2" in told()
    manage.clean(here, yes=True, stored=True, min_age_days=7)
    assert "deleted 1 of 1" in told()
    assert not files.exists(files.uri("_staging"))
    assert files.names(place(files, UNIT)) == [POINTER, "r1", "r2"]

    # A version that is damaged is named, and nobody returns to it.
    folder = place(files, UNIT, "r1", RECOMMENDATIONS)
    part = next(name for name in files.names(folder) if name.endswith(".parquet"))
    files.write(f"{folder}/{part}", files.read(f"{folder}/{part}") + b"x")
    with pytest.raises(DamageError, match="1 damaged"):
        manage.verify(here)
    with pytest.raises(DamageError, match=f"{part} has "):
        manage.rollback(here, "all", DAY, "r1")
    assert current() == "r2"

    # A pointer that is lost is written anew.
    files.delete(place(files, UNIT) + f"/{POINTER}")
    with pytest.raises(DamageError, match="is missing, though there are versions"):
        manage.rollback(here, "all", DAY, None)
    manage.rollback(here, "all", DAY, "r2")
    assert current() == "r2"


def test_what_is_published_on_hdfs_has_a_whole_life(
    opened: Callable[[], HadoopFiles], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_life(opened(), PosixFiles(tmp_path), lambda: capsys.readouterr().out)


def test_a_run_publishes_to_hdfs_and_a_rerun_finds_it_complete(
    spark: SparkSession, root: str, ratings_csv: Any
) -> None:
    given = {"input": csv_input(ratings_csv(small_ratings()))}
    first = run_in(spark, root, "run", **given)
    assert run_in(spark, root, "run", **given) == first
    found = read_recommendations(root, spark=spark)
    assert found.run_id == "r1"
    assert found.recommendations.count() == 300  # type: ignore[union-attr]
