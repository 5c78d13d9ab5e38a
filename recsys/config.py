"""The configuration: YAML in, typed and frozen models out.

`conf/base.yaml` documents every key once, beside its default; a test holds the two together.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys.errors import ConfigError
from recsys.redaction import redact

POLICIES_BY_TIME = ("last", "first")
SPLITS_BY_TIME = ("last_n", "time")
POLICIES = (*POLICIES_BY_TIME, "max", "min", "mean", "sum", "count")
RANKING_LOSSES = ("warp", "bpr", "warp-kos")

# Not one of these names may look like a number, a date or NaN to a reader that infers the types
# of partition values, nor leave the directory it is a name in.
COHORT_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
RUN_ID_PATTERN = r"^[a-z][A-Za-z0-9_.-]{0,127}$"

# What retries of a run may change: it has no effect on results.
WITHOUT_EFFECT = frozenset({"spark", "memory"})

# What the job itself says to Spark's readers.
_OWN_OPTIONS = (
    "mode",
    "enforceschema",
    "columnnameofcorruptrecord",
    "inferschema",
    "columnpruning",
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


NonEmpty = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PartialShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
IdType = Literal["source", "string", "int", "long"]


class Columns(_Section):
    """Which columns of the input are what."""

    user: NonEmpty = "user_id"
    item: NonEmpty = "item_id"
    rating: NonEmpty | None = None
    timestamp: NonEmpty | None = None


class IdTypes(_Section):
    """The types that ids are converted to."""

    user: IdType = "source"
    item: IdType = "source"


class Source(_Section):
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


class Validation(_Section):
    """Which rows are rejected, and how many may be."""

    rating_min: Finite | None = None
    rating_max: Finite | None = None
    max_rejected_share: Share = 0.2


class Deduplication(_Section):
    """What becomes of several rows for the same user and item."""

    policy: Literal["last", "first", "max", "min", "mean", "sum", "count"] = "last"


class Filters(_Section):
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


class Memory(_Section):
    """What the driver may use."""

    max_share: Annotated[float, Field(gt=0, le=1)] = 0.8


class Training(_Section):
    """LightFM's hyperparameters, under its own names, and how it is run."""

    loss: Literal["warp", "bpr", "warp-kos", "logistic"] = "warp"
    no_components: PositiveInt = 32
    epochs: PositiveInt = 20
    learning_schedule: Literal["adagrad", "adadelta"] = "adagrad"
    learning_rate: PositiveFloat = 0.05
    rho: Annotated[float, Field(gt=0, lt=1)] = 0.95
    epsilon: PositiveFloat = 1e-6
    item_alpha: NonNegativeFloat = 0.0
    user_alpha: NonNegativeFloat = 0.0
    max_sampled: PositiveInt = 10
    k: PositiveInt = 5
    n: PositiveInt = 10
    sample_weights: Literal["none", "rating"] = "none"
    threads: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    max_embedding_norm: PositiveFloat = 100.0


class UserList(Source):
    """Users that are asked for by their ids."""

    column: NonEmpty = "user_id"
    where: NonEmpty | None = None
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


class Cohort(_Section):
    """Who gets recommendations."""

    name: Annotated[str, Field(pattern=COHORT_PATTERN)] = "all"
    users: UserList | None = None
    sample: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42


class Items(_Section):
    """What may be recommended."""

    allow: ItemList | None = None
    deny: ItemList | None = None
    candidates: CandidateList | None = None


class Scoring(_Section):
    """How the lists are made."""

    k: PositiveInt = 10
    exclude_seen: bool = True
    fold_in: Literal["new", "all", "none"] = "new"
    fallback: Literal["popular", "none"] = "popular"
    users_per_file: PositiveInt = 25_000


class Split(_Section):
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


class Evaluation(_Section):
    """How well lists foretell what was held out."""

    split: Split = Split()
    k: Annotated[list[PositiveInt], Field(min_length=1)] = [10]
    auc: bool = False
    bootstrap: PositiveInt = 1000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    segment: UserSegments | None = None


class Config(_Section):
    """One run's whole configuration."""

    # Hadoop would take these characters for a pattern.
    root: Annotated[str, Field(pattern=r"^[^\x00-\x1f*?{}\[\]\\]+$")] = "output"
    input: Input = Input()
    validation: Validation = Validation()
    deduplication: Deduplication = Deduplication()
    filters: Filters = Filters()
    memory: Memory = Memory()
    training: Training = Training()
    cohort: Cohort = Cohort()
    items: Items = Items()
    scoring: Scoring = Scoring()
    evaluation: Evaluation = Evaluation()
    spark: dict[str, str | int | float | bool] = {}

    @model_validator(mode="after")
    def _agree(self) -> "Config":
        for complaint in self._contradictions():
            raise ValueError(complaint)
        return self

    def _contradictions(self) -> Iterable[str]:
        filters = self.filters
        for place, source in self._sources():
            for key in source.options:
                if key.lower() in _OWN_OPTIONS:
                    yield f"{place}.options.{key}: the job sets this option itself; remove it"
        if filters.last_days and (filters.since or filters.until):
            yield (
                "filters.last_days: found together with filters.since or filters.until, expected "
                "one or the other; remove one of them"
            )
        if filters.since and filters.until and filters.since > filters.until:
            yield (
                f"filters.since: found {filters.since}, expected a day not after filters.until "
                f"({filters.until})"
            )
        low, high = self.validation.rating_min, self.validation.rating_max
        if low is not None and high is not None and low > high:
            yield (
                f"validation.rating_min: found {low}, expected at most validation.rating_max "
                f"({high})"
            )
        if self.training.loss == "warp-kos" and self.training.sample_weights != "none":
            yield (
                "training.sample_weights: LightFM's warp-kos takes no sample weights; set it to "
                "none, or choose training.loss warp, bpr or logistic"
            )
        split = self.evaluation.split
        if split.bounds()[0] <= 0:
            yield (
                f"evaluation.split.test_share: found {split.test_share}, with validation_share "
                f"{split.validation_share}, expected less than 1 together; lower one of them"
            )
        since, until = split.validation_since, split.test_since
        if since and until and since >= until:
            yield (
                f"evaluation.split.validation_since: found {since}, expected a day before "
                f"evaluation.split.test_since ({until})"
            )
        for key in self.spark:
            if not key.startswith("spark."):
                yield f"spark.{key}: expected Spark's own keys, which begin with 'spark.'"

    def _sources(self) -> Iterable[tuple[str, Source]]:
        lists = {
            "cohort.users": self.cohort.users,
            "items.allow": self.items.allow,
            "items.deny": self.items.deny,
            "items.candidates": self.items.candidates,
            "evaluation.segment": self.evaluation.segment,
        }
        yield "input", self.input
        yield from ((place, source) for place, source in lists.items() if source is not None)

    def require_scoring(self) -> None:
        """Raise ConfigError unless all lists that scoring needs say where they are."""
        for place, source in self._sources():
            if place not in ("input", "evaluation.segment"):
                source.require(place)

    def require_input(self) -> None:
        """Raise ConfigError unless the ratings can be read and prepared as configured."""
        self.input.require("input")
        if self.input.columns.timestamp is not None:
            return
        policy, filters = self.deduplication.policy, self.filters
        if policy in POLICIES_BY_TIME:
            others = ", ".join(p for p in POLICIES if p not in POLICIES_BY_TIME)
            raise ConfigError(
                f"deduplication.policy: '{policy}' needs a timestamp, but input.columns.timestamp "
                f"is not set; set it, or choose one of {others}"
            )
        if filters.since or filters.until or filters.last_days:
            raise ConfigError(
                "filters.since, filters.until and filters.last_days need a timestamp, but "
                "input.columns.timestamp is not set; set it, or remove the date window"
            )

    def require_split(self) -> None:
        """Raise ConfigError unless pairs can be held out as configured."""
        split = self.evaluation.split
        if split.kind in SPLITS_BY_TIME and self.input.columns.timestamp is None:
            raise ConfigError(
                f"evaluation.split.kind: '{split.kind}' needs a timestamp, but "
                "input.columns.timestamp is not set; set it, or choose one of random, by_user, "
                "by_item"
            )
        if split.kind == "time":
            split.days()

    def require_evaluation(self) -> None:
        """Raise ConfigError unless an evaluation can be made as configured."""
        self.require_input()
        self.require_split()
        if self.evaluation.segment is not None:
            self.evaluation.segment.require("evaluation.segment")

    def fingerprint(self, *sections: str) -> str:
        """Return the SHA-256 (hex) of these sections as canonical JSON.

        Without a name: of all that have an effect on results. Secrets are left out, so that a new
        password does not make another configuration.
        """
        public = self.public()
        chosen = sections or [name for name in public if name not in WITHOUT_EFFECT]
        return digest({name: public[name] for name in chosen})

    def public(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values, secrets redacted."""
        plain: dict[str, Any] = redact(self.model_dump(mode="json"))
        return plain


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
