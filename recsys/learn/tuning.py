"""Tune hyperparameters: train with many, judge each by the same held-out pairs. On the driver.

The first trial is the configuration as it is, so that the result is never worse than it on these
pairs. What the others try is chosen by Optuna's TPE: by chance at first, then near what has done
well. A trial ends when early stopping ends it. It is given up before, when it is below the median
of the completed trials after as many epochs.

What is tried next depends on the seed and on the trials that have ended, not on the process. So
after a kill the trials go on as they would have, as long as time is not the limit.
"""

import datetime as dt
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recsys.config.sections import EarlyStopping, Training, Tuning
from recsys.errors import ConfigError, TrainingError
from recsys.learn import fitting, training
from recsys.learn.features import IDENTITIES, Sides
from recsys.learn.penalty import settled
from recsys.learn.sample_weights import Labelled
from recsys.learn.search_space import (
    applied,
    inside,
    nothing_to_tune,
    rating_weighs,
    sampler,
    suggested,
    tuned_names,
    values_of,
)
from recsys.learn.trials import COMPLETE, ENDED, Tried, Watch, trials_of

if TYPE_CHECKING:
    from optuna import Study

log = logging.getLogger(__name__)

# How many trials are completed before one is given up, and how many epochs a trial has at least.
_COMPLETED_FIRST = 4
_FIRST_EPOCHS = 8


@dataclass(frozen=True)
class Tuned:
    """What tuning has found.

    Attributes:
        training: the configuration's section with the values of the best trial.
        best, first: that trial, and the one with the configuration as it is; they may be the same.
        trials: all of them.
        names: what was tuned, by the names of the ranges.
    """

    training: Training
    best: Tried
    first: Tried
    trials: Sequence[Tried]
    names: Sequence[str]


def tune(
    pairs: Labelled,
    settings: Training,
    tuning: Tuning,
    study: "Study",
    *,
    threads: int,
    features: Sides = IDENTITIES,
) -> Tuned:
    """Look for better hyperparameters, and return the best that were found.

    Trials that the study has already count, and are not made again.

    Args:
        pairs: all that there are; with ratings if rating weights are to be tuned.
        settings: the configuration, with early stopping.
        tuning: ranges, limits and the seed.
        study: where trials are kept.
        threads: CPU threads for the epochs.
        features: of the users and items.

    Raises:
        ConfigError: there is nothing to tune, or no early stopping.
        TrainingError: the first trial cannot be trained.
    """
    if settings.early_stopping is None:
        raise ConfigError(
            "training.early_stopping: found null, expected its settings: trials are compared by "
            "the pairs that it holds out"
        )
    names = tuned_names(settings, tuning.ranges)
    if "rating" in names and not rating_weighs(pairs):
        log.info(
            "training.sample_weights.rating is not tuned: ratings are all the same, or not "
            "all above 0"
        )
        names.remove("rating")
    if not names:
        raise ConfigError(nothing_to_tune(settings))
    log.info("tuning %s", ", ".join(names))
    work = _Trials(pairs, settings, settings.early_stopping, tuning, study, names)
    with _without_epochs():
        work.make(threads, features)
    return _result(study, settings, names)


def _result(study: "Study", settings: Training, names: Sequence[str]) -> Tuned:
    trials = trials_of(study)
    complete = [one for one in trials if one.state == COMPLETE]
    first = next(one for one in complete if one.first)
    best = max(complete, key=lambda one: (one.ndcg or 0.0, one.first, -one.number))
    found = {name: best.values[name] for name in names}
    made = settings if best.first else applied(settings, found)
    return Tuned(made, best, first, trials, names)


class _Trials:
    """Makes trials, one after another."""

    def __init__(
        self,
        pairs: Labelled,
        settings: Training,
        stopping: EarlyStopping,
        tuning: Tuning,
        study: "Study",
        names: Sequence[str],
    ) -> None:
        from optuna.pruners import MedianPruner

        self._pairs, self._settings = pairs, settings
        # In numbers, for the table of trials and for what draws the next one.
        self._settled = settled(settings, pairs.labels)
        # As in a training: without `refit` a search has all users, and a penalty is as it is given.
        self._stopping, self._tuning, self._study, self._names = stopping, tuning, study, names
        study.pruner = MedianPruner(n_startup_trials=_COMPLETED_FIRST, n_warmup_steps=_FIRST_EPOCHS)

    def make(self, threads: int, features: Sides) -> None:
        """Make trials until a limit is reached, and the first one in any case."""
        while True:
            before = trials_of(self._study)
            first = any(one.first and one.state == COMPLETE for one in before)
            if first and not self._goes_on(before):
                return
            self._try(before, threads, features, first=not first)

    def _goes_on(self, before: Sequence[Tried]) -> bool:
        limit = self._tuning.trials
        if limit is not None and _ended(before) >= limit:
            return False
        return self._seconds_left(before) > 0

    def _seconds_left(self, before: Sequence[Tried]) -> float:
        minutes = self._tuning.minutes
        if minutes is None:
            return math.inf
        return minutes * 60 - sum(one.seconds for one in before)

    def _try(self, before: Sequence[Tried], threads: int, features: Sides, *, first: bool) -> None:
        """Make one trial: train, and write down what came of it."""
        from optuna.trial import TrialState

        ranges = self._tuning.ranges
        self._study.sampler = sampler(self._tuning.seed, _ended(before))
        known = inside(self._settled, ranges, self._names)
        # A process may have been killed before it took the first one up.
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if first and not waiting:
            self._study.enqueue_trial(known)
        trial = self._study.ask()
        drawn = {n: suggested(trial, ranges, n) for n in (known if first else self._names)}
        # The first one trains as configured, even with values outside of their ranges.
        settings = self._settings if first else applied(self._settings, drawn)
        values = values_of(self._settled) | ({} if first else drawn)
        watch = Watch(trial, whole=first, seconds_left=self._seconds_left(before))
        started = dt.datetime.now(dt.UTC).isoformat()
        watch.write(first=first, values=values, started_at=started)
        best = _best(before)
        try:
            found = fitting.search(
                self._pairs, settings, self._stopping, threads, features, watch=watch
            )
        except TrainingError as error:
            watch.write(seconds=watch.seconds, diverged=True, reason=str(error))
            self._study.tell(trial, state=TrialState.FAIL if first else TrialState.PRUNED)
            if first:
                raise
        else:
            watch.write(seconds=watch.seconds, ndcg=found.ndcg, kept_epoch=found.epoch)
            if watch.ended is not None:
                watch.write(reason=watch.ended)
            # One that the time has ended counts if it is the best even so.
            if watch.ended is None or (watch.over and found.ndcg > best):
                self._study.tell(trial, found.ndcg)
            else:
                self._study.tell(trial, state=TrialState.PRUNED)
        _log_trial(trials_of(self._study)[-1], best, self._names)


def _ended(trials: Sequence[Tried]) -> int:
    return sum(one.state in ENDED for one in trials)


def _best(trials: Sequence[Tried]) -> float:
    return max((one.ndcg or 0.0 for one in trials if one.state == COMPLETE), default=0.0)


def _log_trial(one: Tried, best: float, names: Sequence[str]) -> None:
    values: Mapping[str, Any] = one.values
    with_ = ", ".join(f"{name} {values[name]}" for name in names)
    ended = f"nDCG {one.ndcg:.4f}" if one.ndcg is not None else "no nDCG"
    if one.state == COMPLETE and one.ndcg is not None and one.ndcg > best:
        ended += " (the best so far)" if best else " (the configuration as it is)"
    why = f"; {one.state}: {one.reason}" if one.reason else ""
    log.info("trial %d: %s in %.0f s with %s%s", one.number, ended, one.seconds, with_, why)


@contextmanager
def _without_epochs() -> Iterator[None]:
    """Keep a line for each epoch of each trial out of the log."""
    logger = logging.getLogger(training.__name__)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
