"""Score a cohort with a model, and publish the lists."""

import datetime as dt
import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    COHORT,
    GENERATED_AT,
    ITEM,
    LABEL,
    MODEL_ID,
    PROBABILITY,
    RECOMMENDATIONS_SCHEMA,
    REQUESTS_SCHEMA,
    ROUTED_SCHEMA,
    RUN_DATE,
    RUN_ID,
    SOURCE,
    STATUS_SCHEMA,
    TITLES_SCHEMA,
    TRAINED,
    USER,
    IdTypes,
    names,
)
from recsys.columns import STATUS as STATUS_COLUMN
from recsys.errors import ConfigError
from recsys.flows.execution import Job
from recsys.flows.judge import history, judge
from recsys.flows.manifest import Outcome, OutputTable
from recsys.flows.space import check_lists
from recsys.flows.titles import stage_titles
from recsys.ingest.failures import reading
from recsys.model.manifest import TrainedModel
from recsys.model.tables import Model
from recsys.publishing.index import open_index, published_before
from recsys.publishing.manifest import (
    PublishedLists,
    PublishedStatuses,
    VersionManifest,
    VersionTables,
)
from recsys.publishing.publish import (
    REQUESTS,
    Staged,
    forget_requests,
    held_before,
    publish,
    retain,
)
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    TITLES,
    Unit,
    Version,
    VersionIndex,
    columns,
    place,
    read_manifest,
)
from recsys.publishing.views import create_views
from recsys.runtime.run import versions
from recsys.runtime.stop_points import stop_point
from recsys.score import cohorts, ranking
from recsys.score.candidates import candidate_lists, count_candidates, stage_candidates
from recsys.score.manifest import CandidateCounts
from recsys.store.manifest import WrittenTable

log = logging.getLogger(__name__)


def score(job: Job, model: Model) -> Outcome:
    """Publish the lists and the statuses of one cohort, and say what they are."""
    config, files = job.config, job.store.files
    unit = Unit(config.cohort.name, job.run.run_date)
    index = open_index(files, config.publishing, job.store.ensure_alive)
    version = published_before(index, unit, job.run.run_id)
    if version is None:
        version = _publish(job, model, unit, index)
    else:
        log.info("%s is published already: taking it up", unit)
        forget_requests(files, unit, job.run.run_id)  # if it was killed before it could
    manifest = read_manifest(files, version)
    other = "model" if manifest.model_id != model.model_id else "configuration"
    if other == "model" or manifest.configuration_hash != config.fingerprint():
        raise ConfigError(
            f"--run-id: run {job.run.run_id} has published {unit} already, with another {other}; "
            "choose another run id"
        )

    def follow() -> None:
        if config.publishing.views is not None:
            create_views(job.spark, files, index, config.publishing.views)

    retain(files, index, config.publishing, before_deleting=follow)
    stop_point("retained")
    return _outcome(job, unit, manifest)


def schemas(id_types: IdTypes) -> dict[str, str]:
    """Return the schemas of the published tables, by name."""
    return {
        RECOMMENDATIONS: id_types.fill(RECOMMENDATIONS_SCHEMA),
        STATUS: id_types.fill(STATUS_SCHEMA),
        TITLES: id_types.fill(TITLES_SCHEMA),
    }


def _publish(job: Job, model: Model, unit: Unit, index: VersionIndex) -> Version:
    """Stage a version, or take up the one that a gate held back, and publish it."""
    files = job.store.files
    made_of = (model.model_id, job.config.fingerprint())
    staged = held_before(files, unit, job.run.run_id, made_of=made_of)
    if staged is None:
        staged = _stage(job, model, unit, index)
    else:
        log.info("the lists that a gate held back are there: judging them again")
        # The limits of the gates, above all, may be others by now.
        now = staged.manifest.model_copy(update={"configuration": job.config.public()})
        staged = replace(staged, manifest=now)
    tables = {
        name: job.store.read_table(f"{staged.uri}/{name}", schemas(model.id_types)[name])
        for name in staged.manifest.tables.names
    }
    verdicts = judge(job, model, staged, tables)
    stop_point("staged")
    with job.run.step("publish"):
        return publish(
            files, index, staged, verdicts, alive=job.store.ensure_alive, force=job.force
        )


@dataclass(frozen=True)
class _Cohort:
    """Who is asked for, and how each user is served.

    Attributes:
        requests: REQUESTS_SCHEMA, staged.
        routed: ROUTED_SCHEMA, staged.
        candidates: what was found in `items.candidates`; None where it is not set.
        tasks: in how many parts to score.
    """

    requests: DataFrame
    routed: DataFrame
    candidates: CandidateCounts | None
    tasks: int


def _stage(job: Job, model: Model, unit: Unit, index: VersionIndex) -> Staged:
    """Write a version beside the published ones."""
    uri, run = f"{job.staging}/version", job.run
    with run.step("cohort") as step:
        cohort = _stage_cohort(job, model, f"{uri}/{REQUESTS}")
        allowed = ranking.allowed_items(job.spark, model, job.config)
        n_requests = step.rows = cohort.requests.count()
    n_items = model.manifest.n_items if allowed is None else int(allowed.sum())
    check_lists(job, index, unit, n_requests, n_items)
    with run.step("score") as step:
        writer = _Writer(job, model, unit, uri)
        recommendations = _write_lists(job, model, cohort, allowed, writer)
        statuses = _write_statuses(job, model, cohort, writer)
        titles = _write_titles(job, model, writer)
        step.rows = recommendations.rows
    tables = VersionTables(recommendations=recommendations, status=statuses, titles=titles)
    every = schemas(model.id_types)
    manifest = VersionManifest(
        schema_version=VersionManifest.SCHEMA_VERSION,
        run_id=run.run_id,
        run_date=run.run_date.isoformat(),
        cohort=unit.cohort,
        model_id=model.model_id,
        model=TrainedModel(
            **{name: getattr(model.manifest, name) for name in TrainedModel.model_fields}
        ),
        configuration=job.config.public(),
        configuration_hash=job.config.fingerprint(),
        versions=versions(),
        schemas={name: columns(every[name]) for name in sorted(tables.names)},
        tables=tables,
        compared_with=None,
        gates=[],
        forced=False,
        failed_gates=[],
    )
    return Staged(unit, run.run_id, uri, manifest)


def _stage_cohort(job: Job, model: Model, requests_uri: str) -> _Cohort:
    """Write down who is asked for and how each is served, so that all that follows agrees on it."""
    config, types = job.config, model.id_types
    pairs, *older = history(job, model)
    trained_on = older[0] if older else pairs
    sampled = model.manifest.sample is not None
    rows = None
    if config.items.candidates is not None:
        rows = stage_candidates(
            job.spark,
            config.items.candidates,
            model.item_index,
            f"{job.staging}/candidates",
            types,
        )
    found = None if rows is None else count_candidates(rows)
    if found is not None:
        log.info("candidates: %s", ", ".join(f"{n:,} {name}" for name, n in found))
    asked = cohorts.requests(job.spark, config.cohort, types, pairs, rows)
    if sampled and older:  # the model has nothing of what those have done whom it does not know
        learned_from = model.users.where(TRAINED).select(USER)
        others = older[0].join(learned_from, on=USER, how="left_anti")
        pairs = cohorts.together(pairs, others)
    with reading(config.cohort.users):
        asked.write.parquet(requests_uri)
    requests = job.store.read_table(requests_uri, types.fill(REQUESTS_SCHEMA))
    left_out = None
    if sampled and config.scoring.fold_in == "none":
        left_out = _left_out(trained_on, model, requests)
    cores = job.spark.sparkContext.defaultParallelism
    tasks = ranking.n_tasks(requests.count(), config.scoring.users_per_file, cores)
    routed = cohorts.route(
        requests,
        model.users,
        pairs,
        model.item_index,
        fold_in=config.scoring.fold_in,
        fallback=config.scoring.fallback,
        rules=model.manifest.pair_rules,
        candidates=None if rows is None else candidate_lists(rows),
        newer=config.scoring.interactions is not None,
        left_out=left_out,
    )
    uri, schema = f"{job.staging}/routed", types.fill(ROUTED_SCHEMA)
    job.store.write_table(ranking.number_parts(routed, tasks), uri, schema)
    return _Cohort(requests, job.store.read_table(uri, schema), found, tasks)


def _left_out(trained_on: DataFrame, model: Model, requests: DataFrame) -> DataFrame:
    """Return who of a cohort a sample left out of a model, `user_id`: those with a labelled pair.

    The pairs of others are dropped first: a cohort may be a small part of all users. Whoever has
    nothing but features in the model is none of them: without the sample, too, it would not have
    learned from them. `recsys.score.histories.left_out_of` finds the same without Spark.
    """
    pairs = trained_on.where(F.col(LABEL) != 0).select(USER)
    users = pairs.join(requests, on=USER, how="left_semi").distinct()
    return users.join(model.users, on=USER, how="left_anti")


@dataclass(frozen=True)
class _Writer:
    """Writes the tables of a version, with the columns that are the same in every row."""

    job: Job
    model: Model
    unit: Unit
    uri: str

    def write(self, frame: DataFrame, table: str) -> WrittenTable:
        """Write a table."""
        schema = schemas(self.model.id_types)[table]
        stamps = {
            RUN_DATE: F.lit(self.unit.run_date),
            COHORT: F.lit(self.unit.cohort),
            MODEL_ID: F.lit(self.model.model_id),
            RUN_ID: F.lit(self.job.run.run_id),
            GENERATED_AT: F.lit(dt.datetime.now(dt.UTC)),
        }
        wanted = {name: value for name, value in stamps.items() if name in names(schema)}
        stamped = frame.withColumns(wanted).select(*names(schema))
        return self.job.store.write_table(stamped, f"{self.uri}/{table}", schema)

    def read(self, table: str) -> DataFrame:
        """Read a table that was written."""
        schema = schemas(self.model.id_types)[table]
        return self.job.store.read_table(f"{self.uri}/{table}", schema)


def _write_lists(
    job: Job, model: Model, cohort: _Cohort, allowed: NDArray[np.bool_] | None, writer: _Writer
) -> PublishedLists:
    settings = job.config.scoring
    ranked = ranking.recommend(
        job.spark,
        model,
        cohort.routed,
        k=settings.k,
        exclude_seen=settings.exclude_seen,
        tasks=cohort.tasks,
        allowed=allowed,
        only_candidates=cohort.candidates is not None,
        reserved=job.config.features.cold_places,
    )
    made = {
        PROBABILITY: ranking.probability(model.manifest.training),
        SOURCE: ranking.source_of_row(),
    }
    written = writer.write(ranked.withColumns(made), RECOMMENDATIONS)
    return PublishedLists(**dict(written), candidates=cohort.candidates)


def _write_statuses(job: Job, model: Model, cohort: _Cohort, writer: _Writer) -> PublishedStatuses:
    outcomes = cohorts.statuses(
        cohort.requests,
        cohort.routed,
        writer.read(RECOMMENDATIONS),
        model.id_types.user,
        only_candidates=cohort.candidates is not None,
    )
    written = writer.write(outcomes.coalesce(cohort.tasks), STATUS)
    counted = writer.read(STATUS).groupBy(STATUS_COLUMN).count().collect()
    by_status = {row[STATUS_COLUMN]: int(row["count"]) for row in counted}
    return PublishedStatuses(**dict(written), by_status=dict(sorted(by_status.items())))


def _write_titles(job: Job, model: Model, writer: _Writer) -> WrittenTable | None:
    titles = stage_titles(job, model.items.ids, model.id_types)
    if titles is None:
        return None
    return writer.write(titles.coalesce(1).sortWithinPartitions(ITEM), TITLES)


def _outcome(job: Job, unit: Unit, manifest: VersionManifest) -> Outcome:
    outputs = {}
    for name in manifest.tables.names:
        written = manifest.tables.of(name)
        uri = place(job.store.files, unit, manifest.run_id, name)
        outputs[name] = OutputTable(uri=uri, rows=written.rows, files=written.files)
    return Outcome(
        model_id=manifest.model_id,
        cohort=unit.cohort,
        by_status=manifest.tables.status.by_status,
        candidates=manifest.tables.recommendations.candidates,
        outputs=outputs,
        gates=manifest.gates,
        forced=manifest.forced,
    )
