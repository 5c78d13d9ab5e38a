"""Find the nearest neighbours of items or users, and publish them."""

import datetime as dt
import logging

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    GENERATED_AT,
    ITEM,
    MODEL_ID,
    RANK,
    RUN_DATE,
    RUN_ID,
    SIMILAR_ITEMS_SCHEMA,
    SIMILAR_USERS_SCHEMA,
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
from recsys.score.manifest import SimilarCounts
from recsys.score.similar import asked_for, similar, vectors_of

log = logging.getLogger(__name__)


def check_published(job: Job, kind: str, id_types: IdTypes) -> None:
    """Refuse columns that could not be read together with the newest neighbours that are published.

    Args:
        job: the run.
        kind: `items` or `users`.
        id_types: the model's.

    Raises:
        OutputError: a column that is published is missing or of another type.
    """
    files, table = job.store.files, f"similar_{kind}"
    new = columns(_schema(kind, id_types))
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
    """Publish the neighbours of `items` or `users`, and say what they are."""
    config, run, store = job.config, job.run, job.store
    whose, chosen = (ITEM, config.similar.items) if kind == ITEMS else (USER, config.similar.users)
    schema = _schema(kind, model.id_types)
    table = f"similar_{kind}"
    staged = f"{job.staging}/{table}"
    place = store.uri(table, run.run_date.isoformat(), run.run_id)

    with run.step("request"):
        cold = kind == ITEMS and job.config.features.lists_cold
        vectors = vectors_of(model, kind, cold=cold)
        asked = asked_for(job.spark, model, chosen, kind)
    with run.step("similar"):
        found, counts = similar(
            job.spark,
            job.scratch,
            model,
            kind,
            vectors,
            asked,
            k=config.similar.k,
            rows_per_file=config.scoring.users_per_file,
        )
        stamped = {
            RUN_DATE: F.lit(run.run_date),
            MODEL_ID: F.lit(model.model_id),
            RUN_ID: F.lit(run.run_id),
            GENERATED_AT: F.lit(dt.datetime.now(dt.UTC)),
        }
        named = found.withColumnRenamed("id", whose).withColumns(stamped)
        written = store.write_table(named.select(*names(schema)), staged, schema)
    with run.step("publish"):
        _verify(store.read_table(staged, schema), whose, counts)
        store.publish(staged, place)
    output = OutputTable(uri=place, rows=written.rows, files=written.files)
    return Outcome(model_id=model.model_id, similar=counts, outputs={table: output})


def _schema(kind: str, id_types: IdTypes) -> str:
    return id_types.fill(SIMILAR_ITEMS_SCHEMA if kind == ITEMS else SIMILAR_USERS_SCHEMA)


def _verify(found: DataFrame, whose: str, counts: SimilarCounts) -> None:
    """Read what was staged; nothing becomes visible that breaks its contract."""
    n = counts.neighbours
    per_row = found.groupBy(whose).agg(
        F.count(F.lit(1)).alias("n"),
        F.max(RANK).alias("last"),
        F.count_distinct(RANK).alias("ranks"),
    )
    whole = F.count_if((F.col("n") == n) & (F.col("last") == n) & (F.col("ranks") == n))
    row = per_row.agg(F.count(F.lit(1)).alias("lists"), whole.alias("whole")).collect()[0]
    expected = counts.answered if n else 0
    if not row["lists"] == row["whole"] == expected:
        raise OutputError(
            f"expected {expected:,} lists of {n} neighbours, found {row['lists']:,}, "
            f"{row['whole']:,} of them whole; nothing was published; report this with the run's "
            "manifest"
        )
