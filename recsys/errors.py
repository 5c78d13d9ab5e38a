"""Every error that a user can cause or mend, each with its exit status.

A message says what was expected, what was found and what to do, in one line.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 2_000


def one_line(text: str) -> str:
    """Return text as one printable line: control characters escaped, and cut if too long."""
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def unexpected(error: BaseException) -> str:
    """Describe an unexpected error in one line, with its type."""
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))


class RecsysError(Exception):
    """Base class: whatever derives from it is shown as one line, without a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message as one line, whatever values it names."""
        return one_line(super().__str__())


class ConfigError(RecsysError):
    """The configuration or the command line cannot be used."""

    exit_code = 2


class InputError(RecsysError):
    """The ratings cannot be read, or nothing usable is in them."""

    exit_code = 3


class TooManyRejectsError(RecsysError):
    """A larger share of the rows was rejected than the configuration allows."""

    exit_code = 4


class MemoryLimitError(RecsysError):
    """The data do not fit into the memory of the driver or a worker, or a limit of Spark's."""

    exit_code = 5


class TrainingError(RecsysError):
    """Training cannot start as configured, or the model diverged."""

    exit_code = 6


class ModelError(RecsysError):
    """A stored model is missing, incomplete or damaged."""

    exit_code = 7


class OutputError(RecsysError):
    """A result could not be written, verified or put in its place."""

    exit_code = 8


class UnreadableError(OutputError):
    """A file is there, and its content cannot be read: it counts as damaged."""


class GateError(RecsysError):
    """A result was not good enough to be published."""

    exit_code = 9


class ConflictError(RecsysError):
    """Another process works on the same thing at this moment."""

    exit_code = 10


class LostLockError(ConflictError):
    """This process held a lock and does not any more: whatever it protects may be another's.

    Who would try once more after a ConflictError must not after this one.
    """


class DamageError(RecsysError):
    """A published version is missing, incomplete or damaged."""

    exit_code = 11


class Stopped(BaseException):
    """The run was told to stop by a signal.

    Not an Exception, like KeyboardInterrupt: nothing that handles errors may go on after it.
    """

    exit_code = 1


class Terminated(Stopped):
    """The run was told to stop by SIGTERM."""

    exit_code = 143


class Interrupted(Stopped):
    """The run was told to stop by SIGINT (Ctrl-C)."""

    exit_code = 130


class Complaints:
    """Collects what is wrong, so that a user sees all of it at once."""

    def __init__(self) -> None:
        self.errors: list[RecsysError] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep an error that is raised inside, and go on after it."""
        try:
            yield
        except RecsysError as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raise one error that says everything; its kind is that of the first.

        Raises:
            RecsysError: something was collected.
        """
        if not self.errors:
            return
        if len(self.errors) == 1:
            raise self.errors[0]
        messages = dict.fromkeys(str(error) for error in self.errors)
        raise type(self.errors[0])("; ".join(messages)) from self.errors[0]
