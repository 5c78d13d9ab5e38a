"""What a root does not need any more, and whether what is stored is whole. No session."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from recsys.columns import NEIGHBOUR_TABLES
from recsys.errors import ConflictError, ModelError, OutputError
from recsys.flows.record import read_run
from recsys.ingest.feature_manifest import FeaturesManifest
from recsys.ingest.manifest import InteractionsManifest
from recsys.model.manifest import ModelManifest
from recsys.publishing.manifest import VersionManifest
from recsys.publishing.pointer import Pointers, lock_name
from recsys.publishing.versions import (
    HELD,
    Unit,
    VersionIndex,
    place,
    placed,
    read_manifest,
    units_on_disk,
)
from recsys.runtime.run import run_lock
from recsys.store.checksums import compare_files
from recsys.store.files import LOCKS, RUNS, STAGING, Files, shown
from recsys.store.manifest import MANIFEST, ManifestError

DAY = 86_400.0
M = TypeVar("M")
_Stored = ModelManifest | InteractionsManifest | FeaturesManifest
_MANIFESTS: dict[str, type[_Stored]] = {
    "models": ModelManifest,
    "interactions": InteractionsManifest,
    "features": FeaturesManifest,
}


@dataclass(frozen=True)
class Entry:
    """Something that is stored and that readers do not see.

    Attributes:
        uri: where it is.
        why: for people: why nothing needs it, or why it stays.
        lock: what to hold while it is deleted.
        version: the unit and run id of a version's directory.
        bytes: its size.
        age: seconds since anything in it was written.
    """

    uri: str
    why: str
    lock: str
    version: tuple[Unit, str] | None = None
    bytes: int = 0
    age: float = 0.0


@dataclass(frozen=True)
class Found:
    """What `find_waste` found.

    Attributes:
        waste: what nothing needs.
        kept: what stays for a reason.
    """

    waste: list[Entry] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)


def find_waste(
    files: Files, index: VersionIndex, *, stored: bool = False, min_age: float = 7 * DAY
) -> Found:
    """Find what no reader, no version that is kept and no run that goes on needs.

    Args:
        files: the root.
        index: says what readers see, and what is kept.
        stored: also models, interactions, features, rejects, evaluations, tunings and neighbours.
        min_age: seconds; of those, and of what a gate held back, only what is older.
    """
    waste = [*_staged(files), *_unreferenced(files, index), *_unfinished(files)]
    kept = []
    aged = _held(files)
    if stored:
        aged = [*aged, *_stored(files, index)]
    for entry, reason in aged:
        if reason is None and entry.age < min_age:
            reason = f"it is younger than {min_age / DAY:g} days"
        if reason is None:
            waste.append(entry)
        else:
            kept.append(replace(entry, why=reason))
    return Found(waste, kept)


def clean(files: Files, index: VersionIndex, found: list[Entry]) -> list[Entry]:
    """Delete what `find_waste` found, unless somebody has begun to use it; return what is gone."""
    deleted = []
    for one in found:
        try:
            with files.lock(one.lock):
                used = _begun_to_use(files, index, one) or one.version in index.in_use()
                # Younger than when it was listed: somebody has worked there meanwhile.
                if used or files.size_and_age(one.uri)[1] < one.age:
                    continue
                files.delete(one.uri)
                deleted.append(one)
        except ConflictError:  # somebody works there
            continue
    for name in files.names(files.uri(LOCKS)):
        files.is_locked(name)  # which removes those that nobody holds
    _remove_empty(files)
    return deleted


def _begun_to_use(files: Files, index: VersionIndex, one: Entry) -> bool:
    """Whether a run uses what was waste when it was listed."""
    kind, _, name = one.uri.removeprefix(f"{files.root}/").partition("/")
    kind = "interactions" if kind == "rejects" else kind
    return kind in _MANIFESTS and name in _needed(files, index)[kind]


def verify_stored(files: Files) -> Iterator[tuple[str, ModelError | None]]:
    """Re-read all models, interactions and features; yield each name and what is wrong, or None."""
    for kind in _MANIFESTS:
        for name in files.names(files.uri(kind)):
            try:
                check_stored(files, kind, name)
                yield f"{kind} {name}", None
            except ModelError as error:
                yield f"{kind} {name}", error


def check_stored(files: Files, kind: str, name: str) -> None:
    """Compare every file of a model, of interactions or of features with its manifest.

    Args:
        files: the root.
        kind: `models`, `interactions` or `features`.
        name: the id.

    Raises:
        ModelError: one is missing, damaged, too many or cannot be read; the message names it.
    """
    uri, owner = files.uri(kind, name), f"{kind} {name}"
    try:
        tables = _MANIFESTS[kind].from_json(files.read(f"{uri}/{MANIFEST}")).tables
    except (FileNotFoundError, ManifestError, OutputError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is unusable: {error}"
        raise ModelError(f"{owner}: {uri}/{MANIFEST} {reason}; make it again") from error
    for table, written in tables:
        if written is None:
            continue
        beside = kind == "interactions" and table == "rejects"
        place_ = files.uri("rejects", name) if beside else f"{uri}/{table}"
        try:
            found = files.data_files(place_)
        except (OSError, OutputError) as error:
            raise ModelError(f"{owner}: {shown(place_)} cannot be read: {error}") from error
        compare_files(owner, shown(place_), written.files, found)


def _staged(files: Files) -> list[Entry]:
    found = []
    for run_id in files.names(files.uri(STAGING)):
        lock = run_lock(run_id)
        if not files.is_locked(lock):
            why = f"staged by a killed run{_requested(files, run_id)}"
            found.append(_entry(files, files.uri(STAGING, run_id), why, lock))
    return found


def _held(files: Files) -> list[tuple[Entry, str | None]]:
    """Return what gates held back, and why it is kept, if it is."""
    found = []
    for run_id in files.names(files.uri(HELD)):
        why = f"held back by a gate{_requested(files, run_id)}"
        entry = _entry(files, files.uri(HELD, run_id), why, run_lock(run_id))
        found.append((entry, _running(files, run_id)))
    return found


def _requested(files: Files, run_id: str) -> str:
    """Name the id that a scheduler gave a run, where its directories are called otherwise."""
    run = read_run(files, run_id)
    requested = None if run is None else run.requested_run_id
    return "" if requested in (None, run_id) else f", requested as {requested}"


def _unreferenced(files: Files, index: VersionIndex) -> list[Entry]:
    """Return the directories of versions that nothing refers to."""
    found = []
    used = index.in_use()
    for unit in units_on_disk(files):
        if isinstance(index, Pointers) and not files.exists(index.uri(unit)):
            # Without a pointer: a run was killed before the switch, or the pointer was lost.
            used |= {(unit, name) for name in placed(files, unit) if _is_complete(files, name)}
        for name in files.names(place(files, unit)):
            uri, version = place(files, unit, name), (unit, name)
            if files.is_directory(uri) and version not in used:
                why = "a version that nothing refers to"
                found.append(_entry(files, uri, why, lock_name(unit), version))
    return found


def _unfinished(files: Files) -> list[Entry]:
    """Return files that processes were writing when they were killed."""
    owners = {files.uri(RUNS, run_id): run_lock(run_id) for run_id in files.names(files.uri(RUNS))}
    owners |= {place(files, unit): lock_name(unit) for unit in units_on_disk(files)}
    return [
        _entry(files, f"{uri}/{name}", "written by a killed process, and not finished", lock)
        for uri, lock in owners.items()
        for name in files.names(uri)
        if name.endswith(".tmp") and not files.is_locked(lock)
    ]


def _stored(files: Files, index: VersionIndex) -> Iterator[tuple[Entry, str | None]]:
    """Yield what is stored, and why it is kept, if it is."""
    needed = _needed(files, index)

    def entry(uri: str, run_id: str, reason: str | None = None) -> tuple[Entry, str | None]:
        why = "no version that is kept was made of it"
        return _entry(files, uri, why, run_lock(run_id)), _running(files, run_id) or reason

    for kind in ("models", "interactions", "features", "rejects"):
        for name in files.names(files.uri(kind)):
            # Rejects have no manifest of their own.
            of = "interactions" if kind == "rejects" else kind
            parse: Callable[[bytes], _Stored] = _MANIFESTS[of].from_json
            manifest = _read(files, files.uri(of, name), parse)
            run_id = manifest.run_id if manifest else _maker(name)
            yield entry(files.uri(kind, name), run_id, needed[of].get(name))
    for kind in ("evaluations", "tunings"):
        for run_id in files.names(files.uri(kind)):
            yield entry(files.uri(kind, run_id), run_id)
    for kind in NEIGHBOUR_TABLES:
        for day in files.names(files.uri(kind)):
            for run_id in files.names(files.uri(kind, day)):
                yield entry(files.uri(kind, day, run_id), run_id)


def _needed(files: Files, index: VersionIndex) -> dict[str, dict[str, str]]:
    """Return the models, interactions and features that are needed, by id, with the reason."""
    models, interactions, features = (dict[str, str]() for _ in range(3))
    for unit in index.units():
        for version in index.versions(unit):
            # A damaged one raises: what it was made of may be what mends it.
            manifest = read_manifest(files, version)
            models[manifest.model_id] = f"{unit}, run {version.run_id} was made with it"
            # The model's own manifest may be damaged, and does not name those of the scoring.
            for used in _made_from(manifest):
                interactions[used] = f"{unit}, run {version.run_id} was made from them"
    for run_id in files.names(files.uri(HELD)):
        held = _read(files, files.uri(HELD, run_id), VersionManifest.from_json)
        if held is not None:  # a retry of the run may publish it
            models.setdefault(held.model_id, f"what a gate held back of run {run_id} needs it")
            for used in _made_from(held):
                interactions.setdefault(used, f"what a gate held back of run {run_id} needs them")
    for run_id in files.names(files.uri(RUNS)):
        run = read_run(files, run_id)
        if run is not None and files.is_locked(run_lock(run_id)):
            in_use = filter(None, (run.model_id, run.base_model_id))
            models |= dict.fromkeys(in_use, f"run {run_id} uses it")
            if (newer := _for_scoring(run.configuration)) is not None:
                interactions[newer] = f"run {run_id} uses them"
    for model_id in (names := list(models)):  # grows, by the models of refreshes
        if not (manifest_ := _read(files, files.uri("models", model_id), ModelManifest.from_json)):
            continue
        why = f"model {model_id} was trained on them"
        interactions.setdefault(manifest_.interactions_id, why)
        if manifest_.features is not None:
            features[manifest_.features.features_id] = why
        if (base := manifest_.refresh_of) is not None and base not in models:
            models[base] = f"model {model_id} is a refresh of it"
            names.append(base)
    return {"models": models, "interactions": interactions, "features": features}


def _made_from(manifest: VersionManifest) -> list[str]:
    """Return the interactions of a version: its model's, which may be damaged, and newer ones."""
    newer = _for_scoring(manifest.configuration)
    return [manifest.model.interactions_id, *([] if newer is None else [newer])]


def _for_scoring(configuration: dict[str, Any]) -> str | None:
    found: str | None = configuration.get("scoring", {}).get("interactions")
    return found


def _maker(stored_id: str) -> str:
    """Return the run that made it by its id, which ends in a dash and what makes it unique."""
    return stored_id.rpartition("-")[0] or stored_id


def _running(files: Files, run_id: str) -> str | None:
    return f"run {run_id} goes on" if files.is_locked(run_lock(run_id)) else None


def _read(files: Files, uri: str, parse: Callable[[bytes], M]) -> M | None:
    """Read a manifest for what it says; None where it cannot be read."""
    try:
        return parse(files.read(f"{uri}/{MANIFEST}"))
    except (FileNotFoundError, ManifestError, OutputError):  # a stray file, not a directory
        return None


def _is_complete(files: Files, run_id: str) -> bool:
    run = read_run(files, run_id)
    return run is not None and run.state == "complete"


def _entry(
    files: Files, uri: str, why: str, lock: str, version: tuple[Unit, str] | None = None
) -> Entry:
    bytes_, age = files.size_and_age(uri)
    return Entry(uri, why, lock, version, bytes_, age)


def _remove_empty(files: Files) -> None:
    """Remove directories in which nothing is left and nobody works."""
    for unit in units_on_disk(files):
        folder = place(files, unit)
        if not files.names(folder):
            with suppress(ConflictError), files.lock(lock_name(unit)):
                files.remove_if_empty(folder)
    for kind in NEIGHBOUR_TABLES:
        for day in files.names(files.uri(kind)):
            files.remove_if_empty(files.uri(kind, day))
    files.remove_if_empty(files.uri(STAGING))  # a run may stage there
