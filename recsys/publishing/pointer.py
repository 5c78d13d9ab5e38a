"""Plain directories: one small file for each unit names the version that readers see.

`publications/<cohort>/<run_date>/current.json` is written last and replaced in one step, so that a
reader who follows it sees recommendations, statuses and manifest of one run. POSIX and HDFS promise
that; object stores are refused (`recsys.publishing.index.open_index`).
"""

import logging
from typing import Any

from recsys.config.configuration import digest
from recsys.errors import DamageError, UnreadableError
from recsys.publishing.versions import (
    Unit,
    Version,
    check_expected,
    later,
    place,
    placed,
    units_on_disk,
)
from recsys.store.files import Files, read_json, write_json

log = logging.getLogger(__name__)

POINTER = "current.json"
FORMAT_VERSION = 1


class Pointers:
    """The version index of plain directories; see `VersionIndex` for its methods."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def units(self) -> list[Unit]:
        """Return the units that have something published, sorted."""
        # The pointers are not read here: a damaged one must not affect readers of other units.
        return [unit for unit in units_on_disk(self._files) if self._files.exists(self.uri(unit))]

    def current(self, unit: Unit) -> Version | None:
        """Return what readers see of a unit."""
        return self._look(unit)[1]

    def versions(self, unit: Unit) -> list[Version]:
        """Return the versions that are kept, in order of publication; `current` is among them."""
        return self._look(unit)[0]

    def switch(self, version: Version, *, expected: str | None) -> None:
        """Let readers see a version in one step; the caller holds the unit's lock."""
        kept, current = self._look(version.unit)
        check_expected(version.unit, current.run_id if current else None, expected)
        if version.run_id not in [v.run_id for v in kept]:
            kept.append(version)
        self._write(version.unit, version.run_id, kept)

    def withdraw(self, unit: Unit, run_id: str) -> None:
        """Do nothing: a pointer is switched in one step."""

    def identity(self) -> dict[str, str]:
        """Return what tells this index from others of the same root."""
        return {"format": "parquet"}

    def retain(self, *, versions: int, run_dates: int | None) -> list[Version]:
        """Forget what is beyond the numbers to keep, and return it."""
        forgotten = []
        units = self.units()
        for unit in units:
            beyond = run_dates is not None and len(later(units, unit)) >= run_dates
            try:
                if _old(*self._look(unit), versions, beyond=beyond):
                    with self._files.lock(lock_name(unit), wait=60):
                        # Once more: somebody may have published meanwhile.
                        forgotten += self._forget(unit, versions, beyond=beyond)
            except DamageError as error:  # it belongs to another unit
                log.warning("%s", error)
        return forgotten

    def _forget(self, unit: Unit, versions: int, *, beyond: bool) -> list[Version]:
        kept, current = self._look(unit)
        old = _old(kept, current, versions, beyond=beyond)
        if beyond:
            self._files.delete(self.uri(unit))
        elif current is not None and old:
            self._write(unit, current.run_id, [v for v in kept if v not in old])
        return old

    def in_use(self) -> set[tuple[Unit, str]]:
        """Return units and run ids of the directories that something kept refers to.

        Where a pointer is damaged, that may be each of them.
        """
        found = set()
        for unit in self.units():
            try:
                run_ids = [version.run_id for version in self.versions(unit)]
            except DamageError:
                run_ids = placed(self._files, unit)
            found |= {(unit, run_id) for run_id in run_ids}
        return found

    def restore(self, unit: Unit, run_id: str, kept: list[Version]) -> None:
        """Write a damaged or missing pointer anew; the caller holds the unit's lock."""
        self._write(unit, run_id, kept)

    def uri(self, unit: Unit) -> str:
        """Return where a unit's pointer is."""
        return place(self._files, unit) + f"/{POINTER}"

    def _read(self, unit: Unit) -> dict[str, Any] | None:
        uri = self.uri(unit)
        try:
            pointer: dict[str, Any] = read_json(self._files, uri)
            checksum = pointer.pop("sha256")
        except FileNotFoundError:
            return None
        except (UnreadableError, ValueError, KeyError, TypeError, AttributeError):
            checksum, pointer = None, {}
        if digest(pointer) != checksum or pointer.get("format_version") != FORMAT_VERSION:
            raise DamageError(
                f"{unit}: {uri} is damaged or of another format; write it anew with recsys "
                "rollback --to RUN_ID"
            )
        return pointer

    def _look(self, unit: Unit) -> tuple[list[Version], Version | None]:
        """Return the versions that are kept and the current one, from one reading."""
        pointer = self._read(unit)
        if pointer is None:
            return [], None
        kept = [Version(unit, **version) for version in pointer["versions"]]
        return kept, next(v for v in kept if v.run_id == pointer["run_id"])

    def _write(self, unit: Unit, run_id: str, kept: list[Version]) -> None:
        pointer: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "cohort": unit.cohort,
            "run_date": unit.run_date.isoformat(),
            "run_id": run_id,
            "versions": [
                {
                    "run_id": v.run_id,
                    "published_at": v.published_at,
                    "manifest_sha256": v.manifest_sha256,
                }
                for v in kept
            ],
        }
        write_json(self._files, self.uri(unit), {**pointer, "sha256": digest(pointer)})


def _old(
    kept: list[Version], current: Version | None, versions: int, *, beyond: bool
) -> list[Version]:
    return kept if beyond else [v for v in kept[:-versions] if v != current]


def lock_name(unit: Unit) -> str:
    """Name the lock that publishers of a unit hold, one at a time."""
    return f"publish-{unit.cohort}-{unit.run_date}"
