"""A time for the whole training, and what is given up for it. On the driver.

With `training.max_minutes` a training plans as it goes. After two epochs it knows what an epoch
costs. It then searches for the best epoch for as long as leaves time to train again on all pairs;
where that would be too few epochs, it does not train again, and keeps the best epoch's model. A
second view is tried only if it fits, too, by the speed of this machine. Everything that was given
up is written down.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Of the whole time: what is kept for the choice of vectors, the second view and the fold-in map
# until it is known how long they take.
_RESERVED = 0.3
# With fewer epochs than this a second training is not worth its time: see docs/explanation.
_FEWEST_EPOCHS = 8
NO_REFIT = "the second training, on all pairs"
_SIZE = 1024  # of the product that tells the speed


@dataclass
class Budget:
    """The time of a training.

    Attributes:
        seconds: all of it; None: as long as it takes.
        given_up: what was left out or cut short, in words.
        started: when it began, in seconds of a clock of its own.
    """

    seconds: float | None = None
    given_up: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _rate: float | None = None

    @classmethod
    def of(cls, minutes: float | None) -> "Budget":
        """Begin a time in minutes; None: as long as it takes."""
        return cls(None if minutes is None else 60 * minutes)

    def left(self) -> float:
        """Return how many seconds are left; infinity without a limit."""
        if self.seconds is None:
            return float("inf")
        return self.seconds - (time.monotonic() - self.started)

    @property
    def reserve(self) -> float:
        """How many seconds to keep for what follows the epochs, until more is known."""
        return 0.0 if self.seconds is None else _RESERVED * self.seconds

    def give_up(self, what: str) -> None:
        """Write down what is left out."""
        if what not in self.given_up:
            self.given_up.append(what)

    def affords(self, operations: float, what: str, kept_back: float) -> bool:
        """Say whether dense work fits into what is left, and write it down if not.

        Args:
            operations: multiplications and additions of float32.
            what: the work, in words.
            kept_back: seconds that have to be left after it.
        """
        if self.seconds is None:
            return True
        seconds = operations / self._speed()
        if seconds < self.left() - kept_back:
            return True
        self.give_up(f"{what} (about {seconds:.0f} s)")
        return False

    def _speed(self) -> float:
        """Measure how many operations of a matrix product this machine does in a second."""
        if self._rate is None:
            one = np.ones((_SIZE, _SIZE), np.float32)
            one @ one  # the first call is slower
            start = time.perf_counter()
            one @ one
            self._rate = 2 * _SIZE**3 / max(time.perf_counter() - start, 1e-6)
        # Decompositions reach about half of it.
        return self._rate / 2

    def report(self) -> dict[str, Any] | None:
        """Say what was used and given up, in plain JSON values; None without a limit."""
        if self.seconds is None:
            return None
        return {
            "seconds": self.seconds,
            "used": round(self.seconds - self.left(), 3),
            "given_up": list(self.given_up),
        }


class Pace:
    """Says after each epoch of one training whether there is time for another.

    Attributes:
        epoch: how many epochs there were.
        per_epoch: seconds of one, as far as is known.
        again: how much longer a second training takes, for each epoch of this one.
        refits: whether there is time for a second training.
        stopped: whether time has ended the training.
    """

    def __init__(
        self,
        budget: Budget,
        epochs: int,
        kept_back: float,
        *,
        again: float = 0.0,
        shared_by: int = 1,
    ) -> None:
        """Begin before the first epoch.

        Args:
            budget: of the whole training.
            epochs: how many there may be.
            kept_back: seconds that have to be left after this training.
            again: how much longer a second training takes, for each epoch of this one; 0: there is
                none.
            shared_by: among how many trainings what is left is to be shared.
        """
        self._budget, self._epochs, self.again = budget, epochs, again
        self._begun, self._mine = time.monotonic(), (budget.left() - kept_back) / shared_by
        self.epoch, self.per_epoch = 0, 0.0
        self.refits, self.stopped = again > 0, False

    def __call__(self) -> bool:
        """Take the end of an epoch; return whether to stop."""
        self.epoch += 1
        used = time.monotonic() - self._begun
        self.per_epoch = used / self.epoch
        if self._budget.seconds is None:
            return False
        left = self._mine - used
        if self.refits and self.epoch <= 2:
            possible = self.epoch + left / (self.per_epoch * (1 + self.again))
            if possible < min(_FEWEST_EPOCHS, self._epochs):
                self.refits = False
                self._budget.give_up(NO_REFIT)
        again = self.again * (self.epoch + 1) if self.refits else 0.0
        if self.epoch < self._epochs and self.per_epoch * (1 + again) > left:
            self.stopped = True
            self._budget.give_up(f"epochs after {self.epoch} of {self._epochs}")
        return self.stopped
