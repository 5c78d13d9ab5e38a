"""A page as HTML in one file: it asks for nothing from elsewhere and runs no script."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from recsys.flows.manifest import RunManifest
from recsys.flows.report import words
from recsys.flows.report.again import CONFIGURATION, configuration
from recsys.flows.report.page import Page, look
from recsys.flows.report.plots import overlap_plot, plots
from recsys.store.files import RUNS, Files

REPORT = "report.html"

Tile = tuple[str, str, str]


def environment(*more: str) -> Environment:
    """Return what makes pages of templates; everything that is put into them is escaped.

    Args:
        more: packages with templates of their own.
    """
    packages = ("recsys.flows.report", *more)
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= words.FILTERS
    made.filters["overlap_plot"] = overlap_plot
    return made


def write_report(files: Files, run: RunManifest, people: int) -> str:
    """Write the page of a run beside its record, and return its URI.

    Args:
        files: the root.
        run: the run.
        people: how many users are shown.
    """
    place = files.uri(RUNS, run.run_id, REPORT)
    described = configuration(run)
    if described is not None:  # first, because the page names the file if it is there
        files.replace(files.uri(RUNS, run.run_id, CONFIGURATION), described.encode())
    files.replace(place, page_of(files, run, people).encode())
    return place


def page_of(files: Files, run: RunManifest, people: int) -> str:
    """Return the page of a run as HTML; see `write_report`."""
    return render(look(files, run, people))


def render(page: Page, templates: Environment | None = None, *, viewer: bool = False) -> str:
    """Return a page as HTML.

    Args:
        page: what it shows.
        templates: what makes pages; None: that of the report alone.
        viewer: whether it is shown by `recsys view`, with its links.
    """
    made: str = (
        (templates or environment())
        .get_template("report.html")
        .render(
            page=page, charts=plots(page), tiles=_tiles(page), parts=_parts(page), viewer=viewer
        )
    )
    return made


def _parts(page: Page) -> list[tuple[str, str]]:
    """Return the anchors of the parts that a page has, with their names."""
    parts = [
        ("gates", "Gates", page.gates),
        ("rows", "Rows to lists", page.stages or page.rejected),
        ("quality", "Quality", page.curve is not None or page.overall),
        ("tuning", "Tuning", page.run.tuning is not None),
        ("lists", "Lists", page.scores is not None or page.popularity is not None),
        ("change", "What changed", page.before is not None),
        ("users", "A few users", page.people),
        ("time", "Time", page.steps),
        ("again", "Run it again", True),
    ]
    return [(anchor, name) for anchor, name, there in parts if there]


def _tiles(page: Page) -> list[Tile]:
    """Return the numbers that say most of a run."""
    run, found = page.run, []
    if page.gates:
        failed = sum(one.state == "failed" for one in page.gates)
        passed = sum(one.state == "passed" for one in page.gates)
        found.append(("gates passed", f"{passed}", f"{failed} failed"))
    if page.version is not None:
        written = page.version.manifest.tables
        held = "held back" if page.version.held else "rows"
        found.append(("recommendations", words.count(written.recommendations.rows), held))
        found.append(("requested ids", words.count(written.status.rows), ""))
    if page.popularity is not None:
        covered = page.popularity.recommended / page.popularity.catalogue
        found.append(("coverage of items", words.share(covered), ""))
    if page.overall:
        first = next((row for row in page.overall if row.name == "ndcg"), page.overall[0])
        name = f"{words.words(first.name)} at {first.k}" if first.k else first.name
        beside = f"popularity {words.places(first.popularity.value)}"
        found.append((name, words.places(first.model.value), beside))
    elif page.curve is not None:
        early = page.curve.early
        beside = f"popularity {words.places(early.popularity_ndcg)}"
        found.append((f"{early.metric} held out", words.places(early.ndcg), beside))
    if page.change is not None and page.change["overlap"]:
        # The gates count lists that were made with the model, and without new items.
        mean = page.change["overlap"][-1]["mean"]
        found.append(("overlap of all lists", words.share(mean), "with before"))
    if run.counts is not None:
        rejected = run.counts.rows_rejected
        found.append(("rows read", words.count(run.counts.rows_read), f"{rejected:,} rejected"))
    return found
