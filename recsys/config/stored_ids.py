"""The ids of models and interactions: the names of their directories in a root."""

import re

from recsys.config.sections import STORED_ID_PATTERN
from recsys.errors import ConfigError


def check_stored_id(found: str, *, key: str, expected: str) -> None:
    """Refuse what is no id of a model or of interactions, and so could lead out of the root.

    Args:
        found: what was given.
        key: where it was given, such as `--model`.
        expected: what it should name, for the message.

    Raises:
        ConfigError: it does not match STORED_ID_PATTERN.
    """
    if not re.fullmatch(STORED_ID_PATTERN, found):
        raise ConfigError(f"{key}: found {found[:180]!r}, expected {expected}")
