"""Several models as one: their embeddings side by side, so that the score is a weighted sum.

Models of other seeds, losses or kinds err differently, so the sum of their scores makes better
lists than each alone. With the columns `[u1, r * u2]` of a user and `[v1, v2]` of an item, the dot
product is `u1 . v1 + r * u2 . v2`: one wider item matrix, and everything behind it stays as it is.
A share w says how much the first counts when the scores of both are scaled to the same spread:
`r = (1 - w) / w * s1 / s2`, with s the standard deviation of a model's scores about each user's
mean.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.learn.embeddings import Embeddings

F32 = NDArray[np.float32]

_SAMPLE = 500  # users whose scores tell the spread


def spread(
    users: F32, items: F32, biases: F32 | None = None, *, likes: sp.csr_matrix, seed: int
) -> float:
    """Return the standard deviation of scores about each user's mean.

    Args:
        users: `(n_users, d)`; of a sample of those that like anything.
        items: `(n_items, d)`.
        biases: `(n_items,)` of the items.
        likes: `(n_users, n_items)` CSR, the positive pairs that were trained with.
        seed: of the sample.

    Returns:
        Above 0; the smallest float32 where all scores of a user are equal.
    """
    rows = np.flatnonzero(np.diff(likes.indptr))  # others have random vectors, or none
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_SAMPLE])
    variances = []
    for row in rows:
        scores = items @ users[row]
        variances.append((scores if biases is None else scores + biases).var(dtype=np.float64))
    least = float(np.finfo(np.float32).tiny)
    return max(float(np.sqrt(np.mean(variances))) if variances else 0.0, least)


def factor(share: float, first: float, second: float) -> float:
    """Return r: what the second model's users are multiplied by; see this module.

    Args:
        share: w, above 0: how much the first model counts.
        first: the spread of the first model's scores.
        second: that of the second model's.
    """
    return (1 - share) / share * first / second


def join(models: Sequence[Embeddings], likes: sp.csr_matrix, *, seed: int) -> Embeddings:
    """Put models of the same users and items side by side; all count the same.

    Args:
        models: at least one; the scale of the scores is that of the first.
        likes: `(n_users, n_items)` CSR, the positive pairs that they were trained with.
        seed: of the sample of users that tells the spread of scores.
    """
    if len(models) == 1:
        return models[0]
    spreads = [
        spread(one.user_embeddings, one.item_embeddings, one.item_biases, likes=likes, seed=seed)
        for one in models
    ]
    factors = [np.float32(factor(0.5, spreads[0], one)) for one in spreads]
    together = list(zip(models, factors, strict=True))
    return Embeddings(
        user_embeddings=np.hstack([one.user_embeddings * scale for one, scale in together]),
        user_biases=np.sum([one.user_biases * scale for one, scale in together], axis=0),
        item_embeddings=np.hstack([one.item_embeddings for one in models]),
        item_biases=np.sum([one.item_biases * scale for one, scale in together], axis=0),
    )
