"""What items are called, from the titles that were published with lists. No Spark."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pyarrow as pa

from recsys.columns import ITEM, TITLE
from recsys.flows.item_titles import titled
from recsys.flows.report.records import Records, Version
from recsys.ingest.local_pairs import ARROW
from recsys.publishing.versions import RECOMMENDATIONS


def titles_of(records: Records, wanted: Iterable[Any]) -> dict[Any, str]:
    """Return the titles of items by id, as far as they have any.

    Args:
        records: the run, whose own titles count before those of the version before.
        wanted: ids.
    """
    ids = list(wanted)
    found: dict[Any, str] = {}
    versions = [one for one in (records.version, records.before) if one is not None]
    for version in versions if ids else ():
        mine = _fitting(ids, ARROW[version.manifest.schemas[RECOMMENDATIONS][ITEM]])
        for rows in _rows(records, version):
            for item, title in titled(rows, mine):
                found.setdefault(item, title)
    return found


def _fitting(ids: list[Any], kind: pa.DataType) -> pa.Array:
    """Return the ids that can be of a type: another version may have had ids of another one."""
    fitting = []
    for one in ids:
        with suppress(pa.ArrowException, OverflowError):
            fitting.append(pa.scalar(one, kind))
    return pa.array([one.as_py() for one in fitting], kind)


def lacks_titles(records: Records) -> bool:
    """Whether the run was to publish titles, and its lists have none."""
    version = records.version
    items = records.run.configuration.get("items") or {}
    wanted = items.get("titles") is not None
    return wanted and version is not None and version.manifest.tables.titles is None


def search(records: Records, text: str, most: int) -> dict[Any, str]:
    """Return items whose title has a text in it, whatever its case, the shortest titles first."""
    folded, named = text.casefold(), []
    if records.version is not None:
        for rows in _rows(records, records.version):
            named += [one for one in titled(rows, None) if folded in one[1].casefold()]
    return dict(sorted(named, key=lambda one: (len(one[1]), one[1], str(one[0])))[:most])


def _rows(records: Records, version: Version) -> Iterable[pa.RecordBatch]:
    data = records.titles(version)
    return () if data is None or not data.readable else data.batches([ITEM, TITLE])
