"""How large the input is by its files, before anything is read."""

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys.config.sections import Input
from recsys.ingest.input_size import input_bytes, input_rows


def source(path: object, **more: Any) -> Input:
    return Input.model_validate({"path": path, **more})


def test_lines_are_counted_where_the_first_megabyte_has_all_and_estimated_where_not(
    tmp_path: Path,
) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    small.write_text("u1,i1,5\n" * 1_000)
    large.write_text("u1,i1,5\n" * 200_000 + "u10000,i10000,5\n" * 50_000)
    assert input_rows(source(str(small))) == 1_000
    assert input_rows(source(str(small), options={"header": True})) == 999
    assert input_bytes(source(str(small))) == 8_000
    # The first lines are the shorter ones.
    assert input_rows(source(str(large))) == 300_000


def test_parquet_says_its_rows_and_what_spark_would_not_read_does_not_count(
    tmp_path: Path,
) -> None:
    for n in range(3):
        place = tmp_path / f"day={n}" / "part.parquet"
        place.parent.mkdir()
        pd.DataFrame({"user_id": range(n * 10)}).to_parquet(place)
    (tmp_path / "_SUCCESS").write_text("x")
    (tmp_path / ".part.crc").write_text("x")
    for hidden in ("_temporary", ".hidden"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "part.parquet").write_text("x")
    whole = source(str(tmp_path), format="parquet")
    assert input_rows(whole) == 30
    assert input_bytes(whole) == sum(f.stat().st_size for f in tmp_path.glob("day=*/*"))
    two = [f"{tmp_path}/day=[01]/*", f"file://{tmp_path}/day=1"]
    assert input_rows(source(two, format="parquet")) == 20


@pytest.mark.parametrize(
    "path",
    [
        *("s3a://bucket/ratings.csv", "nowhere.csv", "empty.csv", "a.csv.gz"),
        # Patterns that Spark accepts and Python does not, or reads otherwise.
        *("{empty,other}.csv", "**.csv", "x" * 300, ["empty.csv", "nowhere-*.csv"]),
    ],
)
def test_where_the_files_do_not_say_it_there_is_no_guess(
    path: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    Path("a.csv.gz").write_bytes(gzip.compress(b"u1,i1,5\n" * 1_000))
    assert input_rows(source(path)) is None
    assert input_rows(Input.model_validate({"format": "table", "table": "ratings"})) is None
