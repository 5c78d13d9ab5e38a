"""What is said of a run before it: `recsys doctor` and `recsys plan`. One life of one root."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import small_ratings
from tests.test_command_line import BIN, command, write_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    rows = ["user,item,rating,timestamp"]
    rows += [",".join(map(str, row)) for row in small_ratings()]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    return write_config(folder / "c.yaml", str(folder / "ratings.csv"))


@pytest.fixture(scope="module")
def recsys(config: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def execute(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        return command(BIN / "recsys", name, "--config", config, *more, cwd=config.parent)

    return execute


@pytest.fixture(scope="module")
def before(recsys: Callable[..., Any], config: Path) -> subprocess.CompletedProcess[str]:
    ran: subprocess.CompletedProcess[str] = recsys("doctor", "--json")
    assert not (config.parent / "out").exists()  # nothing of it stays
    return ran


@pytest.fixture(scope="module")
def after(
    recsys: Callable[..., Any], before: Any, config: Path
) -> subprocess.CompletedProcess[str]:
    """Run the job, and then look at what would not fit any more."""
    ran = recsys("run", "--run-id", "first")
    assert ran.returncode == 0, ran.stderr
    files = sorted((config.parent / "out").rglob("*"))
    small = ["--set", "spark.driver.maxResultSize=10k"]
    wrong = ["--set", "items.allow.path=gone.csv", "--set", "items.allow.column=sku"]
    found: subprocess.CompletedProcess[str] = recsys("doctor", "--json", *small, *wrong)
    assert sorted((config.parent / "out").rglob("*")) == files
    return found


def checks(ran: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(ran.stdout)["checks"]}


def test_the_doctor_of_an_empty_root_says_what_is_known_only_later(
    before: subprocess.CompletedProcess[str],
) -> None:
    assert before.returncode == 0, before.stderr
    found = checks(before)
    assert found["driver memory"]["state"] == "unknown"
    assert found["driver memory"]["found"] == "known after preparing"
    assert "memory.max_share 0.8" in found["driver memory"]["limit"]
    assert found["input"]["found"] == "user ids string, item ids string"
    assert "pyarrow" in found["Python workers"]["found"]
    assert found["root: models"]["state"] == "ok"


def test_the_doctor_compares_the_earlier_run_with_the_limits_and_exits_by_the_first_refusal(
    after: subprocess.CompletedProcess[str],
) -> None:
    assert after.returncode == 3, after.stderr
    found = checks(after)
    result = found["spark.driver.maxResultSize"]
    assert (result["limit"], result["state"], result["exit_status"]) == ("10k", "warning", 5)
    assert "pairs to collect" in result["found"]
    assert result["change"].startswith("raise spark.driver.maxResultSize")
    assert "by run first: matrix" in found["driver memory"]["found"]
    assert "40 items x 5" in found["broadcast of items"]["found"]
    assert found["items.allow"]["state"] == "refused"
    assert "gone.csv" in found["items.allow"]["found"]


def test_a_model_whose_items_do_not_fit_into_a_worker_is_refused_and_the_table_says_so(
    after: Any, recsys: Callable[..., Any]
) -> None:
    ran = recsys("doctor", "--for", "score", "--set", "memory.max_share=0.0000001")
    assert ran.returncode == 5, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].split("  ")[0] == "check"
    assert any(line.startswith("broadcast of items") and "refused" in line for line in lines)
    assert lines[-1] == "score: 10 checks, 1 not fulfilled, exit status 5"


def test_a_plan_says_rows_and_minutes_by_the_earlier_run_and_writes_nothing(
    after: Any, recsys: Callable[..., Any], config: Path
) -> None:
    files = sorted((config.parent / "out").rglob("*"))
    plan = json.loads(recsys("plan", "--json").stdout)
    steps = {step["step"]: step for step in plan["steps"]}
    assert (plan["by_run"], plan["scale"]) == ("first", 1.0)
    assert steps["prepare"]["rows"] == 900
    assert steps["prepare"]["bytes"] == (config.parent / "ratings.csv").stat().st_size
    assert steps["cohort"]["rows"] == 30
    assert plan["minutes"] > 0
    more = recsys("plan", "--json", "--set", "training.epochs=20")
    longer = {step["step"]: step for step in json.loads(more.stdout)["steps"]}
    assert longer["train"]["seconds"] == pytest.approx(10 * steps["train"]["seconds"], abs=1)
    assert "by run first" in recsys("plan").stdout
    assert sorted((config.parent / "out").rglob("*")) == files


def test_a_plan_of_an_empty_root_says_that_it_does_not_know(
    recsys: Callable[..., Any], tmp_path: Path
) -> None:
    ran = recsys("plan", "--set", f"root={tmp_path / 'none'}")
    assert ran.returncode == 0
    assert "rows and minutes are not known" in ran.stdout
    assert not (tmp_path / "none").exists()
    assert recsys("plan", "--set", "input.path=null").returncode == 2
