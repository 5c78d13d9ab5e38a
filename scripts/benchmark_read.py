"""Reading and judging ratings, against another revision of this project, in turn.

Clean rows of CSV, as many as MovieLens 32M has, are read, judged and written down as a run does it.
Each measurement is a process of its own; the two revisions take turns, so that both have the same
machine. The ratio is that of the medians.
"""

import datetime as dt
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

ROOT = Path(__file__).resolve().parents[1]
_CHUNK = 4_000_000


def write_ratings(path: Path, n: int) -> None:
    """Write ratings of the shape of MovieLens: ids, stars and seconds."""
    chance = np.random.default_rng(1)
    with path.open("wb") as stream:
        for start in range(0, n, _CHUNK):
            size = min(_CHUNK, n - start)
            table = pa.table(
                {
                    "userId": chance.integers(1, 200_948, size),
                    "movieId": chance.integers(1, 290_000, size),
                    "rating": chance.integers(1, 11, size) / 2,
                    "timestamp": chance.integers(800_000_000, 1_700_000_000, size),
                }
            )
            pacsv.write_csv(table, stream, pacsv.WriteOptions(include_header=start == 0))


def measure(path: str, root: str) -> float:
    """Read and judge once with the revision that is imported, and return the seconds."""
    from recsys.config.configuration import Config
    from recsys.runtime import session
    from recsys.runtime.run import new_run
    from recsys.store.tables import Store

    columns = {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"}
    given = {"path": path, "options": {"header": True}, "columns": columns}
    given["id_types"] = {"user": "int", "item": "int"}
    config = Config.model_validate({"root": root, "input": given})
    spark = session.start(
        {"spark.master": "local[2]", "spark.driver.memory": "4g", "spark.ui.enabled": False}
    )
    spark.range(1000).selectExpr("sum(id)").collect()  # the session's own beginning
    store, run = Store(spark, root), new_run("b", dt.date(2026, 11, 24))
    start = time.perf_counter()
    try:
        from recsys.ingest.judged_rows import judge_rows

        judged = judge_rows(spark, store, config, run, store.uri("rows"))
    except ImportError:  # before the rows had a module of their own
        from recsys.ingest import preparation

        before = preparation._judge_rows  # type: ignore[attr-defined]
        judged = before(spark, store, config, store.uri("rows"))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "read": judged.n_read}))
    spark.stop()
    return seconds


@click.command("read", help=__doc__)
@click.option("--rows", default=32_000_000, show_default=True)
@click.option("--against", default="HEAD~1", show_default=True, help="The other revision.")
@click.option("--repeats", default=3, show_default=True)
def read_command(rows: int, against: str, repeats: int) -> None:
    with tempfile.TemporaryDirectory(prefix="recsys-read-") as name:
        top = Path(name)
        path, other = top / "ratings.csv", top / "other"
        write_ratings(path, rows)
        git = ["git", "-C", str(ROOT)]
        subprocess.run([*git, "worktree", "add", "--detach", str(other), against], check=True)
        try:
            found = _take_turns(top, path, {"before": other, "now": ROOT}, repeats)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(other)], check=True)
    medians = {which: statistics.median(seconds) for which, seconds in found.items()}
    for which, seconds in found.items():
        print(f"{which:7} {', '.join(f'{one:.1f}' for one in seconds)} s")
    print(f"now / before: {medians['now'] / medians['before']:.2f}")


def _take_turns(
    top: Path, path: Path, trees: dict[str, Path], repeats: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {which: [] for which in trees}
    for turn in range(repeats):
        for which in sorted(trees, reverse=bool(turn % 2)):
            shutil.rmtree(top / "root", ignore_errors=True)
            done = subprocess.run(
                [sys.executable, __file__, str(path), str(top / "root")],
                cwd=top,
                env={**os.environ, "PYTHONPATH": str(trees[which])},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            result = json.loads(done.stdout.splitlines()[-1])
            found[which].append(result["seconds"])
            print(f"{which:7} {result['seconds']:6.1f} s, {result['read']:,} rows", flush=True)
    return found


if __name__ == "__main__":  # one measurement
    measure(*sys.argv[1:])
