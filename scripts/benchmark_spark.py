"""The Spark stage against MLlib, on a model of MovieLens 32M's shape, all in one session.

What is timed is what the job's stage "score" does between its staged cohort and the Parquet files
of the lists: sending users and their seen items to Python, ranking, writing. `fixed
lists` is the same with a kernel that only hands out a constant: what Spark and Arrow cost.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from benchmark_processes import Watch
from example_manifests import trained_model
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import (
    INTERACTIONS_SCHEMA,
    ITEM,
    ROUTED_SCHEMA,
    USER,
    IdTypes,
)
from recsys.config.sections import Cohort
from recsys.kernel import worker
from recsys.kernel.fold_in import plain_mean
from recsys.kernel.topk import Ranked
from recsys.learn.embeddings import Embeddings
from recsys.learn.matrices import Interactions
from recsys.model.learned import Learned
from recsys.model.manifest import ModelOrigin
from recsys.model.tables import Model, write_model, written_model
from recsys.runtime import session
from recsys.score import cohorts, ranking
from recsys.store.files import local_path
from recsys.store.tables import Scratch, Store

TYPES = IdTypes("int", "int")
USERS_PER_FILE = 25_000


@contextmanager
def scratch(master: str, driver_memory: str) -> Iterator[tuple[SparkSession, Store]]:
    """Give a session and a root that both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-benchmark-"))
    spark = session.start(
        {
            "spark.master": master,
            "spark.driver.memory": driver_memory,
            "spark.ui.enabled": False,
            "spark.local.dir": str(folder / "local"),
            "spark.sql.shuffle.partitions": 8,
        }
    )
    try:
        yield spark, Store(spark, str(folder))
    finally:
        spark.stop()
        shutil.rmtree(folder, ignore_errors=True)


def random_embeddings(n_users: int, n_items: int, width: int) -> Embeddings:
    """Gaussian: the hardest case for pruning, as nothing stands out."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return (rng.standard_normal(shape, np.float32) * 0.2).astype(np.float32)

    return Embeddings(
        user_embeddings=normal(n_users, width),
        user_biases=normal(n_users),
        item_embeddings=normal(n_items, width),
        item_biases=normal(n_items),
    )


def make_model(
    spark: SparkSession, store: Store, n_users: int, n_items: int, width: int, n_seen: int
) -> tuple[Model, DataFrame]:
    """Publish a random model of this shape and the interactions it might have learned from."""
    rng = np.random.default_rng(1)
    keys = np.repeat(np.arange(n_users, dtype=np.int64), n_seen) * n_items
    keys += rng.integers(0, n_items, len(keys))
    keys = np.unique(keys)  # a pair is there once
    users, items = (part.astype(np.int32) for part in np.divmod(keys, n_items))
    name = f"random-{n_users}-{n_items}"
    place = local_path(store.uri("pairs", name)) or Path()
    place.mkdir(parents=True)
    step = -(-len(keys) // 8)
    for part in range(8):  # files, so that Spark reads them in parallel
        some = slice(part * step, (part + 1) * step)
        n = len(users[some])
        table = pa.table(
            {
                USER: users[some],
                ITEM: items[some],
                "rating": pa.nulls(n, pa.float64()),
                "timestamp": pa.nulls(n, pa.timestamp("us", "UTC")),
                "label": np.ones(n, np.int8),
                "rows": np.ones(n, np.int64),
                "conflicting": np.zeros(n, np.bool_),
            }
        )
        pq.write_table(table, place / f"{part}.parquet")
    pairs = store.read_table(store.uri("pairs", name), TYPES.fill(INTERACTIONS_SCHEMA))
    labels = sp.coo_matrix((np.ones(len(keys), np.float32), (users, items)), (n_users, n_items))
    interactions = Interactions(
        pa.array(np.arange(n_users, dtype=np.int32)),
        pa.array(np.arange(n_items, dtype=np.int32)),
        labels,
        None,
    )
    uri = store.uri("models", name)
    learned = Learned.of(
        interactions, random_embeddings(n_users, n_items, width), plain_mean(width), TYPES
    )
    origin = ModelOrigin(
        **dict(trained_model(name)),
        run_id="r1",
        run_date="2026-11-24",
        created_at="2026-11-24T00:00:00+00:00",
        configuration={},
        configuration_hash="",
        fold_in=None,
        versions={},
        timings_seconds={},
    )
    scratch_ = Scratch(store, store.uri("scratch"))
    manifest = write_model(
        store, scratch_, uri, learned, pairs, origin, rows_per_file=USERS_PER_FILE
    )
    return written_model(store, uri, learned, manifest), pairs


class Stage:
    """Scores the first n users of a model to Parquet, as a job does, again and again."""

    def __init__(self, spark: SparkSession, store: Store, model: Model, pairs: DataFrame) -> None:
        self.spark, self.store, self.model, self.pairs = spark, store, model, pairs

    def ways(self, n_users: int) -> DataFrame:
        """Stage who is served by which way."""
        place = self.store.uri("ways", f"{self.model.model_id}-{n_users}")
        schema = TYPES.fill(ROUTED_SCHEMA)
        if not self.store.exists(place):
            asked = cohorts.requests(self.spark, Cohort(), TYPES, self.pairs)
            routed = cohorts.route(
                asked.where(F.col(USER) < n_users),
                self.model.users,
                self.pairs,
                self.model.item_index,
                fold_in="new",
                fallback="popular",
                rules=self.model.manifest.pair_rules,
            )
            self.store.write_table(ranking.number_parts(routed, self.tasks(n_users)), place, schema)
        return self.store.read_table(place, schema)

    def tasks(self, n_users: int) -> int:
        """Parts to score."""
        cores = self.spark.sparkContext.defaultParallelism
        return ranking.n_tasks(n_users, USERS_PER_FILE, cores)

    def __call__(self, n_users: int, k: int) -> None:
        ranked = ranking.recommend(
            self.spark,
            self.model,
            self.ways(n_users),
            k=k,
            exclude_seen=True,
            tasks=self.tasks(n_users),
        )
        ranked.write.mode("overwrite").parquet(self.store.uri("lists"))


def fixed_lists(
    batches: Iterator[pd.DataFrame], shared: Any, **settings: Any
) -> Iterator[pd.DataFrame]:
    """`worker.score` with a kernel that always has the same answer."""
    from recsys.kernel import worker as here  # in the worker's process, which later tasks use too

    def constant(items: Any, embeddings: Any, biases: Any, k: int, *seen: Any) -> Ranked:
        n = len(embeddings)
        return Ranked(
            np.arange(n + 1, dtype=np.int64) * k,
            np.tile(np.arange(k, dtype=np.int32), n),
            np.zeros(n * k, np.float32),
        )

    with (
        mock.patch.object(here, "top_k", constant),
        mock.patch.object(here, "ItemMatrix"),
        mock.patch.dict(here._prepared, clear=True),
    ):
        yield from here.score(batches, shared, **settings)


def mllib(spark: SparkSession, store: Store, n_users: int, n_items: int, width: int, k: int) -> Any:
    """MLlib's own way, from a model of the same shape; it leaves out nothing."""
    from pyspark.ml.recommendation import ALS

    rng = np.random.default_rng(2)
    every = np.arange(max(n_users, n_items), dtype=np.int32)
    ratings = pd.DataFrame(
        {
            "user": np.concatenate([every % n_users, rng.integers(0, n_users, 10 * n_users)]),
            "item": np.concatenate([every % n_items, rng.integers(0, n_items, 10 * n_users)]),
            "rating": np.float32(1),
        }
    )
    als = ALS(rank=width, maxIter=1, userCol="user", itemCol="item", implicitPrefs=True, seed=1)
    model = als.fit(spark.createDataFrame(ratings))
    subset = spark.createDataFrame(pd.DataFrame({"user": every[:n_users]}))

    def run() -> None:
        found = model.recommendForUserSubset(subset, k)
        found.write.mode("overwrite").parquet(store.uri("mllib"))

    return run


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@click.command(name="spark")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Also write the records."
)
@click.option("--users", type=int, default=200_948, show_default=True)
@click.option("--items", type=int, default=84_432, show_default=True)
@click.option("--factors", type=int, default=32, show_default=True)
@click.option("--seen", type=int, default=150, show_default=True, help="Items a user has seen.")
@click.option("--k", type=int, default=10, show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--mllib-users", type=int, default=4_000, show_default=True)
@click.option("--master", default="local[2]", show_default=True)
@click.option("--driver-memory", default="6g", show_default=True)
def spark_command(
    json_path: Path | None,
    users: int,
    items: int,
    factors: int,
    seen: int,
    k: int,
    rounds: int,
    mllib_users: int,
    master: str,
    driver_memory: str,
) -> None:
    """The Spark stage against MLlib, and how its cost grows with users and items."""
    # The functions of this file go to workers by value: they have no copy of it.
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(__import__(__name__))  # type: ignore[no-untyped-call]
    with scratch(master, driver_memory) as (spark, store):
        records = _measure(spark, store, users, items, factors, seen, k, rounds, mllib_users)
    if json_path:
        json_path.write_text(json.dumps(records, indent=1) + "\n")


def _measure(
    spark: SparkSession,
    store: Store,
    users: int,
    items: int,
    factors: int,
    seen: int,
    k: int,
    rounds: int,
    mllib_users: int,
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    product_us = _product(items, factors)

    def note(name: str, n_users: int, n_items: int, took: float, **more: Any) -> None:
        us = took / n_users * 1e6
        shape = f"{n_users:,} users, {n_items:,} x {factors}, k={k}, {seen} seen"
        ratio = us / (product_us * n_items / items)
        told = "".join(f"   {key} {value:,.2f}" for key, value in more.items())
        click.echo(f"{name:34}{shape:48}{us:10.1f}{ratio:10.2f}{told}")
        records.append(
            {
                "name": name,
                "shape": shape,
                "us_per_user": round(us, 2),
                "ratio_to_matmul": round(ratio, 3),
                **{key: round(value, 3) for key, value in more.items()},
            }
        )

    click.echo("making the model ...", err=True)
    model, pairs = make_model(spark, store, users, items, factors, seen)
    stage = Stage(spark, store, model, pairs)
    click.echo(f"{'':82}{'us a user':>10}{'x matmul':>10}")
    note("matrix product alone, one thread", users, items, product_us * users / 1e6)

    run_mllib = mllib(spark, store, mllib_users, items, factors, k)
    with mock.patch.object(worker, "score", fixed_lists):
        stage(users, k)  # warm-up, and the requests
    stage(users, k)
    times: dict[str, list[float]] = {"stage": [], "fixed": [], "mllib": []}
    for _ in range(rounds):
        times["stage"].append(timed(lambda: stage(users, k)))
        with mock.patch.object(worker, "score", fixed_lists):
            times["fixed"].append(timed(lambda: stage(users, k)))
        times["mllib"].append(timed(run_mllib))
    median = {name: float(np.median(values)) for name, values in times.items()}
    ahead = (median["mllib"] / mllib_users) / (median["stage"] / users)
    note("stage", users, items, median["stage"])
    share = median["fixed"] / median["stage"]
    note("stage with fixed lists", users, items, median["fixed"], share_of_stage=share)
    note("MLlib recommendForUserSubset", mllib_users, items, median["mllib"], times_stage=ahead)

    watch = Watch(os.getpid())
    for n_users in sorted({n for n in (25_000, 50_000, 100_000, users) if n <= users}):
        stage.ways(n_users)
        with watch.watching():
            seconds = timed(lambda n=n_users: stage(n, k))  # type: ignore[misc]
        note("stage", n_users, items, seconds, seconds=seconds, **_memory(watch))

    part = min(users, 100_000)
    for n_items in (items // 4, items // 2):
        fewer, its_pairs = make_model(spark, store, part, n_items, factors, seen)
        other = Stage(spark, store, fewer, its_pairs)
        other(part, k)
        note("stage", part, n_items, timed(lambda o=other: o(part, k)))  # type: ignore[misc]
    return records


def _product(n_items: int, width: int) -> float:
    """Microseconds a user of the matrix product alone, one thread, at its best batch size."""
    embeddings = random_embeddings(1024, n_items, width)
    columns = np.ascontiguousarray(embeddings.item_embeddings.T)
    best = np.inf
    for batch in (64, 128, 256, 512):
        out = np.empty((batch, n_items), np.float32)
        for _ in range(3):
            start = time.perf_counter()
            for first in range(0, 1024, batch):
                np.matmul(embeddings.user_embeddings[first : first + batch], columns, out=out)
            best = min(best, (time.perf_counter() - start) / 1024 * 1e6)
    return best


def _memory(watch: Watch) -> dict[str, float]:
    """In MiB; each the most that a process has had since its start."""
    names = {
        "driver_python_mib": "Python",
        "driver_jvm_mib": "JVM",
        "largest_python_worker_mib": "worker",
    }
    return {name: watch.peaks[kind] / 2**20 for name, kind in names.items()}
