"""The sections of the configuration, typed and frozen.

`conf/base.yaml` documents every key once, beside its default; a test holds the two together. What
they must agree on with one another is `recsys.config`'s to say.
"""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from recsys.errors import ConfigError

POLICIES_BY_TIME = ("last", "first")
SPLITS_BY_TIME = ("last_n", "time")
POLICIES = (*POLICIES_BY_TIME, "max", "min", "mean", "sum", "count")
RANKING_LOSSES = ("warp", "bpr", "warp-kos")

# Not one of these names may look like a number, a date or NaN to a reader that infers the types
# of partition values, nor leave the directory it is a name in.
COHORT_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
RUN_ID_PATTERN = r"^[a-z][A-Za-z0-9_.-]{0,127}$"


class Section(BaseModel):
    """A part of the configuration: closed and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


NonEmpty = Annotated[str, Field(min_length=1)]
# A number of things, of which Spark and NumPy count no more.
PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PartialShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
IdType = Literal["source", "string", "int", "long"]


class Columns(Section):
    """Which columns of the input are what."""

    user: NonEmpty = "user_id"
    item: NonEmpty = "item_id"
    rating: NonEmpty | None = None
    timestamp: NonEmpty | None = None


class IdTypes(Section):
    """The types that ids are converted to."""

    user: IdType = "source"
    item: IdType = "source"


class Source(Section):
    """Anything that Spark reads."""

    format: Literal["csv", "parquet", "json", "orc", "table"] = "csv"
    path: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    table: NonEmpty | None = None
    options: dict[str, str | int | float | bool] = {}

    @property
    def paths(self) -> list[str]:
        """The paths as a list; empty for a table."""
        if self.path is None:
            return []
        return [self.path] if isinstance(self.path, str) else list(self.path)

    def require(self, key: str) -> None:
        """Raise ConfigError unless this says what to read; `key` is its place in the file."""
        if self.format == "table":
            if self.table is None or self.path is not None:
                raise ConfigError(
                    f"{key}.format is table: set {key}.table to the table's name and leave "
                    f"{key}.path unset"
                )
        elif self.path is None or self.table is not None:
            raise ConfigError(
                f"{key}.format is {self.format}: set {key}.path to what is to be read and leave "
                f"{key}.table unset"
            )


class Input(Source):
    """Where the ratings come from."""

    columns: Columns = Columns()
    id_types: IdTypes = IdTypes()
    timestamp_format: NonEmpty = "seconds"


class RowChecks(Section):
    """Which rows are rejected, and how many may be."""

    rating_min: Finite | None = None
    rating_max: Finite | None = None
    max_rejected_share: Share = 0.2


class Deduplication(Section):
    """What becomes of several rows for the same user and item."""

    policy: Literal["last", "first", "max", "min", "mean", "sum", "count"] = "last"


class Filters(Section):
    """What training looks at."""

    rating_threshold: Finite | None = None
    since: dt.date | None = None
    until: dt.date | None = None
    last_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    min_user_interactions: PositiveInt = 1
    min_item_interactions: PositiveInt = 1

    def window(self, run_date: dt.date) -> tuple[dt.date | None, dt.date | None]:
        """Return the first and the last day (UTC, both included) that training looks at."""
        if self.last_days is None:
            return self.since, self.until
        return run_date - dt.timedelta(days=self.last_days - 1), run_date


class Memory(Section):
    """What the driver may use."""

    max_share: Annotated[float, Field(gt=0, le=1)] = 0.8


class SampleWeights(Section):
    """How much each pair counts in training."""

    rating: Literal["none", "linear", "log", "capped"] = "log"
    cap: PositiveFloat | None = None
    half_life_days: PositiveFloat | None = None
    user_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5

    @property
    def without_effect(self) -> bool:
        """Whether every pair counts the same."""
        equal = (self.rating, self.half_life_days, self.user_exponent)
        return equal == ("none", None, 0.0)


class EarlyStopping(Section):
    """How the best epoch is found."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    k: PositiveInt = 10
    every: PositiveInt = 2
    smoothing: PositiveInt = 3
    patience: PositiveInt = 10
    max_users: PositiveInt = 5000
    refit: bool = True


class Training(Section):
    """LightFM's hyperparameters, under its own names, and how it is run."""

    loss: Literal["warp", "bpr", "warp-kos", "logistic"] = "warp"
    no_components: PositiveInt = 128
    epochs: PositiveInt = 80
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    learning_schedule: Literal["adagrad", "adadelta"] = "adagrad"
    learning_rate: PositiveFloat = 0.02
    rho: Annotated[float, Field(gt=0, lt=1)] = 0.95
    epsilon: PositiveFloat = 1e-6
    item_alpha: NonNegativeFloat = 1e-5
    user_alpha: NonNegativeFloat = 1e-5
    max_sampled: PositiveInt = 50
    negatives_per_positive: PositiveInt = 5
    k: PositiveInt = 5
    n: PositiveInt = 10
    sample_weights: SampleWeights = SampleWeights()
    early_stopping: EarlyStopping | None = EarlyStopping()
    threads: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    max_embedding_norm: PositiveFloat = 100.0


class UserIds(Source):
    """Users chosen from a table."""

    column: NonEmpty = "user_id"
    where: NonEmpty | None = None


class UserList(UserIds):
    """Users that are asked for by their ids, and what they like."""

    liked: NonEmpty | None = None
    liked_weights: NonEmpty | None = None


class ItemList(Source):
    """Items chosen from a table."""

    column: NonEmpty = "item_id"
    where: NonEmpty | None = None


class CandidateList(Source):
    """Pairs of a user and an item: what may be recommended to whom."""

    user: NonEmpty = "user_id"
    item: NonEmpty = "item_id"
    where: NonEmpty | None = None


class Cohort(Section):
    """Who gets recommendations."""

    name: Annotated[str, Field(pattern=COHORT_PATTERN)] = "all"
    users: UserList | None = None
    sample: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42


class Titles(Section):
    """What items are called, for people; read without Spark."""

    format: Literal["csv", "parquet"] = "csv"
    path: NonEmpty | None = None
    options: dict[str, str | int | float | bool] = {}
    column: NonEmpty = "item_id"
    title: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)] = "title"


class Items(Section):
    """What may be recommended, and what it is called."""

    allow: ItemList | None = None
    deny: ItemList | None = None
    candidates: CandidateList | None = None
    titles: Titles | None = None


class Scoring(Section):
    """How the lists are made."""

    k: PositiveInt = 10
    exclude_seen: bool = True
    fold_in: Literal["new", "all", "none"] = "new"
    fallback: Literal["popular", "none"] = "popular"
    interactions: Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9_.-]{0,160}$")] | None = None
    users_per_file: PositiveInt = 25_000


class Similar(Section):
    """Whose nearest neighbours are looked for, and how many."""

    k: PositiveInt = 10
    items: ItemList | None = None
    users: UserIds | None = None


class Split(Section):
    """Which pairs are held out from training, for validation and for the test."""

    kind: Literal["random", "by_user", "by_item", "last_n", "time"] = "by_user"
    test_share: PartialShare = 0.25
    validation_share: PartialShare = 0.0
    last_n: PositiveInt = 10
    validation_last_n: Annotated[int, Field(ge=0)] = 0
    test_since: dt.date | None = None
    validation_since: dt.date | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42

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
    by: NonEmpty = "segment"


class Evaluation(Section):
    """How well lists foretell what was held out."""

    split: Split = Split()
    k: Annotated[list[PositiveInt], Field(min_length=1)] = [10]
    auc: bool = False
    bootstrap: PositiveInt = 1000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    segment: UserSegments | None = None


class Gates(Section):
    """What a result must fulfil before readers see it; None: not asked."""

    min_full_lists: Share | None = 0.9
    min_coverage: Share | None = 0.01
    max_top_item: Share | None = 0.9
    min_overlap: Share | None = 0.05
    max_overlap: Share | None = 0.999
    min_to_popularity: NonNegativeFloat | None = 1.0
    min_to_published: NonNegativeFloat | None = 0.8
    min_users: PositiveInt = 100


class Iceberg(Section):
    """The catalog of Iceberg tables, in pyiceberg's terms."""

    catalog: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] = "recsys"
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] = "recsys"
    properties: dict[str, str | int | float | bool] = {}


class Publishing(Section):
    """In what form results are published, and what is kept."""

    format: Literal["parquet", "iceberg"] = "parquet"
    keep_versions: PositiveInt = 3
    keep_run_dates: PositiveInt | None = None
    iceberg: Iceberg = Iceberg()
    views: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = None
