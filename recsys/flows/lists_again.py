"""What the configuration of a run names, read again: lists of items, candidates, likes.

Files that pyarrow can read need no Spark. For others Spark is started once, when first needed.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recsys.columns import ITEM, LIKED, USER, WEIGHT, IdTypes
from recsys.config.configuration import Config
from recsys.config.sections import ItemList, Source, UserList
from recsys.ingest.local_pairs import ARROW
from recsys.score.local_ids import LocalIds
from recsys.score.local_lists import needs_spark, read_likes, read_list, read_pairs
from recsys.score.replay import Filters

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)


class Inputs:
    """Reads the lists that a configuration names; closed after use, which ends its own Spark."""

    def __init__(self, spark_settings: dict[str, Any]) -> None:
        """Take the settings that Spark is started with, if it is needed."""
        self._settings = spark_settings
        self._spark: SparkSession | None = None
        self._own = False

    def __enter__(self) -> "Inputs":
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop Spark, if it was started here."""
        if self._spark is not None and self._own:
            with suppress(Exception):  # the JVM may be gone
                self._spark.stop()

    def filters(self, config: Config, types: IdTypes) -> Filters:
        """Return the filters of a configuration, by ids.

        Raises:
            InputError, ConfigError: a list cannot be read.
        """
        items = config.items
        candidates = None
        if (wanted := items.candidates) is not None:
            candidates = self._read(
                wanted,
                "items.candidates",
                wanted.where,
                lambda key: read_pairs(wanted, key, types.user, types.item),
                lambda spark, _: _spark_pairs(spark, wanted, types),
            )
        return Filters(
            self._ids(items.allow, "items.allow", types.item),
            self._ids(items.deny, "items.deny", types.item),
            candidates,
        )

    def likes(self, config: Config, types: IdTypes) -> pa.Table | None:
        """Return what the cohort's list says that users like; None where it says nothing.

        Returns:
            `user_id`, `item_id`, `weight`.

        Raises:
            InputError, ConfigError: the list cannot be read.
        """
        users = config.cohort.users
        if users is None or users.liked is None:
            return None
        found: pa.Table = self._read(
            users,
            "cohort.users",
            users.where,
            lambda _: read_likes(users, types.user, types.item),
            lambda spark, _: _spark_likes(spark, users, types),
            arrays=True,
        )
        return found

    def _ids(self, chosen: ItemList | None, key: str, item_type: str) -> pa.Array | None:
        if chosen is None:
            return None
        found: pa.Array = self._read(
            chosen,
            key,
            chosen.where,
            lambda key: read_list(chosen, key, item_type),
            lambda spark, key: _spark_ids(spark, chosen, key, item_type),
        )
        return found

    def _read(
        self,
        source: Source,
        key: str,
        where: str | None,
        local: Callable[[str], Any],
        with_spark: "Callable[[SparkSession, str], Any]",
        *,
        arrays: bool = False,
    ) -> Any:
        why = needs_spark(source, where=where, arrays=arrays)
        return local(key) if why is None else with_spark(self._session(key, why), key)

    def _session(self, key: str, why: str) -> "SparkSession":
        if self._spark is None:
            from pyspark.sql import SparkSession

            from recsys.runtime import session

            log.warning("starting Spark, which %s needs: %s", key, why)
            self._own = SparkSession.getActiveSession() is None
            self._spark = session.start(self._settings)
        return self._spark


def _spark_ids(spark: "SparkSession", chosen: ItemList, key: str, item_type: str) -> pa.Array:
    from recsys.score.ranking import read_items

    found = _collected(read_items(spark, chosen, key, item_type), chosen)
    return found.column(ITEM).combine_chunks().drop_null().unique()


def _spark_pairs(spark: "SparkSession", wanted: Any, types: IdTypes) -> pa.Table:
    from recsys.score import candidates

    frame = candidates.read_pairs(spark, wanted, types).select(USER, ITEM)
    return _collected(frame, wanted).drop_null()


def _spark_likes(spark: "SparkSession", users: UserList, types: IdTypes) -> pa.Table:
    from pyspark.sql import functions as F

    from recsys.score.cohorts import read_list as read_cohort

    like = read_cohort(spark, users, types).select(USER, F.explode(LIKED).alias("like"))
    found = _collected(like.select(USER, f"like.{ITEM}", f"like.{WEIGHT}"), users)
    item = LocalIds(pa.nulls(0, ARROW[types.item])).convert
    ids = pa.array([item(one) for one in found.column(ITEM).to_pylist()], ARROW[types.item])
    weights = found.column(WEIGHT).fill_null(float("nan"))
    return pa.table({USER: found.column(USER), ITEM: ids, WEIGHT: weights}).drop_null()


def _collected(frame: "DataFrame", source: Source) -> pa.Table:
    from recsys.ingest.failures import reading

    with reading(source):
        found: pa.Table = frame.toArrow()
    return found
