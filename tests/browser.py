"""A real browser for tests: Debian's chromium, headless, driven by Playwright; and axe-core."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESK = 390, 1280
_AXE = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"


@dataclass
class Seen:
    """A page that is open, and what happened since it was opened.

    Attributes:
        page: Playwright's.
        said: messages of the console, and errors.
        asked: addresses of all requests.
    """

    page: "Page"
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def goes_beyond(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        found: int = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return found

    def serious_findings(self) -> list[str]:
        """Return what axe-core finds serious or critical."""
        self.page.evaluate(axe())
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{one['id']}: {one['help']} {[node['target'] for node in one['nodes']][:3]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]


def axe() -> str:
    """Return axe-core's source; skip where there is none."""
    if not _AXE.exists():
        pytest.skip("axe-core is not there; bash scripts/browser.sh fetches it")
    return _AXE.read_text(encoding="utf-8")


@contextmanager
def started() -> Iterator["Browser"]:
    """Start chromium; skip where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    place = shutil.which("chromium")
    if place is None:
        pytest.skip("chromium is not installed; bash scripts/browser.sh installs it")
    # Its sandbox does not work for root, as in containers.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=arguments)
        yield browser
        browser.close()


def open_page(
    browser: "Browser", address: str | Path, *, width: int = DESK, dark: bool = False
) -> Seen:
    """Open an address or a file in a window of its own."""
    scheme: Any = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = Seen(context.new_page())
    seen.page.set_default_timeout(60_000)
    seen.page.on("console", lambda message: seen.said.append(message.text))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    seen.page.goto(address.as_uri() if isinstance(address, Path) else address)
    return seen
