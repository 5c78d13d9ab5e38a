"""After a run: `recsys runs`, `rollback`, `clean` and `verify`. None of them starts Spark."""

import datetime as dt
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.errors import ConfigError, DamageError, RecsysError, unexpected
from recsys.publishing import maintenance
from recsys.publishing.publish import open_index
from recsys.publishing.versions import Unit, VersionIndex
from recsys.store.posix import PosixFiles, open_local


@dataclass(frozen=True)
class Place:
    """A root, and what readers see of it."""

    config: Config
    files: PosixFiles
    index: VersionIndex


def runs(place: Place, limit: int) -> None:
    """Print the latest runs, one a line."""
    line = "{:32} {:10} {:10} {:16} {:11} {:19} {}"
    print(
        line.format("run", "job", "date", "cohort", "state", "started (UTC)", "published").rstrip()
    )
    for run in maintenance.runs(place.files, place.index)[:limit]:
        shown = (run.run_id, run.job, run.run_date, run.cohort, run.state, run.started_at)
        print(line.format(*shown, run.published).rstrip())
        if run.note:
            print(f"    {run.note}")


def rollback(place: Place, cohort: str, run_date: dt.date, to: str | None) -> None:
    """Return to an earlier version, and say which."""
    unit = Unit(cohort, run_date)
    before, now = maintenance.rollback(place.files, place.index, unit, to)
    print(f"{unit}: run {now.run_id} is current, published {now.published_at[:19]} UTC")
    if before is None:
        print("its pointer, which was damaged or missing, is written anew")
    else:
        print(f"run {before.run_id} was; return to it with --to {before.run_id}")
    if place.config.publishing.views is not None:
        print("the views of Spark's catalog follow with the next run", file=sys.stderr)


def clean(place: Place, *, yes: bool, stored: bool) -> None:
    """Show what nothing needs, and delete it if told to."""
    found = maintenance.waste(place.files, place.index, stored=stored)
    for one in found:
        print(f"{one.uri}  {one.why}")
    if not found:
        print("nothing to clean")
    elif not yes:
        print(f"{len(found):,} to delete; nothing was deleted: say --yes")
    else:
        deleted = maintenance.clean(place.files, place.index, found)
        print(f"deleted {len(deleted):,} of {len(found):,}")


def verify(place: Place) -> None:
    """Re-read everything that is published or stored, and say what is damaged."""
    damaged = 0
    for name, error in maintenance.verify(place.files, place.index):
        print(f"{'ok' if error is None else 'DAMAGED':8} {name}" + (f": {error}" if error else ""))
        damaged += error is not None
    if damaged:
        raise DamageError(f"{damaged:,} damaged or incomplete; see above")


def execute(
    action: Callable[[Place], None], config: str | None, overrides: Sequence[str], *, debug: bool
) -> int:
    """Do one of these and return the exit status (README: "Exit status")."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        loaded = load_config(config, overrides)
        files = open_local(loaded.root)
        if not files.exists(files.root):
            raise ConfigError(f"root: found {loaded.root}, expected a directory with runs in it")
        index = open_index(files, loaded.publishing, lambda: None)
        action(Place(loaded, files, index))
    except Exception as error:
        if debug:
            logging.exception("the traceback, as --debug asks")
        if isinstance(error, RecsysError):
            message, exit_code = str(error), error.exit_code
        else:
            hint = "" if debug else " (run with --debug for the traceback)"
            message, exit_code = f"unexpected: {unexpected(error)}{hint}", 1
        print(f"recsys: error: {message}", file=sys.stderr)
        return exit_code
    return 0
