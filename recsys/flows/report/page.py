"""One run as a page: everything that its template shows. No Spark."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from recsys.errors import RecsysError, one_line
from recsys.evaluate.manifest import Metric
from recsys.flows.manifest import RunManifest
from recsys.flows.report import again, funnel, lists, quality
from recsys.flows.report.change import change as change_of
from recsys.flows.report.change import items_of
from recsys.flows.report.lists import Popularity, Scores
from recsys.flows.report.names import lacks_titles, titles_of
from recsys.flows.report.people import Person, some_people
from recsys.flows.report.records import Records, Version
from recsys.ingest.manifest import InputState
from recsys.model.manifest import ModelManifest
from recsys.publishing.manifest import Verdict
from recsys.store.files import RUNS, Files

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One step of a run: its seconds, the share of the longest one, and its rows if known."""

    name: str
    seconds: float
    share: float
    rows: int | None


@dataclass
class Page:
    """What a page shows of a run; what does not apply is None or empty.

    Attributes:
        run: the run's manifest.
        seconds: how long its latest attempt took.
        model: the model that it made or used.
        source: what the interactions were read from.
        version, before: what it published or a gate held back, and what was published before.
        gates: what each gate found.
        steps: its steps in order.
        peak_bytes: the most memory that the driver's Python has had; None where the record has not.
        stages, rejected, rejected_rows: from raw rows to lists.
        curve, overall, by_history, by_group: how good it is.
        scores, popularity: what lists consist of.
        change: what has changed since the version before.
        why: the command that says more, and why.
        people: a few users.
        titles: of the items that the page names.
        configuration: that of the run as YAML; None: of another version of this package.
        command: what runs the same again; empty where there is no file with the configuration.
        notes: what could not be shown, and why.
    """

    run: RunManifest
    seconds: float
    model: ModelManifest | None = None
    source: InputState | None = None
    version: Version | None = None
    before: Version | None = None
    gates: list[Verdict] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    peak_bytes: int | None = None
    stages: dict[str, list[funnel.Stage]] = field(default_factory=dict)
    rejected: list[funnel.Stage] = field(default_factory=list)
    rejected_rows: list[dict[str, str | None]] = field(default_factory=list)
    curve: quality.Curve | None = None
    overall: list[quality.Row] = field(default_factory=list)
    by_history: list[quality.Row] = field(default_factory=list)
    by_group: list[quality.Row] = field(default_factory=list)
    evaluation_before: RunManifest | None = None
    scores: Scores | None = None
    popularity: Popularity | None = None
    change: dict[str, Any] | None = None
    why: str = ""
    people: list[Person] = field(default_factory=list)
    titles: dict[Any, str] = field(default_factory=dict)
    configuration: str | None = None
    command: str = ""
    notes: list[str] = field(default_factory=list)

    def attempt(self, what: str, make: Callable[[], T], otherwise: T) -> T:
        """Return what a function makes, or something else with a note where it cannot."""
        try:
            return make()
        except (OSError, pa.ArrowException, RecsysError, KeyError) as error:
            self.notes.append(f"{what}: not shown, because of {one_line(str(error))[:300]}")
            return otherwise


def look(files: Files, run: RunManifest, n_people: int) -> Page:
    """Look at all that is stored of a run.

    Args:
        files: the root.
        run: the run.
        n_people: how many users are shown.
    """
    records = Records(files, run)
    version, known = records.version, records.interactions
    page = Page(
        run=run,
        seconds=run.seconds,
        model=records.model,
        source=None if known is None else known.input,
        version=version,
        before=records.before,
        gates=run.gates or ([] if version is None else version.manifest.gates),
        steps=_steps(run),
        peak_bytes=run.driver_peak_bytes,
        stages=funnel.stages(records),
        rejected=funnel.rejected(records),
        configuration=again.configuration(run),
    )
    if files.exists(files.uri(RUNS, run.run_id, again.CONFIGURATION)):
        page.command = again.command(run)
    if known is not None:
        page.notes += known.warnings
    page.rejected_rows = page.attempt(
        "rejected rows", lambda: funnel.rejected_rows(records.rejects()), []
    )
    _quality(page, records)
    if version is not None:
        _lists(page, records, version, n_people)
    _titles(page, records)
    return page


def _quality(page: Page, records: Records) -> None:
    page.curve = quality.curve(records)
    none: list[Metric] = []
    metrics = page.attempt("metrics", lambda: quality.all_metrics(records), none)
    before = page.evaluation_before = records.evaluation_before
    page.overall = quality.overall(metrics, None if before is None else before.metrics)
    page.by_history = quality.by_segment(metrics, history=True)
    page.by_group = quality.by_segment(metrics, history=False)


def _lists(page: Page, records: Records, version: Version, n_people: int) -> None:
    """Read the tables of a version."""
    table, pairs = records.lists(version), records.pairs()
    written = version.manifest.tables.recommendations
    if not table.readable or not (pairs is None or pairs.readable):
        page.notes.append(
            "lists: not shown, because their tables are on another store and large; recsys report "
            "reads those of a local root"
        )
        return
    page.scores = page.attempt("scores", lambda: lists.scores(table, written.rows), None)
    if pairs is not None:
        catalogue = 0 if page.model is None else page.model.n_items
        page.popularity = page.attempt(
            "popularity", lambda: lists.popularity(table, pairs, catalogue), None
        )
    page.people = page.attempt("users", lambda: some_people(table, pairs, n_people), [])
    if (before := records.before) is not None:
        page.why = again.why(records.run, before.manifest.run_id)
        sides = (records, before), (records, version)
        page.change = page.attempt("difference", lambda: change_of(*sides), None)


def _titles(page: Page, records: Records) -> None:
    """Read the titles of all items that the page names."""
    wanted = {row.item for one in page.people for row in (*one.history, *one.recommended)}
    if page.popularity is not None:
        wanted |= {row.item for row in page.popularity.top}
    if page.change is not None:
        wanted |= items_of(page.change)
    nothing: dict[Any, str] = {}
    page.titles = page.attempt("titles", lambda: titles_of(records, wanted), nothing)
    if wanted - page.titles.keys() and lacks_titles(records):
        page.notes.append(
            "titles: not shown, because the lists were published without any: items.titles could "
            "not be read when they were made"
        )


def _steps(run: RunManifest) -> list[Step]:
    longest = max(run.timings_seconds.values(), default=0.0) or 1.0
    return [
        Step(name, seconds, seconds / longest, run.step_rows.get(name))
        for name, seconds in run.timings_seconds.items()
    ]
