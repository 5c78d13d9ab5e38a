"""The report of a run: what it says is what the tables have, and it never fails a run."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from recsys.cli import main
from recsys.config.reading import load_config
from recsys.flows.manifest import RunManifest, TuningReport
from recsys.flows.record import read_run
from recsys.flows.report import again, charts, lists, page, people, quality, words
from recsys.flows.report.after_run import try_report
from recsys.flows.report.charts import Series, Value
from recsys.flows.report.records import Data, Records
from recsys.flows.report.render import REPORT, environment, page_of, render, write_report
from recsys.runtime.sizes import size
from recsys.store.posix import PosixFiles
from tests.conftest import csv_input, small_ratings, table, write_csv
from tests.example_root import DAYS, HOSTILE, USERS, Example, K, make_root


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    return make_root(tmp_path_factory.mktemp("report"))


@pytest.fixture
def copied(example: Example, tmp_path: Path) -> PosixFiles:
    """Give a root of a test's own, to damage."""
    shutil.copytree(example.root, tmp_path / "output")
    return PosixFiles(tmp_path / "output")


def run_of(files: PosixFiles, run_id: str) -> RunManifest:
    found = read_run(files, run_id)
    assert found is not None
    return found


def data(folder: Path, **columns: Any) -> Data:
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "part-0.parquet")
    return Data(PosixFiles(folder), [f"file:{folder}/part-0.parquet"], 1)


def test_popularity_has_known_answers(tmp_path: Path) -> None:
    # Item a is in both lists, b and c in one each; a was liked three times, b once, d once.
    recommended = data(tmp_path / "lists", item_id=["a", "b", "a", "c"], rank=[1, 2, 1, 2])
    done = data(
        tmp_path / "pairs",
        item_id=["a", "a", "a", "b", "d", "e"],
        label=pa.array([1, 1, 1, 1, 1, -1], pa.int8()),
    )
    found = lists.popularity(recommended, done, 5)
    assert found is not None
    assert (found.catalogue, found.recommended, found.consumed) == (5, 3, 3)
    first = found.top[0]
    assert (first.item, first.lists, first.share, first.pairs, first.rank) == ("a", 2, 1.0, 3, 1)
    assert [(one.item, one.rank) for one in found.top] == [
        ("a", 1),
        ("b", 2),
        ("c", None),
        ("d", 3),
    ]
    assert found.curve[0][-1] == (1.0, 1.0)
    assert dict(found.curve[1])[0.2] == pytest.approx(3 / 5)
    # Gini of 2, 1, 1, 0, 0 by its definition: the mean difference of all pairs over twice the mean.
    counts = np.array([2, 1, 1, 0, 0])
    mean_difference = np.abs(counts[:, None] - counts[None, :]).mean()
    assert found.gini[0] == pytest.approx(mean_difference / (2 * counts.mean()))


def test_shares_of_groups_add_up_to_everything(example: Example) -> None:
    made = page.look(PosixFiles(example.root), run_of(PosixFiles(example.root), "tuesday"), 2)
    assert made.popularity is not None
    assert sum(made.popularity.places) == pytest.approx(1)
    assert sum(made.popularity.pairs) == pytest.approx(1)
    assert made.scores is not None
    assert sum(made.scores.counts) == made.scores.rows == USERS * K
    assert made.scores.by_source == {"model": (USERS - 20) * K, "fold_in": 20 * K}
    # Scores fall by 0.2 a rank, and by chance of nothing else for one user.
    assert np.diff(made.scores.middle) == pytest.approx(np.full(K - 1, -0.2), abs=1e-5)


def test_scores_of_popular_items_are_not_mixed_with_those_of_the_model(tmp_path: Path) -> None:
    made = data(
        tmp_path / "lists",
        rank=pa.array([1, 2, 1, 2], pa.int32()),
        score=pa.array([0.5, 0.25, 900.0, 800.0], pa.float32()),
        source=["model", "model", "popular", "popular"],
    )
    found = lists.scores(made, 4)
    assert found is not None
    assert (found.middle, found.edges[-1], sum(found.counts)) == ([0.5, 0.25], 0.5, 2)
    assert (found.rows, found.by_source) == (4, {"model": 2, "popular": 2})


def test_a_few_users_are_of_different_histories_and_have_their_lists(example: Example) -> None:
    files = PosixFiles(example.root)
    made = page.look(files, run_of(files, "tuesday"), 3)
    lengths = [one.pairs for one in made.people]
    assert lengths == sorted(lengths, key=lambda n: n or 0)
    assert len({one.user for one in made.people}) == 3
    for one in made.people:
        assert one.pairs == len(example.pairs[one.user])
        assert {row.item for row in one.history} <= set(example.pairs[one.user])
        assert [row.rank for row in one.recommended] == list(range(1, K + 1))
    assert page.look(files, run_of(files, "tuesday"), 0).people == []


def test_what_is_not_liked_comes_last_in_a_history(tmp_path: Path) -> None:
    done = data(
        tmp_path / "pairs",
        user_id=["u"] * 4,
        item_id=["low", "bad", "high", "neither"],
        rating=[3.0, 9.0, 5.0, 8.0],
        timestamp=pa.array([None] * 4, pa.timestamp("us")),
        label=pa.array([1, -1, 1, 0], pa.int8()),
    )
    found = people.person([], done, "u", "string")
    assert found is not None
    assert [row.item for row in found.history] == ["high", "low", "bad", "neither"]
    shown = environment().from_string('{% import "macros.html" as m %}{{ m.person(one, {}) }}')
    text = shown.render(one=found)
    said = [line.partition("</td>")[0] for line in text.splitlines() if line.startswith("<tr><td>")]
    assert said == [
        "<tr><td>high",
        "<tr><td>low",
        '<tr><td>bad <span class="id">not liked</span>',
        '<tr><td>neither <span class="id">not learned from</span>',
    ]
    assert people.person([], done, "nobody", "string") is None


def test_the_change_is_what_the_tables_say(example: Example) -> None:
    files = PosixFiles(example.root)
    made = page.look(files, run_of(files, "tuesday"), 0)
    assert made.before is not None
    assert made.before.manifest.run_id == "monday"
    assert made.change is not None
    sides = []
    for run_id, day in DAYS.items():
        folder = example.root / "publications" / "all" / str(day) / run_id / "recommendations"
        frame = pd.read_parquet(folder)
        sides.append(frame.groupby("user_id")["item_id"].agg(set))
    overlap = [len(a & b) / K for a, b in zip(*sides, strict=True)]
    assert made.change["overlap"][-1]["mean"] == pytest.approx(np.mean(overlap))
    assert made.why.startswith("recsys diff monday tuesday ")


def test_an_evaluation_stands_beside_the_one_before(example: Example) -> None:
    files = PosixFiles(example.root)
    made = page.look(files, run_of(files, "evaluated"), 0)
    (row,) = [one for one in made.overall if one.name == "ndcg"]
    assert (row.model.value, row.model.low, row.model.high) == pytest.approx((0.21, 0.19, 0.23))
    assert row.popularity.value == pytest.approx(0.15)
    assert row.before is not None
    assert row.before.value == pytest.approx(0.2)
    assert row.clear  # 0.04 to 0.08
    assert [one.name for one in made.by_history] == ["1-4", "5-9", "10-19", "20-49"]
    assert [one.name for one in made.by_group] == ["region <north>"]
    assert page.look(files, run_of(files, "evaluated-before"), 0).evaluation_before is None


def test_the_curve_has_the_model_before(example: Example) -> None:
    files = PosixFiles(example.root)
    found = quality.curve(Records(files, run_of(files, "tuesday")))
    assert found is not None
    assert found.model_before == "monday-m"
    assert found.before == pytest.approx(found.early.ndcg - 0.004)


def test_what_a_gate_held_back_is_shown_with_the_verdict(example: Example) -> None:
    files = PosixFiles(example.root)
    made = page.look(files, run_of(files, "wednesday"), 1)
    assert made.version is not None
    assert made.version.held
    assert [one.state for one in made.gates].count("failed") == 1
    assert made.popularity is not None
    assert made.why.startswith("recsys diff tuesday wednesday ")
    assert "held back" in page_of(files, run_of(files, "wednesday"), 1)


def test_the_page_is_the_same_whenever_it_is_made_and_escapes_all_text(example: Example) -> None:
    files = PosixFiles(example.root)
    first, second = (page_of(files, run_of(files, "tuesday"), 3) for _ in range(2))
    assert first == second
    assert "overlap of all lists" in first  # not what the gates call so
    assert HOSTILE not in first
    assert "&lt;script&gt;alert(&#39;title&#39;)" in first
    for text in ("<b>bold</b>", "<i>all the same</i>", "ratings <today>"):
        assert text not in first
    assert "<script" not in first
    assert "pygal.org" not in first


def test_the_configuration_beside_the_report_is_that_of_the_run(example: Example) -> None:
    files = PosixFiles(example.root)
    run = run_of(files, "tuesday")
    write_report(files, run, 1)
    written = example.root / "runs" / "tuesday" / again.CONFIGURATION
    assert load_config(str(written)).fingerprint() == run.configuration_hash
    assert load_config(str(written)).public() == run.configuration
    assert f"--config {written}" in again.command(run)
    assert len(written.read_text().splitlines()) < 20  # not every default


def test_the_command_is_shown_where_the_file_that_it_names_is_there(copied: PosixFiles) -> None:
    run = run_of(copied, "tuesday")
    file = copied.path(copied.root) / "runs" / "tuesday" / again.CONFIGURATION
    file.unlink(missing_ok=True)
    shown = page_of(copied, run, 1)
    assert again.CONFIGURATION not in shown
    assert "<code>recsys report tuesday</code> writes it" in shown
    place = write_report(copied, run, 1)
    assert f"{again.CONFIGURATION} --run-date" in copied.path(place).read_text()
    assert page_of(copied, run, 1) == copied.path(place).read_text()


def test_the_command_has_what_only_the_command_line_said(example: Example) -> None:
    run = run_of(PosixFiles(example.root), "tuesday")
    assert "--force" not in again.command(run)
    assert " --force " in again.command(run.model_copy(update={"forced": True}))
    tuned = TuningReport(
        storage="sqlite:///my tune.db", study="november", metric="ndcg", ndcg=0.1,
        ndcg_as_configured=0.1, best_trial=0, kept_epoch=1, trials={}, seconds=1.0, found={},
        configuration="file:/x",
    )  # fmt: skip
    told = again.command(run.model_copy(update={"job": "tune", "tuning": tuned}))
    assert " --storage 'sqlite:///my tune.db' --study november " in told


@pytest.mark.parametrize(
    ("job", "more", "words_"),
    [
        ("score", {"model_id": "m 1"}, "recsys score --model 'm 1' --config "),
        ("refresh", {"base_model_id": "m1", "model_id": "m2"}, "recsys refresh --model m1 "),
        ("train", {"base_model_id": "m1", "model_id": "m2"}, "recsys train --from m1 "),
        ("similar-items", {"model_id": "m1"}, "recsys similar items --model m1 "),
        ("evaluate", {}, "recsys evaluate --config "),
    ],
)
def test_the_command_names_the_model_that_was_used(
    example: Example, job: str, more: dict[str, str], words_: str
) -> None:
    run = run_of(PosixFiles(example.root), "tuesday")
    none = {"model_id": None, "base_model_id": None}
    told = again.command(run.model_copy(update={"job": job, **none, **more}))
    assert told.startswith(words_)
    assert told.endswith("--run-date 2026-11-24")


def test_histories_of_a_score_are_of_the_interactions_that_it_was_told(copied: PosixFiles) -> None:
    run = run_of(copied, "tuesday")
    outputs = {name: one for name, one in run.outputs.items() if name != "interactions"}
    scored = run.model_copy(update={"outputs": outputs})
    known = Records(copied, scored).interactions
    assert known is not None
    assert known.interactions_id == "tuesday-i"
    manifest = next(copied.path(copied.root).glob("publications/*/*/tuesday/manifest.json"))
    told = json.loads(manifest.read_text())
    told["configuration"]["scoring"]["interactions"] = "monday-i"
    manifest.write_text(json.dumps(told))
    known = Records(copied, scored).interactions
    assert known is not None
    assert known.interactions_id == "monday-i"


def test_versions_without_any_list_are_compared_and_shown(copied: PosixFiles) -> None:
    root = copied.path(copied.root)
    for run_id in ("tuesday", "monday"):
        for part in root.glob(f"publications/*/*/{run_id}/recommendations/*.parquet"):
            pq.write_table(pq.read_table(part, partitioning=None)[:0], part)
        made = page.look(copied, run_of(copied, "tuesday"), 1)
        assert made.change is not None
        assert made.change["items"]["after"] == 0
        assert (made.change["items"]["before"] > 0) is (run_id == "tuesday")
        render(made)


def test_a_damaged_table_costs_its_own_part(copied: PosixFiles) -> None:
    root = copied.path(copied.root)
    (part, *_) = (root / "interactions" / "tuesday-i" / "pairs").glob("*.parquet")
    part.write_bytes(b"damaged")
    made = page.look(copied, run_of(copied, "tuesday"), 2)
    assert made.popularity is None
    assert made.scores is not None
    assert any(note.startswith("popularity: not shown") for note in made.notes)
    shutil.rmtree(root / "models")
    shutil.rmtree(root / "interactions")
    shutil.rmtree(root / "publications")
    page_of(copied, run_of(copied, "tuesday"), 2)


def test_a_report_that_fails_is_one_line_of_the_log(
    copied: PosixFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(uri: str, content: bytes) -> None:
        raise OSError(28, "No space\nleft")

    monkeypatch.setattr(copied, "replace", refuse)
    with caplog.at_level(logging.INFO, logger="recsys"):
        assert try_report(copied, run_of(copied, "tuesday"), 1) is None
    (line,) = [one.getMessage() for one in caplog.records]
    assert line.startswith("there is no report of run tuesday: OSError: ")
    assert "\n" not in line


def test_a_plot_says_what_it_shows_and_has_no_script() -> None:
    drawn = charts.bars(
        "x",
        'a "plot"',
        ["<a>"],
        [Series("<n>", [Value(1.0, 0.5, 2.0)]), Series("m", [Value(None)])],
        x_title="<x>",
    )
    assert 'aria-label="a &quot;plot&quot;"' in drawn
    assert "<script" not in drawn
    assert "<n>" not in drawn
    assert not [one for one in sys.meta_path if type(one).__module__ == "pygal"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 %"), (1, "100 %"), (0.123, "12.3 %"), (0.00012, "0.01 %"), (None, words.NOTHING)],
)
def test_shares_are_written_with_as_many_places_as_say_something(
    value: float | None, text: str
) -> None:
    assert words.share(value) == text


def test_the_command_writes_the_latest_report_or_any_elsewhere(
    example: Example, tmp_path: Path
) -> None:
    given = ["--set", f"root={example.root}"]
    result = CliRunner().invoke(main, ["report", "--json", *given])
    assert json.loads(result.stdout)["run_id"] == "wednesday"
    target = tmp_path / "page.html"
    result = CliRunner().invoke(main, ["report", "monday", "--output", str(target), *given])
    assert result.stdout == f"{target}\n"
    assert "monday" in target.read_text()
    assert not (example.root / "runs" / "monday" / REPORT).exists()
    target.write_text("of somebody")
    again_ = ["report", "monday", "--output", str(target), *given]
    result = CliRunner().invoke(main, again_)
    assert (result.exit_code, target.read_text()) == (8, "of somebody")
    assert result.stderr.endswith("is there already; say --overwrite, or choose another name\n")
    assert CliRunner().invoke(main, [*again_, "--overwrite"]).exit_code == 0
    assert "monday" in target.read_text()
    assert [one.name for one in tmp_path.iterdir()] == [target.name]
    nowhere = str(tmp_path / "no" / "page.html")
    result = CliRunner().invoke(main, ["report", "monday", "--output", nowhere, *given])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("recsys: error: --output: found")
    result = CliRunner().invoke(main, ["report", "nobody", *given])
    assert result.exit_code == 2
    assert "there is no run 'nobody'" in result.stderr


def test_the_report_and_the_viewer_load_no_spark() -> None:
    code = (
        "import sys, recsys.flows.report.render, recsys.viewer.app; "
        "sys.exit('pyspark' in sys.modules or 'lightfm' in sys.modules)"
    )
    pytest.importorskip("flask", reason="the extra viewer is not installed")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_run_writes_its_report_and_a_failing_one_does_not_fail_it(
    run: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = csv_input(write_csv(tmp_path / "ratings.csv", small_ratings(users=30)))
    given = {
        "input": source,
        "gates": {"min_to_popularity": None, "min_coverage": None},
        "training": {"early_stopping": {"every": 1}},
    }
    made = run("run", run_id="first", report={"write": True}, **given)
    page_ = tmp_path / "out" / "runs" / "first" / REPORT
    assert f"report           file:{page_}" in capsys.readouterr().out
    text = page_.read_text()
    assert f"{made['counts']['rows_read']:,}" in text
    assert len(table(made, "recommendations")["user_id"].unique()) == 30
    for anchor in ("gates", "rows", "quality", "lists", "users", "time", "again"):
        assert f'<section id="{anchor}">' in text, anchor

    def fail(*_: Any, **__: Any) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr("recsys.flows.report.render.write_report", fail)
    (model,) = (tmp_path / "out" / "models").iterdir()
    made = run("score", run_id="second", model_id=model.name, report={"write": True}, **given)
    assert made["state"] == "complete"
    assert not (tmp_path / "out" / "runs" / "second" / REPORT).exists()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (15 * 10**6, "14.3 MiB"),
        (2**30 - 1, "1.00 GiB"),
        (1500 * 2**30, "1,500.00 GiB"),
    ],
)
def test_bytes_are_written_in_the_unit_that_fits(count: int, text: str) -> None:
    assert size(count) == text
    assert words.FILTERS["bytes"](count) == text
