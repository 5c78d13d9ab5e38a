"""Choose and fit the map that `recsys.kernel.fold_in` applies. NumPy alone; it runs on the driver.

Which map is best differs from data to data, so it is chosen on users of the training set: half of
a user's history is given, the other half is to be found, nDCG@10 decides. The candidates:

- `mean`: the mean embedding of the items as it is.
- `ridge`: ridge regression from the mean embedding of a user's items to the user's own embedding,
  each user weighted by the length of their history, with and without an intercept.
- `whitening`: `inverse(C + r I)`, C the second moment of the item embeddings, weighted by
  popularity: what solves for a user when items are held fixed (Hu, Koren & Volinsky 2008,
  "Collaborative Filtering for Implicit Feedback Datasets", equation 4), with the history of an
  average user in place of the catalogue. It is scaled to the length of the users' embeddings.

each with several regularisations, scales of the item biases, and amounts of shrinkage of short
histories (`n / (n + shrinkage)` lies between a mean and a sum, as the `n ^ -1/2` of SVD++ does).

A user of the training set has left traces in the embeddings of their own items: the given half
points to the other half because the model has already been told so, the more the fewer users an
item has. Taken as they are, such users make a map look best that trusts rare directions far too
much (on MovieTweetings it then reaches 0.9 of what plain mean does). So the trace is taken out
first, see `_without_user`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.kernel.fold_in import (
    FoldIn,
    check_histories,
    fold_in,
    mean_embeddings,
    plain_mean,
)

K = 10
MAX_HELD_OUT = 2000
MIN_HELD_OUT = 30
# Scores to rank for one candidate, about 0.05 s of one core; but not so few users that a large
# catalogue's map is chosen by luck.
_SCORES = 12_000_000
_FEWEST_OF_MANY = 500
_BLOCK = 128
_RIDGE = (0.001, 0.01, 0.1, 1.0)
_WHITENING = (0.1, 0.3, 1.0, 3.0, 10.0)
_BIAS_SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_SHRINKAGES = (0.0, 1.0, 2.0, 4.0, 8.0)
_FIRST_SHRINKAGE = 2.0
_FINALISTS = 4
# In standard errors. One would turn down most gains that later hold; none lets a few dozen users
# choose by luck.
_CLEAR = 0.5

_Float = NDArray[np.float64]


@dataclass(frozen=True)
class _Candidate:
    kind: str
    regularisation: float
    intercept: bool
    bias_scale: float
    shrinkage: float

    def as_record(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "regularisation": self.regularisation,
            "intercept": self.intercept,
            "bias_scale": self.bias_scale,
            "shrinkage": self.shrinkage,
        }


_PLAIN = _Candidate("mean", 0.0, False, 1.0, 0.0)


@dataclass(frozen=True)
class _Data:
    """A trained model and the histories it was trained on, as pairs of user and item."""

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    biases: NDArray[np.float32]
    pair_users: NDArray[np.int64]
    pair_items: NDArray[np.int32]
    pair_weights: NDArray[np.float32] | None
    item_counts: NDArray[np.int64]


@dataclass(frozen=True)
class _Trial:
    """Held-out users: what is given, what is to be found, and both without their own traces.

    Attributes:
        given_indptr, given_items, given_weights: half of each history.
        own_items: `(n_given, d)` float32, the embeddings of the given items without that user.
        target_rows, target_items: pairs to be found.
        target_vectors, target_biases: of these items, without that user.
        hidden_rows, hidden_items: pairs that cannot be judged: nobody else has the item.
    """

    given_indptr: NDArray[np.int64]
    given_items: NDArray[np.int32]
    given_weights: NDArray[np.float32] | None
    own_items: NDArray[np.float32]
    target_rows: NDArray[np.int64]
    target_items: NDArray[np.int32]
    target_vectors: NDArray[np.float32]
    target_biases: NDArray[np.float32]
    hidden_rows: NDArray[np.int64]
    hidden_items: NDArray[np.int32]


def fit(
    user_embeddings: NDArray[np.float32],
    item_embeddings: NDArray[np.float32],
    item_biases: NDArray[np.float32],
    indptr: NDArray[np.int64],
    items: NDArray[np.int32],
    weights: NDArray[np.float32] | None = None,
    seed: int = 42,
) -> tuple[FoldIn, dict[str, Any]]:
    """Choose a map on held-out users of the training set, then fit it on all of them.

    The plain mean with the biases in full stays unless another candidate is ahead of it by more
    than half a standard error of the paired difference.

    Args:
        user_embeddings: `(n_users, d)` float32, as trained.
        item_embeddings: `(n_items, d)` float32.
        item_biases: `(n_items,)` float32.
        indptr: `(n_users + 1,)`; user u was trained with `items[indptr[u]:indptr[u + 1]]`, positive
            interactions only, each item once.
        items: `(total,)` rows of `item_embeddings`.
        weights: `(total,)` positive, if users are to be folded in with weights; or None.
        seed: who is held out, and which half of a history is given.

    Returns:
        The map, and a report in plain JSON values: `held_out_users`, `chosen` with its `ndcg`, the
        `best` candidate, how far it is ahead of `plain_ndcg` (`difference`, paired, with its
        `standard_error`), `reason`, and `candidates`: what was tried in each round. The figures
        are optimistic (the best of many; estimated traces): they compare maps, nothing else.

    Raises:
        TrainingError: an embedding or a bias is not finite, or shapes do not fit.
        KernelError: the histories do not fit, as `recsys.kernel.fold_in.fold_in`.
    """
    data = _check(user_embeddings, item_embeddings, item_biases, indptr, items, weights)
    trial, held_out = _hold_out(data, np.random.default_rng(seed))
    if len(held_out) < MIN_HELD_OUT:
        return plain_mean(item_embeddings.shape[1]), {
            "held_out_users": 0,
            "chosen": _PLAIN.as_record(),
            "reason": f"fewer than {MIN_HELD_OUT} users have histories to choose a map on",
            "candidates": [],
        }
    left = np.ones(len(user_embeddings), bool)
    left[held_out] = False
    moments = _Moments(data, left)
    # The first round judges maps and scales of the biases on a part of the users; the second
    # settles the shrinkage of the best on all of them.
    part = max(MIN_HELD_OUT, len(held_out) // 2)
    first = _judge(data, trial, moments, _first_round(), part)
    best = sorted(first, key=lambda candidate: -float(first[candidate].mean()))[:_FINALISTS]
    finals = [_PLAIN] + [
        replace(candidate, shrinkage=shrinkage) for candidate in best for shrinkage in _SHRINKAGES
    ]
    second = _judge(data, trial, moments, list(dict.fromkeys(finals)), len(held_out))
    winner = max(second, key=lambda candidate: float(second[candidate].mean()))
    ahead = second[winner] - second[_PLAIN]
    error = float(ahead.std(ddof=1) / np.sqrt(len(ahead)))
    clear = float(ahead.mean()) > _CLEAR * error
    chosen = winner if clear else _PLAIN
    everyone = _Moments(data, np.ones(len(user_embeddings), bool))
    report: dict[str, Any] = {
        "held_out_users": len(held_out),
        "chosen": chosen.as_record(),
        "ndcg": float(second[chosen].mean()),
        "plain_ndcg": float(second[_PLAIN].mean()),
        "best": winner.as_record(),
        "difference": float(ahead.mean()),
        "standard_error": error,
        "reason": "the best on held-out users"
        if clear
        else "no candidate is clearly ahead of the plain mean on held-out users",
        "candidates": [
            {**candidate.as_record(), "round": number, "ndcg": float(values.mean())}
            for number, tried in ((1, first), (2, second))
            for candidate, values in tried.items()
        ],
    }
    return everyone.map(chosen), report


def _check(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    biases: NDArray[np.float32],
    indptr: NDArray[np.int64],
    liked: NDArray[np.int32],
    weights: NDArray[np.float32] | None,
) -> _Data:
    width = items.shape[-1]
    shapes = (users.shape, items.shape, biases.shape, indptr.shape)
    if shapes != ((len(users), width), (len(items), width), (len(items),), (len(users) + 1,)):
        raise TrainingError(
            "fold-in: expected user embeddings (n_users, d), item embeddings (n_items, d), item "
            f"biases (n_items,) and an indptr (n_users + 1,), found {shapes}"
        )
    if not all(np.isfinite(array).all() for array in (users, items, biases)):
        raise TrainingError("fold-in: expected finite embeddings and biases; train the model anew")
    rows = check_histories(len(items), indptr, liked, weights)
    counts = np.bincount(liked, minlength=len(items))
    return _Data(users, items, biases, rows, liked, weights, counts)


def _first_round() -> list[_Candidate]:
    maps = [("mean", 0.0, False)]
    maps += [("ridge", value, intercept) for value in _RIDGE for intercept in (False, True)]
    maps += [("whitening", value, False) for value in _WHITENING]
    return [
        _Candidate(kind, value, intercept, scale, 0.0 if kind == "mean" else _FIRST_SHRINKAGE)
        for kind, value, intercept in maps
        for scale in _BIAS_SCALES
    ]


class _Moments:
    """What every map is solved from, summed once over the users that may be used."""

    def __init__(self, data: _Data, used: NDArray[np.bool_]) -> None:
        pairs = used[data.pair_users]
        weights = None if data.pair_weights is None else data.pair_weights[pairs]
        rows, items = data.pair_users[pairs], data.pair_items[pairs]
        means, counts = mean_embeddings(data.items, rows, items, weights, len(data.users))
        # Long histories have the steadier means and the steadier embeddings.
        self.regression = _Regression(means, data.users.astype(np.float64), counts)
        popularity = np.bincount(items, minlength=len(data.items)).astype(np.float64)
        vectors = data.items.astype(np.float64)
        self.items = vectors.T @ (popularity[:, None] * vectors) / popularity.sum()

    def map(self, candidate: _Candidate) -> FoldIn:
        """Return the candidate as a map fitted on these users."""
        width = len(self.items)
        matrix: _Float = np.eye(width)
        intercept: _Float = np.zeros(width)
        if candidate.kind == "ridge":
            matrix, intercept = self.regression.solve(candidate.regularisation, candidate.intercept)
        elif candidate.kind == "whitening":
            moment = _regularised(self.items, candidate.regularisation)
            matrix = np.linalg.inv(moment).astype(np.float64)
            mapped = float(np.trace(matrix.T @ self.regression.xx @ matrix))
            wanted = self.regression.length_y
            matrix = matrix * float(np.sqrt(wanted / max(mapped, np.finfo(np.float64).tiny)))
        return FoldIn(
            candidate.kind,
            matrix.astype(np.float32),
            intercept.astype(np.float32),
            candidate.bias_scale,
            candidate.shrinkage,
        )


class _Regression:
    """Weighted ridge regression from rows of x to rows of y, from sums taken once."""

    def __init__(self, x: _Float, y: _Float, weights: _Float) -> None:
        share = weights / weights.sum()
        weighted = share[:, None] * x
        self.xx, self.xy = weighted.T @ x, weighted.T @ y
        self.x, self.y = share @ x, share @ y
        self.length_y = float(share @ np.square(y).sum(axis=1))

    def solve(self, value: float, with_intercept: bool) -> tuple[_Float, _Float]:
        """Return matrix and intercept for `x @ matrix + intercept`, regularised by `value`."""
        x, y = self.x * with_intercept, self.y * with_intercept
        matrix = np.linalg.solve(
            _regularised(self.xx - np.outer(x, x), value), self.xy - np.outer(x, y)
        )
        return matrix, y - x @ matrix


def _regularised(moment: _Float, value: float) -> _Float:
    """Add a multiple of the mean eigenvalue to the diagonal: the same strength at any scale."""
    width = len(moment)
    # The floor keeps directions that no vector has from making the matrix singular.
    diagonal = value * float(np.trace(moment)) / width + 1e-12
    regularised: _Float = moment + diagonal * np.eye(width)
    return regularised


def _hold_out(data: _Data, rng: np.random.Generator) -> tuple[_Trial, NDArray[np.int64]]:
    """Choose users, split their histories in half and take their own traces out of the items."""
    n = len(data.users)
    shared = data.item_counts[data.pair_items] >= 2
    lengths = np.bincount(data.pair_users[shared], minlength=n)
    eligible = np.flatnonzero(lengths >= 2)
    size = min(MAX_HELD_OUT, max(_FEWEST_OF_MANY, _SCORES // len(data.items)), len(eligible) // 2)
    held_out = rng.permutation(eligible)[:size]
    place = np.full(n, -1, np.int64)
    place[held_out] = np.arange(size)
    mine = np.flatnonzero(place[data.pair_users] >= 0)
    hidden = mine[~shared[mine]]
    pairs = mine[shared[mine]]
    pairs = pairs[np.lexsort((rng.random(len(pairs)), place[data.pair_users[pairs]]))]
    rows = place[data.pair_users[pairs]]
    ends = np.cumsum(np.bincount(rows, minlength=size))
    starts = np.concatenate([[0], ends[:-1]]) if size else np.zeros(0, np.int64)
    position = np.arange(len(pairs)) - starts[rows]
    is_given = position < (ends - starts + 1)[rows] // 2
    vectors, biases = _without_user(data, pairs)
    given, targets = pairs[is_given], pairs[~is_given]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[is_given], minlength=size))])
    return _Trial(
        indptr.astype(np.int64),
        data.pair_items[given],
        None if data.pair_weights is None else data.pair_weights[given],
        vectors[is_given],
        rows[~is_given],
        data.pair_items[targets],
        vectors[~is_given],
        biases[~is_given],
        place[data.pair_users[hidden]],
        data.pair_items[hidden],
    ), held_out


def _without_user(
    data: _Data, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the items of these pairs would be had that user not been trained on.

    An item's embedding follows the mean embedding of its users: a ridge map A from the one to the
    other says how much. Without user u the mean of n users moves by `(mean - u) / (n - 1)`, and the
    item by that times A. Its bias follows the logarithm of n likewise, with a slope.

    Returns:
        `(len(pairs), d)` and `(len(pairs),)` float32.
    """
    counts = data.item_counts.astype(np.float64)
    means, _ = mean_embeddings(
        data.users, data.pair_items.astype(np.int64), data.pair_users, None, len(data.items)
    )
    weights = np.where(counts >= 2, counts, 0.0)
    if not weights.any():
        return np.zeros((0, data.items.shape[1]), np.float32), np.zeros(0, np.float32)
    matrix, _ = _Regression(means, data.items.astype(np.float64), weights).solve(0.001, True)
    common = counts >= 2
    logs = np.log(counts[common])
    spread = logs - logs.mean()
    slope = float(spread @ data.biases[common]) / max(float(spread @ spread), 1e-12)
    users, items = data.pair_users[pairs], data.pair_items[pairs]
    n = counts[items]
    moved = (means[items] - data.users[users]) @ matrix / (n - 1)[:, None]
    fallen = slope * (np.log(n - 1) - np.log(n))
    return (
        (data.items[items] + moved).astype(np.float32),
        (data.biases[items] + fallen).astype(np.float32),
    )


def _judge(
    data: _Data, trial: _Trial, moments: _Moments, candidates: list[_Candidate], n_users: int
) -> dict[_Candidate, _Float]:
    """Return each candidate's nDCG@10 for each of the first `n_users` held-out users."""
    n_given = int(trial.given_indptr[n_users])
    positions = np.arange(n_given, dtype=np.int32)
    weights = None if trial.given_weights is None else trial.given_weights[:n_given]
    columns = np.ascontiguousarray(data.items.T)
    results: dict[_Candidate, _Float] = {}
    # Candidates that differ only in the scale of the biases share a matrix product.
    groups: dict[_Candidate, list[_Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(replace(candidate, bias_scale=1.0), []).append(candidate)
    for shared, members in groups.items():
        vectors = fold_in(
            moments.map(shared),
            trial.own_items[:n_given],
            trial.given_indptr[: n_users + 1],
            positions,
            weights,
        )
        parts: dict[_Candidate, list[_Float]] = {member: [] for member in members}
        for start in range(0, n_users, _BLOCK):
            stop = min(start + _BLOCK, n_users)
            products = vectors[start:stop] @ columns
            for member in members:
                scores = products + np.float32(member.bias_scale) * data.biases
                parts[member].append(_ndcg(data, trial, vectors, member, scores, start, stop))
        for member in members:
            results[member] = np.concatenate(parts[member])
    return {candidate: results[candidate] for candidate in candidates}


def _ndcg(
    data: _Data,
    trial: _Trial,
    vectors: NDArray[np.float32],
    candidate: _Candidate,
    scores: NDArray[np.float32],
    start: int,
    stop: int,
) -> _Float:
    """Return nDCG@10 of users start to stop; `scores` is overwritten."""
    given = slice(int(trial.given_indptr[start]), int(trial.given_indptr[stop]))
    lengths = np.diff(trial.given_indptr[start : stop + 1])
    scores[:, data.item_counts == 0] = -np.inf  # never trained, so nothing is known of them
    scores[np.repeat(np.arange(stop - start), lengths), trial.given_items[given]] = -np.inf
    hidden = (trial.hidden_rows >= start) & (trial.hidden_rows < stop)
    scores[trial.hidden_rows[hidden] - start, trial.hidden_items[hidden]] = -np.inf
    low, high = np.searchsorted(trial.target_rows, [start, stop])
    rows, items = trial.target_rows[low:high], trial.target_items[low:high]
    own = np.einsum("ij,ij->i", vectors[rows], trial.target_vectors[low:high])
    own += np.float32(candidate.bias_scale) * trial.target_biases[low:high]
    rows = rows - start
    scores[rows, items] = own
    depth = min(K, scores.shape[1])
    best = np.partition(scores, scores.shape[1] - depth, axis=1)[:, -depth:]
    # Ties count against the target, so that a map that tells nothing apart gains nothing by it.
    rank = (best[rows] >= own[:, None]).sum(axis=1)
    discounts = 1 / np.log2(np.arange(2, K + 2))
    hit = own >= best.min(axis=1)[rows]
    gains = np.where(hit, discounts[np.minimum(rank, K) - 1], 0.0)
    found = np.bincount(rows, weights=gains, minlength=stop - start)
    wanted = np.bincount(rows, minlength=stop - start)
    ndcg: _Float = found / np.cumsum(discounts)[np.minimum(wanted, K) - 1]
    return ndcg
