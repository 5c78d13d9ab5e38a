"""What LightFM learns, and the average of it over the epochs."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Embeddings:
    """What LightFM learned.

    A score is `user_embeddings[u] @ item_embeddings[i] + user_biases[u] + item_biases[i]`
    (Kula 2015, "Metadata Embeddings for User and Item Cold-start Recommendations", equation 1).

    Attributes:
        user_embeddings: `(n_users, no_components)` float32.
        user_biases: `(n_users,)` float32.
        item_embeddings: `(n_items, no_components)` float32.
        item_biases: `(n_items,)` float32.
    """

    user_embeddings: NDArray[np.float32]
    user_biases: NDArray[np.float32]
    item_embeddings: NDArray[np.float32]
    item_biases: NDArray[np.float32]

    def copy(self) -> "Embeddings":
        """Return a copy that further epochs do not change."""
        return Embeddings(
            self.user_embeddings.copy(),
            self.user_biases.copy(),
            self.item_embeddings.copy(),
            self.item_biases.copy(),
        )


class Average:
    """The exponential moving average of a model's states, one state an epoch.

    The steps of single epochs lead round a good model; their average is nearer to it, and changes
    less from epoch to epoch, so that the best epoch is easier to tell (Polyak and Juditsky 1992,
    "Acceleration of Stochastic Approximation by Averaging"). After n states the newest has a share
    of (1 - decay) / (1 - decay^n): the average as Kingma and Ba (2015, "Adam") correct it for its
    start, so that the first state is the first average.
    """

    def __init__(self, decay: float) -> None:
        self._decay, self._states = decay, 0
        self._average: Embeddings | None = None

    def add(self, state: Embeddings) -> Embeddings:
        """Take a state in and return the average, which the next call changes in place."""
        if self._decay == 0:
            return state
        self._states += 1
        if self._average is None:
            self._average = state.copy()
            return self._average
        share = np.float32((1 - self._decay) / (1 - self._decay**self._states))
        for field in fields(Embeddings):
            mean, new = getattr(self._average, field.name), getattr(state, field.name)
            mean += share * (new - mean)
        return self._average
