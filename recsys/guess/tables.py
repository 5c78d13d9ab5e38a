"""Any file as a table of which some rows were read."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from recsys.errors import InputError
from recsys.guess import columns, samples, sql, text
from recsys.guess.columns import Column

_MOST_ROWS = 2_000_000
_MOST_DOCUMENTS = 100_000
_PARQUET, _ORC = b"PAR1", b"ORC"


@dataclass(frozen=True)
class Table:
    """A file, or several that are written alike, and what some of its rows look like.

    Attributes:
        paths: where it is, as they were given.
        format: as in `input.format`; `text` where lines have different numbers of values.
        options: of Spark's reader.
        rows: some rows; without columns where the format is `text`.
        columns: what the columns look like, by their names, in the order of the file.
        lines: some lines of a file of text.
        about: how many rows there are in all, about.
        whole: whether `rows` are all.
        size: how many bytes there are in all, unpacked, about.
        malformed: the share of lines that have too many or too few values.
        unsure: what was guessed and may be wrong.
    """

    paths: tuple[str, ...]
    format: Literal["csv", "json", "parquet", "orc", "text"]
    options: dict[str, str | bool]
    rows: pa.Table
    columns: dict[str, Column]
    lines: list[str]
    about: int
    whole: bool
    size: int
    malformed: float = 0.0
    unsure: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the path, or the first of them, for people."""
        return self.paths[0] if len(self.paths) == 1 else f"{self.paths[0]} and others"

    @property
    def headless(self) -> bool:
        """Whether the columns have no names of their own."""
        return self.format == "csv" and "header" not in self.options

    def sql(self, name: str) -> str:
        """Return the name of a column, or of a field of one, for a query."""
        return sql.whole_name(name) if name in self.rows.column_names else sql.name(name)

    def values(self, name: str) -> pa.ChunkedArray:
        """Return the values of a column, or of a field of one, in `rows`."""
        if name in self.rows.column_names:
            return self.rows.column(name)
        flat = self.rows
        while name not in flat.column_names:
            flat = flat.flatten()
        return flat.column(name)


def open_table(name: str, most: int | None = None) -> Table:
    """Look at a file, or at a folder of parts that Spark has written.

    Args:
        name: its path.
        most: how many bytes of text are read; None: samples.MOST_BYTES.

    Raises:
        InputError: it cannot be read.
    """
    path = Path(name)
    found: Table
    try:
        parts = samples.parts(path) or [path]
        with parts[0].open("rb") as file:
            first = file.read(4)
        if first == _PARQUET:
            found = _parquet(name, parts)
        elif first.startswith(_ORC):
            found = _orc(name, parts)
        else:
            found = _text(name, parts[0], most)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: cannot be read ({reason}); check the file") from error
    if len(parts) > 1 and found.format not in ("parquet", "orc"):
        share = parts[0].stat().st_size / sum(part.stat().st_size for part in parts)
        about, size = int(found.about / share), int(found.size / share)
        found = replace(found, about=about, size=size, whole=False)
    return found


def together(tables: Sequence[Table]) -> list[Table]:
    """Make one table of those that are written alike and have the same columns."""
    groups: dict[str, list[Table]] = {}
    for n, table in enumerate(tables):
        names = [(one.name, one.kind) for one in table.columns.values()]
        alike = f"{table.format} {table.options} {names}" if names else str(n)
        groups.setdefault(alike, []).append(table)
    return [_joined(group) for group in groups.values()]


def _joined(group: Sequence[Table]) -> Table:
    first = group[0]
    if len(group) == 1:
        return first
    rows = pa.concat_tables([one.rows for one in group], promote_options="permissive")
    return replace(
        first,
        paths=tuple(path for one in group for path in one.paths),
        rows=rows,
        columns=columns.look(rows),
        about=sum(one.about for one in group),
        whole=all(one.whole for one in group),
        size=sum(one.size for one in group),
        malformed=max(one.malformed for one in group),
    )


def _parquet(name: str, parts: list[Path]) -> Table:
    files = [pq.ParquetFile(part) for part in parts]
    about = sum(file.metadata.num_rows for file in files)
    if about == 0:
        raise InputError(f"{name}: the table has no rows; check that its writer has finished")
    groups = [(file, n) for file in files for n in range(file.num_row_groups)]
    if about <= _MOST_ROWS:
        rows = pa.concat_tables([file.read() for file in files], promote_options="permissive")
    else:
        each = max(file.metadata.row_group(n).num_rows for file, n in groups)
        n_groups = max(1, min(len(groups), _MOST_ROWS // max(each, 1)))
        chosen = [groups[int(at)] for at in np.linspace(0, len(groups) - 1, n_groups)]
        batches = [batch for file, n in chosen for batch in _batches(file, n, n_groups)]
        rows = pa.Table.from_batches(batches)
    size = sum(part.stat().st_size for part in parts)
    looked = columns.look(rows)
    return Table((name,), "parquet", {}, rows, looked, [], about, rows.num_rows == about, size)


def _batches(file: pq.ParquetFile, group: int, n_groups: int) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in file.iter_batches(65_536, row_groups=[group]):
        yield batch
        rows += batch.num_rows
        if rows >= _MOST_ROWS // n_groups:
            return


def _orc(name: str, parts: list[Path]) -> Table:
    files = [orc.ORCFile(part) for part in parts]
    about = sum(file.nrows for file in files)
    if about == 0:
        raise InputError(f"{name}: the table has no rows; check that its writer has finished")
    rows = files[0].read() if about <= _MOST_ROWS else pa.table(files[0].read_stripe(0))
    size = sum(part.stat().st_size for part in parts)
    looked = columns.look(rows)
    return Table((name,), "orc", {}, rows, looked, [], about, rows.num_rows == about, size)


def _text(name: str, path: Path, most: int | None) -> Table:
    sample = samples.read_sample(path, most)
    decoded, encoding = text.decode(sample.content, name)
    size = samples.unpacked_size(path, sample)
    if decoded.lstrip()[:1] in ("{", "["):
        found = _json(name, decoded, whole=sample.whole, size=size)
        if found is not None:
            return found
    layout = text.sniff(decoded, encoding)
    unsure = list(layout.unsure)
    lines = text.some_lines(decoded)
    n_lines = decoded.count("\n") + (not decoded.endswith("\n"))
    about = round(n_lines / sample.share)
    if layout.separator is None:
        return Table(
            (name,), "text", {}, pa.table({}), {}, lines, about, sample.whole, size, unsure=unsure
        )
    rows, wrong = text.read_table(decoded, layout, name)
    rows, mark = text.without_marks(rows)
    options = {**layout.options, **({} if mark is None else {"nullValue": mark})}
    about = round((rows.num_rows + wrong) / sample.share)
    return Table(
        (name,), "csv", options, rows, columns.look(rows), lines, about, sample.whole, size,
        malformed=wrong / max(rows.num_rows + wrong, 1), unsure=unsure,
    )  # fmt: skip


def _json(name: str, decoded: str, *, whole: bool, size: int) -> Table | None:
    """Return JSON as a table; None where it is none."""
    options: dict[str, str | bool] = {}
    lines = [line for line in decoded.splitlines() if line.strip()]
    documents = _documents(lines[:_MOST_DOCUMENTS])
    about = len(lines)
    read_all = whole and len(lines) <= _MOST_DOCUMENTS
    if documents is None:
        if not whole:
            return None
        try:
            made = json.loads(decoded)
        except ValueError:
            return None
        documents = made if isinstance(made, list) else [made]
        options, about = {"multiLine": True}, len(documents)
    documents = [one for one in documents if isinstance(one, dict)]
    if not documents:
        return None
    rows = _from_documents(documents)
    if about > len(documents) and not options:  # pieces of a large file
        about = len(documents) * max(about // max(len(documents), 1), 1)
    share = 1.0 if whole else len(decoded.encode()) / max(size, 1)
    looked = columns.look(rows)
    about = round(about / max(share, 1e-9))
    return Table((name,), "json", options, rows, looked, [], about, read_all, size)


def _documents(lines: Sequence[str]) -> list[Any] | None:
    """Return the documents of lines; None where few lines are some."""
    found: list[Any] = []
    failed = 0
    for line in lines:
        try:
            made = json.loads(line)
        except ValueError:
            failed += 1
            if failed > 10 and failed > len(found):
                return None
            continue
        found += made if isinstance(made, list) else [made]
    return found if found and failed <= len(found) // 10 else None


def _from_documents(documents: list[dict[str, Any]]) -> pa.Table:
    names = Counter(key for one in documents for key in one)
    made = {}
    for key in names:
        values = [one.get(key) for one in documents]
        try:
            made[key] = pa.array(values)
        except pa.ArrowException:  # of several types; Spark takes them for text as well
            made[key] = pa.array([None if one is None else str(one) for one in values])
    return pa.table(made)
