"""The report in a real browser: without a network or JavaScript, by keyboard, on a phone, in the dark, on paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stabsim.ledger import statements
from stabsim.report import write_report
from tests.browser import browser, needs_chromium
from tests.reports import make_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

PHONE = {"width": 360, "height": 740}
STATUS = "#status"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = make_folder(tmp_path_factory.mktemp("a folder with #"))
    write_report(out)
    return out / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


Open = Callable[..., "Page"]


@pytest.fixture
def visit(chromium: Browser, file: Path) -> Iterator[Open]:
    """Open the page in a browser with the options given; at the end it must have said and asked for nothing."""
    contexts, said, asked = [], [], []

    def visit(fragment: str = "", **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri() + fragment)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not said
    assert {address.partition("#")[0] for address in asked if not address.startswith("data:")} == {file.as_uri()}


def shown(page: Page, selector: str) -> list[str]:
    """Return the ids of what is seen."""
    seen = "each => each.filter(one => one.checkVisibility({visibilityProperty: true})).map(one => one.id)"
    return list(page.locator(selector).evaluate_all(seen))


def settle(page: Page, status: str) -> None:
    page.wait_for_function("text => document.querySelector('#status').textContent.includes(text)", arg=status)


# --- opening, searching, links ----------------------------------------------------------------------------


def test_it_opens_from_disk_with_everything_to_be_seen(visit: Open) -> None:
    page = visit()
    assert shown(page, ".claim") == [f"claim-{claim}" for claim in statements()]
    assert (
        page.locator(STATUS).inner_text()
        == f"{len(statements())} of {len(statements())} claims, 3 of 3 studies, 4 of 4 figures"
    )
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")
        assert image.evaluate("image => image.naturalWidth") > 200
    assert page.title() == "stabsim report"  # which a script in a study's title would have changed


def test_search_shows_what_has_all_words(visit: Open) -> None:
    page = visit()
    page.get_by_label("Search").fill("giraffes")
    settle(page, "1 of 58 claims, 1 of 3 studies, 2 of 4 figures fit".replace("58", str(len(statements()))))
    assert shown(page, ".claim") == ["claim-A01"] and shown(page, ".study") == ["study-tiny"]
    assert page.locator("#claim-A01 .verdict:visible").count() == 1
    assert shown(page, ".letter") == ["claims-A"]
    page.get_by_label("Search").fill("  ZEBRAS   another ")
    settle(page, "0 of")
    assert shown(page, ".picture") == ["figure-tiny_more"]
    page.get_by_label("Search").fill("zebras giraffes")
    settle(page, ", 0 of 3 studies, 0 of 4 figures fit")
    page.get_by_role("button", name="Clear").click()
    settle(page, ", 3 of 3 studies, 4 of 4 figures")
    assert page.url.partition("#")[2] == "" and len(shown(page, ".claim")) == len(statements())


def test_filters_go_together_and_with_the_search(visit: Open) -> None:
    page = visit()
    page.get_by_label("Verdicts of", exact=True).select_option("run")
    settle(page, "3 of")
    assert shown(page, ".claim") == ["claim-A01", "claim-A02", "claim-B01"]
    page.get_by_role("combobox", name="Claims").select_option("A")
    settle(page, "2 of")
    page.get_by_label("Verdict", exact=True).select_option("when")
    page.get_by_label("Study", exact=True).select_option("tiny")
    settle(page, "1 of")
    assert shown(page, ".claim") == ["claim-A02"] and shown(page, ".study") == ["study-tiny"]
    assert page.locator(".verdicts .verdict:visible").count() == 1
    page.get_by_label("Verdict", exact=True).select_option("none")
    settle(page, "0 of")
    assert not shown(page, ".claim") and not shown(page, ".study")
    assert page.locator(STATUS).inner_text().endswith("clear what is chosen above to see all")


def test_a_link_holds_what_is_chosen(visit: Open) -> None:
    page = visit()
    page.get_by_label("Search").fill("giraffes & #1 ü")
    page.get_by_role("combobox", name="Claims").select_option("A")
    page.get_by_label("Study", exact=True).select_option("tiny")
    settle(page, "0 of")
    fragment = "#" + page.url.partition("#")[2]
    again = visit(fragment)
    assert again.get_by_label("Search").input_value() == "giraffes & #1 ü"
    assert again.locator(STATUS).inner_text() == page.locator(STATUS).inner_text()
    assert again.get_by_label("Study", exact=True).input_value() == "tiny"
    unknown = visit("#?study=nothing&verdict=%3Cb%3E&color=red")
    assert len(shown(unknown, ".claim")) == len(statements())
    assert unknown.get_by_label("Study", exact=True).input_value() == ""


def test_a_link_to_what_is_filtered_out_shows_it(visit: Open) -> None:
    page = visit("#?q=giraffes")
    page.locator("nav a[href='#study-tiny_more']").click()
    assert page.locator("#study-tiny_more").is_visible() and page.get_by_label("Search").input_value() == ""
    assert page.locator("#study-tiny_more h3").bounding_box()["y"] < 400  # type: ignore[index]


def test_counts_are_announced(visit: Open) -> None:
    status = visit().locator(STATUS)
    assert status.get_attribute("aria-live") == "polite" and status.get_attribute("role") == "status"


# --- light and dark ---------------------------------------------------------------------------------------


def colors(page: Page) -> tuple[str, str]:
    found = page.evaluate("(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))")
    return found[0], found[1]


def test_dark_and_light_follow_the_system_or_the_choice(visit: Open) -> None:
    light, dark = colors(visit(color_scheme="light")), colors(visit(color_scheme="dark"))
    assert light != dark
    page = visit(color_scheme="light")
    page.get_by_label("Theme").select_option("dark")
    assert colors(page) == dark
    paper = "getComputedStyle(document.querySelector('.paper')).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"  # figures are drawn on white
    page.reload()
    assert colors(page) == dark and page.get_by_label("Theme").input_value() == "dark"
    page.get_by_label("Theme").select_option("light")
    page.emulate_media(color_scheme="dark")
    assert colors(page) == light
    page.get_by_label("Theme").select_option("")
    assert colors(page) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1360, "height": 900}, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing(visit: Open, scheme: Any, size: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit(color_scheme=scheme, viewport=size)
    page.evaluate("[...document.querySelectorAll('details.note')].slice(0, 3).forEach(note => { note.open = true; })")
    found = Axe().run(page).response
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []
    checked = {each["id"] for each in found["passes"]}
    assert {"color-contrast", "label", "image-alt", "heading-order", "region", "document-title"} <= checked


# --- phone, keyboard, paper, no script -----------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 360, 767, 768, 1119, 1120])
def test_nothing_is_wider_than_the_screen(visit: Open, width: int) -> None:
    page = visit(viewport={"width": width, "height": 740})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """[...document.querySelectorAll('main *')].filter(each => each.getBoundingClientRect().right > innerWidth
        && !each.closest('thead, .hidden')).map(each => each.outerHTML.slice(0, 80))"""
    assert page.evaluate(beyond) == []


def test_everything_is_reached_by_keyboard_and_seen_to_be(visit: Open) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.reload()
    wanted = page.locator("a[href], button, input, select, summary").count()
    seen = []
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """(() => { const each = document.activeElement, style = getComputedStyle(each);
            return [each === document.body ? -1 : [...document.querySelectorAll('*')].indexOf(each),
            style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]; })()"""
        )
        if found[0] < 0:
            break
        assert found[1], page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        seen.append(found[0])
    assert seen == sorted(seen) and len(set(seen)) == wanted  # in the order of the page, each once, and out of it again


def test_what_has_the_focus_is_not_hidden_behind_the_header(visit: Open) -> None:
    page = visit(viewport={"width": 1360, "height": 500})
    page.locator("#study-tiny_more .data a").focus()
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        place = page.evaluate("document.activeElement.getBoundingClientRect().top")
        bottom = page.evaluate("document.querySelector('.top').getBoundingClientRect().bottom")
        inside = page.evaluate("!document.activeElement.closest('main')")
        assert inside or place >= bottom - 1


def test_paper_has_all_claims_and_no_controls(visit: Open) -> None:
    page = visit(color_scheme="dark")
    page.get_by_label("Theme").select_option("dark")
    page.emulate_media(media="print")
    assert colors(page)[0] == "rgb(255, 255, 255)"
    assert shown(page, ".claim") == [f"claim-{claim}" for claim in statements()]
    assert not shown(page, "input, select, button, nav, summary, .skip, #status")
    page.emulate_media(media="screen")
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    pages = len(re.findall(rb"/Type ?/Page\b", pdf))
    assert pdf.startswith(b"%PDF") and pages > 5
    page.evaluate("document.querySelectorAll('details p').forEach(note => note.remove())")
    assert (
        len(re.findall(rb"/Type ?/Page\b", page.pdf(format="A4", prefer_css_page_size=True))) < pages
    )  # notes were there


def test_without_a_script_everything_can_be_read(visit: Open) -> None:
    page = visit("#?q=giraffes", java_script_enabled=False, color_scheme="dark")
    assert shown(page, ".claim") == [f"claim-{claim}" for claim in statements()]
    assert len(shown(page, ".picture")) == 4 and page.locator("img:visible").count() == 4
    assert not page.locator("#controls").is_visible()
    page.locator("#claim-A01 summary").first.click()
    assert page.locator("#claim-A01 .note p").first.is_visible()


def test_data_are_saved_from_the_page(visit: Open, file: Path) -> None:
    import gzip

    page = visit()
    with page.expect_download() as download:
        page.get_by_role("link", name="tiny_tails.csv.gz").click()
    assert download.value.suggested_filename == "tiny_tails.csv.gz"
    assert gzip.decompress(download.value.path().read_bytes()) == (file.parent / "figures/tiny_tails.csv").read_bytes()
