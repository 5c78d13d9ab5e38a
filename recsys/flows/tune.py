"""Prepare the ratings, and look for better hyperparameters."""

import datetime as dt
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from recsys.columns import RATING, TRIALS_SCHEMA
from recsys.config.configuration import Config
from recsys.config.sections import Training, Tuning
from recsys.config.writing import render
from recsys.errors import ConfigError
from recsys.flows.execution import Job
from recsys.flows.manifest import Outcome, OutputTable, TuningReport
from recsys.flows.samples import sample_report
from recsys.flows.train import input_tables, threads
from recsys.ingest import pairing
from recsys.ingest.features import PreparedFeatures, prepare_features, states
from recsys.ingest.preparation import Prepared, prepare
from recsys.learn import search_space, studies, tuning
from recsys.learn.all_pairs import with_weight, without_left_out
from recsys.learn.described import abouts, check_of_users, sizes, user_rows
from recsys.learn.feature_choice import learned_groups
from recsys.learn.features import Abouts
from recsys.learn.matrices import Interactions, collect
from recsys.learn.sample_weights import Labelled
from recsys.learn.trials import Tried
from recsys.runtime.stop_points import stop_point
from recsys.store.files import local_path
from recsys.store.tables import parsed

if TYPE_CHECKING:
    from optuna import Study

log = logging.getLogger(__name__)

TUNINGS = "tunings"
_CONFIGURATION = "config.yaml"
_GROUPS = "groups"  # the attribute of a study that says which features its trials learn with


@dataclass(frozen=True)
class Where:
    """Where trials are kept: the URI of a storage, None for a file in the root, and their name."""

    storage: str | None
    study: str

    def uri(self, job: Job) -> str:
        """Return the storage's URI.

        Raises:
            ConfigError: none is given, and the root is not local.
        """
        if self.storage is not None:
            return self.storage
        root = local_path(job.store.root)
        if root is None:
            raise ConfigError(
                f"--storage: found none, and the root {job.store.root} is not local, expected "
                f"{studies.EXAMPLE}"
            )
        return f"sqlite:///{root / 'tuning.db'}"


def check_study(job: Job, where: Where) -> None:
    """Refuse a storage that cannot be used, and a study of other settings.

    Raises:
        ConfigError, OutputError: as `studies.check`.
    """
    studies.check(where.uri(job), where.study, _fixed(job.config))


def tune(job: Job, where: Where) -> Outcome:
    """Make trials, and publish a table of them and a configuration with the best values."""
    config, run = job.config, job.run
    storage = where.uri(job)
    with studies.opened(storage, where.study) as study:
        with run.step("prepare") as step:
            prepared = prepare(job.spark, job.store, config, run, job.staging)
            step.rows = prepared.manifest.counts.rows_read
            types = prepared.manifest.id_types
            found = states(job.spark, config)
            described = prepare_features(
                job.spark, job.store, config, run, types, job.staging, found
            )
        with run.step("collect") as step:
            ranges = _comparable(config.tuning, prepared.pairs, config)
            interactions, known = _collect(job, prepared.pairs, described, ranges)
            sample = sample_report(interactions.sample)
            step.rows = interactions.labels.nnz
            about = {**_fixed(config), "input": _identity(interactions, known)}
            studies.agree(study, about, storage)
        pairs = Labelled(interactions.labels, interactions.ratings, interactions.ages)
        with run.step("features"):
            features = known.sides(_groups(job, study, pairs, known))
        with run.step("tune"):
            made = tuning.tune(
                pairs, config.training, ranges, study, threads=threads(job), features=features
            )
    stop_point("tuned")
    with run.step("publish"):
        done = _publish(job, prepared, made, storage, where.study)
    return done.model_copy(update={"sample": sample})


def _fixed(config: Config) -> dict[str, Any]:
    features = config.public()["features"] if config.features.configured else None
    return {**search_space.fixed(config.training, config.tuning), "features": features}


def _comparable(settings: Tuning, pairs: DataFrame, config: Config) -> Tuning:
    """Leave rating weights as configured where they decide which pairs are positive."""
    if settings.ranges.rating is None:
        return settings
    liked = pairing.liked(config.filters.rating_threshold, weighed_by_rating=False)
    lowest = pairs.where(liked).agg(F.min(RATING)).collect()[0][0]
    if lowest is None or lowest > 0:
        return settings
    log.info(
        "training.sample_weights.rating is not tuned: found a rating of %g, and such a pair is "
        "positive with some weights and not with others",
        lowest,
    )
    ranges = settings.ranges.model_copy(update={"rating": None})
    return settings.model_copy(update={"ranges": ranges})


def _collect(
    job: Job, pairs: DataFrame, described: PreparedFeatures | None, settings: Tuning
) -> tuple[Interactions, Abouts]:
    """Collect what the trials need: ratings if they may weigh, and memory for long embeddings."""
    config = job.config
    largest = trial_settings(config.training, settings)
    interactions = collect(
        job.spark,
        job.scratch,
        pairs,
        largest,
        job.run.run_date,
        max_share=config.memory.max_share,
        features=sizes(described),
        user_features=user_rows(described),
    )
    if interactions.sample is not None:
        used = with_weight(pairs, interactions, largest.sample_weights, job.run.run_date)
        described = without_left_out(described, job.scratch, used, interactions)
    share = config.memory.max_share
    check = check_of_users(job.spark, described, interactions, largest, share)
    return interactions, abouts(job.spark, described, interactions, config, check)


def trial_settings(training: Training, settings: Tuning) -> Training:
    """Return the settings of the trial that takes most memory and needs most columns.

    Args:
        training: as configured.
        settings: say what is tuned.
    """
    largest, ranges = training, settings.ranges
    names = search_space.tuned_names(largest, ranges)
    if ranges.no_components is not None:
        longest = max(largest.no_components, *ranges.no_components)
        largest = largest.model_copy(update={"no_components": longest})
    if "rating" in names and not largest.sample_weights.by_rating:
        largest = search_space.applied(largest, {"rating": "log"})
    if largest.sample_users == "auto":  # trials of another machine would not be comparable
        largest = largest.model_copy(update={"sample_users": "refuse"})
    return largest


def _identity(interactions: Interactions, known: Abouts) -> dict[str, Any]:
    """Return what tells one input of the trials from another."""
    n_users, n_items = interactions.labels.shape
    checksum = hashlib.sha256()
    for part in _parts(interactions, known):
        checksum.update(np.ascontiguousarray(part).tobytes())
    return {
        "pairs": interactions.labels.nnz,
        "users": n_users,
        "items": n_items,
        "sha256": checksum.hexdigest(),
    }


def _parts(interactions: Interactions, known: Abouts) -> Iterator[np.ndarray[Any, Any]]:
    labels = interactions.labels
    yield from (labels.row, labels.col, labels.data)
    yield from (one for one in (interactions.ratings, interactions.ages) if one is not None)
    for about in (known.users, known.items):
        if about is not None:
            weights = about.described.weights
            yield from (weights.indptr, weights.indices, weights.data)


def _groups(job: Job, study: "Study", pairs: Labelled, known: Abouts) -> dict[str, list[str]]:
    """Return the groups of features that all trials learn with: measured once, as configured."""
    if _GROUPS not in study.user_attrs:
        config = job.config
        found = learned_groups(pairs, config.training, config.features, known, threads(job))
        study.set_user_attr(_GROUPS, {kind: list(groups) for kind, groups in found.items()})
    groups: dict[str, list[str]] = study.user_attrs[_GROUPS]
    return groups


def _publish(job: Job, prepared: Prepared, made: tuning.Tuned, storage: str, study: str) -> Outcome:
    """Publish the trials and the configuration by one rename, and say what was found."""
    store, staged = job.store, f"{job.staging}/tuning"
    place = store.uri(TUNINGS, job.run.run_id)
    report = _report(job, made, studies.shown(storage), study, f"{place}/{_CONFIGURATION}")
    columns = to_arrow_schema(parsed(TRIALS_SCHEMA), timezone="UTC")
    rows = pa.Table.from_pylist([_row(one) for one in made.trials], columns)
    frame = job.scratch.frame(rows, TRIALS_SCHEMA).coalesce(1)
    written = store.write_table(frame, f"{staged}/trials", TRIALS_SCHEMA)
    text = _configuration(job, made, report)
    store.files.write(f"{staged}/{_CONFIGURATION}", text.encode())
    store.publish(staged, place)
    about = prepared.manifest
    tables = input_tables(
        job, about.interactions_id, about.counts.pairs, about.counts.rows_rejected
    )
    tables["trials"] = OutputTable(uri=f"{place}/trials", rows=written.rows, files=written.files)
    return Outcome(
        counts=about.counts, tuning=report, report=_lines(job, made, report), outputs=tables
    )


def _report(
    job: Job, made: tuning.Tuned, storage: str, study: str, configuration: str
) -> TuningReport:
    stopping = job.config.training.early_stopping
    best, first = made.best, made.first
    return TuningReport(
        storage=storage,
        study=study,
        metric=f"ndcg@{stopping.k if stopping is not None else 0}",
        ndcg=best.ndcg or 0.0,
        ndcg_as_configured=first.ndcg or 0.0,
        best_trial=best.number,
        kept_epoch=best.kept_epoch or 0,
        trials=dict(Counter(one.state for one in made.trials)),
        seconds=round(sum(one.seconds for one in made.trials), 1),
        found={search_space.key_of(name): best.values[name] for name in made.names},
        configuration=configuration,
    )


def _row(one: Tried) -> dict[str, Any]:
    """Return a trial as a row of TRIALS_SCHEMA."""
    started = None if one.started_at is None else dt.datetime.fromisoformat(one.started_at)
    return {
        "trial": one.number,
        "state": one.state,
        "ndcg": one.ndcg,
        "kept_epoch": one.kept_epoch,
        "seconds": one.seconds,
        "started_at": started,
        **one.values,
        "epochs": list(one.epochs),
        "curve": list(one.curve),
        "reason": one.reason,
    }


def _lines(job: Job, made: tuning.Tuned, report: TuningReport) -> list[str]:
    """Return what was found, as lines to print."""
    before = search_space.values_of(job.config.training)
    lines = [_gain(report), _effort(report)]
    for name in made.names:
        key = search_space.key_of(name)
        lines.append(f"{key:42} {before[name]!s:>10} -> {report.found[key]}")
    return [*lines, f"configuration: {report.configuration}"]


def _gain(report: TuningReport) -> str:
    before, after = report.ndcg_as_configured, report.ndcg
    more = f" ({after / before - 1:+.1%})" if before > 0 else ""
    return f"{report.metric} on held-out pairs: {after:.4f}{more}, as configured {before:.4f}"


def _effort(report: TuningReport) -> str:
    states = ", ".join(f"{number} {state}" for state, number in sorted(report.trials.items()))
    return f"{sum(report.trials.values())} trials in {report.seconds / 60:.1f} minutes: {states}"


def _configuration(job: Job, made: tuning.Tuned, report: TuningReport) -> str:
    """Return the configuration with the best values, and what was found as comments."""
    config = job.config
    ranges, before = config.tuning.ranges, search_space.values_of(config.training)
    about = [
        f"Found by `recsys tune` on {job.run.started_at.date()}, run {job.run.run_id}.",
        f"{_gain(report)}.",
        f"{_effort(report)}. The best is trial {report.best_trial}, its best epoch "
        f"{report.kept_epoch}.",
        f"tuning.seed {config.tuning.seed}, training.seed {config.training.seed}.",
    ]
    notes = {
        search_space.key_of(name): f"Tuned in {getattr(ranges, name)}; it was {before[name]}."
        for name in made.names
    }
    return render(config.model_copy(update={"training": made.training}), about, notes)
