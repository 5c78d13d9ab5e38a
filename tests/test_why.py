"""Why an item is in a list: the published row again, the score as a sum, and what took an item."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from recsys.cli import main
from tests.conftest import csv_input, run_in, small_ratings, table, write_csv

DENIED, K = "i011", 5
LIKES = {"a": (["i003", "i010", "i005"], [1.0, 2.5, 0.3]), "b": (["zz"], [1.0])}


def cohort(folder: Path) -> dict[str, Any]:
    path = str(folder / "users.json")
    return {"format": "json", "path": path, "liked": "likes", "liked_weights": "w"}


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish lists of users of the training and of new ones, with a deny-list, once."""
    folder = tmp_path_factory.mktemp("why")
    source = csv_input(write_csv(folder / "ratings.csv", small_ratings(users=60)))
    users = [(f"u{n:03}", [], []) for n in range(20)]
    users += [(user, *given) for user, given in LIKES.items()]
    asked = pd.DataFrame(users, columns=["user_id", "likes", "w"])
    asked.to_json(folder / "users.json", orient="records", lines=True)
    (folder / "names.csv").write_text("item_id,title\ni003,Three\ni004,Four\n")
    run_in(
        spark,
        folder / "out",
        "run",
        run_id="first",
        input=source,
        filters={"rating_threshold": 4.0},
        training={"early_stopping": {"every": 1}, "second_view": "als", "second_view_rank": 5},
        cohort={"users": cohort(folder)},
        items={"deny": {"ids": [DENIED]}},
        scoring={"k": K},
        gates={"min_to_popularity": None, "min_coverage": None},
    )
    return folder


@pytest.fixture(scope="module")
def everything(root: Path, spark: SparkSession) -> pd.DataFrame:
    """Score the same users with lists that are as long as the catalogue."""
    (model,) = (root / "out" / "models").iterdir()
    made = run_in(
        spark,
        root / "out",
        "score",
        run_id="full",
        model_id=model.name,
        cohort={"name": "full", "users": cohort(root)},
        items={"deny": {"ids": [DENIED]}},
        scoring={"k": 40},
        gates={"min_to_popularity": None, "min_coverage": None},
    )
    return table(made, "recommendations")


def why(root: Path, user: object, item: object, *more: str) -> dict[str, Any]:
    given = ["why", "--user", str(user), "--item", str(item), "--run", "first", "--json", *more]
    result = CliRunner().invoke(main, [*given, "--set", f"root={root / 'out'}"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def published(root: Path) -> pd.DataFrame:
    (folder,) = (root / "out" / "publications" / "all").glob("*/first/recommendations")
    return pd.read_parquet(folder, partitioning=None).sort_values(["user_id", "rank"])


@pytest.mark.parametrize("user", ["u003", "a", "b"])
def test_a_published_row_is_made_again_to_the_last_bit(root: Path, user: str) -> None:
    rows = published(root)
    mine = rows[rows["user_id"] == user]
    assert len(mine) == K
    for row in (mine.iloc[0], mine.iloc[-1]):
        found = why(root, user, row["item_id"])
        assert found["reproduced"]
        assert found["rank"] == found["full_rank"] == row["rank"]
        assert np.float32(found["score"]) == row["score"]
        assert found["source"] == row["source"]
        assert found["taken_by"] == []


def test_contributions_of_a_folded_in_user_add_up_to_the_published_score(root: Path) -> None:
    rows = published(root)
    for _, row in rows[rows["user_id"] == "a"].iterrows():
        found = why(root, "a", row["item_id"])
        parts = found["parts"]
        assert parts["exact"]
        history = {one["item_id"]: one for one in parts["history"]}
        assert {item: one["weight"] for item, one in history.items()} == dict(
            zip(*LIKES["a"], strict=True)
        )
        assert history["i003"]["title"] is None
        added = sum(one["contribution"] for one in parts["history"])
        fixed = parts["user_bias"] + parts["item_bias"] + parts["intercept"] + parts["features"]
        assert added + fixed == pytest.approx(float(row["score"]), abs=1e-5)


def test_a_trained_vector_is_explained_by_fold_in_and_says_how_near_that_is(root: Path) -> None:
    rows = published(root)
    row = rows[rows["user_id"] == "u003"].iloc[0]
    parts = why(root, "u003", row["item_id"])["parts"]
    assert not parts["exact"]
    assert -1 <= parts["cosine"] < 1
    assert parts["total"] == pytest.approx(float(row["score"]), abs=1e-5)
    assert parts["history"]


def test_the_rank_of_an_item_that_is_not_in_the_list_is_that_of_a_full_sort(
    root: Path, everything: pd.DataFrame
) -> None:
    rows = published(root)
    for user in ("u003", "a", "b"):
        full = everything[everything["user_id"] == user]
        listed = set(rows[rows["user_id"] == user]["item_id"])
        below = full[~full["item_id"].isin(listed)].sort_values("rank")
        for row in (below.iloc[0], below.iloc[-1]):
            found = why(root, user, row["item_id"])
            assert found["rank"] is None
            assert found["taken_by"] == []
            assert found["full_rank"] == row["rank"]
            assert np.float32(found["score"]) == row["score"]
        # A denied item has the place that it would take.
        denied = why(root, user, DENIED)
        assert [reason.split(":")[0] for reason in denied["taken_by"]][-1] == "denied"
        ahead = (full["score"] > denied["score"]) | (
            (full["score"] == denied["score"]) & (full["item_id"] < DENIED)
        )
        assert denied["full_rank"] == 1 + int(ahead.sum())


def test_an_item_that_the_user_has_seen_says_so(root: Path) -> None:
    assert why(root, "a", "i003")["taken_by"][0].startswith("seen: ")
    names = f"items.titles.path={root / 'names.csv'}"
    titled = why(root, "a", "i003", "--set", names, "--set", "items.titles.options.header=true")
    assert titled["title"] == "Three"


def test_it_is_told_in_lines_without_spark(root: Path) -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('pyspark' in sys.modules))\n"
        "from recsys.cli import main\n"
        f"main(['why', '--user', 'a', '--item', 'i004', '--cohort', 'all', "
        f"'--set', 'root={root / 'out'}'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "False"
    assert "the score is the sum of" in ran.stdout
    assert "liked i003" in ran.stdout
    assert "to the last bit" in ran.stdout


def test_what_cannot_be_explained_is_one_line(root: Path) -> None:
    def refused(*given: str) -> str:
        arguments = ["why", *given, "--set", f"root={root / 'out'}", "--cohort", "all"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code in (2, 8), result.output
        (line,) = result.stderr.splitlines()
        return line

    assert "expected one of the 40 items" in refused("--user", "a", "--item", "no")
    assert "no version of it is kept" in refused("--user", "a", "--item", "i003", "--run", "no")
    given = ["--user", "nobody", "--item", "i003", "--cohort", "all"]
    unknown = CliRunner().invoke(main, ["why", *given, "--set", f"root={root / 'out'}"])
    assert "nothing is published of this user" in unknown.stderr
