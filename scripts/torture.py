"""Publishing under torture: `python scripts/torture.py [--json FILE] [--quick] [--only PART]`.

Three parts, each for both forms of table:

readers  read all the time while 100 versions are published, forgotten and cleaned away;
kills    real runs, killed at each of their named steps: Python alone, the JVM alone, both;
rivals   two publishers of the same cohort and day at once, 20 times, with each catalogue.

It prints what was done and what must not have happened, and exits with 1 if anything did.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
from torture_readers import readers
from torture_versions import Verdicts

PARTS = ("readers", "kills", "rivals")
FORMS = ("parquet", "iceberg")


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


_PARTS: dict[str, Callable[[Path, bool], Iterator[Verdicts]]] = {"readers": _readers}

if __name__ == "__main__":
    main()
