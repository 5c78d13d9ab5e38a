"""A model with what its features say of those without interactions. On the driver."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys.config.sections import Training
from recsys.learn import cold
from recsys.learn.assembly import Assembled, Recipe, assemble, likes_of
from recsys.learn.cold import MAPPED, TRAINED, LearnedFeatures, Way
from recsys.learn.features import IDENTITIES, Abouts, Sides
from recsys.learn.fitting import Fitted, go_on
from recsys.learn.sample_weights import Labelled
from recsys.learn.state import State
from recsys.runtime.signals import interruptible

log = logging.getLogger(__name__)

Groups = Mapping[str, list[str]]

KINDS = ("users", "items")
NO_GROUPS: Groups = {"users": [], "items": []}


@dataclass(frozen=True)
class DescribedFit:
    """A model, and the features of its users and items.

    Attributes:
        fitted: the training; of several, the first.
        made: the model.
        users, items: None where there are no features, or none that says anything; of users also
            where popular items were better for users without interactions.
        groups: those that LightFM has learned with, of `users` and of `items`.
        trial: what was compared, in plain JSON values; None where nothing was.
    """

    fitted: Fitted
    made: Assembled
    users: LearnedFeatures | None
    items: LearnedFeatures | None
    groups: Groups
    trial: dict[str, Any] | None


@dataclass(frozen=True)
class Choice:
    """What to train.

    Attributes:
        groups: to learn with.
        ways: how those without interactions are represented; a kind that is missing is not.
        trial: what was compared, in plain JSON values.
    """

    groups: Groups
    ways: Mapping[str, Way]
    trial: dict[str, Any] | None = None


ALL_MAPPED: Mapping[str, Way] = {"users": MAPPED, "items": MAPPED}
ALL_TRAINED: Mapping[str, Way] = {"users": TRAINED, "items": TRAINED}


def described(
    chosen: Choice,
    sides: Sides,
    labels: sp.coo_matrix,
    fitted: Fitted,
    made: Assembled,
    abouts: Abouts,
    seed: int,
) -> DescribedFit:
    """Add to a model what its features say.

    Args:
        chosen: what it has learned with, and how others are represented.
        sides: the same as matrices.
        labels: `(n_users, n_items)` COO: what it has learned from.
        fitted: the training; of several, the first.
        made: the model.
        abouts: what is known of the users and items.
        seed: of the folds by which a map is chosen.
    """
    if made.embeddings is not fitted.embeddings:
        # The embeddings of features add up to what LightFM has trained, and to nothing else.
        chosen = replace(chosen, ways=dict.fromkeys(chosen.ways, MAPPED))
    found = {
        kind: interruptible(
            partial(_learned, kind, chosen, sides, labels, fitted, made, abouts, seed)
        )
        for kind in KINDS
    }
    return DescribedFit(fitted, made, found["users"], found["items"], chosen.groups, chosen.trial)


def go_on_described(
    pairs: Labelled,
    settings: Training,
    start: State,
    abouts: Abouts,
    kinds: frozenset[str],
    recipe: Recipe,
    *,
    threads: int,
) -> DescribedFit:
    """Let a training go on that has not learned with features, and fit the map of features anew.

    Args:
        pairs: all that there are.
        settings: hyperparameters.
        start: as `fitting.go_on` takes it.
        abouts: what is known of the users and items.
        kinds: `users` and `items`: whose features were used.
        recipe: how the model is put together.
        threads: CPU threads for the epochs.

    Raises:
        TrainingError: as `fitting.go_on`.
    """
    fitted = go_on(pairs, settings, start, threads)
    chosen = Choice(NO_GROUPS, dict.fromkeys(kinds, MAPPED))
    likes, seed = likes_of(pairs.labels), settings.seed
    made = interruptible(partial(assemble, [fitted.embeddings], likes, recipe, seed))
    return described(chosen, IDENTITIES, pairs.labels, fitted, made, abouts, seed)


def _learned(
    kind: str,
    chosen: Choice,
    sides: Sides,
    labels: sp.coo_matrix,
    fitted: Fitted,
    made: Assembled,
    abouts: Abouts,
    seed: int,
) -> LearnedFeatures | None:
    about, way = getattr(abouts, kind), chosen.ways.get(kind)
    if about is None or way is None:
        return None
    one, side = kind.removesuffix("s"), getattr(sides, kind)
    source = fitted.learned if way == TRAINED else made.embeddings
    vectors = getattr(source, f"{one}_embeddings"), getattr(source, f"{one}_biases")
    if way == TRAINED:
        return cold.trained(about, side, *vectors)
    column = labels.row if kind == "users" else labels.col
    counts = np.bincount(column[labels.data > 0], minlength=len(about.ids))
    found = cold.mapped(about, *vectors, counts, seed)
    if found is None:
        log.warning(
            "features.%s: none of those who have features is in a positive pair of the training, "
            "so features say nothing",
            kind,
        )
    return found
