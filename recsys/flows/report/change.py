"""What has changed since the version before: users, items and how much lists have in common."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from recsys.columns import ITEM, RANK, SCORE, STATUS, USER
from recsys.flows.report.records import Data, Records, Version
from recsys.ingest.local_pairs import ARROW
from recsys.publishing.versions import RECOMMENDATIONS
from recsys.publishing.versions import STATUS as STATUSES
from recsys.score.differences import find_differences
from recsys.score.two_sides import Side

_MOST_ROWS = 5_000_000
_ARROW = {**ARROW, "float": pa.float32()}  # types of the columns that are compared


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
    kinds = about.schemas
    lists = _whole(records.lists(version), [USER, RANK, ITEM, SCORE], kinds[RECOMMENDATIONS])
    served = _whole(records.statuses(version), [USER, STATUS], kinds[STATUSES])
    return Side(about.run_id, about.run_date, about.cohort, about.model_id, lists, served)


def _whole(data: Data, columns: list[str], kinds: Mapping[str, str]) -> pa.Table:
    """Return some columns of a table; one without rows has them with their types, too."""
    schema = pa.schema([(name, _ARROW[kinds[name]]) for name in columns])
    return pa.Table.from_batches([batch.cast(schema) for batch in data.batches(columns)], schema)
