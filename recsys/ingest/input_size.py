"""How large the input is, by its files alone: nothing is read in whole, and Spark is not needed."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config.sections import Input
from recsys.store.files import scheme

_SAMPLE = 2**20  # bytes of the first file, to see how long its lines are
_LINES = ("csv", "json")
# Of text in these, the size says little about the number of lines.
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".snappy", ".deflate", ".zip")


def input_bytes(source: Input) -> int | None:
    """Return the size of the input's files; None where they are not local or none are found."""
    files = _files(source)
    return None if files is None else sum(map(_size, files))


def input_rows(source: Input) -> int | None:
    """Return about how many rows the input has; None where its files do not say that.

    Parquet files say it exactly. The lines of other files are counted in the first one's beginning.
    """
    files = [file for file in _files(source) or () if _size(file)]
    try:
        if source.format == "parquet":
            return sum(pq.read_metadata(file).num_rows for file in files) if files else None
        if source.format not in _LINES or any(file.suffix in _COMPRESSED for file in files):
            return None
        with files[0].open("rb") as file:
            sample = file.read(_SAMPLE)
    except (OSError, IndexError, pa.ArrowException):  # the run itself says what is wrong with it
        return None
    lines = max(1, sample.count(b"\n")) / len(sample) * sum(map(_size, files))
    headers = len(files) if source.option("header") == "true" else 0
    return max(0, round(lines) - headers)


def _files(source: Input) -> list[Path] | None:
    """Return the files; None where they are not local, or a path or pattern finds nothing.

    Spark's patterns are not quite those of Python: what is refused here may be right there.
    """
    if not source.paths or any(scheme(path) != "file" for path in source.paths):
        return None
    try:
        found = [list(_below(path)) for path in source.paths]
    except (OSError, ValueError, NotImplementedError):
        return None
    return [file for files in found for file in files] if all(found) else None


def _below(path: str) -> Iterator[Path]:
    """Yield the files of a path; what Spark would not read, such as `_SUCCESS`, is left out."""
    place = Path(path.removeprefix("file://").removeprefix("file:")).absolute()
    pattern = str(place.relative_to(place.anchor))
    top = [place] if place.exists() else Path(place.anchor).glob(pattern)
    for found in sorted(top):
        for file in [found] if found.is_file() else sorted(found.rglob("*")):
            names = file.relative_to(found).parts or (file.name,)
            if file.is_file() and not any(map(_is_hidden, names)):
                yield file


def _is_hidden(name: str) -> bool:
    """Whether Spark leaves out a file or a directory: `_day=1` would be a column."""
    return name[0] == "." or (name[0] == "_" and "=" not in name)


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
