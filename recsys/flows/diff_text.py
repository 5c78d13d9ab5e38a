"""The difference between two runs as lines of text."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from recsys.errors import one_line
from recsys.flows.text_table import table_lines
from recsys.score.causes import IN_WORDS

_QUANTILES = ("min", "p5", "p25", "median", "p75", "p95", "max")
_MOST = 10


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Tell a difference, as `Differences.as_record` returns it."""
    yield from _heads(found)
    if found["nothing"]:
        n = found["users"]["same"]
        yield f"nothing has changed: {n:,} users have the same lists, served in the same way"
        return
    yield from _counts(found)
    yield from _spreads(found)
    yield from _causes(found["causes"])
    yield from _segments(found["segments"])
    for name in ("rose", "fell"):
        yield from _items(name, found[name])
    yield from _examples(found["examples"])


def cohort_lines(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Tell several differences side by side, one line each."""
    rows = []
    for one in found:
        users, items, whole = one["users"], one["items"], one["overlap"][-1:]
        counts = [users["both"], users["gained"], users["lost"], users["same"]]
        counts += [items["entered"], items["left"], items["moved"]]
        mean = _number(whole[0]["mean"]) if whole else ""
        rows.append([one["after"]["cohort"], *(f"{count:,}" for count in counts), mean])
    names = ("users", "gained", "lost", "same", "entered", "left", "moved", "overlap")
    yield from table_lines(["cohort", *(f">{name}" for name in names)], rows)


def user_lines(found: dict[str, Any]) -> Iterator[str]:
    """Tell the difference for one user, which `Differences.of_user` has put into the record."""
    user = found["user"]
    yield from _heads(found)
    yield f"user {user['user_id']}: {_way(user['served_before'])} -> {_way(user['served_after'])}"
    for name, title, other in (("before", "before", "now"), ("after", "after", "was")):
        yield ""
        if not user[name]:
            yield f"{title}: no list"
            continue
        rows = [
            (
                row["rank"],
                row["item_id"],
                row["title"],
                f"{row['score']:.6g}",
                row["other_rank"],
                IN_WORDS.get(row["cause"]),
            )
            for row in user[name]
        ]
        heads = (f">{title}", "item", "title", ">score", f">{other}", "why")
        yield from table_lines(heads, rows, cut="title")


def _heads(found: dict[str, Any]) -> Iterator[str]:
    before, after = found["before"], found["after"]

    def told(side: dict[str, Any]) -> str:
        return f"run {side['run_id']}, cohort {side['cohort']} of {side['run_date']}"

    yield f"before: {told(before)} (model {before['model_id']})"
    yield f"after:  {told(after)} (model {after['model_id']})"
    for one in found["configuration"]:
        then, now = (_short(one[name]) for name in ("before", "after"))
        yield f"{one['key']}: {then} -> {now}"
    yield ""


def _short(value: Any) -> str:
    text = one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _counts(found: dict[str, Any]) -> Iterator[str]:
    users, items = found["users"], found["items"]
    names = ("before", "after", "gained", "lost", "same", "changed")
    yield "users with a list"
    yield from table_lines([f">{name}" for name in names], [[f"{users[one]:,}" for one in names]])
    yield ""
    whats = ("before", "after", "entered", "left", "moved")
    yield "items in any list, and what became of them in the lists of users who had one before, too"
    yield from table_lines([f">{name}" for name in whats], [[f"{items[one]:,}" for one in whats]])
    yield ""


def _spreads(found: dict[str, Any]) -> Iterator[str]:
    measured = [(f"overlap@{one['k']}", one) for one in found["overlap"]]
    measured.append(("rank correlation", found["rank_correlation"]))
    rows = []
    for name, one in measured:
        values = [one["mean"], *(one["quantiles"].get(quantile) for quantile in _QUANTILES)]
        rows.append([name, f"{one['users']:,}", *map(_number, values)])
    yield from table_lines(["", ">users", ">mean", *(f">{name}" for name in _QUANTILES)], rows)
    yield ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _causes(causes: Sequence[dict[str, Any]] | None) -> Iterator[str]:
    if causes:
        rows = [
            (IN_WORDS[one["cause"]], f"{one['left']:,}", f"{one['entered']:,}") for one in causes
        ]
        yield from table_lines(("why", ">left", ">entered"), rows)
        yield ""


def _way(status: str | None) -> str:
    return "not asked for" if status is None else status


def _segments(segments: Sequence[dict[str, Any]]) -> Iterator[str]:
    rows = []
    for one in segments:
        then, now = _way(one["served_before"]), _way(one["served_after"])
        counts = [f"{one[name]:,}" for name in ("users", "entered", "left", "moved")]
        means = [_number(one["overlap"]), _number(one["rank_correlation"])]
        rows.append([then if then == now else f"{then} -> {now}", *counts, *means])
    heads = ("served", ">users", ">entered", ">left", ">moved", ">overlap", ">correlation")
    yield from table_lines(heads, rows)


def _items(name: str, items: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not items:
        return
    rows = [
        (
            one["item_id"],
            one["title"],
            f"{one['lists_before']:,}",
            f"{one['lists_after']:,}",
            f"{one['share_before']:.2%}",
            f"{one['share_after']:.2%}",
        )
        for one in items[:_MOST]
    ]
    yield ""
    heads = (name, "title", ">lists before", ">after", ">of all", ">after")
    yield from table_lines(heads, rows, cut="title")


def _examples(examples: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not examples:
        return
    rows = []
    for one in examples:
        left = sum(row["other_rank"] is None for row in one["before"])
        entered = sum(row["other_rank"] is None for row in one["after"])
        rows.append((one["user_id"], len(one["before"]), len(one["after"]), left, entered))
    yield ""
    heads = ("changed most", ">items before", ">after", ">left", ">entered")
    yield from table_lines(heads, rows)
    yield "recsys diff --user ID shows both lists of a user"
