"""Versions whose content follows from their run id: any reader can tell what it must see."""

import datetime as dt
import hashlib
import io
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from example_manifests import version_manifest
from store_sites import Site, below

from recsys.publishing.manifest import Verdict
from recsys.publishing.publish import REQUESTS, Staged
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    TABLES,
    Unit,
    Version,
    VersionIndex,
    placed,
    read_manifest,
    units_on_disk,
)
from recsys.store.files import LOCKS, STAGING, Files
from recsys.store.manifest import File

DAY = dt.date(2026, 11, 24)
UNIT = Unit("all", DAY)
FILES = 3
USERS = 1000  # at least
ITEMS = 3  # for each user
SCHEMAS = {
    RECOMMENDATIONS: {
        "run_date": "date",
        "cohort": "string",
        "user_id": "string",
        "rank": "int",
        "item_id": "string",
        "score": "float",
        "run_id": "string",
    },
    STATUS: {
        "run_date": "date",
        "cohort": "string",
        "user_id": "string",
        "status": "string",
        "run_id": "string",
    },
}


class ViolationError(Exception):
    """Something was seen that must never be."""


@dataclass(frozen=True)
class Verdicts:
    """What came of one part of the torture.

    Attributes:
        name: of the part, with the form of table.
        counts: what was done, for people.
        violations: what must not be; empty if all is well.
        seconds: how long it took.
    """

    name: str
    counts: dict[str, Any]
    violations: list[str]
    seconds: float


def pass_all(before: Version | None) -> list[Verdict]:
    """Judge nothing."""
    return []


def tables(unit: Unit, run_id: str) -> dict[str, pa.Table]:
    """Make the recommendations and statuses of a run; their number of users differs too."""
    chance = random.Random(run_id)  # noqa: S311 - no secret
    n = USERS + chance.randrange(100)
    users = [f"u{user:05}" for user in range(n)]
    lists = {
        "user_id": [user for user in users for _ in range(ITEMS)],
        "rank": pa.array(list(range(1, ITEMS + 1)) * n, pa.int32()),
        "item_id": [f"i{chance.randrange(10**6)}" for _ in range(n * ITEMS)],
        "score": pa.array([chance.random() for _ in range(n * ITEMS)], pa.float32()),
    }
    statuses = {"user_id": users, "status": [chance.choice(["full", "short"]) for _ in users]}
    return {
        name: pa.table(
            {
                "run_date": pa.array([unit.run_date] * len(columns["user_id"]), pa.date32()),
                "cohort": [unit.cohort] * len(columns["user_id"]),
                **columns,
                "run_id": [run_id] * len(columns["user_id"]),
            }
        )
        for name, columns in ((RECOMMENDATIONS, lists), (STATUS, statuses))
    }


@cache
def _expected(unit: Unit, run_id: str) -> dict[str, tuple[int, str]]:
    made = tables(unit, run_id)
    return {name: (len(table), checksum(table, name)) for name, table in made.items()}


def checksum(table: pa.Table, name: str) -> str:
    """Return a checksum of a table's rows, in whichever order they come."""
    keys = [(key, "ascending") for key in ("user_id", "rank") if key in SCHEMAS[name]]
    ordered = table.select(list(SCHEMAS[name])).sort_by(keys)
    return hashlib.sha256(repr(list(ordered.to_pydict().values())).encode()).hexdigest()


def stage(files: Files, unit: Unit, run_id: str, folder: str) -> Staged:
    """Write a version beside the published ones, as Spark would."""
    written: dict[str, tuple[int, list[File]]] = {}
    for name, table in tables(unit, run_id).items():
        size = -(-len(table) // FILES)
        for part in range(FILES):
            content = io.BytesIO()
            pq.write_table(table.slice(part * size, size), content)
            uri = f"{folder}/{name}/part-{part:05}-{run_id}.snappy.parquet"
            files.write(uri, content.getbuffer())
        written[name] = (len(table), files.data_files(f"{folder}/{name}"))
    checksums = {name: found for name, (_, found) in _expected(unit, run_id).items()}
    manifest = version_manifest(unit, run_id, written, SCHEMAS, configuration=checksums)
    return Staged(unit, run_id, folder, manifest)


def check_table(found: pa.Table, name: str, unit: Unit) -> str:
    """Return the one run id whose table this is, whole.

    Raises:
        ViolationError: there is none, or more than one, or the rows are not its.
    """
    run_ids = found["run_id"].unique().to_pylist()
    if len(run_ids) != 1:
        raise ViolationError(f"{name}: rows of the runs {run_ids}, expected those of one")
    n, wanted = _expected(unit, run_ids[0])[name]
    if len(found) != n:
        raise ViolationError(f"{name} of {run_ids[0]}: {len(found)} rows, expected {n}")
    if checksum(found, name) != wanted:
        raise ViolationError(f"{name} of {run_ids[0]}: the checksum of the rows is another")
    return str(run_ids[0])


def read_whole(site: Site, unit: Unit, index: VersionIndex | None = None) -> str:
    """Read a unit as the form's readers do, check it, and return its run id.

    Raises:
        ViolationError: it is not one whole version.
    """
    found: dict[str, Any]
    if site.form == "parquet":
        published = site.read(unit)
        found = {RECOMMENDATIONS: published.recommendations, STATUS: published.status}
        named, manifest = published.run_id, published.manifest
    else:
        opened: Any = index or site.index()
        read = opened.read(unit)
        if read is None:
            raise ViolationError("nothing is published")
        version, recommendations, status = read
        found = {RECOMMENDATIONS: recommendations, STATUS: status}
        named, manifest = version.run_id, read_manifest(site.files(), version)
    run_ids = {check_table(table, name, unit) for name, table in found.items()}
    if run_ids != {named} or manifest.run_id != named:
        raise ViolationError(f"rows of {run_ids}, manifest of {manifest.run_id}, named {named}")
    if manifest.configuration != {name: _expected(unit, named)[name][1] for name in TABLES}:
        raise ViolationError(f"{named}: the manifest has other checksums than its publisher noted")
    return named


def leftovers(files: Files, index: VersionIndex) -> list[str]:
    """Return what must not lie below a root on which nobody works and that was cleaned."""
    used = index.in_use()
    found = [f"lock {name}" for name in files.names(files.uri(LOCKS))]
    found += [
        f"version {unit}, {run_id}"
        for unit in units_on_disk(files)
        for run_id in placed(files, unit)
        if (unit, run_id) not in used
    ]
    there = [uri.removeprefix(f"{files.root}/") for uri in below(files, files.root)]
    found += [name for name in there if name.endswith(".tmp")]
    found += [name for name in there if re.match(rf"publications/.*/{REQUESTS}(/|$)", name)]
    found += [
        name for name in there if name == STAGING or name.startswith((f"{STAGING}/", "held/"))
    ]
    return found


def fresh(folder: Path) -> Path:
    """Make an empty directory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def wait_for(
    condition: Callable[[], bool], seconds: float, what: str, needed: Sequence[BaseProcess] = ()
) -> None:
    """Wait until something is so.

    Raises:
        ViolationError: it is not within the time, or a process that it needs has ended.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if any(not process.is_alive() for process in needed):
            raise ViolationError(f"a process ended before {what}")
        if time.monotonic() > deadline:
            raise ViolationError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.005)


def close(index: Any) -> None:
    """Close an index's connections, where it has any."""
    if hasattr(index, "close"):
        index.close()


def marked(mark: str) -> dict[int, str]:
    """Return the processes that carry a mark in their environment: command names by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                status = (folder / "status").read_text()
                if not re.search(r"^State:\s+[ZX]", status, re.MULTILINE):
                    found[int(folder.name)] = (folder / "comm").read_text().strip()
        except OSError:  # it has ended, or is another user's
            continue
    return found
