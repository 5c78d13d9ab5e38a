"""This project's models beside what one could use instead, on any file of ratings.

The protocol is that of the Recommenders project's benchmark: of each item's ratings 75 % are
trained on (`python_stratified_split(ratio=0.75, min_rating=1, filter_by="item", seed=42)`), every
held-out rating is relevant, lists of k=10 leave out what the user was trained with, and metrics are
means over the users with something held out. Of those, who has nothing to train on gets popular
items from every model. `--last N` holds out each user's last N pairs instead.

Everything is chosen on a part of the training split: this project's hyperparameters and epoch, and
those of implicit's ALS and of EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse
Data"). `pip install '.[peers,demo]'` brings implicit; without it its line is missing.

    python scripts/compare.py --config conf/movietweetings.yaml --json compare.json
"""

import os

# Before NumPy loads its BLAS: implicit wants it so, and the kernel is timed on one thread.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import itertools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys import memory, session, training
from recsys.columns import ITEM, RATING, TIMESTAMP, USER
from recsys.config import Config
from recsys.config_file import load_config
from recsys.errors import RecsysError
from recsys.kernel.metrics import accuracy
from recsys.kernel.topk import ItemMatrix, Ranked, top_k
from recsys.manifest import new_run
from recsys.preparation import prepare
from recsys.sections import EarlyStopping, SampleWeights, Training
from recsys.statistics import difference
from recsys.storage import Store
from recsys.validation import Validator, hold_out

K = 10
NOTEBOOK = Path(__file__).parents[1] / "conf" / "notebook.yaml"
EASE_ITEMS = 20_000  # its inverse is dense
EASE_TUNED_ITEMS = 4_000  # above, one inverse is enough
MEASURES = {
    "map": "average_precision",
    "map_truncated": "average_precision_truncated",
    "ndcg": "ndcg",
    "precision": "precision",
    "recall": "recall",
}
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """A split of pairs.

    Attributes:
        labels: `(n_users, n_items)` COO of ones, sorted by user and item: what is trained on.
        ratings, ages: of the same pairs, for sample weights; ages in days, or None.
        seen, wanted: CSR of what is trained on, and of what is held out.
        warm, cold: users with something held out, with and without anything to train on.
    """

    labels: sp.coo_matrix
    ratings: F32
    ages: F32 | None
    seen: sp.csr_matrix
    wanted: sp.csr_matrix
    warm: NDArray[np.int64]
    cold: NDArray[np.int64]


# Gives lists for rows of users, without what they have seen.
Lists = Callable[[NDArray[np.int64], Any], Ranked]


def read_pairs(config: Config) -> pd.DataFrame:
    """Read, validate and deduplicate any configuration's input, as the job does."""
    # Every rating is a pair to be learned from or found; the minimum numbers still hold.
    filters = config.filters.model_copy(update={"rating_threshold": None})
    plain = config.training.model_copy(update={"loss": "warp"})
    config = config.model_copy(update={"filters": filters, "training": plain})
    config.require_input()
    with tempfile.TemporaryDirectory(prefix="recsys-compare-") as folder:
        spark = session.start({"spark.ui.enabled": False, **config.spark})
        try:
            store = Store(spark, folder)
            with store.staging("compare") as staging:
                found = prepare(spark, store, config, new_run("compare", None), staging)
                used = found.pairs.where("label != 0")
                pairs = used.select(USER, ITEM, RATING, TIMESTAMP).toArrow().to_pandas()
        finally:
            spark.stop()
    # In an order of its own: the split below depends on it, and Spark promises none.
    ordered: pd.DataFrame = pairs.sort_values([USER, ITEM], ignore_index=True)
    return ordered


def stratified(pairs: pd.DataFrame, ratio: float, seed: int) -> NDArray[np.bool_]:
    """Return which pairs are trained on, as Recommenders 1.2's python_stratified_split by item."""
    draw = np.random.RandomState(seed).rand(len(pairs))
    item = pd.factorize(pairs[ITEM], sort=True)[0]
    order = np.lexsort((draw, item))
    counts = np.bincount(item)
    rank = np.empty(len(pairs), np.int64)
    starts = np.cumsum(counts) - counts
    rank[order] = np.arange(len(pairs)) - starts[item[order]] + 1
    trained: NDArray[np.bool_] = rank <= np.round(ratio * counts[item])
    return trained


def all_but_last(pairs: pd.DataFrame, n: int) -> NDArray[np.bool_]:
    """Return which pairs are not among their user's last n; of equal times the larger id is."""
    ordered = pairs.sort_values([USER, TIMESTAMP, ITEM])
    left = ordered.groupby(USER).cumcount(ascending=False) >= n
    return np.asarray(left.reindex(pairs.index))


def split(pairs: pd.DataFrame, trained: NDArray[np.bool_]) -> Data:
    """Turn a split into matrices."""
    users, items = (pd.factorize(pairs[name], sort=True)[0] for name in (USER, ITEM))
    shape = (int(users.max()) + 1, int(items.max()) + 1)

    def matrix(chosen: NDArray[np.bool_]) -> sp.csr_matrix:
        ones = np.ones(int(chosen.sum()), np.float32)
        made = sp.csr_matrix((ones, (users[chosen], items[chosen])), shape=shape)
        made.sort_indices()
        return made

    seen, wanted = matrix(trained), matrix(~trained)
    rows = pairs[trained]
    ages = None
    if rows[TIMESTAMP].notna().all():
        ages = ((rows[TIMESTAMP].max() - rows[TIMESTAMP]).dt.total_seconds() / 86_400).to_numpy()
        ages = ages.astype(np.float32)
    tested = np.diff(wanted.indptr) > 0
    known = np.diff(seen.indptr) > 0
    return Data(
        labels=seen.tocoo(),  # the pairs are sorted by user and item, and so are these
        ratings=rows[RATING].to_numpy(np.float32),
        ages=ages,
        seen=seen,
        wanted=wanted,
        warm=np.flatnonzero(tested & known),
        cold=np.flatnonzero(tested & ~known),
    )


def factors(user: F32, item: F32, user_biases: F32 | None = None, bias: F32 | None = None) -> Lists:
    """Lists by inner product, with the kernel."""
    bias = np.zeros(len(item), np.float32) if bias is None else bias
    user_biases = np.zeros(len(user), np.float32) if user_biases is None else user_biases
    items = ItemMatrix(np.ascontiguousarray(item), np.ascontiguousarray(bias))

    def lists(rows: NDArray[np.int64], seen: Any) -> Ranked:
        indptr, indices = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
        return top_k(items, user[rows], user_biases[rows], K, indptr, indices)

    return lists


def popular(counts: F32, n_users: int) -> Lists:
    zero = np.zeros((n_users, 1), np.float32)
    return factors(zero, np.zeros((len(counts), 1), np.float32), None, counts)


def of_model(model: training.Embeddings) -> Lists:
    return factors(
        model.user_embeddings, model.item_embeddings, model.user_biases, model.item_biases
    )


def measured(data: Data, lists: Lists) -> dict[str, NDArray[np.float64]]:
    """Return each metric's value for each user of data.warm, then of data.cold."""
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


class Ours:
    """This project's models."""

    def __init__(self, data: Data, threads: int) -> None:
        self.data, self.threads = data, threads

    def fit(self, settings: Training) -> training.Fitted:
        weights = settings.sample_weights
        return training.fit(
            self.data.labels,
            settings,
            threads=self.threads,
            ratings=None if weights.rating == "none" else self.data.ratings,
            ages=None if weights.half_life_days is None else self.data.ages,
        )

    def choose(self, base: Training) -> Training:
        """Choose on the validation part: regularisation and users' weights, then ratings'."""
        stop = base.early_stopping or EarlyStopping()
        search = base.model_copy(
            update={"early_stopping": stop.model_copy(update={"refit": False})}
        )
        best, value = search, -1.0

        def consider(alpha: float, weights: SampleWeights) -> None:
            nonlocal best, value
            tried = search.model_copy(
                update={"item_alpha": alpha, "user_alpha": alpha, "sample_weights": weights}
            )
            found = float(self.fit(tried).report["ndcg"])
            click.echo(
                f"  alpha {alpha:g}, rating {weights.rating}, exponent {weights.user_exponent:g}: "
                f"validation nDCG {found:.4f}",
                err=True,
            )
            if found > value:
                best, value = tried, found

        for exponent in (0.5, 0.0):
            for alpha in (1e-5, 1e-4):
                consider(alpha, base.sample_weights.model_copy(update={"user_exponent": exponent}))
        if np.ptp(self.data.ratings) > 0:
            kept = best
            for rating in ("linear", "none"):
                weights = kept.sample_weights.model_copy(update={"rating": rating})
                consider(kept.item_alpha, weights)
        return best.model_copy(update={"early_stopping": base.early_stopping or EarlyStopping()})


class Peers:
    """What one could use instead, tuned on the same validation part."""

    def __init__(self, data: Data, seed: int, threads: int) -> None:
        self.data, self.seed, self.threads = data, seed, threads
        settings = EarlyStopping()
        held_out = hold_out(data.labels, settings, seed)
        self.judge = Validator(data.labels, held_out, settings, seed)
        rows, cols = data.labels.row[held_out.trained], data.labels.col[held_out.trained]
        ones = np.ones(len(rows), np.float32)
        self.part = sp.csr_matrix((ones, (rows, cols)), shape=data.labels.shape)

    def value(self, lists: Lists) -> float:
        return self.judge.of_lists(lists(self.judge.users, self.part[self.judge.users]))

    def als(self) -> tuple[str, Callable[[int], Lists]] | None:
        """Hu, Koren & Volinsky 2008, as implicit has it."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError as error:
            click.echo(f"skipped implicit's ALS: {error}", err=True)
            return None

        def fit(matrix: sp.csr_matrix, n: int, alpha: float, ridge: float, seed: int) -> Lists:
            model = AlternatingLeastSquares(
                factors=n, alpha=alpha, regularization=ridge, iterations=15,
                num_threads=self.threads, random_state=seed,
            )  # fmt: skip
            model.fit(matrix, show_progress=False)
            return factors(np.asarray(model.user_factors), np.asarray(model.item_factors))

        grid = list(itertools.product((32, 64, 128), (2.0, 10.0), (0.1, 10.0)))
        best = max(
            grid,
            key=lambda tried: self.value(fit(self.part, tried[0], tried[1], tried[2], self.seed)),
        )
        name = "implicit ALS ({} factors, alpha {:g}, {:g})".format(*best)
        return name, lambda seed: fit(self.data.seen, best[0], best[1], best[2], seed)

    def ease(self) -> tuple[str, Callable[[int], Lists]]:
        """Steck 2019: `B = I - P / diag(P)`, P the inverse of X'X + ridge I."""
        counts = np.asarray(self.data.seen.sum(axis=0)).ravel()
        kept = np.sort(np.argsort(-counts, kind="stable")[:EASE_ITEMS])

        def fit(matrix: sp.csr_matrix, ridge: float) -> Lists:
            mine = matrix[:, kept]
            gram = (mine.T @ mine).toarray().astype(np.float64)
            gram[np.diag_indices(len(kept))] += ridge
            factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True)
            inverse = scipy.linalg.cho_solve(factor, np.eye(len(kept)))
            weights = (inverse / -np.diag(inverse)).astype(np.float32)
            weights[np.diag_indices(len(kept))] = 0
            return self._dense(mine, weights, kept)

        ridge = 500.0
        if len(kept) <= EASE_TUNED_ITEMS:
            grid = (50.0, 100.0, 200.0, 500.0, 1000.0)
            ridge = max(grid, key=lambda tried: self.value(fit(self.part, tried)))
        part = f", top {EASE_ITEMS:,} items" if len(counts) > EASE_ITEMS else ""
        return f"EASE (ridge {ridge:g}{part})", lambda seed: fit(self.data.seen, ridge)

    def _dense(self, mine: sp.csr_matrix, weights: F32, kept: NDArray[np.int64]) -> Lists:
        def lists(rows: NDArray[np.int64], seen: Any) -> Ranked:
            found = np.empty((len(rows), K), np.int32)
            for start in range(0, len(rows), 512):
                some = slice(start, start + 512)
                scores = mine[rows[some]] @ weights
                scores[seen[some][:, kept].toarray() > 0] = -np.inf
                best = np.argpartition(-scores, K, axis=1)[:, :K]
                order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
                found[some] = kept[np.take_along_axis(best, order, axis=1)]
            indptr = np.arange(len(rows) + 1, dtype=np.int64) * K
            return Ranked(indptr, found.reshape(-1), np.zeros(found.size, np.float32))

        return lists


def contenders(
    data: Data, base: Training, seeds: Sequence[int], threads: int, peers: bool
) -> Iterator[tuple[str, Callable[[int], Lists], float]]:
    """Yield each model's name, how it is made for a seed, and the seconds that choosing took."""
    counts = np.asarray(data.labels.sum(axis=0), dtype=np.float32).ravel()
    ours = Ours(data, threads)

    def lightfm(settings: Training) -> Callable[[int], Lists]:
        def make(seed: int) -> Lists:
            fitted = ours.fit(settings.model_copy(update={"seed": seed}))
            if settings.early_stopping is not None:
                click.echo(f"  seed {seed}: epoch {fitted.epochs}", err=True)
            return of_model(fitted.embeddings)

        return make

    yield "popularity", lambda seed: popular(counts, data.seen.shape[0]), 0.0
    yield "notebook's settings", lightfm(load_config(str(NOTEBOOK)).training), 0.0
    yield "recsys, as configured", lightfm(base), 0.0
    start = time.perf_counter()
    chosen = ours.choose(base.model_copy(update={"seed": seeds[0]}))
    yield "recsys, chosen on validation", lightfm(chosen), time.perf_counter() - start
    if not peers:
        return
    others = Peers(data, seeds[0], threads)
    for peer in (others.als, others.ease):
        start = time.perf_counter()
        found = peer()
        if found is not None:
            yield (*found, time.perf_counter() - start)


@click.command(help=__doc__)
@click.option(
    "--config", required=True, help="Any configuration: its input is what is compared on."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option(
    "--seeds", default="1,2,3", show_default=True, help="Of the models; the split has 42."
)
@click.option("--last", type=click.IntRange(min=1), help="Hold out each user's last N pairs.")
@click.option("--peers/--no-peers", default=True, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    config: str,
    overrides: tuple[str, ...],
    seeds: str,
    last: int | None,
    peers: bool,
    json_path: Path | None,
) -> None:
    logging.basicConfig(level=logging.WARNING)
    try:
        records = compare(config, overrides, [int(seed) for seed in seeds.split(",")], last, peers)
    except RecsysError as error:
        raise click.ClickException(str(error)) from error
    if json_path:
        json_path.write_text(json.dumps(records, indent=1) + "\n")


def compare(
    path: str, overrides: Sequence[str], seeds: Sequence[int], last: int | None, peers: bool
) -> list[dict[str, Any]]:
    settings = load_config(path, overrides)
    pairs = read_pairs(settings)
    trained = stratified(pairs, 0.75, 42) if last is None else all_but_last(pairs, last)
    data = split(pairs, trained)
    threads = settings.training.threads or memory.cpus()
    n_users, n_items = data.seen.shape
    click.echo(
        f"{n_users:,} users, {n_items:,} items, {data.seen.nnz:,} pairs to train on, "
        f"{data.wanted.nnz:,} held out; {len(data.warm) + len(data.cold):,} users tested, of which "
        f"{len(data.cold):,} without anything to train on get popular items"
    )
    click.echo(f"{'':44}{'MAP':>16}{'nDCG':>16}{'precision':>16}{'recall':>16}{'s':>7}")
    records = []
    ndcg: dict[str, NDArray[np.float64]] = {}
    for name, make, choosing in contenders(data, settings.training, seeds, threads, peers):
        found, values = [], []
        for seed in seeds:
            start = time.perf_counter()
            per_user = measured(data, make(seed))
            seconds = time.perf_counter() - start + choosing / len(seeds)
            means = {measure: float(column.mean()) for measure, column in per_user.items()}
            found.append({"model": name, "seed": seed, **means, "seconds": round(seconds, 2)})
            values.append(per_user["ndcg"])
        ndcg[name] = np.mean(values, axis=0)
        records += found
        table = pd.DataFrame(found)
        cells = [
            f"{table[m].mean():.4f} ±{table[m].std(ddof=1) if len(seeds) > 1 else 0:.4f}"
            for m in ("map", "ndcg", "precision", "recall")
        ]
        click.echo(
            f"{name:44}" + "".join(f"{c:>16}" for c in cells) + f"{table.seconds.sum():7.0f}"
        )
    users = np.arange(len(data.warm) + len(data.cold))
    for name in [name for name in ndcg if name.startswith("recsys")]:
        ahead = difference(
            users, ndcg[name][:, None], ndcg["popularity"][:, None], resamples=1000, seed=42
        )
        click.echo(
            f"nDCG of {name} minus popularity, paired over users: {float(ahead.value[0]):+.4f} "
            f"[{float(ahead.low[0]):+.4f}, {float(ahead.high[0]):+.4f}]"
        )
    return records


if __name__ == "__main__":
    main()
