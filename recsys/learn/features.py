"""Users and items as weighted sums of the embeddings of their features. On the driver.

A row of a feature matrix is a user or an item, a column is a feature. With `weights` a row and
`embeddings` what LightFM learned, `weights @ embeddings` is the embedding of the user or the item,
and its bias likewise (Kula 2015, "Metadata Embeddings for User and Item Cold-start
Recommendations", section 3). The first columns are identities: features that one user or item alone
has.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.learn.embeddings import Embeddings


@dataclass(frozen=True)
class Described:
    """What describes users or items.

    Attributes:
        ids: `(n,)` Arrow array, ascending as ids are in a model.
        features: the features as pairs of group and value, ascending; the columns of the matrix.
        weights: `(n, n_features)` CSR float32: the weights as they were found, and the columns of
            each row ascending.
    """

    ids: pa.Array
    features: list[tuple[str, str]]
    weights: sp.csr_matrix

    def rows_of(self, ids: pa.Array) -> sp.csr_matrix:
        """Return the weights of ids, in their order; empty rows for those without features."""
        at = pc.index_in(ids, value_set=self.ids)
        known = np.asarray(at.is_valid().to_numpy(zero_copy_only=False))
        rows = at.fill_null(0).to_numpy(zero_copy_only=False)
        found = self.weights[rows]
        chosen = sp.diags(known.astype(np.float32))
        return sp.csr_matrix(chosen @ found, dtype=np.float32)


@dataclass(frozen=True)
class FeatureMatrices:
    """The features of the users and items of a training.

    Attributes:
        users: `(n_users, n_user_features)` CSR float32; None: each user is a feature of its own.
        items: `(n_items, n_item_features)`, likewise.
    """

    users: sp.csr_matrix | None = None
    items: sp.csr_matrix | None = None

    def represent(self, learned: Embeddings) -> Embeddings:
        """Return the embeddings and biases of users and items, from those of their features."""
        user_embeddings, user_biases = _sums(
            self.users, learned.user_embeddings, learned.user_biases
        )
        item_embeddings, item_biases = _sums(
            self.items, learned.item_embeddings, learned.item_biases
        )
        return Embeddings(user_embeddings, user_biases, item_embeddings, item_biases)


IDENTITIES = FeatureMatrices()


def _sums(
    weights: sp.csr_matrix | None, embeddings: NDArray[np.float32], biases: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if weights is None:
        return embeddings, biases
    return weights @ embeddings, weights @ biases


def matrix(weights: sp.csr_matrix, *, identity: bool, normalise: bool) -> sp.csr_matrix:
    """Return the matrix that LightFM learns with.

    Args:
        weights: `(n, n_features)` CSR float32.
        identity: whether each row also has a column of its own, with a weight of 1.
        normalise: whether to scale each row to a sum of 1; empty rows stay empty.

    Returns:
        CSR float32; the identities, if any, are the first n columns.
    """
    made = weights
    if identity:
        own = sp.identity(weights.shape[0], dtype=np.float32, format="csr")
        made = sp.hstack([own, weights], format="csr")
    if normalise:
        sums = np.asarray(made.sum(axis=1, dtype=np.float64)).ravel()
        scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
        made = sp.diags(scale) @ made
    return sp.csr_matrix(made, dtype=np.float32)
