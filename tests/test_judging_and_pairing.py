import datetime as dt
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.sections import POLICIES, Deduplication, Filters, Input, RowChecks
from recsys.errors import ConfigError, InputError
from recsys.ingest.judging import accepted, judge, rejects
from recsys.ingest.pairing import deduplicate, drop_rare, label
from recsys.ingest.source import MALFORMED
from recsys.ingest.timestamps import check_timestamp_format
from tests.conftest import collected

BEGAN = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
RAW = "user string, item string, rating string, timestamp string, line string"


def judge_text(
    spark: SparkSession, rows: list[tuple[Any, ...]], schema: str = RAW, **settings: Any
) -> DataFrame:
    checks = RowChecks.model_validate(settings.pop("row_checks", {}))
    source = Input.model_validate(settings)
    return judge_raw(spark.createDataFrame(rows, schema), source, checks)


def judge_raw(raw: DataFrame, source: Input, checks: RowChecks) -> DataFrame:
    """Judge rows as they come from a source."""
    misread = F.when(F.col("line").isNotNull(), MALFORMED).alias("misread")
    return judge(raw.select("*", misread, F.lit(False).alias("quoted")), source, checks, BEGAN)


GOOD = ("u", "i", "3.5", "100", None)


def test_each_kind_of_bad_row_has_its_reason(spark: SparkSession) -> None:
    bad = {
        "malformed_line": ("u", "i", None, None, "u,i"),
        "user_missing": (None, *GOOD[1:]),
        "item_missing": ("u", "\u00a0 \t", *GOOD[2:]),
        "rating_missing": ("u", "i", " ", "100", None),
        "rating_unparsable": ("u", "i", "3,5", "100", None),
        "rating_not_finite": ("u", "i", "NaN", "100", None),
        "rating_out_of_range": ("u", "i", "5.5", "100", None),
        "timestamp_missing": ("u", "i", "3", None, None),
        "timestamp_unparsable": ("u", "i", "3", "yesterday", None),
    }
    judged = judge_text(
        spark, [GOOD, *bad.values()], row_checks={"rating_min": 0.0, "rating_max": 5.0}
    )
    assert collected(accepted(judged)) == [("u", "i", 3.5, dt.datetime(1970, 1, 1, 0, 1, 40))]
    assert collected(rejects(judged)) == sorted(
        ((reason, *row) for reason, row in bad.items()), key=repr
    )


BEYOND = ["1e31", "-1e300"]  # a sum of a few of them might not be finite
NOT_FINITE = ["Infinity", "-inf", "nan", "1e999"]
NOT_PLAIN = ["1d", "2.0f", "0x1p3", "--1", "1e", "four", "1 2"]  # Java reads some as numbers
PLAIN = {"4": 4.0, " 4.50 ": 4.5, "-1e-3": -0.001, "+7": 7.0}


def test_text_is_a_rating_only_where_it_is_a_plain_finite_number(spark: SparkSession) -> None:
    texts = [*BEYOND, *NOT_FINITE, *NOT_PLAIN, *PLAIN]
    judged = judge_text(spark, [(text, "i", text, "1", None) for text in texts]).collect()
    reasons = {row["user_id"]: row["reason"] for row in judged}
    assert [reasons[text] for text in BEYOND] == ["rating_out_of_range"] * len(BEYOND)
    assert [reasons[text] for text in NOT_FINITE] == ["rating_not_finite"] * len(NOT_FINITE)
    assert [reasons[text] for text in NOT_PLAIN] == ["rating_unparsable"] * len(NOT_PLAIN)
    good = {row["user_id"]: row["rating"] for row in judged if row["reason"] is None}
    assert good == PLAIN


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("source", {"007": "007", " 7": " 7"}),
        ("int", {"007": 7, "17850.0": 17850, "2147483648": None, "1.5": None, "x": None}),
        ("long", {"2147483648": 2147483648, "9223372036854775808": None, "-1": -1}),
    ],
)
def test_text_ids_become_the_configured_type_or_are_rejected(
    spark: SparkSession, wanted: str, found: dict[str, Any]
) -> None:
    rows = [(text, text, "1", "1", None) for text in found]
    judged = judge_text(spark, rows, id_types={"user": wanted}).collect()
    assert {row["item_id"]: row["user_id"] for row in judged} == found
    assert {row["item_id"]: row["reason"] for row in judged} == {
        text: None if value is not None else "user_invalid" for text, value in found.items()
    }


@pytest.mark.parametrize("kind", ["int", "bigint", "smallint", "string"])
def test_typed_ids_keep_their_type(spark: SparkSession, kind: str) -> None:
    raw = spark.sql(f"select cast('5' as {kind}) user, 'i' item, cast(null as string) line")
    found = judge_raw(raw, Input(), RowChecks()).schema["user_id"].dataType.simpleString()
    assert found == ("int" if kind == "smallint" else kind)


def test_a_column_that_cannot_be_an_id_is_refused_or_converted(spark: SparkSession) -> None:
    raw = spark.sql(
        "select x user, 'i' item, cast(null as string) line "
        "from values (5d), (5.5d), (1e300d), (double('nan')) as t(x)"
    )
    with pytest.raises(ConfigError, match=r"found a column of type double.*input\.id_types\.user"):
        judge_raw(raw, Input(), RowChecks())
    source = Input.model_validate({"id_types": {"user": "long"}})
    rows = judge_raw(raw, source, RowChecks()).select("user_id", "reason").collect()
    assert sorted(map(tuple, rows), key=repr) == [
        (5, None),
        (None, "user_invalid"),
        (None, "user_invalid"),
        (None, "user_missing"),
    ]


def test_decimal_ids_are_taken_only_where_they_are_whole(spark: SparkSession) -> None:
    raw = spark.sql(
        "select x user, 'i' item, cast(null as string) line from values "
        "(5.50), (5.20), (5.00) as t(x)"
    )
    for kind, expected in (("int", 5), ("string", "5")):
        source = Input.model_validate({"id_types": {"user": kind}})
        rows = judge_raw(raw, source, RowChecks()).select("user_id", "reason").collect()
        assert sorted(map(tuple, rows), key=repr) == [
            (expected, None),
            (None, "user_invalid"),
            (None, "user_invalid"),
        ]


def test_ids_of_bytes_that_are_no_text_are_rejected_not_merged(spark: SparkSession) -> None:
    judged = judge_text(spark, [("a\ufffd", "i", "1", "1", None)]).collect()
    assert judged[0]["reason"] == "user_invalid"


def test_a_timestamp_format_that_spark_does_not_know_is_a_configuration_error(
    spark: SparkSession,
) -> None:
    with pytest.raises(ConfigError, match=r"found 'sekonds'.*did you mean seconds\?"):
        check_timestamp_format(spark, "sekonds")
    check_timestamp_format(spark, "dd.MM.yyyy")


@pytest.mark.parametrize(
    ("layout", "found"),
    [
        (
            "seconds",
            {
                "1365029107": dt.datetime(2013, 4, 3, 22, 45, 7),
                "-1.5": dt.datetime(1969, 12, 31, 23, 59, 58, 500000),
                "1e30": None,
                "99999999999999": None,
                "soon": None,
            },
        ),
        ("milliseconds", {"1365029107123": dt.datetime(2013, 4, 3, 22, 45, 7, 123000), "x": None}),
        (
            "iso",
            {
                "2013-04-03T22:45:07Z": dt.datetime(2013, 4, 3, 22, 45, 7),
                "2013-04-03 22:45:07+02:00": dt.datetime(2013, 4, 3, 20, 45, 7),
                "2013-13-01": None,
                "12:30": None,
                "T12:30:00": None,
                "+12345-01-01": None,
                "0000-01-01": None,
            },
        ),
        ("dd.MM.yyyy", {"03.04.2013": dt.datetime(2013, 4, 3), "31.02.2013": None}),
    ],
)
def test_timestamps_are_read_by_the_configured_format_or_rejected(
    spark: SparkSession, layout: str, found: dict[str, dt.datetime | None]
) -> None:
    rows = [(text, "i", "1", text, None) for text in found]
    judged = judge_text(spark, rows, timestamp_format=layout).collect()
    assert {row["user_id"]: row["timestamp"] for row in judged} == found
    assert {row["user_id"]: row["reason"] for row in judged} == {
        text: None if value else "timestamp_unparsable" for text, value in found.items()
    }


def test_without_rating_and_timestamp_each_row_counts_as_one(spark: SparkSession) -> None:
    judged = judge_text(spark, [("u", "i", None)], "user string, item string, line string")
    assert collected(accepted(judged)) == [("u", "i", 1.0, None)]


def instants(seconds: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)


# One user and item; two rows share the latest, two the earliest timestamp.
PAIR = [(1.0, 10), (4.0, 10), (2.5, 20), (3.0, 30), (0.5, 30)]
KNOWN = {
    "last": (3.0, 30),
    "first": (4.0, 10),
    "max": (4.0, 30),
    "min": (0.5, 30),
    "mean": (2.2, 30),
    "sum": (11.0, 30),
    "count": (5.0, 30),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_gives_its_known_answer(spark: SparkSession, policy: str) -> None:
    rows = [("u", "i", rating, instants(second)) for rating, second in PAIR]
    frame = spark.createDataFrame(
        rows, "user_id string, item_id string, rating double, timestamp timestamp"
    )
    rule = Deduplication.model_validate({"policy": policy})
    rating, second = KNOWN[policy]
    assert collected(deduplicate(frame, rule, parts=2)) == [
        ("u", "i", rating, instants(second), 5, True)
    ]


def test_every_policy_is_the_same_to_the_bit_for_any_order_and_partitioning(
    spark: SparkSession,
) -> None:
    random_ = random.Random(3)
    rows = [
        (
            f"u{random_.randrange(5)}",
            f"i{random_.randrange(5)}",
            random_.choice([0.0, -0.0, 0.1, 0.2, 0.3, 1e16, -1e16, 1 / 3]) + 0.0,
            instants(random_.randrange(4)),
        )
        for _ in range(600)
    ]
    schema = "user_id string, item_id string, rating double, timestamp timestamp"
    for policy in POLICIES:
        rule = Deduplication.model_validate({"policy": policy})
        answers = set()
        for partitions in (1, 2, 7):
            random_.shuffle(rows)
            frame = spark.createDataFrame(rows, schema).repartition(partitions)
            found = collected(deduplicate(frame, rule, parts=2))
            answers.add(repr([(row[0], row[1], row[2].hex(), *row[3:]) for row in found]))
        assert len(answers) == 1, policy


def test_negative_zero_and_zero_are_the_same_rating(spark: SparkSession) -> None:
    row = judge_text(spark, [("u", "i", "-0.0", "1", None)]).collect()[0]
    assert row["rating"].hex() == (0.0).hex()


LABELLED = (
    "user_id string, item_id string, rating double, timestamp timestamp, rows bigint, "
    "conflicting boolean"
)


RATED = [(1.0, 1), (3.9, 2), (4.0, 3), (5.0, 4)]


def labels(
    spark: SparkSession,
    filters: dict[str, Any],
    *,
    keep_negatives: bool,
    rated: list[tuple[float, int]] = RATED,
    weighed_by_rating: bool = False,
) -> list[int]:
    rows = [
        ("u", f"i{n}", rating, dt.datetime(2020, 1, day), 1, False)
        for n, (rating, day) in enumerate(rated)
    ]
    rules = Filters.model_validate(filters)
    window = rules.window(dt.date(2020, 1, 4))
    frame = spark.createDataFrame(rows, LABELLED)
    found = label(
        frame, rules, window, keep_negatives=keep_negatives, weighed_by_rating=weighed_by_rating
    )
    return [row["label"] for row in sorted(found.collect(), key=lambda row: row["item_id"])]


def test_a_threshold_leaves_lower_ratings_out_or_makes_them_negatives(spark: SparkSession) -> None:
    assert labels(spark, {"rating_threshold": 4.0}, keep_negatives=False) == [0, 0, 1, 1]
    assert labels(spark, {"rating_threshold": 4.0}, keep_negatives=True) == [-1, -1, 1, 1]
    assert labels(spark, {}, keep_negatives=True) == [1, 1, 1, 1]


def test_where_ratings_are_weights_a_zero_that_would_be_a_like_is_left_out(
    spark: SparkSession,
) -> None:
    rated = [(-2.0, 1), (-0.0, 1), (0.0, 1), (0.5, 1), (2.0, 1)]

    def found(threshold: float | None, **more: bool) -> list[int]:
        given = {"rating_threshold": threshold}
        return labels(spark, given, rated=rated, **{"keep_negatives": False, **more})

    assert found(None) == [1, 1, 1, 1, 1]  # ratings are no weights
    for negatives in (False, True):
        weighed = {"weighed_by_rating": True, "keep_negatives": negatives}
        # What is below 0 stays positive, for the error that says what to do.
        assert found(None, **weighed) == [1, 0, 0, 1, 1]
        assert found(-2.0, **weighed) == [1, 0, 0, 1, 1]
        below = -1 if negatives else 0
        assert found(0.0, **weighed) == [below, 0, 0, 1, 1]
        # A zero below the threshold is what any rating below it is.
        assert found(1.0, **weighed) == [below, below, below, below, 1]


def test_a_date_window_includes_its_first_and_last_day(spark: SparkSession) -> None:
    since, until = dt.date(2020, 1, 2), dt.date(2020, 1, 3)
    assert labels(spark, {"since": since, "until": until}, keep_negatives=False) == [0, 1, 1, 0]
    assert labels(spark, {"last_days": 2}, keep_negatives=True) == [0, 0, 1, 1]
    endless = {"since": since, "until": dt.date.max}
    assert labels(spark, endless, keep_negatives=True) == [0, 1, 1, 1]


def by_hand(pairs: set[tuple[str, str]], user_least: int, item_least: int) -> set[tuple[str, str]]:
    while True:
        users: dict[str, int] = defaultdict(int)
        items: dict[str, int] = defaultdict(int)
        for user, item in pairs:
            users[user] += 1
            items[item] += 1
        kept = {(u, i) for u, i in pairs if users[u] >= user_least and items[i] >= item_least}
        if kept == pairs:
            return kept
        pairs = kept


def test_rare_users_and_items_are_dropped_until_none_is_left(spark: SparkSession) -> None:
    random_ = random.Random(5)
    pairs = {(f"u{random_.randrange(25)}", f"i{random_.randrange(25)}") for _ in range(95)}
    # A chain that falls link by link, so that one round cannot be enough.
    pairs |= {(f"c{n}", f"d{n}") for n in range(4)} | {(f"c{n + 1}", f"d{n}") for n in range(3)}
    frame = spark.createDataFrame(
        [(u, i, 1.0, None, 1, 1, False) for u, i in sorted(pairs)],
        "user_id string, item_id string, rating double, timestamp timestamp, label tinyint, "
        "rows bigint, conflicting boolean",
    )
    expected = by_hand(pairs, 3, 2)
    assert 0 < len(expected) < len(pairs)
    filters = Filters(min_user_interactions=3, min_item_interactions=2)
    checkpoint: Callable[[DataFrame], DataFrame] = lambda f: f.localCheckpoint()  # noqa: E731
    found = drop_rare(frame, filters, checkpoint).collect()
    assert {(row["user_id"], row["item_id"]) for row in found if row["label"] == 1} == expected
    assert len(found) == len(pairs)
    with pytest.raises(InputError, match=r"nothing is left after filters\.min_user_interactions"):
        drop_rare(frame, Filters(min_user_interactions=90), checkpoint)
