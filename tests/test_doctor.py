"""What is said of a run before it, while it goes on, and after it. One life of one root."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recsys.config.sections import Training
from recsys.flows import limits
from recsys.flows.checks import Check, Checks
from recsys.learn.sizes import Sizes, driver_bytes
from recsys.runtime import memory
from recsys.runtime.sizes import size
from tests.conftest import ROOT, small_ratings
from tests.test_command_line import write_config

# Room for two thirds of the 630 pairs; the JVM has 700 MiB.
_SHARE = 70_000 / (memory.limit_bytes() - 690 * 2**20)
SMALL = ["--set", "root=sampled", "--set", f"memory.max_share={_SHARE:.9f}"]
SEARCH = ["--set", "training.early_stopping.patience=1"]
# In this order, in one process: a JVM that has started serves all of them.
RUN = ["run", "--run-date", "2026-11-24", "--log-format", "json"]
METRICS = ["--set", "monitoring.metrics_file=metrics/recsys.prom"]
WRONG = ["--set", "items.allow.path=gone.csv", "--set", "items.allow.column=sku"]
COMMANDS: dict[str, list[str]] = {
    "doctor before": ["doctor", "--json"],
    "plan before": ["plan"],
    "plan of nothing": ["plan", "--set", "input.path=null"],
    "run": [*RUN, "--run-id", "first", *METRICS],
    "doctor after": ["doctor", "--json", "--set", "spark.driver.maxResultSize=10k", *WRONG],
    "doctor for score": ["doctor", "--for", "score", "--set", "memory.max_share=0.0000001"],
    "plan": ["plan", "--json"],
    "plan of more": ["plan", "--json", "--set", "training.epochs=20"],
    "plan as text": ["plan"],
    "failed run": [*RUN, "--run-id", "second", *METRICS, "--set", "row_checks.rating_max=1"],
    "refused run": [*RUN, "--set", "monitoring.metrics_file=gone/recsys.prom"],
    "sampled run": [*RUN, "--run-id", "sampled", *SMALL],
    "sampled doctor": ["doctor", "--json", *SMALL],
    "doctor of a tuning": ["doctor", "--json", "--for", "tune", *SMALL, *SEARCH],
    "doctor of a share of 1": ["doctor", "--json", *SMALL, "--set", "training.sample_users=1"],
    "sampled plan": ["plan", *SMALL],
    "too many": ["train", *SMALL, "--set", "training.sample_users=refuse"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    rows = ["user,item,rating,timestamp"]
    rows += [",".join(map(str, row)) for row in small_ratings()]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    write_config(folder / "c.yaml", str(folder / "ratings.csv"))
    (folder / "metrics").mkdir()
    return folder


@pytest.fixture(scope="module")
def came(folder: Path) -> dict[str, dict[str, Any]]:
    """Give what came of each command."""
    commands = [[name, "--config", "c.yaml", *more] for name, *more in COMMANDS.values()]
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "several_commands.py"), json.dumps(commands)],
        cwd=folder,
        # The JVM's quick compiler alone: it is not there for long.
        env={
            **os.environ,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(zip(COMMANDS, json.loads(ran.stdout.splitlines()[-1]), strict=True))


def checks(ran: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(ran["stdout"])["checks"]}


def steps(ran: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["step"]: step for step in json.loads(ran["stdout"])["steps"]}


def test_the_doctor_of_an_empty_root_says_what_is_known_only_later(came: dict[str, Any]) -> None:
    ran = came["doctor before"]
    assert ran["status"] == 0, ran["stderr"]
    found = checks(ran)
    assert found["driver memory"]["state"] == "unknown"
    about = "the input has about 900 rows; more is known after preparing"
    assert found["driver memory"]["found"] == about
    assert found["spark.driver.maxResultSize"]["state"] == "unknown"
    assert "memory.max_share 0.8" in found["driver memory"]["limit"]
    assert found["input"]["found"] == "user ids string, item ids string"
    assert "pyarrow" in found["Python workers"]["found"]
    assert found["root: models"]["state"] == "ok"
    assert ran["files"] == ["c.yaml", "ratings.csv"]  # nothing of it stays


def test_the_doctor_compares_the_earlier_run_with_the_limits_and_exits_by_the_first_refusal(
    came: dict[str, Any],
) -> None:
    ran = came["doctor after"]
    assert ran["status"] == 3, ran["stderr"]
    assert ran["files"] == came["run"]["files"]
    found = checks(ran)
    result = found["spark.driver.maxResultSize"]
    assert (result["limit"], result["state"]) == ("10k", "ok")
    assert result["found"] == "about 640 B of ids to collect at once"
    assert "by run first: matrix" in found["driver memory"]["found"]
    assert "40 items x 5" in found["broadcast of items"]["found"]
    assert found["items.allow"]["state"] == "refused"
    assert "gone.csv" in found["items.allow"]["found"]


def test_a_model_whose_items_do_not_fit_into_a_worker_is_refused_and_the_table_says_so(
    came: dict[str, Any],
) -> None:
    ran = came["doctor for score"]
    assert ran["status"] == 5, ran["stderr"]
    lines = ran["stdout"].splitlines()
    assert lines[0].split("  ")[0] == "check"
    assert any(line.startswith("broadcast of items") and "refused" in line for line in lines)
    assert lines[-1] == "score: 10 checks, 1 not fulfilled, exit status 5"


def test_a_plan_says_rows_and_minutes_by_the_earlier_run_and_writes_nothing(
    came: dict[str, Any], folder: Path
) -> None:
    plan, found = json.loads(came["plan"]["stdout"]), steps(came["plan"])
    assert (plan["by_run"], plan["scale"]) == ("first", 1.0)
    assert found["prepare"]["rows"] == 900
    assert found["prepare"]["bytes"] == (folder / "ratings.csv").stat().st_size
    assert found["cohort"]["rows"] == 30
    assert plan["minutes"] > 0
    longer = steps(came["plan of more"])
    expected = 10 * found["train"]["seconds"]
    assert longer["train"]["seconds"] == pytest.approx(expected, abs=1)
    assert "by run first" in came["plan as text"]["stdout"]
    assert came["plan as text"]["files"] == came["run"]["files"]


def test_a_plan_of_an_empty_root_says_rows_and_that_it_does_not_know_minutes(
    came: dict[str, Any],
) -> None:
    ran = came["plan before"]
    assert ran["status"] == 0
    assert re.search(r"^prepare +900 ", ran["stdout"], re.MULTILINE)
    assert "minutes are not known" in ran["stdout"]
    assert ran["files"] == ["c.yaml", "ratings.csv"]
    assert came["plan of nothing"]["status"] == 2


def test_a_driver_without_room_for_all_users_trains_on_some_says_so_and_plans_with_them(
    came: dict[str, Any], folder: Path
) -> None:
    ran = came["sampled run"]
    assert ran["status"] == 0, ran["stderr"]
    assert "training.sample_users: 0.5 of the users are trained on" in ran["stderr"]
    sample = json.loads((folder / "sampled/runs/sampled/manifest.json").read_text())["sample"]
    assert (sample["share"], sample["of_users"]) == (0.5, 30)
    assert 15 <= sample["users"] == 15 + sample["added_users"]
    found = checks(came["sampled doctor"])["driver memory"]
    assert found["state"] == "ok"
    assert f"auto: about 0.5 of the users, and {sample['added_users']} for rare" in found["found"]
    assert f"that run trained on {sample['users']} of 30 users" in came["sampled plan"]["stdout"]
    # A tuning refuses where `auto` would take a sample, and a share of 1 is everyone.
    for name in ("doctor of a tuning", "doctor of a share of 1"):
        found = checks(came[name])["driver memory"]
        assert found["state"] == "warning"
        assert "sample_users" not in found["found"]
    assert came["too many"]["status"] == 5
    assert "train on fewer users (training.sample_users)" in came["too many"]["stderr"]


EVERYONE = Sizes(1_600_000, 0, 10_000, 500, 160_000, 8_000)


def looked_at(limit: int, monkeypatch: pytest.MonkeyPatch, **given: Any) -> dict[str, Check]:
    """Give what the doctor says of a driver that has less memory than everyone needs."""
    settings = Training.model_validate({"no_components": 8, "loss": "warp", **given})
    job: Any = SimpleNamespace(
        spark=None, config=SimpleNamespace(memory=SimpleNamespace(max_share=0.5))
    )
    for name, value in (("heap_bytes", 0), ("limit_bytes", 0), ("allowed_bytes", limit)):
        monkeypatch.setattr(memory, name, lambda *_, value=value: value)
    monkeypatch.setattr(memory, "result_limit", lambda _: (100_000, "100k"))
    run: Any = SimpleNamespace(run_id="r", sample=None)
    found = Checks()
    plan = limits._planned(job, settings, EVERYONE, run)
    limits._driver(job, found, settings, plan, run, None)
    limits._result(job, found, settings, plan)
    return {check.name: check for check in found.made}


def test_the_doctor_counts_the_pairs_of_users_who_are_left_out_and_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Half of the users, and 2,000 others who have 160 pairs each.
    parts = Sizes(800_000, 0, 5_000, 500, 80_000, 8_000, judged_pairs=320_000)
    needed = sum(driver_bytes(parts, 8).values())
    given = {"early_stopping": {"max_users": 2000}, "second_view": "none", "sample_users": "auto"}
    found = looked_at(needed, monkeypatch, **given)["driver memory"]
    assert found.state == "ok"
    told = "auto: about 0.5 of the users, or fewer where rare items add some, about "
    assert f"{told}{size(needed)}" in found.found
    # With a byte less it is a smaller share.
    assert "auto: about 0.35" in looked_at(needed - 1, monkeypatch, **given)["driver memory"].found
    # No more are judged than are left out.
    few = {**given, "sample_users": 0.99, "early_stopping": {"max_users": 2000}}
    parts = Sizes(1_584_000, 0, 9_900, 500, 158_400, 8_000, judged_pairs=16_000)
    found = looked_at(needed, monkeypatch, **few)["driver memory"]
    assert found.found.endswith(f", about {size(sum(driver_bytes(parts, 8).values()))}")


def test_ids_beyond_the_result_limit_make_a_sample_as_memory_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The ids of all users are 160,000 bytes, those of half of them 80,000, and 100,000 are allowed.
    found = looked_at(2**40, monkeypatch, sample_users="auto")
    result = found["spark.driver.maxResultSize"]
    assert result.state == "ok"
    assert "auto: some of the users, since the ids of all of them are about" in result.found
    assert "sample_users auto: about 0.5 of the users" in found["driver memory"].found
    for too_many in ("refuse", 0.75):
        found = looked_at(2**40, monkeypatch, sample_users=too_many)
        assert found["spark.driver.maxResultSize"].state == "warning"
        assert found["driver memory"].state == "ok"


def test_pairs_beyond_what_lightfm_numbers_make_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PAIRS", 500_000)
    found = looked_at(2**40, monkeypatch, sample_users="auto")["driver memory"]
    assert found.state == "ok"
    assert "sample_users auto: about 0.25 of the users" in found.found
    found = looked_at(2**40, monkeypatch, sample_users="refuse")["driver memory"]
    assert found.state == "warning"
    assert found.found.endswith("more pairs than the 500,000 that LightFM can train on")


def log_lines(ran: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the log, every line of which has to be an object."""
    return [json.loads(line) for line in ran["stderr"].splitlines()]


def test_the_log_as_json_says_run_step_rows_seconds_and_memory(came: dict[str, Any]) -> None:
    ran = came["run"]
    assert ran["status"] == 0, ran["stderr"]
    lines = log_lines(ran)
    keys = {"time", "level", "run_id", "step", "logger", "message"}
    assert all(keys <= line.keys() for line in lines)
    assert {line["run_id"] for line in lines} == {"first"}
    ended = {line["step_ended"]: line for line in lines if "step_ended" in line}
    assert set(ended) > {"preflight", "prepare", "train", "score", "judge", "publish"}
    assert ended["prepare"]["rows"] == 900
    assert ended["prepare"]["rows_per_second"] > 0
    assert ended["score"]["rows"] == 300  # ten items for each of thirty users
    assert all(line["peak_memory_bytes"] > 2**20 for line in ended.values())
    assert {line["step"] for line in lines if line["message"].startswith("epoch")} == {"train"}
    assert (lines[-1]["message"], lines[-1]["exit_status"]) == ("run first is complete", 0)


def test_the_last_line_of_a_failed_run_says_error_kind_status_and_step(
    came: dict[str, Any],
) -> None:
    ran = came["failed run"]
    assert ran["status"] == 4
    last = log_lines(ran)[-1]
    assert (last["level"], last["run_id"], last["step"]) == ("ERROR", "second", "prepare")
    assert (last["error_kind"], last["exit_status"]) == ("TooManyRejectsError", 4)
    assert "rating_out_of_range" in last["error"]


def metrics(text: str) -> dict[tuple[str, str], float]:
    """Return the values by metric and its own label, read as the node exporter reads them."""
    common = {"command": "run", "cohort": "all"}
    found = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            assert {name: sample.labels.get(name) for name in common} == common
            own = [value for name, value in sample.labels.items() if name not in common]
            found[sample.name.removeprefix("recsys_"), ",".join(own)] = sample.value
    return found


def test_the_metrics_file_is_about_the_latest_run_and_about_what_readers_see(
    came: dict[str, Any], folder: Path
) -> None:
    assert not any(".prom." in name for name in came["failed run"]["files"])
    found = metrics((folder / "metrics/recsys.prom").read_text())
    assert (found["run_success", ""], found["run_exit_status", ""]) == (0, 4)
    # The one before is what readers see.
    first = json.loads((folder / "out/runs/first/manifest.json").read_text())
    pointer = json.loads((folder / "out/publications/all/2026-11-24/current.json").read_text())
    assert pointer["run_id"] == first["run_id"]
    assert found["published_run_date_seconds", ""] == 1_795_478_400
    assert found["published_timestamp_seconds", ""] < found["run_start_timestamp_seconds", ""]


def test_a_metrics_file_that_cannot_be_written_is_refused_before_spark_starts(
    came: dict[str, Any],
) -> None:
    ran = came["refused run"]
    assert ran["status"] == 2
    [line] = log_lines(ran)
    assert line["error"].startswith("monitoring.metrics_file: found gone/recsys.prom, expected")
