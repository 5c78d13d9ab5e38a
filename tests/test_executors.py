"""Real executor processes, with an interpreter that has what executors need and nothing else."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys import read_recommendations
from tests.conftest import small_ratings
from tests.interpreters import interpreter, site
from tests.test_command_line import BIN, command


@pytest.fixture
def bare_interpreter(tmp_path: Path) -> Path:
    """Make an environment with NumPy, pandas and pyarrow, that notes where it was started."""
    made = interpreter(tmp_path / "executor")
    # Not sitecustomize.py: Debian's Python has one of its own, which comes first.
    (site(tmp_path / "executor") / "started.pth").write_text(
        f"import sys; open({str(tmp_path / 'started')!r}, 'a').write(sys.executable + '\\n')\n"
    )
    return made


def test_the_blas_of_a_worker_has_as_many_threads_as_its_task_has_cores(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(spark.sparkContext.environment, "WORKER", "a new one")  # not one in reuse

    def threads(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import ctypes
        import os

        import numpy as np

        folder = Path(np.__file__).parents[1] / "numpy.libs"
        blas = ctypes.CDLL(str(next(folder.glob("libscipy_openblas*"))))
        for _ in batches:
            told = int(os.environ["OPENBLAS_NUM_THREADS"])  # wins over what Spark tells OpenMP
            yield pd.DataFrame({"told": told, "used": [blas.scipy_openblas_get_num_threads64_()]})

    found = spark.range(2).coalesce(1).mapInPandas(threads, "told int, used int").collect()
    assert [tuple(row) for row in found] == [(1, 1)]


def test_executors_score_with_an_interpreter_that_has_no_lightfm(
    tmp_path: Path, ratings_csv: Callable[..., str], bare_interpreter: Path
) -> None:
    for absent in ("lightfm", "scipy", "pyspark", "recsys", "pydantic"):
        found = subprocess.run(
            [bare_interpreter, "-c", f"import {absent}"], capture_output=True, cwd=tmp_path
        )
        assert found.returncode != 0, absent
    (tmp_path / "started").unlink()
    config = tmp_path / "c.yaml"
    config.write_text(
        f"root: {tmp_path / 'out'}\n"
        f"input: {{path: {ratings_csv(small_ratings())}, options: {{header: true}}, "
        "columns: {user: user, item: item, rating: rating, timestamp: timestamp}}\n"
        "training: {threads: 1, epochs: 2, no_components: 4, early_stopping: null}\n"
        "scoring: {users_per_file: 10}\n"
        "spark:\n"
        "  spark.master: local-cluster[2,1,1024]\n"
        "  spark.driver.memory: 1g\n"
        "  spark.sql.shuffle.partitions: 2\n"
        "  spark.ui.enabled: false\n"
        f"  spark.pyspark.python: {bare_interpreter}\n"
        f"  spark.local.dir: {tmp_path / 'local'}\n"
    )
    ran = command(BIN / "recsys", "run", "--config", config, "--run-id", "r1", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    starts = (tmp_path / "started").read_text().splitlines()
    assert set(starts) == {str(bare_interpreter)}
    assert read_recommendations(str(tmp_path / "out")).recommendations.num_rows == 30 * 10

    # Scoring with the same model in one local process gives the same lists and scores.
    (model,) = (tmp_path / "out" / "models").iterdir()
    ran = command(
        BIN / "recsys",
        "score",
        "--config",
        config,
        "--model",
        model.name,
        "--run-id",
        "r2",
        "--set",
        "spark.spark.master=local[2]",
        "--set",
        f"spark.spark.pyspark.python={sys.executable}",
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    columns = ["user_id", "rank", "item_id", "score"]
    one, other = (
        read_recommendations(str(tmp_path / "out"), run_id=name)
        .recommendations.to_pandas()
        .sort_values(["user_id", "rank"])[columns]
        .reset_index(drop=True)
        for name in ("r1", "r2")
    )
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.long
def test_what_the_driver_made_reaches_executors_in_pieces_however_large_it_is(
    tmp_path: Path, ratings_csv: Callable[..., str]
) -> None:
    # 12,000 embeddings of 64 floats are 3 MB, and a task may have 1.
    rows = [[f"u{user:05}", f"i{user % 50:02}", 5, 100] for user in range(12_000)]
    config = tmp_path / "c.yaml"
    config.write_text(
        f"root: {tmp_path / 'out'}\n"
        f"input: {{path: {ratings_csv(rows)}, options: {{header: true}}, "
        "columns: {user: user, item: item, rating: rating, timestamp: timestamp}}\n"
        "training: {threads: 1, epochs: 1, no_components: 64, early_stopping: null}\n"
        "spark:\n"
        "  spark.master: local-cluster[1,2,1024]\n"
        "  spark.rpc.message.maxSize: 1\n"
        "  spark.driver.memory: 1g\n"
        "  spark.sql.shuffle.partitions: 2\n"
        "  spark.ui.enabled: false\n"
        f"  spark.local.dir: {tmp_path / 'local'}\n"
    )
    ran = command(BIN / "recsys", "train", "--config", config, "--run-id", "r1", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "12,000 rows" in ran.stdout
