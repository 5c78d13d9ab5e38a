"""The page about a run when it has ended: it is made if it can be, and never fails the run."""

import logging
import time

from recsys.errors import one_line
from recsys.flows.manifest import RunManifest
from recsys.store.files import Files

log = logging.getLogger(__name__)


def try_report(files: Files, run: RunManifest, people: int) -> str | None:
    """Write the page of a run that has ended; where that fails, the log says so and nothing else.

    Returns:
        Its URI; None where it failed.
    """
    start = time.perf_counter()
    try:
        # Loaded here: what draws takes a second to load, and must not fail a run either.
        from recsys.flows.report.render import write_report

        place = write_report(files, run, people)
    except Exception as error:  # whatever it is, the run has ended as it has
        log.warning(
            "there is no report of run %s: %s: %s; recsys report %s tries again",
            *(run.run_id, type(error).__name__, one_line(str(error))[:300], run.run_id),
        )
        log.debug("the traceback", exc_info=error)
        return None
    log.info("report took %.1f s", time.perf_counter() - start)
    return place
