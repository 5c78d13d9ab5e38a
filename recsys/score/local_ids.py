"""The ids of a model, as a person or a program gives them: numbers or text. No Spark."""

import re
from typing import Any

import pyarrow as pa

_TYPES = {pa.int32(): ("int", 32), pa.int64(): ("bigint", 64)}


class LocalIds:
    """The type that the ids of a model's users or items have.

    Attributes:
        type: Spark's name of it: `int`, `bigint` or `string`.
    """

    def __init__(self, ids: pa.Array) -> None:
        """Take the type of the ids, an Arrow array of int32, int64 or string."""
        self.type, self._bits = _TYPES.get(ids.type, ("string", 0))

    def convert(self, value: object) -> Any:
        """Return an id of this type, or None; as `recsys.ingest.ids.convert_id` has it."""
        text = "" if value is None else str(value)
        if not text.strip() or "\ufffd" in text or not _is_unicode(text):
            return None
        if not self._bits:
            return text
        digits = re.fullmatch(r"([+-]?)0*([0-9]{1,19})(\.0+)?", text.strip())
        if digits is None:
            return None
        number = int(digits[1] + digits[2])
        return number if -(1 << self._bits - 1) <= number < 1 << self._bits - 1 else None


def _is_unicode(text: str) -> bool:
    """Whether it is text: what a command line has of other bytes comes as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
