"""Pages in a real browser: nothing from elsewhere, readable on a phone and a desk, text is text."""

import gc
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import viewer
from recsys.config.reading import load_config
from recsys.errors import ConfigError
from recsys.flows.manage import Place
from recsys.flows.record import read_run
from recsys.flows.report.render import REPORT, write_report
from recsys.publishing.pointer import Pointers
from recsys.store.posix import PosixFiles
from tests.browser import DESK, PHONE, open_page, started
from tests.example_root import HOSTILE, Example, make_root

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPORTS = ("tuesday", "wednesday", "evaluated")
PAGES = (
    "/",
    "/runs/tuesday",
    "/user?id=u031",
    "/item?id=i000",
    "/item?id=script",
    "/compare?before=monday&after=tuesday",
    "/runs/nobody%3Cscript%3E",
)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Give a root with three reports."""
    made = make_root(tmp_path_factory.mktemp("pages"))
    files = PosixFiles(made.root)
    for run_id in REPORTS:
        run = read_run(files, run_id)
        assert run is not None
        write_report(files, run, people=3)
    return made


@pytest.fixture(scope="module")
def address(example: Example) -> Iterator[str]:
    """Serve the viewer at a free port, as the command does."""
    waitress = pytest.importorskip("waitress", reason="the extra viewer is not installed")
    from recsys.viewer.app import make_app

    files = PosixFiles(example.root)
    place = Place(load_config(str(example.config)), files, Pointers(files))
    app = make_app(place, ["127.0.0.1"])
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=2)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    thread.join(timeout=10)


@pytest.mark.parametrize("run_id", REPORTS)
def test_a_report_asks_for_nothing_and_fits_a_phone_and_a_desk(
    browser: "Browser", example: Example, run_id: str
) -> None:
    page = example.root / "runs" / run_id / REPORT
    for width, dark in ((PHONE, False), (DESK, True)):
        seen = open_page(browser, page, width=width, dark=dark)
        assert seen.said == []
        assert seen.asked == [page.as_uri()]
        assert seen.goes_beyond() <= 0
        assert seen.page.locator("h1").inner_text().endswith(run_id)
        seen.page.context.close()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_the_viewer_asks_for_nothing_else_and_fits_a_phone_and_a_desk(
    browser: "Browser", address: str, path: str
) -> None:
    for width, dark in ((PHONE, True), (DESK, False)):
        seen = open_page(browser, address + path, width=width, dark=dark)
        missing = path.startswith("/runs/nobody")
        # A browser says that a page was not found.
        assert [one for one in seen.said if not (missing and "404" in one)] == []
        assert seen.asked == [address + path]
        assert seen.goes_beyond() <= 0
        seen.page.context.close()


@pytest.mark.parametrize(
    ("reports", "pages", "dark"),
    [(REPORTS, PAGES, False), (("tuesday",), ("/", "/compare"), True)],
    ids=["light", "dark"],
)
def test_axe_finds_nothing_serious(
    browser: "Browser",
    example: Example,
    address: str,
    reports: tuple[str, ...],
    pages: tuple[str, ...],
    dark: bool,
) -> None:
    files = [example.root / "runs" / run_id / REPORT for run_id in reports]
    # A report is the same page in the viewer.
    for place in [*files, *(address + path for path in pages if path != "/runs/tuesday")]:
        seen = open_page(browser, place, width=PHONE, dark=dark)
        seen.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert seen.serious_findings() == [], place
        seen.page.context.close()


def test_titles_with_tags_and_quotes_are_shown_as_text(
    browser: "Browser", example: Example, address: str
) -> None:
    for place in (
        example.root / "runs" / "tuesday" / REPORT,
        f"{address}/user?id=u031",
        f"{address}/item?id=i000",
    ):
        seen = open_page(browser, place)
        assert HOSTILE in seen.page.locator("main").inner_text()
        assert seen.page.locator("script").count() == 0
        assert seen.page.locator("b, i").count() == 0  # of raw rows and warnings
        seen.page.context.close()


def test_the_forms_of_the_viewer_lead_to_the_pages(browser: "Browser", address: str) -> None:
    seen = open_page(browser, f"{address}/item")
    seen.page.fill("#id", 'le">')
    seen.page.click("button")
    assert "no title has this" in seen.page.locator("main").inner_text()
    seen.page.fill("#id", "film 29")
    seen.page.click("button")
    seen.page.click("text=Film 299")
    assert seen.page.url.endswith("/item?id=i299")
    seen.page.click("nav >> text=Compare")
    seen.page.select_option("#before", "monday")
    seen.page.select_option("#after", "tuesday")
    seen.page.click("button")
    assert "users in both" in seen.page.locator("main").inner_text()
    assert seen.said == []
    seen.page.context.close()


def test_print_leaves_out_what_only_a_screen_can_use(browser: "Browser", example: Example) -> None:
    seen = open_page(browser, example.root / "runs" / "tuesday" / REPORT, dark=True)
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("nav").first.is_visible()
    paper = "getComputedStyle(document.body).backgroundColor"
    assert seen.page.evaluate(paper) == "rgb(255, 255, 255)"
    seen.page.context.close()


def test_the_viewer_only_reads_and_answers_to_its_own_names(example: Example) -> None:
    pytest.importorskip("flask", reason="the extra viewer is not installed")
    from recsys.viewer.app import make_app

    files = PosixFiles(example.root)
    before = sorted(path for path in example.root.rglob("*"))
    client = make_app(
        Place(load_config(str(example.config)), files, Pointers(files)), ["::1", "localhost"]
    ).test_client()
    for path in PAGES:
        answer = client.get(path, base_url="http://localhost:1234")
        assert answer.status_code == (404 if "nobody" in path else 200), path
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert client.post(path, base_url="http://localhost").status_code == 405
    assert client.get("/", base_url="http://[::1]:1234").status_code == 200
    for other in ("other.example", "[::2]:1234", "127.0.0.1", "localhost.other.example"):
        assert client.get("/", base_url=f"http://{other}").status_code == 400, other
    assert client.get("/", headers={"Host": "[::1"}).status_code == 400
    assert client.get("/runs/..%2f..%2fetc", base_url="http://localhost").status_code == 404
    assert (
        client.get("/compare?before=../x&after=y", base_url="http://localhost").status_code == 404
    )
    assert sorted(path for path in example.root.rglob("*")) == before


def test_a_user_who_got_no_list_is_shown_with_the_reason(example: Example, tmp_path: Path) -> None:
    pytest.importorskip("flask", reason="the extra viewer is not installed")
    from recsys.viewer.app import make_app

    shutil.copytree(example.root, tmp_path / "root")
    for part in (tmp_path / "root").glob("publications/*/*/tuesday/status/*.parquet"):
        table = pq.read_table(part, partitioning=None)
        rows = table.to_pylist()
        for row in rows:
            if row["user_id"] is None:
                row |= {"user_id": "new <b>", "status": "none", "reason": "nothing is known"}
        pq.write_table(pa.Table.from_pylist(rows, table.schema), part)
    files = PosixFiles(tmp_path / "root")
    place = Place(load_config(str(example.config)), files, Pointers(files))
    client = make_app(place).test_client()
    shown = client.get("/user?id=new+%3Cb%3E").text
    assert "Status: none: nothing is known." in shown
    assert "There is neither a list nor a history of user new &lt;b&gt;." in shown
    assert "Nothing is known of user" not in shown
    assert "Status: scored." in client.get("/user?id=u031").text
    assert "Nothing is known of user nobody: " in client.get("/user?id=nobody").text


@pytest.mark.parametrize(
    ("host", "shown", "own"),
    [
        ("localhost", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("::1", "[::1]", True),
        ("0.0.0.0", "0.0.0.0", False),  # noqa: S104
    ],
)
def test_the_viewer_says_where_it_listens_and_who_can_read_it(
    example: Example,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    shown: str,
    own: bool,
) -> None:
    waitress = pytest.importorskip("waitress", reason="the extra viewer is not installed")
    pytest.importorskip("flask", reason="the extra viewer is not installed")
    asked: dict[str, object] = {}

    class Server:
        effective_port = 1234

        def run(self) -> None:
            pass

        def close(self) -> None:
            pass

    def create(app: object, **given: object) -> Server:
        asked.update(given)
        return Server()

    monkeypatch.setattr(waitress, "create_server", create)
    # Nothing listens at an address that others reach, not even for a moment.
    monkeypatch.setattr(socket, "create_server", lambda place, family: (*place, family))
    files = PosixFiles(example.root)
    viewer.serve(Place(load_config(str(example.config)), files, Pointers(files)), host, 0)
    told = capsys.readouterr()
    assert told.out.startswith(f"http://{shown}:1234/ shows ")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    assert asked["sockets"] == [(shown.strip("[]"), 0, family)]
    assert ("everybody who reaches" in told.err) is not own


def test_what_keeps_the_viewer_from_starting_is_one_line(
    example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("flask", reason="the extra viewer is not installed")
    files = PosixFiles(example.root)
    place = Place(load_config(str(example.config)), files, Pointers(files))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}: .*choose"):
            viewer.serve(place, "127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"cannot listen at ü+:0: .*choose"):
        viewer.serve(place, "ü" * 70, 0)
    gc.collect()  # nothing was left open
    monkeypatch.setitem(sys.modules, "flask", None)
    with pytest.raises(ConfigError, match=r"flask is not installed; .*recsys-batch\[viewer\]"):
        viewer.serve(place, "127.0.0.1", 0)


class Links(HTMLParser):
    """Collects what a page could ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed")
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href", "action") and value:
                self.found.append(value)


def test_a_report_links_to_its_own_parts_alone(example: Example) -> None:
    links = Links()
    links.feed((example.root / "runs" / "tuesday" / REPORT).read_text())
    assert {link[0] for link in links.found if not link.startswith("data:")} == {"#"}
