from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys.config.sections import Input
from recsys.errors import InputError
from recsys.ingest.failures import reading
from recsys.ingest.listing import identify
from recsys.ingest.source import read_ratings
from tests.conftest import collected


def source(path: Path | str | list[str], **more: Any) -> Input:
    columns = {"user": "u", "item": "i", "rating": "r", "timestamp": "t"}
    settings = {"path": str(path) if isinstance(path, Path) else path, "columns": columns, **more}
    return Input.model_validate(settings)


def rows_of(spark: SparkSession, settings: Input) -> list[tuple[Any, ...]]:
    """Read, and return user, item, rating, timestamp and the text of a malformed line."""
    return collected(read_ratings(spark, settings).rows.drop("misread", "quoted"))


def test_csv_values_stay_text_and_malformed_lines_keep_their_text(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text('x,u,i,r,t\n,007, 5 ,4.0,1\n,1,2\n,1,2,3,4,5\n,"1,2,3,4\n')
    rows = rows_of(spark, source(path, options={"header": True}))
    assert ("007", " 5 ", "4.0", "1", None) in rows
    assert sorted(row[-1] for row in rows if row[-1]) == [',"1,2,3,4', ",1,2", ",1,2,3,4,5"]


def test_csv_without_a_header_and_with_a_long_separator_is_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "ratings.dat"
    path.write_text("1::0002844::8::77\n2::0104257::8::78\n")
    columns = {"user": "_c0", "item": "_c1", "rating": "_c2", "timestamp": "_c3"}
    rows = rows_of(spark, source(path, options={"sep": "::"}, columns=columns))
    assert rows == [("1", "0002844", "8", "77", None), ("2", "0104257", "8", "78", None)]


@pytest.mark.parametrize("layout", ["parquet", "orc", "json", "table"])
def test_typed_sources_keep_their_types(spark: SparkSession, tmp_path: Path, layout: str) -> None:
    frame = spark.createDataFrame(
        [(1, "a", 2.5, 10), (2**40, "b", 3.0, 11)], "u bigint, i string, r double, t bigint"
    )
    path = tmp_path / "ratings"
    if layout == "table":
        frame.write.saveAsTable("ratings_of_a_test")
        settings = Input.model_validate(
            {**source(path).model_dump(exclude={"path", "format"}), "format": "table"}
            | {"table": "ratings_of_a_test"}
        )
    else:
        frame.write.format(layout).save(str(path))
        settings = source(path, format=layout)
    rows = rows_of(spark, settings)
    if layout == "table":
        spark.sql("drop table ratings_of_a_test")
    assert rows == [(1, "a", 2.5, 10, None), (2**40, "b", 3.0, 11, None)]


def test_a_malformed_json_line_keeps_its_text(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"u":1,"i":"x","r":1.0,"t":5}\n{"u":1,"i":\n')
    rows = rows_of(spark, source(path, format="json"))
    assert rows == [(1, "x", 1.0, 5, None), (None, None, None, None, '{"u":1,"i":')]


def test_a_missing_column_is_named_with_the_nearest_one(
    spark: SparkSession, ratings_csv: Callable[..., str]
) -> None:
    path = ratings_csv([["a", "b", 1, 2]])
    columns = {"user": "usr", "item": "item"}
    with pytest.raises(InputError, match=r"input\.columns\.user: .*'usr'; did you mean user\?"):
        read_ratings(spark, source(path, options={"header": True}, columns=columns))
    with pytest.raises(InputError, match="option header is not set"):
        read_ratings(spark, source(path, columns=columns))


def test_a_missing_file_is_named_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_ratings(spark, source(tmp_path / "nowhere.csv"))
    assert "nowhere.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot read no_such_table as table"):
        read_ratings(spark, Input.model_validate({"format": "table", "table": "no_such_table"}))


def test_files_with_their_columns_in_different_orders_are_refused_not_mixed_up(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "1.csv").write_text("u,i,r,t\na,b,1,1\n")
    (tmp_path / "2.csv").write_text("i,u,r,t\nb,a,1,1\n")
    settings = source(
        [str(tmp_path / name) for name in ("1.csv", "2.csv")], options={"header": True}
    )
    with (
        pytest.raises(InputError, match="CSV header does not conform") as caught,
        reading(settings),
    ):
        rows_of(spark, settings)
    assert "\n" not in str(caught.value)


def test_a_column_without_a_name_is_no_obstacle_and_repeated_names_are_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name in ("1.csv", "2.csv"):  # as pandas writes its index
        (tmp_path / name).write_text(",u,i,r,t\n0,a,b,1,1\n")
    settings = source(str(tmp_path / "*.csv"), options={"header": True})
    assert rows_of(spark, settings) == [("a", "b", "1", "1", None)] * 2
    (tmp_path / "3.txt").write_text("u,i,r,t,U\na,b,1,1,c\n")
    with pytest.raises(InputError, match="has a name more than once: U; rename one"):
        read_ratings(spark, source(tmp_path / "3.txt", options={"header": True}))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match=r"found no data in .*empty files"):
        read_ratings(spark, source(tmp_path / "empty.txt", options={"header": True}))


def test_the_identity_of_the_input_changes_with_its_files(
    spark: SparkSession, tmp_path: Path
) -> None:
    pd.DataFrame({"u": ["a"], "i": ["b"], "r": [1.0], "t": [1]}).to_csv(
        tmp_path / "[1].csv", index=False
    )
    settings = source(str(tmp_path / "*.csv"), options={"header": True})
    before, again = (identify(settings, read_ratings(spark, settings).opened.files) for _ in "12")
    (tmp_path / "2.csv").write_text("u,i,r,t\nx,y,1,1\n")
    after = identify(settings, read_ratings(spark, settings).opened.files)
    assert before == again
    assert (before.files, after.files) == (1, 2)
    assert before.sha256_of_listing != after.sha256_of_listing
