"""Prepare the ratings and train a model."""

import logging
from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame

from recsys.config.configuration import Config, digest
from recsys.flows.describe import features_report
from recsys.flows.execution import Job
from recsys.flows.manifest import Outcome, OutputTable
from recsys.ingest.features import (
    PreparedFeatures,
    features_id,
    prepare_features,
    states,
)
from recsys.ingest.manifest import InputState
from recsys.ingest.preparation import Prepared, interactions_id, prepare
from recsys.learn.assembly import fold_in_of, likes_of
from recsys.learn.described import abouts, sizes
from recsys.learn.feature_choice import DescribedFit, fit_described
from recsys.learn.fitting import Fitted
from recsys.learn.matrices import Interactions, collect
from recsys.learn.training import has_openmp
from recsys.model.assembly_report import AssemblyReport
from recsys.model.learned import Learned
from recsys.model.manifest import (
    EarlyStoppingReport,
    FoldInReport,
    ModelOrigin,
    NegativesReport,
    PairRules,
    TrainingReport,
)
from recsys.model.tables import Model, load_model, write_model, written_model
from recsys.runtime import memory
from recsys.runtime.run import Run, versions
from recsys.runtime.session import driver_cores
from recsys.runtime.stop_points import stop_point
from recsys.store.manifest import MANIFEST

log = logging.getLogger(__name__)


def train(job: Job) -> Model:
    """Publish interactions and a model; a retry takes up what its run had finished."""
    config, run, store = job.config, job.run, job.store
    found = states(job.spark, config)
    model_id = model_id_of(config, run, found)
    place = store.uri("models", model_id)
    if store.exists(f"{place}/{MANIFEST}"):
        log.info("model %s is there already: taking it up", model_id)
        return load_model(store, place)

    with run.step("prepare"):
        prepared = prepare(job.spark, store, config, run, job.staging)
        types = prepared.manifest.id_types
        described = prepare_features(job.spark, store, config, run, types, job.staging, found)
    stop_point("prepared")
    interactions, made = learn(job, prepared.pairs, described)
    stop_point("trained")
    with run.step("fold-in"):
        likes = likes_of(interactions.labels)
        fold_in, report = fold_in_of(made.made, likes, config.training.seed)
    with run.step("write model"):
        learned = Learned.of(
            interactions,
            made.made.embeddings,
            fold_in,
            types,
            user_features=made.users,
            item_features=made.items,
        )
        manifest = write_model(
            store,
            job.scratch,
            f"{job.staging}/model",
            learned,
            prepared.pairs,
            origin(job, model_id, prepared, interactions, made).model_copy(
                update={
                    "fold_in": FoldInReport(**report),
                    "features": features_report(config, described, made),
                }
            ),
            rows_per_file=config.scoring.users_per_file,
        )
        stop_point("model written")
        store.ensure_alive()
        store.publish(f"{job.staging}/model", place)
    return written_model(store, place, learned, manifest)


def learn(
    job: Job, pairs: DataFrame, described: PreparedFeatures | None
) -> tuple[Interactions, DescribedFit]:
    """Collect labelled pairs and features, and train on them for as many epochs as is best."""
    settings = job.config.training
    with job.run.step("collect"):
        interactions = collect(
            job.spark,
            job.scratch,
            pairs,
            settings,
            job.run.run_date,
            max_share=job.config.memory.max_share,
            features=sizes(described),
        )
        known = abouts(job.spark, described, interactions, job.config)
    with job.run.step("train"):
        made = fit_described(
            interactions.labels,
            settings,
            job.config.features,
            known,
            threads=threads(job),
            ratings=interactions.ratings,
            ages=interactions.ages,
            bytes_allowed=_spare(job),
        )
    return interactions, made


def _spare(job: Job) -> int:
    """Return how many bytes a second view may take; the rest is for the pairs and the model."""
    heap = memory.heap_bytes(job.spark)
    return memory.allowed_bytes(heap, job.config.memory.max_share) // 2


def threads(job: Job) -> int:
    """Return on how many CPU threads to train."""
    return job.config.training.threads or min(memory.cpus(), driver_cores(job.spark))


def model_id_of(config: Config, run: Run, found: Mapping[str, InputState]) -> str:
    """Name the model of a run: the same for a retry, another for other settings or features.

    Args:
        config: what is trained and how.
        run: which trains it.
        found: what `features.states` returned.
    """
    made_of = [interactions_id(config, run), config.fingerprint("training")]
    if config.training.sample_weights.half_life_days is not None:
        made_of.append(run.run_date.isoformat())  # ages count from there
    if config.features.configured:
        made_of += [features_id(config, run, found)]
        settings = config.public()["features"]
        made_of += [digest({name: settings[name] for name in settings if name != "cold_items"})]
    return f"{run.run_id}-{digest(made_of)[:8]}"


def early_stopping_report(config: Config, report: dict[str, Any]) -> EarlyStoppingReport | None:
    """Return what early stopping reported, typed; None where it was not used."""
    settings = config.training.early_stopping
    return None if settings is None else EarlyStoppingReport(share=settings.share, **report)


def negatives_report(fitted: Fitted) -> NegativesReport | None:
    """Return what was learned from as negatives, typed; None for losses without negatives."""
    return None if fitted.negatives is None else NegativesReport(**fitted.negatives)


def origin(
    job: Job,
    model_id: str,
    prepared: Prepared,
    interactions: Interactions,
    made: DescribedFit,
) -> ModelOrigin:
    """Say where a model comes from."""
    fitted, biases = made.fitted, made.made.embeddings.user_biases
    config, run = job.config, job.run
    return ModelOrigin(
        model_id=model_id,
        run_id=run.run_id,
        run_date=run.run_date.isoformat(),
        created_at=run.started_at.isoformat(),
        configuration=config.public(),
        configuration_hash=config.fingerprint(),
        interactions_id=prepared.manifest.interactions_id,
        input=prepared.manifest.input,
        counts=prepared.manifest.counts,
        pair_rules=PairRules(
            deduplication=config.deduplication.policy,
            rating_threshold=config.filters.rating_threshold,
            weighed_by_rating=config.training.sample_weights.by_rating,
            min_user_interactions=config.filters.min_user_interactions,
            min_item_interactions=config.filters.min_item_interactions,
        ),
        training=TrainingReport(
            loss=config.training.loss,
            epochs=fitted.epochs,
            early_stopping=early_stopping_report(config, fitted.report),
            negatives=negatives_report(fitted),
            weightless_pairs=interactions.weightless_pairs,
            mean_user_bias=float(biases.mean(dtype="float64")),
            assembly=AssemblyReport(**made.made.report),
            threads=threads(job),
            openmp=has_openmp(),
            seed=config.training.seed,
        ),
        fold_in=None,
        versions=versions(),
        timings_seconds=dict(run.timings),
    )


def input_tables(job: Job, prepared_id: str, pairs: int, rejects: int) -> dict[str, OutputTable]:
    """Say where interactions and rejects are."""
    return {
        "interactions": OutputTable(uri=job.store.uri("interactions", prepared_id), rows=pairs),
        "rejects": OutputTable(uri=job.store.uri("rejects", prepared_id), rows=rejects),
    }


def trained(job: Job, model: Model) -> Outcome:
    """Say what came of a training."""
    manifest = model.manifest
    counts = manifest.counts
    tables = input_tables(job, manifest.interactions_id, counts.pairs, counts.rows_rejected)
    tables["model"] = OutputTable(uri=model.uri, rows=manifest.n_users)
    return Outcome(model_id=model.model_id, counts=counts, outputs=tables)
