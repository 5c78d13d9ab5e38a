"""Lists of ids and tables of pairs of the configuration, read without Spark where that can be.

What is read is what `recsys.ingest.ids.read_ids` reads with Spark. Conditions in SQL, tables of a
catalog, other formats and other stores need Spark; `needs_spark` says why.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.json as pj

from recsys.columns import ITEM, USER, WEIGHT
from recsys.config.sections import CandidateList, IdList, Source, UserList
from recsys.errors import InputError
from recsys.ingest.local_pairs import ARROW
from recsys.score.local_ids import LocalIds
from recsys.score.local_rows import CSV_OPTIONS, read_rows
from recsys.store.files import require_local, scheme

_PATTERNS = "*?[]{}"


def needs_spark(source: Source, *, where: str | None, arrays: bool = False) -> str | None:
    """Say why a source cannot be read without Spark; None where it can.

    Args:
        source: a table, or ids in the configuration.
        where: an SQL condition on it.
        arrays: whether a column with arrays is wanted of it.
    """
    if isinstance(source, IdList) and source.ids is not None:
        return None
    if where is not None:
        return "a condition in SQL"
    known = ("parquet", "json") if arrays else ("parquet", "csv")
    if source.format not in known:
        return f"the format {source.format}"
    options = CSV_OPTIONS if source.format == "csv" else ()
    if other := [name for name in source.options if name.lower() not in options]:
        return f"the option {other[0]}"
    for path in source.paths:
        if scheme(path) != "file" or any(sign in path for sign in _PATTERNS):
            return f"the path {path}"
        if not Path(require_local(path, "path")).exists():
            return f"the path {path}, which is not there"
    return None


def read_list(chosen: IdList, key: str, id_type: str) -> pa.Array:
    """Return the ids of a list, each once, without those that are none of the type.

    Args:
        chosen: a source that `needs_spark` lets pass.
        key: its place in the configuration, for messages.
        id_type: Spark's name of the type that is wanted.

    Raises:
        InputError: the file cannot be read, or lacks the column.
    """
    if chosen.ids is not None:
        return _ids(chosen.ids, id_type).unique()
    columns = [_column(chosen, {"column": chosen.column}, key, at=0, id_type=id_type)]
    return columns[0].drop_null().unique()


def read_pairs(wanted: CandidateList, key: str, user_type: str, item_type: str) -> pa.Table:
    """Return `user_id` and `item_id` of a table of pairs, without rows that are none.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    names = {"user": wanted.user, "item": wanted.item}
    types = {USER: user_type, ITEM: item_type}
    found = {
        name: _column(wanted, names, key, at=at, id_type=kind)
        for at, (name, kind) in enumerate(types.items())
    }
    return pa.table(found).drop_null()


def read_likes(users: UserList, user_type: str, item_type: str) -> pa.Table:
    """Return `user_id`, `item_id` and `weight` of what a cohort's list says that users like.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    key = "cohort.users"
    names = [name for name in (users.column, users.liked, users.liked_weights) if name]
    table = pa.concat_tables(_arrays(users, names, key), promote_options="permissive")
    columns = [table.column(name).to_pylist() for name in names]
    rows = (
        zip(*columns, strict=True)
        if len(columns) == 3
        else ((*row, None) for row in zip(*columns, strict=True))
    )
    to_user, to_item = (LocalIds(pa.nulls(0, ARROW[kind])) for kind in (user_type, item_type))
    found: list[tuple[Any, Any, float]] = []
    for user, liked, weights in rows:
        for n, item in enumerate(liked or ()):
            weight = 1.0 if weights is None else weights[n] if n < len(weights) else None
            found.append((to_user.convert(user), to_item.convert(item), _number(weight)))
    types = [(USER, ARROW[user_type]), (ITEM, ARROW[item_type]), (WEIGHT, pa.float64())]
    values = zip(*found, strict=True) if found else ([], [], [])
    made = [pa.array(list(column), kind) for column, (_, kind) in zip(values, types, strict=True)]
    return pa.table(dict(zip([name for name, _ in types], made, strict=True))).drop_null()


def _number(weight: object) -> float:
    return float("nan") if weight is None else float(str(weight))


def _arrays(users: UserList, names: list[str], key: str) -> Iterator[pa.Table]:
    for path in _paths(users):
        try:
            if users.format == "parquet":
                yield ds.dataset(path, format="parquet").to_table(columns=names)
            else:
                files = [path] if path.is_file() else sorted(path.glob("[!._]*"))
                for file in files:
                    yield pj.read_json(file).select(names)
        except (OSError, KeyError, pa.ArrowException) as error:
            raise InputError(
                f"{key}: cannot read {path}: {' '.join(str(error).split())}"
            ) from error


def _paths(source: Source) -> list[Path]:
    return [Path(require_local(path, "path")) for path in source.paths]


def _column(source: Source, names: dict[str, str], key: str, *, at: int, id_type: str) -> pa.Array:
    """Return one of several columns of ids, null where there is none of the type."""
    parts = []
    for path in _paths(source):
        rows = read_rows(path, source.format, source.options, names, key)
        parts.append(_ids([row[at] for row in rows], id_type))
    return pa.concat_arrays(parts)


def _ids(values: Sequence[object], id_type: str) -> pa.Array:
    convert = LocalIds(pa.nulls(0, ARROW[id_type])).convert
    return pa.array([convert(value) for value in values], ARROW[id_type])
