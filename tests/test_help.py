"""Help, completion and JSON: what every command has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from recsys.cli import main
from recsys.cli.examples import EXAMPLES
from tests.conftest import ROOT
from tests.test_docs import parse

COMMANDS = sorted(main.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_that_can_be_parsed(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "-h"]).output
    _, _, examples = shown.partition("Examples:\n")
    lines = [line.strip() for line in examples.splitlines()]
    assert lines == list(EXAMPLES[name])
    for line in lines:
        parse(line)


def test_there_are_no_examples_of_commands_that_are_not_there() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


# `view` shows pages in a browser, and prints nothing that a program reads.
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "view"])
def test_every_command_can_print_json(name: str) -> None:
    flags = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    assert "--json" in [option for flag in flags for option in flag.opts]


def completed(*words: str) -> set[str]:
    """Return what bash is offered after these words."""
    env = {"_RECSYS_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["recsys", *words])}
    env["COMP_CWORD"] = str(len(words))
    found = CliRunner().invoke(main, prog_name="recsys", env=env)
    return {line.partition(",")[2] for line in found.stdout.splitlines()}


def test_commands_options_and_choices_are_completed() -> None:
    assert completed("ev") == {"evaluate"}
    assert {"--to", "--format", "--per", "--json"} <= completed("export", "--")
    assert completed("export", "--format", "x") == {"xlsx"}
    assert completed("doctor", "--for", "tr") == {"train"}


def test_bash_takes_the_completion_that_the_page_says() -> None:
    page = (ROOT / "docs" / "how-to" / "command-line.md").read_text(encoding="utf-8")
    [line] = [line for line in page.splitlines() if "bash_source" in line]
    folder = Path(sys.executable).parent
    ran = subprocess.run(
        ["bash", "-c", f"{line} && complete -p recsys"],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("complete ")
    assert ran.stdout.rstrip().endswith("recsys")


def test_configurations_are_printed_as_json() -> None:
    names = json.loads(CliRunner().invoke(main, ["config", "--list", "--json"]).stdout)
    assert names[0] == "base"
    found = json.loads(CliRunner().invoke(main, ["config", "movietweetings", "--json"]).stdout)
    assert found["filters"] == {"rating_threshold": 6}
