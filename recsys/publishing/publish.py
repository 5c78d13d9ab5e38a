"""From a staged version to the one that readers see: judge, place, switch, forget."""

import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recsys.config.sections import Publishing
from recsys.errors import ConflictError, GateError, LostLockError, OutputError, UnreadableError
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
REQUESTS = "requests"  # beside the tables of a version that is not published

# Returns the gates' verdicts on a staged version, beside what readers see now.
Judge = Callable[[Version | None], Sequence[Verdict]]


@dataclass(frozen=True)
class Staged:
    """A version that nobody sees yet.

    Attributes:
        unit: what it is to be the content of.
        run_id: whose it is.
        uri: the directory with its tables and with the requests that it answers.
        manifest: what is said of it.
    """

    unit: Unit
    run_id: str
    uri: str
    manifest: VersionManifest

    @property
    def requests(self) -> str:
        """The directory with the requests, which are not published."""
        return f"{self.uri}/{REQUESTS}"


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
        judge: returns the gates' verdicts on it, beside what readers see now (None: nothing). It
            is called again when another run was published meanwhile.
        alive: raises if this process must not publish any more.
        force: publish although a gate failed.

    Raises:
        GateError: a gate failed; what was staged is kept for inspection.
        ConflictError: others keep publishing the same unit.
        LostLockError: this process does not hold its locks any more.
        OutputError: the columns do not fit those that are published.
    """
    unit = staged.unit
    for _ in range(_ATTEMPTS):
        expected = index.current(unit)
        content = _judged(files, index, staged, judge, expected, force=force)
        stop_point("judged")
        check_stop()
        version = Version(
            unit, staged.run_id, dt.datetime.now(dt.UTC).isoformat(), _sha256(content)
        )
        try:
            _show(files, index, staged, version, expected, alive)
        except LostLockError:  # no rival was quicker: this process must not go on
            raise
        except ConflictError as conflict:
            log.warning("%s: judging once more", conflict)
            _take_back(files, index, staged)
            continue
        stop_point("switched")
        forget_requests(files, unit, staged.run_id)
        discard_held(files, staged.run_id)  # of an attempt that a gate stopped
        return version
    raise ConflictError(
        f"{unit}: others published it {_ATTEMPTS} times while run {staged.run_id} was judged; run "
        "again with the same run id"
    )


def _judged(
    files: Files,
    index: VersionIndex,
    staged: Staged,
    judge: Judge,
    current: Version | None,
    *,
    force: bool,
) -> bytes:
    """Judge what is staged, and return the content of its manifest, which says the verdicts."""
    before = current or previous(index, staged.unit)
    check_columns(files, index, staged.unit, staged.manifest.schemas)
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
        raise _refusal(failed, _hold(files, staged))
    return content


def _show(
    files: Files,
    index: VersionIndex,
    staged: Staged,
    version: Version,
    expected: Version | None,
    alive: Callable[[], None],
) -> None:
    """Place a version and switch to it, unless another one than expected is current."""
    with files.lock(lock_name(staged.unit), wait=_WAIT):
        if index.current(staged.unit) != expected:
            raise ConflictError(f"{staged.unit}: another run was published meanwhile")
        alive()
        if not files.exists(files.uri(PUBLICATIONS, MARKER)):
            write_json(files, files.uri(PUBLICATIONS, MARKER), index.identity())
        with unstoppable():  # a stop leaves it unplaced, or published
            _place(files, index, staged)
            stop_point("placed")
            alive()
            index.switch(version, expected=expected.run_id if expected else None)


def _take_back(files: Files, index: VersionIndex, staged: Staged) -> None:
    """Return a version that was placed, and not switched to, to where it was staged."""
    if files.exists(staged.uri):
        return
    with unstoppable(), files.lock(lock_name(staged.unit), wait=_WAIT):
        index.withdraw(staged.unit, staged.run_id)
        files.move(place(files, staged.unit, staged.run_id), staged.uri)


def _place(files: Files, index: VersionIndex, staged: Staged) -> None:
    target = place(files, staged.unit, staged.run_id)
    if files.exists(target):
        # Of an attempt that was killed before readers could see it.
        index.withdraw(staged.unit, staged.run_id)
        if (staged.unit, staged.run_id) in index.in_use():
            raise OutputError(f"{target} is a published version already; choose another run id")
        files.delete(target)
    files.move(staged.uri, target)


def forget_requests(files: Files, unit: Unit, run_id: str) -> None:
    """Delete the requests, which were judged with a version and placed with it."""
    files.delete(place(files, unit, run_id, REQUESTS))


def discard_held(files: Files, run_id: str) -> None:
    """Delete what a gate held back."""
    files.delete(files.uri(HELD, run_id))


def _refusal(failed: Sequence[Verdict], held: str) -> GateError:
    gates = "a gate" if len(failed) == 1 else f"{len(failed)} gates"
    return GateError(
        f"the result failed {gates}: {'; '.join(map(str, failed))}; nothing was published: the "
        f"tables are kept in {held}; mend the cause, or run again with the same run id and another "
        "limit, or with --force to publish them anyway"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hold(files: Files, staged: Staged) -> str:
    """Keep what was staged, for inspection and for another attempt of the run."""
    held = files.uri(HELD, staged.run_id)
    if staged.uri != held:
        discard_held(files, staged.run_id)
        files.move(staged.uri, held)
    return held


def held_before(
    files: Files, unit: Unit, run_id: str, *, made_of: tuple[str, str]
) -> Staged | None:
    """Return what a gate held back in an earlier attempt of a run; None where there is nothing.

    It stays where it is held until it is placed, so that nothing is lost if this attempt ends
    before that.

    Args:
        files: the root.
        unit: what is to be published.
        run_id: of the run.
        made_of: the model id and the configuration's hash that it must have been made of.
    """
    held = files.uri(HELD, run_id)
    try:
        manifest = VersionManifest.from_json(files.read(f"{held}/{MANIFEST}"))
    except (FileNotFoundError, ManifestError, UnreadableError):
        return None
    found = Unit(manifest.cohort, dt.date.fromisoformat(manifest.run_date))
    same = (manifest.model_id, manifest.configuration_hash) == made_of and found == unit
    staged = Staged(unit, run_id, held, manifest)
    return staged if same and files.exists(staged.requests) else None


def held_gates(files: Files, run_id: str) -> list[Verdict] | None:
    """Return the verdicts on what a gate has held back; None where there is nothing."""
    try:
        content = files.read(files.uri(HELD, run_id, MANIFEST))
        return VersionManifest.from_json(content).gates
    except (FileNotFoundError, ManifestError, OutputError):
        return None


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
