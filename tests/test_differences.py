"""What has changed between two runs, and why: known answers for every count and every cause."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError
from recsys.flows import diff_tables
from recsys.kernel.fold_in import plain_mean
from recsys.kernel.worker import Ragged
from recsys.model.arrays import Vectors
from recsys.model.manifest import ModelManifest
from recsys.model.whole import SomeUsers, WholeModel
from recsys.score.causes import CAUSES, find_causes
from recsys.score.crossing import PARTS, crossed, who_differs
from recsys.score.differences import Differences, find_differences
from recsys.score.histories import Histories, grouped
from recsys.score.past_filters import as_they_were
from recsys.score.replay import Filters, Rules, Situation
from recsys.score.two_sides import Side

Lists = dict[str, list[str]]

RULES = Rules(k=3, exclude_seen=True, fold_in="new", fallback="popular", cold_items="exclude")


def side(lists: Lists, served: dict[str, str] | None = None, scores: Any = None) -> Side:
    rows = [(user, n, item) for user, items in lists.items() for n, item in enumerate(items, 1)]
    users, ranks, items = ([row[n] for row in rows] for n in range(3))
    status = served or dict.fromkeys(lists, "scored")
    return Side(
        "r",
        "2026-11-24",
        "all",
        "m",
        pa.table(
            {
                "user_id": pa.array(users, pa.string()),
                "rank": pa.array(ranks, pa.int32()),
                "item_id": pa.array(items, pa.string()),
                "score": pa.array([-n for n in ranks] if scores is None else scores, pa.float32()),
            }
        ),
        pa.table(
            {
                "user_id": pa.array(list(status), pa.string()),
                "status": pa.array(list(status.values()), pa.string()),
            }
        ),
    )


# What has changed


def test_users_and_items_that_came_went_and_moved_are_counted() -> None:
    before = {"a": ["x", "y", "z"], "b": ["x", "y"], "c": ["z"]}
    after = {"a": ["y", "x", "w"], "b": ["x", "y"], "d": ["q"]}
    served = {"a": "folded_in", "b": "scored", "d": "fell_back"}
    found = find_differences(side(before), side(after, served), {"w": "Double U"}).as_record()
    assert not found["nothing"]
    assert found["users"] == {
        "before": 3, "after": 3, "both": 2, "gained": 1, "lost": 1, "same": 1, "changed": 1
    }  # fmt: skip
    assert found["items"] == {"before": 3, "after": 4, "entered": 1, "left": 1, "moved": 2}
    (one, whole) = found["overlap"]
    assert (one["k"], one["mean"], whole["k"]) == (1, 0.5, 3)
    assert whole["mean"] == pytest.approx((2 / 3 + 1) / 2)
    assert whole["counts"] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    # a has x and y the other way round, b in the same order.
    assert found["rank_correlation"]["quantiles"]["min"] == -1
    assert found["rank_correlation"]["quantiles"]["max"] == 1
    assert found["rank_correlation"]["users"] == 2
    segments = {(one["served_before"], one["served_after"]): one for one in found["segments"]}
    assert {key: one["users"] for key, one in segments.items()} == {
        ("scored", "folded_in"): 1,
        ("scored", "scored"): 1,
        ("scored", None): 1,
        (None, "fell_back"): 1,
    }
    assert segments["scored", "folded_in"]["entered"] == 1
    assert segments["scored", None]["overlap"] is None
    assert [one["item_id"] for one in found["rose"]] == ["q", "w"]
    assert found["rose"][1]["title"] == "Double U"
    fell = found["fell"][0]
    assert (fell["item_id"], fell["lists_before"], fell["lists_after"]) == ("z", 2, 0)
    (example,) = found["examples"]
    assert example["user_id"] == "a"
    assert [row["other_rank"] for row in example["before"]] == [2, 1, None]
    json.dumps(found)


def test_two_runs_of_the_same_lists_show_nothing() -> None:
    lists = {"a": ["x", "y", "z"], "b": ["x"]}
    served = {"a": "scored", "b": "scored", "n": "none"}
    turned = {user: lists[user] for user in reversed(lists)}
    found = find_differences(side(lists, served), side(turned, dict(reversed(served.items()))))
    record = found.as_record()
    assert record["nothing"]
    assert record["users"]["same"] == record["users"]["both"] == 2
    assert not record["rose"] + record["fell"] + record["examples"]
    assert record["overlap"][-1]["quantiles"]["min"] == 1


def test_a_user_who_is_served_in_another_way_is_a_change_even_with_the_same_list() -> None:
    lists = {"a": ["x"]}
    assert not find_differences(
        side(lists, {"a": "scored"}), side(lists, {"a": "folded_in"})
    ).changes.nothing


def test_runs_without_any_list_can_be_compared() -> None:
    found = find_differences(side({}, {"a": "none"}), side({}, {"a": "none"})).as_record()
    assert found["nothing"]
    assert found["overlap"] == []
    assert found["rank_correlation"]["mean"] is None


def test_tables_of_cohorts_whose_ids_have_other_types_are_refused(tmp_path: Path) -> None:
    texts = side({"a": "xy"})
    numbers = replace(
        texts,
        lists=pa.table({**_columns(texts.lists), "user_id": [1, 1]}),
        served=pa.table({"user_id": [1], "status": ["served"]}),
    )
    both = [find_differences(one, one) for one in (texts, numbers)]
    with pytest.raises(ConfigError, match=r"ids have different types, .* choose a cohort"):
        diff_tables.write(both, tmp_path / "tables")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="but there is no directory"):
        diff_tables.check_output(tmp_path / "no" / "tables")
    diff_tables.write(both[:1], tmp_path / "tables")
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["changes", "items", "users"]


def _columns(table: pa.Table) -> dict[str, Any]:
    return dict(zip(table.column_names, table.columns, strict=True))


def test_runs_whose_ids_have_other_types_are_refused() -> None:
    numbers = side({"a": ["1"]})
    lists = numbers.lists.set_column(2, "item_id", pa.array([1]))
    with pytest.raises(ConfigError, match="item_id of the types string and int64"):
        find_differences(numbers, replace(numbers, lists=lists))


@st.composite
def lists_of(draw: st.DrawFn) -> Lists:
    items = st.lists(st.sampled_from("pqrstuv"), unique=True, max_size=5)
    return {user: found for user in "abcd" if (found := draw(items))}


@settings(deadline=None)
@given(lists_of(), lists_of())
def test_counts_overlap_and_correlation_are_those_of_plain_sets(
    before: Lists, after: Lists
) -> None:
    changes = find_differences(side(before), side(after)).changes
    whole, correlation = changes.whole_overlap, changes.correlation
    for at, user in enumerate(changes.user_ids.to_pylist()):
        then, now = before.get(user, []), after.get(user, [])
        if not (then and now):
            assert np.isnan(whole[at])
            assert changes.n_left[at] == changes.n_entered[at] == 0
            continue
        common = [item for item in now if item in then]
        assert changes.n_left[at] == len({*then} - {*now})
        assert changes.n_entered[at] == len({*now} - {*then})
        assert changes.n_moved[at] == sum(then.index(one) != now.index(one) for one in common)
        assert whole[at] == len(common) / min(len(then), len(now))
        if len(common) > 1:
            ranks = [[one for one in then if one in common].index(item) for item in common]
            expected = np.corrcoef(ranks, range(len(common)))[0, 1]
            assert correlation[at] == pytest.approx(expected)
    for k in changes.cuts:
        for at, user in enumerate(changes.user_ids.to_pylist()):
            then, now = before.get(user, [])[:k], after.get(user, [])[:k]
            if then and now:
                expected = len({*then} & {*now}) / min(len(then), len(now))
                assert changes.overlap(k)[at] == expected


# Why

_names = itertools.count()


def situation(
    scores: dict[str, float],
    *,
    users: str = "ab",
    seen: dict[str, str] | None = None,
    liked: dict[str, str] | None = None,
    trained: str | None = None,
    rules: Rules = RULES,
    filters: Filters | None = None,
    positives: dict[str, int] | None = None,
    vectors: dict[str, list[float]] | None = None,
    cold: str = "",
    left_out: str | None = None,
) -> Situation:
    """Return a situation where a trained user's score of an item is what `scores` says.

    Vectors of items have two dimensions, zeros unless given; those of users are zeros, so that
    whoever is folded in has what vectors of liked items say beside the scores.
    """
    items = sorted(scores)
    n, at = len(users), {item: row for row, item in enumerate(items)}
    embeddings = np.array([(vectors or {}).get(item, [0, 0]) for item in items], np.float32)
    known = np.array([trained is None or user in trained for user in users])

    def pairs(of: dict[str, str] | None) -> Ragged:
        found = [(users.index(u), at[i]) for u, some in (of or {}).items() for i in some if i in at]
        owners, values = np.array(found, np.int64).reshape(-1, 2).T
        return grouped(owners, values, n)

    model = WholeModel(
        Path(f"model-{next(_names)}"),
        cast(ModelManifest, SimpleNamespace()),
        Vectors(
            pa.array(items),
            embeddings,
            np.array([scores[item] for item in items], np.float32),
            np.array([item not in cold for item in items]),
            np.array([(positives or {}).get(item, 0) for item in items], np.int32),
        ),
        plain_mean(2),
        SomeUsers(known, known, np.zeros((n, 2), np.float32), np.zeros(n, np.float32), pairs(None)),
    )
    likes = pairs(liked)
    histories = Histories(pairs(seen), likes, np.ones(len(likes.values)))
    out = None if left_out is None else np.array([user in left_out for user in users])
    return Situation(pa.array(list(users)), model, rules, filters or Filters(), histories, out)


def made(one: Situation) -> Side:
    """Publish the lists of a situation."""
    lists = one.lists(np.arange(len(one.users)))
    table = pa.table(
        {
            "user_id": one.users.take(pa.array(lists.users)),
            "rank": pa.array(lists.ranks),
            "item_id": one.model.items.ids.take(pa.array(lists.items)),
            "score": pa.array(lists.scores),
        }
    )
    served = pa.table({"user_id": one.users, "status": pa.array(one.ways.tolist())})
    return Side("r", "2026-11-24", "all", one.model.folder.name, table, served)


def causes(before: Situation, after: Situation, published: Side | None = None) -> dict[str, str]:
    """Return the cause of each item, such as `a-x` for one that has left a's list."""
    found = find_differences(published or made(before), made(after))
    return told(found, before, after)


def told(found: Differences, before: Situation, after: Situation) -> dict[str, str]:
    changes = found.changes
    why = find_causes(changes, before, after)
    parts = [("-", changes.before, changes.left, why.left)]
    parts += [("+", changes.after, changes.entered, why.entered)]
    return {
        f"{changes.user_ids[rows.users[row]]}{sign}{changes.item_ids[rows.items[row]]}": CAUSES[
            codes[row]
        ]
        for sign, rows, chosen, codes in parts
        for row in chosen
    }


FALLING = {"p": 5.0, "q": 4.0, "r": 3.0, "s": 2.0, "t": 1.0}


def same_model(before: Situation, **other: Any) -> Situation:
    return replace(before, **other)


def test_what_a_user_has_seen_since_leaves_and_what_takes_its_place_enters_for_that() -> None:
    before = situation(FALLING)
    after = same_model(before, histories=situation(FALLING, seen={"a": "p"}).histories)
    assert causes(before, after) == {"a-p": "seen", "a+s": "seen"}


def test_an_item_that_is_denied_leaves_and_one_that_is_not_any_more_enters() -> None:
    before = situation(FALLING, filters=Filters(deny=pa.array(["q"])))
    after = same_model(before, filters=Filters(deny=pa.array(["p"])))
    assert causes(before, after) == {
        f"{user}{item}": "filter" for user in "ab" for item in ("-p", "+q")
    }


def test_candidates_of_a_user_are_a_filter() -> None:
    def own(items: str) -> Filters:
        users, all_items = ["a"] * len(items) + ["b"] * 3, [*items, *"pqr"]
        return Filters(candidates=pa.table({"user_id": users, "item_id": all_items}))

    before = situation(FALLING, filters=own("prt"))
    assert causes(before, same_model(before, filters=own("pst"))) == {
        "a-r": "filter",
        "a+s": "filter",
    }


def test_another_model_is_a_cause_and_the_same_one_under_another_name_is_none() -> None:
    before = situation(FALLING)
    after = situation(FALLING | {"s": 9.0})
    assert causes(before, after) == {
        f"{user}{item}": "model" for user in "ab" for item in ("-r", "+s")
    }
    denied = situation(FALLING, filters=Filters(deny=pa.array(["q"])))
    assert set(causes(before, denied).values()) == {"filter"}


def test_an_item_that_is_new_to_the_model_enters_because_of_it() -> None:
    assert causes(situation(FALLING, users="a"), situation(FALLING | {"z": 9.0}, users="a")) == {
        "a-r": "model",
        "a+z": "model",
    }


def test_a_longer_list_and_seen_items_that_are_let_in_are_the_configuration() -> None:
    before = situation(FALLING, users="a", seen={"a": "q"})
    longer = same_model(before, rules=replace(RULES, k=4))
    assert causes(before, longer) == {"a+t": "configuration"}
    seen_too = same_model(before, rules=replace(RULES, exclude_seen=False))
    assert causes(before, seen_too) == {"a-s": "configuration", "a+q": "configuration"}


def test_what_a_folded_in_user_likes_is_a_cause_of_its_own() -> None:
    vectors = {"p": [3.0, 0.0], "q": [2.0, 0.0], "r": [0.0, 3.0], "s": [0.0, 2.0], "t": [1.0, 1.0]}
    flat = dict.fromkeys("pqrst", 0.0)
    given: dict[str, Any] = {"users": "a", "trained": "", "vectors": vectors}
    rules = replace(RULES, k=2, exclude_seen=False)
    before = situation(flat, liked={"a": "p"}, rules=rules, **given)
    after = situation(flat, liked={"a": "r"}, rules=rules, **given)
    assert set(causes(before, after)) == {"a-p", "a-q", "a+r", "a+s"}
    assert set(causes(before, after).values()) == {"likes"}


def test_with_fold_in_none_likes_count_for_users_alone_whom_a_sample_left_out() -> None:
    vectors = {"p": [3.0, 0.0], "q": [2.0, 0.0], "r": [0.0, 3.0], "s": [0.0, 2.0], "t": [1.0, 1.0]}
    flat = dict.fromkeys("pqrst", 0.0)
    rules = replace(RULES, k=2, exclude_seen=False, fold_in="none")
    given: dict[str, Any] = {"trained": "", "vectors": vectors, "rules": rules}
    before = situation(flat, liked={"a": "p", "b": "p"}, left_out="a", **given)
    after = situation(flat, liked={"a": "r", "b": "r"}, left_out="a", **given)
    assert before.ways.tolist() == after.ways.tolist() == ["fold_in", "popular"]
    assert set(causes(before, after)) == {"a-p", "a-q", "a+r", "a+s"}
    assert set(causes(before, after).values()) == {"likes"}
    assert who_differs(before, after)["likes"].tolist() == [True, False]


def test_whom_a_sample_left_out_belongs_to_the_model() -> None:
    vectors = {"p": [3.0, 0.0], "q": [2.0, 0.0], "r": [0.0, 3.0], "s": [0.0, 2.0], "t": [1.0, 1.0]}
    rules = replace(RULES, k=2, exclude_seen=False, fold_in="none")
    given: dict[str, Any] = {"trained": "", "vectors": vectors, "rules": rules}
    given["positives"] = {item: n for n, item in enumerate("tsrqp", 1)}
    flat, liked = dict.fromkeys("pqrst", 0.0), {"a": "r", "b": "r"}
    before = situation(flat, liked=liked, left_out="a", **given)
    after = situation(flat, liked=liked, **given)
    assert causes(before, after) == {"a-r": "model", "a-s": "model", "a+p": "model", "a+q": "model"}


def test_of_equal_scores_at_the_end_of_a_list_the_id_decides_and_that_is_a_tie() -> None:
    counts = {"p": 9, "q": 8, "s": 5}
    flat = dict.fromkeys("pqrs", 0.0)
    given: dict[str, Any] = {"users": "a", "trained": "", "rules": replace(RULES, fold_in="none")}
    before = situation(flat, positives=counts, **given)
    after = situation(flat, positives=counts | {"r": 5}, **given)
    assert causes(before, after) == {"a-s": "tie", "a+r": "tie"}
    # With more likes it is ahead by itself.
    ahead = situation(flat, positives=counts | {"r": 6}, **given)
    assert causes(before, ahead) == {"a-s": "model", "a+r": "model"}
    # So it is for the scores of a model.
    falling = {"p": 9.0, "q": 8.0, "r": 0.0, "s": 5.0}
    assert causes(situation(falling, users="a"), situation(falling | {"r": 5.0}, users="a")) == {
        "a-s": "tie",
        "a+r": "tie",
    }


def test_an_item_with_an_equal_score_that_was_not_allowed_before_enters_for_that() -> None:
    falling = {"p": 9.0, "q": 8.0, "r": 5.0, "s": 5.0}
    before = situation(falling, users="a", filters=Filters(deny=pa.array(["r"])))
    after = same_model(before, filters=Filters())
    assert causes(before, after)["a+r"] == "filter"


def test_of_several_causes_each_item_gets_the_one_that_does_it_alone() -> None:
    before = situation(FALLING | {"u": 0.5}, users="a")
    after = situation(
        {"p": 5.0, "q": 4.0, "r": 0.0, "s": 2.0, "t": 1.0, "u": 3.5},
        users="a",
        seen={"a": "q"},
        filters=Filters(deny=pa.array(["p"])),
    )
    # Denied p and seen q leave for that alone. r falls with the model. u comes with the model. Of
    # s and t one would have entered for the filter or for what was seen, t only for both together.
    assert causes(before, after) == {
        "a-p": "filter",
        "a-q": "seen",
        "a-r": "model",
        "a+s": "seen",
        "a+t": "together",
        "a+u": "model",
    }


def test_of_two_causes_that_would_each_do_it_the_first_is_told() -> None:
    before = situation(FALLING, users="a")
    after = situation(FALLING | {"r": 0.0}, users="a", filters=Filters(deny=pa.array(["r"])))
    assert causes(before, after) == {"a-r": "filter", "a+s": "filter"}


@st.composite
def situations_of(draw: st.DrawFn) -> tuple[Situation, Situation]:
    def one() -> Situation:
        items = draw(st.lists(st.sampled_from("pqrstuvw"), unique=True, min_size=2))
        subset = st.sets(st.sampled_from("pqrstuvw"), max_size=3).map("".join)
        return situation(
            {item: float(score) for score, item in enumerate(items)},
            seen={"a": draw(subset), "b": draw(subset)},
            liked={"b": draw(subset)},
            trained=draw(st.sampled_from(["a", "ab"])),
            vectors={item: [float(n), 0.37] for n, item in enumerate("pqrstuvw")},
            rules=replace(RULES, k=draw(st.integers(2, 4)), exclude_seen=draw(st.booleans())),
            filters=Filters(deny=pa.array(sorted(draw(subset)), pa.string())),
        )

    return one(), one()


@settings(max_examples=20, deadline=None)
@given(situations_of())
def test_causes_are_those_of_trying_every_part_for_everybody(
    two: tuple[Situation, Situation],
) -> None:
    before, after = two
    changes = find_differences(made(before), made(after)).changes
    tried: dict[str, dict[str, set[str]]] = {}
    for part in PARTS:
        lists = made(crossed(before, after, [part])).lists.to_pylist()
        tried[part] = {
            user: {row["item_id"] for row in lists if row["user_id"] == user} for user in "ab"
        }
    for key, cause in causes(before, after).items():
        user, sign, item = key
        alone = [part for part in PARTS if (item in tried[part][user]) == (sign == "+")]
        assert cause in ([alone[0], "tie"] if alone else ["together", "tie"])
    assert len(causes(before, after)) == len(changes.left) + len(changes.entered)


def test_lists_that_cannot_be_made_again_have_unknown_causes() -> None:
    before = situation(FALLING)
    after = situation(FALLING | {"s": 9.0})
    other = made(situation(FALLING | {"t": 9.0}))
    only_b = replace(
        other, lists=pa.concat_tables([made(before).lists.slice(0, 3), other.lists.slice(3)])
    )
    found = causes(before, after, only_b)
    assert {key: cause for key, cause in found.items() if key[0] == "a"} == {
        "a-r": "model",
        "a+s": "model",
    }
    assert {cause for key, cause in found.items() if key[0] == "b"} == {"unknown"}


def test_nothing_is_made_again_where_nothing_has_changed() -> None:
    one = situation(FALLING)
    assert causes(one, one) == {}


@pytest.mark.parametrize("part", PARTS)
def test_with_every_part_of_the_other_a_situation_is_the_other(part: str) -> None:
    vectors = {"p": [3.0, 0.0], "q": [2.0, 0.5], "r": [0.0, 3.0], "z": [0.5, 2.0]}
    before = situation(FALLING, seen={"a": "p"}, liked={"b": "qr"}, trained="a", vectors=vectors)
    scores = {"p": 1.0, "r": 4.0, "s": 3.0, "t": 2.0, "z": 2.5}
    after = situation(
        scores,
        seen={"a": "z", "b": "r"},
        liked={"a": "s", "b": "rz"},
        trained="",
        vectors=vectors,
        rules=replace(RULES, k=2),
        filters=Filters(deny=pa.array(["t"])),
    )
    both = np.arange(2)
    for mine, other in ((before, after), (after, before)):
        whole = crossed(mine, other, PARTS).lists(both)
        assert np.array_equal(whole.items, other.lists(both).items)
        assert np.array_equal(whole.scores, other.lists(both).scores)
        # And one part less is not what it is with that part, but the same from either side.
        rest = [one for one in PARTS if one != part]
        one_way, back = crossed(mine, other, rest), crossed(other, mine, [part])
        assert np.array_equal(one_way.lists(both).items, back.lists(both).items)


def test_what_a_user_has_done_with_an_item_of_one_model_alone_belongs_to_that_model() -> None:
    before = situation(FALLING, users="a", liked={"a": "p"})
    scores = FALLING | {"s": 9.0, "z": 10.0}
    after = situation(scores, users="a", seen={"a": "z"}, liked={"a": "pz"})
    found = crossed(before, after, ["model"])
    assert made(found).lists.column("item_id").to_pylist() == ["s", "p", "q"]
    assert found.histories.liked.values.tolist() == after.histories.liked.values.tolist()
    assert causes(before, after) == {"a-r": "model", "a+s": "model"}


# Files of allowed and denied items that have changed since


def test_files_that_have_changed_since_are_inferred_from_what_was_published() -> None:
    before = situation(FALLING | {"u": 0.5, "v": 0.4})
    then = replace(before, filters=Filters(deny=pa.array(["q", "t"])))
    now = Filters(deny=pa.array(["p"]))
    after = replace(before, filters=now)
    found = find_differences(made(then), made(after))
    read_now = replace(before, filters=now)  # what the file says today of the run before
    again = as_they_were(read_now, found.changes, found.changes.before, ["deny"])
    assert told(found, again, after) == {
        f"{user}{item}": "filter" for user in "ab" for item in ("-p", "+q")
    }
    assert set(told(found, read_now, after).values()) == {"unknown"}


def test_allowed_items_and_candidates_are_inferred_likewise() -> None:
    before = situation(FALLING, users="a")
    for then, now, name in (
        (
            Filters(allow=pa.array(["p", "q", "r"])),
            Filters(allow=pa.array(["q", "s", "t"])),
            "allow",
        ),
        (
            Filters(candidates=pa.table({"user_id": ["a"] * 3, "item_id": ["p", "q", "r"]})),
            Filters(candidates=pa.table({"user_id": ["a"] * 3, "item_id": ["q", "s", "t"]})),
            "candidates",
        ),
    ):
        after = replace(before, filters=now)
        found = find_differences(made(replace(before, filters=then)), made(after))
        again = as_they_were(after, found.changes, found.changes.before, [name])
        assert set(told(found, again, after).values()) == {"filter"}
        assert set(told(found, again, after)) == {"a-p", "a-r", "a+s", "a+t"}
