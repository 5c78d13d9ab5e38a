"""The commands as a scheduler or a person runs them: processes and exit status."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, small_ratings

BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "SPARK_LOCAL_IP": "127.0.0.1"}
Csv = Callable[..., str]


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in arguments],
        cwd=cwd,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=240,
    )


def write_config(path: Path, ratings: str) -> Path:
    """Write a configuration for small data, with a root beside it."""
    columns = {name: name for name in ("user", "item", "rating", "timestamp")}
    path.write_text(
        yaml.safe_dump(
            {
                "root": str(path.parent / "out"),
                "input": {"path": ratings, "options": {"header": True}, "columns": columns},
                "training": {
                    "threads": 1,
                    "epochs": 2,
                    "no_components": 4,
                    "early_stopping": None,
                },
                "spark": {
                    "spark.master": "local[2]",
                    "spark.driver.memory": "700m",
                    "spark.sql.shuffle.partitions": 3,
                    "spark.ui.enabled": False,
                },
            }
        )
    )
    return path


@pytest.fixture
def config(tmp_path: Path, ratings_csv: Csv) -> Path:
    return write_config(tmp_path / "c.yaml", ratings_csv(small_ratings()))


def complaint(ran: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a user is shown; there must be no traceback and no second one."""
    assert "Traceback" not in ran.stderr + ran.stdout
    assert "\tat " not in ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("recsys: error: ")]
    assert len(lines) == 1, ran.stderr
    assert ran.stderr.rstrip().endswith(lines[0])
    return lines[0]


def test_a_configuration_error_exits_with_2_before_spark_starts(config: Path) -> None:
    ran = command(BIN / "recsys", "run", "--config", config, "--set", "a.b=1", cwd=config.parent)
    assert ran.returncode == 2
    assert complaint(ran) == "recsys: error: a: unknown key; did you mean spark?"
    assert "spark" not in ran.stderr.replace(complaint(ran), "").lower()
    assert command(BIN / "recsys", "run", "--nonsense", cwd=config.parent).returncode == 2
    assert not (config.parent / "out").exists()


def test_run_without_spark_submit_then_bad_inputs_with_their_exit_status(config: Path) -> None:
    here = config.parent
    ran = command(BIN / "recsys", "run", "--config", config, "--run-id", "r1", cwd=here)
    assert ran.returncode == 0, ran.stderr
    places = dict(re.findall(r"^(\w+) +file:(\S+)", ran.stdout, re.MULTILINE))
    assert "<script" not in Path(places.pop("report")).read_text()
    assert set(places) == {"interactions", "rejects", "model", "status", "recommendations"}
    assert all(any(Path(place).rglob("*.parquet")) for place in places.values())
    before = set((here / "out").rglob("*.parquet"))

    missing = ["--set", "input.path=nowhere.csv"]
    ran = command(BIN / "recsys", "run", "--config", config, *missing, cwd=here)
    assert ran.returncode == 3
    assert "cannot read nowhere.csv as csv" in complaint(ran)
    assert set((here / "out").rglob("*.parquet")) == before

    ran = command(
        BIN / "recsys", "score", "--config", config, "--model", "r9-none", "--debug", cwd=here
    )
    assert ran.returncode == 7
    told = (
        r"--model: there is no model r9-none in file:\S+/models; there are \(newest first\): r1-\w+"
    )
    assert re.search(told, ran.stderr)
    assert "Traceback" in ran.stderr  # as --debug asks


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        (["row_checks.rating_max=1"], 4, "rating_out_of_range"),
        (
            ["memory.max_share=0.000001", "training.sample_users=refuse"],
            5,
            "interactions of 30 users and 40 items",
        ),
        (["training.learning_rate=1e30", "training.loss=bpr"], 6, "the bpr model diverged"),
        (["root=nowhere://x/y"], 8, "root nowhere://x/y cannot be reached"),
    ],
)
def test_each_kind_of_failure_has_its_exit_status(
    config: Path, settings: list[str], status: int, message: str
) -> None:
    overrides = [part for setting in settings for part in ("--set", setting)]
    ran = command(BIN / "recsys", "run", "--config", config, *overrides, cwd=config.parent)
    assert ran.returncode == status, ran.stderr
    assert message in complaint(ran)
    assert not list(config.parent.glob("out/publications/**/*.parquet"))
    assert not (config.parent / "out/_staging").exists()


def test_an_evaluation_exits_with_0_and_its_table_or_with_the_status_of_its_failure(
    config: Path,
) -> None:
    here, start = config.parent, (BIN / "recsys", "evaluate", "--config", config)
    ran = command(*start, "--run-id", "e1", "--set", "evaluation.bootstrap=50", cwd=here)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^30 users +k +model +popular +differ\. +95 %$", ran.stdout, re.MULTILINE)
    assert re.search(r"^ndcg +10 +0\.\d{4} +0\.\d{4} +[+-]0\.\d{4}", ran.stdout, re.MULTILINE)
    assert any((here / "out/evaluations/e1/metrics").glob("*.parquet"))
    ran = command(*start, "--set", "evaluation.split.kind=time", cwd=here)
    assert ran.returncode == 2
    assert "evaluation.split.test_since is not set" in complaint(ran)


def test_spark_submits_settings_win_over_the_configurations(config: Path) -> None:
    ran = command(
        BIN / "spark-submit",
        "--master",
        "local[1]",
        "--driver-memory",
        "600m",
        "--conf",
        "spark.sql.shuffle.partitions=5",
        ROOT / "jobs" / "run.py",
        "--config",
        config,
        "--run-id",
        "r1",
        "--set",
        "spark.spark.sql.files.maxPartitionBytes=1m",
        cwd=config.parent,
    )
    assert ran.returncode == 0, ran.stderr
    spark = json.loads((config.parent / "out/runs/r1/manifest.json").read_text())["spark"]
    assert spark["master"] == "local[1]"
    assert spark["driver_heap_bytes"] < 640 * 2**20
    assert spark["settings"]["spark.sql.shuffle.partitions"] == "5"
    assert spark["settings"]["spark.driver.memory"] == "600m"
    # What spark-submit does not set, the configuration does.
    assert spark["settings"]["spark.sql.files.maxPartitionBytes"] == "1m"
    assert spark["settings"]["spark.ui.enabled"] == "false"


def test_spark_submit_passes_the_exit_status_on(config: Path) -> None:
    ran = command(
        BIN / "spark-submit",
        ROOT / "jobs" / "train.py",
        "--config",
        config,
        "--set",
        "input.columns.user=usr",
        cwd=config.parent,
    )
    assert ran.returncode == 3
    assert "input.columns.user: input has no column 'usr'; did you mean user?" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
