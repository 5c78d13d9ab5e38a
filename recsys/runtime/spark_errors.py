"""What Spark's errors say, as one line."""

import re

from recsys.config.redaction import redact


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
