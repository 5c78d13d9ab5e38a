"""What people do with runs and versions afterwards: list, return to, verify, clean.

All of it works on local roots, without Spark.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from recsys.config.sections import COHORT_PATTERN
from recsys.errors import ConfigError, ConflictError, DamageError, ModelError, RecsysError
from recsys.publishing.pointer import Pointers, lock_name
from recsys.publishing.read import check_version
from recsys.publishing.versions import (
    HELD,
    Unit,
    Version,
    VersionIndex,
    place,
    placed,
    read_manifest,
    units_on_disk,
)
from recsys.runs.record import run_lock
from recsys.store.checksums import MANIFEST, compare_files, is_sealed, local_files
from recsys.store.files import LOCKS, RUNS, STAGING, read_json
from recsys.store.posix import PosixFiles

_STORED = ("models", "interactions", "rejects", "evaluations")


@dataclass(frozen=True)
class RunState:
    """One run, as `recsys runs` shows it.

    Attributes:
        run_id, job, run_date, cohort: which; empty where its manifest does not say.
        state: `running`, `complete`, `failed`, or `interrupted`: it says that it is running, but no
            process holds its lock.
        started_at: ISO 8601, UTC.
        published: `current` for readers, `kept` for a rollback, `held` by a gate, or empty.
        note: why it failed.
    """

    run_id: str
    job: str
    run_date: str
    cohort: str
    state: str
    started_at: str
    published: str
    note: str


def runs(files: PosixFiles, index: VersionIndex) -> list[RunState]:
    """Return all runs of a root, the latest first."""
    published: dict[str, str] = {}
    for unit in index.units():
        try:
            current = index.current(unit)
            for version in index.versions(unit):
                published[version.run_id] = "current" if version == current else "kept"
        except DamageError:
            published |= dict.fromkeys(placed(files, unit), "damaged: see recsys verify")
    for run_id in files.names(files.uri(HELD)):
        published.setdefault(run_id, "held")
    found = []
    for run_id in files.names(files.uri(RUNS)):
        manifest = _manifest(files, files.uri(RUNS, run_id, MANIFEST))
        state = str(manifest.get("state", "unknown"))
        if state == "running" and not _is_locked(files, run_lock(run_id)):
            state = "interrupted"
        cohort = manifest.get("configuration", {}).get("cohort", {}).get("name", "")
        with_lists = manifest.get("job") in ("run", "score")
        found.append(
            RunState(
                run_id,
                str(manifest.get("job", "")),
                str(manifest.get("run_date", "")),
                str(cohort) if with_lists else "",
                state,
                str(manifest.get("started_at", ""))[:19],
                published.get(run_id, ""),
                str(manifest.get("error", "")) if state == "failed" else "",
            )
        )
    return sorted(found, key=lambda run: (run.started_at, run.run_id), reverse=True)


def rollback(
    files: PosixFiles, index: VersionIndex, unit: Unit, run_id: str | None
) -> tuple[Version | None, Version]:
    """Let readers see an earlier version again, in one step; return what was seen and what is.

    A damaged or missing pointer is written anew if the version is named; nothing was seen then.

    Args:
        files: the root.
        index: says what readers see.
        unit: the cohort and the day.
        run_id: which version; None: the one published before the current one.

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
            earlier = [version for version in kept if version.run_id == run_id]
        if not earlier:
            known = ", ".join(version.run_id for version in kept)
            wanted = f"no version {run_id[:140]}" if run_id else "no version before the current one"
            raise ConfigError(f"{unit}: {wanted} is kept; there are (oldest first): {known}")
        check_version(files, earlier[-1])
        index.switch(earlier[-1], expected=current.run_id)
        return current, earlier[-1]


def _lost_pointer(files: PosixFiles, index: Pointers, unit: Unit) -> DamageError | None:
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


def _restore(files: PosixFiles, index: Pointers, unit: Unit, run_id: str) -> Version:
    """Write a pointer anew from the versions that lie whole in their places."""
    kept: list[Version] = []
    damaged: dict[str, Exception] = {}
    for name in placed(files, unit):
        uri = place(files, unit, name, MANIFEST)
        written = dt.datetime.fromtimestamp(files.path(uri).stat().st_mtime, dt.UTC)
        sha256 = hashlib.sha256(files.read(uri)).hexdigest()
        version = Version(unit, name, written.isoformat(), sha256)
        try:
            check_version(files, version)
            kept.append(version)
        except (DamageError, ValueError, KeyError, TypeError) as error:
            damaged[name] = error
    kept.sort(key=lambda version: version.published_at)
    chosen = next((version for version in kept if version.run_id == run_id), None)
    if chosen is None:
        if isinstance(reason := damaged.get(run_id), DamageError):
            raise reason
        whole = ", ".join(version.run_id for version in kept) or "none"
        raise ConfigError(f"{unit}: no version {run_id[:140]} lies there whole; there are: {whole}")
    index.restore(unit, run_id, kept)
    return chosen


def verify(files: PosixFiles, index: VersionIndex) -> Iterator[tuple[str, RecsysError | None]]:
    """Re-read every version that is kept, and every model; yield each name and what is wrong."""
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
            except (DamageError, FileNotFoundError) as error:
                if version in index.versions(unit):  # else forgotten meanwhile
                    yield f"{unit}, run {version.run_id}", DamageError(str(error))
    for kind in ("models", "interactions"):
        for name in files.names(files.uri(kind)):
            try:
                check_stored(files, kind, name)
                yield f"{kind} {name}", None
            except ModelError as error:
                yield f"{kind} {name}", error


def check_stored(files: PosixFiles, kind: str, name: str) -> None:
    """Compare every file of a model or of interactions with its manifest.

    Raises:
        ModelError: one is missing, damaged or too many; the message names it.
    """
    uri = files.uri(kind, name)
    manifest = _manifest(files, f"{uri}/{MANIFEST}")
    if not is_sealed(manifest):
        raise ModelError(f"{kind} {name}: {uri}/{MANIFEST} is missing or damaged; make it again")
    for table, described in manifest["tables"].items():
        folder = files.path(f"{uri}/{table}")
        if table == "rejects":  # of interactions; beside them
            folder = files.path(files.uri("rejects", name))
        compare_files(f"{kind} {name}", str(folder), described["files"], local_files(folder))


@dataclass(frozen=True)
class Waste:
    """Something that nothing needs.

    Attributes:
        uri: what to delete.
        why: for people.
        lock: what to hold while it is deleted.
        version: the unit and run id of a version's directory.
    """

    uri: str
    why: str
    lock: str
    version: tuple[Unit, str] | None = None


def waste(files: PosixFiles, index: VersionIndex, *, stored: bool = False) -> list[Waste]:
    """Return what no pointer needs, and no run that goes on.

    Args:
        files: the root.
        index: says what readers see, and what is kept.
        stored: also models, interactions, rejects and evaluations of which no kept version was
            made.
    """
    found = []
    for run_id in files.names(files.uri(STAGING)):
        lock = run_lock(run_id)
        if not _is_locked(files, lock):
            uri = files.uri(STAGING, run_id)
            found.append(Waste(uri, "staged by a run that was killed", lock))
    for run_id in files.names(files.uri(HELD)):
        found.append(Waste(files.uri(HELD, run_id), "held back by a gate", run_lock(run_id)))
    used = index.in_use()
    for unit in units_on_disk(files):
        if isinstance(index, Pointers) and not files.exists(index.uri(unit)):
            # Without a pointer: of a run that was killed before the switch, or it was lost.
            used |= {(unit, name) for name in placed(files, unit) if _is_complete(files, name)}
        for name in files.names(place(files, unit)):
            uri, version = place(files, unit, name), (unit, name)
            if files.path(uri).is_dir() and version not in used:
                found.append(
                    Waste(uri, "a version that nothing refers to", lock_name(unit), version)
                )
    return found + _unfinished(files) + (_unused(files, index) if stored else [])


def clean(files: PosixFiles, index: VersionIndex, found: list[Waste]) -> list[Waste]:
    """Delete what `waste` found, unless somebody has begun to use it; return what was deleted."""
    deleted = []
    for one in found:
        try:
            with files.lock(one.lock):
                if one.version is None or one.version not in index.in_use():
                    files.delete(one.uri)
                    deleted.append(one)
        except ConflictError:  # somebody works there
            continue
    for name in files.names(files.uri(LOCKS)):
        _is_locked(files, name)  # which removes those that nobody holds
    _remove_empty(files)
    return deleted


def _unused(files: PosixFiles, index: VersionIndex) -> list[Waste]:
    models, interactions = set(), set()
    for unit in index.units():
        for version in index.versions(unit):
            # A damaged one raises: what it was made of may be what mends it.
            models.add(read_manifest(files, version)["model_id"])
    for run_id in files.names(files.uri(RUNS)):
        if _is_locked(files, run_lock(run_id)):
            record = _manifest(files, files.uri(RUNS, run_id, MANIFEST))
            models.add(record.get("model_id"))
            interactions.add(record.get("configuration", {}).get("scoring", {}).get("interactions"))
    for model in files.names(files.uri("models")):
        if model in models:
            manifest = _manifest(files, files.uri("models", model, MANIFEST))
            interactions.add(manifest.get("interactions_id"))
    kept = {"models": models, "interactions": interactions, "rejects": interactions}
    found = []
    for kind in _STORED:
        for name in files.names(files.uri(kind)):
            run_id = str(_manifest(files, files.uri(kind, name, MANIFEST)).get("run_id", name))
            if name not in kept.get(kind, ()) and not _is_locked(files, run_lock(run_id)):
                why = f"{kind} of which no kept version was made"
                found.append(Waste(files.uri(kind, name), why, run_lock(run_id)))
    return found


def _unfinished(files: PosixFiles) -> list[Waste]:
    """Return what processes were writing when they were killed; it has names that are not read."""
    owners = {files.uri(RUNS, run_id): run_lock(run_id) for run_id in files.names(files.uri(RUNS))}
    owners |= {place(files, unit): lock_name(unit) for unit in units_on_disk(files)}
    return [
        Waste(f"file:{path}", "a file that was being written by a process that was killed", lock)
        for uri, lock in owners.items()
        for path in sorted(files.path(uri).glob("*.tmp"))
        if not _is_locked(files, lock)
    ]


def _remove_empty(files: PosixFiles) -> None:
    """Remove directories in which nothing is left and nobody works."""
    for unit in units_on_disk(files):
        folder = place(files, unit)
        if not files.names(folder):
            with suppress(ConflictError, OSError), files.lock(lock_name(unit)):
                files.path(folder).rmdir()
    with suppress(OSError):  # not there, or a run stages there
        files.path(files.uri(STAGING)).rmdir()


def _is_complete(files: PosixFiles, run_id: str) -> bool:
    return _manifest(files, files.uri(RUNS, run_id, MANIFEST)).get("state") == "complete"


def _is_locked(files: PosixFiles, name: str) -> bool:
    if not files.exists(files.uri(LOCKS, name)):
        return False
    try:
        with files.lock(name):
            return False
    except ConflictError:
        return True


def _manifest(files: PosixFiles, uri: str) -> dict[str, Any]:
    """Read a manifest for what it says; nothing where it cannot be read."""
    try:
        manifest = read_json(files, uri)
    except (FileNotFoundError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
