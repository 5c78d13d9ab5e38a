"""What users like, as a person or a program gives it: lists of ids, or a table. No Spark."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.columns import ITEM, USER, WEIGHT
from recsys.errors import ConfigError
from recsys.kernel.worker import Ragged
from recsys.score.histories import grouped
from recsys.score.local_ids import LocalIds

I64 = NDArray[np.int64]


def as_ids(given: Iterable[object], ids: LocalIds) -> list[Any]:
    """Return liked items as ids of the model's type.

    Raises:
        ConfigError: it is no list, or one cannot be an id of this type.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        found = f"{str(given)[:60]!r} ({type(given).__name__})"
        raise ConfigError(f"liked: found {found}, expected a list of item ids")
    found_ids = []
    for value in given:
        item = ids.convert(value)
        if item is None:
            raise ConfigError(
                f"liked: found {str(value)[:60]!r}, expected item ids of the type {ids.type}"
            )
        found_ids.append(item)
    return found_ids


def weighed(
    items: list[Any], weights: Iterable[float] | None, rows: Mapping[Any, int]
) -> dict[int, float | None]:
    """Return the weight of each known item by its row, ascending; None where it is no like.

    Args:
        items: ids, perhaps repeated; of a repeated one the largest weight counts.
        weights: as many; None: all are 1.
        rows: of the model's items.

    Raises:
        ConfigError: the numbers of items and weights differ.
    """
    given = [1.0] * len(items) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(items):
        raise ConfigError(f"weights: found {len(given)}, expected as many as liked, {len(items)}")
    likes: dict[int, float | None] = {}
    for item, weight in zip(items, given, strict=True):
        if (row := rows.get(item)) is None:
            continue
        before = likes.setdefault(row, None)
        with np.errstate(over="ignore"):  # as the float that the kernel works with
            single = float(np.float32(weight))
        if math.isfinite(single) and single > 0:
            likes[row] = weight if before is None else max(before, weight)
    return dict(sorted(likes.items()))


def check_columns(likes: object) -> None:
    """Refuse anything but a table of who likes what.

    Raises:
        ConfigError: it is no DataFrame, or lacks a column.
    """
    wanted = f"a DataFrame with the columns {USER}, {ITEM} and, where likes weigh, {WEIGHT}"
    if not isinstance(likes, pd.DataFrame):
        raise ConfigError(f"likes: found {type(likes).__name__}, expected {wanted}")
    if not {USER, ITEM} <= set(likes.columns):
        raise ConfigError(
            f"likes: found the columns {', '.join(map(str, likes.columns))[:200]}, expected "
            f"{wanted}"
        )


def row_of(item: object, rows: dict[Any, int], ids: LocalIds) -> int:
    """Return the row of an item; -1 where the model does not have it.

    Raises:
        ConfigError: it is no id of the model's type.
    """
    found = ids.convert(item)
    if found is None:
        raise ConfigError(
            f"likes: found the item {str(item)[:60]!r}, expected item ids of the type {ids.type}"
        )
    return rows.get(found, -1)


def weights_of(likes: pd.DataFrame) -> NDArray[np.float64]:
    """Return weights; -1 where an item is only left out."""
    if WEIGHT not in likes.columns:
        return np.ones(len(likes))
    weight = likes[WEIGHT].to_numpy(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # as the float that the kernel works with
        single = weight.astype(np.float32)
    return np.where(np.isfinite(single) & (single > 0), weight, -1.0)


def largest(
    owner: I64, row: I64, weight: NDArray[np.float64], n: int
) -> tuple[Ragged, NDArray[np.float64]]:
    """Lay what users like end to end, by row; of a repeated item the largest weight counts."""
    order = np.lexsort((weight, row, owner))
    owner, row, weight = owner[order], row[order], weight[order]
    last = np.append((owner[1:] != owner[:-1]) | (row[1:] != row[:-1]), True)[: len(row)]
    return grouped(owner[last], row[last], n), weight[last]
