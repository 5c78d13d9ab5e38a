"""How much there is to learn from, and whether it fits into the driver's memory."""

from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from recsys.errors import MemoryLimitError
from recsys.runtime.memory import check_fits, check_result, heap_bytes

# Peak on the driver for each pair: the columns as they came (13), in their order (12), this order
# and a copy while it is found (16), the matrices (12 and 4), LightFM's shuffled order and its
# lookup of positives (4 and 12), and as much again for what is freed late.
_BYTES_PER_PAIR = 140
# Pairs of users whom a sample leaves out wait for the end of the training as a matrix (12). When
# they are collected, what training takes beside the matrices is not there yet; nor is it any more
# when they are used.
_BYTES_PER_JUDGED_PAIR = 24
# For each drawn negative: user, item, label and weight (16), LightFM's shuffled order (4), and a
# byte for the comparison of matrices; 23 to 28 were measured.
_BYTES_PER_DRAWN_PAIR = 28
# LightFM numbers the pairs of an epoch with int32.
MAX_PAIRS = 2**31 - 1
# Parameters, gradients and momentum, float32, and either their float64 copies while they are
# initialised, or the average of the epochs and the change to it.
_BYTES_PER_PARAMETER = 24
# For each feature of a user or an item: as it is collected (group, value, id and weight as Python's
# objects for a moment), and the matrices with their copies.
_BYTES_PER_FEATURE = 250
# Embeddings by features, sorted, and written for the executors.
_BYTES_PER_COLD_PARAMETER = 12
_BYTES_PER_TRIAL_PAIR = 24  # in a trial of features: the pairs without those held out
# Ids as they are collected, sorted, and written for the executors.
_COPIES_OF_IDS = 3


@dataclass(frozen=True)
class FeatureSizes:
    """How many features there are.

    Attributes:
        rows: one for each feature of a user or an item.
        columns: different features.
        ids: users and items that have some; those that are not trained get embeddings, too.
    """

    rows: int = 0
    columns: int = 0
    ids: int = 0

    def without(self, rows: int, ids: int) -> "FeatureSizes":
        """Return the same without the features of some users.

        Args:
            rows: how many features those have.
            ids: how many of those have some.
        """
        return replace(self, rows=self.rows - rows, ids=self.ids - ids)


NO_FEATURES = FeatureSizes()


@dataclass(frozen=True)
class Sizes:
    """How much there is to learn from.

    Attributes:
        pairs: how many labelled pairs.
        negatives: how many of them are negative.
        users, items: how many different ones they have.
        user_bytes, item_bytes: what their ids take where they are collected.
        features: of users and items; of a sample without those of users whom it leaves out.
        judged_pairs: of users whom a sample leaves out, and whose pairs are collected to judge it.
    """

    pairs: int
    negatives: int
    users: int
    items: int
    user_bytes: int = 0
    item_bytes: int = 0
    features: FeatureSizes = NO_FEATURES
    judged_pairs: int = 0


def driver_bytes(
    sizes: Sizes, no_components: int, n_drawn: int = 0, features: FeatureSizes = NO_FEATURES
) -> dict[str, int]:
    """Return the bytes that training takes on the driver, by what takes them."""
    n, width = sizes.users + sizes.items, no_components + 1
    return {
        "matrix": sizes.pairs * _BYTES_PER_PAIR
        + sizes.judged_pairs * _BYTES_PER_JUDGED_PAIR
        + n_drawn * _BYTES_PER_DRAWN_PAIR,
        "ids": (sizes.user_bytes + sizes.item_bytes) * _COPIES_OF_IDS,
        "model and averaged states": (n + features.columns) * width * _BYTES_PER_PARAMETER,
        # Users and items are made of the parameters after each epoch, and the best are kept.
        "features": (n * width * 12 if features.rows else 0)
        + features.rows * _BYTES_PER_FEATURE
        + features.ids * width * _BYTES_PER_COLD_PARAMETER,
        "validation": sizes.pairs * _BYTES_PER_TRIAL_PAIR if features.rows else 0,
    }


def check_collectable(
    spark: SparkSession,
    sizes: Sizes,
    no_components: int,
    max_share: float,
    *,
    n_drawn: int = 0,
    features: FeatureSizes = NO_FEATURES,
    or_else: str = "",
) -> None:
    """Refuse what would not fit, before anything is collected.

    Args:
        spark: the session.
        sizes: what is to be collected.
        no_components: the largest size that the embeddings may have.
        max_share: the share of the driver's memory that may be used.
        n_drawn: how many negatives are going to be drawn for each epoch.
        features: how many there are beside the pairs.
        or_else: what else to change, for the message.

    Raises:
        MemoryLimitError: with the numbers and what to change.
    """
    n_pairs = sizes.pairs
    drawn = f" and {n_drawn:,} drawn negatives" if n_drawn else ""
    described = f", {features.rows:,} features of them" if features.rows else ""
    if n_pairs + n_drawn > MAX_PAIRS:
        fewer = "training.negatives_per_positive, or " if n_drawn else ""
        raise MemoryLimitError(
            f"{n_pairs:,} interactions{drawn} are more than the {MAX_PAIRS:,} that LightFM can "
            f"train on; lower {fewer}filters.last_days, or raise the minimum numbers of "
            f"interactions in filters{or_else}"
        )
    # Each is a result of its own. Pairs come in parts.
    for what, n_bytes in (
        (f"{sizes.users:,} user ids", sizes.user_bytes),
        (f"{sizes.items:,} item ids", sizes.item_bytes),
    ):
        check_result(
            spark,
            what,
            n_bytes,
            f"raise it, or raise the minimum numbers of interactions in filters{or_else}",
        )
    check_fits(
        what=f"{n_pairs:,} interactions{drawn} of {sizes.users:,} users and {sizes.items:,} items "
        f"with {no_components} components{described}",
        needed=sum(driver_bytes(sizes, no_components, n_drawn, features).values()),
        heap=heap_bytes(spark),
        max_share=max_share,
        remedy="take a larger machine, lower spark.driver.memory, training.no_components or "
        f"training.second_view_rank"
        f"{' or training.negatives_per_positive' if n_drawn else ''}, or raise the minimum numbers "
        f"of interactions in filters{or_else}",
    )
