"""The maps among which `fold_in_map` chooses, and how each is fitted. NumPy alone; on the driver.

Kinds of maps:

- `mean`: the mean embedding of the user's items as it is.
- `ridge`: ridge regression from the mean embedding of a user's items to the user's own embedding,
  each user weighted by the length of their history, with and without an intercept.
- `whitening`: `inverse(C + r I)`, where C is the second moment of the item embeddings, weighted by
  popularity. This is the least-squares solution for a user with the items held fixed (Hu, Koren &
  Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", equation 4), with the
  history of an average user in place of the whole catalogue. It is scaled to the length of the
  users' embeddings.

Each is tried with several strengths of regularisation, scales of the item biases, and amounts of
shrinkage of short histories. (`n / (n + shrinkage)` times the mean lies between the mean and the
sum, as the `n ^ -1/2` of SVD++ does.)
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.kernel.fold_in import FoldIn, check_histories, mean_embeddings

_RIDGE = (0.001, 0.01, 0.1, 1.0)
_WHITENING = (0.1, 0.3, 1.0, 3.0, 10.0)
_BIAS_SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_SHRINKAGES = (0.0, 1.0, 2.0, 4.0, 8.0)
_FIRST_SHRINKAGE = 2.0

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """A trained model, and the positive pairs that it was trained on.

    Attributes:
        users: `(n_users, d)` float32, embeddings.
        items: `(n_items, d)` float32, embeddings.
        biases: `(n_items,)` float32, of the items.
        pair_users: `(n_pairs,)` rows of `users`, ascending.
        pair_items: `(n_pairs,)` rows of `items`.
        item_counts: `(n_items,)` how many of the pairs each item is in.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    biases: NDArray[np.float32]
    pair_users: NDArray[np.int64]
    pair_items: NDArray[np.int32]
    item_counts: NDArray[np.int64]

    @classmethod
    def checked(
        cls,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        biases: NDArray[np.float32],
        indptr: NDArray[np.int64],
        liked: NDArray[np.int32],
    ) -> "Trained":
        """Check what `fold_in_map.fit` was given, and return it as pairs.

        Raises:
            TrainingError: shapes do not fit, or an embedding or a bias is not finite.
            KernelError: the histories do not fit, as `recsys.kernel.fold_in.fold_in`.
        """
        width = items.shape[-1]
        shapes = (users.shape, items.shape, biases.shape, indptr.shape)
        if shapes != ((len(users), width), (len(items), width), (len(items),), (len(users) + 1,)):
            raise TrainingError(
                "fold-in: expected user embeddings (n_users, d), item embeddings (n_items, d), "
                f"item biases (n_items,) and an indptr (n_users + 1,), found {shapes}"
            )
        if not all(np.isfinite(array).all() for array in (users, items, biases)):
            raise TrainingError(
                "fold-in: expected finite embeddings and biases, found others; train again with a "
                "lower training.learning_rate"
            )
        rows = check_histories(len(items), indptr, liked, None)
        return cls(users, items, biases, rows, liked, np.bincount(liked, minlength=len(items)))


@dataclass(frozen=True)
class Candidate:
    """A kind of map with its parameters."""

    kind: str
    regularisation: float
    intercept: bool
    bias_scale: float
    shrinkage: float

    def as_record(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "kind": self.kind,
            "regularisation": self.regularisation,
            "intercept": self.intercept,
            "bias_scale": self.bias_scale,
            "shrinkage": self.shrinkage,
        }


PLAIN = Candidate("mean", 0.0, False, 1.0, 0.0)


def every_map() -> list[Candidate]:
    """Return all maps with all scales of the biases, for the first round."""
    maps = [("mean", 0.0, False)]
    maps += [("ridge", value, intercept) for value in _RIDGE for intercept in (False, True)]
    maps += [("whitening", value, False) for value in _WHITENING]
    return [
        Candidate(kind, value, intercept, scale, 0.0 if kind == "mean" else _FIRST_SHRINKAGE)
        for kind, value, intercept in maps
        for scale in _BIAS_SCALES
    ]


def every_shrinkage(best: list[Candidate]) -> list[Candidate]:
    """Return the plain mean, and the best maps with all shrinkages, for the second round."""
    finals = [replace(one, shrinkage=shrinkage) for one in best for shrinkage in _SHRINKAGES]
    return list(dict.fromkeys([PLAIN, *finals]))


class Moments:
    """The sums over users and pairs from which every map is solved."""

    def __init__(self, trained: Trained, used: NDArray[np.bool_]) -> None:
        """Sum over some of the users: `used` is `(n_users,)`."""
        pairs = used[trained.pair_users]
        rows, items = trained.pair_users[pairs], trained.pair_items[pairs]
        means, counts = mean_embeddings(trained.items, rows, items, None, len(trained.users))
        # Weighted by the length of the history: the longer it is, the less noise is in the mean and
        # in the user's embedding.
        self.regression = Regression(means, trained.users.astype(np.float64), counts)
        popularity = np.bincount(items, minlength=len(trained.items)).astype(np.float64)
        vectors = trained.items.astype(np.float64)
        self.items = vectors.T @ (popularity[:, None] * vectors) / popularity.sum()

    def map(self, candidate: Candidate) -> FoldIn:
        """Return the candidate as a map fitted on these users."""
        width = len(self.items)
        matrix: Float = np.eye(width)
        intercept: Float = np.zeros(width)
        if candidate.kind == "ridge":
            matrix, intercept = self.regression.solve(candidate.regularisation, candidate.intercept)
        elif candidate.kind == "whitening":
            moment = _regularised(self.items, candidate.regularisation)
            matrix = np.linalg.inv(moment).astype(np.float64)
            mapped = float(np.trace(matrix.T @ self.regression.xx @ matrix))
            wanted = self.regression.length_y
            matrix = matrix * float(np.sqrt(wanted / max(mapped, np.finfo(np.float64).tiny)))
        return FoldIn(
            candidate.kind,
            matrix.astype(np.float32),
            intercept.astype(np.float32),
            candidate.bias_scale,
            candidate.shrinkage,
        )


class Regression:
    """Weighted ridge regression from rows of x to rows of y; the sums over the rows are kept."""

    def __init__(self, x: Float, y: Float, weights: Float) -> None:
        share = weights / weights.sum()
        weighted = share[:, None] * x
        self.xx, self.xy = weighted.T @ x, weighted.T @ y
        self.x, self.y = share @ x, share @ y
        self.length_y = float(share @ np.square(y).sum(axis=1))

    def solve(self, value: float, with_intercept: bool) -> tuple[Float, Float]:
        """Return matrix and intercept for `x @ matrix + intercept`, regularised by `value`."""
        x, y = self.x * with_intercept, self.y * with_intercept
        matrix = np.linalg.solve(
            _regularised(self.xx - np.outer(x, x), value), self.xy - np.outer(x, y)
        )
        return matrix, y - x @ matrix


def _regularised(moment: Float, value: float) -> Float:
    """Add `value` times the mean eigenvalue to the diagonal, so that the scale does not matter."""
    width = len(moment)
    # The small constant keeps the matrix regular if the vectors do not span all directions.
    diagonal = value * float(np.trace(moment)) / width + 1e-12
    regularised: Float = moment + diagonal * np.eye(width)
    return regularised
