"""Locks on HDFS that are lost while they are held; `tests/test_hdfs.py` has a real NameNode."""

from types import SimpleNamespace
from typing import Any

import pytest

from recsys.errors import ConflictError, LostLockError
from recsys.store.leases import Leases
from tests.refusals import RefusedError


class Stream:
    """A file that is open for writing, until another client has taken it."""

    taken = False

    def hsync(self, _: Any) -> None:
        if self.taken:
            raise RefusedError("LeaseExpiredException")

    def close(self) -> None: ...


class FileSystem:
    """HDFS with one file, which is there already."""

    def __init__(self) -> None:
        self.stream, self.deleted = Stream(), list[Any]()
        self.answers: list[Exception] = []

    def exists(self, _: Any) -> bool:
        return True

    def append(self, _: Any) -> Stream:
        if self.answers:
            raise self.answers[0]
        return self.stream

    def delete(self, path: Any, _: bool) -> None:
        self.deleted.append(path)


@pytest.fixture
def system() -> FileSystem:
    return FileSystem()


@pytest.fixture
def leases(system: FileSystem) -> Leases:
    flag = SimpleNamespace(UPDATE_LENGTH=1)
    client = SimpleNamespace(**{"HdfsDataOutputStream$SyncFlag": flag})
    apache = SimpleNamespace(
        hadoop=SimpleNamespace(fs=SimpleNamespace(Path=str), hdfs=SimpleNamespace(client=client))
    )
    java = SimpleNamespace(util=SimpleNamespace(EnumSet=SimpleNamespace(of=lambda _: None)))
    jvm: Any = SimpleNamespace(org=SimpleNamespace(apache=apache), java=java)
    return Leases(SimpleNamespace(jvm=jvm), system)  # type: ignore[arg-type]


def test_a_lost_lock_stays_lost_until_its_end(leases: Leases, system: FileSystem) -> None:
    with leases.hold("x", 0):
        leases.check()
        system.stream.taken = True
        for _ in range(2):
            with pytest.raises(LostLockError, match="is not held any more"):
                leases.check()
        system.stream.taken = False  # whatever HDFS says later
        with pytest.raises(LostLockError):
            leases.check()
    assert system.deleted == []  # it is another's
    leases.check()
    with leases.hold("x", 0):
        leases.check()
    assert system.deleted == ["x"]


def test_whoever_finds_the_file_gone_again_and_again_gives_up(
    leases: Leases, system: FileSystem
) -> None:
    system.answers = [RefusedError("FileNotFoundException")]
    with pytest.raises(ConflictError, match="held by another process"), leases.hold("x", 0.3):
        pass
