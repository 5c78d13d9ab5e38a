"""The features of a model in a local directory, and what is near them. No Spark."""

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.errors import ConfigError
from recsys.model.arrays import ITEMS, USERS, FeatureVectors, load_features
from recsys.score.representation import Nearest, Representation

_KINDS = (ITEMS, USERS)


class LocalFeatures:
    """The features of a model; those of items are loaded when first needed."""

    def __init__(self, folder: Path) -> None:
        """Load the features of users.

        Args:
            folder: the model's directory.

        Raises:
            ModelError: their table is damaged.
        """
        self._folder = folder
        self._loaded = {USERS: load_features(folder, USERS)}
        self._nearest: dict[str, Nearest] = {}

    def of(self, kind: str) -> FeatureVectors:
        """Return the features of `items` or `users`.

        Raises:
            ConfigError: the model has none, or the kind is another.
            ModelError: their table is damaged.
        """
        if kind not in _KINDS:
            raise ConfigError(f"kind: found {kind!r}, expected {' or '.join(_KINDS)}")
        if kind not in self._loaded:
            self._loaded[kind] = load_features(self._folder, kind)
        found = self._loaded[kind]
        if found is None:
            other = (
                ", or say what the user likes; if it was, popular items were better for new users"
                if kind == USERS
                else ""
            )
            raise ConfigError(
                f"model {self._folder.name} has no features of {kind}; train it with "
                f"features.{kind}{other}"
            )
        return found

    def one(self, name: str, kind: str) -> Representation:
        """Return what was learned of one feature.

        Raises:
            ConfigError: the model does not have it.
        """
        features = self.of(kind)
        if name not in features.names:
            raise self._unknown([name], kind)
        row = features.names.index(name)
        return Representation(kind, features.embeddings[row], features.biases[row], feature=name)

    def sum(
        self, features: Mapping[str, float], kind: str
    ) -> tuple[NDArray[np.float32], np.float32] | None:
        """Return the embedding and the bias of who, or what, has these features alone.

        Args:
            features: weights by names; names that the model does not have count for nothing.
            kind: `items` or `users`.

        Returns:
            `(n_components,)` float32 and a float32; None if the model has none of them.

        Raises:
            ConfigError: the model has no features of this kind, or a weight is not positive.
        """
        for name, weight in features.items():
            if not 0 < weight < math.inf:
                raise ConfigError(f"features: {name} has the weight {weight}, expected above 0")
        return self.of(kind).represent(features)

    def described(self, features: Mapping[str, float], kind: str) -> Representation:
        """Return `sum` as a representation.

        Raises:
            ConfigError: as `sum`; and where the model has none of the features.
        """
        found = self.sum(features, kind)
        if found is None:
            raise self._unknown(features, kind)
        return Representation(kind, *found)

    def near(self, to: Representation, k: int, kind: str) -> dict[str, Any]:
        """Return the features of a kind that are nearest to something.

        Returns:
            The columns `feature`, `cosine` float32, `group` and `value`; the nearest first, equal
            cosines in order of the names.
        """
        features = self.of(kind)
        if kind not in self._nearest:
            self._nearest[kind] = Nearest(features.embeddings)
        own = to.feature is not None and to.kind == kind and to.feature in features.names
        row = features.names.index(str(to.feature)) if own else None
        rows, cosines = self._nearest[kind].find(to.embedding, k, row)

        def texts(column: list[str]) -> pd.Series:
            return pd.Series([column[at] for at in rows], dtype=object)

        return {
            "feature": texts(features.names),
            "cosine": cosines,
            "group": texts(features.groups),
            "value": texts(features.values),
        }

    def _unknown(self, names: Iterable[str], kind: str) -> ConfigError:
        given, known = list(names), self.of(kind).names
        close = difflib.get_close_matches(given[0], known, n=1) if given else []
        hint = f"; did you mean {close[0]}?" if close else ""
        return ConfigError(
            f"features: found {', '.join(given[:5]) or 'none'}, expected some of the "
            f"{len(known):,} features of {kind} of model {self._folder.name}{hint}"
        )
