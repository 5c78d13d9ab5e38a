"""One trial of tuning: what is known of it, and what watches it. On the driver."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

COMPLETE, PRUNED, DIVERGED, KILLED = "complete", "pruned", "diverged", "killed"
ENDED = (COMPLETE, PRUNED, DIVERGED)


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        number: from 0.
        state: `complete`, `pruned` (given up), `diverged`, or `killed` with its process.
        first: whether it trained with the configuration as it is.
        values: what it trained with, by the names of the ranges; empty where it was killed before.
        ndcg: of its best epoch; None where it diverged or was killed.
        kept_epoch: its best epoch, likewise.
        epochs: those that were judged.
        curve: their nDCG.
        seconds: how long it took.
        started_at: when it began, ISO 8601 in UTC; None where it was killed before.
        reason: why it ended early; None where it did not.
    """

    number: int
    state: str
    first: bool
    values: Mapping[str, Any]
    ndcg: float | None
    kept_epoch: int | None
    epochs: Sequence[int]
    curve: Sequence[float]
    seconds: float
    started_at: str | None
    reason: str | None


def trials_of(study: "Study") -> list[Tried]:
    """Return the trials of a study that were begun, in their order."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    return [_tried(trial) for trial in trials if trial.state != TrialState.WAITING]


def _tried(trial: "FrozenTrial") -> Tried:
    from optuna.trial import TrialState

    known = trial.user_attrs
    state = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED}.get(trial.state, KILLED)
    if known.get("diverged"):
        state = DIVERGED
    epochs = sorted(trial.intermediate_values)
    return Tried(
        number=trial.number,
        state=state,
        first=bool(known.get("first")),
        values=known.get("values", {}),
        ndcg=known.get("ndcg"),
        kept_epoch=known.get("kept_epoch"),
        epochs=epochs,
        curve=[trial.intermediate_values[epoch] for epoch in epochs],
        seconds=float(known.get("seconds", 0.0)),
        started_at=known.get("started_at"),
        reason=known.get("reason", "its process ended" if state == KILLED else None),
    )


class Watch:
    """Tells a study of a trial's epochs, and ends the trial early.

    Attributes:
        ended: why it ended early; None where it did not.
        over: whether it was because of the time.
    """

    def __init__(self, trial: "Trial", *, whole: bool, seconds_left: float) -> None:
        """Begin with the trial.

        Args:
            trial: the trial.
            whole: whether it is to be completed in any case.
            seconds_left: how long it may take otherwise.
        """
        self._trial, self._whole, self._left = trial, whole, seconds_left
        self._start = time.perf_counter()
        self.ended: str | None = None
        self.over = False

    def __call__(self, epoch: int, ndcg: float) -> bool:
        """Take the nDCG of an epoch, and say whether to stop."""
        self._trial.report(ndcg, epoch)
        self.write(seconds=self.seconds)  # they count although the process may be killed
        if self._whole:
            return False
        if self.seconds >= self._left:
            self.over, self.ended = True, f"the time was over after epoch {epoch}"
        elif self._trial.should_prune():
            self.ended = f"below the median of completed trials after epoch {epoch}"
        return self.ended is not None

    @property
    def seconds(self) -> float:
        """How long the trial has taken until now."""
        return round(time.perf_counter() - self._start, 3)

    def write(self, **known: Any) -> None:
        """Write down what is known of the trial."""
        for name, value in known.items():
            self._trial.set_user_attr(name, value)
