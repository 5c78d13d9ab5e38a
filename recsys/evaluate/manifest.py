"""What an evaluation adds to the manifest of its run."""

from recsys.store.manifest import Part

ALL = "all"  # the segment of all users
DIFFERENCE = "difference"  # between the model and popularity
HEADLINE = "ndcg"  # the metric that segments are compared by


class SplitCounts(Part):
    """Pairs and users of each part of a split."""

    pairs_in_train: int
    """Pairs that the model is trained on."""
    pairs_in_validation: int
    """Pairs that are held out and not used."""
    pairs_in_test: int
    """Pairs that the lists are compared with."""
    users_in_train: int
    """Users with a pair in train."""
    users_in_validation: int
    """Users with a pair in validation."""
    users_in_test: int
    """Users with a pair in test."""
    users: int
    """All users."""
    users_without_held_out: int
    """Users all of whose pairs are in train."""
    users_without_train: int
    """Users without a pair in train."""


class Metric(Part):
    """One line of METRICS_SCHEMA."""

    model: str
    """`model`, `popularity` or `difference`."""
    segment: str
    """`all`, a length of history, or a group of users."""
    metric: str
    """Its name."""
    k: int | None
    """Length of the lists; null for metrics of the whole catalogue."""
    value: float | None
    """Mean over the users; null where no user has a value."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    n_users: int
    """Users with a value."""


class EvaluationCounts(SplitCounts):
    """Pairs of each part of the split, and who was evaluated on them."""

    users_evaluated: int
    """Users with a relevant pair in test."""
    users_by_popularity_alone: int
    """Those of them who get popular items: the model does not know them, and they are not folded
    in."""
    users_folded_in: int = 0
    """Those of them who were left out of a sample (`training.sample_users`), and are folded in."""
    users_not_evaluated: int
    """Users without a relevant pair in test."""
    relevant_pairs: int
    """Positive pairs in test."""
    relevant_pairs_outside_catalogue: int
    """Those of them whose item is not in train."""
