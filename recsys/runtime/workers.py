"""Spark's Python workers: whether they start and have what scoring needs, and why they failed.

Executors run the kernel in Python processes of their own, which start with the first task that has
a Python function. Without a look at one they would be found wanting after hours of training.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recsys.errors import ConfigError, MemoryLimitError, RecsysError

log = logging.getLogger(__name__)

# From here on, and below what is named second; as in pyproject.toml.
NEEDED = {"numpy": ("2.0", None), "pandas": ("2.2.2", "3"), "pyarrow": ("18", None)}
_KERNEL = "recsys.kernel.worker"


def look_at_workers(spark: SparkSession) -> dict[str, str]:
    """Start a Python worker on each executor, and return the versions that all of them have.

    Executors that start later, by dynamic allocation, are not looked at. Nor are those to which the
    scheduler gives no task; then the log has a warning.

    Raises:
        ConfigError: one does not start, lacks something, or has another version than the driver;
            the message says what to change.
    """
    context = spark.sparkContext
    try:
        found = _workers(context)
    except (Py4JJavaError, PySparkException) as error:
        meaning = worker_error(error, context.pythonExec)
        if meaning is None:
            raise
        raise meaning from error
    mine = _look()([])[0]
    for where, versions in found.items():
        _check(versions, mine, context.pythonExec, where)
    versions = next(iter(found.values()))
    _tell(versions, len(found), _executors(context))
    return versions


def _tell(versions: Mapping[str, str], n_seen: int, n_executors: int) -> None:
    told = ", ".join(f"{name} {what}" for name, what in versions.items())
    log.info("Python workers: %s, on %d of %d executors", told, n_seen, n_executors)
    if n_seen < n_executors:
        log.warning(
            "the Python workers of %d executors were not looked at: Spark gave them no task, so "
            "that one of them does not fit would be found only while lists are made",
            n_executors - n_seen,
        )


def _executors(context: Any) -> int:
    """Return how many executors there are at this moment; the driver is one where it is alone."""
    return max(1, int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1)


def _workers(context: Any) -> dict[str, dict[str, str]]:
    """Return what is found on each executor, by its host and what starts its workers there.

    Where a task runs is the scheduler's choice: an idle cluster gets one each, and where some got
    none, more tasks follow.
    """
    found: dict[str, dict[str, str]] = {}
    for times in (1, 2, 4):
        tasks = times * _executors(context)
        for one in context.parallelize(range(tasks), tasks).mapPartitions(_look()).collect():
            found.setdefault(one.pop("where"), one)
        if len(found) >= _executors(context):
            break
    return found


def _look() -> Callable[[Iterable[Any]], list[dict[str, str]]]:
    """Return what a worker does: a function in a function, so that it travels as a whole."""
    wanted = (*NEEDED, _KERNEL)

    def look(_: Iterable[Any]) -> list[dict[str, str]]:
        import importlib
        import os
        import platform

        # An executor has a process of its own that starts its workers.
        found = {"where": f"{platform.node()} {os.getppid()}", "python": platform.python_version()}
        for name in wanted:
            try:
                found[name] = getattr(importlib.import_module(name), "__version__", "")
            except Exception as error:  # whatever a broken package raises
                found[name] = f"{type(error).__name__}: {error}"
        return [found]

    return look


def _check(found: dict[str, str], mine: Mapping[str, str], executable: str, where: str) -> None:
    """Take the kernel out of what was found, and refuse what does not fit or is not the driver's.

    The last bits of a score may depend on these versions, so lists would depend on the executor.
    """
    kernel = found.pop(_KERNEL)
    who = _who(found, executable, where)
    lacking = [name for name in NEEDED if found[name].startswith("ModuleNotFoundError")]
    broken = [f"{name} ({found[name]})" for name in NEEDED if ": " in found[name]]
    wrong = [
        f"{name} {found[name]}, expected {_range(name)}"
        for name in NEEDED
        if ": " not in found[name] and not _fits(found[name], *NEEDED[name])
    ]
    if lacking:
        packages = " ".join(f'"{name}{_range(name)}"' for name in lacking)
        raise ConfigError(
            f"{who} lacks {', '.join(lacking)}; install them there (pip install {packages}), or "
            "set spark.pyspark.python (or PYSPARK_PYTHON) to a Python that has them"
        )
    if broken:
        raise ConfigError(f"{who} cannot import {', '.join(broken)}; install it there anew")
    if wrong:
        raise ConfigError(f"{who} has {'; '.join(wrong)}; install that there")
    if other := [name for name in found if found[name] != mine[name]]:
        has, driver = (", ".join(f"{name} {of[name]}" for name in other) for of in (found, mine))
        raise ConfigError(
            f"{who} has {has}, and the driver has {driver}: expected the same versions in both; "
            "install the driver's there, or ship them (bash scripts/package.sh executor)"
        )
    if kernel:
        raise ConfigError(
            f"{who} cannot import recsys.kernel, which is sent to every executor: {kernel}; look "
            "for another package recsys on its PYTHONPATH"
        )


def _who(found: dict[str, str], executable: str, where: str) -> str:
    return (
        f"the Python of Spark's workers, {executable!r} ({found['python']}) on {where.split()[0]}"
    )


def _range(name: str) -> str:
    oldest, below = NEEDED[name]
    return f">={oldest}" if below is None else f">={oldest},<{below}"


def _fits(version: str, oldest: str, below: str | None) -> bool:
    return _numbers(oldest) <= _numbers(version) and (
        below is None or _numbers(version) < _numbers(below)
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version; what follows them, such as `rc1`, does not count."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def worker_error(error: BaseException, executable: str | None = None) -> RecsysError | None:
    """Return what an error of Spark's means, if it comes from how Python workers are set up.

    Args:
        error: of a job with Python functions.
        executable: what the workers were started with, where it is known.

    Returns:
        The error to show; None where it is another one, such as a fault in a function.
    """
    text = str(error)
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = "" if executable is None else f" {executable!r}"
    remedy = (
        f"set spark.pyspark.python (or PYSPARK_PYTHON) to a Python {mine} that every executor has, "
        f"with {', '.join(NEEDED)}"
    )
    other = re.search(r"different version: (\S+) than that in driver: (\S+?),", text)
    if other:
        return ConfigError(
            f"the Python of Spark's workers{name} is {other[1]}, and the driver's is {other[2]}: "
            f"PySpark needs the same minor version in both; {remedy}"
        )
    cannot = re.search(r'Cannot run program "([^"]*)"[^:\n]*: (?:error=\d+, )?([^\n]+)', text)
    if cannot:
        return ConfigError(
            f"Spark's Python workers do not start: {cannot[1]!r} cannot be run ({cannot[2]}); "
            f"{remedy}"
        )
    if "pyspark.daemon's stdout" in text or "pyspark.daemon's standard output" in text:
        said = re.findall(r"^\s+(\w*(?:Error|Exception): .+)$", text, re.MULTILINE)
        why = f" ({said[0][:200]})" if said else ""
        return ConfigError(
            f"Spark's Python workers do not start: what is run as their Python{name} does not "
            f"behave like Python {mine} with PySpark{why}; {remedy}"
        )
    lacking = re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", text, re.MULTILINE)
    if lacking:
        return ConfigError(
            f"the Python of Spark's workers{name} has no module {lacking[1]}; install it on every "
            f"executor, or {remedy}"
        )
    if "Python worker exited unexpectedly" in text:
        return MemoryLimitError(
            "a Python worker of Spark's ended in the middle of its work: it was killed, mostly for "
            "want of memory, or it crashed; give it more memory, or let fewer work at once "
            "(spark.master local[N], spark.executor.cores)"
        )
    return None
