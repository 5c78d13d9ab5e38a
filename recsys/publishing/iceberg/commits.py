"""What is done to one Iceberg table: stage a snapshot, remember what it shows, commit, read."""

import random
import time
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import And, BooleanExpression, EqualTo, Reference
from pyiceberg.expressions.literals import literal
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.table import DataScan, Table, Transaction
from pyiceberg.table.snapshots import Snapshot

from recsys.columns import COHORT, RUN_DATE, RUN_ID
from recsys.errors import ConflictError, DamageError
from recsys.publishing.iceberg import history as past
from recsys.publishing.iceberg.catalog import IcebergCatalog, errors
from recsys.publishing.iceberg.history import Entry, History
from recsys.publishing.versions import Unit
from recsys.runtime.signals import check_stop

ATTEMPTS = 30


def persist(catalog: IcebergCatalog, attempt: Callable[[], None]) -> None:
    """Try until no rival has committed in between; each attempt begins with fresh metadata.

    Raises:
        ConflictError: rivals came first too often.
    """
    for _ in range(ATTEMPTS):
        try:
            with errors(catalog):
                return attempt()
        except CommitFailedException:
            check_stop()
            time.sleep(random.uniform(0, 0.2))  # noqa: S311 - no secret, only apart
    raise ConflictError(
        f"other publishers came first {ATTEMPTS} times in a row; run again when they are done"
    )


def overwrite(
    transaction: Transaction,
    table: Table,
    units: list[Unit],
    uris: list[str],
    summary: dict[str, str],
) -> None:
    """Stage one snapshot: all files of the units go, others come."""
    snapshot = transaction.update_snapshot(snapshot_properties=summary).overwrite()
    for unit in units:
        for task in table.scan(row_filter=of_unit(unit)).plan_files():
            snapshot.delete_data_file(task.file)
    metadata = transaction.table_metadata  # a copy each time
    for uri in uris:
        snapshot.append_data_file(parquet_file_to_data_file(table.io, metadata, uri))
    snapshot.commit()


def remember(transaction: Transaction, before: History, after: History) -> None:
    """Stage what the table is to remember of the versions it has shown."""
    changed, removed = past.changes(before, after)
    if changed:
        transaction.set_properties(changed)
    if removed:
        transaction.remove_properties(*removed)


def rows(table: Table, snapshot: Snapshot, unit: Unit, entry: Entry) -> pa.Table:
    """Read a version's rows from a snapshot that shows it.

    Raises:
        DamageError: they are not that version's, or a file is missing or damaged.
    """
    scan = table.scan(row_filter=of_unit(unit), snapshot_id=snapshot.snapshot_id)
    try:
        found: pa.Table = scan.to_arrow()
    except (OSError, MemoryError) as error:
        raise _named(table, snapshot, scan) or error from error
    # A parser that is given damaged bytes may raise anything: EOFError, KeyError, UnicodeError.
    except Exception as error:
        raise _named(table, snapshot, scan) or _unreadable(table, error) from error
    runs = found[RUN_ID].unique().to_pylist()
    if len(found) != entry.rows or any(run != entry.run_id for run in runs):
        raise DamageError(
            f"{unit}: snapshot {snapshot.snapshot_id} of {'.'.join(table.name())} has "
            f"{len(found)} rows of {', '.join(map(str, runs)) or 'no run'}, expected "
            f"{entry.rows} of {entry.run_id}; another program has changed the table"
        )
    return found


def _named(table: Table, snapshot: Snapshot, scan: DataScan) -> DamageError | None:
    """Return an error that names the file that cannot be read; None where all can be."""
    uri = snapshot.manifest_list
    try:
        for manifest in snapshot.manifests(table.io):
            uri = manifest.manifest_path
            manifest.fetch_manifest_entry(table.io)
        for task in scan.plan_files():
            uri = task.file.file_path
            with table.io.new_input(uri).open() as stream:
                pq.read_table(stream)
    except FileNotFoundError:
        return DamageError(f"{uri} is missing")
    except Exception as reason:
        return DamageError(f"{uri} is damaged: {_first_line(reason)}")
    return None


def _unreadable(table: Table, error: Exception) -> DamageError:
    name = ".".join(table.name())
    return DamageError(f"the files of the table {name} cannot be read: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def summary(unit: Unit, entry: Entry) -> dict[str, str]:
    """Return what a snapshot says of the version that it publishes."""
    return {
        "recsys.operation": "replace",
        "recsys.run-id": entry.run_id,
        "recsys.cohort": unit.cohort,
        "recsys.run-date": unit.run_date.isoformat(),
        "recsys.published-at": entry.published_at,
        "recsys.manifest-sha256": entry.manifest_sha256,
    }


def of_unit(unit: Unit) -> BooleanExpression:
    """Return the filter for a unit's rows."""
    return And(
        EqualTo(term=Reference(RUN_DATE), value=literal(unit.run_date.isoformat())),
        EqualTo(term=Reference(COHORT), value=literal(unit.cohort)),
    )


def history(table: Table | None) -> tuple[History, int]:
    """Return a table's history, and the sequence number of its current snapshot or 0."""
    if table is None:
        return {}, 0
    snapshot = table.current_snapshot()
    return past.read(table.properties), sequence(snapshot)


def sequence(snapshot: Snapshot | None) -> int:
    """Return a snapshot's sequence number; 0 where there is none."""
    return 0 if snapshot is None else snapshot.sequence_number or 0


def last(transaction: Transaction) -> int:
    """Return the sequence number of the snapshot that was staged last."""
    return max(sequence(snapshot) for snapshot in transaction.table_metadata.snapshots)


def newest(snapshots: Iterable[Snapshot], entry: Entry) -> Snapshot | None:
    """Return the newest of a table's snapshots that shows a version."""
    showing = [s for s in snapshots if entry.shown_at(sequence(s))]
    return max(showing, key=sequence, default=None)


def seen(table: Table, history: History) -> dict[Unit, list[str]]:
    """Return the runs of each unit that some snapshot of a table shows."""
    return {
        unit: [entry.run_id for entry in entries if newest(table.snapshots(), entry)]
        for unit, entries in history.items()
    }
