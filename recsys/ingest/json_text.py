"""JSON documents: Spark reads one a line, or one a file, and does not say what it passes over."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.sections import Source
from recsys.errors import InputError
from recsys.ingest.listing import choosing

# Possessive, so that Java does not need a stack for long texts.
_TEXT = r""""[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+'"""
_COMMENT = r"/\*.*?\*/|//[^\n]*+"
_BLANK = r"\s\x00\ufeff\ufffd"  # what stands before a document at the beginning of a file, too
_DEPTH = 6  # of brackets, up to which one expression knows a document
_MOST_SHOWN = 80  # characters of a line

# Encodings whose bytes are not those of ASCII and that Spark can decode.
_DECODED = ("UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32")


def check_documents(spark: SparkSession, source: Source, key: str) -> None:
    """Refuse documents that Spark would pass over, since it reads the first one only.

    Without `multiLine`, that is the first document of each line; with it, the first of each file.

    Args:
        spark: the session.
        source: JSON.
        key: its place in the configuration, for messages.

    Raises:
        InputError: a line or a file has several documents, or a part of one behind the first.
    """
    several = F.col("n") > 1
    if source.option("multiLine") == "true":
        files = _text(spark, source, wholetext=True)
        counted = files.select("path", _documents(F.col("value"), source).alias("n"))
        n, found = _first(counted.where(several), F.struct("path", "n"))
        if n:
            raise InputError(
                f"{key}.options.multiLine: {n:,} files have more than one JSON document, such as "
                f"{found['path']} with {found['n']:,} (a part of one counts), and Spark reads only "
                "the first one; remove multiLine if each line is a document"
            )
        return
    lines = _text(spark, source, wholetext=False).where(_may_have_several(F.col("value")))
    counted = lines.select("value", _documents(F.col("value"), source).alias("n"))
    shown = F.struct(F.substring("value", 1, _MOST_SHOWN).alias("line"), "n")
    n, found = _first(counted.where(several), shown)
    if n:
        raise InputError(
            f"{key}.path: {n:,} lines have more than one JSON document, such as "
            f"{found['line']!r} with {found['n']:,} (a part of one counts), and Spark reads only "
            "the first one; write one document a line"
        )


def _first(found: DataFrame, shown: Column) -> tuple[int, dict[str, object]]:
    """Return how many there are, and what is shown of the first in order of that."""
    row = found.agg(F.count(F.lit(1)).alias("n"), F.min(shown).alias("first")).collect()[0]
    return row["n"], row["first"].asDict() if row["first"] else {}


def _text(spark: SparkSession, source: Source, *, wholetext: bool) -> DataFrame:
    """Return the text of the files, as `value`, and their paths."""
    # The names of folders, which would be columns, do not matter here.
    reader = spark.read.options(wholetext=wholetext, recursiveFileLookup=True, **choosing(source))
    encoding = source.option("encoding") or source.option("charset")
    for name, option in (("lineSep", source.option("lineSep")), ("encoding", encoding)):
        if option is not None and not wholetext:
            reader = reader.option(name, option)
    value = F.col("value")
    if encoding is not None and encoding.upper() in _DECODED:
        value = F.decode(value.cast("binary"), encoding.upper())
    rows = reader.format("text").load(source.paths)
    return rows.select(value.alias("value"), F.col("_metadata.file_path").alias("path"))


def _may_have_several(line: Column) -> Column:
    """Whether a line has to be looked at: Spark reads a document of it, and more may follow.

    Cheap, since nearly all lines are one document: flat, or of a few levels.
    """
    flat = line.startswith("{") & (F.concat(F.substring_index(line, "}", 1), F.lit("}")) == line)
    one, other = r"[\[{][\]}]", r"""[^"'\[\]{}]*+"""
    for _ in range(_DEPTH):
        one = rf"""[\[{{]{other}(?:(?:{_TEXT}|{one}){other})*+[\]}}]"""
    begins = line.rlike(rf"^[{_BLANK}]*+[\[{{]")
    return ~flat & ~line.rlike(rf"(?s)^[{_BLANK}]*+{one}[{_BLANK},]*+$") & begins


def _documents(text: Column, source: Source) -> Column:
    """Count the documents of a text, and what else is behind the first one."""
    comments = source.option("allowComments") == "true"
    # A text becomes its first quote: what is in it does not count, but that it is there.
    texts = _TEXT.replace('"', '(")', 1).replace("|'", "|(')", 1)
    plain = F.regexp_replace(text, f"(?s){texts}" + f"|{_COMMENT}" * comments, "$1$2")
    others = F.regexp_replace(plain, rf"[{_BLANK},]++", "")
    # Only what follows a bracket that closes can be behind a document: `x` for all of it.
    marked = F.regexp_replace(others, r"(?<=[\]}])[^\[\]{}]++", "x")
    tokens = F.regexp_replace(marked, r"(?<![\]}])[^\[\]{}]++", "")
    start = F.struct(F.lit(0).alias("depth"), F.lit(0).alias("documents"))

    def step(state: Column, token: Column) -> Column:
        opens, closes = token.isin("[", "{"), token.isin("]", "}")
        depth, documents = state["depth"], state["documents"]
        begins = (depth == 0) & (opens | (~closes & (documents > 0)))
        change = F.when(opens, 1).when(closes & (depth > 0), -1).otherwise(0)
        return F.struct(
            (depth + change).alias("depth"),
            (documents + F.when(begins, 1).otherwise(0)).alias("documents"),
        )

    each = F.filter(F.split(tokens, ""), lambda token: token != "")
    return F.aggregate(each, start, step)["documents"]
