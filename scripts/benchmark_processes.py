"""What /proc says of processes, for the benchmarks: their names, seconds and memory."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY = 0.1  # seconds between two looks at the memory


def below(pid: int) -> list[int]:
    """Return the processes that one has started, and those that these have."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in children.read_text().split()]
        except OSError:  # it has ended
            continue
        for child in direct:
            found += [child, *below(child)]
    return found


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def name_of(pid: int) -> str:
    """Return the name of the program."""
    return _read(pid, "comm").strip()


def cpu_seconds(pid: int) -> float:
    """Return the processor's seconds of a process so far; 0 where it has ended."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def peak_bytes(pid: int) -> int:
    """Return the largest resident size of a process so far; 0 where it has ended.

    Not getrusage's: there a process begins with the peak of the one that started it.
    """
    lines = _read(pid, "status").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


class Watch:
    """The largest resident size of a process, of its JVM, and of its JVM's Python workers.

    Attributes:
        peaks: bytes by kind of process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peaks = {"Python": 0, "JVM": 0, "worker": 0}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the processes again and again: they may be gone at the end."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_EVERY):
                self._look()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._look()

    def _look(self) -> None:
        self._note("Python", self.pid)
        for pid in below(self.pid):
            self._note("JVM" if name_of(pid) == "java" else "worker", pid)

    def _note(self, what: str, pid: int) -> None:
        self.peaks[what] = max(self.peaks[what], peak_bytes(pid))
