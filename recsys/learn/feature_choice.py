"""Which features LightFM learns with, and how those without interactions are represented.

Features make a model worse as often as better: what a genre has to say is soon learned, and then
stands in the way of what its items have not in common. So with `keep: measured` they have to earn
their place (`feature_trial`). All groups are tried together. If they do harm, each is tried alone,
and those that do well alone together. Groups do well if

- nDCG of the users of the training falls by no more than `margin`, a share of that without
  features; and
- it rises somewhere: for these users, for those of them with short histories, for items, or for
  users, without interactions. It rises where the 95 % interval of the paired difference is above 0.

What is not learned inside still describes: users and items without interactions get embeddings by
a map (`feature_map`), which changes nobody else's.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Features, Training
from recsys.kernel.bootstrap import difference
from recsys.learn import cold
from recsys.learn.cold import MAPPED, TRAINED, LearnedFeatures, Way
from recsys.learn.early_stopping import refit_epochs
from recsys.learn.feature_trial import Judged, Trial
from recsys.learn.features import Abouts
from recsys.learn.fitting import Fitted, fit, log_search, refit
from recsys.learn.sample_weights import Labelled

log = logging.getLogger(__name__)

Groups = Mapping[str, list[str]]
F64 = NDArray[np.float64]

NO_GROUPS: Groups = {"users": [], "items": []}
FEWEST = 30  # users; fewer would choose by chance
_RESAMPLES = 1000


@dataclass(frozen=True)
class DescribedFit:
    """A model, and the features of its users and items.

    Attributes:
        fitted: the model.
        users, items: None where there are no features; of users also where popular items were
            better for users without interactions.
        groups: those that LightFM has learned with, of `users` and of `items`.
        trial: what was compared, in plain JSON values; None where nothing was.
    """

    fitted: Fitted
    users: LearnedFeatures | None
    items: LearnedFeatures | None
    groups: Groups
    trial: dict[str, Any] | None


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
    pairs = Labelled(labels, ratings, ages)
    everything = abouts.groups()
    ways: dict[str, Way] = {"users": MAPPED, "items": MAPPED}
    chosen = _Choice(NO_GROUPS, ways, None, None)
    if features.keep == "all":
        trained: dict[str, Way] = {"users": TRAINED, "items": TRAINED}
        chosen = _Choice(everything, trained, None, None)
    elif features.keep == "measured" and any(everything.values()):
        chosen = _choose(pairs, settings, features.margin, abouts, threads)
    sides = abouts.sides(chosen.groups)
    best, stopping = chosen.judged, settings.early_stopping
    if best is None or (stopping is not None and not stopping.refit):
        fitted = fit(labels, settings, threads=threads, ratings=ratings, ages=ages, features=sides)
    elif stopping is None:
        fitted = refit(pairs, settings, settings.epochs, threads, sides, {})
    else:
        report = best.search.report()
        log_search(report, pairs, settings)
        epochs = refit_epochs(best.search.epoch, 1 - (1 - chosen.share) * (1 - stopping.share))
        report = {**report, "refit_epochs": epochs}
        fitted = refit(pairs, settings, epochs, threads, sides, report)
    return DescribedFit(
        fitted,
        _learned("users", chosen, pairs, fitted, abouts, settings.seed),
        _learned("items", chosen, pairs, fitted, abouts, settings.seed),
        chosen.groups,
        chosen.trial,
    )


@dataclass(frozen=True)
class _Choice:
    """What to train.

    Attributes:
        groups: to learn with.
        ways: how those without interactions are represented; a kind that is missing is not.
        judged: the training that was the best; None where nothing was compared.
        trial: what was compared, in plain JSON values.
        share: the share of the pairs that was held out with users and items.
    """

    groups: Groups
    ways: Mapping[str, Way]
    judged: Judged | None
    trial: dict[str, Any] | None
    share: float = 0.0


def _learned(
    kind: str, chosen: _Choice, pairs: Labelled, fitted: Fitted, abouts: Abouts, seed: int
) -> LearnedFeatures | None:
    is_user = kind == "users"
    about = abouts.users if is_user else abouts.items
    way = chosen.ways.get(kind)
    if about is None or way is None:
        return None
    made, learned = fitted.embeddings, fitted.learned
    if way == TRAINED:
        side = about.side(chosen.groups[kind])
        assert side is not None  # noqa: S101 - it was trained
        vectors = (
            (learned.user_embeddings, learned.user_biases)
            if is_user
            else (learned.item_embeddings, learned.item_biases)
        )
        return cold.trained(about, side, *vectors)
    labels = pairs.labels
    ends, n = (labels.row, labels.shape[0]) if is_user else (labels.col, labels.shape[1])
    counts = np.bincount(ends[labels.data > 0], minlength=n)
    if is_user:
        return cold.mapped(about, made.user_embeddings, made.user_biases, counts, seed)
    return cold.mapped(about, made.item_embeddings, made.item_biases, counts, seed)


def _choose(
    pairs: Labelled, settings: Training, margin: float, abouts: Abouts, threads: int
) -> _Choice:
    """Compare trainings with and without groups of features."""
    stopping = settings.early_stopping or EarlyStopping(patience=settings.epochs)
    trial = Trial(pairs, abouts, settings, stopping, threads)
    nothing = trial.run(NO_GROUPS)
    if len(nothing.warm) < FEWEST:
        reason = (
            f"{len(nothing.warm)} users have pairs that can be held out, and {FEWEST} are the "
            "fewest to compare by"
        )
        log.warning("features are not learned inside: %s; set features.keep", reason)
        ways: dict[str, Way] = {"users": MAPPED, "items": MAPPED}
        return _Choice(NO_GROUPS, ways, None, {"reason": reason, "margin": margin, "trials": []})
    jury = _Jury(trial, nothing, margin, settings.seed)
    best = jury.best(abouts.groups())
    chosen = _Choice(
        best.groups, _ways(best, jury), best, jury.report(best, trial), trial.parts.share
    )
    log.info("features: %s", chosen.trial and chosen.trial["reason"])
    return chosen


def _ways(best: Judged, jury: "_Jury") -> dict[str, Way]:
    """Say how those without interactions are represented: by a map, unless another way is ahead."""
    ways: dict[str, Way] = {}
    for kind, found in (("users", best.cold_users), ("items", best.cold_items)):
        ways[kind] = MAPPED
        if TRAINED in found and jury.difference(found[TRAINED], found[MAPPED])["low"] > 0:
            ways[kind] = TRAINED
    users = best.cold_users.get(ways["users"])
    if users is not None and len(users) and users.mean() < best.popularity.mean():
        log.warning(
            "features of users are not used for users without interactions: nDCG %.4f on held-out "
            "users, and %.4f with popular items",
            users.mean(),
            best.popularity.mean(),
        )
        del ways["users"]
    return ways


class _Jury:
    """Compares trainings with the one without features."""

    def __init__(self, trial: Trial, nothing: Judged, margin: float, seed: int) -> None:
        self._trial, self._nothing, self._margin, self._seed = trial, nothing, margin, seed
        self._tried = [nothing]

    def best(self, everything: Groups) -> Judged:
        """Return the best training, after all that have to be tried."""
        together = self._run(everything)
        if self.does_well(together):
            return together
        each = [(kind, group) for kind, groups in everything.items() for group in groups]
        if len(each) < 2:
            return self._nothing
        alone = {one: self._run({**NO_GROUPS, one[0]: [one[1]]}) for one in each}
        good = [one for one in each if self.does_well(alone[one])]
        if not good:
            return self._nothing
        if len(good) > 1:
            chosen = {kind: [g for k, g in good if k == kind] for kind in NO_GROUPS}
            together = self._run(chosen)
            if self.does_well(together):
                return together
        return max((alone[one] for one in good), key=lambda judged: float(judged.warm.mean()))

    def _run(self, groups: Groups) -> Judged:
        judged = self._trial.run(groups)
        self._tried.append(judged)
        found = self.difference(judged.warm, self._nothing.warm)
        log.info(
            "features: validation nDCG %.4f with %s inside, %.4f without (%+.4f [%+.4f, %+.4f])",
            found["ndcg"],
            _named(groups),
            found["other"],
            found["difference"],
            found["low"],
            found["high"],
        )
        return judged

    def does_well(self, judged: Judged) -> bool:
        """Whether groups harm nobody beyond the margin, and help somebody."""
        compared = self.compared(judged)
        harmless = compared["warm"]["difference"] >= -self._margin * compared["warm"]["other"]
        helps = any(found is not None and found["low"] > 0 for found in compared.values())
        return bool(harmless and helps)

    def compared(self, judged: Judged) -> dict[str, Any]:
        """Return the differences to the training without features, in plain JSON values."""
        nothing, short = self._nothing, self._nothing.short

        def cold(kind: str) -> dict[str, Any] | None:
            mine, theirs = judged.best_way(kind), nothing.best_way(kind)
            return None if mine is None or theirs is None else self.difference(mine, theirs)

        return {
            "warm": self.difference(judged.warm, nothing.warm),
            "short": self.difference(judged.warm[short], nothing.warm[short]),
            "cold_items": cold("items"),
            "cold_users": cold("users"),
        }

    def difference(self, mine: F64, other: F64) -> dict[str, Any]:
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
        }

    def report(self, best: Judged, trial: Trial) -> dict[str, Any]:
        """Say what was compared and chosen, in plain JSON values."""
        everything = [group for groups in self._tried[1].groups.values() for group in groups]
        inside = [group for groups in best.groups.values() for group in groups]
        left_out = [group for group in everything if group not in inside]
        reason = f"LightFM learns with {_named(best.groups)}"
        if left_out:
            reason += (
                f"; {', '.join(left_out)} left out, since lists of known users are worse by more "
                f"than {self._margin:.0%} with them, or nothing is clearly better"
            )
        return {
            "reason": reason,
            "margin": self._margin,
            "held_out_users": len(trial.parts.cold_users),
            "held_out_items": len(trial.parts.cold_items),
            "trials": [self._record(judged) for judged in self._tried],
        }

    def _record(self, judged: Judged) -> dict[str, Any]:
        def means(found: Mapping[Way, F64]) -> dict[str, float]:
            return {way: float(values.mean()) for way, values in found.items() if len(values)}

        users = means(judged.cold_users)
        if users:
            users["popularity"] = float(judged.popularity.mean())
        return {
            "groups": dict(judged.groups),
            "kept_epoch": judged.search.epoch,
            "ndcg": float(judged.warm.mean()),
            "ndcg_of_cold_items": means(judged.cold_items),
            "ndcg_of_cold_users": users,
            "compared": None if judged is self._nothing else self.compared(judged),
        }


def _named(groups: Groups) -> str:
    names = [group for found in groups.values() for group in found]
    return ", ".join(names) or "no features"
