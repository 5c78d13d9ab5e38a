"""Recommendations for someone new, at once and without Spark: for a command line or a notebook.

The lists are those that a batch job publishes for the same likes, bit for bit: they come from the
same kernel.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.config.feature_names import feature_name
from recsys.config.sections import Titles
from recsys.errors import ConfigError
from recsys.kernel.topk import Ranked
from recsys.kernel.worker import (
    FEATURES,
    FOLD_IN,
    POPULAR,
    BroadcastModel,
    Choice,
    Lists,
    Ragged,
)
from recsys.model.arrays import (
    USERS,
    FeatureVectors,
    Vectors,
    configured_cold_items,
    ids_for_pandas,
    load_features,
    load_fold_in,
    load_items,
)
from recsys.score.titles import read_titles
from recsys.store.files import require_local

_TYPES = {pa.int32(): ("int", 32), pa.int64(): ("bigint", 64)}


class LocalModel:
    """A model's items and fold-in map, from a local directory.

    What becomes of items that have nothing but features is what the model's own configuration says
    (`features.cold_items`). A list that is shorter than configured keeps its first place for
    another item.
    """

    def __init__(
        self,
        lists: Lists,
        items: Vectors,
        titles: Titles | None,
        user_features: FeatureVectors | None = None,
        reserved: int = 0,
    ) -> None:
        self._lists = lists
        self._reserved = reserved
        self._user_features = user_features
        self._type, self._bits = _TYPES.get(items.ids.type, ("string", 0))
        self._rows = {item: row for row, item in enumerate(items.ids.to_pylist())}
        self._titles = {} if titles is None else read_titles(titles, self._id)

    @classmethod
    def load(cls, path: str | Path, titles: Titles | None = None) -> "LocalModel":
        """Load a model.

        Args:
            path: its directory, as a path or a `file:` URI.
            titles: where the items' titles are.

        Raises:
            ModelError: the model is missing, incomplete or damaged.
            ConfigError: it is no local path.
            ConfigError, InputError: the titles cannot be read; see `titles.read_titles`.
        """
        folder = require_local(
            path, "path"
        ).resolve()  # a model is called like its directory, not like a link to it
        items, fold_in = load_items(folder), load_fold_in(folder)
        cold_items = configured_cold_items(folder)
        without = cold_items == "exclude"
        model = BroadcastModel(
            key=folder.name,
            ids=ids_for_pandas(items.ids),
            embeddings=items.embeddings,
            biases=items.biases,
            positives=np.zeros(0, np.int32) if items.positives is None else items.positives,
            allowed=items.trained if without else None,
            fold_in=fold_in,
            cold=None if without or items.trained.all() else ~items.trained,
        )
        reserved = 0 if isinstance(cold_items, str) else cold_items
        return cls(Lists(model), items, titles, load_features(folder, USERS), reserved)

    @property
    def n_items(self) -> int:
        """How many items the model has."""
        return len(self._rows)

    def unknown(self, liked: Iterable[object]) -> list[Any]:
        """Return which of these items the model does not have, each once, in the order given.

        Raises:
            ConfigError: one cannot be an id of the model's type.
        """
        return [item for item in dict.fromkeys(self._ids(liked)) if item not in self._rows]

    def recommend(
        self, liked: Iterable[object], k: int = 10, weights: Iterable[float] | None = None
    ) -> pd.DataFrame:
        """Recommend items to someone who likes these, without these.

        Args:
            liked: item ids, as numbers or text; those that the model does not have count for
                nothing.
            k: length of the list; shorter where fewer items are left.
            weights: as many as `liked`, default ones. Of a repeated item the largest counts; an
                item whose weight is not positive and finite is only left out.

        Returns:
            `rank` (1...) int32, `item_id`, `score` float32, `source`: `fold_in`, or `popular` where
            nothing is known to be liked, and `features` where the item has nothing else; and
            `title`, None where there is none.

        Raises:
            ConfigError: an id cannot be one of the model's type, or the numbers of items and
                weights differ.
            KernelError: k is below 1, or a score cannot be a float32.
        """
        done = self._likes(self._ids(liked), weights)
        likes = {row: weight for row, weight in done.items() if weight is not None}
        choice = self._choice(k, list(done))
        user = pd.DataFrame(
            {"liked": [list(likes)], "weights": [list(likes.values())], "embedding": [None]}
        )
        source = FOLD_IN if likes else POPULAR
        rank = self._lists.by_fold_in if likes else self._lists.by_popularity
        return self._table(rank(user, choice), source)

    def feature_names(self, features: Mapping[str, str]) -> list[str]:
        """Return what features are called that a person types: `group=value`.

        Args:
            features: values by groups.

        Raises:
            ConfigError: the model has no features of users.
        """
        about = self._features().about
        return [feature_name(group, value, about.edges) for group, value in features.items()]

    def unknown_features(self, names: Iterable[str]) -> list[str]:
        """Return which of these features of users the model does not have.

        Raises:
            ConfigError: the model has none at all.
        """
        known = set(self._features().names)
        return [name for name in names if name not in known]

    def recommend_described(self, features: Mapping[str, float], k: int = 10) -> pd.DataFrame:
        """Recommend items to someone of whom nothing is known but features.

        Args:
            features: weights by names, `group=value`; names that the model does not have count for
                nothing.
            k: length of the list; shorter where fewer items are left.

        Returns:
            As `recommend`, with the `source` `features`, or `popular` where the model has none of
            the features.

        Raises:
            ConfigError: the model has no features of users, or a weight is not positive.
            KernelError: k is below 1, or a score cannot be a float32.
        """
        for name, weight in features.items():
            if not 0 < weight < math.inf:
                raise ConfigError(f"features: {name} has the weight {weight}, expected above 0")
        vector = self._features().represent(features)
        choice = self._choice(k, [])
        if vector is None:
            return self._table(self._lists.by_popularity(pd.DataFrame(), choice), POPULAR)
        user = pd.DataFrame({"embedding": [vector[0]], "bias": [vector[1]]})
        return self._table(self._lists.by_model(user, choice), FEATURES)

    def _features(self) -> FeatureVectors:
        if self._user_features is None:
            raise ConfigError(
                f"model {self._lists.model.key} has no features of users; train it with "
                "features.users, or say what the user likes"
            )
        return self._user_features

    def _choice(self, k: int, left_out: list[int]) -> Choice:
        return Choice(k, Ragged.of([left_out]), reserved=max(0, min(self._reserved, k - 1)))

    def _table(self, ranked: Ranked, source: str) -> pd.DataFrame:
        items = self._lists.model.ids[ranked.items]
        titles = [self._titles.get(item) for item in items.tolist()]
        return pd.DataFrame(
            {
                "rank": np.arange(1, len(items) + 1, dtype=np.int32),
                "item_id": items,
                "score": ranked.scores,
                "source": np.where(self._lists.is_cold(ranked.items), FEATURES, source),
                "title": pd.Series(titles, dtype=object),
            }
        )

    def _likes(self, items: list[Any], weights: Iterable[float] | None) -> dict[int, float | None]:
        """Return the weight of each known item by its row, ascending; None where it is no like."""
        given = [1.0] * len(items) if weights is None else [float(weight) for weight in weights]
        if len(given) != len(items):
            raise ConfigError(
                f"weights: found {len(given)}, expected as many as liked, {len(items)}"
            )
        likes: dict[int, float | None] = {}
        for item, weight in zip(items, given, strict=True):
            if (row := self._rows.get(item)) is None:
                continue
            before = likes.setdefault(row, None)
            with np.errstate(over="ignore"):  # as the float that the kernel works with
                single = float(np.float32(weight))
            if math.isfinite(single) and single > 0:
                likes[row] = weight if before is None else max(before, weight)
        return dict(sorted(likes.items()))

    def _ids(self, given: Iterable[object]) -> list[Any]:
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            found = f"{str(given)[:60]!r} ({type(given).__name__})"
            raise ConfigError(f"liked: found {found}, expected a list of item ids")
        ids = []
        for value in given:
            item = self._id(value)
            if item is None:
                raise ConfigError(
                    f"liked: found {str(value)[:60]!r}, expected item ids of the type {self._type}"
                )
            ids.append(item)
        return ids

    def _id(self, value: object) -> Any:
        """Return an id of the model's type, or None; as `recsys.ingest.ids.convert_id` has it."""
        text = "" if value is None else str(value)
        if not text.strip() or "\ufffd" in text or not _is_unicode(text):
            return None
        if not self._bits:
            return text
        digits = re.fullmatch(r"([+-]?)0*([0-9]{1,19})(\.0+)?", text.strip())
        if digits is None:
            return None
        number = int(digits[1] + digits[2])
        return number if -(1 << self._bits - 1) <= number < 1 << self._bits - 1 else None


def _is_unicode(text: str) -> bool:
    """Whether it is text: what a command line has of other bytes comes as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
