"""A bar on a terminal for the tasks of Spark that run; nothing where nobody is looking."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recsys.runtime import logs

# Returns how many of the tasks that are under way have ended, and how many there are.
Tasks = Callable[[], tuple[int, int]]

_POLL = 0.5  # seconds
_PATIENCE = 5.0  # seconds, where Spark does not answer any more


@contextmanager
def task_bar(name: str, tasks: Tasks | None) -> Iterator[None]:
    """Show the tasks of a step while it lasts, if there is a terminal.

    Args:
        name: the step's.
        tasks: asked again and again, in a thread of its own; None: there are none.
    """
    if tasks is None or not logs.on_terminal():
        yield
        return
    ended = threading.Event()
    shower = threading.Thread(target=_show, args=(name, tasks, ended), daemon=True)
    shower.start()
    try:
        yield
    finally:
        ended.set()
        shower.join(_PATIENCE)


def _show(name: str, tasks: Tasks, ended: threading.Event) -> None:
    from tqdm import tqdm  # commands without steps need not load it

    bar = None
    while not ended.wait(_POLL):
        done, total = tasks()
        if bar is None and total:
            bar = tqdm(total=total, desc=name, unit="task", leave=False, file=sys.stderr)
        if bar is not None:
            bar.total, bar.n = total or bar.total, done
            bar.refresh()
    if bar is not None:
        bar.close()
