"""What each command does: look at everything first, then work step by step."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from recsys.config import requirements
from recsys.config.configuration import Config
from recsys.config.stored_ids import check_stored_id
from recsys.errors import Complaints, ConfigError
from recsys.flows import preflight
from recsys.flows.evaluate import evaluate
from recsys.flows.execution import Command, Job
from recsys.flows.manifest import Outcome
from recsys.flows.refresh import refresh
from recsys.flows.score import score
from recsys.flows.similar import find_neighbours
from recsys.flows.train import train, trained
from recsys.flows.tune import TUNINGS, Where, check_study, tune
from recsys.ingest.settings import check_settings
from recsys.learn import search_space, studies
from recsys.model.listing import check_known
from recsys.model.manifest import ModelManifest
from recsys.model.tables import Model, load_model, read_manifest

# What lies below the root, by who writes it.
_OF_PREPARATION = ("interactions", "rejects")
_OF_TRAINING = (*_OF_PREPARATION, "models")


def run_command() -> Command:
    """Prepare, train and score."""

    def work(job: Job) -> Outcome:
        with _looking(job) as found:
            id_types = preflight.training(job, found)
            preflight.places(job, found, *map(job.store.uri, _OF_TRAINING))
            preflight.scoring(job, id_types, found)
        return _scored(job, train(job))

    return Command("run", _for_run, work)


def _scored(job: Job, model: Model) -> Outcome:
    """Score with a model that this run has made."""
    learned, scored = trained(job, model), score(job, model)
    outputs = {**learned.outputs, **scored.outputs}
    return scored.model_copy(update={"counts": learned.counts, "outputs": outputs})


def _for_run(config: Config) -> Iterator[str]:
    yield from requirements.for_training(config)
    yield from requirements.for_scoring(config)


def train_command(from_model: str | None = None) -> Command:
    """Prepare the ratings and train a model, from nothing or from a model that is there."""

    def work(job: Job) -> Outcome:
        with _looking(job) as found:
            base = None if from_model is None else _model(job, found, "--from")
            if from_model is None or base is not None:
                preflight.training(job, found, base)
            preflight.places(job, found, *map(job.store.uri, _OF_TRAINING))
        return trained(job, train(job))

    return Command("train", requirements.for_training, work, from_model, base_of="--from")


def refresh_command(model_id: str) -> Command:
    """Fold everyone into a model again, from all pairs, and score."""

    def work(job: Job) -> Outcome:
        with _looking(job) as found:
            base = _model(job, found)
            id_types = preflight.refreshing(job, base, found)
            preflight.places(job, found, *map(job.store.uri, _OF_TRAINING))
            preflight.scoring(job, id_types, found)
        return _scored(job, refresh(job))

    return Command("refresh", _for_run, work, model_id, base_of="--model")


def score_command(model_id: str) -> Command:
    """Score a cohort with a model that was trained before."""

    def work(job: Job) -> Outcome:
        with _looking(job) as found:
            manifest = _model(job, found)
            types = None if manifest is None else manifest.id_types
            preflight.scoring(job, types, found, manifest)
        return score(job, load_model(job.store, _model_uri(job)))

    return Command("score", requirements.for_scoring, work, model_id)


def similar_command(kind: str, model_id: str) -> Command:
    """Write the nearest neighbours of `items`, `users` or `features`."""

    def work(job: Job) -> Outcome:
        with _looking(job) as found:
            preflight.similar(job, kind, _model(job, found), found)
        return find_neighbours(job, load_model(job.store, _model_uri(job)), kind)

    return Command(f"similar-{kind}", partial(requirements.for_similar, kind=kind), work, model_id)


def evaluate_command() -> Command:
    """Hold pairs out, train on the rest, and measure the lists beside popularity."""

    def work(job: Job) -> Outcome:
        with _looking(job) as found:
            id_types = preflight.training(job, found)
            preflight.places(job, found, *map(job.store.uri, _OF_PREPARATION))
            preflight.evaluation(job, id_types, found)
        return evaluate(job)

    return Command("evaluate", requirements.for_evaluation, work)


def tune_command(storage: str | None, study: str) -> Command:
    """Look for better hyperparameters, and write a configuration with them.

    Args:
        storage: URI of what keeps the trials; None: a file in the root.
        study: their name there.
    """
    where = Where(storage, study)

    def work(job: Job) -> Outcome:
        with _looking(job) as found:
            preflight.training(job, found)
            preflight.places(job, found, *map(job.store.uri, (*_OF_PREPARATION, TUNINGS)))
            with found.collecting():
                check_study(job, where)
        return tune(job, where)

    return Command("tune", _for_tuning, work)


def _for_tuning(config: Config) -> Iterator[str]:
    yield from requirements.for_tuning(config)
    try:
        studies.check_installed()
    except ConfigError as error:
        yield str(error)
    if not search_space.tuned_names(config.training, config.tuning.ranges):
        yield search_space.nothing_to_tune(config.training)


@contextmanager
def _looking(job: Job) -> Iterator[Complaints]:
    """Time the look at everything, and refuse the run by all that is wrong."""
    with job.run.step("preflight"):
        found = Complaints()
        with found.collecting():
            check_settings(job.spark, job.config.spark)
        yield found
        found.raise_all()


def _model(job: Job, found: Complaints, option: str = "--model") -> ModelManifest | None:
    """Return what is said of the model that a run uses; None where it cannot be used."""
    model_id = job.model_id or ""
    with found.collecting():
        expected = f"the id of a model under {job.store.uri('models')}"
        check_stored_id(model_id, key=option, expected=expected)
        check_known(job.store.files, model_id, option)
        return read_manifest(job.store, _model_uri(job))
    return None


def _model_uri(job: Job) -> str:
    return job.store.uri("models", job.model_id or "")
