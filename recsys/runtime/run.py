"""A run: its id, its date and its steps, and the versions of what runs it.

Schedulers give their runs ids that no directory can have, such as
`scheduled__2026-11-24T00:00:00+00:00`. A run takes such an id and makes a name of it, which is its
run id in every path and table.
"""

import datetime as dt
import hashlib
import importlib.metadata
import logging
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex

from recsys.config.sections import RUN_ID_PATTERN
from recsys.errors import ConfigError
from recsys.runtime.build import commit, version
from recsys.runtime.signals import check_stop
from recsys.runtime.steps import Step, showing

LONGEST_REQUESTED_ID = 250
_LONGEST_SLUG = 80
# What fits RUN_ID_PATTERN, and still is no text to some readers, or no version's directory to
# this package.
_MISREAD = re.compile(
    r"nan|nat|na|null|none|inf|infinity|true|false|epoch|.*\.(json|tmp|crc)", re.IGNORECASE
)
_LIBRARIES = ("lightfm-next", "numpy", "scipy", "pandas", "pyarrow", "pyspark")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One execution of a job.

    Attributes:
        run_id: its name in every path and table.
        run_date: the day that it works for.
        started_at: when this attempt of it began, in UTC.
        timings: seconds of each step that has ended.
        requested_run_id: its id as it was given; None where none was.
        first_started_at: when its first attempt began, in UTC; by default this one is the first.
        workers: versions on Spark's Python workers, once one was looked at.
        rows: of each step that has ended and has any.
    """

    run_id: str
    run_date: dt.date
    started_at: dt.datetime
    timings: dict[str, float] = field(default_factory=dict)
    requested_run_id: str | None = None
    first_started_at: dt.datetime = None  # type: ignore[assignment] # see __post_init__
    workers: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take this attempt for the first, unless another one is named."""
        if self.first_started_at is None:
            object.__setattr__(self, "first_started_at", self.started_at)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Log a step, and record its duration in seconds and its rows under its name.

        What is given is the step, which takes the number of its rows. A run that is to stop does so
        before a step or at its end.
        """
        check_stop()
        log.info("%s ...", name)
        with showing(name, self.run_id) as step:
            yield step
            check_stop()
        self.timings[name] = step.seconds
        if step.rows is not None:
            self.rows[name] = step.rows
        log.info("%s", step, extra={"step_ended": name, **step.fields()})


def new_run(requested_id: str | None = None, run_date: dt.date | None = None) -> Run:
    """Begin a run; the id defaults to a new one, the date to today (UTC).

    Args:
        requested_id: printable text of at most LONGEST_REQUESTED_ID characters; see `run_name`.
        run_date: the day that the run works for.

    Raises:
        ConfigError: the id is something else.
    """
    now = dt.datetime.now(dt.UTC)
    date = run_date or now.date()
    if requested_id is None:
        return Run(f"r{now:%Y%m%dT%H%M%SZ}-{token_hex(3)}", date, now)
    fits = len(requested_id) <= LONGEST_REQUESTED_ID and requested_id.isprintable()
    if not fits or not requested_id.strip():
        raise ConfigError(
            f"--run-id: found {requested_id[:140]!r} ({len(requested_id):,} characters), expected "
            f"1 to {LONGEST_REQUESTED_ID} printable characters"
        )
    name = run_name(requested_id)
    if name != requested_id:
        log.info("run id %s: directories and tables call it %s", requested_id, name)
    return Run(name, date, now, requested_run_id=requested_id)


def run_name(requested_id: str) -> str:
    """Return the run id that a requested id gets.

    An id that matches RUN_ID_PATTERN stays as it is, and so does the name of another id. Others
    become readable and end in a hash of the original: the same for every attempt, and another one
    for every other id. A name begins with a letter and is no word such as `nan`, so that no reader
    takes it for a number or a date.
    """
    if re.fullmatch(RUN_ID_PATTERN, requested_id) and not _MISREAD.fullmatch(requested_id):
        return requested_id
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", requested_id)[:_LONGEST_SLUG].strip("-_.")
    if not re.match("[a-z]", slug):
        slug = f"r-{slug}".rstrip("-")
    hashed = hashlib.sha256(requested_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug}-{hashed[:16]}"


def versions() -> dict[str, str]:
    """Return the versions of this package, its commit, Python and the libraries behind results."""
    found = {"recsys": version(), "commit": commit(), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def run_lock(run_id: str) -> str:
    """Name the lock that a run holds from its beginning to its end."""
    return f"run-{run_id}"
