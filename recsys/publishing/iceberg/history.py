"""Which versions an Iceberg table has shown, and when: its history, kept in its properties.

A snapshot's summary names one unit and its run, and is gone once the snapshot has expired. What
is to outlive it stands in a property of the table for each unit, changed by the same commit:

    recsys.unit.<cohort>.<run_date> = [{"run_id": ..., "shown": [[3, 7], [9, null]], ...}, ...]

`shown` are intervals of the table's sequence numbers, each from the snapshot that brought the
version in to the one that replaced it (excluded; null: none yet). So every snapshot, the current
one among them, tells by its sequence number alone what it shows of a unit, wherever the table has
been set back to, and whichever snapshots have expired.
"""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from recsys.errors import DamageError
from recsys.publishing.versions import Unit, Version, later

PREFIX = "recsys.unit."
Interval = tuple[int, int | None]


@dataclass(frozen=True)
class Entry:
    """A version in a table's history.

    Attributes:
        run_id, published_at, manifest_sha256: as in `Version`.
        rows: how many it has in this table.
        shown: intervals of sequence numbers.
        kept: False once it is forgotten; it stays here while a snapshot shows it.
    """

    run_id: str
    published_at: str
    manifest_sha256: str
    rows: int
    shown: tuple[Interval, ...] = ()
    kept: bool = True

    def shown_at(self, sequence: int) -> bool:
        """Whether the snapshot of this sequence number shows it."""
        return any(a <= sequence and (b is None or sequence < b) for a, b in self.shown)

    def version(self, unit: Unit) -> Version:
        """Return it as a version of its unit."""
        return Version(unit, self.run_id, self.published_at, self.manifest_sha256)


# Entries stand in the order of their first publication.
History = dict[Unit, list[Entry]]


def read(properties: Mapping[str, str]) -> History:
    """Read a history from a table's properties.

    Raises:
        DamageError: something else stands there.
    """
    return {
        _unit(key): _entries(key, value)
        for key, value in sorted(properties.items())
        if key.startswith(PREFIX)
    }


def changes(old: History, new: History) -> tuple[dict[str, str], list[str]]:
    """Return the properties to set and those to remove to get from one history to another."""
    changed = {_key(unit): _text(new[unit]) for unit in new if new[unit] != old.get(unit)}
    return changed, [_key(unit) for unit in old if unit not in new]


def shown(history: History, unit: Unit, sequence: int) -> Entry | None:
    """Return what the snapshot of a sequence number shows of a unit."""
    return next((e for e in history.get(unit, []) if e.shown_at(sequence)), None)


def with_version(history: History, unit: Unit, entry: Entry) -> History:
    """Return a history with one version more; one that is there already keeps its first time."""
    entries = list(history.get(unit, []))
    for place, other in enumerate(entries):
        if other.run_id == entry.run_id:
            entries[place] = replace(other, kept=True)
            return {**history, unit: entries}
    return {**history, unit: [*entries, entry]}


def advanced(
    history: History, at: int, then: int, show: Mapping[Unit, str | None] | None = None
) -> History:
    """Return the history after the next snapshot.

    Args:
        history: what was.
        at: the sequence number of the current snapshot, on which the next one builds.
        then: the sequence number of the next one.
        show: the run that a unit shows from then on, or None for nothing; other units go on to
            show what they do at `at`, even where the table has been set back meanwhile.
    """
    result = {}
    for unit, entries in history.items():
        if show is not None and unit in show:
            run_id = show[unit]
        else:
            now = shown(history, unit, at)
            run_id = now.run_id if now else None
        result[unit] = [_moved(entry, then, entry.run_id == run_id) for entry in entries]
    return result


def _moved(entry: Entry, then: int, shows: bool) -> Entry:
    is_open = bool(entry.shown) and entry.shown[-1][1] is None
    if shows and not is_open:
        return replace(entry, shown=(*entry.shown, (then, None)))
    if is_open and not shows:
        return replace(entry, shown=(*entry.shown[:-1], (entry.shown[-1][0], then)))
    return entry


def without_old(
    history: History, at: int, versions: int, gone: Collection[Unit]
) -> tuple[History, list[Version]]:
    """Forget what is beyond the numbers to keep, and return it beside the history.

    Args:
        history: what was.
        at: the sequence number of the current snapshot; what it shows is kept.
        versions: how many of each unit are kept.
        gone: units that are forgotten whole.
    """
    result, forgotten = {}, []
    for unit, entries in history.items():
        kept = [entry for entry in entries if entry.kept]
        old = kept
        if unit not in gone:
            old = [entry for entry in kept[:-versions] if not entry.shown_at(at)]
        forgotten += [entry.version(unit) for entry in old]
        result[unit] = [replace(e, kept=e.kept and e not in old) for e in entries]
    return result, forgotten


def without(history: History, unit: Unit, run_id: str) -> History:
    """Forget one version."""
    return {
        of: [replace(e, kept=e.kept and (of, e.run_id) != (unit, run_id)) for e in entries]
        for of, entries in history.items()
    }


def limited(
    history: History, at: int, runs: Mapping[Unit, Sequence[str]], gone: Collection[Unit]
) -> History:
    """Forget all but some runs and what is shown now, which a publisher may be about to complete.

    Args:
        history: what was.
        at: the sequence number of the current snapshot.
        runs: run ids of units.
        gone: units that are forgotten whole.
    """
    return {
        unit: [
            replace(e, kept=e.run_id in runs.get(unit, ()) or (unit not in gone and e.shown_at(at)))
            for e in entries
        ]
        for unit, entries in history.items()
    }


def is_beyond(unit: Unit, units: Sequence[Unit], run_dates: int | None) -> bool:
    """Whether a unit has so many later days that it is not to be kept; None: all are."""
    return run_dates is not None and len(later(units, unit)) >= run_dates


def expiring(
    history: History, snapshots: Mapping[int, int], protected: Iterable[int], most: int
) -> tuple[set[int], History]:
    """Return the snapshots that go, and the history without them.

    Those go that show something forgotten, and those beyond the number to keep.

    Args:
        history: versions with `kept` False are forgotten.
        snapshots: sequence numbers by snapshot id.
        protected: ids of snapshots that stay, whatever they show.
        most: how many stay otherwise, the newest ones.
    """
    forgotten = [entry for entries in history.values() for entry in entries if not entry.kept]
    gone = {
        snapshot
        for snapshot, sequence in snapshots.items()
        if any(entry.shown_at(sequence) for entry in forgotten)
    }
    left_over = sorted(snapshots.keys() - gone, key=lambda snapshot: snapshots[snapshot])
    gone = (gone | set(left_over[:-most])) - set(protected)
    staying = [sequence for snapshot, sequence in snapshots.items() if snapshot not in gone]
    left = {
        unit: [e for e in entries if e.kept or any(e.shown_at(s) for s in staying)]
        for unit, entries in history.items()
    }
    return gone, {unit: entries for unit, entries in left.items() if entries}


def _key(unit: Unit) -> str:
    return f"{PREFIX}{unit.cohort}.{unit.run_date}"


def _unit(key: str) -> Unit:
    cohort, _, day = key.removeprefix(PREFIX).rpartition(".")
    try:
        return Unit(cohort, dt.date.fromisoformat(day))
    except ValueError:
        raise DamageError(f"the table's property {key!r} names no cohort and run date") from None


def _entries(key: str, value: str) -> list[Entry]:
    try:
        found = [Entry(**fields) for fields in json.loads(value)]
        return [replace(e, shown=tuple((int(a), b) for a, b in e.shown)) for e in found]
    except (ValueError, TypeError):
        raise DamageError(
            f"the table's property {key!r} is damaged: it is not a list of versions"
        ) from None


def _text(entries: list[Entry]) -> str:
    return json.dumps([asdict(entry) for entry in entries], separators=(",", ":"))
