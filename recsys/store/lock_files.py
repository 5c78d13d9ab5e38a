"""Locks where Hadoop's file system has no leases: files that only one client can create.

They outlive a process that is killed, and its successor is told which file to remove. Each says who
made it, so that a process notices that its own was removed, and leaves another's alone.
"""

import os
import socket
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

_MISSES = 5  # looks in a row at a lock that cannot be made and is not there: nobody holds it
_IF_ABSENT = "fs.option.create.conditional.overwrite"


class LockFiles:
    """The locks that this process holds below one root."""

    def __init__(self, hadoop: Hadoop, file_system: Any, *, conditional: bool) -> None:
        """Remember how files are created.

        Args:
            hadoop: Hadoop's classes.
            file_system: the root's.
            conditional: whether the store is an object store, which is asked to create an object
                only where there is none; else the file system decides.
        """
        self._fs, self._path = file_system, hadoop.jvm.org.apache.hadoop.fs.Path
        self._conditional = conditional
        self._held: dict[str, bytes] = {}

    def check(self) -> None:
        """Read this process's locks.

        Raises:
            LostLockError: one was removed; another process may work on the same.
        """
        for uri, mark in self._held.items():
            if self._content(self._path(uri)) != mark:
                raise LostLockError(
                    f"{uri} is not held any more: somebody has removed it; nothing was changed, "
                    "run again with the same run id"
                )

    @contextmanager
    def hold(self, uri: str, wait: float) -> Iterator[None]:
        """Hold a lock.

        Raises:
            ConflictError: its file is still there after so many seconds.
            OutputError: it cannot be made.
        """
        path = self._path(uri)
        mark = f"process {os.getpid()} on {socket.gethostname()}, {uuid.uuid4().hex}".encode()
        deadline, misses = time.monotonic() + wait, 0
        while True:
            try:
                self._create(path, mark)
                break
            except Py4JJavaError as error:
                # It may have been released before this look, and taken again after it.
                misses = 0 if self._is_there(path) else misses + 1
                if misses == _MISSES:
                    raise OutputError(
                        f"cannot write {path.toString()}: {spark_reason(error)}; check root, its "
                        "space and its permissions"
                    ) from error
            check_stop()
            if not misses and time.monotonic() >= deadline:
                raise ConflictError(self._refusal(path))
            time.sleep(0.05 * misses or 0.2)
        self._held[uri] = mark
        try:
            yield
        finally:
            del self._held[uri]
            # Without its JVM this process cannot remove it: what went wrong is said, not this.
            with suppress(Py4JError, OSError):
                if self._content(path) == mark:
                    self._fs.delete(path, False)

    def _refusal(self, path: Any) -> str:
        holder = (self._content(path) or b"").decode(errors="replace").rpartition(",")[0]
        return (
            f"{path.toString()} exists: {holder or 'another process'} works on the same, or was "
            "killed; wait for it, or remove it if none does"
        )

    def _create(self, path: Any, mark: bytes) -> None:
        """Create the file; an object store refuses only when all is written."""
        if self._conditional:
            stream = self._fs.createFile(path).overwrite(False).opt(_IF_ABSENT, True).build()
        else:
            stream = self._fs.create(path, False)
        try:
            stream.write(mark)
        finally:
            stream.close()

    def _content(self, path: Any) -> bytes | None:
        """Return what a lock says; None where there is none."""
        try:
            stream = self._fs.open(path)
            try:
                return bytes(stream.readAllBytes())
            finally:
                stream.close()
        except Py4JJavaError as error:
            if "FileNotFoundException" in str(error):
                return None
            raise

    def _is_there(self, path: Any) -> bool:
        try:
            return bool(self._fs.exists(path))
        except Py4JJavaError:
            return False
