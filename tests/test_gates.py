"""Each gate: failing once on data made to fail it, passing on the same data without the fault."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_manifests import NO_ROWS, REPORT, trained_model
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from recsys.columns import (
    INTERACTIONS_SCHEMA,
    OUTCOMES_SCHEMA,
    REQUESTS_SCHEMA,
    IdTypes,
)
from recsys.config.sections import CandidateList, Gates, ItemList, Items
from recsys.model.manifest import SampleReport, TrainedModel
from recsys.publishing.gates import judge_change, judge_lists
from recsys.publishing.manifest import Verdict
from recsys.publishing.subject import ColdItems, Previous, Subject

TYPES = {"user": "int", "item": "string"}
LISTS_SCHEMA = "user_id {user}, rank int, item_id {item}, score float, source string"
K, USERS, CATALOGUE = 4, 12, 40
FEW = Gates(min_users=10)

Row = list[Any]
Lists = dict[int, list[str]]


def item(number: int) -> str:
    return f"i{number % CATALOGUE:02}"


def spread(shift: int = 0) -> Lists:
    """Give user u the items 3u, 3u + 1, ... of the catalogue."""
    return {user: [item(3 * user + n + shift) for n in range(K)] for user in range(USERS)}


def rows(lists: Lists, source: str = "model") -> list[Row]:
    return [
        [user, rank, item_id, 1.0 / rank, source]
        for user, items in lists.items()
        for rank, item_id in enumerate(items, 1)
    ]


def frame(spark: SparkSession, rows: list[Row], schema: str) -> DataFrame:
    wanted = StructType.fromDDL(schema.format(**TYPES))
    columns = list(zip(*rows, strict=True)) or [[] for _ in wanted]
    # By way of Arrow: a list of rows would need Python workers each time it is looked at.
    return spark.createDataFrame(
        pa.Table.from_arrays(
            [
                pa.array(column, field.type)
                for column, field in zip(
                    columns, to_arrow_schema(wanted, timezone="UTC"), strict=True
                )
            ],
            names=wanted.names,
        ),
        wanted,
    )


def ranked(spark: SparkSession, rows: list[Row]) -> DataFrame:
    return frame(spark, rows, LISTS_SCHEMA)


def outcomes(lists: Lists) -> list[Row]:
    told = [[str(user), user, 1, "scored", len(items), "-"] for user, items in lists.items()]
    return [*told, ["x", None, 1, "invalid", 0, "-"], [None, None, 2, "invalid", 0, "-"]]


def requests(lists: Lists, liked: dict[int, list[str]] | None = None) -> list[Row]:
    likes = {user: [(name, 1.0) for name in items] for user, items in (liked or {}).items()}
    asked = [[str(user), user, 1, likes.get(user)] for user in lists]
    return [*asked, ["x", None, 1, None], [None, None, 2, None]]


def interactions(spark: SparkSession, pairs: list[tuple[int, str]]) -> DataFrame:
    return frame(spark, [[u, i, 1.0, None, 1, 1, False] for u, i in pairs], INTERACTIONS_SCHEMA)


def model(
    ndcg: float = 0.2,
    model_id: str = "m2",
    pairs: int = 100,
    rules: dict[str, Any] | None = None,
    **early: Any,
) -> TrainedModel:
    return trained_model(
        model_id,
        early_stopping=REPORT.model_copy(update={"ndcg": ndcg, **early}),
        counts=NO_ROWS.model_copy(update={"positive_pairs": pairs}),
        **(rules or {}),
    )


UNMEASURED = trained_model("m1")


@pytest.fixture
def healthy(spark: SparkSession) -> Subject:
    """A result that passes every gate: 12 users of 40 items, and two requests that are no ids."""
    lists = spread()
    return Subject(
        lists=ranked(spark, rows(lists)),
        statuses=frame(spark, outcomes(lists), OUTCOMES_SCHEMA),
        asked=frame(spark, requests(lists, {1: ["i39", "unheard of"]}), REQUESTS_SCHEMA),
        pairs=[interactions(spark, [(0, "i30"), (5, "i00")])],
        items=Items(),
        k=K,
        exclude_seen=True,
        n_catalogue=CATALOGUE,
        id_types=IdTypes("int", "string"),
        model=model(),
    )


@pytest.fixture
def before(spark: SparkSession) -> Previous:
    """What was published before: three of four items of each list, by another model."""
    return Previous("r1", ranked(spark, rows(spread(1))), model(0.19, "m1", pairs=90))


@pytest.fixture
def items_csv(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def write(header: str, *lines: str) -> dict[str, Any]:
        path = tmp_path / f"{abs(hash((header, lines)))}.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return {"path": str(path), "options": {"header": True}}

    return write


def verdict(verdicts: list[Verdict], gate: str) -> Verdict:
    (found,) = [one for one in verdicts if one.gate == gate]
    return found


def check_fails(verdicts: list[Verdict], gate: str, *texts: str) -> Verdict:
    """Check that one gate alone failed, and what it says."""
    assert [one.gate for one in verdicts if one.state == "failed"] == [gate]
    message = str(verdict(verdicts, gate))
    for text in (f"{gate}: found ", "allowed ", *texts):
        assert text in message, message
    assert "\n" not in message
    return verdict(verdicts, gate)


def without_fault(spark: SparkSession, subject: Subject, settings: Gates = FEW) -> None:
    verdicts = judge_lists(spark, subject, settings)
    assert [one for one in verdicts if one.state == "failed"] == []


def test_a_healthy_result_passes_every_gate(
    spark: SparkSession, healthy: Subject, before: Previous, items_csv: Any
) -> None:
    items = Items(deny=ItemList.model_validate(items_csv("item_id", "i39", "nothing")))
    verdicts = judge_lists(spark, replace(healthy, items=items), FEW)
    verdicts += judge_change(healthy, before, FEW)
    states = {one.gate: one.state for one in verdicts}
    assert states.pop("cold_items") == "not applied"
    assert states == dict.fromkeys(
        [
            "statuses",
            "lists",
            "finite",
            "seen",
            "filtered",
            "coverage",
            "top_item",
            "full_lists",
            "overlap",
            "frozen",
            "popularity",
            "published",
        ],
        "passed",
    )
    assert verdict(verdicts, "overlap").model_dump() == {
        "gate": "overlap",
        "state": "passed",
        "found": 0.75,
        "allowed": "at least 0.05 (gates.min_overlap)",
        "reason": None,
    }


# Statuses


def change(rows: list[Row], where: dict[int, Any], **to: Any) -> list[Row]:
    """Change the rows that have these values in these columns."""
    columns = ("requested", "user_id", "times_requested", "status", "n_items", "reason")
    return [
        [to.get(name, value) for name, value in zip(columns, row, strict=True)]
        if all(row[n] == value for n, value in where.items())
        else row
        for row in rows
    ]


WRONG_STATUSES: list[tuple[Callable[[list[Row]], list[Row]], str, int]] = [
    (
        lambda rows: [row for row in rows if row[0] != "7"],
        "1 requests without a status, such as 7",
        1,
    ),
    (
        lambda rows: [row for row in rows if row[0] is not None],
        "1 requests without a status, such as null",
        1,
    ),
    (
        lambda rows: [*rows, [*rows[3]]],
        "1 statuses without a request of their own, such as 3",
        1,
    ),
    (
        lambda rows: [*rows, ["z", None, 1, "invalid", 0, "-"]],
        "1 statuses without a request of their own, such as z",
        1,
    ),
    (
        lambda rows: change(rows, {1: 7}, n_items=3),
        "1 users whose status disagrees with their list, such as 7",
        1,
    ),
    (
        lambda rows: change(rows, {1: 7}, status="none"),
        "1 users whose status disagrees with their list, such as 7",
        1,
    ),
    (
        lambda rows: change(rows, {0: "x"}, status="fell_back"),
        "1 users whose status disagrees with their list, such as null",
        1,
    ),
    (
        lambda rows: change(rows, {1: 7}, user_id=99),
        "1 requests without a status, such as 7; 1 statuses without a request of their own, such "
        "as 7; 1 users whose status disagrees with their list, such as 99",
        3,
    ),
]


@pytest.mark.parametrize(("damage", "text", "count"), WRONG_STATUSES)
def test_every_request_has_one_status_and_it_agrees_with_the_list(
    spark: SparkSession, healthy: Subject, damage: Any, text: str, count: int
) -> None:
    statuses = frame(spark, damage(outcomes(spread())), OUTCOMES_SCHEMA)
    verdicts = judge_lists(spark, replace(healthy, statuses=statuses), FEW)
    assert check_fails(verdicts, "statuses", text).found == count


def test_a_list_belongs_to_somebody_who_was_asked_for(
    spark: SparkSession, healthy: Subject
) -> None:
    lists = ranked(spark, rows({**spread(), 77: ["i00"]}))
    verdicts = judge_lists(spark, replace(healthy, lists=lists), FEW)
    check_fails(verdicts, "statuses", "1 lists without a request, such as 77")
    lost = ranked(spark, [row for row in rows(spread()) if row[0] != 4])
    verdicts = judge_lists(spark, replace(healthy, lists=lost), Gates(min_full_lists=0.5))
    check_fails(verdicts, "statuses", "1 users whose status disagrees with their list, such as 4")


def test_two_requests_for_the_same_user_have_a_status_each(
    spark: SparkSession, healthy: Subject
) -> None:
    again = replace(
        healthy,
        asked=frame(spark, [*requests(spread()), ["7.0", 7, 1, None]], REQUESTS_SCHEMA),
    )
    check_fails(judge_lists(spark, again, FEW), "statuses", "1 requests without a status", "7.0")
    told = [*outcomes(spread()), ["7.0", 7, 1, "scored", K, "-"]]
    without_fault(spark, replace(again, statuses=frame(spark, told, OUTCOMES_SCHEMA)))


# Lists


def swapped(rows: list[Row], user: int, rank: int, to: dict[str, Any]) -> list[Row]:
    names = ("user_id", "rank", "item_id", "score", "source")
    return [
        [to.get(name, value) for name, value in zip(names, row, strict=True)]
        if row[:2] == [user, rank]
        else row
        for row in rows
    ]


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ({"item_id": item(3 * 7)}, "1 lists with a repeated item, such as 7"),
        ({"item_id": None}, "1 lists with a row without an item, such as 7"),
        ({"rank": 5}, "1 lists whose ranks are not 1, 2, 3 and so on, such as 7"),
        ({"rank": 2}, "1 lists whose ranks are not 1, 2, 3 and so on, such as 7"),
        ({"rank": None}, "1 lists whose ranks are not 1, 2, 3 and so on, such as 7"),
        ({"score": 0.6}, "1 lists whose scores rise, such as 7"),
    ],
)
def test_a_list_has_no_repeats_no_gaps_and_falling_scores(
    spark: SparkSession, healthy: Subject, to: dict[str, Any], text: str
) -> None:
    level = [[*row[:3], 0.5, row[4]] for row in rows(spread())]
    lists = ranked(spark, swapped(level, 7, 3, to))
    found = check_fails(judge_lists(spark, replace(healthy, lists=lists), FEW), "lists", text)
    assert (found.found, found.allowed) == (1, "0")


def test_a_list_is_no_longer_than_k(spark: SparkSession, healthy: Subject) -> None:
    verdicts = judge_lists(spark, replace(healthy, k=K - 1), FEW)
    check_fails(verdicts, "lists", "12 lists of more than 3 items, such as 0")


def test_equal_scores_and_lists_of_one_item_are_in_order(
    spark: SparkSession, healthy: Subject
) -> None:
    level = [[*row[:3], 0.5, row[4]] for row in rows(spread())]
    without_fault(spark, replace(healthy, lists=ranked(spark, level)))
    single = {user: items[:1] for user, items in spread().items()}
    without_fault(
        spark,
        replace(
            healthy,
            k=1,
            lists=ranked(spark, rows(single)),
            statuses=frame(spark, outcomes(single), OUTCOMES_SCHEMA),
        ),
    )


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), float("-inf")])
def test_scores_are_finite(spark: SparkSession, healthy: Subject, score: float | None) -> None:
    # First and last, so that infinities do not rise.
    lists = ranked(
        spark, swapped(rows(spread()), 7, K if score == float("-inf") else 1, {"score": score})
    )
    verdicts = judge_lists(spark, replace(healthy, lists=lists), FEW)
    check_fails(verdicts, "finite", "1 scores that are no finite number, such as 7")


# Seen and filtered items


def test_no_list_has_what_its_user_has_seen(spark: SparkSession, healthy: Subject) -> None:
    newer = interactions(spark, [(7, item(22)), (8, item(22))])
    found = replace(healthy, pairs=[*healthy.pairs, newer])
    text = "1 items that their user has interacted with, such as item i22 for user 7"
    check_fails(judge_lists(spark, found, FEW), "seen", text)
    allowed = judge_lists(spark, replace(found, exclude_seen=False), FEW)
    assert verdict(allowed, "seen").state == "not applied"
    assert verdict(allowed, "seen").reason == "scoring.exclude_seen is false"


def test_what_the_request_says_that_a_user_likes_counts_as_seen(
    spark: SparkSession, healthy: Subject
) -> None:
    asked = frame(spark, requests(spread(), {3: ["i10"], 4: ["i10"]}), REQUESTS_SCHEMA)
    verdicts = judge_lists(spark, replace(healthy, asked=asked), FEW)
    check_fails(verdicts, "seen", "such as item i10 for user 3")


def test_no_list_has_a_denied_item(spark: SparkSession, healthy: Subject, items_csv: Any) -> None:
    deny = ItemList.model_validate({**items_csv("id", "i39", "i00"), "column": "id"})
    verdicts = judge_lists(spark, replace(healthy, items=Items(deny=deny)), FEW)
    check_fails(verdicts, "filtered", "items of items.deny, such as item i00 for user 0")
    spared = deny.model_copy(update={"where": "id = 'i39'"})
    without_fault(spark, replace(healthy, items=Items(deny=spared)))


def test_no_list_has_an_item_that_is_not_allowed(
    spark: SparkSession, healthy: Subject, items_csv: Any
) -> None:
    names = [item(n) for n in range(CATALOGUE)]
    allow = ItemList.model_validate(items_csv("item_id", *names[:9], *names[10:]))
    verdicts = judge_lists(spark, replace(healthy, items=Items(allow=allow)), FEW)
    text = "2 items outside items.allow, such as item i09 for user 2"
    assert check_fails(verdicts, "filtered", text).found == 2
    allow = ItemList.model_validate(items_csv("item_id", *names))
    without_fault(spark, replace(healthy, items=Items(allow=allow)))


def test_no_list_has_an_item_that_is_no_candidate_of_its_user(
    spark: SparkSession, healthy: Subject, items_csv: Any
) -> None:
    pairs = [f"{user}.0,{name}" for user, names in spread().items() for name in names]
    strangers = [line for line in pairs if line != "7.0,i22"] + ["8,i22", "none,i22"]
    wanted = CandidateList.model_validate(items_csv("user_id,item_id", *strangers))
    found = replace(healthy, items=Items(candidates=wanted))
    text = "1 items that are no candidates of their user, such as item i22 for user 7"
    check_fails(judge_lists(spark, found, FEW), "filtered", text)
    wanted = CandidateList.model_validate(items_csv("user_id,item_id", *pairs))
    found = replace(healthy, items=Items(candidates=wanted))
    without_fault(spark, found)
    # What is a choice of the candidates' is not held against the model.
    verdicts = judge_lists(spark, found, FEW)
    for gate in ("coverage", "top_item", "full_lists"):
        assert verdict(verdicts, gate).state == "not applied"
        assert verdict(verdicts, gate).reason == "items.candidates decides"


# Full lists, coverage, the most frequent item


def shortened(spark: SparkSession, healthy: Subject, n_short: int) -> Subject:
    lists = {user: items[: 3 if user < n_short else K] for user, items in spread().items()}
    return replace(
        healthy,
        lists=ranked(spark, rows(lists)),
        statuses=frame(spark, outcomes(lists), OUTCOMES_SCHEMA),
    )


def test_most_users_have_full_lists(spark: SparkSession, healthy: Subject) -> None:
    verdicts = judge_lists(spark, shortened(spark, healthy, 2), FEW)
    found = check_fails(
        verdicts,
        "full_lists",
        "found 0.8333, allowed at least 0.9 (gates.min_full_lists)",
        "10 of 12 users have 4 items, or all that they can have",
    )
    assert found.found == 10 / 12
    without_fault(spark, shortened(spark, healthy, 1))


def test_a_list_is_full_with_all_that_a_user_has_not_seen(
    spark: SparkSession, healthy: Subject
) -> None:
    asked = frame(spark, requests(spread()), REQUESTS_SCHEMA)
    short = replace(shortened(spark, healthy, 2), asked=asked)
    others = [
        (user, item(n))
        for user in (0, 1)
        for n in range(CATALOGUE)
        if item(n) not in spread()[user]
    ]
    left = interactions(spark, [*others, *others, *[(user, spread()[user][3]) for user in (0, 1)]])
    without_fault(spark, replace(short, pairs=[left]))
    # With one item more in the catalogue they could have had four.
    verdicts = judge_lists(spark, replace(short, pairs=[left], n_catalogue=CATALOGUE + 1), FEW)
    check_fails(verdicts, "full_lists")


def test_a_small_catalogue_is_no_fault(spark: SparkSession, healthy: Subject) -> None:
    lists = {user: ["i00", "i01", "i02"] for user in range(USERS)}
    small = replace(
        healthy,
        n_catalogue=3,
        k=10,
        pairs=[interactions(spark, [])],
        lists=ranked(spark, rows(lists)),
        statuses=frame(spark, outcomes(lists), OUTCOMES_SCHEMA),
    )
    without_fault(spark, small)
    assert verdict(judge_lists(spark, small, FEW), "full_lists").found == 1.0
    top = verdict(judge_lists(spark, small, FEW), "top_item")
    assert (top.state, top.reason) == (
        "not applied",
        "lists of 10 from 3 items leave little choice",
    )


def test_lists_differ_enough_to_cover_a_part_of_the_catalogue(
    spark: SparkSession, healthy: Subject
) -> None:
    settings = FEW.model_copy(update={"max_top_item": None, "min_coverage": 0.2})
    same = {user: [item(n + 10) for n in range(K)] for user in range(USERS)}
    alike = replace(healthy, lists=ranked(spark, rows(same)))
    found = check_fails(
        judge_lists(spark, alike, settings),
        "coverage",
        "found 0.1, allowed at least 0.2 (gates.min_coverage)",
        "4 different items of 40 possible ones",
    )
    assert found.found == 0.1
    # Of a large catalogue so few rows cannot cover much.
    large = replace(healthy, n_catalogue=1_000_000)
    assert verdict(judge_lists(spark, large, settings), "coverage").found == 37 / 48


def test_no_item_is_in_nearly_all_lists(spark: SparkSession, healthy: Subject) -> None:
    lists = {user: [*items[:3], "i39"] for user, items in spread().items()}
    everywhere = replace(
        healthy,
        lists=ranked(spark, rows(lists)),
        asked=frame(spark, requests(lists), REQUESTS_SCHEMA),
    )
    found = check_fails(
        judge_lists(spark, everywhere, FEW),
        "top_item",
        "found 1, allowed at most 0.9 (gates.max_top_item)",
        "item i39 is in 12 of 12 lists",
    )
    assert found.found == 1.0
    # Of those who fell back to popular items it is no fault, and so few say nothing of the model.
    popular = replace(healthy, lists=ranked(spark, rows(lists, "popular")))
    without_fault(spark, replace(popular, asked=everywhere.asked))
    verdicts = judge_lists(spark, popular, FEW)
    for gate in ("coverage", "top_item"):
        assert verdict(verdicts, gate).reason == (
            "0 lists made with the model, fewer than gates.min_users"
        )


def test_an_empty_cohort_and_a_cohort_of_one_are_no_fault(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    for lists in ({}, {7: spread()[7]}):
        few = replace(
            healthy,
            lists=ranked(spark, rows(lists)),
            statuses=frame(spark, outcomes(lists)[: len(lists)], OUTCOMES_SCHEMA),
            asked=frame(spark, requests(lists)[: len(lists)], REQUESTS_SCHEMA),
        )
        verdicts = judge_lists(spark, few, FEW) + judge_change(few, before, FEW)
        assert not [one for one in verdicts if one.state == "failed"]
        states = {one.gate: one.state for one in verdicts}
        assert states["full_lists"] == ("passed" if lists else "not applied")
        for gate in ("coverage", "top_item", "overlap", "frozen"):
            assert states[gate] == "not applied"


# Items and users that have nothing but features

COLD = ["n0", "n1", "n2"]


def with_cold(
    spark: SparkSession, healthy: Subject, places: int, lists: list[Row], n: int = len(COLD)
) -> Subject:
    """Return lists of a model that has three items with nothing but features, n of them allowed."""
    ids = frame(spark, [[name] for name in COLD], "item_id {item}")
    found = replace(healthy, lists=ranked(spark, lists), cold=ColdItems(ids, n, places))
    return replace(found, n_catalogue=CATALOGUE + n)


def reserved(places: int, score: float = 5.0) -> list[Row]:
    """Give every list so many new items in its last places, with the same score."""
    return [
        [*row[:2], COLD[K - row[1]], score, "features"] if row[1] > K - places else row
        for row in rows(spread())
    ]


def test_new_items_with_places_of_their_own_may_have_any_scores_and_be_in_all_lists(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    subject = with_cold(spark, healthy, 2, reserved(2))
    verdicts = judge_lists(spark, subject, FEW)
    assert [one for one in verdicts if one.state == "failed"] == []
    assert verdict(verdicts, "top_item").found == 1 / 12
    # Of 43 items, as many as may be recommended.
    assert verdict(verdicts, "coverage").found == (2 * 12 + 2) / 43
    share = verdict(verdicts, "cold_items")
    assert (share.state, share.found) == ("not applied", 0.5)
    assert share.reason == "features.cold_items decides"
    # Two places from 40 items. With 20 new items they say something of the model by being in all.
    assert subject.too_little_choice is None
    many = replace(subject, cold=replace(subject.cold, n=20), n_catalogue=60)
    check_fails(judge_lists(spark, many, FEW), "top_item", "item n1 is in 12 of 12 lists")
    # They are the same ones as in the lists before, which says nothing of the others.
    earlier = [[*row[:2], row[2], *row[3:]] for row in reserved(2)]
    for row in earlier:
        row[2] = row[2] if row[2] in COLD else item(int(row[2][1:]) + 20)
    same = replace(before, lists=ranked(spark, earlier))
    check_fails(judge_change(subject, same, FEW), "overlap", "found 0, allowed")


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ({"score": 9.0}, "1 lists whose scores rise, such as 7"),
        (
            {"item_id": item(38), "score": 5.0, "source": "model"},
            "1 lists whose items with nothing but features are not at the end, such as 7",
        ),
        (
            {"source": "model"},
            "1 lists with an item that has nothing but features and another source, such as 7",
        ),
        (
            {"source": None},
            "1 lists with an item that has nothing but features and another source, such as 7",
        ),
    ],
)
def test_places_of_new_items_are_at_the_end_in_order_and_say_what_they_are(
    spark: SparkSession, healthy: Subject, to: dict[str, Any], text: str
) -> None:
    lists = swapped(reserved(2), 7, 4, to)
    found = check_fails(judge_lists(spark, with_cold(spark, healthy, 2, lists), FEW), "lists", text)
    assert found.found == 1


def test_other_items_have_one_source_in_a_list(spark: SparkSession, healthy: Subject) -> None:
    lists = swapped(reserved(2), 7, 1, {"source": "features"})
    verdicts = judge_lists(spark, with_cold(spark, healthy, 2, lists), FEW)
    check_fails(verdicts, "lists", "1 lists whose other items have several sources, such as 7")


def test_included_items_are_in_order_among_all_others_and_not_too_many(
    spark: SparkSession, healthy: Subject
) -> None:
    loose = FEW.model_copy(update={"max_top_item": None})
    verdicts = judge_lists(spark, with_cold(spark, healthy, 0, reserved(1)), loose)
    check_fails(verdicts, "lists", "12 lists whose scores rise, such as 0")
    assert verdict(verdicts, "cold_items").found == 0.25
    verdicts = judge_lists(spark, with_cold(spark, healthy, 0, reserved(3, 0.0)), loose)
    found = check_fails(
        verdicts,
        "cold_items",
        "found 0.75, allowed at most 0.5 (gates.max_cold_items)",
        "36 of 48 rows of lists made with the model have items with nothing but features",
    )
    assert found.found == 0.75
    verdicts = judge_lists(spark, with_cold(spark, healthy, 0, reserved(1, 0.0)), FEW)
    check_fails(verdicts, "top_item", "item n0 is in 12 of 12 lists")


def test_excluded_items_are_in_no_list(spark: SparkSession, healthy: Subject) -> None:
    without_fault(spark, with_cold(spark, healthy, 2, rows(spread()), n=0))
    lists = swapped(rows(spread()), 7, 4, {"item_id": "n1"})
    verdicts = judge_lists(spark, with_cold(spark, healthy, 2, lists, n=0), FEW)
    text = "1 items that have nothing but features, such as item n1 for user 7"
    check_fails(verdicts, "filtered", text)
    reason = "every item that may be recommended has interactions"
    assert verdict(verdicts, "cold_items").reason == reason


def test_a_popular_list_is_full_without_new_items(spark: SparkSession, healthy: Subject) -> None:
    lists = {user: ["i00", "i01", "i02"] for user in range(USERS)}
    short = replace(
        healthy,
        pairs=[interactions(spark, [])],
        statuses=frame(spark, outcomes(lists), OUTCOMES_SCHEMA),
    )
    found = with_cold(spark, short, 1, rows(lists, "popular"))
    found = replace(found, n_catalogue=6, asked=frame(spark, requests(lists), REQUESTS_SCHEMA))
    assert verdict(judge_lists(spark, found, FEW), "full_lists").found == 1.0
    made = replace(found, lists=ranked(spark, rows(lists)))
    assert verdict(judge_lists(spark, made, FEW), "full_lists").found == 0.0


def test_described_users_have_the_same_list_and_that_is_no_fault(
    spark: SparkSession, healthy: Subject
) -> None:
    lists = {user: spread()[0] if user < 8 else items for user, items in spread().items()}
    source = {user: "features" if user < 8 else "model" for user in lists}
    told = [
        [*row[:3], "described", *row[4:]] if row[1] is not None and row[1] < 8 else row
        for row in outcomes(lists)
    ]
    subject = replace(
        healthy,
        lists=ranked(spark, [[*row[:4], source[row[0]]] for row in rows(lists)]),
        statuses=frame(spark, told, OUTCOMES_SCHEMA),
        asked=frame(spark, requests(lists), REQUESTS_SCHEMA),
        pairs=[interactions(spark, [])],
    )
    settings = Gates(min_users=2, min_coverage=0.8, max_top_item=0.5)
    verdicts = judge_lists(spark, subject, settings)
    assert [one for one in verdicts if one.state == "failed"] == []
    assert verdict(verdicts, "coverage").found == 13 / 16
    few = judge_lists(spark, subject, FEW)
    for gate in ("coverage", "top_item"):
        assert verdict(few, gate).reason == (
            "4 lists made with the model, by more than features alone, fewer than gates.min_users"
        )


# Against what is published


def test_lists_that_have_hardly_anything_of_the_last_ones_are_upside_down(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    other = replace(before, lists=ranked(spark, rows(spread(K))))
    found = check_fails(
        judge_change(healthy, other, FEW),
        "overlap",
        "found 0, allowed at least 0.05 (gates.min_overlap)",
        "with run r1, over 12 users",
    )
    assert found.found == 0.0


def test_lists_that_stay_though_the_interactions_have_changed_are_frozen(
    healthy: Subject, before: Previous
) -> None:
    same = replace(before, lists=healthy.lists)
    found = check_fails(
        judge_change(healthy, same, FEW),
        "frozen",
        "found 1, allowed at most 0.999 (gates.max_overlap)",
    )
    assert found.found == 1.0
    # The same interactions may well give the same lists.
    unchanged = replace(same, model=model(0.19, "m1", pairs=100))
    found = verdict(judge_change(healthy, unchanged, FEW), "frozen")
    assert (found.state, found.found) == ("not applied", 1.0)
    assert found.reason == "the model was trained on as many pairs as that of run r1"
    # Of another sample of the users they should not.
    sample = SampleReport(
        share=0.5, item_minimum=5, users=50, of_users=100, added_users=0, pairs=50, of_pairs=100,
        items=40, of_items=40,
    )  # fmt: skip
    other = healthy.model.model_copy(update={"sample": sample})
    check_fails(
        judge_change(replace(healthy, model=other), unchanged, FEW),
        "frozen",
        "found 1, allowed at most 0.999 (gates.max_overlap)",
    )
    again = replace(unchanged, model=unchanged.model.model_copy(update={"sample": sample}))
    found = verdict(judge_change(replace(healthy, model=other), again, FEW), "frozen")
    assert found.state == "not applied"


def test_the_overlap_of_lists_of_other_lengths_is_a_share_of_the_shorter(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    # One half of two, and both of two, of six users each.
    longer = {user: items[user % 2 : 2 + user % 2] for user, items in spread(-1).items()}
    found = verdict(
        judge_change(healthy, replace(before, lists=ranked(spark, rows(longer))), FEW), "overlap"
    )
    assert found.found == 0.75


def test_overlap_is_of_lists_made_with_the_model_and_of_enough_of_them(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    popular = replace(before, lists=ranked(spark, rows(spread(), "popular")))
    verdicts = judge_change(healthy, popular, FEW)
    for gate in ("overlap", "frozen"):
        assert verdict(verdicts, gate).state == "not applied"
        assert verdict(verdicts, gate).reason == (
            "0 lists made with the model that run r1 has as well, fewer than gates.min_users"
        )
    numbers = before.lists.withColumn("item_id", F.lit(7))
    verdicts = judge_change(healthy, replace(before, lists=numbers), FEW)
    assert verdict(verdicts, "overlap").reason == "run r1 has ids of other types"


def test_a_model_is_no_worse_than_popularity(healthy: Subject, before: Previous) -> None:
    poor = replace(healthy, model=model(0.2, popularity_ndcg=0.25))
    found = check_fails(
        judge_change(poor, before, FEW),
        "popularity",
        "found 0.8, allowed at least 1 (gates.min_to_popularity)",
        "ndcg@10 0.2000, popularity 0.2500",
    )
    assert found.found == 0.8
    nothing = replace(healthy, model=model(float("nan")))
    assert verdict(judge_change(nothing, None, FEW), "popularity").found == "nan"
    assert verdict(judge_change(nothing, None, FEW), "popularity").state == "failed"


def test_a_model_is_not_much_worse_than_the_published_one(
    healthy: Subject, before: Previous
) -> None:
    better = replace(before, model=model(0.4, "m1", pairs=90))
    check_fails(
        judge_change(healthy, better, FEW),
        "published",
        "found 0.5, allowed at least 0.8 (gates.min_to_published)",
        "ndcg@10 0.2000, in run r1 0.4000",
    )


def sampled(made: TrainedModel, share: float) -> TrainedModel:
    training = made.training.model_copy(update={"sample_share": share})
    return made.model_copy(update={"training": training})


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (model(0.5, "m2"), "run r1 has the same model"),
        (
            model(0.5, "m1", metric="ndcg@5"),
            "the model of run r1 was measured otherwise (its metric is ndcg@5)",
        ),
        (
            model(0.5, "m1", share=0.5),
            "the model of run r1 was measured otherwise (training.early_stopping.share was 0.5)",
        ),
        (
            model(0.5, "m1", rules={"rating_threshold": 3.0}),
            "the model of run r1 was measured otherwise (filters.rating_threshold was 3.0)",
        ),
        (
            sampled(model(0.5, "m1"), 0.5),
            "the model of run r1 was trained on 0.5 of its users, and this one on 1",
        ),
        (UNMEASURED, "the model of run r1 was trained without early stopping"),
        (model(0.0, "m1"), "the model of run r1 found nothing of what was held out"),
    ],
)
def test_only_what_was_measured_alike_is_compared(
    healthy: Subject, before: Previous, then: TrainedModel, reason: str
) -> None:
    found = verdict(judge_change(healthy, replace(before, model=then), FEW), "published")
    assert (found.state, found.reason) == ("not applied", reason)


def test_what_was_not_measured_is_not_judged(healthy: Subject, before: Previous) -> None:
    unmeasured = replace(healthy, model=UNMEASURED)
    verdicts = judge_change(unmeasured, before, FEW)
    for gate in ("popularity", "published"):
        assert verdict(verdicts, gate).reason == "the model was trained without early stopping"
    first = judge_change(healthy, None, FEW)
    for gate in ("overlap", "frozen", "published"):
        assert verdict(first, gate).state == "not applied"
        assert verdict(first, gate).reason == "nothing was published before"


# All together


def test_a_gate_whose_limit_is_null_is_not_applied(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    limits = [name for name in Gates.model_fields if name != "min_users"]
    unasked = FEW.model_copy(update=dict.fromkeys(limits))
    verdicts = judge_lists(spark, healthy, unasked) + judge_change(healthy, before, unasked)
    told = {one.reason for one in verdicts if one.state == "not applied"}
    assert told == {
        *[f"gates.{name} is null" for name in limits],
        "items has no allow, deny or candidates",
    }


def test_every_gate_that_fails_says_so(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    lists = ranked(spark, swapped(rows(spread()), 7, K, {"rank": 5}))
    poor = replace(healthy, lists=lists, model=model(0.05))
    verdicts = judge_lists(spark, poor, FEW) + judge_change(poor, before, FEW)
    failed = [str(one) for one in verdicts if one.state == "failed"]
    assert [text.split(":")[0] for text in failed] == ["lists", "popularity", "published"]


def test_verdicts_do_not_depend_on_partitions(
    spark: SparkSession, healthy: Subject, before: Previous
) -> None:
    broken = rows(spread())
    for user in (3, 5, 9):
        broken = swapped(broken, user, 2, {"item_id": item(3 * user), "score": float("nan")})
    newer = interactions(spark, [(7, item(22)), (8, item(25)), (0, "i00")])
    answers = []
    for parts in (1, 3, 7):
        subject = replace(
            healthy,
            lists=ranked(spark, broken).orderBy(F.rand(parts)).repartition(parts),
            statuses=healthy.statuses.repartition(parts),
            asked=healthy.asked.repartition(parts),
            pairs=[newer.repartition(parts)],
        )
        earlier = replace(before, lists=before.lists.repartition(parts))
        answers.append(judge_lists(spark, subject, FEW) + judge_change(subject, earlier, FEW))
    assert answers[0] == answers[1] == answers[2]
    assert {one.gate for one in answers[0] if one.state == "failed"} == {"lists", "finite", "seen"}
