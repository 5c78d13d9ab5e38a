"""How much each pair counts in training, and which pairs count at all. NumPy alone; on the driver.

**The rating of a negative.** A higher rating makes a stronger positive. For a negative it would be
the other way round: 0.5 of 5 stars is a stronger dislike than 3. So a negative's weight must not
come from the formula for positives. A formula that falls with the rating would need the upper end
of the scale, and counts and sums have none. So a negative gets the mean of the positives' rating
weights. All negatives count the same then, as LightFM's users expect, where a threshold decides
what is negative; and positives and negatives are in the same balance as without rating weights. Age
and the length of the user's history apply to both.

**A weight of 0.** Such a pair trains nothing. A user or an item without any other pair would keep
the random vector that training began with, and lists made with it would look like any other. So
pairs without weight are left out before training (`Labelled.with_weight`). A rating of 0 is no
reason here: `ingest.pairing` has given such a pair no label.
"""

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import SampleWeights
from recsys.errors import InputError, TrainingError

log = logging.getLogger(__name__)

_Float = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """Labelled pairs, with what their weights are made from.

    Attributes:
        labels: `(n_users, n_items)` COO; positives are above 0, negatives below.
        ratings: `(n_pairs,)` in the same order, needed by `rating`.
        ages: `(n_pairs,)` days, needed by `half_life_days`.
    """

    labels: sp.coo_matrix
    ratings: NDArray[np.float32] | None
    ages: NDArray[np.float32] | None

    def only(self, chosen: NDArray[np.bool_]) -> "Labelled":
        """Return some of the pairs, in the same order and for the same users and items."""
        cells = self.labels.row[chosen], self.labels.col[chosen]
        return Labelled(
            sp.coo_matrix((self.labels.data[chosen], cells), shape=self.labels.shape),
            None if self.ratings is None else self.ratings[chosen],
            None if self.ages is None else self.ages[chosen],
        )

    def of_some_users(self, most: int | None, seed: int) -> "Labelled":
        """Return pairs of whole users, drawn by the seed, no more than `most` of them."""
        if most is None or len(self.labels.data) <= most:
            return self
        lengths = np.bincount(self.labels.row, minlength=self.labels.shape[0])
        drawn = np.random.default_rng(seed).permutation(len(lengths))
        chosen = np.zeros(len(lengths), np.bool_)
        drawn = drawn[lengths[drawn] <= most]
        chosen[drawn[np.cumsum(lengths[drawn]) <= most]] = True
        log.info(
            "the best epoch is searched for on %s of %s users: training.early_stopping.max_pairs",
            f"{int(chosen.sum()):,}",
            f"{len(chosen):,}",
        )
        return self.only(chosen[self.labels.row])

    def weights(self, policy: SampleWeights) -> NDArray[np.float32] | None:
        """Return what `sample_weights` gives these pairs."""
        return sample_weights(policy, self.labels, self.ratings, self.ages)

    def with_weight(self, policy: SampleWeights) -> NDArray[np.bool_]:
        """Return which pairs have a weight above 0, once all others are left out.

        The others change the mean, so that without them a very small weight can become 0 as well.

        Raises:
            InputError: no pair has a weight.
            TrainingError: as `sample_weights`.
        """
        kept = np.ones(len(self.labels.data), np.bool_)
        part = self
        while (weights := part.weights(policy)) is not None and not weights.all():
            kept[kept] = weights > 0
            part = self.only(kept)
        return kept


def sample_weights(
    policy: SampleWeights,
    labels: sp.coo_matrix,
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
) -> NDArray[np.float32] | None:
    """Return each pair's weight, or None if all pairs count the same.

    The weight is the product of the parts that the policy names, scaled to a mean of one. LightFM
    multiplies the learning rate by the weight, so a mean of one keeps the learning rate's meaning.

    - `rating`, for positives: `linear` r, `log` log(1 + r) (Hu, Koren & Volinsky 2008,
      "Collaborative Filtering for Implicit Feedback Datasets", section 6, temper counts this way),
      `capped` min(r, cap). For negatives: the mean of this over the positives.
    - `half_life_days` h, for all pairs: 2 ** (-age / h). Ages count from the youngest pair, which
      changes nothing once the weights are scaled. So data that is old as a whole has weights, too.
    - `user_exponent` e, for all pairs: n ** -e, where n is the number of the user's pairs. With 1
      every user counts the same, with 0 every pair. Between the two, users with long histories
      count more than others, but less than in proportion.

    Args:
        policy: which parts to multiply.
        labels: `(n_users, n_items)` COO; positives are above 0, negatives below.
        ratings: `(n_pairs,)`, needed by `rating`.
        ages: `(n_pairs,)` days, from whatever day on, needed by `half_life_days`.

    Returns:
        `(n_pairs,)` float32.

    Raises:
        TrainingError: the ratings or ages that the policy needs are missing, a positive's rating is
            below 0, or the mean of the weights is not finite.
        InputError: all weights are 0.
    """
    if policy.without_effect:
        return None
    weights = unscaled(policy, labels, ratings, ages)
    mean = float(weights.mean()) if len(weights) else 1.0
    if mean == 0:
        raise InputError(
            f"training.sample_weights: none of the {len(weights):,} pairs to learn from has a "
            "weight above 0, expected at least one; set rating to none, or half_life_days to null"
        )
    if not 0 < mean < np.inf:
        raise TrainingError(
            f"training.sample_weights: the mean of the weights is {mean:g}, expected a finite "
            "number; set rating to none, or lower row_checks.rating_max"
        )
    return (weights / mean).astype(np.float32)


def unscaled(
    policy: SampleWeights,
    labels: sp.coo_matrix,
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Return the product of the parts of each pair's weight, `(n_pairs,)`; see `sample_weights`.

    Raises:
        TrainingError: the ratings or ages that the policy needs are missing, or a positive's rating
            is below 0.
    """
    users = labels.row
    weights: _Float = np.ones(len(users))
    if policy.rating != "none":
        if ratings is None:
            raise TrainingError(
                f"training.sample_weights.rating: '{policy.rating}' needs ratings, found none; set "
                "it to none"
            )
        weights = weights * _from_ratings(policy, ratings.astype(np.float64), labels.data > 0)
    if policy.half_life_days is not None:
        if ages is None:
            raise TrainingError(
                "training.sample_weights.half_life_days needs timestamps, found none; set it to "
                "null"
            )
        days = ages.astype(np.float64)
        weights = weights * np.exp2((days.min(initial=np.inf) - days) / policy.half_life_days)
    counts = np.bincount(users)
    weights = weights * counts[users].astype(np.float64) ** -policy.user_exponent
    return weights


def _from_ratings(policy: SampleWeights, ratings: _Float, positive: NDArray[np.bool_]) -> _Float:
    """Return the part of each weight that comes from the rating, `(n_pairs,)`."""
    liked = ratings[positive]
    check_lowest(float(liked.min()) if len(liked) else 0.0)
    if policy.rating == "log":
        liked = np.log1p(liked)
    elif policy.rating == "capped":
        liked = np.minimum(liked, policy.cap or np.inf)
    weights = np.full(len(ratings), liked.mean() if len(liked) else 1.0)
    weights[positive] = liked
    return weights


def check_lowest(rating: float) -> None:
    """Refuse what cannot be a weight.

    Args:
        rating: the lowest of all positive pairs.

    Raises:
        TrainingError: it is below 0, or no number.
    """
    if not rating >= 0:
        raise TrainingError(
            f"training.sample_weights: found a positive pair with a rating of {rating:g}, expected "
            "none below 0, since a negative weight would reverse the gradient; set "
            "filters.rating_threshold or row_checks.rating_min to 0 or more, or "
            "sample_weights.rating to none"
        )
