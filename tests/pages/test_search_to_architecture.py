"""The way of a user: submit a search in the form, follow it to its end, ask the atlas, open architectures."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, expect

from app.domain.latency import LatencyTable
from tests.pages.conftest import Followed, OpenTab, fill_form, register_device, violations


def test_the_page_follows_the_search_by_itself(followed: Followed) -> None:
    assert followed.states[-1] == "succeeded"
    assert "running" in followed.states
    assert len(followed.epochs_seen) > 2, followed.epochs_seen
    assert not followed.tab.complaints


def test_the_page_of_the_finished_search_shows_what_it_found(followed: Followed) -> None:
    page = followed.tab.go(f"/ui/searches/{followed.search_id}")
    expect(page.locator("#training-summary")).to_contain_text("3 of 3 epochs")
    expect(page.get_by_text("Final architecture")).to_be_visible()
    for round_index in (0, 1):
        expect(page.locator(f"#fit-chart-{round_index}[data-drawn=yes] canvas").first).to_be_visible()
    assert page.locator(".drawing .block").count() == 4
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
    row = followed.tab.go("/").get_by_role("row").filter(has_text=followed.search_id[:8])
    expect(row).to_contain_text("succeeded")
    expect(row).to_contain_text("%")


def asked(followed: Followed, **parameters: Any) -> list[str]:
    """What the API answers to a question, as codes."""
    query = urlencode({"search_id": followed.search_id, **parameters}, doseq=True)
    response = followed.tab.page.request.get(f"{followed.tab.url}/lookup?{query}")
    return [item["code"] for item in response.json()["items"]]


def units(text: str) -> float:
    return float(text[:-1]) * {"k": 1e3, "M": 1e6}[text[-1]]


def test_the_atlas_answers_while_a_slider_moves(followed: Followed) -> None:
    page = followed.tab.go(f"/ui/atlas?search_id={followed.search_id}")
    expect(page.locator("#within")).to_contain_text(re.compile(r"(\d+) of \1 within the limits"))
    expect(page.get_by_label("Multi-adds, at most")).to_be_enabled()
    codes = page.locator("#answer-rows a")
    expect(codes).to_have_text(asked(followed))
    page.get_by_label("Multi-adds, at most").focus()
    for _ in range(8):
        page.keyboard.press("PageDown")
    limit = units(page.locator("#max-madds-value").text_content() or "") / 1e6
    under_limit = asked(followed, max_madds=limit)
    assert under_limit != asked(followed)
    expect(codes).to_have_text(under_limit)
    expect(page.locator("#within")).not_to_contain_text(re.compile(r"(\d+) of \1 "))
    page.get_by_role("button", name="Clear").click()
    expect(codes).to_have_text(asked(followed))
    assert not followed.tab.complaints


def test_the_atlas_of_the_whole_space(followed: Followed) -> None:
    page = followed.tab.go(f"/ui/atlas?search_id={followed.search_id}")
    page.get_by_label("What", exact=True).select_option(label="The whole space")
    page.wait_for_url("**scope=space")
    codes = page.locator("#answer-rows a")
    expect(codes).to_have_text(asked(followed, scope="space"))
    slider = page.get_by_label("Parameters, at most")
    expect(slider).to_be_enabled()
    slider.focus()
    page.keyboard.press("Home")
    # the smallest architecture there is
    expect(codes).to_have_text(["0000"])
    assert not followed.tab.complaints


def test_limits_that_nothing_meets_together_are_explained(followed: Followed) -> None:
    page = followed.tab.go(f"/ui/atlas?search_id={followed.search_id}")
    expect(page.locator("#atlas-chart[data-drawn=yes]")).to_be_visible()
    expect(page.locator("#no-answer")).to_be_hidden()
    page.route("**/lookup?*", lambda route: route.continue_(url=route.request.url + "&max_params=0.000001"))
    page.get_by_label("Multi-adds, at most").focus()
    page.keyboard.press("PageDown")
    expect(page.locator("#no-answer")).to_contain_text("is below the cheapest architecture of this table")
    page.unroute_all()


def test_an_answer_opens_its_architecture_and_that_compares(followed: Followed) -> None:
    page = followed.tab.go(f"/ui/atlas?search_id={followed.search_id}&round_index=0")
    row = page.locator("#answer-rows tr").nth(2)
    code = row.locator("a").text_content() or ""
    row.locator("td").nth(3).click()
    page.wait_for_url(f"**/architectures/{code}")
    expect(page.get_by_role("heading", level=1)).to_have_text(code)
    assert page.locator(".drawing .block").count() == 4
    page.get_by_role("link", name="Compare with the final one").click()
    expect(page.get_by_role("heading", name="They differ in")).to_be_visible()
    differing = page.locator(".drawing").first.locator(".marked").count()
    final = page.locator("#first").input_value()
    assert differing == sum(a != b for a, b in zip(final, code, strict=True))
    page.get_by_label("Second", exact=True).fill("9999")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#second-error")).to_contain_text("the choices 0 to 5, not 9")
    assert not followed.tab.complaints


def test_an_architecture_is_exported(followed: Followed) -> None:
    code = asked(followed)[0]
    page = followed.tab.go(f"/ui/searches/{followed.search_id}/architectures/{code}")
    for button, ending, begins in (("Export model.py", ".py", b'"""'), ("Export ONNX", ".onnx", b"")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename.endswith(ending)
        content = download.value.path().read_bytes()
        assert len(content) > 1000
        assert content.startswith(begins)
    expect(page.locator("#use-status")).to_contain_text("is saved")
    assert not followed.tab.complaints


def add_device(page: Page, name: str) -> Locator:
    """Add a device to the atlas's limits by keyboard, and return its slider, which has the focus then."""
    page.get_by_label("Device", exact=True).select_option(name)
    page.get_by_role("button", name="Add its latency").press("Enter")
    slider = page.get_by_label(f"Latency on {name}, at most")
    expect(slider).to_be_enabled()
    expect(slider).to_be_focused()
    return slider


def lower(page: Page, slider: Locator, steps: int) -> float:
    """Move a latency's slider by keyboard, and return its limit."""
    slider.focus()
    for _ in range(steps):
        page.keyboard.press("PageDown")
    return float((slider.get_attribute("aria-valuetext") or "").removesuffix(" ms"))


def drawn_lengths(page: Page) -> dict[str, int]:
    drawn: dict[str, int] = page.evaluate(
        "Object.fromEntries(charts.all.get(document.getElementById('atlas-chart')).chart.getOption()"
        ".series.map((one) => [one.name, one.data.length]))"
    )
    return drawn


def test_the_latency_on_a_device_is_one_more_limit(followed: Followed) -> None:
    register_device(followed.tab)
    expect(followed.tab.go("/ui/devices").get_by_role("row").filter(has_text="phone")).to_contain_text("24.50 ms")
    page = followed.tab.go(f"/ui/atlas?search_id={followed.search_id}")
    expect(page.get_by_label("Multi-adds, at most")).to_be_enabled()
    limit = lower(page, add_device(page, "phone"), 6)
    under_limit = asked(followed, device="phone", max_latency_ms=limit)
    assert under_limit != asked(followed)
    expect(page.locator("#answer-rows a")).to_have_text(under_limit)
    shown = page.locator("#answer-rows td:last-child").all_text_contents()
    assert all(float(text) <= limit for text in shown), (limit, shown)
    expect(page.locator("#within")).to_contain_text("within the limits")
    assert drawn_lengths(page)["beaten by none"] > 0
    assert drawn_lengths(page)["beaten by few"] > 0
    assert not followed.tab.complaints


@pytest.mark.parametrize("scope", ["table", "space"])
def test_several_devices_are_limited_together(followed: Followed, scope: str) -> None:
    register_device(followed.tab)
    register_device(followed.tab, "camera", cells_ms=[[6.0, 4.0, 2.0, 3.0, 2.0, 1.0]] * 4)
    page = followed.tab.go(f"/ui/atlas?search_id={followed.search_id}&scope={scope}")
    expect(page.get_by_label("Multi-adds, at most")).to_be_enabled()
    codes = page.locator("#answer-rows a")
    phone, camera = add_device(page, "phone"), add_device(page, "camera")
    expect(page.get_by_role("columnheader", name="ms on phone")).to_be_visible()
    # a device without a limit is shown beside one that has
    only_phone = lower(page, phone, 5)
    expect(codes).to_have_text(asked(followed, scope=scope, device="phone", max_latency_ms=only_phone))
    expect(page.get_by_role("columnheader", name="ms on camera")).to_be_visible()
    limits = {"phone": only_phone, "camera": lower(page, camera, 5)}
    both = asked(followed, scope=scope, device=list(limits), max_latency_ms=list(limits.values()))
    assert both != asked(followed, scope=scope, device="phone", max_latency_ms=only_phone)
    expect(codes).to_have_text(both)
    assert drawn_lengths(page)["answers"] == len(both)
    page.get_by_role("button", name="Remove phone").press("Enter")
    expect(page.get_by_label("Device", exact=True)).to_be_focused()
    expect(phone).to_have_count(0)
    expect(codes).to_have_text(asked(followed, scope=scope, device="camera", max_latency_ms=limits["camera"]))
    assert violations(followed.tab) == []
    page.get_by_role("button", name="Clear").click()
    expect(codes).to_have_text(asked(followed, scope=scope))
    assert not followed.tab.complaints


def test_a_dot_of_the_atlas_opens_its_architecture(followed: Followed) -> None:
    page = followed.tab.go(f"/ui/atlas?search_id={followed.search_id}")
    expect(page.locator("#atlas-chart[data-drawn=yes]")).to_be_visible()
    code = page.locator("#answer-rows a").first.text_content()
    place = page.evaluate(
        """() => {
            const chart = echarts.getInstanceByDom(document.getElementById("atlas-chart"));
            const best = chart.getOption().series.at(-1).data.at(-1);
            return chart.convertToPixel("grid", best.value.slice(0, 2));
        }"""
    )
    page.locator("#atlas-chart").click(position={"x": place[0], "y": place[1]})
    page.wait_for_url("**/architectures/*")
    # dots of others may lie across the best one's middle
    expect(page.get_by_role("heading", level=1)).to_have_text(code or "")


def test_a_finished_search_is_deleted_after_a_question(open_tab: OpenTab, followed: Followed) -> None:
    page = open_tab().go("/ui/submit")
    fill_form(page)
    page.get_by_label("Epochs", exact=True).fill("2000")
    page.get_by_role("button", name="Submit the search").click()
    page.wait_for_url("**/ui/searches/*")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#search-live")).to_have_attribute("data-state", "cancelled")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    search_id = page.url.rsplit("/", 1)[1]
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    page.wait_for_url(lambda url: url.endswith("/"))
    expect(page.get_by_role("row").filter(has_text=followed.search_id[:8])).to_be_visible()
    expect(page.get_by_text(search_id[:8])).to_have_count(0)


def test_a_device_is_registered_from_a_file_and_deleted_after_a_question(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    page = tab.go("/ui/devices")
    file = tmp_path / "latencies.csv"
    file.write_text("cell,choice,latency_ms\nbase,,x\n")
    page.locator("#upload-name").fill("tablet")
    page.locator("#upload-space").select_option("nas-bench-macro")
    page.locator("#upload-file").set_input_files(file)
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#upload-error")).to_contain_text("line 2: 'x' is no number")
    file.write_text(LatencyTable(0.5, ((0.0, 0.25, 1.0),) * 8).to_csv())
    page.locator("#upload-file").set_input_files(file)
    page.get_by_role("button", name="Register").click()
    row = page.get_by_role("row").filter(has_text="tablet")
    expect(row).to_contain_text("8.50 ms")
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Delete tablet").click()
    expect(page.get_by_role("button", name="Delete tablet")).to_have_count(0)


def test_an_architecture_is_trained_by_itself_as_chosen(followed: Followed, finished_search: dict[str, Any]) -> None:
    code = finished_search["final"]["code"]
    page = followed.tab.go(f"/ui/searches/{followed.search_id}/architectures/{code}")
    page.get_by_label("Recipe").select_option("small")
    page.get_by_label("Network", exact=True).select_option("target")
    page.get_by_label("Images").select_option("all")
    page.get_by_role("button", name="Train it by itself").click()
    page.wait_for_url(lambda url: "architectures" not in url)
    job_id = page.url.rsplit("/", 1)[1]
    job = page.request.get(f"{followed.tab.url}/search/{job_id}").json()
    page.request.post(f"{followed.tab.url}/search/{job_id}/cancel")
    assert job["retraining"]["network"] == "target"
    assert job["retraining"]["images"]["num_images"] is None
