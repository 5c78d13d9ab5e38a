"""A configuration for a table with a row for each rating, purchase or event."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import InputError
from recsys.guess import beside, sql
from recsys.guess.beside import Ids
from recsys.guess.columns import Column
from recsys.guess.draft import Draft
from recsys.guess.ratings import Scale, scale
from recsys.guess.roles import Roles, weight
from recsys.guess.tables import Table

_INT = 2**31
_SHARE_WITHOUT_WORD = 0.15  # of rejected rows: the default limit is 0.2
_MOST_FOR_PAIRS = 3_000_000


def propose_rows(draft: Draft, table: Table, roles: Roles) -> tuple[Ids, Ids]:
    """Propose columns, types, checks and policies; return the ids of users and of items."""
    events = roles.event is not None
    draft.put("input.columns.user", roles.user)
    draft.put("input.columns.item", roles.item)
    found = None if events else _scale(table, roles)
    use_rating = found is not None and found.policy != "count" and found.kind != "same"
    if events:
        _events(draft, table, roles)
    elif found is not None and use_rating and roles.rating is not None:
        draft.put("input.columns.rating", roles.rating, f"{found.note.capitalize()}.")
        if table.columns[roles.rating].comma:
            draft.put("input.decimal", ",")
    if roles.timestamp is not None:
        draft.put("input.columns.timestamp", roles.timestamp)
        if (layout := table.columns[roles.timestamp].format) not in (None, "seconds"):
            draft.put("input.timestamp_format", layout)
        draft.said["times"] = f"{roles.timestamp}{_range(table.columns[roles.timestamp])}"
    for role, name in (("user", roles.user), ("item", roles.item)):
        _id_type(draft, table, role, name)
    _checks(draft, table, roles, rated=use_rating)
    _pairs(draft, table, roles, found)
    return tuple(  # type: ignore[return-value]
        Ids(beside.plain_ids(table.values(name)), None if table.headless else name)
        for name in (roles.user, roles.item)
    )


def _scale(table: Table, roles: Roles) -> Scale | None:
    if roles.rating is None:
        return None
    column = table.columns[roles.rating]
    if not column.numeric:
        raise InputError(
            f"the column {roles.rating} has no numbers, such as {column.values.iloc[0]!r}, "
            "expected ratings; name another one by --rating"
        )
    return scale(column.numbers, None if table.headless else column.name)


def _events(draft: Draft, table: Table, roles: Roles) -> None:
    """Propose a query that gives each kind of event a weight."""
    event = roles.event or ""
    kinds = pc.unique(table.values(event)).drop_null().to_pylist()
    weights = {str(kind): weight(str(kind)) for kind in kinds}
    unknown = sorted(kind for kind, value in weights.items() if value is None)
    known = {kind: 1.0 if value is None else value for kind, value in weights.items()}
    cases = "\n".join(
        f"  when {sql.text(kind)} then {value:g}"
        for kind, value in sorted(known.items(), key=lambda one: (-one[1], one[0]))
    )
    kept = [roles.user, roles.item, *([roles.timestamp] if roles.timestamp else [])]
    chosen = ", ".join(_as_named(table, name) for name in kept)
    query = f"select {chosen}, case {table.sql(event)}\n{cases}\nend as weight\nfrom input"
    draft.put(
        "input.query",
        query,
        "How much each event counts. 0: the item counts as seen, and is not liked. An event that "
        "is not named here is rejected.",
    )
    for role, name in (("user", roles.user), ("item", roles.item), ("timestamp", roles.timestamp)):
        if name is not None and name not in table.rows.column_names:
            draft.put(f"input.columns.{role}", name.rpartition(".")[2])
    draft.put("input.columns.rating", "weight")
    draft.said["events"] = ", ".join(f"{kind} {value:g}" for kind, value in known.items())
    draft.unsure.append(f"how much each kind of {event} counts")
    if unknown:
        draft.unsure.append(f"what these events mean, which count 1: {', '.join(unknown)}")


def _as_named(table: Table, name: str) -> str:
    """Return a column for a query; a field of one keeps its own name alone."""
    own = name in table.rows.column_names
    return table.sql(name) if own else f"{table.sql(name)} as {_own_name(table, name)}"


def _own_name(table: Table, name: str) -> str:
    return name if name in table.rows.column_names else sql.whole_name(name.rpartition(".")[2])


def _range(column: Column) -> str:
    if column.values.empty:
        return ""
    unit = {"seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
    if column.format in unit:
        scale = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit[column.format]]
        days = pd.to_datetime(
            [column.numbers.min() / scale, column.numbers.max() / scale], unit="s"
        )
        return f", {column.format} since 1970, from {days[0]:%Y-%m-%d} to {days[1]:%Y-%m-%d}"
    return f", {column.format or 'a time'}, such as {column.values.iloc[0]}"


def _id_type(draft: Draft, table: Table, role: str, name: str) -> None:
    column = table.columns[name]
    values = table.values(name)
    shown = f"{name}, {pc.count_distinct(values).as_py():,} different ones"
    if table.whole is False:
        shown += " in the sample"
    draft.said[f"{role}s"] = shown
    if column.typed or column.kind != "whole":
        return
    try:
        text = pc.utf8_trim_whitespace(values)
        numbers = pc.cast(pc.replace_substring_regex(text, r"\.0+$", ""), pa.int64())
    except pa.ArrowInvalid:
        return
    if pc.any(pc.match_substring_regex(text, r"^[+-]?0\d")).as_py():
        return  # 007 is not 7
    ends = pc.min_max(numbers).as_py()
    if ends["min"] is None:
        return
    kind = "int" if ends["min"] >= -_INT and ends["max"] < _INT else "long"
    note = (
        "The file has numbers such as 17850.0."
        if column.values.str.contains(".", regex=False).any()
        else ""
    )
    draft.put(f"input.id_types.{role}", kind, note)


def _checks(draft: Draft, table: Table, roles: Roles, *, rated: bool) -> None:
    """Propose a limit for rejected rows where many are known to be."""
    lost = np.zeros(table.rows.num_rows, dtype=bool)
    why = []
    used = {"user": roles.user, "item": roles.item, "timestamp": roles.timestamp}
    if rated:
        used["rating"] = roles.rating
    for role, name in used.items():
        if name is None:
            continue
        values = table.values(name)
        missing = pc.is_null(values)
        if pa.types.is_string(values.type):
            missing = pc.or_kleene(missing, pc.equal(pc.utf8_trim_whitespace(values), ""))
        none = pc.fill_null(missing, True).to_numpy()
        if none.mean() > 0.01:
            why.append(f"{none.mean():.1%} of the rows have no {role}")
        lost |= none
    share = 1 - (1 - float(lost.mean())) * (1 - table.malformed)
    if table.malformed > 0.01:
        why.append(f"{table.malformed:.1%} of the lines have too many or too few values")
    if why:
        draft.said["rejects"] = "; ".join(why)
    if share > _SHARE_WITHOUT_WORD:
        limit = min(math.ceil((share + 0.05) * 20) / 20, 1.0)
        draft.put("row_checks.max_rejected_share", limit, f"{'; '.join(why)}.")


def _pairs(draft: Draft, table: Table, roles: Roles, found: Scale | None) -> None:
    """Propose what becomes of repeated pairs, and what is positive."""
    ids = pa.table({"user": table.values(roles.user), "item": table.values(roles.item)})
    ids = ids.slice(0, _MOST_FOR_PAIRS).drop_null()
    repeated = 1 - ids.group_by(["user", "item"]).aggregate([]).num_rows / max(ids.num_rows, 1)
    some = f"{repeated:.1%} of the rows repeat a pair of a user and an item"
    note = f"{some}." if repeated else "No pair of a user and an item was seen twice."
    if roles.event is not None:
        policy = "sum"
    elif found is None or found.kind == "same":
        policy = "count"
    elif found.kind == "opinion" and roles.timestamp is not None:
        policy = "last"
    else:
        policy = found.policy
    draft.put("deduplication.policy", policy, note)
    draft.said["pairs"] = f"{note.removesuffix('.')}; policy {policy}"
    if found is None:
        return
    propose_positive(draft, found)
    if found.unsure:
        draft.unsure.append(found.unsure)


def propose_positive(draft: Draft, found: Scale) -> None:
    """Propose the ends of a scale, and what is positive on it."""
    draft.said["scale"] = found.note
    if found.low is not None:
        draft.put("row_checks.rating_min", found.low)
        draft.put("row_checks.rating_max", found.high)
    if found.threshold is not None:
        draft.put("filters.rating_threshold", found.threshold, "Ratings from here on are positive.")
        if found.kind == "opinion":
            draft.unsure.append(
                f"that ratings from {found.threshold:g} on mean that someone likes it"
            )
