"""One SQL query over a source: weights of events, rows of a wide matrix, rows of lists."""

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from recsys.errors import ConfigError
from recsys.runtime.spark_errors import spark_reason

NAME = "input"


def ask(spark: SparkSession, source: DataFrame, query: str, key: str) -> DataFrame:
    """Return the result of a query over a source, without reading anything.

    Args:
        spark: the session.
        source: what the query calls `input`.
        query: of Spark's SQL.
        key: its place in the configuration, for messages.

    Raises:
        ConfigError: it is not one query on the columns of the source, reads something else, or
            would not give the same rows each time.
    """
    try:
        # This parser knows queries alone: `spark.sql` would carry out a DROP at once.
        spark._jsparkSession.sessionState().sqlParser().parseQuery(query)
        source.createOrReplaceTempView(NAME)
        try:
            result = spark.sql(query)
        finally:
            spark.catalog.dropTempView(NAME)
    except (PySparkException, Py4JJavaError) as error:
        reason = spark_reason(error).partition(" SQLSTATE")[0]  # the plan follows
        raise ConfigError(f"{key}: {reason}") from error
    if not result._jdf.queryExecution().analyzed().deterministic():
        raise ConfigError(
            f"{key}: the query would give other rows each time it is run; remove functions such as "
            "rand, uuid or monotonically_increasing_id"
        )
    if more := set(result.inputFiles()) - set(source.inputFiles()):
        raise ConfigError(
            f"{key}: the query reads {min(more)}, expected nothing but `{NAME}`; make a table of "
            "both, and let that be the input"
        )
    return result
