"""What it costs to train on a sample of the users (`training.sample_users`).

The same pairs are held out for all shares: a pair's fold is a hash of its ids. For each share a
model is trained as `recsys evaluate` does it, and all users with something held out are measured as
`recsys score` serves them: those of the sample by their vectors, all others folded in. The
difference to all users is paired over the users, with its 95 % interval.

Without `--config` ratings are made in MovieLens's shape (`scripts/make_ratings.py`):

    python scripts/benchmark.py sampling --users 50_000
    python scripts/benchmark.py sampling --config conf/movietweetings.yaml

`--set training.epochs=3 --set training.second_view=none --users 2000` is a quick look. Seconds are
those of the step `train`, and of all of the evaluation.
"""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import make_ratings
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.errors import RecsysError
from recsys.flows import commands
from recsys.flows.execution import run_recorded
from recsys.flows.manifest import RunManifest
from recsys.kernel.bootstrap import difference, estimate
from recsys.runtime import session
from recsys.runtime.run import new_run

F64 = NDArray[np.float64]
K, RESAMPLES, SEED = 10, 2000, 42


def _shares(_: object, __: object, text: str) -> list[float]:
    return [1.0, *(share for share in map(float, text.split(",")) if share != 1)]


@click.command("sampling", help=__doc__)
@click.option("--config", help="Any configuration; without one, ratings are made.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option(
    "--shares",
    default="1,.5,.25,.1",
    callback=_shares,
    show_default=True,
    help="1 is always there.",
)
@click.option("--users", type=int, default=50_000, show_default=True, help="Of made ratings.")
@click.option("--rows", type=int, help="Of made ratings; default as many a user as MovieLens has.")
@click.option("--driver-memory", default="4g", show_default=True, help="Of the JVM.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this.")
def sampling_command(
    config: str | None,
    overrides: tuple[str, ...],
    shares: list[float],
    users: int,
    rows: int | None,
    driver_memory: str,
    json_path: Path | None,
) -> None:
    logging.basicConfig(level=logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="recsys-sampling-"))
    try:
        given = [*overrides, f"spark.driver.memory={driver_memory}"]
        if config is None:
            given += _made(folder / "ratings.csv", users, rows)
        loaded = load_config(config, [*given, f"root={folder / 'root'}", "evaluation.k=[10]"])
        records = _measure(loaded, shares)
    except RecsysError as error:
        raise click.ClickException(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if json_path:
        json_path.write_text(json.dumps(records, indent=1) + "\n")


def _made(path: Path, users: int, rows: int | None) -> list[str]:
    """Make ratings, and return the configuration of their columns."""
    n_rows = rows or users * make_ratings.FULL_ROWS // make_ratings.FULL_USERS
    items = make_ratings.scaled(n_rows)[1]
    click.echo(f"making {n_rows:,} ratings of {users:,} users and {items:,} items ...", err=True)
    make_ratings.write(path, make_ratings.Shape(n_rows, users, items), os.cpu_count() or 1)
    columns = {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"}
    return [
        f"input.path={path}",
        "input.options.header=true",
        *(f"input.columns.{name}={column}" for name, column in columns.items()),
        "filters.rating_threshold=4",
    ]


def _measure(config: Config, shares: list[float]) -> list[dict[str, Any]]:
    """Train and measure with each share, and print a line as soon as it is known."""
    spark = session.start(config.spark)
    click.echo(
        f"{'share':>6}{'users':>10}{'pairs':>12}{'added':>8}{'folded in':>11}{'nDCG@10':>9}"
        f"{'low':>8}{'high':>8}{'to all':>9}{'low':>9}{'high':>9}{'train s':>9}{'all s':>8}"
    )
    records, everyone = [], None
    try:
        for share in shares:
            training = config.training.model_copy(update={"sample_users": share})
            chosen = config.model_copy(update={"training": training})
            run = new_run(f"share-{share:g}".replace(".", "-"))
            done = run_recorded(commands.evaluate_command(), spark, chosen, run)
            mine = _ndcg(done)
            everyone = mine if everyone is None else everyone
            records.append(_record(share, done, mine, everyone))
            _line(records[-1])
    finally:
        spark.stop()
    return records


def _ndcg(done: RunManifest) -> "pd.Series[float]":
    """Return the nDCG of the model's list of each test user."""
    place = done.outputs["users"].uri.removeprefix("file:")
    table = pd.read_parquet(place, partitioning=None)
    mine = table[(table["model"] == "model") & (table["k"] == K)]
    found: pd.Series[float] = mine.set_index("user_id")["ndcg"].sort_index()
    return found


def _column(values: "pd.Series[float]") -> F64:
    made: F64 = values.to_numpy()[:, None].astype(np.float64)
    return made


def _record(
    share: float, done: RunManifest, mine: "pd.Series[float]", everyone: "pd.Series[float]"
) -> dict[str, Any]:
    if not mine.index.equals(everyone.index):
        raise click.ClickException("expected the same test users for all shares")
    ids, values = mine.index.to_numpy(), _column(mine)
    own = estimate(ids, values, resamples=RESAMPLES, seed=SEED)
    apart = difference(ids, values, _column(everyone), resamples=RESAMPLES, seed=SEED)
    counts, training, evaluation = done.counts, done.training, done.evaluation
    assert counts and training and evaluation  # noqa: S101, PT018 - an evaluation has them
    sample = training.sample
    numbers = {
        name: [float(found.value[0]), float(found.low[0]), float(found.high[0])]
        for name, found in (("ndcg", own), ("difference", apart))
    }
    return {
        "share": share,
        "users": counts.users_in_training if sample is None else sample.users,
        "pairs": evaluation.pairs_in_train if sample is None else sample.pairs,
        "added": 0 if sample is None else sample.added_users,
        "folded_in": evaluation.users_folded_in,
        "test_users": len(mine),
        **numbers,
        "train_seconds": done.timings_seconds["train"],
        "seconds": sum(done.timings_seconds.values()),
    }


def _line(one: dict[str, Any]) -> None:
    ndcg, apart = one["ndcg"], one["difference"]
    click.echo(
        f"{one['share']:>6g}{one['users']:>10,}{one['pairs']:>12,}{one['added']:>8,}"
        f"{one['folded_in']:>11,}{ndcg[0]:>9.4f}{ndcg[1]:>8.4f}{ndcg[2]:>8.4f}"
        f"{apart[0]:>+9.4f}{apart[1]:>+9.4f}{apart[2]:>+9.4f}"
        f"{one['train_seconds']:>9.1f}{one['seconds']:>8.1f}"
    )
