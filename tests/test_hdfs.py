"""A root on a real NameNode: locks, the pointer, and the whole life of what is published."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster_runs import Cluster, UnavailableError, cluster
from pyspark.sql import SparkSession

from recsys import read_recommendations
from recsys.errors import ConflictError, DamageError, OutputError
from recsys.flows import manage
from recsys.flows.manage import Place
from recsys.publishing.pointer import POINTER
from recsys.publishing.versions import RECOMMENDATIONS, Unit, place
from recsys.runtime.hadoop import of_session
from recsys.store.files import LOCKS
from recsys.store.hadoop import HadoopFiles
from recsys.store.tables import Store
from tests.conftest import ROOT, RUN_DATE, collected, configured, csv_input, run_in, small_ratings

pytestmark = pytest.mark.cluster

UNIT = Unit("all", RUN_DATE)
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
        with thief.lock("x"), pytest.raises(ConflictError, match="is not held any more"):
            files.replace(uri, b"of one without a lock")
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


def test_what_is_published_on_hdfs_has_a_whole_life(
    spark: SparkSession, root: str, ratings_csv: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"input": csv_input(ratings_csv(small_ratings()))}
    first = run_in(spark, root, "run", **given)
    again = run_in(spark, root, "run", **given)
    assert again == first  # complete already
    run_in(spark, root, "score", run_id="r2", model_id=first["model_id"], **given)
    store = Store(spark, root)
    from recsys.publishing.index import open_index

    config = configured(root, **given)
    here = Place(config, store.files, open_index(store.files, config.publishing, lambda: None))

    def lists(run_id: str | None = None) -> list[tuple[Any, ...]]:
        found = read_recommendations(root, run_id=run_id, spark=spark).recommendations
        return collected(found.select("user_id", "rank", "item_id", "score"))  # type: ignore[union-attr]

    def current() -> str:
        return read_recommendations(root, spark=spark).run_id

    assert len(lists()) == 300
    assert lists("r1") == lists("r2")
    assert current() == "r2"

    manage.runs(here, 20, None, None, as_json=False)
    told = capsys.readouterr().out
    assert [line.split()[-2] for line in told.splitlines()[1:]] == ["current", "kept"]
    manage.models(here, as_json=False)
    assert first["model_id"] in capsys.readouterr().out

    manage.rollback(here, "all", RUN_DATE, None)
    assert current() == "r1"
    manage.rollback(here, "all", RUN_DATE, "r2")
    assert current() == "r2"

    capsys.readouterr()
    manage.verify(here)
    told = capsys.readouterr().out
    assert {line.split()[0] for line in told.splitlines()} == {"ok"}
    assert len(told.splitlines()) == 4  # two versions, a model and interactions

    # What a killed run leaves goes, and a version that is damaged is named.
    files = store.files
    files.write(files.uri("_staging", "r9", "part-0.parquet"), b"x")
    files.write(files.uri("runs", "r1", "manifest.json.abc.tmp"), b"x")
    files.write(place(files, UNIT, "r7", "status", "part-0.parquet"), b"x")
    manage.clean(here, yes=True, stored=True, min_age_days=7)
    assert "deleted 3 of 3" in capsys.readouterr().out
    assert not files.exists(files.uri("_staging"))
    assert files.names(place(files, UNIT)) == [POINTER, "r1", "r2"]

    folder = place(files, UNIT, "r1", RECOMMENDATIONS)
    part = next(name for name in files.names(folder) if name.endswith(".parquet"))
    files.write(f"{folder}/{part}", files.read(f"{folder}/{part}") + b"x")
    with pytest.raises(DamageError, match="1 damaged"):
        manage.verify(here)
    with pytest.raises(DamageError, match=f"{part} has "):
        manage.rollback(here, "all", RUN_DATE, "r1")
    assert current() == "r2"

    # A pointer that is lost is written anew.
    files.delete(place(files, UNIT) + f"/{POINTER}")
    time.sleep(0.01)
    manage.rollback(here, "all", RUN_DATE, "r2")
    assert current() == "r2"
