"""Lists for many users by `recsys.LocalModel`, without Spark, once the model is loaded.

Without `--model`, the users and items are random vectors of the shape of the demo's model (68,509
items of 64 components, and 2,469 users who have each seen 350). Each way of making lists runs
`--repeat` times; the first time prepares the items.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow as pa

from recsys import LocalModel
from recsys.kernel.fold_in import FoldIn
from recsys.kernel.worker import BroadcastModel, Lists, Ragged
from recsys.model.arrays import load_users
from recsys.model.whole import SomeUsers
from recsys.score.local_ids import LocalIds
from recsys.score.local_users import LocalUsers

ITEMS, USERS, WIDTH, SEEN = 68_509, 2_469, 64, 350


@click.command("local")
@click.option("--model", help="The directory of a model; default: random vectors.")
@click.option("--users", default=1_000, show_default=True)
@click.option("--k", default=10, show_default=True)
@click.option("--repeat", default=5, show_default=True)
def local_command(model: str | None, users: int, k: int, repeat: int) -> None:
    """Measure LocalModel's lists for many users."""
    chance = np.random.default_rng(1)
    known, liking = _loaded(model, users, k) if model else _random(chance, users, k)
    for name, make in (("recommend_users", known), ("recommend_likes", liking)):
        seconds, busy = [], []
        for _ in range(repeat):
            begin, work = time.perf_counter(), time.process_time()
            found = make()
            busy.append(time.process_time() - work)
            seconds.append(time.perf_counter() - begin)
        print(
            f"{name:16} {len(found):,} rows: first {seconds[0]:.3f} s, then median "
            f"{statistics.median(seconds[1:] or seconds):.3f} s, of which this process worked "
            f"{statistics.median(busy[1:] or busy):.3f} s"
        )


Make = Callable[[], pd.DataFrame]


def _loaded(folder: str, n: int, k: int) -> tuple[Make, Make]:
    model = LocalModel.load(folder)
    ids = load_users(Path(folder)).ids.to_pylist()[:n]
    model.recommend_users(ids[:1])  # which loads the users
    items = model.recommend([], k=100)["item_id"].to_numpy()
    likes = _likes(np.random.default_rng(1), items, n)
    return lambda: model.recommend_users(ids, k), lambda: model.recommend_likes(likes, k)


def _likes(chance: np.random.Generator, items: np.ndarray, n: int) -> pd.DataFrame:
    liked = chance.choice(items, n * 20)
    return pd.DataFrame({"user_id": np.repeat(np.arange(n), 20), "item_id": liked})


def _random(chance: np.random.Generator, n: int, k: int) -> tuple[Make, Make]:
    vectors = chance.normal(0, 0.1, (ITEMS, WIDTH)).astype(np.float32)
    identity = np.eye(WIDTH, dtype=np.float32)
    fold_in = FoldIn("mean", identity, np.zeros(WIDTH, np.float32), 1.0, 1.0)
    biases = chance.normal(0, 0.1, ITEMS).astype(np.float32)
    ids = np.arange(ITEMS, dtype=np.int32)
    items = BroadcastModel("random", ids, vectors, biases, ids, None, fold_in)
    many = LocalUsers(Path(), Lists(items), reserved=0)
    seen = [np.sort(chance.choice(ITEMS, SEEN, replace=False)) for _ in range(n)]
    had = SomeUsers(
        np.ones(n, np.bool_),
        np.ones(n, np.bool_),
        chance.normal(0, 0.1, (n, WIDTH)).astype(np.float32),
        chance.normal(0, 0.1, n).astype(np.float32),
        Ragged.of(seen),
    )
    likes = _likes(chance, ids, n)
    rows = {item: item for item in range(ITEMS)}
    types = LocalIds(pa.array(ids[:1]))
    return (
        lambda: many.of(had, np.arange(n), k, exclude_seen=True),
        lambda: many.liking(likes, k, rows, types),
    )
