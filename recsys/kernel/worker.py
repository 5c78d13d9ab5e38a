"""What an executor does with the users that it gets from Spark."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.kernel.fold_in import FoldIn, fold_in, with_features
from recsys.kernel.nominate import bytes_of
from recsys.kernel.popular import Popularity
from recsys.kernel.reserved import with_reserved
from recsys.kernel.topk import ItemMatrix, KernelError, Ranked, rank, top_k

# The ways to make a list, as in the column `source`. A row of an item that has nothing but features
# says `features` there, too, whatever the way.
MODEL, FOLD_IN, FEATURES, POPULAR = "model", "fold_in", "features", "popular"
WAYS = (MODEL, FOLD_IN, FEATURES, POPULAR)

# The kinds of items: all, those that have nothing but features, and the others.
_ALL, _COLD, _WARM = "all", "cold", "warm"


@dataclass(frozen=True)
class BroadcastModel:
    """The items of one model, broadcast to every executor once.

    Attributes:
        key: names the model and its allowed items, for messages and the worker's cache.
        ids: `(n_items,)` the items' ids in ascending order: int32, int64 or objects (str).
        embeddings: `(n_items, n_components)` float32.
        biases: `(n_items,)` float32.
        positives: `(n_items,)` int32, how many users liked each.
        allowed: `(n_items,)` bool, True for items that may be recommended; None: all.
        fold_in: makes vectors of users whom the model does not know.
        cold: `(n_items,)` bool, True for allowed items that have nothing but features; None: there
            are none.
    """

    key: str
    ids: NDArray[np.generic]
    embeddings: NDArray[np.float32]
    biases: NDArray[np.float32]
    positives: NDArray[np.int32]
    allowed: NDArray[np.bool_] | None
    fold_in: FoldIn
    cold: NDArray[np.bool_] | None = None


def sizes(model: BroadcastModel) -> str:
    """Say how much memory the items of a model take on an executor, in one line.

    Ids that are text are counted as their characters; Python's objects take more.
    """
    n_items, width = model.embeddings.shape
    ids = sum(map(len, model.ids)) if model.ids.dtype == object else model.ids.nbytes
    n_allowed = n_items if model.allowed is None else int(model.allowed.sum())
    mib = 2.0**20
    second = model.fold_in.second
    beside = "" if second is None else f"second view {second.nbytes / mib:,.1f} MiB, "
    return (
        f"broadcast to each executor: {n_items:,} items x {width:,}, "
        f"embeddings {model.embeddings.nbytes / mib:,.1f} MiB, "
        f"biases {model.biases.nbytes / mib:,.1f} MiB, {beside}ids {ids / mib:,.1f} MiB; "
        f"each Python worker has these, and {bytes_of(n_allowed, width) / mib:,.1f} MiB for the "
        "kernel, twice if users are also folded in with another scale of biases"
    )


class Shared(Protocol):
    """Spark's broadcast, as far as a worker needs it."""

    @property
    def value(self) -> BroadcastModel:
        """The model, fetched once per worker process."""


@dataclass(frozen=True)
class Ragged:
    """Lists laid end to end: list i is `values[indptr[i]:indptr[i + 1]]`."""

    indptr: NDArray[np.int64]
    values: NDArray[np.int32]

    @classmethod
    def of(cls, lists: Iterable[Any]) -> "Ragged":
        """Lay a column of arrays end to end."""
        parts = [np.asarray(entry, np.int32) for entry in lists]
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        values = np.concatenate([np.empty(0, np.int32), *parts])
        return cls(np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), values)

    def __getitem__(self, i: int) -> NDArray[np.int32]:
        """Return list i."""
        return self.values[self.indptr[i] : self.indptr[i + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        """Go through the lists."""
        return (self[i] for i in range(len(self.indptr) - 1))


@dataclass(frozen=True)
class Choice:
    """Which items may be in the lists of some users.

    Attributes:
        k: the length of a list.
        left_out: for each user, items that may not be in the list.
        candidates: for each user, the only items that may be in it; None: all allowed items.
        reserved: how many places at the end of a list are for cold items; 0: these are ranked
            among all others.
    """

    k: int
    left_out: Ragged
    candidates: Ragged | None = None
    reserved: int = 0


class Lists:
    """Makes lists; prepared once per worker process, which outlives its tasks."""

    def __init__(self, model: BroadcastModel) -> None:
        self.model = model
        self._items: dict[tuple[float, str], ItemMatrix] = {}
        self._kinds = {_ALL: model.allowed, _COLD: model.cold, _WARM: model.allowed}
        if model.cold is not None:
            warm = ~model.cold
            self._kinds[_WARM] = warm if model.allowed is None else warm & model.allowed
        # Nobody has liked a cold item.
        self.popularity = Popularity(model.positives, self._kinds[_WARM])

    def _matrix(self, bias_scale: float, kind: str) -> ItemMatrix:
        """Return the items of a kind with their biases scaled, prepared when first needed."""
        key = (bias_scale, kind)
        if key not in self._items:
            biases = (self.model.biases * np.float32(bias_scale)).astype(np.float32)
            self._items[key] = ItemMatrix(self.model.embeddings, biases, allowed=self._kinds[kind])
        return self._items[key]

    def by_model(self, users: pd.DataFrame, choice: "Choice") -> Ranked:
        """Rank for users whom the model knows."""
        embeddings = np.stack(users["embedding"].to_list()).astype(np.float32, copy=False)
        return self._ranked(1.0, embeddings, users["bias"].to_numpy(np.float32), choice)

    def by_fold_in(self, users: pd.DataFrame, choice: "Choice") -> Ranked:
        """Rank for users who are folded in from the items that they like.

        An `embedding` is what the features of the user make; most have none.
        """
        vectors = self.folded(users)
        biases = np.zeros(len(users), np.float32)  # a folded-in user has no bias
        return self._ranked(self.model.fold_in.bias_scale, vectors, biases, choice)

    def folded(self, users: pd.DataFrame) -> NDArray[np.float32]:
        """Return vectors, `(n, d)`, of users who are folded in; see `by_fold_in`."""
        fitted, liked = self.model.fold_in, Ragged.of(users["liked"])
        weights = np.concatenate([np.asarray(entry, np.float32) for entry in users["weights"]])
        vectors = fold_in(fitted, self.model.embeddings, liked.indptr, liked.values, weights)
        described = users["embedding"].notna().to_numpy()
        if described.any():
            own = np.zeros_like(vectors)
            own[described] = np.stack(users["embedding"][described].to_list())
            both = with_features(vectors, own, liked.indptr, weights)
            vectors = np.where(described[:, None], both, vectors)
        return vectors

    def _ranked(
        self,
        bias_scale: float,
        embeddings: NDArray[np.float32],
        biases: NDArray[np.float32],
        choice: "Choice",
    ) -> Ranked:
        seen = (choice.left_out.indptr, choice.left_out.values)

        def best(kind: str) -> Ranked:
            items = self._matrix(bias_scale, kind)
            if choice.candidates is None:
                return top_k(items, embeddings, biases, choice.k, *seen)
            own = (choice.candidates.indptr, choice.candidates.values)
            return rank(items, embeddings, biases, choice.k, *own, *seen)

        if self.model.cold is None or not choice.reserved:
            return best(_ALL)
        return with_reserved(best(_WARM), best(_COLD), choice.k, choice.reserved)

    def is_cold(self, items: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which of these items have nothing but features."""
        cold = self.model.cold
        return np.zeros(len(items), np.bool_) if cold is None else cold[items]

    def by_popularity(self, users: pd.DataFrame, choice: "Choice") -> Ranked:
        """Rank for each user the unseen items by how many users liked them; never cold ones."""
        seen = choice.left_out
        if choice.candidates is None:
            lists = Ragged(*self.popularity.top(choice.k, seen.indptr, seen.values))
        else:
            ranked = self.popularity.ranked
            heads = (ranked[np.isin(ranked, own)] for own in choice.candidates)
            pairs = zip(heads, seen, strict=True)
            lists = Ragged.of(head[~np.isin(head, done)][: choice.k] for head, done in pairs)
        scores = self.model.positives[lists.values].astype(np.float32)
        return Ranked(indptr=lists.indptr, items=lists.values, scores=scores)


_prepared: dict[str, Lists] = {}


def prepared(model: BroadcastModel) -> Lists:
    """Return the `Lists` of a model, from the worker's cache if they are there."""
    if model.key not in _prepared:
        _prepared.clear()
        _prepared[model.key] = Lists(model)
    return _prepared[model.key]


def score(
    batches: Iterator[pd.DataFrame],
    shared: Shared,
    k: int,
    exclude_seen: bool,
    only_candidates: bool = False,
    reserved: int = 0,
) -> Iterator[pd.DataFrame]:
    """Rank the catalogue for every user of every batch, in the way that `source` says.

    Args:
        batches: `user_id`, `source`, `seen` (item rows); for users of the model, and those with
            features, `embedding` (list of float32) and `bias`; for users to be folded in `liked`
            (item rows) and `weights`;
            with `only_candidates` also `candidates` (item rows, or null for none).
        shared: the broadcast model.
        k: length of a list.
        exclude_seen: whether to leave out the items in `seen`.
        only_candidates: whether users have candidates of their own.
        reserved: how many places at the end of a list are for cold items; 0: these are ranked
            among all others.

    Yields:
        `user_id`, `rank` (1...), `item_id`, `score`, `cold` (whether the item is), `source` (of the
        user); users in the order in which they came.
    """
    lists = prepared(shared.value)
    ways = {
        MODEL: lists.by_model,
        FEATURES: lists.by_model,
        FOLD_IN: lists.by_fold_in,
        POPULAR: lists.by_popularity,
    }
    for users in batches:
        parts = []
        for way, ranker in ways.items():
            positions = np.flatnonzero((users["source"] == way).to_numpy())
            if len(positions):
                some = users.iloc[positions]
                seen = Ragged.of(some["seen"] if exclude_seen else [()] * len(some))
                own = _candidates(some) if only_candidates else None
                part = _ranked(some, ranker, Choice(k, seen, own, reserved), lists)
                parts.append(part.assign(source=way, position=positions[part["position"]]))
        if parts:
            together = pd.concat(parts).sort_values(["position", "rank"])
            yield together.drop(columns="position")


@contextmanager
def naming(users: pd.DataFrame, model: BroadcastModel) -> Iterator[None]:
    """Add the name of the model, and of the user, to the message of an error in the kernel."""
    try:
        yield
    except KernelError as error:
        whose = "" if error.row is None else f" (user {users['user_id'].iloc[error.row]})"
        raise KernelError(f"model {model.key}: {error}{whose}", error.row) from error


def _candidates(users: pd.DataFrame) -> Ragged:
    return Ragged.of(() if own is None else own for own in users["candidates"])


def _ranked(
    users: pd.DataFrame,
    ranker: Callable[[pd.DataFrame, Choice], Ranked],
    choice: Choice,
    lists: Lists,
) -> pd.DataFrame:
    with naming(users, lists.model):
        ranked = ranker(users, choice)
    lengths = np.diff(ranked.indptr)
    first = np.repeat(ranked.indptr[:-1], lengths)
    return pd.DataFrame(
        {
            "position": np.repeat(np.arange(len(users)), lengths),
            "user_id": np.repeat(users["user_id"].to_numpy(), lengths),
            "rank": (np.arange(len(ranked.items)) - first + 1).astype(np.int32),
            "item_id": lists.model.ids[ranked.items],
            "score": ranked.scores,
            "cold": lists.is_cold(ranked.items),
        }
    )
