"""How a model was put together, as its manifest says."""

from typing import Any, cast

from recsys.learn.assembly import Recipe
from recsys.learn.ease import Way
from recsys.learn.fold_in_candidates import Candidate
from recsys.learn.known_users import Known
from recsys.learn.second_view import Kind, Second
from recsys.store.manifest import Part


class MapRecord(Part):
    """A map from a user's items to a vector."""

    kind: str
    """`mean`, `ridge` or `whitening`."""
    regularisation: float
    """Strength of the regularisation."""
    intercept: bool
    """Whether the map has an intercept."""
    bias_scale: float
    """What the items' biases are multiplied by."""
    shrinkage: float
    """How much short histories are shrunk."""

    def candidate(self) -> Candidate:
        """Return the map as it is chosen."""
        return Candidate(
            self.kind, self.regularisation, self.intercept, self.bias_scale, self.shrinkage
        )


class KnownUsersReport(Part):
    """How users of the training are represented."""

    share_of_trained: float
    """How much the trained vector counts, from 0 to 1; the rest is the folded-in one."""
    map: MapRecord | None
    """The map that makes the folded-in vector; null where the trained vector alone counts."""
    bias_scale: float
    """What the trained biases of the items were multiplied by."""


class SecondViewReport(Part):
    """The second view beside LightFM's."""

    kind: str
    """`ease` or `als`."""
    rank: int
    """The number of factors."""
    share: float
    """How much LightFM counts, from 0 to 1, when the scores of both have the same spread."""
    ridge: float | None = None
    """Of EASE: the penalty."""
    way: str | None = None
    """Of EASE: how the inverse was found: `items`, `users` or `truncated`."""
    user_exponent: float | None = None
    """Of EASE: a pair of a user with n pairs counts n to the power of minus this."""
    confidence: float | None = None
    """Of ALS: by how much more a pair counts than none."""
    penalty: float | None = None
    """Of ALS: the penalty."""
    sweeps: int | None = None
    """Of ALS: how often users and items were solved."""

    def second(self) -> Second:
        """Return the second view as it is chosen."""
        return Second(
            cast(Kind, self.kind),
            self.rank,
            self.share,
            self.ridge or 0.0,
            cast(Way, self.way or "items"),
            self.user_exponent or 0.0,
        )


class BudgetReport(Part):
    """The time that a training had."""

    seconds: float
    """All of it."""
    used: float
    """What was used."""
    given_up: list[str]
    """What was left out or cut short, in words."""


class AssemblyReport(Part):
    """How a model was put together from what was trained."""

    lightfm_components: int
    """The first components, which LightFM has trained; of several trainings all together."""
    known_users: KnownUsersReport
    """What their vectors are."""
    second_view: SecondViewReport | None
    """What makes the components after those; null without a second view."""
    budget: BudgetReport | None = None
    """The time that the training had, and what was given up for it; null without a limit."""
    compared: dict[str, Any]
    """What was compared on the held-out pairs; empty where nothing was."""

    def recipe(self) -> Recipe:
        """Return how the model was put together."""
        known = self.known_users
        found = None if known.map is None else known.map.candidate()
        return Recipe(
            Known(known.share_of_trained, found),
            None if self.second_view is None else self.second_view.second(),
        )
