"""The house keeps its measures: modules and functions stay small, every room says what it is."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

LONGEST_MODULE = 350
LONGEST_FUNCTION = 60

# Longer ones, each with the reason.
EXCEPTIONS: dict[str, str] = {}


def modules() -> Iterator[Path]:
    yield from sorted((ROOT / "recsys").rglob("*.py"))


def lines(node: ast.AST) -> int:
    return (node.end_lineno or 0) - node.lineno + 1 if isinstance(node, ast.stmt) else 0


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function of a module with its length, without its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = 0 if ast.get_docstring(node) is None else lines(node.body[0])
            yield f"{path.relative_to(ROOT)}:{node.name}", lines(node) - said


def long_modules() -> dict[str, int]:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules()
    }
    return {name: length for name, length in lengths.items() if length > LONGEST_MODULE}


def long_functions() -> dict[str, int]:
    lengths = (pair for path in modules() for pair in functions(path))
    return {name: length for name, length in lengths if length > LONGEST_FUNCTION}


def test_no_module_is_longer_than_a_newcomer_can_read_at_once() -> None:
    assert {name: n for name, n in long_modules().items() if name not in EXCEPTIONS} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    assert {name: n for name, n in long_functions().items() if name not in EXCEPTIONS} == {}


def test_every_exception_is_still_one() -> None:
    assert set(EXCEPTIONS) <= long_modules().keys() | long_functions().keys()


def test_jobs_are_scripts_that_nothing_imports_and_that_only_call_the_command_line() -> None:
    scripts = sorted((ROOT / "jobs").iterdir())
    assert [path.name for path in scripts if path.suffix != ".py" and path.is_file()] == []
    assert not (ROOT / "jobs/__init__.py").exists()
    for path in (one for one in scripts if one.is_file()):
        tree = ast.parse(path.read_text())
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert imported == ["recsys.cli"], path
        assert len(path.read_text().splitlines()) < 12


# What is written about the house

TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(
        path
        for room in ("recsys", "scripts", "jobs", "conf", "tests")
        for path in sorted((ROOT / room).rglob("*"))
        if path.suffix in (".py", ".sh", ".yaml") and path != Path(__file__)
    ),
]
# Properties of Iceberg's snapshots, which are written like modules.
PROPERTIES = {f"recsys.{name}" for name in ("operation", "run", "cohort", "published", "manifest")}


def is_there(name: str) -> bool:
    """Whether a dotted name is that of a module, or of something in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_names_and_paths_that_are_written_somewhere_are_there() -> None:
    wrong = []
    for page in TEXTS:
        text = page.read_text(encoding="utf-8")
        names = re.findall(r"`(recsys(?:\.\w+)+)", text)
        paths = re.findall(
            r"(?<![\w/.-])((?:recsys|scripts|tests|jobs|conf|docs)/[\w/.-]*\w\.(?:py|sh|md|yaml))",
            text,
        )
        wrong += [f"{page}: {one}" for one in set(names) - PROPERTIES if not is_there(one)]
        wrong += [f"{page}: {path}" for path in paths if not (ROOT / path).exists()]
    assert wrong == []
