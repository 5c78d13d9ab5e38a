"""A process with a Hive metastore of its own, for tests of views: `python -m tests.hive_views`.

Spark's catalog is chosen before its JVM starts, so that the session of the suite cannot have it.
"""

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from recsys.errors import RecsysError
from recsys.runtime import session
from tests.conftest import RUN_DATE, csv_input, run_in

VIEWS = (
    "recommendations",
    "recommendations_latest",
    "recommendations_titled",
    "recommendations_titled_latest",
    "status",
    "status_latest",
)


def settings(folder: Path) -> dict[str, object]:
    """Return Spark's settings for a metastore in a directory (Derby, which needs no server)."""
    return {
        "spark.master": "local[2]",
        "spark.driver.memory": "1g",
        "spark.ui.enabled": False,
        "spark.sql.shuffle.partitions": 2,
        "spark.default.parallelism": 2,
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": (
            f"jdbc:derby:;databaseName={folder / 'metastore'};create=true"
        ),
        "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={folder / 'derby.log'}",
    }


def shown(spark: SparkSession) -> dict[str, list[list[str]]]:
    """Return cohorts and run ids of each view."""
    found = {}
    for view in VIEWS:
        rows = spark.table(f"shown.{view}").select("cohort", "run_id").distinct().collect()
        found[view] = sorted([row["cohort"], row["run_id"]] for row in rows)
    return found


def titles_of(spark: SparkSession) -> list[list[Any]]:
    """Return runs, whether their rows have a title, and whether it is that of the item."""
    title = "title <=> concat('no. ', int(substr(item_id, 2)))"
    wanted = ["run_id", "title IS NOT NULL AS titled", f"{title} AS agrees"]
    found = spark.table("shown.recommendations_titled").selectExpr(*wanted).distinct()
    return sorted([*row] for row in found.collect())


def publish(spark: SparkSession, folder: Path) -> dict[str, Any]:
    """Publish four runs with views, the first before their database is there."""
    root = folder / "out"
    views = {"publishing": {"views": "shown"}}
    source = csv_input(str(folder / "ratings.csv"))
    told: dict[str, Any] = {}
    try:
        run_in(spark, root, "run", run_id="r1", input=source, **views)
    except RecsysError as error:
        told["missing"] = [error.exit_code, str(error)]
    told["databases"] = [found.name for found in spark.catalog.listDatabases()]
    told["left"] = sorted(path.name for path in root.iterdir())
    spark.sql("CREATE DATABASE shown")
    model = run_in(spark, root, "run", run_id="r1", input=source, **views)["model_id"]
    told["r1"] = shown(spark)
    again: dict[str, Any] = {"model_id": model, **views}
    run_in(spark, root, "score", run_id="r2", **again)
    told["r2"] = shown(spark)
    later = RUN_DATE + dt.timedelta(days=1)
    (folder / "titles.csv").write_text(
        "item_id,title\n" + "".join(f"i{n:03},no. {n}\n" for n in range(40))
    )
    titles = {"path": str(folder / "titles.csv"), "options": {"header": True}}
    again["items"] = {"titles": titles}
    run_in(spark, root, "score", run_id="r3", run_date=later, **again)
    told["titles"] = titles_of(spark)
    again.pop("items")
    run_in(spark, root, "score", run_id="r4", cohort={"name": "few", "sample": 3}, **again)
    return told


def main(step: str, place: str) -> None:
    """Do one step in a process and print what came of it, as the last line."""
    folder = Path(place)
    if step == "publish":
        spark = session.start(settings(folder))
        told = publish(spark, folder)
    else:  # as another program reads, which knows nothing of this package
        builder = SparkSession.builder
        for key, value in settings(folder).items():
            builder = builder.config(key, str(value).lower() if value is False else str(value))
        spark = builder.getOrCreate()
        told = shown(spark)
    spark.stop()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
