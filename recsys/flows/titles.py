"""What items are called, published beside the lists.

Titles are for people. A run whose titles cannot be read says so, and publishes without them.
"""

import logging

import pyarrow as pa
from pyspark.sql import DataFrame

from recsys.columns import ITEM, IdTypes
from recsys.config.sections import Titles
from recsys.errors import RecsysError
from recsys.flows.checks import Check, Checks
from recsys.flows.execution import Job
from recsys.score.local_ids import LocalIds
from recsys.score.titles import check_titles, columns_of, read_cards

log = logging.getLogger(__name__)

_WITHOUT = "the lists are published without titles"


def look(titles: Titles | None, found: Checks) -> None:
    """See whether titles can be read, and warn where not."""
    if titles is None:
        return
    try:
        check_titles(titles)
    except RecsysError as error:
        found.add(Check("items.titles", str(error), state="warning", change=_WITHOUT))
    else:
        found.add(Check("items.titles", "can be read"))


def stage_titles(job: Job, items: pa.Array, id_types: IdTypes) -> DataFrame | None:
    """Write down what items are called.

    All that the model has, not only those of the lists: who looks at lists later looks at
    histories and at the lists of before, too, when the file may be another one or be gone.

    Args:
        job: the run.
        items: the ids of the model's items, in ascending order.
        id_types: of the ids.

    Returns:
        `item_id`, and `title`, `image` and `link`, null where there are none: one row an item, by
        id. None without `items.titles`, or where it cannot be read.
    """
    titles = job.config.items.titles
    if titles is None:
        return None
    ids = items.to_pylist()
    known, convert = set(ids), LocalIds(items).convert

    def to_id(given: object) -> object:
        """Return an id of the model, so that the file may have many others."""
        item = convert(given)
        return item if item in known else None

    try:
        cards = read_cards(titles, to_id)
    except RecsysError as error:
        log.warning("%s: %s", _WITHOUT, error)
        return None
    found = [cards.get(item) for item in ids]
    log.info("titles of %s of %s items", f"{sum(map(bool, found)):,}", f"{len(items):,}")
    uri = f"{job.staging}/titles"
    job.store.write_local(pa.table({ITEM: items, **columns_of(found)}), uri)
    schema = id_types.fill("item_id {item}, title string, image string, link string")
    return job.store.read_table(uri, schema)
