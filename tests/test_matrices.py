import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys.config.sections import Training
from recsys.errors import InputError, MemoryLimitError
from recsys.learn.matrices import check_collectable, collect
from recsys.runtime import memory
from recsys.store.tables import Scratch, Store

SCHEMA = "user_id string, item_id {item}, rating double, label tinyint"


@pytest.fixture
def scratch(spark: SparkSession, tmp_path: Path) -> Scratch:
    store = Store(spark, str(tmp_path / "out"))
    return Scratch(store, store.uri("scratch"))


def settings(rating: str, **more: Any) -> Training:
    weights = {"rating": rating, "user_exponent": 0.0}
    return Training.model_validate({"no_components": 4, "sample_weights": weights, **more})


def pairs(spark: SparkSession, rows: list[tuple[object, ...]], item: str = "bigint") -> DataFrame:
    return spark.createDataFrame(rows, SCHEMA.format(item=item))


def test_indices_follow_the_ids_as_utf8_bytes_and_as_numbers(
    spark: SparkSession, scratch: Scratch
) -> None:
    # In UTF-16 the last two would change places; a locale would put "a" before "Z".
    names = ["Z", "a", "ä", "\uffff", "\U0001f600"]
    numbers = [-5, 2, 10, 10**12, 7]
    rows = [(name, number, 1.0, 1) for name, number in zip(names, numbers, strict=True)]
    random.Random(1).shuffle(rows)
    found = collect(spark, scratch, pairs(spark, rows), settings("none"), max_share=0.8)
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
        found = collect(spark, scratch, shuffled, settings("log"), max_share=0.8)
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
        collect(spark, scratch, one, settings("none"), max_share=0.8)


def test_too_many_interactions_for_the_memory_are_refused_with_the_numbers(
    spark: SparkSession,
) -> None:
    with pytest.raises(MemoryLimitError) as caught:
        check_collectable(spark, 50_000_000, 5_000_000, 10_000, 64, 0.01)
    message = str(caught.value)
    assert message.startswith(
        "50,000,000 interactions of 5,000,000 users and 10,000 items with 64 components need about"
    )
    assert "memory.max_share 0.01" in message
    assert "lower spark.driver.memory or training.no_components" in message


def test_drawn_negatives_count_in_the_memory_check_and_its_message(
    spark: SparkSession, scratch: Scratch
) -> None:
    def refused(max_share: float, loss: str, label: int) -> str:
        given = settings("none", loss=loss, negatives_per_positive=7)
        found = pairs(spark, [("u", 1, 1.0, 1), ("u", 2, 1.0, label), ("v", 1, 1.0, 1)])
        with pytest.raises(MemoryLimitError) as caught:
            collect(spark, scratch, found, given, max_share=max_share)
        return str(caught.value)

    drawn = refused(1e-9, "logistic", 1)
    assert drawn.startswith("3 interactions and 21 drawn negatives of 2 users and 2 items")
    assert "training.no_components or training.negatives_per_positive" in drawn
    assert "drawn" not in refused(1e-9, "logistic", -1)
    assert "drawn" not in refused(1e-9, "warp", 1)
    # The pairs fit into a hundredth of the memory, but not with two billion drawn negatives.
    check_collectable(spark, 1000, 10, 10, 4, 0.01)
    with pytest.raises(MemoryLimitError, match=r"2,000,000,000 drawn negatives .* are allowed"):
        check_collectable(spark, 1000, 10, 10, 4, 0.01, n_drawn=2_000_000_000)
    with pytest.raises(MemoryLimitError, match=r"more than the 2,147,483,647 that LightFM can"):
        check_collectable(spark, 1000, 10, 10, 4, 0.8, n_drawn=2**31)


def test_more_than_max_result_size_is_refused_before_spark_fails(spark: SparkSession) -> None:
    with pytest.raises(MemoryLimitError, match=r"spark\.driver\.maxResultSize is 1g; raise it"):
        check_collectable(spark, 70_000_000, 10, 10, 4, 0.8)


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
