"""Keeping secrets out of manifests, logs and messages."""

import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(
    r"(?i)secret|passw|token|credential|(access|account|api).?key|private|(^|[._-])(sas|sig|auth)"
)
# user:password@ in a URI (a name alone is no secret: in abfss:// it is the container), signatures
# in its query, keys in the connection strings of stores, and passwords among Java's options.
# SQLAlchemy takes passwords with @ and / in them; digits in front of a / are a port.
_SECRETS_IN_TEXT = (
    (re.compile(r"(?<=://)([^/@:\s]*):(?:[^/\s]*|(?!\d*/)[^@\s]*)@"), r"\1@"),
    (re.compile(r"(?i)([?&](?:sig|token|key|password|secret)[^=&\s]*=)[^&\s]+"), r"\1(redacted)"),
    (
        re.compile(r"(?i)((?:account|access).?key|signature|pwd|passw\w*)=[^;&\s]+"),
        r"\1=(redacted)",
    ),
    (re.compile(r"(?i)(-D\S*(?:passw|secret|token|key)\S*=)\S+"), r"\1(redacted)"),
)
REDACTED = "(redacted)"


def names_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret."""
    return _SECRET.search(key) is not None


def redact(value: Any) -> Any:
    """Replace the values of keys that name secrets, and secrets inside of text."""
    if isinstance(value, Mapping):
        return {
            # Names of sections are no secrets, whatever they are called.
            key: REDACTED
            if names_secret(str(key)) and not isinstance(inner, Mapping)
            else redact(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [redact(inner) for inner in value]
    if isinstance(value, str):
        for pattern, replacement in _SECRETS_IN_TEXT:
            value = pattern.sub(replacement, value)
    return value
