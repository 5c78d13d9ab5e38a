"""The files of a table, and whether they are still those that its manifest names."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys.config.configuration import digest
from recsys.errors import ModelError, RecsysError

MANIFEST = "manifest.json"
SEAL = "sha256"


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as JSON values, with the SHA-256 of all else that it says."""
    plain: dict[str, Any] = json.loads(json.dumps(manifest, default=str))
    plain.pop(SEAL, None)  # of what it said before
    return {**plain, SEAL: digest(plain)}


def is_sealed(manifest: Any) -> bool:
    """Whether a manifest says what it said when it was sealed."""
    if not isinstance(manifest, Mapping) or SEAL not in manifest:
        return False
    return bool(digest({k: v for k, v in manifest.items() if k != SEAL}) == manifest[SEAL])


def local_files(folder: Path) -> list[dict[str, Any]]:
    """Return path, size in bytes and SHA-256 of each file of a table in a local directory.

    That is all that a reader might take for one of the table: Spark reads whatever its name, unless
    that begins with a dot or an underscore.
    """
    return [
        {
            "path": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith((".", "_"))
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compare_files(
    owner: str,
    table: str,
    expected: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    *,
    error: type[RecsysError] = ModelError,
    advice: str = "train it again",
) -> None:
    """Compare the files of a table with what its manifest says.

    Raises:
        RecsysError: of the kind `error`: a file is missing, damaged or not named in the manifest;
            the message names it.
    """
    present = {file["path"]: file for file in found}
    for file in expected:
        name = f"{table}/{file['path']}"
        other = present.pop(file["path"], None)
        if other is None:
            raise error(f"{owner} is incomplete: {name} is missing; {advice}")
        if other["bytes"] != file["bytes"]:
            raise error(
                f"{owner} is damaged: {name} has {other['bytes']} bytes, its manifest says "
                f"{file['bytes']}; {advice}"
            )
        if other["sha256"] != file["sha256"]:
            raise error(
                f"{owner} is damaged: the SHA-256 of {name} is not the manifest's; {advice}"
            )
    if present:
        raise error(
            f"{owner} has a file that its manifest does not name: {table}/{min(present)}; remove "
            f"it, or {advice}"
        )
