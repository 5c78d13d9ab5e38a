"""What a manifest says of a training on some of the users."""

from recsys.store.manifest import Part


class LeftOutReport(Part):
    """How well users are served who were left out of a sample: folded in, as lists do it."""

    users: int
    """Users who were judged: of those who would be the next of the sample, those who have a pair
    that was held out, and something left to be folded in from."""
    metric: str
    """What was measured, such as `ndcg@10`: on liked pairs that were held out of theirs, each with
    the probability `training.early_stopping.share`, whatever its item. Pairs of items that are not
    in the model do not count."""
    ndcg: float
    """The metric."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of its 95 % interval."""
    cost: float | None
    """By how much users who are left out are served worse than those of the sample. Both are
    measured with the model of the best epoch in the search for it, before it is put together with
    others, on held-out pairs of the items that this search has trained and has held pairs out of:
    those when folded in, these by their vectors. It is a comparison of different users; `ndcg` is
    of the model that is published, and of all its items. Null without such a search, with
    `training.max_minutes`, and where one of the two has no such pairs."""


class SampleReport(Part):
    """Which users a model was trained on, where not all were."""

    share: float
    """The share of the users, of each length of history."""
    item_minimum: int
    """How many pairs each item keeps that has enough; 0 where that left no sample that fits."""
    users: int
    """Users of the sample, with those added."""
    of_users: int
    """Users with a labelled pair."""
    added_users: int
    """Users who were added because an item had too few pairs."""
    pairs: int
    """Labelled pairs of the sample."""
    of_pairs: int
    """Labelled pairs of all users."""
    items: int
    """Items of the sample."""
    of_items: int
    """Items with a labelled pair; those that are not in the sample are not in the model."""
    reason: str | None = None
    """Why `auto` did not take all users: the first of these limits that all users exceed (what
    LightFM can number, `spark.driver.maxResultSize`, `memory.max_share`), the numbers, and what to
    change. Null where a share was asked for, and after `train --from`, which takes that of its
    model."""
    left_out: LeftOutReport | None = None
    """What it costs to be left out; null where that was not measured: for a refresh, without time
    (`training.max_minutes`), and where nothing could be held out."""
