"""Every page, light and dark: nothing that axe-core finds, no complaint in the console, nothing wider than a phone."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.pages.conftest import KeyedService, OpenTab, register_device, violations

FIRST_PAINT = """() => new Promise((resolve) => {
    new PerformanceObserver((list) => {
        const [paint] = list.getEntriesByName("first-contentful-paint");
        if (paint) resolve(paint.startTime);
    }).observe({ type: "paint", buffered: true });
})"""
"""When the browser painted the first text or image, in milliseconds; a page that shows nothing never gets there."""


def paths(search_id: str, codes: list[str]) -> dict[str, str]:
    """Every page, with something on it that shows that it is complete."""
    search = f"/ui/searches/{search_id}"
    return {
        "/": f"#search-{search_id}",
        "/?state=failed": ".empty-state",
        search: "#fit-chart-1[data-drawn=yes]",
        f"{search}/architectures/{codes[0]}": ".drawing",
        f"{search}/compare?first={codes[0]}&second={codes[1]}": ".drawing >> nth=1",
        f"{search}/compare?first=1": "#first",
        f"/ui/atlas?search_id={search_id}": "#atlas-chart[data-drawn=yes]",
        f"/ui/atlas?search_id={search_id}&scope=space": "#atlas-chart[data-drawn=yes]",
        "/ui/submit": "#dataset-info:has-text('images')",
        "/ui/data": "#upload-title",
        "/ui/data/digits": ".samples",
        "/ui/devices": "[data-delete=phone]",
        "/ui/keys": "#me-title",
        "/docs": ".opblock-tag >> nth=6",
    }


@pytest.mark.parametrize(
    ("dark", "phone"), [(False, False), (True, False), (False, True)], ids=["light", "dark", "phone"]
)
def test_every_page(open_tab: OpenTab, finished_search: dict[str, Any], dark: bool, phone: bool) -> None:
    tab = open_tab(dark=dark, phone=phone)
    codes = finished_search["rounds"][-1]["preserved"]
    register_device(tab)
    for path, complete in paths(finished_search["id"], codes).items():
        page = tab.go(path)
        expect(page.locator(complete)).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate(FIRST_PAINT) > 0, path
        assert violations(tab) == [], path
        assert tab.complaints == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], path  # type: ignore[index]


def test_the_pages_of_errors(open_tab: OpenTab, finished_search: dict[str, Any]) -> None:
    tab = open_tab(dark=True)
    for path in ("/ui/nothing", "/ui/searches/no-id", f"/ui/searches/{finished_search['id']}/architectures/77"):
        page = tab.go(path)
        expect(page.get_by_role("link", name="To the searches")).to_be_visible()
        assert violations(tab) == [], path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_key_logs_in(open_tab: OpenTab, keyed_service: KeyedService, dark: bool) -> None:
    tab = open_tab(url=keyed_service.url, dark=dark)
    page = tab.go("/ui/keys")
    assert violations(tab) == []
    page.get_by_label("API key").fill("nas_wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("API key").fill(keyed_service.secret)
    page.get_by_role("button", name="Log in").click()
    # back on the page that was asked for
    expect(page.get_by_role("heading", name="All keys")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="laptop")).to_contain_text("ada")
    assert keyed_service.secret not in page.content()
    assert page.evaluate("document.cookie") == ""
    assert violations(tab) == []
    tab.go("/")
    page.goto(f"{keyed_service.url}/ui/keys")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_what_is_wrong_with_a_form_stands_beside_its_fields(open_tab: OpenTab) -> None:
    tab = open_tab()
    page = tab.go("/ui/submit")
    page.get_by_label("Data set", exact=True).fill("cats")
    page.get_by_label("Epochs", exact=True).fill("many")
    page.get_by_label("Limits on multi-adds that you will ask for").fill("400, -1")
    page.get_by_label("Limits on parameters that you will ask for").fill("4.5 none")
    page.get_by_label("Limits on latency that you will ask for").fill("pixel 30, 20, board")
    page.get_by_text("Any other field of the configuration").click()
    page.get_by_label("Fields as JSON").fill('{"gcn_epoch": 3}')
    page.get_by_role("button", name="Submit the search").click()
    expect(page.locator("#epochs-error")).to_contain_text("valid integer")
    expect(page.locator("#target_madds-error")).to_contain_text("greater than 0")
    expect(page.locator("#target_params-error")).to_contain_text("valid number")
    expect(page.locator("#target_latency_ms-error")).to_contain_text("board: List should have at least 1 item")
    expect(page.locator("#advanced_json-error")).to_contain_text("did you mean gcn_epochs")
    expect(page.locator("#dataset-info")).to_contain_text("there is no data set 'cats'")
    assert violations(tab) == []
    page.get_by_label("Fields as JSON").fill("{")
    page.get_by_role("button", name="Submit the search").click()
    expect(page.locator("#advanced_json-error")).to_contain_text("this is no JSON")
    expect(page.locator("#epochs-error")).to_be_hidden()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_an_operation_is_read_and_tried_in_swagger_ui(open_tab: OpenTab, dark: bool) -> None:
    tab = open_tab(dark=dark)
    page = tab.go("/docs")
    for path in ("Submit a search", "List devices"):
        page.get_by_role("button", name=path).press("Enter")
    page.get_by_role("button", name="Try it out").first.click()
    expect(page.get_by_label("Request body")).to_be_editable()
    assert violations(tab) == []
    assert tab.complaints == []
