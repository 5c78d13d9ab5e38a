"""What models are called: the same for a retry of a run, another for what makes another model."""

from collections.abc import Callable, Mapping

from recsys.config.configuration import Config, digest
from recsys.config.sections import Training
from recsys.flows.execution import Job
from recsys.ingest.features import features_id
from recsys.ingest.manifest import InputState
from recsys.ingest.preparation import interactions_id
from recsys.learn.user_sample import Sample, Sampled, possible
from recsys.model.manifest import ModelManifest
from recsys.runtime.run import Run
from recsys.store.manifest import MANIFEST


def model_id_of(
    config: Config,
    run: Run,
    found: Mapping[str, InputState],
    base: ModelManifest | None = None,
    sample: Sample | None = None,
) -> str:
    """Name the model of a run: the same for a retry, another for other settings or features.

    Args:
        config: what is trained and how.
        run: which trains it.
        found: what `features.states` returned.
        base: the model that the training goes on from; None: it begins anew.
        sample: which users it is trained on; None: all.
    """
    made_of = [interactions_id(config, run), config.fingerprint("training")]
    if config.training.sample_weights.half_life_days is not None:
        made_of.append(run.run_date.isoformat())  # ages count from there
    if config.features.configured:
        made_of += [features_id(config, run, found)]
        settings = config.public()["features"]
        made_of += [digest({name: settings[name] for name in settings if name != "cold_items"})]
    if base is not None:  # with the checksums of its tables
        made_of += ["from", digest(base.plain())]
    return named(run, made_of, sample)


def named(run: Run, made_of: list[str], sample: Sample | None) -> str:
    """Name a model by what it is made of."""
    if sample is not None:
        made_of = [*made_of, "sample", *map(str, sample)]
    return f"{run.run_id}-{digest(made_of)[:8]}"


def sample_of(found: Sampled | None) -> Sample | None:
    """Return what of a sample is in the name of a model."""
    return None if found is None else (found.share, found.least)


def training_from(settings: Training, base: ModelManifest | None) -> Training:
    """Return the settings of a training; one that goes on takes the share of the one before."""
    if base is None:
        return settings
    sample = base_sample(base)
    share = "refuse" if sample is None or sample[0] == 1 else sample[0]
    return settings.model_copy(update={"sample_users": share})


def base_sample(base: ModelManifest | None) -> Sample | None:
    """Return which sample a training takes again that goes on; None: it begins anew."""
    if base is None:
        return None
    return (1.0, 0) if base.sample is None else (base.sample.share, base.sample.item_minimum)


def made_before(job: Job, settings: Training, name: Callable[[Sample | None], str]) -> str | None:
    """Return the model that an attempt of the run has made; None where there is none.

    Which users that attempt could train on was decided by the memory that it had. So a retry takes
    up what there is, whatever it would choose itself.

    Args:
        job: the run.
        settings: of the training.
        name: names the model of a sample.
    """
    for sample in (None, *possible(settings.sample_users)):
        model_id = name(sample)
        if job.store.exists(f"{job.store.uri('models', model_id)}/{MANIFEST}"):
            return model_id
    return None
