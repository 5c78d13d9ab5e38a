"""A run: its id, its date and its steps, and the versions of what runs it."""

import datetime as dt
import importlib.metadata
import logging
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex

from recsys import __version__
from recsys.config.sections import RUN_ID_PATTERN
from recsys.errors import ConfigError
from recsys.runtime.signals import check_stop

_LIBRARIES = ("lightfm-next", "numpy", "scipy", "pandas", "pyarrow", "pyspark")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One execution of a job: what a scheduler calls it and the day that it works for."""

    run_id: str
    run_date: dt.date
    started_at: dt.datetime
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Log a step and record its duration in seconds under its name.

        A run that is to stop does so before a step or at its end.
        """
        check_stop()
        log.info("%s ...", name)
        start = time.perf_counter()
        yield
        check_stop()
        self.timings[name] = round(time.perf_counter() - start, 3)
        log.info("%s took %.1f s", name, self.timings[name])


def new_run(run_id: str | None = None, run_date: dt.date | None = None) -> Run:
    """Begin a run; the id defaults to a new one, the date to today (UTC).

    Raises:
        ConfigError: the run id could not be a directory's name that every reader takes for text.
    """
    now = dt.datetime.now(dt.UTC)
    if run_id is None:
        run_id = f"r{now:%Y%m%dT%H%M%SZ}-{token_hex(3)}"
    elif not re.fullmatch(RUN_ID_PATTERN, run_id):
        raise ConfigError(
            f"--run-id: found {run_id[:140]!r}, expected a letter a-z, then letters, digits, _, - "
            "and ., at most 128 characters"
        )
    return Run(run_id, run_date or now.date(), now)


def versions() -> dict[str, str]:
    """Return the versions of this project, Python and the libraries that shape results."""
    found = {"recsys": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def run_lock(run_id: str) -> str:
    """Name the lock that a run holds from its beginning to its end."""
    return f"run-{run_id}"
