"""From what all rows say to features: ranges of numbers, values that are frequent enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.columns import FOUND, GROUP, ID, NUMBER, REASON, VALUE, WEIGHT
from recsys.config.feature_names import range_names
from recsys.config.sections import FeatureGroup
from recsys.ingest.feature_rows import VALUES

_IDS = "ids"
_ROWS = "n"


@dataclass(frozen=True)
class Vocabulary:
    """What describes users or items.

    Attributes:
        rows: `id`, `group`, `value`, `weight`: each feature of an id once.
        values: `group`, `value`, `found` (as most rows have it), `ids` (how many have it).
        edges: of the groups of numbers.
        rare: for each group, how many values too few ids have.
    """

    rows: DataFrame
    values: DataFrame
    edges: dict[str, list[float]]
    rare: dict[str, int]


def vocabulary(said: DataFrame, groups: Mapping[str, FeatureGroup]) -> Vocabulary:
    """Make features of what rows say.

    Args:
        said: `id` and `values`, the good rows of all tables.
        groups: the settings of all groups.
    """
    usable = said.select(ID, F.inline(VALUES)).where(F.col(REASON).isNull()).drop(REASON)
    edges = _edges(usable, groups)
    ranged = _in_ranges(usable, edges)
    features = ranged.groupBy(ID, GROUP, VALUE).agg(F.max(WEIGHT).alias(WEIGHT))
    spelt = ranged.groupBy(GROUP, VALUE, FOUND).agg(F.count(F.lit(1)).alias(_ROWS))
    most = F.min_by(FOUND, F.struct(-F.col(_ROWS), F.col(FOUND))).alias(FOUND)
    every = (
        features.groupBy(GROUP, VALUE)
        .agg(F.count(F.lit(1)).alias(_IDS))
        .join(spelt.groupBy(GROUP, VALUE).agg(most), on=[GROUP, VALUE])
        .select(GROUP, VALUE, FOUND, _IDS)
    )
    enough = F.col(_IDS) >= _of_group({name: group.min_count for name, group in groups.items()})
    rare = every.where(~enough).groupBy(GROUP).count().collect()
    kept = every.where(enough)
    return Vocabulary(
        rows=features.join(kept.select(GROUP, VALUE), on=[GROUP, VALUE], how="left_semi").select(
            ID, GROUP, VALUE, WEIGHT
        ),
        values=kept.orderBy(GROUP, VALUE),
        edges=edges,
        rare={row[GROUP]: row["count"] for row in rare},
    )


def _edges(usable: DataFrame, groups: Mapping[str, FeatureGroup]) -> dict[str, list[float]]:
    """Return the edges of the groups of numbers: given ones, or quantiles, each once."""
    found = {name: group.edges for name, group in groups.items() if group.edges is not None}
    for name, group in groups.items():
        if group.kind != "number" or group.edges is not None:
            continue
        at = [n / group.ranges for n in range(1, group.ranges)]
        numbers = usable.where((F.col(GROUP) == name) & F.col(NUMBER).isNotNull())
        once = numbers.select(ID, NUMBER).distinct()
        quantiles = once.agg(F.percentile(NUMBER, F.array(*map(F.lit, at)))).collect()[0][0]
        if quantiles is not None:  # there are numbers
            found[name] = sorted(set(quantiles))
    return found


def _in_ranges(usable: DataFrame, edges: Mapping[str, Sequence[float]]) -> DataFrame:
    """Give numbers the range that they are in as their value."""
    value, shown = F.col(VALUE), F.col(FOUND)
    for name, numbers in edges.items():
        below = F.array(*[F.lit(float(edge)) for edge in numbers])
        position = F.size(F.filter(below, lambda edge: edge <= F.col(NUMBER))) + 1
        in_range = F.element_at(F.array(*map(F.lit, range_names(numbers))), position)
        is_number = (F.col(GROUP) == name) & F.col(NUMBER).isNotNull()
        value = F.when(is_number, in_range).otherwise(value)
        shown = F.when(is_number, in_range).otherwise(shown)
    return usable.select(ID, GROUP, value.alias(VALUE), shown.alias(FOUND), WEIGHT)


def _of_group(values: Mapping[str, int]) -> Column:
    """Return the value of each row's group."""
    return F.coalesce(*[F.when(F.col(GROUP) == name, F.lit(n)) for name, n in values.items()])
