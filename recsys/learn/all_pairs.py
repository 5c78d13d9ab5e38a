"""What is counted of the pairs of all users, although a model is trained on a sample of them."""

import datetime as dt
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import ID, ITEM, ITEM_INDEX, LABEL, RATING, USER, USER_INDEX
from recsys.config.sections import SampleWeights
from recsys.ingest.features import ITEMS, USERS, PreparedFeatures
from recsys.ingest.ids import index_frame
from recsys.learn.counting import id_type
from recsys.learn.matrices import Interactions, age
from recsys.learn.sample_weights import unscaled
from recsys.store.tables import Scratch


class Counts(NamedTuple):
    """How many pairs each item has.

    Attributes:
        pairs: `(n_items,)` int32, those that were counted.
        liked: `(n_items,)` int32, those of them with the label 1.
    """

    pairs: NDArray[np.int32]
    liked: NDArray[np.int32]


def all_count(policy: SampleWeights) -> bool:
    """Whether every labelled pair has a weight above 0; see `with_weight`."""
    return policy.rating == "none" and policy.half_life_days is None


def with_weight(
    pairs: DataFrame, interactions: Interactions, policy: SampleWeights, run_date: dt.date
) -> DataFrame:
    """Return the labelled pairs that count, with the columns that they have.

    A pair counts if its weight is above 0, as a float32, beside the mean of the pairs that were
    collected. How many pairs its user has is not looked at: that makes no weight 0 which was not
    nearly 0 before.

    Args:
        pairs: all of them (INTERACTIONS_SCHEMA).
        interactions: what was collected of them.
        policy: how pairs are weighed.
        run_date: up to whose end (UTC) ages count.
    """
    used = pairs.where(F.col(LABEL) != 0)
    if all_count(policy):
        return used
    alone = policy.model_copy(update={"user_exponent": 0.0})
    labels, ratings, ages = interactions.labels, interactions.ratings, interactions.ages
    mean = float(unscaled(alone, labels, ratings, ages).mean())
    weight = F.lit(1.0)
    if policy.rating != "none":
        # Each negative counts as a positive does on average; see `sample_weights`.
        timeless = alone.model_copy(update={"half_life_days": None})
        negative = float(unscaled(timeless, labels, ratings)[labels.data > 0].mean())
        rating = F.col(RATING).cast("float").cast("double")
        positive = {
            "linear": rating,
            "log": F.log1p(rating),
            "capped": F.least(rating, F.lit(policy.cap or float("inf"))),
        }[policy.rating]
        weight = F.when(F.col(LABEL) > 0, positive).otherwise(negative)
    if policy.half_life_days is not None:
        assert ages is not None  # noqa: S101 - they are collected where they weigh
        younger = F.lit(float(ages.min())) - age(run_date).cast("double")
        weight = weight * F.pow(F.lit(2.0), younger / policy.half_life_days)
    return used.where((weight / mean).cast("float") > 0)


def of_items(scratch: Scratch, pairs: DataFrame, item_ids: pa.Array) -> DataFrame:
    """Return those pairs whose items are among some, with `item_index`.

    Args:
        scratch: brings the ids to the executors.
        pairs: any with `item_id`.
        item_ids: the items, in the order of their indices.
    """
    kind = id_type(pairs, ITEM)
    return pairs.join(index_frame(scratch, item_ids, kind, ITEM, ITEM_INDEX), on=ITEM)


def counts_of_items(scratch: Scratch, pairs: DataFrame, item_ids: pa.Array) -> Counts:
    """Return how many of these pairs each item has, by one look at them.

    Args:
        scratch: brings the ids to the executors.
        pairs: `user_id`, `item_id` and `label`, each pair once.
        item_ids: the items, in the order of their indices.
    """
    n, liked = F.count(F.lit(1)).alias("n"), F.count_if(F.col(LABEL) == 1).alias("liked")
    counted = of_items(scratch, pairs.groupBy(ITEM).agg(n, liked), item_ids)
    table = counted.select(ITEM_INDEX, "n", "liked").toArrow()
    found = Counts(*np.zeros((2, len(item_ids)), np.int32))
    for counts, name in zip(found, ("n", "liked"), strict=True):
        counts[table.column(ITEM_INDEX).to_numpy()] = table.column(name).to_numpy()
    return found


def without_left_out(
    prepared: PreparedFeatures | None,
    scratch: Scratch,
    used: DataFrame,
    interactions: Interactions,
    kinds: tuple[str, ...] = (USERS, ITEMS),
    item_ids: pa.Array | None = None,
) -> PreparedFeatures | None:
    """Leave out the features of users who are folded in, and of items, that a sample left out.

    They have more than features, so they must not be represented by those alone. And the driver
    would have to hold the features of everyone. Users who like no item of the model cannot be
    folded in, so features are all that they have.

    Args:
        prepared: the features; None where there are none.
        scratch: brings ids to the executors.
        used: what `with_weight` returned.
        interactions: what was collected of them.
        kinds: whose features to leave out.
        item_ids: items from which users can be folded in; None: those that were collected.
    """
    if prepared is None or interactions.sample is None:
        return prepared
    rows = dict(prepared.rows)
    for kind, ids, name, index_name in (
        (USERS, interactions.user_ids, USER, USER_INDEX),
        (ITEMS, interactions.item_ids, ITEM, ITEM_INDEX),
    ):
        if kind not in rows or kind not in kinds:
            continue
        theirs = used
        if kind == USERS:
            items = interactions.item_ids if item_ids is None else item_ids
            theirs = of_items(scratch, used.where(F.col(LABEL) == 1), items)
        mine = index_frame(scratch, ids, id_type(used, name), name, index_name)
        others = theirs.select(name).distinct().join(mine, on=name, how="left_anti")
        others = others.withColumnRenamed(name, ID)
        rows[kind] = rows[kind].join(others, on=ID, how="left_anti").select(*rows[kind].columns)
    return replace(prepared, rows=rows)
