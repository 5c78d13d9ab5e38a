"""Settings of the Spark session that change what is read, and that clusters set for everybody."""

from collections.abc import Mapping

from pyspark.sql import SparkSession

from recsys.errors import ConfigError

# With true, Spark passes over what it cannot read, and says nothing.
_LOSE_ROWS = (
    "spark.sql.files.ignoreCorruptFiles",
    "spark.sql.files.ignoreMissingFiles",
    "spark.sql.files.ignoreInvalidPartitionPaths",
)
# What values and columns become, with the value that this package is made for.
_CHANGE_VALUES = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.json.enablePartialResults": "true",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.parquet.binaryAsString": "false",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.int96AsTimestamp": "true",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
}
_SAME_AS_UTC = ("utc", "etc/utc", "gmt", "etc/gmt", "z", "zulu", "+00:00", "utc+00:00")
_USUAL = {**dict.fromkeys(_LOSE_ROWS, "false"), **_CHANGE_VALUES}


def check_settings(spark: SparkSession, configured: Mapping[str, object]) -> dict[str, str]:
    """Return the settings that change what is read, where they are not the usual ones.

    Args:
        spark: the session.
        configured: the configuration's section `spark`, where such a setting has to stand.

    Raises:
        ConfigError: one comes from elsewhere, such as spark-submit or the cluster's defaults.
    """
    special, unwanted = {}, []
    for key, expected in _USUAL.items():
        found = str(spark.conf.get(key, expected))
        if found.lower() == expected.lower():
            continue
        if key == "spark.sql.session.timeZone" and found.lower() in _SAME_AS_UTC:
            continue
        special[key] = found
        if str(configured.get(key, "")).lower() != found.lower():
            unwanted.append(f"{key} is {found}, expected {expected}")
    if unwanted:
        lost = any(name.split()[0] in _LOSE_ROWS for name in unwanted)
        what = "lose rows of the input without a word" if lost else "change what is read"
        raise ConfigError(
            f"settings of this session, from spark-submit or the cluster's defaults, would {what}: "
            f"{'; '.join(unwanted)}; set them back, or write them into the section `spark` of the "
            "configuration if you want them"
        )
    return special
