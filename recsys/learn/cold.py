"""Embeddings of features, and of users and items that have nothing else. On the driver.

There are two ways. Features that LightFM has learned with have embeddings of its own (`trained`).
For others a map is fitted to the embeddings of those that were trained (`mapped`, see
`feature_map`).
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.learn import feature_map
from recsys.learn.features import About, Feature, Side

Way = Literal["trained", "mapped"]
TRAINED: Way = "trained"
MAPPED: Way = "mapped"


@dataclass(frozen=True)
class LearnedFeatures:
    """The features of users or of items, with what was learned of them.

    Attributes:
        way: how they were learned.
        features: in order of group and value.
        embeddings: `(n_features, n_components)` float32.
        biases: `(n_features,)` float32.
        identity: whether an identity has a part in the sums; the map does without.
        identities: how many have one.
        normalised: whether weights are scaled to a sum of 1.
        cold_ids: those that have features and were not trained, ascending.
        cold_embeddings, cold_biases: of these.
        untrained_features: features that nobody in the training has; they are left out.
        undescribed: those that have no other features, and are left out.
        explained: for `mapped`: the share of the variance of the trained embeddings and biases
            that features explain.
    """

    way: Way
    features: list[Feature]
    embeddings: NDArray[np.float32]
    biases: NDArray[np.float32]
    identity: bool
    identities: int
    normalised: bool
    cold_ids: pa.Array
    cold_embeddings: NDArray[np.float32]
    cold_biases: NDArray[np.float32]
    untrained_features: int
    undescribed: int
    explained: float | None = None

    def scaled(self, factor: float) -> "LearnedFeatures":
        """Return the same with biases multiplied by a factor."""
        scale = np.float32(factor)
        return replace(self, biases=self.biases * scale, cold_biases=self.cold_biases * scale)

    def vectors_of(
        self, ids: pa.Array
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Return the embeddings and biases of some ids, and which of them have any.

        The others, who are not in `cold_ids`, have zeros.
        """
        at = pc.index_in(ids, value_set=self.cold_ids)
        there = np.asarray(at.is_valid().to_numpy(zero_copy_only=False))
        rows = at.to_numpy(zero_copy_only=False)[there].astype(np.int64)
        embeddings = np.zeros((len(ids), self.embeddings.shape[1]), np.float32)
        biases = np.zeros(len(ids), np.float32)
        embeddings[there], biases[there] = self.cold_embeddings[rows], self.cold_biases[rows]
        return embeddings, biases, there


def trained(
    about: About, side: Side, embeddings: NDArray[np.float32], biases: NDArray[np.float32]
) -> LearnedFeatures:
    """Take up the embeddings of features that LightFM has learned.

    Args:
        about: the users or items.
        side: what LightFM learned with.
        embeddings: what it learned, of identities and features.
        biases: likewise.
    """
    n = side.n_identities
    return _learned(TRAINED, side, embeddings[n:], biases[n:], about.identity, about.normalise)


def mapped(
    about: About,
    embeddings: NDArray[np.float32],
    biases: NDArray[np.float32],
    counts: NDArray[np.int64],
    seed: int,
    rows: NDArray[np.int64] | None = None,
) -> LearnedFeatures | None:
    """Map features to the embeddings that were learned.

    None where nobody has both features and interactions.

    Args:
        about: the users or items.
        embeddings: of those that were trained.
        biases: likewise.
        counts: how many interactions each of these has.
        seed: of the folds by which the penalty is chosen.
        rows: of `about.ids`: those that were trained; None for all.
    """
    side = about.means(rows)
    weights = side.weights[:, side.n_identities :]
    if not feature_map.usable(weights, counts).any():
        return None
    found = feature_map.fit(weights, embeddings, biases, counts, seed)
    return _learned(MAPPED, side, found.embeddings, found.biases, False, True, found.explained)


def _learned(
    way: Way,
    side: Side,
    embeddings: NDArray[np.float32],
    biases: NDArray[np.float32],
    identity: bool,
    normalised: bool,
    explained: float | None = None,
) -> LearnedFeatures:
    cold = side.cold[:, side.n_identities :]
    return LearnedFeatures(
        way=way,
        features=side.features,
        embeddings=embeddings,
        biases=biases,
        identity=identity,
        identities=side.n_identities if way == TRAINED else 0,  # the map does without
        normalised=normalised,
        cold_ids=side.cold_ids,
        cold_embeddings=cold @ embeddings,
        cold_biases=cold @ biases,
        untrained_features=side.untrained_features,
        undescribed=side.undescribed,
        explained=explained,
    )
