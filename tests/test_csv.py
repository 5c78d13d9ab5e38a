"""What CSV hides: headers among rows, quotes that do not close, names that are patterns."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys.columns import IdTypes
from recsys.config.sections import Input, Source
from recsys.errors import InputError
from recsys.ingest.advice import rejected
from recsys.ingest.judged_rows import judge_rows
from recsys.ingest.judging import judge
from recsys.ingest.settings import check_settings
from recsys.ingest.source import read_ratings, read_source
from recsys.runtime.run import new_run
from recsys.store.tables import Store
from tests.conftest import RUN_DATE, collected, configured

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
COLUMNS = {"user": "u", "item": "i"}


def described(path: Path, **more: Any) -> Input:
    options = {"header": True, **more.pop("options", {})}
    return Input.model_validate({"path": str(path), "columns": COLUMNS, "options": options, **more})


def judged(spark: SparkSession, root: Path, source: Input) -> Any:
    """Read and judge ratings as a run does."""
    checks = {"max_rejected_share": 1.0}
    config = configured(root / "out", input=source.model_dump(), row_checks=checks)
    store = Store(spark, config.root)
    return judge_rows(spark, store, config, new_run("r", RUN_DATE), store.uri("rows"))


def pairs(spark: SparkSession, root: Path, source: Input) -> list[tuple[Any, ...]]:
    return collected(judged(spark, root, source).rows.select("user_id", "item_id", "reason"))


@pytest.mark.parametrize(
    "middle",
    ["u,i", "U, I", "\ufeffu,i", '\ufeff"u","i"'],
)
def test_headers_among_rows_are_found_whatever_stands_round_them(
    spark: SparkSession, tmp_path: Path, middle: str
) -> None:
    (tmp_path / "day=1").mkdir()
    text = f"u,i\na,x\n{middle}\nb,y\n"
    (tmp_path / "day=1/a.csv").write_text(text, encoding="utf-8")
    (tmp_path / "day=2").mkdir()
    (tmp_path / "day=2/b.csv").write_text("u,i\nc,z\n")
    found = pairs(spark, tmp_path, described(tmp_path / "day=*/*.csv"))
    header = [row for row in found if row[2] == "header_line"]
    assert [row[2] for row in found].count("header_line") == 1
    assert sorted(set(found) - set(header), key=str) == [
        ("a", "x", None),
        ("b", "y", None),
        ("c", "z", None),
    ]


def test_a_folder_that_is_a_column_hides_no_header(spark: SparkSession, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "day=1").mkdir(parents=True)
    path = top / "day=1/a.csv"
    path.write_text("u,i\na,x\nu,i\nb,y\n")
    assert [row[2] for row in pairs(spark, tmp_path, described(top))].count("header_line") == 1
    rows = read_source(spark, described(top), key="cohort.users")
    assert collected(rows.select("u", "i", "day")) == [("a", "x", "1"), ("b", "y", "1")]
    path.write_text("u,i\na,x\ni,u\ny,b\n")
    with pytest.raises(InputError, match="columns in another order"):
        read_source(spark, described(top), key="cohort.users")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ('u,i\na,b\nc,"d\ne,f\ng,h\n', {"multiLine": True}),
        ('u,i\na,b\nc,"d\re,f\rg,h\r', {"multiLine": True}),
        ('u,i\na,b\nc,"d\ne,f\n', {"multiLine": "True"}),
        ('u,i\n"c,d\ne,f\n', {"multiLine": True}),
        ('u,i\na,"x\nb,y\n"\nc,z\n', {}),
        ('u,i\na,"foo\nbar,baz\n"\nb,y\n', {}),
    ],
)
def test_a_quote_that_takes_other_lines_with_it_is_refused(
    spark: SparkSession, tmp_path: Path, text: str, options: dict[str, Any]
) -> None:
    (tmp_path / "a.csv").write_text(text)
    source = described(tmp_path / "a.csv", options=options)
    with pytest.raises(InputError, match=r"^input: .*quote.*input\.options"):
        judged(spark, tmp_path, source)
    with pytest.raises(InputError, match=r"^items\.deny: .*quote"):
        read_source(spark, source, key="items.deny")


def test_text_over_several_lines_is_read_where_its_quotes_close(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text('u,i\n"a\nb","c\n"\nd,"e ""f""\n"\n')
    source = described(tmp_path / "a.csv", options={"multiLine": True})
    assert pairs(spark, tmp_path, source) == [("a\nb", "c\n", None), ("d", 'e "f"\n', None)]


@pytest.mark.parametrize("name", ["r[1].csv", "{a,b}.csv", "a b%20.csv"])
def test_names_of_files_are_no_patterns_where_their_quotes_are_looked_at(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / name).write_text('u,i\n"6"" nails",x\n"c",y\n')
    found = pairs(spark, tmp_path, described(folder))
    assert found == [('6" nails', "x", None), ("c", "y", None)]
    several = described(folder, options={"multiLine": True})
    if "[" in name or "{" in name:
        with pytest.raises(InputError, match=r"Spark cannot read files with one of .*rename it"):
            read_ratings(spark, several)
    else:
        assert len(read_source(spark, several, key="items.deny").collect()) == 2


def test_an_empty_escape_is_the_default(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('u,i\n"6"" n",x\n')
    source = described(tmp_path / "a.csv", options={"Escape": ""})
    assert pairs(spark, tmp_path, source) == [('6" n', "x", None)]


@pytest.mark.parametrize("encoding", ["UTF-16", "utf16", "UTF_16LE", "UTF-32BE", "UnicodeLittle"])
def test_encodings_that_need_whole_files_are_refused_without_them(encoding: str) -> None:
    with pytest.raises(ValueError, match="reads rightly only in whole files"):
        Source(options={"encoding": encoding})
    assert Source(options={"encoding": encoding, "multiLine": True}).wide
    assert not Source(options={"encoding": "ISO-8859-1"}).wide


def test_options_that_are_true_or_false_may_be_text(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u,i\na,x\n")
    source = described(tmp_path / "a.csv", options={"header": "True"})
    assert pairs(spark, tmp_path, source) == [("a", "x", None)]


def test_a_column_that_is_a_folder_too_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "i=7").mkdir()
    (tmp_path / "i=7/a.csv").write_text("u,i\na,x\n")
    with pytest.raises(InputError, match="the header has the name i, and so have folders"):
        read_ratings(spark, described(tmp_path))


def test_a_link_to_a_file_that_is_read_counts_no_row_twice(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.csv").write_text("u,i\na,x\n")
    (folder / "b.csv").symlink_to(folder / "a.csv")
    with pytest.raises(InputError, match="more than one path, pattern or link"):
        read_ratings(spark, described(folder))


def test_files_beside_folders_are_named_with_a_way_to_read_all(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1/a.csv").write_text("u,i\na,x\n")
    (tmp_path / "b.csv").write_text("u,i\nb,y\n")
    with pytest.raises(InputError, match=r"1 files would not be read, such as .*beside these"):
        read_ratings(spark, described(tmp_path))


def test_any_number_of_days_in_the_future_may_be_allowed(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("u,i,t\na,x,253370764800\n")
    columns = {**COLUMNS, "timestamp": "t"}
    source = described(tmp_path / "a.csv").model_copy(
        update={"columns": Input.model_validate({"columns": columns}).columns}
    )
    config = configured(tmp_path / "out", row_checks={"future_days": 1e12})
    raw = read_ratings(spark, source).rows
    assert collected(judge(raw, source, config.row_checks, NOW).select("reason")) == [(None,)]


def test_utc_by_another_name_changes_nothing(spark: SparkSession) -> None:
    key = "spark.sql.session.timeZone"
    before = spark.conf.get(key)
    spark.conf.set(key, "Etc/UTC")
    try:
        assert check_settings(spark, {}) == {}
    finally:
        spark.conf.set(key, before)


@pytest.mark.parametrize(
    ("example", "advice"),
    [("1,5", "a decimal comma"), ("1,234", "if it separates thousands, remove it")],
)
def test_a_comma_that_may_separate_thousands_is_not_called_a_decimal_one(
    example: str, advice: str
) -> None:
    config = configured("x")
    rows = {"rating_unparsable": (1, {"raw_rating": example})}
    found = rejected(rows, config.input, IdTypes("string", "string"), NOW)
    assert str(found[0]).partition("(")[2].startswith(advice)
