"""The explorer's page in a real browser, served by ``stabsim explore`` as a user starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import browser, needs_chromium

pytest.importorskip("panel", reason="panel is not installed: pip install 'stabsim[explore]'")
pytest.importorskip("playwright", reason="playwright is not installed: pip install 'stabsim[test]'")

pytestmark = needs_chromium

SMALL = "width=32&depth=8&nets=40"
PATIENCE = 60_000  # milliseconds: the first page may compile


def start(*options: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server, and return it with its address, which it says when it listens."""
    command = [sys.executable, "-W", "error", "-m", "stabsim", "explore", "--no-browser", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", line := server.stdout.readline())
    assert found, line
    return server, found[0]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server, found = start("--port", "0")
    yield found
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=60)
    refusals = [line for line in err.splitlines() if "Refusing websocket connection" in line]
    assert (server.returncode, out) == (130, "")
    assert err.splitlines() == [*refusals, "stabsim explore: interrupted"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@contextlib.contextmanager
def opened(chromium: Any, url: str, **options: Any) -> Iterator[Any]:
    """Open a page, and look at the end whether it complained, or asked anyone but this machine."""
    context = chromium.new_context(**options)
    page = context.new_page()
    complaints, asked = [], []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.goto(url)
    page.wait_for_function("window.stabsimExplore?.answer?.link !== undefined", timeout=PATIENCE)
    try:
        yield page
    finally:
        context.close()
    own = re.compile(r"data:|(?:blob:http|http|ws)://127\.0\.0\.1:\d+/")
    origins = [own.match(url) for url in asked]
    assert len(origins) > 3 and all(origins), asked
    assert any(url.startswith("ws://") for url in asked)
    assert complaints == []


def settled(page: Any) -> dict[str, Any]:
    """Wait until what the form says is drawn, all nets of it; return the last answer."""
    page.evaluate("() => new Promise(requestAnimationFrame)")  # a change is asked for in the next frame
    page.wait_for_function(
        "stabsimExplore.answer.rows && stabsimExplore.answer.busy === false"
        " && stabsimExplore.answer.mapped === stabsimExplore.exchange.link",
        timeout=PATIENCE,
    )
    return dict(page.evaluate("stabsimExplore.answer"))


def curve(page: Any, name: str) -> list[float]:
    """Return what a line is drawn from in the page."""
    script = """(name) => {
        const sources = [...Bokeh.documents[0]._all_models.values()].filter((m) => m.data && m.data[name]);
        return Array.from(sources[0].data[name]);
    }"""
    return list(page.evaluate(script, name))


def change(page: Any, name: str, text: str) -> None:
    """Write into a field."""
    page.fill(f"#{name}", text)
    page.wait_for_function(
        "([name, text]) => new URLSearchParams(stabsimExplore.exchange.link).get(name) === text"
        " && stabsimExplore.answer.link === stabsimExplore.exchange.link",
        arg=[name, text],
        timeout=PATIENCE,
    )


NORM = "activation_log10_norm estimate"


def test_a_link_restores_the_page_and_sliders_move_the_curves(chromium: Any, address: str) -> None:
    from stabsim.explorer import curves
    from stabsim.explorer.state import State

    with opened(chromium, f"{address}?{SMALL}&gain=1.2&activation=erf") as page:
        answer = settled(page)
        state = State.read(f"{SMALL}&gain=1.2&activation=erf").state
        assert state is not None
        *_, result = curves.draw(state)
        before = curve(page, NORM)
        assert before == result.estimates("activation_log10_norm").estimate.tolist()
        assert page.input_value("#gain") == "1.2"
        assert page.input_value("#activation-list") == "erf"
        assert (answer["nets"], answer["kind"]) == (40, page.get_attribute("#verdict", "data-kind"))

        page.focus("#gain-slider")
        page.keyboard.press("PageDown")
        page.keyboard.press("PageDown")
        page.keyboard.press("ArrowLeft")
        settled(page)
        after = curve(page, NORM)
        assert 0.3 < float(page.input_value("#gain")) < 0.7
        assert len(after) == 9 and after[-1] < before[-1] - 0.5
        assert page.get_attribute("#verdict", "data-kind") in page.inner_text("#verdict").lower()
        assert float(page.inner_text("#rows tr:first-child td:nth-child(3)")) == pytest.approx(after[-1], rel=1e-4)

        page.evaluate("document.getElementById('depth-slider').value = 19")
        page.dispatch_event("#depth-slider", "input")
        settled(page)
        assert page.input_value("#depth") == "20" and len(curve(page, NORM)) == 21
        page.select_option("#activation-list", "relu")
        page.select_option("#weights-list", "he_normal")
        answer = settled(page)
        assert (page.input_value("#gain"), answer["gain"]) == ("", pytest.approx(2**0.5))
        shares = curve(page, "derivative_zero_fraction estimate")
        assert 0.4 < min(shares[1:]) <= max(shares[1:]) < 0.6
        drawn, link = curve(page, NORM), page.url

    with opened(chromium, link) as page:  # another tab, later
        settled(page)
        assert curve(page, NORM) == drawn
        assert page.input_value("#depth") == "20" and page.input_value("#activation") == "relu"


def test_bad_values_are_refused_in_words_and_nothing_is_lost(chromium: Any, address: str) -> None:
    with opened(chromium, f"{address}?{SMALL}") as page:
        settled(page)
        drawn, link = curve(page, NORM), page.url
        change(page, "activation", "rleu")
        problem = page.locator("#activation-problem")
        assert "unknown activation 'rleu'; known, nearest first: relu" in problem.inner_text()
        assert page.get_attribute("#activation", "aria-invalid") == "true"
        change(page, "depth", "0")
        change(page, "cell", "lstm")
        assert "from 1 to 1000, not 0" in page.inner_text("#depth-problem")
        assert (curve(page, NORM), page.url, page.input_value("#activation")) == (drawn, link, "rleu")
        assert "mended" in page.inner_text("#status")

        change(page, "cell", "feedforward")
        change(page, "activation", "tanh")
        change(page, "depth", "5")
        settled(page)
        assert len(curve(page, NORM)) == 6
        assert not problem.is_visible() and not page.locator("#depth-problem").is_visible()

    with opened(chromium, f"{address}?{SMALL}&gain=-3&colour=blue&share=zeroes") as page:
        page.wait_for_selector("#gain-problem:visible")
        assert page.input_value("#gain") == "-3" and page.input_value("#depth") == "8"
        assert "must be a finite number > 0" in page.inner_text("#gain-problem")
        assert "unknown part of the link 'colour'" in page.inner_text("#problem")
        assert "known, nearest first: derivative_" in page.inner_text("#share-problem")
        assert page.input_value("#share") == "zeroes"


def test_what_takes_too_long_is_refused_and_the_page_stays_alive(chromium: Any, address: str) -> None:
    with opened(chromium, f"{address}?width=8192&depth=200&nets=40&weights=glorot_uniform") as page:
        page.wait_for_selector("#problem:visible")
        assert "s of a core, more than" in page.inner_text("#problem")
        change(page, "width", "33")
        settled(page)
        assert not page.locator("#problem").is_visible()


def test_the_last_of_many_changes_is_drawn(chromium: Any, address: str) -> None:
    with opened(chromium, f"{address}?{SMALL}") as page, opened(chromium, f"{address}?{SMALL}&seed=5") as other:
        settled(page), settled(other)
        own = curve(other, NORM)
        page.evaluate("""async () => {
            const slider = document.getElementById("gain-slider");
            for (let place = 0; place <= 150; place += 3) {
                slider.value = place;
                slider.dispatchEvent(new Event("input", {bubbles: true}));
                await new Promise((done) => setTimeout(done, 4));
            }
        }""")
        settled(page)
        assert page.evaluate("new URLSearchParams(stabsimExplore.answer.link).get('gain')") == page.input_value("#gain")
        drawn, link = curve(page, NORM), page.url
        assert curve(other, NORM) == own != drawn
    with opened(chromium, link) as page:
        settled(page)
        assert curve(page, NORM) == drawn


def test_it_can_be_read_by_a_machine_and_fits_a_phone(chromium: Any, address: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    for options in ({"color_scheme": "light"}, {"color_scheme": "dark", **phone}):
        with opened(chromium, f"{address}?{SMALL}", **options) as page:
            settled(page)
            for details in page.query_selector_all("details"):
                details.evaluate("(e) => { e.open = true; }")
            change(page, "seed", "-1")  # so that a problem is looked at, too
            found = axe.run(page).response
            serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
            assert not serious, json.dumps(serious)[:2000]
            assert len(found["passes"]) > 10
            wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
            assert wide[0] <= wide[1], wide
            dark = page.evaluate("document.documentElement.classList.contains('dark')")
            assert dark == (options["color_scheme"] == "dark")


def test_every_input_has_a_label_and_the_keyboard_reaches_it(chromium: Any, address: str) -> None:
    with opened(chromium, f"{address}?{SMALL}") as page:
        settled(page)
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id"))
        kinds = "#explore input, #explore select, #explore button"
        inputs = page.eval_on_selector_all(kinds, "all => all.map((each) => each.id)")
        assert len(inputs) > 25 and set(inputs) <= reached


def test_no_one_else_is_answered(address: str) -> None:
    def status(headers: dict[str, str], path: str = "/") -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)) as connection:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    port = address.rsplit(":", 1)[1].rstrip("/")
    assert status({}) == status({"Host": f"localhost:{port}"}) == 200
    assert status({"Host": f"evil.example:{port}"}) == status({"Host": f"127.0.0.1.evil.example:{port}"}) == 403
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": "bokeh, none",
    }
    assert status({**upgrade, "Origin": "http://evil.example"}, "/ws") == 403
    assert status({**upgrade, "Origin": "http://127.0.0.1:1"}, "/ws") == 403


def test_only_this_machine_is_listened_to(address: str) -> None:
    port = f"{int(address.rsplit(':', 1)[1].rstrip('/')):04X}"
    with open("/proc/net/tcp") as table, open("/proc/net/tcp6") as table6:
        rows = [line.split() for line in [*table, *table6]]
    listening = [row[1] for row in rows if row[1].endswith(f":{port}") and row[3] == "0A"]
    assert listening == [f"0100007F:{port}"]


def test_a_port_that_is_taken_and_a_missing_panel_are_one_line(address: str, tmp_path: Any) -> None:
    def run(port: str, **environment: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "stabsim", "explore", "--port", port, "--no-browser"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)
        return done.returncode, done.stderr

    port = address.rsplit(":", 1)[1].rstrip("/")
    assert run(port) == (1, f"stabsim explore: --port={port} is taken: give another, or 0 for one that is free\n")
    assert run("99999")[0] == 2
    (tmp_path / "panel.py").write_text("raise ImportError('no panel')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert run("0", PYTHONPATH=path) == (1, "stabsim explore: explore needs panel: pip install 'stabsim[explore]'\n")


def test_a_tab_that_is_closed_while_nets_are_drawn_leaves_the_server_alive(chromium: Any, address: str) -> None:
    page = chromium.new_page()
    page.goto(f"{address}?width=32&depth=400&nets=60000")
    page.wait_for_function("window.stabsimExplore?.answer?.busy === true", timeout=PATIENCE)
    page.close()
    with opened(chromium, f"{address}?{SMALL}") as page:
        settled(page)
