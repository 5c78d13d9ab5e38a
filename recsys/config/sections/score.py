"""The sections about lists: who gets them, of which items, and how they are made."""

from typing import Annotated, Literal

from pydantic import Field

from recsys.config.sections.types import (
    COHORT_PATTERN,
    FeatureName,
    NonEmpty,
    Options,
    Place,
    PositiveInt,
    Section,
    Seed,
    Source,
    StoredId,
)


class IdList(Source):
    """Ids from a table, or written down in the configuration."""

    ids: Annotated[list[str | int], Field(min_length=1)] | None = None
    """The ids themselves, instead of a table. null: they are in the table."""
    column: NonEmpty = "id"
    """The column of the ids."""

    def missing(self, key: str) -> str | None:
        """Say what is missing to read this; None if nothing is. `key` is its place in the file."""
        if self.ids is None:
            return super().missing(key)
        if self.path is not None or self.table is not None:
            return f"{key}.ids: found together with a path or a table, expected one of them"
        return None


class UserIds(IdList):
    """Users chosen from a table."""

    column: NonEmpty = "user_id"
    """The column of the user ids."""
    where: NonEmpty | None = None
    """An SQL condition on the table's columns."""


class UserList(UserIds):
    """Users who are asked for by their ids, and what they like."""

    liked: NonEmpty | None = None
    """For users whom the model does not know: a column with arrays of item ids that they like."""
    liked_weights: NonEmpty | None = None
    """A column with arrays of the weights of these items. A null array: all weigh the same. An item
    whose weight is not positive is left out of the list, and does not count as liked."""


class ItemList(IdList):
    """Items chosen from a table."""

    column: NonEmpty = "item_id"
    """The column of the item ids."""
    where: NonEmpty | None = None
    """An SQL condition on the table's columns."""


class CandidateList(Source):
    """Pairs of a user and an item: what may be recommended to whom."""

    user: NonEmpty = "user_id"
    """The column of the user ids."""
    item: NonEmpty = "item_id"
    """The column of the item ids."""
    where: NonEmpty | None = None
    """An SQL condition on the table's columns."""


class Cohort(Section):
    """Who gets recommendations."""

    name: Annotated[str, Field(pattern=COHORT_PATTERN)] = "all"
    """The cohort's name, a part of the output's path: a-z, 0-9, _ and -, beginning with a letter.
    Give each cohort a name of its own."""
    users: UserList | None = None
    """A table of the users who are asked for. null: all users of the interactions that the model
    was trained on or, if `items.candidates` is set, all users of that table. Every requested id
    gets a row in the status table."""
    sample: PositiveInt | None = None
    """Only this many users, drawn by the seed. null: all."""
    seed: Seed = 42
    """The seed of the sample."""


class Titles(Section):
    """What items are called, for people."""

    format: Literal["csv", "parquet"] = "csv"
    """`csv` or `parquet`."""
    path: Place | None = None
    """A path on this machine."""
    options: Options = Field(default={})
    """For CSV: `header`, `sep` or `delimiter`, `quote`, `escape` and `encoding`, with Spark's
    meaning. As for all CSV, `escape` is the quote itself unless it is set."""
    column: NonEmpty = "item_id"
    """The column of the item ids."""
    title: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)] = "title"
    """The column of the titles, or a list of columns that are joined with `, `."""
    image: NonEmpty | None = None
    """The column of the addresses of images. null: none."""
    link: NonEmpty | None = None
    """The column of the addresses of the items' pages. null: none."""


class Items(Section):
    """Which items may be recommended."""

    allow: ItemList | None = None
    """Only the items of this table. null: all items of the model."""
    deny: ItemList | None = None
    """Not the items of this table."""
    candidates: CandidateList | None = None
    """For each user only the items of this table of pairs. They are ranked by score, and the best
    `scoring.k` are published. Items that the user has seen are left out unless
    `scoring.exclude_seen` is false."""
    titles: Titles | None = None
    """What items are called. The titles of the model's items are published beside the lists (the
    table `titles`), and what is printed for people has them. It is read without Spark, on the
    driver's machine. Where it cannot be read, a run says so and publishes without it; no list
    depends on it."""


class Scoring(Section):
    """How lists are made."""

    k: PositiveInt = 10
    """The length of a list."""
    exclude_seen: bool = True
    """Leave out the items that the user has interacted with."""
    fold_in: Literal["new", "all", "none"] = "new"
    """Who gets a vector from the items they like. `new`: users whom the model does not know. `all`:
    known users too, so that what they like since the training counts (see `interactions`).
    `none`: nobody but those whom a sample left out (`training.sample_users`)."""
    fallback: Literal["popular", "none"] = "popular"
    """What users get who would have no list: `popular` (the items that most users liked) or
    `none`."""
    interactions: StoredId | None = None
    """The id of interactions that a later run has prepared in the same root
    (`interactions/<id>`). Their items count as seen, and new users are folded in from them. null:
    only the interactions that the model was trained on."""
    users_per_file: PositiveInt = 25_000
    """The largest number of users in an output file and a scoring task. A smaller number makes more
    files and tasks."""


class SimilarFeatures(Section):
    """Which features `recsys similar features` compares."""

    groups: Annotated[list[FeatureName], Field(min_length=1)] | None = None
    """Only features of these groups, of items and of users, get neighbours and are neighbours.
    null: all groups of the model."""


class Similar(Section):
    """What `recsys similar` writes."""

    k: PositiveInt = 10
    """The number of neighbours."""
    items: ItemList | None = None
    """A table of items whose neighbours are wanted. null: all items of the model."""
    users: UserIds | None = None
    """A table of users whose neighbours are wanted. null: all users of the model."""
    features: SimilarFeatures = SimilarFeatures()
