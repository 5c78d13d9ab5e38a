"""`recsys export`: files and tables for people and systems outside."""

import csv
import gc
import gzip
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from example_manifests import version_manifest

from recsys.cli import main
from recsys.columns import RECOMMENDATIONS_SCHEMA, STATUS_SCHEMA, TITLES_SCHEMA
from recsys.config.configuration import Config
from recsys.config.sections import Iceberg
from recsys.errors import ConfigError, ConflictError, OutputError
from recsys.flows import export as flow
from recsys.flows.export import Wanted, written
from recsys.flows.manage import Place
from recsys.publishing.export import placing, workbook
from recsys.publishing.export.database import Database
from recsys.publishing.export.rows import read_rows
from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.lookup import find_version, open_kept
from recsys.publishing.pointer import Pointers
from recsys.publishing.publish import Staged, publish
from recsys.publishing.versions import Unit, VersionIndex, columns
from recsys.store.posix import PosixFiles
from tests.publications import DAY, UNIT, write_parts

LARGE = 2**53 + 1
USERS = [-5, 7, LARGE]
ITEMS = ["=1+1", "i2", "i,3"]
TITLES = ['=HYPERLINK("http://x")', 'Ünïcode, "quoted"\nline', None]
NAMES = ["run_date", "cohort", "user_id", "rank", "item_id", "title", "score", "source"]
NAMES += ["model_id", "run_id", "generated_at"]
TYPES = {
    "date": pa.date32(),
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def made(schema: str, rows: list[dict[str, Any]]) -> pa.Table:
    types = {name: TYPES[kind] for name, kind in columns(schema).items()}
    made_of = {n: pa.array([row.get(n) for row in rows], kind) for n, kind in types.items()}
    return pa.table(made_of)


def publish_lists(
    files: PosixFiles,
    run_id: str,
    *,
    unit: Unit = UNIT,
    titles: bool = True,
    k: int = 3,
    index: VersionIndex | None = None,
) -> None:
    """Publish lists of three users, in files whose users and ranks are in no order."""
    stamps = {"run_date": unit.run_date, "cohort": unit.cohort, "run_id": run_id, "model_id": "m1"}
    at = pa.scalar(1_790_000_000_000_000, pa.timestamp("us", "UTC")).as_py()
    lists = [
        {
            **stamps,
            "user_id": user,
            "rank": rank,
            "item_id": ITEMS[rank - 1],
            "score": 1 / (rank + 2),
            "source": "model",
            "generated_at": at,
        }
        for user in (7, LARGE, -5)
        for rank in range(k, 0, -1)
    ]
    asked = [
        {**stamps, "requested": str(u), "user_id": u, "times_requested": 1, "status": "scored"}
        for u in USERS
    ]
    cards = [{**stamps, "item_id": i, "title": t} for i, t in zip(ITEMS, TITLES, strict=True)]
    types = {"user": "bigint", "item": "string"}
    schemas = {"recommendations": RECOMMENDATIONS_SCHEMA, "status": STATUS_SCHEMA}
    content = {"recommendations": lists, "status": asked}
    if titles:
        schemas["titles"], content["titles"] = TITLES_SCHEMA, cards
    uri = files.uri("_staging", run_id, "version")
    parts = {}
    for name, rows in content.items():
        table = made(schemas[name].format(**types), rows)
        parts[name] = (len(table), write_parts(files.path(f"{uri}/{name}"), table, 2))
    known = {name: columns(schema.format(**types)) for name, schema in schemas.items()}
    settings = Config.model_validate({}).public()
    manifest = version_manifest(unit, run_id, parts, known, configuration=settings)
    staged = Staged(unit, run_id, uri, manifest)
    shown = index or Pointers(files)
    publish(files, shown, staged, lambda before: [], alive=lambda: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = PosixFiles(tmp_path / "root")
    publish_lists(files, "r1")
    return tmp_path / "root"


def place(root: Path, **sections: Any) -> Place:
    files = PosixFiles(root)
    return Place(Config.model_validate({"root": str(root), **sections}), files, Pointers(files))


def wanted(to: Path | str, **given: Any) -> Wanted:
    plain = {"form": None, "per": "rank", "columns": None, "table": "recommendations"}
    return Wanted(**{"to": str(to), **plain, "overwrite": False, "unguarded": False, **given})


def export(root: Path, to: Path | str, **given: Any) -> flow.Exported:
    return written(place(root), wanted(to, **given), None, None, None)[0]


def command(root: Path, *arguments: object) -> Result:
    given = ["export", "--set", f"root={root}", *map(str, arguments)]
    return CliRunner().invoke(main, given)


# CSV


def test_a_csv_file_has_a_row_a_rank_in_order_with_titles(root: Path, tmp_path: Path) -> None:
    done = export(root, tmp_path / "a.csv")
    assert (done.rows, done.users, done.format, done.run_id) == (9, 3, "csv", "r1")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == NAMES == done.columns
    assert [(int(row["user_id"]), int(row["rank"])) for row in rows] == [
        (user, rank) for user in USERS for rank in (1, 2, 3)
    ]
    assert [row["title"] for row in rows[:3]] == ["'" + str(TITLES[0]), TITLES[1], ""]
    assert [row["item_id"] for row in rows[:3]] == ["'=1+1", "i2", "i,3"]
    assert rows[0]["user_id"] == "-5"  # a number, which no spreadsheet takes for a formula
    assert rows[0]["score"] == "0.33333334"
    assert rows[0]["run_date"] == "2026-11-24"


@pytest.mark.parametrize(
    "text",
    ["=1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "\u00a0=1"],  # noqa: RUF001
)
def test_text_that_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(text: str) -> None:
    from recsys.publishing.export.text_files import guard

    found = guard(pa.array([text, "a" + text, "", None, "1-2", "a@b"])).to_pylist()
    expected = text if text.startswith("\u00a0") else "'" + text  # no program skips this space
    assert found == [expected, "a" + text, "", None, "1-2", "a@b"]


def test_an_unguarded_csv_file_has_the_text_as_it_is(root: Path, tmp_path: Path) -> None:
    export(root, tmp_path / "a.csv", unguarded=True, columns=["title", "item_id"])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["title", "item_id"]
        assert next(csv.reader(file)) == [TITLES[0], "=1+1"]


def test_one_row_a_user_has_arrays_and_a_packed_file_the_same_bytes(
    root: Path, tmp_path: Path
) -> None:
    export(root, tmp_path / "a.csv", per="user")
    export(root, tmp_path / "b.csv.gz", per="user")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["user_id"]) for row in rows] == USERS
    assert json.loads(rows[1]["item_ids"]) == ITEMS
    assert json.loads(rows[1]["titles"]) == TITLES
    assert json.loads(rows[1]["scores"]) == [0.33333334, 0.25, 0.2]
    assert rows[1]["n_items"] == "3"
    assert (
        gzip.decompress((tmp_path / "b.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()
    )


# JSON


@pytest.mark.parametrize("at_once", [1, 4, 20_000])
def test_json_lines_have_every_value_in_any_number_of_batches(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("recsys.publishing.export.rows._AT_ONCE", at_once)
    export(root, tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["user_id"] for row in rows] == [user for user in USERS for _ in range(3)]
    assert list(rows[0]) == NAMES
    assert rows[0]["title"] == TITLES[0]
    assert rows[0]["generated_at"].endswith("+00:00")
    export(root, tmp_path / "b.json", per="user")
    users = [json.loads(line) for line in (tmp_path / "b.json").read_text().splitlines()]
    for user in users:
        mine = [row for row in rows if row["user_id"] == user["user_id"]]
        assert user["item_ids"] == [row["item_id"] for row in mine] == ITEMS
        assert user["scores"] == [row["score"] for row in mine]
        assert user["titles"] == TITLES


def test_columns_that_have_no_value_are_left_out_unless_they_are_named(
    root: Path, tmp_path: Path
) -> None:
    done = export(root, tmp_path / "a.json", columns=["image", "user_id", "probability"])
    first = json.loads((tmp_path / "a.json").read_text().splitlines()[0])
    assert first == {"image": None, "user_id": -5, "probability": None}
    assert done.columns == ["image", "user_id", "probability"]
    with pytest.raises(ConfigError, match="found titel, expected some of run_date, cohort"):
        export(root, tmp_path / "b.json", columns=["titel"])


# Workbooks


def test_a_workbook_has_numbers_dates_and_text_that_is_no_formula(
    root: Path, tmp_path: Path
) -> None:
    export(root, tmp_path / "a.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx")["recommendations"]
    rows = list(sheet.iter_rows())
    assert [cell.value for cell in rows[0]] == NAMES
    first = dict(zip(NAMES, rows[1], strict=True))
    assert (first["title"].value, first["title"].data_type) == (TITLES[0], "s")
    assert first["title"].hyperlink is None
    assert first["item_id"].data_type == "s"
    assert first["score"].value == pytest.approx(1 / 3)
    assert first["run_date"].value.date() == DAY
    # Of a large id a spreadsheet would keep 15 digits.
    assert [row[2].value for row in rows[1::3]] == [str(user) for user in USERS]
    assert rows[2][5].value == TITLES[1]
    assert rows[3][5].value is None
    again = tmp_path / "b.xlsx"
    export(root, again)
    assert again.read_bytes() == (tmp_path / "a.xlsx").read_bytes()


def test_arrays_in_a_workbook_are_those_of_csv(root: Path, tmp_path: Path) -> None:
    export(root, tmp_path / "a.xlsx", per="user", columns=["scores"])
    export(root, tmp_path / "a.csv", per="user", columns=["scores"])
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx")["recommendations"]
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [[cell.value for cell in row] for row in sheet.iter_rows()] == list(csv.reader(file))
    assert "0.33333334," in sheet["A2"].value


def test_a_workbook_that_a_sheet_cannot_hold_is_refused_and_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "MOST_ROWS", 8)
    with pytest.raises(OutputError, match="found 9 rows, and a sheet holds 8; choose csv"):
        export(root, tmp_path / "a.xlsx")
    monkeypatch.setattr(workbook, "MOST_ROWS", 9)
    monkeypatch.setattr(workbook, "_MOST_TEXT", 3)
    with pytest.raises(OutputError, match=r"row 1, column 1?\d has a text of"):
        export(root, tmp_path / "a.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


# XlsxWriter leaves a temporary file open where it fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_the_system_refuses_to_a_workbook_is_an_error_of_the_system(
    root: Path, tmp_path: Path
) -> None:
    here = place(root)
    kept = open_kept(here.files, find_version(here.index, None, None, None))
    rows = read_rows(kept, None, "rank", None)
    with pytest.raises(FileNotFoundError):
        workbook.write_workbook(rows, tmp_path / "gone" / "a.xlsx")
    gc.collect()


# Files


def test_a_file_is_written_beside_and_never_replaced_unless_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.csv"
    target.write_text("mine")
    with pytest.raises(OutputError, match="is there already; say --overwrite"):
        export(root, target)
    # Somebody else is quicker, after the first look.
    monkeypatch.setattr(placing, "check_place", lambda *_, **__: None)
    with pytest.raises(OutputError, match="is there already; say --overwrite"):
        export(root, target)
    assert target.read_text() == "mine"

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("recsys.flows.export._write_file", fail)
        with pytest.raises(OutputError, match=r"cannot write .*: No space left"):
            export(root, target, overwrite=True)
    assert target.read_text() == "mine"
    export(root, target, overwrite=True)
    assert target.read_text().startswith('"run_date","cohort"')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "root"]


def test_what_cannot_be_used_is_one_line_before_anything_is_read(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    for to, message in {
        tmp_path / "folder.csv": "expected the name of a file",
        tmp_path / "no" / "a.csv": "there is no directory",
        root / "a.csv": "expected a place outside of the root",
        tmp_path / "a.txt": "--format: found none",
        tmp_path / "a.xlsx.gz": "packed already",
        "s3://bucket/a": "URL that SQLAlchemy takes",
    }.items():
        found = command(root, "--to", to)
        assert found.exit_code == 2, found.output
        assert message in found.stderr
        assert found.stderr.count("\n") == 1
    assert command(root, "--to", tmp_path / "a.json", "--unguarded").exit_code == 2


def test_the_command_tells_what_it_wrote_and_of_which_version(root: Path, tmp_path: Path) -> None:
    publish_lists(PosixFiles(root), "r2", k=1, titles=False)
    found = command(root, "--to", tmp_path / "a.csv", "--cohort", "all", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert (told["rows"], told["users"], told["run_id"]) == (3, 3, "r2")
    assert "title" not in told["columns"]
    earlier = command(root, "--to", tmp_path / "b.csv", "--run", "r1")
    assert "9 rows, 3 users, cohort all of 2026-11-24, run r1" in earlier.stdout
    # Titles that the version has not are taken from what is configured now.
    (tmp_path / "t.csv").write_text("item_id,title\n=1+1,One\n")
    titles = {"path": str(tmp_path / "t.csv"), "options": {"header": True}}
    here = place(root, items={"titles": titles})
    written(here, wanted(tmp_path / "c.json"), "r2", None, None)
    assert json.loads((tmp_path / "c.json").read_text().splitlines()[0])["title"] == "One"


def test_a_root_with_iceberg_tables_gives_the_same_file(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "iceberg"
    files = PosixFiles(other)
    index = IcebergTables(files, Iceberg())
    try:
        publish_lists(files, "r1", index=index)
        publish_lists(files, "r2", index=index, k=1)
    finally:
        index.close()
    export(root, tmp_path / "a.csv")
    given = ["--set", "publishing.format=iceberg", "--run", "r1"]
    found = command(other, "--to", tmp_path / "b.csv", *given)
    assert found.exit_code == 0, found.output
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


# Databases


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'lists.db'}"
        return
    server: str = request.getfixturevalue("postgres")
    yield server
    engine = sa.create_engine(server)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS recommendations, users_lists"))
    engine.dispose()


def rows_of(url: str, query: str) -> list[tuple[Any, ...]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(sa.text(query))]
    engine.dispose()
    return found


def test_a_database_gets_the_rows_and_keeps_other_cohorts(root: Path, url: str) -> None:
    files = PosixFiles(root)
    publish_lists(files, "v1", unit=Unit("vip", DAY), k=2)
    here = place(root)
    for cohort, expected in (("all", 9), ("vip", 6)):
        done, _ = written(here, wanted(url), None, cohort, None)
        assert (done.rows, done.replaced, done.format) == (expected, 0, "sql")
    query = "SELECT user_id, rank, item_id, title, score FROM recommendations"
    found = rows_of(url, f"{query} WHERE cohort = 'all' ORDER BY user_id, rank")
    assert [row[:4] for row in found] == [
        (user, rank, ITEMS[rank - 1], TITLES[rank - 1]) for user in USERS for rank in (1, 2, 3)
    ]
    assert found[0][4] == pytest.approx(1 / 3)
    publish_lists(files, "r2", k=1)
    with pytest.raises(OutputError, match="has 9 rows of cohort all of 2026-11-24 already, of run"):
        written(here, wanted(url), None, "all", None)
    done, _ = written(here, wanted(url, overwrite=True), None, "all", None)
    assert (done.rows, done.replaced) == (3, 9)
    runs = "SELECT cohort, run_id, count(*) FROM recommendations GROUP BY cohort, run_id"
    assert sorted(rows_of(url, runs)) == [("all", "r2", 3), ("vip", "v1", 6)]


def test_a_database_gets_one_row_a_user_with_arrays(root: Path, url: str) -> None:
    export(root, url, per="user", table="users_lists")
    element = (
        "item_ids[2], titles[1]"
        if url.startswith("postgresql")
        else ("json_extract(item_ids, '$[1]'), json_extract(titles, '$[0]')")
    )
    query = f"SELECT user_id, n_items, {element} FROM users_lists ORDER BY user_id"  # noqa: S608
    assert rows_of(url, query) == [(user, 3, "i2", TITLES[0]) for user in USERS]


def test_a_database_that_fails_in_the_middle_keeps_what_it_had(
    root: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(root, url)
    publish_lists(PosixFiles(root), "r2")
    monkeypatch.setattr("recsys.publishing.export.rows._AT_ONCE", 3)
    from recsys.publishing.export.rows import Rows

    whole = Rows.batches

    def broken(self: Rows) -> Iterator[pa.Table]:
        yield next(whole(self))
        raise OutputError("the second batch")

    monkeypatch.setattr(Rows, "batches", broken)
    with pytest.raises(OutputError, match="the second batch"):
        export(root, url, overwrite=True)
    runs = "SELECT run_id, count(*) FROM recommendations GROUP BY run_id"
    assert rows_of(url, runs) == [("r1", 9)]


def test_readers_see_the_old_rows_or_the_new_and_two_exports_wait_for_each_other(
    root: Path, postgres: str
) -> None:
    export(root, postgres, table="shared")
    publish_lists(PosixFiles(root), "r2")
    seen: set[tuple[str, ...]] = set()
    done = threading.Event()

    def look() -> None:
        engine = sa.create_engine(postgres)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not done.is_set():
                query = sa.text("SELECT run_id FROM shared ORDER BY run_id")
                seen.add(tuple(row[0] for row in connection.execute(query)))
        engine.dispose()

    reader = threading.Thread(target=look)
    reader.start()
    failed: list[Exception] = []

    def again() -> None:
        try:
            for _ in range(3):
                export(root, postgres, table="shared", overwrite=True)
        except Exception as error:
            failed.append(error)

    try:
        writers = [threading.Thread(target=again) for _ in range(2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    finally:
        done.set()
        reader.join()
        engine = sa.create_engine(postgres)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE shared"))
        engine.dispose()
    assert failed == []
    assert seen <= {("r1",) * 9, ("r2",) * 9}


def test_a_table_with_other_columns_or_a_bad_name_is_refused(root: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lists.db'}"
    export(root, url, columns=["run_date", "cohort", "user_id", "rank", "item_id"])
    with pytest.raises(OutputError, match=r"has no column title, score, .* with --columns"):
        export(root, url, overwrite=True)
    with pytest.raises(ConfigError, match="--columns: rank must be among them"):
        export(root, url, columns=["run_date", "cohort", "user_id"], table="other")
    with pytest.raises(ConfigError, match="--table: found"):
        export(root, url, table="a; DROP TABLE recommendations")


@pytest.mark.parametrize("secret", ["s3cr3t", "p@ss/w0rd", "%41bc-xyz"])
def test_a_password_is_in_no_message_log_or_output(
    root: Path, postgres: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = postgres.rpartition("@")[2]
    quoted = sa.URL.create(
        "postgresql+psycopg2", "recsys", secret, *host.partition("/")[0].split(":"), "postgres"
    )
    urls = [
        quoted.render_as_string(hide_password=False),
        f"postgresql+psycopg2://recsys:{secret}@{host}",
        f"postgresql+psycopg2://recsys@{host}?password={secret}",
        f"nothing+known://recsys:{secret}@{host}",
        f"postgresql://recsys:{secret}@{host.replace(':', ':x')}",
    ]
    caplog.set_level("DEBUG")
    for url in urls:
        # By the environment, as a scheduler would.
        given = ["export", "--set", f"root={root}", "--format", "sql", "--debug", "--json"]
        found = CliRunner().invoke(main, given, env={"RECSYS_EXPORT_TO": url})
        assert found.exit_code in (2, 8), found.output
        told = found.output + found.stderr + caplog.text
        for text in (secret, re.sub("%41", "A", secret), "w0rd"):
            assert text not in told, url


def test_a_wrong_database_is_one_line(root: Path, tmp_path: Path) -> None:
    closed = "postgresql+psycopg2://u@127.0.0.1:1/x"
    found = command(root, "--to", closed)
    assert found.exit_code == 8
    assert "Connection refused" in found.stderr
    assert found.stderr.count("\n") == 1
    assert "oracledb" in command(root, "--to", "oracle+oracledb://u@h/x").stderr
    assert os.listdir(tmp_path) == ["root"]  # noqa: PTH208


def test_text_that_a_database_refuses_is_named_and_nothing_is_written(postgres: str) -> None:
    database = Database(postgres)
    with pytest.raises(OutputError, match="NUL"), database._errors("t"):
        raise ValueError("A string literal cannot contain NUL (0x00) characters.")
    with pytest.raises(ConflictError, match="run again"), database._errors("t"):
        raise sa.exc.IntegrityError("INSERT", {}, Exception("duplicate key"))
