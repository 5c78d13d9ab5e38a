"""Locks on HDFS, by its leases: they end with their process, however it ends.

HDFS lets one client at a time have a file open for writing, and that client renews its lease every
thirty seconds as long as its JVM lives. So a lock is an empty file that is held open. When a JVM is
killed, HDFS gives the file to the next one who asks a minute later (its soft limit). A JVM that
ends in any other way closes its files, and the lock is free at once.

A process that stands still for more than a minute may lose a lock without being told. So whatever
readers see is written only after `check`, which asks HDFS.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError

from recsys.errors import ConflictError, LostLockError, OutputError
from recsys.runtime.hadoop import Hadoop
from recsys.runtime.signals import check_stop
from recsys.runtime.spark_errors import spark_reason

_PAUSE = 0.2
# What HDFS says of a file that another client has, or had until it was killed.
_HELD = ("AlreadyBeingCreatedException", "RecoveryInProgressException")
_MOVED = ("FileNotFoundException", "FileAlreadyExistsException")  # somebody was quicker
_LOST = ("LeaseExpiredException", "FileNotFoundException")


class Leases:
    """The locks that this process holds on one HDFS."""

    def __init__(self, hadoop: Hadoop, file_system: Any) -> None:
        self._fs, self._path = file_system, hadoop.jvm.org.apache.hadoop.fs.Path
        streams = hadoop.jvm.org.apache.hadoop.hdfs.client
        flag = getattr(streams, "HdfsDataOutputStream$SyncFlag").UPDATE_LENGTH
        self._ask = hadoop.jvm.java.util.EnumSet.of(flag)
        self._held: dict[str, Any] = {}
        self._lost: set[str] = set()

    @contextmanager
    def hold(self, uri: str, wait: float) -> Iterator[None]:
        """Hold a lock.

        Raises:
            ConflictError: another process still holds it after so many seconds.
            OutputError: HDFS refuses something else.
        """
        stream = self._acquire(uri, wait)
        self._held[uri] = stream
        try:
            yield
        finally:
            lost = uri in self._lost
            del self._held[uri]
            self._lost.discard(uri)
            # Deleted while it is held: who comes after it makes a new one. Closing then fails.
            with suppress(Py4JError, OSError):
                if not lost and self._is_held(stream):
                    self._fs.delete(self._path(uri), False)
            with suppress(Py4JError, OSError):
                stream.close()

    def check(self) -> None:
        """Ask HDFS whether this process still holds its locks.

        Raises:
            LostLockError: it does not; another process may work on the same. So it is until the
                lock's `hold` ends, however often this is called.
        """
        for uri, stream in list(self._held.items()):
            if uri in self._lost or not self._is_held(stream):
                self._lost.add(uri)
                raise LostLockError(
                    f"{uri} is not held any more: this process stood still for more than a minute, "
                    "or the file was removed; nothing was changed, run again with the same run id"
                )

    def _is_held(self, stream: Any) -> bool:
        try:
            stream.hsync(self._ask)
        except Py4JJavaError as error:
            if any(name in str(error) for name in _LOST):
                return False
            raise
        return True

    def _acquire(self, uri: str, wait: float) -> Any:
        deadline = time.monotonic() + wait
        while True:
            try:
                return self._open(uri)
            except Py4JJavaError as error:
                text = str(error)
                if not any(name in text for name in (*_HELD, *_MOVED)):
                    raise OutputError(
                        f"cannot lock {uri}: {spark_reason(error)}; check root and its permissions"
                    ) from error
            check_stop()
            if time.monotonic() >= deadline:
                raise ConflictError(
                    f"{uri} is held by another process, or by one that was killed less than a "
                    "minute ago; wait for it to end and run again"
                )
            time.sleep(_PAUSE)

    def _open(self, uri: str) -> Any:
        """Open the lock's file for writing, which one client at a time can.

        It is never created in its place: HDFS's client would wait for minutes there.
        """
        path = self._path(uri)
        if not self._fs.exists(path):
            made = self._path(f"{uri}.{uuid.uuid4().hex}.tmp")
            self._fs.create(made, False).close()
            if not self._fs.rename(made, path):
                self._fs.delete(made, False)
        return self._fs.append(path)
