"""Iceberg tables: a replace of one unit is one snapshot of each table.

Two tables, `<namespace>.recommendations` and `<namespace>.status`, partitioned by run date and
cohort, refer to the version's Parquet files where they lie; a third, `<namespace>.titles`, where
there are titles. Status rows are committed first, then titles, recommendations last: a unit shows
what the recommendations' table shows, and its statuses are those of the same run, also while a
newer run has committed its statuses alone. Each table remembers what
it has shown in its properties (`recsys.publishing.iceberg.history`); the summary of each snapshot
names the run too:

    recsys.operation, recsys.run-id, recsys.cohort, recsys.run-date, recsys.published-at,
    recsys.manifest-sha256

Time travel with pyiceberg, to a snapshot of the recommendations that has not expired:

    table = load_catalog("recsys").load_table("recsys.recommendations")
    for entry in table.history():
        print(entry.snapshot_id, table.snapshot_by_id(entry.snapshot_id).summary)
    table.scan(snapshot_id=...).to_arrow()

or `IcebergTables.read(unit, snapshot=...)`, which joins the statuses of that run. Of the last
`SNAPSHOTS` each stays as long as every version of every unit that it shows is kept, so that what is
forgotten can be deleted; one with a tag stays until the tag is removed. A return to an earlier
version needs no snapshot of it.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import BinaryIO, cast

from recsys.config.sections import Iceberg
from recsys.errors import ConfigError, ConflictError, OutputError, RecsysError
from recsys.publishing.iceberg import footers
from recsys.publishing.iceberg import history as past
from recsys.publishing.iceberg.footers import CommittableFiles
from recsys.publishing.iceberg.history import Entry, History
from recsys.publishing.pointer import lock_name
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    TITLES,
    Unit,
    Version,
    check_expected,
    read_manifest,
)
from recsys.runtime.stop_points import stop_point
from recsys.store.files import Files

try:
    import pyarrow as pa
    from pyiceberg.io import load_file_io
    from pyiceberg.table import Table
    from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots

    from recsys.publishing.iceberg import catalog as catalogs
    from recsys.publishing.iceberg import commits, reader
    from recsys.publishing.iceberg.sweep import sweep
except ImportError as error:
    raise ConfigError(
        f"publishing.format is iceberg, but the module {error.name} is not installed; install "
        "this package with the extra iceberg: pip install 'recsys-batch[iceberg]'"
    ) from error

# All of a table's snapshots are in its metadata, which each commit copies some twenty times.
SNAPSHOTS = 100
GRACE = dt.timedelta(hours=1)
# Committed before the recommendations, in this order.
_FOLLOWERS = (STATUS, TITLES)
_ALL = (*_FOLLOWERS, RECOMMENDATIONS)


class IcebergTables:
    """The version index in Iceberg tables; see `VersionIndex` for its first methods."""

    def __init__(
        self,
        files: Files,
        settings: Iceberg,
        *,
        alive: Callable[[], None] = lambda: None,
        grace: dt.timedelta = GRACE,
    ) -> None:
        """Remember what to open; nothing is opened yet.

        Args:
            files: the root below which versions lie.
            settings: the catalog's name, properties and namespace.
            alive: raises if the run must not go on; asked between the two commits.
            grace: for how long readers may go on with a metadata file that was current, and a
                publisher may take over a commit; younger files are not deleted.
        """
        self._files = files
        self._catalog = catalogs.IcebergCatalog(files, settings)
        self._alive = alive
        self._grace = grace

    def close(self) -> None:
        """Close the connections."""
        self._catalog.close()

    # What is published

    def units(self) -> list[Unit]:
        """Return the units that have something published, sorted."""
        found, sequence = commits.history(self._load(RECOMMENDATIONS))
        return sorted(unit for unit in found if past.shown(found, unit, sequence))

    def current(self, unit: Unit) -> Version | None:
        """Return what readers see of a unit."""
        found, sequence = commits.history(self._load(RECOMMENDATIONS))
        entry = past.shown(found, unit, sequence)
        return entry.version(unit) if entry else None

    def versions(self, unit: Unit) -> list[Version]:
        """Return the versions that are kept, in order of publication; `current` is among them."""
        found, _ = commits.history(self._load(RECOMMENDATIONS))
        return [entry.version(unit) for entry in found.get(unit, []) if entry.kept]

    def in_use(self) -> set[tuple[Unit, str]]:
        """Return units and run ids of the directories that something kept refers to.

        That is a version, or a snapshot of either table.
        """
        return {
            (unit, entry.run_id)
            for name in _ALL
            for unit, entries in commits.history(self._load(name))[0].items()
            for entry in entries
        }

    # Changes

    def switch(self, version: Version, *, expected: str | None) -> None:
        """Let readers see a version, which lies complete in its place, in one step.

        Raises:
            ConflictError: another run has become current meanwhile; readers see that one.
            DamageError, OutputError: the files are not what the manifest says, or their columns
                do not fit; nothing was committed, or the catalog failed.
        """
        found = {name: files for name in _ALL if (files := self._look_at(version, name))}
        lists = found.pop(RECOMMENDATIONS)
        self._expect(version.unit, expected)
        for name, files in found.items():
            self._show(name, version, files, expected)
            stop_point(f"{name} committed")
        self._alive()
        try:
            self._show(RECOMMENDATIONS, version, lists, expected)
        except ConflictError:
            with suppress(
                RecsysError
            ):  # the conflict matters more, and readers see the right version anyway
                self._show_rest_of_current(version.unit)
            raise

    def retain(self, *, versions: int, run_dates: int | None) -> list[Version]:
        """Forget what is beyond the numbers to keep, and return it.

        Snapshots that show something forgotten expire. Metadata files that nothing refers to are
        deleted once readers are done with them (`grace`), data files are not.
        """
        with self._files.lock("iceberg-maintenance", wait=60), ExitStack() as locks:
            units = self.units()
            old_dates = [u for u in units if past.is_beyond(u, units, run_dates)]
            dates = [u for u in old_dates if self._lock(u, locks)]
            forgotten: list[Version] = []

            def old(found: History, sequence: int) -> History:
                result, versions_gone = past.without_old(found, sequence, versions, dates)
                forgotten[:] = versions_gone
                return result

            self._forget(RECOMMENDATIONS, dates, old)
            stop_point("lists forgotten")
            table = self._load(RECOMMENDATIONS)
            left, _ = commits.history(table)
            known = {unit: [entry.run_id for entry in entries] for unit, entries in left.items()}
            # What a snapshot of the recommendations shows finds its statuses in one of theirs.
            seen = {} if table is None else commits.seen(table, left)
            for name in _FOLLOWERS:
                self._forget(name, dates, lambda was, at: past.limited(was, at, known, dates), seen)
            for name in _ALL:
                table = self._load(name)
                if table is not None:
                    with catalogs.errors(self._catalog):
                        sweep(table, self._grace)
            return forgotten

    # Reading

    def metadata_location(self, table: str) -> str | None:
        """Return the URI of a table's current metadata file, for DuckDB's `iceberg_scan`."""
        loaded = self._load(table)
        return None if loaded is None else loaded.metadata_location

    def read(
        self, unit: Unit, *, snapshot: int | None = None
    ) -> tuple[Version, pa.Table, pa.Table] | None:
        """Read what readers see of a unit; see `recsys.publishing.iceberg.reader.read`."""
        return reader.read(self._catalog, unit, snapshot)

    # One commit to one table

    def _show(
        self, name: str, version: Version, files: CommittableFiles, expected: str | None
    ) -> None:
        unit = version.unit
        entry = Entry(version.run_id, version.published_at, version.manifest_sha256, files.rows)

        def attempt() -> None:
            table = self._catalog.create(name, files.schema)
            found, sequence = commits.history(table)
            if name == RECOMMENDATIONS:  # from the metadata that the commit builds on
                current = past.shown(found, unit, sequence)
                check_expected(unit, current.run_id if current else None, expected)
            else:
                self._expect(unit, expected)
            known = next((e for e in found.get(unit, []) if e.run_id == entry.run_id), None)
            if known is not None and known.manifest_sha256 != entry.manifest_sha256:
                raise OutputError(
                    f"{unit}: run {entry.run_id} is published already, with another manifest; "
                    "use another run id"
                )
            if known is not None and known.shown_at(sequence):
                return
            transaction = table.transaction()
            if files.schema is not None:
                catalogs.evolve(transaction, files.schema, known is not None and known.kept)
            summary = commits.summary(unit, known or entry)
            commits.overwrite(transaction, table, [unit], files.uris, summary)
            after = past.advanced(
                past.with_version(found, unit, entry),
                sequence,
                commits.last(transaction),
                {unit: entry.run_id},
            )
            commits.remember(transaction, found, after)
            transaction.commit_transaction()

        commits.persist(self._catalog, attempt)

    def withdraw(self, unit: Unit, run_id: str) -> None:
        """Take back the statuses and titles of a run whose lists were never committed."""
        if run_id in [version.run_id for version in self.versions(unit)]:
            return
        found, _ = commits.history(self._load(STATUS))
        if run_id not in [entry.run_id for entry in found.get(unit, [])]:
            return
        self._show_rest_of_current(unit)
        nothing = [unit] if self.current(unit) is None else []
        for name in _FOLLOWERS:
            self._forget(name, nothing, lambda was, at: past.without(was, unit, run_id))

    def identity(self) -> dict[str, str]:
        """Return what tells this catalog from others of the same root."""
        return self._catalog.identity()

    def _look_at(self, version: Version, name: str) -> CommittableFiles | None:
        """Check the files of a table of a version; None where there are none and none to replace.

        A version without titles replaces those of another one by nothing.
        """
        manifest = read_manifest(self._files, version)
        if name in manifest.tables.names:
            with catalogs.errors(self._catalog):
                return footers.look_at(self._files, version, name, manifest, self._open)
        return None if self._load(name) is None else CommittableFiles([], 0, None)

    def _show_rest_of_current(self, unit: Unit) -> None:
        """Put back what belongs to the run that won, after this one has lost."""
        current = self.current(unit)
        for name in _FOLLOWERS if current else ():
            if current is not None and (files := self._look_at(current, name)):
                self._show(name, current, files, current.run_id)

    def _forget(
        self,
        name: str,
        dates: list[Unit],
        change: Callable[[History, int], History],
        needed: Mapping[Unit, Sequence[str]] | None = None,
    ) -> None:
        """Commit a change of what is kept, and expire the snapshots that show anything else.

        Args:
            name: of the table.
            dates: units that show nothing from now on.
            change: returns the history with what is kept, from history and current sequence number.
            needed: runs of units; a snapshot that shows each stays in any case.
        """

        def attempt() -> None:
            table = self._load(name)
            head = None if table is None else table.current_snapshot()
            if table is None or head is None:
                return
            found, sequence = commits.history(table)
            after = change(found, sequence)
            transaction = table.transaction()
            gone = [unit for unit in dates if past.shown(found, unit, sequence)]
            if gone:
                commits.overwrite(transaction, table, gone, [], {"recsys.operation": "forget"})
                last = commits.last(transaction)
                after = past.advanced(after, sequence, last, dict.fromkeys(gone))
            else:
                # Without a snapshot of its own, the commit must still fail after a rival's.
                ManageSnapshots(transaction).set_current_snapshot(head.snapshot_id)
            metadata = transaction.table_metadata
            protected = {ref.snapshot_id for ref in metadata.refs.values()}
            for unit, run_ids in (needed or {}).items():
                for entry in after.get(unit, []):
                    newest = commits.newest(metadata.snapshots, entry)
                    if newest is not None and entry.run_id in run_ids:
                        protected.add(newest.snapshot_id)
            numbers = {s.snapshot_id: commits.sequence(s) for s in metadata.snapshots}
            expired, after = past.expiring(after, numbers, protected, SNAPSHOTS)
            if after == found and not gone and not expired:
                return
            commits.remember(transaction, found, after)
            if expired:
                ExpireSnapshots(transaction).by_ids(sorted(expired)).commit()
            transaction.commit_transaction()

        commits.persist(self._catalog, attempt)

    def _expect(self, unit: Unit, expected: str | None) -> None:
        current = self.current(unit)
        check_expected(unit, current.run_id if current else None, expected)

    # The rest

    def _load(self, name: str) -> Table | None:
        with catalogs.errors(self._catalog):
            return self._catalog.load(name)

    def _open(self, uri: str) -> BinaryIO:
        io = load_file_io(self._catalog.properties, uri)
        return cast(BinaryIO, io.new_input(uri).open())

    def _lock(self, unit: Unit, locks: ExitStack) -> bool:
        """Lock a unit that is to be forgotten; where somebody publishes, it is the next run's."""
        try:
            locks.enter_context(self._files.lock(lock_name(unit)))
        except ConflictError:
            return False
        return True
