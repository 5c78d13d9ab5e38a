"""How a process logs: one line a record, as text or as JSON, with UTC, run and step.

2026-11-24T08:30:00Z INFO [nightly-2026-11-24] train took 81.3 s
"""

import logging
import sys
import time
from contextlib import nullcontext
from typing import IO, Any, Literal

Form = Literal["text", "json"]
FORMS: tuple[Form, ...] = ("text", "json")

_FORMAT = "%(asctime)s %(levelname)s [%(run_id)s] %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NO_RUN = "-"


class _Context:
    """What every line says beside its message; there is one for the whole process.

    Attributes:
        run_id: of the run that the process works for.
        step: what it does now, or was doing when it failed; None: nothing yet.
        form: how it logs.
    """

    def __init__(self) -> None:
        self.run_id = _NO_RUN
        self.step: str | None = None
        self.form: Form = "text"


_context = _Context()


class TextFormatter(logging.Formatter):
    """Writes the time in UTC, as ISO 8601, and the id of the run that the process works for."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(_FORMAT, _TIME)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, whichever library made it."""
        record.run_id = _context.run_id
        return super().format(record)


def json_formatter() -> logging.Formatter:
    """Return what writes each record as one JSON object.

    Its keys are `time`, `level`, `run_id`, `step`, `logger`, `message`, and those that the record
    brings: `rows` and the like at the end of a step; `error`, `error_kind` and `exit_status` at the
    end of a run.
    """
    from pythonjsonlogger.json import JsonFormatter  # takes a while; most processes log text

    class Formatter(JsonFormatter):
        converter = staticmethod(time.gmtime)

        def add_fields(
            self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
        ) -> None:
            log_data |= {
                "time": self.formatTime(record, self.datefmt),
                "level": record.levelname,
                "run_id": None if _context.run_id == _NO_RUN else _context.run_id,
                "step": _context.step,
                "logger": record.name,
            }
            super().add_fields(log_data, record, message_dict)

    return Formatter("%(message)s", _TIME, json_ensure_ascii=False)


class _Handler(logging.StreamHandler[IO[str]]):
    """Writes lines above the progress bars of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; bars that are shown make room for it."""
        above: Any = nullcontext()
        if on_terminal():
            from tqdm import tqdm

            above = tqdm.external_write_mode(file=self.stream)
        with above:
            super().emit(record)


def log_to_stderr(level: int, form: Form = "text") -> None:
    """Log to standard error from a level on, unless somebody has set up logging already.

    Args:
        level: of `logging`.
        form: `text` or `json`. As JSON, Python's own warnings are lines like all others.
    """
    name_run(_NO_RUN)
    _context.form = form
    handler = _Handler(sys.stderr)
    handler.setFormatter(json_formatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(form == "json")


def name_run(run_id: str) -> None:
    """Write the id of a run into every line from now on; it has no step yet."""
    _context.run_id, _context.step = run_id, None


def name_step(name: str | None) -> str | None:
    """Write the name of a step into every line of JSON from now on, and return the one before."""
    before, _context.step = _context.step, name
    return before


def as_json() -> bool:
    """Whether this process logs as JSON."""
    return _context.form == "json"


def on_terminal() -> bool:
    """Whether somebody is looking: standard error is a terminal, and lines are text."""
    return not as_json() and sys.stderr is not None and sys.stderr.isatty()
