"""Every published table is read as a folder by pyarrow, pandas, DuckDB and Spark, as it is."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from pyspark.sql import SparkSession

from tests.conftest import RUN_DATE, csv_input, run_in, small_ratings, write_csv

# The name of a table's folder below the root, and its rows; {0} is the run's directory there.
TABLES = {
    "recommendations": "publications/all/2026-11-24/r1/recommendations",
    "status": "publications/all/2026-11-24/r1/status",
    "items of a model": "models/*/items",
    "users of a model": "models/*/users",
    "fold-in map of a model": "models/*/fold_in",
    "interactions": "interactions/r1-*/pairs",
    "rejects": "rejects/r1-*",
    "no rejects": "rejects/e1-*",
    "metrics of an evaluation": "evaluations/e1/metrics",
    "users of an evaluation": "evaluations/e1/users",
    "neighbours of one run": "similar_items/2026-11-24/s1",
    "neighbours of one day": "similar_items/2026-11-24",
    "neighbours of all runs": "similar_items",
    "neighbours of users": "similar_users",
}


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a root in which every command has published its tables."""
    folder = tmp_path_factory.mktemp("folders")
    root, good = folder / "out", small_ratings()
    rows = [*good, ["u001", "", 3, 1], ["", "i001", 3, 1]]
    source = csv_input(write_csv(folder / "ratings.csv", rows))
    clean = csv_input(write_csv(folder / "good.csv", good))
    model = run_in(spark, root, "run", run_id="r1", input=source)["model_id"]
    run_in(spark, root, "evaluate", run_id="e1", input=clean, evaluation={"bootstrap": 5})
    small: dict[str, Any] = {"model_id": model, "similar": {"k": 2}}
    parts = {"scoring": {"users_per_file": 15}}
    run_in(spark, root, "similar-items", run_id="s1", **small)
    run_in(spark, root, "similar-items", run_id="2026-11-24 again", **small, **parts)
    run_in(spark, root, "similar-items", run_id="s3", run_date=dt.date(2026, 11, 25), **small)
    run_in(spark, root, "similar-users", run_id="s4", **small)
    return root


def folder_of(root: Path, pattern: str) -> Path:
    (folder,) = root.glob(pattern)
    return folder


def readers(spark: SparkSession) -> dict[str, Callable[[Path], pd.DataFrame]]:
    def by_spark(folder: Path) -> pd.DataFrame:
        nested = any(path.is_dir() for path in folder.iterdir())
        frame = spark.read.option("recursiveFileLookup", str(nested).lower()).parquet(str(folder))
        return frame.toArrow().to_pandas()

    def by_duckdb(folder: Path) -> pd.DataFrame:
        return duckdb.read_parquet(f"{folder}/**/*.parquet").to_arrow_table().to_pandas()

    return {
        "pandas": pd.read_parquet,
        "pyarrow": lambda folder: ds.dataset(folder).to_table().to_pandas(),
        "duckdb": by_duckdb,
        "spark": by_spark,
    }


def plain(frame: pd.DataFrame) -> list[list[str]]:
    """Return the rows in a fixed order; readers differ in which class a list or a time has."""

    def shown(value: Any) -> str:
        if hasattr(value, "tolist"):
            value = value.tolist()
        return value.isoformat()[:26] if isinstance(value, dt.datetime) else repr(value)

    return sorted([shown(value) for value in row] for row in frame.to_numpy(dtype=object))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_read_as_a_folder_and_is_the_same_to_every_reader(
    root: Path, spark: SparkSession, table: str
) -> None:
    folder = folder_of(root, TABLES[table])
    found = {name: read(folder) for name, read in readers(spark).items()}
    expected = found.pop("pyarrow")
    assert len(expected) == {"no rejects": 0, "rejects": 2}.get(table, len(expected))
    assert expected.empty == (table == "no rejects")
    for name, frame in found.items():
        assert list(frame.columns) == list(expected.columns), name
        assert plain(frame) == plain(expected), name


def test_neighbours_of_all_runs_tell_runs_and_days_apart_in_their_rows(root: Path) -> None:
    rows = ds.dataset(root / "similar_items").to_table()
    assert rows.schema.field("run_date").type == pa.date32()
    assert rows.schema.field("run_id").type == pa.string()
    counted = rows.group_by(["run_date", "run_id"]).aggregate([("item_id", "count_distinct")])
    runs = {
        (day, run_id.split("-")[0]): n
        for day, run_id, n in zip(*counted.to_pydict().values(), strict=True)
    }
    assert runs == {(RUN_DATE, "s1"): 40, (RUN_DATE, "r"): 40, (dt.date(2026, 11, 25), "s3"): 40}


def test_no_directory_of_a_root_is_taken_for_a_partition(root: Path) -> None:
    assert [path for path in root.rglob("*") if "=" in path.name] == []
