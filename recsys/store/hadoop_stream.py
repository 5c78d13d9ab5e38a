"""A file on one of Hadoop's file systems as a file of Python's."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from py4j.protocol import Py4JError

from recsys.runtime.spark_errors import spark_reason

_MOST = 4 * 2**20  # bytes at once: they come from the JVM as text


class HadoopStream(io.RawIOBase):
    """Reads a stream of Hadoop's: for small parts of a file, such as a Parquet file's footer.

    It raises OSError, as other files do, where a block cannot be read.
    """

    def __init__(self, stream: Any, size: int) -> None:
        self._stream, self._size = stream, size

    def readable(self) -> bool:
        """Whether it can be read: it can."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from its middle: it can."""
        return True

    def tell(self) -> int:
        """Return the place in bytes from the beginning."""
        with _reading():
            return int(self._stream.getPos())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        with _reading():
            self._stream.seek(base + offset)
        return base + offset

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return how many bytes: fewer only for much or at the end."""
        with _reading():
            found = bytes(self._stream.readNBytes(min(len(buffer), _MOST)))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Close it, here and in the JVM."""
        if not self.closed:
            with suppress(Py4JError):  # nothing was written
                self._stream.close()
        super().close()


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except Py4JError as error:
        raise OSError(spark_reason(error)) from error
