"""Pages in a real browser, on a whole service with a worker.

Needs a Chromium on the PATH; playwright's own download is not used. Without one these tests are skipped.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.db.engine import get_engine, transaction
from app.embedded.api_endpoint import ApiEndpoint
from app.embedded.stack import Stack
from app.main import create_app
from app.services import api_keys
from app.settings import Settings
from tests.e2e.conftest import TINY_SEARCH

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TIMEOUT_MS = 60_000
AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text()
PHONE_MS = ((1.0, 2.0, 3.0, 2.0, 4.0, 6.0),) * 4
expect.set_options(timeout=TIMEOUT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these tests last, and skip them where there is no browser, saying how to get one.

    From the first of them to the end the browser's event loop runs in the main thread, where no ``asyncio.run`` works.
    """
    items.sort(key=_is_page_test)
    if any(map(shutil.which, BROWSERS)):
        return
    skip = pytest.mark.skip(reason="no Chromium on the PATH; install one, e.g. apt-get install chromium")
    for item in filter(_is_page_test, items):
        item.add_marker(skip)


def _is_page_test(item: pytest.Item) -> bool:
    return Path(__file__).parent in item.path.parents


@dataclass
class Tab:
    """A page of the browser, and everything that its console complained about."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        """Open a page of the service."""
        self.page.goto(self.url + path)
        return self.page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HEARTBEAT_S": "0.3", "LEASE_S": "10", "SHARD_SIZE": "10"}.items():
            patch.setenv(f"NASATLAS_{name}", value)
        for name in [name for name in os.environ if name.startswith("NASATLAS_") and name.endswith(("_URL", "_ROOT"))]:
            patch.delenv(name)
        with Stack(tmp_path_factory.mktemp("pages") / "state") as running:
            yield running


def register_device(
    tab: Tab, name: str = "phone", cells_ms: Sequence[Sequence[float]] = PHONE_MS, base_ms: float = 0.5
) -> None:
    """Register the latencies of a device on the networks of the tiny search."""
    body = {"search_space": TINY_SEARCH["search_space"], "base_ms": base_ms, "cells_ms": cells_ms}
    assert tab.page.request.put(f"{tab.url}/devices/{name}", data=body).ok


TRANSITIONS_END = """() => Promise.allSettled(document.getAnimations()
    .filter((one) => Number.isFinite(one.effect.getComputedTiming().endTime))
    .map((one) => one.finished))"""
"""Halfway through a transition a button has colours that it has at no other time, and too little contrast."""


def violations(tab: Tab) -> list[Any]:
    """What axe-core finds on a page that stands still: rule and elements."""
    tab.page.evaluate(TRANSITIONS_END)
    tab.page.evaluate(AXE)
    found: list[Any] = tab.page.evaluate(
        "axe.run().then(({ violations }) => violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 200))]))"
    )
    return found


OpenTab = Callable[..., Tab]


@pytest.fixture(scope="session")
def open_tab(browser: Browser, stack: Stack) -> Iterator[OpenTab]:
    """Open a tab: ``open_tab(dark=True, phone=True)``; what it opened is closed at the end."""
    contexts = []

    def open_one(*, url: str | None = None, dark: bool = False, phone: bool = False) -> Tab:
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
        context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light")
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        tab = Tab(context.new_page(), url or stack.url)
        page, complaints = tab.page, tab.complaints
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith((tab.url, "data:")) else None)
        return tab

    yield open_one
    for context in contexts:
        context.close()


IN_FIELDS = ("dataset", "search_space", "epochs", "num_images", "num_sampled", "num_reevaluated", "proxy_width")


@dataclass
class Followed:
    """A search that was submitted in the form and followed on its page until it succeeded."""

    tab: Tab
    search_id: str
    states: list[str]
    epochs_seen: set[str]


def fill_form(page: Page) -> None:
    page.get_by_label("Search space", exact=True).select_option(label="my own, as JSON")
    page.get_by_label("Search space as JSON").fill(json.dumps(TINY_SEARCH["search_space"]))
    for label, name in (
        ("Epochs", "epochs"),
        ("Images", "num_images"),
        ("Sampled architectures", "num_sampled"),
        ("Re-evaluated architectures", "num_reevaluated"),
        ("Width of the proxy", "proxy_width"),
    ):
        page.get_by_label(label, exact=True).fill(str(TINY_SEARCH[name]))
    page.get_by_text("Any other field of the configuration").click()
    rest = {name: value for name, value in TINY_SEARCH.items() if name not in IN_FIELDS}
    page.get_by_label("Fields as JSON").fill(json.dumps(rest))


@pytest.fixture(scope="session")
def followed(open_tab: OpenTab) -> Followed:
    tab = open_tab()
    page = tab.go("/")
    page.get_by_role("link", name="Submit the first search").or_(
        page.get_by_role("link", name="New search")
    ).first.click()
    expect(page.locator("#dataset-info")).to_contain_text("1,797 images in 10 classes")
    fill_form(page)
    page.get_by_role("button", name="Submit the search").click()
    page.wait_for_url("**/ui/searches/*")
    page.evaluate(
        """() => {
            window.states = []; window.doing = [];
            new MutationObserver(() => {
                states.push(document.getElementById("search-live").dataset.state);
                doing.push(document.querySelector(".doing").textContent.trim());
            }).observe(document.getElementById("live-region"), { childList: true });
        }"""
    )
    expect(page.locator("#search-live")).to_have_attribute("data-state", "succeeded", timeout=120_000)
    # the charts come by themselves as well
    expect(page.locator("#training-summary")).to_contain_text("3 of 3 epochs")
    for round_index in (0, 1):
        expect(page.locator(f"#fit-chart-{round_index}[data-drawn=yes] canvas").first).to_be_visible()
    states: list[str] = page.evaluate("states")
    doing: list[str] = page.evaluate("doing")
    return Followed(tab, page.url.rsplit("/", 1)[1], states, set(doing))


@pytest.fixture(scope="session")
def finished_search(stack: Stack, followed: Followed) -> dict[str, Any]:
    """A tiny search that has succeeded, as the API tells of it."""
    search: dict[str, Any] = httpx2.get(f"{stack.url}/search/{followed.search_id}").raise_for_status().json()
    return search


@dataclass(frozen=True)
class KeyedService:
    """The API once more, where callers need keys; and the key of an administrator."""

    url: str
    secret: str


@pytest.fixture(scope="session")
def keyed_service(stack: Stack) -> Iterator[KeyedService]:
    database_url = stack.running.database_url
    with transaction(get_engine(database_url)) as session:
        secret = api_keys.create(session, name="laptop", owner="ada", scopes=["admin"]).secret
    endpoint = ApiEndpoint.choose("127.0.0.1", None)
    settings = Settings(database_url=database_url, broker_url=stack.running.broker_url, authentication="keys")
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), host=endpoint.host, port=endpoint.port, log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.05)
    yield KeyedService(endpoint.url, secret)
    server.should_exit = True
    thread.join()
