"""What Spark's errors say, as one line."""

import re

from py4j.protocol import Py4JError

from recsys.config.redaction import redact
from recsys.errors import MemoryLimitError

_OVER_LIMIT = re.compile(
    r"Total size of serialized results of \d+ tasks? \((.+?)\) is bigger than "
    r"spark\.driver\.maxResultSize \((.+?)\)"
)


def over_result_limit(error: BaseException) -> MemoryLimitError | None:
    """Return what to say in place of an error behind which is Spark's limit of a result.

    What is known to be large is measured before it is collected (`memory.check_result`). This is
    for all the rest.

    Args:
        error: any error; those that it was raised from are looked at, too.

    Returns:
        None where it is another error.
    """
    behind: BaseException | None = error
    while behind is not None:
        try:
            found = _OVER_LIMIT.search(str(behind))
        except (Py4JError, OSError):  # it asks the JVM for its text, which may be gone
            found = None
        if found is not None:
            return MemoryLimitError(
                f"Spark has {found[1]} to collect, but spark.driver.maxResultSize is {found[2]}; "
                "raise it, or give less data"
            )
        behind = behind.__cause__
    return None


def spark_reason(error: BaseException) -> str:
    """Return the innermost reason of an error of Spark's as one line, without Java's stack."""
    text = str(error)
    raised = re.findall(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception)): (.+)$", text, re.MULTILINE)
    if "Traceback (most recent call last)" in text and raised:  # in a Python worker
        return str(redact(": ".join(raised[-1])))[:400]
    causes = re.findall(r"Caused by: [\w.$]+: (.+(?:\n[^\tC].*)*)", text)
    lines = [line.strip() for line in (causes[-1] if causes else text).splitlines()]
    kept = []
    for line in lines:
        if line.startswith(("at ", "JVM stacktrace", "== SQL", "Traceback")):
            break
        kept.append(re.sub(r"^:?\s*[\w.$]+(?:Exception|Error): ", "", line))
    reason = " ".join(part for part in kept if part)
    reason = re.sub(r"An error occurred while calling \S+\s*", "", reason).strip(" .:")
    return redact(reason)[:400] or type(error).__name__
