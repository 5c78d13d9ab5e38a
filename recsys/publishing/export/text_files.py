"""Exports as text: CSV and JSON Lines.

A spreadsheet takes text that begins with `=`, `+`, `-` or `@` for a formula, also within quotes. In
CSV such text gets an apostrophe in front (https://owasp.org/www-community/attacks/CSV_Injection).
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from recsys.publishing.export.rows import Rows

# Spaces may stand before the sign, and it may be one of the wide forms of East Asian text.
_FORMULA = r"^(\s*[=+\-@＝＋－＠]|[\t\r\n])"  # noqa: RUF001 - the wide forms are meant


def write_csv(rows: Rows, path: Path, *, packed: bool, guarded: bool) -> None:
    """Write UTF-8 CSV with a header, text in quotes, and nothing for null.

    Args:
        rows: what to write; arrays become JSON.
        path: a file that is not there.
        packed: with gzip.
        guarded: whether text that a spreadsheet takes for a formula gets an apostrophe.
    """
    text = {field.name for field in rows.schema if pa.types.is_string(field.type)}
    lists = {field.name for field in rows.schema if pa.types.is_list(field.type)}
    schema = pa.schema(
        [pa.field(f.name, pa.string() if f.name in lists else f.type) for f in rows.schema]
    )
    with (
        pa.output_stream(str(path), compression="gzip" if packed else None) as stream,
        pa_csv.CSVWriter(stream, schema) as writer,
    ):
        for batch in rows.batches():
            columns = {name: batch.column(name) for name in batch.column_names}
            for name in lists:
                values = plain(columns[name])
                columns[name] = pa.array([as_json(value) for value in values], pa.string())
            for name in text if guarded else ():
                columns[name] = guard(columns[name])
            writer.write(pa.table(columns, schema=schema))


def guard(text: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would take for a formula."""
    formula = pc.match_substring_regex(text, _FORMULA)
    return pc.if_else(formula, pc.binary_join_element_wise("'", text, ""), text)


def write_json(rows: Rows, path: Path, *, packed: bool) -> None:
    """Write UTF-8 JSON Lines: an object for each row, every column in it.

    Args:
        rows: what to write.
        path: a file that is not there.
        packed: with gzip.
    """
    with pa.output_stream(str(path), compression="gzip" if packed else None) as stream:
        for batch in rows.batches():
            for record in records(batch):
                stream.write((as_json(record) + "\n").encode())


def records(batch: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield rows as plain values: numbers, text, lists, and days and times as ISO 8601 text."""
    columns = [plain(batch.column(name)) for name in batch.column_names]
    for row in zip(*columns, strict=True):
        yield dict(zip(batch.column_names, row, strict=True))


def plain(column: Any) -> list[Any]:
    """Return a column as plain values, with days and times as ISO 8601 text."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        values = column.to_pylist()
        return [None if value is None else value.isoformat() for value in values]
    if pa.types.is_float32(kind):
        return short_floats(column)
    if pa.types.is_list(kind) and pa.types.is_float32(kind.value_type):
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        values, starts = short_floats(whole.flatten()), whole.offsets.to_pylist()
        first = starts[0]
        return [values[a - first : b - first] for a, b in pairwise(starts)]
    found: list[Any] = column.to_pylist()
    return found


def short_floats(column: Any) -> list[float | None]:
    """Return 32-bit floats with as many digits as tell them apart from others."""
    texts = pc.cast(column, pa.string()).to_pylist()
    return [None if text is None else float(text) for text in texts]


def as_json(value: Any) -> str:
    """Return a value as JSON in one line."""
    return json.dumps(value, ensure_ascii=False)
