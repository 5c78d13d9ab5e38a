"""Views of Spark's catalog that show what is current: what SQL readers follow the pointer by.

They are replaced after the switch. Until then, and if the run is killed between the two, they show
the version before, which retention keeps as long as `publishing.keep_versions` is above one.
"""

import logging

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recsys.columns import COHORT, ITEM, RUN_DATE, RUN_ID, TITLE_COLUMNS
from recsys.config.sections import Publishing
from recsys.errors import ConfigError, DamageError, OutputError
from recsys.publishing.versions import (
    RECOMMENDATIONS,
    STATUS,
    TITLES,
    Unit,
    VersionIndex,
    latest_per_cohort,
    place,
    read_manifest,
)
from recsys.runtime.spark_errors import spark_reason
from recsys.store.files import Files

log = logging.getLogger(__name__)

_BUILT_IN = "spark_catalog"
_Table = tuple[str, dict[str, str]]  # its URI, and types by column name

# By the view's name: which table, and whether of the latest run date of each cohort alone.
VIEWS = {
    "recommendations": (RECOMMENDATIONS, False),
    "recommendations_latest": (RECOMMENDATIONS, True),
    "status": (STATUS, False),
    "status_latest": (STATUS, True),
}
# The same of lists with the titles of their items.
TITLED_VIEWS = {"recommendations_titled": False, "recommendations_titled_latest": True}


def check_views(spark: SparkSession, settings: Publishing) -> None:
    """Refuse views that no other session would see, or whose database is missing.

    The database is not created: it is the metastore's owner who says where it lies and who may read
    it, and a wrong name would leave a stray one.

    Raises:
        ConfigError: Spark's catalog is in memory, or there is no such database in it.
        OutputError: the catalog cannot be reached.
    """
    database = settings.views
    if database is None:
        return
    try:
        # Asked of the settings: the catalog in memory makes a directory when it is first used.
        catalog = spark.conf.get("spark.sql.defaultCatalog", _BUILT_IN)
        kind = spark.conf.get("spark.sql.catalogImplementation", "in-memory")
        if catalog == _BUILT_IN and kind == "in-memory":
            raise ConfigError(
                f"publishing.views: found {database}, and Spark's catalog in memory, whose views "
                "end with the run; expected a persistent catalog: set "
                "spark.sql.catalogImplementation to hive, with a Hive metastore, or "
                "publishing.views to null"
            )
        if not spark.catalog.databaseExists(database):
            known = ", ".join(sorted(found.name for found in spark.catalog.listDatabases())[:20])
            raise ConfigError(
                f"publishing.views: found {database}, expected a database of Spark's catalog; there"
                f" are: {known}; create it (CREATE DATABASE {database}), or name another"
            )
    except (Py4JError, PySparkException) as error:
        raise OutputError(
            f"publishing.views: Spark's catalog cannot be reached: {spark_reason(error)}; check "
            "the metastore, or set publishing.views to null"
        ) from error


def create_views(spark: SparkSession, files: Files, index: VersionIndex, database: str) -> None:
    """Create or replace VIEWS and TITLED_VIEWS in a database of Spark's catalog."""
    with files.lock("views", wait=120):  # or an earlier look at the index could win
        _create(spark, files, index, database)


def _create(spark: SparkSession, files: Files, index: VersionIndex, database: str) -> None:
    shown = {unit: seen for unit in index.units() if (seen := _seen(files, index, unit))}
    if not shown:
        return
    units = {False: list(shown), True: latest_per_cohort(list(shown))}
    selects = {
        view: _select([shown[unit][table] for unit in units[latest]])
        for view, (table, latest) in VIEWS.items()
    }
    for view, latest in TITLED_VIEWS.items():
        selects[view] = _titled([shown[unit] for unit in units[latest]])
    for view, select in selects.items():
        spark.sql(f"CREATE OR REPLACE VIEW `{database}`.`{view}` AS {select}")


def _seen(files: Files, index: VersionIndex, unit: Unit) -> dict[str, _Table] | None:
    """Return what there is to see of a unit, by table; a damaged unit must not hide the others."""
    try:
        version = index.current(unit)
        if version is None:  # it has been forgotten since it was listed
            return None
        manifest = read_manifest(files, version)
    except DamageError as error:
        log.warning("not in the views: %s", error)
        return None
    return {
        name: (place(files, unit, version.run_id, name), manifest.schemas[name])
        for name in manifest.tables.names
    }


def _titled(versions: list[dict[str, _Table]]) -> str:
    """Put lists with titles under one another; without titles, those are null."""
    by = (RUN_DATE, COHORT, RUN_ID, ITEM)
    wanted = ", ".join(f"`{name}`" for name in (*by, *TITLE_COLUMNS))
    nulls = ", ".join(f"CAST(NULL AS string) AS `{name}`" for name in TITLE_COLUMNS)
    titles = [
        f"SELECT {wanted} FROM {_files(version[TITLES][0])}"  # noqa: S608 - own names
        for version in versions
        if TITLES in version
    ]
    lists = _select([version[RECOMMENDATIONS] for version in versions])
    if not titles:
        return f"SELECT *, {nulls} FROM ({lists})"  # noqa: S608 - own names
    shown = ", ".join(f"titles.`{name}`" for name in TITLE_COLUMNS)
    return (
        f"SELECT lists.*, {shown} FROM ({lists}) AS lists "  # noqa: S608 - own names
        f"LEFT JOIN ({' UNION ALL '.join(titles)}) AS titles "
        f"ON {' AND '.join(f'lists.`{name}` = titles.`{name}`' for name in by)}"
    )


def _files(uri: str) -> str:
    return f"parquet.`{uri.replace('`', '``')}`"


def _select(tables: list[_Table]) -> str:
    """Put tables under one another; what was published before a column has nulls."""
    every = {name: kind for _, schema in tables for name, kind in schema.items()}

    def column(name: str, schema: dict[str, str]) -> str:
        return f"`{name}`" if name in schema else f"CAST(NULL AS {every[name]}) AS `{name}`"

    return " UNION ALL ".join(
        f"SELECT {', '.join(column(name, schema) for name in every)} "  # noqa: S608 - own names
        f"FROM {_files(uri)}"
        for uri, schema in tables
    )
