"""Which features LightFM learns with, and how those without interactions are represented.

Features make a model worse as often as better: what a genre has to say is soon learned, and then
stands in the way of what its items have not in common. So with `keep: measured` they have to earn
their place (`feature_trial`). All groups are tried together. If they do not do well, each is tried
alone, and those that do well alone together. Groups do well if

- nDCG of the users of the training falls by no more than `margin`, a share of that without
  features; and
- it clearly rises somewhere: for these users, for those of them with short histories, for items,
  or for users, without interactions.

It clearly rises if the paired difference is above 0 by a one-sided test at 2.5 %, divided by the
number of all comparisons that there may be (Bonferroni), so that groups that say nothing are not
kept by chance. A part with few users decides nothing.

The model is then trained as any other, so that without a group inside it is the model without
features. What is not learned inside still describes: users and items without interactions get
embeddings by a map (`feature_map`), which changes nobody else's.
"""

import logging
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Features, Training
from recsys.errors import TrainingError
from recsys.kernel.bootstrap import difference
from recsys.learn.cold import MAPPED, TRAINED, Way
from recsys.learn.described_fit import (
    ALL_MAPPED,
    ALL_TRAINED,
    KINDS,
    NO_GROUPS,
    Choice,
    DescribedFit,
    Groups,
    described,
)
from recsys.learn.feature_trial import Judged, Trial
from recsys.learn.features import Abouts
from recsys.learn.fitting import fit
from recsys.learn.sample_weights import Labelled

log = logging.getLogger(__name__)

F64 = NDArray[np.float64]

FEWEST = 30  # users; fewer would decide by chance
_PARTS = 4
_RESAMPLES = 1000


def fit_described(
    labels: sp.coo_matrix,
    settings: Training,
    features: Features,
    abouts: Abouts,
    *,
    threads: int,
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
) -> DescribedFit:
    """Fit a model with the features that `features.keep` says.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item.
        settings: hyperparameters.
        features: which are learned with, and the margin.
        abouts: what is known of the users and items.
        threads: CPU threads for the epochs.
        ratings: `(n_pairs,)` for `sample_weights.rating`.
        ages: `(n_pairs,)` days, for `sample_weights.half_life_days`.

    Raises:
        TrainingError: as `fitting.fit`.
    """
    everything = abouts.groups()
    chosen = Choice(NO_GROUPS, ALL_MAPPED)
    if features.keep == "all":
        chosen = Choice(everything, ALL_TRAINED)
    elif features.keep == "measured" and any(everything.values()):
        pairs = Labelled(labels, ratings, ages)
        chosen = _choose(pairs, settings, features.margin, abouts, threads)
    sides = abouts.sides(chosen.groups)
    fitted = fit(labels, settings, threads=threads, ratings=ratings, ages=ages, features=sides)
    return described(chosen, sides, labels, fitted, abouts, settings.seed)


def _choose(
    pairs: Labelled, settings: Training, margin: float, abouts: Abouts, threads: int
) -> Choice:
    """Compare trainings with and without groups of features."""
    stopping = settings.early_stopping or EarlyStopping(patience=settings.epochs)
    trial = Trial(pairs, abouts, settings, stopping, threads)
    try:
        nothing = trial.run(NO_GROUPS)
    except TrainingError as error:
        return _unmeasured(str(error), margin)
    if len(nothing.warm) < FEWEST:
        return _unmeasured(
            f"{len(nothing.warm)} users have pairs that can be held out, and {FEWEST} are the "
            "fewest to compare by",
            margin,
        )
    jury = _Jury(trial, nothing, margin, abouts.groups(), settings.seed)
    best = jury.best()
    chosen = Choice(best.groups, jury.ways(best), jury.report(best))
    log.info("features: %s", jury.reason(best))
    return chosen


def _unmeasured(reason: str, margin: float) -> Choice:
    log.warning("features cannot be measured, so LightFM learns without them: %s", reason)
    return Choice(NO_GROUPS, ALL_MAPPED, {"reason": reason, "margin": margin, "trials": []})


class _Jury:
    """Compares trainings with the one without features."""

    def __init__(
        self, trial: Trial, nothing: Judged, margin: float, everything: Groups, seed: int
    ) -> None:
        self._trial, self._nothing, self._margin, self._seed = trial, nothing, margin, seed
        self._everything = everything
        self._records = [_record(nothing)]
        n_groups = sum(map(len, everything.values()))
        comparisons = _PARTS * (n_groups + 2)
        self._errors = NormalDist().inv_cdf(1 - 0.025 / comparisons)

    def best(self) -> Judged:
        """Return the best training, after all that have to be tried."""
        together = self._well(self._everything)
        each = [(kind, group) for kind, groups in self._everything.items() for group in groups]
        if together is not None or len(each) < 2:
            return together or self._nothing
        alone = {one: self._well({**NO_GROUPS, one[0]: [one[1]]}) for one in each}
        good = {one: judged for one, judged in alone.items() if judged is not None}
        if len(good) > 1:
            together = self._well({kind: [g for k, g in good if k == kind] for kind in KINDS})
            if together is not None:
                return together
        return max(
            good.values(), key=lambda judged: float(judged.warm.mean()), default=self._nothing
        )

    def _well(self, groups: Groups) -> Judged | None:
        """Train with groups; return the training if they do well, else None."""
        try:
            judged = self._trial.run(groups)
        except TrainingError as error:
            log.warning("features: with %s inside the training failed: %s", _named(groups), error)
            self._records.append({"groups": dict(groups), "failed": str(error)})
            return None
        compared = self._compared(judged)
        self._records.append({**_record(judged), "compared": compared})
        warm = compared["warm"]
        log.info(
            "features: validation nDCG %.4f with %s inside, %.4f without (%+.4f [%+.4f, %+.4f])",
            warm["ndcg"],
            _named(groups),
            warm["other"],
            warm["difference"],
            warm["low"],
            warm["high"],
        )
        harmless = warm["difference"] >= -self._margin * warm["other"]
        helps = any(found is not None and found["clear"] for found in compared.values())
        return judged if harmless and helps else None

    def ways(self, judged: Judged) -> dict[str, Way]:
        """Say how those without interactions are represented."""
        ways: dict[str, Way] = {kind: self._way(judged, kind) for kind in KINDS}
        users = judged.cold_users.get(ways["users"])
        if users is None or len(users) < FEWEST or users.mean() >= judged.popularity.mean():
            return ways
        log.warning(
            "features of users are not used for users without interactions: nDCG %.4f on held-out "
            "users, and %.4f with popular items",
            users.mean(),
            judged.popularity.mean(),
        )
        del ways["users"]
        return ways

    def _way(self, judged: Judged, kind: str) -> Way:
        """Choose the map, unless all groups are inside and their embeddings are clearly better."""
        found = judged.cold(kind)
        if TRAINED not in found or judged.groups[kind] != self._everything[kind]:
            return MAPPED
        return TRAINED if self._is_clear(found[TRAINED], found[MAPPED]) else MAPPED

    def _compared(self, judged: Judged) -> dict[str, Any]:
        """Return the differences to the training without features, in plain JSON values."""
        nothing, short = self._nothing, self._nothing.short

        def without_interactions(kind: str) -> dict[str, Any] | None:
            mine = judged.cold(kind).get(self._way(judged, kind))
            other = nothing.cold(kind).get(MAPPED)
            return None if mine is None or other is None else self._difference(mine, other)

        return {
            "warm": self._difference(judged.warm, nothing.warm),
            "short": self._difference(judged.warm[short], nothing.warm[short]),
            "cold_items": without_interactions("items"),
            "cold_users": without_interactions("users"),
        }

    def _is_clear(self, mine: F64, other: F64) -> bool:
        apart = mine - other
        if len(apart) < FEWEST:
            return False
        error = float(apart.std(ddof=1)) / np.sqrt(len(apart))
        return bool(apart.mean() > self._errors * error)

    def _difference(self, mine: F64, other: F64) -> dict[str, Any]:
        """Return a mean difference with its 95 % interval, paired over users."""
        users = np.arange(len(mine))
        how = {"resamples": _RESAMPLES, "seed": self._seed}
        found = difference(users, mine[:, None], other[:, None], **how)
        return {
            "users": len(mine),
            "ndcg": float(mine.mean()),
            "other": float(other.mean()),
            "difference": float(found.value[0]),
            "low": float(found.low[0]),
            "high": float(found.high[0]),
            "clear": self._is_clear(mine, other),
        }

    def reason(self, best: Judged) -> str:
        """Say what was decided."""
        everything = self._everything.items()
        left_out = {k: [g for g in groups if g not in best.groups[k]] for k, groups in everything}
        reason = f"LightFM learns with {_named(best.groups)}"
        if any(left_out.values()):
            reason += (
                f"; {_named(left_out)} left out, since lists of known users are worse by more than "
                f"{self._margin:.3g} of their nDCG, or nothing is clearly better"
            )
        return reason

    def report(self, best: Judged) -> dict[str, Any]:
        """Say what was compared and chosen, in plain JSON values."""
        return {
            "reason": self.reason(best),
            "margin": self._margin,
            "chosen": dict(best.groups),
            "held_out_users": len(self._trial.parts.cold_users),
            "held_out_items": len(self._trial.parts.cold_items),
            "trials": self._records,
        }


def _record(judged: Judged) -> dict[str, Any]:
    """Say how good a training was, in plain JSON values."""

    def means(found: Mapping[Way, F64]) -> dict[str, float]:
        return {way: float(values.mean()) for way, values in found.items() if len(values)}

    users = means(judged.cold_users)
    if users:
        users["popularity"] = float(judged.popularity.mean())
    return {
        "groups": dict(judged.groups),
        "kept_epoch": judged.epoch,
        "ndcg": float(judged.warm.mean()),
        "ndcg_of_cold_items": means(judged.cold_items),
        "ndcg_of_cold_users": users,
    }


def _named(groups: Groups) -> str:
    names = [f"{kind}.{group}" for kind, found in groups.items() for group in found]
    return ", ".join(names) or "no features"
