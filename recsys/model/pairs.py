"""The interactions that a model was trained on, or newer ones."""

from pyspark.sql import DataFrame

from recsys.columns import IdTypes
from recsys.errors import ConfigError, ModelError
from recsys.ingest.preparation import open_prepared
from recsys.model.manifest import ModelManifest
from recsys.store.manifest import MANIFEST
from recsys.store.tables import Store


def open_pairs(store: Store, model: ModelManifest) -> DataFrame:
    """Return the interactions that a model was trained on (INTERACTIONS_SCHEMA).

    Raises:
        ModelError: they are not under this root any more.
    """
    name = model.interactions_id
    place = store.uri("interactions", name)
    if not store.exists(f"{place}/{MANIFEST}"):
        raise ModelError(
            f"model {model.model_id} was trained on interactions {name}, which are not in "
            f"{store.uri('interactions')}; restore them, or train it again"
        )
    return open_prepared(store, place).pairs


def open_newer_pairs(store: Store, interactions_id: str, id_types: IdTypes | None) -> DataFrame:
    """Return interactions that were prepared after a model was trained (INTERACTIONS_SCHEMA).

    Args:
        store: the root.
        interactions_id: what `scoring.interactions` says.
        id_types: the model's; None where they are not known yet.

    Raises:
        ConfigError: they are not there, or have ids of other types.
    """
    place = store.uri("interactions", interactions_id)
    if not store.exists(f"{place}/{MANIFEST}"):
        raise ConfigError(
            f"scoring.interactions: found {interactions_id}, expected the id of interactions in "
            f"{store.uri('interactions')}"
        )
    found = open_prepared(store, place)
    if id_types is not None and found.manifest.id_types != id_types:
        raise ConfigError(
            f"scoring.interactions: {interactions_id} has {found.manifest.id_types}, expected the "
            f"model's: {id_types}"
        )
    return found.pairs
