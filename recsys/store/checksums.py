"""The files of a table, and whether they are still those that its manifest names."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from recsys.errors import ModelError, RecsysError
from recsys.runtime.signals import check_stop
from recsys.store.manifest import File


def local_files(folder: Path) -> list[File]:
    """Return the data files of a table in a local directory, in order of their paths.

    Spark reads every file whose name does not begin with a dot or an underscore; so these count.
    """
    return [
        File(
            path=path.relative_to(folder).as_posix(),
            bytes=path.stat().st_size,
            sha256=_sha256(path),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith((".", "_"))
    ]


def _sha256(path: Path) -> str:
    check_stop()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compare_files(
    owner: str,
    table: str,
    expected: Sequence[File],
    found: Sequence[File],
    *,
    error: type[RecsysError] = ModelError,
    advice: str = "train it again",
) -> None:
    """Compare the files of a table with what its manifest says.

    Raises:
        RecsysError: of the kind `error`: a file is missing, damaged or not named in the manifest;
            the message names it.
    """
    present = {file.path: file for file in found}
    for file in expected:
        name = f"{table}/{file.path}"
        other = present.pop(file.path, None)
        if other is None:
            raise error(f"{owner} is incomplete: {name} is missing; {advice}")
        if other.bytes != file.bytes:
            raise error(
                f"{owner} is damaged: {name} has {other.bytes} bytes, its manifest says "
                f"{file.bytes}; {advice}"
            )
        if other.sha256 != file.sha256:
            raise error(
                f"{owner} is damaged: the SHA-256 of {name} is not the manifest's; {advice}"
            )
    if present:
        raise error(
            f"{owner} has a file that its manifest does not name: {table}/{min(present)}; remove "
            f"it, or {advice}"
        )
