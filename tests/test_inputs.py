"""Inputs as they come: read as they are meant, or refused or rejected with the right cause."""

import datetime as dt
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from recsys.config.configuration import Config
from recsys.config.sections import Input, RowChecks
from recsys.errors import ConfigError, InputError, TooManyRejectsError
from recsys.ingest.judged_rows import judge_rows
from recsys.ingest.judging import judge
from recsys.ingest.settings import check_settings
from recsys.ingest.source import read_ratings, read_source
from recsys.ingest.timestamps import fitting_format
from recsys.runtime.run import new_run
from recsys.store.tables import Store
from tests.conftest import ROOT, RUN_DATE, collected, configured, csv_input, table

Run = Callable[..., dict[str, Any]]
Csv = Callable[..., str]
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
COLUMNS = {"user": "u", "item": "i"}
ALLOW_MANY = {"max_rejected_share": 0.9}


def described(path: Path | str | list[str], **more: Any) -> Input:
    settings = {
        "path": str(path) if isinstance(path, Path) else path,
        "options": {"header": True, **more.pop("options", {})},
        "columns": {**COLUMNS, **more.pop("columns", {})},
        **more,
    }
    if settings.get("format", "csv") != "csv":
        settings["options"].pop("header")
    return Input.model_validate(settings)


def pairs(spark: SparkSession, source: Input) -> list[tuple[Any, ...]]:
    """Return user, item and reason of each row."""
    raw = read_ratings(spark, source)
    judged = judge(raw.rows, source, RowChecks(), NOW)
    return collected(judged.select("user_id", "item_id", "reason"))


def prepared(manifest: dict[str, Any]) -> dict[str, Any]:
    place = Path(manifest["outputs"]["interactions"]["uri"].removeprefix("file:"))
    found: dict[str, Any] = json.loads((place / "manifest.json").read_text())
    return found


# Quotes


def test_doubled_quotes_are_one_quote_as_pandas_writes_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    written = pd.DataFrame({"u": ['6" nails', 'say "hi"', '"'], "i": ["a,b", "", 'x"y']})
    written.to_csv(tmp_path / "a.csv", index=False)
    assert pairs(spark, described(tmp_path / "a.csv")) == [
        ('"', 'x"y', None),
        ('6" nails', "a,b", None),
        ('say "hi"', None, "item_missing"),
    ]


def test_what_spark_writes_is_read_with_its_escape_and_refused_without(
    spark: SparkSession, run: Run, tmp_path: Path
) -> None:
    rows = [('6" nails', "a"), ('say "hi"', "b\\c")]
    spark.createDataFrame(rows, "u string, i string").coalesce(1).write.csv(
        str(tmp_path / "s"), header=True
    )
    given = described(tmp_path / "s", options={"escape": "\\"})
    assert pairs(spark, given) == sorted((user, item, None) for user, item in rows)
    with pytest.raises(
        InputError, match=r"2 lines have a quote behind a backslash.*options.escape"
    ):
        run("train", input=described(tmp_path / "s").model_dump(), **BY_COUNT)


BY_COUNT: dict[str, Any] = {"deduplication": {"policy": "count"}}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ('u,i\n"a\nb",x\nc,y\n', {}, r"1 lines open a quote .*1 close one.*multiLine to true"),
        ('u,i\nx,"6\n nails"\nc,y\n', {}, r"open a quote .*multiLine to true"),
        ('u,i\n"6\\" nails",x\nc,y\n', {}, r"behind a backslash"),
        ('u,i\n"6"" nails",x\nc,y\n', {"escape": "\\"}, r"doubled quote.*remove that option"),
        ('u,i\na,"x\nc,y\nd,"z"\ne,f\n', {"multiLine": True}, r"a quote does not close"),
    ],
)
def test_quotes_that_mean_something_else_are_refused(
    spark: SparkSession, run: Run, tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    source = described(path, options=options)
    with pytest.raises(InputError, match=message):
        run("train", input=source.model_dump(), **BY_COUNT)
    with pytest.raises(InputError, match=message.replace("input", "cohort.users")):
        read_source(spark, source, key="cohort.users")


def test_quotes_that_do_no_harm_are_no_reason_to_stop(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text, found in {
        'u,i\n6" nails,x\n"a",y\n': [('6" nails', "x"), ("a", "y")],
        'u,i\na"b",x\nb,"z\n': [('a"b"', "x"), ("b", "z")],  # one opens, and none closes
    }.items():
        path.write_text(text)
        assert [row[:2] for row in pairs(spark, described(path))] == found
        read_source(spark, described(path), key="cohort.users")
    path.write_text('u,i\n"a\nb",x\n')
    assert pairs(spark, described(path, options={"multiLine": True})) == [("a\nb", "x", None)]
    path.write_text('u,i\n"a,x\nb",y\n')
    assert pairs(spark, described(path, options={"quote": ""})) == [
        ('"a', "x", None),
        ('b"', "y", None),
    ]


# Headers


def test_a_header_among_the_rows_is_a_reject(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('u,i\na,x\n\ufeffu,i\nb,y\n"u",i\n'.encode())
    assert pairs(spark, described(path)) == [
        ("\ufeffu", "i", "header_line"),
        ("a", "x", None),
        ("b", "y", None),
        ("u", "i", "header_line"),
    ]
    assert read_source(spark, described(path), key="cohort.users").count() == 2


def test_a_header_among_the_rows_with_another_order_is_refused(
    spark: SparkSession, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("u,i\na,x\ni,u\ny,b\n")
    for read in (
        lambda: run("train", input=described(path).model_dump(), **BY_COUNT),
        lambda: read_source(spark, described(path), key="cohort.users"),
    ):
        with pytest.raises(InputError, match=r"second header.*another order"):
            read()


def test_numbered_columns_are_no_repeated_names(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("col0,col1,genre1,genre2,tag4,tag5,_c6\na,x,1,2,3,4,5\n")
    given = described(path, columns={"user": "tag5", "item": "_c6"})
    assert pairs(spark, given) == [("4", "5", None)]
    path.write_text("_c0,_c1\na,x\n")
    assert pairs(spark, described(path, columns={"user": "_c1", "item": "_c0"})) == [
        ("x", "a", None)
    ]
    path.write_text("tag4,tag5,TAG4\na,x,y\n")
    with pytest.raises(
        InputError, match=r"the header of items\.deny has a name more than once: TAG4"
    ):
        read_source(spark, described(path), key="items.deny")


# Files


def test_values_of_folders_stay_text(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("007", "7"):
        (tmp_path / f"i={name}").mkdir()
        (tmp_path / f"i={name}" / "a.csv").write_text("u\na\n")
    assert pairs(spark, described(tmp_path)) == [("a", "007", None), ("a", "7", None)]


def test_no_file_is_passed_over_and_none_is_read_twice(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "d" / "old").mkdir(parents=True)
    (tmp_path / "d" / "a.csv").write_text("u,i\na,x\n")
    (tmp_path / "d" / "old" / "b [1] %20.csv").write_text("u,i\nb,y\n")
    both = [("a", "x", None), ("b", "y", None)]
    with pytest.raises(InputError, match=r"1 files would not be read.*old/b .*recursiveFileLookup"):
        read_ratings(spark, described(tmp_path / "d"))
    recursive = described(tmp_path / "d", options={"recursiveFileLookup": True})
    assert pairs(spark, recursive) == both
    assert pairs(spark, described(tmp_path / "d" / "*")) == both  # a folder that is named is read
    assert pairs(spark, described(tmp_path / "d" / "*.csv")) == both[:1]
    (tmp_path / "d" / "old" / "older").mkdir()
    (tmp_path / "d" / "old" / "older" / "c.csv").write_text("u,i\nc,z\n")
    with pytest.raises(InputError, match=r"1 files would not be read.*older/c.csv"):
        read_ratings(spark, described(tmp_path / "d" / "*"))
    twice = [str(tmp_path / "d" / "a.csv"), str(tmp_path / "d" / "a*.csv")]
    with pytest.raises(InputError, match=r"a.csv is found by more than one path.*count twice"):
        read_ratings(spark, described(twice))


def test_paths_with_nothing_to_read_are_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "marked").mkdir()
    (tmp_path / "marked" / "_SUCCESS").touch()
    for name in ("empty", "marked"):
        for layout in ("csv", "parquet", "json"):
            with pytest.raises(InputError, match=r"input.path: found no data in .*_SUCCESS"):
                read_ratings(spark, described(tmp_path / name, format=layout))
    (tmp_path / "ratings[1].csv").write_text("u,i\na,x\n")
    with pytest.raises(InputError, match=r"are patterns, and a backslash"):
        read_ratings(spark, described(tmp_path / "ratings[1].csv"))
    assert pairs(spark, described(f"{tmp_path}/ratings\\[1\\].csv")) == [("a", "x", None)]
    for key in ("input", "root"):
        given = {"input": {"path": "~/x.csv"}} if key == "input" else {"root": "~/out"}
        with pytest.raises(ValueError, match="~ is not expanded"):
            Config.model_validate(given)


def test_a_damaged_file_is_named(spark: SparkSession, run: Run, tmp_path: Path) -> None:
    text = b"u,i\n" + b"".join(b"u%d,i%d\n" % (n, n) for n in range(5000))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text)[:2000])
    with pytest.raises(InputError, match=r"in the file \S+b\.csv\.gz: .*cut short"):
        run("train", input=described(tmp_path / "*.gz").model_dump(), **BY_COUNT)


def test_files_with_ids_of_two_types_are_named(
    spark: SparkSession, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, kind in (("a", pa.int32()), ("b", pa.int64())):
        written = pa.table({"u": pa.array([1], kind), "i": [1]})
        pq.write_table(written, folder / f"{name}.parquet")
    with pytest.raises(InputError, match=r"in the file \S+b\.parquet: .*\[u\].*one type"):
        run("train", input=described(folder, format="parquet").model_dump(), **BY_COUNT)


# JSON


def test_json_of_which_spark_would_read_a_part_is_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = "".join(json.dumps({"u": f'a "{n}" }}{{', "i": n}) + "\n" for n in range(100))
    for n in range(3):
        (tmp_path / f"{n}.json").write_text(lines)
    multi = {"multiLine": True}
    with pytest.raises(InputError, match=r"3 files have more than one JSON document.*with 100"):
        read_ratings(spark, described(tmp_path, format="json", options=multi))
    assert len(pairs(spark, described(tmp_path, format="json"))) == 300
    pretty = tmp_path / "pretty.txt"
    pretty.write_text(json.dumps([{"u": "a]", "i": "x"}, {"u": 'b\\"', "i": "y"}], indent=1))
    assert pairs(spark, described(pretty, format="json", options=multi)) == [
        ("a]", "x", None),
        ('b\\"', "y", None),
    ]
    pretty.write_text(json.dumps({"u": "a", "i": "x"}, indent=1))
    with pytest.raises(InputError, match=r"wholly malformed.*input\.options\.multiLine"):
        read_ratings(spark, described(pretty, format="json"))


# Parquet


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_nanoseconds_of_pandas_are_timestamps(
    spark: SparkSession, tmp_path: Path, zone: str | None
) -> None:
    times = pd.to_datetime(["2024-01-05 01:02:03.123456789", "1969-12-31 23:59:59.999999999"])
    frame = pd.DataFrame({"u": [1, 2], "i": [3, 4], "t": times.astype("datetime64[ns]")})
    frame["t"] = frame["t"].dt.tz_localize(zone)
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    source = described(tmp_path / "a.parquet", format="parquet", columns={"timestamp": "t"})
    judged = judge(read_ratings(spark, source).rows, source, RowChecks(), NOW)
    found = collected(judged.selectExpr("user_id", "unix_micros(timestamp)", "reason"))
    assert found == [(1, 1704416523123456, None), (2, -1, None)]
    read = read_source(spark, source, key="cohort.users")
    assert read.schema["t"].dataType.simpleString() == "timestamp"
    if zone is None:  # a time without a zone is one of the session's
        spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
        try:
            row = read_ratings(spark, source).rows.selectExpr("unix_micros(timestamp)").first()
        finally:
            spark.conf.set("spark.sql.session.timeZone", "UTC")
        assert row is not None
        assert row[0] == 1704416523123456 - 9 * 3600 * 10**6


def test_files_with_and_without_nanoseconds_are_refused(
    spark: SparkSession, run: Run, tmp_path: Path
) -> None:
    times = pd.to_datetime(["2024-01-05"])
    for name, unit in (("a", "ns"), ("b", "us")):
        frame = pd.DataFrame({"u": [1], "i": [2], "t": times.astype(f"datetime64[{unit}]")})
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
    source = described(tmp_path, format="parquet", columns={"timestamp": "t"})
    with pytest.raises(InputError, match=r"b.parquet has another type .* column t"):
        read_ratings(spark, source)


def test_nested_columns_and_names_with_dots_and_backticks_are_found(
    spark: SparkSession, tmp_path: Path
) -> None:
    spark.sql(
        "select named_struct('id', 7, 'a.b', named_struct('c`d', 8)) as u, 9 as `u.x`, 'i1' as i"
    ).write.parquet(str(tmp_path / "p"))

    def user(name: str) -> Any:
        given = described(tmp_path / "p", format="parquet", columns={"user": name})
        return pairs(spark, given)[0][0]

    assert (user("u.id"), user("U.ID"), user("`u`.id"), user("u.x")) == (7, 7, 7, 9)
    with pytest.raises(
        InputError, match=r"no column 'u.ids'; did you mean u.id\?.* it has u, u.id"
    ):
        user("u.ids")
    spark.sql("select named_struct('a.b', named_struct('c', 8)) as u, 'i1' as i").write.parquet(
        str(tmp_path / "q")
    )
    deep = described(tmp_path / "q", format="parquet", columns={"user": "u.`a.b`.c"})
    assert pairs(spark, deep) == [(8, "i1", None)]


# Timestamps


@pytest.mark.parametrize(
    ("kind", "value", "layout", "expected"),
    [
        ("int", "20240105", "yyyyMMdd", "2024-01-05 00:00:00"),
        ("bigint", "20240105083000", "yyyyMMddHHmmss", "2024-01-05 08:30:00"),
        ("double", "20240105", "yyyyMMdd", "2024-01-05 00:00:00"),
        ("string", "'20240105'", "yyyyMMdd", "2024-01-05 00:00:00"),
        ("bigint", "1704416523123456789", "nanoseconds", "2024-01-05 01:02:03.123456"),
        ("string", "'1704416523.25'", "seconds", "2024-01-05 01:02:03.25"),
        ("bigint", "20241305", "yyyyMMdd", None),
        ("double", "20240105.5", "yyyyMMdd", None),
    ],
)
def test_dates_as_numbers_are_read_by_a_pattern(
    spark: SparkSession, kind: str, value: str, layout: str, expected: str | None
) -> None:
    raw = spark.sql(
        f"select 'u' user, 'i' item, cast({value} as {kind}) timestamp, cast(null as string) line, "
        "cast(null as string) misread, false quoted"
    )
    source = Input.model_validate({"timestamp_format": layout})
    row = judge(raw, source, RowChecks(), NOW).selectExpr("cast(timestamp as string)").first()
    assert row is not None
    assert row[0] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1704416523", "seconds"),
        ("1704416523123", "milliseconds"),
        ("1704416523123456", "microseconds"),
        ("1704416523123456789", "nanoseconds"),
        ("20240105", "yyyyMMdd"),
        ("202401050830", "yyyyMMddHHmm"),
        ("20240105083000", "yyyyMMddHHmmss"),
        ("5", None),
        ("x", None),
        (None, None),
    ],
)
def test_a_number_tells_its_unit(value: str | None, expected: str | None) -> None:
    assert fitting_format(value, NOW) == expected


def _dated(*times: object) -> list[list[object]]:
    return [[f"u{n}", f"i{n}", 4, time] for n, time in enumerate(times)]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([20240105, 20240106, 20240107], "before 1990.*timestamp_format.*yyyyMMdd would fit"),
        ([631152000, 5 * 10**8], "before 1990"),
        ([1704416523 + n % 3 for n in range(120)], "all within a minute"),
        ([1704416523, 1704516523], None),
    ],
)
def test_a_range_of_timestamps_that_looks_wrong_gets_a_warning(
    run: Run, ratings_csv: Csv, times: list[int], said: str | None
) -> None:
    path = ratings_csv(_dated(*times))
    found = prepared(run("train", input=csv_input(path)))
    if said is None:
        assert found["warnings"] == []
        assert found["timestamps"] == {
            "first": "2024-01-05 01:02:03 UTC",
            "last": "2024-01-06 04:48:43 UTC",
        }
    else:
        assert len(found["warnings"]) == 1
        assert re.search(said, found["warnings"][0])


def test_a_timestamp_in_the_future_is_a_reject_unless_it_is_wanted(
    run: Run, ratings_csv: Csv
) -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp())
    path = ratings_csv(_dated(now, now + 3600, now + 2 * 86_400, 253_370_764_800))
    first = run("train", input=csv_input(path), row_checks=ALLOW_MANY)
    assert first["counts"]["rejected_by_reason"] == {"timestamp_in_future": 2}
    rejects = table(first, "rejects")
    assert sorted(rejects["user"]) == ["u2", "u3"]
    none = run("train", input=csv_input(path), row_checks={"future_days": None}, run_id="r2")
    assert none["counts"]["rows_rejected"] == 0
    assert "in the future" in prepared(none)["warnings"][0]
    week = run(
        "train", input=csv_input(path), row_checks={**ALLOW_MANY, "future_days": 7}, run_id="r3"
    )
    assert week["counts"]["rejected_by_reason"] == {"timestamp_in_future": 1}


def test_an_attempt_judges_by_the_beginning_of_the_first_one(
    spark: SparkSession, ratings_csv: Csv, tmp_path: Path
) -> None:
    now = dt.datetime.now(dt.UTC)
    path = ratings_csv(_dated(int(now.timestamp()), int(now.timestamp()) - 9 * 86_400))
    config = configured(tmp_path / "out", input=csv_input(path), row_checks=ALLOW_MANY)
    store = Store(spark, config.root)
    for days, rejects in ((0, 0), (5, 1)):
        first = now - dt.timedelta(days=days)
        run = replace(new_run("r1", RUN_DATE), first_started_at=first)
        place = store.uri(f"rows-{days}")
        assert judge_rows(spark, store, config, run, place).n_rejected == rejects


def test_milliseconds_read_as_seconds_say_so(run: Run, ratings_csv: Csv) -> None:
    path = ratings_csv(_dated(*[1704416523123 + n for n in range(5)]))
    with pytest.raises(TooManyRejectsError, match=r"1704416523123.*milliseconds would fit"):
        run("train", input=csv_input(path))


# Causes of rejects


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ([[2**31, 1, 1, 1]], {"id_types": {"user": "int"}}, "'2147483648' .*to long"),
        ([["x1", 1, 1, 1]], {"id_types": {"user": "long"}}, "'x1' .*to string"),
        ([["u", "i", '"4,5"', 1]], {}, "'4,5' .*decimal to ','"),
        ([["u", "i", "4.5", 1]], {"decimal": ","}, r"'4\.5' .*decimal to '\.'"),
        ([["u", "i", 1, "2024-01-05"]], {}, "iso would fit"),
    ],
)
def test_a_reject_comes_with_an_example_and_what_would_help(
    run: Run, ratings_csv: Csv, rows: list[list[object]], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(TooManyRejectsError, match=said):
        run("train", input=csv_input(ratings_csv(rows), **more))


def test_decimal_commas_are_read_where_they_are_expected(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("u;i;r\na;x;4,5\nb;y;-,5\nc;z;1.234,5\nd;w;7\n")
    source = described(path, options={"sep": ";"}, columns={"rating": "r"}, decimal=",")
    judged = judge(read_ratings(spark, source).rows, source, RowChecks(), NOW)
    assert collected(judged.select("user_id", "rating", "reason")) == [
        ("a", 4.5, None),
        ("b", -0.5, None),
        ("c", None, "rating_unparsable"),
        ("d", 7.0, None),
    ]


def test_many_zeros_are_pointed_out(run: Run, ratings_csv: Csv) -> None:
    path = ratings_csv([[f"u{n}", f"i{n}", 0 if n < 6 else 4, n] for n in range(10)])
    assert (
        "60% of the ratings are 0" in prepared(run("train", input=csv_input(path)))["warnings"][0]
    )
    above = run("train", input=csv_input(path), filters={"rating_threshold": 1.0}, run_id="r2")
    assert not any("are 0" in warning for warning in prepared(above)["warnings"])
    assert above["counts"]["rows_with_rating_zero"] == 6


# Settings of the session


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("spark.sql.files.ignoreCorruptFiles", "true", "lose rows"),
        ("spark.sql.files.ignoreMissingFiles", "true", "lose rows"),
        ("spark.sql.legacy.timeParserPolicy", "LEGACY", "change what is read"),
        ("spark.sql.session.timeZone", "Asia/Tokyo", "change what is read"),
    ],
)
def test_settings_that_change_what_is_read_are_refused_or_recorded(
    spark: SparkSession, key: str, value: str, said: str
) -> None:
    before = spark.conf.get(key)
    assert check_settings(spark, {}) == {}
    spark.conf.set(key, value)
    try:
        with pytest.raises(ConfigError, match=f"{said}.*{key} is {value}.*section `spark`"):
            check_settings(spark, {})
        assert check_settings(spark, {key: value == "true" or value}) == {key: value}
    finally:
        spark.conf.set(key, before)


# Queries

EVENTS = "u,i,event,at\na,x,view,1\na,x,buy,2\nb,x,view,3\nb,y,return,4\nc\n"


def queried(path: Path, query: str, **more: Any) -> Input:
    columns = {"user": "u", "item": "i", "rating": "r", **more.pop("columns", {})}
    return described(path, query=query, columns=columns, **more)


def rated(spark: SparkSession, source: Input) -> list[tuple[Any, ...]]:
    judged = judge(read_ratings(spark, source).rows, source, RowChecks(), NOW)
    return collected(judged.select("user_id", "item_id", "rating", "reason"))


def test_events_get_weights_by_a_query_and_every_row_is_accounted_for(
    spark: SparkSession, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(EVENTS)
    source = queried(
        path,
        "select u, i, case event when 'buy' then 5 when 'view' then 1 end as r from input",
    )
    assert rated(spark, source) == [
        ("a", "x", 1.0, None),
        ("a", "x", 5.0, None),
        ("b", "x", 1.0, None),
        ("b", "y", None, "rating_missing"),
        (None, None, None, "malformed_line"),
    ]
    checks = {"max_rejected_share": 0.5}
    dedup = {"policy": "sum"}
    first = run("train", input=source.model_dump(), row_checks=checks, deduplication=dedup)
    assert first["counts"]["rows_read"] == 5
    assert first["counts"]["rejected_by_reason"] == {"malformed_line": 1, "rating_missing": 1}
    assert list(table(first, "rejects").dropna(subset="line")["line"]) == ["c"]
    other = source.model_copy(update={"query": "select u, i, 1 as r from input"})
    again = run(
        "train", input=other.model_dump(), row_checks=checks, deduplication=dedup, run_id="r2"
    )
    assert again["outputs"]["interactions"]["uri"] != first["outputs"]["interactions"]["uri"]
    assert first["model_id"].rpartition("-")[2] != again["model_id"].rpartition("-")[2]


def test_a_wide_matrix_a_list_a_line_and_nested_columns_become_rows(
    spark: SparkSession, tmp_path: Path
) -> None:
    wide = tmp_path / "wide.csv"
    wide.write_text("u,x,y\na,5,\nb,1,2\n")
    query = (
        "select u, i, r from input "
        "lateral view stack(2, 'x', `x`, 'y', `y`) cells as i, r where r is not null"
    )
    assert rated(spark, queried(wide, query)) == [
        ("a", "x", 5.0, None),
        ("b", "x", 1.0, None),
        ("b", "y", 2.0, None),
    ]
    lists = tmp_path / "lists.csv"
    lists.write_text("u,items\na,x|y\nb,\n")
    query = r"select u, explode(split(items, '[|]')) as i, 1 as r from input"
    assert rated(spark, queried(lists, query)) == [("a", "x", 1.0, None), ("a", "y", 1.0, None)]
    nested = tmp_path / "nested.json"
    nested.write_text('{"who":{"id":7},"bought":[{"sku":"x","n":2},{"sku":"y","n":1}]}\n{"who":\n')
    query = "select who.id as u, b.sku as i, b.n as r from input lateral view explode(bought) as b"
    source = queried(nested, query, format="json")
    assert rated(spark, source) == [
        (7, "x", 2.0, None),
        (7, "y", 1.0, None),
        (None, None, None, "malformed_line"),
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("drop table x", "input.query: .*Syntax error"),
        ("select u from input; select 1", "input.query: .*Syntax error"),
        ("select u, i, nothing as r from input", "input.query: .*nothing"),
        ("select u, i, rand() as r from input", "other rows each time"),
        ("select uuid() as u, i, 1 as r from input", "other rows each time"),
        (
            "select _c0 as u, _c1 as i, 1 as r from csv.`{path}/b.csv`",
            "expected nothing but `input`",
        ),
    ],
)
def test_a_query_is_checked_before_anything_is_read(
    spark: SparkSession, tmp_path: Path, query: str, said: str
) -> None:
    (tmp_path / "a.csv").write_text(EVENTS)
    (tmp_path / "b.csv").write_text("u,i\nq,w\n")
    source = queried(tmp_path / "a.csv", query.format(path=tmp_path))
    with pytest.raises(ConfigError, match=said):
        read_ratings(spark, source)
    with pytest.raises(InputError, match="input has no column 'r'; it has u, i"):
        read_ratings(spark, queried(tmp_path / "a.csv", "select u, i from input"))


# Lists in the configuration


def test_ids_can_be_written_in_the_configuration(run: Run, ratings_csv: Csv) -> None:
    path = ratings_csv([[n, n % 7, 4, n] for n in range(40)])
    found = run(
        "run",
        input=csv_input(path, id_types={"user": "int"}),
        cohort={"users": {"ids": [3, "4", 3, "x"]}},
        items={"deny": {"ids": [1, "2"]}},
    )
    status = table(found, "status").set_index("requested")
    assert status["status"].to_dict() == {"3": "scored", "4": "scored", "x": "invalid"}
    assert status["times_requested"].to_dict() == {"3": 2, "4": 1, "x": 1}
    assert not set(table(found, "recommendations")["item_id"]) & {"1", "2"}


# The examples of the documentation


def examples() -> list[tuple[str, str]]:
    """Return each query of the page with the source that stands before it."""
    page = (ROOT / "docs" / "how-to" / "inputs.md").read_text(encoding="utf-8")
    fenced = re.findall(r"```text\n(.*?)```\n\n```yaml\n(.*?)```", page, re.DOTALL)
    return [(text, config) for text, config in fenced if "query:" in config]


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (0, [("u1", "i1", 1.0), ("u1", "i1", 5.0)]),
        (1, [("u1", "i1", 5.0), ("u2", "i1", 1.0), ("u2", "i2", 2.0)]),
        (2, [("u1", "i1", 1.0), ("u1", "i2", 1.0), ("u2", "i2", 1.0)]),
        (3, [("u1", "i1", 1.0), ("u1", "i2", 1.0), ("u2", "i2", 1.0)]),
        (4, [(1, "i1", 1.0), (1, "i2", 1.0), (2, "i2", 1.0)]),
        (5, [(7, "i1", 2.0), (7, "i2", 1.0), (8, "i1", 3.0)]),
    ],
)
def test_the_queries_of_the_documentation_give_the_rows_that_they_promise(
    spark: SparkSession, tmp_path: Path, number: int, found: list[tuple[Any, ...]]
) -> None:
    text, config = examples()[number]
    given = yaml.safe_load(config)["input"]
    (tmp_path / given["path"]).write_text(text)
    source = Input.model_validate({**given, "path": str(tmp_path / given["path"])})
    assert rated(spark, source) == [(*row, None) for row in found]
    assert len(examples()) == 6
