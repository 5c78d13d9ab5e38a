"""What each item of a user's history adds to the user's vector, and so to a score. NumPy alone.

Fold-in is linear in the items once the weights are given: the vector is a sum of one row for each
item of the history, the intercept, and what the features add. The inner product of a row with an
item's embedding is what it contributes to the score of that item.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.kernel.fold_in import FEATURES_COUNT, FoldIn, check_histories, effective_counts

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """A user's vector as a sum.

    Attributes:
        items: `(n,)` int32, the rows of the history's items, ascending.
        of_items: `(n, d)` float64, what each of them adds.
        intercept: `(d,)` float64.
        features: `(d,)` float64, what the user's features add; zeros without any.
    """

    items: NDArray[np.int32]
    of_items: F64
    intercept: F64
    features: F64

    @property
    def vector(self) -> F64:
        """The sum of all, `(d,)`."""
        total: F64 = self.of_items.sum(axis=0) + self.intercept + self.features
        return total


def history_parts(
    fitted: FoldIn,
    item_embeddings: F32,
    items: NDArray[np.int32],
    weights: F32 | None = None,
    features: F32 | None = None,
) -> Parts:
    """Split the vector that `fold_in` makes of one user, and `with_features` where there are any.

    Args:
        fitted: the map.
        item_embeddings: `(n_items, d)` float32.
        items: `(n,)` rows of `item_embeddings`, each once, in any order.
        weights: `(n,)` positive, or None for ones.
        features: `(d,)`, the vector that the user's features make; None without any.

    Raises:
        KernelError: an item does not exist, or a weight is not positive and finite.
    """
    share = np.ones(len(items), np.float32) if weights is None else weights
    check_histories(len(item_embeddings), np.array([0, len(items)], np.int64), items, share)
    order = np.argsort(items, kind="stable")
    items, share = items[order], share[order]
    width = len(fitted.intercept)
    of_items = np.zeros((len(items), fitted.width))
    wide = share.astype(np.float64)
    count = float(effective_counts(np.zeros(len(items), np.int64), wide, 1)[0]) if len(items) else 0
    if len(items):
        shrunk = count / max(count + fitted.shrinkage, np.finfo(np.float64).tiny)
        own = item_embeddings[items, :width].astype(np.float64)
        of_items[:, :width] = (shrunk * wide / wide.sum())[:, None] * (
            own @ fitted.matrix.astype(np.float64)
        )
        if fitted.second is not None:
            factors = item_embeddings[:, width:]
            of_items[:, width:] = fitted.second.parts(factors, items, share)
    intercept = np.zeros(fitted.width)
    intercept[:width] = fitted.intercept
    described = np.zeros(fitted.width)
    if features is not None:
        of_history = count / (count + FEATURES_COUNT)
        of_items, intercept = of_items * of_history, intercept * of_history
        described = features.astype(np.float64) * (1 - of_history)
    return Parts(items, of_items, intercept, described)
