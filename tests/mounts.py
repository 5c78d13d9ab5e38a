"""File systems in memory, for tests of full disks and of roots on several file systems."""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

# Mounts one with these options, or mounts it again, and returns where.
Mount = Callable[[str], Path]


def mounted(command: list[str]) -> None:
    """Mount something; skip the test where this user cannot."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command `mount` on this machine")
    if ran.returncode:
        pytest.skip(f"this user cannot mount anything: {ran.stderr.strip()}")


def fill(folder: Path) -> None:
    """Write until nothing more fits."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)
