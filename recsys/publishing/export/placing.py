"""A file that is written beside its place and moved there whole."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import ConfigError, OutputError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def check_place(target: Path, root: Path | None, *, overwrite: bool, option: str = "--to") -> None:
    """Refuse a place where no file can be put, before anything is read.

    Args:
        target: where the file is to be.
        root: that of the versions, which holds nothing else; None: it is not on this machine.
        overwrite: whether a file may be there.
        option: of the command line, which names the place.

    Raises:
        ConfigError: it is a directory, inside of the root, or in no directory.
        OutputError: there is a file already.
    """
    if target.is_dir():
        raise ConfigError(f"{option}: found the directory {target}, expected the name of a file")
    if not target.parent.is_dir():
        raise ConfigError(f"{option}: found {target}, but there is no directory {target.parent}")
    if root is not None and target.parent.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{option}: found {target}, expected a place outside of the root {root}")
    if target.exists() and not overwrite:
        raise _there(target)


@contextmanager
def written_beside(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path beside a file; what is written there is moved into its place at the end.

    Raises:
        OutputError: somebody has put a file there meanwhile, or the system refuses.
    """
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            yield beside
            _sync(beside)
            if overwrite:
                beside.replace(target)
            else:
                _move(beside, target)
            _sync(target.parent)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; check its space and permissions"
        ) from error


def _move(beside: Path, target: Path) -> None:
    """Give a file its name unless another one has it; a link is made in one step."""
    try:
        target.hardlink_to(beside)
    except FileExistsError:
        raise _there(target) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise _there(target) from None
        beside.replace(target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _there(target: Path) -> OutputError:
    return OutputError(f"{target} is there already; say --overwrite, or choose another name")
