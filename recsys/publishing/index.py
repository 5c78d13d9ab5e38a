"""Which version index a root has, and what can be refused before anything is staged."""

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from recsys.config.redaction import redact
from recsys.config.sections import Publishing
from recsys.errors import ConfigError, DamageError, OutputError, UnreadableError
from recsys.publishing.pointer import Pointers
from recsys.publishing.versions import (
    MARKER,
    PUBLICATIONS,
    Unit,
    Version,
    VersionIndex,
    later,
    latest_per_cohort,
    read_manifest,
    schema_changes,
)
from recsys.store.files import Files, read_json, scheme

log = logging.getLogger(__name__)

_POINTED = ("file", "hdfs", "viewfs")


def open_index(files: Files, settings: Publishing, alive: Callable[[], None]) -> VersionIndex:
    """Return the version index of the configured form of table.

    Raises:
        ConfigError: the root's store cannot switch a pointer in one step.
    """
    if settings.format == "iceberg":
        # An extra of the package: who publishes plain directories does not need it.
        from recsys.publishing.iceberg.tables import IcebergTables

        return _checked(files, IcebergTables(files, settings.iceberg, alive=alive))
    if scheme(files.root) not in _POINTED:
        raise ConfigError(
            f"root {redact(files.root)}: a pointer cannot be switched in one step on this store; "
            "set publishing.format to iceberg, or root to a POSIX file system or HDFS"
        )
    return _checked(files, Pointers(files))


def _checked(files: Files, index: VersionIndex) -> VersionIndex:
    """Refuse another index than the root's own: it would take what is published for waste."""
    try:
        known = read_json(files, files.uri(PUBLICATIONS, MARKER))
    except FileNotFoundError:
        return index
    except (UnreadableError, ValueError) as error:
        raise DamageError(
            f"{files.uri(PUBLICATIONS, MARKER)} is damaged: expected the index of this root, "
            f"{json.dumps(index.identity())}; write that into it, or restore it"
        ) from error
    if known != index.identity():
        raise ConfigError(
            f"publishing: {redact(files.root)} is published to with {json.dumps(known)}, found "
            f"{json.dumps(index.identity())}; configure the former, or choose another root"
        )
    return index


def published_before(index: VersionIndex, unit: Unit, run_id: str) -> Version | None:
    """Return what an earlier attempt of a run has published of a unit."""
    return next((v for v in index.versions(unit) if v.run_id == run_id), None)


def latest_published(index: VersionIndex, cohort: str) -> Version | None:
    """Return what readers see of a cohort's latest run date; None: nothing."""
    days = [unit for unit in index.units() if unit.cohort == cohort]
    return index.current(max(days)) if days else None


def previous(index: VersionIndex, unit: Unit) -> Version | None:
    """Return what a new version is compared with: the unit's, or the cohort's of a day before."""
    current = index.current(unit)
    if current is not None:
        return current
    before = [u for u in index.units() if u.cohort == unit.cohort and u < unit]
    for earlier in sorted(before, reverse=True):
        try:
            return index.current(earlier)
        except DamageError as error:  # of another day; it must not stop today's run
            log.warning("%s", error)
    return None


def check_run_date(index: VersionIndex, unit: Unit, settings: Publishing) -> None:
    """Refuse a day that retention would forget as soon as it is published.

    Raises:
        ConfigError: so many later days of the cohort are published.
    """
    newer = later(index.units(), unit)
    keep = settings.keep_run_dates
    if keep is not None and len(newer) >= keep:
        raise ConfigError(
            f"--run-date: found {unit.run_date}, but {len(newer):,} later days of cohort "
            f"{unit.cohort} are published and publishing.keep_run_dates is {keep}: it would be "
            "forgotten at once; raise that"
        )


def check_columns(
    files: Files, index: VersionIndex, unit: Unit, schemas: Mapping[str, Mapping[str, str]]
) -> None:
    """Refuse columns that readers of what is published could not read.

    Args:
        files: the root.
        index: says what readers see.
        unit: what is to be published.
        schemas: types by column name, of each table.

    Raises:
        OutputError: a column that is published is missing or of another type.
    """
    units = index.units()
    latest = [u for u in latest_per_cohort(units) if u.cohort == unit.cohort]
    for other in latest or latest_per_cohort(units):
        version, old = _newest_schemas(files, index, other)
        if version is None:
            continue
        for table, columns in schemas.items():
            # Titles may be new, or missing for a day.
            if changes := schema_changes(old.get(table, {}), columns):
                raise OutputError(
                    f"{table}: {', '.join(changes)}, compared with run {version.run_id}; new "
                    "columns are fine, others need a new root (or namespace of Iceberg tables)"
                )


def _newest_schemas(
    files: Files, index: VersionIndex, unit: Unit
) -> tuple[Version | None, dict[str, dict[str, str]]]:
    """Return the newest version of a unit whose manifest can be read, and its columns."""
    try:
        for version in reversed(index.versions(unit)):
            with suppress(DamageError):
                return version, read_manifest(files, version).schemas
    except DamageError as error:
        log.warning("%s", error)
    return None, {}
