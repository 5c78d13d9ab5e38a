"""Named points of a run at which a test can make it wait: `RECSYS_STOP_AT=name:directory`.

There the run makes a file `reached` in the directory, and waits until there is a file `go` or until
it is stopped or killed. Without the variable nothing happens.
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
    "replacing current.json",  # only for parquet: the new file is written, and not renamed yet
    "status committed",  # only for iceberg
    "titles committed",  # only for iceberg, with titles
    "switched",
    "lists forgotten",  # only for iceberg: the old lists, and not their statuses yet
    "forgotten",  # by the index; the files are still there
    "retained",
    "recorded",
)

log = logging.getLogger(__name__)


def stop_point(name: str) -> None:
    """Wait here, if a test has asked for it."""
    wanted, _, folder = os.environ.get(VARIABLE, "").partition(":")
    if wanted != name:
        return
    log.warning("%s: waiting at %r", VARIABLE, name)
    (Path(folder) / "reached").touch()
    while not (Path(folder) / "go").exists() and not stop_requested():
        time.sleep(0.01)
