"""Reading a unit from Iceberg tables: the lists of a snapshot, and the statuses of the same run."""

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from recsys.errors import DamageError, OutputError
from recsys.publishing.iceberg import commits
from recsys.publishing.iceberg import history as past
from recsys.publishing.iceberg.catalog import IcebergCatalog, errors
from recsys.publishing.iceberg.history import Entry
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, Unit, Version

READINGS = 20


def read(
    catalog: IcebergCatalog, unit: Unit, snapshot: int | None
) -> tuple[Version, pa.Table, pa.Table] | None:
    """Read what readers see of a unit: the version, its recommendations and its statuses.

    Args:
        catalog: has the tables.
        unit: what to read.
        snapshot: a snapshot id of the recommendations' table; None: the current one.

    Returns:
        None where nothing is published.

    Raises:
        DamageError: a file is missing, or the rows are not those of the version.
        OutputError: there is no such snapshot, or the catalog cannot be reached.
    """
    for attempt in range(READINGS):
        table = _load(catalog, RECOMMENDATIONS)
        try:
            return _read(catalog, table, unit, snapshot)
        except DamageError:
            # A publisher may have put away what was current when the reading began.
            again = _load(catalog, RECOMMENDATIONS)
            is_same = table is None or again is None or again.metadata == table.metadata
            if is_same or attempt == READINGS - 1:
                raise
    raise AssertionError("unreachable")


def _read(
    catalog: IcebergCatalog, table: Table | None, unit: Unit, at: int | None
) -> tuple[Version, pa.Table, pa.Table] | None:
    if table is None:
        return None
    snapshot = table.current_snapshot() if at is None else table.snapshot_by_id(at)
    if snapshot is None:
        if at is None:
            return None
        raise OutputError(f"the recommendations have no snapshot {at}; it may have expired")
    entry = past.shown(past.read(table.properties), unit, commits.sequence(snapshot))
    if entry is None:
        return None
    rows = _rows(catalog, table, snapshot, unit, entry)
    return entry.version(unit), rows, _statuses(catalog, unit, entry.run_id)


def _statuses(catalog: IcebergCatalog, unit: Unit, run_id: str) -> pa.Table:
    table = _load(catalog, STATUS)
    if table is not None:
        entries = past.read(table.properties).get(unit, [])
        entry = next((e for e in entries if e.run_id == run_id), None)
        snapshot = commits.newest(table.snapshots(), entry) if entry else None
        if entry is not None and snapshot is not None:
            return _rows(catalog, table, snapshot, unit, entry)
    raise DamageError(f"{unit}: no snapshot of the statuses has those of run {run_id}")


def _rows(
    catalog: IcebergCatalog, table: Table, snapshot: Snapshot, unit: Unit, entry: Entry
) -> pa.Table:
    with errors(catalog):
        return commits.rows(table, snapshot, unit, entry)


def _load(catalog: IcebergCatalog, name: str) -> Table | None:
    with errors(catalog):
        return catalog.load(name)
