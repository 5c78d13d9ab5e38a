"""Which files a source has: each read once, none passed over without a word."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.configuration import digest
from recsys.config.redaction import redact
from recsys.config.sections import Options, Source
from recsys.errors import InputError
from recsys.ingest.failures import reading
from recsys.ingest.manifest import InputFile, InputState
from recsys.store.files import local_path

# Options with which a user chooses among the files.
_CHOOSING = ("pathglobfilter", "modifiedbefore", "modifiedafter")
_MOST_FILES_LISTED = 20


def list_files(spark: SparkSession, source: Source, key: str) -> list[InputFile]:
    """Return the files of a source that is not a table, in order of path.

    Args:
        spark: the session.
        source: what is read.
        key: the source's place in the configuration, for messages.

    Raises:
        InputError: there is none, one would be read twice, or one would not be read.
    """
    recursive = source.option("recursiveFileLookup") == "true"
    there = _listed(spark, source, source.paths, recursiveFileLookup=True)
    if not there:
        raise InputError(
            f"{key}.path: found no data in {redact(', '.join(source.paths))}, expected a file or "
            "more; empty files, and files and folders whose names begin with _ or ., such as "
            "_SUCCESS, do not count: check the path, and that whatever writes it has finished"
        )
    if source.option("multiLine") == "true":
        _refuse_patterns(there, key)
    one_file = len(there) == len(source.paths) == 1 and there[0].path.endswith(source.paths[0])
    if recursive or one_file:
        return there
    found = _listed(spark, source, source.paths)
    read = Counter(file.path for file in found)
    same = Counter(_real(file.path) for file in found)
    repeated = [file.path for file in found if same[_real(file.path)] > 1]
    if repeated:
        raise InputError(
            f"{key}.path: {redact(min(repeated))} is found by more than one path, pattern or link, "
            "expected each file once, since its rows would count twice; name it once"
        )
    left = [file.path for file in there if file.path not in read]
    if left:
        raise InputError(
            f"{key}.path: {len(left):,} files would not be read, such as {redact(left[0])}, since "
            "some lie in folders and others beside these folders; set "
            f"{key}.options.recursiveFileLookup to true to read all of them (folders such as day=1 "
            "are no columns then), or name the files, as in folder/*.csv"
        )
    return there


def table_files(spark: SparkSession, source: Source, frame: DataFrame) -> list[InputFile]:
    """Return the files of a table, in order of path; none where it does not consist of files."""
    paths = [unquote(uri) for uri in frame.inputFiles()]
    return _listed(spark, source, literal_paths(paths))


def identify(source: Source, files: list[InputFile]) -> InputState:
    """Return what tells one state of the input from another: its files' sizes and times.

    A catalogue table that does not consist of files has only its name.
    """
    shown = [file.model_copy(update={"path": redact(file.path)}) for file in files]
    return InputState(
        format=source.format,
        name=source.table or redact(source.paths),
        files=len(files),
        bytes=sum(file.bytes for file in files),
        sha256_of_listing=digest([[file.path, file.bytes, file.modified_micros] for file in shown]),
        listing=shown if len(files) <= _MOST_FILES_LISTED else None,
    )


def choosing(source: Source) -> Options:
    """Return the options with which a user chooses among the files."""
    return {name: value for name, value in source.options.items() if name.lower() in _CHOOSING}


def _refuse_patterns(files: list[InputFile], key: str) -> None:
    """Refuse files that Spark cannot open in whole: it takes their names for patterns."""
    for file in files:
        if re.search(r"[\[\]{}*?\\]", file.path):
            raise InputError(
                f"{key}.options.multiLine is true, and with it Spark cannot read files with one of "
                f"[ ] {{ }} * ? in their names, such as {redact(file.path)}; rename it"
            )


def _real(path: str) -> str:
    """Return where a file on a local path lies, behind any links."""
    local = local_path(path)
    return path if local is None else os.path.realpath(local)


def literal_paths(paths: Iterable[str]) -> list[str]:
    """Return paths as Spark's readers take them without seeing patterns."""
    return [re.sub(r"([\[\]{}*?\\])", r"\\\1", path) for path in paths]


def _listed(
    spark: SparkSession, source: Source, paths: list[str], **options: bool
) -> list[InputFile]:
    if not paths:
        return []
    chosen = choosing(source)
    with reading(source):
        return sorted(
            (
                InputFile(path=row.path, bytes=row.length, modified_micros=row.modified)
                for row in spark.read.format("binaryFile")
                .options(**chosen, **options)
                .load(paths)
                .select("path", "length", F.unix_micros("modificationTime").alias("modified"))
                .collect()
            ),
            key=lambda file: file.path,
        )
