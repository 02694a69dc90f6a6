"""What another tab or the command line does to an ended search is seen on the pages that show it."""

import re

from playwright.sync_api import expect

from tests.e2e.conftest import TINY_SEARCH
from tests.pages.conftest import OpenTab


def test_an_ended_search_is_resumed_and_deleted_elsewhere(open_tab: OpenTab) -> None:
    tab, listed = open_tab(), open_tab()
    api = tab.page.request
    search_id = api.post(f"{tab.url}/search", data={**TINY_SEARCH, "epochs": 2000}).json()["id"]
    address = f"{tab.url}/search/{search_id}"
    assert api.post(f"{address}/cancel").ok
    page = tab.go(f"/ui/searches/{search_id}")
    live = page.locator("#search-live")
    expect(live).to_have_attribute("data-state", "cancelled")
    row = listed.go("/?state=cancelled").get_by_role("row").filter(has_text=search_id[:8])
    expect(row).to_contain_text("cancelled")
    assert api.post(f"{address}/resume").ok
    # what a browser tells a page that is looked at again
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(live).to_have_attribute("data-state", re.compile("queued|running"))
    # and followed from then on
    expect(live).to_have_attribute("data-state", "running")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    assert api.post(f"{address}/cancel").ok
    expect(live).to_have_attribute("data-state", "cancelled")
    assert not tab.complaints
    assert api.delete(address).ok
    # without another look: slowly, by itself
    expect(page.locator("#gone")).to_contain_text("This search was deleted")
    expect(page.get_by_role("button", name="Resume")).to_be_hidden()
    listed.page.evaluate("dispatchEvent(new Event('focus'))")
    expect(row).to_have_count(0)
