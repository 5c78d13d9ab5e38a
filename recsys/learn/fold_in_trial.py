"""Judge fold-in maps on held-out users of the training set. NumPy alone; on the driver.

Half of a held-out user's history is given, and the other half is to be found in the list that the
map makes from the given half.

The model was trained on these users, and this must not help to find the other half. A user's items
have moved towards the user in training, all of them in the same direction, so the given half points
to the other half. The fewer users an item has, the further it was moved. If this is not corrected,
the maps that seem best are those that rely too much on rare directions. On MovieTweetings such a
map reaches 0.9 of the nDCG of the plain mean for users who are really new. So the items of a
held-out user are moved back first, see `_without_user`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.fold_in import fold_in, mean_embeddings
from recsys.kernel.metrics import ndcg
from recsys.learn.fold_in_candidates import Candidate, Float, Moments, Regression, Trained

K = 10
MAX_HELD_OUT = 2000
# About how many scores to rank for one candidate, which takes 0.05 s of one core. The number of
# users follows from it, but is not below _FEWEST_OF_MANY: with fewer users, the choice for a large
# catalogue would be left to chance.
_SCORES = 12_000_000
_FEWEST_OF_MANY = 500
_BLOCK = 128


@dataclass(frozen=True)
class Trial:
    """Held-out users: the given half of each history and the half to be found.

    Users are numbered in the order of `users`.

    Attributes:
        users: `(n,)` who is held out, rows of `Trained.users`.
        given_indptr, given_items: the given items of user i are
            `given_items[given_indptr[i]:given_indptr[i + 1]]`.
        own_items: `(n_given, d)` float32, the embeddings of the given items without that user.
        target_rows, target_items: user and item of each pair to be found, ascending by user.
        target_vectors, target_biases: embeddings and biases of these items without that user.
        hidden_rows, hidden_items: pairs that are left out of the lists. Nobody else has the item,
            so nothing would be left of it without that user.
    """

    users: NDArray[np.int64]
    given_indptr: NDArray[np.int64]
    given_items: NDArray[np.int32]
    own_items: NDArray[np.float32]
    target_rows: NDArray[np.int64]
    target_items: NDArray[np.int32]
    target_vectors: NDArray[np.float32]
    target_biases: NDArray[np.float32]
    hidden_rows: NDArray[np.int64]
    hidden_items: NDArray[np.int32]


def hold_out(trained: Trained, rng: np.random.Generator) -> Trial:
    """Choose users, split their histories in half and move their items back."""
    n = len(trained.users)
    shared = trained.item_counts[trained.pair_items] >= 2
    lengths = np.bincount(trained.pair_users[shared], minlength=n)
    eligible = np.flatnonzero(lengths >= 2)
    size = min(
        MAX_HELD_OUT, max(_FEWEST_OF_MANY, _SCORES // len(trained.items)), len(eligible) // 2
    )
    users = rng.permutation(eligible)[:size]
    place = np.full(n, -1, np.int64)
    place[users] = np.arange(size)
    mine = np.flatnonzero(place[trained.pair_users] >= 0)
    hidden = mine[~shared[mine]]
    pairs = mine[shared[mine]]
    pairs = pairs[np.lexsort((rng.random(len(pairs)), place[trained.pair_users[pairs]]))]
    rows = place[trained.pair_users[pairs]]
    ends = np.cumsum(np.bincount(rows, minlength=size))
    starts = np.concatenate([[0], ends[:-1]]) if size else np.zeros(0, np.int64)
    position = np.arange(len(pairs)) - starts[rows]
    is_given = position < (ends - starts + 1)[rows] // 2
    vectors, biases = _without_user(trained, pairs)
    given, targets = pairs[is_given], pairs[~is_given]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[is_given], minlength=size))])
    return Trial(
        users,
        indptr.astype(np.int64),
        trained.pair_items[given],
        vectors[is_given],
        rows[~is_given],
        trained.pair_items[targets],
        vectors[~is_given],
        biases[~is_given],
        place[trained.pair_users[hidden]],
        trained.pair_items[hidden],
    )


def _without_user(
    trained: Trained, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate what the items of these pairs would be if the pair's user had not been trained on.

    An item's embedding follows the mean embedding of its users; a ridge regression A from the one
    to the other says how closely. Without user u the mean of n users moves by
    `(mean - u) / (n - 1)`, and the item's embedding by this times A. The item's bias follows the
    logarithm of n in the same way, by a slope.

    Returns:
        `(len(pairs), d)` and `(len(pairs),)` float32.
    """
    counts = trained.item_counts.astype(np.float64)
    means, _ = mean_embeddings(
        trained.users,
        trained.pair_items.astype(np.int64),
        trained.pair_users,
        None,
        len(trained.items),
    )
    weights = np.where(counts >= 2, counts, 0.0)
    if not weights.any():
        return np.zeros((0, trained.items.shape[1]), np.float32), np.zeros(0, np.float32)
    matrix, _ = Regression(means, trained.items.astype(np.float64), weights).solve(0.001, True)
    common = counts >= 2
    logs = np.log(counts[common])
    spread = logs - logs.mean()
    slope = float(spread @ trained.biases[common]) / max(float(spread @ spread), 1e-12)
    users, items = trained.pair_users[pairs], trained.pair_items[pairs]
    n = counts[items]
    moved = (means[items] - trained.users[users]) @ matrix / (n - 1)[:, None]
    fallen = slope * (np.log(n - 1) - np.log(n))
    return (
        (trained.items[items] + moved).astype(np.float32),
        (trained.biases[items] + fallen).astype(np.float32),
    )


def judge(
    trained: Trained, trial: Trial, moments: Moments, candidates: list[Candidate], n_users: int
) -> dict[Candidate, Float]:
    """Return each candidate's nDCG@10 for each of the first `n_users` held-out users."""
    n_given = int(trial.given_indptr[n_users])
    positions = np.arange(n_given, dtype=np.int32)
    columns = np.ascontiguousarray(trained.items.T)
    results: dict[Candidate, Float] = {}
    # Candidates that differ only in the scale of the biases share a matrix product.
    groups: dict[Candidate, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(replace(candidate, bias_scale=1.0), []).append(candidate)
    for shared, members in groups.items():
        vectors = fold_in(
            moments.map(shared),
            trial.own_items[:n_given],
            trial.given_indptr[: n_users + 1],
            positions,
        )
        parts: dict[Candidate, list[Float]] = {member: [] for member in members}
        for start in range(0, n_users, _BLOCK):
            stop = min(start + _BLOCK, n_users)
            products = vectors[start:stop] @ columns
            for member in members:
                scores = products + np.float32(member.bias_scale) * trained.biases
                found = _ndcg(trained, trial, vectors, member.bias_scale, scores, start, stop)
                parts[member].append(found)
        for member in members:
            results[member] = np.concatenate(parts[member])
    return {candidate: results[candidate] for candidate in candidates}


def _ndcg(
    trained: Trained,
    trial: Trial,
    vectors: NDArray[np.float32],
    bias_scale: float,
    scores: NDArray[np.float32],
    start: int,
    stop: int,
) -> Float:
    """Return nDCG@10 of users start to stop; `scores` is overwritten."""
    given = slice(int(trial.given_indptr[start]), int(trial.given_indptr[stop]))
    lengths = np.diff(trial.given_indptr[start : stop + 1])
    scores[:, trained.item_counts == 0] = -np.inf  # nobody likes them, so they were not trained
    scores[np.repeat(np.arange(stop - start), lengths), trial.given_items[given]] = -np.inf
    hidden = (trial.hidden_rows >= start) & (trial.hidden_rows < stop)
    scores[trial.hidden_rows[hidden] - start, trial.hidden_items[hidden]] = -np.inf
    low, high = np.searchsorted(trial.target_rows, [start, stop])
    rows, items = trial.target_rows[low:high], trial.target_items[low:high]
    own = np.einsum("ij,ij->i", vectors[rows], trial.target_vectors[low:high])
    own += np.float32(bias_scale) * trial.target_biases[low:high]
    rows = rows - start
    scores[rows, items] = own
    depth = min(K, scores.shape[1])
    best = np.partition(scores, scores.shape[1] - depth, axis=1)[:, -depth:]
    # Of equal scores the target comes last, so that a map without any preference gains nothing.
    rank = (best[rows] >= own[:, None]).sum(axis=1) - 1
    hit = own >= best.min(axis=1)[rows]
    return ndcg(rows[hit], rank[hit], np.bincount(rows, minlength=stop - start), K)
