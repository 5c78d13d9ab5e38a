"""What is quick stays right: judged and deduplicated rows against plain Python."""

import datetime as dt
import itertools
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import make_ratings
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.sections import POLICIES, Deduplication, Input, RowChecks
from recsys.ingest.judging import judge
from recsys.ingest.pairing import deduplicate
from recsys.ingest.preparation import _n_parts
from recsys.learn.matrices import _order

BEGAN = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
LAST_SECOND = int((BEGAN + dt.timedelta(days=1)).timestamp())

# What passes the quick way, what does not, and what must not.
IDS = [
    None, "", " ", "\u00a0", "\u2003 ", "7", "007", " 7", "7 ", "+7", "-7", "7.0", " 17850.00 ",
    "-0.0", "7.5", "7.", ".0", "1e3", "x", "2147483647", "2147483648", "-2147483649.0",
    "9223372036854775807", "9223372036854775808", "a\ufffd", "\ufffd", "\u00e4", "\u0663",
    "~", "!", "\x7f", "\U0001f600", "0x10", "7L",
]  # fmt: skip
RATINGS = [
    None, "", "\t", "\u2003", "4", "4.0", " 4.50 ", "4.", ".5", "+4", "-4", "-0.0", "4e0", "4E+0",
    "40e-1", "1d", "2.0f", "0x1p1", "0X1P1", "-0x1p1", "NaN", "nan", "Infinity", "-inf", "1e999",
    "1e31", "-1e300", "--1", "1e", "four", "1 2", "3,5", "1.234,5", "/4", ",", ".", "+", "4x", "x4",
    "4\n", "5.5", "0.5", "\u0664", "4\u00a0", "1_0", "000000000004.0",
]  # fmt: skip
TIMES = [
    None, "", " ", "\u3000", "100", " 100 ", "-100", "1.5", "-1.5", "1e3", "soon", "99999999999999",
    "253402300799", "-62135596801", str(LAST_SECOND), str(LAST_SECOND + 1), "100.", "1365029107.25",
]  # fmt: skip

_BLANK = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*")
_SPACES = "".join(map(chr, range(33)))
Found = tuple[Any, str | None]


def plain_id(text: str | None, bits: int | None) -> Found:
    """Convert an id, or say what is wrong with it."""
    if text is None or _BLANK.fullmatch(text):
        return None, "missing"
    if bits is None:
        return (None, "invalid") if "\ufffd" in text else (text, None)
    whole = re.fullmatch(r"([+-]?[0-9]+)(?:\.0+)?", text.strip(_SPACES))
    if whole is None or not -(2 ** (bits - 1)) <= int(whole[1]) < 2 ** (bits - 1):
        return None, "invalid"
    return int(whole[1]), None


def plain_rating(text: str | None, decimal: str, low: float, high: float) -> Found:
    if text is None or _BLANK.fullmatch(text):
        return None, "missing"
    if decimal == ",":
        text = "." + "x" if "." in text else text.replace(",", ".")
    stripped = text.strip(_SPACES)
    if re.fullmatch(r"[+-]?(nan|inf|infinity)", stripped.lower()):
        return None, "not_finite"
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", stripped):
        return None, "unparsable"
    value = float(stripped) + 0.0
    if value in (float("inf"), float("-inf")):
        return None, "not_finite"
    if abs(value) > 1e30 or not low <= value <= high:
        return None, "out_of_range"
    return value, None


def plain_time(text: str | None) -> Found:
    if text is None or _BLANK.fullmatch(text):
        return None, "missing"
    number = re.fullmatch(r"[+-]?[0-9]+\.?[0-9]*(e[0-9]+)?", text.strip(" "))
    if number is None:
        return None, "unparsable"
    micros = int(float(number[0]) * 1_000_000)
    if not -62_135_596_800_000_000 <= micros <= 253_402_300_799_999_999:
        return None, "unparsable"
    if micros > LAST_SECOND * 1_000_000:
        return None, "in_future"
    return micros, None


@pytest.mark.parametrize(
    ("kinds", "decimal", "low", "high"),
    [(("int", "string"), ".", 0.5, 5.0), (("long", "source"), ",", None, None)],
)
def test_each_row_is_converted_or_rejected_as_plain_python_does_it(
    spark: SparkSession, kinds: tuple[str, str], decimal: str, low: float | None, high: float | None
) -> None:
    random_ = random.Random(4)
    good = ("7", "i", "4", "100")
    columns = (IDS, IDS, RATINGS, TIMES)
    rows: list[tuple[str | None, ...]] = [
        (*good[:n], text, *good[n + 1 :]) for n, texts in enumerate(columns) for text in texts
    ]
    choices = [[text, *texts] for text, texts in zip(good, columns, strict=True)]
    rows += [tuple(map(random_.choice, choices)) for _ in range(400)]
    bits = {"int": 32, "long": 64, "string": None, "source": None}
    limits = (float("-inf") if low is None else low, float("inf") if high is None else high)
    source = Input.model_validate(
        {"id_types": {"user": kinds[0], "item": kinds[1]}, "decimal": decimal}
    )
    raw = spark.createDataFrame(
        [(n, *row) for n, row in enumerate(rows)],
        "n int, user string, item string, rating string, timestamp string",
    )
    none = F.lit(None).cast("string")
    marked = raw.withColumns({"line": none, "misread": none, "quoted": F.lit(False)})
    # `judge` keeps no other column, so the rows' numbers go through the line.
    judged = judge(
        marked.withColumn("line", F.col("n").cast("string")),
        source,
        RowChecks(rating_min=low, rating_max=high),
        BEGAN,
    ).select("*", F.unix_micros("timestamp").alias("micros"))
    found = {int(row.line): row for row in judged.collect()}
    assert len(found) == len(rows)
    for n, (user, item, rating, time) in enumerate(rows):
        parts = {
            "user": plain_id(user, bits[kinds[0]]),
            "item": plain_id(item, bits[kinds[1]]),
            "rating": plain_rating(rating, decimal, *limits),
            "timestamp": plain_time(time),
        }
        wrong = [f"{name}_{reason}" for name, (_, reason) in parts.items() if reason]
        row = found[n]
        assert row.reason == (wrong[0] if wrong else None), rows[n]
        texts = (row.user, row.item, row.raw_rating, row.raw_timestamp)
        assert texts == (rows[n] if wrong else (None,) * 4)
        assert row.user_id == parts["user"][0], rows[n]
        assert row.item_id == parts["item"][0], rows[n]
        if not wrong:
            assert row.rating.hex() == parts["rating"][0].hex(), rows[n]
            assert row.micros == parts["timestamp"][0], rows[n]


def by_hand(rows: list[tuple[Any, ...]], policy: str) -> list[tuple[Any, ...]]:
    """Make one pair of the rows of a user and an item."""
    grouped = defaultdict(list)
    for user, item, rating, time in rows:
        grouped[user, item].append((time, rating))
    found = []
    for (user, item), group in grouped.items():
        ratings = sorted(rating for _, rating in group)
        total = 0.0
        for rating in ratings:
            total += rating
        value = {
            "last": max(group)[1],
            "first": min(group, key=lambda one: (one[0], -one[1]))[1],
            "max": ratings[-1],
            "min": ratings[0],
            "sum": total,
            "mean": total / len(group),
            "count": float(len(group)),
        }[policy]
        when = (min if policy == "first" else max)(time for time, _ in group)
        found.append((user, item, value.hex(), when, len(group), ratings[0] != ratings[-1]))
    return sorted(found)


RATED = "user_id string, item_id int, rating double, micros bigint"


def rated(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    frame = spark.createDataFrame(rows, RATED)
    return frame.withColumn("timestamp", F.timestamp_micros("micros")).drop("micros")


@pytest.mark.parametrize("policy", POLICIES)
def test_pairs_are_those_of_plain_python_to_the_bit(spark: SparkSession, policy: str) -> None:
    random_ = random.Random(6)
    times = [-62_135_596_800_000_000, -1, 0, 1, 1_000_000, 253_402_300_799_999_999]
    ratings = [0.0, 0.1, 0.2, 0.3, 1e16, -1e16, 1 / 3, 5e-324]
    rows = [
        (f"u{random_.randrange(9)}", random_.randrange(9), random_.choice(ratings),
         random_.choice(times))
        for _ in range(400)
    ]  # fmt: skip
    rule = Deduplication.model_validate({"policy": policy})
    for parts in (1, 3):
        pairs = deduplicate(rated(spark, rows), rule, parts=parts)
        found = pairs.withColumn("timestamp", F.unix_micros("timestamp")).collect()
        got = sorted((row[0], row[1], row[2].hex(), *row[3:]) for row in found)
        assert got == by_hand(rows, policy)


@pytest.mark.parametrize("policy", ["last", "first", "max", "min", "count"])
def test_pairs_are_made_without_a_sort(spark: SparkSession, policy: str) -> None:
    rule = Deduplication.model_validate({"policy": policy})
    pairs = deduplicate(rated(spark, [("u", 1, 1.0, 1)]), rule, parts=2)
    plan = pairs._jdf.queryExecution().executedPlan().toString()
    assert "HashAggregate" in plan
    assert "Sort" not in plan
    assert plan.count("Exchange") == 1


def test_rows_without_a_timestamp_are_of_one_time(spark: SparkSession) -> None:
    rows = [("u", 1, 2.0, None), ("u", 1, 3.0, None), ("v", 1, 1.0, None), ("v", 1, 4.0, 5)]
    frame = rated(spark, rows)
    for policy, expected in (("last", [3.0, 4.0]), ("first", [3.0, 1.0])):
        found = deduplicate(frame, Deduplication.model_validate({"policy": policy}), parts=1)
        assert [row.rating for row in found.orderBy("user_id").collect()] == expected


def test_cells_are_put_in_order_by_counting_as_by_a_sort() -> None:
    rng = np.random.default_rng(8)
    for shape in ((1, 1), (3, 50), (50, 3), (40, 60)):
        n = shape[0] * shape[1] // 2 + 1
        cells = rng.choice(shape[0] * shape[1], n, replace=False)
        rows, cols = (part.astype(np.int32) for part in np.divmod(cells, shape[1]))
        np.testing.assert_array_equal(_order(rows, cols, shape), np.lexsort((cols, rows)))


# Made ratings


def test_made_ratings_are_the_same_for_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_ratings, "_BLOCK_ROWS", 2_000)
    shape = make_ratings.Shape(9_001, 120, 300, repeats=0.1, dirty=0.05)
    blocks = make_ratings.blocks(shape)
    assert len(blocks) > 3
    expected = make_ratings.HEADER + b"".join(make_ratings.make_block(shape, b) for b in blocks)
    make_ratings.write(tmp_path / "made.csv", shape, processes=2)
    assert (tmp_path / "made.csv").read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["made.csv"]


def test_made_ratings_have_exactly_the_rows_users_and_items_that_were_asked_for() -> None:
    for shape in (
        make_ratings.Shape(9_001, 120, 300, repeats=0.1),
        make_ratings.Shape(500, 500, 500, repeats=0.0),
        make_ratings.Shape(4_000, 300, 80, repeats=0.2, dirty=0.1, seed=1),
    ):
        text = b"".join(make_ratings.make_block(shape, b) for b in make_ratings.blocks(shape))
        lines = [line.split(",") for line in text.decode().splitlines()]
        assert len(lines) == shape.rows
        good = [
            line
            for line in lines
            if len(line) == 4 and all(re.fullmatch("[0-9.]+", v) for v in line) and line[2] != "9.5"
        ]
        assert len({line[0] for line in good}) == shape.users
        assert len({line[1] for line in good}) == shape.items
        assert (len(good) < len(lines)) == (shape.dirty > 0)
        assert {line[2] for line in good} <= set(make_ratings.STARS)
        assert [int(u) for u, _ in itertools.groupby(line[0] for line in lines if line[0])] == (
            sorted({int(line[0]) for line in lines if line[0]})
        ) or shape.dirty
        pairs = len({(line[0], line[1]) for line in good})
        if shape.repeats == 0:
            assert pairs == len(good)
        else:
            assert 0.5 * shape.repeats < 1 - pairs / len(good) < 1.5 * shape.repeats


def test_every_core_gets_a_part_of_the_rows_unless_that_would_be_small() -> None:
    known = {(1, 8): 1, (99_999, 8): 1, (250_000, 8): 3, (4_000_000, 8): 8, (4_000_000, 2): 4}
    assert {(rows, cores): _n_parts(rows, cores) for rows, cores in known} == known
    assert _n_parts(16_000_000_001, 400) == 16_001
