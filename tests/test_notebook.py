"""The notebook in examples/ runs, and what analysts call in it does what it says."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

import recsys
from recsys.errors import ConfigError
from recsys.kernel.metrics import ACCURACY
from tests.conftest import ROOT, shared_file, small_ratings

# Asked of the notebook's process after its last cell.
CHECKS = """
assert comparison.loc["model", "ndcg"] > comparison.loc["popular", "ndcg"] > 0, comparison
assert not lists.merge(train, on=["user_id", "item_id"]).size
assert lists["title"].notna().mean() > 0.99
assert lists.loc[lists["user_id"] == one.id, "item_id"].isin(affinity.nlargest(500).index).all()
import shutil
shutil.rmtree(root)
print("checked")
"""


def test_the_notebook_runs_and_its_model_is_better_than_popularity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install '.[examples]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install '.[examples]'")
    pytest.importorskip("ipykernel", reason="pip install '.[examples]'")
    monkeypatch.setenv(
        "MOVIETWEETINGS", str(Path(shared_file("movietweetings/ratings.dat")).parent)
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # A kernel of this interpreter, whatever kernels this machine has.
    kernels = tmp_path / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "Python 3", "language": "python"}
    (kernels / "kernel.json").write_text(pd.Series(spec).to_json())
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.read(ROOT / "examples" / "movietweetings.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]
    notebook.cells.append(nbformat.v4.new_code_cell(CHECKS))
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    told = [cell["outputs"] for cell in notebook.cells if cell.get("outputs")]
    assert told[-1][0]["text"] == "checked\n"


def test_a_model_of_a_frame_has_its_ids_and_titles_and_is_stored_below_the_root(
    spark: SparkSession, tmp_path: Path
) -> None:
    ratings = pd.DataFrame(small_ratings(n=300), columns=["who", "what", "stars", "at"])
    ratings["who"] = ratings["who"].str[1:].astype(int)
    titles = pd.DataFrame({"item_id": ["i001"], "title": ["=One"]})
    training = {"epochs": 2, "no_components": 4, "threads": 1, "early_stopping": None}
    model = recsys.fit(
        ratings,
        root=tmp_path / "out",
        user="who",
        item="what",
        rating="stars",
        timestamp="at",
        titles=titles,
        settings={"training": training, "filters": {"rating_threshold": 4}},
    )
    users = sorted(ratings["who"].unique())
    lists = model.recommend_users(users, k=3)
    assert lists["user_id"].drop_duplicates().tolist() == users
    everything = model.recommend_users(users, k=99, exclude_seen=False)
    assert set(everything.loc[everything["item_id"] == "i001", "title"]) == {"=One"}
    assert len(list((tmp_path / "out" / "models").iterdir())) == 1
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1
    with pytest.raises(ConfigError, match=r"found the columns who, .*, expected user_id, item_id"):
        recsys.fit(ratings, root=tmp_path)
    with pytest.raises(ConfigError, match=r"training\.epoch"):
        recsys.fit(
            ratings, root=tmp_path, user="who", item="what", settings={"training": {"epoch": 1}}
        )


def test_titles_without_their_columns_are_refused_before_the_training(tmp_path: Path) -> None:
    ratings = pd.DataFrame(small_ratings(n=9), columns=["user_id", "item_id", "rating", "at"])
    named = pd.DataFrame({"item": ["i1"], "title": ["First"]})
    with pytest.raises(
        ConfigError, match="titles: found the columns item, title, expected item_id"
    ):
        recsys.fit(ratings, root=tmp_path / "out", titles=named)
    assert not (tmp_path / "out").exists()


def test_lists_are_measured_with_known_answers() -> None:
    lists = pd.DataFrame(
        [("a", 2, "y"), ("a", 1, "x"), ("b", 1, "z"), ("other", 1, "x")],
        columns=["user_id", "rank", "item_id"],
    )
    relevant = pd.DataFrame(
        [("b", "x"), ("a", "y"), ("a", "new"), ("c", "x")], columns=["user_id", "item_id"]
    )
    found = recsys.measure(lists, relevant, k=[1, 2])
    assert list(found) == ["k", "n_users", *ACCURACY]
    assert found["n_users"].tolist() == [3, 3]
    assert found["precision"].tolist() == pytest.approx([0, 0.5 / 3])
    assert found["recall"].tolist() == pytest.approx([0, 0.5 / 3])
    assert found["reciprocal_rank"].tolist() == pytest.approx([0, 0.5 / 3])
    gain = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    assert found["ndcg"].tolist() == pytest.approx([0, gain / 3])
    shuffled = recsys.measure(lists.sample(frac=1, random_state=3), relevant[::-1], k=2)
    pd.testing.assert_frame_equal(shuffled, found.iloc[1:].reset_index(drop=True))
    with pytest.raises(ConfigError, match="lists: found no column rank"):
        recsys.measure(lists.drop(columns="rank"), relevant)
    with pytest.raises(ConfigError, match="an item or a rank twice"):
        recsys.measure(pd.concat([lists, lists]), relevant)
    with pytest.raises(ConfigError, match="relevant: found no row"):
        recsys.measure(lists, relevant[:0])


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_ids_of_two_types_are_refused_instead_of_counting_as_misses(column: str) -> None:
    lists = pd.DataFrame({"user_id": [1, 1, 2], "rank": [1, 2, 1], "item_id": [1, 2, 1]})
    relevant = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1]})
    for other in (str, "string", "category"):
        told = relevant.astype({column: str}).astype({column: other})
        for one, two, words in (
            (lists, told, "text"),
            (told.assign(rank=[1, 1]), lists, "a number"),
        ):
            with pytest.raises(
                ConfigError, match=rf"relevant: found {column} that is {words} .*make both the same"
            ) as refused:
                recsys.measure(one, two)
            assert "\n" not in str(refused.value)
    mixed = relevant.astype(object)
    mixed.loc[1, column] = "1"
    with pytest.raises(
        ConfigError, match=f"relevant: found {column} of both whole numbers and text"
    ):
        recsys.measure(lists, mixed)
    with pytest.raises(ConfigError, match=f"relevant: found rows without {column}"):
        recsys.measure(lists, relevant.astype(object).assign(**{column: [1, None]}))


def test_ids_of_one_type_are_measured_however_pandas_holds_them() -> None:
    lists = pd.DataFrame({"user_id": [1, 1, 2], "rank": [1, 2, 1], "item_id": [1, 2, 1]})
    relevant = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1]})
    first = recsys.measure(lists, relevant, k=2)
    assert first["precision"].tolist() == [0.5]
    for kind in ("int32", "uint8", "Int64", "category", object, "int64[pyarrow]", float):
        kinds = {"user_id": kind, "item_id": kind}
        pd.testing.assert_frame_equal(recsys.measure(lists, relevant.astype(kinds), k=2), first)
        pd.testing.assert_frame_equal(recsys.measure(lists.astype(kinds), relevant, k=2), first)
    names = {"user_id": str, "item_id": str}
    for kind in ("string", "category", object, "string[pyarrow]"):
        kinds = {"user_id": kind, "item_id": kind}
        one, two = lists.astype(names), relevant.astype(names)
        pd.testing.assert_frame_equal(recsys.measure(one, two.astype(kinds), k=2), first)
        pd.testing.assert_frame_equal(recsys.measure(one.astype(kinds), two, k=2), first)


def test_a_number_of_numpy_cuts_lists_like_any_other() -> None:
    lists = pd.DataFrame({"user_id": [1, 1], "rank": [1, 2], "item_id": [1, 2]})
    relevant = pd.DataFrame({"user_id": [1], "item_id": [1]})
    expected = recsys.measure(lists, relevant, k=2)
    for k in (np.int64(2), np.uint8(2), np.array([2]), np.array(2), pd.Series([2])):
        pd.testing.assert_frame_equal(recsys.measure(lists, relevant, k=k), expected)
    for bad in (2.5, "2", None, True, [1, 2.0], []):
        with pytest.raises(ConfigError, match=r"k: found .*, expected a whole number of at least"):
            recsys.measure(lists, relevant, k=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="k: found 0"):
        recsys.measure(lists, relevant, k=0)
    # Nothing is recommended to anybody: all misses, and no type to compare.
    assert recsys.measure(lists[:0], relevant)["precision"].tolist() == [0.0]
