"""Score a cohort with a model: `spark-submit jobs/score.py --config conf/x.yaml --model ID`."""

import datetime as dt
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import (
    COHORT,
    GENERATED_AT,
    ITEM,
    ITEM_INDEX,
    MODEL_ID,
    PROBABILITY,
    RECOMMENDATIONS_SCHEMA,
    REQUESTS_SCHEMA,
    ROUTED_SCHEMA,
    RUN_DATE,
    RUN_ID,
    STATUS_SCHEMA,
    names,
)
from recsys.errors import ConfigError, DamageError
from recsys.flows.execution import Job, Options, execute
from recsys.ingest.ids import index_frame
from recsys.ingest.source import reading
from recsys.model.pairs import open_pairs
from recsys.model.tables import Model, load_model
from recsys.publishing import gates
from recsys.publishing.publish import (
    Staged,
    check_run_date,
    open_index,
    publish,
    published_before,
    retain,
)
from recsys.publishing.read import check_version
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    TABLES,
    Unit,
    Version,
    columns,
    place,
    read_manifest,
)
from recsys.publishing.views import create_views
from recsys.runs.run import FORMAT_VERSION, versions
from recsys.runtime.stop_points import stop_point
from recsys.score import cohorts, ranking
from recsys.score.candidates import read_candidates
from recsys.store.posix import PosixFiles
from recsys.store.tables import Store

log = logging.getLogger(__name__)


def score(job: Job, model: Model) -> dict[str, Any]:
    """Publish the lists and the statuses of one cohort, and say what they are."""
    config, run, store = job.config, job.run, job.store
    config.require_scoring()
    unit = Unit(config.cohort.name, run.run_date)
    index = open_index(store.files, config.publishing, store.ensure_alive)
    version = published_before(index, unit, run.run_id)
    if version is None:
        check_run_date(index, unit, config.publishing)
        staged, judge = _stage(job, model, unit)
        stop_point("staged")
        with run.step("publish"):
            version = publish(
                store.files, index, staged, judge, alive=store.ensure_alive, force=job.force
            )
    else:
        log.info("%s is published already: taking it up", unit)
    manifest = read_manifest(store.files, version)
    if manifest["configuration_hash"] != config.fingerprint():
        raise ConfigError(
            f"--run-id: run {run.run_id} has published {unit} already, with another configuration; "
            "choose another run id"
        )

    def follow() -> None:
        if config.publishing.views is not None:
            create_views(job.spark, store.files, index, config.publishing.views)

    retain(store.files, index, config.publishing, before_deleting=follow)
    stop_point("retained")
    return _outputs(store, unit, manifest)


def check_publishing(job: Job) -> None:
    """Find out before hours of work whether its result could be published.

    Raises:
        RecsysError: the store, the version index or the day is not usable.
    """
    settings, files = job.config.publishing, job.store.files
    index = open_index(files, settings, job.store.ensure_alive)
    check_run_date(index, Unit(job.config.cohort.name, job.run.run_date), settings)


def _outputs(store: Store, unit: Unit, manifest: Mapping[str, Any]) -> dict[str, Any]:
    tables = {
        name: {
            "uri": place(store.files, unit, manifest["run_id"], name),
            **manifest["tables"][name],
        }
        for name in TABLES
    }
    return {"outputs": tables, "gates": manifest["gates"], "forced": manifest["forced"]}


@dataclass(frozen=True)
class _Judge:
    """Judges what was staged, by itself once and beside what is published as often as asked."""

    job: Job
    subject: gates.Subject
    lists: Sequence[gates.Verdict]

    def verdicts(self, before: Version | None) -> list[gates.Verdict]:
        compared = None if before is None else _previous(self.job, before)
        changed = gates.judge_change(self.subject, compared, self.job.config.gates)
        return [*self.lists, *changed]

    def refuse(self, verdicts: Sequence[Any], held: str) -> None:
        gates.enforce(verdicts, held=held)


def _stage(job: Job, model: Model, unit: Unit) -> tuple[Staged, _Judge]:
    """Write a version beside the published ones, and say how it is judged."""
    config, run, store = job.config, job.run, job.store
    types = {"user": model.user_type, "item": model.item_type}
    schemas = {
        RECOMMENDATIONS: RECOMMENDATIONS_SCHEMA.format(**types),
        STATUS: STATUS_SCHEMA.format(**types),
    }
    uri = f"{job.staging}/version"
    with run.step("cohort"):
        pairs = open_pairs(store, model, config.scoring.interactions)
        asked = _staged_requests(job, model, pairs)
        n_asked = asked.count()
        cores = job.spark.sparkContext.defaultParallelism
        tasks = ranking.n_tasks(n_asked, config.scoring.users_per_file, cores)
        routed, candidates = _staged_ways(job, model, asked, pairs, tasks)
        allowed = ranking.allowed_items(job.spark, model, config.items)
    stamps = {
        RUN_DATE: F.lit(run.run_date),
        COHORT: F.lit(unit.cohort),
        MODEL_ID: F.lit(model.model_id),
        RUN_ID: F.lit(run.run_id),
        GENERATED_AT: F.lit(dt.datetime.now(dt.UTC)),
    }

    def write(frame: DataFrame, table: str) -> dict[str, Any]:
        columns = names(schemas[table])
        return store.write_table(
            frame.withColumns(
                {name: value for name, value in stamps.items() if name in columns}
            ).select(*columns),
            f"{uri}/{table}",
            schemas[table],
        )

    with run.step("score"):
        training = model.manifest["training"]
        ranked = ranking.recommend(
            job.spark,
            model,
            routed,
            k=config.scoring.k,
            exclude_seen=config.scoring.exclude_seen,
            tasks=tasks,
            allowed=allowed,
            only_candidates=bool(candidates),
        )
        written = write(
            ranked.withColumn(PROBABILITY, ranking.probability(training)), RECOMMENDATIONS
        )
    with run.step("judge"):
        lists = store.read_table(f"{uri}/{RECOMMENDATIONS}", schemas[RECOMMENDATIONS])
        outcomes = cohorts.statuses(
            asked, routed, lists, model.user_type, only_candidates=bool(candidates)
        )
        told = write(outcomes.coalesce(tasks), STATUS)
        statuses = store.read_table(f"{uri}/{STATUS}", schemas[STATUS])
        subject = gates.Subject(
            lists=lists,
            statuses=statuses,
            asked=asked,
            pairs=_seen(job, model, pairs),
            items=config.items,
            k=config.scoring.k,
            exclude_seen=config.scoring.exclude_seen,
            n_catalogue=len(model.items.ids) if allowed is None else int(allowed.sum()),
            model=model.manifest,
            **{f"{kind}_type": name for kind, name in types.items()},
        )
        judge = _Judge(job, subject, gates.judge_lists(job.spark, subject, config.gates))
        counts = {row[STATUS]: row["count"] for row in statuses.groupBy(STATUS).count().collect()}

    manifest = {
        "format_version": FORMAT_VERSION,
        "run_id": run.run_id,
        "run_date": run.run_date.isoformat(),
        "cohort": unit.cohort,
        "model_id": model.model_id,
        "model": {
            name: model.manifest.get(name)
            for name in (
                "model_id",
                "interactions_id",
                "input",
                "counts",
                "training",
                "configuration",
            )
        },
        "configuration": config.public(),
        "configuration_hash": config.fingerprint(),
        "versions": versions(),
        "schemas": {table: columns(schema) for table, schema in schemas.items()},
        "tables": {
            RECOMMENDATIONS: {**written, **candidates},
            STATUS: {**told, "by_status": dict(sorted(counts.items()))},
        },
    }
    return Staged(unit, run.run_id, uri, manifest), judge


def _seen(job: Job, model: Model, pairs: DataFrame) -> list[DataFrame]:
    """Return all interactions whose items count as seen: the model's, and newer ones."""
    if job.config.scoring.interactions is None:
        return [pairs]
    return [pairs, open_pairs(job.store, model)]


def _previous(job: Job, version: Version) -> gates.Previous | None:
    """Open what readers see now, to compare with; None where it is damaged."""
    files = job.store.files
    try:
        # Spark's own complaint would be about this run.
        local = isinstance(files, PosixFiles)
        manifest = (check_version if local else read_manifest)(files, version)
    except DamageError as error:
        log.warning("not compared with what is published: %s", error)
        return None
    schema = ", ".join(f"{k} {v}" for k, v in manifest["schemas"][RECOMMENDATIONS].items())
    uri = place(files, version.unit, version.run_id, RECOMMENDATIONS)
    return gates.Previous(version.run_id, job.store.read_table(uri, schema), manifest["model"])


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
    job.store.write_table(ranking.number_parts(routed, tasks), place, schema)
    return job.store.read_table(place, schema), counts


def open_model(job: Job, model_id: str) -> Model:
    """Load a model of this root by its id."""
    if not re.fullmatch(r"[a-z][A-Za-z0-9_.-]{0,160}", model_id):
        raise ConfigError(
            f"--model: found {model_id[:180]!r}, expected the id of a model under "
            f"{job.store.uri('models')}"
        )
    return load_model(job.spark, job.store, job.store.uri("models", model_id))


def steps(job: Job, model_id: str) -> dict[str, Any]:
    """Run the steps and say what came of them."""
    model = open_model(job, model_id)
    return {
        "model_id": model.model_id,
        "cohort": job.config.cohort.name,
        **score(job, model),
    }


def main(options: Options, model_id: str) -> int:
    """Run the job and return its exit status."""
    return execute(
        "score",
        options,
        partial(steps, model_id=model_id),
        needs_input=False,
        asked={"model_id": model_id},
    )
