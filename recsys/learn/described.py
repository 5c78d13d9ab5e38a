"""Prepared features, brought to the driver."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import FOUND, GROUP, ID, N_IDS, VALUE, WEIGHT
from recsys.config.configuration import Config
from recsys.config.sections import FeatureSource, Training
from recsys.errors import InputError
from recsys.ingest.feature_manifest import DescribedReport
from recsys.ingest.features import ITEMS, USERS, PreparedFeatures, sources_of
from recsys.ingest.ids import id_bytes
from recsys.learn.features import About, Abouts, Described, Feature
from recsys.learn.matrices import Interactions, check_sizes
from recsys.learn.sizes import NO_FEATURES, FeatureSizes
from recsys.runtime.memory import check_result
from recsys.store.manifest import WrittenTable

log = logging.getLogger(__name__)

# What Spark counts against spark.driver.maxResultSize beside the texts: a double, and where two
# texts end.
_RESULT_BYTES = 16

Check = Callable[[int, int], None]  # of how many rows and ids there are


def abouts(
    spark: SparkSession,
    prepared: PreparedFeatures | None,
    interactions: Interactions,
    config: Config,
    check: Check | None = None,
) -> Abouts:
    """Return what is known of the users and items of a training.

    Args:
        spark: the session.
        prepared: the features; None where there are none.
        interactions: what is trained on.
        config: which of them have embeddings of their own, and how much groups count.
        check: what `check_of_users` returned.

    Returns:
        Of users, or of items, None where a sample has none of those who are described.

    Raises:
        InputError: none is of a user or an item of the training.
        MemoryLimitError: they are more than Spark may collect, or than `check` allows.
    """
    if prepared is None:
        return Abouts()
    settings = config.features

    def found(kind: str, ids: pa.Array, identity: bool) -> About | None:
        if kind not in prepared.rows:
            return None
        rows, values = prepared.rows[kind], prepared.values[kind]
        described = collect_described(spark, rows, values, kind, check if kind == USERS else None)
        weights = group_weights(sources_of(config, kind))
        about = About(described, ids, weights, identity, settings.normalise)
        if about.counts().any():
            return about
        every: DescribedReport = getattr(prepared.manifest, kind)
        if interactions.sample is not None and len(described.ids) < every.ids:
            # Others are in the pairs of users whom a sample leaves out, so the ids are right.
            log.warning(
                "features.%s: none of the sample (training.sample_users) has features, so features "
                "say nothing",
                kind,
            )
            return None
        raise InputError(
            f"features.{kind}: none of the {len(described.ids):,} {kind} that have features "
            f"(such as {described.ids[0]}) is in the training (such as {ids[0]}), expected the "
            "same ids; check the column of the ids"
        )

    return Abouts(
        users=found(USERS, interactions.user_ids, settings.user_identity),
        items=found(ITEMS, interactions.item_ids, settings.item_identity),
    )


def group_weights(sources: dict[str, FeatureSource]) -> dict[str, float]:
    """Return how much each group of some tables counts."""
    return {name: group.weight for one in sources.values() for name, group in one.groups.items()}


def check_of_users(
    spark: SparkSession,
    prepared: PreparedFeatures | None,
    interactions: Interactions,
    settings: Training,
    max_share: float,
    *,
    advice: bool = True,
) -> Check | None:
    """Return what refuses features of users that do not fit, once those left out are gone.

    When a sample is chosen, all who like something and are not in it count as gone. But features
    stay with those of them who like only items that the sample does not have, or only without
    sample weight (`all_pairs.without_left_out`). They may be many.

    Args:
        spark: the session.
        prepared: all features; None where there are none.
        interactions: what was collected.
        settings: with which it was.
        max_share: the share of the driver's memory that may be used.
        advice: whether a smaller sample can be taken.

    Returns:
        What `collect_described` takes; None where all users are trained on.
    """
    sample = interactions.sample
    if sample is None or prepared is None or prepared.manifest.users is None:
        return None
    table, report, every = prepared.manifest.tables.users, prepared.manifest.users, sizes(prepared)

    def check(n_rows: int, n_ids: int) -> None:
        all_rows = 0 if table is None else table.rows
        kept = every.without(all_rows - n_rows, report.ids - n_ids)
        taken = replace(sample.taken, features=kept)
        check_sizes(spark, taken, settings=settings, max_share=max_share, advice=advice)

    return check


def collect_described(
    spark: SparkSession,
    rows: DataFrame,
    values: DataFrame,
    what: str,
    check: Check | None = None,
) -> Described:
    """Collect what describes users or items.

    Args:
        spark: the session.
        rows: FEATURE_ROWS_SCHEMA.
        values: FEATURE_VALUES_SCHEMA.
        what: `users` or `items`, for the message.
        check: refuses numbers of rows and of ids that do not fit, before they are collected.

    Raises:
        MemoryLimitError: it is more than Spark may collect, or than `check` allows.
    """
    id_type = rows.schema[ID].dataType.simpleString()
    texts = F.octet_length(GROUP) + F.octet_length(VALUE)
    n_bytes = F.sum(id_bytes(ID, id_type) + texts)
    size = rows.agg(F.count(F.lit(1)), n_bytes, F.count_distinct(ID)).collect()[0]
    if check is not None:
        check(size[0], size[2])
    check_result(
        spark,
        f"{size[0]:,} features of {what}",
        size[0] * _RESULT_BYTES + (size[1] or 0),
        "raise it, or raise min_count of the groups in features",
    )
    # Sorted here: the order of Spark's rows is nobody's promise.
    table = values.toArrow().sort_by([(GROUP, "ascending"), (VALUE, "ascending")])
    features = [
        Feature(row[GROUP], row[VALUE], row[FOUND], row[N_IDS]) for row in table.to_pylist()
    ]
    position = {(feature.group, feature.value): n for n, feature in enumerate(features)}
    found = rows.toArrow()
    ids = pc.unique(found.column(ID).combine_chunks())
    ids = ids.take(pc.sort_indices(ids))
    at = pc.index_in(found.column(ID).combine_chunks(), value_set=ids).to_numpy()
    names = zip(found.column(GROUP).to_pylist(), found.column(VALUE).to_pylist(), strict=True)
    columns = np.fromiter((position[name] for name in names), np.int32, len(found))
    weights = found.column(WEIGHT).to_numpy().astype(np.float32)
    made = sp.csr_matrix((weights, (at, columns)), shape=(len(ids), len(features)))
    made.sort_indices()
    return Described(ids, features, made)


def sizes(prepared: PreparedFeatures | None) -> FeatureSizes:
    """Return how many features were prepared."""
    if prepared is None:
        return NO_FEATURES
    manifest = prepared.manifest
    tables = manifest.tables

    def rows(*written: WrittenTable | None) -> int:
        return sum(table.rows for table in written if table is not None)

    return FeatureSizes(
        rows=rows(tables.items, tables.users),
        columns=rows(tables.item_values, tables.user_values),
        ids=sum(one.ids for one in (manifest.items, manifest.users) if one is not None),
    )


def user_rows(prepared: PreparedFeatures | None) -> DataFrame | None:
    """Return a row for each feature of a user; None where there are none."""
    return None if prepared is None else prepared.rows.get(USERS)
