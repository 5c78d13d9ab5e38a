"""From raw rows to lists: how many there are at each stage, and why rows were rejected."""

from dataclasses import dataclass

from recsys.columns import REJECTS_SCHEMA, names
from recsys.flows.manifest import RunManifest
from recsys.flows.report.records import Data, Records
from recsys.ingest.manifest import PreparationCounts

_EXAMPLES = 5


@dataclass(frozen=True)
class Stage:
    """A number, and what it is a part of.

    Attributes:
        name: what is counted.
        count: how many.
        of: what the bar is measured by; the largest of its group.
        part: whether it is a part of the stage above it.
    """

    name: str
    count: int
    of: int
    part: bool = False

    @property
    def share(self) -> float:
        """The part of `of`, at most 1."""
        return min(1.0, self.count / self.of) if self.of else 0.0


def stages(records: Records) -> dict[str, list[Stage]]:
    """Return the stages in groups of the same unit, by the name of each group."""
    run, model = records.run, records.model
    counts = run.counts or (None if model is None else model.counts)
    groups = {} if counts is None else _prepared(counts)
    sample = run.sample or (None if model is None else model.sample)
    if counts is not None and sample is not None:
        groups["Users"].append(Stage("users of the sample", sample.users, counts.users, part=True))
        groups["Items"].append(Stage("items of the sample", sample.items, counts.items, part=True))
    if run.evaluation is not None:
        held = run.evaluation
        pairs = [
            Stage("pairs in train", held.pairs_in_train, held.pairs_in_train),
            Stage("held out for the test", held.pairs_in_test, held.pairs_in_train),
            Stage("of these liked", held.relevant_pairs, held.pairs_in_train, part=True),
        ]
        users = [
            Stage("users", held.users, held.users),
            Stage("evaluated", held.users_evaluated, held.users, part=True),
        ]
        groups |= {"Split": pairs, "Evaluation": users}
    return {**groups, **_served(run, records)}


def _prepared(counts: PreparationCounts) -> dict[str, list[Stage]]:
    rows, pairs = counts.rows_read, counts.pairs
    return {
        "Rows and pairs": [
            Stage("rows read", rows, rows),
            Stage("rows that can be used", counts.rows_accepted, rows),
            Stage("pairs of a user and an item", pairs, rows),
            Stage("liked", counts.positive_pairs, rows, part=True),
            Stage("disliked", counts.negative_pairs, rows, part=True),
            Stage("left out of the training", counts.pairs_left_out, rows, part=True),
        ],
        "Users": [
            Stage("users with a pair", counts.users, counts.users),
            Stage("users in the training", counts.users_in_training, counts.users, part=True),
        ],
        "Items": [
            Stage("items with a pair", counts.items, counts.items),
            Stage("items in the training", counts.items_in_training, counts.items, part=True),
        ],
    }


def _served(run: RunManifest, records: Records) -> dict[str, list[Stage]]:
    version = records.version
    if version is None:
        return {}
    tables = version.manifest.tables
    asked = tables.status.rows
    by_status = run.by_status or tables.status.by_status
    parts = [Stage(name, n, asked, part=True) for name, n in by_status.items()]
    return {"Requests": [Stage("requested ids", asked, asked), *parts]}


def rejected(records: Records) -> list[Stage]:
    """Return the rejected rows by reason, the most frequent first."""
    known = records.run.counts
    if known is None and records.interactions is not None:
        known = records.interactions.counts
    if known is None:
        return []
    most = max(known.rejected_by_reason.values(), default=0)
    return [Stage(reason, n, most) for reason, n in known.rejected_by_reason.items()]


def rejected_rows(rejects: Data | None) -> list[dict[str, str | None]]:
    """Return a few rejected rows as they were found, of different reasons where there are."""
    found: dict[str, list[dict[str, str | None]]] = {}
    if rejects is None or not rejects.readable:
        return []
    for batch in rejects.batches(names(REJECTS_SCHEMA)):
        for row in batch.slice(0, 10_000).to_pylist():
            kept = found.setdefault(row["reason"], [])
            if len(kept) < _EXAMPLES:
                kept.append(row)
    some: list[dict[str, str | None]] = []
    for at in range(_EXAMPLES):
        some += [rows[at] for _, rows in sorted(found.items()) if at < len(rows)]
    return some[:_EXAMPLES]
