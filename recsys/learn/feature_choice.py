"""Which features LightFM learns with, and how those without interactions are represented.

Features make a model worse as often as better: what a genre has to say is soon learned, and then
stands in the way of what its items have not in common. So with `keep: measured` they have to earn
their place (`feature_trial`, `feature_jury`).

The model is then trained as any other, so that without a group inside it is the model without
features. What is not learned inside still describes: users and items without interactions get
embeddings by a map (`feature_map`), which changes nobody else's.
"""

import logging

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import EarlyStopping, Features, Training
from recsys.errors import TrainingError
from recsys.learn import assembly
from recsys.learn.assembly import BYTES_ALLOWED
from recsys.learn.budget import Budget
from recsys.learn.described_fit import (
    ALL_MAPPED,
    ALL_TRAINED,
    NO_GROUPS,
    Choice,
    DescribedFit,
    Groups,
    described,
)
from recsys.learn.feature_jury import FEWEST, Jury
from recsys.learn.feature_trial import Trial
from recsys.learn.features import Abouts
from recsys.learn.sample_weights import Labelled

log = logging.getLogger(__name__)


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
    budget = Budget.of(settings.max_minutes)
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
    return described(chosen, sides, labels, fitted, made, abouts, settings.seed)


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
) -> Choice:
    everything = abouts.groups()
    if features.keep == "all":
        return Choice(everything, ALL_TRAINED)
    if features.keep == "measured" and any(everything.values()):
        return _choose(pairs, settings, features.margin, abouts, threads, budget)
    return Choice(NO_GROUPS, ALL_MAPPED)


def _choose(
    pairs: Labelled,
    settings: Training,
    margin: float,
    abouts: Abouts,
    threads: int,
    budget: Budget,
) -> Choice:
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
    chosen = Choice(best.groups, jury.ways(best), jury.report(best))
    log.info("features: %s", jury.reason(best))
    return chosen


def _unmeasured(reason: str, margin: float) -> Choice:
    log.warning("features cannot be measured, so LightFM learns without them: %s", reason)
    return Choice(NO_GROUPS, ALL_MAPPED, {"reason": reason, "margin": margin, "trials": []})
