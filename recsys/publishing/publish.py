"""From a staged version to the one that readers see: judge, place, switch, forget."""

import datetime as dt
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from recsys.config.redaction import redact
from recsys.config.sections import Publishing
from recsys.errors import ConfigError, ConflictError, DamageError, OutputError
from recsys.publishing.pointer import Pointers, lock_name
from recsys.publishing.versions import (
    HELD,
    MARKER,
    PUBLICATIONS,
    Unit,
    Version,
    VersionIndex,
    later,
    latest_per_cohort,
    place,
    read_manifest,
    schema_changes,
)
from recsys.runtime.stop_points import stop_point
from recsys.store.checksums import MANIFEST
from recsys.store.files import Files, read_json, scheme, write_json

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_WAIT = 120.0  # seconds for another publisher, who holds the lock for well under one
_POINTED = ("file", "hdfs", "viewfs")


class Verdict(Protocol):
    """What a gate found; `recsys.publishing.gates` makes them."""

    @property
    def state(self) -> str:
        """Tell `passed`, `failed` or `not applied`."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values for the manifest."""


class Judge(Protocol):
    """Judges a staged version."""

    def verdicts(self, before: Version | None) -> Sequence[Verdict]:
        """Return the gates' verdicts, beside what readers see now."""

    def refuse(self, verdicts: Sequence[Verdict], held: str) -> None:
        """Raise GateError for what failed; `held` is where the staged tables are."""


@dataclass(frozen=True)
class Staged:
    """A version that nobody sees yet.

    Attributes:
        unit: what it is to be the content of.
        run_id: whose it is.
        uri: the directory with its tables.
        manifest: what is said of it; `schemas` has the columns of each table.
    """

    unit: Unit
    run_id: str
    uri: str
    manifest: Mapping[str, Any]


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
    except ValueError as error:
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


def previous(index: VersionIndex, unit: Unit) -> Version | None:
    """Return what a new version is compared with: the unit's, or the cohort's of a day before."""
    current = index.current(unit)
    if current is not None:
        return current
    before = [u for u in index.units() if u.cohort == unit.cohort and u < unit]
    for earlier in sorted(before, reverse=True):
        try:
            return index.current(earlier)
        except DamageError as error:  # of another day: no reason to publish nothing today
            log.warning("%s", error)
    return None


def publish(
    files: Files,
    index: VersionIndex,
    staged: Staged,
    judge: Judge,
    *,
    alive: Callable[[], None],
    force: bool = False,
) -> Version:
    """Let readers see a staged version, if it may be seen.

    Args:
        files: the root.
        index: says what readers see.
        staged: what to publish.
        judge: gives the gates' verdicts on it.
        alive: raises if this process must not publish any more.
        force: publish although a gate failed.

    Raises:
        GateError: a gate failed; what was staged is kept for inspection.
        ConflictError: others keep publishing the same unit.
        OutputError: the columns do not fit those that are published.
    """
    unit = staged.unit
    for _ in range(_ATTEMPTS):
        expected = index.current(unit)
        before = expected or previous(index, unit)
        _check_columns(files, index, staged)
        verdicts = judge.verdicts(before)
        failed = [verdict for verdict in verdicts if verdict.state == "failed"]
        manifest = {
            **staged.manifest,
            "compared_with": before.run_id if before else None,
            "gates": [verdict.plain() for verdict in verdicts],
            "forced": bool(failed),
            "failed_gates": [verdict.plain()["gate"] for verdict in failed],
        }
        sha256 = write_json(files, f"{staged.uri}/{MANIFEST}", manifest)
        for verdict in failed:
            log.warning("gate failed: %s", verdict)
        if failed and not force:
            judge.refuse(verdicts, _hold(files, staged))
        stop_point("judged")
        version = Version(unit, staged.run_id, dt.datetime.now(dt.UTC).isoformat(), sha256)
        try:
            with files.lock(lock_name(unit), wait=_WAIT):
                if index.current(unit) != expected:
                    raise ConflictError(f"{unit}: another run was published meanwhile")
                alive()
                if not files.exists(files.uri(PUBLICATIONS, MARKER)):
                    write_json(files, files.uri(PUBLICATIONS, MARKER), index.identity())
                _place(files, index, staged)
                stop_point("placed")
                alive()
                index.switch(version, expected=expected.run_id if expected else None)
        except ConflictError as conflict:
            log.warning("%s: judging once more", conflict)
            if not files.exists(staged.uri):  # placed, and not switched to
                with files.lock(lock_name(unit), wait=_WAIT):
                    index.withdraw(unit, staged.run_id)
                    files.move(place(files, unit, staged.run_id), staged.uri)
            continue
        stop_point("switched")
        files.delete(files.uri(HELD, staged.run_id))  # of an attempt that a gate stopped
        return version
    raise ConflictError(
        f"{unit}: others published it {_ATTEMPTS} times while run {staged.run_id} was judged; run "
        "again with the same run id"
    )


def _place(files: Files, index: VersionIndex, staged: Staged) -> None:
    target = place(files, staged.unit, staged.run_id)
    if files.exists(target):
        # Of an attempt that was killed before readers could see it.
        index.withdraw(staged.unit, staged.run_id)
        if (staged.unit, staged.run_id) in index.in_use():
            raise OutputError(f"{target} is a published version already; choose another run id")
        files.delete(target)
    files.move(staged.uri, target)


def _hold(files: Files, staged: Staged) -> str:
    """Keep what was staged for inspection."""
    held = files.uri(HELD, staged.run_id)
    files.delete(held)
    files.move(staged.uri, held)
    return held


def _check_columns(files: Files, index: VersionIndex, staged: Staged) -> None:
    """Refuse columns that readers of what is published would stumble over."""
    units = index.units()
    latest = [u for u in latest_per_cohort(units) if u.cohort == staged.unit.cohort]
    for unit in latest or latest_per_cohort(units):
        version, old = _newest_schemas(files, index, unit)
        if version is None:
            continue
        for table, columns in staged.manifest["schemas"].items():
            if changes := schema_changes(old[table], columns):
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
                return version, read_manifest(files, version)["schemas"]
    except DamageError as error:
        log.warning("%s", error)
    return None, {}


def retain(
    files: Files,
    index: VersionIndex,
    settings: Publishing,
    before_deleting: Callable[[], None] = lambda: None,
) -> list[str]:
    """Forget what is beyond the numbers to keep, delete its directories, and return those.

    What a publisher has just placed and not switched to yet is under its lock.

    Args:
        files: the root.
        index: says what readers see, and forgets.
        settings: the numbers to keep.
        before_deleting: called between the two, for who names directories elsewhere.
    """
    removed = []
    forgotten = index.retain(versions=settings.keep_versions, run_dates=settings.keep_run_dates)
    stop_point("forgotten")
    before_deleting()
    for version in forgotten:
        with files.lock(lock_name(version.unit), wait=_WAIT):
            if (version.unit, version.run_id) not in index.in_use():
                uri = place(files, version.unit, version.run_id)
                files.delete(uri)
                removed.append(uri)
    return removed


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
