import datetime as dt
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.sections import Training
from recsys.errors import InputError, MemoryLimitError
from recsys.learn import counting
from recsys.learn.matrices import collect
from recsys.learn.sizes import Sizes, check_collectable
from recsys.runtime import memory
from recsys.store.tables import Scratch, Store

SCHEMA = "user_id string, item_id {item}, rating double, label tinyint"
RUN_DATE = dt.date(2026, 11, 24)


@pytest.fixture
def scratch(spark: SparkSession, tmp_path: Path) -> Scratch:
    store = Store(spark, str(tmp_path / "out"))
    return Scratch(store, store.uri("scratch"))


def settings(rating: str, **more: Any) -> Training:
    weights = {"rating": rating, "user_exponent": 0.0}
    return Training.model_validate({"no_components": 4, "sample_weights": weights, **more})


def pairs(spark: SparkSession, rows: list[tuple[object, ...]], item: str = "bigint") -> DataFrame:
    return spark.createDataFrame(rows, SCHEMA.format(item=item))


def sizes(pairs: int, users: int, items: int, **more: int) -> Sizes:
    return Sizes(pairs=pairs, negatives=0, users=users, items=items, **more)


def test_indices_follow_the_ids_as_utf8_bytes_and_as_numbers(
    spark: SparkSession, scratch: Scratch
) -> None:
    # In UTF-16 the last two would change places; a locale would put "a" before "Z".
    names = ["Z", "a", "ä", "\uffff", "\U0001f600"]
    numbers = [-5, 2, 10, 10**12, 7]
    rows = [(name, number, 1.0, 1) for name, number in zip(names, numbers, strict=True)]
    random.Random(1).shuffle(rows)
    found = collect(spark, scratch, pairs(spark, rows), settings("none"), RUN_DATE, max_share=0.8)
    assert found.user_ids.to_pylist() == names
    assert found.item_ids.to_pylist() == sorted(numbers)
    assert str(found.item_ids.type) == "int64"
    assert found.ratings is None


def test_the_matrix_holds_the_labelled_pairs_in_order_for_any_partitioning(
    spark: SparkSession, scratch: Scratch
) -> None:
    random_ = random.Random(2)
    cells = sorted({(random_.randrange(20), random_.randrange(20)): None for _ in range(200)})
    rows = [(f"u{u:02}", i, float(u + i), random_.choice([1, -1, 0])) for u, i in cells]
    used = [row for row in rows if row[3] != 0]
    for partitions in (1, 2, 7):
        random_.shuffle(rows)
        shuffled = pairs(spark, rows).repartition(partitions)
        found = collect(spark, scratch, shuffled, settings("log"), RUN_DATE, max_share=0.8)
        users, items = found.user_ids.to_pylist(), found.item_ids.to_pylist()
        got = [
            (users[r], items[c], float(rating), int(value))
            for r, c, rating, value in zip(
                found.labels.row, found.labels.col, found.ratings, found.labels.data, strict=True
            )
        ]
        assert got == used
        assert found.labels.data.dtype == np.float32


def test_nothing_to_learn_from_is_an_error(spark: SparkSession, scratch: Scratch) -> None:
    one = pairs(spark, [("u", 1, 1.0, 0)])
    with pytest.raises(InputError, match="no interactions are left"):
        collect(spark, scratch, one, settings("none"), RUN_DATE, max_share=0.8)


DATED = "user_id string, item_id bigint, rating double, seconds bigint, label tinyint"
MIDNIGHT = 1795564800  # the end of RUN_DATE
DAY = 86_400


def dated(spark: SparkSession, rows: list[tuple[str, int, float, int]]) -> DataFrame:
    """Make positive pairs of user, item, rating and seconds since 1970."""
    frame = spark.createDataFrame([(*row, 1) for row in rows], DATED)
    return frame.withColumn("timestamp", F.timestamp_seconds("seconds")).drop("seconds")


def by_age(**weights: Any) -> Training:
    given = {"rating": "none", "user_exponent": 0.0, "half_life_days": 1.0, **weights}
    return Training.model_validate({"no_components": 4, "sample_weights": given})


def test_ages_count_back_from_the_end_of_the_run_date_and_later_pairs_are_new(
    spark: SparkSession, scratch: Scratch
) -> None:
    seconds = [MIDNIGHT - 1, MIDNIGHT - DAY, MIDNIGHT - 10 * DAY, MIDNIGHT, MIDNIGHT + 5 * DAY]
    rows = [("u", n, 1.0, when) for n, when in enumerate(seconds)]
    found = collect(spark, scratch, dated(spark, rows), by_age(), RUN_DATE, max_share=0.8)
    assert found.ages is not None
    np.testing.assert_allclose(found.ages, [1 / DAY, 1, 10, 0, 0], rtol=1e-6)
    # A day later all of those that have an age are a day older.
    next_day = RUN_DATE + dt.timedelta(days=1)
    later = collect(spark, scratch, dated(spark, rows), by_age(), next_day, max_share=0.8)
    np.testing.assert_allclose(later.ages, [1 + 1 / DAY, 2, 11, 1, 0], rtol=1e-6)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles", "UTC"])
def test_the_first_and_the_last_second_that_there_is_have_ages_in_any_time_zone(
    spark: SparkSession, scratch: Scratch, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    first, last = -62135596800, 253402300799
    rows = [("u", 1, 1.0, first), ("u", 2, 1.0, last), ("v", 1, 1.0, MIDNIGHT - DAY)]
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        weights = by_age(half_life_days=1e5)
        found = collect(spark, scratch, dated(spark, rows), weights, RUN_DATE, max_share=0.8)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found.ages is not None
    np.testing.assert_allclose(found.ages, [(MIDNIGHT - first) / DAY, 0, 1], rtol=1e-6)


def test_pairs_without_weight_are_left_out_with_the_users_and_items_that_have_no_others(
    spark: SparkSession, scratch: Scratch
) -> None:
    old = MIDNIGHT - 300 * DAY
    rows = [
        ("a", 10, 1.0, MIDNIGHT), ("a", 20, 2.0, old), ("b", 20, 3.0, old), ("c", 10, 4.0, old),
        ("c", 30, 5.0, MIDNIGHT - DAY), ("d", 40, 6.0, MIDNIGHT),
    ]  # fmt: skip
    found = collect(
        spark, scratch, dated(spark, rows), by_age(rating="linear"), RUN_DATE, max_share=0.8
    )
    assert found.weightless_pairs == 3
    assert found.user_ids.to_pylist() == ["a", "c", "d"]
    assert found.item_ids.to_pylist() == [10, 30, 40]
    assert found.labels.shape == (3, 3)
    cells = zip(found.labels.row, found.labels.col, found.labels.data, strict=True)
    assert list(cells) == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
    assert found.ratings is not None
    assert found.ages is not None
    assert found.ratings.tolist() == [1, 5, 6]
    assert found.ages.tolist() == [0, 1, 0]


def test_no_pair_with_a_weight_is_an_error_about_the_input(
    spark: SparkSession, scratch: Scratch
) -> None:
    # 1e-60 is above 0, but not as a float.
    tiny = dated(spark, [("u", 1, 1e-60, MIDNIGHT), ("v", 1, 1e-60, MIDNIGHT)])
    with pytest.raises(InputError, match="none of the 2 pairs to learn from has a weight") as error:
        collect(spark, scratch, tiny, by_age(rating="log"), RUN_DATE, max_share=0.8)
    assert error.value.exit_code == 3
    nothing = dated(spark, [("u", 1, 0.0, MIDNIGHT)]).withColumn("label", F.lit(0))
    with pytest.raises(InputError, match=r"no interactions .*sample_weights\.rating, ratings of 0"):
        collect(spark, scratch, nothing, by_age(rating="log"), RUN_DATE, max_share=0.8)


def measure(used: DataFrame) -> Sizes:
    with counting.per_id(used, Training().sample_weights) as (users, items):
        sizes, lowest = counting.measure(users, items)
    assert lowest == (1.0 if sizes.pairs else 0.0)  # the disliked pair has a lower rating
    return sizes


def test_what_is_to_be_collected_is_measured_ids_by_their_bytes(spark: SparkSession) -> None:
    rows = [("ä", 1, 1.0, 1), ("ä", 2, 0.5, -1), ("long", 2, 2.0, 1)]
    assert measure(pairs(spark, rows)) == Sizes(
        pairs=3, negatives=1, users=2, items=2, user_bytes=2 + 4 + 2 * 4, item_bytes=2 * 8
    )
    assert measure(pairs(spark, rows, "int")).item_bytes == 2 * 4
    assert measure(pairs(spark, []).where("false")) == sizes(0, 0, 0)


def test_ids_that_are_more_than_spark_may_collect_are_refused_by_their_bytes(
    spark: SparkSession,
) -> None:
    for which in ("user", "item"):
        many = sizes(1000, 20_000, 20_000, **{f"{which}_bytes": 2**30 + 1})
        with pytest.raises(MemoryLimitError) as caught:
            check_collectable(spark, many, 4, 0.8)
        assert str(caught.value) == (
            f"20,000 {which} ids are about 1,024 MiB to collect, but spark.driver.maxResultSize is "
            "1g; raise it, or raise the minimum numbers of interactions in filters"
        )
    # And three copies of them must fit into memory.
    with pytest.raises(MemoryLimitError, match="20 users and 10 items with 4 components need"):
        check_collectable(spark, sizes(1000, 20, 10, user_bytes=2**29), 4, 0.05)
    check_collectable(spark, sizes(1000, 20, 10), 4, 0.05)


def test_too_many_interactions_for_the_memory_are_refused_with_the_numbers(
    spark: SparkSession,
) -> None:
    with pytest.raises(MemoryLimitError) as caught:
        check_collectable(spark, sizes(50_000_000, 5_000_000, 10_000), 64, 0.01)
    message = str(caught.value)
    assert message.startswith(
        "50,000,000 interactions of 5,000,000 users and 10,000 items with 64 components need about"
    )
    assert "memory.max_share 0.01" in message
    assert (
        "lower spark.driver.memory, training.no_components or training.second_view_rank" in message
    )


def test_drawn_negatives_count_in_the_memory_check_and_its_message(
    spark: SparkSession, scratch: Scratch
) -> None:
    def refused(max_share: float, loss: str, label: int) -> str:
        given = settings("none", loss=loss, negatives_per_positive=7)
        found = pairs(spark, [("u", 1, 1.0, 1), ("u", 2, 1.0, label), ("v", 1, 1.0, 1)])
        with pytest.raises(MemoryLimitError) as caught:
            collect(spark, scratch, found, given, RUN_DATE, max_share=max_share)
        return str(caught.value)

    drawn = refused(1e-9, "logistic", 1)
    assert drawn.startswith("3 interactions and 21 drawn negatives of 2 users and 2 items")
    assert "training.second_view_rank or training.negatives_per_positive" in drawn
    assert "drawn" not in refused(1e-9, "logistic", -1)
    assert "drawn" not in refused(1e-9, "warp", 1)
    # The pairs fit into a hundredth of the memory, but not with two billion drawn negatives.
    check_collectable(spark, sizes(1000, 10, 10), 4, 0.01)
    with pytest.raises(MemoryLimitError, match=r"2,000,000,000 drawn negatives .* are allowed"):
        check_collectable(spark, sizes(1000, 10, 10), 4, 0.01, n_drawn=2_000_000_000)
    with pytest.raises(MemoryLimitError, match=r"more than the 2,147,483,647 that LightFM can"):
        check_collectable(spark, sizes(1000, 10, 10), 4, 0.8, n_drawn=2**31)


def test_the_smaller_of_machine_and_control_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, group = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/jobs/one\n")
    (group / "jobs" / "one").mkdir(parents=True)
    (group / "jobs" / "memory.max").write_text("1073741824\n")
    (group / "jobs" / "one" / "memory.max").write_text("max\n")
    (group / "jobs" / "one" / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_CGROUP", group)
    assert memory.cgroup_bytes() == 2**30
    assert memory.cpus() == 1
    memory.check_fits(what="x", needed=2**29, heap=2**28, max_share=0.8, remedy="y")
    with pytest.raises(
        MemoryLimitError, match=r"control group's limit 1\.00 GiB less .* 0\.50 GiB"
    ):
        memory.check_fits(what="x", needed=2**29, heap=2**29, max_share=0.8, remedy="y")


def test_a_control_group_of_version_1_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, group = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("5:cpu:/x\n4:memory:/docker/abc\n")
    (group / "memory" / "docker" / "abc").mkdir(parents=True)
    (group / "memory" / "docker" / "abc" / "memory.limit_in_bytes").write_text("536870912\n")
    (group / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_CGROUP", group)
    assert memory.cgroup_bytes() == 2**29
