"""What a training needs to go on where it stopped. NumPy alone; no LightFM.

Beside the embeddings these are the numbers by which the sizes of further steps are set, the average
of the epochs, and the state of the random numbers. A training that is stopped and goes on from its
state, on the same pairs, gives the same bits as one that was not stopped (with one thread).
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from recsys.learn.embeddings import Embeddings

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Parameters:
    """What LightFM keeps of the features of users, or of items. Without features: of ids.

    Attributes:
        embeddings: `(n, no_components)` float32, as the last epoch left them.
        biases: `(n,)` float32.
        embedding_gradients: `(n, no_components)` float32: the sums (adagrad) or the averages
            (adadelta) of squared gradients. The larger they are, the smaller a step is.
        bias_gradients: `(n,)` float32, likewise.
        embedding_momentum: `(n, no_components)` float32, for adadelta; zeros for adagrad.
        bias_momentum: `(n,)` float32, likewise.
        average_embeddings: `(n, no_components)` float32: the average of the epochs.
        average_biases: `(n,)` float32, likewise.
    """

    embeddings: F32
    biases: F32
    embedding_gradients: F32
    bias_gradients: F32
    embedding_momentum: F32
    bias_momentum: F32
    average_embeddings: F32
    average_biases: F32

    def matched(self, rows: I64, new: "Parameters") -> "Parameters":
        """Return these parameters in another order, with new ones where there are none.

        Args:
            rows: `(m,)` the row of each that is wanted, or -1 for one that is new.
            new: those of the new ones, in their order.
        """
        known = rows >= 0
        made = {}
        for field in fields(self):
            old = getattr(self, field.name)
            values = np.empty((len(rows), *old.shape[1:]), np.float32)
            values[known] = old[rows[known]]
            values[~known] = getattr(new, field.name)
            made[field.name] = values
        return Parameters(**made)

    def copy(self) -> "Parameters":
        """Return a copy with arrays of its own, which further epochs do not change."""
        return Parameters(**{f.name: getattr(self, f.name).copy() for f in fields(self)})


def untrained(
    n: int, no_components: int, schedule: str, random: np.random.RandomState
) -> Parameters:
    """Return parameters as LightFM initialises them.

    Args:
        n: how many rows.
        no_components: size of the embeddings.
        schedule: `adagrad` or `adadelta`.
        random: draws the embeddings.
    """
    drawn = ((random.rand(n, no_components) - 0.5) / no_components).astype(np.float32)
    zeros, zero = np.zeros_like(drawn), np.zeros(n, np.float32)
    first = np.float32(schedule == "adagrad")
    return Parameters(
        embeddings=drawn,
        biases=zero,
        embedding_gradients=zeros + first,
        bias_gradients=zero + first,
        embedding_momentum=zeros,
        bias_momentum=zero,
        average_embeddings=drawn,
        average_biases=zero,
    )


@dataclass(frozen=True)
class State:
    """What a training needs to go on.

    Attributes:
        users, items: the parameters.
        epochs: how many there were.
        averaged: how many states are in the average.
        random: `(625,)` uint32: the state of the Mersenne Twister, and the position in it.
    """

    users: Parameters
    items: Parameters
    epochs: int
    averaged: int
    random: NDArray[np.uint32]

    @property
    def average(self) -> Embeddings:
        """The average of the epochs."""
        return Embeddings(
            self.users.average_embeddings,
            self.users.average_biases,
            self.items.average_embeddings,
            self.items.average_biases,
        )

    def copy(self) -> "State":
        """Return a copy with arrays of its own."""
        return replace(self, users=self.users.copy(), items=self.items.copy())

    def generator(self) -> np.random.RandomState:
        """Return the random numbers that come next."""
        made = np.random.RandomState(0)
        made.set_state(("MT19937", self.random[:-1], int(self.random[-1]), 0, 0.0))
        return made


def position(random: np.random.RandomState) -> NDArray[np.uint32]:
    """Return the state of random numbers as `State` has it."""
    _, key, place, *_ = random.get_state(legacy=True)
    return np.append(np.asarray(key, np.uint32), np.uint32(place))
