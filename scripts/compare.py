"""This project's models beside what one could use instead, on any file of ratings.

The protocol is that of the Recommenders project's benchmark: of each item's ratings 75 % are
trained on (`python_stratified_split(ratio=0.75, min_rating=1, filter_by="item", seed=42)`), every
held-out rating is relevant, lists of k=10 leave out what the user was trained with, and metrics are
means over the users with something held out. Of those, who has nothing to train on gets popular
items from every model. `--last N` holds out each user's last N pairs instead.

Everything is chosen on a part of the training split: this project's hyperparameters and epoch, and
those of implicit's ALS and of EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse
Data"). `pip install '.[peers,demo,tune]'` brings implicit, without which its line is missing, and
Optuna, which `--no-choose` does without.

Seconds are apart. `train` is one training, the mean over the seeds; for this project with its
search for the epoch and the judging, as in a job. `CPU` is the processor's, of all threads.
`choose` is the choice of everything else, done once. `score` is the making and measuring of lists.
Of models whose score is an inner product the table also has the width of a vector (`dim`), the
microseconds that the kernel takes for a user on one thread (`us/user`), and the size of what a job
broadcasts to each executor, without the items' ids (`MiB`). The last lines compare this project's
models with EASE, paired over users.

`--curve FILE.csv` writes what was reached on the validation part in how many seconds of training:
for this project after each judged epoch, for peers by each setting that was tried.

    python scripts/compare.py --config conf/movietweetings.yaml --json compare.json
"""

import os

# Before NumPy loads its BLAS: implicit wants it so, and the kernel is timed on one thread.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from compare_lists import ByProduct, CurvePoint, Lists, SameForAllSeeds, measured, popular
from compare_ours import choose, course, fit, fit_with_features, of_model
from compare_peers import Peers
from compare_split import Data, read_split
from numpy.typing import NDArray

from recsys.config.reading import load_config
from recsys.config.sections import Features, Training, Tuning
from recsys.errors import RecsysError
from recsys.kernel.bootstrap import difference
from recsys.learn import studies
from recsys.learn.assembly import Assembled
from recsys.runtime import memory

WITHOUT_FEATURES, WITH_FEATURES = "recsys, as configured", "recsys, with features"
NOTEBOOK = Path(__file__).parents[1] / "conf" / "notebook.yaml"


def contenders(
    data: Data,
    base: Training,
    features: Features,
    seeds: Sequence[int],
    threads: int,
    choosing: Tuning | None,
    peers: bool,
    curve: list[CurvePoint],
) -> Iterator[tuple[str, Callable[[int], Lists], float]]:
    """Yield each model's name, how it is made for a seed, and the seconds that its choice took.

    Points of the curve are added to `curve` as models are made.
    """
    counts = np.asarray(data.labels.sum(axis=0), dtype=np.float32).ravel()

    def lightfm(
        name: str, settings: Training, features: Features | None = None
    ) -> tuple[str, Callable[[int], Lists]]:
        def make(seed: int) -> Lists:
            seeded = settings.model_copy(update={"seed": seed})
            if features is None:
                fitted, made = fit(data, seeded, threads)
            else:
                described = fit_with_features(data, seeded, features, threads)
                fitted, made = described.fitted, described.made
                if described.trial is not None:
                    click.echo(f"  seed {seed}: {described.trial['reason']}", err=True)
            if settings.early_stopping is not None:
                click.echo(f"  seed {seed}: epoch {fitted.epochs}, {_assembled(made)}", err=True)
                curve.extend(course(name, seed, fitted.report))
            return of_model(made.embeddings, made.second)

        return name, make

    yield "popularity", lambda seed: popular(counts, data.seen.shape[0]), 0.0
    yield *lightfm("notebook's settings", load_config(str(NOTEBOOK)).training), 0.0
    yield *lightfm(WITHOUT_FEATURES, base), 0.0
    if features.configured:
        yield *lightfm(WITH_FEATURES, base, features), 0.0
    if choosing is not None:
        start = time.perf_counter()
        chosen = choose(data, base.model_copy(update={"seed": seeds[0]}), choosing, threads)
        yield *lightfm("recsys, chosen on validation", chosen), time.perf_counter() - start
    if not peers:
        return
    others = Peers(data, seeds[0], threads)
    for peer in (others.als, others.ease):
        start = time.perf_counter()
        found = peer()
        if found is not None:
            yield (*found, time.perf_counter() - start)
    curve.extend(others.curve)


@click.command(help=__doc__)
@click.option(
    "--config", required=True, help="Any configuration: its input is what is compared on."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option(
    "--seeds", default="1,2,3", show_default=True, help="Of the models; the split has 42."
)
@click.option("--last", type=click.IntRange(min=1), help="Hold out each user's last N pairs.")
@click.option(
    "--choose/--no-choose",
    "choosing",
    default=True,
    show_default=True,
    help="Also choose hyperparameters on validation, as recsys tune does: 12 trials, or "
    "tuning.trials.",
)
@click.option("--peers/--no-peers", default=True, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@click.option(
    "--curve",
    "curve_path",
    type=click.Path(path_type=Path),
    help="A CSV file of validation nDCG over seconds of training.",
)
def main(
    config: str,
    overrides: tuple[str, ...],
    seeds: str,
    last: int | None,
    choosing: bool,
    peers: bool,
    json_path: Path | None,
    curve_path: Path | None,
) -> None:
    logging.basicConfig(level=logging.WARNING)
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
        curve = list[CurvePoint]()
        records = compare(config, overrides, numbers, last, choosing, peers, curve)
    except RecsysError as error:
        raise click.ClickException(str(error)) from error
    if json_path:
        json_path.write_text(json.dumps(records, indent=1) + "\n")
    if curve_path:
        pd.DataFrame(curve, columns=CurvePoint._fields).to_csv(curve_path, index=False)


def compare(
    path: str,
    overrides: Sequence[str],
    seeds: Sequence[int],
    last: int | None,
    choosing: bool,
    peers: bool,
    curve: list[CurvePoint],
) -> list[dict[str, Any]]:
    settings = load_config(path, overrides)
    if choosing:
        studies.check_installed()
    data = read_split(settings, last)
    threads = settings.training.threads or memory.cpus()
    n_users, n_items = data.seen.shape
    click.echo(
        f"{n_users:,} users, {n_items:,} items, {data.seen.nnz:,} pairs to train on, "
        f"{data.wanted.nnz:,} held out; {len(data.warm) + len(data.cold):,} users tested, of which "
        f"{len(data.cold):,} without anything to train on get popular items"
    )
    click.echo(
        f"{'':44}{'MAP':>16}{'nDCG':>16}{'precision':>16}{'recall':>16}"
        f"{'train s':>9}{'CPU s':>9}{'choose s':>9}{'score s':>9}{'dim':>6}{'us/user':>9}{'MiB':>8}"
    )
    records = []
    ndcg: dict[str, NDArray[np.float64]] = {}
    models = contenders(
        data,
        settings.training,
        settings.features,
        seeds,
        threads,
        settings.tuning if choosing else None,
        peers,
        curve,
    )
    for name, make, preparing in models:
        found, values = list[dict[str, Any]](), list[NDArray[np.float64]]()
        for seed in seeds:
            if not (found and isinstance(make, SameForAllSeeds)):
                lists, seconds, cpu = timed(make, seed)
            start = time.perf_counter()
            per_user = measured(data, lists)
            times = {"seconds": seconds, "cpu_seconds": cpu, "choosing_seconds": preparing}
            times["scoring_seconds"] = time.perf_counter() - start
            means = {measure: float(column.mean()) for measure, column in per_user.items()}
            rounded = {key: round(value, 2) for key, value in times.items()}
            if not found:
                costs = lists.costs(data) if isinstance(lists, ByProduct) else dict[str, Any]()
            found.append({"model": name, "seed": seed, **means, **rounded, **costs})
            values.append(per_user["ndcg"])
        ndcg[name] = np.mean(values, axis=0)
        records += found
        click.echo(_row(name, pd.DataFrame(found)))
        if name.startswith("recsys"):
            click.echo(f"  its nDCG minus popularity's: {_ahead(ndcg[name], ndcg['popularity'])}")
        if name == WITH_FEATURES:
            ahead = _ahead(ndcg[name], ndcg[WITHOUT_FEATURES])
            click.echo(f"  its nDCG minus that without features: {ahead}")
    for ease in (name for name in ndcg if name.startswith("EASE")):
        for name in (name for name in ndcg if name.startswith("recsys")):
            click.echo(f"{name}: its nDCG minus EASE's: {_ahead(ndcg[name], ndcg[ease])}")
    return records


def _row(name: str, seeds: pd.DataFrame) -> str:
    """Return a model's row of the table, from the records of its seeds."""
    cells = [
        f"{seeds[m].mean():.4f} ±{seeds[m].std(ddof=1) if len(seeds) > 1 else 0:.4f}"
        for m in ("map", "ndcg", "precision", "recall")
    ]
    times = ("seconds", "cpu_seconds", "choosing_seconds", "scoring_seconds")
    row = f"{name:44}" + "".join(f"{cell:>16}" for cell in cells)
    row += "".join(f"{seeds[time].mean():9.1f}" for time in times)
    if "dimensions" not in seeds:
        return row + f"{'-':>6}{'-':>9}{'-':>8}"
    first = seeds.iloc[0]
    return row + f"{first.dimensions:6}{first.kernel_us:9.1f}{first.broadcast_mib:8.1f}"


def _assembled(made: Assembled) -> str:
    """Say how a model was put together."""
    known, second = made.report["known_users"], made.report["second_view"]
    items = made.embeddings.item_embeddings
    beside = "no second view" if second is None else f"{second['kind']} of rank {second['rank']}"
    if second is not None:
        beside += f" (LightFM's share {second['share']:g})"
    return (
        f"{known['share_of_trained']:g} of the trained user vectors, {beside}; {items.shape[1]} "
        f"components, item matrix {items.nbytes / 2**20:.1f} MiB"
    )


def timed(make: Callable[[int], Lists], seed: int) -> tuple[Lists, float, float]:
    """Make a model, and return its lists, its seconds, and those of the processor."""
    start, cpu = time.perf_counter(), time.process_time()
    lists = make(seed)
    return lists, time.perf_counter() - start, time.process_time() - cpu


def _ahead(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    """Return the mean difference with its 95 % interval, by a paired bootstrap over users."""
    users = np.arange(len(mine))
    found = difference(users, mine[:, None], theirs[:, None], resamples=1000, seed=42)
    value, low, high = (float(part[0]) for part in (found.value, found.low, found.high))
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}], paired over users"


if __name__ == "__main__":
    main()
