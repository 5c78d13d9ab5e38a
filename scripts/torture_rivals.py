"""Two publishers of the same cohort and day, started together."""

import multiprocessing
import time
from collections import Counter
from pathlib import Path
from typing import Any

from store_sites import Site, Store
from torture_runs import PATIENCE, Runs
from torture_versions import (
    UNIT,
    Verdicts,
    ViolationError,
    close,
    fresh,
    leftovers,
    pass_all,
    read_whole,
    stage,
)

from recsys.errors import ConflictError, OutputError, RecsysError
from recsys.publishing.manifest import Verdict
from recsys.publishing.publish import publish, retain
from recsys.publishing.read import check_version
from recsys.publishing.versions import Version
from recsys.runtime.run import run_lock
from recsys.store.files import STAGING

_SPAWN = multiprocessing.get_context("spawn")


class _Meeting:
    """A judge that waits for its rival, so that both go on from having seen the same."""

    def __init__(self, barrier: Any) -> None:
        self._barrier = barrier
        self._met = False

    def __call__(self, before: Version | None) -> list[Verdict]:
        if not self._met:
            self._barrier.wait(timeout=120)
            self._met = True
        return pass_all(before)


def rivals(at: Store, form: str, name: str, rounds: int) -> Verdicts:
    """Let two processes publish at once, again and again, and return what came of it.

    Every other round begins with a new root, where the tables are to be made as well.

    Args:
        at: the store.
        form: of table.
        name: for people.
        rounds: how often.
    """
    began = time.monotonic()
    counts: Counter[str] = Counter()
    violations = []
    for number in range(rounds):
        site = at.site(f"rivals-{name}-{number // 2}".replace(" ", "-"), form)
        try:
            found = _round(site, number, counts)
        except Exception as error:
            found = [f"{type(error).__name__}: {error}"]
        violations += [f"round {number + 1}: {one}" for one in found]
    counts["rounds"] = rounds
    return Verdicts(f"rivals, {name}", dict(counts), violations, time.monotonic() - began)


def _round(site: Site, number: int, counts: Counter[str]) -> list[str]:
    problems = []
    names = [f"{rival}{number:03}" for rival in ("a", "b")]
    files = site.files()
    index = site.index()
    earlier = [version.run_id for version in index.versions(UNIT)] if number % 2 else []
    visible = list(earlier)
    barrier, results = _SPAWN.Barrier(2), _SPAWN.Queue()
    processes = [
        _SPAWN.Process(target=_publish, args=(site, name, barrier, results)) for name in names
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        try:
            seen = read_whole(site, UNIT)
            if seen not in [*earlier, *names]:
                problems.append(f"a reader saw {seen}")
            counts["reads meanwhile"] += 1
            visible = [*earlier, *names]  # from now on there is something to see
        except (OutputError, ViolationError) as error:
            if visible or "othing is published" not in str(error):
                problems.append(f"a reader saw: {error}")
        time.sleep(0.02)
    ended = dict(results.get(timeout=60) for _ in processes)
    published = [name for name, (status, _) in ended.items() if status == 0]
    counts["published"] += len(published)
    counts["refused"] += len(ended) - len(published)
    for name, (status, message) in ended.items():
        if status not in (0, ConflictError.exit_code):
            problems.append(f"{name} ended with {status}: {message}")
    kept = index.versions(UNIT)
    # Three are kept: the one before is among them.
    lost = {*published, *earlier[-1:]} - {version.run_id for version in kept}
    if not published or lost:
        problems.append(f"published {published}, lost {sorted(lost)}")
    for version in kept:
        check_version(files, version)
    if (seen := read_whole(site, UNIT)) not in published:
        problems.append(f"{seen} is current, published were {published}")
    close(index)
    return problems + [f"left behind: {name}" for name in leftovers(files, index)]


def _publish(site: Site, run_id: str, barrier: Any, results: Any) -> None:
    files = site.files()
    try:
        with files.lock(run_lock(run_id), wait=5):
            staged = stage(files, UNIT, run_id, files.uri(STAGING, run_id, "version"))
            barrier.wait(timeout=120)
            index = site.index()
            try:
                publish(files, index, staged, _Meeting(barrier), alive=lambda: None)
                retain(files, index, site.publishing)
            finally:
                close(index)
                files.delete(files.uri(STAGING, run_id))
                if not files.names(files.uri(STAGING)):
                    files.delete(files.uri(STAGING))
        ended = (0, "")
    except RecsysError as error:
        ended = (error.exit_code, str(error))
    except Exception as error:
        ended = (1, f"{type(error).__name__}: {error}")
    results.put((run_id, ended))


def real_rivals(at: Store, work: Path, form: str, name: str) -> Verdicts:
    """Start two real runs of the same cohort and day together, and return what came of them."""
    began = time.monotonic()
    problems = []
    runs = Runs(fresh(work / f"runs-{name}"), at.site(f"real-{name}".replace(" ", "-"), form))
    runs.write_inputs(2)
    processes = {
        number: runs.start("run", *runs.arguments(number), log=f"log{number}") for number in (1, 2)
    }
    statuses = {number: process.wait(timeout=PATIENCE) for number, process in processes.items()}
    published = {f"r{number}" for number, status in statuses.items() if status == 0}
    for number, status in statuses.items():
        if status not in (0, ConflictError.exit_code):
            problems.append(f"r{number} ended with {status}: {runs.tail(f'log{number}')}")
    try:
        seen = runs.look()
        if seen.run_id not in published or not published <= set(seen.versions):
            problems.append(f"{seen.run_id} of {sorted(seen.versions)}, published {published}")
        with runs.index() as index:
            problems += [f"left behind: {one}" for one in leftovers(runs.site.files(), index)]
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}")
    counts = {"real runs": 2, "published": len(published), "refused": 2 - len(published)}
    return Verdicts(f"rivals, {name}", counts, problems, time.monotonic() - began)
