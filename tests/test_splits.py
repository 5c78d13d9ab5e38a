import datetime as dt
import hashlib
import random
from collections import Counter
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys.columns import INTERACTIONS_SCHEMA, SPLIT_SCHEMA, names
from recsys.config.reading import load_config
from recsys.config.requirements import for_split
from recsys.config.sections import Split
from recsys.errors import ConfigError, InputError
from recsys.evaluate.manifest import SplitCounts
from recsys.evaluate.splits import counts, split

Pair = tuple[Any, Any, int]

KINDS: dict[str, dict[str, Any]] = {
    "random": {"test_share": 0.3, "validation_share": 0.2},
    "by_user": {"test_share": 0.3, "validation_share": 0.2},
    "by_item": {"test_share": 0.3, "validation_share": 0.2},
    "last_n": {"last_n": 3, "validation_last_n": 2},
    "time": {"test_since": dt.date(2020, 1, 5), "validation_since": dt.date(2020, 1, 4)},
}


def frame(spark: SparkSession, pairs: list[Pair], ids: str = "string") -> DataFrame:
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    rows = [
        (user, item, 1.0, start + dt.timedelta(hours=hour), 1, 1, False)
        for user, item, hour in pairs
    ]
    return spark.createDataFrame(rows, INTERACTIONS_SCHEMA.format(user=ids, item=ids))


def folds(parts: DataFrame) -> dict[tuple[Any, Any], str]:
    """Return the fold of each pair, of which none may be there twice."""
    rows = parts.select("user_id", "item_id", "fold").collect()
    found = {(user, item): fold for user, item, fold in rows}
    assert len(found) == len(rows)
    return found


def divided(spark: SparkSession, pairs: list[Pair], **settings: Any) -> dict[tuple[Any, Any], str]:
    return folds(split(frame(spark, pairs), Split.model_validate(settings)))


def drawn(user: Any, item: Any, seed: int = 42) -> str:
    return hashlib.sha256(f"{seed}:{user}:{item}".encode()).hexdigest()


def many(n: int = 2_000, users: int = 60, items: int = 90) -> list[Pair]:
    """Make pairs at few different hours, so that most timestamps are equal to others."""
    random_ = random.Random(11)
    cells = random_.sample([(u, i) for u in range(users) for i in range(items)], n)
    return [(f"u{u}", f"i{i}", random_.randrange(8) * 18) for u, i in cells]


def test_at_random_each_pair_falls_by_its_own_hash(spark: SparkSession) -> None:
    pairs = many(300)
    expected = {}
    for user, item, _ in pairs:
        number = int(drawn(user, item)[:13], 16) / 2**52
        expected[user, item] = "train" if number < 0.5 else "validation" if number < 0.7 else "test"
    assert divided(spark, pairs, kind="random", **KINDS["random"]) == expected


def test_at_random_the_folds_have_about_their_shares(spark: SparkSession) -> None:
    found = Counter(divided(spark, many(), kind="random", **KINDS["random"]).values())
    # Five standard deviations of 2,000 draws.
    for fold, share in {"train": 0.5, "validation": 0.2, "test": 0.3}.items():
        assert abs(found[fold] - 2_000 * share) < 5 * (2_000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("kind", ["by_user", "by_item"])
@pytest.mark.parametrize(
    ("test", "validation", "train", "known"),
    [(0.25, 0.0, 0.75, 0.75), (0.5, 0.0, 0.5, 0.5), (0.2, 0.1, 0.7, 0.8), (0.9, 0.05, 0.05, 0.1)],
)
def test_each_group_is_divided_in_the_order_of_hashes_at_rounded_shares(
    spark: SparkSession, kind: str, test: float, validation: float, train: float, known: float
) -> None:
    pairs, expected = [], {}
    for n in range(1, 17):
        cells = [(f"g{n}", f"o{m}") for m in range(n)]
        if kind == "by_item":
            cells = [(other, group) for group, other in cells]
        pairs += [(user, item, 0) for user, item in cells]
        for place, cell in enumerate(sorted(cells, key=lambda cell: drawn(*cell))):
            expected[cell] = (
                "train"
                if place < max(1, round(n * train))
                else "validation"
                if place < round(n * known)
                else "test"
            )
    settings = {"kind": kind, "test_share": test, "validation_share": validation}
    assert divided(spark, pairs, **settings) == expected


@pytest.mark.parametrize("kind", ["random", "by_user", "by_item"])
def test_the_pairs_of_test_do_not_depend_on_the_share_of_validation(
    spark: SparkSession, kind: str
) -> None:
    one, other = (
        divided(spark, many(500), kind=kind, test_share=0.4, validation_share=share)
        for share in (0.0, 0.55)
    )
    assert "test" in other.values()
    assert {pair for pair in one if one[pair] == "test"} == {
        pair for pair in other if other[pair] == "test"
    }


def test_another_seed_draws_other_pairs(spark: SparkSession) -> None:
    for kind in ("random", "by_user", "by_item"):
        one, other = (divided(spark, many(300), kind=kind, seed=seed) for seed in (1, 2))
        assert one != other


def test_the_last_n_are_by_time_and_equal_times_by_the_higher_item(spark: SparkSession) -> None:
    pairs = [
        *[("a", "i1", 9), ("a", "i2", 5), ("a", "i3", 5), ("a", "i4", 5), ("a", "i5", 1)],
        *[("b", "i1", 7), ("b", "i2", 8)],  # all of it is held out
        ("c", "i1", 0),
    ]
    found = divided(spark, pairs, kind="last_n", last_n=2, validation_last_n=1)
    assert found == {
        ("a", "i1"): "test",
        ("a", "i4"): "test",
        ("a", "i3"): "validation",
        ("a", "i2"): "train",
        ("a", "i5"): "train",
        ("b", "i1"): "test",
        ("b", "i2"): "test",
        ("c", "i1"): "test",
    }


def test_equal_times_are_ordered_by_ids_as_numbers_where_they_are_numbers(
    spark: SparkSession,
) -> None:
    pairs = frame(spark, [(1, 9, 0), (1, 10, 0), (1, -3, 0)], "int")
    found = folds(split(pairs, Split(kind="last_n", last_n=1)))
    assert found == {(1, 10): "test", (1, 9): "train", (1, -3): "train"}


def test_by_time_a_day_begins_at_midnight_utc_and_its_first_instant_is_in(
    spark: SparkSession,
) -> None:
    hours = {0: "train", 23: "train", 24: "validation", 71: "validation", 72: "test", 99: "test"}
    pairs = [("u", f"i{hour}", hour) for hour in hours]
    zone = spark.conf.get("spark.sql.session.timeZone") or "UTC"
    given = frame(spark, pairs)
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        days = {"validation_since": dt.date(2020, 1, 2), "test_since": dt.date(2020, 1, 4)}
        found = folds(split(given, Split(kind="time", **days)))
        alone = folds(split(given, Split(kind="time", test_since=dt.date(2020, 1, 4))))
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)
    assert found == {("u", f"i{hour}"): fold for hour, fold in hours.items()}
    assert Counter(alone.values()) == {"train": 4, "test": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_is_in_one_fold_whatever_the_order_and_the_partitions(
    spark: SparkSession, kind: str
) -> None:
    pairs = many()
    settings = Split(kind=kind, **KINDS[kind])
    answers = []
    for partitions in (1, 2, 7):
        random.Random(partitions).shuffle(pairs)
        given = frame(spark, pairs).repartition(partitions)
        answers.append(folds(split(given, settings)))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].keys() == {(user, item) for user, item, _ in pairs}
    assert set(answers[0].values()) == {"train", "validation", "test"}


def test_a_split_adds_a_column_and_changes_nothing_else(spark: SparkSession) -> None:
    pairs = frame(spark, many(50))
    for kind, settings in KINDS.items():
        parts = split(pairs, Split(kind=kind, **settings))
        assert parts.columns == names(SPLIT_SCHEMA)
        assert sorted(parts.drop("fold").collect()) == sorted(pairs.collect())


def test_counts_tell_the_folds_and_whose_history_is_in_one_of_them(spark: SparkSession) -> None:
    pairs = [("a", f"i{n}", n) for n in range(4)] + [("b", "i9", 3), ("c", "i9", 0), ("d", "i9", 1)]
    settings = Split(kind="time", test_since=dt.date(2020, 1, 5))
    later = [(user, item, hour * 48) for user, item, hour in pairs]
    assert counts(split(frame(spark, later), settings), settings) == SplitCounts(
        pairs_in_train=4,
        pairs_in_validation=0,
        pairs_in_test=3,
        users_in_train=3,
        users_in_validation=0,
        users_in_test=2,
        users=4,
        users_without_held_out=2,
        users_without_train=1,
    )


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"kind": "by_user", "validation_share": 0.01}, "validation .* change .*validation_share"),
        ({"kind": "random", "test_share": 0.0}, "test .* change evaluation.split.test_share"),
        ({"kind": "last_n", "last_n": 4}, r"train .*\(train 0, .*test 8\).* lower .*last_n"),
        ({"kind": "last_n", "last_n": 3, "validation_last_n": 1}, "train with kind last_n"),
        ({"kind": "time", "test_since": dt.date(2020, 1, 2)}, "test .* move .*test_since"),
        ({"kind": "time", "test_since": dt.date(2020, 1, 1)}, "train with kind time"),
    ],
)
def test_an_empty_fold_is_refused_with_what_to_change(
    spark: SparkSession, settings: dict[str, Any], complaint: str
) -> None:
    asked = Split.model_validate(settings)
    pairs = [(user, f"i{n}", n) for user in "ab" for n in range(4)]
    with pytest.raises(InputError, match=f"found no pair for {complaint}") as caught:
        counts(split(frame(spark, pairs), asked), asked)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"train 0, validation 0, test 0"):
        counts(split(frame(spark, []), asked), asked)


def test_kinds_by_time_are_refused_without_a_timestamp_or_a_first_day() -> None:
    def required(*overrides: str) -> None:
        missing = for_split(load_config(None, [f"evaluation.split.{text}" for text in overrides]))
        if found := list(missing):
            raise ConfigError("; ".join(found))

    required("kind=random")
    for kind in ("last_n", "time"):
        with pytest.raises(ConfigError, match=f"'{kind}' needs a timestamp.*random, by_user, by_i"):
            required(f"kind={kind}", "test_since=2020-01-01")
    timed = ["input.columns.timestamp=t", "evaluation.split.kind=time"]
    with pytest.raises(ConfigError, match=r"evaluation\.split\.test_since is not set; set it"):
        raise ConfigError("; ".join(for_split(load_config(None, timed))))
    dated = load_config(None, [*timed, "evaluation.split.test_since=2020-01-01"])
    assert list(for_split(dated)) == []
