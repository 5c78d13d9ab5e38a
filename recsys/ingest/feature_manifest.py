"""The manifest of prepared features: `features/<id>/manifest.json`."""

from recsys.columns import IdTypes
from recsys.ingest.manifest import InputState
from recsys.store.manifest import Part, SealedManifest, WrittenTable


class FeatureSourceReport(Part):
    """What became of the rows of one table of features."""

    input: InputState
    """What was read."""
    rows_read: int
    """Rows of the table."""
    rows_accepted: int
    """Rows whose id can be used."""
    rows_rejected: int
    """Rows that are none, or whose id cannot be used; they are in the table of rejects."""
    rejected_by_reason: dict[str, int]
    """The same by reason, the most frequent first."""
    values_rejected: dict[str, dict[str, int]]
    """For each group, values that cannot be used by reason; the rest of their rows is used."""


class FeatureGroupReport(Part):
    """One group of features."""

    source: str
    """The table that it is from."""
    ids: int
    """Users or items with a feature of the group."""
    features: int
    """Features: different values, or ranges."""
    rare_values: int
    """Other values, which fewer than `min_count` ids have; they are left out."""
    edges: list[float] | None
    """For numbers: where one range ends and the next begins."""


class DescribedReport(Part):
    """What describes all users, or all items."""

    sources: dict[str, FeatureSourceReport]
    """The tables by their names."""
    groups: dict[str, FeatureGroupReport]
    """The groups by their names."""
    ids: int
    """Users or items with a feature."""
    repeated_rows: int
    """Accepted rows beyond the first of an id; an id has the features of all its rows."""


class FeaturesTables(Part):
    """The tables of prepared features."""

    items: WrittenTable | None = None
    """One row a feature of an item; null without tables about items."""
    item_values: WrittenTable | None = None
    """One row a feature; null likewise."""
    users: WrittenTable | None = None
    """One row a feature of a user; null without tables about users."""
    user_values: WrittenTable | None = None
    """One row a feature; null likewise."""
    rejects: WrittenTable
    """One row a rejected row or value."""


class FeaturesManifest(SealedManifest):
    """What is said of prepared features."""

    features_id: str
    """Their id, which is the name of their directory."""
    run_id: str
    """The run that prepared them."""
    id_types: IdTypes
    """Types of the ids."""
    items: DescribedReport | None
    """Of items; null without tables about them."""
    users: DescribedReport | None
    """Of users; null without tables about them."""
    tables: FeaturesTables
    """The files that were written."""
