"""Signals: how a run ends when it is told to."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from recsys.errors import Terminated

T = TypeVar("T")


def stop_on_sigterm(*, with_parent: bool = False) -> None:
    """Raise Terminated in the main thread on SIGTERM.

    Args:
        with_parent: also when the parent process ends. A scheduler's SIGTERM reaches spark-submit,
            which is the JVM, and not the Python process that it started.
    """

    signal.signal(signal.SIGTERM, _stop)
    if with_parent:
        threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()


def _stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: let the run clean up
    raise Terminated("stopped by SIGTERM; run again with the same run id to go on")


@contextmanager
def postponed() -> Iterator[None]:
    """Let a SIGTERM wait until the end: a JVM that is just being launched would be left alone."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: came.append(signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came and before is _stop:
            os.kill(os.getpid(), signal.SIGTERM)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def interruptible(work: Callable[[], T]) -> T:
    """Run a long call into C in a thread of its own, so that signals reach Python meanwhile.

    Python handles signals in the main thread between two of its own instructions; an epoch of
    LightFM is a single one, for half a minute.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.1)
    if failure:
        raise failure[0]
    return result[0]
