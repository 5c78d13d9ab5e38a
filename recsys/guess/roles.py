"""Which column has the users, which the items, and so on."""

import re
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from recsys.guess import names
from recsys.guess.columns import Column
from recsys.guess.tables import Table

# What events are called, and how much one counts: what costs more says more.
WEIGHTS = {
    "view": 1.0, "click": 1.0, "impression": 0.5, "open": 1.0, "visit": 1.0, "pv": 1.0,
    "detail": 1.0, "watch": 2.0, "play": 2.0, "listen": 2.0, "read": 2.0, "download": 3.0,
    "like": 2.0, "upvote": 2.0, "fav": 2.5, "favorite": 2.5, "favourite": 2.5, "bookmark": 2.5,
    "save": 2.5, "wishlist": 2.5, "follow": 3.0, "subscribe": 3.0, "share": 3.0, "retweet": 3.0,
    "comment": 4.0, "reply": 4.0, "review": 4.0, "cart": 3.0, "addtocart": 3.0, "basket": 3.0,
    "add": 3.0, "checkout": 4.0, "buy": 5.0, "purchase": 5.0, "order": 5.0, "transaction": 5.0,
    "sale": 5.0, "borrow": 5.0, "rent": 5.0, "book": 5.0, "complete": 3.0, "finish": 3.0,
    "skip": 0.0, "dislike": 0.0, "downvote": 0.0, "return": 0.0, "refund": 0.0, "cancel": 0.0,
    "remove": 0.0, "unfollow": 0.0, "unlike": 0.0, "hide": 0.0, "block": 0.0, "report": 0.0,
    "delete": 0.0, "removefromcart": 0.0, "unsubscribe": 0.0,
}  # fmt: skip
_MOST_EVENTS = 40


@dataclass(frozen=True)
class Roles:
    """The columns of a table of ratings, purchases or events, by what they are for.

    Attributes:
        user: the column of the users.
        item: likewise of the items.
        rating: of ratings, or of quantities.
        timestamp: of the times.
        event: of the kinds of events.
        clear: how clear it is that this is such a table, from 0 to 2.
        unsure: what was guessed and may be wrong.
    """

    user: str
    item: str
    rating: str | None = None
    timestamp: str | None = None
    event: str | None = None
    clear: float = 0.0
    unsure: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Told:
    """Columns that the user named, instead of guesses."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None


def find_roles(table: Table, told: Told) -> Roles | None:
    """Return what the columns of a table are for; None where it has no users or no items."""
    columns = table.columns
    unsure: list[str] = []
    timestamp = told.timestamp or _timestamp(table, unsure)
    event = _event(columns, {told.user, told.item, told.rating, timestamp})
    taken = {timestamp, event, told.rating} - {None}
    numbered = set() if table.headless else _numbered(list(columns))
    left = [
        one
        for one in columns.values()
        if one.name not in taken and one.name not in numbered and _may_be_id(one)
    ]
    user, item, clear = _ids(table, left, told, unsure)
    if user is None or item is None:
        return None
    rating = told.rating or _rating(table, {user, item, timestamp, event}, unsure)
    return Roles(user, item, rating, timestamp, event, clear, unsure)


def named(told: Told, table: Table) -> list[str]:
    """Return the columns that the user named and that the table does not have."""
    return [one for one in vars(told).values() if one is not None and one not in table.columns]


def _may_be_id(column: Column) -> bool:
    if column.kind in ("empty", "time", "list", "other") or column.distinct < 2:
        return False
    whole = column.kind != "number"
    return whole and not pa.types.is_boolean(column.type) and column.values.str.len().mean() < 80


def _numbered(found: list[str]) -> set[str]:
    """Return the names that differ by a number alone, such as `joke_1`, `joke_2` and `joke_3`."""
    plain = {name: re.sub(r"\d+", "#", name) for name in found}
    times = Counter(plain.values())
    return {name for name, general in plain.items() if "#" in general and times[general] > 2}


def _ids(
    table: Table, left: list[Column], told: Told, unsure: list[str]
) -> tuple[str | None, str | None, float]:
    """Return the columns of users and items, and how clearly their names say so."""
    of_user = {one.name: names.says(one.name, names.USERS) for one in left}
    of_item = {one.name: names.says(one.name, names.ITEMS) for one in left}
    users = [one for one in left if of_user[one.name] > max(0.15, of_item[one.name])]
    items = [one for one in left if of_item[one.name] > max(0.15, of_user[one.name])]
    user = told.user or _best(users, of_user)
    item = told.item or _best([one for one in items if one.name != user], of_item)
    clear = (of_user.get(user or "", 0.0) if not told.user else 1.0) + (
        of_item.get(item or "", 0.0) if not told.item else 1.0
    )
    if user and item:
        if of_item.get(item, 1) < 0.5 and not told.item:
            unsure.append(f"the items are in {item}")
        if of_user.get(user, 1) < 0.5 and not told.user:
            unsure.append(f"the users are in {user}")
        return user, item, clear
    # Without names: the first two columns that look like ids which come back.
    rest = [
        one
        for one in left
        if one.name not in (user, item)
        and (table.headless or names.looks_like_id(one.name) or user or item)
        and not names.is_other(one.name)
        and one.unique < 0.95
        and one.distinct > 10
        and not (one.format and one.numeric and not table.headless)
    ]
    if not table.headless:
        rest = [one for one in rest if not names.says(one.name, names.RATINGS | names.COUNTS)]
        rest.sort(key=lambda one: not names.looks_like_id(one.name))
    if len(rest) < (user is None) + (item is None):
        return user, item, 0.0
    unsure.append("which column has the users and which the items; nothing in the file says so")
    if user is None:
        user = rest.pop(0).name
    if item is None:
        item = rest.pop(0).name
    return user, item, clear


def _best(columns: list[Column], scores: dict[str, float]) -> str | None:
    if not columns:
        return None
    return max(columns, key=lambda one: (scores[one.name], one.missing < 0.5)).name


def _timestamp(table: Table, unsure: list[str]) -> str | None:
    found = [one for one in table.columns.values() if one.kind == "time" or one.format is not None]
    if not table.headless:
        found = [
            one for one in found if one.kind == "time" or names.says(one.name, names.TIMES) > 0.15
        ]
    else:
        # An id may look like seconds; times are hardly ever the first column of three or more.
        found = [one for one in found if one.kind == "time" or one.name != "_c0"]
    found = [one for one in found if one.missing < 0.9]
    if not found:
        return None
    best = max(found, key=lambda one: names.says(one.name, names.TIMES) - one.missing)
    if len(found) > 1:
        others = ", ".join(one.name for one in found if one is not best)
        unsure.append(f"the time is that in {best.name}; it could be {others}")
    if best.unsure:
        unsure.append(f"the times in {best.name}: {best.unsure}")
    return best.name


def weight(event: str) -> float | None:
    """Return how much an event counts by its name; None where the name says nothing."""
    plain = "".join(letter for letter in event.lower() if letter.isalpha())
    if plain in WEIGHTS:
        return WEIGHTS[plain]
    found = [WEIGHTS[word] for word in names.tokens(event) if word in WEIGHTS]
    if found:
        return 0.0 if 0.0 in found else max(found)
    hits = [WEIGHTS[known] for known in WEIGHTS if len(known) > 3 and known in plain]
    return (0.0 if 0.0 in hits else max(hits)) if hits else None


def _event(columns: dict[str, Column], taken: set[str | None]) -> str | None:
    """Return the column that says what kind of event each row is."""
    for one in columns.values():
        few = one.kind == "text" and 2 <= one.distinct <= _MOST_EVENTS
        if one.name in taken or not few:
            continue
        known = [weight(str(value)) is not None for value in one.values.unique()]
        share = sum(known) / len(known)
        if share >= 0.5 and (names.says(one.name, names.EVENTS) > 0.15 or share >= 0.75):
            return one.name
    return None


def _rating(table: Table, taken: set[str | None], unsure: list[str]) -> str | None:
    numeric = [
        one
        for one in table.columns.values()
        if one.numeric and one.name not in taken and one.distinct
    ]
    if table.headless:
        rated = [
            one
            for one in numeric
            if one.format is None and one.distinct <= 101 and abs(one.numbers).max() <= 1000
        ]
        if rated:
            unsure.append(f"{rated[0].name} has the ratings")
        return rated[0].name if rated else None
    for words in (names.RATINGS, names.COUNTS):
        scores = {
            one.name: names.says(one.name, words)
            for one in numeric
            if not names.looks_like_id(one.name) and not names.is_other(one.name)
        }
        best = max(scores, key=lambda name: scores[name], default=None)
        if best is not None and scores[best] > 0.15:
            return best
    return None
