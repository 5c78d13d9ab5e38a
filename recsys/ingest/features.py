"""From tables of features to prepared features: every row accounted for.

What describes users and items goes through the same steps. The rows of each table are judged and
written down. Their values become features, `group=value`; numbers become ranges. Rows of the same
id are put together: the id has the features of all its rows, each once and with its largest weight.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from recsys.columns import (
    FEATURE_REJECTS_SCHEMA,
    FEATURE_ROWS_SCHEMA,
    FEATURE_VALUES_SCHEMA,
    IdTypes,
)
from recsys.config.configuration import Config, digest
from recsys.config.sections import FeatureSource
from recsys.errors import ModelError, TooManyRejectsError
from recsys.ingest.feature_manifest import (
    DescribedReport,
    FeaturesManifest,
    FeaturesTables,
)
from recsys.ingest.feature_rows import judge, rejects
from recsys.ingest.feature_tables import describe, open_table, read_table
from recsys.ingest.listing import identify
from recsys.ingest.manifest import InputState
from recsys.ingest.settings import check_settings
from recsys.ingest.source import look_at_text, open_source
from recsys.runtime.run import Run
from recsys.store.manifest import MANIFEST, ManifestError, WrittenTable
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
            columns = open_table(spark, source, key)
            if source.format == "csv":
                look_at_text(spark, columns.opened)
            judge(columns.rows, source, id_type, key)


def prepare_features(
    spark: SparkSession,
    store: Store,
    config: Config,
    run: Run,
    types: IdTypes,
    staging: str,
    found: Mapping[str, InputState],
) -> PreparedFeatures | None:
    """Read, judge and publish features; a retry of the same run takes up what it had published.

    Args:
        spark: the session.
        store: the root.
        config: what to read.
        run: which prepares them.
        types: of the ids of the interactions.
        staging: a directory for what is not complete.
        found: what `states` returned.

    Returns:
        The features; None where there are none.

    Raises:
        InputError: a source cannot be read, or nothing usable is in it.
        TooManyRejectsError: more was rejected than `row_checks.max_rejected_share`.
    """
    if not config.features.configured:
        return None
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
    described: dict[str, DescribedReport] = {}
    rejected: list[DataFrame] = []
    tables: dict[str, WrittenTable] = {}
    for kind in KINDS:
        id_type, read = _id_type(types, kind), []
        for table, source in sources_of(config, kind).items():
            key = f"features.{kind}.{table}"
            where = f"{_staged_rows(staging)}/{key}"
            read.append(read_table(spark, source, id_type, key, found[key], where))
        rejected += [rejects(table.rows, table.key) for table in read]
        if read:
            places = f"{staged}/{kind}", f"{staged}/{_values(kind)}"
            made = describe(store, read, id_type, *places)
            described[kind] = made.report
            tables |= {kind: made.rows, _values(kind): made.values}
    tables[REJECTS] = store.write_table(
        reduce(DataFrame.unionByName, rejected), f"{staged}/{REJECTS}", FEATURE_REJECTS_SCHEMA
    )
    manifest = FeaturesManifest(
        schema_version=FeaturesManifest.SCHEMA_VERSION,
        features_id=name,
        run_id=run.run_id,
        id_types=types,
        items=described.get(ITEMS),
        users=described.get(USERS),
        tables=FeaturesTables(**tables),
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


def _staged_rows(staging: str) -> str:
    return f"{staging}/feature-rows"
