"""The section about features: what describes users and items, and what that is used for."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from recsys.config.sections.types import (
    FeatureName,
    Finite,
    NonEmpty,
    PositiveFloat,
    PositiveInt,
    QueriedSource,
    Section,
)


class FeatureGroup(Section):
    """A group of features: the values of one column."""

    column: NonEmpty | None = None
    """The column. null: it is called as the group is."""
    kind: Literal["category", "categories", "number", "weighted"] = "category"
    """`category`: one value. `categories`: several values, in an array, or in text with a
    separator. `number`: a number, of which each range is a feature. `weighted`: names with weights,
    in a map or in an array of structs of a name and a number."""
    separator: NonEmpty | None = None
    """For `categories` in text: what separates them, such as `;`."""
    missing: bool = False
    """Whether the lack of a value is a feature of its own."""
    ranges: Annotated[int, Field(ge=2, le=1000)] = 10
    """For `number`: how many ranges there are, each with about as many ids. The edges are recorded
    with the features."""
    edges: Annotated[list[Finite], Field(min_length=1, max_length=1000)] | None = None
    """For `number`: where one range ends and the next begins, ascending, instead of `ranges`."""
    weight: PositiveFloat = 0.03
    """How much each feature of the group counts beside an identity, which counts 1. Large weights
    make lists worse: what items have in common is then learned instead of what sets them apart."""
    min_count: PositiveInt = 2
    """Values that fewer ids have are left out."""

    def contradictions(self) -> Iterator[str]:
        """Want keys only with the kind that they are for, and edges in order."""
        if self.separator is not None and self.kind != "categories":
            yield f"separator: it is for the kind categories, found {self.kind}; remove it"
        if self.edges is not None:
            if self.kind != "number":
                yield f"edges: they are for the kind number, found {self.kind}; remove them"
            if self.edges != sorted(set(self.edges)):
                yield "edges: expected numbers in ascending order, each once"


class FeatureSource(QueriedSource):
    """A table of features."""

    id: NonEmpty = "id"
    """The column of the ids, of users or of items."""
    where: NonEmpty | None = None
    """An SQL condition on the source's columns: only these rows are read."""
    groups: dict[FeatureName, FeatureGroup] = Field(default={})
    """The groups of features by their names. A feature is called `group=value`. Before values are
    compared, blanks around them are removed, those inside become one each, letters become small,
    and a number such as 1990.0 becomes 1990."""

    def missing(self, key: str) -> str | None:
        """Say what is missing to read this; None if nothing is. `key` is its place in the file."""
        if not self.groups:
            return f"{key}.groups: expected a group of features in this table, found none; name one"
        return super().missing(key)


class Features(Section):
    """What describes items and users: attributes whose embeddings are learned.

    An item's embedding is the weighted sum of the embeddings of its features and its own, and its
    bias likewise; the same for users. So items and users without interactions have embeddings, too.
    """

    items: dict[FeatureName, FeatureSource] = Field(default={})
    """Tables about items, by names of your choice."""
    users: dict[FeatureName, FeatureSource] = Field(default={})
    """Tables about users, by names of your choice."""
    item_identity: bool = True
    """Whether each item also has an embedding of its own, beside those of its features. Without it
    only items that have no feature do."""
    user_identity: bool = True
    """Whether each user also has an embedding of their own, likewise."""
    keep: Literal["measured", "all", "none"] = "measured"
    """Which groups LightFM learns with. `measured`: those that help and do no harm, found by
    trainings with and without them, which takes up to as many trainings more as there are groups,
    and three. `all`: all. `none`: none. Groups that are not learned with still describe new items
    and users: a map is fitted to the embeddings of the others."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """For `measured`: which share of nDCG users with interactions may lose."""
    normalise: bool = False
    """Whether the weights of each item and user are scaled to a sum of 1 where LightFM learns with
    them. Items and users that the model has not learned from keep the place of an identity, which
    they do not have."""
    cold_items: Literal["exclude", "include"] | PositiveInt = "exclude"
    """What becomes of items that have features and that the model has not learned from. `exclude`:
    they are in no list, and nobody's neighbours. `include`: they are ranked by their scores, like
    all others. A number: as many places at the end of each list are for the best of them, and the
    places before are those that the others have without them; if there are too few of one kind, the
    other fills its places. It has to be smaller than `scoring.k`. Lists of popular items have none
    of them."""

    @property
    def configured(self) -> bool:
        """Whether there are any."""
        return bool(self.items or self.users)

    @property
    def lists_cold(self) -> bool:
        """Whether items that have nothing but features may be in lists."""
        return self.cold_items != "exclude"

    @property
    def cold_places(self) -> int:
        """How many places at the end of each list are for them; 0: none in particular."""
        return 0 if isinstance(self.cold_items, str) else self.cold_items

    def contradictions(self) -> Iterator[str]:
        """Refuse a name of two groups, and no identities where features may be left out."""
        for key in ("item_identity", "user_identity"):
            if not getattr(self, key) and self.keep != "all":
                yield f"{key}: found false with keep {self.keep}, expected keep all"
        for kind, sources in (("items", self.items), ("users", self.users)):
            seen: dict[str, str] = {}
            for name, source in sources.items():
                for group in source.groups:
                    if group in seen:
                        yield (
                            f"{kind}.{name}.groups.{group}: found also in {kind}.{seen[group]}, "
                            "expected another name in each table; rename it, and set its column"
                        )
                    seen[group] = name
