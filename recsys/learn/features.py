"""Users and items as weighted sums of the embeddings of their features. On the driver.

A row of a feature matrix is a user or an item, a column is a feature. With `weights` a row and
`embeddings` what LightFM learned, `weights @ embeddings` is the embedding of the user or the item,
and its bias likewise (Kula 2015, "Metadata Embeddings for User and Item Cold-start
Recommendations", section 3). The first columns are identities: features that one user or item alone
has.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.learn.embeddings import Embeddings


@dataclass(frozen=True)
class Feature:
    """A feature of users or of items.

    Attributes:
        group: the group that it belongs to.
        value: as values are compared.
        found: as most rows have it.
        ids: how many users or items have it.
    """

    group: str
    value: str
    found: str
    ids: int

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.group}={self.value}"


@dataclass(frozen=True)
class Described:
    """What describes users or items.

    Attributes:
        ids: `(n,)` Arrow array, ascending as ids are in a model.
        features: in order of group and value; the columns of the matrix.
        weights: `(n, n_features)` CSR float32: the weights as they were found, and the columns of
            each row ascending.
    """

    ids: pa.Array
    features: list[Feature]
    weights: sp.csr_matrix

    def rows_of(self, ids: pa.Array) -> sp.csr_matrix:
        """Return the weights of ids, in their order; empty rows for those without features."""
        if len(self.ids) == 0:
            return sp.csr_matrix((len(ids), len(self.features)), dtype=np.float32)
        at = pc.index_in(ids, value_set=self.ids)
        known = np.asarray(at.is_valid().to_numpy(zero_copy_only=False))
        rows = at.fill_null(0).to_numpy(zero_copy_only=False)
        found = self.weights[rows]
        chosen = sp.diags(known.astype(np.float32))
        return sp.csr_matrix(chosen @ found, dtype=np.float32)

    def only(self, groups: Collection[str]) -> "Described":
        """Return the same with some groups alone."""
        columns = [n for n, feature in enumerate(self.features) if feature.group in groups]
        weights = sp.csr_matrix(self.weights.tocsc()[:, columns])
        return Described(self.ids, [self.features[n] for n in columns], weights)


@dataclass(frozen=True)
class Side:
    """What LightFM learns with of the users, or of the items.

    Attributes:
        weights: `(n, n_identities + n_features)` CSR float32, a row for each that is trained.
        n_identities: the first columns, each of one row alone.
        features: those of the other columns.
        cold_ids: the others, who have features of the same kind; Arrow, ascending.
        cold: their rows, with the same columns.
        untrained_features: how many features none of the trained ones has; they are left out.
        undescribed: how many of the others have no feature that is trained; they are left out.
    """

    weights: sp.csr_matrix
    n_identities: int
    features: list[Feature]
    cold_ids: pa.Array
    cold: sp.csr_matrix
    untrained_features: int
    undescribed: int


@dataclass(frozen=True)
class Sides:
    """The features of a training.

    Attributes:
        users, items: None: each is a feature of its own, and there are no others.
    """

    users: Side | None = None
    items: Side | None = None

    def represent(self, learned: Embeddings) -> Embeddings:
        """Return the embeddings and biases of users and items, from those of their features."""
        users, items = self.users, self.items
        return Embeddings(
            *_sums(
                None if users is None else users.weights,
                learned.user_embeddings,
                learned.user_biases,
            ),
            *_sums(
                None if items is None else items.weights,
                learned.item_embeddings,
                learned.item_biases,
            ),
        )


IDENTITIES = Sides()


def _sums(
    weights: sp.csr_matrix | None, embeddings: NDArray[np.float32], biases: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if weights is None:
        return embeddings, biases
    return weights @ embeddings, weights @ biases


def side(
    described: Described,
    ids: pa.Array,
    group_weights: Mapping[str, float],
    *,
    identity: bool,
    normalise: bool,
) -> Side:
    """Make the matrix that LightFM learns with.

    Features that none of `ids` has are left out: their embeddings would stay as they were drawn.

    Args:
        described: what describes users or items.
        ids: of those that are trained, ascending.
        group_weights: how much the features of each group count.
        identity: whether each of `ids` has a column of its own, with a weight of 1; without, only
            those that have no feature do.
        normalise: whether to scale each row to a sum of 1. With `identity` those that are not
            trained keep the place of the identity that they do not have: a feature counts as much
            for them as for others. Scaled to 1 without it, their embeddings would be longer.
    """
    scale = np.array([group_weights[f.group] for f in described.features], np.float32)
    found = described.rows_of(ids) @ sp.diags(scale)
    trained = np.diff(found.tocsc().indptr) > 0
    kept = np.flatnonzero(trained)
    features = sp.csr_matrix(found.tocsc()[:, kept], dtype=np.float32)
    alone = np.arange(len(ids)) if identity else np.flatnonzero(np.diff(features.indptr) == 0)
    own = sp.csr_matrix(
        (np.ones(len(alone), np.float32), (alone, np.arange(len(alone)))),
        shape=(len(ids), len(alone)),
    )
    cold = _cold(described, ids)
    others = described.rows_of(cold) @ sp.diags(scale)
    others = sp.csr_matrix(others.tocsc()[:, kept], dtype=np.float32)
    some = np.flatnonzero(np.diff(others.indptr) > 0)
    nothing = sp.csr_matrix((len(some), len(alone)), dtype=np.float32)
    return Side(
        weights=_rows(own, features, normalise=normalise),
        n_identities=len(alone),
        features=[described.features[n] for n in kept],
        cold_ids=cold.take(pa.array(some)),
        cold=_rows(nothing, others[some], normalise=normalise, place=float(identity)),
        untrained_features=int(np.count_nonzero(~trained)),
        undescribed=len(cold) - len(some),
    )


@dataclass(frozen=True)
class About:
    """What is known of the users, or of the items, of a training.

    Attributes:
        described: what describes them, and others.
        ids: those that are trained, ascending.
        group_weights, identity, normalise: as `side` takes them.
    """

    described: Described
    ids: pa.Array
    group_weights: Mapping[str, float]
    identity: bool
    normalise: bool

    @property
    def groups(self) -> list[str]:
        """The groups that have features, in order."""
        return sorted({feature.group for feature in self.described.features})

    def counts(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return how many features each of `ids`, or of some rows of them, has."""
        ids = self.ids if rows is None else self.ids.take(pa.array(rows))
        return np.asarray(np.diff(self.described.rows_of(ids).indptr), np.int64)

    def side(self, groups: Collection[str], rows: NDArray[np.int64] | None = None) -> Side | None:
        """Return what LightFM learns with; None without any group.

        Args:
            groups: those that are learned.
            rows: of `ids`: those that are trained; None for all.
        """
        if not groups:
            return None
        return side(
            self.described.only(groups),
            self.ids if rows is None else self.ids.take(pa.array(rows)),
            self.group_weights,
            identity=self.identity,
            normalise=self.normalise,
        )

    def means(self, rows: NDArray[np.int64] | None = None) -> Side:
        """Return a matrix of all groups whose rows sum to 1, without identities, for a map."""
        return side(
            self.described,
            self.ids if rows is None else self.ids.take(pa.array(rows)),
            self.group_weights,
            identity=False,
            normalise=True,
        )


@dataclass(frozen=True)
class Abouts:
    """What is known of the users and the items of a training; None: nothing."""

    users: About | None = None
    items: About | None = None

    def sides(
        self,
        groups: Mapping[str, Collection[str]] | None = None,
        users: NDArray[np.int64] | None = None,
        items: NDArray[np.int64] | None = None,
    ) -> Sides:
        """Return what LightFM learns with.

        Args:
            groups: those that are learned, of `users` and of `items`; None for all.
            users: rows of those that are trained; None for all.
            items: likewise.
        """
        chosen = self.groups() if groups is None else groups
        return Sides(
            None if self.users is None else self.users.side(chosen["users"], users),
            None if self.items is None else self.items.side(chosen["items"], items),
        )

    def groups(self) -> dict[str, list[str]]:
        """Return all groups, of `users` and of `items`."""
        return {
            "users": [] if self.users is None else self.users.groups,
            "items": [] if self.items is None else self.items.groups,
        }


def _cold(described: Described, ids: pa.Array) -> pa.Array:
    """Return the ids that are described and not trained."""
    return described.ids.filter(pc.invert(pc.is_in(described.ids, value_set=ids)))


def _rows(
    own: sp.csr_matrix, features: sp.csr_matrix, *, normalise: bool, place: float = 0.0
) -> sp.csr_matrix:
    """Put identities and features side by side; `place` counts as a weight that is not there."""
    made = sp.hstack([own, features], format="csr")
    if normalise:
        sums = np.asarray(made.sum(axis=1, dtype=np.float64)).ravel() + place
        made = sp.diags(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)) @ made
    made = sp.csr_matrix(made, dtype=np.float32)
    made.sort_indices()
    return made
