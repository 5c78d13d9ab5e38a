"""Evaluate a model on an executor: make the lists of test users and compute their metrics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.kernel import metrics
from recsys.kernel.fullrank import full_ranks
from recsys.kernel.worker import (
    FOLD_IN,
    MODEL,
    Choice,
    Lists,
    Ragged,
    Shared,
    naming,
    prepared,
)

POPULARITY = "popularity"
COMPARED = (MODEL, POPULARITY)


@dataclass(frozen=True)
class Traits:
    """Facts about the items from training, broadcast beside the model.

    Attributes:
        information: `(n_items,)` float64, from `metrics.self_information`.
        popular: `(n_items,)` bool, from `metrics.most_popular`.
    """

    information: NDArray[np.float64]
    popular: NDArray[np.bool_]


class SharedTraits(Protocol):
    """Spark's broadcast, as far as a worker needs it."""

    @property
    def value(self) -> Traits:
        """The traits, fetched once per worker process."""


def evaluate(
    batches: Iterator[pd.DataFrame],
    shared: Shared,
    traits: SharedTraits,
    ks: Sequence[int],
    whole_catalogue: bool,
) -> Iterator[pd.DataFrame]:
    """Rank the catalogue for test users with the model and by popularity, and evaluate both.

    Users whom the model does not know and who are not folded in get popular items in both rankings.

    Args:
        batches: `user_id`; `source`: `model`, `fold_in`, or anything else for popular items;
            `embedding` and `bias`; for users to be folded in `liked` (item rows); `seen`: item
            rows, which are left out; `relevant`: item rows; `outside`: how many more relevant
            items are not in the catalogue; `history` and `segment`, which are passed through.
        shared: the broadcast model.
        traits: the broadcast traits of its items.
        ks: where to cut the lists.
        whole_catalogue: whether to rank all items, for the metrics of `metrics.OF_RANKS`.

    Yields:
        For each user, model and k: `user_id`; `model`; `k`; `history`; `segment`; `relevant`: how
        many items, including those outside the catalogue; all metrics, those of the whole catalogue
        NaN without `whole_catalogue`; and `items`: the list, item rows.
    """
    lists = prepared(shared.value)
    for users in batches:
        if not len(users):
            continue
        parts = []
        seen, relevant = Ragged.of(users["seen"]), Ragged.of(users["relevant"])
        outside = users["outside"].to_numpy(np.int64)
        n_relevant = (np.diff(relevant.indptr) + outside).astype(np.int32)
        popular = _popular(lists, users, seen, max(ks))
        tops = {MODEL: _with_model(lists, users, seen, popular, max(ks)), POPULARITY: popular}
        full = _full(lists, users, relevant, seen, outside) if whole_catalogue else {}
        for model, top in tops.items():
            answers = (top.indptr, top.values)
            right = metrics.accuracy(*answers, relevant.indptr, relevant.values, ks, outside)
            about = (traits.value.information, traits.value.popular)
            known_items = metrics.of_lists(*answers, *about, ks)
            for k in ks:
                parts.append(
                    users[["user_id", "history", "segment"]].assign(
                        model=model,
                        k=np.int32(k),
                        relevant=n_relevant,
                        **right[k],
                        **known_items[k],
                        **full.get(model, dict.fromkeys(metrics.OF_RANKS, np.nan)),
                        items=pd.Series([part[:k] for part in top], users.index, object),
                    )
                )
        yield pd.concat(parts)


def _popular(lists: Lists, users: pd.DataFrame, seen: Ragged, k: int) -> Ragged:
    ranked = lists.by_popularity(users, Choice(k, seen))
    return Ragged(ranked.indptr, ranked.items)


def _with_model(lists: Lists, users: pd.DataFrame, seen: Ragged, popular: Ragged, k: int) -> Ragged:
    """Make the lists of users in the way that `source` says; of all others popular items."""
    found = list(popular)
    for way, ranker in ((MODEL, lists.by_model), (FOLD_IN, lists.by_fold_in)):
        chosen, some = _served(users, way)
        if not len(some):
            continue
        with naming(some, lists.model):
            ranked = ranker(some, Choice(k, seen if chosen.all() else _of(seen, chosen)))
        own = Ragged(ranked.indptr, ranked.items)
        if chosen.all():
            return own
        for row, items in zip(np.flatnonzero(chosen), own, strict=True):
            found[row] = items
    return Ragged.of(found)


def _served(users: pd.DataFrame, way: str) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Return who gets lists in one way; what folded-in users like all weighs the same."""
    chosen = np.asarray(users["source"] == way)
    some = users[chosen]
    if way == FOLD_IN and len(some):
        weights = [np.ones(len(liked)) for liked in some["liked"]]
        some = some.assign(weights=pd.Series(weights, some.index, object))
    return chosen, some


def _full(
    lists: Lists,
    users: pd.DataFrame,
    relevant: Ragged,
    seen: Ragged,
    outside: NDArray[np.int64],
) -> dict[str, dict[str, NDArray[np.float64]]]:
    model = lists.model
    popular = lists.popularity.ranks(relevant.indptr, relevant.values, seen.indptr, seen.values)
    n_seen = np.fromiter((len(np.unique(part)) for part in seen), np.int64, len(users))
    n_others = len(model.ids) - n_seen - np.diff(relevant.indptr)
    ranks = popular.copy()
    for way in (MODEL, FOLD_IN):
        chosen, some = _served(users, way)
        if not len(some):
            continue
        mine, out = _of(relevant, chosen), _of(seen, chosen)
        with naming(some, model):
            if way == MODEL:
                vectors = np.stack(some["embedding"].to_list()).astype(np.float32, copy=False)
                scale, biases = 1.0, some["bias"].to_numpy(np.float32)
            else:
                vectors, scale = lists.folded(some), model.fold_in.bias_scale
                biases = np.zeros(len(some), np.float32)
            ranks[np.repeat(chosen, np.diff(relevant.indptr))] = full_ranks(
                model.embeddings,
                (model.biases * np.float32(scale)).astype(np.float32),
                vectors,
                biases,
                *(mine.indptr, mine.values),
                *(out.indptr, out.values),
            )
    return {
        model: metrics.of_ranks(relevant.indptr, found, n_others, outside)
        for model, found in ((MODEL, ranks), (POPULARITY, popular))
    }


def _of(lists: Ragged, chosen: NDArray[np.bool_]) -> Ragged:
    lengths = np.diff(lists.indptr)
    values = lists.values[np.repeat(chosen, lengths)]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[chosen])])
    return Ragged(indptr, values)
