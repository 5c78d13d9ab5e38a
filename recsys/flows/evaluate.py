"""Measure a model on held-out pairs: `spark-submit jobs/evaluate.py --config conf/x.yaml`."""

from dataclasses import asdict, astuple
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    EVALUATED_SCHEMA,
    FOLD,
    METRICS_SCHEMA,
    SPLIT_SCHEMA,
    TEST_USERS_SCHEMA,
    USER_METRICS_SCHEMA,
    names,
)
from recsys.config.configuration import digest
from recsys.evaluate import held_out, report, splits
from recsys.flows.execution import Job, Options, execute
from recsys.flows.train import learn, threads
from recsys.ingest.preparation import Prepared, prepare
from recsys.kernel.evaluate import Traits
from recsys.kernel.fold_in import plain_mean
from recsys.learn import training
from recsys.model.tables import Model, load_model, write_model
from recsys.score import ranking


def steps(job: Job) -> dict[str, Any]:
    """Run the steps and say what came of them."""
    config, run, store, settings = job.config, job.run, job.store, job.config.evaluation
    config.require_evaluation()
    training.check_threads(threads(job))
    with run.step("prepare"):
        prepared = prepare(job.spark, store, config, run, job.staging)
    with run.step("split"):
        schema, place = SPLIT_SCHEMA.format(**prepared.types), f"{job.staging}/split"
        store.write_table(splits.split(prepared.pairs, settings.split), place, schema)
        parts = store.read_table(place, schema)
        counts = splits.counts(parts, settings.split)
    model, traits, learned = _train(job, prepared, parts)
    with run.step("evaluate"):
        cores = job.spark.sparkContext.defaultParallelism
        tasks = ranking.n_tasks(counts["users_in_test"], config.scoring.users_per_file, cores)
        rows, tested = _evaluate(job, model, traits, parts, tasks)
    with run.step("estimate"):
        values = held_out.collect_values(job.spark, rows, config.memory.max_share)
        covered = held_out.coverage(rows, len(model.items.ids))
        found = held_out.results(values, covered, settings)
    with run.step("publish"):
        outputs = _publish(job, prepared, rows, found)
    counts |= {**tested, "users_not_evaluated": counts["users"] - tested["users_evaluated"]}
    return {
        "counts": {**prepared.manifest["counts"], **counts},
        "training": learned,
        "metrics": [asdict(result) for result in found if result.segment == held_out.ALL],
        "report": report.lines(found),
        "outputs": outputs,
    }


def _train(job: Job, prepared: Prepared, parts: DataFrame) -> tuple[Model, Traits, dict[str, Any]]:
    """Train on the train fold; the model is staged and goes with the run's staging directory."""
    config, run = job.config, job.run
    interactions, fitted = learn(job, parts.where(F.col(FOLD) == splits.TRAIN).drop(FOLD))
    with run.step("write model"):
        # Workers keep items by this name.
        made_of = [config.fingerprint(), run.run_id, run.started_at.isoformat()]
        name = f"evaluated-{digest(made_of)[:16]}"
        place = f"{job.staging}/{name}"
        write_model(
            job.spark,
            job.store,
            place,
            interactions=interactions,
            embeddings=fitted.embeddings,
            fold_in=plain_mean(config.training.no_components),
            pairs=parts.where(F.col(FOLD) != splits.TEST),
            types=prepared.types,
            rows_per_file=config.scoring.users_per_file,
            about={"model_id": name},
        )
        model = load_model(job.spark, job.store, place)
    learned = {
        "epochs": fitted.epochs,
        "early_stopping": fitted.report,
        "negatives": fitted.negatives,
    }
    return model, held_out.item_traits(model, interactions.labels), learned


def _evaluate(
    job: Job, model: Model, traits: Traits, parts: DataFrame, tasks: int
) -> tuple[DataFrame, dict[str, int]]:
    """Write down who is tested on what, so that what is counted is what is measured; measure it."""
    store, settings = job.store, job.config.evaluation
    place, schema = f"{job.staging}/test_users", TEST_USERS_SCHEMA.format(user=model.user_type)
    users = held_out.users_to_test(job.spark, parts, model, settings.segment)
    store.write_table(ranking.number_parts(users, tasks), place, schema)
    staged = store.read_table(place, schema)
    tested = held_out.counts(staged)
    rows = held_out.evaluated(job.spark, model, traits, staged, settings, tasks=tasks)
    place, schema = f"{job.staging}/evaluated", EVALUATED_SCHEMA.format(user=model.user_type)
    store.write_table(rows, place, schema)
    return store.read_table(place, schema), tested


def _publish(
    job: Job, prepared: Prepared, rows: DataFrame, found: list[held_out.Result]
) -> dict[str, Any]:
    """Publish both tables by one rename, and say where everything is."""
    store, staged = job.store, f"{job.staging}/evaluation"
    place = store.uri("evaluations", job.run.run_id)
    users_schema = USER_METRICS_SCHEMA.format(**prepared.types)
    frames = {
        "metrics": (
            job.spark.createDataFrame([astuple(line) for line in found], METRICS_SCHEMA).coalesce(
                1
            ),
            METRICS_SCHEMA,
        ),
        "users": (rows.select(*names(users_schema)), users_schema),
    }
    written = {
        name: store.write_table(frame, f"{staged}/{name}", schema)
        for name, (frame, schema) in frames.items()
    }
    store.publish(staged, place)
    interactions = prepared.manifest["interactions_id"]
    return {
        "interactions": {
            "uri": store.uri("interactions", interactions),
            "rows": prepared.manifest["counts"]["pairs"],
        },
        "rejects": {
            "uri": store.uri("rejects", interactions),
            "rows": prepared.manifest["counts"]["rows_rejected"],
        },
        **{name: {"uri": f"{place}/{name}", **about} for name, about in written.items()},
    }


def main(options: Options) -> int:
    """Run the job and return its exit status."""
    return execute("evaluate", options, steps)
