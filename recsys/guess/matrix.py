"""Wide matrices: a row for each user, and a column for each item."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from recsys.errors import InputError
from recsys.guess import names, sql
from recsys.guess.columns import Column
from recsys.guess.tables import Table

# Spark takes a file of text in one piece to number its lines, so only up to this size.
MOST_IN_ONE_PIECE = 64 * 2**20
# Beyond so many columns Spark spends minutes on the plan of a query.
_MOST_COLUMNS = 200
_LEAST_WITH_IDS, _LEAST = 3, 10


@dataclass(frozen=True)
class Matrix:
    """A wide matrix.

    Attributes:
        query: what makes rows of its cells, with the columns user_id, item_id and rating.
        format: of the source that the query is asked of.
        options: likewise.
        numbers: some ratings.
        ids: the column with ids of the rows; None where lines are numbered.
        names: of the columns with ratings.
        transposed: whether the rows are items, and the columns users.
        unsure: what was guessed and may be wrong.
    """

    query: str
    format: str
    options: dict[str, str | bool]
    numbers: np.ndarray
    ids: str | None
    names: list[str]
    transposed: bool
    unsure: list[str] = field(default_factory=list)


def find_matrix(table: Table) -> Matrix | None:
    """Return a table as a matrix; None where it is none.

    Raises:
        InputError: it is one, but too large for a query.
    """
    columns = list(table.columns.values())
    cells = [one for one in columns if one.numeric or one.kind == "empty"]
    rest = [one for one in columns if one not in cells]
    ids = _ids(cells, rest, headless=table.headless)
    cells = [one for one in cells if one is not ids]
    if len([one for one in rest if one is not ids]) > 0.2 * len(columns):
        return None
    if len(cells) < (_LEAST if ids is None else _LEAST_WITH_IDS) or not _alike(cells):
        return None
    numbers = np.concatenate([one.numbers for one in cells])
    missing = _stands_for_missing(numbers)
    if ids is None and table.headless:
        cells = _without_counts(table, cells, missing)
    numbers = np.concatenate([one.numbers for one in cells])
    unsure: list[str] = []
    if missing is not None:
        numbers = numbers[numbers != missing]
        unsure.append(f"{missing:g} stands for a missing rating")
    zero = bool(len(numbers)) and numbers.min() >= 0 and np.mean(numbers == 0) > 0.5
    if zero:
        numbers = numbers[numbers != 0]
        unsure.append("0 stands for a missing rating")
    left_out = [value for value in (missing, 0.0 if zero else None) if value is not None]
    transposed = _transposed(ids, cells)
    if ids is None:
        unsure.append(
            f"no column has ids of the {'items' if transposed else 'users'}, so the lines are "
            "numbered from 1"
        )
    in_columns = table.format != "csv" or len(cells) <= _MOST_COLUMNS
    if ids is not None and in_columns:
        others = [one for one in columns if one not in cells and one is not ids]
        query = _of_columns(ids, others, left_out, transposed=transposed)
        source, options = table.format, table.options
    else:
        query = _of_lines(table, ids, cells, left_out, transposed=transposed)
        source, options = "text", {"wholetext": True}
    by = None if ids is None else ids.name
    found = [one.name for one in cells]
    return Matrix(query, source, options, numbers, by, found, transposed, unsure)


def _ids(cells: list[Column], rest: list[Column], *, headless: bool) -> Column | None:
    """Return the column with the ids of the rows."""
    said = [one for one in rest if one.kind == "text" and one.unique > 0.9]
    if said:
        return max(said, key=lambda one: names.says(one.name, names.USERS | names.ITEMS))
    first = cells[0] if cells else None
    if first is None or first.kind != "whole" or first.unique < 1:
        return None
    nameless = first.name == "_c0" and not headless  # the index that pandas writes
    clear = names.says(first.name, names.USERS | names.ITEMS) > 0.7 or nameless
    return first if clear or names.tokens(first.name) in (["id"], ["index"]) else None


def _alike(cells: list[Column]) -> bool:
    """Whether columns have values of one scale, and no names of other things."""
    if any(names.says(one.name, names.TIMES | names.COUNTS | names.RATINGS) > 0.7 for one in cells):
        return False
    highest = np.array([one.numbers.max() for one in cells if len(one.numbers)])
    if not len(highest):
        return False
    middle = float(np.median(highest))
    within = (highest >= middle / 3 - 1) & (highest <= middle * 2 + 1)
    return bool(within.mean() >= 0.8 and 0 < middle <= 1000)


def _stands_for_missing(numbers: np.ndarray) -> float | None:
    """Return a value far from all others that many cells have, such as 99 or -1."""
    counts = Counter(numbers.tolist())
    values = sorted(counts)
    if len(values) < 3:
        return None
    spread = values[-2] - values[0]
    if counts[values[-1]] >= 0.05 * len(numbers) and values[-1] - values[-2] > max(spread, 10):
        return float(values[-1])
    spread = values[-1] - values[1]
    if values[0] < 0 <= values[1] and counts[values[0]] >= 0.3 * len(numbers):
        return float(values[0])
    return None


def _without_counts(table: Table, cells: list[Column], missing: float | None) -> list[Column]:
    """Leave the first column out if it says how many cells of its row have a rating."""
    n = min(table.rows.num_rows, 1000)
    made = [
        pd.to_numeric(table.values(one.name).slice(0, n).to_pandas(), errors="coerce").to_numpy()
        for one in cells
    ]
    values = np.column_stack(made)
    filled = ~np.isnan(values[:, 1:])
    if missing is not None:
        filled &= values[:, 1:] != missing
    return cells[1:] if np.mean(filled.sum(axis=1) == values[:, 0]) > 0.9 else cells


def _transposed(ids: Column | None, cells: list[Column]) -> bool:
    if ids is not None:
        of_item = names.says(ids.name, names.ITEMS)
        if of_item != names.says(ids.name, names.USERS):
            return of_item > names.says(ids.name, names.USERS)
    said = [names.says(one.name, names.USERS) > names.says(one.name, names.ITEMS) for one in cells]
    return bool(np.mean(said) > 0.5)


def _columns(*, transposed: bool) -> tuple[str, str]:
    return ("item_id", "user_id") if transposed else ("user_id", "item_id")


def _kept(left_out: list[float]) -> str:
    conditions = [f"try_cast(rating as double) <> {value:g}" for value in left_out]
    return " and ".join(["rating is not null", *conditions])


def _of_columns(
    ids: Column, others: list[Column], left_out: list[float], *, transposed: bool
) -> str:
    row, column = _columns(transposed=transposed)
    name = sql.whole_name(ids.name)
    without = ", ".join(sql.whole_name(one.name) for one in (ids, *others))
    # One expression, however many columns there are; it passes over cells without a value.
    cells = f"from_json(to_json(struct(* except ({without}))), 'map<string,string>')"
    return (
        f"select row_id as {row}, column_name as {column}, rating\n"
        f"from (select {name} as row_id, {cells} as cells from input)\n"
        f"lateral view explode(cells) as column_name, rating\n"
        f"where {_kept(left_out)}"
    )


def _of_lines(
    table: Table,
    ids: Column | None,
    cells: list[Column],
    left_out: list[float],
    *,
    transposed: bool,
) -> str:
    if table.format != "csv" or len(table.paths) > 1 or table.size > MOST_IN_ONE_PIECE:
        missing = "has no column with ids" if ids is None else f"has {len(cells):,} columns"
        raise InputError(
            f"{table.name}: this is a wide matrix that {missing}, expected one file of CSV with at "
            f"most {MOST_IN_ONE_PIECE >> 20} MiB; write it with a row for each rating "
            "(user, item, rating)"
        )
    row, column = _columns(transposed=transposed)
    split = sql.pattern(str(table.options.get("sep", ",")))
    places = list(table.columns)
    first = places.index(cells[0].name)
    header = "header" in table.options
    named = "trim(both '\"' from get(names, at))" if header else f"cast(at - {first} + 1 as string)"
    number = "number" if header else "number + 1"
    by = number if ids is None else f"trim(both '\"' from cells[{places.index(ids.name)}])"
    quoted = "trim(both '\" ' from cell)"
    # posexplode counts from 0, so the first line below a header is number 1.
    below = "number > 0 and " if header else ""
    return (
        f"select {by} as {row}, {named} as {column}, {quoted} as rating\n"
        "from (\n"
        f"  select number, names, split(line, {split}) as cells from (\n"
        f"    select split(lines[0], {split}) as names, lines\n"
        "    from (select split(value, '\\r?\\n') as lines from input)\n"
        "  ) lateral view posexplode(lines) as number, line\n"
        f"  where {below}trim(line) <> ''\n"
        ") lateral view posexplode(cells) as at, cell\n"
        f"where at >= {first} and {quoted} <> ''"
        + "".join(f" and try_cast({quoted} as double) <> {value:g}" for value in left_out)
    )
