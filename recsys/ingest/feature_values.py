"""What the columns of a row say: features with weights, or values that cannot be used.

Every function makes columns of Spark; nothing is read here.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    AtomicType,
    BinaryType,
    DataType,
    DoubleType,
    FloatType,
    MapType,
    NumericType,
    StringType,
    StructType,
)

from recsys.columns import FOUND, GROUP, NUMBER, REASON, VALUE, WEIGHT
from recsys.config.sections import FeatureGroup
from recsys.errors import ConfigError
from recsys.ingest.ids import BLANK, LARGEST_EXACT_INTEGER

# The value of a feature that stands for none: no other is empty.
MISSING = ""
ONE_TYPE = (
    f"struct<{GROUP}:string,{VALUE}:string,{FOUND}:string,{WEIGHT}:double,{NUMBER}:double,"
    f"{REASON}:string>"
)


def values_of(
    name: str, settings: FeatureGroup, column: Column, kind: DataType, key: str
) -> Column:
    """Return what a column says: an array of structs (`ONE_TYPE`), one for each value.

    Args:
        name: of the group.
        settings: of the group.
        column: its column.
        kind: the column's type.
        key: the group's place in the configuration, for messages.

    Returns:
        `value` is as values are compared, and null for numbers, whose ranges are not known yet.
        `found` is as it was found. `reason` is null unless the value cannot be used.

    Raises:
        ConfigError: the column's type does not fit the group's kind.
    """
    makers = {
        "category": _category,
        "categories": _categories,
        "number": _number,
        "weighted": _weighted,
    }
    values, missing = makers[settings.kind](name, settings, column, kind, key)
    nothing = F.array(_one(name, F.lit(MISSING))) if settings.missing else _none()
    return F.when(missing, nothing).otherwise(values)


def normalised(text: Column) -> Column:
    """Return a value as it is compared: blanks joined, small letters, whole numbers without .0."""
    return F.regexp_replace(F.lower(_trimmed(text)), r"^([+-]?\d+)\.0+$", "$1")


def _trimmed(text: Column) -> Column:
    return F.trim(F.regexp_replace(text, r"(?U)\s+", " "))


def _none() -> Column:
    return F.array().cast(f"array<{ONE_TYPE}>")


def _one(
    name: str,
    text: Column,
    weight: Column | None = None,
    number: Column | None = None,
    reason: Column | None = None,
    value: Column | None = None,
) -> Column:
    no_text = F.when(text.contains("\ufffd"), F.lit("value_invalid"))
    return F.struct(
        F.lit(name).alias(GROUP),
        (normalised(text) if value is None else value).alias(VALUE),
        _trimmed(text).alias(FOUND),
        (F.lit(1.0) if weight is None else weight).cast("double").alias(WEIGHT),
        F.lit(None).cast("double").alias(NUMBER) if number is None else number.alias(NUMBER),
        (no_text if reason is None else F.coalesce(reason, no_text)).alias(REASON),
    ).cast(ONE_TYPE)


def _as_text(column: Column, kind: DataType) -> Column:
    """Return a value as text: whole numbers without a point, and nothing for NaN."""
    text = column.cast("string")
    if not isinstance(kind, FloatType | DoubleType):
        return text
    whole = (column == F.rint(column)) & (F.abs(column) <= LARGEST_EXACT_INTEGER)
    number = F.when(whole, column.try_cast("bigint").cast("string")).otherwise(text)
    return F.when(~F.isnan(column), number)


def _is_blank(text: Column) -> Column:
    return text.isNull() | text.rlike(BLANK)


def _category(
    name: str, settings: FeatureGroup, column: Column, kind: DataType, key: str
) -> tuple[Column, Column]:
    _expect(kind, isinstance(kind, AtomicType) and not isinstance(kind, BinaryType), key, "a value")
    text = _as_text(column, kind)
    return F.array(_one(name, text)), _is_blank(text)


def _categories(
    name: str, settings: FeatureGroup, column: Column, kind: DataType, key: str
) -> tuple[Column, Column]:
    if isinstance(kind, StringType):
        if settings.separator is None:
            raise ConfigError(
                f"{key}.separator: the column is text, so expected what separates its values, such "
                "as ';'; set it"
            )
        quoted = "\\Q" + settings.separator.replace("\\E", "\\E\\\\E\\Q") + "\\E"
        texts = F.split(column, quoted)
    else:
        element = kind.elementType if isinstance(kind, ArrayType) else kind
        atomic = isinstance(kind, ArrayType) and isinstance(element, AtomicType)
        _expect(kind, atomic, key, "an array of values, or text with a separator")
        texts = F.transform(column, lambda value: _as_text(value, element))
    texts = F.filter(texts, lambda text: ~_is_blank(text))
    return F.transform(texts, lambda text: _one(name, text)), column.isNull() | (F.size(texts) == 0)


def _number(
    name: str, settings: FeatureGroup, column: Column, kind: DataType, key: str
) -> tuple[Column, Column]:
    _expect(kind, isinstance(kind, NumericType | StringType), key, "a number, or text")
    text = column.cast("string")
    number = text.try_cast("double") if isinstance(kind, StringType) else column.cast("double")
    infinite = F.abs(number) == float("inf")
    reason = F.when(number.isNull(), "number_unparsable").when(infinite, "number_not_finite")
    # -0.0 equals 0.0 but has other bits; adding zero makes them the same.
    one = _one(name, text, number=number + F.lit(0.0), reason=reason, value=F.lit(None))
    return F.array(one), _is_blank(text) | F.isnan(number)


def _weighted(
    name: str, settings: FeatureGroup, column: Column, kind: DataType, key: str
) -> tuple[Column, Column]:
    if isinstance(kind, MapType):
        pairs, names = F.map_entries(column), ("key", "value")
        kinds = [kind.keyType, kind.valueType]
    else:
        inside = kind.elementType if isinstance(kind, ArrayType) else None
        fields = inside.fields if isinstance(inside, StructType) else []
        _expect(kind, len(fields) == 2, key, "a map, or an array of structs of a name and a number")
        pairs, names = column, (fields[0].name, fields[1].name)
        kinds = [field.dataType for field in fields]
    fits = isinstance(kinds[0], AtomicType) and isinstance(kinds[1], NumericType | StringType)
    _expect(kind, fits, key, "names with numbers")

    def one(pair: Column) -> Column:
        text = pair.getField(names[0]).cast("string")
        weight = pair.getField(names[1]).try_cast("double")
        single = weight.cast("float")  # as which it counts
        usable = (single > 0) & (single < float("inf"))
        reason = F.when(_is_blank(text), "value_missing").when(
            ~F.coalesce(usable, F.lit(False)), "weight_invalid"
        )
        return _one(name, text, weight=weight, reason=reason)

    some = F.filter(pairs, lambda pair: pair.isNotNull())
    return F.transform(some, one), column.isNull() | (F.size(some) == 0)


def _expect(kind: DataType, fits: bool, key: str, expected: str) -> None:
    if not fits:
        raise ConfigError(
            f"{key}: found a column of type {kind.simpleString()}, expected {expected}; choose "
            "another column or kind"
        )
