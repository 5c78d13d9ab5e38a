"""Return to an earlier version, and check the versions that are kept.

All of it works without a session of Spark.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress

from recsys.config.sections import COHORT_PATTERN
from recsys.errors import ConfigError, ConflictError, DamageError, OutputError, RecsysError
from recsys.publishing.pointer import Pointers, lock_name
from recsys.publishing.read import check_version
from recsys.publishing.versions import Unit, Version, VersionIndex, place, placed, units_on_disk
from recsys.runtime.run import run_name
from recsys.store.files import Files
from recsys.store.manifest import MANIFEST


def rollback(
    files: Files, index: VersionIndex, unit: Unit, run_id: str | None
) -> tuple[Version | None, Version]:
    """Let readers see an earlier version again, in one step; return what was seen and what is.

    A damaged or missing pointer is written anew if the version is named; nothing was seen then.

    Args:
        files: the root.
        index: says what readers see.
        unit: the cohort and the day.
        run_id: which version, by its run id or the requested one; None: the one published before
            the current one.

    Raises:
        ConfigError: there is no such version, or what is no name of a cohort.
        DamageError: it is not what was published any more.
    """
    if not re.fullmatch(COHORT_PATTERN, unit.cohort):  # it becomes part of paths
        raise ConfigError(
            f"--cohort: found {unit.cohort[:80]!r}, expected a name of a-z, 0-9, _ and -, "
            "beginning with a letter, of at most 64 characters"
        )
    with files.lock(lock_name(unit), wait=60):
        if isinstance(index, Pointers) and (lost := _lost_pointer(files, index, unit)):
            if run_id is None:
                raise lost
            return None, _restore(files, index, unit, run_id)
        kept, current = index.versions(unit), index.current(unit)
        if current is None:
            raise ConfigError(f"{unit}: nothing is published; see recsys runs")
        if run_id is None:
            earlier = kept[: kept.index(current)]
        else:
            earlier = [version for version in kept if version.run_id == run_name(run_id)]
        if not earlier:
            known = ", ".join(version.run_id for version in kept)
            wanted = f"no version {run_id[:140]}" if run_id else "no version before the current one"
            raise ConfigError(f"{unit}: {wanted} is kept; there are (oldest first): {known}")
        check_version(files, earlier[-1])
        index.switch(earlier[-1], expected=current.run_id)
        return current, earlier[-1]


def _lost_pointer(files: Files, index: Pointers, unit: Unit) -> DamageError | None:
    """Say what is wrong with a unit's pointer: it is damaged, or missing though versions are there.

    The caller holds the unit's lock, or asks again: a publisher places a version before the
    pointer.
    """
    try:
        if index.current(unit) is not None:
            return None
    except DamageError as error:
        return error
    found = ", ".join(placed(files, unit))
    if not found:
        return None
    return DamageError(
        f"{unit}: {index.uri(unit)} is missing, though there are versions ({found}): readers "
        "see none of them; write it anew with recsys rollback --to RUN_ID, or delete them with "
        "recsys clean"
    )


def _restore(files: Files, index: Pointers, unit: Unit, run_id: str) -> Version:
    """Write a pointer anew from the versions that lie whole in their places."""
    kept: list[Version] = []
    damaged: dict[str, Exception] = {}
    for name in placed(files, unit):
        uri = place(files, unit, name, MANIFEST)
        try:
            written = dt.datetime.fromtimestamp(files.modified(uri), dt.UTC)
            sha256 = hashlib.sha256(files.read(uri)).hexdigest()
            version = Version(unit, name, written.isoformat(), sha256)
            check_version(files, version)
            kept.append(version)
        except (DamageError, OutputError, OSError, ValueError, KeyError, TypeError) as error:
            damaged[name] = error
    kept.sort(key=lambda version: version.published_at)
    wanted = run_name(run_id)
    chosen = next((version for version in kept if version.run_id == wanted), None)
    if chosen is None:
        if isinstance(reason := damaged.get(wanted), DamageError | OutputError):
            raise reason
        whole = ", ".join(version.run_id for version in kept) or "none"
        raise ConfigError(f"{unit}: no version {run_id[:140]} lies there whole; there are: {whole}")
    index.restore(unit, chosen.run_id, kept)
    return chosen


def verify(files: Files, index: VersionIndex) -> Iterator[tuple[str, RecsysError | None]]:
    """Re-read every version that is kept; yield its name and what is wrong, or None."""
    for unit in sorted({*units_on_disk(files), *index.units()}):
        try:
            kept = index.versions(unit)
            if not kept and isinstance(index, Pointers):
                with suppress(ConflictError), files.lock(lock_name(unit)):  # nobody publishes there
                    if lost := _lost_pointer(files, index, unit):
                        raise lost
        except DamageError as error:
            yield str(unit), error
            continue
        for version in kept:
            try:
                check_version(files, version)
                yield f"{unit}, run {version.run_id}", None
            except (DamageError, OutputError, OSError) as error:  # also a block that is not there
                if version in index.versions(unit):  # else forgotten meanwhile
                    yield f"{unit}, run {version.run_id}", DamageError(str(error))
