"""The lists that only Spark can read: conditions in SQL, tables of catalogs, other stores."""

import logging
from contextlib import suppress
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import ITEM, LIKED, USER, WEIGHT, IdTypes
from recsys.config.sections import CandidateList, ItemList, Source, UserList
from recsys.ingest.failures import reading
from recsys.ingest.local_pairs import ARROW
from recsys.runtime import session
from recsys.score import candidates
from recsys.score.cohorts import read_list as read_cohort
from recsys.score.local_ids import LocalIds
from recsys.score.ranking import read_items

log = logging.getLogger(__name__)


class SparkLists:
    """A session, with the lists that it reads."""

    def __init__(self, settings: dict[str, Any], key: str, why: str) -> None:
        """Start Spark, or take the session that is there.

        Args:
            settings: that it is started with.
            key: the key of the configuration that needs it.
            why: the reason.
        """
        log.warning("starting Spark, which %s needs: %s", key, why)
        self._own = SparkSession.getActiveSession() is None
        self._spark = session.start(settings)

    def stop(self) -> None:
        """Stop Spark, if it was started here."""
        if self._own:
            with suppress(Exception):  # the JVM may be gone
                self._spark.stop()

    def ids(self, chosen: ItemList, key: str, item_type: str) -> pa.Array:
        """Return the ids of a list of items."""
        found = _collected(read_items(self._spark, chosen, key, item_type), chosen)
        return found.column(ITEM).combine_chunks().drop_null().unique()

    def pairs(self, wanted: CandidateList, types: IdTypes) -> pa.Table:
        """Return candidates: `user_id` and `item_id`."""
        frame = candidates.read_pairs(self._spark, wanted, types).select(USER, ITEM)
        return _collected(frame, wanted).drop_null()

    def likes(self, users: UserList, types: IdTypes) -> pa.Table:
        """Return what a cohort's list says that users like: `user_id`, `item_id`, `weight`."""
        like = read_cohort(self._spark, users, types).select(USER, F.explode(LIKED).alias("like"))
        found = _collected(like.select(USER, f"like.{ITEM}", f"like.{WEIGHT}"), users)
        item = LocalIds(pa.nulls(0, ARROW[types.item])).convert
        ids = pa.array([item(one) for one in found.column(ITEM).to_pylist()], ARROW[types.item])
        weights = found.column(WEIGHT).fill_null(float("nan"))
        return pa.table({USER: found.column(USER), ITEM: ids, WEIGHT: weights}).drop_null()


def _collected(frame: DataFrame, source: Source) -> pa.Table:
    with reading(source):
        found: pa.Table = frame.toArrow()
    return found
