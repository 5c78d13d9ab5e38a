"""Which vectors serve the users of the training best: the trained ones, folded-in ones, or between.

LightFM trains a vector of each user. The fold-in map makes another from the user's items alone. A
user with few pairs has a rough trained vector, so the folded-in one, or a mixture

    vector = share * trained + (1 - share) * folded in

is often better, and costs nothing when lists are made. Held-out pairs of the same users decide.
The map and the scale of the item biases are chosen for these users, too: they may want other ones
than users whom the model has never seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.kernel.fold_in import fold_in
from recsys.learn.early_stopping import Validator
from recsys.learn.embeddings import Embeddings
from recsys.learn.fold_in_candidates import Candidate, Moments, Trained

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_SHARES = (0.0, 0.25, 0.5, 0.75)
_SCALES = (0.5, 1.0, 2.0)
_MAPS = (
    Candidate("mean", 0.0, False, 1.0, 0.0),
    *(Candidate("ridge", value, True, 1.0, 2.0) for value in (0.01, 0.1, 1.0)),
    *(Candidate("whitening", value, False, 1.0, 2.0) for value in (0.3, 1.0, 3.0)),
)
_FIRST = 2000  # users of the round that chooses the map
_CLEAR = 1.0  # standard errors by which another vector must be ahead of the trained one


@dataclass(frozen=True)
class Known:
    """How users of the training are represented.

    Attributes:
        share: how much the trained vector counts, from 0 to 1.
        map: makes the other one; its `bias_scale` is what the items' biases are multiplied by where
            the folded-in vector alone counts.
    """

    share: float = 1.0
    map: Candidate | None = None

    @property
    def bias_scale(self) -> float:
        """What the items' biases are multiplied by for these users."""
        return 1.0 if self.map is None else self.share + (1 - self.share) * self.map.bias_scale

    def as_record(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "share_of_trained": self.share,
            "map": None if self.map is None else self.map.as_record(),
            "bias_scale": self.bias_scale,
        }


def histories(likes: sp.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return positive pairs as indptr and items."""
    return likes.indptr.astype(np.int64), likes.indices.astype(np.int32)


def represent(model: Embeddings, likes: sp.csr_matrix, known: Known) -> Embeddings:
    """Return the model with the vectors and the item biases that serve its users.

    Args:
        model: as trained.
        likes: `(n_users, n_items)` CSR of the positive pairs that it was trained with.
        known: what was chosen.
    """
    if known.map is None or known.share == 1:
        return model
    folded = _folded(model, likes, known.map)
    share = np.float32(known.share)
    return Embeddings(
        user_embeddings=share * model.user_embeddings + (1 - share) * folded,
        user_biases=share * model.user_biases,
        item_embeddings=model.item_embeddings,
        item_biases=np.float32(known.bias_scale) * model.item_biases,
    )


def _folded(model: Embeddings, likes: sp.csr_matrix, candidate: Candidate) -> F32:
    indptr, items = histories(likes)
    everyone = np.ones(likes.shape[0], np.bool_)
    moments = Moments(_trained(model, likes), everyone)
    return fold_in(moments.map(candidate), model.item_embeddings, indptr, items)


def _trained(model: Embeddings, likes: sp.csr_matrix) -> Trained:
    return Trained.checked(
        model.user_embeddings, model.item_embeddings, model.item_biases, *histories(likes)
    )


def choose(
    model: Embeddings, likes: sp.csr_matrix, validator: Validator, *, mixing: bool = True
) -> tuple[Known, dict[str, Any]]:
    """Choose by the users of a validation part.

    Args:
        model: trained without that part.
        likes: the positive pairs that it was trained with.
        validator: has the part.
        mixing: whether the trained vector may be used; false: the folded-in one alone.

    Returns:
        The choice, and what was compared, in plain JSON values.
    """
    users, items = validator.users, model.item_embeddings
    moments = Moments(_trained(model, likes), np.ones(likes.shape[0], np.bool_))
    indptr, liked = histories(likes[users])
    some = np.arange(0, len(users), -(-len(users) // _FIRST))

    def judged(vectors: F32, scale: float, rows: NDArray[np.int64] | None = None) -> F64:
        biases = np.float32(scale) * model.item_biases
        return validator.of_vectors(vectors, items, biases, rows)

    def folded() -> Iterator[tuple[float, Candidate, F32]]:
        for one in _MAPS:
            vectors = fold_in(moments.map(one), items, indptr, liked)
            for scale in _SCALES:
                value = float(judged(vectors[some], scale, some).mean())
                yield value, replace(one, bias_scale=scale), vectors

    _, best, vectors = max(folded(), key=lambda found: found[0])
    own = model.user_embeddings[users]
    tried: dict[Known, F64] = {}
    for share in _SHARES if mixing else _SHARES[:1]:
        known = Known(share, best)
        mixed = np.float32(share) * own + np.float32(1 - share) * vectors
        tried[known] = judged(mixed, known.bias_scale)
    chosen = max(tried, key=lambda known: float(tried[known].mean()))
    trained = judged(own, 1.0)
    ahead = tried[chosen] - trained
    error = float(ahead.std(ddof=1) / np.sqrt(len(ahead))) if len(ahead) > 1 else np.inf
    found = {
        "trained_ndcg": float(trained.mean()),
        "best": chosen.as_record(),
        "best_ndcg": float(tried[chosen].mean()),
        "difference": float(ahead.mean()),
        "standard_error": error if np.isfinite(error) else None,
    }
    clear = not mixing or float(ahead.mean()) > _CLEAR * error
    return (chosen if clear else Known()), found
