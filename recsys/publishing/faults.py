"""What may be wrong with lists, and how it is told: a number, and one place as an example."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.columns import COLD, ITEM, RANK, SCORE, SOURCE, USER
from recsys.kernel.worker import FEATURES, FOLD_IN, MODEL

ENTRIES = "entries"
_SILENT, _LOWEST, _HIGHEST = "silent", "lowest", "highest"


@dataclass(frozen=True)
class Fault:
    """How often something is wrong, and where for example."""

    count: int
    example: str | None = None


def is_personal() -> Column:
    """Whether a row is of a list that was made with the model."""
    return F.col(SOURCE).isin(MODEL, FOLD_IN, FEATURES)


def finite(score: Column) -> Column:
    """Whether a score is a finite number."""
    infinite = F.abs(score) == float("inf")
    return score.isNotNull() & ~F.isnan(score) & ~infinite


def list_faults(k: int, *, apart: bool) -> dict[str, Column]:
    """Say what may be wrong with `entries`: rank, item and score, in order of rank.

    With `apart` also `cold`: whether the item has nothing but features. Scores fall among these,
    and among the others before them.
    """
    entries, length = F.col(ENTRIES), F.size(ENTRIES)
    items, ranks = entries[ITEM], entries[RANK]

    def rise(after: Column, before: Column) -> Column:
        higher = finite(after[SCORE]) & finite(before[SCORE]) & (after[SCORE] > before[SCORE])
        return higher & (after[COLD] == before[COLD]) if apart else higher

    def where(wrong: Callable[[Column, Column], Column]) -> Column:
        """Say whether something is wrong between a row and the one before it."""
        pairs = F.zip_with(F.slice(entries, 2, length), entries, wrong)
        return F.coalesce(F.exists(pairs, lambda found: found), F.lit(False))

    faults = {
        f"lists of more than {k} items": length > k,
        "lists with a repeated item": F.size(F.array_distinct(items)) < length,
        "lists with a row without an item": F.exists(items, lambda item: item.isNull()),
        "lists whose ranks are not 1, 2, 3 and so on": ranks != F.sequence(F.lit(1), length),
        "lists whose scores rise": where(rise),
    }
    if apart:
        faults["lists whose items with nothing but features are not at the end"] = where(
            lambda after, before: before[COLD] & ~after[COLD]
        )
    return faults


def sources() -> list[Column]:
    """Sum up what the rows of a list say of how they were made."""
    other = F.when(~F.col(COLD), F.col(SOURCE))
    return [
        F.count_if(F.col(COLD) & F.coalesce(F.col(SOURCE) != FEATURES, F.lit(True))).alias(_SILENT),
        F.min(other).alias(_LOWEST),
        F.max(other).alias(_HIGHEST),
    ]


def source_faults() -> dict[str, Column]:
    """Say what may be wrong with what `sources` returned."""
    several = F.col(_LOWEST) != F.col(_HIGHEST)
    return {
        "lists with an item that has nothing but features and another source": F.col(_SILENT) > 0,
        "lists whose other items have several sources": F.coalesce(several, F.lit(False)),
    }


def count_pairs(rows: DataFrame) -> Fault:
    """Count pairs of a user and an item."""
    found = rows.agg(F.count(F.lit(1)).alias("n"), F.min(F.struct(USER, ITEM)).alias("one"))
    row = found.collect()[0]
    return Fault(int(row["n"]), row["one"] and pair(row["one"]))


def pair(example: Any) -> str:
    """Name a pair of a user and an item."""
    return f"item {example[ITEM]} for user {example[USER]}"
