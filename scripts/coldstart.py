"""Measure what users whom the model has never seen get, against a model retrained with them.

A fifth of the users with at least four positives is kept out of training. Half of their history is
given, the other half is to be found (nDCG@10 over the whole catalogue, given items left out). The
retrained model has learned the given halves as well; every other row uses the first model alone.
Items that only kept-out users have are left out altogether: this is about new users, not new items.

Both models: the defaults with 64 components, up to 40 epochs, and no weights by ratings, which are
not read here. The first model is put together as the job does, with a second view if that helps on
its validation part, and the retrained one in the same way, for as many epochs. Intervals are
percentiles of a paired bootstrap over users; somebody kept out under several seeds is drawn as a
whole. With more than one thread LightFM does not repeat itself, so the last digits differ from run
to run.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import Training
from recsys.kernel.fold_in import FoldIn, fold_in, plain_mean
from recsys.learn import assembly
from recsys.learn.training import train

SETTINGS: dict[str, Any] = {
    "no_components": 64,
    "epochs": 40,
    "sample_weights": {"rating": "none"},
}
K = 10
SHARE = 0.2
MIN_POSITIVES = 4
RESAMPLES = 2000
BLOCK = 256
POPULAR, NOTEBOOK, MEAN_BIAS, FOLD_IN, RETRAINED = METHODS = (
    "popularity",
    "mean embedding (notebook)",
    "mean + item bias",
    "fold-in",
    "retrained",
)

Scores = Callable[[slice], NDArray[np.float32]]


def goodbooks(folder: Path) -> pd.DataFrame:
    """Return goodbooks' ratings of at least 4 of 5 as user and item."""
    ratings = pd.read_csv(folder / "goodbooks" / "ratings.csv")
    ratings = ratings.rename(columns={"user_id": "user", "book_id": "item"})
    return ratings.loc[ratings["rating"] >= 4, ["user", "item"]]


def movietweetings(folder: Path) -> pd.DataFrame:
    """Return MovieTweetings' ratings of at least 6 of 10 as user and item."""
    ratings = pd.read_csv(
        folder / "movietweetings" / "ratings.dat",
        sep="::",
        engine="python",
        names=["user", "item", "rating", "timestamp"],
        dtype={"item": str},
    )
    return ratings.loc[ratings["rating"] >= 6, ["user", "item"]]


DATA = {"goodbooks": goodbooks, "movietweetings": movietweetings}


@dataclass(frozen=True)
class Split:
    """Positives as matrices of users and items, and who is kept out of training.

    Attributes:
        training: `(n_users, n_items)` CSR, ones; empty rows for users kept out.
        given, wanted: `(n_kept_out, n_items)` CSR, ones.
        kept_out: `(n_kept_out,)` rows of `training`.
    """

    training: sp.csr_matrix
    given: sp.csr_matrix
    wanted: sp.csr_matrix
    kept_out: NDArray[np.int64]


def split(pairs: pd.DataFrame, seed: int) -> Split:
    """Keep users out and halve their histories."""
    rng = np.random.default_rng(seed)
    pairs = pairs.drop_duplicates()
    users = pd.factorize(pairs["user"], sort=True)[0]
    items = pd.factorize(pairs["item"], sort=True)[0]
    n_users, n_items = int(users.max()) + 1, int(items.max()) + 1
    eligible = np.flatnonzero(np.bincount(users, minlength=n_users) >= MIN_POSITIVES)
    kept_out = np.zeros(n_users, bool)
    kept_out[rng.choice(eligible, int(SHARE * len(eligible)), replace=False)] = True
    trained = np.zeros(n_items, bool)
    trained[items[~kept_out[users]]] = True
    users, items = users[trained[items]], items[trained[items]]
    items = (np.cumsum(trained) - 1)[items]
    order = np.lexsort((rng.random(len(users)), users))
    users, items = users[order], items[order]
    lengths = np.bincount(users, minlength=n_users)
    position = np.arange(len(users)) - (np.cumsum(lengths) - lengths)[users]
    is_given = kept_out[users] & (position < (lengths[users] + 1) // 2)
    is_wanted = kept_out[users] & ~is_given

    def matrix(chosen: NDArray[np.bool_]) -> sp.csr_matrix:
        ones = np.ones(int(chosen.sum()), np.float32)
        shape = (n_users, int(trained.sum()))
        made = sp.csr_matrix((ones, (users[chosen], items[chosen])), shape=shape)
        made.sort_indices()
        return made

    given, wanted = matrix(is_given), matrix(is_wanted)
    rows = np.flatnonzero((given.getnnz(axis=1) > 0) & (wanted.getnnz(axis=1) > 0))
    return Split(matrix(~kept_out[users]), given[rows], wanted[rows], rows)


def ndcg(scores: Scores, data: Split) -> NDArray[np.float64]:
    """Return each kept-out user's nDCG@10."""
    discounts = 1 / np.log2(np.arange(2, K + 2))
    found = []
    for start in range(0, len(data.kept_out), BLOCK):
        part = slice(start, min(start + BLOCK, len(data.kept_out)))
        block = scores(part).copy()
        rows, items = data.given[part].nonzero()
        block[rows, items] = -np.inf
        best = np.sort(np.argpartition(-block, K - 1, axis=1)[:, :K], axis=1)
        order = np.argsort(-np.take_along_axis(block, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        hits = np.asarray(data.wanted[part][np.arange(len(block))[:, None], best].todense())
        found.append(hits @ discounts)
    ideal = np.cumsum(discounts)[np.minimum(data.wanted.getnnz(axis=1), K) - 1]
    values: NDArray[np.float64] = np.concatenate(found) / ideal
    return values


def products(
    vectors: NDArray[np.float32], items: NDArray[np.float32], biases: NDArray[np.float32]
) -> Scores:
    """Return a function from a slice of users to their scores of all items."""
    return lambda part: vectors[part] @ items.T + biases


def measure(
    data: Split, seed: int, threads: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Return each method's nDCG@10 by user, and what was fitted and how long it took."""
    settings = Training.model_validate({**SETTINGS, "seed": seed})
    started = time.perf_counter()
    made_of, made = assembly.fit(data.training.tocoo(), settings, threads=threads)
    trained = time.perf_counter()
    items, biases = made.embeddings.item_embeddings, made.embeddings.item_biases
    fitted, report = assembly.fold_in_of(made, data.training, seed)
    done = time.perf_counter()
    rows, liked = data.given.nonzero()
    given = sp.csr_matrix(
        (np.ones(len(rows), np.float32), (data.kept_out[rows], liked)), shape=data.training.shape
    )
    everything = data.training + given
    alike = settings.model_copy(update={"epochs": made_of.epochs})
    again = train(everything.tocoo(), alike, threads=threads)
    retrained = assembly.assemble([again], everything, made.recipe, seed).embeddings

    def vectors(used: FoldIn) -> NDArray[np.float32]:
        return fold_in(used, items, data.given.indptr.astype(np.int64), data.given.indices)

    popularity = np.asarray(data.training.sum(axis=0), dtype=np.float32).ravel()
    mean = vectors(replace(plain_mean(len(fitted.intercept)), second=fitted.second))
    scale = np.float32(fitted.bias_scale)
    results = {
        POPULAR: lambda part: np.tile(popularity, (part.stop - part.start, 1)),
        NOTEBOOK: products(mean, items, np.zeros_like(biases)),
        MEAN_BIAS: products(mean, items, biases),
        FOLD_IN: products(vectors(fitted), items, scale * biases),
        RETRAINED: products(
            retrained.user_embeddings[data.kept_out],
            retrained.item_embeddings,
            retrained.item_biases,
        ),
    }
    return {name: ndcg(scores, data) for name, scores in results.items()}, {
        "seed": seed,
        "users": len(data.kept_out),
        "training_seconds": trained - started,
        "fit_seconds": done - trained,
        "second_view": made.report["second_view"],
        **report,
    }


def bootstrap(
    users: NDArray[np.int64], values: dict[str, NDArray[np.float64]]
) -> dict[str, dict[str, Any]]:
    """Return means, ratios and paired differences with 95 % intervals, over all seeds."""
    rng = np.random.default_rng(0)
    people, place = np.unique(users, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    sums = np.stack([np.bincount(place, weights=values[name]) for name in METHODS])
    means = np.empty((RESAMPLES, len(METHODS)))
    for resample in range(RESAMPLES):
        times = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        means[resample] = sums @ times / (counts @ times)
    observed = sums.sum(axis=1) / counts.sum()
    ours, best = METHODS.index(FOLD_IN), METHODS.index(RETRAINED)

    def interval(draws: NDArray[np.float64]) -> list[float]:
        return [float(value) for value in np.percentile(draws, [2.5, 97.5])]

    return {
        name: {
            "ndcg": float(observed[row]),
            "ratio_to_retrained": float(observed[row] / observed[best]),
            "ratio_interval": interval(means[:, row] / means[:, best]),
            "fold_in_ahead_by": float(observed[ours] - observed[row]),
            "ahead_interval": interval(means[:, ours] - means[:, row]),
        }
        for row, name in enumerate(METHODS)
    }


def show(name: str, runs: list[dict[str, Any]], table: dict[str, dict[str, Any]]) -> None:
    """Print one data set's table."""
    click.echo(f"\n{name}: {len(runs)} seeds, {runs[0]['users']:,} users kept out of each")
    click.echo(f"{'':27}nDCG@10   to retrained            fold-in is ahead by")
    for method, row in table.items():
        low, high = row["ratio_interval"]
        line = f"{method:27}{row['ndcg']:7.4f}   {row['ratio_to_retrained']:.3f}"
        line += " " * 18 if method == RETRAINED else f" [{low:.3f}, {high:.3f}]   "
        if method != FOLD_IN:
            low, high = row["ahead_interval"]
            line += f"{row['fold_in_ahead_by']:+.4f} [{low:+.4f}, {high:+.4f}]"
        click.echo(line.rstrip())
    for run in runs:
        chosen = run["chosen"]
        click.echo(
            f"seed {run['seed']}: {chosen['kind']}, regularisation {chosen['regularisation']:g}, "
            f"intercept {'yes' if chosen['intercept'] else 'no'}, bias x "
            f"{chosen['bias_scale']:g}, shrinkage {chosen['shrinkage']:g}; "
            f"fit {run['fit_seconds']:.1f} s of {run['training_seconds']:.0f} s"
        )


@click.command(help=__doc__)
@click.option("--data", type=click.Choice(list(DATA)), multiple=True, help="Default: all.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("../shared/data"),
    show_default=True,
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path))
def main(data: tuple[str, ...], folder: Path, seeds: int, threads: int, file: Path | None) -> None:
    """Run the measurement and print, and perhaps write, what it found."""
    records: list[dict[str, Any]] = []
    for name in data or tuple(DATA):
        pairs = DATA[name](folder)
        runs, users = [], []
        values: dict[str, list[NDArray[np.float64]]] = {method: [] for method in METHODS}
        for seed in range(seeds):
            made = split(pairs, seed)
            found, run = measure(made, seed, threads)
            runs.append({**run, "ndcg_by_method": {m: float(v.mean()) for m, v in found.items()}})
            users.append(made.kept_out)
            for method in METHODS:
                values[method].append(found[method])
        joined = {method: np.concatenate(parts) for method, parts in values.items()}
        table = bootstrap(np.concatenate(users), joined)
        show(name, runs, table)
        records.append({"data": name, "settings": SETTINGS, "methods": table, "runs": runs})
    if file is not None:
        file.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
