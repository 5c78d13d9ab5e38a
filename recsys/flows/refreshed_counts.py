"""What is counted over all users for a refresh that holds a sample of them on the driver."""

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.columns import ITEM, ITEM_INDEX, USER
from recsys.ingest.ids import index_frame
from recsys.learn.all_pairs import counts_of_items
from recsys.model.refreshed import Refreshed
from recsys.store.tables import Scratch


def with_everyone(made: Refreshed, scratch: Scratch, liked: DataFrame) -> Refreshed:
    """Return a refreshed model whose counts are those of all users, and not of the sample alone.

    Args:
        made: the model.
        scratch: brings the items to the executors.
        liked: positive pairs of all users (INTERACTIONS_SCHEMA).
    """
    ids = made.learned.items.ids
    kind = liked.schema[ITEM].dataType.simpleString()
    index = index_frame(scratch, ids, kind, ITEM, ITEM_INDEX)
    there = liked.join(index, on=ITEM, how="left_semi")
    waiting = liked.join(index, on=ITEM, how="left_anti")
    pairs, users = _count(there, USER)
    waiting_pairs, waiting_items = _count(waiting, ITEM)
    everyone = liked.agg(F.count_distinct(USER)).collect()[0][0]
    positives = counts_of_items(scratch, liked, ids).liked
    items = replace(made.learned.items, positives=positives)
    return replace(
        made,
        learned=replace(made.learned, items=items),
        pairs=pairs,
        users=users,
        users_left_out=everyone - users,
        waiting_items=waiting_items,
        waiting_pairs=waiting_pairs,
    )


def _count(pairs: DataFrame, name: str) -> tuple[int, int]:
    """Return how many pairs there are, and of how many users or items."""
    row = pairs.agg(F.count(F.lit(1)), F.count_distinct(name)).collect()[0]
    return row[0], row[1]
