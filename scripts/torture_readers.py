"""Readers in processes of their own, while version after version is published and cleaned away."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from store_sites import Site, Store, duckdb_on, whole_table
from torture_versions import (
    UNIT,
    Verdicts,
    ViolationError,
    check_table,
    close,
    leftovers,
    pass_all,
    read_whole,
    stage,
    wait_for,
)

from recsys.flows import housekeeping
from recsys.publishing.pointer import lock_name
from recsys.publishing.publish import publish, retain
from recsys.publishing.versions import RECOMMENDATIONS, STATUS, place
from recsys.runtime.run import run_lock
from recsys.store.files import STAGING

READS = 10  # of each reader, for each publication
_SPAWN = multiprocessing.get_context("spawn")


def readers(at: Store, form: str, publications: int, reads: int = READS) -> Verdicts:
    """Publish so many versions under the eyes of readers, and return what they saw.

    One process publishes and forgets, another cleans all the time, and each reader reads all the
    time; the publisher waits until each has read each version often enough.

    Args:
        at: the store.
        form: of table.
        publications: how many.
        reads: of each reader, for each publication.
    """
    began = time.monotonic()
    site = at.site(f"readers-{form}", form)
    plain = ["pyarrow" if site.local else "spark"]
    kinds = plain if form == "parquet" else ["pyiceberg", "duckdb"]
    published, stop = _SPAWN.Value("i", 0), _SPAWN.Event()
    counters = {kind: _SPAWN.Value("i", 0) for kind in kinds}
    results: Any = _SPAWN.Queue()
    processes = [
        _SPAWN.Process(target=_read_on, args=(site, kind, published, counter, stop, results))
        for kind, counter in counters.items()
    ]
    processes.append(_SPAWN.Process(target=_clean_on, args=(site, stop, results)))
    violations = []
    try:
        for number in range(1, publications + 1):
            _publish(site, number)
            published.value = number
            if number == 1:
                for process in processes:
                    process.start()
            goals = {kind: counter.value + reads for kind, counter in counters.items()}
            wait_for(
                partial(_have_read, counters, goals),
                at.patience,
                f"{reads} reads of publication {number}",
                processes,
            )
    except Exception as error:
        violations.append(f"publisher: {type(error).__name__}: {error}")
    stop.set()
    reports = [results.get(timeout=at.patience) for process in processes if process.pid]
    for process in processes:
        if process.pid:
            process.join()
    _clean(site)
    violations += [f"left behind: {name}" for name in leftovers(site.files(), site.index())]
    counts: dict[str, Any] = {"publications": published.value}
    for name, count, seen, problems in reports:
        violations += [f"{name}: {problem}" for problem in problems]
        if name == "cleaner":
            counts["cleanings"] = count
            continue
        counts[f"reads by {name}"] = count
        counts[f"versions seen by {name}"] = len(seen)
        if len(seen) != publications:
            violations.append(f"{name} saw {len(seen)} versions of {publications}")
    return Verdicts(f"readers, {form}{at.told}", counts, violations, time.monotonic() - began)


def _have_read(counters: Mapping[str, Any], goals: Mapping[str, int]) -> bool:
    return all(counters[kind].value >= goal for kind, goal in goals.items())


def _run_id(number: int) -> str:
    return f"t{number:04}"


def _publish(site: Site, number: int) -> None:
    files, run_id, index = site.files(), _run_id(number), site.index()
    with files.lock(run_lock(run_id), wait=5):
        staged = stage(files, UNIT, run_id, files.uri(STAGING, run_id, "version"))
        publish(files, index, staged, pass_all, alive=lambda: None)
        retain(files, index, site.publishing)
        files.delete(files.uri(STAGING, run_id))
    if number % 10 == 0:  # and what killed runs would leave
        killed = f"x{number:04}"
        with files.lock(run_lock(killed), wait=5):
            stage(files, UNIT, killed, files.uri(STAGING, killed, "version"))
        with files.lock(lock_name(UNIT), wait=5):
            stage(files, UNIT, killed, place(files, UNIT, killed))
            files.write(place(files, UNIT, "current.json.1.tmp"), b"torn")
    close(index)


def _clean(site: Site) -> None:
    files, index = site.files(), site.index()
    housekeeping.clean(files, index, housekeeping.find_waste(files, index).waste)
    close(index)


def _clean_on(site: Site, stop: Any, results: Any) -> None:
    count = 0
    problems: list[str] = []
    while not stop.is_set():
        try:
            _clean(site)
        except Exception as error:
            problems.append(f"cleaning {count}: {type(error).__name__}: {error}")
        count += 1
        stop.wait(0.05)
    results.put(("cleaner", count, [], problems))


def _read_on(
    site: Site,
    kind: str,
    published: Any,
    counter: Any,
    stop: Any,
    results: Any,
) -> None:
    read = _reading(site, kind)
    seen: set[str] = set()
    last = ""
    problems: list[str] = []
    while not stop.is_set() and len(problems) < 20:
        least = _run_id(published.value)
        try:
            run_id = read()
            if run_id < max(last, least):
                raise ViolationError(f"saw {run_id} after {max(last, least)} was published")
            seen.add(run_id)
            last = run_id
        except Exception as error:  # a reader must never see one
            problems.append(f"read {counter.value + 1}: {type(error).__name__}: {error}")
        counter.value += 1
    results.put((kind, counter.value, sorted(seen), problems))


def _reading(site: Site, kind: str) -> Callable[[], str]:
    if kind in ("pyarrow", "spark"):
        return lambda: read_whole(site, UNIT)
    index: Any = site.index()
    if kind == "pyiceberg":
        return lambda: read_whole(site, UNIT, index)
    connection = duckdb_on(site)

    def scan(name: str) -> str:
        return check_table(whole_table(index, connection, name), name, UNIT)

    def both() -> str:
        run_id = scan(RECOMMENDATIONS)
        # The two tables are two names: who reads them without the helper sees each of them whole,
        # and the statuses, which are committed first, of the same run or of a later one.
        if (later := scan(STATUS)) < run_id:
            raise ViolationError(f"statuses of {later} beside recommendations of {run_id}")
        return run_id

    return both
