"""Pairs to train, validation and test.

Nothing is drawn by a generator: a draw is a hash of the seed and the pair's ids, so that a pair
falls into the same fold whatever the order of rows, the number of partitions or retries.
"""

import datetime as dt

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys.columns import FOLD, INTERACTIONS_SCHEMA, ITEM, TIMESTAMP, USER, names
from recsys.config.sections import Split
from recsys.errors import InputError
from recsys.evaluate.manifest import SplitCounts

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
FOLDS = (TRAIN, VALIDATION, TEST)

_DRAW_BITS = 52  # what a double holds exactly, in whole hexadecimal digits
_REMEDIES = {
    "random": "change evaluation.split.test_share and validation_share",
    "by_user": "change evaluation.split.test_share and validation_share",
    "by_item": "change evaluation.split.test_share and validation_share",
    "last_n": "lower evaluation.split.last_n and validation_last_n",
    "time": "move evaluation.split.test_since and validation_since",
}


def split(pairs: DataFrame, settings: Split) -> DataFrame:
    """Say of each pair which fold it belongs to: exactly one of train, validation and test.

    All pairs take part, whatever their label.

    - `random`: each pair by a number in [0, 1) made of its hash, against the shares. The folds have
      about these shares; exact ones would need a sort of all pairs.
    - `by_user`, `by_item`: of the n pairs of each user or item, in the order of their hashes, the
      first round(n * train share) are train, at least one; those up to round(n * (train share +
      validation share)) validation; the rest test. Halves are rounded to even, as Python's round
      does.
    - `last_n`: of each user's pairs from the latest back, `last_n` are test, `validation_last_n`
      validation, the rest train, which may be none. Of equal timestamps the higher item id is the
      later.
    - `time`: by the day (UTC) of the timestamp.

    In the first three, test has the same pairs for any validation share.

    Args:
        pairs: one row a user and item (INTERACTIONS_SCHEMA).
        settings: the kind and its numbers, after `requirements.for_split`.

    Returns:
        SPLIT_SCHEMA, as many rows as `pairs`: the same columns and `fold`.

    Raises:
        ConfigError: kind is `time` and `test_since` is not set.
    """
    if settings.kind == "random":
        fold = _random(settings)
    elif settings.kind == "by_user":
        fold = _by_group(settings, USER, ITEM)
    elif settings.kind == "by_item":
        fold = _by_group(settings, ITEM, USER)
    elif settings.kind == "last_n":
        fold = _last_n(settings)
    else:
        fold = _time(settings)
    return pairs.select(*names(INTERACTIONS_SCHEMA), fold.alias(FOLD))


def _hash(seed: int) -> Column:
    return F.sha2(F.concat_ws(":", F.lit(str(seed)), F.col(USER), F.col(ITEM)), 256)


def _random(settings: Split) -> Column:
    digits = F.substring(_hash(settings.seed), 1, _DRAW_BITS // 4)
    drawn = F.conv(digits, 16, 10).cast("double") / float(2**_DRAW_BITS)
    train, known = settings.bounds()
    return F.when(drawn < train, TRAIN).when(drawn < known, VALIDATION).otherwise(TEST)


def _by_group(settings: Split, group: str, other: str) -> Column:
    whole = Window.partitionBy(group)
    n = F.count(F.lit(1)).over(whole)
    place = F.row_number().over(whole.orderBy(_hash(settings.seed), other))
    train, known = settings.bounds()
    return (
        F.when((place == 1) | (place <= F.rint(n * train)), TRAIN)
        .when(place <= F.rint(n * known), VALIDATION)
        .otherwise(TEST)
    )


def _last_n(settings: Split) -> Column:
    latest_first = Window.partitionBy(USER).orderBy(F.desc(TIMESTAMP), F.desc(ITEM))
    place = F.row_number().over(latest_first)
    return (
        F.when(place <= settings.last_n, TEST)
        .when(place <= settings.last_n + settings.validation_last_n, VALIDATION)
        .otherwise(TRAIN)
    )


def _time(settings: Split) -> Column:
    held_out, test = (_midnight(day) for day in settings.days())
    when = F.col(TIMESTAMP)
    return F.when(when >= test, TEST).when(when >= held_out, VALIDATION).otherwise(TRAIN)


def _midnight(day: dt.date) -> Column:
    return F.timestamp_seconds(F.lit((day - dt.date(1970, 1, 1)).days * 86_400))


def counts(parts: DataFrame, settings: Split) -> SplitCounts:
    """Count what a split made.

    Args:
        parts: what `split` returned; read once.
        settings: what it was made with.

    Raises:
        InputError: train or test is empty, or validation is although there was to be one.
    """
    # One row a user: how many pairs of each fold.
    per_user = parts.groupBy(USER).agg(
        *[F.count_if(F.col(FOLD) == fold).alias(fold) for fold in FOLDS]
    )
    row = per_user.agg(
        *[F.coalesce(F.sum(fold), F.lit(0)).alias(f"pairs_in_{fold}") for fold in FOLDS],
        *[F.count_if(F.col(fold) > 0).alias(f"users_in_{fold}") for fold in FOLDS],
        F.count(F.lit(1)).alias("users"),
        F.count_if((F.col(VALIDATION) == 0) & (F.col(TEST) == 0)).alias("users_without_held_out"),
        F.count_if(F.col(TRAIN) == 0).alias("users_without_train"),
    ).collect()[0]
    counted = {name: int(value) for name, value in row.asDict().items()}
    pairs = {fold: counted[f"pairs_in_{fold}"] for fold in FOLDS}
    for fold in FOLDS:
        if pairs[fold] == 0 and (fold != VALIDATION or settings.wants_validation):
            found = ", ".join(f"{name} {n:,}" for name, n in pairs.items())
            raise InputError(
                f"evaluation.split: found no pair for {fold} with kind {settings.kind} ({found}), "
                f"expected at least one; {_REMEDIES[settings.kind]}, or give more ratings"
            )
    return SplitCounts(**counted)
