"""From the configured source to published interactions: every row accounted for."""

import datetime as dt
import itertools
import logging
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    CONFLICTING,
    INTERACTIONS_SCHEMA,
    ITEM,
    LABEL,
    REJECTS_SCHEMA,
    USER,
    IdTypes,
)
from recsys.config.configuration import Config, digest
from recsys.config.sections import RANKING_LOSSES
from recsys.errors import InputError, ModelError, TooManyRejectsError
from recsys.ingest import judging, pairing
from recsys.ingest.advice import in_words
from recsys.ingest.judged_rows import JudgedRows, judge_rows
from recsys.ingest.manifest import (
    InteractionsManifest,
    InteractionsTables,
    PreparationCounts,
)
from recsys.runtime.run import Run
from recsys.store.manifest import MANIFEST, ManifestError, WrittenTable
from recsys.store.tables import Store

PAIRS, REJECTS = "pairs", "rejects"
# How many rows are deduplicated at once, and written as one file of pairs, at most: some 100 MB
# while it is done, and more would not stay in memory. Each core gets a part, unless it is smaller
# than the least: that would make many small files.
_ROWS_PER_PART, _LEAST_ROWS = 1_000_000, 100_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Published interactions.

    Attributes:
        manifest: what is said of them.
        pairs: INTERACTIONS_SCHEMA.
    """

    manifest: InteractionsManifest
    pairs: DataFrame


def interactions_id(config: Config, run: Run) -> str:
    """Name what this run prepares: the same for a retry, another for another configuration."""
    return f"{run.run_id}-{_fingerprint(config, run.run_date)[:8]}"


def _fingerprint(config: Config, run_date: dt.date) -> str:
    window = config.filters.window(run_date)
    return digest(
        {
            "config": config.fingerprint("input", "row_checks", "deduplication", "filters"),
            "window": [str(day) for day in window],
            "keeps_negatives": config.training.loss not in RANKING_LOSSES,
            "weighed_by_rating": config.training.sample_weights.by_rating,
        }
    )


def prepare(spark: SparkSession, store: Store, config: Config, run: Run, staging: str) -> Prepared:
    """Read, validate, deduplicate, filter and publish the ratings.

    A retry of the same run takes up what it had published.

    Raises:
        InputError: the source cannot be read, or nothing usable is in it.
        TooManyRejectsError: more was rejected than `row_checks.max_rejected_share`.
    """
    name = interactions_id(config, run)
    place = store.uri("interactions", name)
    if store.exists(f"{place}/{MANIFEST}"):
        log.info("interactions %s are there already: taking them up", name)
        return open_prepared(store, place)

    staged = f"{staging}/interactions"
    judged = judge_rows(spark, store, config, run, f"{staging}/rows")
    # Rejects are published even if the job stops because of them, so that people can look at them.
    staged_rejects, rejects_place = f"{staging}/{REJECTS}", store.uri(REJECTS, name)
    rejects = store.write_table(judging.rejects(judged.rows), staged_rejects, REJECTS_SCHEMA)
    store.publish(staged_rejects, rejects_place)
    _check_share(judged, config.row_checks.max_rejected_share, rejects_place)
    good = judging.accepted(judged.rows)
    parts = _n_parts(judged.accepted, spark.sparkContext.defaultParallelism)
    labelled = pairing.label(
        pairing.deduplicate(good, config.deduplication, parts=parts),
        config.filters,
        config.filters.window(run.run_date),
        keep_negatives=config.training.loss not in RANKING_LOSSES,
        weighed_by_rating=config.training.sample_weights.by_rating,
    )
    pairs = _write_pairs(spark, store, labelled, config, staging, judged.id_types)
    store.delete(f"{staging}/rows")
    schema = judged.id_types.fill(INTERACTIONS_SCHEMA)
    manifest = InteractionsManifest(
        schema_version=InteractionsManifest.SCHEMA_VERSION,
        interactions_id=name,
        run_id=run.run_id,
        id_types=judged.id_types,
        input=judged.input,
        counts=_count(judged, store.read_table(f"{staged}/{PAIRS}", schema)),
        timestamps=judged.timestamps,
        warnings=judged.warnings,
        tables=InteractionsTables(pairs=pairs, rejects=rejects),
    )
    store.files.replace(f"{staged}/{MANIFEST}", manifest.to_json())
    store.publish(staged, place)
    return open_prepared(store, place)


def _n_parts(rows: int, cores: int) -> int:
    """Return into how many parts rows go to become pairs, which are the same for any number."""
    return max(-(-rows // _ROWS_PER_PART), min(cores, rows // _LEAST_ROWS + 1))


def _check_share(judged: JudgedRows, allowed: float, rejects: str) -> None:
    n_read, n_rejected = judged.n_read, judged.n_rejected
    if n_read == 0:
        raise InputError("the input has no rows; check input.path and input.options")
    if n_rejected / n_read > allowed or n_rejected == n_read:
        raise TooManyRejectsError(
            f"{n_rejected:,} of {n_read:,} rows ({n_rejected / n_read:.1%}) were rejected, "
            f"row_checks.max_rejected_share allows {allowed:.1%}: {in_words(judged.rejected)}; "
            f"they are in {rejects}; mend the input or its description in the configuration, or "
            "raise the limit"
        )


def _write_pairs(
    spark: SparkSession,
    store: Store,
    labelled: DataFrame,
    config: Config,
    staging: str,
    id_types: IdTypes,
) -> WrittenTable:
    schema = id_types.fill(INTERACTIONS_SCHEMA)
    place = f"{staging}/interactions/{PAIRS}"
    filters = config.filters
    if max(filters.min_user_interactions, filters.min_item_interactions) == 1:
        return store.write_table(labelled, place, schema)
    numbers = itertools.count()

    def checkpoint(frame: DataFrame) -> DataFrame:
        step = f"{staging}/steps/{next(numbers)}"
        frame.write.parquet(step)
        return spark.read.schema(frame.schema).parquet(step)

    kept = pairing.drop_rare(checkpoint(labelled), filters, checkpoint)
    written = store.write_table(kept, place, schema)
    store.delete(f"{staging}/steps")
    return written


def _count(judged: JudgedRows, pairs: DataFrame) -> PreparationCounts:
    # Grouped by one column each: four distinct counts at once would make five rows of each.
    kinds = {
        "pairs": F.count(F.lit(1)),
        "conflicting_pairs": F.count_if(F.col(CONFLICTING)),
        "positive_pairs": F.count_if(F.col(LABEL) == 1),
        "negative_pairs": F.count_if(F.col(LABEL) == -1),
        "pairs_left_out": F.count_if(F.col(LABEL) == 0),
    }
    used = F.bool_or(F.col(LABEL) != 0).alias("used")
    users = pairs.groupBy(USER).agg(used, *[kind.alias(name) for name, kind in kinds.items()])
    items = pairs.groupBy(ITEM).agg(used)
    totals = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in kinds]
    counts = {
        **_ids(users, "users", *totals),
        **_ids(items, "items"),
    }
    return PreparationCounts(
        rows_read=judged.n_read,
        rows_accepted=judged.accepted,
        rows_rejected=judged.n_rejected,
        rejected_by_reason={reject.reason: reject.rows for reject in judged.rejected},
        rows_with_rating_zero=judged.zeros,
        **counts,
    )


def _ids(grouped: DataFrame, name: str, *more: Column) -> dict[str, int]:
    """Count ids, and those that training uses, by one row for each."""
    counted = F.count(F.lit(1)).alias(name), F.count_if("used").alias(f"{name}_in_training")
    return {key: int(n) for key, n in grouped.agg(*counted, *more).collect()[0].asDict().items()}


def open_prepared(store: Store, place: str) -> Prepared:
    """Open published interactions.

    Raises:
        ModelError: their manifest is damaged, or was written by a newer version.
    """
    try:
        manifest = InteractionsManifest.from_json(store.files.read(f"{place}/{MANIFEST}"))
    except ManifestError as error:
        raise ModelError(
            f"{place}/{MANIFEST} cannot be used: {error}; train with another run id"
        ) from error
    schema = manifest.id_types.fill(INTERACTIONS_SCHEMA)
    return Prepared(manifest, store.read_table(f"{place}/{PAIRS}", schema))
