"""What has changed since the version before: users, items and how much lists have in common."""

from typing import Any

import pyarrow as pa

from recsys.columns import ITEM, RANK, SCORE, STATUS, USER
from recsys.flows.report.records import Data, Records, Version
from recsys.score.differences import find_differences
from recsys.score.two_sides import Side

_MOST_ROWS = 5_000_000


def change(
    before: tuple[Records, Version], after: tuple[Records, Version]
) -> dict[str, Any] | None:
    """Compare the lists of two versions; None where there are too many rows to do so in passing.

    Args:
        before: what was.
        after: what is.

    Returns:
        The record of `recsys.score.differences`, without causes: these need the lists made again.
    """
    rows = sum(one.manifest.tables.recommendations.rows for _, one in (before, after))
    tables = [records.lists(version) for records, version in (before, after)]
    if rows > _MOST_ROWS or not all(one.readable for one in tables):
        return None
    return find_differences(_side(*before), _side(*after)).as_record()


def items_of(change: dict[str, Any]) -> set[Any]:
    """Return the items that a page names of a difference."""
    return {row["item_id"] for row in (*change["rose"], *change["fell"])}


def _side(records: Records, version: Version) -> Side:
    about = version.manifest
    lists = _whole(records.lists(version), [USER, RANK, ITEM, SCORE])
    served = _whole(records.statuses(version), [USER, STATUS])
    return Side(about.run_id, about.run_date, about.cohort, about.model_id, lists, served)


def _whole(data: Data, columns: list[str]) -> pa.Table:
    parts = list(data.batches(columns))
    return pa.Table.from_batches(parts) if parts else pa.table({name: [] for name in columns})
