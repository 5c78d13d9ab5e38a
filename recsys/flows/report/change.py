"""What has changed since the version before, and why as far as records and tables say it."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.columns import ITEM, RANK, SCORE, STATUS, USER
from recsys.errors import one_line
from recsys.flows.diff import causes_of, changed_users, named_files
from recsys.flows.lists_again import Inputs
from recsys.flows.report.records import Data, Records, Version
from recsys.ingest.local_pairs import ARROW
from recsys.publishing.lookup import Kept
from recsys.publishing.versions import RECOMMENDATIONS, Unit
from recsys.publishing.versions import STATUS as STATUSES
from recsys.publishing.versions import Version as Published
from recsys.score.differences import find_differences
from recsys.score.two_sides import Side
from recsys.store.posix import PosixFiles

_MOST_ROWS = 5_000_000
# Causes are found by making lists again, of so many users at most and with so much read for it: a
# few seconds on one core, and memory that is free after a run.
_MOST_USERS = 2_000
_MOST_BYTES = 512 * 2**20
_ARROW = {**ARROW, "float": pa.float32()}  # types of the columns that are compared


def change(
    before: tuple[Records, Version], after: tuple[Records, Version], *, causes: bool = True
) -> dict[str, Any] | None:
    """Compare the lists of two versions; None where there are too many rows to do so in passing.

    Args:
        before: what was.
        after: what is.
        causes: whether to find them.

    Returns:
        The record of `recsys.score.differences`, and as `why` how many `users` its causes are
        of, out of how many (`of`) whose items left or entered, and a `note` where that is none.
    """
    rows = sum(one.manifest.tables.recommendations.rows for _, one in (before, after))
    tables = [records.lists(version) for records, version in (before, after)]
    if rows > _MOST_ROWS or not all(one.readable for one in tables):
        return None
    found = find_differences(_side(*before), _side(*after))
    every = changed_users(found.changes)
    chosen = every[np.linspace(0, len(every) - 1, min(len(every), _MOST_USERS)).astype(np.int64)]
    note = None
    try:
        then, now = (_kept(*one) for one in (before, after))
        note = _what_keeps((before[0], then), (after[0], now)) if causes else "recsys diff finds it"
        if note is None:
            with Inputs({}) as inputs:
                again = causes_of(then, now, found.changes, inputs, chosen)
            found = replace(found, causes=again)
    except Exception as error:  # the page is whole without causes
        note = one_line(str(error) or type(error).__name__)[:300]
    looked = 0 if found.causes is None else len(chosen)
    return {**found.as_record(), "why": {"users": looked, "of": len(every), "note": note}}


def _kept(records: Records, version: Version) -> Kept:
    about = version.manifest
    unit = Unit(about.cohort, dt.date.fromisoformat(about.run_date))
    return Kept(records.files, version.uri, Published(unit, about.run_id, "", ""), about)


def _what_keeps(*sides: tuple[Records, Kept]) -> str | None:
    """Say why the lists cannot be made again in passing, from records and tables alone."""
    read = 0
    for records, kept in sides:
        if not isinstance(records.files, PosixFiles):
            return "the root is not local"
        if named := named_files(kept.config):
            what = f"what {' and '.join(named)} names, which may change"
            return f"lists also depend on {what}; recsys diff finds it"
        model = records.model_of(kept.manifest.model_id)
        pairs = records.interactions_of(kept.manifest.interactions_id)
        if model is None or pairs is None:
            return "a model or its interactions are not there any more"
        # Each side reads its own, also where both have the same.
        for table in (model.tables.items, model.tables.users, pairs.tables.pairs):
            read += sum(file.bytes for file in table.files)
    if read > _MOST_BYTES:
        return "the models and their interactions are large; recsys diff finds it"
    return None


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
