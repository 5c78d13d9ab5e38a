"""What the configuration of a run names, read again: lists of items, candidates, likes.

Files that pyarrow can read need no Spark. For others Spark is started once, when first needed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recsys.columns import IdTypes
from recsys.config.configuration import Config
from recsys.config.sections import ItemList, Source
from recsys.score.local_lists import needs_spark, read_likes, read_list, read_pairs
from recsys.score.replay import Filters

if TYPE_CHECKING:
    from recsys.flows.lists_by_spark import SparkLists


class Inputs:
    """Reads the lists that a configuration names; closed after use, which ends its own Spark."""

    def __init__(self, spark_settings: dict[str, Any]) -> None:
        """Take the settings that Spark is started with, if it is needed."""
        self._settings = spark_settings
        self._spark: SparkLists | None = None

    def __enter__(self) -> "Inputs":
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop Spark, if it was started here."""
        if self._spark is not None:
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
                lambda spark, _: spark.pairs(wanted, types),
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
            lambda spark, _: spark.likes(users, types),
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
            lambda spark, key: spark.ids(chosen, key, item_type),
        )
        return found

    def _read(
        self,
        source: Source,
        key: str,
        where: str | None,
        local: Callable[[str], Any],
        with_spark: "Callable[[SparkLists, str], Any]",
        *,
        arrays: bool = False,
    ) -> Any:
        why = needs_spark(source, where=where, arrays=arrays)
        return local(key) if why is None else with_spark(self._session(key, why), key)

    def _session(self, key: str, why: str) -> "SparkLists":
        if self._spark is None:
            from recsys.flows.lists_by_spark import SparkLists

            self._spark = SparkLists(self._settings, key, why)
        return self._spark
