"""What is published: versions of a unit, and where they lie.

A unit is one cohort on one run date; a version of it is what one run made: recommendations,
statuses and a manifest, in one directory that never changes once it is in its place:

    <root>/publications/<cohort>/<run_date>/<run_id>/recommendations/*.parquet
                                                    /status/*.parquet
                                                    /titles/*.parquet   (with `items.titles`)
                                                    /manifest.json

A version index says which version readers see: `recsys.publishing.pointer` for plain
directories, `recsys.publishing.iceberg.tables` for tables.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from recsys.config.sections import COHORT_PATTERN, RUN_ID_PATTERN
from recsys.errors import ConfigError, ConflictError, DamageError, UnreadableError
from recsys.publishing.manifest import VersionManifest
from recsys.store.files import Files
from recsys.store.manifest import MANIFEST, ManifestError

PUBLICATIONS = "publications"
HELD = "held"
MARKER = "index.json"  # below PUBLICATIONS: which version index the root is published with
RECOMMENDATIONS, STATUS, TITLES = "recommendations", "status", "titles"
# The tables of every version. `titles` is one more where `items.titles` is set.
TABLES = (STATUS, RECOMMENDATIONS)


def as_day(value: object, key: str) -> dt.date:
    """Return a day that a caller gave.

    Args:
        value: a date; a datetime or a pandas Timestamp, whose day counts as it is written, in
            whatever time zone; or ISO 8601 text.
        key: where it was given, for the message.

    Raises:
        ConfigError: it is something else.
    """
    day = value
    with suppress(ValueError):  # text that is no ISO 8601, or pandas' NaT, which is a datetime
        if isinstance(value, str):
            day = dt.datetime.fromisoformat(value).date()
        elif isinstance(value, dt.datetime):
            day = value.date()
    if isinstance(day, dt.date) and not isinstance(day, dt.datetime):
        return dt.date(day.year, day.month, day.day)  # whatever class of dates it is of
    raise ConfigError(
        f"{key}: found {str(value)[:60]!r} ({type(value).__name__}), expected a date, a datetime "
        "or ISO 8601 text such as 2026-11-24"
    )


@dataclass(frozen=True, order=True)
class Unit:
    """One cohort on one run date: what one publication replaces."""

    cohort: str
    run_date: dt.date

    def __post_init__(self) -> None:
        """Make the run date a plain date: a datetime would give other paths."""
        object.__setattr__(self, "run_date", as_day(self.run_date, "run_date"))

    def __str__(self) -> str:
        """Name it in messages."""
        return f"cohort {self.cohort} of {self.run_date}"


@dataclass(frozen=True, order=True)
class Version:
    """What one run published of a unit.

    Attributes:
        unit: the cohort and the day.
        run_id: whose it is.
        published_at: when it first became visible, ISO 8601 in UTC.
        manifest_sha256: hex; the manifest in turn has the checksums of all files.
    """

    unit: Unit
    run_id: str
    published_at: str
    manifest_sha256: str


class VersionIndex(Protocol):
    """Says which version readers see. It names directories; it neither makes nor deletes them."""

    def units(self) -> list[Unit]:
        """Return the units that have something published, sorted."""

    def current(self, unit: Unit) -> Version | None:
        """Return what readers see of a unit."""

    def versions(self, unit: Unit) -> list[Version]:
        """Return the versions that are kept, in order of publication; `current` is among them."""

    def switch(self, version: Version, *, expected: str | None) -> None:
        """Let readers see a version, which lies complete in its place, in one step.

        A version that is kept already is returned to, with the time of its first publication.

        Args:
            version: what is to be seen from now on.
            expected: the run id that is current, as far as the caller knows; None for none.

        Raises:
            ConflictError: another run has become current meanwhile; nothing was changed.
        """

    def withdraw(self, unit: Unit, run_id: str) -> None:
        """Undo the parts of a switch that was interrupted before readers saw the version.

        Nothing happens where there are none; what readers see does not change.
        """

    def identity(self) -> dict[str, str]:
        """Return what tells this index from others of the same root."""

    def retain(self, *, versions: int, run_dates: int | None) -> list[Version]:
        """Forget what is beyond the numbers to keep, and return it.

        Args:
            versions: of each unit, the latest so many, and always the current one.
            run_dates: of each cohort, the latest so many; None: all.
        """

    def in_use(self) -> set[tuple[Unit, str]]:
        """Return units and run ids of the directories that something kept refers to."""


def check_expected(unit: Unit, found: str | None, expected: str | None) -> None:
    """Raise ConflictError unless the run that is current is the one that the caller expects."""
    if found != expected:
        raise ConflictError(
            f"{unit}: run {found or 'none'} was published meanwhile, expected "
            f"{expected or 'none'}; run again"
        )


def later(units: Sequence[Unit], unit: Unit) -> list[Unit]:
    """Return those of the same cohort with a later run date."""
    return [u for u in units if u.cohort == unit.cohort and u.run_date > unit.run_date]


def place(files: Files, unit: Unit, run_id: str | None = None, *more: str) -> str:
    """Return the URI of a unit's directory, or of one version's."""
    parts = [PUBLICATIONS, unit.cohort, unit.run_date.isoformat()]
    return files.uri(*parts, *([] if run_id is None else [run_id]), *more)


def placed(files: Files, unit: Unit) -> list[str]:
    """Return the run ids of a unit's version directories, whether anything refers to them."""
    return [
        name
        for name in files.names(place(files, unit))
        if re.fullmatch(RUN_ID_PATTERN, name) and files.exists(place(files, unit, name, MANIFEST))
    ]


def units_on_disk(files: Files) -> list[Unit]:
    """Return the units that have a directory; other names are skipped."""
    found = []
    for cohort in files.names(files.uri(PUBLICATIONS)):
        if not re.fullmatch(COHORT_PATTERN, cohort):
            continue
        for day in files.names(files.uri(PUBLICATIONS, cohort)):
            try:
                found.append(Unit(cohort, dt.date.fromisoformat(day)))
            except ValueError:
                continue
    return sorted(found)


def read_manifest(files: Files, version: Version) -> VersionManifest:
    """Read a version's manifest, and check that it is the one that was published.

    Raises:
        DamageError: it is missing, another one, or was written by a newer version of recsys.
    """
    uri = place(files, version.unit, version.run_id, MANIFEST)
    owner = f"{version.unit}, run {version.run_id}"
    try:
        content = files.read(uri)
    except FileNotFoundError:
        raise DamageError(f"{owner}: {uri} is missing") from None
    except UnreadableError as error:
        raise DamageError(f"{owner}: {error}") from error
    if hashlib.sha256(content).hexdigest() != version.manifest_sha256:
        raise DamageError(
            f"{owner}: {uri} is damaged: its SHA-256 is not that of "
            "what was published; return to another version with recsys rollback, or run again"
        )
    try:
        return VersionManifest.from_json(content)
    except ManifestError as error:
        raise DamageError(f"{owner}: {uri} cannot be used: {error}") from error


def schema_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return what would break a reader of the old columns; nothing if columns were only added.

    Args:
        old: types by column name.
        new: the same of what is to be published.
    """
    gone = [f"column {name} is gone" for name in old if name not in new]
    changed = [
        f"column {name} was {kind} and is {new[name]}"
        for name, kind in old.items()
        if name in new and new[name] != kind
    ]
    return gone + changed


def columns(schema: str) -> dict[str, str]:
    """Return types by column name of a schema of `recsys.columns`."""
    return dict(field.split(" ", 1) for field in schema.split(", "))


def latest_per_cohort(units: Sequence[Unit]) -> list[Unit]:
    """Return each cohort's unit of the latest run date."""
    return sorted({unit.cohort: unit for unit in sorted(units)}.values())
