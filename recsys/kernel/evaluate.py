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

    Users whom the model does not know get popular items in both rankings.

    Args:
        batches: `user_id`; `source`: `model`, or anything else for users whom the model does not
            know; `embedding`; `bias`; `seen`: item rows, which are left out; `relevant`: item rows;
            `outside`: how many more relevant items there are that are not in the catalogue;
            `history` and `segment`, which are passed through.
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
        known = (users["source"] == MODEL).to_numpy()
        popular = _popular(lists, users, seen, max(ks))
        tops = {MODEL: _with_model(lists, users, known, seen, popular, max(ks))}
        tops[POPULARITY] = popular
        full = _full(lists, users, known, relevant, seen, outside) if whole_catalogue else {}
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


def _with_model(
    lists: Lists,
    users: pd.DataFrame,
    known: NDArray[np.bool_],
    seen: Ragged,
    popular: Ragged,
    k: int,
) -> Ragged:
    """Make the lists of known users with the model; other users get popular items."""
    if not known.any():
        return popular
    some = users[known]
    with naming(some, lists.model):
        ranked = lists.by_model(some, Choice(k, seen if known.all() else _of(seen, known)))
    found = Ragged(ranked.indptr, ranked.items)
    if known.all():
        return found
    own = iter(found)
    return Ragged.of(
        next(own) if is_known else popular[i] for i, is_known in enumerate(known.tolist())
    )


def _full(
    lists: Lists,
    users: pd.DataFrame,
    known: NDArray[np.bool_],
    relevant: Ragged,
    seen: Ragged,
    outside: NDArray[np.int64],
) -> dict[str, dict[str, NDArray[np.float64]]]:
    model = lists.model
    popular = lists.popularity.ranks(relevant.indptr, relevant.values, seen.indptr, seen.values)
    n_seen = np.fromiter((len(np.unique(part)) for part in seen), np.int64, len(users))
    n_others = len(model.ids) - n_seen - np.diff(relevant.indptr)
    ranks = popular.copy()
    if known.any():
        some = users[known]
        mine, out = _of(relevant, known), _of(seen, known)
        with naming(some, model):
            ranks[np.repeat(known, np.diff(relevant.indptr))] = full_ranks(
                model.embeddings,
                model.biases,
                np.stack(some["embedding"].to_list()).astype(np.float32, copy=False),
                some["bias"].to_numpy(np.float32),
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
