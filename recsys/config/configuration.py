"""The whole configuration: YAML in, a typed and frozen model out, whose sections agree."""

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, model_validator

from recsys.config.redaction import redact
from recsys.config.sections import (
    POLICIES,
    POLICIES_BY_TIME,
    SPLITS_BY_TIME,
    Cohort,
    Deduplication,
    Evaluation,
    Filters,
    Gates,
    Input,
    Items,
    Memory,
    Publishing,
    RowChecks,
    Scoring,
    Section,
    Similar,
    Source,
    Training,
)
from recsys.errors import ConfigError

# What retries of a run may change: it has no effect on results. Sections, or keys in them.
WITHOUT_EFFECT = ("spark", "memory", "items.titles", "gates", "publishing")

# What the job itself says to Spark's readers.
_OWN_OPTIONS = (
    "mode",
    "enforceschema",
    "columnnameofcorruptrecord",
    "inferschema",
    "columnpruning",
)


class Config(Section):
    """One run's whole configuration."""

    # Hadoop would take these characters for a pattern.
    root: Annotated[str, Field(pattern=r"^[^\x00-\x1f*?{}\[\]\\]+$")] = "output"
    input: Input = Input()
    row_checks: RowChecks = RowChecks()
    deduplication: Deduplication = Deduplication()
    filters: Filters = Filters()
    memory: Memory = Memory()
    training: Training = Training()
    cohort: Cohort = Cohort()
    items: Items = Items()
    scoring: Scoring = Scoring()
    similar: Similar = Similar()
    evaluation: Evaluation = Evaluation()
    gates: Gates = Gates()
    publishing: Publishing = Publishing()
    spark: dict[str, str | int | float | bool] = Field(default={})

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
        low, high = self.row_checks.rating_min, self.row_checks.rating_max
        if low is not None and high is not None and low > high:
            yield (
                f"row_checks.rating_min: found {low}, expected at most row_checks.rating_max "
                f"({high})"
            )
        weights = self.training.sample_weights
        if self.training.loss == "warp-kos" and not weights.without_effect:
            yield (
                "training.sample_weights: LightFM's warp-kos takes no sample weights; set rating "
                "to none, half_life_days to null and user_exponent to 0, or choose training.loss "
                "warp, bpr or logistic"
            )
        if (weights.rating == "capped") != (weights.cap is not None):
            yield (
                "training.sample_weights.cap: expected with rating capped, and only there; found "
                f"rating {weights.rating} and cap {weights.cap}"
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
            "similar.items": self.similar.items,
            "similar.users": self.similar.users,
            "evaluation.segment": self.evaluation.segment,
        }
        yield "input", self.input
        yield from ((place, source) for place, source in lists.items() if source is not None)

    def require_scoring(self) -> None:
        """Raise ConfigError unless all lists that scoring needs say where they are."""
        self._require("cohort.", "items.")

    def require_similar(self, kind: str) -> None:
        """Raise ConfigError unless the list of `items` or `users` says where it is."""
        self._require(f"similar.{kind}")

    def _require(self, *prefixes: str) -> None:
        for place, source in self._sources():
            if place.startswith(prefixes):
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
        if self.training.sample_weights.half_life_days is not None:
            raise ConfigError(
                "training.sample_weights.half_life_days needs a timestamp, but "
                "input.columns.timestamp is not set; set it, or half_life_days to null"
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
        for key in WITHOUT_EFFECT:
            section, _, name = key.partition(".")
            if name:
                del public[section][name]
            else:
                del public[section]
        return digest({name: public[name] for name in sections or public})

    def public(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values, secrets redacted."""
        plain: dict[str, Any] = redact(self.model_dump(mode="json"))
        return plain


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
