"""Opening a root wherever it is: a local one without Spark, others through Hadoop's classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.store.files import Files, path_text, scheme
from recsys.store.posix import open_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def open_root(
    root: str | Path,
    *,
    settings: Mapping[str, object] | None = None,
    spark: "SparkSession | None" = None,
) -> Files:
    """Open a root.

    Args:
        root: a path or a URI.
        settings: Spark's keys and values, for a JVM that is started where the root is not local.
        spark: a session, whose JVM is taken then.

    Raises:
        ConfigError: it is no path; or it is not local, and neither of both is given.
        OutputError: it cannot be reached.
    """
    if scheme(path_text(root, "root")) == "file" or (settings is None and spark is None):
        return open_local(root)
    # Starting a JVM takes seconds, which a local root need not wait for.
    from recsys.runtime import hadoop
    from recsys.store.hadoop import HadoopFiles

    classes = hadoop.without_session(settings or {}) if spark is None else hadoop.of_session(spark)
    return HadoopFiles(classes, str(root))
