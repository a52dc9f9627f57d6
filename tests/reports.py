"""A small output folder as runs leave it, with a study that would do harm if its texts were not escaped."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pandas

from stabsim import Network, make_task
from stabsim.figures import panels, style
from stabsim.outputs import save_figures, save_verdicts
from stabsim.provenance import command
from stabsim.study import Case, Collected, Drawing, Study, Verdict

EVIL = "<script>document.title='harmed'</script><img src=x onerror=alert(1)>\"'&amp;"
ROWS = pandas.DataFrame({"layer": [0, 1, 2], "estimate": [1.0, 0.5, 0.25]})

STUDIES = {
    "tiny": ("A tiny study of widths", ("", "tails"), "Mean square against layers, plotted for the tiny study."),
    "tiny_more": ("A study whose name begins like another", ("",), "Something else entirely: zebras."),
    "harmful": (EVIL, ("",), EVIL),
}
VERDICTS = {
    "tiny": [
        Verdict("A01", "holds", 1.0, 0.95, 1.05, 1.0, "share of rows that fit, of giraffes"),
        Verdict("A02", "holds when the net is narrow", -2.5e-7, -3e-7, -2e-7, note="a note"),
    ],
    "tiny_more": [Verdict("B01", "fails", math.nan, -math.inf, math.inf, note="another")],
    "harmful": [Verdict("A01", f"holds when {EVIL}", 1.0, 0.5, 1.5, note=EVIL), Verdict("X01", "fails", 1, 1, 1)],
}


def cases() -> list[Case]:
    networks = [Network((n, n, n), "relu", weights) for n in (8, 16) for weights in ("he_normal", "glorot_normal")]
    return [Case(make_task(network), 100 * place, {"place": place}) for place, network in enumerate(networks, 1)]


def make_folder(out: Path, scale: str = "quick") -> Path:
    """Write what runs of the studies leave, and return the folder."""
    for name, (title, parts, caption) in STUDIES.items():
        study = Study(name, title, lambda _: [], functools.partial(_drawings, parts, caption))
        save_figures(study, Collected(()), out / "figures", command(name, scale, 7))
        results = out / "results" / name
        results.mkdir(parents=True, exist_ok=True)
        save_verdicts(study, VERDICTS[name], scale, 7, results / "verdicts.json", cases=cases())
    return out


def _drawings(parts: tuple[str, ...], caption: str, _: Collected) -> list[Drawing]:
    drawings = []
    for part in parts:
        with style():
            figure, axes = panels()
            axes[0, 0].plot(ROWS["layer"], ROWS["estimate"])
        drawings.append(Drawing(figure, ROWS, part, caption))
    return drawings
