"""How good a refresh and a warm start are beside a whole training, and how long they take.

Pairs are split as in `scripts/compare.py`. A model is trained on 90 % of the pairs to train on,
drawn by the seed. Then the other 10 % come in, and there are three ways to lists for today: a whole
training on all pairs, as configured; a warm start, `training.epochs_from` epochs more; a refresh,
which folds everyone in again, and learns the second view again. Users and items of the new pairs
alone are unknown to the first model. All lists are judged by the same held-out pairs (nDCG@10).
Seconds are those of training, of the map that folds in users, and of folding them in; reading and
scoring are the same for all.

    python scripts/compare_refresh.py --config conf/movietweetings.yaml --seeds 1,2,3

`--by time` lets the newest pairs of all be the new ones. `--validation` judges by a part of the
pairs to train on, which are then fewer: settings are chosen by that. `--every N` keeps every N-th
user alone, for a quick look.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import pandas as pd
import pyarrow as pa
from compare_lists import factors, measured
from compare_split import Data, read_pairs, split, stratified
from numpy.typing import NDArray

from recsys.columns import ITEM, TIMESTAMP, USER, IdTypes
from recsys.config.reading import load_config
from recsys.config.sections import Training
from recsys.errors import RecsysError
from recsys.kernel.bootstrap import difference
from recsys.kernel.fold_in import FoldIn
from recsys.learn import assembly, fitting
from recsys.learn.assembly import Assembled, Recipe
from recsys.learn.embeddings import Embeddings
from recsys.learn.fold_in_candidates import Candidate
from recsys.learn.matrices import Interactions
from recsys.learn.sample_weights import Labelled
from recsys.learn.warm_start import Kept, begin, recipe
from recsys.model.arrays import Vectors
from recsys.model.refreshed import BaseModel, Refreshed
from recsys.model.second_view_again import Before
from recsys.runtime import memory

F64 = NDArray[np.float64]
T = TypeVar("T")
FULL, WARM, REFRESH, OLD = "whole training", "warm start", "refresh", "model of 90 %"
_SHARE = 0.1


@dataclass(frozen=True)
class Made:
    """A model with the ids of its rows, and how long it took.

    Attributes:
        user_ids, item_ids: ascending.
        embeddings: as lists are made with them.
        cpu, wall: seconds.
        epochs: of LightFM.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    embeddings: Embeddings
    cpu: float
    wall: float
    epochs: int


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """Return what `work` returns, and its seconds of the CPU and of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    return found, time.process_time() - cpu, time.perf_counter() - wall


def interactions(pairs: pd.DataFrame, settings: Training) -> Interactions:
    """Return pairs as the job collects them."""
    made = split(pairs, np.ones(len(pairs), np.bool_))
    ids = [pa.array(sorted(pairs[name].unique())) for name in (USER, ITEM)]
    weights = settings.sample_weights
    return Interactions(
        ids[0],
        ids[1],
        made.labels,
        None if weights.rating == "none" else made.ratings,
        None if weights.half_life_days is None else made.ages,
    )


def labelled(found: Interactions) -> Labelled:
    return Labelled(found.labels, found.ratings, found.ages)


def whole(
    found: Interactions, settings: Training, threads: int
) -> tuple[fitting.Fitted, Assembled, FoldIn, Candidate, float, float]:
    """Train as configured, put the model together, and fit the map."""

    def work() -> tuple[fitting.Fitted, Assembled, FoldIn, Candidate]:
        fitted, made = assembly.fit(
            found.labels, settings, threads=threads, ratings=found.ratings, ages=found.ages
        )
        likes = assembly.likes_of(found.labels)
        fold_in, report = assembly.fold_in_of(made, likes, settings.seed)
        return fitted, made, fold_in, Candidate(**report["chosen"])

    (fitted, made, fold_in, chosen), cpu, wall = timed(work)
    return fitted, made, fold_in, chosen, cpu, wall


def warm_start(
    old: Kept,
    before: Recipe,
    chosen: Candidate,
    found: Interactions,
    settings: Training,
    threads: int,
) -> Made:
    """Go on from an earlier training, as `recsys train --from` does."""

    def work() -> tuple[Embeddings, int]:
        start = begin(old, found, settings)
        fitted = fitting.go_on(labelled(found), settings, start.state, threads)
        likes, how = assembly.likes_of(found.labels), recipe(before, chosen, settings.epochs_from)
        made = assembly.assemble([fitted.embeddings], likes, how, settings.seed)
        assembly.fold_in_of(made, likes, settings.seed)
        return made.embeddings, fitted.epochs

    (embeddings, epochs), cpu, wall = timed(work)
    return Made(found.user_ids, found.item_ids, embeddings, cpu, wall, epochs)


def refresh(
    old: Interactions,
    before: Assembled,
    model: Embeddings,
    fold_in: FoldIn,
    found: Interactions,
    seed: int,
) -> Made:
    """Fold everyone in again, and learn the second view again, as `recsys refresh` does."""
    trained = np.ones(len(old.item_ids), np.bool_)
    history = None if fold_in.second is None else fold_in.second.history
    liked = np.bincount(old.labels.col[old.labels.data > 0], minlength=len(old.item_ids))
    vectors = model.item_embeddings, model.item_biases
    items = Vectors(old.item_ids, *vectors, trained, liked.astype(np.int32), history)
    second = before.recipe.second
    if second is not None and before.second is not None:
        second = replace(second, rank=before.second.width)
    types, mean_bias = IdTypes("string", "string"), float(model.user_biases.mean())
    again = None if second is None else Before(second, seed, assembly.BYTES_ALLOWED)
    base = BaseModel(items, fold_in, types, mean_bias, second=again)
    made, cpu, wall = timed(lambda: Refreshed.of(base, found))
    users, items = made.learned.users, made.learned.items
    embeddings = Embeddings(users.embeddings, users.biases, items.embeddings, items.biases)
    return Made(users.ids, items.ids, embeddings, cpu, wall, 0)


def spread(made: Made, users: pa.Array, items: pa.Array) -> Embeddings:
    """Give a model rows for all users and items; items that it lacks come last in every list."""
    width = made.embeddings.item_embeddings.shape[1]
    rows = [
        np.searchsorted(all_.to_numpy(zero_copy_only=False), mine.to_numpy(zero_copy_only=False))
        for all_, mine in ((users, made.user_ids), (items, made.item_ids))
    ]
    found = Embeddings(
        np.zeros((len(users), width), np.float32),
        np.zeros(len(users), np.float32),
        np.zeros((len(items), width), np.float32),
        np.full(len(items), -1e6, np.float32),
    )
    found.user_embeddings[rows[0]] = made.embeddings.user_embeddings
    found.user_biases[rows[0]] = made.embeddings.user_biases
    found.item_embeddings[rows[1]] = made.embeddings.item_embeddings
    found.item_biases[rows[1]] = made.embeddings.item_biases
    return found


def new_ones(pairs: pd.DataFrame, by: str, seed: int) -> NDArray[np.bool_]:
    """Return which pairs come in later."""
    if by == "random":
        return np.random.default_rng(seed).random(len(pairs)) < _SHARE
    order = pairs[TIMESTAMP].rank(method="first", pct=True)
    return np.asarray(order > 1 - _SHARE)


def one_seed(
    data: Data, pairs: pd.DataFrame, settings: Training, by: str, threads: int
) -> tuple[dict[str, Made], dict[str, F64]]:
    """Train, let new pairs come in, and judge all ways; `pairs` are those to train on."""
    later = new_ones(pairs, by, settings.seed)
    before, after = (interactions(some, settings) for some in (pairs[~later], pairs))
    resumable = settings.model_copy(update={"resumable": True})
    old, old_made, old_map, chosen, cpu, wall = whole(before, resumable, threads)
    assert old.state is not None  # noqa: S101 - it is resumable
    model = old_made.embeddings.copy()
    made = {OLD: Made(before.user_ids, before.item_ids, model, cpu, wall, old.epochs)}
    made[REFRESH] = refresh(before, old_made, model, old_map, after, settings.seed)
    kept = Kept(before.user_ids, before.item_ids, old.state)
    made[WARM] = warm_start(kept, old_made.recipe, chosen, after, settings, threads)
    full, full_made, _, _, cpu, wall = whole(after, settings, threads)
    ids = after.user_ids, after.item_ids
    made[FULL] = Made(*ids, full_made.embeddings, cpu, wall, full.epochs)
    found = {}
    for name, one in made.items():
        every = spread(one, after.user_ids, after.item_ids)
        lists = factors(
            every.user_embeddings, every.item_embeddings, every.user_biases, every.item_biases
        )
        found[name] = measured(data, lists)["ndcg"]
    return made, found


def compare(
    path: str,
    overrides: tuple[str, ...],
    seeds: list[int],
    by: str,
    every: int,
    validation: bool,
) -> dict[str, Any]:
    """Compare on one configuration, print a table, and return it."""
    config = load_config(path, overrides)
    pairs, _ = read_pairs(config)
    if by == "time" and pairs[TIMESTAMP].isna().any():
        raise click.ClickException("--by time: the pairs have no timestamps")
    pairs = pairs[pd.factorize(pairs[USER], sort=True)[0] % every == 0].reset_index(drop=True)
    if validation:
        pairs = pairs[stratified(pairs, 0.75, 42)].reset_index(drop=True)
    trained = stratified(pairs, 0.75, 42 if not validation else 43)
    # Ids that are held out alone are in no model, and have no list of their own.
    known = pairs[USER].isin(pairs[USER][trained]) & pairs[ITEM].isin(pairs[ITEM][trained])
    pairs, trained = pairs[known].reset_index(drop=True), trained[known]
    data = split(pairs, trained)
    threads = config.training.threads or memory.cpus()
    click.echo(f"\n{path}: {int(trained.sum()):,} pairs to train on, {len(data.warm):,} users")
    records: list[dict[str, Any]] = []
    values: dict[str, list[F64]] = {}
    for seed in seeds:
        settings = config.training.model_copy(update={"seed": seed})
        made, found = one_seed(data, pairs[trained], settings, by, threads)
        ratios = {name: found[name].mean() / found[FULL].mean() for name in found}
        told = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
        click.echo(f"  seed {seed}: {told}", err=True)
        for name, one in made.items():
            values.setdefault(name, []).append(found[name])
            records.append(
                {
                    "way": name,
                    "seed": seed,
                    "ndcg": float(found[name].mean()),
                    "cpu_seconds": round(one.cpu, 2),
                    "wall_seconds": round(one.wall, 2),
                    "epochs": one.epochs,
                }
            )
    table = pd.DataFrame(records).groupby("way", sort=False).mean(numeric_only=True)
    show(table, {name: np.mean(found, axis=0) for name, found in values.items()})
    return {"config": path, "set": list(overrides), "by": by, "every": every, "rows": records}


def show(table: pd.DataFrame, values: dict[str, F64]) -> None:
    """Print means over the seeds, beside the whole training."""
    full, users = table.loc[FULL], np.arange(len(values[FULL]))
    click.echo(
        f"{'':16}{'nDCG@10':>9}{'ratio':>8}{'CPU s':>9}{'share':>7}{'wall s':>9}{'epochs':>8}"
    )
    for name, row in table.iterrows():
        pair = values[str(name)][:, None], values[FULL][:, None]
        found = difference(users, *pair, resamples=1000, seed=42)
        low, high = float(found.low[0]), float(found.high[0])
        click.echo(
            f"{name:16}{row.ndcg:9.4f}{row.ndcg / full.ndcg:8.3f}{row.cpu_seconds:9.1f}"
            f"{row.cpu_seconds / full.cpu_seconds:7.2f}{row.wall_seconds:9.1f}{row.epochs:8.0f}"
            f"   [{low:+.4f}, {high:+.4f}] beside the whole training"
        )


@click.command(help=__doc__)
@click.option("--config", "configs", multiple=True, help="Default: MovieTweetings and goodbooks.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--by", type=click.Choice(["random", "time"]), default="random", show_default=True)
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--validation", is_flag=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    seeds: str,
    by: str,
    every: int,
    validation: bool,
    json_path: Path | None,
) -> None:
    logging.basicConfig(level=logging.WARNING)
    numbers = [int(seed) for seed in seeds.split(",")]
    both = ("conf/movietweetings.yaml", "conf/goodbooks.yaml")
    try:
        found = [
            compare(path, overrides, numbers, by, every, validation) for path in configs or both
        ]
    except RecsysError as error:
        raise click.ClickException(str(error)) from error
    if json_path:
        json_path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
