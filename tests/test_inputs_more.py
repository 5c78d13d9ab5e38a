"""More inputs as they come: what Spark passes over, queries, and types of Parquet."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.config.sections import RowChecks
from recsys.errors import ConfigError, InputError
from recsys.ingest.judging import judge
from recsys.ingest.source import read_ratings, read_source
from tests.conftest import collected
from tests.test_inputs import BY_COUNT, NOW, Run, described, pairs, queried, rated

AB = ("a", "b", None)


# JSON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"u":"a","i":"b"}{"u":"c","i":"d"}\n', "1 lines .* with 2 "),
        ('{"u":"a","i":"b"}' * 50, "1 lines .* with 50 .*write one document a line"),
        ('{"u":"a","i":"b"}\n{"u":"a","i":"b"} {"u":"c"\n', "1 lines .* with 2 "),
        ('{"u":"a","i":"b"},{"u":"c","i":"d"}\n', "1 lines .* with 2 "),
        ('[{"u":"a","i":"b"}] {"u":"c","i":"d"}\n', "1 lines .* with 2 "),
        ('{"u":{"x":[{}]},"i":"b"} "c"\n', "1 lines .* with 2 "),
    ],
)
def test_several_json_documents_on_a_line_are_refused(
    spark: SparkSession, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"input\.path: {said}"):
        read_ratings(spark, described(path, format="json"))
    with pytest.raises(InputError, match=rf"cohort\.users\.path: {said}"):
        read_source(spark, described(path, format="json"), key="cohort.users")


def test_what_looks_like_several_json_documents_on_a_line_is_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        '{"u":"}{","i":"b"}\n'
        '[{"u":"c","i":"d"},{"u":"e","i":"f"}]\n'
        ' {"u":"it\'s","i":"\\"}{\\"","x":[{"y":[1,{}]},{}]} ,\n'
        "{'u':'\"}{','i':'g'}\n"
        '{"u":"deep","i":"h","z":[[[[[[[[1],[2]]]]]]]]}\n'
        '"u": {"x": 1}, "i": {"x": 2}\n'  # no document, and so a reject
    )
    assert set(pairs(spark, described(path, format="json"))) == {
        ('"}{', "g", None),
        ("c", "d", None),
        ("deep", "h", None),
        ("e", "f", None),
        ("it's", '"}{"', None),
        ("}{", "b", None),
        (None, None, "malformed_line"),
    }
    wide = tmp_path / "wide.json"
    text = '{"u":"\u5b5d\u2222","i":"b"}\n{"u":"c","i":{"x":"\u2222"}}\n'
    wide.write_bytes(text.encode("utf-16-le"))
    options = {"encoding": "UTF-16LE", "lineSep": "\n"}
    assert len(pairs(spark, described(wide, format="json", options=options))) == 2


@pytest.mark.parametrize(
    ("behind", "n"), [('{"u":"c",\n"i":"d"', 2), ('{"u":"c"}\n[', 3), ("x", 2), ('"x"', 2)]
)
def test_a_part_of_a_json_document_behind_the_first_is_refused(
    spark: SparkSession, tmp_path: Path, behind: str, n: int
) -> None:
    path = tmp_path / "a.json"
    given = described(path, format="json", options={"multiLine": True})
    path.write_text('{"u":"a",\n"i":"b"}\n' + behind)
    with pytest.raises(InputError, match=rf"multiLine: 1 files .*a\.json with {n} "):
        read_ratings(spark, given)
    path.write_text('\ufeff{"u":"a",\n"i":"b"}\n \n')
    assert pairs(spark, given) == [AB]


def test_pretty_json_without_multiline_is_named_also_with_a_query(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "day=1").mkdir()
    path = tmp_path / "day=1" / "a.json"
    path.write_text('{\n "u": "a",\n "i": "b"\n}\n')
    said = r"wholly malformed; .*set input\.options\.multiLine to true"
    for query in ("select u, i, 1 as r from input", "select 'a' as u, 'b' as i, 1 as r from input"):
        for given in (path, tmp_path):  # the name of a folder is no column of the files
            with pytest.raises(InputError, match=said):
                read_ratings(spark, queried(given, query, format="json"))


# Sources


@pytest.mark.parametrize("layout", ["parquet", "orc"])
def test_a_column_named_as_malformed_lines_are_is_one_like_any_other(
    spark: SparkSession, tmp_path: Path, layout: str
) -> None:
    place = tmp_path / "p"
    rows = spark.sql("select 'a' as u, 'b' as i, 'c' as _corrupt_record")
    rows.write.format(layout).save(str(place))
    assert pairs(spark, described(place, format=layout)) == [AB]
    users = described(place, format=layout, columns={"user": "_corrupt_record"})
    assert pairs(spark, users) == [("c", "b", None)]
    query = "select u, _corrupt_record as i, 1 as r from input"
    assert rated(spark, queried(place, query, format=layout)) == [("a", "c", 1.0, None)]


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("csv", "u,i,_corrupt_record\na,b,\n"),
        ("csv", "u,i,_Corrupt_Record\na,b,c\n"),
        ("json", '{"u":"a","i":"b","_CORRUPT_RECORD":"c"}\n'),
    ],
)
def test_text_with_a_column_named_as_malformed_lines_are_is_refused(
    spark: SparkSession, tmp_path: Path, layout: str, text: str
) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=r"(?i)has a column _corrupt_record, .*rename it"):
        read_ratings(spark, described(tmp_path / "a.txt", format=layout))


@pytest.mark.parametrize(
    ("layout", "options"), [("csv", {}), ("csv", {"header": False}), ("json", {})]
)
def test_blank_lines_alone_are_said_to_be_empty(
    spark: SparkSession, tmp_path: Path, layout: str, options: dict[str, Any]
) -> None:
    (tmp_path / "a.txt").write_text("\n\n\n")
    given = described(tmp_path / "a.txt", format=layout, options=options)
    with pytest.raises(InputError, match=r"^cohort\.users has no columns; it is empty"):
        read_source(spark, given, key="cohort.users")
    with pytest.raises(InputError, match=r"^input has no columns; it is empty"):
        read_ratings(spark, given)


@pytest.mark.parametrize(("layout", "text"), [("csv", "u,i\na,b\nc\n"), ("json", '{"u":1}\n{\n')])
def test_a_query_may_name_no_column_of_the_source(
    spark: SparkSession, tmp_path: Path, layout: str, text: str
) -> None:
    (tmp_path / "a.txt").write_text(text)
    source = queried(tmp_path / "a.txt", "select 'x' u, 'y' i, 1 r from input", format=layout)
    assert rated(spark, source) == [("x", "y", 1.0, None), (None, None, None, "malformed_line")]


def test_folders_with_the_name_of_a_column_of_the_files_are_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    for layout in ("json", "parquet", "orc"):
        place = tmp_path / layout / "day=1"
        spark.sql("select 'a' as u, 'b' as i, 'x' as DAY").write.format(layout).save(str(place))
        given = described(place.parent, format=layout, columns={"user": "day"})
        with pytest.raises(InputError, match=r"day=.* are columns, .*recursiveFileLookup"):
            read_ratings(spark, given)
        recursive = given.model_copy(update={"options": {"recursiveFileLookup": True}})
        assert pairs(spark, recursive) == [("x", "b", None)]


# Parquet


def _written(path: Path, **columns: pa.Array) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)


NANOS = pa.array([1704416523123456789], pa.timestamp("ns", "UTC"))


def _times(spark: SparkSession, source: Any) -> list[tuple[Any, ...]]:
    judged = judge(read_ratings(spark, source).rows, source, RowChecks(), NOW)
    return collected(judged.selectExpr("user_id", "unix_micros(timestamp)", "reason"))


@pytest.mark.parametrize("options", [{}, {"mergeSchema": True}])
def test_nanoseconds_in_a_column_that_not_all_files_have_are_read(
    spark: SparkSession, tmp_path: Path, options: dict[str, Any]
) -> None:
    _written(tmp_path / "p" / "a.parquet", u=["a"], i=["x"], t=NANOS)
    _written(tmp_path / "p" / "b.parquet", u=["b"], i=["x"], more=NANOS)
    if options:  # the column is not in the first file
        _written(tmp_path / "p" / "0.parquet", u=["c"], i=["x"])
    given = described(tmp_path / "p", format="parquet", columns={"timestamp": "t"}, options=options)
    rest = [("b", None, "timestamp_missing"), ("c", None, "timestamp_missing")]
    assert _times(spark, given) == [("a", 1704416523123456, None), *rest[: 1 + len(options)]]


@pytest.mark.parametrize("first", [pa.int64(), pa.timestamp("us", "UTC"), pa.timestamp("ns")])
def test_nanoseconds_in_a_later_file_alone_are_refused(
    spark: SparkSession, tmp_path: Path, first: pa.DataType
) -> None:
    _written(tmp_path / "p" / "a.parquet", u=["a"], i=["x"], t=pa.array([1704416523], first))
    _written(tmp_path / "p" / "b.parquet", u=["b"], i=["x"], t=NANOS)
    given = described(tmp_path / "p", format="parquet", columns={"timestamp": "t"})
    with pytest.raises(InputError, match=r"b\.parquet has another type .* column t, .*nanoseconds"):
        read_ratings(spark, given)


def test_an_empty_parquet_file_without_a_type_is_named(spark: SparkSession, tmp_path: Path) -> None:
    empty = pd.DataFrame({"u": [], "i": []}, dtype=object)
    for name in ("a", "c"):
        (tmp_path / "p").mkdir(exist_ok=True)
        empty.to_parquet(tmp_path / "p" / f"{name}.parquet", index=False)
    _written(tmp_path / "p" / "b.parquet", u=["a"], i=["b"])
    given = described(tmp_path / "p", format="parquet")
    with pytest.raises(InputError, match=r"a\.parquet has no values and no type in the column u"):
        read_ratings(spark, given)
    (tmp_path / "p" / "a.parquet").unlink()
    assert pairs(spark, given) == [AB]  # behind a good one it does no harm


# Queries

SORTED = "select u, i, at as r from input order by r, i, u"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select u, i, 1 as r from input tablesample (50 percent)", "takes a sample"),
        ("select u, i, 1 as r from input tablesample (9 percent) repeatable (3)", "a sample"),
        ("select u, i, 1 as r from input tablesample (1 rows)", "limit or an offset"),
        ("select u, i, 1 as r from input limit 1", "limit or an offset"),
        ("select u, i, 1 as r from input offset 1", "limit or an offset"),
        ("select u, i, 1 as r from input order by u limit 1", "by all columns"),
        ("select u, i, 1 as r from input sort by u, i, r limit 1", "limit or an offset"),
        ("select u, i, 1 as r from input where u in (select u from input limit 1)", "a limit"),
        ("with w as (select * from input limit 1) select u, i, 1 as r from w", "a limit"),
        ("select u, i, 1 as r from input where at < now()", "current time"),
        ("select u, i, unix_timestamp() as r from input", "current time"),
        ("select current_user() as u, i, 1 as r from input", "current time, user"),
        ("select u, i, id as r from input cross join range(3)", r"reads Range .*nothing but"),
        (
            "select u, i, 1 as r from input union all select _c0, _c1, 1 from csv.`{path}`",
            "nothing",
        ),
        ("select u, i, 1 as r from input where u in (select id from range(3))", "reads Range"),
        ("select u, i, 1 as r from input cross join a_view", "reads .*a_view.* nothing but"),
    ],
)
def test_a_query_that_reads_more_or_gives_other_rows_each_time_is_refused(
    spark: SparkSession, tmp_path: Path, query: str, said: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("u,i,at\na,x,1\nb,y,2\n")
    spark.sql("select 1 as z").createOrReplaceTempView("a_view")
    try:
        with pytest.raises(ConfigError, match=rf"^input\.query: .*{said}"):
            read_ratings(spark, queried(path, query.format(path=path)))
    finally:
        spark.catalog.dropTempView("a_view")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (f"{SORTED} limit 1", "a"),
        (f"{SORTED} limit 1 offset 1", "b"),
        (f"select * from ({SORTED}) limit 1", "a"),  # noqa: S608
        ("select max(u) as u, i, at as r from input group by i, at order by i, r, u limit 1", "a"),
        ("with w as (select * from input) select p.u, q.i, 1 r from w p join w q on p.u=q.u", "ab"),
        ("select u, i, 1 as r from input union all select 'c', 'z', 2", "abc"),
        ("select u, i, 1 as r from input join values ('a'), ('b') as v (w) on u = w", "ab"),
        ("select u, i, k as r from input, lateral (select explode(array(1, 2)) as k)", "aabb"),
    ],
)
def test_a_query_may_sort_join_itself_and_write_rows(
    spark: SparkSession, tmp_path: Path, query: str, found: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("u,i,at\na,x,1\nb,y,2\n")
    assert [row[0] for row in rated(spark, queried(path, query))] == list(found)


@pytest.mark.parametrize("wrong", ["cast(at as int)", "1 / (at - 2)", "to_date(at, 'yyyy')"])
def test_a_conversion_that_fails_in_a_query_is_named(run: Run, tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("u,i,at\na,x,1\nb,y,2\nc,z,x\n" if "- 2" not in wrong else "u,i,at\nb,y,2\n")
    source = queried(path, f"select u, i, hash({wrong}) as r from input")  # noqa: S608
    with pytest.raises(InputError, match=r"^input\.query: .*\[[A-Z_.]+\].*; use try_cast"):
        run("train", input=source.model_dump(), **BY_COUNT)
