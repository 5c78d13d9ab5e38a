"""How much memory and how many CPUs the driver has, and whether an amount fits.

A container's limits are in its control group; the machine's memory and CPU count do not show them.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from recsys.errors import MemoryLimitError

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


def machine_bytes() -> int:
    """Return the machine's physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroup_bytes() -> int | None:
    """Return the smallest memory limit of this process's control groups, or None without one."""
    limits = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        for text in _cgroup_files(name):
            if text.isdigit() and int(text) < 2**60:  # version 1 says "none" with a huge number
                limits.append(int(text))
    return min(limits, default=None)


def cpus() -> int:
    """Return how many CPUs this process may use: its affinity, at most its group's quota."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [tuple(text.split()) for text in _cgroup_files("cpu.max")]
    quotas += zip(  # version 1
        _cgroup_files("cpu/cpu.cfs_quota_us"), _cgroup_files("cpu/cpu.cfs_period_us"), strict=False
    )
    for quota, period in quotas:
        if quota.isdigit() and period.isdigit():
            allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def _cgroup_files(name: str) -> Iterator[str]:
    """Yield the contents of a control file in this process's group and all groups above it."""
    controller, _, leaf = name.rpartition("/")
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controller and controller not in controllers.split(","):
            continue
        base = _CGROUP / controller
        folder = base / group.lstrip("/")
        for place in (folder, *folder.parents):
            with suppress(OSError):
                yield (place / leaf).read_text().strip()
            if place == base:
                break


def limit_bytes() -> int:
    """Return how much memory there is: the machine's, or the control group's limit."""
    machine, group = machine_bytes(), cgroup_bytes()
    return machine if group is None else min(machine, group)


def allowed_bytes(heap: int, max_share: float) -> int:
    """Return how much memory this process may use.

    Args:
        heap: bytes that the JVM may take beside this process.
        max_share: the share of the rest that may be used.
    """
    return int(max(0, limit_bytes() - heap) * max_share)


def heap_bytes(spark: SparkSession) -> int:
    """Return how much memory the JVM may take."""
    jvm: Any = spark.sparkContext._jvm
    return int(jvm.java.lang.Runtime.getRuntime().maxMemory())


def check_fits(*, what: str, needed: int, heap: int, max_share: float, remedy: str) -> None:
    """Refuse an amount that would not fit into the driver's memory.

    Args:
        what: what needs it, for the message.
        needed: bytes.
        heap: bytes that the JVM may take beside this process.
        max_share: the share of the rest that may be used.
        remedy: what to change.

    Raises:
        MemoryLimitError: it does not fit; the message has the numbers.
    """
    limit, machine = limit_bytes(), machine_bytes()
    allowed = allowed_bytes(heap, max_share)
    if needed > allowed:
        name = "machine's memory" if limit == machine else "control group's limit"
        raise MemoryLimitError(
            f"{what} need about {_gib(needed)}, but {_gib(allowed)} are allowed: "
            f"memory.max_share {max_share} of the {name} {_gib(limit)} less the JVM's heap "
            f"{_gib(heap)}; {remedy}"
        )


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def result_limit(spark: SparkSession) -> tuple[int, str]:
    """Return how many bytes Spark lets a result have (0: no limit), and how that is written."""
    jvm: Any = spark.sparkContext._jvm
    text = spark.conf.get("spark.driver.maxResultSize", "1g") or "1g"
    return int(jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes(text)), text


def check_result(spark: SparkSession, what: str, n_bytes: int, remedy: str) -> None:
    """Refuse to collect more than Spark's result limit.

    Raises:
        MemoryLimitError: with the numbers and what to change.
    """
    limit, limit_text = result_limit(spark)
    if 0 < limit < n_bytes:
        raise MemoryLimitError(
            f"{what} are about {n_bytes / 2**20:,.0f} MiB to collect, but "
            f"spark.driver.maxResultSize is {limit_text}; {remedy}"
        )


def second_view_bytes(spark: SparkSession, max_share: float) -> int:
    """Return how much memory a second view may take: a quarter of what this process may use."""
    return allowed_bytes(heap_bytes(spark), max_share) // 4
