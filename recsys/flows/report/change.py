"""What has changed since the version before: users, items and how much lists have in common."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, USER
from recsys.flows.report.records import Data

_MOST_ROWS = 5_000_000
_BINS = 10
_SHOWN = 10


def change(before: Data, after: Data, rows: int) -> dict[str, Any] | None:
    """Compare the lists of two versions; None where there are too many rows to do so in passing.

    Args:
        before: recommendations.
        after: likewise.
        rows: of both together.

    Returns:
        `users` (`before`, `after`, `both`, `gained`, `lost`, `same`), `items` (`before`, `after`,
        `entered`, `left`), `overlap` (`mean`, `edges`, `counts` of users), `rose` and `fell`
        (`item_id`, `lists_before`, `lists_after`, the shares of all lists).
    """
    if rows > _MOST_ROWS:
        return None
    then, now = (_pairs(one) for one in (before, after))
    kinds = [
        (table.schema.field(USER).type, table.schema.field(ITEM).type) for table in (then, now)
    ]
    if kinds[0] != kinds[1] or not len(then) or not len(now):
        return None
    common = then.join(now, keys=[USER, ITEM], join_type="inner")
    sizes = [_sizes(table) for table in (then, now, common)]
    both = sorted(sizes[0].keys() & sizes[1].keys())
    shorter = np.array([min(sizes[0][user], sizes[1][user]) for user in both], np.float64)
    shared = np.array([sizes[2].get(user, 0) for user in both], np.float64)
    overlap = shared / shorter if both else np.zeros(0)
    longer = [max(sizes[0][user], sizes[1][user]) for user in both]
    counts, edges = np.histogram(overlap, _BINS, (0, 1))
    lists_then, lists_now = (_sizes(table, ITEM) for table in (then, now))
    return {
        "users": {
            "before": len(sizes[0]),
            "after": len(sizes[1]),
            "both": len(both),
            "gained": len(sizes[1]) - len(both),
            "lost": len(sizes[0]) - len(both),
            "same": int((shared == longer).sum()) if both else 0,
        },
        "items": {
            "before": len(lists_then),
            "after": len(lists_now),
            "entered": sum(sizes[1][user] for user in both) - int(shared.sum()),
            "left": sum(sizes[0][user] for user in both) - int(shared.sum()),
        },
        "overlap": {
            "mean": float(overlap.mean()) if both else None,
            "edges": edges.tolist(),
            "counts": counts.tolist(),
        },
        **_moved(lists_then, lists_now, len(sizes[0]), len(sizes[1])),
    }


def _pairs(data: Data) -> pa.Table:
    parts = list(data.batches([USER, ITEM]))
    return pa.Table.from_batches(parts) if parts else pa.table({USER: [], ITEM: []})


def _sizes(table: pa.Table, column: str = USER) -> dict[Any, int]:
    counted = pc.value_counts(table.column(column))
    values, n = counted.field(0).to_pylist(), counted.field(1).to_pylist()
    return dict(zip(values, n, strict=True))


def _moved(then: dict[Any, int], now: dict[Any, int], users: int, users_now: int) -> dict[str, Any]:
    """Return the items whose share of the lists rose and fell most."""
    rise = {
        item: now.get(item, 0) / users_now - then.get(item, 0) / users for item in {*then, *now}
    }

    def row(item: Any) -> dict[str, Any]:
        before, after = then.get(item, 0), now.get(item, 0)
        return {
            "item_id": item,
            "lists_before": before,
            "lists_after": after,
            "share_before": before / users,
            "share_after": after / users_now,
        }

    up = sorted((item for item in rise if rise[item] > 0), key=lambda one: (-rise[one], one))
    down = sorted((item for item in rise if rise[item] < 0), key=lambda one: (rise[one], one))
    return {
        "rose": [row(item) for item in up[:_SHOWN]],
        "fell": [row(item) for item in down[:_SHOWN]],
    }
