"""What the steps of a run tell the Spark session, and ask it."""

from contextlib import suppress
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext


class SessionWatcher:
    """A session as `recsys.runtime.steps` sees it.

    Nothing here fails a run: a JVM that is gone is noticed by the work itself.
    """

    def __init__(self, context: SparkContext) -> None:
        self._context = context

    def describe(self, text: str | None) -> None:
        """Give the jobs that this thread starts from now on, and their stages, a description."""
        with suppress(Py4JError, OSError, AttributeError):  # a stopped context has no _jsc
            jvm_context: Any = self._context._jsc
            jvm_context.setLocalProperty("spark.job.description", text)

    def heap_bytes(self) -> int | None:
        """Return how much memory the driver's JVM has taken for its heap; None: not known."""
        jvm: Any = self._context._jvm
        with suppress(Py4JError, OSError, AttributeError):
            return int(jvm.java.lang.Runtime.getRuntime().totalMemory())
        return None

    def tasks(self) -> tuple[int, int]:
        """Return how many tasks of the stages that run now have ended, and how many there are."""
        done = total = 0
        with suppress(Py4JError, OSError, AttributeError):
            tracker = self._context.statusTracker()
            for stage in tracker.getActiveStageIds():
                found = tracker.getStageInfo(stage)
                if found is not None:
                    done, total = done + found.numCompletedTasks, total + found.numTasks
        return done, total
