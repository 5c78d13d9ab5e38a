"""What can be refused before anything is read or trained: the same for every command.

Sources are opened and their columns are looked at. Rows of the ratings are not read; JSON, which
Spark reads to find the columns, is not looked at here. Lists are read where that is needed: JSON
for its columns, CSV to see whether its quotes and headers are as they should be.
"""

from collections.abc import Callable, Iterable
from functools import partial

from recsys.columns import ITEM, USER, IdTypes
from recsys.config.sections import ItemList, Training, UserIds
from recsys.errors import ConfigError
from recsys.evaluate.held_out import read_segments
from recsys.flows import base_model, limits, space, titles
from recsys.flows import similar as neighbours
from recsys.flows.checks import Checks
from recsys.flows.execution import Job
from recsys.flows.model_ids import made_before, model_id_of, training_from
from recsys.flows.refresh import described_by, refreshed_id
from recsys.flows.score import schemas
from recsys.flows.train import threads
from recsys.ingest import features, judging, source
from recsys.ingest.ids import IdColumn, read_ids
from recsys.ingest.preparation import interactions_id, open_prepared
from recsys.ingest.timestamps import check_timestamp_format
from recsys.learn import training as lightfm
from recsys.model.arrays import ITEMS
from recsys.model.manifest import ModelManifest
from recsys.model.pairs import open_newer_pairs, open_pairs
from recsys.publishing.index import check_columns, check_run_date, open_index, published_before
from recsys.publishing.versions import HELD, Unit, place
from recsys.publishing.views import check_views
from recsys.runtime.workers import look_at_workers
from recsys.score.candidates import read_pairs
from recsys.score.cohorts import read_list
from recsys.score.ranking import read_items
from recsys.score.similar_features import check_groups
from recsys.store.manifest import MANIFEST

# Stands in for types that are not known yet: every column of ids can become text.
_TEXT = IdTypes("string", "string")


def places(job: Job, found: Checks, *uris: str) -> None:
    """See that what will be staged can be moved to where it belongs."""
    moves = {uri: partial(job.store.files.check_move, job.staging, uri) for uri in uris}
    for uri, check in moves.items():
        below = uri.removeprefix(job.store.root).strip("/")
        with found.looking(f"root: {below}", "can be written"):
            check()


def worker(job: Job, found: Checks) -> None:
    """Start a Python worker of Spark's on each executor, and note what is there."""
    with found.looking("Python workers") as told:
        job.run.workers.update(look_at_workers(job.spark))
        told += [f"{name} {version}" for name, version in job.run.workers.items()]


def training(
    job: Job,
    found: Checks,
    base: ModelManifest | None = None,
    settings: Training | None = None,
) -> IdTypes | None:
    """Look at the input and at LightFM; return the types of the ids, None where not known yet.

    Args:
        job: the run.
        found: collects what is wrong.
        base: the model that the training goes on from; None: it begins anew.
        settings: of the training, where they are not those of the configuration.
    """
    settings = training_from(settings or job.config.training, base)
    limits.training(job, found, settings)
    with found.looking("training.threads") as told:
        lightfm.check_threads(threads(job))
        told.append(f"{threads(job)}")
    types = None
    with found.looking("input") as told:
        found_states = features.states(job.spark, job.config)
        name = partial(model_id_of, job.config, job.run, found_states, base)
        types = _input_types(job, made=lambda: made_before(job, settings, name) is not None)
        told += _of_types(types)
    if base is not None:
        refusals = map(_refusal, base_model.for_warm_start(job.config, base, types))
        _all([("--from", refuse) for refuse in refusals], found)
    if job.config.features.configured:
        with found.looking("features"):
            features.look(job.spark, job.config, types)
    if job.config.features.configured:
        places(job, found, job.store.uri(features.FEATURES))
    return types


def refreshing(job: Job, base: ModelManifest | None, found: Checks) -> IdTypes | None:
    """Look at the input, and whether a model can be refreshed; return the types of the ids.

    Args:
        job: the run.
        base: the model; None where it cannot be used, which was said already.
        found: collects what is wrong.
    """
    if base is None:
        return None
    types = None
    with found.looking("input") as told:
        described = described_by(job.config, base)
        states = features.states(job.spark, described)
        name = partial(refreshed_id, described, job.run, base, states)
        types = _input_types(
            job, made=lambda: made_before(job, job.config.training, name) is not None
        )
        told += _of_types(types)
    refusals = map(_refusal, base_model.for_refresh(job.config, base, types))
    _all([("--model", refuse) for refuse in refusals], found)
    with found.looking("features"):
        features.look(job.spark, described_by(job.config, base), base.id_types)
    if job.config.features.configured:
        places(job, found, job.store.uri(features.FEATURES))
    return base.id_types


def _refusal(message: str) -> Callable[[], object]:
    def refuse() -> None:
        raise ConfigError(message)

    return refuse


def scoring(
    job: Job, id_types: IdTypes | None, found: Checks, model: ModelManifest | None = None
) -> None:
    """Look at everything that scoring and publishing need.

    Args:
        job: the run.
        id_types: of the ids; None where not known yet.
        found: collects what is wrong.
        model: the manifest of the model; None where it is not trained yet.
    """
    config, files, spark = job.config, job.store.files, job.spark
    unit = Unit(config.cohort.name, job.run.run_date)
    with found.looking("publishing.views"):
        check_views(spark, config.publishing)  # which a retry replaces as well
    with found.looking("what is published", f"can be followed by {unit}"):
        index = open_index(files, config.publishing, job.store.ensure_alive)
        if published_before(index, unit, job.run.run_id) is not None:
            return  # a retry, which only has to finish its record
        check_run_date(index, unit, config.publishing)
        if id_types is not None:
            check_columns(files, index, unit, _columns(id_types))
        space.check_lists(job, index, unit)
    places(job, found, place(files, unit), files.uri(HELD))
    worker(job, found)
    limits.scoring(job, found, model)
    titles.look(config.items.titles, found)
    types, items, newer = id_types or _TEXT, config.items, config.scoring.interactions
    checks: list[tuple[str, Callable[[], object]]] = []
    if config.cohort.users is not None:
        users = config.cohort.users
        checks.append(("cohort.users", lambda: read_list(spark, users, types)))
    for name in ("allow", "deny"):
        chosen: ItemList | None = getattr(items, name)
        if chosen is not None:
            checks.append((f"items.{name}", _items_check(job, chosen, f"items.{name}", types)))
    if items.candidates is not None:
        candidates = items.candidates
        checks.append(("items.candidates", lambda: read_pairs(spark, candidates, types)))
    if newer is not None:
        look = partial(open_newer_pairs, job.store, newer, id_types)
        checks.append(("scoring.interactions", look))
    if model is not None:
        checks.append(("the model's interactions", lambda: open_pairs(job.store, model)))
    _all(checks, found)


def similar(job: Job, kind: str, model: ModelManifest | None, found: Checks) -> None:
    """Look at what is published, and at the list of those whose neighbours are wanted."""
    places(job, found, *neighbours.places(job, kind))
    worker(job, found)
    if model is not None:
        with found.looking("what is published"):
            neighbours.check_published(job, kind, model.id_types)
    if kind == neighbours.FEATURES:
        if model is not None:
            with found.looking("similar.features.groups"):
                check_groups(model, job.config.similar.features.groups)
        return
    chosen: ItemList | UserIds | None = getattr(job.config.similar, kind)
    if chosen is None:
        return
    types = _TEXT if model is None else model.id_types
    name, type_ = (ITEM, types.item) if kind == ITEMS else (USER, types.user)
    key = f"similar.{kind}"
    column = IdColumn(chosen.column, f"{key}.column", type_)
    with found.looking(key):
        read_ids(job.spark, chosen, {name: column}, key=key, where=chosen.where)


def evaluation(job: Job, id_types: IdTypes | None, found: Checks) -> None:
    """Look at the table of segments, and at what measuring needs."""
    places(job, found, job.store.uri("evaluations"))
    worker(job, found)
    segments = job.config.evaluation.segment
    if segments is not None:
        with found.looking("evaluation.segment"):
            read_segments(job.spark, segments, (id_types or _TEXT).user)


def _input_types(job: Job, made: Callable[[], bool]) -> IdTypes | None:
    """Return the types of the ids, from what an earlier attempt has prepared or from the input.

    None where they are not known yet, or where the model is `made` that is to be made.
    """
    config, store = job.config, job.store
    place = store.uri("interactions", interactions_id(config, job.run))
    if store.exists(f"{place}/{MANIFEST}"):
        return open_prepared(store, place).manifest.id_types
    if made():
        return None  # which only has to be loaded
    check_timestamp_format(job.spark, config.input.timestamp_format)
    if config.input.format == "json":
        return None
    raw = source.read_ratings(job.spark, config.input).rows
    # This looks at the columns' types.
    judging.judge(raw, config.input, config.row_checks, job.run.first_started_at)
    return judging.id_types(raw, config.input)


def _columns(id_types: IdTypes) -> dict[str, dict[str, str]]:
    return {
        name: dict(field.split(" ", 1) for field in schema.split(", "))
        for name, schema in schemas(id_types).items()
    }


def _items_check(job: Job, chosen: ItemList, key: str, types: IdTypes) -> Callable[[], object]:
    return lambda: read_items(job.spark, chosen, key, types.item)


def _all(checks: Iterable[tuple[str, Callable[[], object]]], found: Checks) -> None:
    for name, check in checks:
        with found.looking(name):
            check()


def _of_types(types: IdTypes | None) -> list[str]:
    if types is None:
        return []
    return [f"user ids {types.user}", f"item ids {types.item}"]
