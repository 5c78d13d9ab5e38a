"""Small files, directories and locks under a root that only Hadoop's file systems reach: HDFS.

The same promises as on POSIX, by HDFS's own semantics; they were not tried on a cluster.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

from recsys.config.redaction import redact
from recsys.errors import ConflictError, OutputError
from recsys.runtime.signals import check_stop
from recsys.runtime.spark_errors import spark_reason
from recsys.store.files import LOCKS, PROBE
from recsys.store.manifest import MANIFEST

# Bytes go to the JVM as text.
_PIECE = 4 * 2**20
_MISSES = 5  # looks in a row at a lock that cannot be made and is not there: nobody holds it


class HadoopFiles:
    """A root on one of Hadoop's file systems; see `recsys.store.files.Files` for the methods.

    A lock is a file that is created exclusively, and outlives a process that is killed.
    """

    def __init__(self, spark: SparkSession, root: str) -> None:
        jvm: Any = spark.sparkContext._jvm
        gateway: Any = spark.sparkContext._gateway
        self._hadoop, self._gateway = jvm.org.apache.hadoop.fs, gateway
        conf = spark.sparkContext._jsc.hadoopConfiguration()
        try:
            path = self._path(root)
            # An instance of its own: the one that the JVM caches is shared with everybody.
            self._fs = self._hadoop.FileSystem.newInstance(path.toUri(), conf)
            qualified = self._fs.makeQualified(path)
            self.root: str = qualified.toString().rstrip("/")
            self._context = self._hadoop.FileContext.getFileContext(qualified.toUri(), conf)
        except Py4JJavaError as error:
            raise OutputError(
                f"root {redact(root)} cannot be reached: {spark_reason(error)}; check its scheme, "
                "and that Spark has the store's libraries"
            ) from error

    def _path(self, uri: str) -> Any:
        return self._hadoop.Path(uri)

    def uri(self, *parts: str) -> str:
        """Return the full URI of a place below the root."""
        return "/".join([self.root, *parts])

    def exists(self, uri: str) -> bool:
        """Whether there is a file or directory."""
        with _reading(uri):
            return bool(self._fs.exists(self._path(uri)))

    def names(self, uri: str) -> list[str]:
        """Return the names in a directory, sorted; none where there is no directory."""
        path = self._path(uri)
        with _reading(uri):
            if not self._fs.isDirectory(path):
                return []
            return sorted(status.getPath().getName() for status in self._fs.listStatus(path))

    def read(self, uri: str) -> bytes:
        """Read a small file; FileNotFoundError where there is none."""
        path = self._path(uri)
        if not self.exists(uri):
            raise FileNotFoundError(uri)
        with _reading(uri):
            stream = self._fs.open(path)
        try:
            return bytes(stream.readAllBytes())
        except Py4JError as error:  # a checksum of the file system's own does not fit
            raise ValueError("the file system reports damage") from error
        finally:
            stream.close()

    def replace(self, uri: str, content: bytes) -> None:
        """Write a small file, or a new content of it, in one step."""
        beside, target = self._path(uri + ".tmp"), self._path(uri)
        with self._writing(uri):
            stream = self._fs.create(beside, True)
            try:
                stream.write(content)
            finally:
                stream.close()
            rename = getattr(self._hadoop, "Options$Rename")
            options = self._gateway.new_array(rename, 1)
            options[0] = rename.OVERWRITE
            self._context.rename(beside, target, options)

    def write(self, uri: str, content: bytes | memoryview) -> None:
        """Write a file that nobody reads before its directory is moved into its place."""
        with self._writing(uri):
            stream = self._fs.create(self._path(uri), True)
            try:
                for start in range(0, len(content), _PIECE):
                    stream.write(bytes(content[start : start + _PIECE]))
            finally:
                stream.close()

    def move(self, source: str, target: str) -> None:
        """Move a directory to where nothing is yet, in one step."""
        old, new = self._path(source), self._path(target)
        with self._writing(target):
            self._fs.mkdirs(new.getParent())
            moved = not self._fs.exists(new) and self._fs.rename(old, new)
        if not moved:
            raise OutputError(f"could not move {source} to {target}: there is something already")

    def check_move(self, staging: str, target: str) -> None:
        """Raise OutputError unless what is made in one directory can be moved into another."""
        probe = self._path(f"{staging}/{PROBE}{staging.rpartition('/')[2]}")
        above = self._path(target)
        with self._writing(target):
            while not self._fs.exists(above):
                above = above.getParent()
            tried = self._hadoop.Path(above, probe.getName())
            self._fs.mkdirs(probe)
            try:
                moved = self._fs.rename(probe, tried)  # HDFS: not between encryption zones
            finally:
                for place in (probe, tried):
                    self._fs.delete(place, True)
        if not moved:
            raise OutputError(
                f"nothing can be moved from {staging}, where all is made, to {above.toString()}; "
                "check its permissions, or choose another root"
            )

    def free_bytes(self) -> int | None:
        """Return how many bytes may still be written: not known, quotas are anywhere above."""
        return None

    def delete(self, uri: str) -> None:
        """Delete a file, or a directory with all below it; nothing happens where there is none."""
        path = self._path(uri)
        with self._writing(uri):
            if self._fs.isDirectory(path):
                self._fs.delete(self._hadoop.Path(path, MANIFEST), False)
            deleted = self._fs.delete(path, True) or not self._fs.exists(path)
        if not deleted:
            raise OutputError(f"could not delete {uri}; check its permissions, and run again")

    @contextmanager
    def lock(self, name: str, *, wait: float = 0.0) -> Iterator[None]:
        """Hold a lock that one process at a time can have; ConflictError after `wait` seconds."""
        path = self._path(self.uri(LOCKS, name))
        deadline, misses = time.monotonic() + wait, 0
        while True:
            try:
                self._fs.create(path, False).close()
                break
            except Py4JJavaError as error:
                # It may have been released before this look, and taken again after it.
                misses = 0 if self.exists(path.toString()) else misses + 1
                if misses == _MISSES:
                    raise _refused("write", path.toString(), error) from error
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

    @contextmanager
    def _writing(self, uri: str) -> Iterator[None]:
        try:
            yield
        except Py4JJavaError as error:
            raise _refused("write", uri, error) from error


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    try:
        yield
    except Py4JJavaError as error:
        raise _refused("read", uri, error) from error


def _refused(doing: str, uri: str, error: Py4JJavaError) -> OutputError:
    return OutputError(
        f"cannot {doing} {uri}: {spark_reason(error)}; check root, its space and its permissions"
    )
