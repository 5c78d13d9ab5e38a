"""The second part of a user's vector, which a linear model of items makes of the history.

NumPy alone. A model may have factors of a second model beside LightFM's (see
`recsys.learn.second_view`). They are the last columns of its item embeddings. A user's part is made
from the items that the user likes, for users of the training and for new users alike. There are two
kinds:

- `ease`: each item adds a vector of its own, `history[i]`, so

      vector = sum over the items of weight_i * history[i]

- `als`: the vector solves a ridge regression on the items' factors y (Hu, Koren & Volinsky 2008,
  "Collaborative Filtering for Implicit Feedback Datasets", equation 4), where the whole catalogue
  counts once and the user's items `1 + confidence` times. With G = inverse(Y'Y + penalty I), Y_u
  the factors of the user's items and S = confidence * diag(weights),

      vector = scale * G Y_u' inverse(I + S Y_u G Y_u') (weights)

  (the push-through identity), so that a system of the size of the history is solved, not one of
  the size of the factors; for histories longer than that it is the other way round.

Weights have a mean of 1, so that only their ratios matter. Both are linear in the items: a score is
a sum of what each item of the history adds. Each user is computed apart from the others, with the
items in ascending order, so that a vector has the same bits in any batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.topk import KernelError

_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]


@dataclass(frozen=True)
class SecondView:
    """How the second part of a user's vector is made.

    Attributes:
        history: of `ease`: `(n_items, r)` float32, what each item adds; None for `als`.
        gram: of `als`: `(r, r)` float32, G; None for `ease`.
        confidence: of `als`: by how much more a user's items count; 0 for `ease`.
        scale: of `als`: factor of the vector; 1 for `ease`.
    """

    history: _F32 | None = None
    gram: _F32 | None = None
    confidence: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be applied.

        Raises:
            KernelError: not exactly one of the arrays, or a number that is not finite.
        """
        given = [array for array in (self.history, self.gram) if array is not None]
        if len(given) != 1:
            raise KernelError(
                f"second view: expected one of history and gram, found {len(given)} of them"
            )
        finite = np.isfinite(given[0]).all() and np.isfinite([self.confidence, self.scale]).all()
        if given[0].ndim != 2 or not finite:
            raise KernelError("second view: expected a finite matrix and finite numbers")

    @property
    def width(self) -> int:
        """The number of factors."""
        array = self.gram if self.history is None else self.history
        assert array is not None  # noqa: S101 - checked above
        return int(array.shape[1])

    @property
    def nbytes(self) -> int:
        """The size of the arrays in bytes."""
        return sum(array.nbytes for array in (self.history, self.gram) if array is not None)

    def vectors(
        self,
        factors: _F32,
        indptr: NDArray[np.int64],
        items: NDArray[np.int32],
        weights: _F32 | None = None,
    ) -> _F32:
        """Return each user's part, `(n, r)` float32; zeros for a user without items.

        Args:
            factors: `(n_items, r)` float32, the items' own.
            indptr: `(n + 1,)`; user i likes `items[indptr[i]:indptr[i + 1]]`.
            items: `(total,)` rows of `factors`, in any order.
            weights: `(total,)` positive, or None for ones.
        """
        n = len(indptr) - 1
        made = np.zeros((n, self.width), np.float32)
        gram = self._wide_gram()
        for user in range(n):
            part = slice(int(indptr[user]), int(indptr[user + 1]))
            if part.start < part.stop:
                own = None if weights is None else weights[part].astype(np.float64)
                made[user] = self._vector(factors, gram, *_ordered(items[part], own))
        return made

    def parts(self, factors: _F32, items: NDArray[np.int32], weights: _F32 | None = None) -> _F64:
        """Return what each item of one user's history adds to the user's part, `(n, r)` float64.

        With `als` item i adds `scale * weight_i * W y_i` with `W = inverse(G^-1 + Y_u' S Y_u)`,
        which is how the paper explains a recommendation (section 5): the system is that of all
        items together, and what each adds is linear in its weight.

        Args:
            factors: `(n_items, r)` float32, the items' own.
            items: `(n,)` rows of `factors`, ascending, each once.
            weights: `(n,)` positive, or None for ones.
        """
        own = None if weights is None else weights.astype(np.float64)
        items, share = _ordered(items, own)
        if self.history is not None or not len(items):
            added = factors if self.history is None else self.history
            return added[items].astype(np.float64) * share[:, None]
        mapped, system = self._system(factors, self._wide_gram(), items, share)
        by_items = len(items) <= mapped.shape[1]
        solved = (
            np.linalg.solve(system.T, mapped) if by_items else np.linalg.solve(system, mapped.T).T
        )
        parts: _F64 = self.scale * share[:, None] * solved
        return parts

    def _wide_gram(self) -> _F64 | None:
        return None if self.gram is None else self.gram.astype(np.float64)

    def _vector(
        self, factors: _F32, gram: _F64 | None, items: NDArray[np.int32], weights: _F64
    ) -> _F64:
        if self.history is not None:
            return _added(self.history[items].astype(np.float64), weights)
        mapped, system = self._system(factors, gram, items, weights)
        vector: NDArray[np.floating]
        if len(items) <= mapped.shape[1]:
            vector = np.linalg.solve(system, weights) @ mapped
        else:
            vector = np.linalg.solve(system, mapped.T @ weights)
        scaled: _F64 = np.asarray(self.scale * vector, np.float64)
        return scaled

    def _system(
        self, factors: _F32, gram: _F64 | None, items: NDArray[np.int32], weights: _F64
    ) -> tuple[_F64, _F64]:
        """Return `Y_u G`, and the system to solve, of the smaller size of the two."""
        assert gram is not None  # noqa: S101 - one of both is there
        own = factors[items].astype(np.float64)
        share = self.confidence * weights
        mapped = own @ gram  # rows of Y_u G, which is symmetric
        if len(items) <= len(gram):
            system = share[:, None] * (mapped @ own.T)
        else:
            system = mapped.T @ (share[:, None] * own)
        system[np.diag_indices(len(system))] += 1.0
        return mapped, system


def _ordered(items: NDArray[np.int32], weights: _F64 | None) -> tuple[NDArray[np.int32], _F64]:
    """Sort a user's items, and scale the weights to a mean of 1; equal weights become ones."""
    if weights is None or np.ptp(weights) == 0:
        return np.sort(items), np.ones(len(items))
    order = np.lexsort((weights, items))
    ordered = weights[order]
    return items[order], ordered / ordered.mean()


def _added(rows: _F64, weights: _F64) -> _F64:
    """Add weighted rows one after the other: `cumsum` has a fixed order, `sum` and `@` have not."""
    total: _F64 = np.cumsum(rows * weights[:, None], axis=0)[-1]
    return total
