"""What features say of users and items, in a model that is there. On the driver."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.learn.features import Described
from recsys.model.arrays import FeatureVectors, Vectors

F32 = NDArray[np.float32]


def by_features(
    features: FeatureVectors, described: Described, ids: pa.Array
) -> tuple[F32, F32, NDArray[np.bool_]]:
    """Return the embeddings and biases that features alone make, and who has any.

    Args:
        features: what a model has learned of features.
        described: what describes users or items; features that the model does not have count for
            nothing.
        ids: whose are wanted.

    Returns:
        `(n, n_components)` float32, `(n,)` float32 and `(n,)` bool; zeros for those without.
    """
    weights, rows = weights_of(features, described, ids)
    there = np.diff(weights.indptr) > 0
    return weights @ features.embeddings[rows], weights @ features.biases[rows], there


def weights_of(
    features: FeatureVectors, described: Described, ids: pa.Array
) -> tuple[sp.csr_matrix, NDArray[np.int64]]:
    """Return how much each feature that a model knows counts for each id.

    Args:
        features: what a model has learned of features.
        described: what describes users or items.
        ids: whose are wanted.

    Returns:
        `(n, n_known)` CSR float32, and the rows of `features` that its columns are.
    """
    row = {name: n for n, name in enumerate(features.names)}
    columns = [n for n, feature in enumerate(described.features) if feature.name in row]
    rows = np.array([row[described.features[n].name] for n in columns], np.int64)
    scale = [features.about.weights[described.features[n].group] for n in columns]
    found = described.rows_of(ids).tocsc()[:, columns].astype(np.float64)
    weights = sp.csr_matrix(found @ sp.diags(np.array(scale, np.float64)))
    if features.about.normalised:
        sums = np.asarray(weights.sum(axis=1)).ravel() + float(features.about.identity)
        there = np.diff(weights.indptr) > 0
        shares = np.divide(1.0, sums, out=np.zeros_like(sums), where=there)
        weights = sp.csr_matrix(sp.diags(shares) @ weights)
    weights = weights.astype(np.float32)
    weights.sort_indices()
    return weights, rows


def with_new(
    known: Vectors, features: FeatureVectors | None, described: Described | None
) -> Vectors:
    """Add those who are described and not there, and keep the order of the ids."""
    if features is None or described is None:
        return known
    others = described.ids.filter(pc.invert(pc.is_in(described.ids, value_set=known.ids)))
    embeddings, biases, there = by_features(features, described, others)
    if not there.any():
        return known
    ids = pa.concat_arrays([known.ids, others.filter(pa.array(there))])
    order = pc.sort_indices(ids)
    at, new = order.to_numpy(), np.zeros(int(there.sum()), np.int32)
    positives, history = known.positives, known.history
    if history is not None:  # nobody had them, so nothing is known of what they add
        nothing = np.zeros((len(new), history.shape[1]), np.float32)
    return Vectors(
        ids.take(order),
        np.concatenate([known.embeddings, embeddings[there]])[at],
        np.concatenate([known.biases, biases[there]])[at],
        np.concatenate([known.trained, new.astype(np.bool_)])[at],
        None if positives is None else np.concatenate([positives, new])[at],
        None if history is None else np.concatenate([history, nothing])[at],
    )
