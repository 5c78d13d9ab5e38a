"""Stopping: how a run ends when SIGTERM or Ctrl-C tells it to.

No signal ever breaks into the work. The work has a thread of its own (`supervised`). The main
thread takes the signal, remembers it, and cancels Spark's jobs until the work has noticed. The work
looks at places where it can end cleanly (`check_stop`).

An exception from a signal handler would be simpler, and wrong: it may come while py4j waits for an
answer of the JVM. The answer then stays in the socket, and each later call reads the one before.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Generic, TypeVar

from recsys.errors import Interrupted, RecsysError, Stopped, Terminated

T = TypeVar("T")

_KINDS: dict[int, type[Stopped]] = {signal.SIGTERM: Terminated, signal.SIGINT: Interrupted}
_POLL = 0.1  # seconds


class _State:
    """What is known of a stop; signals are a matter of the whole process.

    Attributes:
        reason: why to stop; the first one counts.
        noticed: whether the work is ending because of it.
        settled: whether the end is decided, so that a stop comes too late.
        unstoppable: how many sections that must be finished the work is in.
    """

    def __init__(self) -> None:
        self.reason: Stopped | RecsysError | None = None
        self.noticed = False
        self.settled = False
        self.unstoppable = 0


_state = _State()


def listen() -> None:
    """From now on, remember SIGTERM and SIGINT. To be called in the main thread.

    A shell lets what it starts in the background ignore SIGINT, and that stays so.
    """
    global _state
    _state = _State()
    for number in _KINDS:
        if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, _on_signal)


def ignore() -> None:
    """Ignore both signals: the exit status is decided, and only the process has yet to end."""
    for number in _KINDS:
        signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    request_stop(stopped_by(number))


def stopped_by(number: int) -> Stopped:
    """Return what to raise after a signal."""
    name = signal.Signals(number).name
    return _KINDS[number](f"stopped by {name}; run again with the same run id to go on")


def request_stop(reason: Stopped | RecsysError) -> None:
    """Let the work end at its next check; a second reason changes nothing."""
    if _state.reason is None and not _state.settled:
        _state.reason = reason


def stop_requested() -> bool:
    """Whether the work is to end."""
    return _state.reason is not None


def settle() -> Stopped | RecsysError | None:
    """Return why the work is to end, if a stop was requested; one that comes later is too late.

    For who handles an error: after a request it may be a call that was cancelled.
    """
    _state.settled = True
    return _reason()


def check_stop() -> None:
    """End here if a stop was requested, unless in a section that must be finished.

    Raises:
        Stopped: a signal came.
        RecsysError: what else ends a run from outside.
    """
    if not _state.unstoppable and (reason := _reason()) is not None:
        raise reason


def _reason() -> Stopped | RecsysError | None:
    if _state.reason is None:
        return None
    _state.noticed = True
    return type(_state.reason)(*_state.reason.args)


@contextmanager
def unstoppable() -> Iterator[None]:
    """Mark steps that belong together, and take no time: a check in between does nothing."""
    _state.unstoppable += 1
    try:
        yield
    finally:
        _state.unstoppable -= 1


def supervised(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Do the work in a thread of its own, while this one waits for signals.

    Args:
        work: what to do; it calls `check_stop`.
        cancel: makes calls that the work waits for come back, with an error; it is called again
            and again until the work has noticed the stop, since the work may begin another call.
    """
    call = _Call(work)
    while not call.ended(within=_POLL):
        if _state.reason is not None and not _state.noticed:
            cancel()
    return call.result()


def interruptible(work: Callable[[], T]) -> T:
    """Do pure computation in a thread of its own, and leave it alone when a stop is requested.

    An epoch of LightFM is one call into C, for half a minute; nothing in it can check. On little
    data it ends before this thread looks, so the check stands before it as well.
    """
    check_stop()
    call = _Call(work)
    while not call.ended(within=_POLL):
        check_stop()
    return call.result()


class _Call(Generic[T]):
    """A call in a thread of its own, which does not keep the process alive."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._error = error

    def ended(self, within: float) -> bool:
        """Wait for the end, for so many seconds at most, and say whether it came."""
        self._thread.join(timeout=within)
        return not self._thread.is_alive()

    def result(self) -> T:
        """Return or raise what the call did."""
        if self._error is not None:
            raise self._error
        return self._results[0]
