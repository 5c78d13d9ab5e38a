"""What a model knows of a user, an item or features, and what is near it. No Spark."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.errors import ConfigError
from recsys.kernel.neighbours import candidates, nearest, unit_vectors
from recsys.model.arrays import Vectors
from recsys.score.local_ids import LocalIds


@dataclass(frozen=True, eq=False)
class Representation:
    """The embedding and the bias of a user or an item, or of something that has features.

    The score of a user and an item is `user.embedding @ item.embedding + user.bias + item.bias`.

    Attributes:
        kind: `users` or `items`: which of the two it is, or could be.
        embedding: `(n_components,)` float32.
        bias: float32.
        id: of the user or the item; None for features.
        feature: the name of the one feature that it is; None for all else.
    """

    kind: str
    embedding: NDArray[np.float32]
    bias: np.float32
    id: Any = None
    feature: str | None = None


def known(vectors: Vectors, kind: str, given: object) -> Representation:
    """Return one of a model's `items` or `users`.

    Args:
        vectors: all of them.
        kind: `items` or `users`.
        given: an id, as a number or text.

    Raises:
        ConfigError: it cannot be an id of the model's type, or the model does not have it.
    """
    ids, what = LocalIds(vectors.ids), kind.removesuffix("s")
    found = ids.convert(given)
    if found is None:
        raise ConfigError(
            f"{what}: found {str(given)[:60]!r}, expected an id of the type {ids.type}"
        )
    row = pc.index(vectors.ids, pa.scalar(found, vectors.ids.type)).as_py()
    if row < 0:
        raise ConfigError(
            f"{what}: found {found!r}, expected one of the model's {len(vectors.ids):,} {kind}"
        )
    return Representation(kind, vectors.embeddings[row], vectors.biases[row], id=found)


class Nearest:
    """Finds the rows of one table that are nearest to something, as a batch job does."""

    def __init__(
        self, embeddings: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None
    ) -> None:
        """Prepare the rows.

        Args:
            embeddings: `(n, d)` float32.
            allowed: `(n,)`; which of them can be near something, default all.
        """
        given = embeddings if allowed is None else embeddings * allowed[:, None]
        self._rows = candidates(unit_vectors(given))

    def find(
        self, embedding: NDArray[np.float32], k: int, own: int | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the k nearest rows and their cosines, by (cosine descending, row ascending).

        Args:
            embedding: `(d,)` float32; nothing is near to zeros.
            k: how many; fewer if there are no more.
            own: the row to leave out, since it is what is asked about; None: none.

        Raises:
            KernelError: k is below 1.
        """
        unit = unit_vectors(embedding[None])
        left_out = None if own is None else np.array([own], np.int32)
        ranked = nearest(self._rows, unit, k, left_out)
        if not unit.any():
            return ranked.items[:0], ranked.scores[:0]
        return ranked.items, ranked.scores
