"""Find a version that is kept or held, and the one before it, and read its tables; no Spark."""

import datetime as dt
import hashlib
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.columns import ITEM, USER
from recsys.config.configuration import Config
from recsys.config.reading import stored_config
from recsys.errors import ConfigError, DamageError, OutputError
from recsys.publishing.manifest import VersionManifest
from recsys.publishing.read import check_tables, check_version
from recsys.publishing.versions import HELD, TITLES, Unit, Version, VersionIndex, place
from recsys.runtime.run import run_name
from recsys.store.files import Files, local_path
from recsys.store.manifest import MANIFEST, ManifestError


@dataclass(frozen=True)
class Kept:
    """A version that is kept for readers, or held by a gate, compared with its checksums.

    Attributes:
        files: the root.
        uri: its directory.
        version: which it is; of one that is held, `published_at` is empty.
        manifest: what is said of it.
    """

    files: Files
    uri: str
    version: Version
    manifest: VersionManifest

    @cached_property
    def config(self) -> Config:
        """What it was made with, secrets redacted.

        Raises:
            ConfigError: it has keys that this version of recsys does not know.
        """
        owner = f"the configuration of {self.version.unit}, run {self.version.run_id}"
        return stored_config(self.manifest.configuration, owner)

    @property
    def held(self) -> bool:
        """Whether a gate held it back."""
        return not self.version.published_at

    def read(self, name: str, columns: list[str], users: pa.Array | None = None) -> pa.Table:
        """Return columns of one of its tables, in any order of the rows.

        Args:
            name: `recommendations` or `status`, or `titles` where the manifest has it.
            columns: their names; `user_id` is among them where users are given.
            users: only the rows of these; None: all.
        """
        folder = local_path(f"{self.uri}/{name}")
        parts = []
        for file in self.manifest.tables.of(name).files:
            # Whatever the root's own directories are called, they are no columns.
            part = pq.read_table(f"{folder}/{file.path}", columns=columns, partitioning=None)
            if users is not None:
                ids = part.column(USER)
                part = part.filter(pc.is_in(ids, value_set=users.cast(ids.type)))
            parts.append(part)
        if not parts:
            raise DamageError(f"{self.version.unit}, run {self.version.run_id}: {name} has no file")
        return pa.concat_tables(parts)

    def titles(self, columns: list[str]) -> pa.Table | None:
        """Return `item_id` and columns of its titles; None where it was published without any."""
        if self.manifest.tables.titles is None:
            return None
        return self.read(TITLES, [ITEM, *columns])


def open_kept(files: Files, version: Version) -> Kept:
    """Compare every file of a version with what was published, and open it.

    Raises:
        DamageError: a file is missing, damaged or too many.
    """
    manifest = check_version(files, version)
    return Kept(files, place(files, version.unit, version.run_id), version, manifest)


def open_version(
    files: Files, index: VersionIndex, run: str | None, cohort: str | None, day: dt.date | None
) -> Kept:
    """Find a version, as `find_version` does, or what a gate has held back of a run, and open it.

    Raises:
        OutputError, ConfigError: as `find_version` does.
        DamageError: as `open_kept` does.
    """
    try:
        return open_kept(files, find_version(index, run, cohort, day))
    except OutputError:
        held = None if run is None else _open_held(files, run_name(run))
        if held is None or cohort not in (None, held.version.unit.cohort):
            raise
        if day not in (None, held.version.unit.run_date):
            raise
        return held


def _open_held(files: Files, run_id: str) -> Kept | None:
    uri = files.uri(HELD, run_id)
    try:
        content = files.read(f"{uri}/{MANIFEST}")
        manifest = VersionManifest.from_json(content)
    except FileNotFoundError:
        return None
    except ManifestError as error:
        raise DamageError(f"{uri}/{MANIFEST} cannot be used: {error}") from error
    unit = Unit(manifest.cohort, dt.date.fromisoformat(manifest.run_date))
    check_tables(files, f"{unit}, run {run_id}, held by a gate", uri, manifest)
    version = Version(unit, run_id, "", hashlib.sha256(content).hexdigest())
    return Kept(files, uri, version, manifest)


def find_version(
    index: VersionIndex, run: str | None, cohort: str | None, day: dt.date | None
) -> Version:
    """Return a version that is kept.

    Args:
        index: says what readers see.
        run: its run, or the id that a scheduler gave that; None: what readers see.
        cohort: of this cohort; None: of any with this run; without a run, of the only one.
        day: of this day; None: of any with this run; without a run, of the latest.

    Raises:
        OutputError: nothing like that is published.
        ConfigError: there are several cohorts, and none is named.
    """
    units = [
        unit
        for unit in index.units()
        if cohort in (None, unit.cohort) and day in (None, unit.run_date)
    ]
    asked = "".join([f" of cohort {cohort}" if cohort else "", f" of {day}" if day else ""])
    if run is not None:
        name = run_name(run)
        for unit in sorted(units, key=lambda unit: unit.run_date, reverse=True):
            for version in index.versions(unit):
                if version.run_id == name:
                    return version
        raise OutputError(
            f"run {run[:140]!r}: no version of it is kept{asked}; recsys runs shows what is"
        )
    cohorts = sorted({unit.cohort for unit in units})
    if len(cohorts) > 1:
        raise ConfigError(
            f"--cohort: found none, expected one of {', '.join(cohorts)}, or the id of a run"
        )
    if not units:
        raise OutputError(f"nothing is published{asked}; publish lists with recsys run")
    unit = max(units, key=lambda unit: unit.run_date)
    current = index.current(unit)
    if current is None:
        raise OutputError(f"{unit}: nothing is published")
    return current


def version_before(index: VersionIndex, kept: Kept) -> Version:
    """Return what was published before a version: what it was compared with, as far as it is kept.

    Raises:
        OutputError: there was nothing, or it is not kept any more.
    """
    unit = kept.version.unit
    compared = kept.manifest.compared_with
    earlier = [u for u in index.units() if u.cohort == unit.cohort and u <= unit]
    for other in sorted(earlier, reverse=True):
        versions = index.versions(other)
        named = [v for v in versions if v.run_id == compared]
        if named:
            return named[0]
    mine = index.versions(unit)
    if kept.version in mine and (at := mine.index(kept.version)) > 0:
        return mine[at - 1]
    for other in sorted((u for u in earlier if u < unit), reverse=True):
        if (current := index.current(other)) is not None:
            return current
    raise OutputError(
        f"{unit}, run {kept.version.run_id}: no version before it is kept; name two runs"
    )
