"""Views of Spark's catalogue that show what is current: what SQL readers follow the pointer by.

They are replaced after the switch. Until then, and if the run is killed between the two, they show
the version before, which retention keeps as long as `publishing.keep_versions` is above one.
"""

import logging

from pyspark.sql import SparkSession

from recsys.errors import DamageError
from recsys.filesystem import Files
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    Catalogue,
    Unit,
    latest_per_cohort,
    place,
    read_manifest,
)

log = logging.getLogger(__name__)

# By the view's name: which table, and whether of the latest run date of each cohort alone.
VIEWS = {
    "recommendations": (RECOMMENDATIONS, False),
    "recommendations_latest": (RECOMMENDATIONS, True),
    "status": (STATUS, False),
    "status_latest": (STATUS, True),
}


def create_views(spark: SparkSession, files: Files, catalogue: Catalogue, database: str) -> None:
    """Create or replace the views of VIEWS in a database of Spark's catalogue.

    They stay for other sessions where the catalogue does (a Hive metastore, not Spark's own in
    memory). A database that was made for them is left where it is.
    """
    spark.sql(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    with files.lock("views", wait=120):  # or an earlier look at the catalogue could win
        _create(spark, files, catalogue, database)


def _create(spark: SparkSession, files: Files, catalogue: Catalogue, database: str) -> None:
    units = [unit for unit in catalogue.units() if _is_whole(files, catalogue, unit)]
    if not units:
        return
    for view, (table, latest) in VIEWS.items():
        chosen = latest_per_cohort(units) if latest else units
        spark.sql(
            f"CREATE OR REPLACE VIEW `{database}`.`{view}` AS "
            + _select(files, catalogue, chosen, table)
        )


def _is_whole(files: Files, catalogue: Catalogue, unit: Unit) -> bool:
    """Whether a unit can be shown; another's damage must not keep the rest from being seen."""
    try:
        version = catalogue.current(unit)
        return version is not None and bool(read_manifest(files, version))
    except DamageError as error:
        log.warning("not in the views: %s", error)
        return False


def _select(files: Files, catalogue: Catalogue, units: list[Unit], table: str) -> str:
    """Put the units' tables under one another; what was published before a column has nulls."""
    places: list[tuple[str, dict[str, str]]] = []
    for unit in units:
        version = catalogue.current(unit)
        if version is not None:  # it was just listed, and may have been forgotten since
            schema = read_manifest(files, version)["schemas"][table]
            places.append((place(files, unit, version.run_id, table).replace("`", "``"), schema))
    every = {name: kind for _, schema in places for name, kind in schema.items()}

    def column(name: str, schema: dict[str, str]) -> str:
        return f"`{name}`" if name in schema else f"CAST(NULL AS {every[name]}) AS `{name}`"

    return " UNION ALL ".join(
        f"SELECT {', '.join(column(name, schema) for name in every)} FROM parquet.`{uri}`"  # noqa: S608
        for uri, schema in places
    )
