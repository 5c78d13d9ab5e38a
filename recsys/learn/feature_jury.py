"""Which groups of features LightFM learns with: trainings with them, compared with one without.

All groups are tried together. If they do not do well, each is tried alone, and those that do well
alone together. Groups do well if

- nDCG of the users of the training falls by no more than `margin`, a share of that without
  features; and
- it clearly rises somewhere: for these users, for those of them with short histories, for items,
  or for users, without interactions.

It clearly rises if the paired difference is above 0 by a one-sided test at 2.5 %, divided by the
number of all comparisons that there may be (Bonferroni), so that groups that say nothing are not
kept by chance. A part with few users decides nothing.
"""

import logging
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.kernel.bootstrap import difference
from recsys.learn.cold import MAPPED, TRAINED, Way
from recsys.learn.described_fit import KINDS, NO_GROUPS, Groups
from recsys.learn.feature_trial import Judged, Trial

log = logging.getLogger(__name__)

F64 = NDArray[np.float64]

FEWEST = 30  # users; fewer would decide by chance
_PARTS = 4
_RESAMPLES = 1000


class Jury:
    """Compares trainings with the one without features."""

    def __init__(
        self, trial: Trial, nothing: Judged, margin: float, everything: Groups, seed: int
    ) -> None:
        self._trial, self._nothing, self._margin, self._seed = trial, nothing, margin, seed
        self._everything = everything
        self._records = [nothing.record()]
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
            log.warning("features: with %s inside the training failed: %s", named(groups), error)
            self._records.append({"groups": dict(groups), "failed": str(error)})
            return None
        compared = self._compared(judged)
        self._records.append({**judged.record(), "compared": compared})
        warm = compared["warm"]
        log.info(
            "features: validation nDCG %.4f with %s inside, %.4f without (%+.4f [%+.4f, %+.4f])",
            warm["ndcg"],
            named(groups),
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
        reason = f"LightFM learns with {named(best.groups)}"
        if any(left_out.values()):
            reason += (
                f"; {named(left_out)} left out, since lists of known users are worse by more than "
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


def named(groups: Groups) -> str:
    """Return groups as text."""
    names = [f"{kind}.{group}" for kind, found in groups.items() for group in found]
    return ", ".join(names) or "no features"
