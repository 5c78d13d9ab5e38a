"""The rows of the input, judged once and written down, with what is said of them."""

import datetime as dt
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType, StringType

from recsys.columns import (
    QUOTED,
    RATING,
    RAW_ITEM,
    RAW_LINE,
    RAW_RATING,
    RAW_TIMESTAMP,
    RAW_USER,
    REASON,
    TIMESTAMP,
    IdTypes,
)
from recsys.config.configuration import Config
from recsys.ingest import csv_text, judging, source, timestamps
from recsys.ingest.advice import Rejected, rejected
from recsys.ingest.failures import reading
from recsys.ingest.listing import identify
from recsys.ingest.manifest import InputState, TimestampRange
from recsys.ingest.settings import check_settings
from recsys.ingest.timestamps import as_text
from recsys.runtime.run import Run
from recsys.store.tables import Store

log = logging.getLogger(__name__)

# From this share on, zeros are probably no ratings.
_MANY_ZEROS = 0.1
# Columns whose values say what is wrong with a row.
_EXAMPLES = (RAW_USER, RAW_ITEM, RAW_RATING, RAW_TIMESTAMP, RAW_LINE)


@dataclass(frozen=True)
class JudgedRows:
    """All rows of the input, written down with their reasons.

    Attributes:
        rows: what `judging.judge` returns.
        id_types: of the ids.
        input: which state of the input they are of.
        accepted: number of rows that can be used.
        zeros: how many of them have a rating of 0.
        rejected: the others by reason, the most frequent first.
        timestamps: the range of the timestamps; None without any.
        warnings: what looks wrong with them.
    """

    rows: DataFrame
    id_types: IdTypes
    input: InputState
    accepted: int
    zeros: int
    rejected: list[Rejected]
    timestamps: TimestampRange | None
    warnings: list[str]

    @property
    def n_rejected(self) -> int:
        """Number of rows that cannot be used."""
        return sum(reject.rows for reject in self.rejected)

    @property
    def n_read(self) -> int:
        """Number of rows of the input."""
        return self.accepted + self.n_rejected


def judge_rows(
    spark: SparkSession, store: Store, config: Config, run: Run, place: str
) -> JudgedRows:
    """Read and judge every row once, and count what was found.

    The rows are written down, since everything after this must see the same ones, whatever happens
    to the input meanwhile.
    """
    timestamps.check_timestamp_format(spark, config.input.timestamp_format)
    settings = check_settings(spark, config.spark)
    ratings = source.read_ratings(spark, config.input)
    raw, opened = ratings.rows, ratings.opened
    state = identify(config.input, opened.files).model_copy(update={"settings": settings})
    if config.input.query is not None and config.input.format == "csv":
        source.look_at_text(spark, opened)  # the query's rows do not show it
    judged = judging.judge(raw, config.input, config.row_checks, run.first_started_at)
    with reading(config.input):
        judged.write.parquet(place)
    rows = store.read_table(
        place, ", ".join(f"`{f.name}` {f.dataType.simpleString()}" for f in judged.schema)
    )
    counted = _count_rows(rows)
    csv_text.refuse_reordered(counted.keys(), "input")
    if any(row[QUOTED] for row in counted.values()):
        csv_text.check_quotes(spark, config.input, [file.path for file in opened.files], "input")
    good = counted.pop(None, None)
    types = judging.id_types(raw, config.input)
    by_reason = {
        str(reason): (row.rows, {name: row[name] for name in _EXAMPLES})
        for reason, row in counted.items()
    }
    judged_rows = JudgedRows(
        rows=rows,
        id_types=types,
        input=state,
        accepted=good.rows if good else 0,
        zeros=good.zeros if good else 0,
        rejected=rejected(by_reason, config.input, types, run.first_started_at),
        timestamps=_range(good),
        warnings=list(_warnings(good, config, run.first_started_at, raw)),
    )
    _log(judged_rows)
    return judged_rows


def _count_rows(rows: DataFrame) -> dict[str | None, Row]:
    """Count the rows of each reason, None for good ones, and look at their values."""
    micros, reason = F.unix_micros(TIMESTAMP), F.col(REASON)
    counted = F.count(F.lit(1)).alias("rows"), F.bool_or(QUOTED).alias(QUOTED)
    # Nearly all rows are good. For the smallest of texts Spark sorts, so that is for the others.
    good = rows.where(reason.isNull()).agg(
        *counted,
        F.count_if(F.col(RATING) == 0).alias("zeros"),
        F.min(micros).alias("first"),
        F.max(micros).alias("last"),
    )
    examples = [F.min(name).alias(name) for name in _EXAMPLES]
    bad = rows.where(reason.isNotNull()).groupBy(REASON).agg(*counted, *examples)
    found: dict[str | None, Row] = {row[REASON]: row for row in bad.collect()}
    accepted = good.collect()[0]
    return {None: accepted, **found} if accepted["rows"] else found


def _range(good: Row | None) -> TimestampRange | None:
    if good is None or good.first is None:
        return None
    return TimestampRange(first=as_text(good.first), last=as_text(good.last))


def _warnings(good: Row | None, config: Config, now: dt.datetime, raw: DataFrame) -> Iterator[str]:
    """Say what looks wrong with the accepted rows."""
    if good is None:
        return
    share = good.zeros / good.rows
    rated, threshold = config.input.columns.rating is not None, config.filters.rating_threshold
    if rated and share >= _MANY_ZEROS and (threshold is None or threshold <= 0):
        yield (
            f"{share:.0%} of the ratings are 0; if 0 means that there is no rating, set "
            "filters.rating_threshold above 0"
        )
    if good.first is not None:
        kind = raw.schema[TIMESTAMP].dataType
        numbers = isinstance(kind, NumericType | StringType)
        layout = config.input.timestamp_format
        yield from timestamps.warnings(
            good.rows, good.first, good.last, layout, now, numbers=numbers
        )


def _log(judged: JudgedRows) -> None:
    log.info("read %s rows, rejected %s", f"{judged.n_read:,}", f"{judged.n_rejected:,}")
    for reject in judged.rejected:
        log.info("  %s", reject)
    for warning in judged.warnings:
        log.warning("%s", warning)
