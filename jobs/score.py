"""Score a cohort with a model: `spark-submit jobs/score.py --config conf/x.yaml --model ID`."""

import datetime as dt
import logging
import re
import sys
from contextlib import nullcontext
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime import Job, Options, execute
from recsys import cohorts, scoring
from recsys.candidates import read_candidates
from recsys.columns import (
    GENERATED_AT,
    ITEM,
    ITEM_INDEX,
    MODEL_ID,
    PROBABILITY,
    RANK,
    RECOMMENDATIONS_SCHEMA,
    REQUESTS_SCHEMA,
    ROUTED_SCHEMA,
    RUN_ID,
    STATUS,
    STATUS_SCHEMA,
    USER,
    names,
)
from recsys.errors import ConfigError, OutputError
from recsys.interactions import index_frame
from recsys.model_store import Model, load_model
from recsys.preparation import open_pairs
from recsys.source import reading

log = logging.getLogger(__name__)


def score(job: Job, model: Model) -> dict[str, Any]:
    """Publish the lists and the statuses of one cohort, and say what they are."""
    config, run, store = job.config, job.run, job.store
    config.require_scoring()
    types = {"user": model.user_type, "item": model.item_type}
    schema, status_schema = RECOMMENDATIONS_SCHEMA.format(**types), STATUS_SCHEMA.format(**types)
    staged, staged_status = f"{job.staging}/recommendations", f"{job.staging}/status"
    partition = (f"run_date={run.run_date}", f"cohort={config.cohort.name}", f"run_id={run.run_id}")

    with run.stage("cohort"):
        pairs = open_pairs(store, model, config.scoring.interactions)
        asked = _staged_requests(job, model, pairs)
        n_asked = asked.count()
        cores = job.spark.sparkContext.defaultParallelism
        tasks = scoring.n_tasks(n_asked, config.scoring.users_per_file, cores)
        routed, candidates = _staged_ways(job, model, asked, pairs, tasks)
        allowed = scoring.allowed_items(job.spark, model, config.items)
    with run.stage("score"):
        ranked = scoring.recommend(
            job.spark,
            model,
            routed,
            k=config.scoring.k,
            exclude_seen=config.scoring.exclude_seen,
            tasks=tasks,
            allowed=allowed,
            only_candidates=bool(candidates),
        )
        stamped = {
            PROBABILITY: scoring.probability(model.manifest["configuration"]["training"]["loss"]),
            MODEL_ID: F.lit(model.model_id),
            RUN_ID: F.lit(run.run_id),
            GENERATED_AT: F.lit(dt.datetime.now(dt.UTC)),
        }
        lists = store.write_table(
            ranked.withColumns(stamped).select(*names(schema)), staged, schema
        )
    with run.stage("publish"):
        written = store.read_table(staged, schema)
        counts = _verify(written, config.scoring.k)
        statuses = cohorts.statuses(
            asked, routed, written, model.user_type, only_candidates=bool(candidates)
        )
        status = store.write_table(statuses.coalesce(tasks), staged_status, status_schema)
        by_status = _by_status(store.read_table(staged_status, status_schema), n_asked)
        # Who has a list also has a status, at every moment: the statuses go first.
        store.publish(staged_status, store.uri("status", *partition))
        store.publish(staged, store.uri("recommendations", *partition))
    return {
        "status": {"uri": store.uri("status", *partition), **status, "by_status": by_status},
        "recommendations": {
            "uri": store.uri("recommendations", *partition),
            **lists,
            **counts,
            **candidates,
        },
    }


def _staged_requests(job: Job, model: Model, pairs: DataFrame) -> DataFrame:
    """Write down who is asked for: lists and statuses must be about the same, whatever happens."""
    place = f"{job.staging}/requests"
    schema = REQUESTS_SCHEMA.format(user=model.user_type)
    config = job.config
    asked = cohorts.requests(
        job.spark, config.cohort, model.user_type, model.item_type, pairs, config.items.candidates
    )
    listed = config.cohort.users or config.items.candidates
    with reading(listed) if listed is not None else nullcontext():
        asked.write.parquet(place)
    return job.store.read_table(place, schema)


def _staged_ways(
    job: Job, model: Model, asked: DataFrame, pairs: DataFrame, tasks: int
) -> tuple[DataFrame, dict[str, Any]]:
    """Write down by which way each user is served, for lists and statuses to agree on."""
    wanted, settings = job.config.items.candidates, job.config.scoring
    types = {"user": model.user_type, "item": model.item_type}
    item_index = index_frame(job.spark, model.items.ids, ITEM, ITEM_INDEX)
    candidates, counts = None, {}
    if wanted is not None:
        candidates, found = read_candidates(
            job.spark,
            wanted,
            item_index,
            f"{job.staging}/candidates",
            user_type=types["user"],
            item_type=types["item"],
        )
        counts = {"candidates": found}
        log.info("candidates: %s", ", ".join(f"{n:,} {name}" for name, n in found.items()))
    routed = cohorts.ways(
        asked,
        model.users,
        pairs,
        item_index,
        fold_in=settings.fold_in,
        fallback=settings.fallback,
        threshold=model.manifest["configuration"]["filters"]["rating_threshold"],
        candidates=candidates,
        newer=settings.interactions is not None,
    )
    place, schema = f"{job.staging}/ways", ROUTED_SCHEMA.format(**types)
    job.store.write_table(scoring.split(routed, tasks), place, schema)
    return job.store.read_table(place, schema), counts


def _verify(lists: DataFrame, k: int) -> dict[str, int]:
    """Read what was staged; nothing becomes visible that breaks its contract."""
    per_user = lists.groupBy(USER).agg(
        F.count(F.lit(1)).alias("n"),
        F.max(RANK).alias("last"),
        F.count_distinct(RANK).alias("ranks"),
    )
    found = per_user.agg(
        F.count(F.lit(1)).alias("users"),
        F.count_if(F.col("n") == k).alias("full_lists"),
        F.count_if(
            (F.col("n") > k) | (F.col("n") != F.col("last")) | (F.col("n") != F.col("ranks"))
        ).alias("broken"),
    ).collect()[0]
    if found["broken"]:
        raise OutputError(
            f"{found['broken']:,} lists are too long or have a gap in their ranks; nothing was "
            "published; report this with the run's manifest"
        )
    return {
        "users_with_items": int(found["users"]),
        "users_with_full_lists": int(found["full_lists"]),
    }


def _by_status(statuses: DataFrame, n_asked: int) -> dict[str, int]:
    counts = {row[STATUS]: row["count"] for row in statuses.groupBy(STATUS).count().collect()}
    if sum(counts.values()) != n_asked:
        raise OutputError(
            f"{n_asked:,} were asked for, but {sum(counts.values()):,} have a status; nothing was "
            "published; report this with the run's manifest"
        )
    return dict(sorted(counts.items()))


def open_model(job: Job, model_id: str) -> Model:
    """Load a model of this root by its id."""
    if not re.fullmatch(r"[a-z][A-Za-z0-9_.-]{0,160}", model_id):
        raise ConfigError(
            f"--model: found {model_id[:180]!r}, expected the id of a model under "
            f"{job.store.uri('models')}"
        )
    return load_model(job.spark, job.store, job.store.uri("models", model_id))


def stages(job: Job, model_id: str) -> dict[str, Any]:
    """Run the stages and say what came of them."""
    model = open_model(job, model_id)
    return {
        "model_id": model.model_id,
        "cohort": job.config.cohort.name,
        "outputs": score(job, model),
    }


def main(options: Options, model_id: str) -> int:
    """Run the job and return its exit status."""
    return execute(
        "score",
        options,
        partial(stages, model_id=model_id),
        needs_input=False,
        asked={"model_id": model_id},
    )


if __name__ == "__main__":
    from jobs.cli import command

    command(["score", *sys.argv[1:]])
