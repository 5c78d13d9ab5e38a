"""Which files are looked at, and a sample of the bytes of each."""

import bz2
import gzip
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from recsys.errors import InputError
from recsys.store.files import scheme

# Files up to this size are read in whole. Of larger ones the beginning and pieces from all over are
# read: a file that is sorted by item has few items at its beginning.
MOST_BYTES = 32 * 2**20
_PIECE = 2**20

_TEXT = (".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".data", ".item", ".user", ".base")
_DATA = (*_TEXT, ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".orc")
_PACKED = {".gz": gzip.open, ".bz2": bz2.open}
_NO_DATA = ("readme", "license", "licence", "copying", "description", "requirements", "changelog")
# Beside the files that were named: so many of the smallest, and so much of each.
_MOST_BESIDE = 12
MOST_BYTES_BESIDE = 8 * 2**20

# What files begin with that Spark cannot read, and what to do about it.
_OTHERS = {
    b"PK\x03\x04": "an archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; save the sheet as CSV",
    b"SQLite format 3": "a database; write the table to CSV or Parquet",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"7z\xbc\xaf": "an archive; unpack it",
    b"\x89HDF": "an HDF5 file; write the table to CSV or Parquet",
}


@dataclass(frozen=True)
class Sample:
    """Some bytes of a file.

    Attributes:
        content: whole lines, those at the beginning of the file first.
        whole: whether this is all of it.
        share: how much of the file it is, about, from 0 to 1.
    """

    content: bytes
    whole: bool
    share: float


def stem(path: Path) -> str:
    """Return the name of a file without what says how it is packed and written."""
    name = path.name
    for suffix in (*_PACKED, *_DATA):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name or path.name


def given(names: Sequence[str]) -> list[str]:
    """Return the files that were named; of a folder, the files with data in it.

    A folder into which Spark has written a table stays one.

    Raises:
        InputError: one is not there, or a folder has no data.
    """
    found: list[str] = []
    for name in names:
        if scheme(name) != "file":
            raise InputError(
                f"{name}: found an address, expected a file on this machine; copy some of it here, "
                "and set input.path in the configuration that is written"
            )
        path = Path(re.sub(r"^file:(//(?=/))?", "", name))
        if not path.exists():
            raise InputError(f"{name}: there is no such file; check the path")
        if path.is_dir() and not parts(path):
            inside = [str(one) for one in _data_files(path)]
            if not inside:
                raise InputError(f"{name}: found no data in this folder; name the files")
            found += inside
        else:
            found.append(str(path))
    return list(dict.fromkeys(found))


def parts(path: Path) -> list[Path]:
    """Return the parts of a table that Spark or the like has written, without empty ones."""
    if not path.is_dir():
        return []
    inside = [one for one in sorted(path.iterdir()) if not one.name.startswith(("_", "."))]
    if any(one.is_dir() or not one.name.startswith("part-") for one in inside):
        return []
    return [one for one in inside if one.stat().st_size]


def beside(names: Sequence[str]) -> list[str]:
    """Return the files with data in the folders of these, without these."""
    known = {Path(name).resolve() for name in names}
    folders = dict.fromkeys(Path(name).parent for name in names)
    found: list[Path] = []
    for folder in folders:
        with suppress(OSError):  # it cannot be listed
            found += [path for path in _data_files(folder) if path.resolve() not in known]
    found.sort(key=lambda path: path.stat().st_size)
    return [str(path) for path in found[:_MOST_BESIDE]]


def _data_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        if path.name.startswith((".", "_")) or name.startswith(_NO_DATA):
            continue
        for suffix in _PACKED:
            name = name.removesuffix(suffix)
        if name.endswith(_DATA) and path.is_file() and path.stat().st_size:
            yield path


def unpacked_size(path: Path, sample: Sample) -> int:
    """Return about how many bytes a file has when it is unpacked."""
    return math.ceil(len(sample.content) / max(sample.share, 1e-9))


def read_sample(path: Path, most: int | None = None) -> Sample:
    """Read some bytes of a file of text, which may be packed.

    Args:
        path: the file.
        most: how many bytes; None: MOST_BYTES.

    Raises:
        InputError: it is empty, or of a kind that Spark does not read.
    """
    try:
        with path.open("rb") as file:
            first = file.read(16)
        for begins, what in _OTHERS.items():
            if first.startswith(begins):
                raise InputError(f"{path}: this is {what}")
        pack = _PACKED.get(path.suffix.lower())
        if pack is None and first.startswith((b"\x1f\x8b", b"BZh")):
            raise InputError(f"{path}: this is packed; rename it to end in .gz or .bz2")
        most = most or MOST_BYTES
        sample = _plain(path, most) if pack is None else _packed(path, pack, most)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the file") from error
    if not sample.content.strip():
        raise InputError(f"{path}: the file is empty; check that whatever writes it has finished")
    return sample


def _plain(path: Path, most: int) -> Sample:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= most:
            return Sample(file.read(), whole=True, share=1.0)
        n = max(most // _PIECE, 1)
        pieces = [_whole_lines(file.read(_PIECE))]
        for at in range(1, n):
            file.seek(size * at // n)
            # The first line of a piece is the end of one.
            pieces.append(_whole_lines(file.read(_PIECE)).partition(b"\n")[2])
    content = b"".join(pieces)
    return Sample(content, whole=False, share=len(content) / size)


def _packed(path: Path, pack: object, most: int) -> Sample:
    size = path.stat().st_size
    with path.open("rb") as raw:
        unpacked: IO[bytes] = pack(raw, "rb")  # type: ignore[operator]
        with unpacked:
            content = unpacked.read(most)
            if not unpacked.read(1):
                return Sample(content, whole=True, share=1.0)
            return Sample(_whole_lines(content), whole=False, share=raw.tell() / size)


def _whole_lines(content: bytes) -> bytes:
    end = content.rfind(b"\n")
    return content if end < 0 else content[: end + 1]
