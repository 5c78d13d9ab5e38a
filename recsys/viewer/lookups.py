"""What is published of a user or an item, and what differs between two runs. No Spark."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import ITEM, LABEL, RANK, REASON, SCORE, STATUS, USER
from recsys.config.keys import flat
from recsys.flows.manage import Place
from recsys.flows.manifest import RunManifest
from recsys.flows.record import read_run
from recsys.flows.report import quality
from recsys.flows.report.change import change, items_of
from recsys.flows.report.names import search, titles_of
from recsys.flows.report.people import Person, person
from recsys.flows.report.records import Data, Records
from recsys.ingest.local_pairs import ARROW
from recsys.publishing.versions import RECOMMENDATIONS, latest_per_cohort
from recsys.score.local_ids import LocalIds

_NAMED = 50


@dataclass(frozen=True)
class OfUser:
    """What a run has published of a user.

    Attributes:
        run: the run.
        person: the user's list and history; None where there is neither.
        status: what became of the user's request; None where the user was not asked for.
        reason: the status in words.
    """

    run: RunManifest
    person: Person | None
    status: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class OfItem:
    """In how many of a run's lists an item is.

    Attributes:
        run: the run.
        item: the id.
        title: what it is called; None where that is not known.
        lists: how many lists have it.
        all_lists: how many lists there are.
        mean_rank: its mean rank in them; None where no list has it.
        mean_score: likewise.
        pairs: how many users have interacted with it.
        likes: how many of these like it.
    """

    run: RunManifest
    item: Any
    title: str | None
    lists: int
    all_lists: int
    mean_rank: float | None
    mean_score: float | None
    pairs: int
    likes: int


@dataclass(frozen=True)
class Compared:
    """What differs between two runs.

    Attributes:
        runs: both, the earlier one first as it was asked for.
        facts: names of numbers with their two values.
        configuration: keys that differ, with their two values.
        change: the difference between their lists; None where one has none.
        titles: of the items in it.
    """

    runs: tuple[RunManifest, RunManifest]
    facts: list[tuple[str, Any, Any]]
    configuration: list[tuple[str, Any, Any]]
    change: dict[str, Any] | None = None
    titles: dict[Any, str] = field(default_factory=dict)


class Lookups:
    """Reads the tables of what readers see now."""

    def __init__(self, place: Place) -> None:
        """Take the root."""
        self._place = place

    def user(self, asked: str) -> list[OfUser]:
        """Return what is published of a user in each cohort, with the user's history."""
        found = []
        for records in self._current():
            version = records.version
            kind = version.manifest.schemas[RECOMMENDATIONS]["user_id"] if version else ""
            user = _typed(asked, kind)
            if version is None or user is None:
                continue
            one = person([records.lists(version)], records.pairs(), user, kind)
            status, reason = _status(records.statuses(version), user)
            if one is not None or status is not None:
                found.append(OfUser(records.run, one, status, reason))
        return found

    def titles_of(self, found: Sequence[OfUser]) -> dict[Any, str]:
        """Return the titles of all items that are shown of a user."""
        wanted = {
            row.item
            for one in found
            if one.person is not None
            for row in (*one.person.history, *one.person.recommended)
        }
        return self._titles(wanted)

    def item(self, asked: str) -> list[OfItem]:
        """Return in how many lists of each cohort an item is."""
        found = []
        for records in self._current():
            one = self._of_item(records, asked)
            if one is not None:
                found.append(one)
        return found

    def search(self, text: str) -> dict[Any, str]:
        """Return the items whose titles have a text in them, the shortest titles first."""
        for records in self._current():
            if found := search(records, text, _NAMED):
                return found
        return {}

    def compare(self, before: RunManifest, after: RunManifest) -> Compared:
        """Compare two runs."""
        sides = [Records(self._place.files, run) for run in (before, after)]
        then, now = (one.version for one in sides)
        found = None
        if then is not None and now is not None:
            # Pages are made while somebody waits, and several at once.
            found = change((sides[0], then), (sides[1], now), causes=False)
        wanted: set[Any] = set() if found is None else items_of(found)
        titles = titles_of(sides[0], wanted) | titles_of(sides[1], wanted)
        facts = [dict(_facts(one)) for one in sides]
        configurations = [dict(flat(run.configuration)) for run in (before, after)]
        return Compared(
            runs=(before, after),
            facts=_beside(facts[0], facts[1]),
            configuration=[
                row
                for row in _beside(configurations[0], configurations[1], ordered=True)
                if row[1] != row[2]
            ],
            change=found,
            titles=self._titles(wanted - titles.keys()) | titles,
        )

    def _current(self) -> Iterator[Records]:
        """Yield the runs whose lists readers see, of each cohort those of its latest day."""
        index = self._place.index
        for unit in latest_per_cohort(index.units()):
            version = index.current(unit)
            run = None if version is None else read_run(self._place.files, version.run_id)
            if run is not None:
                yield Records(self._place.files, run)

    def _titles(self, wanted: Any) -> dict[Any, str]:
        found: dict[Any, str] = {}
        for records in self._current() if wanted else ():
            found = {**titles_of(records, wanted), **found}
        return found

    def _of_item(self, records: Records, asked: str) -> OfItem | None:
        version = records.version
        kind = version.manifest.schemas[RECOMMENDATIONS]["item_id"] if version else ""
        item = _typed(asked, kind)
        if version is None or item is None:
            return None
        lists, ranks, scores = 0, [], []
        for batch in records.lists(version).batches([ITEM, RANK, SCORE]):
            lists += int(pc.sum(pc.equal(batch.column(RANK), 1)).as_py() or 0)
            mine = batch.filter(pc.equal(batch.column(ITEM), item))
            ranks += mine.column(RANK).to_pylist()
            scores += mine.column(SCORE).to_pylist()
        pairs = likes = 0
        data = records.pairs()
        for batch in data.batches([ITEM, LABEL]) if data is not None else ():
            mine = batch.filter(pc.equal(batch.column(ITEM), item))
            pairs += len(mine)
            likes += int(pc.sum(pc.equal(mine.column(LABEL), 1)).as_py() or 0)
        title = titles_of(records, [item]).get(item)
        if not ranks and not pairs and title is None:
            return None
        return OfItem(
            run=records.run,
            item=item,
            title=title,
            lists=len(ranks),
            all_lists=lists,
            mean_rank=sum(ranks) / len(ranks) if ranks else None,
            mean_score=sum(scores) / len(scores) if scores else None,
            pairs=pairs,
            likes=likes,
        )


def _typed(asked: str, kind: str) -> Any:
    return LocalIds(pa.nulls(0, ARROW[kind])).convert(asked) if kind in ARROW else None


def _status(statuses: Data, user: Any) -> tuple[str | None, str | None]:
    """Return what became of a user's request, and that in words."""
    for batch in statuses.batches([USER, STATUS, REASON]):
        mine = batch.filter(pc.equal(batch.column(USER), user)).to_pylist()
        if mine:
            return mine[0][STATUS], mine[0][REASON]
    return None, None


def _facts(records: Records) -> Iterator[tuple[str, Any]]:
    run, version = records.run, records.version
    yield "command", run.job
    yield "run date", run.run_date
    yield "model", run.model_id
    model = records.model
    counts = run.counts or (None if model is None else model.counts)
    if counts is not None:
        yield "rows read", counts.rows_read
        yield "rows rejected", counts.rows_rejected
        yield "pairs", counts.pairs
        yield "users with a pair", counts.users
        yield "items with a pair", counts.items
    if version is not None:
        yield "rows of recommendations", version.manifest.tables.recommendations.rows
        yield "requested ids", version.manifest.tables.status.rows
    curve = quality.curve(records)
    if curve is not None:
        yield f"{curve.early.metric} held out", round(curve.early.ndcg, 4)
        yield f"{curve.early.metric} of popular items", round(curve.early.popularity_ndcg, 4)
    for row in quality.overall(run.metrics or [], None):
        name = row.name.replace("_", " ")
        yield name if row.k is None else f"{name} at {row.k}", _rounded(row.model.value)
    yield "seconds", round(sum(run.timings_seconds.values()), 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _beside(
    before: dict[str, Any], after: dict[str, Any], *, ordered: bool = False
) -> list[tuple[str, Any, Any]]:
    keys = list(dict.fromkeys([*before, *after]))
    return [(key, before.get(key), after.get(key)) for key in (sorted(keys) if ordered else keys)]
