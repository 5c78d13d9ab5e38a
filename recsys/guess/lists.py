"""Lists: a line with several items, with or without a user."""

import re
from collections import Counter
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa

from recsys.errors import InputError
from recsys.guess import names, sql
from recsys.guess.columns import Column, pieces
from recsys.guess.matrix import MOST_IN_ONE_PIECE
from recsys.guess.tables import Table

_SEPARATORS = ("\t", ",", ";", "|", " ")
_COLON = r"^\s*([^\s:,;|]+)\s*:\s*"


@dataclass(frozen=True)
class Lists:
    """A source with several items a row.

    Attributes:
        query: what makes rows of its items, with the columns user_id and item_id, and rating where
            `rated`.
        format: of the source that the query is asked of.
        options: likewise.
        column: the column with the items, if they are in one.
        items: some ids of items.
        rated: whether the query gives ratings.
        said: what the source is, for people.
        unsure: what was guessed and may be wrong.
    """

    query: str
    format: str
    options: dict[str, str | bool]
    column: str | None
    items: set[str]
    said: str
    rated: bool = False
    unsure: list[str] = field(default_factory=list)


def find_lists(table: Table) -> Lists | None:
    """Return a table as lists; None where it has none."""
    if table.format == "text":
        return _of_lines(table)
    users = [
        one
        for one in table.columns.values()
        if names.says(one.name, names.USERS) > 0.15 and one.kind in ("text", "whole")
    ]
    user = max(users, key=lambda one: names.says(one.name, names.USERS), default=None)
    if user is None and len(table.columns) == 2:
        first = next(iter(table.columns.values()))
        user = first if first.kind in ("text", "whole") and first.unique > 0.9 else None
    if user is None:
        return None
    others = [one for one in table.columns.values() if one is not user]
    arrays = [one for one in others if one.kind == "list"]
    if arrays:
        return _of_array(table, user, arrays)
    if user.unique < 0.9:
        return None
    for one in others:
        separator = pieces(one)
        if separator is not None and names.says(one.name, names.TITLES) < 0.5:
            return _of_cells(table, user, one, separator)
    return None


def _of_cells(table: Table, user: Column, listed: Column, separator: str) -> Lists:
    parts = listed.values.str.split(re.escape(separator), regex=True).explode().str.strip()
    name = sql.whole_name(listed.name)
    query = (
        f"select {sql.whole_name(user.name)} as user_id, trim(item) as item_id\n"
        f"from input lateral view explode(split({name}, {sql.pattern(separator)})) as item\n"
        "where trim(item) <> ''"
    )
    unsure = [f"the items of a line are in {listed.name}, separated by {separator!r}"]
    said = f"a list a line, in {listed.name}"
    return Lists(query, table.format, table.options, listed.name, set(parts), said, unsure=unsure)


def _of_array(table: Table, user: Column, arrays: list[Column]) -> Lists:
    words = names.ITEMS | {"basket", "history", "line", "liked"}
    listed = max(arrays, key=lambda one: names.says(one.name, words))
    kind = listed.type.value_type
    source = f"from input lateral view explode({table.sql(listed.name)}) as line"
    values = pd.Series(table.values(listed.name).slice(0, 20_000).to_pylist()).explode().dropna()
    said = f"a list a row, in {listed.name}"
    user_name = table.sql(user.name)
    if not pa.types.is_struct(kind):
        query = f"select {user_name} as user_id, line as item_id\n{source}"
        items = set(values.astype(str))
        return Lists(query, table.format, table.options, listed.name, items, said)
    fields = [f.name for f in kind]
    item = max(fields, key=lambda one: names.says(one, names.ITEMS))
    rated = [one for one in fields if names.says(one, names.RATINGS | names.COUNTS) > 0.15]
    unsure = [] if names.says(item, names.ITEMS) > 0.5 else [f"the items are in {item}"]
    rating = f", line.{sql.name(rated[0])} as rating" if rated else ""
    query = f"select {user_name} as user_id, line.{sql.name(item)} as item_id{rating}\n{source}"
    items = {str(one[item]) for one in values if one.get(item) is not None}
    return Lists(
        query,
        table.format,
        table.options,
        listed.name,
        items,
        said,
        rated=bool(rated),
        unsure=unsure,
    )


def _of_lines(table: Table) -> Lists | None:
    """Return text whose lines have different numbers of values as lists."""
    lines = table.lines
    colon = sum(re.match(_COLON, line) is not None for line in lines) >= 0.95 * len(lines)
    bodies = [re.sub(_COLON, "", line) for line in lines] if colon else lines
    separator = _separator(bodies)
    if separator is None:
        return None
    split = [[part.strip(' "') for part in body.strip().split(separator)] for body in bodies]
    heads = [re.match(_COLON, line)[1] for line in lines] if colon else [row[0] for row in split]  # type: ignore[index]
    with_user = colon or _are_users(heads, split)
    rows = split if colon or not with_user else [row[1:] for row in split]
    items = {part for row in rows for part in row if part}
    between = " +" if separator == " " else separator
    pattern = sql.text(" +") if between == " +" else sql.pattern(separator)
    if any('"' in line for line in lines) and separator != " ":
        # Not inside of quotes.
        pattern = sql.text(f'[{separator}](?=(?:[^"]*"[^"]*")*[^"]*$)')
    if with_user:
        return _with_users(table, pattern, items, colon=colon)
    return _without_users(table, pattern, items)


_NAME = "trim(both '\" ' from item)"


def _with_users(table: Table, pattern: str, items: set[str], *, colon: bool) -> Lists:
    if colon:
        head = "trim(substring_index(value, ':', 1))"
        tail = f"split(trim(substring(value, locate(':', value) + 1)), {pattern})"
    else:
        head = f"split(trim(value), {pattern})[0]"
        tail = f"slice(split(trim(value), {pattern}), 2, size(split(value, {pattern})))"
    query = (
        f"select {head} as user_id, {_NAME} as item_id\n"
        f"from input lateral view explode({tail}) as item\n"
        f"where {_NAME} <> ''"
    )
    unsure = ["each line begins with a user, and the items follow"]
    return Lists(query, "text", {}, None, items, "a list a line, behind its user", unsure=unsure)


def _without_users(table: Table, pattern: str, items: set[str]) -> Lists:
    unsure = ["no line says whose list it is, so each line is a user of its own"]
    if len(table.paths) == 1 and table.size <= MOST_IN_ONE_PIECE:
        unsure[0] += ", by its number from 1"
        query = (
            f"select number + 1 as user_id, {_NAME} as item_id\n"
            "from (select posexplode(split(value, '\\r?\\n')) as (number, line) from input)\n"
            f"lateral view explode(split(trim(line), {pattern})) as item\n"
            f"where {_NAME} <> ''"
        )
        return Lists(
            query, "text", {"wholetext": True}, None, items, "a list a line", unsure=unsure
        )
    unsure[0] += ", by a hash of the line; equal lines are one user"
    query = (
        f"select xxhash64(value) as user_id, {_NAME} as item_id\n"
        f"from input lateral view explode(split(trim(value), {pattern})) as item\n"
        f"where {_NAME} <> ''"
    )
    return Lists(query, "text", {}, None, items, "a list a line", unsure=unsure)


def _separator(lines: list[str]) -> str | None:
    """Return what separates the items of lines; None where lines have one."""
    for separator in _SEPARATORS:
        several = sum(separator in line.strip() for line in lines) / max(len(lines), 1)
        if several < 0.4:
            continue
        parts = [part.strip() for line in lines for part in line.strip().split(separator)]
        if separator == " " and not all(re.fullmatch(r"[\w.-]+", part) for part in parts if part):
            continue
        if len(set(parts)) < 0.9 * len(parts):
            return separator
    return None


def _are_users(heads: list[str], rows: list[list[str]]) -> bool:
    """Whether the first values of lines are users: none comes back, and none is an item."""
    if len(heads) < 3 or max(Counter(heads).values()) > 1:
        return False
    if all(head.isdigit() for head in heads):
        numbers = [int(head) for head in heads]
        return numbers == sorted(numbers) and numbers[0] <= 1
    others = {part for row in rows for part in row[1:]}
    return sum(head in others for head in heads) <= 0.02 * len(heads)


def refuse_encoding(table: Table) -> None:
    """Refuse lines in an encoding that Spark cannot read as text.

    Raises:
        InputError: they are in one.
    """
    if table.format == "text" and any("encoding" in one for one in table.unsure):
        raise InputError(
            f"{table.name}: lines with lists are read as UTF-8, found another encoding; convert "
            "the file, as with `iconv -f windows-1252 -t utf-8`"
        )
