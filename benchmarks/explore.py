"""How fast the explorer follows a slider: simulation, theory, curves, verdict and heat map of one change, each alone.

``python benchmarks/explore.py [--changes 20] [--browser]``: medians over changes of the gain, at width 512, depth 50
and 256 nets. "server" is what stands between a slider and the answer: kernels on all processors while theory is found
beside them. With ``--browser``, also from the event of a slider until the new curves are painted, in Chromium.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from stabsim.diagnosis import judge
from stabsim.explorer import curves
from stabsim.explorer.state import State
from stabsim.simulation import simulate

CASES = {
    "tanh": State(),
    "relu": State(activation="relu", weights="he_normal"),
    "gelu": State(activation="gelu", weights="lecun_normal"),
    "tanh, orthogonal": State(weights="orthogonal"),
    "tanh, batch of 8": State(batch=8),
}


def timed(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, float, Any]:
    """Return milliseconds of the wall and of all processors that a call takes, and the value."""
    wall, processors = time.perf_counter(), time.process_time()
    value = call(*arguments, **options)
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processors), value


def server(state: State) -> None:
    """Do what a session does until it answers."""
    with ThreadPoolExecutor(1) as aside:
        laws = aside.submit(curves.theory, state)
        for result in curves.draw(state):
            curves.readings(result, curves.columns(result, laws.result()))
            judge(result)


def measure(state: State, changes: int) -> dict[str, tuple[float, float]]:
    """Return the medians of a change, of the wall and of all processors, by part."""
    found: dict[str, list[tuple[float, float]]] = {}
    start = state.law.gain
    for change in range(changes + 1):
        there = replace(state, gain=start * (1 + 0.001 * (change + 1)))
        there_too = replace(state, gain=start * (1.2 + 0.001 * (change + 1)))  # no theory is known yet
        names = [quantity.name for quantity in curves.task_of(there, judged=True).table_quantities]
        bare = timed(simulate, there.network, nets=there.nets, batch=there.batch, quantities=names)
        *_, result = curves.draw(there)
        theory = timed(curves.theory, there)
        drawn = timed(curves.columns, result, theory[2])
        parts = {
            "simulate": bare, "theory": theory, "estimates": drawn, "judge": timed(judge, result),
            "server": timed(server, there_too),
        }  # fmt: skip
        if change == 0:
            parts = {"new map": timed(curves.shares, there)}
        for name, (wall, processors, _) in parts.items():
            found.setdefault(name, []).append((wall, processors))
    return {
        name: (statistics.median(wall for wall, _ in pairs), statistics.median(cores for _, cores in pairs))
        for name, pairs in found.items()
    }


def in_browser(changes: int) -> list[float]:
    """Return milliseconds from a slider's event until two frames after the answer, for each change."""
    from tests.browser import browser

    command = [sys.executable, "-m", "stabsim", "explore", "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, browser() as chromium:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        page = chromium.new_page()
        page.goto(found[0])
        page.wait_for_function("window.stabsimExplore?.answer?.mapped", timeout=300_000)
        times = []
        page.focus("#gain-slider")
        for _ in range(changes):
            page.evaluate("stabsimExplore.latency = null")
            page.keyboard.press("ArrowRight")
            page.wait_for_function("stabsimExplore.latency", timeout=60_000)
            times.append(float(page.evaluate("stabsimExplore.latency")))
            time.sleep(0.5)  # the verdict and the map have come by then
        page.close()
        process.terminate()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    print(f"milliseconds of the wall (of all processors), medians of {options.changes} changes")
    for name, state in CASES.items():
        server(state)  # compiled
        parts = measure(state, options.changes)
        print(f"{name:18}", "  ".join(f"{part} {wall:.0f} ({cores:.0f})" for part, (wall, cores) in parts.items()))
    if options.browser:
        times = sorted(in_browser(options.changes))
        print(f"{'in the browser':18} median {statistics.median(times):.0f}, slowest {times[-1]:.0f}")


if __name__ == "__main__":
    main()
