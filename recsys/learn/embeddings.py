"""What LightFM learns, and its average over the epochs."""

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
        """Return a copy with arrays of its own, which further epochs do not change."""
        return Embeddings(
            self.user_embeddings.copy(),
            self.user_biases.copy(),
            self.item_embeddings.copy(),
            self.item_biases.copy(),
        )


class Average:
    """The exponential moving average of a model's states after each epoch.

    The updates of a single epoch scatter around a good model. The average of several states is
    closer to that model than a single state. It also changes less from epoch to epoch, which makes
    the best epoch easier to find (Polyak and Juditsky 1992, "Acceleration of Stochastic
    Approximation by Averaging").

    The weights are divided by their sum, so the first average is the first state (the correction of
    the start in Kingma and Ba 2015, "Adam").

    In the first epochs states differ because they get better, and an average of all of them lags
    behind. So what counts grows with the number of states: at the n-th one, those before count
    (n - 1) / (n - 1 + growth) times as much, if that is less than `decay` (the polynomial-decay
    averaging of Shamir and Zhang 2013, "Stochastic Gradient Descent for Non-smooth Optimization").
    """

    def __init__(
        self,
        decay: float,
        growth: float = 0.0,
        start: Embeddings | None = None,
        n_states: int = 0,
    ) -> None:
        """Begin without a state, or with an average of some.

        Args:
            decay: from 0 to less than 1; a state counts `decay` times as much as the one after it.
                With 0 the average is the newest state.
            growth: 0 or more; with more, the average follows the first states more closely.
            start: the average of `n_states` states; its arrays will be changed.
            n_states: how many states are in it.
        """
        self._decay, self._growth = decay, growth
        self.n_states, self._weight = 0, 0.0
        for _ in range(n_states):
            self._count()
        self._average = start if n_states else None

    def _count(self) -> None:
        """Count one more state."""
        before = self.n_states
        kept = min(self._decay, before / (before + self._growth)) if before else 0.0
        self.n_states, self._weight = before + 1, kept * self._weight + 1

    def add(self, state: Embeddings) -> Embeddings:
        """Add the state after an epoch and return the average so far.

        The returned arrays are not copies: the next call, or with a decay of 0 the next epoch,
        changes them.
        """
        if self._decay == 0:
            return state
        self._count()
        if self._average is None:
            self._average = state.copy()
            return self._average
        share = np.float32(1 / self._weight)
        for field in fields(Embeddings):
            mean, new = getattr(self._average, field.name), getattr(state, field.name)
            mean += share * (new - mean)
        return self._average
