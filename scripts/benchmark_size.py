"""How long each step takes, and how much memory, as the ratings become more; beside the notebook.

For each number of rows, ratings in MovieLens's shape are made (`scripts/make_ratings.py`) and taken
from CSV to the matrix in two ways, each in a process of its own: by this job's steps `prepare` and
`collect`, and as notebooks do it, by `pandas.read_csv`, `Dataset.fit` and
`Dataset.build_interactions` of LightFM. With several rounds the two take turns, and the medians are
shown. `--epochs` also trains that many epochs with the default settings, alone, to say how long
more of them take. `--whole` runs the whole job instead, lists and publication included.

Seconds of the processor are of all threads together: on a shared machine those are the ones to
trust. The job's are spread over the cores, the notebook's are of one thread.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import make_ratings
from benchmark_processes import Watch, below, cpu_seconds, name_of

ROOT = Path(__file__).resolve().parents[1]
_MATRIX = ("prepare", "collect")


# In processes of their own


def measure_notebook(path: str) -> dict[str, Any]:
    """Take ratings to the matrix as the notebook does."""
    import pandas as pd
    from lightfm.data import Dataset

    steps: dict[str, float] = {}
    types: Any = {"userId": "int32", "movieId": "int32", "rating": "float32"}
    with _step(steps, "read_csv"):
        data = pd.read_csv(path, header=0, dtype=types)
    with _step(steps, "Dataset.fit"):
        dataset = Dataset()
        dataset.fit(users=data["userId"], items=data["movieId"])
    with _step(steps, "build_interactions"):
        matrix, _ = dataset.build_interactions(data.iloc[:, 0:3].values)
    cpu = time.process_time()
    return {"steps": steps, "cpu": cpu, "shape": matrix.shape, "pairs": matrix.nnz}


def measure_job(path: str, root: str, memory: str, cores: str, epochs: str) -> dict[str, Any]:
    """Take ratings to the matrix as the job does, and train for some epochs."""
    from recsys.config.configuration import Config
    from recsys.ingest.preparation import prepare
    from recsys.learn.matrices import collect
    from recsys.learn.sample_weights import Labelled
    from recsys.learn.training import train
    from recsys.runtime import session
    from recsys.runtime.run import new_run
    from recsys.store.tables import Scratch, Store

    config = Config.model_validate(_configuration(path, root, memory, cores))
    settings = config.training.model_copy(update={"epochs": int(epochs)})
    spark = session.start(config.spark)
    store, run = Store(spark, root), new_run("size")
    with store.staging(run.run_id) as staging:
        with run.step("prepare"):
            prepared = prepare(spark, store, config, run, staging)
        with run.step("collect"):
            share = config.memory.max_share
            scratch = Scratch(store, f"{staging}/scratch")
            found = collect(spark, scratch, prepared.pairs, settings, run.run_date, max_share=share)
    cpu = time.process_time() + _jvm_cpu()
    spark.stop()
    result = {"shape": found.labels.shape, "pairs": prepared.manifest.counts.pairs, "cpu": cpu}
    if settings.epochs:
        labelled = Labelled(found.labels, found.ratings, found.ages)
        weights = labelled.weights(settings.sample_weights)
        with run.step(f"{epochs} epochs"):
            train(found.labels, settings, threads=int(cores), weights=weights)
    return {**result, "steps": run.timings}


def measure_whole(path: str, root: str, memory: str, cores: str, epochs: str) -> dict[str, Any]:
    """Run the whole job."""
    from recsys.config.configuration import Config
    from recsys.flows import commands
    from recsys.flows.execution import run_recorded
    from recsys.runtime import session
    from recsys.runtime.run import new_run

    given = _configuration(path, root, memory, cores)
    if int(epochs):
        given["training"] = {"epochs": int(epochs)}
    config = Config.model_validate(given)
    spark = session.start(config.spark)
    run = new_run("size")
    done = run_recorded(commands.run_command(), spark, config, run)
    cpu = time.process_time() + _jvm_cpu()
    spark.stop()
    counts = done.counts
    assert counts is not None  # noqa: S101 - a whole run has them
    shape = counts.users_in_training, counts.items_in_training
    return {"steps": run.timings, "shape": shape, "pairs": counts.pairs, "cpu": cpu}


def _configuration(path: str, root: str, memory: str, cores: str) -> dict[str, Any]:
    columns = {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"}
    return {
        "root": root,
        "input": {
            "path": path,
            "options": {"header": True},
            "columns": columns,
            "id_types": {"user": "int", "item": "int"},
        },
        "row_checks": {"rating_min": 0.5, "rating_max": 5.0},
        "spark": {
            "spark.master": f"local[{cores}]",
            "spark.driver.memory": memory,
            "spark.ui.enabled": False,
            "spark.local.dir": f"{root}/local",
        },
    }


@contextmanager
def _step(steps: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    steps[name] = time.perf_counter() - start


def _jvm_cpu() -> float:
    """Return the processor's seconds of this process's JVM."""
    return sum(cpu_seconds(pid) for pid in below(os.getpid()) if name_of(pid) == "java")


# The command


def child(what: str, *given: str) -> dict[str, Any]:
    """Measure in a process of its own, and return what it found, with its memory."""
    arguments = [sys.executable, __file__, what, *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
        watch = Watch(process.pid)
        with watch.watching():
            out, _ = process.communicate()
    if process.returncode:
        raise click.ClickException(f"{what} ended with {process.returncode}")
    return {**json.loads(out.splitlines()[-1]), "peaks": watch.peaks}


def measured(path: Path, what: str, memory: str, cores: int, epochs: int) -> dict[str, Any]:
    """Measure one way once."""
    if what == "notebook":
        return child(what, str(path))
    root = tempfile.mkdtemp(prefix="size-", dir=path.parent)
    try:
        return child(what, str(path), root, memory, str(cores), str(epochs))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def to_matrix(steps: dict[str, float], what: str) -> float:
    """Return the seconds from CSV to the matrix."""
    names = steps if what == "notebook" else _MATRIX
    return sum(steps[name] for name in names)


def report(rows: int, what: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Print the steps of one way, and return its medians."""
    last = found[-1]
    click.echo(f"\n{what}, {rows:,} rows: {last['shape'][0]:,} users x {last['shape'][1]:,} items")
    for name in last["steps"]:
        seconds = statistics.median(one["steps"][name] for one in found)
        click.echo(f"  {name:24}{seconds:10.1f} s{rows / seconds:14,.0f} rows/s")
    peaks = {name: max(one["peaks"][name] for one in found) for name in last["peaks"]}
    matrix = statistics.median(to_matrix(one["steps"], what) for one in found)
    cpu = statistics.median(one["cpu"] for one in found)
    told = ", ".join(f"{name} {size / 2**30:.1f} GiB" for name, size in peaks.items() if size)
    click.echo(f"  {'to the matrix':24}{matrix:10.1f} s{rows / matrix:14,.0f} rows/s   {told}")
    return {
        "rows": rows,
        "way": what,
        "matrix": matrix,
        "cpu": cpu,
        "peaks": peaks,
        "pairs": last["pairs"],
        "rounds": [one["steps"] for one in found],
    }


def table(records: list[dict[str, Any]]) -> None:
    """Print how the two ways grow."""
    job = {one["rows"]: one for one in records if one["way"] != "notebook"}
    notebook = {one["rows"]: one for one in records if one["way"] == "notebook"}
    click.echo(
        f"\n{'rows':>12}{'job s':>9}{'us/row':>8}{'cpu s':>8}{'notebook s':>12}{'cpu s':>8}"
        f"{'ratio':>7}{'JVM GiB':>9}{'Python GiB':>12}{'notebook GiB':>14}"
    )
    for rows, mine in job.items():
        theirs = notebook.get(rows)
        gib = {name: size / 2**30 for name, size in mine["peaks"].items()}
        line = f"{rows:>12,}{mine['matrix']:>9.1f}{mine['matrix'] / rows * 1e6:>8.2f}"
        line += f"{mine['cpu']:>8.1f}"
        if theirs is None:
            line += f"{'':>27}"
        else:
            line += f"{theirs['matrix']:>12.1f}{theirs['cpu']:>8.1f}"
            line += f"{mine['matrix'] / theirs['matrix']:>7.2f}"
        line += f"{gib['JVM']:>9.1f}{gib['Python']:>12.1f}"
        if theirs is not None:
            line += f"{theirs['peaks']['Python'] / 2**30:>14.1f}"
        click.echo(line)


def _numbers(_: object, __: object, text: str) -> list[int]:
    return [make_ratings.whole(None, None, one) for one in text.split(",")]


@click.command("size", help=__doc__)
@click.option(
    "--rows", default=str(make_ratings.FULL_ROWS), callback=_numbers, show_default=True,
    help="Numbers such as 4e6, with commas between them.",
)  # fmt: skip
@click.option("--folder", type=click.Path(path_type=Path), help="Where the ratings are kept.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--notebook/--no-notebook", default=True, show_default=True)
@click.option("--whole", is_flag=True, help="Run the whole job.")
@click.option("--epochs", default=0, show_default=True, help="With --whole, 0: as the defaults.")
@click.option("--cores", default=os.cpu_count(), show_default="all")
@click.option("--driver-memory", default="6g", show_default=True, help="Of the JVM.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this.")
def size_command(
    rows: list[int],
    folder: Path | None,
    rounds: int,
    notebook: bool,
    whole: bool,
    epochs: int,
    cores: int,
    driver_memory: str,
    json_path: Path | None,
) -> None:
    ways = ["whole" if whole else "job", *(["notebook"] if notebook else [])]
    records = []
    with tempfile.TemporaryDirectory(prefix="recsys-size-") as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for n in rows:
            path = place / f"ratings-{n}.csv"
            if not path.exists():
                make_ratings.write(path, make_ratings.Shape(n, *make_ratings.scaled(n)), cores)
            found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for turn in range(rounds):
                for way in sorted(ways, reverse=bool(turn % 2)):
                    found[way].append(measured(path, way, driver_memory, cores, epochs))
            records += [report(n, way, found[way]) for way in ways]
            if json_path:
                json_path.write_text(json.dumps(records, indent=1) + "\n")
    table(records)


if __name__ == "__main__":  # one measurement
    ways: dict[str, Any] = {
        "notebook": measure_notebook,
        "job": measure_job,
        "whole": measure_whole,
    }
    print(json.dumps(ways[sys.argv[1]](*sys.argv[2:])))
