"""Locks that are objects, on a store in memory; `tests/test_s3.py` has a real one."""

from types import SimpleNamespace
from typing import Any

import pytest
from py4j.protocol import Py4JError

from recsys.errors import ConflictError, LostLockError
from recsys.store.lock_files import LockFiles
from tests.refusals import RefusedError


class Place(str):
    def toString(self) -> str:  # noqa: N802 - Hadoop's name
        return str(self)


class Bucket:
    """Objects by their names; one is only made where there is none."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gone = False  # the JVM that reaches it

    def create(self, path: Place, _: bool) -> Any:
        if path in self.objects:
            raise RefusedError("FileAlreadyExistsException")
        return SimpleNamespace(
            write=lambda content: self.objects.update({path: content}), close=lambda: None
        )

    def open(self, path: Place) -> Any:
        if self.gone:
            raise Py4JError("the JVM is gone")
        if path not in self.objects:
            raise RefusedError("java.io.FileNotFoundException")
        return SimpleNamespace(readAllBytes=lambda: self.objects[path], close=lambda: None)

    def exists(self, path: Place) -> bool:
        return path in self.objects

    def delete(self, path: Place, _: bool) -> None:
        del self.objects[path]


def opened(bucket: Bucket) -> LockFiles:
    apache = SimpleNamespace(hadoop=SimpleNamespace(fs=SimpleNamespace(Path=Place)))
    jvm = SimpleNamespace(org=SimpleNamespace(apache=apache))
    return LockFiles(SimpleNamespace(jvm=jvm), bucket, conditional=False)  # type: ignore[arg-type]


def test_one_process_has_a_lock_and_another_is_told_which() -> None:
    bucket = Bucket()
    one, other = opened(bucket), opened(bucket)
    with one.hold("x", 0):
        one.check()
        with pytest.raises(ConflictError, match=r"x exists: process \d+ on .* works on the same"):
            other.hold("x", 0).__enter__()
    assert bucket.objects == {}
    with other.hold("x", 0):
        other.check()


def test_whoever_has_lost_a_lock_is_told_and_leaves_the_next_ones_alone() -> None:
    bucket = Bucket()
    one, other = opened(bucket), opened(bucket)
    with one.hold("x", 0):
        bucket.objects.clear()  # somebody removes what seems to be of a killed process
        with pytest.raises(LostLockError, match="somebody has removed it"):
            one.check()
        next_one = other.hold("x", 0)
        next_one.__enter__()
        with pytest.raises(LostLockError):
            one.check()
    assert len(bucket.objects) == 1
    other.check()


def test_a_lock_that_cannot_be_removed_hides_no_other_error() -> None:
    bucket = Bucket()
    lock = opened(bucket).hold("x", 0)
    lock.__enter__()
    bucket.gone = True
    error = ValueError("of the run")
    assert not lock.__exit__(ValueError, error, None)
    assert list(bucket.objects) == ["x"]
