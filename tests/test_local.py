"""Recommendations for someone new without Spark: what is printed, and that a batch job agrees."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from pyspark.sql import SparkSession

from recsys.cli import main
from recsys.config.configuration import Config
from recsys.config.sections import Titles
from recsys.errors import ConfigError, InputError, ModelError
from recsys.model.arrays import load_items, load_users
from recsys.score.local import LocalModel
from recsys.score.titles import read_titles
from tests.conftest import csv_input, model_folder, run_in, small_ratings, table, write_csv

Run = Callable[..., dict[str, Any]]

# Items 1-6, the smaller the more liked; 7 is in no pair.
ROWS = [[u, i, 5, 1] for i in range(1, 7) for u in range(1, 8 - i)]


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on the data above, once, and return the model's directory, which nobody changes."""
    folder = tmp_path_factory.mktemp("trained")
    numbers = {"user": "int", "item": "int"}
    source = csv_input(write_csv(folder / "ratings.csv", ROWS), id_types=numbers)
    return model_folder(run_in(spark, folder / "out", "train", run_id="t", input=source))


def recommend(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["recommend", *map(str, arguments)])


def refused(status: int, *arguments: object) -> str:
    result = recommend(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("recsys: error: ")
    return line.removeprefix("recsys: error: ")


def test_a_list_with_titles_stands_in_aligned_columns(trained: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text('sku;name;by\n3;"Three;\n3;Three, "3";A B\n5.0;Five;\n6;;\nx;No id;\n')
    given = ["--set", f"root={trained.parents[1]}", "--set", f"items.titles.path={names}"]
    given += ["--set", "items.titles.options={header: true, sep: ;}"]
    given += ["--set", "items.titles.column=sku", "--set", "items.titles.title=[name, by]"]
    result = recommend("--model", trained.name, "--liked", "1, 4,77,1", "--k", 9, *given)
    assert result.exit_code == 0, result.output
    assert result.stderr == "recsys: note: not in the model: 77\n"
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["rank", "item_id", "score", "title"]
    local = LocalModel.load(trained)
    found = local.recommend([1, 4], k=9)
    assert set(found["item_id"]) == {2, 3, 5, 6}
    assert [line.split()[:3] for line in lines] == [
        [str(row.rank), str(row.item_id), f"{row.score:.4f}"] for row in found.itertuples()
    ]
    # A title begins where the header says; what has none prints its id alone.
    at = header.index("title")
    titles = {line.split()[1]: line[at:] for line in lines}
    assert titles == {"2": "", "3": "Three;", "5": "Five", "6": ""}
    assert not any(line.endswith(" ") for line in lines)


def test_a_path_a_link_and_an_uri_name_a_model_too(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(trained)
    lists = {
        recommend("--model", model, "--liked", 1, "--k", 2).stdout
        for model in (trained, f"{trained}/", tmp_path / "latest", f"file:{trained}")
    }
    assert len(lists) == 1
    assert len(lists.pop().splitlines()) == 3


def test_who_likes_nothing_that_is_known_gets_popular_items(trained: Path) -> None:
    result = recommend("--model", trained, "--liked", "77,78", "--k", 2)
    assert result.stderr.splitlines() == [
        "recsys: note: not in the model: 77, 78",
        "recsys: note: none of the liked items is in the model: these are its popular items",
    ]
    assert result.stdout.splitlines() == [
        "rank  item_id  users",
        "   1  1            6",
        "   2  2            5",
    ]
    everything = recommend("--model", trained, "--liked", "1,2,3,4,5,6")
    assert "no item is left to recommend" in everything.stderr


def test_what_cannot_be_used_is_one_line(trained: Path, tmp_path: Path) -> None:
    for ids in ("1,abc", "1,,2", "99999999999", "1.5", "", "٣"):
        message = refused(2, "--model", trained, "--liked", ids)
        assert message.startswith("liked: found ")
        assert message.endswith("expected item ids of the type int")
    assert "expected a local path" in refused(2, "--model", "s3a://b/m", "--liked", 1)
    assert "expected the id of a model" in refused(2, "--model", "..", "--liked", 1)
    assert "is missing or incomplete" in refused(7, "--model", tmp_path / "no", "--liked", 1)

    def with_titles(*overrides: str) -> list[str]:
        settings = [f"items.titles.{override}" for override in overrides]
        return ["--model", str(trained), "--liked", "1"] + [
            part for setting in settings for part in ("--set", setting)
        ]

    missing = refused(3, *with_titles(f"path={tmp_path}/no.csv"))
    assert "there is no" in missing
    assert "--set items.titles=null" in missing
    assert "set items.titles.path" in refused(2, *with_titles("format=csv"))
    assert "'csv' or 'parquet'" in refused(2, *with_titles("format=json", "path=x"))
    assert "expected a local path" in refused(2, *with_titles("path=hdfs://h/x"))
    names = tmp_path / "names.csv"
    names.write_text("item_id,nmae\n1,One\n")
    message = refused(3, *with_titles(f"path={names}", "options.header=true", "title=name"))
    assert "items.titles.title: " in message
    assert "did you mean nmae?" in message
    message = refused(2, *with_titles(f"path={names}", "options.multiLine=true"))
    assert "one of header, sep, delimiter, quote, escape, encoding" in message
    for option in ("quote=ab", "escape=ab", "encoding=klingon"):
        assert "expected" in refused(2, *with_titles(f"path={names}", f"options.{option}"))


def test_absent_titles_harm_no_batch_job_and_change_no_id(
    run: Run, ratings_csv: Callable[..., str]
) -> None:
    source = csv_input(ratings_csv(ROWS), id_types={"user": "int", "item": "int"})
    run("run", run_id="r", input=source, items={"titles": {"path": "/no/such/file"}})
    plain = Config.model_validate({})
    titled = Config.model_validate({"items": {"titles": {"path": "x"}}})
    assert plain.fingerprint() == titled.fingerprint()
    assert plain.fingerprint("items") == titled.fingerprint("items")
    denied = Config.model_validate({"items": {"deny": {"path": "x"}}})
    assert denied.fingerprint() != plain.fingerprint()


BESIDE = {"early_stopping": {"every": 1}, "second_view_rank": 6, "no_components": 4}


@pytest.mark.parametrize("second_view", ["none", "ease", "als"])
def test_the_list_is_the_batch_jobs_bit_for_bit(
    run: Run, ratings_csv: Callable[..., str], tmp_path: Path, second_view: str
) -> None:
    training = {} if second_view == "none" else {**BESIDE, "second_view": second_view}
    ratings = ratings_csv(small_ratings(users=80))
    trained = run("train", run_id="t", input=csv_input(ratings), training=training)
    width = load_items(model_folder(trained)).embeddings.shape[1]
    assert width == (4 if second_view == "none" else 10)
    local = LocalModel.load(model_folder(trained))
    cases = {
        "a": (["i003", "i010", "i005"], [1.0, 1.0, 1.0]),
        "b": (["i020", "i001", "i020", "zz"], [0.3, 2.5, 0.7, 1.0]),
        "c": (["i007", "i008"], [-1.0, 0.1]),
        "d": (["i009"], [0.0]),
        "e": (["zz"], [1.0]),
    }
    users = pd.DataFrame(
        [(user, *case) for user, case in cases.items()], columns=["user_id", "likes", "w"]
    )
    users.to_json(tmp_path / "users.json", orient="records", lines=True)
    cohort = {
        "format": "json",
        "path": str(tmp_path / "users.json"),
        "liked": "likes",
        "liked_weights": "w",
    }
    scored = run(
        "score",
        run_id="s",
        model_id=trained["model_id"],
        cohort={"users": cohort},
        scoring={"k": 40},
        gates={"min_to_popularity": None},
    )
    published = table(scored, "recommendations").sort_values(["user_id", "rank"])
    columns = ["rank", "item_id", "score", "source"]
    for user, (liked, weights) in cases.items():
        found = local.recommend(liked, k=40, weights=weights)
        theirs = published.loc[published["user_id"] == user, columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[columns], theirs, check_exact=True)
        assert not set(found["item_id"]) & set(liked)
    sources = published.groupby("user_id")["source"].first().to_dict()
    assert sources == {
        "a": "fold_in",
        "b": "fold_in",
        "c": "fold_in",
        "d": "popular",
        "e": "popular",
    }


def test_a_notebook_gives_numbers_or_text(trained: Path) -> None:
    local = LocalModel.load(str(trained))
    assert local.n_items == 6
    one = local.recommend(np.array([2, 5]), k=3)
    pd.testing.assert_frame_equal(one, local.recommend(["2", "5.0"], k=3, weights=[4, 4]))
    assert list(one.columns) == ["rank", "item_id", "score", "source", "title"]
    assert one["score"].dtype == np.float32
    assert local.unknown([2, 9, 7, 9]) == [9, 7]
    assert len(local.recommend([], k=2)) == 2
    with pytest.raises(ConfigError, match="weights: found 1, expected as many as liked, 2"):
        local.recommend([1, 2], weights=[1.0])
    for no_list in ("12", b"12", 12, None):
        with pytest.raises(ConfigError, match=r"liked: found .*, expected a list of item ids"):
            local.recommend(no_list)  # type: ignore[arg-type]
    with pytest.raises(ModelError):
        LocalModel.load(trained.parent)


def test_latest_is_the_newest_model_of_the_root_and_is_named(trained: Path) -> None:
    given = ["--liked", "1,4", "--set", f"root={trained.parents[1]}"]
    result = recommend("--model", "latest", *given)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"recsys: note: the latest model is {trained.name}\n"
    assert result.stdout == recommend("--model", trained.name, *given).stdout


def test_a_model_is_loaded_from_text_a_path_or_a_uri_whatever_its_directories_are_called(
    trained: Path, tmp_path: Path
) -> None:
    # A reader that looks for partitions would find columns of other types here.
    folder = tmp_path / "item_id=x" / "bias=y" / "kind=1" / "user_id=2" / trained.name
    shutil.copytree(trained, folder)
    items, users, one = load_items(trained), load_users(trained), LocalModel.load(trained)
    for given in (folder, str(folder), f"file:{folder}", Path(f"file://{folder}")):
        assert load_items(given).ids == items.ids
        np.testing.assert_array_equal(load_users(given).embeddings, users.embeddings)
        found = LocalModel.load(given).recommend([2])
        pd.testing.assert_frame_equal(found, one.recommend([2]), check_exact=True)
    for load in (load_items, load_users, LocalModel.load):
        for wrong in (5, None, "s3a://bucket/model"):
            with pytest.raises(ConfigError, match=r"^(model|path): found "):
                load(wrong)  # type: ignore[operator]


def test_the_command_never_loads_spark(trained: Path) -> None:
    program = (
        "import sys; from recsys.cli import main\n"
        f"main(['recommend', '--model', {str(trained)!r}, '--liked', '1'], standalone_mode=False)\n"
    )
    checked = "import atexit, sys; atexit.register(lambda: print('pyspark' in sys.modules))\n"
    ran = subprocess.run(
        [sys.executable, "-c", checked + program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "False", ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"escape": "\\"},
            '1,"a, b"\n2,AC\\DC\n3,"say \\"hi\\""\n\n4,he "said" so\n5,"a\\\\"\n6\n7,x,y\n',
        ),
        ({"escape": '"'}, '1,"a ""b"" c"\n2,"AC\\DC"\n3,"""hi"" he said"\n4, x \n'),
        ({"sep": "::"}, '1::"Q"\n2::a "b" c\n3::"x::y"\n4::a:::b\n5::é\n'),
        ({"header": True, "delimiter": "|", "quote": ""}, 'ID|T\n1|"a\n2|b"\n3|\n'),
        ({"header": "TRUE", "sep": "\\t", "encoding": "iso-8859-1"}, "id\tt\n1\té\n2\tb\tc\n"),
    ],
)
def test_a_csv_file_means_what_it_means_to_spark(
    spark: SparkSession, tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding=options.get("encoding", "utf-8"))
    header = "header" in options
    titles = Titles(
        path=str(path),
        options=options,
        column="id" if header else "_c0",
        title="t" if header else "_c1",
    )
    rows = spark.read.options(**options).csv(str(path)).collect()
    assert read_titles(titles, str) == {row[0]: row[1] for row in rows if row[1] is not None}


def test_titles_of_parquet_and_of_a_directory(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame(
        [(1.0, "one"), (2.0, None), (3.0, "three")], "id double, t string"
    )
    places = {kind: str(tmp_path / kind) for kind in ("csv", "parquet")}
    frame.write.option("header", True).csv(places["csv"])
    frame.write.parquet(places["parquet"])

    def number(text: object) -> int:
        return int(float(str(text)))

    for kind, options in (("csv", {"header": True}), ("parquet", {})):
        titles = Titles.model_validate(
            {"format": kind, "path": places[kind], "options": options, "column": "ID", "title": "t"}
        )
        assert read_titles(titles, number) == {1: "one", 3: "three"}
    with pytest.raises(ConfigError, match="no options for parquet"):
        read_titles(Titles(format="parquet", path=places["parquet"], options={"a": 1}), number)
    (tmp_path / "broken").write_text("x")
    with pytest.raises(InputError, match=r"cannot read .*broken as parquet"):
        read_titles(Titles(format="parquet", path=str(tmp_path / "broken")), number)


# Many users at once


def test_the_lists_of_many_users_are_the_batch_jobs_bit_for_bit(
    run: Run, ratings_csv: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings = ratings_csv(small_ratings(users=80))
    done = run("run", run_id="r", input=csv_input(ratings), scoring={"k": 7})
    columns = ["user_id", "rank", "item_id", "score", "source"]
    published = table(done, "recommendations").sort_values(columns[:2], ignore_index=True)
    local = LocalModel.load(model_folder(done))
    users = published["user_id"].drop_duplicates().tolist()
    assert set(published["source"]) == {"model"}
    found = local.recommend_users(users, k=7)
    pd.testing.assert_frame_equal(found[columns], published[columns], check_exact=True)
    assert found["title"].isna().all()
    monkeypatch.setattr("recsys.score.local_users._AT_ONCE", 3)
    some = local.recommend_users(users[::-1], k=7)
    assert some["user_id"].drop_duplicates().tolist() == users[::-1]
    again = some.sort_values(columns[:2], ignore_index=True)
    pd.testing.assert_frame_equal(again, found, check_exact=True)
    seen = pd.read_csv(ratings).groupby("user")["item"].agg(set)
    everything = local.recommend_users(users[:2], k=40, exclude_seen=False)
    assert (everything.groupby("user_id").size() == local.n_items).all()
    assert not [1 for row in found.itertuples() if row.item_id in seen[row.user_id]]

    likes = pd.DataFrame(
        {
            "user_id": ["b", "a", "a", "c", "b", "a", "d", "e"],
            "item_id": ["i001", "i003", "i010", "zz", "i020", "i003", "i004", "i005"],
            "weight": [2.5, 0.3, 1.0, 1.0, 0.7, 0.9, -1.0, np.nan],
        }
    )
    many = local.recommend_likes(likes, k=9)
    assert many["user_id"].drop_duplicates().tolist() == ["b", "a", "c", "d", "e"]
    for user, mine in likes.groupby("user_id"):
        one = local.recommend(mine["item_id"], k=9, weights=mine["weight"])
        theirs = many[many["user_id"] == user].drop(columns="user_id").reset_index(drop=True)
        pd.testing.assert_frame_equal(theirs, one, check_exact=True)


def test_what_many_users_cannot_be_is_said(trained: Path) -> None:
    local = LocalModel.load(trained)
    assert len(local.recommend_users([], k=2)) == 0
    assert len(local.recommend_likes(pd.DataFrame({"user_id": [], "item_id": []}))) == 0
    for users, message in {
        "12": "expected a list of user ids",
        (1, "x"): "found 'x', expected user ids of the type int",
        (1, 1): "found a user twice",
        (1, 99, 98): "the model does not have 2 of 3, such as 99, 98; recommend_likes",
    }.items():
        with pytest.raises(ConfigError, match=f"^users: .*{message}"):
            local.recommend_users(users)
    for likes, message in {
        "text": "found str, expected a DataFrame",
        "columns": "found the columns user, item_id, expected",
        "ids": "found the item 'abc', expected item ids of the type int",
        "nobody": "found a row without a user_id",
    }.items():
        frame: Any = {
            "text": "u",
            "columns": pd.DataFrame({"user": [1], "item_id": [1]}),
            "ids": pd.DataFrame({"user_id": [1], "item_id": ["abc"]}),
            "nobody": pd.DataFrame({"user_id": [1, None], "item_id": [1, 2]}),
        }[likes]
        with pytest.raises(ConfigError, match=f"^likes: {message}"):
            local.recommend_likes(frame)
