"""Rows of a table of features to judged rows: an id and what it has, or a reason."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.columns import FOUND, GROUP, ID, MISREAD, QUOTED, RAW_LINE, REASON, SOURCE, VALUE
from recsys.config.sections import FeatureSource
from recsys.ingest.feature_values import values_of
from recsys.ingest.ids import convert_id

RAW_ID = "raw_id"
VALUES = "values"


def accepted() -> Column:
    """Whether the id of a row can be used."""
    return F.col(REASON).isNull()


def judge(rows: DataFrame, source: FeatureSource, id_type: str, key: str) -> DataFrame:
    """Convert the id and the values of every row, or give it a reason.

    Args:
        rows: `raw_id`, each group's column under the group's name, and the marks that
            `source.read_columns` adds.
        source: says what the columns are.
        id_type: Spark's name of the type of the ids.
        key: the table's place in the configuration, for messages.

    Returns:
        `id`, `reason` (null where the id can be used), `raw_id`, `line`, `quoted`, and `values`
        (see `feature_values.values_of`), those that cannot be used among them.

    Raises:
        ConfigError: a column has a type that cannot be what the configuration says it is.
    """
    kinds = {field.name: field.dataType for field in rows.schema}
    converted, missing = convert_id(F.col(RAW_ID), kinds[RAW_ID], id_type, f"{key}.id")
    values = [
        values_of(name, group, F.col(name), kinds[name], f"{key}.groups.{name}")
        for name, group in source.groups.items()
    ]
    reason = F.coalesce(
        MISREAD,
        F.when(missing, F.lit("id_missing")),
        F.when(converted.isNull(), F.lit("id_invalid")),
    )
    return rows.select(
        converted.alias(ID),
        reason.alias(REASON),
        F.col(RAW_ID).cast("string").alias(RAW_ID),
        RAW_LINE,
        QUOTED,
        F.flatten(F.array(*values)).alias(VALUES),
    )


def rejects(judged: DataFrame, source: str) -> DataFrame:
    """Return rows and values that cannot be used, as text, with reasons (FEATURE_REJECTS_SCHEMA).

    Args:
        judged: what `judge` returned.
        source: the table's place in the configuration.
    """
    nothing = F.lit(None).cast("string")
    of_rows = judged.where(~accepted()).select(
        F.lit(source).alias(SOURCE),
        REASON,
        F.col(RAW_ID).alias(ID),
        nothing.alias(GROUP),
        nothing.alias(VALUE),
        RAW_LINE,
    )
    value = F.explode(VALUES).alias("one")
    of_values = (
        judged.where(accepted()).select(RAW_ID, value).where(F.col(f"one.{REASON}").isNotNull())
    )
    return of_rows.unionByName(
        of_values.select(
            F.lit(source).alias(SOURCE),
            F.col(f"one.{REASON}"),
            F.col(RAW_ID).alias(ID),
            F.col(f"one.{GROUP}"),
            F.col(f"one.{FOUND}").alias(VALUE),
            nothing.alias(RAW_LINE),
        )
    )
