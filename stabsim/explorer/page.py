"""The page: fields and figures in a template, one session for each tab that is open, and the server of both."""

from __future__ import annotations

import json
import logging
import math
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from importlib import resources
from typing import Any

import panel
from bokeh.core.properties import Bool, String
from bokeh.document import Document
from bokeh.model import DataModel
from tornado.web import RequestHandler

from stabsim.checks import reason
from stabsim.diagnosis import judge
from stabsim.diagnosis.diagnosis import finite
from stabsim.explorer import curves
from stabsim.explorer.fields import FIELDS, SECTIONS
from stabsim.explorer.latest import Latest
from stabsim.explorer.plots import Plots
from stabsim.explorer.state import State
from stabsim.result import Result

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # by which a browser on this machine may call it
TITLE = "stabsim explore"
REFUSED = (TypeError, ValueError, OverflowError, MemoryError)
BETWEEN = 0.25  # seconds between two looks at nets that are being drawn
UNUSED = 10_000  # milliseconds after which what a closed tab has asked for is stopped
PATIENCE = 0.1  # seconds that curves wait for theory
WAITING = "No verdict so far: it comes with the last of the nets."

log = logging.getLogger(__name__)


class Exchange(DataModel):  # type: ignore[misc]  # Bokeh's own classes have no types
    """What the page and its session tell each other: the link and colors that are wanted, and answers as JSON."""

    link = String(default="")
    dark = Bool(default=False)
    answer = String(default="{}")


class Session:
    """One page in one tab: what it asks for is worked on aside, and comes back when it is there."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.plots = Plots()
        self.exchange = Exchange(name="exchange")
        self.exchange.on_change("link", lambda _name, _old, link: self.ask(link))
        self.exchange.on_change("dark", lambda _name, _old, dark: self.plots.paint(dark))
        self.latest: Latest[tuple[str, State]] = Latest(self.work)

    def ask(self, link: str) -> None:
        """Read what the page is set to, say what is not allowed, and have the rest drawn."""
        reading = State.read(link)
        told: dict[str, Any] = {"link": link, "texts": reading.texts, "problems": reading.problems, "busy": False}
        if reading.state is None:
            self.latest.cancel()
        else:
            told |= {"busy": True, "gain": reading.state.law.gain, "canonical": reading.state.link}
            self.latest.ask((link, reading.state))
        self.tell(told)

    def work(self, asked: tuple[str, State], stop: Callable[[], bool]) -> None:
        """Draw a state, on the thread of the session."""
        link, state = asked
        try:
            self._curves(link, state, stop)
            self._map(link, state, stop)
        except REFUSED as error:
            self._later(stop, link, problems={"": reason(error)}, busy=False)
        except Exception as error:  # said on the page, where someone waits
            log.exception("stabsim explore")
            self._later(stop, link, problems={"": f"this went wrong: {reason(error)}"}, busy=False)

    def _curves(self, link: str, state: State, stop: Callable[[], bool]) -> None:
        """Draw more and more nets; theory is found aside, and comes later where it takes longer than they do."""
        start = time.monotonic()
        shown = -math.inf
        aside = ThreadPoolExecutor(1, thread_name_prefix="stabsim-theory")
        try:
            laws = aside.submit(curves.theory, state)
            for result in curves.draw(state, stop):
                last = result.nets == state.nets
                if stop() or (not last and time.monotonic() - shown < BETWEEN):
                    continue
                wait([laws], PATIENCE)
                seconds = time.monotonic() - start
                known = laws.done()
                self._tell(state, result, laws.result() if known else None, link, stop, seconds=seconds)
                while last and not known and not stop():
                    if known := bool(wait([laws], PATIENCE).done):
                        self._tell(state, result, laws.result(), link, stop, seconds=seconds)
                shown = time.monotonic()
        finally:
            aside.shutdown(wait=False, cancel_futures=True)  # what comes next does not wait for it

    def _tell(
        self, state: State, result: Result, laws: curves.Laws | None, link: str, stop: Callable[[], bool], **told: Any
    ) -> None:
        """Show a result, with theory where the laws are known; and a verdict once all nets are drawn.

        Its intervals hold for one look, which is the last: one that may be stopped at must have wider ones.
        """
        found = curves.columns(result, laws)
        busy = laws is None or result.nets < state.nets
        told |= {"kind": "", "sentence": WAITING} if busy else _verdict(result)
        told |= {
            "rows": finite(curves.readings(result, found)),
            "nets": result.nets,
            "busy": busy,
            "sampler": result.task.sampler,
            "remarks": result.overflowed(),
            "missing": {each.name: curves.missing(state, tuple(each.lines)) for each in curves.PANELS},
        }
        self._later(stop, link, partial(self._show, state, found), **told)

    def _show(self, state: State, found: dict[str, curves.Floats]) -> None:
        self.plots.show(found)
        self.plots.mark(state)

    def _map(self, link: str, state: State, stop: Callable[[], bool]) -> None:
        try:
            found = curves.shares(state, stop)
        except REFUSED as error:
            self._later(stop, link, self.plots.clear_map, no_map=reason(error))
            return
        if found is not None:
            self._later(stop, link, partial(self.plots.show_map, *found), no_map="")

    def _later(self, stop: Callable[[], bool], link: str, show: Callable[[], None] | None = None, **told: Any) -> None:
        """Show and tell something on the server's thread, unless something else is wanted by then."""

        def do() -> None:
            if not stop():
                if show is not None:
                    show()
                self.tell({"link": link, **told})

        if not stop():
            self.document.add_next_tick_callback(do)

    def tell(self, told: dict[str, Any]) -> None:
        """Send an answer."""
        self.exchange.answer = json.dumps(told, allow_nan=False)

    def close(self) -> None:
        """Stop: the page is gone."""
        self.latest.close()


def _verdict(result: Result) -> dict[str, str]:
    judgment = judge(result)
    return {"kind": judgment.kind, "sentence": judgment.sentence}


def _file(name: str) -> str:
    return (resources.files("stabsim.explorer") / name).read_text(encoding="utf-8")


def page() -> panel.Template:
    """Return a new page with its session, for Panel to serve."""
    document = panel.state.curdoc
    session = Session(document)
    known = {field.name: field for field in FIELDS}
    shown = panel.Template(_file("page.html"))
    for name, plot in session.plots.figures.items():
        shown.add_panel(name, panel.pane.Bokeh(plot, sizing_mode="stretch_width"))
    session.plots.figures["map"].tags = [session.exchange]
    shown.add_variable("css", _file("page.css"))
    shown.add_variable("js", _file("page.js"))
    shown.add_variable("panels", curves.PANELS)
    shown.add_variable("sections", [(title, [known[name] for name in names]) for title, names in SECTIONS.items()])
    shown.add_variable("share", known["share"])
    shown.title = TITLE
    document.on_session_destroyed(lambda _context: session.close())
    return shown


class Foreign(RequestHandler):
    """Refuses a request by any other name than this machine's own: a page elsewhere whose name was led here."""

    def prepare(self) -> None:
        """Answer."""
        self.send_error(403, reason="stabsim explore answers to 127.0.0.1 and localhost only")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def make_server(port: int) -> Any:
    """Return the server of the page, which listens already, on this machine alone; ``start`` and ``io_loop`` run it.

    Raises
    ------
    OSError
        If the port is taken or not allowed.
    """
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # what is refused is no news in the terminal
    port = port or free_port()
    origins = [f"{name}:{port}" for name in NAMES]
    server = panel.io.server.get_server(
        page, port=port, address=HOST, websocket_origin=origins, show=False, title=TITLE, location=False,
        unused_session_lifetime_milliseconds=UNUSED, check_unused_sessions_milliseconds=UNUSED // 5,
    )  # fmt: skip
    server._tornado.add_handlers(rf"^(?!(?:{'|'.join(map(re.escape, NAMES))})$).*$", [(r".*", Foreign)])
    return server
