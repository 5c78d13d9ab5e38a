"""Publishers of Iceberg tables that meet."""

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.config.sections import Iceberg
from recsys.errors import ConflictError
from recsys.publishing.iceberg import commits
from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.versions import Version
from recsys.store.posix import PosixFiles
from tests.iceberg_tables import (
    OTHER,
    UNIT,
    loaded,
    publish,
    runs,
    snapshots,
    stage,
)


def test_a_stale_publisher_is_refused_and_changes_nothing_visible(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    one, other = opened(), opened()
    publish(one, files, UNIT, "r1")
    mine, rivals = stage(files, UNIT, "r2"), stage(files, UNIT, "r3", 5)
    other.switch(rivals, expected="r1")
    with pytest.raises(ConflictError, match="run r3 was published meanwhile, expected r1"):
        one.switch(mine, expected="r1")
    assert snapshots(one) == [2, 2]
    with pytest.raises(ConflictError, match="run r3 was published meanwhile, expected none"):
        one.switch(mine, expected=None)


def test_a_rival_between_the_two_commits_wins_with_its_own_statuses(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    rival = opened()
    first = publish(rival, files, UNIT, "r1")
    mine, rivals = stage(files, UNIT, "r2", 3), stage(files, UNIT, "r3", 5)
    one = opened(alive=lambda: rival.switch(rivals, expected="r1"))
    with pytest.raises(ConflictError, match="r3"):
        one.switch(mine, expected="r1")
    version, recommendations, status = one.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, runs(recommendations), runs(status)) == ("r3", {"r3"}, {"r3"})
    assert runs(loaded(one, "status").scan().to_arrow()) == {"r3"}
    assert one.versions(UNIT) == [first, rivals]


def test_a_loser_that_had_the_last_word_on_the_statuses_puts_the_winners_back(
    opened: Callable[..., IcebergTables], files: PosixFiles
) -> None:
    publish(opened(), files, UNIT, "r1")
    mine, rivals = stage(files, UNIT, "r2", 3), stage(files, UNIT, "r3", 5)
    begun, go = threading.Event(), threading.Event()
    rival = opened(alive=lambda: (begun.set(), go.wait(30)))
    other = threading.Thread(target=lambda: rival.switch(rivals, expected="r1"))

    def overtaken() -> None:
        assert runs(loaded(one, "status").scan().to_arrow()) == {"r2"}
        go.set()
        other.join()

    one = opened(alive=overtaken)
    other.start()
    assert begun.wait(30)
    with pytest.raises(ConflictError, match="run r3 was published meanwhile"):
        one.switch(mine, expected="r1")
    assert runs(loaded(one, "status").scan().to_arrow()) == {"r3"}
    assert runs(loaded(one, "recommendations").scan().to_arrow()) == {"r3"}


def test_a_rival_that_replaced_another_unit_is_no_conflict(
    opened: Callable[..., IcebergTables], files: PosixFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, rival = opened(), opened()
    publish(one, files, UNIT, "r1")
    committing = commits.overwrite
    pending = [stage(files, OTHER, "o1"), stage(files, OTHER, "o2")]

    def overtaken(*args: Any) -> None:
        committing(*args)
        if pending:
            version = pending.pop(0)
            now = rival.current(OTHER)
            before = list(pending)
            pending.clear()
            rival.switch(version, expected=now.run_id if now else None)
            pending.extend(before)

    monkeypatch.setattr(commits, "overwrite", overtaken)
    publish(one, files, UNIT, "r2", 5)
    assert not pending
    version, recommendations, _ = one.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, len(recommendations)) == ("r2", 10)
    version, recommendations, _ = one.read(OTHER) or pytest.fail("nothing is published")
    assert (version.run_id, runs(recommendations)) == ("o2", {"o2"})
    assert snapshots(one) == [4, 4]


def race(root: Path, settings: Iceberg, versions: list[Version], start: Any, done: Any) -> None:
    tables = IcebergTables(PosixFiles(root), settings)
    for version in versions:
        current = tables.current(version.unit)
        start.wait(timeout=60)
        try:
            tables.switch(version, expected=current.run_id if current else None)
            done.put((version.run_id, "published"))
        except Exception as error:
            done.put((version.run_id, type(error).__name__))
        start.wait(timeout=60)
    tables.close()


def test_of_two_processes_exactly_one_wins_whole(tables: IcebergTables, files: PosixFiles) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, done = spawn.Barrier(2), spawn.Queue()
    rounds = 8
    versions = {
        name: [stage(files, UNIT, f"r{turn}{name}", 3 + turn) for turn in range(rounds)]
        for name in "ab"
    }
    root, settings = files.path(files.root), tables._catalog._settings
    processes = [
        spawn.Process(target=race, args=(root, settings, mine, start, done))
        for mine in versions.values()
    ]
    for process in processes:
        process.start()
    outcomes = dict(done.get(timeout=90) for _ in range(2 * rounds))
    for process in processes:
        process.join(60)
    winners = []
    for turn in range(rounds):
        pair = {name: outcomes[f"r{turn}{name}"] for name in "ab"}
        assert sorted(pair.values()) == ["ConflictError", "published"]
        winners.append(f"r{turn}a" if pair["a"] == "published" else f"r{turn}b")
    assert [v.run_id for v in tables.versions(UNIT)] == winners
    last = winners[-1]
    version, recommendations, status = tables.read(UNIT) or pytest.fail("nothing is published")
    assert (version.run_id, runs(recommendations), runs(status)) == (last, {last}, {last})
    assert runs(loaded(tables, "status").scan().to_arrow()) == {last}
    assert len(loaded(tables, "recommendations").snapshots()) == rounds
    assert not files.names(files.uri("_locks"))
