"""Tables beside the ratings: titles of items, and features of items and users."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.guess import names
from recsys.guess.columns import Column, pieces
from recsys.guess.draft import Draft
from recsys.guess.tables import Table
from recsys.score.local_rows import CSV_OPTIONS

# Only so many bytes are read for titles.
_MOST_FOR_TITLES = 500 * 2**20
_MOST_GROUPS = 6
# Of the ids, in a table about them; less will do if the column is called like that of the ratings.
_LEAST_FOUND, _LEAST_SAME = 0.5, 0.05
# What says how liked an item is, which is what the model is to find out.
_LIKED = names.words("rating ratings score votes vote count counts reviews popularity rank")
_NO_GROUP = names.words("id ids isbn key uuid guid hash url link image img")
_MAKERS = (
    "authors",
    "author",
    "artist",
    "artists",
    "director",
    "department",
    "category",
    "genre",
    "brand",
)
_LINKS = re.compile(r"https?://|www\.|\.(?:jpe?g|png|gif)$")


@dataclass(frozen=True)
class Ids:
    """Some ids of the items or the users of the ratings, as text, and their column's name."""

    values: frozenset[str]
    name: str | None


@dataclass(frozen=True)
class About:
    """A table about items or users, and the column of their ids."""

    table: Table
    id: Column
    share: float


def plain_ids(values: pa.ChunkedArray | Sequence[Any]) -> frozenset[str]:
    """Return ids as text, `17850.0` as `17850`."""
    if not isinstance(values, pa.ChunkedArray):
        values = pa.array([None if one is None else str(one) for one in values], pa.string())
    texts = pc.utf8_trim_whitespace(values.unique().cast(pa.string()))
    plain = pc.replace_substring_regex(texts, r"\.0+$", "")
    return frozenset(one for one in plain.to_pylist() if one)


def find_about(tables: Sequence[Table], ids: Ids) -> About | None:
    """Return the table that says most about items or users; None where none has their ids.

    A column that is called like the one of the ratings is not always the right one: what counts
    is that it has the ids.
    """
    found: list[About] = []
    few = frozenset(sorted(ids.values)[:: max(len(ids.values) // 2_000, 1)])
    for table in tables:
        for column in table.columns.values():
            if column.kind not in ("whole", "text") or column.unique < 0.8:
                continue
            known = plain_ids(table.values(column.name))
            share = len(few & known) / max(len(few), 1)
            if not table.whole and share >= 0.1:
                share = max(share, _LEAST_FOUND)
            # Small whole numbers are in many columns; an id of these is what has nothing else.
            spread = len(known & ids.values) / max(len(known), 1)
            same = _same(column, ids)
            least = _LEAST_SAME if same else _LEAST_FOUND
            if share >= least and (column.kind == "text" or spread > 0.05):
                found.append(About(table, column, share))

    def clear(one: About) -> tuple[float, bool, float, int]:
        return (
            round(one.share, 2),
            _same(one.id, ids),
            names.looks_like_id(one.id.name),
            len(one.table.columns),
        )

    return max(found, key=clear, default=None)


def _same(column: Column, ids: Ids) -> bool:
    return names.tokens(ids.name or "") == names.tokens(column.name) != []


def propose_titles(draft: Draft, about: About, ids: Ids) -> bool:
    """Propose the titles of items from a table about them; False where it has none."""
    table = about.table
    chosen = _titles(about)
    options = {key: value for key, value in table.options.items() if key != "nullValue"}
    known = {option.lower() for option in options} <= set(CSV_OPTIONS)
    if not chosen or table.format not in ("csv", "parquet") or not known:
        return False
    if table.size > _MOST_FOR_TITLES or len(table.paths) > 1:
        draft.unsure.append(f"{table.name} has titles, but is too large to be read for them alone")
        return False
    note = ""
    if ids.name and about.id.name != ids.name and ids.name in table.columns:
        note = f"Not {ids.name}: {about.id.name} has the ids of the ratings."
        draft.unsure.append(
            f"the ids of the items are in {about.id.name} of {table.name}, not in its {ids.name}"
        )
    draft.put("items.titles.path", table.paths[0])
    if table.format != "csv":
        draft.put("items.titles.format", table.format)
    if options:
        draft.put("items.titles.options", options)
    draft.put("items.titles.column", about.id.name, note)
    draft.put("items.titles.title", chosen[0] if len(chosen) == 1 else chosen)
    draft.said["titles"] = f"{', '.join(chosen)} of {table.name}, by {about.id.name}"
    return True


def _titles(about: About) -> list[str]:
    """Return the columns that name an item: a title, and who made it or what it is."""
    texts = [
        one
        for one in about.table.columns.values()
        if one is not about.id and one.kind == "text" and _readable(one)
    ]
    if not texts:
        return []

    def clear(one: Column) -> tuple[float, float]:
        said = names.says(one.name, names.TITLES | {"description"})
        return (said if one.unique > 0.3 else min(said, 0.3), one.unique)

    first = max(texts, key=clear)

    second = [
        one
        for word in _MAKERS
        for one in texts
        if word in names.tokens(one.name) and one is not first
    ]
    found = [first.name]
    if second and second[0].missing < 0.5 and pieces(second[0]) != "|":
        found.append(second[0].name)
    return found


def _readable(column: Column) -> bool:
    """Whether text is for people: letters, not a link, a code or a long description."""
    some = column.values.iloc[:500].str.lower()
    letters = some.str.count(r"[^\W\d_]") / some.str.len().clip(lower=1)
    links = some.str.contains(_LINKS.pattern, regex=True).mean() > 0.5
    return bool(
        column.distinct > 1 and letters.mean() > 0.45 and not links and some.str.len().mean() < 150
    )


def propose_features(draft: Draft, about: About, kind: str) -> None:
    """Propose groups of features from a table about items or users (`kind`)."""
    titles = _titles(about)[:1] if kind == "items" else []
    groups: dict[str, dict[str, Any]] = {}
    for column in about.table.columns.values():
        if column is about.id or column.name in titles or len(groups) >= _MOST_GROUPS:
            continue
        group = _group(column, about.table)
        name = re.sub(r"\W+", "_", column.name.strip("_ ")).strip("_")[:60].lower()
        if group is None or not re.match(r"[a-z]", name) or name in groups:
            continue
        groups[name] = group if column.name == name else {"column": column.name, **group}
    if not groups:
        return
    table = about.table
    source: dict[str, Any] = {"format": table.format, "path": list(table.paths)}
    if len(table.paths) == 1:
        source["path"] = table.paths[0]
    if table.options:
        source["options"] = dict(table.options)
    named = re.sub(r"\W+", "_", table.paths[0].rpartition("/")[2].partition(".")[0]) or kind
    named = named if re.match(r"[A-Za-z]", named) else kind
    draft.features.setdefault(kind, {})[named[:60]] = {
        **source,
        "id": about.id.name,
        "groups": groups,
    }


def _group(column: Column, table: Table) -> dict[str, Any] | None:
    """Return a group of features for a column; None where it describes nothing."""
    words = set(names.tokens(column.name))
    nothing = words & _LIKED or words & _NO_GROUP or column.kind in ("empty", "time", "other")
    if nothing:
        return None
    if column.kind == "list":
        return {"kind": "categories"} if pa.types.is_string(column.type.value_type) else None
    if column.missing > 0.9 or column.distinct < 2 or "." in column.name:
        return None
    if column.kind == "text":
        some = column.values.iloc[:500]
        if some.str.contains(_LINKS.pattern, regex=True).mean() > 0.1 or some.str.len().mean() > 80:
            return None
        separator = pieces(column)
        if separator not in (None, " "):
            return {"kind": "categories", "separator": separator}
        return {} if column.unique < 0.5 else None
    if column.comma or not _spread(column):
        return None
    return {} if column.distinct <= 12 else {"kind": "number"}


def _spread(column: Column) -> bool:
    """Whether numbers describe something, and are no ids: several things share a value."""
    whole = np.all(column.numbers == np.floor(column.numbers))
    return bool(column.unique < (0.5 if whole else 0.95))
