"""Judge lists that were staged: by themselves, and beside what is published."""

import logging
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import ITEM, ITEMS_SCHEMA, REQUESTS_SCHEMA, TRAINED
from recsys.errors import DamageError
from recsys.flows.execution import Job
from recsys.model.arrays import ITEMS
from recsys.model.pairs import open_newer_pairs, open_pairs
from recsys.model.tables import Model
from recsys.publishing import gates
from recsys.publishing.manifest import Verdict
from recsys.publishing.publish import Judge, Staged
from recsys.publishing.read import check_version
from recsys.publishing.subject import ColdItems, Previous, Subject
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, Version, place
from recsys.score import ranking

log = logging.getLogger(__name__)


def judge(job: Job, model: Model, staged: Staged, tables: Mapping[str, DataFrame]) -> Judge:
    """Judge what was staged by itself, once; return what judges it beside what is published.

    Args:
        job: the run.
        model: that the lists were made with.
        staged: what is judged.
        tables: its tables by name, read back.
    """
    with job.run.step("judge") as step:
        step.rows = staged.manifest.tables.recommendations.rows
        subject = _subject(job, model, staged, tables)
        lists = gates.judge_lists(job.spark, subject, job.config.gates)

    def verdicts(before: Version | None) -> list[Verdict]:
        compared = None if before is None else _previous(job, before)
        return [*lists, *gates.judge_change(subject, compared, job.config.gates)]

    return verdicts


def history(job: Job, model: Model) -> list[DataFrame]:
    """Return all interactions whose items count as seen, the newest ones first."""
    trained_on = open_pairs(job.store, model.manifest)
    newer = job.config.scoring.interactions
    if newer is None:
        return [trained_on]
    return [open_newer_pairs(job.store, newer, model.id_types), trained_on]


def _subject(job: Job, model: Model, staged: Staged, tables: Mapping[str, DataFrame]) -> Subject:
    config, types = job.config, model.id_types
    allowed = ranking.allowed_items(job.spark, model, config)
    cold = None
    if not model.items.trained.all():
        items = job.store.read_table(f"{model.uri}/{ITEMS}", types.fill(ITEMS_SCHEMA))
        among = ranking.cold_items(model, allowed)
        cold = ColdItems(
            ids=items.where(~F.col(TRAINED)).select(ITEM),
            n=0 if among is None else int(among.sum()),
            places=config.features.cold_places,
        )
    return Subject(
        lists=tables[RECOMMENDATIONS],
        statuses=tables[STATUS],
        asked=job.store.read_table(staged.requests, types.fill(REQUESTS_SCHEMA)),
        pairs=history(job, model),
        items=config.items,
        k=config.scoring.k,
        exclude_seen=config.scoring.exclude_seen,
        n_catalogue=model.manifest.n_items if allowed is None else int(allowed.sum()),
        id_types=types,
        model=model.manifest,
        cold=cold,
    )


def _previous(job: Job, version: Version) -> Previous | None:
    """Open what readers see now, to compare with; None where it is damaged."""
    files = job.store.files
    try:
        manifest = check_version(files, version)  # Spark's own complaint would be about this run
    except DamageError as error:
        log.warning("not compared with what is published: %s", error)
        return None
    schema = ", ".join(f"{name} {kind}" for name, kind in manifest.schemas[RECOMMENDATIONS].items())
    uri = place(files, version.unit, version.run_id, RECOMMENDATIONS)
    return Previous(version.run_id, job.store.read_table(uri, schema), manifest.model)
