"""What is counted of the pairs of all users, although a model is trained on a sample of them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import ID, ITEM, ITEM_INDEX, LABEL, USER, USER_INDEX
from recsys.ingest.features import ITEMS, USERS, PreparedFeatures
from recsys.ingest.ids import index_frame
from recsys.learn.matrices import Interactions
from recsys.store.tables import Scratch


def counts_of_items(scratch: Scratch, pairs: DataFrame, item_ids: pa.Array) -> NDArray[np.int32]:
    """Return how many of these pairs each item has, `(n_items,)` int32.

    Args:
        scratch: brings the ids to the executors.
        pairs: `user_id` and `item_id`, each pair once.
        item_ids: the items, in the order of their indices.
    """
    kind = pairs.schema[ITEM].dataType.simpleString()
    index = index_frame(scratch, item_ids, kind, ITEM, ITEM_INDEX)
    counted = pairs.groupBy(ITEM).agg(F.count(F.lit(1)).alias("n")).join(index, on=ITEM)
    table = counted.select(ITEM_INDEX, "n").toArrow()
    found = np.zeros(len(item_ids), np.int32)
    found[table.column(ITEM_INDEX).to_numpy()] = table.column("n").to_numpy()
    return found


def without_left_out(
    prepared: PreparedFeatures | None,
    scratch: Scratch,
    pairs: DataFrame,
    interactions: Interactions,
    kinds: tuple[str, ...] = (USERS, ITEMS),
) -> PreparedFeatures | None:
    """Leave out the features of users and items that have labelled pairs, but none in a sample.

    They have more than features, so they must not be represented by those alone. And the driver
    would have to hold the features of everyone.

    Args:
        prepared: the features; None where there are none.
        scratch: brings ids to the executors.
        pairs: all of them (INTERACTIONS_SCHEMA).
        interactions: what was collected of them.
        kinds: whose features to leave out.
    """
    if prepared is None or interactions.sample is None:
        return prepared
    used, rows = pairs.where(F.col(LABEL) != 0), dict(prepared.rows)
    for kind, ids, name, index_name in (
        (USERS, interactions.user_ids, USER, USER_INDEX),
        (ITEMS, interactions.item_ids, ITEM, ITEM_INDEX),
    ):
        if kind in rows and kind in kinds:
            id_type = pairs.schema[name].dataType.simpleString()
            mine = index_frame(scratch, ids, id_type, name, index_name)
            others = used.select(name).distinct().join(mine, on=name, how="left_anti")
            others = others.withColumnRenamed(name, ID)
            rows[kind] = rows[kind].join(others, on=ID, how="left_anti").select(*rows[kind].columns)
    return replace(prepared, rows=rows)
