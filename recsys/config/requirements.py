"""What each command needs the configuration to say.

Every function yields all complaints, each a line, so that a user sees them at once.
"""

from collections.abc import Iterator

from recsys.config.configuration import Config
from recsys.config.sections import POLICIES, POLICIES_BY_TIME, SPLITS_BY_TIME, Section, Source


def for_training(config: Config) -> Iterator[str]:
    """Say what is missing to read and prepare the ratings."""
    yield from _missing(config, "input", "features.")
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


def for_scoring(config: Config) -> Iterator[str]:
    """Say what is missing to read the lists of users and items."""
    yield from _missing(config, "cohort.", "items.")


def for_similar(config: Config, kind: str) -> Iterator[str]:
    """Say what is missing to read the list of those whose neighbours are wanted, if it has one."""
    yield from _missing(config, f"similar.{kind}")


def for_evaluation(config: Config) -> Iterator[str]:
    """Say what is missing to hold pairs out and to evaluate a model."""
    yield from for_training(config)
    yield from for_split(config)
    yield from _missing(config, "evaluation.segment")


def for_tuning(config: Config) -> Iterator[str]:
    """Say what is missing to compare trials."""
    yield from for_training(config)
    if config.training.early_stopping is None:
        yield (
            "training.early_stopping: found null, expected its settings: trials are compared by "
            "the pairs that it holds out"
        )


def for_split(config: Config) -> Iterator[str]:
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


def _sources(section: Section, above: str = "") -> Iterator[tuple[str, Source]]:
    """Yield everything that is configured to be read, each with its key."""
    for name in type(section).model_fields:
        found, key = getattr(section, name), f"{above}{name}"
        named = found if isinstance(found, dict) else {}
        for place, one in {
            key: found,
            **{f"{key}.{n}": below for n, below in named.items()},
        }.items():
            if isinstance(one, Source):
                yield place, one
            if isinstance(one, Section):
                yield from _sources(one, f"{place}.")


def _missing(config: Config, *prefixes: str) -> Iterator[str]:
    for place, source in _sources(config):
        if place.startswith(prefixes) and (missing := source.missing(place)):
            yield missing
