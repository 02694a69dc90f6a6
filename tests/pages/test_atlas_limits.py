"""The atlas's limits: kept in its address, told of as they are, and never beside the answer to others."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import Followed, OpenTab, Tab, register_device


def opened(tab: Tab, followed: Followed, rest: str = "") -> Page:
    page = tab.go(f"/ui/atlas?search_id={followed.search_id}{rest}")
    expect(page.get_by_label("Multi-adds, at most")).to_be_enabled()
    expect(page.locator("#atlas-chart[data-drawn=yes]")).to_be_visible()
    return page


def add_device(page: Page, name: str) -> None:
    page.get_by_label("Device", exact=True).select_option(name)
    page.get_by_role("button", name="Add its latency").press("Enter")
    expect(page.get_by_label(f"Latency on {name}, at most")).to_be_focused()


def shown(page: Page) -> dict[str, Any]:
    """What the atlas says once its answer has come, with the limits that its sliders say."""
    page.wait_for_function("!document.querySelector('.pending, .outdated')")
    return {
        "limits": page.locator(".slider output").all_text_contents(),
        "codes": page.locator("#answer-rows a").all_text_contents(),
        "within": page.locator("#within").text_content(),
    }


def press(page: Page, label: str, *keys: str) -> None:
    """Move a slider by keyboard, and wait for the answer under its last position."""
    page.get_by_label(label).focus()
    for key in keys[:-1]:
        page.keyboard.press(key)
    page.wait_for_timeout(200)
    with page.expect_response(re.compile("/lookup")), page.expect_response(re.compile(r"/within\.json")):
        page.keyboard.press(keys[-1])


def test_the_limits_are_in_the_address(open_tab: OpenTab, followed: Followed) -> None:
    tab = open_tab()
    register_device(tab)
    register_device(tab, "camera", cells_ms=[[6.0, 4.0, 2.0, 3.0, 2.0, 1.0]] * 4)
    page = opened(tab, followed, "&round_index=0")
    add_device(page, "phone")
    add_device(page, "camera")
    press(page, "Multi-adds, at most", *["PageDown"] * 3)
    press(page, "Latency on camera, at most", *["PageDown"] * 5)
    expect(page.locator("#within")).to_contain_text(re.compile(r"^(\d+) of (?!\1 )"))
    page.wait_for_timeout(300)
    before, address = shown(page), page.url
    assert "round_index=0" in address
    assert before["limits"].count("no limit") == 2  # of the parameters and on the phone
    page.reload()
    expect(page.locator("#within")).to_have_text(before["within"])
    assert shown(page) == before
    assert page.url == address
    page.locator("#answer-rows a").first.click()
    page.wait_for_url("**/architectures/*")
    page.go_back()
    expect(page.locator("#within")).to_have_text(before["within"])
    assert shown(page) == before
    page.get_by_label("What", exact=True).select_option(label="The whole space")
    page.wait_for_url("**&scope=space&**")
    expect(page.locator("#within")).to_have_text("proven best")
    # the same limits, of a range that has other digits
    assert page.url.split("&scope=space")[1] == address.split("&round_index=0")[1]
    assert [limit == "no limit" for limit in shown(page)["limits"]] == [
        limit == "no limit" for limit in before["limits"]
    ]
    assert not tab.complaints


@pytest.mark.parametrize(
    "rest", ["&max_madds=abc&max_params=-1", "&device=nothing&max_latency_ms=x", "&round_index=77"]
)
def test_what_is_no_limit_in_the_address_is_none(open_tab: OpenTab, followed: Followed, rest: str) -> None:
    tab = open_tab()
    page = opened(tab, followed, rest)
    expect(page.locator("#within")).to_contain_text(re.compile(r"(\d+) of \1 within the limits"))
    assert set(shown(page)["limits"]) == {"no limit"}
    assert not tab.complaints


def test_a_limit_in_the_address_holds_also_below_all_there_is(open_tab: OpenTab, followed: Followed) -> None:
    page = opened(open_tab(), followed, "&max_madds=0.001")
    expect(page.locator("#no-answer")).to_contain_text("max_madds=0.001 is below the cheapest architecture")
    assert shown(page)["limits"][0] == "0.001M"


def test_no_old_answer_stands_beside_new_limits(open_tab: OpenTab, followed: Followed) -> None:
    page = opened(open_tab(), followed)
    expect(page.locator("#answer-rows a")).not_to_have_count(0)
    page.context.set_offline(True)
    page.get_by_label("Multi-adds, at most").focus()
    page.keyboard.press("PageDown")
    expect(page.locator("#no-answer")).to_contain_text("No answer: the service cannot be reached")
    expect(page.locator("#answer-rows a")).to_have_count(0)
    expect(page.locator("#within")).to_have_text("")
    page.context.set_offline(False)
    page.keyboard.press("PageDown")
    expect(page.locator("#within")).to_contain_text("within the limits")
    expect(page.locator("#answer-rows a")).not_to_have_count(0)
    expect(page.locator("#no-answer")).to_be_hidden()


def test_a_device_that_is_only_shown_is_not_told_as_a_limit(open_tab: OpenTab, followed: Followed) -> None:
    tab = open_tab()
    register_device(tab)
    register_device(tab, "camera", cells_ms=[[6.0, 4.0, 2.0, 3.0, 2.0, 1.0]] * 4)
    page = opened(tab, followed, "&device=phone&max_latency_ms=0.1&device=camera&max_latency_ms=")
    expect(page.locator("#no-answer")).to_contain_text("max_latency_ms=0.1 on phone is below")
    # each by itself can be met: the fastest on the phone is slow on the camera
    page = opened(tab, followed, "&max_params=0.0042&device=phone&max_latency_ms=&device=camera&max_latency_ms=4.5")
    expect(page.locator("#no-answer")).not_to_be_empty()
    assert "phone" not in (page.locator("#no-answer").text_content() or "")


@pytest.mark.parametrize(
    ("base_ms", "cell_ms"),
    [(0.1026, (1.0005, 2.003, 3.07, 2.02, 4.1, 6.3)), (0, (1e-5, 2e-5, 3.3e-5, 4e-5, 5e-5, 6e-5))],
)
def test_the_lowest_latency_has_an_answer(
    open_tab: OpenTab, followed: Followed, base_ms: float, cell_ms: Sequence[float]
) -> None:
    tab = open_tab()
    register_device(tab, "odd", [cell_ms] * 4, base_ms)
    page = opened(tab, followed)
    add_device(page, "odd")
    press(page, "Latency on odd, at most", "Home")
    expect(page.locator("#answer-rows a")).not_to_have_count(0)
    expect(page.locator("#within")).not_to_have_text(re.compile("^0 of"))
    press(page, "Latency on odd, at most", *["ArrowRight"] * 5)
    texts = page.locator(".slider-ends span").all_text_contents()[-2:]
    assert texts[0] != texts[1]
    # five of four hundred steps are another limit
    assert page.get_by_label("Latency on odd, at most").get_attribute("aria-valuetext") != texts[0]
