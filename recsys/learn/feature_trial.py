"""Do features help? Train without a part of the users and items, and judge by them.

A part of the users and of the items that have features is held out with all interactions. Of the
others, `fitting.search` holds out pairs, the same for each training. So a training with features
and one without them differ in the features alone, and are compared user by user:

- users of the training, by the pairs that were held out (`warm`), and those of them with the
  shortest histories (`short`, at least a quarter);
- items that were held out, ranked among themselves for the users who like them (`cold_items`);
- users who were held out, by the items that they like (`cold_users`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Training
from recsys.kernel.metrics import accuracy
from recsys.kernel.topk import ItemMatrix, top_k
from recsys.learn import cold
from recsys.learn.cold import MAPPED, TRAINED, LearnedFeatures, Way
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import About, Abouts, Sides
from recsys.learn.fitting import search
from recsys.learn.penalty import of_part
from recsys.learn.sample_weights import Labelled
from recsys.runtime.signals import interruptible

F64 = NDArray[np.float64]
Rows = NDArray[np.int64]

HELD_OUT = 0.1
_MOST = 1000
_SHORT = 0.25  # the quarter of the users with the shortest histories


@dataclass(frozen=True)
class Parts:
    """Pairs, of which some users and items are held out.

    Attributes:
        pairs: those of the others, whose rows are numbered anew.
        users, items: rows of the others, ascending.
        cold_users, cold_items: rows of those that are held out, ascending.
        liked_items: `(len(users), len(cold_items))` CSR, who likes what was held out.
        liked_by: `(len(cold_users), len(items))` CSR, what those who were held out like.
    """

    pairs: Labelled
    users: Rows
    items: Rows
    cold_users: Rows
    cold_items: Rows
    liked_items: sp.csr_matrix
    liked_by: sp.csr_matrix

    @classmethod
    def of(cls, pairs: Labelled, abouts: Abouts, seed: int) -> "Parts":
        """Hold out a tenth of those that have features and are liked, or like something."""
        labels = pairs.labels
        rng = np.random.default_rng(seed)
        liked = labels.data > 0
        cold_users = _drawn(abouts.users, labels.row[liked], rng)
        cold_items = _drawn(abouts.items, labels.col[liked], rng)
        is_cold_user, is_cold_item = (
            np.isin(rows, cold_rows)
            for rows, cold_rows in ((labels.row, cold_users), (labels.col, cold_items))
        )
        stay = ~is_cold_user & ~is_cold_item
        users, rows = np.unique(labels.row[stay], return_inverse=True)
        items, columns = np.unique(labels.col[stay], return_inverse=True)
        kept = pairs.only(stay)
        numbered = sp.coo_matrix(
            (kept.labels.data, (rows.astype(np.int32), columns.astype(np.int32))),
            shape=(len(users), len(items)),
        )
        return cls(
            Labelled(numbered, kept.ratings, kept.ages),
            users.astype(np.int64),
            items.astype(np.int64),
            cold_users,
            cold_items,
            _likes(labels, liked & ~is_cold_user & is_cold_item, users, cold_items),
            _likes(labels, liked & is_cold_user & ~is_cold_item, cold_users, items),
        )


def _drawn(about: About | None, rows: NDArray[np.int32], rng: np.random.Generator) -> Rows:
    """Draw rows that have features, of those that are in `rows`."""
    if about is None:
        return np.zeros(0, np.int64)
    liked = np.bincount(rows, minlength=len(about.ids)) > 0
    found = np.flatnonzero(liked & (about.counts() > 0))
    size = min(_MOST, round(HELD_OUT * len(found)))
    return np.sort(rng.permutation(found)[:size])


def _likes(
    labels: sp.coo_matrix, chosen: NDArray[np.bool_], users: Rows, items: Rows
) -> sp.csr_matrix:
    """Return chosen pairs as a matrix of some users and items; others are left out."""
    chosen = chosen & np.isin(labels.row, users) & np.isin(labels.col, items)
    rows = np.searchsorted(users, labels.row[chosen])
    columns = np.searchsorted(items, labels.col[chosen])
    shape = len(users), len(items)
    made = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    made.sort_indices()
    return made


@dataclass(frozen=True)
class Judged:
    """How good a training was; nDCG of each user.

    Attributes:
        groups: those that were learned, of `users` and of `items`.
        epoch: the best one.
        warm: `(n,)` of users of the training.
        short: `(n,)` which of them have short histories.
        cold_items: by the way in which held-out items were represented.
        cold_users: by the way in which held-out users were.
        popularity: `(n,)` the nDCG of popular items for the held-out users.
    """

    groups: Mapping[str, list[str]]
    epoch: int
    warm: F64
    short: NDArray[np.bool_]
    cold_items: dict[Way, F64]
    cold_users: dict[Way, F64]
    popularity: F64

    def cold(self, kind: str) -> dict[Way, F64]:
        """Return the nDCG of held-out `users` or `items`."""
        return self.cold_users if kind == "users" else self.cold_items

    def record(self) -> dict[str, Any]:
        """Say how good it was, in plain JSON values."""

        def means(found: Mapping[Way, F64]) -> dict[str, float]:
            return {way: float(values.mean()) for way, values in found.items() if len(values)}

        users = means(self.cold_users)
        if users:
            users["popularity"] = float(self.popularity.mean())
        return {
            "groups": dict(self.groups),
            "kept_epoch": self.epoch,
            "ndcg": float(self.warm.mean()),
            "ndcg_of_cold_items": means(self.cold_items),
            "ndcg_of_cold_users": users,
        }


class Trial:
    """Trains with some groups of features, and judges."""

    def __init__(
        self,
        pairs: Labelled,
        abouts: Abouts,
        settings: Training,
        stopping: EarlyStopping,
        threads: int,
    ) -> None:
        """Hold out.

        Args:
            pairs: all that there are.
            abouts: what is known of their users and items.
            settings: of the trainings.
            stopping: what else is held out, and when to stop.
            threads: CPU threads for the epochs.
        """
        # Users whom the search would leave out would be judged without having been trained.
        sampled = pairs.of_some_users(stopping.max_pairs, settings.seed)
        self.parts = Parts.of(sampled, abouts, settings.seed)
        # A search scales penalties from the pairs that it is given, and these are not all.
        self._settings = of_part(settings, self.parts.pairs.labels, pairs.labels)
        self._abouts, self._stopping = abouts, stopping
        self._threads = threads
        self._fans = _sample(self.parts.liked_items, stopping.max_users, settings.seed)
        self._popularity = self._by_popularity()

    def run(self, groups: Mapping[str, list[str]]) -> Judged:
        """Train with these groups, and judge.

        Raises:
            TrainingError: as `fitting.search`.
        """
        parts = self.parts
        sides = self._abouts.sides(groups, parts.users, parts.items)
        found = search(parts.pairs, self._settings, self._stopping, self._threads, sides)
        learned = found.best
        assert learned is not None  # noqa: S101 - there was at least one epoch
        model = sides.represent(learned)
        lengths = np.diff(found.validator.seen[0])

        def judged() -> Judged:
            cold_users = self._cold_users(sides, learned, model)
            return Judged(
                groups=groups,
                epoch=found.epoch,
                warm=found.validator.by_user(model),
                short=lengths <= np.quantile(lengths, _SHORT),
                cold_items=self._cold_items(sides, learned, model),
                cold_users=cold_users,
                popularity=self._popularity if cold_users else np.zeros(0),
            )

        return interruptible(judged)

    def _ways(
        self, kind: str, sides: Sides, learned: Embeddings, model: Embeddings
    ) -> dict[Way, LearnedFeatures]:
        """Represent those that were held out, in each way that there is."""
        about = self._abouts.users if kind == "users" else self._abouts.items
        assert about is not None  # noqa: S101 - it was held out
        side = sides.users if kind == "users" else sides.items
        one = kind.removesuffix("s")
        labels = self.parts.pairs.labels
        rows, ends = (
            (self.parts.users, labels.row) if one == "user" else (self.parts.items, labels.col)
        )
        mapped = cold.mapped(
            about,
            getattr(model, f"{one}_embeddings"),
            getattr(model, f"{one}_biases"),
            np.bincount(ends[labels.data > 0], minlength=len(rows)),
            self._settings.seed,
            rows,
        )
        ways = {} if mapped is None else {MAPPED: mapped}
        if side is not None:
            vectors = getattr(learned, f"{one}_embeddings"), getattr(learned, f"{one}_biases")
            ways[TRAINED] = cold.trained(about, side, *vectors)
        return ways

    def _cold_items(self, sides: Sides, learned: Embeddings, model: Embeddings) -> dict[Way, F64]:
        about = self._abouts.items
        if about is None or not len(self._fans):
            return {}
        ids = about.ids.take(pa.array(self.parts.cold_items))
        wanted = self.parts.liked_items[self._fans]
        users = model.user_embeddings[self._fans]
        found = {}
        for way, features in self._ways("items", sides, learned, model).items():
            embeddings, biases, there = features.vectors_of(ids)
            # Those that are not described in this way come last.
            biases[~there] = np.min(biases, initial=0.0) - 1e6
            found[way] = self._ndcg(users, embeddings, biases, wanted)
        return found

    def _cold_users(self, sides: Sides, learned: Embeddings, model: Embeddings) -> dict[Way, F64]:
        about, wanted = self._abouts.users, self.parts.liked_by
        tested = np.flatnonzero(np.diff(wanted.indptr))
        if about is None or not len(tested):
            return {}
        ids = about.ids.take(pa.array(self.parts.cold_users[tested]))
        found = {}
        for way, features in self._ways("users", sides, learned, model).items():
            embeddings, _, there = features.vectors_of(ids)
            values = self._ndcg(
                embeddings, model.item_embeddings, model.item_biases, wanted[tested]
            )
            found[way] = np.where(there, values, self._popularity)
        return found

    def _by_popularity(self) -> F64:
        """Return the nDCG of popular items for the held-out users."""
        wanted, labels = self.parts.liked_by, self.parts.pairs.labels
        wanted = wanted[np.flatnonzero(np.diff(wanted.indptr))]
        if not wanted.shape[0]:
            return np.zeros(0)
        counts = np.bincount(labels.col[labels.data > 0], minlength=labels.shape[1])
        nothing = np.zeros((wanted.shape[0], 1), np.float32)
        items = np.zeros((labels.shape[1], 1), np.float32)
        return self._ndcg(nothing, items, counts.astype(np.float32), wanted)

    def _ndcg(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        biases: NDArray[np.float32],
        wanted: sp.csr_matrix,
    ) -> F64:
        """Return the nDCG of users' lists of all items."""
        k = self._stopping.k
        seen = np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32)
        matrix = ItemMatrix(np.ascontiguousarray(items), np.ascontiguousarray(biases))
        ranked = top_k(matrix, users, np.zeros(len(users), np.float32), k, *seen)
        return accuracy(ranked.indptr, ranked.items, wanted.indptr, wanted.indices, [k])[k]["ndcg"]


def _sample(likes: sp.csr_matrix, most: int, seed: int) -> Rows:
    """Return rows with something in them, at most so many."""
    rows = np.flatnonzero(np.diff(likes.indptr))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return rows
