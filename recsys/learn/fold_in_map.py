"""Choose and fit the map that `recsys.kernel.fold_in` applies. NumPy alone; it runs on the driver.

The map makes a vector for a new user from the items that the user likes. Which map is best differs
from data to data, so it is chosen on users of the training set: half of a user's history is given,
the other half is to be found, and nDCG@10 decides. `fold_in_candidates` has the maps,
`fold_in_trial` judges them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.fold_in import FoldIn, plain_mean
from recsys.learn.fold_in_candidates import (
    PLAIN,
    Candidate,
    Float,
    Moments,
    Trained,
    every_map,
    every_shrinkage,
)
from recsys.learn.fold_in_trial import hold_out, judge

MIN_HELD_OUT = 30
_FINALISTS = 4
# By how many standard errors a candidate must be ahead of the plain mean. With 1, most gains that
# hold for new users would be turned down; with 0, a few dozen users would choose by chance.
_CLEAR = 0.5


def fit(
    user_embeddings: NDArray[np.float32],
    item_embeddings: NDArray[np.float32],
    item_biases: NDArray[np.float32],
    indptr: NDArray[np.int64],
    items: NDArray[np.int32],
    seed: int = 42,
) -> tuple[FoldIn, dict[str, Any]]:
    """Choose a map on held-out users of the training set, then fit it on all users.

    The plain mean with the full item biases is kept unless another candidate is ahead of it by more
    than half a standard error of the paired difference.

    Args:
        user_embeddings: `(n_users, d)` float32, as trained.
        item_embeddings: `(n_items, d)` float32.
        item_biases: `(n_items,)` float32.
        indptr: `(n_users + 1,)`; user u was trained with `items[indptr[u]:indptr[u + 1]]`, positive
            interactions only, each item once.
        items: `(total,)` rows of `item_embeddings`.
        seed: decides who is held out, and which half of a history is given.

    Returns:
        The map, and a report in plain JSON values: `held_out_users`, `chosen` with its `ndcg`, the
        `best` candidate, how far it is ahead of `plain_ndcg` (`difference`, paired, with its
        `standard_error`), `reason`, and `candidates`: what was tried in each round. The figures are
        too optimistic to be more than a comparison of maps: the best of many was chosen, and users'
        traces in their items are estimated.

    Raises:
        TrainingError: an embedding or a bias is not finite, or shapes do not fit.
        KernelError: the histories do not fit, as `recsys.kernel.fold_in.fold_in`.
    """
    trained = Trained.checked(user_embeddings, item_embeddings, item_biases, indptr, items)
    trial = hold_out(trained, np.random.default_rng(seed))
    n = len(trial.users)
    if n < MIN_HELD_OUT:
        return plain_mean(item_embeddings.shape[1]), {
            "held_out_users": 0,
            "chosen": PLAIN.as_record(),
            "reason": f"fewer than {MIN_HELD_OUT} users have histories to choose a map on",
            "candidates": [],
        }
    others = np.ones(len(user_embeddings), bool)
    others[trial.users] = False
    moments = Moments(trained, others)
    # The first round compares maps and scales of the biases on half of the users. The second
    # compares shrinkages of the best of them on all users.
    first = judge(trained, trial, moments, every_map(), max(MIN_HELD_OUT, n // 2))
    best = sorted(first, key=lambda candidate: -float(first[candidate].mean()))[:_FINALISTS]
    second = judge(trained, trial, moments, every_shrinkage(best), n)
    chosen, report = _choose(second)
    report["candidates"] = [
        {**candidate.as_record(), "round": number, "ndcg": float(values.mean())}
        for number, tried in ((1, first), (2, second))
        for candidate, values in tried.items()
    ]
    everyone = Moments(trained, np.ones(len(user_embeddings), bool))
    return everyone.map(chosen), {"held_out_users": n, **report}


def _choose(judged: dict[Candidate, Float]) -> tuple[Candidate, dict[str, Any]]:
    """Return the best candidate, or the plain mean if none is clearly ahead of it, and a report."""
    best = max(judged, key=lambda candidate: float(judged[candidate].mean()))
    ahead = judged[best] - judged[PLAIN]
    error = float(ahead.std(ddof=1) / np.sqrt(len(ahead)))
    clear = float(ahead.mean()) > _CLEAR * error
    chosen = best if clear else PLAIN
    return chosen, {
        "chosen": chosen.as_record(),
        "ndcg": float(judged[chosen].mean()),
        "plain_ndcg": float(judged[PLAIN].mean()),
        "best": best.as_record(),
        "difference": float(ahead.mean()),
        "standard_error": error,
        "reason": "the best on held-out users"
        if clear
        else "no candidate is clearly ahead of the plain mean on held-out users",
    }
