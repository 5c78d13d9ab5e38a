"""Prepare the ratings and train a model: `spark-submit jobs/train.py --config conf/x.yaml`."""

import logging
from typing import Any

import numpy as np
from pyspark.sql import DataFrame

from recsys.config.configuration import digest
from recsys.flows.execution import Job, Options, execute
from recsys.ingest.preparation import interactions_id, prepare
from recsys.learn import fold_in_map, training
from recsys.learn.matrices import Interactions, collect
from recsys.model.tables import Model, load_model, write_model
from recsys.runs.run import versions
from recsys.runtime import memory
from recsys.runtime.session import driver_cores
from recsys.runtime.stop_points import stop_point
from recsys.store.checksums import MANIFEST

log = logging.getLogger(__name__)


def train(job: Job) -> Model:
    """Publish interactions and a model; a retry takes up what its run had finished."""
    config, run, store = job.config, job.run, job.store
    training.check_threads(threads(job))
    model_id = _model_id(job)
    place = store.uri("models", model_id)
    if store.exists(f"{place}/{MANIFEST}"):
        log.info("model %s is there already: taking it up", model_id)
        return load_model(job.spark, store, place)

    with run.step("prepare"):
        prepared = prepare(job.spark, store, config, run, job.staging)
    stop_point("prepared")
    interactions, fitted = learn(job, prepared.pairs)
    stop_point("trained")
    embeddings = fitted.embeddings
    with run.step("fold-in"):
        liked = (interactions.labels > 0).tocsr()
        fold_in, fold_in_report = fold_in_map.fit(
            embeddings.user_embeddings,
            embeddings.item_embeddings,
            embeddings.item_biases,
            liked.indptr.astype(np.int64),
            liked.indices.astype(np.int32),
            seed=config.training.seed,
        )
    with run.step("write model"):
        staged = f"{job.staging}/model"
        write_model(
            job.spark,
            store,
            staged,
            interactions=interactions,
            embeddings=embeddings,
            fold_in=fold_in,
            pairs=prepared.pairs,
            types=prepared.types,
            rows_per_file=config.scoring.users_per_file,
            about={
                "model_id": model_id,
                "run_id": run.run_id,
                "run_date": run.run_date.isoformat(),
                "created_at": run.started_at.isoformat(),
                "configuration": config.public(),
                "configuration_hash": config.fingerprint(),
                "interactions_id": prepared.manifest["interactions_id"],
                "input": prepared.manifest["input"],
                "counts": prepared.manifest["counts"],
                "training": {
                    "loss": config.training.loss,
                    "epochs": fitted.epochs,
                    "early_stopping": fitted.report,
                    "negatives": fitted.negatives,
                    "mean_user_bias": float(embeddings.user_biases.mean(dtype=np.float64)),
                    "threads": threads(job),
                    "openmp": training.has_openmp(),
                    "seed": config.training.seed,
                },
                "fold_in": fold_in_report,
                "versions": versions(),
                "timings_seconds": run.timings,
            },
        )
        stop_point("model written")
        store.ensure_alive()
        store.publish(staged, place)
    return load_model(job.spark, store, place)


def learn(job: Job, pairs: DataFrame) -> tuple[Interactions, training.Fitted]:
    """Collect labelled pairs and train on them, for as many epochs as is best."""
    settings = job.config.training
    with job.run.step("collect"):
        interactions = collect(job.spark, pairs, settings, max_share=job.config.memory.max_share)
    with job.run.step("train"):
        fitted = training.fit(
            interactions.labels,
            settings,
            threads=threads(job),
            ratings=interactions.ratings,
            ages=interactions.ages,
        )
    return interactions, fitted


def threads(job: Job) -> int:
    """Return on how many CPU threads to train."""
    return job.config.training.threads or min(memory.cpus(), driver_cores(job.spark))


def _model_id(job: Job) -> str:
    """Name the model of a run: the same for a retry, another for another configuration."""
    made_of = [interactions_id(job.config, job.run), job.config.fingerprint("training")]
    return f"{job.run.run_id}-{digest(made_of)[:8]}"


def outputs(job: Job, model: Model) -> dict[str, Any]:
    """Say where the model and what it learned from are."""
    return {
        "interactions": {
            "uri": job.store.uri("interactions", model.manifest["interactions_id"]),
            "rows": model.manifest["counts"]["pairs"],
        },
        "rejects": {
            "uri": job.store.uri("rejects", model.manifest["interactions_id"]),
            "rows": model.manifest["counts"]["rows_rejected"],
        },
        "model": {"uri": model.uri, "rows": model.manifest["n_users"]},
    }


def steps(job: Job) -> dict[str, Any]:
    """Run the steps and say what came of them."""
    model = train(job)
    return {
        "model_id": model.model_id,
        "counts": model.manifest["counts"],
        "outputs": outputs(job, model),
    }


def main(options: Options) -> int:
    """Run the job and return its exit status."""
    return execute("train", options, steps)
