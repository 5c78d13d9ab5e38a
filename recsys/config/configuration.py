"""The whole configuration: its sections, and what identifies it."""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from recsys.config.redaction import redact
from recsys.config.sections import (
    ROOT_PATTERN,
    Cohort,
    ContradictionError,
    Deduplication,
    Evaluation,
    Features,
    Filters,
    Gates,
    Input,
    Items,
    Memory,
    Monitoring,
    Place,
    Publishing,
    Report,
    RowChecks,
    Scoring,
    Section,
    Similar,
    Training,
    Tuning,
)

# What a retry of a run may change, because it has no effect on results: sections, or keys in them.
WITHOUT_EFFECT = (
    "spark",
    "memory",
    "items.titles",
    "gates",
    "publishing",
    "report",
    "monitoring",
)


SparkValue = str | int | float | bool


def _full_names(settings: dict[str, SparkValue]) -> dict[str, SparkValue]:
    if wrong := [key for key in settings if not key.startswith("spark.")]:
        expected = "expected Spark's own keys, which begin with 'spark.'"
        raise ContradictionError(
            [f"{key}: found the key '{key}' in the section spark, {expected}" for key in wrong]
        )
    return settings


class Config(Section):
    """One run's whole configuration."""

    root: Annotated[Place, Field(pattern=ROOT_PATTERN)] = "output"
    """Where everything is published: any path that Spark can write to."""
    input: Input = Input()
    row_checks: RowChecks = RowChecks()
    deduplication: Deduplication = Deduplication()
    filters: Filters = Filters()
    features: Features = Features()
    memory: Memory = Memory()
    training: Training = Training()
    cohort: Cohort = Cohort()
    items: Items = Items()
    scoring: Scoring = Scoring()
    similar: Similar = Similar()
    evaluation: Evaluation = Evaluation()
    tuning: Tuning = Tuning()
    gates: Gates = Gates()
    publishing: Publishing = Publishing()
    report: Report = Report()
    monitoring: Monitoring = Monitoring()
    spark: Annotated[dict[str, SparkValue], AfterValidator(_full_names)] = Field(default={})
    """Settings for Spark, by their full names. What spark-submit sets wins over these. The number
    of parts in which pairs are made follows rows and cores, not spark.sql.shuffle.partitions."""

    def contradictions(self) -> Iterator[str]:
        """Want a place in each list for items that the model has learned from."""
        places, k = self.features.cold_places, self.scoring.k
        if places >= k:
            yield (
                f"features.cold_items: found {places}, expected fewer places than scoring.k, "
                f"which is {k}; lower it, raise scoring.k, or choose exclude or include"
            )

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
