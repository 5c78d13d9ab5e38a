"""What is published of one user or one item as lines of text."""

from collections.abc import Iterator

from recsys.errors import one_line
from recsys.flows.show import Shown, ShownItem, ShownLists, ShownUser
from recsys.flows.text_table import table_lines


def lines(found: ShownUser | ShownItem, *, most: int = 20) -> Iterator[str]:
    """Tell it as lines of text; of a long history the latest."""
    if isinstance(found, ShownUser):
        for one in found.published:
            yield f"user {found.user_id}: {_head(one)}"
            yield f"{one.status}: {one.reason}"
            rows = [(r.rank, r.item_id, r.title, f"{r.score:.6g}", r.source) for r in one.items]
            if rows:
                heads = (">rank", "item", "title", ">score", "source")
                yield from table_lines(heads, rows, cut="title")
            yield ""
        if not found.published:
            yield f"user {found.user_id}: nothing is published"
    else:
        title = f" ({one_line(found.title)})" if found.title else ""
        for lists in found.published:
            yield f"item {found.item_id}{title}: {_head(lists)}"
            yield from _told_lists(lists)
            yield ""
    yield from _told_history(found, most)


def _head(one: Shown) -> str:
    return f"run {one.run_id}, cohort {one.cohort} of {one.run_date} (model {one.model_id})"


def _told_lists(one: ShownLists) -> Iterator[str]:
    share = one.lists / one.of if one.of else 0.0
    yield f"in {one.lists:,} of {one.of:,} lists ({share:.2%})"
    if one.positives is not None:
        yield f"{one.positives:,} users like it"
    yield from (f"in no list can it be: {reason}" for reason in one.kept_out)
    if one.ranks:
        yield from table_lines((">rank", ">lists"), [(r.rank, f"{r.lists:,}") for r in one.ranks])
        yield "first in the lists of"
        rows = [(first.user_id, first.rank, f"{first.score:.6g}") for first in one.first]
        yield from table_lines(("user", ">rank", ">score"), rows)


def _told_history(found: ShownUser | ShownItem, most: int) -> Iterator[str]:
    of_user = isinstance(found, ShownUser)
    yield f"history: {len(found.history):,} {'items' if of_user else 'users'}"
    rows = []
    for one in found.history[:most]:
        when = "" if one.timestamp is None else one.timestamp[:19].replace("T", " ")
        liked = {None: "not learned from", True: "liked", False: "not liked"}[one.liked]
        who = (one.item_id, one.title) if of_user else (one.user_id,)
        rows.append((*who, f"{one.rating:g}", liked, when))
    if rows:
        who = ("item", "title") if of_user else ("user",)
        yield from table_lines((*who, ">rating", "", "when (UTC)"), rows, cut="title")
    if (left := len(found.history) - most) > 0:
        yield f"and {left:,} more (--json has all)"
