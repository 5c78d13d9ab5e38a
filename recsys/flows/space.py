"""Whether what is to be written has room on the disk of a local root, asked before it is computed.

All that is said here is a lower bound. A run that is refused would surely have failed; one that is
not may still fail, since others write to the same disk.
"""

import logging

from recsys.errors import DamageError, OutputError
from recsys.flows.execution import Job
from recsys.publishing.index import previous
from recsys.publishing.manifest import VersionManifest
from recsys.publishing.versions import Unit, VersionIndex, read_manifest
from recsys.runtime.sizes import size

log = logging.getLogger(__name__)

# Of a 4-byte float, Parquet's compression leaves more than 3 bytes: vectors and scores are noise.
_LEAST_FLOAT = 3
# Of what the version before took: today's lists may be fewer, and may be packed better.
_LEAST_SHARE = 0.5
# What decides for whom there are lists, and how long they are.
_SECTIONS = ("cohort", "items", "filters", "scoring")


def check_model(job: Job, n_users: int, n_items: int) -> None:
    """Refuse to train a model that would have no room.

    Args:
        job: the run.
        n_users: how many users the model will have.
        n_items: how many items.

    Raises:
        OutputError: the vectors and biases alone are larger than what is left.
    """
    floats = (n_users + n_items) * (job.config.training.no_components + 1)
    what = f"a model of {n_users:,} users and {n_items:,} items"
    _check(job, floats * _LEAST_FLOAT, what)


def check_lists(
    job: Job, index: VersionIndex, unit: Unit, requests: int | None = None, n_items: int = 0
) -> None:
    """Refuse to make lists that would have no room.

    Args:
        job: the run.
        index: knows what was published before of the cohort.
        unit: what is to be published.
        requests: how many ids are asked for. None: not known yet, so that there are as many as
            before if the configuration says so.
        n_items: how many items the model has, where that is known.

    Raises:
        OutputError: the lists need more than what is left, by what the version before took or by
            the number of their rows.
    """
    items = job.config.items
    whole = items.allow is None and items.deny is None and items.candidates is None
    if requests is not None and job.config.cohort.users is None and whole:
        # Every list is its user's own, and hardly anybody has seen half of all items.
        rows = requests * min(job.config.scoring.k, n_items // 2)
        _check(job, rows * _LEAST_FLOAT, f"{rows:,} rows of lists")
    before = _before(job, index, unit)
    if before is None:
        return
    same = all(before.configuration.get(n) == job.config.public()[n] for n in _SECTIONS)
    if requests is None and (not same or job.config.cohort.users is not None):
        return
    asked = before.tables.status.rows
    k = job.config.scoring.k
    share = _LEAST_SHARE * min(1.0, k / before.configuration.get("scoring", {}).get("k", k))
    if requests is not None:
        share *= min(1.0, requests / max(1, asked))
    tables = [before.tables.of(name) for name in before.tables.names]
    size = sum(file.bytes for table in tables for file in table.files)
    _check(job, int(size * share), f"the lists, by those of run {before.run_id},")


def _before(job: Job, index: VersionIndex, unit: Unit) -> VersionManifest | None:
    try:
        version = previous(index, unit)
        return None if version is None else read_manifest(job.store.files, version)
    except DamageError as error:
        log.debug("not compared with the size of what is published: %s", error)
        return None


def _check(job: Job, needed: int, what: str) -> None:
    free = job.store.files.free_bytes()
    if free is not None and free < needed:
        raise OutputError(
            f"{job.store.root}: {what} need at least {size(needed)}, and {size(free)} are left on "
            "its disk; free space there (recsys clean shows what nothing needs), or choose another "
            "root"
        )
