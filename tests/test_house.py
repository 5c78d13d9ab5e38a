"""The house keeps its measures: modules and functions stay small, every room says what it is."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

LONGEST_MODULE = 350
LONGEST_FUNCTION = 60

# Longer ones, each with the reason.
EXCEPTIONS: dict[str, str] = {}


def modules() -> Iterator[Path]:
    yield from sorted((ROOT / "recsys").rglob("*.py"))


def test_no_module_is_longer_than_a_newcomer_can_read_at_once() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    too_long = {
        str(path.relative_to(ROOT)): length
        for path, length in lengths.items()
        if length > LONGEST_MODULE
    }
    assert {name: n for name, n in too_long.items() if name not in EXCEPTIONS} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function of a module with its length, without its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            text = ast.get_docstring(node, clean=False)
            said = 0 if text is None else (first.end_lineno or 0) - first.lineno + 1
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - said


def test_no_function_is_longer_than_a_screen() -> None:
    too_long = {
        f"{path.relative_to(ROOT)}:{name}": length
        for path in modules()
        for name, length in functions(path)
        if length > LONGEST_FUNCTION
    }
    assert {name: n for name, n in too_long.items() if name not in EXCEPTIONS} == {}


def test_every_exception_is_still_one() -> None:
    names = {str(path.relative_to(ROOT)) for path in modules()}
    names |= {f"{p.relative_to(ROOT)}:{name}" for p in modules() for name, _ in functions(p)}
    assert set(EXCEPTIONS) <= names


def test_jobs_are_scripts_that_nothing_imports_and_that_only_call_the_command_line() -> None:
    scripts = sorted((ROOT / "jobs").iterdir())
    assert [path.name for path in scripts if path.suffix != ".py" and path.is_file()] == []
    assert not (ROOT / "jobs/__init__.py").exists()
    for path in (one for one in scripts if one.is_file()):
        tree = ast.parse(path.read_text())
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert imported == ["recsys.cli"], path
        assert len(path.read_text().splitlines()) < 12
