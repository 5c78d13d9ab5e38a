"""Users' values to means with intervals. On the driver."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import COMPARED_MODEL, CUT, HISTORY, ITEM_INDEX, LISTED, SEGMENT, USER
from recsys.config.sections import Evaluation, UserSegments
from recsys.errors import ConfigError
from recsys.evaluate.manifest import ALL, DIFFERENCE, Metric
from recsys.kernel import bootstrap, metrics
from recsys.kernel.evaluate import COMPARED, POPULARITY
from recsys.kernel.worker import MODEL
from recsys.runtime.memory import check_fits, check_result

COVERAGE = "catalogue_coverage"
AT_K = (*metrics.ACCURACY, *metrics.OF_LISTS)

_HISTORIES = ((0, 0), (1, 4), (5, 9), (10, 19), (20, 49), (50, None))
_NOWHERE = "(none)"  # users whom the table of segments does not have
_MOST_SEGMENTS = 100
# Arrow's columns, pandas' and a sorted copy of them: 12 doubles, ids and text.
_BYTES_PER_ROW = 3 * (12 * 8 + 100)


def collect_values(spark: SparkSession, rows: DataFrame, max_share: float) -> pd.DataFrame:
    """Bring the users' values to the driver, in order of k, model and user id.

    Raises:
        MemoryLimitError: they would not fit.
    """
    wanted = rows.drop(LISTED)
    n_rows, n_bytes = wanted.agg(F.count(F.lit(1)), F.sum(_row_bytes(wanted))).collect()[0]
    what = f"the metrics of {n_rows:,} lists"
    remedy = "hold out fewer users' pairs with evaluation.split, or judge fewer evaluation.k"
    check_result(spark, what, n_bytes or 0, f"raise it, or {remedy}")
    jvm: Any = spark.sparkContext._jvm
    check_fits(
        what=what,
        needed=n_rows * _BYTES_PER_ROW,
        heap=int(jvm.java.lang.Runtime.getRuntime().maxMemory()),
        max_share=max_share,
        remedy=remedy,
    )
    found: pd.DataFrame = wanted.toArrow().to_pandas()
    return found.sort_values([CUT, COMPARED_MODEL, USER], ignore_index=True)


def _row_bytes(rows: DataFrame) -> Column:
    """Return what a row takes where it is collected with Arrow: numbers of 8 bytes, and text."""
    texts = [name for name, kind in rows.dtypes if kind == "string"]
    numbers = F.lit(8 * (len(rows.columns) - len(texts)))
    lengths = [F.coalesce(F.octet_length(name), F.lit(0)) + 4 for name in texts]
    return sum(lengths, numbers).cast("bigint")


def coverage(rows: DataFrame, n_items: int) -> dict[tuple[str, int], float]:
    """Return the share of the catalogue in the lists of each compared model at each k."""
    listed = rows.select(COMPARED_MODEL, CUT, F.explode(LISTED).alias(ITEM_INDEX))
    distinct = listed.groupBy(COMPARED_MODEL, CUT).agg(F.count_distinct(ITEM_INDEX).alias("n"))
    return {(row[0], row[1]): row[2] / n_items for row in distinct.collect()}


def results(
    values: pd.DataFrame, covered: Mapping[tuple[str, int], float], settings: Evaluation
) -> list[Metric]:
    """Make means with intervals of the users' values, for all users and for each segment.

    Args:
        values: what `collect_values` returned.
        covered: what `coverage` returned.
        settings: the number of resamples, their seed, and what the segments are by.

    Raises:
        ConfigError: there are too many segments to report on.
    """
    ks = sorted(values[CUT].unique().tolist())
    columns = [(metric, k) for k in ks for metric in AT_K]
    blocks = {
        model: np.column_stack([_block(values, model, k)[list(AT_K)].to_numpy() for k in ks])
        for model in COMPARED
    }
    if settings.auc:
        columns += [(metric, None) for metric in metrics.OF_RANKS]
        for model, block in blocks.items():
            whole = _block(values, model, ks[0])[list(metrics.OF_RANKS)].to_numpy()
            blocks[model] = np.column_stack([block, whole])
    users = _block(values, MODEL, ks[0])
    both = np.column_stack([blocks[MODEL], blocks[POPULARITY], blocks[MODEL] - blocks[POPULARITY]])
    found = []
    for segment, chosen in _chosen(users, settings.segment):
        means = bootstrap.estimate(
            users[USER].to_numpy()[chosen],
            both[chosen],
            resamples=settings.bootstrap,
            seed=settings.seed,
        )
        for i, model in enumerate((*COMPARED, DIFFERENCE)):
            for j, (metric, k) in enumerate(columns, start=i * len(columns)):
                low, high = _number(means.low[j]), _number(means.high[j])
                value, n_users = _number(means.value[j]), int(means.n_users[j])
                found.append(_metric(model, segment, metric, k, value, low, high, n_users))
    for k in ks:
        shares = {model: covered.get((model, k), 0.0) for model in COMPARED}
        shares[DIFFERENCE] = shares[MODEL] - shares[POPULARITY]
        found += [
            _metric(model, ALL, COVERAGE, k, share, None, None, len(users))
            for model, share in shares.items()
        ]
    return found


def _block(values: pd.DataFrame, model: str, k: int) -> pd.DataFrame:
    return values[(values[COMPARED_MODEL] == model) & (values[CUT] == k)]


def _chosen(
    users: pd.DataFrame, segments: UserSegments | None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Name the groups of users that are reported on, and say who is in each."""
    yield ALL, np.ones(len(users), np.bool_)
    history = users[HISTORY].to_numpy()
    for first, last in _HISTORIES:
        chosen = (history >= first) & (history <= (np.inf if last is None else last))
        if chosen.any():
            span = (
                f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"
            )
            yield f"{HISTORY} {span}", chosen
    if segments is None:
        return
    groups = users[SEGMENT].fillna(_NOWHERE)
    distinct = sorted(groups.unique())
    if len(distinct) > _MOST_SEGMENTS:
        raise ConfigError(
            f"evaluation.segment.by: found {len(distinct):,} values in {segments.by}, expected at "
            f"most {_MOST_SEGMENTS}; choose a column with fewer, or put them into groups"
        )
    for group in distinct:
        yield f"{segments.by} {group}", (groups == group).to_numpy()


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _metric(
    model: str,
    segment: str,
    metric: str,
    k: int | None,
    value: float | None,
    low: float | None,
    high: float | None,
    n_users: int,
) -> Metric:
    return Metric(
        model=model,
        segment=segment,
        metric=metric,
        k=k,
        value=value,
        low=low,
        high=high,
        n_users=n_users,
    )
