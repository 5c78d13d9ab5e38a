"""Whether a run can begin with a model that is there: what has to be the same, and what was found.

A refresh takes what LightFM knows of items, and a warm start all that it learned. Neither makes
sense where pairs mean something else by now. All of this is known from the manifest, so that it is
refused before anything is read.
"""

from collections.abc import Iterator
from typing import Any

from recsys.columns import IdTypes
from recsys.config.configuration import Config
from recsys.errors import ConfigError
from recsys.ingest.features import KINDS, sources_of
from recsys.model.manifest import ModelManifest, PairRules

# The keys of the rules by which rows become pairs.
_RULES = {
    "deduplication": "deduplication.policy",
    "rating_threshold": "filters.rating_threshold",
    "weighed_by_rating": "training.sample_weights.rating (whether it is none)",
    "min_user_interactions": "filters.min_user_interactions",
    "min_item_interactions": "filters.min_item_interactions",
}
# What LightFM keeps has another shape, or another meaning, where one of these differs.
_SAME = ("loss", "no_components", "learning_schedule")
# How a model is put together is taken from the model that a training goes on from.
_TAKEN = ("members", "user_vectors", "second_view", "second_view_rank")
_SAME_BY_CHOICE: dict[tuple[str, str], tuple[str, ...]] = {
    ("loss", "warp-kos"): ("k", "n"),
    ("learning_schedule", "adadelta"): ("rho", "epsilon"),
}


def pair_rules(config: Config) -> PairRules:
    """Return by which rules a configuration makes pairs of rows."""
    return PairRules(
        deduplication=config.deduplication.policy,
        rating_threshold=config.filters.rating_threshold,
        weighed_by_rating=config.training.sample_weights.by_rating,
        min_user_interactions=config.filters.min_user_interactions,
        min_item_interactions=config.filters.min_item_interactions,
    )


def for_refresh(config: Config, base: ModelManifest, types: IdTypes | None) -> Iterator[str]:
    """Say why a model cannot be refreshed with a configuration; nothing where it can.

    Args:
        config: the run's.
        base: the model.
        types: of the ids of the input; None where not known yet.
    """
    loss = config.training.loss
    if loss != base.training.loss:
        yield _other("training.loss", loss, base.training.loss, base)
    now = pair_rules(config)
    for name, key in _RULES.items():
        mine, other = getattr(now, name), getattr(base.pair_rules, name)
        if mine != other:
            yield _other(key, mine, other, base)
    if types is not None and types != base.id_types:
        yield _other("the types of the ids", types, base.id_types, base)
    yield from _features(config, base)


def for_warm_start(config: Config, base: ModelManifest, types: IdTypes | None) -> Iterator[str]:
    """Say why a training cannot go on from a model; nothing where it can.

    Args:
        config: the run's.
        base: the model.
        types: of the ids of the input; None where not known yet.
    """
    if base.refresh_of is not None:
        yield (
            f"--from: model {base.model_id} is a refresh of {base.refresh_of}, which has not been "
            f"trained; expected a model that was, such as --from {base.refresh_of}"
        )
        return
    if base.tables.training_state is None:
        yield (
            f"--from: model {base.model_id} has not kept what LightFM needs to go on; train once "
            "more from nothing, with training.resumable true, and without training.max_minutes if "
            "that has ended the training"
        )
    yield from for_refresh(config, base, types)
    yield from _sample(config.training.sample_users, base)
    now, then = config.public()["training"], base.configuration.get("training", {})
    chosen = [keys for (key, value), keys in _SAME_BY_CHOICE.items() if now[key] == value]
    for key in (*_SAME[1:], *(key for keys in chosen for key in keys)):
        if now[key] != then.get(key):
            yield _other(f"training.{key}", now[key], then.get(key), base)
    yield from _learned_features(config, base)


def not_used(config: Config, base: ModelManifest) -> Iterator[str]:
    """Say which settings a training that goes on from a model does not use."""
    now, then = config.public()["training"], base.configuration.get("training", {})
    for key in _TAKEN:
        if now[key] != then.get(key):
            yield (
                f"training.{key}: {_shown(now[key])} is not used; the model is put together as "
                f"{base.model_id} is, with {_shown(then.get(key))}; train from nothing to change it"
            )
    if now["max_minutes"] is not None:
        yield (
            "training.max_minutes is not used by a training that goes on; training.epochs_from "
            "says for how many epochs it does"
        )


def check_types(base: ModelManifest | None, types: IdTypes) -> None:
    """Refuse ids that are not of a model's types, where they were not known before.

    Raises:
        ConfigError: they are of others.
    """
    if base is not None and types != base.id_types:
        raise ConfigError(_other("the types of the ids", types, base.id_types, base))


def _sample(wanted: str | float, base: ModelManifest) -> Iterator[str]:
    """Want the share of the users that the model was trained on, or `auto`, which takes it."""
    share = 1.0 if base.sample is None else base.sample.share
    if wanted not in ("auto", share) and not (wanted == "refuse" and share == 1):
        yield _other("training.sample_users", wanted, f"{share:g} of the users", base)


def _features(config: Config, base: ModelManifest) -> Iterator[str]:
    """Want the groups of features that the model has, so that their values mean the same."""
    for kind in KINDS:
        about = base.described(kind)
        if about is None:
            continue
        groups = {name for one in sources_of(config, kind).values() for name in one.groups}
        if groups != set(about.weights):
            found = ", ".join(sorted(groups)) or "none"
            expected = ", ".join(sorted(about.weights))
            yield _other(f"features.{kind}: the groups", found, expected, base)


def _learned_features(config: Config, base: ModelManifest) -> Iterator[str]:
    """Refuse other features than those that LightFM has learned with."""
    inside = [f"{k}.{g}" for k in KINDS for g in getattr(base.described(k), "inside", [])]
    if inside:
        yield (
            f"--from: model {base.model_id} has learned with features ({', '.join(inside)}), and "
            "a training cannot go on from one that has; train from nothing, or set features.keep "
            "to none for both"
        )
    elif config.features.configured and config.features.keep == "all":
        yield (
            f"features.keep: found all, but model {base.model_id} has learned without features; "
            "set it to measured or none, or train from nothing"
        )


def _other(key: str, found: Any, expected: Any, base: ModelManifest) -> str:
    return (
        f"{key}: found {_shown(found)}, but model {base.model_id} has {_shown(expected)}; set it "
        "back, or train from nothing"
    )


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
