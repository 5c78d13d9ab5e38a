"""A shorter round of scripts/torture.py; the full one is one command, and takes its time."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recsys.errors import ConflictError
from recsys.publishing.versions import STATUS, TITLES
from recsys.store.posix import PosixFiles
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def torture() -> Iterator[ModuleType]:
    """Import the script as it imports its own parts; its processes find them the same way."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import torture

        yield torture
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def test_readers_see_whole_versions_alone(torture: Any, tmp_path: Path) -> None:
    at = torture.Store("local", str(tmp_path))
    for form in at.forms:
        verdicts = torture.readers(at, form, 4)
        assert verdicts.violations == []
        assert verdicts.counts["publications"] == 4


@pytest.mark.long
def test_a_killed_run_leaves_one_version_or_the_other_and_the_next_run_finishes_it(
    torture: Any, tmp_path: Path
) -> None:
    found = list(
        torture.all_kills(
            torture.Store("local", str(tmp_path)), tmp_path, torture.QUICK_KILLS, before=1
        )
    )
    assert [verdicts.violations for verdicts in found] == [[], []]
    assert sum(verdicts.counts["kills"] for verdicts in found) == 3


@pytest.mark.parametrize("form", ["parquet", "iceberg"])
def test_of_two_publishers_at_once_neither_loses_or_mixes_anything(
    torture: Any, tmp_path: Path, form: str
) -> None:
    verdicts = torture.rivals(torture.Store("local", str(tmp_path)), form, form, 3)
    assert verdicts.violations == []
    assert verdicts.counts["published"] + verdicts.counts["refused"] == 6


def test_rivals_on_postgresql(torture: Any, tmp_path: Path, postgres: str) -> None:
    at = torture.Store("local", str(tmp_path), properties={"uri": postgres})
    assert torture.rivals(at, "iceberg", "postgresql", 3).violations == []


def test_a_lock_can_be_taken_while_others_look_at_it(tmp_path: Path) -> None:
    """Who lets the last lock go removes the directory of locks under the others' feet."""
    files, done = PosixFiles(tmp_path), threading.Event()

    def look() -> None:
        while not done.is_set():
            with suppress(ConflictError), files.lock("run-x"):
                pass

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(300):
                with files.lock("run-x", wait=5):
                    pass
        finally:
            done.set()
        assert [one.result() for one in looking] == [None, None]
    assert list(tmp_path.iterdir()) == []


def test_steps_that_are_named_are_steps_that_are_reached(torture: Any) -> None:
    """A step that nothing reaches would be killed at by nobody."""
    sources = [path.read_text() for folder in ("recsys",) for path in _python(folder)]
    named = {step for form in ("parquet", "iceberg") for step, _ in torture.cases(form)}

    def formatted(name: str) -> tuple[str, ...]:
        """Ways in which the sources write a name of which one word is a variable."""
        if name == "replacing current.json":
            return ('stop_point(f"replacing {',)
        table, _, step = name.partition(" ")
        return (f'stop_point(f"{{name}} {step}")',) if table in (STATUS, TITLES) else ()

    reached = {
        name
        for name in named
        if any(f'stop_point("{name}")' in source for source in sources)
        or any(part in source for part in formatted(name) for source in sources)
    }
    assert named == reached


def _python(folder: str) -> Iterator[Path]:
    yield from (ROOT / folder).rglob("*.py")
