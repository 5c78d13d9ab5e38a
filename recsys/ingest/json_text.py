"""JSON documents: how many there are in a file, which Spark does not say."""

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from recsys.config.sections import Source
from recsys.errors import InputError

# Possessive, so that Java does not need a stack for long texts.
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'


def check_documents(spark: SparkSession, source: Source, key: str) -> None:
    """Refuse files of several documents where Spark would read the first one only.

    With `multiLine`, Spark reads one document of each file and passes over the rest.

    Args:
        spark: the session.
        source: JSON.
        key: its place in the configuration, for messages.

    Raises:
        InputError: a file has several documents.
    """
    if source.option("multiLine") != "true":
        return
    choosing = ("recursivefilelookup", "pathglobfilter", "modifiedbefore", "modifiedafter")
    chosen = {name: value for name, value in source.options.items() if name.lower() in choosing}
    reader = spark.read.format("text").options(wholetext=True, **chosen)
    files = reader.load(source.paths)
    brackets = F.regexp_replace(F.regexp_replace("value", _TEXT, ""), r"[^\[\]{}]++", "")
    # Depth within brackets, and how often it came back to nothing: the number of documents.
    start = F.struct(F.lit(0).alias("depth"), F.lit(0).alias("documents"))

    def step(state: Column, bracket: Column) -> Column:
        depth = state["depth"] + F.when(bracket.isin("[", "{"), 1).otherwise(-1)
        return F.struct(
            depth.alias("depth"),
            (state["documents"] + F.when(depth == 0, 1).otherwise(0)).alias("documents"),
        )

    each = F.filter(F.split(brackets, ""), lambda bracket: bracket != "")
    documents = F.aggregate(each, start, step)["documents"]
    several = files.select(F.col("_metadata.file_path").alias("path"), documents.alias("n"))
    found = several.where("n > 1").agg(F.count(F.lit(1)), F.min(F.struct("path", "n"))).collect()[0]
    if found[0]:
        raise InputError(
            f"{key}.options.multiLine: {found[0]:,} files have more than one JSON document, such "
            f"as {found[1]['path']} with {found[1]['n']:,}, and Spark reads only the first one; "
            "remove multiLine if each line is a document"
        )
