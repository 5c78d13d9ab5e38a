"""How good lists are, a number for each user: definitions and NumPy, no Spark.

Of a user, L is the list, best first and without repeats, R the set of relevant items, and rel(r) is
1 where the item at rank r (from 1) is in R, else 0. At k, only the first k of L count; a list that
is shorter than k has misses in its missing places.

- `precision`: hits / k. `recall`: hits / |R|. (Manning, Raghavan & Schuetze 2008, "Introduction to
  Information Retrieval", 8.3 and 8.4; both as `lightfm.evaluation`.)
- `average_precision`: the sum of rel(r) * precision at r over r <= k, divided by |R| (there, 8.4;
  `map_cut` of trec_eval). `average_precision_truncated`: divided by min(k, |R|), so that the best
  list has 1 (Kaggle's MAP@k).
- `ndcg`: the sum of rel(r) / log2(r + 1), divided by what the best list has: the sum of
  1 / log2(r + 1) over r <= min(k, |R|) (Jaervelin & Kekaelaeinen 2002, "Cumulated gain-based
  evaluation of IR techniques"; `ndcg_cut` of trec_eval).
- `reciprocal_rank`: 1 / the rank of the first hit within k, else 0 (Voorhees 1999, "The TREC-8
  question answering track report"). `hit_rate`: 1 where there is a hit within k, else 0.

Over the whole catalogue without what is left out (what the user had in training), given the rank of
each relevant item there:

- `auc`: the share of the pairs of a relevant and another item that are in the right order
  (Rendle et al. 2009, "BPR", 4.1.1; `lightfm.evaluation.auc_score`).
- `full_reciprocal_rank`: 1 / the rank of the first relevant item (`lightfm.evaluation`'s).

Equal scores are ranked as in the lists, by the item's row; LightFM counts them against the relevant
item. Of the lists alone:

- `novelty`: the mean over the list of -log2(share of the users who have the item in training)
  (mean self-information: Castells, Hurley & Vargas 2015, "Novelty and diversity in recommender
  systems", table 26.2).
- `popular_share`: the share of the list that is among the most popular items.
- `catalogue_coverage`: the share of the catalogue that is in at least one list (Herlocker et al.
  2004, "Evaluating collaborative filtering recommender systems", 4.2).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.popular import distinct
from recsys.kernel.topk import KernelError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Integers = NDArray[np.integer[Any]]

ACCURACY = (
    "precision",
    "recall",
    "average_precision",
    "average_precision_truncated",
    "ndcg",
    "reciprocal_rank",
    "hit_rate",
)
OF_LISTS = ("novelty", "popular_share")
OF_RANKS = ("auc", "full_reciprocal_rank")

# The most popular items: this share of the catalogue, rounded up.
POPULAR_SHARE = 0.01


def accuracy(
    top_indptr: I64,
    top_items: Integers,
    indptr: I64,
    items: Integers,
    ks: Sequence[int],
    outside: Integers | None = None,
) -> dict[int, dict[str, F64]]:
    """Compare lists with the relevant items of the same n users.

    Args:
        top_indptr, top_items: `(n + 1,)` and `(total,)` integers; user i has the list
            `top_items[top_indptr[i]:top_indptr[i + 1]]`, best first, without repeats.
        indptr, items: the relevant items in the same form, in any order; repeats count once.
        ks: where to cut the lists, each at least 1.
        outside: `(n,)` how many more items are relevant that can be in no list; default none.

    Returns:
        For each k and each name of ACCURACY `(n,)` float64; NaN for users with nothing relevant.

    Raises:
        KernelError: no k, a k below 1, or not the same number of users.
    """
    n = len(indptr) - 1
    if not ks or min(ks) < 1 or len(top_indptr) != n + 1:
        raise KernelError(
            f"expected ks of at least 1 and lists for {n} users, found {list(ks)} and "
            f"{len(top_indptr) - 1} lists"
        )
    width = max(ks)
    relevant, n_relevant = _keys(indptr, items, n)
    if outside is not None:
        n_relevant = n_relevant + outside
    users, ranks = _places(top_indptr)
    hit = np.zeros((n, width), np.bool_)
    near = ranks < width
    hit[users[near], ranks[near]] = _contains(
        relevant, users[near] << 32 | top_items[near].astype(np.int64)
    )
    rank = np.arange(1, width + 1)
    # Sums over ranks are cumulative: always in the order of the list, however many users there are.
    hits = np.cumsum(hit, axis=1)
    precisions = np.cumsum(np.where(hit, hits / rank, 0.0), axis=1)
    gains = np.cumsum(hit / np.log2(rank + 1), axis=1)
    ideal = np.cumsum(1 / np.log2(rank + 1))
    some = hit.any(axis=1)
    first = np.where(some, np.argmax(hit, axis=1), width) + 1
    evaluated = n_relevant > 0
    divisor = np.where(evaluated, n_relevant, 1).astype(np.float64)
    found = {}
    for k in ks:
        at = k - 1
        values = {
            "precision": hits[:, at] / k,
            "recall": hits[:, at] / divisor,
            "average_precision": precisions[:, at] / divisor,
            "average_precision_truncated": precisions[:, at] / np.minimum(divisor, k),
            "ndcg": gains[:, at] / ideal[np.minimum(divisor, k).astype(np.int64) - 1],
            "reciprocal_rank": np.where(first <= k, 1 / first, 0.0),
            "hit_rate": (hits[:, at] > 0).astype(np.float64),
        }
        found[k] = {name: np.where(evaluated, value, np.nan) for name, value in values.items()}
    return found


def of_lists(
    top_indptr: I64, top_items: Integers, information: F64, popular: Bool, ks: Sequence[int]
) -> dict[int, dict[str, F64]]:
    """Say how well known the items of n users' lists are.

    Args:
        top_indptr, top_items: lists, as in `accuracy`.
        information: `(n_items,)`, from `self_information`.
        popular: `(n_items,)`, from `most_popular`.
        ks: where to cut the lists.

    Returns:
        For each k and each name of OF_LISTS `(n,)` float64; NaN for an empty list.
    """
    n = len(top_indptr) - 1
    users, ranks = _places(top_indptr)
    found = {}
    for k in ks:
        near = ranks < k
        # In the order of the list; no user's sum has anything of another's.
        counts = np.bincount(users[near], minlength=n).astype(np.float64)
        sums = {
            "novelty": np.bincount(users[near], information[top_items[near]], n),
            "popular_share": np.bincount(users[near], popular[top_items[near]], n),
        }
        with np.errstate(invalid="ignore"):
            found[k] = {name: total / counts for name, total in sums.items()}
    return found


def of_ranks(
    indptr: I64, ranks: I64, n_others: I64, outside: Integers | None = None
) -> dict[str, F64]:
    """Judge rankings of the whole catalogue by where n users' relevant items are in them.

    Args:
        indptr: `(n + 1,)`; user i has `ranks[indptr[i]:indptr[i + 1]]`.
        ranks: `(total,)` places of relevant items, from 0, among all items that are not left out.
        n_others: `(n,)` how many items are neither relevant nor left out.
        outside: `(n,)` how many more items are relevant that are not in the catalogue; they come
            last.

    Returns:
        For each name of OF_RANKS `(n,)` float64; NaN for users with nothing relevant, and for `auc`
        where there is no other item.
    """
    n = len(indptr) - 1
    users, nth = _places(indptr)
    ranks = ranks[np.lexsort((ranks, users))]
    n_relevant = np.diff(indptr)
    beyond = np.zeros(n, np.int64) if outside is None else outside.astype(np.int64)
    # At place r there are r items ahead, of which nth are relevant ones.
    wrong = np.bincount(users, ranks - nth, n) + beyond * n_others
    first = np.full(n, np.inf)
    first[n_relevant > 0] = ranks[indptr[:-1][n_relevant > 0]] + 1
    n_relevant = n_relevant + beyond
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = 1 - wrong / (n_relevant * n_others).astype(np.float64)
        return {
            "auc": np.where((n_relevant > 0) & (n_others > 0), auc, np.nan),
            "full_reciprocal_rank": np.where(n_relevant > 0, 1 / first, np.nan),
        }


def self_information(holders: Integers, n_users: int) -> F64:
    """Return `-log2(holders / n_users)`, `(n_items,)`: in bits, how surprising an item is.

    holders: `(n_items,)` how many of the users have the item in training; at least 1.
    """
    return -np.log2(holders / n_users)


def most_popular(holders: Integers) -> Bool:
    """Mark the POPULAR_SHARE of the items that most users have; of equals the first rows."""
    marked = np.zeros(len(holders), np.bool_)
    n = int(np.ceil(len(holders) * POPULAR_SHARE))
    marked[np.argsort(-holders.astype(np.int64), kind="stable")[:n]] = True
    return marked


def catalogue_coverage(top_items: Integers, n_items: int) -> float:
    """Return the share of the catalogue that is in at least one of these lists."""
    return len(np.unique(top_items)) / n_items


def _places(indptr: I64) -> tuple[I64, I64]:
    """Whose each value of ragged lists is, and its place in that list from 0."""
    lengths = np.diff(indptr).astype(np.int64)
    users = np.repeat(np.arange(len(lengths)), lengths)
    return users, np.arange(len(users)) - np.repeat(indptr[:-1].astype(np.int64), lengths)


def _keys(indptr: I64, items: Integers, n: int) -> tuple[I64, I64]:
    """Ragged lists as ascending integers without repeats, and how many each user has."""
    users, _ = _places(indptr)
    keys = distinct(users << 32 | items.astype(np.int64))
    return keys, np.bincount(keys >> 32, minlength=n)


def _contains(keys: I64, wanted: I64) -> Bool:
    """Whether each of `wanted` is among the ascending `keys`."""
    if not len(keys):
        return np.zeros(len(wanted), np.bool_)
    found: Bool = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    return found
