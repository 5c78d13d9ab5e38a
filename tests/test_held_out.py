"""The evaluation from ratings to tables, on small data with known answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recsys.columns import METRICS_SCHEMA, USER_METRICS_SCHEMA, names
from recsys.config.sections import Evaluation
from recsys.errors import ConfigError, InputError, TrainingError
from recsys.evaluate import report, results
from recsys.evaluate.manifest import Metric
from recsys.kernel import metrics
from tests.conftest import csv_input, small_ratings, table

Run = Callable[..., dict[str, Any]]
Csv = Callable[..., str]
AT_2 = {"k": [2], "bootstrap": 50}


def last(n: int = 1, **more: Any) -> dict[str, Any]:
    """Hold out each user's last pairs."""
    return {**AT_2, "split": {"kind": "last_n", "last_n": n}, **more}


# In order of time; the last is held out. Item 1 is liked by users 1 to 4 in train, 2 by three, 3 by
# two, 4 by one. User 5 has nothing but what is held out, user 6 dislikes what is held out, user 7
# has a dislike alone in train, and what is held out of user 4 nobody else has.
HISTORIES = {
    1: [1, 2, 3, 4],
    2: [1, 2, 3],
    3: [1, 3, 2],
    4: [1, 9],
    5: [1],
    6: [2, 4, -1],
    7: [-1, 3],
}


@pytest.fixture
def known(ratings_csv: Csv) -> dict[str, Any]:
    rows = [
        [user, abs(item), 5 if item > 0 else 1, when]
        for user, items in HISTORIES.items()
        for when, item in enumerate(items)
    ]
    return {
        "input": csv_input(ratings_csv(rows), id_types={"user": "int", "item": "int"}),
        "filters": {"rating_threshold": 4.0},
    }


def by_user(manifest: dict[str, Any], model: str) -> pd.DataFrame:
    rows = table(manifest, "users")
    return rows[rows["model"] == model].set_index("user_id").sort_index()


def line(manifest: dict[str, Any], model: str, metric: str, k: int | None, segment: str) -> Any:
    rows = table(manifest, "metrics")
    cut = rows["k"].isna() if k is None else rows["k"] == k
    where = (rows["model"] == model) & (rows["metric"] == metric) & (rows["segment"] == segment)
    (found,) = rows[cut & where].itertuples()
    return found


def test_popularity_has_its_known_answers_beside_the_model(run: Run, known: Any) -> None:
    manifest = run("evaluate", evaluation=last(), **known)
    rows = by_user(manifest, "popularity")
    # In train: item 1 by users 1, 2, 3, 4; 2 by 1, 2, 6; 3 by 1, 3; 4 by 6 alone.
    # User 1 is left with 4; user 2 with 3, 4; user 3 with 2, 4; user 4 with 2, 3; user 5 with 1, 2;
    # user 7 with 2, 3: what is disliked is seen.
    assert list(rows.index) == [1, 2, 3, 4, 5, 7]
    assert list(rows["hit_rate"]) == [1, 1, 1, 0, 1, 1]
    assert list(rows["precision"]) == [0.5, 0.5, 0.5, 0, 0.5, 0.5]
    assert list(rows["ndcg"]) == pytest.approx([1, 1, 1, 0, 1, 1 / np.log2(3)])
    assert list(rows["history"]) == [3, 2, 2, 1, 0, 0]
    assert list(rows["relevant"]) == [1] * 6
    # Of the five users in train; user 1's list is item 4, which one of them has.
    assert rows.loc[1, "novelty"] == pytest.approx(np.log2(5))
    assert rows.loc[5, "novelty"] == pytest.approx((np.log2(5 / 4) + np.log2(5 / 3)) / 2)
    # Of four items one is among the top one percent: item 1.
    assert list(rows["popular_share"]) == [0, 0, 0, 0, 0.5, 0]
    assert rows["auc"].isna().all()
    found = line(manifest, "popularity", "recall", 2, "all")
    assert (found.value, found.n_users) == (pytest.approx(5 / 6), 6)
    assert found.low <= found.value <= found.high
    # Items 1, 2, 3 and 4 are in lists, and the train fold has no other.
    assert line(manifest, "popularity", "catalogue_coverage", 2, "all").value == 1.0


def test_who_is_evaluated_and_who_is_not_is_counted(run: Run, known: Any) -> None:
    manifest = run("evaluate", evaluation=last(), **known)
    counts = manifest["evaluation"]
    assert counts["users"] == 7
    assert counts["users_evaluated"] == 6
    assert counts["users_not_evaluated"] == 1  # user 6, whose held-out pair is no like
    assert counts["users_by_popularity_alone"] == 2  # users 5 and 7
    assert counts["users_without_train"] == 1
    assert counts["relevant_pairs"] == 6
    assert counts["relevant_pairs_outside_catalogue"] == 1  # user 4's
    # Who has no train pairs to learn from gets the same in both.
    for user in (5, 7):
        mine, popular = (by_user(manifest, model).loc[user] for model in ("model", "popularity"))
        assert mine.drop("model").equals(popular.drop("model"))


def test_the_tables_keep_their_schemas_and_the_manifest_has_the_results(
    run: Run, known: Any
) -> None:
    manifest = run("evaluate", evaluation=last(k=[1, 2], auc=True), **known)
    rows, users = table(manifest, "metrics"), table(manifest, "users")
    assert list(rows) == names(METRICS_SCHEMA)
    assert list(users) == names(USER_METRICS_SCHEMA)
    assert manifest["outputs"]["users"]["rows"] == len(users) == 2 * 2 * 6
    assert manifest["outputs"]["metrics"]["rows"] == len(rows)
    place = manifest["outputs"]["metrics"]["uri"]
    assert place.endswith("/out/evaluations/r1/metrics")
    in_manifest = [r for r in manifest["metrics"] if r["metric"] == "ndcg" and r["k"] == 1]
    assert [r["model"] for r in in_manifest] == ["model", "popularity", "difference"]
    for r in in_manifest:
        assert r["value"] == line(manifest, r["model"], "ndcg", 1, "all").value
    three = [line(manifest, m, "ndcg", 1, "all").value for m in ("model", "popularity")]
    assert line(manifest, "difference", "ndcg", 1, "all").value == pytest.approx(
        three[0] - three[1]
    )
    # Of user 2's others (3 and 4), item 3 is the more popular and is relevant; item 9 of user 4 is
    # not in the catalogue, so it comes last.
    popular = by_user(manifest, "popularity")
    assert list(popular.loc[2, "auc"]) == [1, 1]
    assert list(popular.loc[4, "auc"]) == [0, 0]
    assert list(popular.loc[4, "full_reciprocal_rank"]) == [0, 0]
    assert line(manifest, "popularity", "auc", None, "all").n_users == 5  # user 1 has no other item
    # Nothing is left in staging; the model was for this only.
    assert {p.name for p in Path(place.removeprefix("file:")).parents[2].iterdir()} == {
        "evaluations",
        "interactions",
        "rejects",
        "runs",
    }


def test_the_model_is_better_than_popularity_where_tastes_differ(
    run: Run, ratings_csv: Csv
) -> None:
    source = csv_input(ratings_csv(small_ratings(2000, 60, 80)))
    training = {"epochs": 30, "no_components": 4}
    settings = {"k": [10], "split": {"kind": "by_user"}}
    manifest = run(
        "evaluate",
        input=source,
        filters={"rating_threshold": 4.0},
        training=training,
        evaluation=settings,
    )
    assert line(manifest, "difference", "ndcg", 10, "all").low > 0
    model, popular = (line(manifest, m, "ndcg", 10, "all") for m in ("model", "popularity"))
    ahead = line(manifest, "difference", "ndcg", 10, "all")
    assert model.n_users == popular.n_users == ahead.n_users
    assert ahead.value == pytest.approx(model.value - popular.value)


def test_no_number_depends_on_partitions(
    run: Run, spark: SparkSession, ratings_csv: Csv, tmp_path: Path
) -> None:
    found = []
    for partitions in (5, 2):  # 2 is what the suite has
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        source = csv_input(ratings_csv(small_ratings()))
        shape = {"scoring": {"users_per_file": 4 if partitions == 5 else 30}}
        settings = {"k": [3, 10], "auc": True, "bootstrap": 100}
        manifest = run(
            "evaluate", root=tmp_path / f"p{partitions}", input=source, evaluation=settings, **shape
        )
        found.append(
            [
                table(manifest, name).sort_values(by, ignore_index=True)
                for name, by in (
                    ("metrics", ["model", "segment", "metric", "k"]),
                    ("users", ["user_id", "model", "k"]),
                )
            ]
        )
    for one, other in zip(*found, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_validation_pairs_are_neither_learned_from_nor_in_the_lists(
    run: Run, ratings_csv: Csv
) -> None:
    # User 1 has 1, 2 in train, 3 in validation and 4 in test; all four have equally many likes.
    rows = [[1, item, 5, item] for item in (1, 2, 3, 4)]
    rows += [[user, item, 5, 0] for user in (2, 3) for item in (1, 2, 3, 4)]
    rows += [[user, item, 5, when] for user in (2, 3) for item, when in ((5, 1), (6, 2))]
    source = csv_input(ratings_csv(rows), id_types={"user": "int", "item": "int"})
    settings = last(k=[1])
    settings["split"]["validation_last_n"] = 1
    manifest = run("evaluate", input=source, evaluation=settings)
    popular = by_user(manifest, "popularity")
    assert popular.loc[1, "history"] == 2
    assert popular.loc[1, "precision"] == 1  # 4 is all that is left


def test_segments_of_a_table_and_of_histories_are_reported(
    run: Run, known: Any, tmp_path: Path
) -> None:
    path = tmp_path / "users.csv"
    # User 2 is there twice, user 5 without a country, user 3 not at all; 77 is no user.
    path.write_text("id,country\n1,DE\n2,DE\n2,FR\n4,FR\n5,\n77,US\nx,US\n")
    segment = {"path": str(path), "options": {"header": True}, "column": "id", "by": "country"}
    manifest = run("evaluate", evaluation=last(segment=segment), **known)
    rows = table(manifest, "metrics")
    sizes = rows[(rows["metric"] == "ndcg") & (rows["model"] == "popularity")]
    assert dict(zip(sizes["segment"], sizes["n_users"], strict=True)) == {
        "all": 6,
        "history 0": 2,
        "history 1-4": 4,
        "country DE": 2,
        "country FR": 1,
        "country (none)": 3,
    }
    assert line(manifest, "popularity", "ndcg", 2, "country FR").value == 0
    assert line(manifest, "popularity", "ndcg", 2, "country DE").value == 1
    with pytest.raises(
        InputError, match=r"evaluation\.segment\.by: evaluation\.segment has no column 'c'"
    ):
        run("evaluate", run_id="r2", evaluation=last(segment={**segment, "by": "c"}), **known)
    with pytest.raises(ConfigError, match=r"set evaluation\.segment\.path"):
        run("evaluate", run_id="r3", evaluation=last(segment={}), **known)


def test_lists_beyond_the_catalogue_are_shorter_and_their_precision_lower(
    run: Run, known: Any
) -> None:
    manifest = run("evaluate", evaluation=last(k=[100]), **known)
    rows = by_user(manifest, "popularity")
    assert list(rows["precision"]) == [0.01, 0.01, 0.01, 0, 0.01, 0.01]
    assert list(rows["recall"]) == [1, 1, 1, 0, 1, 1]


def test_a_test_without_a_like_or_a_pair_is_an_error(run: Run, known: Any) -> None:
    with pytest.raises(InputError, match="found no pair for test"):
        run("evaluate", evaluation={**AT_2, "split": {"test_share": 0.0}}, **known)
    rows = [[1, 1, 5, 1], [1, 2, 1, 2], [2, 1, 5, 1], [2, 3, 1, 2]]
    path = Path(known["input"]["path"])
    path.write_text("user,item,rating,timestamp\n" + "\n".join(",".join(map(str, r)) for r in rows))
    with pytest.raises(InputError, match="found no positive pair in test"):
        run("evaluate", run_id="r2", evaluation=last(), **known)
    untimed = {**known["input"], "columns": {"user": "user", "item": "item", "rating": "rating"}}
    with pytest.raises(ConfigError, match="'last_n' needs a timestamp"):
        run(
            "evaluate",
            run_id="r3",
            input=untimed,
            deduplication={"policy": "max"},
            evaluation=last(),
        )


def test_an_empty_validation_set_is_an_error_and_so_is_nothing_to_choose_the_epoch_by(
    run: Run, known: Any
) -> None:
    # Of at most four pairs a thousandth is none.
    split = {"kind": "by_user", "test_share": 0.3, "validation_share": 0.001}
    with pytest.raises(InputError, match="found no pair for validation with kind by_user") as found:
        run("evaluate", evaluation={**AT_2, "split": split}, **known)
    assert "change evaluation.split.test_share and validation_share" in str(found.value)
    # No two users have the same item in train, and the first pair of an item always stays.
    rows = [[user, 10 * user + n, 5, n] for user in (1, 2) for n in (1, 2)]
    rows += [[user, 99, 5, 3] for user in (1, 2)]
    path = Path(known["input"]["path"])
    path.write_text("user,item,rating,timestamp\n" + "\n".join(",".join(map(str, r)) for r in rows))
    with pytest.raises(TrainingError, match=r"set training\.early_stopping to null"):
        run("evaluate", run_id="r2", evaluation=last(), training={"early_stopping": {}}, **known)
    manifest = run("evaluate", run_id="r3", evaluation=last(), **known)
    assert manifest["evaluation"]["users_evaluated"] == 2


def test_the_report_fits_a_terminal_and_a_finished_run_tells_it_again(
    run: Run, known: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = run("evaluate", evaluation=last(auc=True), **known)
    first = capsys.readouterr().out
    assert run("evaluate", evaluation=last(auc=True), **known) == manifest
    assert capsys.readouterr().out == first
    told = first.splitlines()
    assert max(map(len, manifest["report"])) <= 80
    assert any(line.split()[:2] == ["ndcg", "2"] for line in told)
    assert any(line.startswith("history 1-4") for line in told)
    wide = [
        Metric(
            model=model,
            segment=segment,
            metric="average_precision_truncated",
            k=10_000,
            value=10.5,
            low=-10.5,
            high=10.5,
            n_users=1_000_000,
        )
        for model in ("model", "popularity", "difference")
        for segment in ("all", "x" * 200)
    ]
    assert max(map(len, report.lines(wide))) <= 80


def test_too_many_segments_are_refused() -> None:
    n = 101
    values = pd.DataFrame(
        {
            "user_id": np.tile(np.arange(n), 2),
            "model": np.repeat(["model", "popularity"], n),
            "k": 1,
            "history": 3,
            "segment": np.tile([f"s{i}" for i in range(n)], 2),
            **dict.fromkeys((*metrics.ACCURACY, *metrics.OF_LISTS, *metrics.OF_RANKS), 0.5),
        }
    )
    settings = Evaluation.model_validate({"bootstrap": 2, "segment": {"by": "zip"}})
    with pytest.raises(ConfigError, match="found 101 values in zip, expected at most 100"):
        results.results(values, {}, settings)
    found = results.results(values.query("user_id < 100"), {}, settings)
    assert len({result.segment for result in found}) == 102
