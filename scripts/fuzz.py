"""Hostile values through configuration, names, ids and CSV: an error or a reject each, no more.

usage: python scripts/fuzz.py [--values 50000] [--seed N] [--processes N] [--json FILE]

A share of the values goes through commands in processes of their own, and one run of Spark reads
thousands of lines and asks for thousands of ids; the rest goes through the same commands in this
process. What must hold for each:

- it is accepted, or refused by one printable line and a documented exit status, within seconds;
- no traceback, nothing unexpected (exit status 1);
- nothing is written outside of the root, wherever a name points;
- rows read are rows accepted and rows rejected, and each id that is asked for has a status.
"""

import argparse
import collections
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import hostile

from recsys.cli import main as recsys
from recsys.config.keys import known
from recsys.errors import RecsysError
from recsys.runtime.run import new_run

STATUSES = {0, *range(2, 12), 130, 143}
SLOWEST = 30.0  # seconds for one value, on a busy machine
CSV_RUN = "the run of Spark"
Random = random.Random


@dataclass
class Report:
    """What came of the values, by the way that they took."""

    outcomes: dict[str, collections.Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def count(self, way: str, outcome: str, n: int = 1) -> None:
        self.outcomes.setdefault(way, collections.Counter())[outcome] += n

    def fail(self, way: str, value: object, why: str) -> None:
        shown = value if isinstance(value, str | bytes) else str(value)
        self.failures.append(f"{way}: {why[:400]}: {shown[:120]!r}")

    @property
    def values(self) -> int:
        return sum(sum(counter.values()) for counter in self.outcomes.values())


class World:
    """A root with a model and a published version in it, and a place beside it to watch."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.cwd = top / "work" / "here"
        self.root = top / "out"
        self.cwd.mkdir(parents=True)
        self.config = top / "fuzz.yaml"

    def outside(self) -> dict[str, Any]:
        """Return all that lies around the root, and whatever a name might have made elsewhere."""
        inside = {self.root, self.config, self.top / "in.csv", self.top / "who.csv"}
        around = {
            str(path): path.read_bytes() if path.is_file() else None
            for path in self.top.rglob("*")
            if not inside & {path, *path.parents}
        }
        for folder in (Path("/"), Path(tempfile.gettempdir()), Path.home(), *self.top.parents):
            around |= dict.fromkeys(map(str, folder.glob(f"*{hostile.MARK}*")))
        return around


def judge(
    report: Report, way: str, value: object, status: int, out: str, err: str, seconds: float
) -> None:
    """Count what a command said, or what is wrong with it."""
    if value != CSV_RUN:
        report.slowest = max(report.slowest, seconds)
    lines = [line for line in err.split("\n") if line.startswith("recsys: error: ")]
    usage = err.startswith("Usage: ")
    if "Traceback (most recent call last)" in out + err:
        report.fail(way, value, "a traceback")
    elif status not in STATUSES:
        report.fail(way, value, f"exit status {status}: {err[-200:]}")
    elif seconds > SLOWEST and value != CSV_RUN:
        report.fail(way, value, f"{seconds:.0f} s")
    elif status and not usage and (len(lines) != 1 or not err.endswith(lines[0] + "\n")):
        report.fail(way, value, f"not one line: {err[-300:]!r}")
    elif status and not usage and not lines[0].isprintable():
        report.fail(way, value, f"not printable: {lines[0]!r}")
    report.count(way, f"exit {status}")


def in_process(report: Report, way: str, arguments: list[str], value: object) -> None:
    """Run a command in this process."""
    start = time.perf_counter()
    result = CliRunner().invoke(recsys, arguments, prog_name="recsys")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        report.fail(way, value, f"raised {type(result.exception).__name__}: {result.exception}")
        report.count(way, "raised")
        return
    seconds = time.perf_counter() - start
    judge(report, way, value, result.exit_code, result.stdout, result.stderr, seconds)


def in_a_process(
    report: Report, world: World, arguments: list[str], value: object
) -> tuple[str, str]:
    """Run a command as a person does, and return what it says."""
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "recsys.cli", *arguments],
        cwd=world.cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        check=False,
        timeout=1800 if value == CSV_RUN else 300,
    )
    seconds = time.perf_counter() - start
    out, err = (stream.decode("utf-8", "replace") for stream in (ran.stdout, ran.stderr))
    judge(report, f"process: {arguments[0]}", value, ran.returncode, out, err, seconds)
    return out, err


def commands(world: World, rng: Random) -> Iterator[tuple[str, list[str], object]]:
    """Give commands with hostile values, without end: the way, the arguments, the value."""
    keys, here = known(), ["--set", f"root={world.root}"]
    while True:
        file = world.top / "work" / "hostile.yaml"
        content = hostile.yaml_file(rng, keys)
        file.write_bytes(content)
        yield "configuration file", ["runs", "--config", str(file), *here], content
        file.unlink()
        value = hostile.override(rng, keys)
        yield "--set", ["runs", *here, "--set", value], value
        value = hostile.argument(rng)
        cohort = f"cohort.name={json.dumps(value)}"
        yield "cohort name in the configuration", ["runs", *here, "--set", cohort], value
        value = hostile.argument(rng)
        unit = ["rollback", *here, f"--cohort={value}", "--run-date=2026-11-24"]
        yield "cohort name of a rollback", unit, value
        value = hostile.argument(rng)
        to = ["rollback", *here, "--cohort=all", "--run-date=2026-11-24", f"--to={value}"]
        yield "run id of a rollback", to, value
        value = hostile.argument(rng)
        liked = ["recommend", *here, "--liked=i1", f"--model={value}"]
        yield "model id", liked, value
        value = hostile.argument(rng)
        for model in sorted(path.name for path in (world.root / "models").glob("*")):
            yield "item id", ["recommend", *here, f"--model={model}", f"--liked={value}"], value
        value = hostile.argument(rng)
        yield "root", ["verify", "--set", f"root={json.dumps(value)}"], value


def run_ids(report: Report, rng: Random, n: int) -> list[str]:
    """Ask for runs with hostile ids, and return those that are refused."""
    refused = []
    for _ in range(n):
        value = hostile.argument(rng)
        try:
            new_run(value)
            report.count("run id", "accepted")
        except RecsysError as error:
            refused.append(value)
            report.count("run id", f"exit {error.exit_code}")
            if not str(error).isprintable():
                report.fail("run id", value, "not printable")
    return refused


def write_csv(path: Path, header: str, lines: list[str], rng: Random) -> int:
    """Write hostile lines, some with other bytes than UTF-8; return how many are not blank."""
    ends = (b"\n", b"\n", b"\r\n", b"\r")
    content = header.encode() + b"\n"
    for line in lines:
        # surrogates become bytes that are no UTF-8
        content += line.encode("utf-8", "surrogatepass") + rng.choice(ends)
    path.write_bytes(content)
    # A line of spaces and control characters alone is none, to Spark as to people.
    found = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[1:]
    return sum(any(byte > 0x20 for byte in line) for line in found)


def csv_run(report: Report, world: World, rng: Random, lines: int, ids: int) -> None:
    """Let one run of Spark read hostile lines and score hostile ids.

    Quotes are ordinary characters there: of those that do not close the job says so and stops.
    """
    plain = {"header": True, "quote": ""}
    good = [f"u{n % 40},i{n % 30 if n % 3 else n % 7},5,1600000000" for n in range(600)]
    odd = [hostile.csv_line(rng) for _ in range(lines)]
    expected = write_csv(world.top / "in.csv", "user,item,rating,timestamp", odd + good, rng)
    who = [hostile.text(rng)[:2000] for _ in range(ids)]
    asked = write_csv(world.top / "who.csv", "user_id", [*who, "u1", "u2"], rng)
    settings = {
        "root": str(world.root),
        "input": {
            "path": str(world.top / "in.csv"),
            "options": plain,
            "columns": {n: n for n in ("user", "item", "rating", "timestamp")},
        },
        "row_checks": {"max_rejected_share": 0.9},
        "cohort": {"users": {"path": str(world.top / "who.csv"), "options": plain}},
        "gates": dict.fromkeys(("min_full_lists", "min_coverage", "max_top_item"), None),
        "training": {
            **{"threads": 1, "epochs": 1, "no_components": 4, "early_stopping": None},
            "sample_weights": {"rating": "none", "user_exponent": 0.0},  # ratings may be negative
        },
        "spark": {
            "spark.master": "local[2]",
            "spark.driver.memory": "900m",
            "spark.sql.shuffle.partitions": 2,
            "spark.ui.enabled": False,
        },
    }
    world.config.write_text(yaml.safe_dump(settings))
    arguments = ["run", "--config", str(world.config), "--run-id", "r1", "--run-date", "2026-11-24"]
    _, told = in_a_process(report, world, arguments, CSV_RUN)
    try:
        record = json.loads((world.root / "runs/r1/manifest.json").read_text())
        counts = record["counts"]
    except (FileNotFoundError, KeyError) as error:
        report.fail("CSV line", repr(error), f"the run failed: {told[-500:]}")
        return
    if counts["rows_read"] != expected:
        report.fail("CSV line", f"{counts['rows_read']} of {expected}", "rows were lost")
    rejects = pq.read_table(record["outputs"]["rejects"]["uri"].removeprefix("file:"))
    reasons = collections.Counter(rejects.column("reason").to_pylist())
    if None in reasons or sum(reasons.values()) != counts["rows_read"] - counts["rows_accepted"]:
        report.fail("CSV line", dict(reasons), "rejects without a reason, or too few")
    for reason, n in reasons.items():
        report.count("CSV line", f"rejected: {reason}", n)
    report.count("CSV line", "accepted", counts["rows_accepted"] - len(good))
    status = pq.read_table(record["outputs"]["status"]["uri"].removeprefix("file:"))
    n_told = sum(status.column("times_requested").to_pylist())
    if n_told != asked or None in status.column("reason").to_pylist():
        report.fail("user id", f"{n_told} of {asked}", "ids without a status or a reason")
    for row in status.select(["status", "times_requested"]).to_pylist():
        report.count("user id", row["status"], row["times_requested"])


def fuzz(values: int, seed: int, processes: int, top: Path) -> Report:
    """Send the values on their ways, and return what came of them."""
    rng, report, world = Random(seed), Report(), World(top)
    before = world.outside()
    csv_run(report, world, rng, lines=values // 8, ids=values // 20)
    refused = run_ids(report, rng, values // 8)
    os.chdir(world.cwd)
    ways = commands(world, rng)
    for n in range(processes):
        way, arguments, value = next(ways)
        if n % 4 == 3 and refused:
            value = refused.pop()
            arguments = ["run", "--config", str(world.config), f"--run-id={value}"]
        in_a_process(report, world, arguments, (way, value))
    while report.values < values:
        way, arguments, value = next(ways)
        in_process(report, way, arguments, value)
    (world.top / "work" / "hostile.yaml").unlink(missing_ok=True)
    after = world.outside()
    for name in before.keys() ^ after.keys():
        report.fail("file system", name, "appeared or disappeared outside of the root")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--values", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--processes", type=int, default=150)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    target = options.json and options.json.resolve()
    top = Path(tempfile.mkdtemp(prefix="recsys-fuzz-"))
    try:
        report = fuzz(options.values, options.seed, options.processes, top)
    finally:
        os.chdir("/")
        shutil.rmtree(top, ignore_errors=True)
    for way, outcomes in report.outcomes.items():
        told = ", ".join(f"{name} {n:,}" for name, n in sorted(outcomes.items()))
        print(f"{way:34} {sum(outcomes.values()):7,}  {told}")
    print(
        f"{report.values:,} values, {len(report.failures)} failures, slowest {report.slowest:.1f} s"
    )
    for failure in report.failures[:20]:
        print(f"  {failure!a}")
    if target:
        target.write_text(
            json.dumps(
                {
                    "values": report.values,
                    "seed": options.seed,
                    "outcomes": report.outcomes,
                    "slowest_seconds": round(report.slowest, 2),
                    "failures": report.failures,
                },
                indent=2,
            )
        )
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
