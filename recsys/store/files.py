"""Small files, directories and locks below a root: what every store promises."""

import hashlib
import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from recsys.config.redaction import redact
from recsys.errors import ConfigError
from recsys.store.manifest import File

LOCKS = "_locks"
RUNS = "runs"
STAGING = "_staging"
PROBE = "_probe-"  # how an empty directory is called that is moved to see whether it can be


class Files(Protocol):
    """A root; places below it are its URIs, made of names that the callers have checked."""

    root: str

    def uri(self, *parts: str) -> str:
        """Return the full URI of a place below the root."""

    def exists(self, uri: str) -> bool:
        """Whether there is a file or directory."""

    def is_directory(self, uri: str) -> bool:
        """Whether there is a directory."""

    def names(self, uri: str) -> list[str]:
        """Return the names in a directory, sorted; none where there is no directory."""

    def open(self, uri: str) -> BinaryIO:
        """Open a file to read it, also from its middle; FileNotFoundError where there is none."""

    def data_files(self, uri: str) -> list[File]:
        """Return the data files of a table with their checksums, in order of their paths.

        Spark reads every file whose name does not begin with a dot or an underscore; so these
        count.
        """

    def modified(self, uri: str) -> float:
        """Return when a file or directory was written, in seconds since 1970."""

    def size_and_age(self, uri: str) -> tuple[int, float]:
        """Return the bytes of a file or a tree, and the seconds since any of it was written."""

    def read(self, uri: str) -> bytes:
        """Read a small file.

        Raises:
            FileNotFoundError: there is none.
            UnreadableError: it is there, and damaged.
            OutputError: the store refuses.
        """

    def replace(self, uri: str, content: bytes) -> None:
        """Write a small file, or a new content of it, in one step."""

    def write(self, uri: str, content: bytes | memoryview) -> None:
        """Write a file that nobody reads before its directory is moved into its place."""

    def move(self, source: str, target: str) -> None:
        """Move a directory to where nothing is yet, in one step."""

    def check_move(self, staging: str, target: str) -> None:
        """Raise OutputError unless what is made in one directory can be moved into another.

        It is tried with an empty directory, of which nothing stays. A root may be made of several
        file systems, and then nothing could be moved into its place once it is made.

        Args:
            staging: a directory that is there.
            target: a directory; where it is not there yet, the nearest one above it counts.
        """

    def free_bytes(self) -> int | None:
        """Return how many bytes this process may still write below the root; None: not known."""

    def delete(self, uri: str) -> None:
        """Delete a file, or a directory with all below it; nothing happens where there is none.

        A manifest in the directory goes first, so that no part is ever taken for the whole.
        """

    def remove_if_empty(self, uri: str) -> None:
        """Remove a directory in which nothing is; nothing happens where there is something."""

    def is_locked(self, name: str) -> bool:
        """Whether a process holds a lock; the file of a lock that nobody holds is removed."""

    def lock(self, name: str, *, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold a lock that one process at a time can have; ConflictError after `wait` seconds."""


def read_json(files: Files, uri: str) -> Any:
    """Read a small JSON file.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError, ValueError: it is damaged, or not JSON.
    """
    return json.loads(files.read(uri).decode("utf-8"))


def write_json(files: Files, uri: str, value: Any) -> str:
    """Write a small JSON file in one step, and return its SHA-256."""
    content = json.dumps(value, indent=2, ensure_ascii=False, default=str).encode()
    files.replace(uri, content)
    return hashlib.sha256(content).hexdigest()


def scheme(uri: str, default: str = "file") -> str:
    """Return the scheme of a URI, or a default where it has none."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", uri)
    return found[1].lower() if found else default


def local_path(uri: str) -> Path | None:
    """Return the local path of a `file:` URI, or None where it is anything else.

    Hadoop writes paths as they are: `%20` in one is three characters.
    """
    path = uri.removeprefix("file:")
    return None if path == uri else Path("/" + path.lstrip("/"))


def shown(uri: str) -> str:
    """Return a place as people write it: a local one as a path."""
    path = local_path(uri)
    return uri if path is None else str(path)


def path_text(path: object, key: str) -> str:
    """Return a path or a URI that a caller gave, as text or as a `Path`.

    Args:
        path: what was given.
        key: where, for the message.

    Raises:
        ConfigError: it is neither.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        found = f"{str(path)[:60]!r} ({type(path).__name__})"
        raise ConfigError(f"{key}: found {found}, expected a path, as text or as a Path")
    return text


def require_local(path: str | Path, key: str) -> Path:
    """Return a local path that is written as a path or as a `file:` URI.

    Args:
        path: the path.
        key: where it was given, for the message.

    Raises:
        ConfigError: it is on another store, or no path.
    """
    text = path_text(path, key)
    plain = re.sub(r"^file:(//(?=/))?", "", text)
    if plain.startswith("//") or scheme(plain) != "file":
        raise ConfigError(
            f"{key}: found {redact(text)}, expected a local path: this is read without Spark; "
            "copy it to this machine"
        )
    return Path(plain)
