"""What a model's manifest says of the features of its users and items."""

from typing import Literal

from pydantic import Field

from recsys.store.manifest import Part


class DescribedCounts(Part):
    """What features did for users, or for items."""

    way: Literal["trained", "mapped"]
    """How the embeddings of features were found: LightFM learned with them, or a map was fitted to
    the embeddings of those that were trained."""
    inside: list[str]
    """The groups that LightFM learned with."""
    features: int
    """Features that have an embedding."""
    untrained_features: int
    """Features that nobody in the training has; they were left out."""
    identity: bool
    """Whether an identity has a part in the sums. The map does without: `false` for `mapped`, also
    where LightFM learned an identity of everybody."""
    identities: int
    """How many have one; without `identity` those that have no feature; 0 for `mapped`."""
    cold: int
    """How many are in the model although it has not learned from them."""
    undescribed: int
    """How many others were left out, since they have none of the features."""
    weights: dict[str, float]
    """How much the features of each group count."""
    edges: dict[str, list[float]]
    """For groups of numbers: where one range ends and the next begins."""
    normalised: bool
    """Whether the weights of each are scaled to a sum of 1."""
    explained: float | None
    """For `mapped`: the share of the variance of the embeddings and biases that the map predicts,
    for those that it was not fitted to."""


class Compared(Part):
    """Two means of nDCG over the same users."""

    users: int
    """Users whose lists were judged."""
    ndcg: float
    """With the features."""
    other: float
    """Without them."""
    difference: float
    """The mean difference."""
    low: float
    """The lower end of its 95 % interval, from a paired bootstrap over users."""
    high: float
    """The upper end."""
    clear: bool
    """Whether the difference is above 0 by more than chance, with regard to the number of all
    comparisons; with fewer than 30 users never."""


class ComparedParts(Part):
    """What a training with features was compared by."""

    warm: Compared
    """Users of the training, by pairs that were held out."""
    short: Compared
    """The quarter of them with the shortest histories, and all with as short ones."""
    cold_items: Compared | None
    """Items that were held out, ranked among themselves for those who like them; null without
    features of items."""
    cold_users: Compared | None
    """Users who were held out; null without features of users."""


class FeatureGroups(Part):
    """Groups of features."""

    users: list[str]
    """Of users."""
    items: list[str]
    """Of items."""


class FeatureTraining(Part):
    """A training with some groups of features."""

    groups: FeatureGroups
    """The groups that LightFM learned with."""
    kept_epoch: int | None = None
    """The best epoch; null where the training failed."""
    ndcg: float | None = None
    """nDCG of the users of the training; null likewise."""
    ndcg_of_cold_items: dict[str, float] = Field(default={})
    """nDCG of held-out items among themselves, by the way in which they were represented."""
    ndcg_of_cold_users: dict[str, float] = Field(default={})
    """nDCG of held-out users, likewise, and with popular items."""
    compared: ComparedParts | None = None
    """The differences to the training without features; null for that one."""
    failed: str | None = None
    """Why the training failed, such as that the model diverged; null where it did not."""


class FeatureTrials(Part):
    """How it was measured which features LightFM learns with."""

    reason: str
    """What was decided."""
    margin: float
    """`features.margin`."""
    chosen: FeatureGroups | None = None
    """The groups that LightFM learns with; null where nothing could be measured."""
    held_out_users: int = 0
    """Users who were held out with all that they like."""
    held_out_items: int = 0
    """Items that were held out with all who like them."""
    trials: list[FeatureTraining]
    """The trainings."""


class FeaturesReport(Part):
    """The features of a model."""

    features_id: str
    """The prepared features."""
    items: DescribedCounts | None
    """Of items; null without features."""
    users: DescribedCounts | None
    """Of users; null without features, or where popular items were better."""
    trials: FeatureTrials | None
    """How it was measured which features LightFM learns with; null where it was not."""
