"""Prepare the ratings and train a model."""

import logging
from functools import partial
from typing import Any

from pyspark.sql import DataFrame

from recsys.config.configuration import Config
from recsys.config.sections import Training
from recsys.flows.base_model import check_types, not_used, pair_rules
from recsys.flows.describe import features_report
from recsys.flows.execution import Job
from recsys.flows.manifest import Outcome, OutputTable
from recsys.flows.model_ids import (
    base_sample,
    made_before,
    model_id_of,
    sample_of,
    training_from,
)
from recsys.flows.samples import collect_described, holders, sample_report
from recsys.ingest.features import PreparedFeatures, prepare_features, states
from recsys.ingest.preparation import Prepared, prepare
from recsys.kernel.fold_in import FoldIn
from recsys.learn.assembly import Recipe, fold_in_of, likes_of
from recsys.learn.described_fit import KINDS, DescribedFit, go_on_described
from recsys.learn.feature_choice import fit_described
from recsys.learn.fitting import Fitted
from recsys.learn.left_out import judge
from recsys.learn.matrices import Interactions
from recsys.learn.sample_weights import Labelled
from recsys.learn.training import has_openmp
from recsys.learn.user_sample import Sampled
from recsys.learn.warm_start import Kept, WarmStart, begin, recipe
from recsys.model.assembly_report import AssemblyReport
from recsys.model.learned import Learned
from recsys.model.manifest import (
    EarlyStoppingReport,
    FoldInReport,
    ModelManifest,
    ModelOrigin,
    NegativesReport,
    TrainingReport,
    WarmStartReport,
)
from recsys.model.sample_report import SampleReport
from recsys.model.state import read_state
from recsys.model.tables import Model, load_model, read_manifest, write_model, written_model
from recsys.runtime import memory
from recsys.runtime.run import versions
from recsys.runtime.session import driver_cores
from recsys.runtime.stop_points import stop_point

log = logging.getLogger(__name__)


def train(job: Job) -> Model:
    """Publish interactions and a model; a retry takes up what its run had finished.

    Where the run uses a model, the training goes on from it, and users are folded in.
    """
    config, run, store = job.config, job.run, job.store
    found = states(job.spark, config)
    base = base_of(job)
    name = partial(model_id_of, config, run, found, base)
    settings = training_from(config.training, base)
    if (before := made_before(job, settings, name)) is not None:
        log.info("model %s is there already: taking it up", before)
        return load_model(store, store.uri("models", before))

    with run.step("prepare") as step:
        prepared = prepare(job.spark, store, config, run, job.staging)
        step.rows = prepared.manifest.counts.rows_read
        types = prepared.manifest.id_types
        check_types(base, types)
        described = prepare_features(job.spark, store, config, run, types, job.staging, found)
    stop_point("prepared")
    begun = None
    if base is None:
        interactions, made = learn(job, prepared.pairs, described, judging=True)
    else:
        interactions, made, begun = _go_on(job, base, prepared.pairs, described, settings)
    stop_point("trained")
    fold_in, reports = _fold_in(job, interactions, made, settings)
    model_id = name(sample_of(interactions.sample))
    place = store.uri("models", model_id)
    with run.step("write model") as step:
        everyone = holders(job, prepared.pairs, interactions)
        learned = Learned.of(
            interactions,
            made.made.embeddings,
            fold_in,
            types,
            user_features=made.users,
            item_features=made.items,
            kept=_kept(interactions, made),
            positives=None if everyone is None else everyone.liked,
        )
        step.rows = learned.rows
        manifest = write_model(
            store,
            job.scratch,
            f"{job.staging}/model",
            learned,
            prepared.pairs,
            origin(job, model_id, prepared, interactions, made).model_copy(
                update={
                    **reports,
                    "features": features_report(config, described, made),
                    "warm_start": begun,
                }
            ),
            rows_per_file=config.scoring.users_per_file,
        )
        stop_point("model written")
        store.ensure_alive()
        store.publish(f"{job.staging}/model", place)
    return written_model(store, place, learned, manifest)


def learn(
    job: Job, pairs: DataFrame, described: PreparedFeatures | None, *, judging: bool = False
) -> tuple[Interactions, DescribedFit]:
    """Collect labelled pairs and features, and train on them for as many epochs as is best.

    `judging`: whether some users whom a sample leaves out are to be judged.
    """
    settings = job.config.training
    interactions, known = collect_described(job, pairs, described, settings, judging=judging)
    with job.run.step("train") as step:
        step.rows = interactions.labels.nnz
        made = fit_described(
            interactions.labels,
            settings,
            job.config.features,
            known,
            threads=threads(job),
            ratings=interactions.ratings,
            ages=interactions.ages,
            bytes_allowed=memory.second_view_bytes(job.spark, job.config.memory.max_share),
        )
    return interactions, made


def base_of(job: Job) -> ModelManifest | None:
    """Return the manifest of the model that a training goes on from; None: it begins anew."""
    if job.model_id is None:
        return None
    return read_manifest(job.store, job.store.uri("models", job.model_id))


def _go_on(
    job: Job,
    base: ModelManifest,
    pairs: DataFrame,
    described: PreparedFeatures | None,
    settings: Training,
) -> tuple[Interactions, DescribedFit, WarmStartReport]:
    """Collect labelled pairs, match them with an earlier training, and let it go on."""
    for line in not_used(job.config, base):
        log.warning("%s", line)
    interactions, known = collect_described(
        job, pairs, described, settings, base=base_sample(base), judging=True
    )
    with job.run.step("match"):
        kept = read_state(job.store, job.store.uri("models", base.model_id), base)
        start = begin(kept, interactions, settings)
        del kept  # as large as the model that is trained now
        for name, found in (("users", start.users), ("items", start.items)):
            log.info(
                "%s: %s are in model %s, %s are new, %s are gone",
                name,
                f"{found.known:,}",
                base.model_id,
                f"{found.new:,}",
                f"{found.gone:,}",
            )
    kinds = frozenset(kind for kind in KINDS if base.described(kind) is not None)
    with job.run.step("train") as step:
        step.rows = interactions.labels.nnz
        made = go_on_described(
            Labelled(interactions.labels, interactions.ratings, interactions.ages),
            settings,
            start.state,
            known,
            kinds,
            _recipe(base, settings),
            threads=threads(job),
        )
    return interactions, made, _began(base, start)


def _recipe(base: ModelManifest, settings: Training) -> Recipe:
    assert base.fold_in is not None  # noqa: S101 - only models of evaluations have none
    before = base.training.assembly.recipe()
    if settings.gives_probabilities:  # another vector, and there would be none
        return before
    return recipe(before, base.fold_in.chosen.candidate(), settings.epochs_from)


def _began(base: ModelManifest, start: WarmStart) -> WarmStartReport:
    return WarmStartReport(
        model_id=base.model_id,
        epochs_before=base.training.epochs,
        users=start.users.known,
        new_users=start.users.new,
        gone_users=start.users.gone,
        items=start.items.known,
        new_items=start.items.new,
        gone_items=start.items.gone,
    )


def _kept(interactions: Interactions, made: DescribedFit) -> Kept | None:
    """Return what a training needs to go on from this one; None where it cannot."""
    if made.fitted.state is None:
        return None
    if any(made.groups.values()):
        log.warning(
            "training.resumable: LightFM has learned with features, and a training cannot go on "
            "from that, so nothing is kept for it"
        )
        return None
    return Kept(interactions.user_ids, interactions.item_ids, made.fitted.state)


def _fold_in(
    job: Job, interactions: Interactions, made: DescribedFit, settings: Training
) -> tuple[FoldIn, dict[str, Any]]:
    """Fit the map for users who are not in the training; return what the manifest says of them."""
    with job.run.step("fold-in") as step:
        likes = likes_of(interactions.labels)
        step.rows = likes.shape[0]
        fold_in, report = fold_in_of(made.made, likes, settings.seed)
        sample = _sample(interactions.sample, made, fold_in, settings)
    return fold_in, {"fold_in": FoldInReport(**report), "sample": sample}


def _sample(
    found: Sampled | None, made: DescribedFit, fold_in: FoldIn, settings: Training
) -> SampleReport | None:
    """Say which users were trained on, and what it costs the others; None where all were."""
    if found is None or found.judged is None:
        return sample_report(found)
    left_out = judge(found.judged, made.fitted, made.made, fold_in, settings)
    if left_out is not None:
        log.info(
            "users who are left out: %s %.4f (from %.4f to %.4f) over %s of them, when folded in%s",
            left_out.metric,
            left_out.ndcg,
            left_out.low,
            left_out.high,
            f"{left_out.users:,}",
            "" if left_out.cost is None else f"; {left_out.cost:+.4f} below those trained on",
        )
    return sample_report(found, left_out)


def threads(job: Job) -> int:
    """Return on how many CPU threads to train."""
    return job.config.training.threads or min(memory.cpus(), driver_cores(job.spark))


def early_stopping_report(config: Config, report: dict[str, Any]) -> EarlyStoppingReport | None:
    """Return what early stopping reported, typed; None where it was not used."""
    settings = config.training.early_stopping
    if settings is None or not report:  # a training that goes on looks for no epoch
        return None
    return EarlyStoppingReport(share=settings.share, **report)


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
        pair_rules=pair_rules(config),
        training=TrainingReport(
            loss=config.training.loss,
            epochs=fitted.epochs,
            **fitted.penalties._asdict(),
            early_stopping=early_stopping_report(config, fitted.report),
            negatives=negatives_report(fitted),
            sample_share=1.0 if interactions.sample is None else interactions.sample.share,
            weightless_pairs=interactions.weightless_pairs,
            mean_user_bias=float(biases.mean(dtype="float64")),
            assembly=AssemblyReport(**made.made.as_record()),
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
    return Outcome(model_id=model.model_id, counts=counts, sample=manifest.sample, outputs=tables)
