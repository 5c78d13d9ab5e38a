"""What scoring adds to the manifests of versions and runs."""

from recsys.store.manifest import Part


class CandidateCounts(Part):
    """What was found in a table of candidates."""

    rows: int
    """Rows of the table."""
    invalid_users: int
    """Rows without a valid user id."""
    unknown_items: int
    """Rows with a user id whose item is no id or not in the model."""
    repeated: int
    """Rows that repeat another one."""
    pairs: int
    """Different pairs that can be ranked."""


class SimilarCounts(Part):
    """Whose neighbours were asked for, and what became of them."""

    requested: int
    """Rows of the list, or all items or users."""
    repeated: int
    """Rows that repeat another one."""
    invalid: int
    """Rows without a valid id."""
    unknown: int
    """Different ids that the model does not have."""
    without_direction: int = 0
    """Different ids whose embedding is zero; they have no neighbours."""
    answered: int = 0
    """Different ids with a list of neighbours."""
    neighbours: int = 0
    """Length of each of these lists."""


class NearFeatures(Part):
    """What became of the features of items, or of users."""

    features: int
    """Features of the groups asked for."""
    without_direction: int
    """Those whose embedding is zero; they have no neighbours and are none."""
    answered: int
    """Those with neighbours among the features, and, of items, among the items."""
    neighbours: int
    """How many features each of these is near to, in `similar_features`."""
    items: int
    """How many items each of these is near to, in `feature_items`; 0 for features of users."""


class SimilarFeaturesCounts(Part):
    """Whose features were compared, and what became of them."""

    items: NearFeatures | None
    """Features of items; null where the model has none of the groups asked for."""
    users: NearFeatures | None
    """Features of users; null where the model has none of the groups asked for."""
