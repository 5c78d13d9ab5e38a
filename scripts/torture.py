"""Publishing under torture: `python scripts/torture.py [--json FILE] [--quick] [--only PART]`.

Three parts, each for both forms of table:

readers  read all the time while 100 versions are published, forgotten and cleaned away;
kills    real runs, killed at each of their named steps: Python alone, the JVM alone, both;
rivals   two publishers of the same cohort and day at once, 20 times, with each catalogue.

It prints what was done and what must not have happened, and exits with 1 if anything did.
"""

import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import click
from torture_kills import BOTH, JVM, KEEP, PYTHON, Cases, cases, kills
from torture_readers import readers
from torture_rivals import postgres, real_rivals, rivals
from torture_versions import Verdicts

PARTS = ("readers", "kills", "rivals")
FORMS = ("parquet", "iceberg")
QUICK_KILLS: dict[str, Cases] = {
    "parquet": [("placed", PYTHON)],
    "iceberg": [("judged", JVM), ("switched", BOTH)],
}


@click.command(help=__doc__)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the results there.")
@click.option("--quick", is_flag=True, help="A shorter round of the same.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="These parts alone.")
def main(target: Path | None, quick: bool, only: tuple[str, ...]) -> None:
    results = []
    with tempfile.TemporaryDirectory(prefix="recsys-torture-") as folder:
        for part in only or PARTS:
            for verdicts in _PARTS[part](Path(folder), quick):
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


def _readers(work: Path, quick: bool) -> Iterator[Verdicts]:
    for form in FORMS:
        yield readers(work, form, 10 if quick else 100)


def all_kills(work: Path, chosen: Mapping[str, Cases], before: int) -> Iterator[Verdicts]:
    """Do the kills of each form at the same time, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(chosen), mp_context=spawn) as pool:
        started = [pool.submit(kills, work, form, chosen[form], before) for form in chosen]
        for one in started:
            yield one.result()


def _kills(work: Path, quick: bool) -> Iterator[Verdicts]:
    chosen = QUICK_KILLS if quick else {form: cases(form) for form in FORMS}
    return all_kills(work, chosen, before=1 if quick else KEEP)


def _rivals(work: Path, quick: bool) -> Iterator[Verdicts]:
    with postgres() as uri:
        catalogues: list[tuple[str, str | None, str]] = [
            ("parquet", None, "parquet"),
            ("iceberg", None, "iceberg on SQLite"),
        ]
        if uri is not None:
            catalogues.append(("iceberg", uri, "iceberg on PostgreSQL"))
        for form, at, name in catalogues:
            yield rivals(work, form, at, name, 3 if quick else 20)
            if not quick:
                yield real_rivals(work, form, at, name)


_PARTS: dict[str, Callable[[Path, bool], Iterator[Verdicts]]] = {
    "readers": _readers,
    "kills": _kills,
    "rivals": _rivals,
}

if __name__ == "__main__":
    main()
