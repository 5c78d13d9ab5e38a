"""Small files, directories and locks under a root that only Hadoop's file systems reach.

On HDFS the promises are the same as on POSIX: its rename is one step for readers, also over a file
that is there, and its leases are locks.
"""

import io
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from py4j.protocol import Py4JError, Py4JJavaError

from recsys.config.redaction import redact
from recsys.errors import ConflictError, OutputError, UnreadableError
from recsys.runtime.hadoop import Hadoop
from recsys.runtime.signals import check_stop
from recsys.runtime.spark_errors import spark_reason
from recsys.runtime.stop_points import stop_point
from recsys.store.files import LOCKS, PROBE, scheme
from recsys.store.hadoop_stream import HadoopStream
from recsys.store.leases import Leases
from recsys.store.lock_files import LockFiles
from recsys.store.manifest import MANIFEST, File

# Bytes go to the JVM as text.
_PIECE = 4 * 2**20
_PAUSES = (0.05, 0.2, 0.5)  # seconds, before a small file is read again

_WITH_LEASES = ("hdfs", "viewfs")
# What is written appears in one step there, but what is moved is copied, file by file.
_OBJECT_STORES = ("s3", "s3a", "s3n", "gs", "abfs", "abfss", "wasb", "wasbs")


class HadoopFiles:
    """A root on one of Hadoop's file systems; see `recsys.store.files.Files` for the methods.

    A lock is a lease on HDFS, and elsewhere a file that only one client can create.
    """

    def __init__(self, hadoop: Hadoop, root: str) -> None:
        self._jvm, self._gateway = hadoop.jvm, hadoop.gateway
        self._hadoop, conf = hadoop.jvm.org.apache.hadoop.fs, hadoop.configuration
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
        self._copies = scheme(self.root) in _OBJECT_STORES
        self._locks: Leases | LockFiles = (
            Leases(hadoop, self._fs)
            if scheme(self.root) in _WITH_LEASES
            else LockFiles(hadoop, self._fs, conditional=self._copies)
        )

    def _path(self, uri: str) -> Any:
        return self._hadoop.Path(uri)

    def uri(self, *parts: str) -> str:
        """Return the full URI of a place below the root."""
        return "/".join([self.root, *parts])

    def exists(self, uri: str) -> bool:
        """Whether there is a file or directory."""
        with _reading(uri):
            return self._is_there(self._path(uri))

    def _is_there(self, path: Any) -> bool:
        """Whether there is a file, or a directory, which on an object store has a file in it.

        There a directory is but a name, and some stores (SeaweedFS) show it for minutes after its
        last object was deleted.
        """
        if not self._fs.exists(path):
            return False
        return not self._copies or bool(self._fs.listFiles(path, True).hasNext())

    def is_directory(self, uri: str) -> bool:
        """Whether there is a directory."""
        path = self._path(uri)
        with _reading(uri):
            return bool(self._fs.isDirectory(path)) and self._is_there(path)

    def names(self, uri: str) -> list[str]:
        """Return the names in a directory, sorted; none where there is no directory."""
        found = self._within(uri)
        with _reading(uri):
            if self._copies:
                found = [s for s in found if not s.isDirectory() or self._is_there(s.getPath())]
        return sorted(status.getPath().getName() for status in found)

    def _within(self, uri: str) -> list[Any]:
        """Return the status of each file in a directory; nothing where there is none."""
        path = self._path(uri)
        try:
            return list(self._fs.listStatus(path)) if self._fs.isDirectory(path) else []
        except Py4JJavaError as error:
            if "FileNotFoundException" in str(error):  # somebody has deleted it
                return []
            raise _refused("read", uri, error) from error

    def _tree(self, uri: str) -> Iterator[Any]:
        """Yield the status of each file and directory below a directory."""
        for status in self._within(uri):
            yield status
            if status.isDirectory():
                yield from self._tree(status.getPath().toString())

    def open(self, uri: str) -> BinaryIO:
        """Open a file to read it, also from its middle; FileNotFoundError where there is none."""
        if not self.exists(uri):
            raise FileNotFoundError(uri)
        path = self._path(uri)
        with _reading(uri):
            size = self._fs.getFileStatus(path).getLen()  # first: no stream stays open if it fails
            raw = HadoopStream(self._fs.open(path), size)
        return cast(BinaryIO, io.BufferedReader(raw, 2**20))

    def data_files(self, uri: str) -> list[File]:
        """Return the data files of a table with their checksums, in order of their paths."""
        found = []
        digest = self._jvm.org.apache.commons.codec.digest.DigestUtils
        base = len(uri.rstrip("/")) + 1
        for status in self._tree(uri):
            path = status.getPath()
            if status.isDirectory() or path.getName().startswith((".", "_")):
                continue
            check_stop()
            with _reading(path.toString()):
                stream = self._fs.open(path)
                try:
                    sha256 = str(digest.sha256Hex(stream))  # in the JVM: nothing is copied here
                finally:
                    stream.close()
            found.append(File(path=path.toString()[base:], bytes=status.getLen(), sha256=sha256))
        return sorted(found, key=lambda file: file.path)

    def modified(self, uri: str) -> float:
        """Return when a file or directory was written, in seconds since 1970."""
        with _reading(uri):
            return float(self._fs.getFileStatus(self._path(uri)).getModificationTime()) / 1000

    def size_and_age(self, uri: str) -> tuple[int, float]:
        """Return the bytes of a file or a tree, and the seconds since any of it was written."""
        try:
            every = [self._fs.getFileStatus(self._path(uri)), *self._tree(uri)]
        except Py4JJavaError as error:
            if "FileNotFoundException" in str(error):  # somebody has deleted it
                return 0, time.time()
            raise _refused("read", uri, error) from error
        files = [status for status in every if not status.isDirectory()]
        size = sum(status.getLen() for status in files)
        # What an object store calls a directory was always written just now.
        dated = files if self._copies else every
        newest = max((status.getModificationTime() for status in dated), default=0) / 1000
        return size, max(0.0, time.time() - newest)

    def read(self, uri: str) -> bytes:
        """Read a small file; FileNotFoundError where there is none.

        A file that is replaced meanwhile is read again: its blocks may be gone.
        """
        for pause in _PAUSES:
            try:
                return self._read(uri)
            except OutputError:
                check_stop()
                time.sleep(pause)
        return self._read(uri)

    def _read(self, uri: str) -> bytes:
        path = self._path(uri)
        if not self.exists(uri):
            raise FileNotFoundError(uri)
        with _reading(uri):
            stream = self._fs.open(path)
        try:
            return bytes(stream.readAllBytes())
        except Py4JError as error:  # a checksum of the file system's own does not fit
            raise UnreadableError(
                f"cannot read {uri}: {spark_reason(error)}; it is damaged, or none of the servers "
                "that have it answers"
            ) from error
        finally:
            stream.close()

    def replace(self, uri: str, content: bytes) -> None:
        """Write a small file, or a new content of it, in one step."""
        if self._copies:
            self._locks.check()
            return self.write(uri, content)
        beside, target = self._path(f"{uri}.{uuid.uuid4().hex[:8]}.tmp"), self._path(uri)
        with self._writing(uri):
            rename = getattr(self._hadoop, "Options$Rename")
            options = self._gateway.new_array(rename, 1)
            options[0] = rename.OVERWRITE
            try:
                stream = self._fs.create(beside, True)
                try:
                    stream.write(content)
                finally:
                    stream.close()
                stop_point(f"replacing {target.getName()}")
                self._locks.check()
                self._context.rename(beside, target, options)
            except BaseException:
                with suppress(Py4JError):
                    self._fs.delete(beside, False)
                raise

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
            moved = not self._is_there(new)
            self._locks.check()
            if moved and self._copies:
                self._move_parts(old, new)
            elif moved:
                moved = self._fs.rename(old, new)
        if not moved:
            raise OutputError(f"could not move {source} to {target}: there is something already")

    def _move_parts(self, old: Any, new: Any) -> None:
        """Move what is in a directory, its manifest last: without one it counts as unfinished."""
        names = sorted(self.names(old.toString()), key=lambda name: name == MANIFEST)
        self._fs.mkdirs(new)
        for name in names:
            source, target = self._hadoop.Path(old, name), self._hadoop.Path(new, name)
            if not self._fs.rename(source, target):
                raise OutputError(
                    f"could not move {source.toString()} to {target.toString()}; run again"
                )
        self._fs.delete(old, True)

    def check_move(self, staging: str, target: str) -> None:
        """Raise OutputError unless what is made in one directory can be moved into another."""
        if self._copies:  # directories are but names there
            probe_uri = f"{target}/{PROBE}{staging.rpartition('/')[2]}"
            self.write(probe_uri, b"")
            self.delete(probe_uri)
            return
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
            self._locks.check()
            if self._fs.isDirectory(path):
                self._fs.delete(self._hadoop.Path(path, MANIFEST), False)
            deleted = self._fs.delete(path, True) or not self._is_there(path)
        if not deleted:
            raise OutputError(f"could not delete {uri}; check its permissions, and run again")

    def remove_if_empty(self, uri: str) -> None:
        """Remove a directory in which nothing is; nothing happens where there is something."""
        if not self.is_directory(uri):
            return
        try:
            self._fs.delete(self._path(uri), False)  # in one step: it refuses what is not empty
        except Py4JJavaError as error:
            if not re.search("PathIsNotEmptyDirectory|non empty|not empty", str(error)):
                raise _refused("delete", uri, error) from error

    def is_locked(self, name: str) -> bool:
        """Whether a process holds a lock; the file of a lock that nobody holds is removed.

        On HDFS the lock of a killed process counts as held for a minute more.
        """
        if not self.exists(self.uri(LOCKS, name)):
            return False
        if isinstance(self._locks, LockFiles):
            return True
        try:
            with self.lock(name):
                return False
        except ConflictError:
            return True

    @contextmanager
    def lock(self, name: str, *, wait: float = 0.0) -> Iterator[None]:
        """Hold a lock that one process at a time can have; ConflictError after `wait` seconds."""
        uri = self.uri(LOCKS, name)
        with self._locks.hold(uri, wait):
            yield

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
