"""Which users are trained on where not all fit, by known answers."""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.sections import SampleWeights, Training
from recsys.errors import MemoryLimitError, OutputError
from recsys.ingest.features import PreparedFeatures
from recsys.learn import all_pairs, matrices, pair_stream, user_sample
from recsys.learn.matrices import Interactions, collect
from recsys.learn.sizes import FeatureSizes, Sizes, driver_bytes
from recsys.runtime import memory
from recsys.store.tables import Scratch, Store

SCHEMA = "user_id string, item_id int, rating double, label tinyint"
RUN_DATE = dt.date(2026, 11, 24)
# Users of four lengths of history. Of 40 others each has one of two rare items.
HISTORIES = {**{f"a{n:02}": 1 for n in range(20)}, **{f"b{n:02}": 6 for n in range(20)},
             **{f"c{n:02}": 12 for n in range(40)}, "d": 30}  # fmt: skip


def rows() -> list[tuple[str, int, float, int]]:
    made = []
    for user, n in HISTORIES.items():
        first = int(hashlib.sha256(user.encode()).hexdigest(), 16) % 40
        made += [(user, (first + item) % 40, 1.0, 1) for item in range(n - (user[0] == "c"))]
        if user[0] == "c":
            made.append((user, 100 + int(user[1:]) % 2, 1.0, 1))
    made.append(("d", 999, 1.0, 0))  # without a label
    return made


def settings(sample: Any, **more: Any) -> Training:
    weights = {"rating": "none", "user_exponent": 0.0}
    given = {"no_components": 4, "sample_weights": weights, "early_stopping": None, **more}
    return Training.model_validate({**given, "sample_users": sample})


@pytest.fixture
def scratch(spark: SparkSession, tmp_path: Path) -> Scratch:
    store = Store(spark, str(tmp_path / "out"))
    return Scratch(store, store.uri("scratch"))


@pytest.fixture
def pairs(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(rows(), SCHEMA)


Take = Callable[..., Interactions]


@pytest.fixture
def take(spark: SparkSession, scratch: Scratch, pairs: DataFrame) -> Take:
    def execute(
        sample: Any, frame: DataFrame = pairs, given: dict[str, Any] | None = None, **more: Any
    ) -> Interactions:
        return collect(
            spark,
            scratch,
            frame,
            settings(sample, **more),
            RUN_DATE,
            max_share=0.8,
            **(given or {}),
        )

    return execute


def room_for(n_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Any, sizes: Sizes, *__: Any, **___: Any) -> None:
        if sizes.pairs > n_pairs:
            raise MemoryLimitError(f"{sizes.pairs} pairs are too many")

    monkeypatch.setattr(matrices, "check_collectable", check)


def cells(found: Interactions) -> list[tuple[str, int]]:
    users, items = found.user_ids.to_pylist(), found.item_ids.to_pylist()
    labels = found.labels
    return [(users[u], items[i]) for u, i in zip(labels.row, labels.col, strict=True)]


def test_a_share_takes_whole_users_of_each_length_of_history_the_same_for_any_partitioning(
    take: Take, pairs: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_sample, "LEAST", 0)
    found = take(0.25)
    taken = found.user_ids.to_pylist()
    # A quarter of each, and at least one.
    assert Counter(user[0] for user in taken) == {"a": 5, "b": 5, "c": 10, "d": 1}
    whole = sorted((user, item) for user, item, _, label in rows() if label and user in taken)
    assert cells(found) == whole
    sample = found.sample
    assert sample is not None
    assert (sample.share, sample.added) == (0.25, 0)
    assert (sample.taken.users, sample.taken.pairs) == (21, len(whole))
    assert sample.taken.items == len(found.item_ids)
    assert sample.everyone.users == len(HISTORIES)
    for parts in (1, 5):
        again = take(0.25, pairs.repartition(parts, F.rand(parts)))
        assert again.user_ids == found.user_ids
        assert (again.labels != found.labels).nnz == 0
    # Of the smaller sample all are in the larger one.
    assert set(take(0.1).user_ids.to_pylist()) < set(taken)
    assert take(1).sample is None
    assert len(take(1).user_ids) == len(HISTORIES)


def test_each_item_with_enough_pairs_keeps_some_and_few_users_are_added_for_that(
    take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = take(0.05)
    every = Counter(item for _, item, _, label in rows() if label)
    left = Counter(item for _, item in cells(found))
    enough = [item for item, n in every.items() if n >= user_sample.ENOUGH]
    assert {100, 101} < set(enough)
    assert all(left[item] >= user_sample.LEAST for item in enough)
    assert found.sample is not None
    drawn = 1 + 1 + 2 + 1
    assert found.sample.added == len(found.user_ids) - drawn > 0
    monkeypatch.setattr(user_sample, "LEAST", 0)
    assert Counter(item for _, item in cells(take(0.05)))[100] < 5


def test_auto_takes_the_largest_share_whose_pairs_fit_with_those_of_added_users(
    take: Take, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    n = take("auto").labels.nnz
    assert take("auto").sample is None
    room_for(n // 2, monkeypatch)
    found = take("auto")
    assert found.sample is not None
    assert found.labels.nnz <= n // 2
    assert found.sample.share in user_sample.STEPS
    larger = user_sample.STEPS[user_sample.STEPS.index(found.sample.share) - 1]
    with pytest.raises(MemoryLimitError, match="pairs are too many"):
        take(larger)
    assert f"{len(found.user_ids)} of 81" in caplog.text
    with pytest.raises(MemoryLimitError):
        take("refuse")
    # Those who are drawn would fit, and with those who are added they do not.
    monkeypatch.undo()
    with_added = take(0.05)
    assert with_added.sample is not None
    assert with_added.sample.added > 0
    room_for(with_added.labels.nnz - 1, monkeypatch)
    assert take("auto").labels.nnz < with_added.labels.nnz


def test_the_log_and_the_sample_name_the_first_limit_that_all_users_exceed(
    take: Take, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = take(0.5).sample
    assert given is not None
    assert given.reason is None
    room_for(given.everyone.pairs - 1, monkeypatch)
    found = take("auto").sample
    assert found is not None
    assert found.reason == f"{given.everyone.pairs} pairs are too many"
    assert f"Not all users fit: {found.reason}" in caplog.text
    # Ids, too, that are more than Spark gives the driver at once, whatever the memory.
    monkeypatch.undo()
    tiny = given.everyone.user_bytes - 1
    assert given.everyone.item_bytes < tiny * 0.75
    monkeypatch.setattr(memory, "result_limit", lambda _: (tiny, "tiny"))
    found = take("auto").sample
    assert found is not None
    assert found.share == 0.75
    limit = "81 user ids are about 0 MiB to collect, but spark.driver.maxResultSize is tiny; raise"
    assert found.reason is not None
    assert found.reason.startswith(limit)
    assert f"Not all users fit: {limit}" in caplog.text


def test_where_items_cannot_keep_their_minimum_the_sample_does_without_it(
    take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(60, monkeypatch)
    found = take("auto")
    assert found.sample is not None
    assert (found.sample.least, found.sample.added) == (0, 0)
    assert 0 < found.labels.nnz <= 60
    # A share that is given does without, too, and a training that goes on takes what its model has.
    given = take(0.02).sample
    assert given is not None
    assert (given.share, given.least, given.added) == (0.02, 0, 0)
    monkeypatch.undo()
    again = take("auto", given={"base": (0.05, 0)})
    assert again.sample is not None
    assert (again.sample.share, again.sample.least, again.sample.added) == (0.05, 0, 0)
    assert take("auto", given={"base": (1.0, 0)}).sample is None
    room_for(10, monkeypatch)
    with pytest.raises(MemoryLimitError, match="pairs are too many"):
        take("auto")


def test_a_sample_that_a_model_had_is_refused_where_it_does_not_fit_and_no_other_is_advised(
    take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_: Any, sizes: Sizes, *__: Any, **given: Any) -> None:
        raise MemoryLimitError(f"{sizes.pairs} pairs{given['or_else']}")

    monkeypatch.setattr(matrices, "check_collectable", check)
    for base in ((0.25, 5), (1.0, 0)):
        with pytest.raises(MemoryLimitError, match=r"^\d+ pairs$"):
            take(0.25, given={"base": base})
    with pytest.raises(MemoryLimitError, match="or train on fewer users"):
        take(0.25)
    with pytest.raises(MemoryLimitError, match="or train on fewer users"):
        take("refuse")


def test_a_sample_needs_no_memory_for_the_features_of_users_whom_it_leaves_out(
    take: Take, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FeatureSizes] = []

    def check(*_: Any, features: FeatureSizes, **__: Any) -> None:
        asked.append(features)
        if features.rows > 90:
            raise MemoryLimitError(f"{features.rows} features are too many")

    monkeypatch.setattr(matrices, "check_collectable", check)
    # Two features of each user, one of whom has no pair.
    rows = [(user, kind, "x", 1.0) for user in [*HISTORIES, "new"] for kind in ("k", "l")]
    described = spark.createDataFrame(rows, "id string, group string, value string, weight double")
    given = {"features": FeatureSizes(len(rows), 2, len(HISTORIES) + 1), "user_features": described}
    found = take("auto", given=given)
    assert found.sample is not None
    n = len(found.user_ids) + 1
    assert found.sample.taken.features == asked[-1] == FeatureSizes(2 * n, 2, n)
    assert found.sample.everyone.features.rows == len(rows)


def test_some_who_are_left_out_come_with_their_pairs_of_the_items_that_are_there(
    take: Take,
) -> None:
    stopping = {"max_users": 8}
    given = {"judging": True}
    found = take(0.25, given=given, early_stopping=stopping)
    sample = found.sample
    alone = take(0.25, early_stopping=stopping).sample
    assert sample is not None
    assert alone is not None
    assert (alone.judged_ids, alone.judged, alone.taken.judged_pairs) == (None, None, 0)
    assert sample.judged is not None
    assert sample.judged_ids is not None
    judged = sample.judged_ids.to_pylist()
    # Their pairs take memory, too.
    theirs_all = sum(1 for user, _, _, label in rows() if label and user in judged)
    assert sample.taken.judged_pairs == theirs_all
    everything = driver_bytes(sample.taken, 4)["matrix"]
    assert everything > driver_bytes(alone.taken, 4)["matrix"]
    assert 3 <= len(judged) <= 12
    assert not set(judged) & set(found.user_ids.to_pylist())
    items = found.item_ids.to_pylist()
    theirs = sorted(
        (u, i) for u, i, _, label in rows() if label and u in judged and i in items
    )  # fmt: skip
    places = zip(sample.judged.row, sample.judged.col, strict=True)
    assert [(judged[u], items[i]) for u, i in places] == theirs


def test_a_stratum_of_more_users_than_fit_into_an_int_is_no_overflow(spark: SparkSession) -> None:
    many = spark.sql("SELECT int(2147483646) AS part, bigint(2147483648) AS whole")
    got = many.select(user_sample.share_of(F.col("part"), F.col("whole"))).collect()[0][0]
    assert got == 2147483646 / 2147483648
    # Sums over users are of bigints, too.
    two = spark.sql("SELECT 'u' AS user_id, 2147483647 AS n_pairs, 2147483647 AS n_negatives, "
                    "2147483647 AS n_bytes, 2147483647 AS n_features FROM range(2)")  # fmt: skip
    everyone, all_of_them = Sizes(0, 0, 0, 3), (F.lit(True), F.lit(False))
    assert user_sample._measured(two, [all_of_them], everyone)[0].pairs == 2 * 2147483647


def test_pairs_come_in_parts_where_the_result_limit_is_small(
    spark: SparkSession, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = take("auto")
    parts: list[int] = []
    read = type(spark.range(1)).toArrow

    def counted(frame: DataFrame) -> Any:
        table = read(frame)
        if "label" in frame.columns:
            parts.append(len(table))
        return table

    for name, given, rows_of_a_part in (
        ("result_limit", lambda _: (4000, "4000"), 2000 / 17),
        ("_ROWS_OF_A_PART", 100, 100),
    ):
        parts.clear()
        monkeypatch.setattr(type(spark.range(1)), "toArrow", counted)
        monkeypatch.setattr(pair_stream, name, given)
        found = take("auto")
        assert len(parts) == -(-found.labels.nnz // rows_of_a_part) > 3
        assert sum(parts) == found.labels.nnz
        assert cells(found) == cells(whole)
        monkeypatch.undo()
    for n in (3, 5):
        frame = spark.range(4).withColumn("n", F.col("id").cast("int"))
        with pytest.raises(OutputError, match=f"expected {n} pairs"):
            pair_stream.collect_columns(frame, {"n": np.int32}, n, "id")


def aged(spark: SparkSession) -> DataFrame:
    """Give pairs of all ages: some without weight, and users who have no others."""
    day, made = 86_400, []
    for n in range(60):
        for item in range(6):
            age = 4000 * (item == 5 or n % 10 == 0) + item
            label = -1 if n % 3 == 0 and item < 5 else 1
            made.append((f"u{n:02}", item, 1.0 + item, label, -age * day))
    schema = "user_id string, item_id int, rating double, label tinyint, seconds bigint"
    frame = spark.createDataFrame(made, schema)
    since = F.timestamp_seconds(F.col("seconds") + 20_000 * day)
    return frame.withColumn("timestamp", since).drop("seconds")


@pytest.mark.parametrize("rating", ["log", "capped"])
def test_pairs_without_weight_count_neither_for_the_sample_nor_for_those_left_out(
    take: Take, spark: SparkSession, scratch: Scratch, rating: str
) -> None:
    weights: dict[str, Any] = {"rating": rating, "half_life_days": 10.0, "user_exponent": 0.5}
    weights |= {"cap": 3.0} if rating == "capped" else {}
    frame = aged(spark)
    found, whole = (take(share, frame, sample_weights=weights) for share in (0.5, "refuse"))
    assert found.sample is not None
    assert found.weightless_pairs > 0
    policy = SampleWeights.model_validate(weights)
    used = all_pairs.with_weight(frame, found, policy, RUN_DATE)
    assert sorted((r.user_id, r.item_id) for r in used.collect()) == cells(whole)
    counts = all_pairs.counts_of_items(scratch, used, found.item_ids)
    assert found.item_ids.to_pylist() == whole.item_ids.to_pylist() == [0, 1, 2, 3, 4]
    assert counts.pairs.tolist() == np.bincount(whole.labels.col).tolist()
    liked = whole.labels.col[whole.labels.data > 0]
    assert counts.liked.tolist() == np.bincount(liked, minlength=5).tolist()


def test_who_likes_nothing_that_counts_keeps_features_and_who_was_left_out_does_not(
    take: Take, spark: SparkSession, scratch: Scratch
) -> None:
    frame = aged(spark)
    weights = {"rating": "none", "half_life_days": 10.0, "user_exponent": 0.0}
    found = take(0.25, frame, sample_weights=weights)
    used = all_pairs.with_weight(frame, found, SampleWeights.model_validate(weights), RUN_DATE)
    ids = [(f"u{n:02}", "k", "x", 1.0) for n in range(61)]
    described = spark.createDataFrame(ids, "id string, group string, value string, weight double")
    prepared = PreparedFeatures(None, {"users": described}, {})  # type: ignore[arg-type]
    left = all_pairs.without_left_out(prepared, scratch, used, found)
    assert left is not None
    kept = {row.id for row in left.rows["users"].collect()}
    taken = set(found.user_ids.to_pylist())
    likes_nothing = {f"u{n:02}" for n in range(60) if n % 3 == 0 or n % 10 == 0}
    assert kept == taken | likes_nothing | {"u60"}
    assert likes_nothing - taken
    assert len(kept) < 61
    # Who likes nothing of the model cannot be folded in.
    for model, own in ([99], {f"u{n:02}" for n in range(61)}), ([4, 99], kept):
        left = all_pairs.without_left_out(
            prepared, scratch, used, found, item_ids=pa.array(model, pa.int32())
        )
        assert left is not None
        assert {row.id for row in left.rows["users"].collect()} == own


def test_who_likes_only_items_that_a_sample_does_not_have_keeps_features(
    take: Take, pairs: DataFrame, spark: SparkSession, scratch: Scratch
) -> None:
    found = take(0.25)
    away = set(HISTORIES) - set(found.user_ids.to_pylist())
    # Two of those who are left out like another item as well, or alone.
    one, other = sorted(away)[:2]
    more = spark.createDataFrame([(one, 5000, 1.0, 1), (other, 5000, 1.0, 1)], SCHEMA)
    used = pairs.where((F.col("user_id") != one) & (F.col("label") != 0)).unionByName(more)
    ids = [(user, "k", "x", 1.0) for user in HISTORIES]
    described = spark.createDataFrame(ids, "id string, group string, value string, weight double")
    prepared = PreparedFeatures(None, {"users": described}, {})  # type: ignore[arg-type]
    left = all_pairs.without_left_out(prepared, scratch, used, found)
    assert left is not None
    kept = {row.id for row in left.rows["users"].collect()}
    assert kept == (set(HISTORIES) - away) | {one}
