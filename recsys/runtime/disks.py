"""Disks that are full: which directory it was, the root or one that Spark writes to meanwhile.

Spark's own error says "No space left on device", and not where. By the time it arrives, Spark has
often deleted what it was writing, so that there is space again. Java's stack says what was written.
"""

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from recsys.errors import ConfigError, OutputError
from recsys.runtime.sizes import size
from recsys.runtime.spark_errors import spark_reason

_FULL = ("No space left on device", "Disk quota exceeded")
# Whose frames mean that Spark was writing shuffled, sorted or cached rows for itself.
_OF_SPARK = (
    "org.apache.spark.storage.",
    "org.apache.spark.shuffle.",
    "org.apache.spark.util.collection.",
    "org.apache.spark.sql.execution.UnsafeExternalRowSorter",
    "org.apache.spark.util.Utils$.copyFile",
    "org.apache.spark.util.Utils$.fetch",
)
_OF_ROOT = ("org.apache.hadoop.fs.", "org.apache.parquet.")


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(text in str(error) for text in _FULL)


def full_disk(spark: SparkSession, error: BaseException, root: Path | None) -> OutputError:
    """Return what to say of a full disk: the directory, the setting, and what to do.

    Args:
        spark: the session.
        error: says that a disk is full, and not which.
        root: the root, where it is on this machine.
    """
    what = next((text for text in _FULL if text in str(error)), spark_reason(error))
    found = _where(spark, error, root)
    if found is None:
        return OutputError(
            f"{what}, on the file system of the root, or in a local directory of an executor "
            "(spark.local.dir); free space there, or set another directory"
        )
    place, setting = found
    if setting == "root":
        advice = "free space there (recsys clean shows what nothing needs), or choose another root"
    else:
        advice = f"free space there, or set {setting} to a directory with more"
    return OutputError(
        f"cannot write in {place}, {setting}: {what} ({_left(place)} are left); {advice}"
    )


def check_local_dirs(settings: dict[str, str]) -> None:
    """Refuse directories in which Spark on this machine could not write: it would just exit.

    Args:
        settings: Spark's keys and values.

    Raises:
        ConfigError: one cannot be made or written.
        OutputError: the disk of one is full.
    """
    for place, setting in local_dirs(settings.get("spark.local.dir"), "/tmp"):  # noqa: S108
        probe = place / f".recsys-{os.getpid()}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            try:
                probe.write_bytes(b"\0" * 4096)
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            kind = OutputError if is_full(error) else ConfigError
            raise kind(
                f"{setting}: Spark cannot write in {place}: {error.strerror}; free space there or "
                "check its permissions, or set another directory"
            ) from error


def local_dirs(configured: str | None, tmpdir: str | None = None) -> list[tuple[Path, str]]:
    """Return the directories of Spark's own on this machine, each with what sets it.

    Args:
        configured: `spark.local.dir`; None where it is not set.
        tmpdir: Java's own directory for temporary files, where it is known.
    """
    # YARN's own come first, then the variable, which wins over the setting.
    variable = "LOCAL_DIRS" if "CONTAINER_ID" in os.environ else "SPARK_LOCAL_DIRS"
    told = os.environ.get(variable)
    names, setting = (told, variable) if told else (configured or tmpdir or "", "spark.local.dir")
    return [(Path(name.strip()), setting) for name in names.split(",") if name.strip()]


def _where(spark: SparkSession, error: BaseException, root: Path | None) -> tuple[Path, str] | None:
    """Return the directory that was full, and what sets it; None where that cannot be known."""
    context = spark.sparkContext
    jvm = context._jvm
    tmpdir = None if jvm is None else str(jvm.java.lang.System.getProperty("java.io.tmpdir"))
    mine = local_dirs(context.getConf().get("spark.local.dir"), tmpdir)
    of_root = [] if root is None else [(root, "root")]
    if isinstance(error, OSError):  # of this process, which writes what it broadcasts
        if error.filename is None:
            return _least(mine)
        known = [one for one in [*of_root, *mine] if _is_below(error.filename, one[0])]
        return _least(known) or (Path(error.filename).parent, "TMPDIR")
    here = (context.master or "").startswith("local")
    written = _written(str(error))
    if written == "root":
        return (root, "root") if root is not None else None
    if not here:
        return None
    return _least(mine if written == "spark" else [*of_root, *mine])


def _is_below(name: object, place: Path) -> bool:
    return isinstance(name, str) and Path(name).is_relative_to(place)


def _least(places: list[tuple[Path, str]]) -> tuple[Path, str] | None:
    """Return the place with the least room."""
    return min(places, key=lambda one: _free(one[0]), default=None)


def _written(text: str) -> str | None:
    """Say by Java's stack whether Spark wrote to the root or for itself; None where it says not."""
    for what in _FULL:
        stack = text.rpartition(what)[2]
        for line in stack.splitlines()[1:]:
            frame = line.strip().removeprefix("at ")
            if frame.startswith(_OF_SPARK):
                return "spark"
            if frame.startswith(_OF_ROOT):
                return "root"
            if not line.startswith("\tat "):
                break
    return None


def _free(place: Path) -> int:
    """Return how many bytes are left; 0 also where there is no room for another file's name."""
    try:
        about = os.statvfs(existing(place))
    except OSError:
        return sys.maxsize
    return 0 if about.f_files and not about.f_favail else about.f_bavail * about.f_frsize


def _left(place: Path) -> str:
    free: Sequence[int] = shutil.disk_usage(existing(place))
    return size(free[2])


def existing(place: Path) -> Path:
    """Return the nearest directory above a place, or the place itself, that is there."""
    return next(one for one in (place, *place.parents) if one.exists())
