"""A root on a real S3 server, with Iceberg's catalog on PostgreSQL.

Everything happens in processes of their own: the suite's JVM does not have the store's libraries.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from cluster_runs import UnavailableError
from store_sites import Site, Store, store
from torture_readers import readers
from torture_rivals import rivals

from recsys.errors import ConflictError, LostLockError
from recsys.store.files import LOCKS

pytestmark = pytest.mark.cluster

_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    try:
        with store("s3", tmp_path_factory.mktemp("s3")) as at:
            yield at
    except UnavailableError as error:
        pytest.skip(str(error))


def beside(do: Callable[..., Any], *arguments: Any) -> Any:
    """Do something in a process of its own, and return what it returns."""
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as pool:
        return pool.submit(do, *arguments).result()


def _directories(site: Site) -> None:
    files = site.files()
    place, other = files.uri("publications", "r1"), files.uri("_staging", "r1")
    for top in (place, other):
        files.write(f"{top}/status/part-0", b"12")
    time.sleep(2)
    assert files.size_and_age(place)[0] == 2
    assert files.size_and_age(place)[1] > 1  # of the object: a directory is always new
    files.delete(place)
    # The server shows the directories for some minutes more.
    assert not files.exists(place)
    assert not files.is_directory(place)
    assert files.names(files.uri("publications")) == []
    assert files.names(files.root) == ["_staging"]
    files.move(other, place)
    assert files.read(f"{place}/status/part-0") == b"12"
    assert files.names(files.root) == ["publications"]


def test_a_directory_is_there_as_long_as_an_object_is_in_it(s3: Store) -> None:
    beside(_directories, s3.site("directories", "iceberg"))


def _race(site: Site, barrier: Any, results: Any) -> None:
    files = site.files()
    won = 0
    for number in range(5):
        barrier.wait(timeout=120)
        lock = files.lock(f"x{number}")
        try:
            lock.__enter__()
            won += 1
        except ConflictError:
            pass
        barrier.wait(timeout=120)  # nobody lets it go before all have tried
        # The winner's generator ends, and its lock with it.
        del lock
    results.put(won)


def test_one_of_several_processes_gets_a_lock(s3: Store) -> None:
    site, barrier, results = s3.site("race", "iceberg"), _SPAWN.Barrier(3), _SPAWN.Queue()
    processes = [_SPAWN.Process(target=_race, args=(site, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(results.get(timeout=300) for _ in processes) == 5
    for process in processes:
        process.join()


def _lose(site: Site) -> None:
    files = site.files()
    uri = files.uri("small")
    files.replace(uri, b"old")
    with files.lock("x"):
        files._fs.delete(files._path(files.uri(LOCKS, "x")), False)  # type: ignore[attr-defined]
        for change in (
            lambda: files.replace(uri, b"new"),
            lambda: files.delete(uri),
            lambda: files.move(uri, files.uri("moved")),
        ):
            with pytest.raises(LostLockError, match="is not held any more"):
                change()
    assert files.read(uri) == b"old"


def test_whoever_has_lost_a_lock_changes_nothing(s3: Store) -> None:
    beside(_lose, s3.site("lost", "iceberg"))


def test_readers_see_whole_versions_alone(s3: Store) -> None:
    verdicts = beside(readers, s3, "iceberg", 2, 2)
    assert verdicts.violations == []
    assert verdicts.counts["publications"] == 2


def test_of_two_publishers_at_once_neither_loses_or_mixes_anything(s3: Store) -> None:
    assert beside(rivals, s3, "iceberg", "iceberg", 2).violations == []
