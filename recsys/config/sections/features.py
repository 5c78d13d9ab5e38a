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
    weight: PositiveFloat = 1.0
    """How much each feature of the group counts, beside the others and the identity."""
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
    normalise: bool = True
    """Whether the weights of each item and user are scaled to a sum of 1. Items and users that the
    model has not learned from keep the place of an identity, which they do not have."""
    cold_items: Literal["exclude", "include"] = "exclude"
    """What becomes of items that have features and that the model has not learned from. `exclude`:
    they are in no list, and nobody's neighbours. `include`: they are ranked by their scores, like
    all others."""

    @property
    def configured(self) -> bool:
        """Whether there are any."""
        return bool(self.items or self.users)

    def contradictions(self) -> Iterator[str]:
        """Refuse a name of two groups."""
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
