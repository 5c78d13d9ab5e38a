"""From a staged version to the one that readers see: judge, place, switch, forget."""

import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recsys.config.sections import Publishing
from recsys.errors import ConflictError, GateError, OutputError
from recsys.publishing.index import check_columns, previous
from recsys.publishing.manifest import Verdict, VersionManifest
from recsys.publishing.pointer import lock_name
from recsys.publishing.versions import (
    HELD,
    MARKER,
    PUBLICATIONS,
    Unit,
    Version,
    VersionIndex,
    place,
)
from recsys.runtime.signals import check_stop, unstoppable
from recsys.runtime.stop_points import stop_point
from recsys.store.files import Files, write_json
from recsys.store.manifest import MANIFEST, ManifestError

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_WAIT = 120.0  # seconds for another publisher, who holds the lock for well under one
_REQUESTS = "_requests"  # in a held version; no reader takes it for a table

# Returns the gates' verdicts on a staged version, beside what readers see now.
Judge = Callable[[Version | None], Sequence[Verdict]]


@dataclass(frozen=True)
class Staged:
    """A version that nobody sees yet.

    Attributes:
        unit: what it is to be the content of.
        run_id: whose it is.
        uri: the directory with its tables.
        requests: the directory with the requests that it answers, which is kept beside it where a
            gate holds it back.
        manifest: what is said of it.
    """

    unit: Unit
    run_id: str
    uri: str
    requests: str
    manifest: VersionManifest


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
        judge: returns the gates' verdicts on it, beside what readers see now (None: nothing).
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
        check_columns(files, index, unit, staged.manifest.schemas)
        verdicts = judge(before)
        failed = [verdict for verdict in verdicts if verdict.state == "failed"]
        manifest = staged.manifest.model_copy(
            update={
                "compared_with": before.run_id if before else None,
                "gates": list(verdicts),
                "forced": bool(failed),
                "failed_gates": [verdict.gate for verdict in failed],
            }
        )
        content = manifest.to_json()
        files.replace(f"{staged.uri}/{MANIFEST}", content)
        for verdict in failed:
            log.warning("gate failed: %s", verdict)
        if failed and not force:
            raise _refusal(failed, hold(files, staged))
        stop_point("judged")
        check_stop()
        version = Version(
            unit, staged.run_id, dt.datetime.now(dt.UTC).isoformat(), _sha256(content)
        )
        try:
            with files.lock(lock_name(unit), wait=_WAIT):
                if index.current(unit) != expected:
                    raise ConflictError(f"{unit}: another run was published meanwhile")
                alive()
                if not files.exists(files.uri(PUBLICATIONS, MARKER)):
                    write_json(files, files.uri(PUBLICATIONS, MARKER), index.identity())
                with unstoppable():  # a stop leaves it unplaced, or published
                    _place(files, index, staged)
                    stop_point("placed")
                    alive()
                    index.switch(version, expected=expected.run_id if expected else None)
        except ConflictError as conflict:
            log.warning("%s: judging once more", conflict)
            if not files.exists(staged.uri):  # placed, and not switched to
                with unstoppable(), files.lock(lock_name(unit), wait=_WAIT):
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


def _refusal(failed: Sequence[Verdict], held: str) -> GateError:
    gates = "a gate" if len(failed) == 1 else f"{len(failed)} gates"
    return GateError(
        f"the result failed {gates}: {'; '.join(map(str, failed))}; nothing was published: the "
        f"tables are kept in {held}; mend the cause, or run again with the same run id and another "
        "limit, or with --force to publish them anyway"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hold(files: Files, staged: Staged) -> str:
    """Keep what was staged, for inspection and for another attempt of the run."""
    held = files.uri(HELD, staged.run_id)
    files.delete(held)
    files.move(staged.uri, held)
    files.move(staged.requests, f"{held}/{_REQUESTS}")
    return held


def take_up_held(
    files: Files, unit: Unit, run_id: str, staging: str, *, made_of: tuple[str, str]
) -> Staged | None:
    """Stage again what a gate held back in an earlier attempt of a run; None where there is none.

    Args:
        files: the root.
        unit: what is to be published.
        run_id: of the run.
        staging: the run's staging directory.
        made_of: the model id and the configuration's hash that it must have been made of.
    """
    held = files.uri(HELD, run_id)
    try:
        manifest = VersionManifest.from_json(files.read(f"{held}/{MANIFEST}"))
    except (FileNotFoundError, ManifestError):
        return None
    found = Unit(manifest.cohort, dt.date.fromisoformat(manifest.run_date))
    same = (manifest.model_id, manifest.configuration_hash) == made_of and found == unit
    if not same or not files.exists(f"{held}/{_REQUESTS}"):
        return None
    staged = Staged(unit, run_id, f"{staging}/version", f"{staging}/requests", manifest)
    files.move(f"{held}/{_REQUESTS}", staged.requests)
    files.move(held, staged.uri)
    return staged


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
