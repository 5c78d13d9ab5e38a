"""The files of a version that is to be committed to a table: their footers are read and checked.

Iceberg takes a file's partition from the statistics in its footer and believes the row count there;
what is wrong in either would be published. So all of it is looked at before the commit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.columns import COHORT, RUN_DATE, RUN_ID
from recsys.errors import DamageError, OutputError
from recsys.publishing.manifest import VersionManifest
from recsys.publishing.versions import Version, place
from recsys.store.files import Files


@dataclass(frozen=True)
class CommittableFiles:
    """The files of one table of a version.

    Attributes:
        uris: of the files with rows.
        rows: in all of them.
        schema: theirs, every column nullable; None if there is no file at all.
    """

    uris: list[str]
    rows: int
    schema: pa.Schema | None


def look_at(
    files: Files,
    version: Version,
    table: str,
    manifest: VersionManifest,
    opened: Callable[[str], BinaryIO],
) -> CommittableFiles:
    """Read the footers of a version's files of one table, and check them.

    Args:
        files: the root.
        version: whose files.
        table: recommendations or status.
        manifest: the version's.
        opened: opens a URI for reading.

    Raises:
        DamageError: the files or their rows are not those of the manifest.
        OutputError: a row is of another cohort, day or run, or the files' columns differ.
    """
    folder = place(files, version.unit, version.run_id, table)
    expected = manifest.tables.of(table)
    uris, rows, schema = [], 0, None
    for file in expected.files:
        uri = f"{folder}/{file.path}"
        footer = _footer(uri, opened)
        columns = _nullable(footer.schema.to_arrow_schema())
        if schema is not None and columns != schema:
            raise OutputError(f"{uri} has other columns than the files beside it; run again")
        schema = columns
        if footer.num_rows:
            _check_values(uri, footer, version)
            uris.append(uri)
            rows += footer.num_rows
    if rows != expected.rows:
        raise DamageError(
            f"{version.unit}, run {version.run_id}: the files of {table} have {rows} rows, the "
            f"manifest says {expected.rows}; nothing was published, run again"
        )
    return CommittableFiles(uris, rows, schema)


def _footer(uri: str, opened: Callable[[str], BinaryIO]) -> pq.FileMetaData:
    try:
        with opened(uri) as stream:
            return pq.read_metadata(stream)
    except FileNotFoundError:
        raise DamageError(f"{uri} is missing, though the manifest names it; run again") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DamageError(f"{uri} is damaged: {reason}; run again") from error


def _check_values(uri: str, footer: pq.FileMetaData, version: Version) -> None:
    wanted = {
        RUN_DATE: version.unit.run_date,
        COHORT: version.unit.cohort,
        RUN_ID: version.run_id,
    }
    places = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    for column, value in wanted.items():
        if column not in places:
            raise OutputError(f"{uri} has no column {column}; Iceberg takes partitions from rows")
        for group in range(footer.num_row_groups):
            statistics = footer.row_group(group).column(places[column]).statistics
            if statistics is None or not statistics.has_min_max or not statistics.has_null_count:
                found = "no statistics, or nulls alone"
            elif statistics.null_count:
                found = f"{statistics.null_count} nulls"
            elif (statistics.min, statistics.max) != (value, value):
                found = f"{statistics.min} to {statistics.max}"
            else:
                continue
            raise OutputError(
                f"{uri}: column {column} must be {value} in every row, found {found}; nothing was "
                "published"
            )


def _nullable(schema: pa.Schema) -> pa.Schema:
    """Drop what Spark adds: notes, and that a constant is never null."""
    return pa.schema([pa.field(field.name, field.type, nullable=True) for field in schema])
