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
from benchmark_models import (
    F32,
    MissingError,
    Model,
    complete_journey,
    goodbooks,
    random_model,
    trained_model,
    wide_model,
)
from numpy.typing import NDArray

from recsys.kernel.topk import ItemMatrix, top_k

GOODBOOKS = Path("../shared/data/goodbooks/ratings.csv")
BATCHES = (32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Contender:
    """One way to do it. run() scores the first n_users users once."""

    name: str
    seen: str  # how it leaves out what users have seen
    n_users: int
    run: Callable[[], object]


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
