"""Score a cohort with a model: `spark-submit jobs/score.py --config conf/x.yaml --model ID`."""

import datetime as dt
import re
import sys
from functools import partial
from typing import Any

from pyspark.sql import functions as F

from jobs.runtime import Job, Options, execute
from recsys.columns import (
    GENERATED_AT,
    MODEL_ID,
    RANK,
    RECOMMENDATIONS_SCHEMA,
    RUN_ID,
    USER,
    names,
)
from recsys.errors import ConfigError, OutputError
from recsys.model_store import Model, load_model
from recsys.scoring import recommend


def score(job: Job, model: Model) -> dict[str, Any]:
    """Publish the recommendations of one cohort and say what they are."""
    run, settings = job.run, job.config.scoring
    schema = RECOMMENDATIONS_SCHEMA.format(user=model.user_type, item=model.item_type)
    staged = f"{job.staging}/recommendations"
    place = job.store.uri(
        "recommendations",
        f"run_date={run.run_date}",
        f"cohort={settings.cohort}",
        f"run_id={run.run_id}",
    )
    with run.stage("score"):
        ranked = recommend(
            job.spark,
            model,
            model.users,
            k=settings.k,
            exclude_seen=settings.exclude_seen,
            users_per_file=settings.users_per_file,
        )
        table = job.store.write_table(
            ranked.withColumns(
                {
                    MODEL_ID: F.lit(model.model_id),
                    RUN_ID: F.lit(run.run_id),
                    GENERATED_AT: F.lit(dt.datetime.now(dt.UTC)),
                }
            ).select(*names(schema)),
            staged,
            schema,
        )
    with run.stage("publish"):
        counts = _verify(job, staged, schema, model)
        job.store.publish(staged, place)
    return {"uri": place, "rows": table["rows"], **counts, "files": table["files"]}


def _verify(job: Job, staged: str, schema: str, model: Model) -> dict[str, int]:
    """Read back what was staged; nothing becomes visible that breaks its contract."""
    per_user = (
        job.store.read_table(staged, schema)
        .groupBy(USER)
        .agg(
            F.count(F.lit(1)).alias("n"),
            F.max(RANK).alias("last"),
            F.count_distinct(RANK).alias("ranks"),
        )
    )
    found = per_user.agg(
        F.count(F.lit(1)).alias("users"),
        F.count_if(F.col("n") == job.config.scoring.k).alias("full_lists"),
        F.count_if((F.col("n") != F.col("last")) | (F.col("n") != F.col("ranks"))).alias("broken"),
    ).collect()[0]
    if found["broken"]:
        raise OutputError(
            f"{found['broken']:,} lists have a gap or a repeat in their ranks; nothing was "
            "published; report this with the run's manifest"
        )
    requested = int(model.manifest["n_users"])
    return {
        "users_requested": requested,
        "users_with_items": int(found["users"]),
        "users_with_full_lists": int(found["full_lists"]),
    }


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
        "cohort": job.config.scoring.cohort,
        "outputs": {"recommendations": score(job, model)},
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
