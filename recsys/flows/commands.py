"""What each command does: look at everything first, then work step by step."""

from collections.abc import Iterator
from functools import partial

from recsys.config import requirements
from recsys.config.configuration import Config
from recsys.config.stored_ids import check_stored_id
from recsys.errors import ConfigError
from recsys.flows import preflight
from recsys.flows.checks import Checks
from recsys.flows.evaluate import evaluate
from recsys.flows.execution import Command, Job
from recsys.flows.manifest import Outcome
from recsys.flows.refresh import refresh
from recsys.flows.score import score
from recsys.flows.similar import find_neighbours
from recsys.flows.train import train, trained
from recsys.flows.tune import TUNINGS, Where, check_study, trial_settings, tune
from recsys.learn import search_space, studies
from recsys.model.listing import check_known
from recsys.model.manifest import ModelManifest
from recsys.model.tables import Model, load_model, read_manifest

# What lies below the root, by who writes it.
_OF_PREPARATION = ("interactions", "rejects")
_OF_TRAINING = (*_OF_PREPARATION, "models")


def run_command() -> Command:
    """Prepare, train and score."""

    def look(job: Job, found: Checks) -> None:
        id_types = preflight.training(job, found)
        preflight.places(job, found, *map(job.store.uri, _OF_TRAINING))
        preflight.scoring(job, id_types, found)

    def work(job: Job) -> Outcome:
        return _scored(job, train(job))

    return Command("run", _for_run, look, work)


def _scored(job: Job, model: Model) -> Outcome:
    """Score with a model that this run has made."""
    learned, scored = trained(job, model), score(job, model)
    outputs = {**learned.outputs, **scored.outputs}
    found = {"counts": learned.counts, "sample": learned.sample, "outputs": outputs}
    return scored.model_copy(update=found)


def _for_run(config: Config) -> Iterator[str]:
    yield from requirements.for_training(config)
    yield from requirements.for_scoring(config)


def train_command(from_model: str | None = None) -> Command:
    """Prepare the ratings and train a model, from nothing or from a model that is there."""

    def look(job: Job, found: Checks) -> None:
        base = None if from_model is None else _model(job, found, "--from")
        if from_model is None or base is not None:
            preflight.training(job, found, base)
        preflight.places(job, found, *map(job.store.uri, _OF_TRAINING))

    def work(job: Job) -> Outcome:
        return trained(job, train(job))

    return Command("train", requirements.for_training, look, work, from_model, base_of="--from")


def refresh_command(model_id: str) -> Command:
    """Fold everyone into a model again, from all pairs, and score."""

    def look(job: Job, found: Checks) -> None:
        base = _model(job, found)
        id_types = preflight.refreshing(job, base, found)
        preflight.places(job, found, *map(job.store.uri, _OF_TRAINING))
        preflight.scoring(job, id_types, found)

    def work(job: Job) -> Outcome:
        return _scored(job, refresh(job))

    return Command("refresh", _for_run, look, work, model_id, base_of="--model")


def score_command(model_id: str) -> Command:
    """Score a cohort with a model that was trained before."""

    def look(job: Job, found: Checks) -> None:
        manifest = _model(job, found)
        types = None if manifest is None else manifest.id_types
        preflight.scoring(job, types, found, manifest)

    def work(job: Job) -> Outcome:
        return score(job, load_model(job.store, _model_uri(job)))

    return Command("score", requirements.for_scoring, look, work, model_id)


def similar_command(kind: str, model_id: str) -> Command:
    """Write the nearest neighbours of `items`, `users` or `features`."""

    def look(job: Job, found: Checks) -> None:
        preflight.similar(job, kind, _model(job, found), found)

    def work(job: Job) -> Outcome:
        return find_neighbours(job, load_model(job.store, _model_uri(job)), kind)

    requires = partial(requirements.for_similar, kind=kind)
    return Command(f"similar-{kind}", requires, look, work, model_id)


def evaluate_command() -> Command:
    """Hold pairs out, train on the rest, and measure the lists beside popularity."""

    def look(job: Job, found: Checks) -> None:
        id_types = preflight.training(job, found)
        preflight.places(job, found, *map(job.store.uri, _OF_PREPARATION))
        preflight.evaluation(job, id_types, found)

    def work(job: Job) -> Outcome:
        return evaluate(job)

    return Command("evaluate", requirements.for_evaluation, look, work)


def tune_command(storage: str | None, study: str) -> Command:
    """Look for better hyperparameters, and write a configuration with them.

    Args:
        storage: URI of what keeps the trials; None: a file in the root.
        study: their name there.
    """
    where = Where(storage, study)

    def look(job: Job, found: Checks) -> None:
        settings = trial_settings(job.config.training, job.config.tuning)
        preflight.training(job, found, settings=settings)
        preflight.places(job, found, *map(job.store.uri, (*_OF_PREPARATION, TUNINGS)))
        with found.looking("trials"):
            check_study(job, where)

    def work(job: Job) -> Outcome:
        return tune(job, where)

    return Command("tune", _for_tuning, look, work)


def named(name: str, model_id: str) -> Command:
    """Return the command with a name; `model_id` for those that use a model."""
    with_model = {"refresh": refresh_command, "score": score_command}
    if name in with_model:
        return with_model[name](model_id)
    if name == "tune":
        return tune_command(None, "recsys")
    plain = {"run": run_command, "train": train_command, "evaluate": evaluate_command}
    return plain[name]()


def _for_tuning(config: Config) -> Iterator[str]:
    yield from requirements.for_tuning(config)
    try:
        studies.check_installed()
    except ConfigError as error:
        yield str(error)
    if not search_space.tuned_names(config.training, config.tuning.ranges):
        yield search_space.nothing_to_tune(config.training)


def _model(job: Job, found: Checks, option: str = "--model") -> ModelManifest | None:
    """Return what is said of the model that a run uses; None where it cannot be used."""
    model_id = job.model_id or ""
    with found.looking("model", model_id):
        expected = f"the id of a model under {job.store.uri('models')}"
        check_stored_id(model_id, key=option, expected=expected)
        check_known(job.store.files, model_id, option)
        return read_manifest(job.store, _model_uri(job))
    return None


def _model_uri(job: Job) -> str:
    return job.store.uri("models", job.model_id or "")
