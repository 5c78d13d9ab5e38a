"""The record of a run names the commit or the build of what ran."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from recsys.cli import main
from recsys.runtime.build import commit, commit_of
from recsys.runtime.run import versions


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("one\n")
    for arguments in (
        ["init", "-q"],
        ["add", "file"],
        ["-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    return tmp_path


def test_a_checkout_is_named_by_its_commit_and_whether_files_differ(checkout: Path) -> None:
    head = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    assert commit_of(checkout, "0.1.0") == head[:12]
    (checkout / "new").touch()  # a file that git does not know changes nothing
    assert commit_of(checkout, "0.1.0") == head[:12]
    (checkout / "file").write_text("two\n")
    assert commit_of(checkout, "0.1.0") == f"{head[:12]}-dirty"


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        ("0.1.dev7+g0123abc", "0123abc"),
        ("0.1.dev7+g0123abc.d20261125", "0123abc-dirty"),
        ("0.1.0", "unknown"),
        ("unknown", "unknown"),
    ],
)
def test_without_a_checkout_the_version_says_what_was_built(
    tmp_path: Path, built: str, expected: str
) -> None:
    assert commit_of(tmp_path, built) == expected


def test_a_checkout_that_git_cannot_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert commit_of(tmp_path, "0.1.0") == "unknown"


def test_the_record_and_the_command_line_say_it() -> None:
    assert versions()["commit"] == commit()
    shown = CliRunner().invoke(main, ["--version"]).output
    assert commit() in shown
    assert shown.startswith("recsys ")
