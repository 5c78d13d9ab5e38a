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
    """Return the size of the input's files; None where they are not local or none are named."""
    if not source.paths or any(scheme(path) != "file" for path in source.paths):
        return None
    return sum(_size(file) for file in _files(source))


def input_rows(source: Input) -> int | None:
    """Return about how many rows the input has; None where its files do not say that.

    Parquet files say it exactly. The lines of other files are counted in the first one's beginning.
    """
    files = [] if input_bytes(source) is None else [file for file in _files(source) if _size(file)]
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


def _files(source: Input) -> Iterator[Path]:
    """Yield the files; what Spark would not read, such as `_SUCCESS`, is left out."""
    for path in source.paths:
        place = Path(path.removeprefix("file://").removeprefix("file:")).absolute()
        pattern = str(place.relative_to(place.anchor))
        top = [place] if place.exists() else Path(place.anchor).glob(pattern)
        for found in sorted(top):
            for file in [found] if found.is_file() else sorted(found.rglob("*")):
                if file.is_file() and file.name[0] not in "._":
                    yield file


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
