"""Titles of the items of lists, published beside them and current together with them."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from recsys import read_recommendations
from recsys.config.sections import Titles
from recsys.errors import DamageError
from recsys.flows.record import read_run
from recsys.flows.report.page import look
from recsys.publishing.iceberg.tables import IcebergTables
from recsys.publishing.versions import Version
from recsys.score.titles import Card, read_cards
from recsys.store.posix import PosixFiles
from tests.conftest import csv_input, small_ratings, table
from tests.iceberg_tables import OTHER, UNIT, loaded, stage

Run = Callable[..., dict[str, Any]]


def named(tmp_path: Path) -> dict[str, Any]:
    """Write titles of all items but the first, and return how they are configured."""
    lines = ["sku,name,by,photo,page", "i001,,nobody,x,y"]
    for item in range(2, 40):
        photo = f"https://shop/{item}.png" if item % 2 else ""
        lines.append(f'i{item:03},"=no. {item}, ""best""",Ann,{photo},https://shop/{item}')
    lines += ["i002,a second row,Bob,,", "elsewhere,Not in any list,,,"]
    (tmp_path / "titles.csv").write_text("\n".join(lines) + "\n")
    return {
        "path": str(tmp_path / "titles.csv"),
        "options": {"header": True},
        "column": "sku",
        "title": ["name", "by"],
        "image": "photo",
        "link": "page",
    }


def test_what_is_in_lists_is_published_with_titles_images_and_links(
    run: Run,
    ratings_csv: Callable[..., str],
    tmp_path: Path,
    spark: SparkSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = csv_input(ratings_csv(small_ratings()))
    gates = {"min_coverage": None, "min_to_popularity": None}
    given = {"input": source, "scoring": {"k": 2}, "gates": gates}
    done = run("run", run_id="r1", items={"titles": named(tmp_path)}, **given)
    assert list(done["outputs"])[-3:] == ["status", "titles", "recommendations"]
    titles, lists = table(done, "titles"), table(done, "recommendations")
    # Those of the model, so that histories can be shown with titles, too.
    assert titles["item_id"].tolist() == sorted(table(done, "model", "items")["item_id"])
    assert set(titles["item_id"]) > set(lists["item_id"])
    assert titles.columns.tolist() == [
        *("run_date", "cohort", "item_id", "title", "image", "link", "run_id")
    ]
    cards = titles.set_index("item_id")[["title", "image", "link"]].T.to_dict("list")
    assert cards["i002"] == ['=no. 2, "best", Ann', None, "https://shop/2"]
    assert cards["i003"] == ['=no. 3, "best", Ann', "https://shop/3.png", "https://shop/3"]
    assert cards["i000"] == [None, None, None]
    assert cards["i001"] == ["nobody", "x", "y"]
    assert set(titles["run_id"]) == {"r1"}

    published = read_recommendations(tmp_path / "out")
    assert published.titles.column("item_id").to_pylist() == titles["item_id"].tolist()
    both = published.with_titles().to_pandas()
    assert len(both) == len(lists)
    assert both[["user_id", "rank"]].equals(
        both[["user_id", "rank"]].sort_values(["user_id", "rank"])
    )
    for row in both.itertuples():
        assert [row.title, row.image, row.link] == cards[row.item_id]

    columns = ["user_id", "rank", "item_id", "title", "image", "link"]
    with_spark = read_recommendations(tmp_path / "out", spark=spark).with_titles()
    mine = with_spark.select(columns).toPandas().sort_values(columns[:2], ignore_index=True)
    pd.testing.assert_frame_equal(mine, both[columns])

    # A report is made of what was published, whatever has become of the file.
    (tmp_path / "titles.csv").write_text("sku,name,by,photo,page\ni003,Another title,,,\n")
    files = PosixFiles(tmp_path / "out")
    first = read_run(files, "r1")
    assert first is not None
    shown = look(files, first, 3)
    for one in shown.people:
        for row in (*one.history, *one.recommended):
            assert shown.titles.get(row.item) == cards[row.item][0]

    missing = {"path": str(tmp_path / "nowhere.csv")}
    later = run("score", run_id="r2", model_id=done["model_id"], items={"titles": missing}, **given)
    assert "titles" not in later["outputs"]
    told = [r.getMessage() for r in caplog.records if "without titles" in r.getMessage()]
    assert told
    assert "nowhere.csv" in told[0]
    plain = read_recommendations(tmp_path / "out")
    assert (plain.run_id, plain.titles) == ("r2", None)
    assert plain.with_titles().column("title").null_count == len(lists)

    # Where the run had none, the report has none and says so; readers' lists before had some.
    second = read_run(files, "r2")
    assert second is not None
    untitled = look(files, second, 3)
    assert any(note.startswith("titles: ") for note in untitled.notes)
    assert {row.item for one in untitled.people for row in one.history} & set(untitled.titles)

    [part] = (Path(done["outputs"]["titles"]["uri"].removeprefix("file:"))).glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(DamageError, match="titles"):
        read_recommendations(tmp_path / "out", run_id="r1")


def test_a_row_without_a_title_does_not_hide_a_later_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("item_id,title,photo\n1,,a\n1,One,b\n1,Uno,c\n2,Two,\n")
    titles = Titles(path=str(path), options={"header": True}, image="photo")
    assert read_cards(titles, str) == {"1": Card("One", "b", None), "2": Card("Two", None, None)}


# Iceberg tables


def cards(unit: Any, run_id: str, n: int = 2) -> pa.Table:
    n_rows = [unit.run_date] * n
    return pa.table(
        {
            "run_date": pa.array(n_rows, pa.date32()),
            "cohort": pa.array([unit.cohort] * n, pa.string()),
            "item_id": pa.array([f"i{item}" for item in range(n)], pa.string()),
            "title": pa.array([f"{run_id}'s no. {item}" for item in range(n)], pa.string()),
            "run_id": pa.array([run_id] * n, pa.string()),
        }
    )


def shown(tables: IcebergTables) -> set[tuple[str, str]]:
    """Return cohort and run of each title in the table."""
    found = loaded(tables, "titles").scan().to_arrow()
    return set(zip(found["cohort"].to_pylist(), found["run_id"].to_pylist(), strict=True))


def switch(tables: IcebergTables, version: Version) -> Version:
    current = tables.current(version.unit)
    tables.switch(version, expected=current.run_id if current else None)
    return version


def titled(files: PosixFiles, unit: Any, run_id: str) -> Version:
    return stage(files, unit, run_id, titles=cards(unit, run_id))


def test_titles_are_switched_with_the_lists_and_go_with_a_version_that_has_none(
    tables: IcebergTables, files: PosixFiles
) -> None:
    switch(tables, stage(files, UNIT, "r0"))
    assert tables._load("titles") is None
    other = switch(tables, titled(files, OTHER, "o1"))
    first = switch(tables, titled(files, UNIT, "r1"))
    assert shown(tables) == {(UNIT.cohort, "r1"), (OTHER.cohort, "o1")}
    switch(tables, titled(files, UNIT, "r2"))
    assert shown(tables) == {(UNIT.cohort, "r2"), (OTHER.cohort, "o1")}
    switch(tables, stage(files, UNIT, "r3"))
    assert shown(tables) == {(OTHER.cohort, "o1")}
    switch(tables, first)
    assert shown(tables) == {(UNIT.cohort, "r1"), (OTHER.cohort, "o1")}
    gone = {version.run_id for version in tables.retain(versions=1, run_dates=None)}
    assert gone == {"r0", "r2"}
    assert (UNIT, "r2") not in tables.in_use()
    assert (other.unit, "o1") in tables.in_use()
    assert shown(tables) == {(UNIT.cohort, "r1"), (OTHER.cohort, "o1")}


def test_titles_of_a_run_that_died_before_its_lists_are_taken_back(
    tables: IcebergTables, files: PosixFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch(tables, titled(files, UNIT, "r1"))
    killed = titled(files, UNIT, "r2")

    def die(name: str) -> None:
        if name == "titles committed":
            raise KeyboardInterrupt

    monkeypatch.setattr("recsys.publishing.iceberg.tables.stop_point", die)
    with pytest.raises(KeyboardInterrupt):
        tables.switch(killed, expected="r1")
    assert shown(tables) == {(UNIT.cohort, "r2")}
    current = tables.current(UNIT)
    assert current is not None
    assert current.run_id == "r1"
    assert (UNIT, "r2") in tables.in_use()
    tables.withdraw(UNIT, "r2")
    assert shown(tables) == {(UNIT.cohort, "r1")}
    # A unit that has never shown anything is emptied.
    monkeypatch.undo()
    day = type(UNIT)(UNIT.cohort, UNIT.run_date + dt.timedelta(days=1))
    monkeypatch.setattr("recsys.publishing.iceberg.tables.stop_point", die)
    with pytest.raises(KeyboardInterrupt):
        tables.switch(titled(files, day, "d1"), expected=None)
    tables.withdraw(day, "d1")
    assert shown(tables) == {(UNIT.cohort, "r1")}
