"""Locks where Hadoop's file system has no leases: files that only one client can create.

They outlive a process that is killed, and its successor is told which file to remove.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError

from recsys.errors import ConflictError, OutputError
from recsys.runtime.hadoop import Hadoop
from recsys.runtime.signals import check_stop
from recsys.runtime.spark_errors import spark_reason

_MISSES = 5  # looks in a row at a lock that cannot be made and is not there: nobody holds it
_IF_ABSENT = "fs.option.create.conditional.overwrite"


class LockFiles:
    """The locks below one root."""

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

    def check(self) -> None:
        """Do nothing: such a lock is not lost."""

    @contextmanager
    def hold(self, uri: str, wait: float) -> Iterator[None]:
        """Hold a lock.

        Raises:
            ConflictError: its file is still there after so many seconds.
            OutputError: it cannot be made.
        """
        path = self._path(uri)
        deadline, misses = time.monotonic() + wait, 0
        while True:
            try:
                self._create(path)
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
                raise ConflictError(
                    f"{path.toString()} exists: another process works on the same, or was killed; "
                    "wait for it, or remove it if none does"
                )
            time.sleep(0.05 * misses or 0.2)
        try:
            yield
        finally:
            self._fs.delete(path, False)

    def _create(self, path: Any) -> None:
        if self._conditional:
            self._fs.createFile(path).overwrite(False).opt(_IF_ABSENT, True).build().close()
        else:
            self._fs.create(path, False).close()

    def _is_there(self, path: Any) -> bool:
        try:
            return bool(self._fs.exists(path))
        except Py4JJavaError:
            return False
