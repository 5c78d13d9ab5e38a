"""One SQL query over a source: weights of events, rows of a wide matrix, rows of lists."""

from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from recsys.errors import ConfigError
from recsys.runtime.spark_errors import spark_reason

NAME = "input"

# Plans without anything below them that a query may have beside the source: rows that it writes
# itself, and what it has defined by WITH.
_OWN_LEAVES = ("OneRowRelation", "LocalRelation", "CTERelationRef", "UnionLoopRef")
# What may stand between a limit and the order that it needs.
_BETWEEN = ("LocalLimit", "Offset", "Project", "SubqueryAlias")


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
    plan: Any = result._jdf.queryExecution().analyzed()
    if not plan.deterministic():
        raise ConfigError(
            f"{key}: the query would give other rows each time it is run; remove functions such as "
            "rand, uuid or monotonically_increasing_id"
        )
    current = spark._jvm.org.apache.spark.sql.catalyst.trees.TreePattern.CURRENT_LIKE()  # type: ignore[union-attr]
    for node in _nodes(plan):
        if wrong := _wrong_with(node, current):
            raise ConfigError(f"{key}: {wrong}")
    return result


def _wrong_with(node: Any, current: Any) -> str | None:
    """Say why a query with this plan in it cannot be used; None if it can."""
    kind = _kind(node)
    if kind == "View" or (not node.children().size() and kind not in _OWN_LEAVES):
        return (
            f"the query reads {node.simpleString(5).strip()}, too, expected nothing but `{NAME}`; "
            "make a table of both, and let that be the input"
        )
    if kind == "Sample":
        return (
            "the query takes a sample, which depends on how Spark splits the files; choose rows by "
            "their values, as in `where pmod(xxhash64(user_id), 100) < 50`"
        )
    if kind in ("GlobalLimit", "Offset", "Tail") and not _ordered(node):
        return (
            "the query has a limit or an offset and does not say of which order, so that it would "
            "give other rows at other times; sort by all columns of the result before it"
        )
    if any(expression.containsPattern(current) for expression in _each(node.expressions())):
        return (
            "the query asks for the current time, user or database, and would give other rows at "
            "other times; write the value itself"
        )
    return None


def _ordered(limit: Any) -> bool:
    """Whether the rows below a limit are sorted by all of its columns: there are no ties."""
    below = limit.children().apply(0)
    while _kind(below) in _BETWEEN:
        below = below.children().apply(0)
    if _kind(below) != "Sort" or not getattr(below, "global")():
        return False
    by = {
        order.child().exprId().id()
        for order in _each(below.order())
        if _kind(order.child()) == "AttributeReference"
    }
    return {column.exprId().id() for column in _each(limit.output())} <= by


def _nodes(plan: Any) -> Iterator[Any]:
    """Give the plans that make up a query, without those of the source."""
    if _kind(plan) == "View" and plan.isTempView() and plan.desc().identifier().table() == NAME:
        return
    yield plan
    for below in (*_each(plan.children()), *_each(plan.subqueries())):
        yield from _nodes(below)


def _kind(node: Any) -> str:
    return str(node.getClass().getSimpleName())


def _each(sequence: Any) -> Iterator[Any]:
    """Give what is in a sequence of Scala's."""
    for n in range(sequence.size()):
        yield sequence.apply(n)
