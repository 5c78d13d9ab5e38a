"""Named steps of a run, at which a test can stop the world: `RECSYS_STOP_AT=name:directory`.

At that step the run says so by a file `reached` in the directory and waits until there is one
called `go`, or until it is stopped or killed. Without the variable a step does nothing.
"""

import logging
import os
import time
from pathlib import Path

from recsys.runtime.signals import stop_requested

VARIABLE = "RECSYS_STOP_AT"

# In the order in which a run with recommendations reaches them.
STOP_POINTS = (
    "begun",
    "prepared",
    "trained",
    "model written",
    "staged",
    "judged",
    "placed",
    "replacing current.json",  # parquet alone: written beside it, not renamed yet
    "status committed",  # iceberg alone
    "switched",
    "lists forgotten",  # iceberg alone: old recommendations, not their statuses yet
    "forgotten",  # by the index; the files are still there
    "retained",
    "recorded",
)

log = logging.getLogger(__name__)


def stop_point(name: str) -> None:
    """Say that a run is here."""
    wanted, _, folder = os.environ.get(VARIABLE, "").partition(":")
    if wanted != name:
        return
    log.warning("%s: waiting at %r", VARIABLE, name)
    (Path(folder) / "reached").touch()
    while not (Path(folder) / "go").exists() and not stop_requested():
        time.sleep(0.01)
