"""How a process logs: one line a record, with date, UTC and the run's id.

2026-11-24T08:30:00Z INFO [nightly-2026-11-24] train took 81.3 s
"""

import logging
import sys
import time

_FORMAT = "%(asctime)s %(levelname)s [%(run_id)s] %(message)s"
_NO_RUN = "-"


class _Formatter(logging.Formatter):
    """Writes the time in UTC, as ISO 8601, and the id of the run that the process works for."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(_FORMAT, "%Y-%m-%dT%H:%M:%SZ")
        self.run_id = _NO_RUN

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, whichever library made it."""
        record.run_id = self.run_id
        return super().format(record)


_formatter = _Formatter()


def log_to_stderr(level: int) -> None:
    """Log to standard error from a level on, unless somebody has set up logging already."""
    name_run(_NO_RUN)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter)
    logging.basicConfig(level=level, handlers=[handler])


def name_run(run_id: str) -> None:
    """Write the id of a run into every line from now on."""
    _formatter.run_id = run_id
