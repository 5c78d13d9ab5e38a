"""What the items of kept versions are called: as it was published with them. No Spark."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, TITLE
from recsys.config.sections import Titles
from recsys.errors import RecsysError
from recsys.ingest.local_pairs import ARROW
from recsys.publishing.lookup import Kept
from recsys.publishing.versions import RECOMMENDATIONS
from recsys.score.local_ids import LocalIds
from recsys.score.titles import columns_of, read_cards


def titles_of(
    versions: Sequence[Kept], configured: Titles | None, notes: list[str], ids: pa.Array | None
) -> dict[Any, str]:
    """Return titles by item id.

    Args:
        versions: of the same catalogue; the title in the first one that has it counts.
        configured: where titles are read from if no version has a table of them.
        notes: gets what a reader should know.
        ids: of these items; None: of all that have a title.
    """
    found: dict[Any, str] = {}
    tables = [kept.titles([TITLE]) for kept in versions]
    if all(table is None for table in tables):
        tables = [configured_titles(versions[0], configured, notes)]
    for table in tables:
        for item, title in titled(table, ids) if table is not None else ():
            found.setdefault(item, title)
    return found


def titled(rows: pa.Table | pa.RecordBatch, ids: pa.Array | None) -> list[tuple[Any, str]]:
    """Return ids and titles of the rows of a table of titles that have one; see `titles_of`."""
    kept = pc.is_valid(rows.column(TITLE))
    if ids is not None:
        kept = pc.and_(kept, pc.is_in(rows.column(ITEM), value_set=ids))
    mine = rows.filter(kept)
    return list(zip(*(mine.column(name).to_pylist() for name in (ITEM, TITLE)), strict=True))


def configured_titles(kept: Kept, configured: Titles | None, notes: list[str]) -> pa.Table | None:
    """Return titles from what a configuration names, for a version without a table of them.

    Args:
        kept: the version.
        configured: where they are; None: nowhere.
        notes: gets that they are read there, or why they cannot be.

    Returns:
        `item_id` and TITLE_COLUMNS, a row for each item that has a title; None where there are
        none.
    """
    if configured is None:
        return None
    kind = ARROW[kept.manifest.schemas[RECOMMENDATIONS][ITEM]]
    try:
        cards = read_cards(configured, LocalIds(pa.nulls(0, kind)).convert)
    except RecsysError as error:
        notes.append(f"without titles: {error}")
        return None
    notes.append(
        f"run {kept.version.run_id} was published without titles; they are those of items.titles "
        "as it is now"
    )
    return pa.table({ITEM: pa.array(list(cards), kind), **columns_of(cards.values())})
