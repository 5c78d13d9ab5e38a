"""Ratings in MovieLens's shape, of any size, as CSV.

    python scripts/make_ratings.py ratings.csv --rows 32_000_204

Users have long and short histories, items long and short tails. Users have tastes, which decide
what they rate and how. Ratings are half stars, and timestamps come in sessions. Some rows repeat a
pair, and, if asked, some rows are dirty. A seed gives the same file, whatever the number of
processes: users are made in blocks, each with a generator of its own, and written in order.
"""

import io
import multiprocessing
import os
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

FULL_ROWS, FULL_USERS, FULL_ITEMS = 32_000_204, 200_948, 84_432  # MovieLens 32M
HEADER = b"userId,movieId,rating,timestamp\n"
STARS = [f"{half / 2:.1f}" for half in range(1, 11)]
_BLOCK_ROWS = 500_000
_LEAST_HISTORY = 20  # as in MovieLens
_TASTES = 64  # of which each user has a few
_SHARES = np.array([0.35, 0.25, 0.15, 0.05])  # of a user's rows by each taste; the rest by none
_FACTORS = 8  # behind the ratings
_OPENED, _CLOSED = 820_454_400, 1_697_155_200  # 1996-01-01 and 2023-10-13, seconds
# What is wrong with dirty rows: the column, and what stands there. The last breaks the line: Arrow
# writes no bare comma, so this takes its place for a moment.
_DIRT = [
    (0, ""), (1, ""), (1, "film"), (2, ""), (2, "four"), (2, "9.5"), (3, "soon"), (3, "7\x017"),
]  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What is to be made.

    Attributes:
        rows: lines, without the header.
        users, items: how many different ones the good rows have, exactly.
        repeats: about which share of the rows is of a pair that was there before.
        dirty: about which share cannot be used.
        seed: of everything.
    """

    rows: int
    users: int
    items: int
    repeats: float = 0.05
    dirty: float = 0.0
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if not self.rows >= max(self.users, self.items):
            raise click.UsageError("expected at least as many rows as users and as items")
        if self.rows > self.users * self.items // 2:
            raise click.UsageError("expected at most half as many rows as there are pairs")


def scaled(rows: int) -> tuple[int, int]:
    """Return how many users and items MovieLens of so many rows would have."""
    share = rows / FULL_ROWS
    return max(1, round(FULL_USERS * share)), max(1, round(FULL_ITEMS * min(1.0, share**0.5)))


@dataclass(frozen=True)
class World:
    """What all blocks share.

    Attributes:
        starts: `(users + 1,)` first row of each user.
        ids: `(items,)` ids of the items.
        popular: `(items,)` cumulative share of the rows, over all items.
        by_taste: `(items,)` the same with the items in the order of their taste.
        order: `(items,)` which item that is.
        ends: `(_TASTES + 1,)` where each taste begins in `by_taste`, as a share.
        factors: `(items, _FACTORS)` what decides the ratings.
        liked: `(items,)` how good each item is, in stars.
    """

    starts: NDArray[np.int64]
    ids: NDArray[np.int32]
    popular: NDArray[np.float64]
    by_taste: NDArray[np.float64]
    order: NDArray[np.int64]
    ends: NDArray[np.float64]
    factors: NDArray[np.float32]
    liked: NDArray[np.float32]


@lru_cache(maxsize=1)
def world(shape: Shape) -> World:
    """Make what all blocks share; each process makes the same."""
    rng = np.random.default_rng([shape.seed, 0])
    weights = (np.arange(shape.items) + shape.items / 140) ** -2.0
    rng.shuffle(weights)
    weights /= weights.sum()
    taste = rng.integers(0, _TASTES, shape.items)
    order = np.argsort(taste, kind="stable")
    ends = np.concatenate([[0.0], np.cumsum(np.bincount(taste, weights, _TASTES))])
    ids = np.sort(rng.choice(np.arange(1, 4 * shape.items + 1), shape.items, replace=False))
    centres = rng.standard_normal((_TASTES, _FACTORS))
    factors = 0.7 * centres[taste] + 0.7 * rng.standard_normal((shape.items, _FACTORS))
    # Popular items are a little better.
    liked = 0.4 * rng.standard_normal(shape.items) + 0.12 * np.log(weights * shape.items + 0.01)
    return World(
        starts=np.concatenate([[0], np.cumsum(_histories(shape, rng))]),
        ids=ids.astype(np.int32),
        popular=np.cumsum(weights),
        by_taste=np.cumsum(weights[order]),
        order=order,
        ends=ends,
        factors=factors.astype(np.float32),
        liked=liked.astype(np.float32),
    )


def _histories(shape: Shape, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how many rows each user has: all of them together have exactly `shape.rows`."""
    least = min(_LEAST_HISTORY, shape.rows // shape.users)
    most = max(least + 1, shape.items * 3 // 4)
    long = rng.lognormal(0.0, 1.4, shape.users)
    lengths = np.full(shape.users, least, np.int64)
    while (left := shape.rows - int(lengths.sum())) > 0:
        room = lengths < most
        shares = np.where(room, long, 0.0)
        more = np.floor(shares * (left / shares.sum())).astype(np.int64)
        if not more.any():
            more[np.flatnonzero(room)[:left]] = 1
        lengths = np.minimum(lengths + more, most)
    return lengths


def blocks(shape: Shape) -> list[tuple[int, int]]:
    """Return the first and the last user (not included) of each block."""
    starts = world(shape).starts
    marks = np.searchsorted(starts, np.arange(0, shape.rows, _BLOCK_ROWS))
    edges = [int(edge) for edge in np.unique([*marks, shape.users])]
    return list(pairwise(edges))


def make_block(shape: Shape, users: tuple[int, int]) -> bytes:
    """Return the lines of some users."""
    first, last = users
    rng = np.random.default_rng([shape.seed, 1, first])
    all_ = world(shape)
    lengths = np.diff(all_.starts[first : last + 1])
    user = np.repeat(np.arange(last - first), lengths)
    begins = np.repeat(all_.starts[first:last] - all_.starts[first], lengths)
    item, again = _items(shape, all_, rng, user, begins, int(all_.starts[first]))
    stars = _stars(all_, rng, user, item, last - first)
    seconds = _seconds(rng, user, begins, last - first)
    # Some repeats are of the same second.
    same = again & (rng.random(len(user)) < 0.3)
    seconds[same] = seconds[begins[same]]
    columns = [
        pc.cast(pa.array(user + first + 1), pa.string()),
        pc.cast(pa.array(all_.ids[item]), pa.string()),
        pa.array(STARS).take(pa.array(stars)),
        pc.cast(pa.array(seconds), pa.string()),
    ]
    if shape.dirty:
        _soil(shape, rng, columns, user, int(all_.starts[first]))
    out = io.BytesIO()
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    pa_csv.write_csv(pa.table(columns, names=list("uirt")), out, options)
    return out.getvalue().replace(b"\x01", b",")


def _needed(shape: Shape, begin: int, rows: int) -> NDArray[np.int64]:
    """Return the item that each of these rows must have, -1 for any: each is there once."""
    found = np.full(rows, -1, np.int64)
    low = -(-begin * shape.items // shape.rows)
    high = -(-(begin + rows) * shape.items // shape.rows)
    needed = np.arange(low, high)
    found[needed * shape.rows // shape.items - begin] = needed
    return found


def _items(
    shape: Shape,
    all_: World,
    rng: np.random.Generator,
    user: NDArray[np.int64],
    begins: NDArray[np.int64],
    begin: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each row's item, and whether it repeats an earlier row of its user."""
    n = len(user)
    item = _needed(shape, begin, n)
    place = np.arange(n)
    again = (item < 0) & (place > begins) & (rng.random(n) < shape.repeats)
    of = begins + np.floor(rng.random(n) * (place - begins)).astype(np.int64)
    tastes = np.searchsorted(all_.ends, rng.random((int(user[-1]) + 1, len(_SHARES)))) - 1
    tastes = tastes.clip(0, _TASTES - 1)
    fixed = np.flatnonzero(item >= 0)
    taken = np.sort(np.append(user[fixed] * shape.items + item[fixed], -1))
    open_ = np.flatnonzero((item < 0) & ~again)
    for attempt in range(1_000):
        if not len(open_):
            break
        drawn = _draw(shape, all_, rng, tastes[user[open_]], wide=attempt > 8)
        keys = user[open_] * shape.items + drawn
        # A user rates an item once, but for repeats: the first row that drew it keeps it.
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        fresh = np.concatenate([[True], keys[1:] != keys[:-1]])
        fresh &= taken[np.searchsorted(taken, keys).clip(0, len(taken) - 1)] != keys
        item[open_[order[fresh]]] = drawn[order[fresh]]
        taken = np.sort(np.concatenate([taken, keys[fresh]]), kind="stable")
        open_ = np.sort(open_[order[~fresh]])
    if len(open_):
        raise click.ClickException(
            f"{len(open_):,} rows found no item that their user has not rated yet; expected fewer "
            "rows for each user, or more items"
        )
    for row in np.flatnonzero(again):  # in order: an earlier row may be a repeat itself
        item[row] = item[of[row]]
    return item, again


def _draw(
    shape: Shape, all_: World, rng: np.random.Generator, tastes: NDArray[np.int64], *, wide: bool
) -> NDArray[np.int64]:
    """Draw items by the users' tastes, or by popularity; or any, where those are used up."""
    n = len(tastes)
    if wide:
        return rng.integers(0, shape.items, n)
    which = np.searchsorted(np.cumsum(_SHARES), rng.random(n), side="right")
    at = rng.random(n)
    last = shape.items - 1
    found = np.searchsorted(all_.popular, at).clip(0, last)
    by_taste = which < len(_SHARES)
    taste = tastes[by_taste, which[by_taste]]
    low, high = all_.ends[taste], all_.ends[taste + 1]
    place = np.searchsorted(all_.by_taste, low + at[by_taste] * (high - low)).clip(0, last)
    found[by_taste] = all_.order[place]
    return found


def _stars(
    all_: World,
    rng: np.random.Generator,
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    n_users: int,
) -> NDArray[np.int64]:
    """Return ratings as places in STARS."""
    mine = 0.2 * rng.standard_normal((n_users, _FACTORS), np.float32)
    kind = 0.4 * rng.standard_normal(n_users)
    fits = np.einsum("ij,ij->i", mine[user], all_.factors[item])
    stars = 3.5 + kind[user] + all_.liked[item] + fits + 0.7 * rng.standard_normal(len(user))
    # Whole stars are given more often than half ones: a third of the rows is rounded to them.
    halves = np.rint(stars * 2)
    whole = rng.random(len(user)) < 0.35
    halves[whole] = np.rint(stars[whole]) * 2
    places: NDArray[np.int64] = (halves.clip(1, 10) - 1).astype(np.int64)
    return places


def _seconds(
    rng: np.random.Generator,
    user: NDArray[np.int64],
    begins: NDArray[np.int64],
    n_users: int,
) -> NDArray[np.int64]:
    """Return timestamps: sessions of some minutes, with days or months between them."""
    gaps = rng.exponential(15.0, len(user))
    away = rng.random(len(user)) < 0.01
    gaps[away] = rng.exponential(20 * 86_400.0, int(away.sum()))
    passed = np.cumsum(gaps)
    passed -= passed[begins]
    joined = rng.integers(_OPENED, _CLOSED - 400 * 86_400, n_users)
    return np.minimum(joined[user] + passed, _CLOSED).astype(np.int64)


def _soil(
    shape: Shape,
    rng: np.random.Generator,
    columns: list[pa.Array],
    user: NDArray[np.int64],
    begin: int,
) -> None:
    """Spoil rows, none of which is needed for its user or its item."""
    n = len(user)
    free = _needed(shape, begin, n) < 0
    free &= np.concatenate([[False], user[1:] == user[:-1]])
    dirty = free & (rng.random(n) < shape.dirty)
    kinds = rng.integers(0, len(_DIRT), n)
    for kind, (column, text) in enumerate(_DIRT):
        chosen = pa.array(dirty & (kinds == kind))
        columns[column] = pc.if_else(chosen, text, columns[column])


def write(path: Path, shape: Shape, processes: int = 1) -> None:
    """Write the file; an unfinished one never has its name."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    make = partial(make_block, shape)
    with unfinished.open("wb") as out, multiprocessing.get_context("spawn").Pool(processes) as pool:
        out.write(HEADER)
        for lines in pool.imap(make, blocks(shape)):
            out.write(lines)
    unfinished.rename(path)


def whole(_: object, __: object, text: str) -> int:
    """Read a number such as 32_000_204 or 4e6."""
    return int(float(text.replace("_", "")))


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--rows", default=str(FULL_ROWS), callback=whole, show_default=True)
@click.option("--users", type=int, help="By default as in MovieLens of so many rows.")
@click.option("--items", type=int, help="Likewise.")
@click.option("--repeats", type=float, default=0.05, show_default=True, help="Share of the rows.")
@click.option("--dirty", type=float, default=0.0, show_default=True, help="Share of the rows.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--processes", type=int, default=os.cpu_count(), show_default="one for each core")
def main(
    path: Path,
    rows: int,
    users: int | None,
    items: int | None,
    repeats: float,
    dirty: float,
    seed: int,
    processes: int,
) -> None:
    usual = scaled(rows)
    shape = Shape(rows, users or usual[0], items or usual[1], repeats, dirty, seed)
    write(path, shape, processes)
    click.echo(f"{path}: {shape.rows:,} rows, {shape.users:,} users, {shape.items:,} items")


if __name__ == "__main__":
    main()
