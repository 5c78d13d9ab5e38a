"""What a refresh takes from a model."""

from dataclasses import replace

from recsys.flows.execution import Job
from recsys.ingest.features import ITEMS, USERS
from recsys.model.manifest import ModelManifest
from recsys.model.refreshed import BaseModel
from recsys.model.second_view_again import Before
from recsys.model.tables import Model, read_features
from recsys.runtime.memory import second_view_bytes


def known_of(job: Job, base: Model, *, again: bool) -> BaseModel:
    """Return what a refresh begins with.

    Args:
        job: the run.
        base: the model.
        again: whether a second view is learned again. A sample of the users would give a worse one.
    """
    return BaseModel(
        base.items,
        base.fold_in,
        base.id_types,
        base.manifest.training.mean_user_bias,
        user_features=read_features(job.store, base, USERS),
        item_features=read_features(job.store, base, ITEMS),
        second=_second(job, base.manifest) if again else None,
    )


def _second(job: Job, base: ModelManifest) -> Before | None:
    """Return a model's second view, with the share that LightFM has there."""
    second = base.training.assembly.recipe().second
    if second is None:
        return None
    if base.refresh is not None and base.refresh.second_view_share is not None:
        second = replace(second, share=base.refresh.second_view_share)
    spare = second_view_bytes(job.spark, job.config.memory.max_share)
    users_share = 1.0 if base.sample is None else base.sample.share
    return Before(second, base.training.seed, spare, users_share)
