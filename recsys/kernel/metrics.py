"""How good lists are, one number for each user: definitions and NumPy, no Spark.

For one user, L is the list, best first and without repeats, R the set of relevant items, and rel(r)
is 1 if the item at rank r (from 1) is in R, else 0. At k, only the first k items of L count. A list
that is shorter than k counts as if it had misses in the missing places.

- `precision`: hits / k. `recall`: hits / |R|. (Manning, Raghavan & Schuetze 2008, "Introduction to
  Information Retrieval", 8.3 and 8.4; both as `lightfm.evaluation`.)
- `average_precision`: the sum of rel(r) * precision at r over r <= k, divided by |R| (same source,
  8.4; `map_cut` of trec_eval). `average_precision_truncated`: divided by min(k, |R|), so that the
  best list has 1 (Kaggle's MAP@k).
- `ndcg`: the sum of rel(r) / log2(r + 1), divided by that of the best list: the sum of
  1 / log2(r + 1) over r <= min(k, |R|) (Jaervelin & Kekaelaeinen 2002, "Cumulated gain-based
  evaluation of IR techniques"; `ndcg_cut` of trec_eval).
- `reciprocal_rank`: 1 / the rank of the first hit within k, else 0 (Voorhees 1999, "The TREC-8
  question answering track report"). `hit_rate`: 1 if there is a hit within k, else 0.

Two metrics rank the whole catalogue, without the items that the user had in training. They are made
from the rank of each relevant item:

- `auc`: the share of the pairs of a relevant item and another one that are in the right order
  (Rendle et al. 2009, "BPR", 4.1.1; `lightfm.evaluation.auc_score`).
- `full_reciprocal_rank`: 1 / the rank of the first relevant item (`lightfm.evaluation`'s).

Equal scores are ranked by the item's row, as in the lists. LightFM counts them against the relevant
item. These describe the lists alone:

- `novelty`: the mean over the list of -log2(share of the users who have the item in training)
  (mean self-information: Castells, Hurley & Vargas 2015, "Novelty and diversity in recommender
  systems", table 26.2).
- `popular_share`: the share of the list that is among the most popular items.
- `catalogue_coverage`, one number for all lists together: the share of the catalogue that is in at
  least one list (Herlocker et al. 2004, "Evaluating collaborative filtering recommender systems",
  4.2). `recsys.evaluate.held_out` computes it.
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

# The share of the catalogue that counts as the most popular items; their number is rounded up.
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
        top_indptr: `(n + 1,)`; user i has the list `top_items[top_indptr[i]:top_indptr[i + 1]]`.
        top_items: `(total,)`, each list best first, without repeats.
        indptr: `(n + 1,)`, where each user's part of `items` begins.
        items: the relevant items, in any order; repeats count once.
        ks: where to cut the lists, each at least 1.
        outside: `(n,)` how many more items are relevant that are not in the catalogue; default 0.

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
    near = ranks < width
    users, ranks = users[near], ranks[near]
    found = _contains(relevant, users << 32 | top_items[near].astype(np.int64))
    hit_users, hit_ranks = users[found], ranks[found]
    hit = np.zeros((n, width), np.bool_)
    hit[hit_users, hit_ranks] = True
    # Cumulative, so that each sum is in the order of the list, however many users there are.
    hits = np.cumsum(hit, axis=1)
    precisions = np.cumsum(np.where(hit, hits / np.arange(1, width + 1), 0.0), axis=1)
    first = np.where(hit.any(axis=1), np.argmax(hit, axis=1), width) + 1
    evaluated = n_relevant > 0
    divisor = np.where(evaluated, n_relevant, 1).astype(np.float64)
    results = {}
    for k in ks:
        at, within = k - 1, hit_ranks < k
        values = {
            "precision": hits[:, at] / k,
            "recall": hits[:, at] / divisor,
            "average_precision": precisions[:, at] / divisor,
            "average_precision_truncated": precisions[:, at] / np.minimum(divisor, k),
            "ndcg": ndcg(hit_users[within], hit_ranks[within], n_relevant, k),
            "reciprocal_rank": np.where(first <= k, 1 / first, 0.0),
            "hit_rate": (hits[:, at] > 0).astype(np.float64),
        }
        results[k] = {name: np.where(evaluated, value, np.nan) for name, value in values.items()}
    return results


def ndcg(users: Integers, ranks: Integers, n_relevant: Integers, k: int) -> F64:
    """Return the nDCG at k of n users' lists.

    Args:
        users: `(n_hits,)` whose list each hit is in, from 0 to n - 1. A user's gains are added in
            the order given.
        ranks: `(n_hits,)` the place of each hit in that list, from 0 to k - 1.
        n_relevant: `(n,)` how many items are relevant to each user.
        k: where the lists are cut, at least 1.

    Returns:
        `(n,)` float64; NaN for users with nothing relevant.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = np.bincount(users, weights=discounts[ranks], minlength=len(n_relevant))
    ideal = np.concatenate([[np.nan], np.cumsum(discounts)])
    return np.asarray(gains / ideal[np.minimum(n_relevant, k)])


def of_lists(
    top_indptr: I64, top_items: Integers, information: F64, popular: Bool, ks: Sequence[int]
) -> dict[int, dict[str, F64]]:
    """Compute how well known the items of n users' lists are.

    Args:
        top_indptr: where each list begins, as in `accuracy`.
        top_items: the lists, as in `accuracy`.
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
        # bincount adds each user's values in the order of the list, whatever other users there are.
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
    """Judge rankings of the whole catalogue by the ranks of n users' relevant items.

    Args:
        indptr: `(n + 1,)`; user i has `ranks[indptr[i]:indptr[i + 1]]`.
        ranks: `(total,)` ranks of relevant items, from 0, among all items that are not left out.
        n_others: `(n,)` how many items are neither relevant nor left out.
        outside: `(n,)` how many more items are relevant that are not in the catalogue; they count
            as ranked last. Default 0.

    Returns:
        For each name of OF_RANKS `(n,)` float64; NaN for users with nothing relevant, and for `auc`
        where there is no other item.
    """
    n = len(indptr) - 1
    users, nth = _places(indptr)
    ranks = ranks[np.lexsort((ranks, users))]
    n_relevant = np.diff(indptr)
    beyond = np.zeros(n, np.int64) if outside is None else outside.astype(np.int64)
    # An item of rank r has r items ahead of it, nth of which are relevant.
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
    """Return each item's self-information in bits, `-log2(holders / n_users)`.

    Args:
        holders: `(n_items,)` how many of the users have the item in training, at least 1.
        n_users: number of users.

    Returns:
        `(n_items,)` float64.
    """
    return -np.log2(holders / n_users)


def most_popular(holders: Integers) -> Bool:
    """Mark the POPULAR_SHARE of the items that most users have; ties go to the first rows.

    Args:
        holders: `(n_items,)` how many users have the item in training.

    Returns:
        `(n_items,)`.
    """
    marked = np.zeros(len(holders), np.bool_)
    n = int(np.ceil(len(holders) * POPULAR_SHARE))
    marked[np.argsort(-holders.astype(np.int64), kind="stable")[:n]] = True
    return marked


def _places(indptr: I64) -> tuple[I64, I64]:
    """Return the list that each value of ragged lists is in, and its place there, from 0."""
    lengths = np.diff(indptr).astype(np.int64)
    users = np.repeat(np.arange(len(lengths)), lengths)
    return users, np.arange(len(users)) - np.repeat(indptr[:-1].astype(np.int64), lengths)


def _keys(indptr: I64, items: Integers, n: int) -> tuple[I64, I64]:
    """Return ragged lists as ascending integers without repeats, and how many each user has."""
    users, _ = _places(indptr)
    keys = distinct(users << 32 | items.astype(np.int64))
    return keys, np.bincount(keys >> 32, minlength=n)


def _contains(keys: I64, wanted: I64) -> Bool:
    """Return whether each of `wanted` is among the ascending `keys`."""
    if not len(keys):
        return np.zeros(len(wanted), np.bool_)
    found: Bool = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    return found
