"""Publishing under torture: `python scripts/torture.py [--quick] [--only PART] [--store STORE]`.

Three parts, each for both forms of table:

readers  read all the time while 100 versions are published, forgotten and cleaned away;
kills    real runs, killed at each of their named steps: Python alone, the JVM alone, both;
rivals   two publishers of the same cohort and day at once, 20 times, with each catalogue.

On hdfs and s3 (`scripts/try_stores.py` says what they are) there is one form each, and the round is
a shorter one.

It prints what was done and what must not have happened, and exits with 1 if anything did.
"""

import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import click
from cluster_runs import UnavailableError
from store_sites import KINDS, Store, postgres, store
from torture_kills import BOTH, JVM, KEEP, PYTHON, Cases, cases, kills
from torture_readers import readers
from torture_rivals import real_rivals, rivals
from torture_versions import Verdicts

PARTS = ("readers", "kills", "rivals")
QUICK_KILLS: dict[str, Cases] = {
    "parquet": [("placed", PYTHON)],
    "iceberg": [("judged", JVM), ("switched", BOTH)],
}
STORE_KILLS: dict[str, dict[str, Cases]] = {
    "hdfs": {"parquet": [("placed", PYTHON), ("replacing current.json", BOTH), ("switched", JVM)]},
    "s3": {"iceberg": [("placed", PYTHON), ("status committed", BOTH), ("switched", JVM)]},
}


@click.command(help=__doc__)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the results there.")
@click.option("--quick", is_flag=True, help="A shorter round of the same.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="These parts alone.")
@click.option("--store", "kind", type=click.Choice(KINDS), default="local", show_default=True)
def main(target: Path | None, quick: bool, only: tuple[str, ...], kind: str) -> None:
    results = []
    with tempfile.TemporaryDirectory(prefix="recsys-torture-") as folder, ExitStack() as stack:
        try:
            at = stack.enter_context(store(kind, Path(folder)))
        except UnavailableError as error:
            print(f"{kind} is left out: {error}")
            return
        for part in only or PARTS:
            for verdicts in _PARTS[part](at, Path(folder), quick or kind != "local"):
                show(verdicts)
                results.append(verdicts)
                if target is not None:  # after each part: a long torture may be cut short
                    target.write_text(json.dumps([asdict(v) for v in results], indent=2) + "\n")
    sys.exit(any(verdicts.violations for verdicts in results))


def show(verdicts: Verdicts) -> None:
    counts = ", ".join(f"{count:,} {what}" for what, count in verdicts.counts.items())
    verdict = f"{len(verdicts.violations)} VIOLATIONS" if verdicts.violations else "ok"
    print(f"{verdict:14} {verdicts.name:24} {verdicts.seconds:7.1f} s  {counts}", flush=True)
    for violation in verdicts.violations:
        print(f"    {violation}", flush=True)


def _readers(at: Store, work: Path, quick: bool) -> Iterator[Verdicts]:
    for form in at.forms:
        if at.kind == "local":
            yield readers(at, form, 10 if quick else 100)
        else:  # each read is a job of Spark's, or many requests
            yield readers(at, form, 6, reads=3)


def all_kills(
    at: Store, work: Path, chosen: Mapping[str, Cases], before: int
) -> Iterator[Verdicts]:
    """Do the kills of each form at the same time, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(chosen), mp_context=spawn) as pool:
        started = [pool.submit(kills, at, work, form, chosen[form], before) for form in chosen]
        for one in started:
            yield one.result()


def _kills(at: Store, work: Path, quick: bool) -> Iterator[Verdicts]:
    every = {form: cases(form) for form in at.forms}
    chosen = STORE_KILLS.get(at.kind, QUICK_KILLS if quick else every)
    return all_kills(at, work, chosen, before=1 if quick else KEEP)


def _rivals(at: Store, work: Path, quick: bool) -> Iterator[Verdicts]:
    if at.kind != "local":
        for form in at.forms:
            yield rivals(at, form, f"{form}{at.told}", 3)
            yield real_rivals(at, work, form, f"{form}{at.told}")
        return
    with postgres() as uri:
        catalogs = [(at, "parquet", "parquet"), (at, "iceberg", "iceberg on SQLite")]
        if isinstance(uri, UnavailableError):
            print(f"left out: {uri}", flush=True)
        else:
            other = replace(at, properties={"uri": uri})
            catalogs.append((other, "iceberg", "iceberg on PostgreSQL"))
        for one, form, name in catalogs:
            yield rivals(one, form, name, 3 if quick else 20)
            if not quick:
                yield real_rivals(one, work, form, name)


_PARTS: dict[str, Callable[[Store, Path, bool], Iterator[Verdicts]]] = {
    "readers": _readers,
    "kills": _kills,
    "rivals": _rivals,
}

if __name__ == "__main__":
    main()
