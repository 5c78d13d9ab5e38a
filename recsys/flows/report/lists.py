"""What lists consist of: scores by rank, and what is recommended beside what is consumed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.columns import ITEM, LABEL, RANK, SCORE, SOURCE
from recsys.flows.report.records import Data

_MOST_SCORES = 3_000_000
_BINS = 30
_LOW, _MIDDLE, _HIGH = 0.1, 0.5, 0.9
_SHOWN = 10
# The items in groups, from the most popular ones down: the share of all items at each end.
_GROUPS = (0.01, 0.05, 0.20, 0.50, 1.0)
_POINTS = 60

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Scores of lists.

    Attributes:
        rows: how many rows were looked at, and of how many.
        of: all rows.
        edges, counts: a histogram; counts has one number less.
        ranks: ranks from 1.
        low, middle, high: the 10 %, 50 % and 90 % quantile at each rank.
        by_source: rows by the way in which the list was made.
    """

    rows: int
    of: int
    edges: list[float]
    counts: list[int]
    ranks: list[int]
    low: list[float]
    middle: list[float]
    high: list[float]
    by_source: dict[str, int]


@dataclass(frozen=True)
class Consumed:
    """One item: how often it is recommended, and how often consumed.

    Attributes:
        item: its id.
        lists: how many lists have it.
        share: of all lists.
        pairs: how many users like it.
        rank: its place by that, from 1; None where nobody does.
    """

    item: Any
    lists: int
    share: float
    pairs: int
    rank: int | None


@dataclass(frozen=True)
class Popularity:
    """What is recommended beside what is consumed.

    Attributes:
        catalogue: items of the model, or at least those that were seen.
        recommended: different items in lists.
        consumed: different items that anyone likes.
        groups: names of groups of items, the most consumed ones first.
        places: share of the places in lists that each group has.
        pairs: share of the positive pairs that each group has.
        curve: for lists and for pairs, points of the share of items (the most frequent first) and
            the share of everything that they have.
        gini: for lists and for pairs: 0 where all items are equally frequent, 1 where one has all.
        top: the items that are in most lists.
    """

    catalogue: int
    recommended: int
    consumed: int
    groups: list[str]
    places: list[float]
    pairs: list[float]
    curve: tuple[list[tuple[float, float]], list[tuple[float, float]]]
    gini: tuple[float, float]
    top: list[Consumed]


def scores(lists: Data, rows: int) -> Scores | None:
    """Return the scores of lists, of the first files where there are very many rows.

    Args:
        lists: recommendations.
        rows: how many there are.
    """
    parts, seen = [], 0
    for batch in lists.batches([RANK, SCORE, SOURCE]):
        parts.append(batch)
        seen += len(batch)
        if seen >= _MOST_SCORES:
            break
    if not seen:
        return None
    table = pa.Table.from_batches(parts)
    values = table.column(SCORE).to_numpy().astype(np.float64)
    ranks = table.column(RANK).to_numpy()
    counts, edges = np.histogram(values, _BINS)
    found = np.unique(ranks)
    spread = np.array([np.quantile(values[ranks == r], [_LOW, _MIDDLE, _HIGH]) for r in found])
    sources = {
        str(one["values"]): int(one["counts"])
        for one in pc.value_counts(table.column(SOURCE)).to_pylist()
    }
    return Scores(
        rows=seen,
        of=rows,
        edges=edges.tolist(),
        counts=counts.tolist(),
        ranks=found.tolist(),
        low=spread[:, 0].tolist(),
        middle=spread[:, 1].tolist(),
        high=spread[:, 2].tolist(),
        by_source=dict(sorted(sources.items(), key=lambda one: -one[1])),
    )


def popularity(lists: Data, pairs: Data, catalogue: int) -> Popularity | None:
    """Compare what is recommended with what is consumed.

    Args:
        lists: recommendations.
        pairs: interactions; the positive ones count as consumption.
        catalogue: how many items the model has.
    """
    users = 0  # who have a list

    def items() -> Iterator[pa.Array]:
        nonlocal users
        for batch in lists.batches([ITEM, RANK]):
            users += int(np.count_nonzero(batch.column(RANK).to_numpy() == 1))
            yield batch.column(ITEM)

    listed = _counted(items())
    liked = _counted(
        batch.column(ITEM).filter(pc.equal(batch.column(LABEL), 1))
        for batch in pairs.batches([ITEM, LABEL])
    )
    if not listed:
        return None
    ids = sorted({*listed, *liked})
    in_lists, in_pairs = (
        np.fromiter((of.get(item, 0) for item in ids), np.int64, len(ids)) for of in (listed, liked)
    )
    # Of equally popular items the smaller id comes first, as in the lists.
    order = np.argsort(-in_pairs, kind="stable")
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(1, len(ids) + 1)
    n = max(catalogue, len(ids))
    top = np.argsort(-in_lists, kind="stable")[:_SHOWN]
    return Popularity(
        catalogue=n,
        recommended=len(listed),
        consumed=len(liked),
        groups=_names(),
        places=_grouped(in_lists[order], n),
        pairs=_grouped(in_pairs[order], n),
        curve=(_curve(in_lists, n), _curve(in_pairs, n)),
        gini=(_gini(in_lists, n), _gini(in_pairs, n)),
        top=[
            Consumed(
                item=ids[at],
                lists=int(in_lists[at]),
                share=float(in_lists[at]) / max(users, 1),
                pairs=int(in_pairs[at]),
                rank=int(place[at]) if in_pairs[at] else None,
            )
            for at in top
        ],
    )


def _counted(parts: Iterator[pa.Array]) -> Mapping[Any, int]:
    """Count equal values, with no more memory than there are different ones."""
    found: pa.Table | None = None
    for part in parts:
        counts = pc.value_counts(part.drop_null())
        table = pa.table({"value": counts.field(0), "n": counts.field(1)})
        if found is not None:
            table = pa.concat_tables([found, table])
            table = table.group_by("value").aggregate([("n", "sum")]).rename_columns(["value", "n"])
        found = table
    if found is None:
        return {}
    return dict(zip(found.column("value").to_pylist(), found.column("n").to_pylist(), strict=True))


def _names() -> list[str]:
    ends = [f"{end:.0%}".replace("%", " %") for end in _GROUPS]
    return [f"top {ends[0]}", *(f"to {end}" for end in ends[1:-1]), "the rest"]


def _grouped(counts: I64, n: int) -> list[float]:
    """Return the share of everything in each group; counts are in the order of popularity."""
    total = max(int(counts.sum()), 1)
    ends = [min(len(counts), max(1, round(end * n))) for end in _GROUPS]
    sums = [int(counts[:end].sum()) for end in ends]
    return [(now - before) / total for before, now in zip([0, *sums[:-1]], sums, strict=True)]


def _curve(counts: I64, n: int) -> list[tuple[float, float]]:
    """Return points of the share of everything that the most frequent items have together."""
    descending = np.sort(counts)[::-1]
    sums = np.concatenate([[0], np.cumsum(descending)]) / max(int(counts.sum()), 1)
    # Close together where the curve bends: at few items.
    shares = np.linspace(0, 1, _POINTS) ** 3
    at = np.unique(np.minimum(np.ceil(shares * n), n).astype(np.int64))
    return [(float(end) / n, float(sums[min(end, len(counts))])) for end in at]


def _gini(counts: I64, n: int) -> float:
    """Return the Gini coefficient of counts, with the items of the catalogue that nobody has."""
    ascending = np.sort(np.concatenate([np.zeros(n - len(counts), np.int64), counts]))
    total = int(ascending.sum())
    if total == 0:
        return 0.0
    ranks = np.arange(1, n + 1)
    return float(2 * np.sum(ranks * ascending) / (n * total) - (n + 1) / n)
