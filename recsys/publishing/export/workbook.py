"""Exports as a workbook for spreadsheets. Text stays text there: none becomes a formula or a link.

A spreadsheet keeps 15 digits of a number, so columns with larger ids are written as text.
"""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import GENERATED_AT
from recsys.errors import ConfigError, OutputError
from recsys.publishing.export.rows import Rows
from recsys.publishing.export.text_files import as_json, plain, short_floats

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

MOST_ROWS = 2**20 - 1  # beside the header
_MOST_TEXT = 32_767
_MOST_DIGITS = 10**15
_LEAST, _WIDEST = 9, 60  # widths of columns in characters


def check_installed() -> None:
    """Refuse to write a workbook where XlsxWriter is missing.

    Raises:
        ConfigError: it is; the message says what to install.
    """
    try:
        import xlsxwriter  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--format xlsx needs the module {error.name}, which is not installed; install this "
            "package with the extra export: pip install 'recsys-batch[export]'"
        ) from error


def write_workbook(rows: Rows, path: Path) -> None:
    """Write a workbook with one sheet, `recommendations`.

    Args:
        rows: what to write; arrays become JSON.
        path: a file that is not there.

    Raises:
        OutputError: a sheet cannot hold so many rows, or so long a text.
        OSError: the system refuses the file.
    """
    check_installed()
    from xlsxwriter import Workbook
    from xlsxwriter.exceptions import FileCreateError

    if len(rows) > MOST_ROWS:
        raise OutputError(
            f"--format xlsx: found {len(rows):,} rows, and a sheet holds {MOST_ROWS:,}; choose "
            "csv, --per user or a smaller cohort"
        )
    # Row by row: a whole sheet in memory would take about a kilobyte a row.
    settings = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    # Not the present, so that the same version gives the same bytes.
    made_at = rows.same[GENERATED_AT].as_py()
    created = None if made_at is None else made_at.replace(tzinfo=None)
    try:
        with Workbook(str(path), settings) as book:
            book.set_properties({"created": created})
            _write_sheet(book, book.add_worksheet("recommendations"), rows)
    except FileCreateError as error:  # which is no OSError, and has one in it
        (reason,) = error.args
        raise reason from None


def _write_sheet(book: "Workbook", sheet: "Worksheet", rows: Rows) -> None:
    bold = book.add_format({"bold": True})
    day, time = (
        book.add_format({"num_format": text}) for text in ("yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss")
    )
    formats = {"date32[day]": day, "timestamp[us, tz=UTC]": time}
    as_text = _as_text(rows)
    batches = rows.batches()
    first = next(batches, None)
    sheet.freeze_panes(1, 0)
    for at, field in enumerate(rows.schema):
        cells = [] if first is None else _cells(first.column(at).slice(0, 200), as_text[at])
        longest = max([len(field.name), *(len(str(cell)) for cell in cells)])
        sheet.set_column(at, at, max(_LEAST, min(_WIDEST, longest + 1)))
    for at, field in enumerate(rows.schema):
        sheet.write_string(0, at, field.name, bold)
    line = 1
    while first is not None:
        columns = [
            _cells(column, text) for column, text in zip(first.columns, as_text, strict=True)
        ]
        kinds = [formats.get(str(field.type)) for field in first.schema]
        for row in zip(*columns, strict=True):
            for at, (value, kind) in enumerate(zip(row, kinds, strict=True)):
                _write_cell(sheet, line, at, value, kind)
            line += 1
        first = next(batches, None)
    if len(rows):
        sheet.autofilter(0, 0, len(rows), len(rows.schema) - 1)


def _write_cell(sheet: "Worksheet", line: int, at: int, value: Any, kind: Any) -> None:
    if value is None:
        return
    if isinstance(value, str):
        if len(value) > _MOST_TEXT:
            raise OutputError(
                f"--format xlsx: row {line}, column {at + 1} has a text of {len(value):,} "
                f"characters, and a cell holds {_MOST_TEXT:,}; choose csv, or other --columns"
            )
        sheet.write_string(line, at, value)
    elif isinstance(value, dt.date):
        sheet.write_datetime(line, at, value, kind)
    else:
        sheet.write_number(line, at, value)


def _as_text(rows: Rows) -> list[bool]:
    """Say which columns have numbers that a spreadsheet would round."""
    found = []
    for field in rows.schema:
        sources = [table for table in (rows.lists,) if field.name in table.column_names]
        large = False
        if sources and pa.types.is_integer(field.type):
            ends = pc.min_max(sources[0].column(field.name)).as_py()
            large = any(end is not None and abs(end) >= _MOST_DIGITS for end in ends.values())
        found.append(large)
    return found


def _cells(column: Any, as_text: bool) -> list[Any]:
    if pa.types.is_list(column.type):
        return [as_json(value) for value in plain(column)]
    if pa.types.is_float32(column.type):
        return list(short_floats(column))
    values = column.to_pylist()
    if pa.types.is_timestamp(column.type):  # a spreadsheet has no time zones
        return [None if value is None else value.replace(tzinfo=None) for value in values]
    return [str(value) for value in values] if as_text else values
