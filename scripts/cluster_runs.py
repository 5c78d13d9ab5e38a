"""Real runs on clusters of real processes on this machine, and the lists that they publish."""

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import yaml

ROOT = Path(__file__).parents[1]
PATIENCE = 3600  # seconds for a run, on a machine that has much else to do
DAY = "2026-11-24"
# What a list and a status say, but for the run's own name and time.
SAID = {
    "recommendations": ["user_id", "rank", "item_id", "score", "probability", "source"],
    "status": ["requested", "user_id", "status", "n_items", "reason"],
}
# Small: a machine may have much else to do.
SIZES = {
    "spark.executor.memory": "600m",
    "spark.executor.memoryOverhead": "500m",
    "spark.executor.instances": "2",
    "spark.executor.cores": "1",
    "spark.driver.memory": "700m",
    "spark.driver.memoryOverhead": "700m",
    "spark.yarn.am.memory": "512m",
    "spark.sql.shuffle.partitions": "4",
    "spark.ui.enabled": "false",
}
LOOPBACK = {
    "spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1",
    "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": "127.0.0.1",
}


class UnavailableError(Exception):
    """A cluster or a store cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Ran:
    """What became of a run.

    Attributes:
        status: its exit status.
        output: standard output and standard error.
    """

    status: int
    output: str


@dataclass
class Cluster:
    """Processes that `scripts/cluster.sh` started.

    Attributes:
        folder: where they work; below `logs` is what each says, below `pids` its number.
        environment: the variables that a user of it needs, such as SPARK_MASTER or HDFS.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def pid(self, name: str) -> int:
        """Return the number of one of its processes, such as `datanode1`."""
        return int((self.folder / "pids" / name).read_text())

    def hadoop(self, *command: str) -> str:
        """Do a command of Hadoop's file system shell, such as `-ls`, and return what it prints.

        Raises:
            RuntimeError: it failed.
        """
        classpath = f"{self.environment['HADOOP_CONF_DIR']}:{self.environment['SPARK_JARS']}/*"
        shell = ["java", "-Xmx128m", "-cp", classpath, "org.apache.hadoop.fs.FsShell"]
        ran = subprocess.run(
            [*shell, *command],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        if ran.returncode:
            raise RuntimeError(f"hadoop fs {' '.join(command)}: {ran.stderr[-500:]}")
        return ran.stdout


@contextmanager
def cluster(kind: str, folder: Path, *, hidden: bool = False) -> Iterator[Cluster]:
    """Start a cluster, and end it afterwards.

    Args:
        kind: standalone, hdfs or yarn.
        folder: which is made.
        hidden: keep this project, this Python and its packages from the workers. That needs root.

    Raises:
        UnavailableError: it cannot be had here.
        RuntimeError: it does not start.
    """
    script = str(ROOT / "scripts" / "cluster.sh")
    environment = clean_environment()
    if hidden:
        environment["RECSYS_HIDE"] = ":".join(sorted(out_of_sight()))
    pids = folder / "pids"
    if pids.exists():  # of somebody else: it is not ended here
        raise RuntimeError(f"{folder} has a cluster; stop it first")
    try:
        started = subprocess.run(
            ["bash", script, "start", kind, str(folder)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if started.returncode == 3:
            raise UnavailableError(started.stderr.strip())
        if started.returncode:
            raise RuntimeError(f"cluster.sh start {kind}: {started.stderr[-2000:]}")
        pairs = re.findall(r"(\w+)=(\S+)", (folder / "environment").read_text())
        yield Cluster(folder, dict(pairs))
    finally:
        if pids.exists():  # also of a start that was stopped halfway
            subprocess.run(["bash", script, "stop", str(folder)], check=False)  # noqa: S607


def out_of_sight() -> set[str]:
    """Return the directories without which neither this project nor its Python can be used."""
    places = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix, ROOT)}
    places -= {Path("/usr")}  # a system's Python is below what everything needs
    # What is hidden has nothing below it that could be hidden, such as this project's .venv.
    return {str(place) for place in places if places.isdisjoint(place.parents)}


def clean_environment() -> dict[str, str]:
    """Return this process's variables without those that lead Spark or Python elsewhere.

    This Python is found first, as in an environment that is activated.
    """
    unwanted = ("PYTHON", "PYSPARK", "SPARK", "HADOOP", "RECSYS", "COVERAGE", "PYTEST")
    kept = {name: what for name, what in os.environ.items() if not name.startswith(unwanted)}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RECSYS_HADOOP": os.environ.get("RECSYS_HADOOP", ""),
    }


def write_ratings(path: Path, rows: int = 4_000, users: int = 150, items: int = 80) -> Path:
    """Write ratings with repeats; users of even number like even items."""
    chance = random.Random(7)  # noqa: S311
    with path.open("w", encoding="utf-8") as stream:
        stream.write("user,item,rating,timestamp\n")
        for _ in range(rows):
            user, item = chance.randrange(users), chance.randrange(items)
            rating = chance.choice([4, 5] if (user + item) % 2 == 0 else [1, 2, 3])
            stream.write(f"u{user:05},i{item:03},{rating},{1_000_000 + chance.randrange(50)}\n")
    return path


def write_configuration(path: Path, root: str, ratings: str, **sections: object) -> Path:
    """Write a configuration whose training repeats to the bit: one thread."""
    columns = {"user": "user", "item": "item", "rating": "rating", "timestamp": "timestamp"}
    configuration = {
        "root": root,
        "input": {"path": ratings, "options": {"header": True}, "columns": columns},
        "training": {"threads": 1, "epochs": 2, "no_components": 8, "early_stopping": None},
        "scoring": {"k": 10, "users_per_file": 40},
        "gates": {"min_full_lists": None},
        "publishing": {"keep_versions": 100},
        **sections,
    }
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    return path


def package(kind: str, archive: Path) -> Path:
    """Make the archive of a Python for executors or drivers, unless it is there."""
    if not archive.exists():
        script = str(ROOT / "scripts" / "package.sh")
        environment = {**os.environ, "PYTHON": sys.executable}
        made = subprocess.run(
            ["bash", script, kind, str(archive)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if made.returncode:
            raise RuntimeError(made.stderr[-2000:])
    return archive


def submit_command(
    options: list[str], settings: Mapping[str, str], job: str, arguments: list[str]
) -> list[str]:
    """Return a call of `spark-submit`.

    Args:
        options: its own, such as `--master yarn`.
        settings: Spark's keys and values.
        job: the name of a script in `jobs/`.
        arguments: the job's.
    """
    confs = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    submit = str(Path(sys.executable).parent / "spark-submit")
    return [submit, *options, *confs, str(ROOT / "jobs" / f"{job}.py"), *arguments]


def start(command: list[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[str]":
    """Start a run in the background, with what it says in a file."""
    everything = {**clean_environment(), "PYTHONPATH": str(ROOT), **environment}
    with log.open("w") as stream:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
            env=everything,
            cwd=log.parent,
        )


def finish(process: "subprocess.Popen[str]", log: Path) -> Ran:
    """Wait for a run and say what became of it."""
    try:
        status = process.wait(PATIENCE)
    finally:
        process.kill()
    return Ran(status, log.read_text(errors="replace"))


def ran(command: list[str], environment: Mapping[str, str], log: Path) -> Ran:
    """Run a command to its end."""
    return finish(start(command, environment, log), log)


def fetch(cluster: Cluster, root: str, folder: Path) -> Path:
    """Copy a root from HDFS to a local folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    cluster.hadoop("-get", root, str(folder))
    return folder


def said(root: Path | str, run_id: str | None = None) -> dict[str, str]:
    """Return a checksum of the rows of lists and statuses that readers of a local root see."""
    from recsys import read_recommendations

    found = read_recommendations(str(root), run_id=run_id)
    tables = {"recommendations": found.recommendations, "status": found.status}
    return {name: checksum(table.select(SAID[name])) for name, table in tables.items()}


def checksum(table: pa.Table) -> str:
    """Return the SHA-256 of a table's rows in order, floats to the bit."""
    keys = [name for name in ("user_id", "rank", "requested") if name in table.column_names]
    rows = table.sort_by([(name, "ascending") for name in keys]).combine_chunks()
    digest = hashlib.sha256(str(rows.schema.remove_metadata()).encode())
    for row in rows.to_pylist():
        digest.update(repr([v.hex() if isinstance(v, float) else v for v in row.values()]).encode())
    return digest.hexdigest()[:16]
