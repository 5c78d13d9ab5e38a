"""Which features LightFM learns with, and how those without interactions are represented.

Features make a model worse as often as better: what a genre has to say is soon learned, and then
stands in the way of what its items have not in common. So with `keep: measured` they have to earn
their place (`feature_trial`, `feature_jury`).

The model is then trained as any other, so that without a group inside it is the model without
features. What is not learned inside still describes: users and items without interactions get
embeddings by a map (`feature_map`), which changes nobody else's.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Features, Training
from recsys.errors import TrainingError
from recsys.learn import assembly, cold
from recsys.learn.assembly import BYTES_ALLOWED, Assembled
from recsys.learn.budget import Budget
from recsys.learn.cold import MAPPED, TRAINED, LearnedFeatures, Way
from recsys.learn.feature_jury import FEWEST, KINDS, NO_GROUPS, Groups, Jury
from recsys.learn.feature_trial import Trial
from recsys.learn.features import Abouts, Sides
from recsys.learn.fitting import Fitted
from recsys.learn.sample_weights import Labelled
from recsys.runtime.signals import interruptible

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DescribedFit:
    """A model, and the features of its users and items.

    Attributes:
        fitted: the training; of several, the first.
        made: the model.
        users, items: None where there are no features, or none that says anything; of users also
            where popular items were better for users without interactions.
        groups: those that LightFM has learned with, of `users` and of `items`.
        trial: what was compared, in plain JSON values; None where nothing was.
    """

    fitted: Fitted
    made: Assembled
    users: LearnedFeatures | None
    items: LearnedFeatures | None
    groups: Groups
    trial: dict[str, Any] | None


@dataclass(frozen=True)
class _Choice:
    """What to train.

    Attributes:
        groups: to learn with.
        ways: how those without interactions are represented; a kind that is missing is not.
        trial: what was compared, in plain JSON values.
    """

    groups: Groups
    ways: Mapping[str, Way]
    trial: dict[str, Any] | None = None


_MAPPED: Mapping[str, Way] = {"users": MAPPED, "items": MAPPED}
_TRAINED: Mapping[str, Way] = {"users": TRAINED, "items": TRAINED}


def fit_described(
    labels: sp.coo_matrix,
    settings: Training,
    features: Features,
    abouts: Abouts,
    *,
    threads: int,
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
    bytes_allowed: int = BYTES_ALLOWED,
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
        bytes_allowed: memory that the inverse of a second view may take.

    Raises:
        TrainingError: as `fitting.fit`.
    """
    minutes = settings.max_minutes
    budget = Budget(None if minutes is None else 60 * minutes)
    pairs = Labelled(labels, ratings, ages)
    chosen = _chosen(pairs, settings, features, abouts, threads, budget)
    sides = abouts.sides(chosen.groups)
    fitted, made = assembly.fit(
        labels,
        settings,
        threads=threads,
        ratings=ratings,
        ages=ages,
        features=sides,
        bytes_allowed=bytes_allowed,
        budget=budget,
    )
    if not made.as_trained:
        # The embeddings of features add up to what LightFM has trained, and to nothing else.
        chosen = replace(chosen, ways=dict.fromkeys(chosen.ways, MAPPED))
    learned = {
        kind: interruptible(
            partial(_learned, kind, chosen, sides, labels, fitted, made, abouts, settings.seed)
        )
        for kind in KINDS
    }
    return DescribedFit(
        fitted, made, learned["users"], learned["items"], chosen.groups, chosen.trial
    )


def learned_groups(
    pairs: Labelled, settings: Training, features: Features, abouts: Abouts, threads: int
) -> Groups:
    """Return the groups that a model is trained with, as `fit_described` chooses them."""
    return _chosen(pairs, settings, features, abouts, threads, Budget()).groups


def _chosen(
    pairs: Labelled,
    settings: Training,
    features: Features,
    abouts: Abouts,
    threads: int,
    budget: Budget,
) -> _Choice:
    everything = abouts.groups()
    if features.keep == "all":
        return _Choice(everything, _TRAINED)
    if features.keep == "measured" and any(everything.values()):
        return _choose(pairs, settings, features.margin, abouts, threads, budget)
    return _Choice(NO_GROUPS, _MAPPED)


def _learned(
    kind: str,
    chosen: _Choice,
    sides: Sides,
    labels: sp.coo_matrix,
    fitted: Fitted,
    made: Assembled,
    abouts: Abouts,
    seed: int,
) -> LearnedFeatures | None:
    about, way = getattr(abouts, kind), chosen.ways.get(kind)
    if about is None or way is None:
        return None
    one, side = kind.removesuffix("s"), getattr(sides, kind)
    source = fitted.learned if way == TRAINED else made.embeddings
    vectors = getattr(source, f"{one}_embeddings"), getattr(source, f"{one}_biases")
    if way == TRAINED:
        return cold.trained(about, side, *vectors)
    column = labels.row if kind == "users" else labels.col
    counts = np.bincount(column[labels.data > 0], minlength=len(about.ids))
    found = cold.mapped(about, *vectors, counts, seed)
    if found is None:
        log.warning(
            "features.%s: none of those who have features is in a positive pair of the training, "
            "so features say nothing",
            kind,
        )
    return found


def _choose(
    pairs: Labelled,
    settings: Training,
    margin: float,
    abouts: Abouts,
    threads: int,
    budget: Budget,
) -> _Choice:
    """Compare trainings with and without groups of features."""
    stopping = settings.early_stopping or EarlyStopping(patience=settings.epochs)
    n_trainings = sum(map(len, abouts.groups().values())) + 3
    if budget.seconds is not None:
        # It would take several trainings, and it is not known how long one is.
        budget.give_up(f"measuring features, up to {n_trainings} trainings")
        return _unmeasured("training.max_minutes leaves no time for trials", margin)
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
    jury = Jury(trial, nothing, margin, abouts.groups(), settings.seed)
    best = jury.best()
    chosen = _Choice(best.groups, jury.ways(best), jury.report(best))
    log.info("features: %s", jury.reason(best))
    return chosen


def _unmeasured(reason: str, margin: float) -> _Choice:
    log.warning("features cannot be measured, so LightFM learns without them: %s", reason)
    return _Choice(NO_GROUPS, _MAPPED, {"reason": reason, "margin": margin, "trials": []})
