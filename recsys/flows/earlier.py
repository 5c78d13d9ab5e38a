"""What earlier runs of a root say of the next one: how large it will be, and how long it takes."""

from collections.abc import Collection, Iterator
from itertools import islice

from recsys.config.configuration import Config
from recsys.flows.manifest import RunManifest
from recsys.flows.record import read_run
from recsys.store.files import RUNS, Files

# A root may have thousands of runs, and an object store answers slowly.
_MOST_READ = 50
# What decides how many pairs there are.
_OF_PREPARATION = ("input", "row_checks", "deduplication", "filters")
_WITH_PREPARATION = ("run", "train", "refresh", "evaluate", "tune")


def newest_run(
    files: Files, jobs: Collection[str] = _WITH_PREPARATION, config: Config | None = None
) -> RunManifest | None:
    """Return the record of the newest complete run of these jobs; None where there is none.

    Ids that hold their date are in order as text, so the last names are looked at.

    Args:
        files: the root.
        jobs: the commands.
        config: if given, only runs that prepared the same input in the same way count.
    """
    found = [run for run in _runs(files) if run.state == "complete" and run.job in jobs]
    if config is not None:
        wanted = config.public()
        found = [
            run
            for run in found
            if all(run.configuration.get(name) == wanted[name] for name in _OF_PREPARATION)
        ]
    return max(found, key=lambda run: run.written_at, default=None)


def _runs(files: Files) -> Iterator[RunManifest]:
    names = sorted(files.names(files.uri(RUNS)), reverse=True)
    for name in islice(names, _MOST_READ):
        run = read_run(files, name)
        if run is not None:
            yield run
