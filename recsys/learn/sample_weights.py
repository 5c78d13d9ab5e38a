"""How much each pair counts in training. NumPy alone; it runs on the driver."""

import numpy as np
from numpy.typing import NDArray

from recsys.config.sections import SampleWeights
from recsys.errors import TrainingError

_Float = NDArray[np.float64]


def sample_weights(
    policy: SampleWeights,
    users: NDArray[np.int32],
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
) -> NDArray[np.float32] | None:
    """Return each pair's weight, or None where all would be equal.

    The product of what the policy names, scaled to a mean of one: LightFM multiplies a weight with
    the learning rate, which keeps its meaning that way.

    - `rating`: `linear` r, `log` log(1 + r) (Hu, Koren & Volinsky 2008, "Collaborative Filtering
      for Implicit Feedback Datasets", section 6, tempers counts so), `capped` min(r, cap).
    - `half_life_days` h: 2 ** (-age / h).
    - `user_exponent` e: n ** -e with n the user's pairs. With 1 every user counts the same, with 0
      every pair; between them, those with long histories do not drown the others.

    Args:
        policy: what to multiply.
        users: `(n,)` the user of each pair.
        ratings: `(n,)`, needed by `rating`.
        ages: `(n,)` days before the newest pair, needed by `half_life_days`.

    Returns:
        `(n,)` float32.

    Raises:
        TrainingError: what the policy needs is not there, or a weight is negative or not finite.
    """
    if policy.without_effect:
        return None
    weights: _Float = np.ones(len(users))
    if policy.rating != "none":
        if ratings is None:
            raise TrainingError("training.sample_weights.rating: there are no ratings")
        weights = weights * _from_ratings(policy, ratings.astype(np.float64))
    if policy.half_life_days is not None:
        if ages is None:
            raise TrainingError("training.sample_weights.half_life_days: there are no timestamps")
        weights = weights * np.exp2(-ages.astype(np.float64) / policy.half_life_days)
    counts = np.bincount(users)
    weights = weights * counts[users].astype(np.float64) ** -policy.user_exponent
    mean = float(weights.mean()) if len(weights) else 1.0
    if not 0 < mean < np.inf:
        raise TrainingError(
            f"training.sample_weights: the mean of the weights is {mean:g}, expected a positive "
            "number; set rating to none or half_life_days to null"
        )
    return (weights / mean).astype(np.float32)


def _from_ratings(policy: SampleWeights, ratings: _Float) -> _Float:
    lowest = float(ratings.min()) if len(ratings) else 0.0
    if not lowest >= 0:
        raise TrainingError(
            f"training.sample_weights: found a rating of {lowest:g}, expected none below 0: a "
            "negative weight turns the gradient round; set filters.rating_threshold or "
            "row_checks.rating_min to 0 or more, or sample_weights.rating to none"
        )
    if policy.rating == "linear":
        return ratings
    if policy.rating == "log":
        return np.asarray(np.log1p(ratings))
    return np.minimum(ratings, policy.cap or np.inf)
