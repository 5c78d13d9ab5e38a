"""A configuration for files that nobody has described."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from recsys.errors import InputError
from recsys.guess import beside, names
from recsys.guess.beside import About, Ids
from recsys.guess.draft import Draft
from recsys.guess.lists import Lists, find_lists, refuse_encoding
from recsys.guess.matrix import Matrix, find_matrix
from recsys.guess.ratings import scale
from recsys.guess.roles import Roles, Told, find_roles, named
from recsys.guess.rows import propose_positive, propose_rows
from recsys.guess.tables import Table


def propose(tables: Sequence[Table], others: Sequence[Table], told: Told) -> Draft:
    """Propose a configuration.

    Args:
        tables: what the user named.
        others: what lies beside it.
        told: columns that the user named.

    Raises:
        InputError: none of the tables has ratings, purchases, events or lists.
    """
    draft = Draft()
    chosen, found = _choose(draft, tables, told)
    draft.unsure += chosen.unsure + found.unsure
    _source(draft, chosen)
    if isinstance(found, Roles):
        users, items = propose_rows(draft, chosen, found)
    elif isinstance(found, Matrix):
        users, items = _of_matrix(draft, chosen, found)
    else:
        users, items = _of_lists(draft, found)
    around = [one for one in (*tables, *others) if one is not chosen]
    own = _own_titles(chosen, found.item) if isinstance(found, Roles) else None
    about = beside.find_about(around, items)
    if not (about and beside.propose_titles(draft, about, items)) and own:
        beside.propose_titles(draft, own, items)
    if about:
        beside.propose_features(draft, about, "items")
    if about_users := beside.find_about(
        [one for one in around if not about or one is not about.table], users
    ):
        beside.propose_features(draft, about_users, "users")
    _spark(draft, chosen)
    return draft


Found = Roles | Matrix | Lists


def _choose(draft: Draft, tables: Sequence[Table], told: Told) -> tuple[Table, Found]:
    """Return the table of ratings among some, and what it is."""
    found: list[tuple[float, Table, Found]] = []
    missing: list[str] = []
    for table in tables:
        if absent := named(told, table):
            missing = absent
            continue
        roles = find_roles(table, told) if table.columns else None
        lists = None if any(vars(told).values()) else find_lists(table)
        if roles is not None and lists is not None and lists.column == roles.item:
            roles = None
        if roles is not None and roles.clear >= 1.4:
            found.append((roles.clear + 1, table, roles))
        elif (shape := _shape(table)) is not None and not any(vars(told).values()):
            found.append((1.0, table, shape))
        elif roles is not None:
            found.append((roles.clear, table, roles))
    if found:
        best = max(found, key=lambda one: (one[0], one[1].about))
        if rest := [one.name for _, one, _ in found if one is not best[1]]:
            draft.unsure.append(
                f"which file has the ratings: {best[1].name} is used, and not {', '.join(rest)}"
            )
        return best[1], best[2]
    shown = "; ".join(f"{one.name} has {_columns(one)}" for one in tables[:3])
    if missing:
        raise InputError(f"found no column {missing[0]!r}; {shown}; name one of them")
    raise InputError(
        f"found no table with users and items: {shown}; say which columns they are by --user "
        "COLUMN --item COLUMN, or name the file that has both"
    )


def _shape(table: Table) -> Matrix | Lists | None:
    refuse_encoding(table)
    lists = find_lists(table)
    return lists if lists is not None else find_matrix(table) if table.columns else None


def _columns(table: Table) -> str:
    if not table.columns:
        return "lines without columns"
    shown = ", ".join(list(table.columns)[:12])
    return f"the columns {shown}{', ...' if len(table.columns) > 12 else ''}"


def _source(draft: Draft, table: Table) -> None:
    # Hadoop would take these characters for a pattern.
    special = str.maketrans({one: "\\" + one for one in "*?{}[]\\"})
    paths = [path.translate(special) for path in table.paths]
    draft.put("input.path", paths[0] if len(paths) == 1 else paths)
    draft.put("input.format", table.format)
    if table.options:
        draft.put("input.options", dict(table.options))
    about = "" if table.whole else "about "
    kind = {"csv": "CSV", "json": "JSON"}.get(table.format, table.format)
    draft.said["ratings"] = f"{table.name}, {kind}, {about}{table.about:,} rows"


# Shapes that a query makes rows of


def _of_matrix(draft: Draft, table: Table, matrix: Matrix) -> tuple[Ids, Ids]:
    of = "users" if matrix.transposed else "items"
    draft.said["shape"] = f"a wide matrix, {len(matrix.names):,} columns of {of}"
    _query(draft, matrix.query, matrix.format, matrix.options, rated=True)
    found = scale(matrix.numbers, None)
    draft.put("deduplication.policy", "sum" if found.kind == "amount" else "max")
    if found.kind != "same":
        propose_positive(draft, found)
    rows = beside.plain_ids(table.values(matrix.ids)) if matrix.ids is not None else frozenset()
    of_rows, of_columns = Ids(rows, matrix.ids), Ids(frozenset(matrix.names), None)
    return (of_columns, of_rows) if matrix.transposed else (of_rows, of_columns)


def _of_lists(draft: Draft, lists: Lists) -> tuple[Ids, Ids]:
    draft.said["shape"] = f"{lists.said}, {len(lists.items):,} different items in the sample"
    _query(draft, lists.query, lists.format, lists.options, rated=lists.rated)
    draft.put("deduplication.policy", "sum" if lists.rated else "count")
    return Ids(frozenset(), None), Ids(beside.plain_ids(list(lists.items)), None)


def _query(
    draft: Draft, query: str, format: str, options: dict[str, str | bool], *, rated: bool
) -> None:
    draft.values["input"].pop("options", None)
    draft.put("input.format", format)
    if options:
        draft.put("input.options", dict(options))
    draft.put("input.query", query, "Makes a row of each user and item.")
    draft.put("input.columns.user", "user_id")
    draft.put("input.columns.item", "item_id")
    if rated:
        draft.put("input.columns.rating", "rating")


# Titles in the ratings' own table, and how large everything is


def _own_titles(table: Table, item: str) -> About | None:
    """Return the table of ratings as one about items, with what each item has one of."""
    words = names.TITLES | {"description"}
    kept = {
        name: column
        for name, column in table.columns.items()
        if name != item
        and column.kind == "text"
        and names.says(name, words) > 0.15
        and not names.says(name, names.USERS)
        and _one_each(table, item, name)
    }
    if not kept:
        return None
    alone = replace(table, columns={item: table.columns[item], **kept})
    return About(alone, table.columns[item], 1.0)


def _one_each(table: Table, item: str, name: str) -> bool:
    both = pa.table({"item": table.values(item), "name": table.values(name)}).drop_null()
    counted: Callable[[list[str]], int] = lambda by: both.group_by(by).aggregate([]).num_rows  # noqa: E731
    return counted(["item", "name"]) <= 1.5 * max(counted(["item"]), 1)


def _spark(draft: Draft, table: Table) -> None:
    """Propose Spark's settings for the size of the data."""
    rows = table.about * (10 if table.format == "text" else 1)
    partitions = min(max(2, 2 * math.ceil(rows / 250_000)), 200)
    draft.put("spark", {"spark.sql.shuffle.partitions": partitions})
    for least, memory in ((20_000_000, "6g"), (800_000, "3g"), (200_000, "2g")):
        if rows >= least:
            draft.values["spark"] = {"spark.driver.memory": memory, **draft.values["spark"]}
            return
