"""The sections about the ratings: where they come from and what becomes of each row."""

import datetime as dt
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from recsys.config.sections.types import (
    Finite,
    IdType,
    NonEmpty,
    NonNegativeFloat,
    PositiveInt,
    QueriedSource,
    Section,
    Share,
)

POLICIES_BY_TIME = ("last", "first")
POLICIES = (*POLICIES_BY_TIME, "max", "min", "mean", "sum", "count")


class Columns(Section):
    """The names of the columns. A CSV file without a header has `_c0`, `_c1` and so on.

    `user.id` is the field `id` of the column `user`, unless a column has that very name. With
    `input.query` these are the columns of its result.
    """

    user: NonEmpty = "user_id"
    """The column of the user ids."""
    item: NonEmpty = "item_id"
    """The column of the item ids."""
    rating: NonEmpty | None = None
    """The column of the ratings. null: every row counts as a rating of 1."""
    timestamp: NonEmpty | None = None
    """The column of the timestamps. null: there is none. It is needed by `deduplication.policy`
    `last` and `first`, by the date window of `filters`, by
    `training.sample_weights.half_life_days`, and by `evaluation.split.kind` `last_n` and `time`."""


class InputIdTypes(Section):
    """The types of the ids, in the output too.

    `source` is the type in the input (text in CSV). The others are `string`, `int` (32 bits) and
    `long` (64 bits).
    """

    user: IdType = "source"
    """The type of user ids."""
    item: IdType = "source"
    """The type of item ids."""


class Input(QueriedSource):
    """Where the ratings come from."""

    columns: Columns = Columns()
    id_types: InputIdTypes = InputIdTypes()
    decimal: Literal[".", ","] = "."
    """What separates the decimals of ratings in text: `.` or `,`."""
    timestamp_format: NonEmpty = "seconds"
    """How numbers and text become timestamps: `seconds`, `milliseconds`, `microseconds` or
    `nanoseconds` since 1970, `iso` (2026-11-24 or 2026-11-24T08:30:00Z), or a pattern of Spark's
    such as `yyyyMMdd` or `yyyy-MM-dd HH:mm:ss`. Text without a time zone is in
    `spark.sql.session.timeZone`, which is UTC unless you set it."""


class RowChecks(Section):
    """Which rows are rejected. They are written to the rejects table with a reason."""

    rating_min: Finite | None = None
    """Lower ratings are rejected. null: no limit."""
    rating_max: Finite | None = None
    """Higher ratings are rejected. null: no limit."""
    future_days: NonNegativeFloat | None = 1.0
    """Timestamps that are later than the beginning of the run and this many days are rejected. For
    a run that is tried again, its first attempt counts. null: none are."""
    max_rejected_share: Share = 0.2
    """The job stops before training if a larger share of the rows was rejected. Raise it if you
    know why so many rows of your input cannot be used."""

    def contradictions(self) -> Iterator[str]:
        """Compare the bounds."""
        low, high = self.rating_min, self.rating_max
        if low is not None and high is not None and low > high:
            yield f"rating_min: found {low}, expected at most row_checks.rating_max ({high})"


class Deduplication(Section):
    """What becomes of several rows for the same user and item."""

    policy: Literal["last", "first", "max", "min", "mean", "sum", "count"] = "last"
    """`last` or `first` by timestamp (the higher rating wins where timestamps are equal); `max`,
    `min`, `mean` or `sum` of the ratings; or `count` of the rows. The pair gets the earliest
    timestamp for `first`, and the latest one otherwise."""


class Filters(Section):
    """Which pairs training uses.

    Pairs that are left out here still count as seen, so they are not recommended.
    """

    rating_threshold: Finite | None = None
    """Ratings from here on are positive. null: all are. Lower ratings are left out for the losses
    `warp`, `bpr` and `warp-kos`, and are negatives for `logistic`."""
    since: dt.date | None = None
    """The first day of the timestamps that training uses (UTC, included). null: no limit."""
    until: dt.date | None = None
    """The last day of the timestamps that training uses (UTC, included). null: no limit."""
    last_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Use this many days up to the run date, which is included. It is set instead of `since` and
    `until`. null: no limit."""
    min_user_interactions: PositiveInt = 1
    """Leave out users with fewer pairs. Users and items are left out in turn until all that remain
    have enough."""
    min_item_interactions: PositiveInt = 1
    """Leave out items with fewer pairs, in turn with the users."""

    def contradictions(self) -> Iterator[str]:
        """Compare the days."""
        if self.last_days and (self.since or self.until):
            yield (
                "last_days: found together with filters.since or filters.until, expected one or "
                "the other; remove one of them"
            )
        if self.since and self.until and self.since > self.until:
            yield (
                f"since: found {self.since}, expected a day not after filters.until ({self.until})"
            )

    def window(self, run_date: dt.date) -> tuple[dt.date | None, dt.date | None]:
        """Return the first and the last day (UTC, both included) that training uses."""
        if self.last_days is None:
            return self.since, self.until
        return run_date - dt.timedelta(days=self.last_days - 1), run_date
