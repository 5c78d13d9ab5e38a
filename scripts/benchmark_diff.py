"""Comparing the lists of two runs, and finding out why they differ.

Both runs have the same users. The model after is the one before with noise, as after another
training, some users have seen more, and for the last measurement other items are denied, too. Then
every user has several parts that differ, and all lists have to be made again for each. The lists
are made with the kernel, which is not measured; they are read from Parquet, which is.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.flows import diff_tables
from recsys.kernel.fold_in import plain_mean
from recsys.model.arrays import Vectors
from recsys.model.manifest import ModelManifest
from recsys.model.whole import SomeUsers, WholeModel
from recsys.score.causes import CAUSES, find_causes
from recsys.score.differences import find_differences
from recsys.score.histories import Histories, grouped
from recsys.score.replay import Filters, Rules, Situation
from recsys.score.two_sides import Side

_SEEN = 30


def situation(users: int, items: int, width: int, k: int, share: float) -> tuple[Situation, ...]:
    """Return what the lists were made of before and after, and after with other filters."""
    chance = np.random.default_rng(1)
    ids = pa.array([f"u{n:08}" for n in range(users)])
    of_items = chance.standard_normal((items, width), np.float32) / np.float32(np.sqrt(width))
    of_users = chance.standard_normal((users, width), np.float32)
    biases = np.float32(0.5) * chance.standard_normal(items, np.float32)
    seen = chance.integers(0, items, users * _SEEN)
    owner = np.repeat(np.arange(users), _SEEN)
    more = chance.choice(users, int(users * share), replace=False)
    also = chance.integers(0, items, len(more))

    def made(name: str, noise: float, new: bool) -> Situation:
        def near(values: Any) -> Any:
            return values + np.float32(noise) * chance.standard_normal(values.shape, np.float32)

        done = grouped(np.append(owner, more), np.append(seen, also), users)
        nothing = grouped(owner[:0], seen[:0], users)
        known = np.ones(users, np.bool_)
        return Situation(
            ids,
            WholeModel(
                Path(name),
                cast(ModelManifest, None),  # lists do not depend on it
                Vectors(
                    pa.array([f"i{n:08}" for n in range(items)]),
                    near(of_items),
                    biases,
                    np.ones(items, np.bool_),
                    np.ones(items, np.int32),
                ),
                plain_mean(width),
                SomeUsers(known, known, near(of_users), np.zeros(users, np.float32), nothing),
            ),
            Rules(k, True, "new", "popular", "exclude"),
            Filters(),
            Histories(done if new else grouped(owner, seen, users), nothing, np.empty(0)),
        )

    before, after = made("before", 0.0, False), made("after", 0.05, True)
    denied = Filters(deny=after.model.items.ids.take(pa.array(chance.integers(0, items, 50))))
    return before, after, replace(after, filters=denied)


def published(one: Situation, folder: Path) -> Path:
    """Write the lists of a situation as a version has them."""
    lists = one.lists(np.arange(len(one.users)))
    folder.mkdir()
    table = {
        "user_id": one.users.take(pa.array(lists.users)),
        "rank": pa.array(lists.ranks),
        "item_id": one.model.items.ids.take(pa.array(lists.items)),
        "score": pa.array(lists.scores),
    }
    pq.write_table(pa.table(table), folder / "lists.parquet")
    served = {"user_id": one.users, "status": pa.repeat("scored", len(one.users))}
    pq.write_table(pa.table(served), folder / "served.parquet")
    return folder


def read(folder: Path) -> Side:
    """Read what `published` has written."""
    tables = (pq.read_table(folder / f"{name}.parquet") for name in ("lists", "served"))
    return Side(folder.name, "2026-11-24", "all", folder.name, *tables)


def measured(name: str, act: Callable[[], Any]) -> Any:
    """Do something, and say how long it took, on the clock and on the processors."""
    start, cpu = time.perf_counter(), time.process_time()
    found = act()
    seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    print(f"{name:42} {seconds:7.1f} s, {busy:7.1f} s of CPU", flush=True)
    return found


@click.command("diff", help=__doc__)
@click.option("--users", default=200_000, show_default=True)
@click.option("--items", default=10_000, show_default=True)
@click.option("--width", default=64, show_default=True, help="Size of the vectors.")
@click.option("--k", default=10, show_default=True)
@click.option("--share", default=0.2, show_default=True, help="Of users who have seen more.")
def diff_command(users: int, items: int, width: int, k: int, share: float) -> None:
    before, after, filtered = situation(users, items, width, k, share)
    with tempfile.TemporaryDirectory(prefix="recsys-diff-") as name:
        folder = Path(name)
        three = [
            (one, published(one, folder / n))
            for one, n in zip(
                (before, after, filtered), ("before", "after", "filtered"), strict=True
            )
        ]
        print(f"{users:,} users, {k} of {items:,} items each, vectors of {width}")
        for made, place in three[1:]:
            _compare((before, folder / "before"), (made, place))


def _compare(one: tuple[Situation, Path], other: tuple[Situation, Path]) -> None:
    (before, then), (after, now) = one, other
    print(f"\n{now.name}")
    sides = measured("reading both sides", lambda: (read(then), read(now)))
    found = measured("what has changed", partial(find_differences, *sides))
    measured("the summary", found.as_record)
    why = measured("why", partial(find_causes, found.changes, before, after, verify=False))
    counts = np.bincount(why.left, minlength=len(CAUSES))
    print({cause: int(n) for cause, n in zip(CAUSES, counts, strict=True) if cause and n})
    told = replace(found, causes=why)
    measured("the tables", partial(diff_tables.write, [told], now / "tables"))
