"""A short round of scripts/fuzz.py: hostile values in, one clear line or a reject each out."""

import importlib
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recsys.config.reading import load_config
from recsys.errors import ConfigError, InputError, one_line
from tests.conftest import ROOT, csv_input, table


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("fuzz")


@pytest.mark.long
def test_commands_answer_hostile_values_with_one_line_and_leave_no_trace(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, report, rng = fuzz.World(tmp_path / "world"), fuzz.Report(), random.Random(5)
    world.root.mkdir()
    monkeypatch.chdir(world.cwd)
    before = world.outside()
    refused = fuzz.run_ids(report, rng, 300)
    ways = fuzz.commands(world, rng)
    for _ in range(700):
        way, arguments, value = next(ways)
        fuzz.in_process(report, way, arguments, value)
    for _ in range(7):
        way, arguments, value = next(ways)
        fuzz.in_a_process(report, world, arguments, value)
    settings = ["--set", "input.path=x", "--set", "deduplication.policy=max"]
    for run_id in refused[:3]:
        fuzz.in_a_process(report, world, ["run", *settings, f"--run-id={run_id}"], run_id)
    (world.top / "work" / "hostile.yaml").unlink(missing_ok=True)
    assert report.failures == []
    assert world.outside() == before
    assert report.values == 1010
    assert report.outcomes["process: run"] == {"exit 2": 3}


def test_hostile_lines_are_accepted_or_rejected_with_a_reason_and_none_is_lost(
    fuzz: ModuleType, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rng, path = random.Random(6), tmp_path / "in.csv"
    good = [f"u{n % 20},i{n % 30},5,1600000000" for n in range(300)]
    lines = [fuzz.hostile.csv_line(rng) for _ in range(1500)]
    expected = fuzz.write_csv(path, "user,item,rating,timestamp", lines + good, rng)
    checks = {"max_rejected_share": 0.9}
    with pytest.raises(InputError, match="open a quote that does not close"):
        run("train", run_id="q", input=csv_input(str(path)), row_checks=checks)
    source = csv_input(str(path), options={"header": True, "quote": ""})
    manifest = run("train", input=source, row_checks=checks)
    counts = manifest["counts"]
    assert counts["rows_read"] == expected
    assert counts["rows_read"] == counts["rows_accepted"] + counts["rows_rejected"]
    rejects = table(manifest, "rejects")
    assert len(rejects) == counts["rows_rejected"] > 300
    assert rejects["reason"].notna().all()
    assert set(path.parent.iterdir()) == {path, tmp_path / "out"}


# What the fuzzer found, each once


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 2100
    return message


def test_a_few_lines_of_yaml_that_are_a_billion_values_are_named_by_their_number(
    fuzz: ModuleType, tmp_path: Path
) -> None:
    assert "training: found 9 values (list)" in refused(
        tmp_path, f"training: {fuzz.hostile.bomb()}"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"training: {{epochs: 0x{'f' * 5000}}}", "the number is too large (line 1, column 20)"),
        (f"training: {{epochs: 1{':1' * 3000}}}", "the number is too large"),
        (f"training: {{epochs: {2**63}}}", "the number is too large"),
        (f"training: {{epochs: {2**31}}}", "less than or equal to 2147483647"),
        ("training: {refit: !!bool x}", "is not valid YAML"),
        ("training: {epochs: !!timestamp x}", "is not valid YAML"),
        ('input: {options: {sep: "\\ud800"}}', "no Unicode text"),
        ('cohort: {name: "a\\nrecsys: error: forged"}', "cohort.name: found"),
        ('"\\e[2Ja": 1', "\\x1b[2Ja: unknown key"),
        ("\n".join(f"nonsense{n}: 1" for n in range(3000)), "; and more"),
        (f"{'k' * 1000}: 1", f"{'k' * 100}: unknown key"),
    ],
)
def test_each_of_these_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaint in refused(tmp_path, text)


def test_a_message_moves_no_cursor_and_forges_no_line() -> None:
    assert one_line("caf\u00e9 \U0001f600 ok") == "caf\u00e9 \U0001f600 ok"
    assert one_line("a\nb\x1b[2J\u202e\udcff") == "a\\nb\\x1b[2J\\u202e\\udcff"
    assert len(one_line("x" * 100_000)) == 2003
    assert str(ConfigError("a\r\nb")) == "a\\r\\nb"
