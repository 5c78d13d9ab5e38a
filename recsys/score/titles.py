"""What items are called, read without Spark.

Titles are for people and no result depends on them. So a malformed line costs its own title only.
"""

from collections.abc import Callable
from typing import Any

from recsys.config.sections import Titles
from recsys.errors import ConfigError, InputError
from recsys.score.local_rows import read_rows
from recsys.store.files import require_local


def read_titles(titles: Titles, to_id: Callable[[object], Any]) -> dict[Any, str]:
    """Return the titles of items by their ids; of several rows for one id the first counts.

    Args:
        titles: where they are.
        to_id: makes an id of the model's type of a text, or None where it is none.

    Raises:
        ConfigError: they cannot be read without Spark as configured.
        InputError: the file does not exist, cannot be read or lacks a column.
    """
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
    found: dict[Any, str] = {}
    for row in read_rows(path, titles.format, titles.options, wanted, "items.titles"):
        text = ", ".join(part for part in row[1:] if part)
        item = to_id(row[0]) if text else None
        if item is not None:
            found.setdefault(item, text)
    return found
