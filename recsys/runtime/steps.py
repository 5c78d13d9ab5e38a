"""A step of a run while it lasts: its name in logs and in Spark's pages, its rows and its memory.

Spark is not imported here: `recsys.runtime.session` hands over what watches its session.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recsys.runtime import logs
from recsys.runtime.progress import task_bar

_STATUS = Path("/proc/self/status")


class Watcher(Protocol):
    """What a Spark session can be asked and told; nothing fails where its JVM is gone."""

    def describe(self, text: str | None) -> None:
        """Give the jobs that follow, and their stages, a description; None: Spark's own."""

    def heap_bytes(self) -> int | None:
        """Return how much memory the JVM's heap has taken; None: not known."""

    def tasks(self) -> tuple[int, int]:
        """Return how many tasks of the stages that run now have ended, and how many there are."""


@dataclass
class Step:
    """One step.

    Attributes:
        name: what it is called.
        rows: how many rows it worked on or wrote; None: it has none, or failed before it knew.
        seconds: how long it took; 0 until it ends.
        peak_bytes: the most memory that this process has had so far; None: not known.
        heap_bytes: the memory of the JVM's heap at its end; None: not known.
    """

    name: str
    rows: int | None = None
    seconds: float = 0.0
    peak_bytes: int | None = None
    heap_bytes: int | None = None
    _start: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def rows_per_second(self) -> float | None:
        """Rows a second; None where there are none, or no time has passed."""
        if self.rows is None or self.seconds <= 0:
            return None
        return round(self.rows / self.seconds, 1)

    def end(self) -> None:
        """Note what it took until now."""
        self.seconds = round(time.perf_counter() - self._start, 3)
        self.peak_bytes = peak_bytes()
        self.heap_bytes = None if _watcher is None else _watcher.heap_bytes()

    def fields(self) -> dict[str, Any]:
        """Return what is known, as a log line in JSON has it."""
        found = {
            "seconds": self.seconds,
            "rows": self.rows,
            "rows_per_second": self.rows_per_second,
            "peak_memory_bytes": self.peak_bytes,
            "jvm_heap_bytes": self.heap_bytes,
        }
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        """Say the same in one line."""
        rows = [] if self.rows is None else [f"{self.rows:,} rows"]
        if (speed := self.rows_per_second) is not None:
            rows.append(f"{speed:,.0f} a second")
        memory = [
            f"{name} {size / 2**20:,.0f} MiB"
            for name, size in (("peak memory", self.peak_bytes), ("JVM heap", self.heap_bytes))
            if size is not None
        ]
        took = [f"{self.name} took {self.seconds:.1f} s", ", ".join(rows), ", ".join(memory)]
        return "; ".join(part for part in took if part)


_watcher: Watcher | None = None


def watch(watcher: Watcher) -> None:
    """Describe the steps that follow to this session, and ask it for its memory and tasks."""
    global _watcher
    _watcher = watcher


@contextmanager
def showing(name: str, run_id: str) -> Iterator[Step]:
    """Show a step as long as it lasts: in log lines, in Spark's pages and on a terminal.

    After a failure the log goes on to name the step, so that the line of the error does, too.
    """
    step, before = Step(name), logs.name_step(name)
    if _watcher is not None:
        _watcher.describe(f"{name} ({run_id})")
    try:
        with task_bar(name, None if _watcher is None else _watcher.tasks):
            yield step
    finally:
        if _watcher is not None:
            _watcher.describe(None)
    step.end()
    logs.name_step(before)


def peak_bytes() -> int | None:
    """Return the most memory that this process has had so far; None: not known."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:  # no Linux
        return None
    return int(found[1]) * 1024 if found else None
