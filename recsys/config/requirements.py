"""What sections must agree on, and what each command needs the configuration to say.

Every function yields all complaints, each a line, so that a user sees them at once.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys.config.sections import POLICIES, POLICIES_BY_TIME, SPLITS_BY_TIME, Source

if TYPE_CHECKING:
    from recsys.config.configuration import Config

# The job sets these options of Spark's readers itself.
_OWN_OPTIONS = (
    "mode",
    "enforceschema",
    "columnnameofcorruptrecord",
    "inferschema",
    "columnpruning",
)


def contradictions(config: "Config") -> Iterator[str]:
    """Say where values contradict one another, whatever the command."""
    for place, source in _sources(config):
        for key in source.options:
            if key.lower() in _OWN_OPTIONS:
                yield f"{place}.options.{key}: the job sets this option itself; remove it"
    yield from _about_rows(config)
    yield from _about_weights(config)
    yield from _about_split(config)
    for key in config.spark:
        if not key.startswith("spark."):
            yield f"spark.{key}: expected Spark's own keys, which begin with 'spark.'"


def _about_rows(config: "Config") -> Iterator[str]:
    filters = config.filters
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
    low, high = config.row_checks.rating_min, config.row_checks.rating_max
    if low is not None and high is not None and low > high:
        yield (
            f"row_checks.rating_min: found {low}, expected at most row_checks.rating_max ({high})"
        )


def _about_weights(config: "Config") -> Iterator[str]:
    weights = config.training.sample_weights
    if config.training.loss == "warp-kos" and not weights.without_effect:
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


def _about_split(config: "Config") -> Iterator[str]:
    split = config.evaluation.split
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


def for_training(config: "Config") -> Iterator[str]:
    """Say what is missing to read and prepare the ratings."""
    if missing := config.input.missing("input"):
        yield missing
    if config.input.columns.timestamp is not None:
        return
    policy, filters = config.deduplication.policy, config.filters
    if policy in POLICIES_BY_TIME:
        others = ", ".join(p for p in POLICIES if p not in POLICIES_BY_TIME)
        yield (
            f"deduplication.policy: '{policy}' needs a timestamp, but input.columns.timestamp "
            f"is not set; set it, or choose one of {others}"
        )
    if config.training.sample_weights.half_life_days is not None:
        yield (
            "training.sample_weights.half_life_days needs a timestamp, but "
            "input.columns.timestamp is not set; set it, or half_life_days to null"
        )
    if filters.since or filters.until or filters.last_days:
        yield (
            "filters.since, filters.until and filters.last_days need a timestamp, but "
            "input.columns.timestamp is not set; set it, or remove the date window"
        )


def for_scoring(config: "Config") -> Iterator[str]:
    """Say what is missing to read the lists of users and items."""
    yield from _missing(config, "cohort.", "items.")


def for_similar(config: "Config", kind: str) -> Iterator[str]:
    """Say what is missing to read the list of `items` or `users` whose neighbours are wanted."""
    yield from _missing(config, f"similar.{kind}")


def for_evaluation(config: "Config") -> Iterator[str]:
    """Say what is missing to hold pairs out and to evaluate a model."""
    yield from for_training(config)
    yield from for_split(config)
    yield from _missing(config, "evaluation.segment")


def for_split(config: "Config") -> Iterator[str]:
    """Say what is missing to hold pairs out."""
    split = config.evaluation.split
    if split.kind in SPLITS_BY_TIME and config.input.columns.timestamp is None:
        yield (
            f"evaluation.split.kind: '{split.kind}' needs a timestamp, but "
            "input.columns.timestamp is not set; set it, or choose one of random, by_user, "
            "by_item"
        )
    if split.kind == "time" and split.test_since is None:
        yield (
            "evaluation.split.kind: 'time' needs the first day of test, but "
            "evaluation.split.test_since is not set; set it, or choose another kind"
        )


def _sources(config: "Config") -> Iterator[tuple[str, Source]]:
    lists = {
        "cohort.users": config.cohort.users,
        "items.allow": config.items.allow,
        "items.deny": config.items.deny,
        "items.candidates": config.items.candidates,
        "similar.items": config.similar.items,
        "similar.users": config.similar.users,
        "evaluation.segment": config.evaluation.segment,
    }
    yield "input", config.input
    yield from ((place, source) for place, source in lists.items() if source is not None)


def _missing(config: "Config", *prefixes: str) -> Iterator[str]:
    for place, source in _sources(config):
        if place.startswith(prefixes) and (missing := source.missing(place)):
            yield missing
