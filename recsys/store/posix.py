"""Small files, directories and locks under a root, on POSIX without Spark.

Everything that decides what readers see goes through here: writing a file whole, moving a directory
into its place, and holding a lock. Each class says what its store promises.
"""

import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from recsys.config.redaction import redact
from recsys.errors import ConfigError, ConflictError, OutputError
from recsys.runtime.signals import check_stop
from recsys.runtime.stop_points import stop_point
from recsys.store.checksums import local_files
from recsys.store.files import LOCKS, PROBE, local_path, path_text, scheme
from recsys.store.manifest import MANIFEST, File


def open_local(root: str | Path) -> "PosixFiles":
    """Open a local root without Spark.

    Raises:
        ConfigError: it is on another store, or no path.
    """
    root = path_text(root, "root")
    if scheme(root) != "file":
        raise ConfigError(f"root {redact(root)}: expected a local path, found another store")
    # Not resolve(): a root may be a link, and stays one.
    return PosixFiles(Path(os.path.abspath(local_path(root) or root)))  # noqa: PTH100


def refused(doing: str, path: Path, error: OSError) -> OutputError:
    """Return an error that says what the operating system refused, why, and what helps.

    Args:
        doing: a verb, such as `write`.
        path: what it was done with.
        error: what the operating system said.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free space there (recsys clean shows what nothing needs), or choose another root"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        user = f"this process runs as user id {os.geteuid()}"
        remedy = f"check its permissions ({user}), or choose another root"
    else:
        remedy = "check the root"
    return OutputError(f"cannot {doing} {path}: {error.strerror}; {remedy}")


def make_directory(path: Path) -> None:
    """Make a directory that may be there, also while others remove empty ones above it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        _make_directory(path)
    except OSError as error:
        raise refused("make", path, error) from error


def _make_directory(path: Path) -> None:
    for _ in range(100):
        # Another process may remove it between pathlib's two looks; it then reports a file.
        with suppress(FileNotFoundError, FileExistsError):
            path.mkdir(parents=True, exist_ok=True)
            return
    path.mkdir(parents=True, exist_ok=True)


def _is(path: Path) -> bool:
    """Whether there is anything, also a link to nothing."""
    return path.exists() or path.is_symlink()


def _unmoved(made: Path, above: Path, error: OSError) -> OutputError:
    if error.errno != errno.EXDEV:
        return refused("write to", above, error)
    return OutputError(
        f"{above} is on another file system than {made}, where all is made: it could not be moved "
        "there; make them parts of one mount, or choose a root that is"
    )


class PosixFiles:
    """A local directory.

    `os.replace` and `os.rename` are atomic for readers; what is replaced or moved is on the disk
    before it is seen. Locks are the kernel's (`flock`): they end with their process, however it
    ends. On NFS they hold between machines from version 4 on.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.root = f"file:{root}"

    def uri(self, *parts: str) -> str:
        """Return the full URI of a place below the root."""
        return "/".join([self.root.rstrip("/"), *parts])

    def path(self, uri: str) -> Path:
        """Return the local path of a place."""
        path = local_path(uri)
        assert path is not None  # noqa: S101 - places are made by uri()
        return path

    def exists(self, uri: str) -> bool:
        """Whether there is a file or directory."""
        try:
            return self.path(uri).exists()
        except OSError:  # a name too long, or a directory that must not be searched
            return False

    def is_directory(self, uri: str) -> bool:
        """Whether there is a directory."""
        return self.path(uri).is_dir()

    def names(self, uri: str) -> list[str]:
        """Return the names in a directory, sorted; none where there is no directory."""
        try:
            return sorted(path.name for path in self.path(uri).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise refused("read", self.path(uri), error) from error

    def open(self, uri: str) -> BinaryIO:
        """Open a file to read it, also from its middle; FileNotFoundError where there is none."""
        return self.path(uri).open("rb")

    def data_files(self, uri: str) -> list[File]:
        """Return the data files of a table with their checksums, in order of their paths."""
        return local_files(self.path(uri))

    def modified(self, uri: str) -> float:
        """Return when a file or directory was written, in seconds since 1970."""
        return self.path(uri).stat().st_mtime

    def size_and_age(self, uri: str) -> tuple[int, float]:
        """Return the bytes of a file or a tree, and the seconds since any of it was written."""
        size, newest, path = 0, 0.0, self.path(uri)
        with suppress(FileNotFoundError):  # the whole directory goes while it is looked at
            for one in chain([path], path.rglob("*")):
                with suppress(FileNotFoundError):  # somebody deletes it
                    about = one.lstat()
                    size += 0 if one.is_dir() else about.st_size
                    newest = max(newest, about.st_mtime)
        return size, max(0.0, time.time() - newest)

    def read(self, uri: str) -> bytes:
        """Read a small file; FileNotFoundError where there is none."""
        try:
            return self.path(uri).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise refused("read", self.path(uri), error) from error

    def replace(self, uri: str, content: bytes) -> None:
        """Write a small file, or a new content of it, in one step."""
        path = self.path(uri)
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            make_directory(path.parent)
            try:
                with beside.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                stop_point(f"replacing {path.name}")
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
            _sync(path.parent)
        except OSError as error:
            raise refused("write", path, error) from error

    def write(self, uri: str, content: bytes | memoryview) -> None:
        """Write a file that nobody reads before its directory is moved into its place."""
        path = self.path(uri)
        try:
            make_directory(path.parent)
            path.write_bytes(content)
        except OSError as error:
            raise refused("write", path, error) from error

    def move(self, source: str, target: str) -> None:
        """Move a directory to where nothing is yet, in one step."""
        old, new = self.path(source), self.path(target)
        try:
            for path in [old, *old.rglob("*")]:
                _sync(path)
            make_directory(new.parent)
            if new.exists():  # rename would silently replace an empty directory
                raise OutputError(f"could not move {old} to {new}: there is something already")
            old.rename(new)
            _sync(new.parent)
        except OSError as error:
            raise refused(f"move {old} to", new, error) from error

    def check_move(self, staging: str, target: str) -> None:
        """Raise OutputError unless what is made in one directory can be moved into another."""
        made, place = self.path(staging), self.path(target)
        probe = made / f"{PROBE}{made.name}"  # readers skip such a name
        try:
            probe.mkdir()
        except OSError as error:
            raise refused("write to", made, error) from error
        try:
            for left in reversed(range(100)):
                above = next(path for path in (place, *place.parents) if _is(path))
                try:
                    # Bind mounts are on one device, and still nothing can be moved between them.
                    probe.rename(above / probe.name)
                    (above / probe.name).rmdir()
                    return
                except FileNotFoundError as error:  # another process removes what is empty
                    if not left or above.is_symlink():
                        raise refused("write to", above, error) from error
                except OSError as error:
                    raise _unmoved(made, above, error) from error
        finally:
            with suppress(FileNotFoundError):  # it was moved
                probe.rmdir()

    def free_bytes(self) -> int | None:
        """Return how many bytes this process may still write below the root."""
        path = self._root
        try:
            about = os.statvfs(next(one for one in (path, *path.parents) if one.exists()))
        except OSError:
            return None
        return about.f_bavail * about.f_frsize

    def delete(self, uri: str) -> None:
        """Delete a file, or a directory with all below it; nothing happens where there is none."""
        path = self.path(uri)
        try:
            if path.is_dir() and not path.is_symlink():
                (path / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:  # another process has deleted it
            return
        except OSError as error:
            raise refused("delete", path, error) from error

    def remove_if_empty(self, uri: str) -> None:
        """Remove a directory in which nothing is; nothing happens where there is something."""
        with suppress(OSError):
            self.path(uri).rmdir()

    def is_locked(self, name: str) -> bool:
        """Whether a process holds a lock; the file of a lock that nobody holds is removed."""
        if not self.exists(self.uri(LOCKS, name)):
            return False
        try:
            with self.lock(name):
                return False
        except ConflictError:
            return True

    @contextmanager
    def lock(self, name: str, *, wait: float = 0.0) -> Iterator[None]:
        """Hold a lock that one process at a time can have; ConflictError after `wait` seconds."""
        path = self._root / LOCKS / name
        try:
            held = _acquire(path, wait)
        except OSError as error:
            raise refused("lock", path, error) from error
        try:
            with suppress(OSError):  # a full disk: who holds it is only told
                os.write(held, f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            with suppress(OSError):
                path.unlink()  # first, because a waiting process checks that it is there
            os.close(held)
            with suppress(OSError):  # others hold locks
                path.parent.rmdir()


def _acquire(path: Path, wait: float) -> int:
    deadline = time.monotonic() + wait
    while True:
        make_directory(path.parent)
        try:
            opened = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        except FileNotFoundError:  # whoever released the last lock removed the directory
            continue
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its holder may have removed the file that was opened here, and another made a new one.
            if path.exists() and os.fstat(opened).st_ino == path.stat().st_ino:
                os.ftruncate(opened, 0)
                return opened
            os.close(opened)
            continue
        except BlockingIOError:
            holder = os.read(opened, 200).decode(errors="replace")
            os.close(opened)
        except FileNotFoundError:
            os.close(opened)
            continue
        check_stop()
        if time.monotonic() >= deadline:
            raise ConflictError(
                f"{path.name} is held by {holder or 'another process'}; wait for it to end and run "
                f"again ({path})"
            )
        time.sleep(0.05)


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
