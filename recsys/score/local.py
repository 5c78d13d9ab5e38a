"""A model at hand, without Spark: lists for someone new, representations, and what is near them.

Lists and neighbours are those that a batch job publishes, bit for bit: they come from the same
kernel.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.config.feature_names import feature_name
from recsys.config.sections import Titles
from recsys.kernel.topk import Ranked
from recsys.kernel.worker import FEATURES, FOLD_IN, POPULAR, BroadcastModel, Choice, Lists, Ragged
from recsys.model.arrays import (
    ITEMS,
    USERS,
    Vectors,
    configured_cold_items,
    ids_for_pandas,
    load_fold_in,
    load_items,
    load_users,
)
from recsys.score.local_features import LocalFeatures
from recsys.score.local_ids import LocalIds
from recsys.score.local_left_out import LeftOut, known_or_folded
from recsys.score.local_likes import as_ids, weighed
from recsys.score.local_users import LocalUsers
from recsys.score.representation import Nearest, Representation, known
from recsys.score.titles import read_titles
from recsys.store.files import require_local


class LocalModel:
    """A model in a local directory: lists, and what it knows and what is near that.

    `recommend` and `recommend_described` make a list for someone new; `recommend_users` and
    `recommend_likes` those of many users. `item`, `user`, `feature` and `described` give
    representations, of which `similar_items` and `similar_features` find what is near. What becomes
    of items that have nothing but features is what the model's own configuration says
    (`features.cold_items`). A list that is shorter than configured keeps its first place for
    another item.
    """

    def __init__(
        self, folder: Path, lists: Lists, items: Vectors, titles: Titles | None, reserved: int
    ) -> None:
        self._folder, self._lists, self._items, self._reserved = folder, lists, items, reserved
        self._users: Vectors | None = None  # the largest table: loaded when first needed
        self._many = LocalUsers(folder, lists, reserved, LeftOut.of(folder, items, lists))
        self._features = LocalFeatures(folder)
        self._nearest: Nearest | None = None
        self._ids = LocalIds(items.ids)
        self._rows = {item: row for row, item in enumerate(items.ids.to_pylist())}
        self._titles = {} if titles is None else read_titles(titles, self._ids.convert)

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
        items = load_items(folder)
        fold_in = load_fold_in(folder, items)
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
        return cls(folder, Lists(model), items, titles, reserved)

    @property
    def n_items(self) -> int:
        """How many items the model has."""
        return len(self._rows)

    def unknown(self, liked: Iterable[object]) -> list[Any]:
        """Return which of these items the model does not have, each once, in the order given.

        Raises:
            ConfigError: one cannot be an id of the model's type.
        """
        return [item for item in dict.fromkeys(as_ids(liked, self._ids)) if item not in self._rows]

    def recommend(
        self,
        liked: Iterable[object],
        k: int = 10,
        weights: Iterable[float] | None = None,
        features: Mapping[str, float] | None = None,
    ) -> pd.DataFrame:
        """Recommend items to someone who likes these, without these.

        Args:
            liked: item ids, as numbers or text; those that the model does not have count for
                nothing.
            k: length of the list; shorter where fewer items are left.
            weights: as many as `liked`, default ones. Of a repeated item the largest counts; an
                item whose weight is not positive and finite is only left out.
            features: what else is known: weights by names, `group=value`; names that the model
                does not have count for nothing.

        Returns:
            `rank` (1...) int32, `item_id`, `score` float32, `source`: `fold_in`; where nothing is
            known to be liked, `features`, or `popular` without any; and `features` where the item
            has nothing else; and `title`, None where there is none.

        Raises:
            ConfigError: an id cannot be one of the model's type, the numbers of items and weights
                differ, the model has no features of users, or a weight of one is not positive.
            KernelError: k is below 1, or a score cannot be a float32.
        """
        vector = None if features is None else self._features.sum(features, USERS)
        done = weighed(as_ids(liked, self._ids), weights, self._rows)
        likes = {row: weight for row, weight in done.items() if weight is not None}
        choice = self._choice(k, list(done))
        embedding, bias = (None, 0.0) if vector is None else vector
        given = {"liked": list(likes), "weights": list(likes.values())}
        user = pd.DataFrame([{**given, "embedding": embedding, "bias": bias}])
        if likes:
            return self._table(self._lists.by_fold_in(user, choice), FOLD_IN)
        if vector is not None:
            return self._table(self._lists.by_model(user, choice), FEATURES)
        return self._table(self._lists.by_popularity(user, choice), POPULAR)

    def recommend_users(
        self, users: Iterable[object], k: int = 10, *, exclude_seen: bool = True
    ) -> pd.DataFrame:
        """Recommend items to users whom the model has, by their vectors, as a batch job does.

        The first call loads the users, all of them. Whom a sample left out is folded in; so is who
        has nothing but features, and likes something without sample weight. For these each call
        reads the interactions beside the model, and keeps what is theirs. Where they are missing
        and the model has features of all of these, a warning says that features alone serve them.

        Args:
            users: ids, as numbers or text, each once.
            k: length of a list; shorter where fewer items are left.
            exclude_seen: leave out the items that each has interacted with.

        Returns:
            `user_id` and the columns of `recommend`, with the `source` `model` or `fold_in`, or
            `features` where user or item has nothing else; users in the order given.

        Raises:
            ConfigError: an id cannot be one of the model's type, or the model does not have it.
            KernelError: k is below 1, or a score cannot be a float32.
            ModelError: the users' table is damaged; or somebody is asked for whom a sample may have
                left out, and the interactions are not beside the model, or are damaged.
        """
        return self._titled(self._many.known(users, k, exclude_seen=exclude_seen))

    def recommend_likes(self, likes: pd.DataFrame, k: int = 10) -> pd.DataFrame:
        """Recommend items to many users by what they like, each as `recommend` does.

        Args:
            likes: `user_id`, `item_id` and, where likes weigh, `weight`: a row for each like. The
                users need not be in the model.
            k: length of a list; shorter where fewer items are left.

        Returns:
            `user_id` and the columns of `recommend`; users in the order in which they came.

        Raises:
            ConfigError: a column is missing, a row has no user, or an item no id of the model's
                type.
            KernelError: k is below 1, or a score cannot be a float32.
        """
        return self._titled(self._many.liking(likes, k, self._rows, self._ids))

    def _titled(self, lists: pd.DataFrame) -> pd.DataFrame:
        return lists.assign(title=self._titles_of(lists["item_id"].to_numpy()))

    def item(self, item_id: object) -> Representation:
        """Return what the model knows of one of its items.

        Args:
            item_id: a number or text.

        Raises:
            ConfigError: it cannot be an id of the model's type, or the model does not have it.
        """
        return known(self._items, ITEMS, item_id)

    def user(self, user_id: object) -> Representation:
        """Return what the model knows of one of its users.

        The first call loads the users, all of them. Whom a sample left out is folded in, as by
        `recommend_users`. Each call reads what is theirs alone from the interactions, and of who
        has nothing but features what they have seen from the model.

        Args:
            user_id: a number or text.

        Raises:
            ConfigError: it cannot be an id of the model's type, or the model does not have it.
            ModelError: as `recommend_users`.
        """
        if self._users is None:
            self._users = load_users(self._folder)
        return known_or_folded(self._users, self._many.left_out, user_id)

    def feature(self, name: str, kind: str) -> Representation:
        """Return what the model has learned of one feature.

        Args:
            name: `group=value`; `feature_names` makes it of what a person types.
            kind: `items` or `users`: whose feature it is.

        Raises:
            ConfigError: the model has no features of this kind, or not this one.
            ModelError: their table is damaged.
        """
        return self._features.one(name, kind)

    def described(self, features: Mapping[str, float], kind: str) -> Representation:
        """Return what the model makes of a user or an item that has these features alone.

        It is that of users and items that the model has not learned from.

        Args:
            features: weights by names, `group=value`; names that the model does not have count for
                nothing (see `unknown_features`).
            kind: `items` or `users`: what has these features.

        Raises:
            ConfigError: the model has no features of this kind, or none of these; or a weight is
                not positive.
            ModelError: their table is damaged.
        """
        return self._features.described(features, kind)

    def similar_items(self, to: Representation, k: int = 10) -> pd.DataFrame:
        """Return the items whose embeddings are nearest to one, by the cosine.

        Args:
            to: from `item`, `user`, `feature` or `described`; an item is not near to itself.
            k: how many; fewer where there are no more.

        Returns:
            `rank` (1...) int32, `item_id`, `cosine` float32; and `title`, None where there is none.
            Items that have nothing but features are among them if the model was trained to
            recommend such items. None is near to an embedding that is zero.

        Raises:
            KernelError: k is below 1.
        """
        if self._nearest is None:
            self._nearest = Nearest(self._items.embeddings, self._lists.model.allowed)
        own = self._rows.get(to.id) if to.kind == ITEMS else None
        rows, cosines = self._nearest.find(to.embedding, k, own)
        items = self._lists.model.ids[rows]
        return _ranked({"item_id": items, "cosine": cosines, "title": self._titles_of(items)})

    def similar_features(
        self, to: Representation, k: int = 10, kind: str | None = None
    ) -> pd.DataFrame:
        """Return the features whose embeddings are nearest to one, by the cosine.

        Args:
            to: from `item`, `user`, `feature` or `described`; a feature is not near to itself.
            k: how many; fewer where there are no more.
            kind: `items` or `users`: whose features; None for those of the kind of `to`.

        Returns:
            `rank` (1...) int32, `feature`, `cosine` float32, `group`, and `value`, as most rows
            have it. None is near to an embedding that is zero.

        Raises:
            ConfigError: the model has no features of this kind.
            KernelError: k is below 1.
            ModelError: their table is damaged.
        """
        return _ranked(self._features.near(to, k, kind or to.kind))

    def feature_names(self, features: Mapping[str, str], kind: str = USERS) -> list[str]:
        """Return what features are called that a person types: `group=value`.

        Args:
            features: values by groups.
            kind: `items` or `users`: whose features they are.

        Raises:
            ConfigError: the model has no features of this kind.
        """
        about = self._features.of(kind).about
        return [feature_name(group, value, about.edges) for group, value in features.items()]

    def unknown_features(self, names: Iterable[str], kind: str = USERS) -> list[str]:
        """Return which of these features of users, or of items, the model does not have.

        Raises:
            ConfigError: the model has no features of this kind.
        """
        known = set(self._features.of(kind).names)
        return [name for name in names if name not in known]

    def recommend_described(self, features: Mapping[str, float], k: int = 10) -> pd.DataFrame:
        """Recommend items to someone of whom nothing is known but features; see `recommend`.

        Returns:
            As `recommend`, with the `source` `features`, or `popular` where the model has none of
            the features.
        """
        return self.recommend((), k, features=features)

    def _titles_of(self, items: NDArray[np.generic]) -> pd.Series:
        return pd.Series([self._titles.get(item) for item in items.tolist()], dtype=object)

    def _choice(self, k: int, left_out: list[int]) -> Choice:
        return Choice(k, Ragged.of([left_out]), reserved=max(0, min(self._reserved, k - 1)))

    def _table(self, ranked: Ranked, source: str) -> pd.DataFrame:
        items = self._lists.model.ids[ranked.items]
        title = self._titles_of(items)
        sources = np.where(self._lists.is_cold(ranked.items), FEATURES, source)
        found = {"item_id": items, "score": ranked.scores, "source": sources, "title": title}
        return _ranked(found)


def _ranked(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return columns as a table, the best row first, with its ranks."""
    found = pd.DataFrame(columns)
    found.insert(0, "rank", np.arange(1, len(found) + 1, dtype=np.int32))
    return found
