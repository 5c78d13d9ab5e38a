"""Put a model together from what was trained, as the validation part says. On the driver.

1. Several trainings (`training.members`) are put side by side (`side_by_side`).
2. Users of the training get the vectors that serve them best (`known_users`).
3. Factors of a second view come beside that, if they help (`second_view`).

What is chosen is chosen with models that were trained without the validation part, and then applied
to the models that were trained on all pairs. The result is one vector and one bias for each user
and item, as if LightFM had trained them.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config.sections import Training
from recsys.kernel.fold_in import FoldIn
from recsys.kernel.second_view import SecondView
from recsys.learn import fitting, fold_in_map, known_users, second_view
from recsys.learn.budget import Budget
from recsys.learn.early_stopping import Search, Validator
from recsys.learn.embeddings import Embeddings
from recsys.learn.features import IDENTITIES, Sides
from recsys.learn.fitting import Fitted
from recsys.learn.known_users import Known
from recsys.learn.sample_weights import Labelled
from recsys.learn.second_view import Factors, Second
from recsys.learn.side_by_side import join
from recsys.runtime.signals import interruptible

log = logging.getLogger(__name__)

FEWEST = 30  # users of the validation part; fewer would decide by chance
BYTES_ALLOWED = 4 * 2**30  # for callers that know nothing of the machine


@dataclass(frozen=True)
class Part:
    """Models that were trained without the validation part.

    Attributes:
        models: one of each member.
        likes: `(n_users, n_items)` CSR of ones, the positive pairs that they were trained with.
        validator: judges by the pairs that were held out.
        growth: how many times as many pairs there are in all.
    """

    models: Sequence[Embeddings]
    likes: sp.csr_matrix
    validator: Validator
    growth: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How a model is put together.

    Attributes:
        known: how users of the training are represented.
        second: None without a second view.
        report: what was compared, in plain JSON values.
        seconds: how long it takes to apply it, about.
    """

    known: Known = field(default_factory=Known)
    second: Second | None = None
    report: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Assembled:
    """A model that was put together.

    Attributes:
        embeddings: of users and items.
        first: those that LightFM has trained.
        bias_scale: what the trained biases of the items were multiplied by.
        second: makes the second part of other users; None without a second view.
        report: how it was put together, in plain JSON values.
        recipe: how it was put together.
        budget: the time that it had.
    """

    embeddings: Embeddings
    first: Embeddings
    bias_scale: float = 1.0
    second: SecondView | None = None
    report: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    budget: Budget = field(default_factory=Budget)

    def as_record(self) -> dict[str, Any]:
        """Say how it was put together, and in what time until now, in plain JSON values."""
        return {**self.report, "budget": self.budget.report()}

    @property
    def as_trained(self) -> bool:
        """Whether the embeddings are those that LightFM has trained."""
        return self.embeddings is self.first


def fit(
    labels: sp.coo_matrix,
    settings: Training,
    *,
    threads: int,
    ratings: NDArray[np.float32] | None = None,
    ages: NDArray[np.float32] | None = None,
    features: Sides = IDENTITIES,
    bytes_allowed: int = BYTES_ALLOWED,
    budget: Budget | None = None,
) -> tuple[Fitted, Assembled]:
    """Do all trainings, and put the model together.

    Args:
        labels: `(n_users, n_items)` COO, float32, 1 or -1, sorted by user and item.
        settings: hyperparameters, members, and what may be chosen.
        threads: CPU threads for the epochs.
        ratings: `(n_pairs,)` for `sample_weights.rating`.
        ages: `(n_pairs,)` days, for `sample_weights.half_life_days`.
        features: of the users and items.
        bytes_allowed: memory that the inverse of a second view may take.
        budget: the time for all of it; None: `settings.max_minutes` from now.

    Returns:
        The first training, and the model.

    Raises:
        TrainingError: as `fitting.fit`.
    """
    pairs, each = Labelled(labels, ratings, ages), settings.each()
    budget = Budget.of(settings.max_minutes) if budget is None else budget
    found: list[Search | None] = []
    for one in each:
        found.append(
            fitting.find(
                pairs,
                one,
                threads,
                features,
                settings.seed,
                budget,
                kept_back=budget.reserve + _seconds(found, each),
                shared_by=len(each) - len(found),
            )
        )
    recipe = Recipe()
    searches = [one for one in found if one is not None]
    if searches:
        models = [one.model() for one in searches]
        first = searches[0]
        part = Part(models, likes_of(first.labels), first.validator, first.growth)
        recipe = interruptible(
            partial(choose, part, settings, bytes_allowed, budget, _seconds(found, each))
        )
    trainings: list[Fitted] = []
    for one, search in zip(each, found, strict=True):
        n = len(trainings) + 1
        # What follows the trainings, with the map for new users.
        later = max(recipe.seconds, budget.reserve / 3) + _seconds(found[n:], each[n:])
        shared_by = len(each) - n + 1
        trainings.append(
            fitting.finish(pairs, one, search, threads, features, budget, later, shared_by)
        )
    models = [one.embeddings for one in trainings]
    likes = likes_of(labels)
    made = interruptible(partial(assemble, models, likes, recipe, settings.seed))
    if budget.given_up:
        log.warning("training.max_minutes: given up: %s", "; ".join(budget.given_up))
    return trainings[0], replace(made, budget=budget)


def _seconds(found: Sequence[Search | None], each: Sequence[Training]) -> float:
    """Return how long the second trainings will take."""
    return sum(map(fitting.seconds_to_finish, found, each))


def choose(
    part: Part,
    settings: Training,
    bytes_allowed: int,
    budget: Budget | None = None,
    kept_back: float = 0.0,
) -> Recipe:
    """Choose on the validation part.

    Args:
        part: what was trained without it.
        settings: which choices there are.
        bytes_allowed: memory that the inverse of a second view may take.
        budget: the time that is left; None: as much as it takes.
        kept_back: seconds that have to be left after it.
    """
    budget, started = budget or Budget(), time.monotonic()
    if settings.gives_probabilities:
        return Recipe()
    few = len(part.validator.users) < FEWEST
    report: dict[str, Any] = {}
    if few:
        report["reason"] = f"fewer than {FEWEST} users have held-out pairs to choose by"
        log.info("users' vectors and a second view: %s", report["reason"])
    model = join(part.models, part.likes, seed=settings.seed)
    known = Known()
    if settings.user_vectors != "trained" and not few:
        mixing = settings.user_vectors == "auto"
        known, report["user_vectors"] = known_users.choose(
            model, part.likes, part.validator, mixing=mixing
        )
    # The map is fitted again, on all pairs.
    seconds = part.growth * (time.monotonic() - started)
    second = None
    if settings.second_view != "none" and not few:
        served = known_users.represent(model, part.likes, known)
        trial = second_view.Trial(
            served,
            part.likes,
            part.validator,
            settings,
            bytes_allowed,
            budget,
            kept_back + seconds,
            part.growth,
        )
        second, report["second_view"] = trial.run()
        seconds += trial.seconds(second)
    return Recipe(known, second, report, seconds)


def assemble(
    models: Sequence[Embeddings], likes: sp.csr_matrix, recipe: Recipe, seed: int
) -> Assembled:
    """Put a model together.

    Args:
        models: one of each member.
        likes: `(n_users, n_items)` CSR of ones, the positive pairs that they were trained with.
        recipe: how.
        seed: of the training.
    """
    first = join(models, likes, seed=seed)
    made = known_users.represent(first, likes, recipe.known)
    view, second = None, recipe.second
    if second is not None:
        factors = _factors(likes, second, seed)
        second = None if factors is None else replace(second, rank=factors.items.shape[1])
        if second is not None and factors is not None:
            made, view = second_view.beside(made, factors, second.share, likes, seed)
    report = {
        "lightfm_components": int(first.item_embeddings.shape[1]),
        "known_users": recipe.known.as_record(),
        "second_view": None if second is None else second.as_record(),
        "compared": recipe.report,
    }
    return Assembled(made, first, recipe.known.bias_scale, view, report, recipe)


def _factors(likes: sp.csr_matrix, second: Second, seed: int) -> Factors | None:
    """Learn the factors of a second view; None, with a warning, where that cannot be done."""
    try:
        return second_view.learn(likes, second, seed)
    except np.linalg.LinAlgError as error:
        log.warning("the second view cannot be learned from all pairs, and is left out: %s", error)
        return None


def fold_in_of(made: Assembled, likes: sp.csr_matrix, seed: int) -> tuple[FoldIn, dict[str, Any]]:
    """Choose and fit the map for users who are not in the training.

    Args:
        made: the model.
        likes: as in `assemble`.
        seed: decides who is held out.

    Returns:
        The map, and its report; see `fold_in_map.fit`.
    """
    first = made.first
    fitted, report = interruptible(
        partial(
            fold_in_map.fit,
            first.user_embeddings,
            first.item_embeddings,
            first.item_biases,
            *known_users.histories(likes),
            seed=seed,
        )
    )
    # The published biases are scaled for the users of the training already.
    scale = fitted.bias_scale / made.bias_scale
    return replace(fitted, bias_scale=scale, second=made.second), report


def likes_of(labels: sp.coo_matrix) -> sp.csr_matrix:
    """Return the positive pairs as `(n_users, n_items)` CSR of ones."""
    positive = labels.data > 0
    ones = np.ones(int(positive.sum()), np.float32)
    cells = labels.row[positive], labels.col[positive]
    made = sp.csr_matrix((ones, cells), shape=labels.shape)
    made.sort_indices()
    return made
