"""The section about evaluation."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from recsys.config.sections.types import (
    NonEmpty,
    PartialShare,
    PositiveInt,
    Section,
    Seed,
    Source,
)
from recsys.errors import ConfigError

SPLITS_BY_TIME = ("last_n", "time")


class Split(Section):
    """Which of the deduplicated pairs are held out, whatever their label.

    A draw depends on the seed and the ids alone.
    """

    kind: Literal["random", "by_user", "by_item", "last_n", "time"] = "by_user"
    """`random`: each pair is drawn on its own, so the shares are about right. `by_user`, `by_item`:
    the shares of each user's or item's pairs, rounded (halves to even); at least one pair is in
    train. `last_n`: the latest pairs of each user (where timestamps are equal, the higher item id
    is the later one); users with at most last_n + validation_last_n pairs have none in train.
    `time`: all pairs from a day on."""
    test_share: PartialShare = 0.25
    """For `random`, `by_user` and `by_item`: the share of the test part. Together with
    `validation_share` it is less than 1. 0: there is none."""
    validation_share: PartialShare = 0.0
    """For `random`, `by_user` and `by_item`: the share of the validation part. 0: there is none."""
    last_n: PositiveInt = 10
    """For `last_n`: the number of each user's latest pairs that are test."""
    validation_last_n: Annotated[int, Field(ge=0)] = 0
    """For `last_n`: the number of each user's pairs before those that are validation. 0: there is
    none."""
    test_since: dt.date | None = None
    """For `time`: the first day of test (UTC)."""
    validation_since: dt.date | None = None
    """For `time`: the first day of validation (UTC), before `test_since`. null: there is none."""
    seed: Seed = 42
    """For `random`, `by_user` and `by_item`: the seed of the draw."""

    def contradictions(self) -> Iterator[str]:
        """Compare the shares and the days."""
        if self.bounds()[0] <= 0:
            yield (
                f"test_share: found {self.test_share}, with validation_share "
                f"{self.validation_share}, expected less than 1 together; lower one of them"
            )
        since, until = self.validation_since, self.test_since
        if since and until and since >= until:
            yield (
                f"validation_since: found {since}, expected a day before "
                f"evaluation.split.test_since ({until})"
            )

    @property
    def wants_validation(self) -> bool:
        """Whether this kind of split is to have pairs for validation."""
        if self.kind == "last_n":
            return self.validation_last_n > 0
        if self.kind == "time":
            return self.validation_since is not None
        return self.validation_share > 0

    def bounds(self) -> tuple[float, float]:
        """Return the share of train, and that of train and validation together.

        Subtracted as decimals: 1 - 0.2 - 0.1 is 0.7, and half of the pairs is a half.
        """
        test, validation = Decimal(str(self.test_share)), Decimal(str(self.validation_share))
        return float(1 - test - validation), float(1 - test)

    def days(self) -> tuple[dt.date, dt.date]:
        """Return the first day (UTC) after train, and the first of test, for kind time.

        Raises:
            ConfigError: `test_since` is not set.
        """
        if self.test_since is None:
            raise ConfigError(
                "evaluation.split.kind: 'time' needs the first day of test, but "
                "evaluation.split.test_since is not set; set it, or choose another kind"
            )
        return self.validation_since or self.test_since, self.test_since


class UserSegments(Source):
    """Groups of users, from a table."""

    column: NonEmpty = "user_id"
    """The column of the user ids."""
    by: NonEmpty = "segment"
    """The column of the groups. If a user has several rows, the first value in order counts."""


class Evaluation(Section):
    """How `recsys evaluate` measures a model on pairs that were held out of its training."""

    split: Split = Split()
    k: Annotated[list[PositiveInt], Field(min_length=1)] = Field(default=[10])
    """The lengths of the lists that are measured."""
    auc: bool = False
    """Also rank all items for each test user, for `auc` and `full_reciprocal_rank`. This is
    slow."""
    bootstrap: PositiveInt = 1000
    """The number of resamples of the users for the 95 % intervals."""
    seed: Seed = 42
    """The seed of the resamples."""
    segment: UserSegments | None = None
    """A table with groups of users that are reported on separately. null: none."""
