"""From a staged version to the one that readers see: judge, place, switch, forget."""

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from recsys.errors import ConfigError, ConflictError, OutputError
from recsys.files import MANIFEST
from recsys.filesystem import Files, scheme, write_json
from recsys.publishing.pointer import Pointers, lock_name
from recsys.publishing.versions import (
    HELD,
    Catalogue,
    Unit,
    Version,
    latest_per_cohort,
    place,
    read_manifest,
    schema_changes,
)
from recsys.redaction import redact
from recsys.sections import Publishing
from recsys.steps import step

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_WAIT = 120.0  # seconds for another publisher, who holds the lock for well under one
_POINTED = ("file", "hdfs", "viewfs")


class Verdict(Protocol):
    """What a gate found; `recsys.gates` makes them."""

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


def open_catalogue(files: Files, settings: Publishing, alive: Callable[[], None]) -> Catalogue:
    """Return the catalogue of the configured form of table.

    Raises:
        ConfigError: the root's store cannot switch a pointer in one step.
    """
    if settings.format == "iceberg":
        # An extra of the package: who publishes plain directories does not need it.
        from recsys.publishing.iceberg import IcebergTables

        return IcebergTables(files, settings.iceberg, alive=alive)
    if scheme(files.root) not in _POINTED:
        raise ConfigError(
            f"root {redact(files.root)}: a pointer cannot be switched in one step on this store; "
            "set publishing.format to iceberg, or root to a POSIX file system or HDFS"
        )
    return Pointers(files)


def published_before(catalogue: Catalogue, unit: Unit, run_id: str) -> Version | None:
    """Return what an earlier attempt of a run has published of a unit."""
    return next((v for v in catalogue.versions(unit) if v.run_id == run_id), None)


def previous(catalogue: Catalogue, unit: Unit) -> Version | None:
    """Return what a new version is compared with: the unit's, or the cohort's of a day before."""
    current = catalogue.current(unit)
    if current is not None:
        return current
    before = [u for u in catalogue.units() if u.cohort == unit.cohort and u < unit]
    return catalogue.current(max(before)) if before else None


def publish(
    files: Files,
    catalogue: Catalogue,
    staged: Staged,
    judge: Judge,
    *,
    alive: Callable[[], None],
    force: bool = False,
) -> Version:
    """Let readers see a staged version, if it may be seen.

    Args:
        files: the root.
        catalogue: says what readers see.
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
        before = previous(catalogue, unit)
        expected = catalogue.current(unit)
        _check_columns(files, catalogue, staged)
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
        step("judged")
        version = Version(unit, staged.run_id, dt.datetime.now(dt.UTC).isoformat(), sha256)
        try:
            with files.lock(lock_name(unit), wait=_WAIT):
                if catalogue.current(unit) != expected:
                    raise ConflictError(f"{unit}: another run was published meanwhile")
                alive()
                _place(files, catalogue, staged)
                step("placed")
                alive()
                catalogue.switch(version, expected=expected.run_id if expected else None)
        except ConflictError as conflict:
            log.warning("%s: judging once more", conflict)
            if not files.exists(staged.uri):  # placed, and not switched to
                files.move(place(files, unit, staged.run_id), staged.uri)
            continue
        step("switched")
        files.delete(files.uri(HELD, staged.run_id))  # of an attempt that a gate stopped
        return version
    raise ConflictError(
        f"{unit}: others published it {_ATTEMPTS} times while run {staged.run_id} was judged; run "
        "again with the same run id"
    )


def _place(files: Files, catalogue: Catalogue, staged: Staged) -> None:
    target = place(files, staged.unit, staged.run_id)
    if files.exists(target):
        if (staged.unit, staged.run_id) in catalogue.in_use():
            raise OutputError(f"{target} is a published version already; choose another run id")
        files.delete(target)  # of an attempt that was killed before anyone could see it
    files.move(staged.uri, target)


def _hold(files: Files, staged: Staged) -> str:
    """Keep what was staged for inspection."""
    held = files.uri(HELD, staged.run_id)
    files.delete(held)
    files.move(staged.uri, held)
    return held


def _check_columns(files: Files, catalogue: Catalogue, staged: Staged) -> None:
    """Refuse columns that readers of what is published would stumble over."""
    units = catalogue.units()
    latest = [u for u in latest_per_cohort(units) if u.cohort == staged.unit.cohort]
    for unit in latest or latest_per_cohort(units):
        version = catalogue.current(unit)
        if version is None:
            continue
        old = read_manifest(files, version)["schemas"]
        for table, columns in staged.manifest["schemas"].items():
            if changes := schema_changes(old[table], columns):
                raise OutputError(
                    f"{table}: {', '.join(changes)}, compared with run {version.run_id}; new "
                    "columns are fine, others need a new root (or namespace of Iceberg tables)"
                )


def retain(files: Files, catalogue: Catalogue, settings: Publishing) -> list[str]:
    """Forget what is beyond the numbers to keep, delete its directories, and return those.

    What a publisher has just placed and not switched to yet is under its lock.
    """
    removed = []
    forgotten = catalogue.retain(versions=settings.keep_versions, run_dates=settings.keep_run_dates)
    step("forgotten")
    for version in forgotten:
        with files.lock(lock_name(version.unit), wait=_WAIT):
            if (version.unit, version.run_id) not in catalogue.in_use():
                uri = place(files, version.unit, version.run_id)
                files.delete(uri)
                removed.append(uri)
    return removed
