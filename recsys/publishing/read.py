"""For readers in Python: the current version of a cohort, checked, with or without Spark."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.columns import ITEM, RANK, TITLE_COLUMNS, USER
from recsys.config.sections import Publishing
from recsys.errors import ConfigError, DamageError, OutputError
from recsys.publishing.index import open_index, published_before
from recsys.publishing.manifest import VersionManifest
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    TITLES,
    Unit,
    Version,
    as_day,
    place,
    read_manifest,
)
from recsys.runtime.run import run_name
from recsys.store.checksums import compare_files
from recsys.store.files import Files, local_path, shown
from recsys.store.manifest import WrittenTable
from recsys.store.opening import open_root

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ADVICE = "return to another version with recsys rollback, or run again"


@dataclass(frozen=True)
class Published:
    """One version, whole: what one run made of one cohort on one run date.

    Attributes:
        run_id: whose it is.
        run_date, cohort: of what.
        recommendations, status: pyarrow Tables; DataFrames where Spark was given.
        titles: likewise, what the items of the model are called; None where the run had no titles.
        manifest: what the run says of them.
    """

    run_id: str
    run_date: dt.date
    cohort: str
    recommendations: "pa.Table | DataFrame"
    status: "pa.Table | DataFrame"
    manifest: VersionManifest
    titles: "pa.Table | DataFrame | None" = None

    def with_titles(self) -> "pa.Table | DataFrame":
        """Return the recommendations with the columns `title`, `image` and `link`.

        They are null where there are none. A pyarrow Table is in order of user and rank.
        """
        return with_titles(self.recommendations, self.titles)


def with_titles(lists: Any, titles: Any) -> Any:
    """Return lists with the columns of TITLE_COLUMNS; see `Published.with_titles`."""
    wanted = [ITEM, *TITLE_COLUMNS]
    if not isinstance(lists, pa.Table):
        if titles is not None:
            return lists.join(titles.select(*wanted), on=ITEM, how="left")
        return lists.selectExpr("*", *(f"CAST(NULL AS string) AS {name}" for name in TITLE_COLUMNS))
    lists = lists.sort_by([(USER, "ascending"), (RANK, "ascending")])
    if titles is None:
        nothing = {name: pa.nulls(len(lists), pa.string()) for name in TITLE_COLUMNS}
        return pa.table({**dict(zip(lists.column_names, lists.columns, strict=True)), **nothing})
    at = pc.index_in(lists.column(ITEM), value_set=titles.column(ITEM))
    for name in TITLE_COLUMNS:
        lists = lists.append_column(name, titles.column(name).take(at))
    return lists


def read_recommendations(
    root: str | Path,
    *,
    cohort: str = "all",
    run_date: dt.date | str | None = None,
    run_id: str | None = None,
    spark: "SparkSession | None" = None,
    publishing: Publishing | None = None,
) -> Published:
    """Return what readers are to see of a cohort.

    Recommendations, statuses and manifest are of the same run, and every file is compared with the
    checksum that was published, so that what is returned is what was made.

    Args:
        root: the local directory that the job publishes to, as a path or a `file:` URI. With Spark
            it may be on HDFS.
        cohort: its name.
        run_date: the day: a date, a datetime or a pandas Timestamp, or ISO 8601 text; None: the
            latest that there is.
        run_id: an earlier version that is still kept, by its run id or by the id that a scheduler
            gave the run; None: the current one.
        spark: returns DataFrames instead of pyarrow Tables.
        publishing: the configuration's section; None: plain directories.

    Raises:
        ConfigError: an argument is of another type, or no day; nothing was read.
        OutputError: nothing is published of it.
        DamageError: a file is missing, damaged or too many; the message names it.
    """
    day = None if run_date is None else as_day(run_date, "run_date")
    for key, text in (("cohort", cohort), ("run_id", "" if run_id is None else run_id)):
        if not isinstance(text, str):
            raise ConfigError(
                f"{key}: found {str(text)[:60]} ({type(text).__name__}), expected text"
            )
    files = open_root(root, spark=spark)
    index = open_index(files, publishing or Publishing(), lambda: None)
    # A version may be forgotten and deleted between being named and being read: look again.
    for attempt in (1, 2, 3):
        unit = _unit(index.units(), cohort, day)
        if run_id is None:
            version = index.current(unit)
        else:
            version = published_before(index, unit, run_name(run_id))
        if version is None:
            raise OutputError(f"{unit}: nothing is published of run {run_id or 'any'}")
        try:
            manifest = check_version(files, version)
            names = manifest.tables.names
            uris = {name: place(files, unit, version.run_id, name) for name in names}
            tables = {
                name: _read(uri, manifest.tables.of(name), spark) for name, uri in uris.items()
            }
        except (DamageError, FileNotFoundError):
            if attempt == 3 or version in index.versions(unit):
                raise
            continue
        return Published(
            version.run_id,
            unit.run_date,
            cohort,
            tables[RECOMMENDATIONS],
            tables[STATUS],
            manifest,
            tables.get(TITLES),
        )
    raise AssertionError("the last attempt returns or raises")


def check_version(files: Files, version: Version) -> VersionManifest:
    """Compare every file of a version with what was published, and return its manifest.

    Raises:
        DamageError: a file is missing, damaged or too many; the message names it.
    """
    manifest = read_manifest(files, version)
    owner = f"{version.unit}, run {version.run_id}"
    check_tables(files, owner, place(files, version.unit, version.run_id), manifest)
    return manifest


def check_tables(files: Files, owner: str, version_uri: str, manifest: VersionManifest) -> None:
    """Compare every file of a version's tables with what its manifest says.

    Args:
        files: the root.
        owner: names the version in messages.
        version_uri: its directory.
        manifest: what is said of it.

    Raises:
        DamageError: a file is missing, damaged or too many; the message names it.
    """
    for name in manifest.tables.names:
        uri = f"{version_uri}/{name}"
        table = manifest.tables.of(name)
        compare_files(
            owner,
            shown(uri),
            table.files,
            files.data_files(uri),
            error=DamageError,
            advice=_ADVICE,
        )
        rows = 0
        for file in table.files:
            with files.open(f"{uri}/{file.path}") as stream:
                rows += pq.read_metadata(stream).num_rows
        if rows != table.rows:
            raise DamageError(
                f"{owner}: {shown(uri)} has {rows:,} rows, its manifest says {table.rows:,}"
            )


def _unit(units: list[Unit], cohort: str, run_date: dt.date | None) -> Unit:
    mine = [unit for unit in units if unit.cohort == cohort]
    if run_date is not None:
        mine = [unit for unit in mine if unit.run_date == run_date]
    if not mine:
        known = ", ".join(sorted({unit.cohort for unit in units})) or "none"
        day = "" if run_date is None else f" on {run_date}"
        raise OutputError(
            f"nothing is published of cohort {cohort[:80]!r}{day}; there are the cohorts: {known}"
        )
    return max(mine)


def _read(uri: str, table: WrittenTable, spark: "SparkSession | None") -> Any:
    if spark is not None:
        return spark.read.parquet(uri)
    folder = local_path(uri)
    assert folder is not None  # noqa: S101 - the root is local
    # Whatever the root's own directories are called, they are no columns.
    return pa.concat_tables(
        pq.read_table(folder / file.path, partitioning=None) for file in table.files
    )
