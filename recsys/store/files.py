"""Small files, directories and locks below a root: what every store promises."""

import hashlib
import json
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

LOCKS = "_locks"


RUNS = "runs"


STAGING = "_staging"


class Files(Protocol):
    """A root; places below it are its URIs, made of names that the callers have checked."""

    root: str

    def uri(self, *parts: str) -> str:
        """Return the full URI of a place below the root."""

    def exists(self, uri: str) -> bool:
        """Whether there is a file or directory."""

    def names(self, uri: str) -> list[str]:
        """Return the names in a directory, sorted; none where there is no directory."""

    def read(self, uri: str) -> bytes:
        """Read a small file; FileNotFoundError where there is none."""

    def replace(self, uri: str, content: bytes) -> None:
        """Write a small file, or a new content of it, in one step."""

    def move(self, source: str, target: str) -> None:
        """Move a directory to where nothing is yet, in one step."""

    def delete(self, uri: str) -> None:
        """Delete a file, or a directory with all below it; nothing happens where there is none."""

    def lock(self, name: str, *, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold a lock that one process at a time can have; ConflictError after `wait` seconds."""


def read_json(files: Files, uri: str) -> Any:
    """Read a small JSON file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON.
    """
    return json.loads(files.read(uri).decode("utf-8"))


def write_json(files: Files, uri: str, value: Any) -> str:
    """Write a small JSON file in one step, and return its SHA-256."""
    content = json.dumps(value, indent=2, ensure_ascii=False, default=str).encode()
    files.replace(uri, content)
    return hashlib.sha256(content).hexdigest()


def local_path(uri: str) -> Path | None:
    """Return the local path of a URI, or None where it is elsewhere.

    Hadoop writes paths as they are: `%20` in one is three characters.
    """
    path = uri.removeprefix("file:")
    return None if path == uri else Path("/" + path.lstrip("/"))


def scheme(root: str) -> str:
    """Return the scheme of a root; `file` where it has none."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", root)
    return found[1].lower() if found else "file"
