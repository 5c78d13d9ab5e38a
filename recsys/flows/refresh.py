"""Refresh a model: LightFM's items as they are, the rest made again from all pairs of today."""

import logging
from collections.abc import Mapping
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import LABEL, TRAINED, USER, USER_INDEX
from recsys.config.configuration import Config, digest
from recsys.config.sections import SampleWeights, Training
from recsys.flows import base_model
from recsys.flows.execution import Job
from recsys.flows.model_ids import made_before, named, sample_of
from recsys.flows.refresh_base import known_of
from recsys.flows.refreshed_counts import with_everyone
from recsys.flows.samples import sample_report
from recsys.ingest.features import (
    ITEMS,
    KINDS,
    USERS,
    PreparedFeatures,
    features_id,
    prepare_features,
    sources_of,
    states,
)
from recsys.ingest.ids import index_frame
from recsys.ingest.manifest import InputState
from recsys.ingest.preparation import Prepared, interactions_id, prepare
from recsys.learn.all_pairs import of_items, without_left_out
from recsys.learn.described import Check, check_of_users, collect_described, sizes, user_rows
from recsys.learn.features import Described
from recsys.learn.matrices import Interactions, collect
from recsys.learn.user_sample import Sample, possible
from recsys.model.features_report import FeaturesReport
from recsys.model.manifest import ModelManifest, ModelOrigin, RefreshReport
from recsys.model.refreshed import Refreshed, item_ids
from recsys.model.tables import (
    Model,
    load_model,
    read_manifest,
    write_model,
    written_model,
)
from recsys.runtime.run import Run, versions
from recsys.runtime.signals import interruptible
from recsys.runtime.stop_points import stop_point

log = logging.getLogger(__name__)


def refresh(job: Job) -> Model:
    """Publish interactions and a refreshed model; a retry takes up what its run had finished."""
    run, store = job.run, job.store
    base_uri = store.uri("models", job.model_id or "")
    manifest = read_manifest(store, base_uri)
    config = described_by(job.config, manifest)
    # Once: tables that change meanwhile must not give the model the name of what it is not.
    found_states = states(job.spark, config)
    name = partial(refreshed_id, config, run, manifest, found_states)
    if (before := made_before(job, job.config.training, name)) is not None:
        log.info("model %s is there already: taking it up", before)
        return load_model(store, store.uri("models", before))
    with run.step("prepare") as step:
        prepared = prepare(job.spark, store, job.config, run, job.staging)
        step.rows = prepared.manifest.counts.rows_read
        base_model.check_types(manifest, prepared.manifest.id_types)
        described = _prepare_features(job, config, manifest, found_states)
    stop_point("prepared")
    with run.step("load model"):
        base = load_model(store, base_uri)
    with run.step("collect") as step:
        liked = _collect(job, prepared, base, described)
        step.rows = liked.labels.nnz
        known = known_of(job, base, again=liked.sample is None)
        items = _described(job, described, ITEMS)
        # Users who are left out are folded in where lists are made.
        there = item_ids(known, items)
        pairs = _liked(prepared)
        described = without_left_out(described, job.scratch, pairs, liked, (USERS,), there)
        users = _described(job, described, USERS, _check_of_users(job, base, described, liked))
    with run.step("fold-in") as step:
        made = interruptible(lambda: Refreshed.of(known, liked, items, users))
        step.rows = made.users
        if liked.sample is not None:
            made = with_everyone(made, job.scratch, _liked(prepared))
    model_id = name(sample_of(liked.sample))
    place = store.uri("models", model_id)
    with run.step("write model") as step:
        step.rows = made.learned.rows
        report = _report(job, base, prepared, liked, made)
        written = write_model(
            store,
            job.scratch,
            f"{job.staging}/model",
            made.learned,
            prepared.pairs,
            _origin(job, model_id, prepared, base, described, made, report).model_copy(
                update={"sample": sample_report(liked.sample)}
            ),
            rows_per_file=job.config.scoring.users_per_file,
        )
        stop_point("model written")
        store.ensure_alive()
        store.publish(f"{job.staging}/model", place)
    return written_model(store, place, made.learned, written)


def _liked(prepared: Prepared) -> DataFrame:
    return prepared.pairs.where(F.col(LABEL) == 1)


def refreshed_id(
    config: Config,
    run: Run,
    base: ModelManifest,
    found: Mapping[str, InputState],
    sample: Sample | None = None,
) -> str:
    """Name what a run makes of a model: the same for a retry, another for other data or settings.

    It depends on all that the manifest of the model says, with the checksums of its tables: a model
    that was trained again under the same id makes another one. So does a share of the users that is
    configured: what an attempt with another one has made, or with all users, is not taken up.

    Args:
        config: what `described_by` returned.
        run: which makes it.
        base: the model that is refreshed.
        found: what `features.states` returned.
        sample: which users are folded in; None: all.
    """
    made_of = [interactions_id(config, run), "refresh", base.model_id, digest(base.plain())]
    if config.features.configured:
        made_of.append(features_id(config, run, found))
    wanted = config.training.sample_users
    if wanted != "auto" and possible(wanted):
        made_of.append(f"sample_users {wanted}")
    return named(run, made_of, sample)


def described_by(config: Config, base: ModelManifest) -> Config:
    """Return a configuration with the features that a model knows, and its ranges of numbers."""
    kept = {}
    for kind in KINDS:
        about = base.described(kind)
        kept[kind] = {} if about is None else sources_of(config, kind)
        if about is None:
            continue
        kept[kind] = {
            name: source.model_copy(
                update={
                    "groups": {
                        key: group.model_copy(update={"edges": about.edges.get(key, group.edges)})
                        for key, group in source.groups.items()
                    }
                }
            )
            for name, source in kept[kind].items()
        }
    return config.model_copy(update={"features": config.features.model_copy(update=kept)})


def _prepare_features(
    job: Job, config: Config, base: ModelManifest, found: Mapping[str, InputState]
) -> PreparedFeatures | None:
    for kind in KINDS:
        if sources_of(job.config, kind) and base.described(kind) is None:
            log.warning(
                "features.%s: model %s has no features of them, so they are not used until the "
                "next training",
                kind,
                base.model_id,
            )
    return prepare_features(
        job.spark, job.store, config, job.run, base.id_types, job.staging, found
    )


def _described(
    job: Job, prepared: PreparedFeatures | None, kind: str, check: Check | None = None
) -> Described | None:
    if prepared is None or kind not in prepared.rows:
        return None
    return collect_described(job.spark, prepared.rows[kind], prepared.values[kind], kind, check)


def _check_of_users(
    job: Job, base: Model, described: PreparedFeatures | None, liked: Interactions
) -> Check | None:
    """Return what refuses features of users that do not fit beside what was collected."""
    share = job.config.memory.max_share
    return check_of_users(job.spark, described, liked, _settings(job, base), share)


def _settings(job: Job, base: Model) -> Training:
    """Return how positive pairs are collected: whoever is folded in has no weights of pairs."""
    return job.config.training.model_copy(
        update={
            "loss": "warp",
            "no_components": base.manifest.no_components,
            "members": {},
            "second_view": "none",  # it is in that number already
            "sample_weights": SampleWeights(rating="none", user_exponent=0.0),
        }
    )


def _collect(
    job: Job, prepared: Prepared, base: Model, described: PreparedFeatures | None
) -> Interactions:
    """Collect all positive pairs, or those of as many users as fit."""
    return collect(
        job.spark,
        job.scratch,
        _liked(prepared),
        _settings(job, base),
        job.run.run_date,
        max_share=job.config.memory.max_share,
        features=sizes(described),
        user_features=user_rows(described),
    )


def _report(
    job: Job, base: Model, prepared: Prepared, liked: Interactions, made: Refreshed
) -> RefreshReport:
    """Say what was found, and log it."""
    users, before = made.learned.users, base.users.where(TRAINED).select(USER)
    if liked.sample is None:
        folded = users.ids.filter(users.trained)
        ids = index_frame(job.scratch, folded, base.id_types.user, USER, USER_INDEX)
    else:  # the others are folded in where lists are made
        ids = (
            of_items(job.scratch, _liked(prepared), made.learned.items.ids).select(USER).distinct()
        )
    report = RefreshReport(
        model_id=base.model_id,
        pairs=made.pairs,
        users=made.users,
        new_users=ids.join(before, on=USER, how="left_anti").count(),
        users_left_out=made.users_left_out,
        new_items=made.new_items,
        waiting_items=made.waiting_items,
        waiting_pairs=made.waiting_pairs,
        second_view_share=made.second_view_share,
    )
    log.info(
        "%s users are folded in, %s of them new; %s new items come from their features",
        f"{report.users:,}",
        f"{report.new_users:,}",
        f"{report.new_items:,}",
    )
    if report.second_view_share is not None:
        log.info(
            "the second view was learned again; LightFM counts %.2f beside it",
            report.second_view_share,
        )
    if report.waiting_items:
        log.warning(
            "%s items with %s of %s positive pairs are not in model %s and wait for the next "
            "training",
            f"{report.waiting_items:,}",
            f"{report.waiting_pairs:,}",
            f"{report.pairs + report.waiting_pairs:,}",
            base.model_id,
        )
    return report


def _origin(
    job: Job,
    model_id: str,
    prepared: Prepared,
    base: Model,
    described: PreparedFeatures | None,
    made: Refreshed,
    report: RefreshReport,
) -> ModelOrigin:
    """Say where a refreshed model comes from."""
    config, run, manifest = job.config, job.run, base.manifest
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
        pair_rules=base_model.pair_rules(config),
        training=manifest.training,
        refresh_of=manifest.refresh_of or manifest.model_id,
        fold_in=manifest.fold_in,
        features=_features(manifest, described, made),
        refresh=report,
        versions=versions(),
        timings_seconds=dict(run.timings),
    )


def _features(
    base: ModelManifest, described: PreparedFeatures | None, made: Refreshed
) -> FeaturesReport | None:
    """Return what the model says of features, with the numbers of who has nothing else by now."""
    if base.features is None:
        return None
    sides = {ITEMS: made.learned.items, USERS: made.learned.users}
    update: dict[str, object] = {}
    for kind, vectors in sides.items():
        about = base.described(kind)
        if about is not None:
            update[kind] = about.model_copy(update={"cold": int((~vectors.trained).sum())})
    if described is not None:
        update["features_id"] = described.manifest.features_id
    return base.features.model_copy(update=update)
