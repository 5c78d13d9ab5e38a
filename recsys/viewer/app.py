"""The pages of the viewer. Every answer is made of records and tables when it is asked for."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException

from recsys.errors import RecsysError, one_line
from recsys.flows.manage import Place
from recsys.flows.manifest import RunManifest
from recsys.flows.record import read_run
from recsys.flows.report.page import look
from recsys.flows.report.render import environment, render
from recsys.flows.runs import list_runs
from recsys.runtime.run import run_name
from recsys.store.files import RUNS
from recsys.viewer.lookups import Lookups

_RUNS_SHOWN = 200
# Like the page's own policy, which its file has: nothing from elsewhere, no script.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_app(place: Place, hosts: list[str] | None = None) -> Flask:
    """Return the application.

    Args:
        place: the root.
        hosts: the only names and addresses, without a port, that a browser may have asked for, so
            that another site cannot read the pages through a name of its own; None: all.
    """
    app = Flask("recsys.viewer", static_folder=None)
    _Pages(place).add_to(app)

    @app.before_request
    def _check_host() -> None:
        # Not Flask's TRUSTED_HOSTS, which cannot hold an address of IPv6.
        if hosts is not None and _without_port(request.host) not in hosts:
            abort(400, "This is not the address of the viewer.")

    @app.after_request
    def _add_headers(answer: Response) -> Response:
        answer.headers.update(_HEADERS)
        return answer

    return app


def _without_port(host: str) -> str | None:
    """Return the name or address of a header `Host`; None where it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class _Pages:
    """One method for each page."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lookups = Lookups(place)
        self._templates = environment("recsys.viewer")

    def add_to(self, app: Flask) -> None:
        """Add the pages to an application; all of them are only read."""
        pages: dict[str, Callable[..., str]] = {
            "/": self.runs,
            "/runs/<run_id>": self.run,
            "/user": self.user,
            "/item": self.item,
            "/compare": self.compare,
        }
        for rule, page in pages.items():
            app.add_url_rule(rule, rule, page, methods=["GET"])
        app.register_error_handler(HTTPException, self.failed)
        for kind in (RecsysError, OSError, pa.ArrowException):
            app.register_error_handler(kind, self.refused)

    def runs(self) -> str:
        """Show the latest runs."""
        found = list_runs(self._place.files, self._place.index)
        return self._page("runs.html", runs=found[:_RUNS_SHOWN], all=len(found))

    def run(self, run_id: str) -> str:
        """Show one run as its report."""
        page = look(self._place.files, self._known(run_id), self._place.config.report.users)
        return render(page, self._templates, viewer=True)

    def user(self) -> str:
        """Show what is published of a user, and the user's history."""
        asked = request.args.get("id", "").strip()
        found = self._lookups.user(asked) if asked else []
        titles = self._lookups.titles_of(found)
        return self._page("user.html", asked=asked, found=found, titles=titles)

    def item(self) -> str:
        """Show in how many lists an item is, or items by a part of their title."""
        asked = request.args.get("id", "").strip()
        found = self._lookups.item(asked) if asked else []
        named = {} if not asked or found else self._lookups.search(asked)
        return self._page("item.html", asked=asked, found=found, named=named)

    def compare(self) -> str:
        """Show what differs between two runs."""
        asked = [request.args.get(name, "").strip() for name in ("before", "after")]
        compared = None
        if all(asked):
            compared = self._lookups.compare(*(self._known(run_id) for run_id in asked))
        runs = [one.run_id for one in list_runs(self._place.files, self._place.index)]
        return self._page("compare.html", asked=asked, runs=runs, compared=compared)

    def failed(self, error: HTTPException) -> tuple[str, int]:
        """Say that there is no such page, or what else the browser did wrong."""
        return self._page("error.html", error=error.description), error.code or 500

    def refused(self, error: Exception) -> tuple[str, int]:
        """Say why a page cannot be shown: something is damaged, or is not there any more."""
        return self._page("error.html", error=one_line(str(error))[:600]), 500

    def _known(self, run_id: str) -> RunManifest:
        """Return the record of a run whose name came from a browser."""
        files = self._place.files
        # Only a name that is there is made into a path.
        name = run_name(run_id)
        run = read_run(files, name) if name in files.names(files.uri(RUNS)) else None
        if run is None:
            abort(404, f"There is no record of run {run_id[:140]} that can be read.")
        return run

    def _page(self, template: str, **values: Any) -> str:
        made: str = self._templates.get_template(template).render(viewer=True, **values)
        return made
