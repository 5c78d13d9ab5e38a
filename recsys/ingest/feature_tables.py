"""Tables of features: read, judged and written down, and what is said of them."""

import logging
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    FEATURE_ROWS_SCHEMA,
    FEATURE_VALUES_SCHEMA,
    FOUND,
    GROUP,
    ID,
    QUOTED,
    RAW_LINE,
    REASON,
    VALUE,
)
from recsys.config.sections import FeatureSource
from recsys.errors import InputError
from recsys.ingest import csv_text
from recsys.ingest.failures import reading
from recsys.ingest.feature_manifest import (
    DescribedReport,
    FeatureGroupReport,
    FeatureSourceReport,
)
from recsys.ingest.feature_rows import RAW_ID, VALUES, accepted, judge
from recsys.ingest.feature_vocabulary import Vocabulary, vocabulary
from recsys.ingest.manifest import InputState
from recsys.ingest.source import Columns, look_at_text, read_columns
from recsys.store.manifest import WrittenTable
from recsys.store.tables import Store

log = logging.getLogger(__name__)


def open_table(spark: SparkSession, source: FeatureSource, key: str) -> Columns:
    """Open a table: `raw_id`, and the column of each group under the group's name.

    Raises:
        InputError: it is not there, or lacks a column.
        ConfigError: its condition or query cannot be used.
    """
    named = {RAW_ID: (source.id, f"{key}.id")}
    for name, group in source.groups.items():
        named[name] = (group.column or name, f"{key}.groups.{name}.column")
    return read_columns(spark, source, named, key=key, where=source.where)


@dataclass(frozen=True)
class JudgedTable:
    """A table of features whose rows are judged and written down.

    Attributes:
        name: its name.
        key: its place in the configuration.
        source: what it is.
        rows: what `feature_rows.judge` returned.
        report: what is said of it.
    """

    name: str
    key: str
    source: FeatureSource
    rows: DataFrame
    report: FeatureSourceReport


def read_table(
    spark: SparkSession,
    source: FeatureSource,
    id_type: str,
    key: str,
    state: InputState,
    place: str,
) -> JudgedTable:
    """Judge the rows of a table and write them down, so that all that follows sees the same.

    Args:
        spark: the session.
        source: the table.
        id_type: Spark's name of the type of the ids.
        key: its place in the configuration.
        state: which state of it is read.
        place: where to write.

    Raises:
        InputError: it cannot be read, or has no rows.
        ConfigError: a column cannot be what the configuration says.
    """
    columns = open_table(spark, source, key)
    if source.format == "csv" and (source.query is not None or source.where is not None):
        look_at_text(spark, columns.opened)  # the rows that are left do not show it
    judged = judge(columns.rows, source, id_type, key)
    with reading(source):
        judged.write.parquet(place)
    rows = spark.read.schema(judged.schema).parquet(place)
    name = key.rpartition(".")[2]
    return JudgedTable(name, key, source, rows, _report(spark, rows, columns, state))


def _report(
    spark: SparkSession, rows: DataFrame, columns: Columns, state: InputState
) -> FeatureSourceReport:
    """Count what became of the rows, and refuse a table whose text was read wrongly."""
    opened = columns.opened
    counted = {
        row[REASON]: row
        for row in rows.groupBy(REASON)
        .agg(
            F.count(F.lit(1)).alias("n"),
            F.bool_or(QUOTED).alias(QUOTED),
            F.min(F.coalesce(RAW_LINE, RAW_ID)).alias(FOUND),
        )
        .collect()
    }
    csv_text.refuse_reordered(counted.keys(), opened.key)
    if any(row[QUOTED] for row in counted.values()):
        paths = [file.path for file in opened.files]
        csv_text.check_quotes(spark, opened.source, paths, opened.key)
    good = counted.pop(None, None)
    accepted = good["n"] if good else 0
    by_reason = sorted(counted.values(), key=lambda row: (-row["n"], row[REASON]))
    for row in by_reason:
        log.info("  %s: %s: %s, such as %r", opened.key, row[REASON], f"{row['n']:,}", row[FOUND])
    n_rejected = sum(row["n"] for row in by_reason)
    if accepted + n_rejected == 0:
        raise InputError(f"{opened.key} has no rows; check its path and its options")
    return FeatureSourceReport(
        input=state,
        rows_read=accepted + n_rejected,
        rows_accepted=accepted,
        rows_rejected=n_rejected,
        rejected_by_reason={row[REASON]: row["n"] for row in by_reason},
        values_rejected=_values_rejected(rows, opened.key),
    )


def _values_rejected(rows: DataFrame, key: str) -> dict[str, dict[str, int]]:
    bad = (
        rows.where(accepted())
        .select(F.inline(VALUES))
        .where(F.col(REASON).isNotNull())
        .groupBy(GROUP, REASON)
        .agg(F.count(F.lit(1)).alias("n"), F.min(FOUND).alias(FOUND))
    )
    found: dict[str, dict[str, int]] = {}
    for row in bad.orderBy(GROUP, REASON).collect():
        found.setdefault(row[GROUP], {})[row[REASON]] = row["n"]
        where = f"{key}.groups.{row[GROUP]}"
        log.warning("%s: %s: %s, such as %r", where, row[REASON], f"{row['n']:,}", row[FOUND])
    return found


@dataclass(frozen=True)
class DescribedTables:
    """What describes users or items, as it was written.

    Attributes:
        report: what is said of it.
        rows: the features of each id.
        values: the features.
    """

    report: DescribedReport
    rows: WrittenTable
    values: WrittenTable


def describe(
    store: Store, tables: list[JudgedTable], id_type: str, rows_uri: str, values_uri: str
) -> DescribedTables:
    """Make features of what all tables about users or items say, and write them.

    Args:
        store: the root.
        tables: the tables.
        id_type: Spark's name of the type of the ids.
        rows_uri: where FEATURE_ROWS_SCHEMA goes.
        values_uri: where FEATURE_VALUES_SCHEMA goes.

    Raises:
        InputError: there is no feature.
    """
    said = reduce(
        DataFrame.unionByName,
        [table.rows.where(accepted()).select(ID, VALUES) for table in tables],
    )
    groups = {name: group for table in tables for name, group in table.source.groups.items()}
    found = vocabulary(said, groups)
    schema = FEATURE_ROWS_SCHEMA.format(id=id_type)
    rows = store.write_table(found.rows, rows_uri, schema)
    values = store.write_table(found.values.coalesce(1), values_uri, FEATURE_VALUES_SCHEMA)
    if values.rows == 0:
        raise InputError(
            f"{tables[0].key.rpartition('.')[0]}: found no value that enough ids have, expected "
            "one; check the columns of the groups, or lower their min_count"
        )
    n_accepted = sum(table.report.rows_accepted for table in tables)
    written = store.read_table(rows_uri, schema)
    by_group = {
        row[GROUP]: row
        for row in written.groupBy(GROUP)
        .agg(F.count_distinct(ID).alias("ids"), F.count_distinct(VALUE).alias("features"))
        .collect()
    }
    origin = {name: table.name for table in tables for name in table.source.groups}
    for name in sorted(groups.keys() - by_group.keys()):
        log.warning("%s.groups.%s has no feature", _key_of(tables, name), name)
    report = DescribedReport(
        sources={table.name: table.report for table in tables},
        groups={
            name: _group(origin[name], by_group.get(name), name, found) for name in sorted(groups)
        },
        ids=written.select(ID).distinct().count(),
        repeated_rows=n_accepted - said.select(ID).distinct().count(),
    )
    return DescribedTables(report, rows, values)


def _key_of(tables: list[JudgedTable], group: str) -> str:
    return next(table.key for table in tables if group in table.source.groups)


def _group(origin: str, row: Row | None, name: str, found: Vocabulary) -> FeatureGroupReport:
    return FeatureGroupReport(
        source=origin,
        ids=row["ids"] if row else 0,
        features=row["features"] if row else 0,
        rare_values=found.rare.get(name, 0),
        edges=found.edges.get(name),
    )
