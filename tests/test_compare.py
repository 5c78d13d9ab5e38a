"""The comparison with peers: its splits and metrics, and the command: its table and its records."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import yaml
from benchmark_features import read_pairs, some_features, write_pairs
from benchmark_stopping import stopped
from compare_lists import factors, measured, popular
from compare_ours import choose, fit, of_model
from compare_peers import ease_weights, item_lists
from compare_split import Data, all_but_last, split, stratified
from numpy.typing import NDArray

from recsys.config.sections import SampleWeights, Tuning
from recsys.errors import ConfigError
from recsys.kernel.topk import Ranked
from tests.conftest import ROOT, csv_input, small_ratings
from tests.test_command_line import ENV
from tests.test_training import settings

Csv = Callable[..., str]
KEYS = {"model", "seed", "map", "map_truncated", "ndcg", "precision", "recall"}
TIMES = {"seconds", "cpu_seconds", "choosing_seconds", "scoring_seconds"}
COSTS = {"dimensions", "kernel_us", "broadcast_mib"}


def pairs_of(rows: list[tuple[str, str]], ratings: float | list[float] = 1.0) -> pd.DataFrame:
    """Make pairs as `read_pairs` gives them, without timestamps."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"])
    frame = frame.assign(rating=ratings, timestamp=pd.NaT)
    return frame.sort_values(["user_id", "item_id"], ignore_index=True)


def random_pairs(seed: int = 0) -> pd.DataFrame:
    """Make 0 to 60 pairs an item, each once."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user:02}", f"i{item:02}")
        for item in range(25)
        for user in rng.permutation(60)[: rng.integers(1, 61)]
    ]
    return pairs_of(rows)


def by_recommenders(pairs: pd.DataFrame, ratio: float, seed: int) -> NDArray[np.bool_]:
    """Which pairs Recommenders 1.2.1 trains on, stratified by item: its steps, with pandas."""
    data = pairs.copy()
    np.random.seed(seed)
    data["random"] = np.random.rand(len(data))
    data = data.sort_values(["item_id", "random"])
    groups = data.groupby("item_id")
    count, rank = groups["item_id"].transform("count"), groups.cumcount() + 1
    return np.asarray((rank <= round(ratio * count)).reindex(pairs.index))


@pytest.mark.parametrize("seed", [0, 42])
def test_the_split_by_item_is_that_of_recommenders(seed: int) -> None:
    pairs = random_pairs()
    expected = by_recommenders(pairs, 0.75, seed)
    assert np.array_equal(stratified(pairs, 0.75, seed), expected)
    assert 0 < expected.sum() < len(pairs)


def test_the_split_by_item_keeps_known_numbers_and_repeats_for_a_seed() -> None:
    # Of 1 to 8 pairs: 0.75, 1.5, 2.25, 3, 3.75, 4.5, 5.25 and 6, halves to even.
    kept = [1, 2, 2, 3, 4, 4, 5, 6]
    pairs = pairs_of([(f"u{user}", f"i{n}") for n in range(1, 9) for user in range(n)])
    trained = stratified(pairs, 0.75, 42)
    assert pairs[trained].groupby("item_id").size().tolist() == kept
    held_out = pairs[~trained].groupby("item_id").size()
    assert held_out.to_dict() == {"i3": 1, "i4": 1, "i5": 1, "i6": 2, "i7": 2, "i8": 2}
    assert np.array_equal(stratified(pairs, 0.75, 42), trained)
    other = stratified(pairs, 0.75, 43)
    assert pairs[other].groupby("item_id").size().tolist() == kept
    assert not np.array_equal(other, trained)


def test_of_equal_times_the_larger_item_id_is_the_later() -> None:
    pairs = pairs_of([("a", "1"), ("a", "2"), ("a", "3"), ("a", "4"), ("b", "1"), ("b", "2")])
    times = pd.to_datetime([20, 10, 20, 30, 5, 5], unit="s")
    pairs["timestamp"] = times
    # In order: a has 2, 1, 3, 4; b has 1, 2.
    assert all_but_last(pairs, 1).tolist() == [True, True, True, False, True, False]
    assert all_but_last(pairs, 2).tolist() == [True, True, False, False, False, False]
    assert all_but_last(pairs, 3).tolist() == [False, True, False, False, False, False]


def test_every_pair_is_on_one_side_and_ratings_and_ages_follow_the_labels() -> None:
    pairs = random_pairs()
    pairs["rating"] = np.arange(len(pairs), dtype=np.float64)
    pairs["timestamp"] = pd.to_datetime(np.arange(len(pairs)) * 86_400, unit="s")
    trained = stratified(pairs, 0.75, 42)
    data = split(pairs, trained)
    assert data.seen.nnz + data.wanted.nnz == len(pairs)
    assert (data.seen + data.wanted).max() == 1
    names = [sorted(set(pairs[name])) for name in ("user_id", "item_id")]
    rows = pairs[trained].reset_index(drop=True)
    assert [names[0][u] for u in data.labels.row] == rows["user_id"].tolist()
    assert [names[1][i] for i in data.labels.col] == rows["item_id"].tolist()
    assert data.ratings.tolist() == rows["rating"].tolist()
    assert data.ages is not None
    assert data.ages.tolist() == (rows["rating"].max() - rows["rating"]).tolist()
    assert split(random_pairs(), trained).ages is None


@pytest.fixture
def known() -> Data:
    """Users a and b are warm, c is cold, d has nothing held out.

    Trained on by popularity: w three times, x twice, y and z once.
    """
    train = [("a", "w"), ("a", "y"), ("b", "w"), ("b", "x"), ("d", "w"), ("d", "x"), ("d", "z")]
    test = [("a", "x"), ("a", "z"), ("b", "z"), ("c", "x"), ("c", "y"), ("c", "z")]
    pairs = pairs_of(train + test)
    pair = pd.MultiIndex.from_frame(pairs[["user_id", "item_id"]])
    return split(pairs, np.asarray(pair.isin(train)))


def by_scores(scores: list[float]) -> Callable[[NDArray[np.int64], Any], Ranked]:
    """Lists of a model that has the same scores for everyone, and four users."""
    return factors(np.ones((4, 1), np.float32), np.array(scores, np.float32)[:, None])


def test_metrics_have_known_answers(known: Data) -> None:
    assert known.warm.tolist() == [0, 1]
    found = measured(known, by_scores([4, 1, 3, 2]))
    # a, who has w and y, gets z, x: both are right. b gets y, z: the second is.
    # c gets what is popular: w, x, y, z, of which all but the first are right.
    second, third, fourth = 1 / np.log2(3), 1 / np.log2(4), 1 / np.log2(5)
    c = (1 / 2 + 2 / 3 + 3 / 4) / 3
    assert found["map"] == pytest.approx([1, 1 / 2, c])
    assert found["map_truncated"] == pytest.approx([1, 1 / 2, c])
    ndcg = (second + third + fourth) / (1 + second + third)
    assert found["ndcg"] == pytest.approx([1, second, ndcg])
    assert found["precision"] == pytest.approx([0.2, 0.1, 0.3])
    assert found["recall"] == pytest.approx([1, 1, 1])


def test_average_precision_is_divided_both_ways_where_more_than_k_are_relevant() -> None:
    # 12 to be found, the list has 10 of them: each at its place.
    pairs = pairs_of([("a", f"i{n:02}") for n in range(13)])
    data = split(pairs, np.arange(13) == 12)
    found = measured(data, factors(np.ones((1, 1), np.float32), np.ones((13, 1), np.float32)))
    assert found["map"] == pytest.approx([10 / 12])
    assert found["map_truncated"] == pytest.approx([1])
    assert found["recall"] == pytest.approx([10 / 12])
    assert found["ndcg"] == found["precision"] == pytest.approx([1])


def test_who_has_nothing_to_train_on_gets_popular_items_from_every_model(known: Data) -> None:
    assert known.cold.tolist() == [2]
    asked = []

    def watched(rows: NDArray[np.int64], seen: Any) -> Ranked:
        asked.append(rows.tolist())
        return by_scores([0, 3, 1, 2])(rows, seen)

    counts = np.asarray(known.seen.sum(axis=0), np.float32).ravel()
    assert counts.tolist() == [3, 2, 1, 1]
    mine, theirs = measured(known, watched), measured(known, popular(counts, 4))
    assert asked == [[0, 1]]
    for name in mine:
        assert len(mine[name]) == 3
        assert mine[name][2] == theirs[name][2] > 0


def test_the_matrix_of_ease_is_its_closed_form() -> None:
    dense = np.array([[1, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]])
    found = ease_weights(sp.csr_matrix(dense.astype(np.float32)), 0.5)
    inverse = np.linalg.inv(dense.T @ dense + 0.5 * np.eye(4))
    expected = np.eye(4) - inverse / np.diag(inverse)
    assert np.diag(found).tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_lists_of_ease_leave_out_what_was_seen_and_stop_where_items_do() -> None:
    # Three of four items are kept; columns of the weights are the kept items 0, 2 and 3.
    kept = np.array([0, 2, 3])
    weights = np.array([[0, 2, 1], [3, 0, 1], [0, 0, 0]], np.float32)
    mine = sp.csr_matrix(np.array([[1, 0, 0], [1, 1, 1], [0, 1, 0]], np.float32))
    seen = sp.csr_matrix(np.array([[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 1, 0]], np.float32))
    rows = np.array([0, 1, 2])
    found = item_lists(mine, weights, kept)(rows, seen)
    assert found.indptr.tolist() == [0, 2, 2, 4]
    assert found.items.tolist() == [2, 3, 0, 3]


@pytest.fixture
def config(tmp_path: Path, ratings_csv: Csv) -> Path:
    # u999 has two ratings, the last of all: with --last 3 there is nothing to train on.
    rows = [*small_ratings(), ["u999", "i001", 5, 2_000_000], ["u999", "i002", 5, 2_000_001]]
    sections = {
        "input": csv_input(ratings_csv(rows)),
        "filters": {"rating_threshold": 4.0},  # which the comparison puts aside
        "training": {"threads": 1, "epochs": 3, "no_components": 4},
        "spark": {"spark.master": "local[2]", "spark.driver.memory": "700m",
                  "spark.sql.shuffle.partitions": 2},
    }  # fmt: skip
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def compare(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts/compare.py", "--config", config, *options]
    return subprocess.run(
        [str(part) for part in command],
        cwd=config.parent,
        env={**ENV, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_command_gives_a_table_and_its_records(config: Path) -> None:
    ran = compare(
        config, "--no-peers", "--seeds", "1,2", "--json", "out.json", "--curve", "curve.csv"
    )
    assert ran.returncode == 0, ran.stderr
    pairs = pd.DataFrame(small_ratings(), columns=["user", "item", "rating", "at"])
    counts = pairs.groupby("item")["user"].nunique()
    counts = counts.add(pd.Series({"i001": 1, "i002": 1}), fill_value=0).astype(int)
    kept = int(np.round(0.75 * counts).sum())
    head = ran.stdout.splitlines()[0]
    assert f"{kept:,} pairs to train on, {counts.sum() - kept:,} held out" in head
    records = json.loads((config.parent / "out.json").read_text())
    assert all(set(record) == KEYS | TIMES | COSTS for record in records)
    assert all(record[name] > 0 for record in records for name in ("dimensions", "kernel_us"))
    models = ["popularity", "notebook's settings", "recsys, as configured"]
    models.append("recsys, chosen on validation")
    assert [(r["model"], r["seed"]) for r in records] == [(m, s) for m in models for s in (1, 2)]
    for record in records:
        assert all(0 <= record[name] <= 1 for name in KEYS - {"model", "seed"})
        assert all(record[name] >= 0 for name in TIMES)
        chosen = record["model"] == "recsys, chosen on validation"
        assert (record["choosing_seconds"] > 0) == chosen
    assert records[0]["ndcg"] == records[1]["ndcg"]
    curve = pd.read_csv(config.parent / "curve.csv")
    assert curve.columns.tolist() == ["model", "seed", "epoch", "seconds", "ndcg"]
    mine = curve[(curve.model == "recsys, as configured") & (curve.seed == 2)]
    assert mine.epoch.tolist() == [2, 3]
    assert 0 < mine.seconds.iloc[0] < mine.seconds.iloc[1]
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("popularity")]
    assert f"{records[0]['ndcg']:.4f} ±0.0000" in line
    assert len(re.findall(r"minus popularity's: [+-]0\.\d{4} \[[+-]0", ran.stdout)) == 2


def test_the_command_holds_out_the_last_pairs_and_counts_who_has_no_others(config: Path) -> None:
    ran = compare(config, "--no-peers", "--seeds", "1", "--last", "3")
    assert ran.returncode == 0, ran.stderr
    # Thirty users with three each, and the two of the one who has no more.
    head = ran.stdout.splitlines()[0]
    assert ", 92 held out; 31 users tested, of which 1 without anything to train on" in head
    ran = compare(config, "--no-peers", "--set", "trainin.epochs=3")
    assert ran.returncode != 0
    assert "trainin: unknown key; did you mean training?" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_kept_epoch_is_judged_on_the_test_split_it_has_not_seen() -> None:
    pairs = random_pairs()
    data = split(pairs, stratified(pairs, 0.75, 42))
    given = settings(epochs=12, early_stopping={"patience": 2, "every": 1, "k": 5}).model_copy(
        update={"sample_weights": SampleWeights(rating="none", user_exponent=0.0)}
    )
    found = stopped(data, given, 1)
    fitted, _ = fit(data, given, 1)  # as the job does: chosen in the same way, and refitted
    assert found.kept == fitted.epochs
    assert found.epochs == len(fitted.report["curve"])
    on_test = float(measured(data, of_model(fitted.embeddings))["ndcg"].mean())
    assert found.curve[found.kept - 1] == on_test
    assert found.ratio == on_test / max(found.curve) <= 1
    short = stopped(data, given.model_copy(update={"epochs": 2}), 1)
    assert (short.kept, short.epochs) == (2, 2)  # round(2 / 0.8)
    longer = given.early_stopping.model_copy(update={"share": 0.5})  # as many again as were best
    short = stopped(data, given.model_copy(update={"epochs": 2, "early_stopping": longer}), 1)
    assert (short.kept, short.epochs) == (4, 2)
    assert 0 < short.ratio <= 1
    with pytest.raises(ConfigError, match=r"training\.early_stopping: found null"):
        stopped(data, given.model_copy(update={"early_stopping": None}), 1)


def test_what_is_chosen_on_validation_does_not_depend_on_the_test_part(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = random_pairs()
    data = split(pairs, stratified(pairs, 0.75, 42))
    given = settings(epochs=4, early_stopping={"every": 1, "k": 5})
    how = Tuning(trials=4, minutes=1e-6)  # the time has no effect: it would end after the first
    chosen = choose(data, given, how, 1)
    found = re.findall(r"trial \d, complete: validation nDCG (0\.\d+)", capsys.readouterr().err)
    assert len(found) == 4
    assert f"{fit(data, given, 1)[0].report['ndcg']:.4f}" == found[0]
    assert f"{fit(data, chosen, 1)[0].report['ndcg']:.4f}" == max(found)
    nothing = replace(data, wanted=data.wanted * 0, warm=data.warm[:0])
    assert choose(nothing, given, how, 1) == chosen


def test_made_up_pairs_are_as_many_as_asked_for_uneven_and_described(tmp_path: Path) -> None:
    write_pairs(tmp_path, 100_000)
    labels = read_pairs(tmp_path)
    assert labels.shape == (1000, 200)
    cells = labels.row.astype(np.int64) * 200 + labels.col
    assert len(cells) == 100_000
    assert (np.diff(cells) > 0).all()
    assert some_features(40, 0).items is None
    for n in (1, 5):
        items = some_features(40, n).items
        assert items is not None
        assert items.n_identities == 40
        assert (np.diff(items.weights.indptr) == 1 + n).all()
