"""The interactions that a model learned from, or newer ones."""

from pyspark.sql import DataFrame

from recsys.errors import ConfigError, ModelError
from recsys.ingest.preparation import open_prepared
from recsys.model.tables import Model
from recsys.store.checksums import MANIFEST
from recsys.store.tables import Store


def open_pairs(store: Store, model: Model, newer: str | None = None) -> DataFrame:
    """Return the interactions that a model learned from, or newer ones (INTERACTIONS_SCHEMA).

    Raises:
        ModelError: they are not under this root any more.
        ConfigError: the newer ones are not there, or have ids of other types.
    """
    if newer is not None:
        place = store.uri("interactions", newer)
        if not store.exists(f"{place}/{MANIFEST}"):
            raise ConfigError(
                f"scoring.interactions: found {newer}, expected the id of interactions in "
                f"{store.uri('interactions')}"
            )
        found = open_prepared(store, place)
        types = {"user": model.user_type, "item": model.item_type}
        if found.types != types:
            raise ConfigError(
                f"scoring.interactions: {newer} has ids of the types {found.types}, expected the "
                f"model's, {types}"
            )
        return found.pairs
    name = str(model.manifest["interactions_id"])
    place = store.uri("interactions", name)
    if not store.exists(f"{place}/{MANIFEST}"):
        raise ModelError(
            f"model {model.model_id} learned from interactions {name}, which are not in "
            f"{store.uri('interactions')}; restore them, or train it again"
        )
    return open_prepared(store, place).pairs
