"""Which hyperparameters are tuned, and within which ranges. On the driver."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.config.sections import Training, Tuning, TuningRanges
from recsys.learn.sample_weights import Labelled

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler

# Those of the ranges that are below `training.sample_weights`.
OF_WEIGHTS = ("user_exponent", "rating")
_EVENLY = ("ema_decay", "user_exponent")  # the others are drawn on a logarithmic scale
_OF_WARP = ("warp", "warp-kos")
_BY_CHANCE = 8  # how many trials TPE draws before it looks at what they have found
_DIGITS = 3  # of what is tried, so that the configuration has numbers that can be read


def tuned_names(settings: Training, ranges: TuningRanges) -> list[str]:
    """Return what is tuned: the ranges that are set and have an effect with these settings."""
    without_effect: set[str] = set()
    if settings.loss not in _OF_WARP:
        without_effect.add("max_sampled")
    if settings.loss == "warp-kos":
        without_effect.update(OF_WEIGHTS)
    if settings.learning_schedule != "adagrad":
        without_effect.add("learning_rate")
    return [
        name
        for name in TuningRanges.model_fields
        if getattr(ranges, name) is not None and name not in without_effect
    ]


def nothing_to_tune(settings: Training) -> str:
    """Say that no range has an effect."""
    return (
        "tuning.ranges: found no hyperparameter that has an effect with training.loss "
        f"{settings.loss} and this input, expected at least one"
    )


def fixed(settings: Training, tuning: Tuning) -> dict[str, Any]:
    """Return what all trials have in common apart from their input, in plain JSON values."""
    return {
        "training": settings.model_dump(mode="json", exclude={"threads"}),
        "tuning": tuning.model_dump(mode="json", include={"ranges", "seed"}),
    }


def key_of(name: str) -> str:
    """Return the key of the configuration that a range is about."""
    return f"training.sample_weights.{name}" if name in OF_WEIGHTS else f"training.{name}"


def values_of(settings: Training) -> dict[str, Any]:
    """Return the values that may be tuned, by the names of the ranges."""
    return {
        name: getattr(settings.sample_weights if name in OF_WEIGHTS else settings, name)
        for name in TuningRanges.model_fields
    }


def applied(settings: Training, values: Mapping[str, Any]) -> Training:
    """Return settings with other values, by the names of the ranges."""
    plain = settings.model_dump(exclude_unset=True)  # so that a file of it has no other keys
    weights = plain.get("sample_weights", {})
    for name, value in values.items():
        (weights if name in OF_WEIGHTS else plain)[name] = value
    if values.get("rating", "capped") != "capped":
        weights.pop("cap", None)
    if weights:
        plain["sample_weights"] = weights
    return Training.model_validate(plain)


def inside(settings: Training, ranges: TuningRanges, names: Sequence[str]) -> dict[str, Any]:
    """Return the configured values that are within their ranges."""
    found = {}
    for name, value in values_of(settings).items():
        wanted = getattr(ranges, name)
        if name in names and (
            value in wanted if name == "rating" else wanted[0] <= value <= wanted[1]
        ):
            found[name] = value
    return found


def rating_weighs(pairs: Labelled) -> bool:
    """Whether sample weights by rating can differ, and are above 0 whatever the policy."""
    if pairs.ratings is None:
        return False
    liked = pairs.ratings[pairs.labels.data > 0]
    return len(liked) > 0 and bool(0 < liked.min() < liked.max())


def suggested(trial: "Trial", ranges: TuningRanges, name: str) -> Any:
    """Return the value that a trial is to train with."""
    wanted = getattr(ranges, name)
    if name == "rating":
        return trial.suggest_categorical(name, wanted)
    low, high = wanted
    if isinstance(low, int):
        drawn: float = trial.suggest_int(name, low, high, log=True)
    else:
        drawn = trial.suggest_float(name, low, high, log=name not in _EVENLY)
    rounded = min(max(float(f"{drawn:.{_DIGITS}g}"), low), high)
    return int(rounded) if isinstance(low, int) else rounded


def sampler(seed: int, ended: int) -> "BaseSampler":
    """Return what draws the next trial.

    Args:
        seed: the configured one.
        ended: how many trials have ended, so that the same one draws the same in any process.
    """
    from optuna.samplers import TPESampler

    (own,) = np.random.SeedSequence([seed, ended]).generate_state(1)
    return TPESampler(seed=int(own), n_startup_trials=_BY_CHANCE, constant_liar=False)
