"""Features like a feature, and items like a feature: which of them are near, by the cosine."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import FEATURE, GROUP, ITEM, KIND, NEAR_FEATURE, NEAR_GROUP, NEIGHBOUR
from recsys.errors import ConfigError, InputError
from recsys.model.arrays import FEATURES, ITEMS, USERS, FeatureVectors
from recsys.model.manifest import ModelManifest
from recsys.model.tables import Model, read_features
from recsys.score.manifest import NearFeatures, SimilarFeaturesCounts
from recsys.score.similar import Spread, nearest, spread
from recsys.store.tables import Scratch, Store

log = logging.getLogger(__name__)

_KINDS = (ITEMS, USERS)


@dataclass(frozen=True)
class Near:
    """What is near the features.

    Attributes:
        features: `kind`, `feature`, `group`, `rank`, `neighbour`, `neighbour_group`, `cosine`.
        items: `feature`, `group`, `rank`, `item_id`, `cosine`; None where no feature of items was
            asked for.
        counts: what became of the features.
    """

    features: DataFrame
    items: DataFrame | None
    counts: SimilarFeaturesCounts


def check_groups(model: ModelManifest, groups: Sequence[str] | None) -> None:
    """Refuse to compare the features of a model that has none of them.

    Args:
        model: what is said of the model.
        groups: `similar.features.groups`; None for all.

    Raises:
        ConfigError: the model has no features, or lacks one of the groups.
    """
    kinds = [about for kind in _KINDS if (about := model.described(kind)) is not None]
    if not kinds:
        raise ConfigError(
            f"model {model.model_id} has no features; train one with features.items or "
            "features.users, or name another by --model"
        )
    known = list(dict.fromkeys(group for about in kinds for group in about.weights))
    for group in groups or ():
        if group not in known:
            close = difflib.get_close_matches(group, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(
                f"similar.features.groups: model {model.model_id} has no group {group!r}{hint}; "
                f"it has {', '.join(known)}"
            )


def features_asked_for(
    store: Store, model: Model, groups: Sequence[str] | None
) -> dict[str, FeatureVectors]:
    """Return the features that are compared, by whose they are: `items` and `users`.

    Args:
        store: the root.
        model: whose features they are.
        groups: `similar.features.groups`; None for all.

    Raises:
        InputError: none of the groups has a feature that was learned.
        ModelError: a table does not fit the model's manifest.
        MemoryLimitError: they are more than Spark may collect.
    """
    read = {kind: read_features(store, model, kind) for kind in _KINDS}
    found = {kind: _of(groups, features) for kind, features in read.items() if features is not None}
    found = {kind: features for kind, features in found.items() if features.names}
    if not found:
        raise InputError(
            f"similar.features.groups: model {model.model_id} has learned no feature of "
            f"{', '.join(groups or ())}; check their min_count in features, or name other groups"
        )
    return found


def _of(groups: Sequence[str] | None, features: FeatureVectors) -> FeatureVectors:
    """Return the features of these groups alone."""
    if groups is None:
        return features
    kept = [row for row, group in enumerate(features.groups) if group in groups]
    return replace(
        features,
        names=[features.names[row] for row in kept],
        groups=[features.groups[row] for row in kept],
        values=[features.values[row] for row in kept],
        embeddings=features.embeddings[kept],
        biases=features.biases[kept],
    )


def similar_features(
    spark: SparkSession,
    scratch: Scratch,
    model: Model,
    asked: Mapping[str, FeatureVectors],
    items: Spread | None,
    *,
    k: int,
    rows_per_file: int,
) -> Near:
    """Find what is near the features: those of the same kind, and the items near those of items.

    Args:
        spark: the session.
        scratch: brings rows to the executors.
        model: whose features they are.
        asked: what `features_asked_for` returned.
        items: the model's items, from `similar.spread_vectors`; None where no feature of items is
            asked for.
        k: how many neighbours for each; fewer where there are no more.
        rows_per_file: how many to answer in a task, and so in a file when this is written.
    """
    near: list[DataFrame] = []
    near_items: DataFrame | None = None
    counts: dict[str, NearFeatures | None] = dict.fromkeys(_KINDS)
    for kind, features in asked.items():
        chosen = ",".join(sorted(set(features.groups)))
        names = np.array(features.names, dtype=object)
        key = f"{model.uri}/{FEATURES[kind]}-{chosen}"
        among = spread(spark, key, names, features.embeddings, "string")
        rows = np.flatnonzero(among.directed)
        found = nearest(scratch, among, rows, k=k, rows_per_file=rows_per_file)
        near.append(_features(found, kind))
        n_items = 0
        if kind == ITEMS and items is not None:
            n_items = min(k, int(items.directed.sum()))
            answered = rows if n_items else rows[:0]
            near_items = _items(
                nearest(scratch, items, answered, k=k, rows_per_file=rows_per_file, asked=among)
            )
        counts[kind] = NearFeatures(
            features=len(features.names),
            without_direction=len(features.names) - len(rows),
            answered=len(rows),
            neighbours=max(0, min(k, len(rows) - 1)),
            items=n_items,
        )
        if len(rows) < len(features.names):
            log.warning(
                "of %s features of %s, some get no neighbours: %s without direction",
                f"{len(features.names):,}",
                kind,
                f"{len(features.names) - len(rows):,}",
            )
    together = near[0] if len(near) == 1 else near[0].unionByName(near[1])
    return Near(together, near_items, SimilarFeaturesCounts(**counts))


def _features(found: DataFrame, kind: str) -> DataFrame:
    columns = {
        KIND: F.lit(kind),
        GROUP: F.substring_index("id", "=", 1),  # no group has this sign in its name
        NEAR_GROUP: F.substring_index(NEIGHBOUR, "=", 1),
    }
    named = {"id": FEATURE, NEIGHBOUR: NEAR_FEATURE}
    return found.withColumns(columns).withColumnsRenamed(named)


def _items(found: DataFrame) -> DataFrame:
    groups = {GROUP: F.substring_index("id", "=", 1)}
    return found.withColumns(groups).withColumnsRenamed({"id": FEATURE, NEIGHBOUR: ITEM})
