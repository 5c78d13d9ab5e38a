"""From tables of features to prepared features: every row accounted for.

What describes users and items goes through the same steps. The rows of each table are judged and
written down. Their values become features, `group=value`; numbers become ranges. Rows of the same
id are put together: the id has the features of all its rows, each once and with its largest weight.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    FEATURE_REJECTS_SCHEMA,
    FEATURE_ROWS_SCHEMA,
    FEATURE_VALUES_SCHEMA,
    FOUND,
    GROUP,
    ID,
    QUOTED,
    RAW_LINE,
    REASON,
    VALUE,
    IdTypes,
)
from recsys.config.configuration import Config, digest
from recsys.config.sections import FeatureSource
from recsys.errors import InputError, ModelError, TooManyRejectsError
from recsys.ingest import csv_text
from recsys.ingest.failures import reading
from recsys.ingest.feature_manifest import (
    DescribedReport,
    FeatureGroupReport,
    FeaturesManifest,
    FeatureSourceReport,
)
from recsys.ingest.feature_rows import RAW_ID, VALUES, accepted, judge, rejects
from recsys.ingest.feature_vocabulary import Vocabulary, vocabulary
from recsys.ingest.listing import identify
from recsys.ingest.manifest import InputState
from recsys.ingest.settings import check_settings
from recsys.ingest.source import Columns, look_at_text, open_source, read_columns
from recsys.runtime.run import Run
from recsys.store.manifest import MANIFEST, ManifestError
from recsys.store.tables import Store

log = logging.getLogger(__name__)

FEATURES, ITEMS, USERS, REJECTS = "features", "items", "users", "rejects"
KINDS = (ITEMS, USERS)


@dataclass(frozen=True)
class PreparedFeatures:
    """Prepared features.

    Attributes:
        manifest: what is said of them.
        rows: by `items` or `users`, FEATURE_ROWS_SCHEMA.
        values: the same, FEATURE_VALUES_SCHEMA.
    """

    manifest: FeaturesManifest
    rows: dict[str, DataFrame]
    values: dict[str, DataFrame]


def sources_of(config: Config, kind: str) -> dict[str, FeatureSource]:
    """Return the tables about `items` or `users`, by name."""
    found: dict[str, FeatureSource] = getattr(config.features, kind)
    return found


def states(spark: SparkSession, config: Config) -> dict[str, InputState]:
    """Return which state each table of features is in, by its key; nothing is read.

    Raises:
        InputError: a table is not there.
    """
    settings = check_settings(spark, config.spark)
    found = {}
    for kind in KINDS:
        for name, source in sources_of(config, kind).items():
            key = f"features.{kind}.{name}"
            state = identify(source, open_source(spark, source, key).files)
            found[key] = state.model_copy(update={"settings": settings})
    return found


def features_id(config: Config, run: Run, found: Mapping[str, InputState]) -> str:
    """Name what a run prepares: the same for a retry, another for other data or configuration.

    Args:
        config: what is read and how.
        run: which prepares it.
        found: what `states` returned.
    """
    made_of = [
        {kind: public_sources(config, kind) for kind in KINDS},
        {key: state.sha256_of_listing for key, state in found.items()},
        {key: state.settings for key, state in found.items()},
        config.fingerprint("input"),  # which says of what type ids are
    ]
    return f"{run.run_id}-{digest(made_of)[:8]}"


def public_sources(config: Config, kind: str) -> object:
    """Return what the configuration says of the tables of a kind, secrets redacted."""
    return config.public()[FEATURES][kind]


def look(spark: SparkSession, config: Config, types: IdTypes | None) -> None:
    """Refuse tables of features that cannot be used; rows are only read of CSV and JSON.

    Raises:
        InputError: one is not there, or lacks a column.
        ConfigError: a column cannot be what the configuration says.
    """
    for kind in KINDS:
        id_type = _id_type(types or IdTypes("string", "string"), kind)
        for name, source in sources_of(config, kind).items():
            key = f"features.{kind}.{name}"
            columns = _open(spark, source, key)
            if source.format == "csv":
                look_at_text(spark, columns.opened)
            judge(columns.rows, source, id_type, key)


def prepare_features(
    spark: SparkSession, store: Store, config: Config, run: Run, types: IdTypes, staging: str
) -> PreparedFeatures | None:
    """Read, judge and publish features; a retry of the same run takes up what it had published.

    Args:
        spark: the session.
        store: the root.
        config: what to read.
        run: which prepares them.
        types: of the ids of the interactions.
        staging: a directory for what is not complete.

    Returns:
        The features; None where there are none.

    Raises:
        InputError: a source cannot be read, or nothing usable is in it.
        TooManyRejectsError: more was rejected than `row_checks.max_rejected_share`.
    """
    if not config.features.configured:
        return None
    found = states(spark, config)
    name = features_id(config, run, found)
    place = store.uri(FEATURES, name)
    if store.exists(f"{place}/{MANIFEST}"):
        log.info("features %s are there already: taking them up", name)
    else:
        _prepare(spark, store, config, run, types, staging, name, found)
    prepared = open_features(store, place)
    _check_shares(prepared.manifest, config.row_checks.max_rejected_share, f"{place}/{REJECTS}")
    return prepared


def _prepare(
    spark: SparkSession,
    store: Store,
    config: Config,
    run: Run,
    types: IdTypes,
    staging: str,
    name: str,
    found: Mapping[str, InputState],
) -> None:
    """Read all tables, and publish what they say."""
    staged = f"{staging}/{FEATURES}"
    described, rejected = {}, []
    for kind in KINDS:
        read = [
            _read_rows(spark, config, kind, table, _id_type(types, kind), found, staging)
            for table in sources_of(config, kind)
        ]
        rejected += [rejects(table.rows, table.key) for table in read]
        described[kind] = _describe(store, read, _id_type(types, kind), kind, staged)
    manifest = FeaturesManifest(
        schema_version=FeaturesManifest.SCHEMA_VERSION,
        features_id=name,
        run_id=run.run_id,
        id_types=types,
        items=described[ITEMS],
        users=described[USERS],
        rejects=store.write_table(
            reduce(DataFrame.unionByName, rejected), f"{staged}/{REJECTS}", FEATURE_REJECTS_SCHEMA
        ),
    )
    store.delete(_staged_rows(staging))
    store.files.replace(f"{staged}/{MANIFEST}", manifest.to_json())
    store.publish(staged, store.uri(FEATURES, name))


def open_features(store: Store, place: str) -> PreparedFeatures:
    """Open prepared features.

    Raises:
        ModelError: their manifest is damaged, or was written by a newer version.
    """
    try:
        manifest = FeaturesManifest.from_json(store.files.read(f"{place}/{MANIFEST}"))
    except ManifestError as error:
        raise ModelError(
            f"{place}/{MANIFEST} cannot be used: {error}; train with another run id"
        ) from error
    there = [kind for kind in KINDS if getattr(manifest, kind) is not None]
    types = manifest.id_types
    return PreparedFeatures(
        manifest,
        {
            k: store.read_table(f"{place}/{k}", FEATURE_ROWS_SCHEMA.format(id=_id_type(types, k)))
            for k in there
        },
        {k: store.read_table(f"{place}/{_values(k)}", FEATURE_VALUES_SCHEMA) for k in there},
    )


def _open(spark: SparkSession, source: FeatureSource, key: str) -> Columns:
    named = {RAW_ID: (source.id, f"{key}.id")}
    for name, group in source.groups.items():
        named[name] = (group.column or name, f"{key}.groups.{name}.column")
    return read_columns(spark, source, named, key=key, where=source.where)


@dataclass(frozen=True)
class _Table:
    """A table of features whose rows are judged and written down.

    Attributes:
        name: its name.
        key: its place in the configuration.
        source: what it is.
        rows: what `judge` returned.
        report: what is said of it.
    """

    name: str
    key: str
    source: FeatureSource
    rows: DataFrame
    report: FeatureSourceReport


def _read_rows(
    spark: SparkSession,
    config: Config,
    kind: str,
    name: str,
    id_type: str,
    found: Mapping[str, InputState],
    staging: str,
) -> _Table:
    """Judge the rows of a table and write them down, so that all that follows sees the same."""
    key, source = f"features.{kind}.{name}", sources_of(config, kind)[name]
    columns = _open(spark, source, key)
    if source.query is not None and source.format == "csv":
        look_at_text(spark, columns.opened)  # the query's rows do not show it
    judged = judge(columns.rows, source, id_type, key)
    place = f"{_staged_rows(staging)}/{key}"
    with reading(source):
        judged.write.parquet(place)
    rows = spark.read.schema(judged.schema).parquet(place)
    report = _report(spark, rows, columns, found[key])
    return _Table(name, key, source, rows, report)


def _staged_rows(staging: str) -> str:
    return f"{staging}/feature-rows"


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
        log.info("  %s: %s: %s, such as %r", where, row[REASON], f"{row['n']:,}", row[FOUND])
    return found


def _describe(
    store: Store, tables: list[_Table], id_type: str, kind: str, place: str
) -> DescribedReport | None:
    """Make features of what all tables of a kind say, and write them."""
    if not tables:
        return None
    said = reduce(
        DataFrame.unionByName,
        [table.rows.where(accepted()).select(ID, VALUES) for table in tables],
    )
    groups = {name: group for table in tables for name, group in table.source.groups.items()}
    found = vocabulary(said, groups)
    schema = FEATURE_ROWS_SCHEMA.format(id=id_type)
    rows = store.write_table(found.rows, f"{place}/{kind}", schema)
    values = store.write_table(
        found.values.coalesce(1), f"{place}/{_values(kind)}", FEATURE_VALUES_SCHEMA
    )
    n_accepted = sum(table.report.rows_accepted for table in tables)
    written = store.read_table(f"{place}/{kind}", schema)
    by_group = {
        row[GROUP]: row
        for row in written.groupBy(GROUP)
        .agg(F.count_distinct(ID).alias("ids"), F.count_distinct(VALUE).alias("features"))
        .collect()
    }
    origin = {name: table.name for table in tables for name in table.source.groups}
    return DescribedReport(
        sources={table.name: table.report for table in tables},
        groups={
            name: _group(origin[name], by_group.get(name), name, found) for name in sorted(groups)
        },
        ids=written.select(ID).distinct().count(),
        repeated_rows=n_accepted - said.select(ID).distinct().count(),
        rows=rows,
        values=values,
    )


def _group(origin: str, row: Row | None, name: str, found: Vocabulary) -> FeatureGroupReport:
    return FeatureGroupReport(
        source=origin,
        ids=row["ids"] if row else 0,
        features=row["features"] if row else 0,
        rare_values=found.rare.get(name, 0),
        edges=found.edges.get(name),
    )


def _check_shares(manifest: FeaturesManifest, allowed: float, place: str) -> None:
    for kind in KINDS:
        described: DescribedReport | None = getattr(manifest, kind)
        for name, report in ({} if described is None else described.sources).items():
            n, n_rejected = report.rows_read, report.rows_rejected
            if n_rejected / n > allowed or n_rejected == n:
                reasons = ", ".join(f"{r}: {k:,}" for r, k in report.rejected_by_reason.items())
                raise TooManyRejectsError(
                    f"features.{kind}.{name}: {n_rejected:,} of {n:,} rows ({n_rejected / n:.1%}) "
                    f"were rejected, row_checks.max_rejected_share allows {allowed:.1%}: "
                    f"{reasons}; they are in {place}; mend the table or its description in the "
                    "configuration, or raise the limit"
                )


def _id_type(types: IdTypes, kind: str) -> str:
    return types.item if kind == ITEMS else types.user


def _values(kind: str) -> str:
    """Return the name of the table of the features of `items` or `users`."""
    return f"{kind.removesuffix('s')}_values"
