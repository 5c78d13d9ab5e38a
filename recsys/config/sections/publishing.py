"""The sections about publishing: gates, forms of tables, what is kept, the report."""

from typing import Annotated, Literal

from pydantic import Field

from recsys.config.sections.types import (
    NAME_PATTERN,
    NonNegativeFloat,
    Options,
    PositiveInt,
    Section,
    Share,
)

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Gates(Section):
    """What lists must fulfil before readers see them.

    If a gate fails, what is published stays, and the run exits with status 9. null switches a gate
    off. Some gates have no limit and always apply: every request has a status, no list has a
    repeated item or a gap in its ranks, nothing in a list was seen or filtered, and all scores are
    finite.

    The limits leave room for healthy runs. On MovieTweetings, goodbooks, Online Retail and the
    demo's data, each with and without its last day (goodbooks: a random part), two also with
    another seed and one without its last month, all lists were full; coverage was 0.02 to 0.99; the
    most frequent item was in 0.01 to 0.72 of the lists; overlap was 0.33 to 0.65; and the metric
    was 0.90 to 0.98 times that of the published model and at least 1.12 times that of popularity.
    """

    min_full_lists: Share | None = 0.9
    """The smallest share of users with a valid id who get all `scoring.k` items, or all that are
    left for them. Not applied with `items.candidates`."""
    min_coverage: Share | None = 0.01
    """The smallest coverage: the number of different items in lists made with the model, divided by
    the number of items that may be recommended, or by the rows of these lists where those are
    fewer. Users who have nothing but features do not count: those with the same features have the
    same list. Not applied with `items.candidates`."""
    max_top_item: Share | None = 0.9
    """The largest share of the lists made with the model that contain the same item, likewise. Not
    applied with `items.candidates`, or if fewer than ten times `scoring.k` items may be
    recommended. If `features.cold_items` is a number, this is about the other places and the other
    items; the items in these places count if there are ten times as many of them."""
    max_cold_items: Share | None = 0.5
    """The largest share of the rows of lists made with the model whose items have nothing but
    features. A larger share suggests that their scores cannot be compared with those of other
    items. Not applied with `items.candidates`, or unless `features.cold_items` is `include`."""
    min_overlap: Share | None = 0.05
    """The smallest overlap: the share of a user's items that were in their list published before
    (of this day, or else of the cohort's day before), as a mean over users who have a list made
    with the model in both. A lower overlap suggests that something is mixed up. Places that
    `features.cold_items` reserves do not count. Not applied where `max_top_item` is not."""
    max_overlap: Share | None = 0.999
    """The largest overlap, as in `min_overlap`. A higher overlap suggests that results are frozen.
    Applied only if the model was trained on other numbers of interactions, users or items than the
    one before."""
    min_to_popularity: NonNegativeFloat | None = 1.0
    """The smallest ratio of the validation metric of early stopping to that of popularity on the
    same users. The default is 1.0 because a model that does not beat popularity is not worth
    publishing. Not applied to models without early stopping."""
    min_to_published: NonNegativeFloat | None = 0.8
    """The smallest ratio of the validation metric of early stopping to that of the published model
    in its own training. Applied only if both were measured in the same way: metric, share held out,
    share of the users, deduplication, and filters apart from the date window."""
    min_users: PositiveInt = 100
    """Coverage, the most frequent item, the share of items that have nothing but features, and
    overlap are not judged for fewer users than this."""


class Iceberg(Section):
    """The catalog of Iceberg tables, in pyiceberg's terms."""

    catalog: Name = "recsys"
    """The catalog's name, which is a part of its tables' identity."""
    namespace: Name = "recsys"
    """The tables' namespace."""
    properties: Options = Field(default={})
    """Properties of pyiceberg. They override those of its own configuration (.pyiceberg.yaml, or
    variables such as PYICEBERG_CATALOG__RECSYS__URI, which is the place for a password). Without a
    uri, the catalog is a SQLite database in the root."""


class Publishing(Section):
    """How results become visible, and what is kept."""

    format: Literal["parquet", "iceberg"] = "parquet"
    """`parquet`: directories, and a pointer that names the current one. `iceberg`: tables of a
    catalog."""
    keep_versions: PositiveInt = 3
    """For each cohort and run date, keep this many of the latest versions, and always the current
    one. A version that is kept can be rolled back to."""
    keep_run_dates: PositiveInt | None = None
    """For each cohort, keep this many of the latest run dates. null: all."""
    iceberg: Iceberg = Iceberg()
    views: Name | None = None
    """A database of Spark's catalog for views of what is current. null: no views. The database has
    to exist, in a catalog that outlives the session: set spark.sql.catalogImplementation to hive,
    with a Hive metastore."""


class Report(Section):
    """The page about a run, `runs/<run_id>/report.html`, and what the viewer shows."""

    write: bool = True
    """Whether each run writes it when it ends. `recsys report` makes it in any case."""
    users: Annotated[int, Field(ge=0, le=50)] = 3
    """How many users it shows with their history and their list. 0: nobody, where a report is read
    by people who may not see that."""
