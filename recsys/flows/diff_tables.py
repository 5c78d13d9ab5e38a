"""The differences between runs as tables of Parquet: every user, item and change."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.columns import (
    DIFFERENCE_CHANGES_SCHEMA,
    DIFFERENCE_ITEMS_SCHEMA,
    DIFFERENCE_USERS_SCHEMA,
    names,
)
from recsys.errors import ConfigError, OutputError
from recsys.score.causes import CAUSES
from recsys.score.differences import Differences

TABLES = {
    "users": DIFFERENCE_USERS_SCHEMA,
    "items": DIFFERENCE_ITEMS_SCHEMA,
    "changes": DIFFERENCE_CHANGES_SCHEMA,
}


def check_output(folder: Path) -> None:
    """Refuse a directory that is there already, or that is in none.

    Raises:
        ConfigError: it is.
    """
    if folder.exists():
        raise ConfigError(f"--output: found {folder}, expected the name of a new directory")
    if not folder.parent.is_dir():
        raise ConfigError(f"--output: found {folder}, but there is no directory {folder.parent}")


def write(found: Sequence[Differences], folder: Path) -> None:
    """Write the tables of some differences, one directory each, below a new directory.

    Raises:
        ConfigError: the ids of cohorts are of different types.
        OutputError: they cannot be written.
    """
    tables = {name: _together([_MADE[name](one) for one in found]) for name in TABLES}
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        beside.mkdir()
        for name, schema in TABLES.items():
            (beside / name).mkdir()
            pq.write_table(tables[name].select(names(schema)), beside / name / "part-0.parquet")
        beside.rename(folder)
    except OSError as error:
        raise OutputError(f"--output: cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _together(parts: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(parts)
    except pa.ArrowInvalid as error:
        raise ConfigError(
            "--output: found cohorts whose ids have different types, expected one type; choose a "
            "cohort with --cohort"
        ) from error


def users(found: Differences) -> pa.Table:
    """Return a row for each user with a list or a status on either side."""
    changes = found.changes
    before, after = changes.before, changes.after
    n = len(changes.user_ids)
    return pa.table(
        {
            **_sides(found, n),
            "user_id": changes.user_ids,
            "served_before": pa.array(before.status, pa.string()),
            "served_after": pa.array(after.status, pa.string()),
            "items_before": pa.array(before.lengths, pa.int32()),
            "items_after": pa.array(after.lengths, pa.int32()),
            "entered": pa.array(changes.n_entered, pa.int32()),
            "left": pa.array(changes.n_left, pa.int32()),
            "moved": pa.array(changes.n_moved, pa.int32()),
            "overlap": pa.array(changes.whole_overlap, from_pandas=True),
            "rank_correlation": pa.array(changes.correlation, from_pandas=True),
        }
    )


def items(found: Differences) -> pa.Table:
    """Return a row for each item in a list of either side."""
    changes = found.changes
    (before, after), (n_before, n_after) = changes.lists_with, changes.n_lists
    ids = changes.item_ids
    titles = [found.titles.get(item) for item in ids.to_pylist()]
    return pa.table(
        {
            **_sides(found, len(ids)),
            "item_id": ids,
            "title": pa.array(titles, pa.string()),
            "lists_before": pa.array(before, pa.int64()),
            "lists_after": pa.array(after, pa.int64()),
            "share_before": pa.array(before / max(n_before, 1), pa.float64()),
            "share_after": pa.array(after / max(n_after, 1), pa.float64()),
        }
    )


def changed(found: Differences) -> pa.Table:
    """Return a row for each item that has left or entered a list, or moved in it."""
    changes = found.changes
    before, after, moved = changes.before, changes.after, changes.moved
    # The row on each side, -1 for none.
    then = np.concatenate([changes.left, np.full(len(changes.entered), -1), after.other[moved]])
    now = np.concatenate([np.full(len(changes.left), -1), changes.entered, moved])
    kinds = np.repeat([0, 1, 2], [len(changes.left), len(changes.entered), len(moved)])
    was, is_ = then >= 0, now >= 0
    who = np.where(is_, after.users[now], before.users[then])
    what = np.where(is_, after.items[now], before.items[then])
    rank = np.where(is_, after.ranks[now], before.ranks[then])
    order = np.lexsort((rank, kinds, who))
    then, now, kinds, who, what = (one[order] for one in (then, now, kinds, who, what))
    was, is_ = then >= 0, now >= 0
    codes = np.zeros(len(order), np.int8)
    if found.causes is not None and len(order):
        # What has moved has the cause 0 on both sides.
        codes = np.where(is_, found.causes.entered[now], found.causes.left[then])
    words = pa.array([one or None for one in CAUSES], pa.string())
    ids = changes.item_ids
    return pa.table(
        {
            **_sides(found, len(order)),
            "user_id": changes.user_ids.take(pa.array(who)),
            "item_id": ids.take(pa.array(what)),
            "change": pa.array(["left", "entered", "moved"]).take(pa.array(kinds)),
            "rank_before": pa.array(before.ranks[then], pa.int32(), mask=~was),
            "rank_after": pa.array(after.ranks[now], pa.int32(), mask=~is_),
            "score_before": pa.array(before.scores[then], pa.float32(), mask=~was),
            "score_after": pa.array(after.scores[now], pa.float32(), mask=~is_),
            "cause": words.take(pa.array(codes)),
        }
    )


def _sides(found: Differences, n: int) -> dict[str, pa.Array]:
    values = {
        "cohort": found.after.cohort,
        "run_before": found.before.run_id,
        "run_after": found.after.run_id,
    }
    return {name: pa.repeat(value, n) for name, value in values.items()}


_MADE = {"users": users, "items": items, "changes": changed}
