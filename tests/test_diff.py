"""`recsys diff` and `recsys show`: runs of a real root against each other, without Spark."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import generate_docs
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from recsys.cli import main
from recsys.flows.record import read_run
from recsys.flows.report.names import _fitting
from recsys.flows.report.page import look
from recsys.flows.report.render import render
from recsys.store.posix import PosixFiles
from tests.conftest import csv_input, run_in, small_ratings, write_csv

K, N_USERS = 5, 30


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish: first, then again with the same, with other filters, and with more ratings."""
    folder = tmp_path_factory.mktemp("diff")
    rows = small_ratings()
    source = csv_input(write_csv(folder / "ratings.csv", rows))
    (folder / "names.csv").write_text("item_id,title\ni003,Three\ni004,Four [b]\n")
    titles = {"path": str(folder / "names.csv"), "options": {"header": True}}
    denied = folder / "denied.csv"
    denied.write_text("item_id\ni001\n")
    deny = {"format": "csv", "path": str(denied), "options": {"header": True}}
    gates = {"min_to_popularity": None, "min_coverage": None, "min_overlap": None}

    def run(job: str, run_id: str, items: dict[str, Any], **more: Any) -> dict[str, Any]:
        given = {"input": source, "scoring": {"k": K}, "gates": gates, **more}
        return run_in(
            spark, folder / "out", job, run_id=run_id, items={"titles": titles, **items}, **given
        )

    first = run("run", "first", {"deny": deny})
    model = first["outputs"]["model"]["uri"].rpartition("/")[2]
    run("score", "again", {"deny": deny}, model_id=model)
    users = {"ids": [f"u{n:03}" for n in range(N_USERS)]}
    small = {"name": "few", "users": users, "sample": 5}
    run("score", "few", {}, model_id=model, cohort=small)
    # The file of denied items changes, and so does the length of the lists.
    often = published(folder, "again")["item_id"].mode()[0]
    denied.write_text(f"item_id\ni001\n{often}\n")
    run("score", "denied", {"deny": deny}, model_id=model, scoring={"k": K + 1})
    more = csv_input(write_csv(folder / "more.csv", [*rows, *small_ratings(60, seed=8)]))
    run("run", "more", {"deny": deny}, input=more)
    # What is asked of versions has the titles that were published with them.
    (folder / "names.csv").write_text("item_id,title\ni003,Another title\n")
    return folder


def asked(root: Path, *given: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, [*given, "--set", f"root={root / 'out'}"])
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr


def diff(root: Path, *given: str) -> dict[str, Any]:
    (found,) = json.loads(asked(root, "diff", *given, "--json"))
    return dict(found)


def published(root: Path, run_id: str, cohort: str = "all") -> pd.DataFrame:
    (folder,) = (root / "out" / "publications" / cohort).glob(f"*/{run_id}/recommendations")
    return pd.read_parquet(folder, partitioning=None).sort_values(["user_id", "rank"])


def denied_since(root: Path) -> str:
    """Return the item that was denied after the first runs: one that is in many lists."""
    return (root / "denied.csv").read_text().split()[-1]


def test_two_runs_of_the_same_data_and_model_show_nothing(root: Path) -> None:
    found = diff(root, "first", "again")
    assert found["nothing"]
    assert found["causes"] == found["configuration"] == []
    assert found["users"]["same"] == N_USERS
    assert "nothing has changed: 30 users" in asked(root, "diff", "first", "again")


def test_a_run_is_compared_with_what_was_before_it(root: Path) -> None:
    assert diff(root, "denied")["before"]["run_id"] == "again"
    current = diff(root, "--cohort", "all")
    assert (current["before"]["run_id"], current["after"]["run_id"]) == ("denied", "more")
    # One cohort has nothing before; the other one is shown.
    assert [one["after"]["run_id"] for one in json.loads(asked(root, "diff", "--json"))] == ["more"]


def test_a_denied_item_and_longer_lists_are_told_apart_although_the_file_has_changed(
    root: Path,
) -> None:
    found = diff(root, "again", "denied")
    assert [(one["key"], one["before"], one["after"]) for one in found["configuration"]] == [
        ("scoring.k", K, K + 1)
    ]
    before, after = published(root, "again"), published(root, "denied")
    n_denied = int((before["item_id"] == denied_since(root)).sum())
    assert n_denied
    causes = {one["cause"]: one for one in found["causes"]}
    # Where the denied item has left, the sixth item has come in for that. Each list has one more:
    # for the length alone, but for both together where that item would be in the longer list.
    assert causes["filter"]["left"] == causes["filter"]["entered"] == n_denied
    assert found["items"]["left"] == n_denied
    assert found["items"]["entered"] == len(after) - len(before) + n_denied == N_USERS + n_denied
    longer = [causes[one]["entered"] for one in ("configuration", "together")]
    assert sum(longer) == N_USERS
    assert longer[1] >= n_denied
    assert set(causes) == {"filter", "configuration", "together"}


def test_another_model_and_what_has_been_seen_since_are_told_apart(
    root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tables"
    found = diff(root, "denied", "more", "--output", str(output))
    causes = {one["cause"]: one for one in found["causes"]}
    assert causes["model"]["left"]
    changes = pd.read_parquet(output / "changes")
    assert len(changes) == sum(found["items"][name] for name in ("entered", "left", "moved"))
    seen = changes[changes["cause"] == "seen"]
    assert len(seen) == causes["seen"]["left"] + causes["seen"]["entered"]
    (pairs,) = (root / "out" / "interactions").glob("more*/pairs")
    (earlier,) = (root / "out" / "interactions").glob("first*/pairs")
    new = {
        tuple(pair) for pair in pd.read_parquet(pairs)[["user_id", "item_id"]].to_numpy().tolist()
    } - {
        tuple(pair) for pair in pd.read_parquet(earlier)[["user_id", "item_id"]].to_numpy().tolist()
    }
    gone = seen[seen["change"] == "left"]
    assert len(gone)
    assert {tuple(pair) for pair in gone[["user_id", "item_id"]].to_numpy().tolist()} <= new


def test_tables_have_what_the_reference_says(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "tables"
    found = diff(root, "again", "denied", "--output", str(output), "--no-why")
    assert found["causes"] is None
    described = generate_docs.described_tables()
    for name in ("users", "items", "changes"):
        table = pd.read_parquet(output / name)
        about = described[f"difference_{name}"]
        assert list(table) == list(about["columns"])
        assert {column for column in table if table[column].isna().any()} <= set(about["nullable"])
        assert not table.duplicated(about["key"]).any()
    users = pd.read_parquet(output / "users")
    assert users["entered"].sum() == found["items"]["entered"]
    refused = asked(root, "diff", "first", "denied", "--output", str(output), status=2)
    assert "expected the name of a new directory" in refused


def test_one_user_is_shown_with_both_lists(root: Path) -> None:
    before, after = published(root, "again"), published(root, "denied")
    user = before[before["item_id"] == denied_since(root)]["user_id"].iloc[0]
    (found,) = json.loads(asked(root, "diff", "again", "denied", "--user", user, "--json"))
    then, now = found["user"]["before"], found["user"]["after"]
    assert [row["item_id"] for row in then] == before[before["user_id"] == user]["item_id"].tolist()
    assert [row["item_id"] for row in now] == after[after["user_id"] == user]["item_id"].tolist()
    assert {row["item_id"]: row["cause"] for row in then}[denied_since(root)] == "filter"
    told = asked(root, "diff", "again", "denied", "--user", user)
    assert f"user {user}: scored -> scored" in told
    assert "a filter" in told
    assert "expected a user" in asked(root, "diff", "--user", "nobody", status=8)


def test_it_is_told_in_tables_without_spark(root: Path) -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('pyspark' in sys.modules))\n"
        "from recsys.cli import main\n"
        f"main(['diff', 'denied', 'more', '--set', 'root={root / 'out'}'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "False"
    for told in (
        "before: run denied",
        "overlap@6",
        "rank correlation",
        "the model",
        "changed most",
    ):
        assert told in ran.stdout


def test_what_cannot_be_compared_is_one_line(root: Path) -> None:
    for given, expected in (
        (("first",), "no version before it is kept; name two runs"),
        (("first", "no"), "no version of it is kept"),
        (("first", "again", "more"), "at most two"),
        (("--cohort", "no"), "nothing is published of cohort no"),
    ):
        (line,) = asked(root, "diff", *given, status=8 if given[-1] != "more" else 2).splitlines()
        assert expected in line


def test_a_run_that_a_gate_held_back_can_be_compared(root: Path) -> None:
    (version,) = (root / "out" / "publications" / "all").glob("*/again")
    shutil.copytree(version, root / "out" / "held" / "stopped")
    found = diff(root, "stopped")
    assert (found["before"]["run_id"], found["after"]["run_id"]) == ("first", "stopped")
    assert found["nothing"]
    assert found["notes"] == ["run stopped was held back by a gate and is not published"]
    shown = json.loads(asked(root, "show", "user", "u003", "--run", "stopped", "--json"))
    assert [one["run_id"] for one in shown["published"]] == ["stopped"]
    assert "no version of it is kept" in asked(root, "diff", "stopped", "--cohort", "few", status=8)


def test_a_report_has_the_causes_where_records_and_tables_say_them(
    root: Path, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = PosixFiles(root / "out")

    def change_of(run_id: str) -> dict[str, Any]:
        run = read_run(files, run_id)
        assert run is not None
        made = look(files, run, 0)
        assert made.change is not None
        return {**made.change, "page": render(made)}

    # The file of denied items has a part in the lists, and is no record.
    denied = change_of("denied")
    assert denied["causes"] is None
    assert "items.deny names, which may change" in denied["why"]["note"]
    assert "recsys diff finds it" in denied["page"]
    nothing = change_of("again")
    assert (nothing["causes"], nothing["why"]["of"]) == ([], 0) or nothing["why"]["note"]

    shutil.copytree(root / "out", tmp_path / "out")
    files = PosixFiles(tmp_path / "out")
    run = read_run(files, "few")
    assert run is not None
    sections = {name: run.configuration[name] for name in ("input", "cohort", "gates", "items")}
    longer = {**sections, "scoring": {"k": K + 1}}
    run_in(spark, tmp_path / "out", "score", run_id="longer", model_id=str(run.model_id), **longer)
    found = change_of("longer")
    (one,) = json.loads(asked(tmp_path, "diff", "few", "longer", "--json"))
    assert found["causes"] == one["causes"] == [{"cause": "configuration", "left": 0, "entered": 5}]
    assert found["why"] == {"users": 5, "of": 5, "note": None}
    assert "<td>the configuration: scoring, features.cold_items</td>" in found["page"]
    monkeypatch.setattr("recsys.flows.report.change._MOST_USERS", 3)
    found = change_of("longer")
    assert found["causes"] == [{"cause": "configuration", "left": 0, "entered": 3}]
    assert "of 3 of 5 users" in found["page"]
    monkeypatch.setattr("recsys.flows.report.change._MOST_BYTES", 1)
    assert "are large" in change_of("longer")["why"]["note"]

    def harm(*_: object) -> None:
        raise ValueError("harm")

    # Whatever goes wrong with the causes, the rest of the page is there.
    monkeypatch.setattr("recsys.flows.report.change._what_keeps", harm)
    found = change_of("longer")
    assert (found["causes"], found["why"]["note"]) == (None, "harm")


@pytest.mark.parametrize(
    ("ids", "kind", "fitting"),
    [
        ([1, "a", 2**40], pa.int32(), [1]),
        (["a", 7, None], pa.string(), ["a", None]),
        (["a"], pa.int64(), []),
    ],
)
def test_ids_of_another_versions_type_are_left_out_when_titles_are_read(
    ids: list[Any], kind: pa.DataType, fitting: list[Any]
) -> None:
    assert _fitting(ids, kind).to_pylist() == fitting


def test_runs_that_were_published_to_iceberg_tables_are_compared(
    spark: SparkSession, tmp_path: Path
) -> None:
    source = csv_input(write_csv(tmp_path / "ratings.csv", small_ratings(n=400, users=12)))
    gates = {"min_to_popularity": None, "min_coverage": None, "min_overlap": None}
    given = {"input": source, "gates": gates, "publishing": {"format": "iceberg"}}
    items = {"deny": {"ids": ["i001"]}}
    run = partial(run_in, spark, tmp_path / "out", items=items, **given)
    first = run("run", run_id="first", scoring={"k": K})
    model = first["model_id"]
    run("score", run_id="again", model_id=model, scoring={"k": K})
    iceberg = ("--set", "publishing.format=iceberg")
    found = diff(tmp_path, *iceberg)
    assert (found["before"]["run_id"], found["after"]["run_id"]) == ("first", "again")
    assert found["nothing"]
    assert found["users"]["same"] == 12
    run("score", run_id="longer", model_id=model, scoring={"k": K + 1})
    # What readers see, against what they saw before; and any two that are kept.
    found = diff(tmp_path, *iceberg)
    assert (found["before"]["run_id"], found["after"]["run_id"]) == ("again", "longer")
    assert found["causes"] == [{"cause": "configuration", "left": 0, "entered": 12}]
    assert diff(tmp_path, "first", "again", *iceberg)["nothing"]
    back = diff(tmp_path, "longer", "first", *iceberg)
    assert back["causes"] == [{"cause": "configuration", "left": 12, "entered": 0}]


# One person, one item


def test_a_user_is_shown_with_lists_history_and_titles(root: Path) -> None:
    found = json.loads(asked(root, "show", "user", "u003", "--json"))
    mine = {one["cohort"]: one for one in found["published"]}
    rows = published(root, "more")
    rows = rows[rows["user_id"] == "u003"]
    assert mine["all"]["run_id"] == "more"
    assert [row["item_id"] for row in mine["all"]["items"]] == rows["item_id"].tolist()
    (pairs,) = (root / "out" / "interactions").glob("more*/pairs")
    done = pd.read_parquet(pairs)
    done = done[done["user_id"] == "u003"]
    assert {row["item_id"] for row in found["history"]} == set(done["item_id"])
    times = [row["timestamp"] for row in found["history"]]
    assert times == sorted(times, reverse=True)
    told = asked(root, "show", "user", "u003", "--run", "first")
    assert "run first, cohort all" in told
    names = {"i003": "Three", "i004": "Four [b]"}
    for row in (*found["history"], *mine["all"]["items"]):
        assert row["title"] == names.get(row["item_id"])
    assert "scored: scored with the model" in told


def test_titles_are_the_published_ones_wherever_they_are_shown(root: Path) -> None:
    names = {"i003": "Three", "i004": "Four [b]"}
    first = published(root, "first")
    item = first[first["item_id"].isin(list(names))].iloc[0]
    wanted = ("--user", item["user_id"], "--item", item["item_id"])
    explained = json.loads(asked(root, "why", "--run", "first", "--json", *wanted))
    assert explained["title"] == names[item["item_id"]]
    history = {one["item_id"]: one["title"] for one in explained["parts"]["history"]}
    assert all(title == names.get(liked) for liked, title in history.items())
    (found,) = json.loads(asked(root, "diff", "first", "more", "--user", "u003", "--json"))
    for row in (*found["user"]["before"], *found["user"]["after"]):
        assert row["title"] == names.get(row["item_id"])


def test_a_version_without_titles_has_those_of_the_configuration_as_they_are_now(
    root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "out", tmp_path / "out")
    (folder,) = (tmp_path / "out" / "publications" / "all").glob("*/first")
    told = json.loads((folder / "manifest.json").read_text())
    told["tables"]["titles"] = None
    del told["schemas"]["titles"]
    (folder / "manifest.json").write_text(json.dumps(told))
    shutil.rmtree(folder / "titles")
    held = tmp_path / "out" / "held" / "untitled"
    shutil.move(folder, held)
    names = tmp_path / "names.csv"
    names.write_text("item_id,title\ni003,Since then\n")
    given = ["show", "item", "i003", "--run", "untitled", "--json"]
    assert json.loads(asked(tmp_path, *given))["title"] is None
    given += ["--set", f"items.titles.path={names}", "--set", "items.titles.options={header: true}"]
    found = json.loads(asked(tmp_path, *given))
    assert found["title"] == "Since then"
    assert [note for note in found["notes"] if "items.titles" in note]


def test_an_item_is_shown_with_its_lists_and_what_keeps_it_out(root: Path) -> None:
    rows = published(root, "more")
    item = rows["item_id"].iloc[0]
    found = json.loads(asked(root, "show", "item", item, "--cohort", "all", "--json"))
    (lists,) = found["published"]
    mine = rows[rows["item_id"] == item]
    assert (lists["lists"], lists["of"]) == (len(mine), N_USERS)
    assert {one["rank"]: one["lists"] for one in lists["ranks"]} == mine[
        "rank"
    ].value_counts().to_dict()
    assert lists["first"][0]["rank"] == mine["rank"].min()
    denied = json.loads(
        asked(root, "show", "item", denied_since(root), "--cohort", "all", "--json")
    )
    assert denied["published"][0]["kept_out"] == ["it is in items.deny"]
    assert denied["published"][0]["lists"] == 0
    assert len(denied["history"]) >= denied["published"][0]["positives"]
    told = asked(root, "show", "item", "i004")
    assert "item i004 (Four [b]): run" in told


def test_who_is_not_known_is_one_line(root: Path) -> None:
    assert "nothing is published of this user" in asked(root, "show", "user", "no", status=8)
    assert "it is in no model" in asked(root, "show", "item", "no", status=8)
