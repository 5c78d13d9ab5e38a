"""The documentation: every command, program, query and configuration in it is used."""

import ast
import datetime as dt
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import duckdb
import generate_docs
import pandas as pd
import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from recsys import cli, read_recommendations
from recsys.config.reading import load_config
from recsys.ingest.csv_text import HEADER_LINE
from recsys.ingest.source import MALFORMED
from tests.conftest import ROOT

DOCS = ROOT / "docs"
# In the order in which a reader would follow them: later pages use what earlier ones made.
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/index.md",
    "docs/tutorial.md",
    *(
        f"docs/how-to/{name}.md"
        for name in re.findall(
            r"^([\w-]+)$", (DOCS / "how-to" / "index.md").read_text(encoding="utf-8"), re.MULTILINE
        )
    ),
]
PAGES += sorted({path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md")} - set(PAGES))
# `sh` blocks are not run. Each command in them begins with one of these, for the reason given.
NOT_RUN = {
    "apt-get": "changes the machine",
    "python3 -m venv": "the tests run in one",
    ".venv/bin/pip install": "needs a package registry; scripts/test.sh has done it",
    "pip install": "needs a package registry; scripts/test.sh has done it",
    ".": "sets up a shell",
    "export": "sets up a shell",
    "eval": "sets up a shell; tests/test_help.py does it",
    "_RECSYS_COMPLETE": "sets up a shell",
    "bash scripts/": "takes minutes",
    "python scripts/": "takes minutes",
    ".venv/bin/": "scripts/test.sh runs them",
    "recsys": "is an example with another root or an id of a scheduler; parsed",
    "spark-submit": "needs a cluster; parsed",
}
# What has to be there before a page is followed. tests/test_publish_job.py publishes to Iceberg
# tables with a whole run; here the tutorial's version is committed to them as it is.
BEFORE = {
    "docs/how-to/iceberg.md": """
import datetime, json, pathlib, shutil
from recsys.config.sections import Iceberg
from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.versions import Unit, Version
from recsys.store.posix import PosixFiles

root = pathlib.Path("output-iceberg").resolve()
shutil.copytree("output/publications/all", root / "publications" / "all")
unit = Unit("all", datetime.date(2026, 11, 24))
pointer = root / "publications" / "all" / "2026-11-24" / "current.json"
[kept] = json.loads(pointer.read_text())["versions"]
pointer.unlink()
tables = IcebergTables(PosixFiles(root), Iceberg())
tables.switch(Version(unit, **kept), expected=None)
tables.close()
"""
}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands.
        line: of its first line.
        before: the text before it, back to the block before.
    """

    page: str
    line: int
    language: str
    code: str
    before: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks() -> Iterator[Block]:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        end = 0
        for match in re.finditer(r"^```([\w{}+]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 2
            yield Block(page, line, match[1], match[2], text[end : match.start()])
            end = match.end()


BLOCKS = list(read_blocks())


def blocks(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


@dataclass(frozen=True)
class Command:
    """A command of a `console` block, and what the page shows of its output."""

    block: Block
    text: str
    shown: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        program, *arguments = shlex.split(self.text)
        assert program == "recsys", f"{self.block}: a console block runs recsys alone"
        return arguments


def commands(block: Block) -> list[Command]:
    found: list[Command] = []
    for line in block.code.splitlines():
        if line.startswith("$ "):
            found.append(Command(block, line.removeprefix("$ "), ()))
        else:
            assert found, f"{block}: begin with a command"
            last = found.pop()
            found.append(Command(block, last.text, (*last.shown, line)))
    return found


COMMANDS = [command for block in blocks("console") for command in commands(block)]


def saved_as(block: Block) -> str | None:
    """Return the name under which the page tells the reader to save a block."""
    found = re.findall(r"as `([\w-]+\.yaml)`", block.before)
    return found[-1] if found else None


# What the pages do, done once


@dataclass(frozen=True)
class Followed:
    """What came of following the pages: a folder, and the result of each step."""

    folder: Path
    results: dict[Any, dict[str, Any]]


def executed_python() -> list[Block]:
    return [block for block in blocks("python") if "from airflow" not in block.code]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """Follow all pages in order: write what is to be saved, run what is to be run."""
    folder = tmp_path_factory.mktemp("shop")
    steps: list[Block | Command] = []
    prepared: set[str] = set()
    for block in BLOCKS:
        if block.page in BEFORE and block.page not in prepared:
            prepared.add(block.page)
            steps.append(Block(block.page, 0, "python", BEFORE[block.page], ""))
        if block.language == "yaml" and (name := saved_as(block)):
            (folder / name).write_text(block.code, encoding="utf-8")
        elif block.language == "console":
            steps += commands(block)
        elif block in executed_python():
            steps.append(block)
    (folder / "blocks.json").write_text(json.dumps([_step(step) for step in steps]))
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "docs_runner.py"), "blocks.json", "results.json"],
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
    assert ran.returncode == 0, ran.stderr[-3000:]
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for step, result in zip(steps, results, strict=True):
        if isinstance(step, Block) and step.line == 0:
            assert result["status"] == 0, result["output"]
    return Followed(folder, dict(zip(steps, results, strict=True)))


def _step(step: Block | Command) -> dict[str, Any]:
    if isinstance(step, Block):
        return {"language": "python", "page": step.page, "code": step.code, "traced": False}
    traced = step.arguments[0] in ("run", "score")
    return {"language": "console", "arguments": step.arguments, "traced": traced}


def test_the_pages_have_blocks_of_every_kind() -> None:
    assert {block.language for block in BLOCKS} == {
        *("console", "python", "sh", "sql", "sql+jinja", "text", "yaml", "{toctree}")
    }
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.block} {c.text[:40]}")
def test_a_command_of_the_pages_ends_well_and_prints_what_the_page_shows(
    command: Command, followed: Followed
) -> None:
    result = followed.results[command]
    assert result["status"] == 0, result["output"]
    lines = result["output"].splitlines()
    for shown in command.shown:
        if shown.strip() not in ("", "…"):
            assert any(alike(shown, line) for line in lines), f"{shown!r}\nis not in\n{lines}"


def alike(shown: str, line: str) -> bool:
    """Whether a line is what a page shows: numbers may differ, and `…` stands for anything."""
    parts = re.split(r"(…|\s+|[+-]?\d[\d,.]*)", shown.strip())
    other = {"…": ".*"}
    pattern = "".join(
        other.get(part)
        or (r"\s+" if part.isspace() else r"[+-]?\d[\d,.]*" if i % 2 else re.escape(part))
        for i, part in enumerate(parts)
        if part
    )
    return re.fullmatch(pattern, line.strip()) is not None


def test_a_shown_line_is_compared_but_for_its_numbers() -> None:
    assert alike(
        "model  file:/…/models/first-…  400 rows", "model   file:/a/b/models/first-9e  1,4 rows"
    )
    assert not alike("model  file:/…/models  400 rows", "status  file:/a/models  400 rows")
    assert not alike("precision  10  0.1588", "precision  10")


@pytest.mark.parametrize("block", executed_python(), ids=str)
def test_a_program_of_the_pages_runs(block: Block, followed: Followed) -> None:
    result = followed.results[block]
    assert result["status"] == 0, result["output"]


def test_the_tutorials_file_gives_two_rejects_and_a_list_for_everyone(followed: Followed) -> None:
    published = read_recommendations(str(followed.folder / "output"))
    lists = published.recommendations.to_pandas()
    assert lists.groupby("user_id").size().to_dict() == dict.fromkeys(range(1, 401), 10)
    [rejects] = (followed.folder / "output" / "rejects").glob("first-*")
    found = pd.read_parquet(rejects)[["reason", "user", "item", "rating"]]
    assert sorted(found.fillna("").itertuples(index=False, name=None)) == [
        ("rating_unparsable", "7", "p002", "two"),
        ("user_missing", "", "p001", "1"),
    ]


# Commands that are only parsed


def shell_lines(block: Block) -> list[str]:
    return [line for line in block.code.replace("\\\n", " ").splitlines() if line.strip()]


def parse(text: str) -> None:
    """Parse a command of this project's as click would.

    Raises:
        click.UsageError: there is no such command or option.
    """
    words = shlex.split(re.sub(r"2>>.*", "", text))
    if words[0] == "spark-submit":
        script = next(word for word in words if word.endswith(".py"))
        assert (ROOT / script).exists(), text
        name, arguments = Path(script).stem, words[words.index(script) + 1 :]
    else:
        name, arguments = words[1], words[2:]
    # Click keeps a command's help option as its first context has it.
    parent = click.Context(cli.main, info_name="recsys", **cli.main.context_settings)
    cli.main.commands[name].make_context(name, arguments, parent=parent)


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_a_shell_block_has_commands_and_scripts_that_exist(block: Block) -> None:
    for line in shell_lines(block):
        command = re.split(r"(?:^|\s)#", line)[0].strip()  # not environment.tar.gz#environment
        assert any(command.startswith(known) for known in NOT_RUN), f"{block}: {line}"
        if command.startswith(("recsys ", "spark-submit ")):
            parse(command)
        for script in re.findall(r"\b(?:scripts|jobs|conf)/[\w.-]+", command):
            assert (ROOT / script).exists(), f"{block}: there is no {script}"


def test_an_option_that_does_not_exist_is_found() -> None:
    parse("spark-submit --master yarn jobs/run.py --config x.yaml --run-id a")
    with pytest.raises(click.NoSuchOption):
        parse("recsys run --confg x.yaml")


def test_a_crontab_has_five_fields_and_a_command() -> None:
    tabs = [block for block in blocks("text") if block.code.startswith("# crontab\n")]
    assert tabs
    for block in tabs:
        for line in block.code.splitlines()[1:]:
            *times, command = line.split(maxsplit=5)
            assert all(re.fullmatch(r"[\d*/,-]+", time) for time in times), line
            command = command.replace(r"$(date -u +\%F)", "2026-11-24")
            assert "%" not in command  # to cron, it ends the command
            parse(command.rpartition("&& ")[2])


def test_a_dag_of_airflows_compiles_and_its_command_parses() -> None:
    dags = [block for block in blocks("python") if block not in executed_python()]
    assert dags
    for block in dags:
        texts = [
            node.value
            for node in ast.walk(ast.parse(block.code))
            if isinstance(node, ast.Constant) and str(node.value).startswith("recsys ")
        ]
        assert texts, block
        for text in texts:
            filled = text.replace("{{ ds }}", "2026-11-24").replace("{{ run_id }}", "r1")
            assert "{" not in filled
            parse(filled)


# YAML


def is_dbt(block: Block) -> bool:
    return "sources:" in block.code


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if not is_dbt(b)], ids=str)
def test_a_configuration_of_the_pages_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(block.code, encoding="utf-8")
    load_config(str(path))


def test_the_dbt_source_has_the_columns_that_are_published(followed: Followed) -> None:
    [block] = [block for block in blocks("yaml") if is_dbt(block)]
    parsed = yaml.safe_load(block.code)
    assert parsed["version"] == 2
    [source] = parsed["sources"]
    published = read_recommendations(str(followed.folder / "output"))
    for table in source["tables"]:
        found = getattr(published, table["name"])
        assert [column["name"] for column in table["columns"]] == found.column_names
        for column in table["columns"]:
            if "not_null" in column.get("data_tests", []):
                assert found[column["name"]].null_count == 0
    assert [table["name"] for table in source["tables"]] == ["recommendations", "status"]


# SQL


@pytest.fixture
def warehouse(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> duckdb.DuckDBPyConnection:
    """Give DuckDB with the views that `publishing.views` makes, on what the pages published."""
    monkeypatch.chdir(followed.folder)
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA recsys")
    units = sorted((followed.folder / "output" / "publications").glob("*/*/current.json"))
    for table in ("status", "recommendations"):  # the latest day is that of the statuses
        parts = [
            f"SELECT * FROM read_parquet('{unit.parent}/{json.loads(unit.read_text())['run_id']}"  # noqa: S608
            f"/{table}/*.parquet', hive_partitioning = false)"
            for unit in units
        ]
        connection.execute(f"CREATE VIEW recsys.{table} AS {' UNION ALL '.join(parts)}")
        connection.execute(
            f"CREATE VIEW recsys.{table}_latest AS SELECT * FROM recsys.{table} JOIN (SELECT "  # noqa: S608
            "cohort, max(run_date) AS run_date FROM recsys.status GROUP BY cohort) "
            "USING (cohort, run_date)"
        )
    return connection


def test_the_queries_of_the_pages_run_and_the_latest_lists_are_those_that_the_library_reads(
    warehouse: duckdb.DuckDBPyConnection, followed: Followed
) -> None:
    expected = read_recommendations(str(followed.folder / "output")).recommendations.to_pandas()
    mine = expected[expected["user_id"] == 7]["item_id"].tolist()
    found = {}
    for block in blocks("sql", "sql+jinja"):
        query = re.sub(r"\{\{ source\('recsys', '(\w+)'\) \}\}", r"recsys.\1", block.code)
        found[block] = warehouse.execute(query).df()
    for block, rows in found.items():
        if "HAVING count(*) > 1" in block.code:
            assert len(rows) == 0, block
        elif "user_id = 7" in block.code:
            assert rows["item_id"].tolist() == mine, block
        else:
            assert len(rows) > 0, block
    current = [rows for block, rows in found.items() if block.code.startswith("SELECT *\n")]
    model = [rows for block, rows in found.items() if block.code.startswith("SELECT lists.*")]
    for rows in (*current, *model):
        assert sorted(rows["cohort"].unique()) == ["all", "germany"]
        assert len(rows[rows["cohort"] == "all"]) == len(expected)
        assert rows[rows["cohort"] == "germany"]["run_id"].unique().tolist() == ["germany-2"]
    assert current
    assert model


# What the reference says of tables and records


def table_places(folder: Path) -> dict[str, list[Path]]:
    """Return the directories of each described table below the tutorial's root."""
    described = generate_docs.described_tables()
    return {
        name: sorted((folder / "output").glob(re.sub(r"<\w+>", "*", table["place"])))
        for name, table in described.items()
    }


@pytest.mark.parametrize("name", generate_docs.described_tables())
def test_a_table_has_the_columns_nulls_and_primary_key_that_the_reference_says(
    name: str, followed: Followed
) -> None:
    described = generate_docs.described_tables()[name]
    places = table_places(followed.folder)[name]
    if name == "similar_users":
        pytest.skip("no page makes this table; tests/test_similar.py does")
    if name.startswith("difference_"):
        pytest.skip("it is not below the root; tests/test_diff.py makes it")
    if "feature" in name:
        pytest.skip("no page makes this table; test_features.py or test_similar_features.py does")
    if name.endswith("_state") or name == "trials":
        pytest.skip("no page makes this table; tests/test_refresh.py and test_tune.py do")
    assert places
    for place in places:
        found = pd.concat(pd.read_parquet(file) for file in sorted(place.glob("*.parquet")))
        assert list(found) == list(described["columns"])
        nulls = {column for column in found if found[column].isna().any()}
        assert nulls <= set(described["nullable"]), f"{place}: {nulls}"
        if described["key"]:
            assert not found.duplicated(described["key"]).any()


def test_the_pointers_fields_are_those_of_the_reference(followed: Followed) -> None:
    text = (DOCS / "reference" / "output.md").read_text(encoding="utf-8")
    section = text.partition("## The pointer")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `([\w\[\].]+)` \|", section, re.MULTILINE)
    unit = followed.folder / "output" / "publications" / "all" / "2026-11-24"
    pointer = json.loads((unit / "current.json").read_text(encoding="utf-8"))
    inner = [f"versions[].{name}" for name in pointer["versions"][0]]
    assert sorted(documented) == sorted([*pointer, *inner])
    assert dt.datetime.fromisoformat(pointer["versions"][0]["published_at"]).tzinfo


def test_every_reason_of_a_reject_is_in_the_reference() -> None:
    judging = (ROOT / "recsys" / "ingest" / "judging.py").read_text(encoding="utf-8")
    reasons = set(re.findall(r'"((?:rating|timestamp)_[a-z_]+)"', judging))
    reasons |= {MALFORMED, HEADER_LINE}
    reasons -= {"rating_threshold", "rating_min", "rating_max", "timestamp_format"}
    reasons |= {f"{kind}_{what}" for kind in ("user", "item") for what in ("missing", "invalid")}
    text = (DOCS / "reference" / "rejects.md").read_text(encoding="utf-8")
    assert reasons - set(re.findall(r"`(\w+)`", text)) == set()
    assert len(reasons) >= 13


def test_every_gate_is_in_the_reference(followed: Followed) -> None:
    published = read_recommendations(str(followed.folder / "output")).manifest
    names = {verdict.gate for verdict in published.gates}
    text = (DOCS / "reference" / "gates.md").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


# Where things are


def test_the_files_of_the_two_walks_exist_and_are_passed_through(followed: Followed) -> None:
    text = (DOCS / "internals" / "where-things-are.md").read_text(encoding="utf-8")
    walks = {
        "run": text.partition("## One rating")[2].partition("\n## ")[0],
        "score": text.partition("## One requested user")[2].partition("\n## ")[0],
    }
    for name, walk in walks.items():
        listed = re.findall(r"^\| \d+ \| `([\w/]+\.py)`", walk, re.MULTILINE)
        number = re.search(r"(\d+) files", walk)
        assert number is not None
        assert int(number[1]) == len(listed) > 10
        missing = [path for path in listed if not (ROOT / "recsys" / path).exists()]
        assert not missing
        passed = {
            file.removeprefix("recsys/")
            for step, result in followed.results.items()
            if isinstance(step, Command) and step.arguments[0] == name
            for file in result["files"]
        }
        # What executors run is in other processes, and columns.py has names alone.
        unseen = [p for p in listed if not p.startswith("kernel/") and p != "columns.py"]
        assert set(unseen) <= passed, f"not passed through: {set(unseen) - passed}"


# Generated parts, the site, and links


def test_nothing_generated_is_stale() -> None:
    stale = [str(path.relative_to(ROOT)) for path in generate_docs.stale()]
    assert not stale, f"{stale}: run python scripts/generate_docs.py"


class Inner(BaseModel):
    """A part."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    rows: int
    """Number of rows."""


class Outer(BaseModel):
    """A record."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tables: list[Inner]
    """The tables."""
    share: float | None = None
    """A share | or null."""


def test_a_records_fields_are_listed_with_those_of_its_parts() -> None:
    assert generate_docs.record_fields(Outer).splitlines()[2:] == [
        "| `tables` | list of record | The tables. |",
        "| `tables[].rows` | int | Number of rows. |",
        "| `share` | float or null | A share \\| or null. |",
    ]


def test_the_site_builds_without_a_warning_and_without_anything_from_elsewhere(
    tmp_path: Path,
) -> None:
    missing = [m for m in ("sphinx", "myst_parser", "furo") if not importlib.util.find_spec(m)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[docs]'")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(tmp_path / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "site")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"(\w+:)?//", text)
        loaded += re.findall(r"<link[^>]*rel=\"(?!canonical)[^\"]*\"[^>]*href=\"(?:\w+:)?//", text)
        assert not loaded, page
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", style.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_a_link_leads_to_a_file_of_the_repository(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (ROOT / target).exists(), f"{page}: there is no {target}"


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_path_of_somebodys_machine_and_no_riddle(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w…])/(?:work|tmp|home|root)/", text)
    riddles = (
        "who has no way",
        "minded by nothing",
        "asked for its own sake",
        "is nobody's",
        "the last there may be",
    )
    found = [riddle for riddle in riddles if riddle in " ".join(text.split())]
    assert not found
