"""Find the nearest neighbours of items, users or features, and publish them."""

import datetime as dt
import logging

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    FEATURE,
    GENERATED_AT,
    ITEM,
    KIND,
    MODEL_ID,
    NEIGHBOUR_TABLES,
    RANK,
    RUN_DATE,
    RUN_ID,
    USER,
    IdTypes,
    names,
)
from recsys.errors import OutputError
from recsys.flows.execution import Job
from recsys.flows.manifest import Outcome, OutputTable
from recsys.model.arrays import ITEMS
from recsys.model.tables import Model
from recsys.publishing.versions import columns, schema_changes
from recsys.runtime.spark_errors import spark_reason
from recsys.score.similar import asked_for, similar, spread_vectors, vectors_of
from recsys.score.similar_features import features_asked_for, similar_features
from recsys.store.manifest import WrittenTable

log = logging.getLogger(__name__)

FEATURES = "features"
# What the command writes, by what it is asked for.
TABLES = {
    "items": ("similar_items",),
    "users": ("similar_users",),
    FEATURES: ("similar_features", "feature_items"),
}


def places(job: Job, kind: str) -> list[str]:
    """Return the directories in which a run puts its tables, one for each."""
    return [job.store.uri(table, job.run.run_date.isoformat()) for table in TABLES[kind]]


def check_published(job: Job, kind: str, id_types: IdTypes) -> None:
    """Refuse columns that could not be read together with the newest neighbours that are published.

    Args:
        job: the run.
        kind: `items`, `users` or `features`.
        id_types: the model's.

    Raises:
        OutputError: a column that is published is missing or of another type.
    """
    for table in TABLES[kind]:
        _check_published(job, table, id_types)


def _check_published(job: Job, table: str, id_types: IdTypes) -> None:
    files, new = job.store.files, columns(id_types.fill(NEIGHBOUR_TABLES[table]))
    for day in reversed(files.names(files.uri(table))):
        for run_id in files.names(files.uri(table, day)):
            try:
                found = job.spark.read.parquet(files.uri(table, day, run_id)).schema
            except (PySparkException, Py4JJavaError) as error:
                log.warning("%s of run %s: %s", table, run_id, spark_reason(error))
                continue
            old = {field.name: field.dataType.simpleString() for field in found}
            if changes := schema_changes(old, new):
                raise OutputError(
                    f"{table}: {', '.join(changes)}, compared with run {run_id}; new columns are "
                    "fine, others need a new root"
                )
            return


def find_neighbours(job: Job, model: Model, kind: str) -> Outcome:
    """Publish the neighbours of `items`, `users` or `features`, and say what they are."""
    return _of_features(job, model) if kind == FEATURES else _of_ids(job, model, kind)


def _of_ids(job: Job, model: Model, kind: str) -> Outcome:
    config, run = job.config, job.run
    whose, chosen = (ITEM, config.similar.items) if kind == ITEMS else (USER, config.similar.users)
    (table,) = TABLES[kind]
    with run.step("request"):
        cold = kind == ITEMS and config.features.lists_cold
        vectors = vectors_of(model, kind, cold=cold)
        asked = asked_for(job.spark, model, chosen, kind)
    with run.step("similar") as step:
        among = spread_vectors(job.spark, model, kind, vectors, cold=cold)
        found, counts = similar(
            job.scratch,
            among,
            asked,
            kind=kind,
            k=config.similar.k,
            rows_per_file=config.scoring.users_per_file,
        )
        written = {table: _stage(job, model, table, found.withColumnRenamed("id", whose))}
        step.rows = written[table].rows
    with run.step("publish"):
        _verify(_staged(job, model, table), whose, counts.answered, counts.neighbours)
        outputs = _publish(job, written)
    return Outcome(model_id=model.model_id, similar=counts, outputs=outputs)


def _of_features(job: Job, model: Model) -> Outcome:
    config, run = job.config, job.run
    k, rows_per_file = config.similar.k, config.scoring.users_per_file
    of_features, of_items = TABLES[FEATURES]
    with run.step("request"):
        asked = features_asked_for(job.store, model, config.similar.features.groups)
        cold = config.features.lists_cold
        vectors = vectors_of(model, ITEMS, cold=cold) if ITEMS in asked else None
    with run.step("similar") as step:
        items = None
        if vectors is not None:
            items = spread_vectors(job.spark, model, ITEMS, vectors, cold=cold)
        near = similar_features(
            job.spark, job.scratch, model, asked, items, k=k, rows_per_file=rows_per_file
        )
        written = {of_features: _stage(job, model, of_features, near.features)}
        step.rows = written[of_features].rows
        if near.items is not None:
            written[of_items] = _stage(job, model, of_items, near.items)
    with run.step("publish"):
        for kind in asked:
            counts = getattr(near.counts, kind)
            own = _staged(job, model, of_features).where(F.col(KIND) == kind)
            _verify(own, FEATURE, counts.answered, counts.neighbours)
            if kind == ITEMS:
                _verify(_staged(job, model, of_items), FEATURE, counts.answered, counts.items)
        outputs = _publish(job, written)
    return Outcome(model_id=model.model_id, similar_features=near.counts, outputs=outputs)


def _stage(job: Job, model: Model, table: str, found: DataFrame) -> WrittenTable:
    """Write a table of neighbours, with what is the same in all rows, where nobody reads it."""
    schema = model.id_types.fill(NEIGHBOUR_TABLES[table])
    stamped = {
        RUN_DATE: F.lit(job.run.run_date),
        MODEL_ID: F.lit(model.model_id),
        RUN_ID: F.lit(job.run.run_id),
        GENERATED_AT: F.lit(dt.datetime.now(dt.UTC)),
    }
    rows = found.withColumns(stamped).select(*names(schema))
    return job.store.write_table(rows, f"{job.staging}/{table}", schema)


def _staged(job: Job, model: Model, table: str) -> DataFrame:
    schema = model.id_types.fill(NEIGHBOUR_TABLES[table])
    return job.store.read_table(f"{job.staging}/{table}", schema)


def _publish(job: Job, written: dict[str, WrittenTable]) -> dict[str, OutputTable]:
    """Move what was staged to where it is read; all of it has been verified."""
    outputs = {}
    for table, found in written.items():
        place = job.store.uri(table, job.run.run_date.isoformat(), job.run.run_id)
        job.store.publish(f"{job.staging}/{table}", place)
        outputs[table] = OutputTable(uri=place, rows=found.rows, files=found.files)
    return outputs


def _verify(found: DataFrame, whose: str, answered: int, n: int) -> None:
    """Read what was staged; nothing becomes visible that breaks its contract.

    Args:
        found: a table of neighbours.
        whose: the column of those whose neighbours they are.
        answered: how many of them there are.
        n: how many neighbours each has.
    """
    per_row = found.groupBy(whose).agg(
        F.count(F.lit(1)).alias("n"),
        F.max(RANK).alias("last"),
        F.count_distinct(RANK).alias("ranks"),
    )
    whole = F.count_if((F.col("n") == n) & (F.col("last") == n) & (F.col("ranks") == n))
    row = per_row.agg(F.count(F.lit(1)).alias("lists"), whole.alias("whole")).collect()[0]
    expected = answered if n else 0
    if not row["lists"] == row["whole"] == expected:
        raise OutputError(
            f"expected {expected:,} lists of {n} neighbours, found {row['lists']:,}, "
            f"{row['whole']:,} of them whole; nothing was published; report this with the run's "
            "manifest"
        )
