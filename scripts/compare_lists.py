"""Lists of the comparison's models, and how good they are on what was held out."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from compare_split import F32, Data
from numpy.typing import NDArray

from recsys.kernel.metrics import accuracy
from recsys.kernel.topk import ItemMatrix, Ranked, top_k

K = 10
MEASURES = {
    "map": "average_precision",
    "map_truncated": "average_precision_truncated",
    "ndcg": "ndcg",
    "precision": "precision",
    "recall": "recall",
}

# Gives lists for rows of users, without what they have seen.
Lists = Callable[[NDArray[np.int64], Any], Ranked]


class CurvePoint(NamedTuple):
    """What a training had reached on the validation part after so many seconds.

    Attributes:
        model, seed: of the training.
        epoch: after which it was judged; None for a model that was judged once, when it was made.
        seconds: of training, without the judging.
        ndcg: mean nDCG@10 of the validation part.
    """

    model: str
    seed: int
    epoch: int | None
    seconds: float
    ndcg: float


@dataclass(frozen=True)
class SameForAllSeeds:
    """Makes lists that depend on no seed, so that once is enough."""

    make: Callable[[], Lists]

    def __call__(self, seed: int) -> Lists:
        return self.make()


@dataclass(frozen=True)
class ByProduct:
    """Makes lists by inner products, with the kernel.

    Attributes:
        items: prepared for the kernel.
        users: `(n_users, dimensions)` float32.
        user_biases: `(n_users,)` float32.
        broadcast: bytes that a job sends to each executor, without the items' ids.
    """

    items: ItemMatrix
    users: F32
    user_biases: F32
    broadcast: int

    def __call__(self, rows: NDArray[np.int64], seen: Any) -> Ranked:
        """Return the lists of rows of users, without what they have seen, a CSR matrix."""
        indptr, indices = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
        return top_k(self.items, self.users[rows], self.user_biases[rows], K, indptr, indices)

    def costs(self, data: Data) -> dict[str, Any]:
        """Return the width, the kernel's microseconds for a user, and the broadcast's MiB."""
        seen, seconds = data.seen[data.warm], []
        for _ in range(3):
            start = time.perf_counter()
            self(data.warm, seen)
            seconds.append(time.perf_counter() - start)
        return {
            "dimensions": self.items.n_components,
            "kernel_us": round(min(seconds) / max(1, len(data.warm)) * 1e6, 2),
            "broadcast_mib": round(self.broadcast / 2**20, 2),
        }


def factors(
    user: F32,
    item: F32,
    user_biases: F32 | None = None,
    bias: F32 | None = None,
    beside: int = 0,
) -> ByProduct:
    """Lists by inner product; `beside` is what a job broadcasts beside the items, in bytes."""
    bias = np.zeros(len(item), np.float32) if bias is None else bias
    user_biases = np.zeros(len(user), np.float32) if user_biases is None else user_biases
    items = ItemMatrix(np.ascontiguousarray(item), np.ascontiguousarray(bias))
    return ByProduct(items, user, user_biases, item.nbytes + bias.nbytes + beside)


def popular(counts: F32, n_users: int) -> Lists:
    """Lists of what has the highest counts, the same for everyone."""
    zero = np.zeros((n_users, 1), np.float32)
    return factors(zero, np.zeros((len(counts), 1), np.float32), None, counts)


def measured(data: Data, lists: Lists) -> dict[str, NDArray[np.float64]]:
    """Return each metric's value for each user of data.warm, then of data.cold.

    Who has nothing to train on gets what is popular, whatever the model.
    """
    everyone = np.asarray(data.labels.sum(axis=0), dtype=np.float32).ravel()
    parts = []
    for rows, way in ((data.warm, lists), (data.cold, popular(everyone, len(data.cold)))):
        mine = rows if way is lists else np.arange(len(rows))
        ranked = way(mine, data.seen[rows])
        wanted = data.wanted[rows]
        parts.append(accuracy(ranked.indptr, ranked.items, wanted.indptr, wanted.indices, [K])[K])
    return {
        name: np.concatenate([part[measure] for part in parts])
        for name, measure in MEASURES.items()
    }
