"""What an epoch costs with features, in time and in memory.

Made-up pairs are trained on with 0, 1, 5 and 20 features of each item beside its identity; 0 is
the training without features. Items are as unevenly popular as films, and each user prefers a
twentieth of them, so that there is something to learn. Each case is a process of its own, since a
process has only one peak. Time is the processor's, of all threads together, since machines are
shared. The case without features is run again at the end: how far the two are apart is how far to
trust the rest.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from benchmark_processes import peak_bytes

from recsys.config.sections import Training
from recsys.learn import training
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import IDENTITIES, Described, Feature, Sides, side
from recsys.runtime import memory

PAIRS_PER_USER, PAIRS_PER_ITEM = 100, 500  # as in MovieLens and its like
TASTES = 20
VALUES = 50  # of a group of features; an item has one of each group


def write_pairs(folder: Path, n: int) -> None:
    """Draw n different pairs, and write their users and items, sorted by both."""
    chance = np.random.default_rng(1)
    n_users, n_items = max(1, n // PAIRS_PER_USER), max(TASTES, n // PAIRS_PER_ITEM)
    active = chance.lognormal(size=n_users)
    popular = 1 / (np.arange(n_items) + 20)
    found = np.empty(0, np.int64)
    while len(found) < n:
        users = chance.choice(n_users, n, p=active / active.sum())
        items = chance.choice(n_items, n, p=popular / popular.sum())
        liked = items - items % TASTES + users % TASTES
        own = (chance.random(n) < 0.5) & (liked < n_items)
        pairs = users * np.int64(n_items) + np.where(own, liked, items)
        found = np.unique(np.concatenate([found, pairs]))
    found = np.sort(chance.choice(found, n, replace=False))
    np.save(folder / "users.npy", (found // n_items).astype(np.int32))
    np.save(folder / "items.npy", (found % n_items).astype(np.int32))


def read_pairs(folder: Path) -> sp.coo_matrix:
    """Read the pairs without copies, which would count as the training's memory."""
    users, items = (np.load(folder / f"{name}.npy") for name in ("users", "items"))
    shape = int(users[-1]) + 1, int(items.max()) + 1
    return sp.coo_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)


def some_features(n_items: int, per_item: int) -> Sides:
    """Describe items by as many groups of features, whose values are unevenly frequent."""
    if per_item == 0:
        return IDENTITIES
    chance = np.random.default_rng(2)
    values = (chance.random((n_items, per_item)) ** 2 * VALUES).astype(np.int32)
    columns = values + np.arange(per_item, dtype=np.int32) * VALUES
    rows = np.arange(0, columns.size + 1, per_item, dtype=np.int32)
    weights = sp.csr_matrix(
        (np.ones(columns.size, np.float32), columns.ravel(), rows),
        shape=(n_items, per_item * VALUES),
    )
    groups = [f"g{n}" for n in range(per_item)]
    names = [
        Feature(group, f"{value}", f"{value}", 1) for group in groups for value in range(VALUES)
    ]
    ids = pa.array(np.arange(n_items, dtype=np.int32))
    known = Described(ids, names, weights)
    equal = dict.fromkeys(groups, 1.0)
    return Sides(items=side(known, ids, equal, identity=True, normalise=True))


def measure(folder: str, per_item: int, components: int, threads: int, epochs: int) -> None:
    """Train once; print each epoch's seconds of the processor and by how much the peak rose."""
    labels = read_pairs(Path(folder))
    features = some_features(labels.shape[1], per_item)
    settings = Training(no_components=components, epochs=epochs, early_stopping=None)
    ends = list[float]()

    def stop(_: Embeddings) -> bool:
        ends.append(time.process_time())
        return False

    training.has_openmp()  # loads LightFM; the matrices, which are small, loaded much of SciPy
    before, start = peak_bytes(os.getpid()), time.process_time()
    training.train(labels, settings, threads=threads, features=features, stop=stop)
    seconds = np.diff([start, *ends]).tolist()
    print(json.dumps({"seconds": seconds, "bytes": peak_bytes(os.getpid()) - before}))


def run_case(*arguments: object) -> tuple[float, int]:
    """Measure in a process of its own; return the median of the epochs' seconds, and the bytes."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return statistics.median(found["seconds"]), found["bytes"]


def compare(
    n: int, cases: Sequence[int], components: int, threads: int, epochs: int
) -> list[tuple[str, ...]]:
    """Run all cases on n pairs, and the first one again, and return the rows of the table."""
    rows = list[tuple[str, ...]]()
    with tempfile.TemporaryDirectory(prefix="recsys-features-") as name:
        write_pairs(Path(name), n)
        first = None
        for at, per_item in enumerate([*cases, cases[0]]):
            seconds, size = run_case(name, per_item, components, threads, epochs)
            first = first or (seconds, size)
            again = " again" if at == len(cases) else ""
            rows.append(
                (
                    f"{n:,}",
                    f"{per_item}{again}",
                    f"{seconds:.1f} s",
                    f"{seconds / first[0]:.1f}",
                    f"{size / 2**20:,.0f} MiB",
                    f"{size / first[1]:.2f}",
                )
            )
            click.echo(f"{n:,} pairs, {per_item} features: {seconds:.1f} s an epoch", err=True)
    return rows


def in_markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@click.command("features", help=__doc__)
@click.option(
    "--pairs",
    type=click.IntRange(min=100_000),
    multiple=True,
    default=(1_000_000, 10_000_000),
    show_default=True,
)
@click.option(
    "--features",
    "cases",
    type=click.IntRange(min=0),
    multiple=True,
    default=(0, 1, 5, 20),
    show_default=True,
    help="Of each item.",
)
@click.option(
    "--components", type=click.IntRange(min=1), default=Training().no_components, show_default=True
)
@click.option("--threads", type=click.IntRange(min=1), default=memory.cpus, show_default="all")
@click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True)
def features_command(
    pairs: tuple[int, ...], cases: tuple[int, ...], components: int, threads: int, epochs: int
) -> None:
    training.check_threads(threads)
    rows = [row for n in pairs for row in compare(n, cases, components, threads, epochs)]
    head = ("pairs", "features an item", "an epoch", "times", "memory", "times")
    click.echo(in_markdown([head, ("---:",) * len(head), *rows]))


if __name__ == "__main__":  # one measurement
    measure(sys.argv[1], *map(int, sys.argv[2:]))
