"""The record of a run names the commit or the build of what ran."""

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from recsys.cli import main
from recsys.runtime.build import commit, commit_of, version_of
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


def test_looking_takes_no_lock_and_follows_no_repository_that_a_hook_names(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = commit_of(checkout, "0.1.0")
    # As in the hook of another repository.
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("other")))
    assert commit_of(checkout, "0.1.0") == clean
    monkeypatch.delenv("GIT_DIR")
    os.utime(checkout / "file", (1, 1))  # git would note the time in its index, under a lock
    before = (checkout / ".git/index").read_bytes()
    assert commit_of(checkout, "0.1.0") == clean
    assert (checkout / ".git/index").read_bytes() == before


def test_without_git_a_checkout_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit_of(checkout, "0.1.dev7+g0123abc") == "unknown"


@pytest.mark.parametrize(
    ("built", "in_checkout"),
    [
        ("0.1.1.dev7+g0123abc", "0.1.1.dev"),
        ("0.1.1.dev7+g0123abc.d20261125", "0.1.1.dev"),
        ("0.1.0+d20261125", "0.1.0"),
        ("0.1.0", "0.1.0"),
        ("unknown", "unknown"),
    ],
)
def test_the_version_of_a_checkout_names_no_commit_of_an_earlier_installation(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, built: str, in_checkout: str
) -> None:
    assert version_of(checkout, built) == in_checkout
    assert version_of(tmp_path_factory.mktemp("wheel"), built) == built


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
