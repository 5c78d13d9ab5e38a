"""Commands that answer without Spark: their log, their errors and their exit status."""

import logging
import sys
from collections.abc import Callable

from recsys.errors import RecsysError, unexpected
from recsys.runtime import logs


def answer(action: Callable[[], None], *, debug: bool | None = None) -> int:
    """Do something and return the exit status (docs/reference/exit-statuses.md).

    Args:
        action: what is to be done; an error of it is one line on standard error.
        debug: whether to log tracebacks; None: the command has no such option.
    """
    logs.log_to_stderr(logging.WARNING)
    try:
        action()
    except BrokenPipeError:
        raise  # `recsys runs | head`: click ends quietly
    except Exception as error:
        if debug:
            logging.exception("the traceback, as --debug asks")
        if isinstance(error, RecsysError):
            message, exit_code = str(error), error.exit_code
        else:
            hint = " (run with --debug for the traceback)" if debug is False else ""
            message, exit_code = f"unexpected: {unexpected(error)}{hint}", 1
        print(f"recsys: error: {message}", file=sys.stderr)
        return exit_code
    return 0
