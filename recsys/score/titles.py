"""What items are called, read without Spark.

Titles are for people and no result depends on them. So a malformed line costs its own title only.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from recsys.columns import TITLE_COLUMNS
from recsys.config.sections import Titles
from recsys.errors import ConfigError, InputError
from recsys.score.local_rows import read_rows
from recsys.store.files import require_local


class Card(NamedTuple):
    """What people are shown of an item."""

    title: str
    image: str | None
    link: str | None


def read_titles(titles: Titles, to_id: Callable[[object], Any]) -> dict[Any, str]:
    """Return the titles of items by their ids; of several rows for one id the first counts.

    Args:
        titles: where they are.
        to_id: makes an id of the model's type of a text, or None where it is none.

    Raises:
        ConfigError: they cannot be read without Spark as configured.
        InputError: the file does not exist, cannot be read or lacks a column.
    """
    return {item: card.title for item, card in read_cards(titles, to_id).items()}


def read_cards(titles: Titles, to_id: Callable[[object], Any]) -> dict[Any, Card]:
    """Return titles, images and links of items by their ids.

    Of several rows for one id the first counts that has a title.

    Args:
        titles: where they are.
        to_id: makes an id of the model's type of a text, or None where it is none.

    Raises:
        ConfigError, InputError: as `read_titles`.
    """
    found: dict[Any, Card] = {}
    for given, card in _cards(titles):
        item = to_id(given)
        if item is not None:
            found.setdefault(item, card)
    return found


def columns_of(cards: Iterable[Card | None]) -> dict[str, pa.Array]:
    """Return TITLE_COLUMNS, a value for each card in their order; null where there is none."""
    given = list(cards)
    return {
        name: pa.array([None if one is None else getattr(one, name) for one in given], pa.string())
        for name in TITLE_COLUMNS
    }


def check_titles(titles: Titles) -> None:
    """See that titles can be read, by their first row.

    Raises:
        ConfigError, InputError: as `read_titles`.
    """
    next(_cards(titles), None)


def _cards(titles: Titles) -> Iterator[tuple[str | None, Card]]:
    """Yield the id, as text, and what there is of each row that has a title."""
    if titles.path is None:
        raise ConfigError(
            f"items.titles.format is {titles.format}: set items.titles.path to what is to be read"
        )
    path = require_local(titles.path, "items.titles.path")
    if not path.exists():
        raise InputError(
            f"items.titles.path: there is no {path}; put it there, or do without titles by "
            "--set items.titles=null"
        )
    names = [titles.title] if isinstance(titles.title, str) else titles.title
    wanted = {"column": titles.column} | {f"title {n}": name for n, name in enumerate(names)}
    more = {"image": titles.image, "link": titles.link}
    wanted |= {role: name for role, name in more.items() if name is not None}
    places = {role: place for place, role in enumerate(wanted)}
    for row in read_rows(path, titles.format, titles.options, wanted, "items.titles"):
        text = ", ".join(part for part in row[1 : 1 + len(names)] if part)
        if text:
            image, link = (row[places[role]] if role in places else None for role in more)
            yield row[0], Card(text, image or None, link or None)
