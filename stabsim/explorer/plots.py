"""Figures of the page: one for each panel and the heat map, all drawn from two tables that are replaced as wholes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    CrosshairTool,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Range1d,
    Span,
)
from bokeh.palettes import Cividis256
from bokeh.plotting import figure

from stabsim.explorer.curves import ENDS, PANELS, Floats, Panel
from stabsim.explorer.state import State

HEIGHT = 250  # pixels
# Of the palette of stabsim.figures, which reads in grey: dark lines on a light page, light ones on a dark page.
ON_LIGHT = ("#15457c", "#c15b76", "#696300")
ON_DARK = ("#1da0d8", "#c15b76", "#9fba69")
# Text, grid and paper, by whether the page is dark; the paper is that of page.css: Bokeh clears no transparent one.
INK = {False: ("#1c1c1c", "#e3e3e3", "#ffffff"), True: ("#ececec", "#3a3f42", "#1c1f21")}
LEAST_SPAN = {"exponent": 1.0, "log": 1.0, "share": 1.0, "cosine": 1.0}
MARGIN = 0.06  # of what is shown
_MAP = ("picture", "x", "y", "width", "height")
_MARKS = ("circle", "square", "triangle")
SPARSE = 26  # layers, up to which each has a marker


@dataclass
class Plots:
    """The figures of one page and what they are drawn from."""

    curves: ColumnDataSource = field(default_factory=lambda: ColumnDataSource(_no_curves()))
    map: ColumnDataSource = field(default_factory=lambda: ColumnDataSource({key: [] for key in _MAP}))
    layers: Range1d = field(default_factory=lambda: Range1d(0, 1))
    figures: dict[str, Any] = field(default_factory=dict)
    lines: list[list[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for panel in PANELS:
            self.figures[panel.name] = self._against_layer(panel)
        self.figures["map"] = self._heat_map()
        self.paint(False)

    def _against_layer(self, panel: Panel) -> Any:
        plot = _figure(panel.axis, x_range=self.layers, y_range=Range1d(0, 1))
        for place, (name, label) in enumerate(panel.lines.items()):
            at = {end: f"{name} {end}" for end in ENDS}
            band = plot.varea("layer", at["ci_low"], at["ci_high"], source=self.curves, fill_alpha=0.25)
            line = plot.line("layer", at["estimate"], source=self.curves, line_width=1.8)
            dots = plot.scatter("layer", at["estimate"], source=self.curves, size=4.5, marker=_MARKS[place])
            exact = plot.line("layer", at["theory"], source=self.curves, line_width=1.4, line_dash=[6, 4])
            limit = plot.line("layer", at["infinite_width"], source=self.curves, line_width=1.6, line_dash=[2, 3])
            self.lines.append([place, band, line, dots, exact, limit])
            said = [("layer", "@layer"), (label, f"@{{{at['estimate']}}}{{0.0000}}")]
            said += [("95%", f"@{{{at['ci_low']}}}{{0.0000}} to @{{{at['ci_high']}}}{{0.0000}}")]
            said += [("exact theory", f"@{{{at['theory']}}}{{0.0000}}")]
            said += [("infinite width", f"@{{{at['infinite_width']}}}{{0.0000}}")]
            plot.add_tools(HoverTool(renderers=[line], tooltips=said, mode="vline", line_policy="nearest"))
        plot.add_tools(CrosshairTool(dimensions="height", line_alpha=0.3))
        return plot

    def _heat_map(self) -> Any:
        plot = _figure("gain", x_range=self.layers, y_range=Range1d(-0.5, 0.5))
        colors = LinearColorMapper(Cividis256, low=0.0, high=1.0, nan_color="#d9d9d9")
        picture = plot.image("picture", "x", "y", "width", "height", source=self.map, color_mapper=colors)
        plot.add_tools(HoverTool(renderers=[picture], tooltips=[("layer", "$x{0}"), ("share", "@picture{0.000}")]))
        self.chosen = Span(location=0.0, dimension="width", line_width=2.5, line_color="#ffffff")
        self.around = Span(location=0.0, dimension="width", line_width=4.5, line_color="#000000")
        plot.add_layout(self.around)
        plot.add_layout(self.chosen)
        self.bar = ColorBar(color_mapper=colors, ticker=BasicTicker(desired_num_ticks=5), width=10, padding=4)
        plot.add_layout(self.bar, "right")
        return plot

    def show(self, found: Mapping[str, Floats]) -> None:
        """Draw curves: what `curves.columns` returns."""
        drawn = dict(found)
        for panel in PANELS:
            names = [f"{name} {end}" for name in panel.lines for end in ENDS]
            if panel.scale == "log":
                drawn |= {name: _log10(drawn[name]) for name in names}
            low, high = limits([drawn[name] for name in names if not name.endswith(("theory", "width"))], panel.scale)
            self.figures[panel.name].y_range.update(start=low, end=high)
        last = float(found["layer"][-1])
        self.layers.update(start=-0.01 * last, end=1.01 * last)
        for _, _, _, dots, *_ in self.lines:
            dots.visible = last <= SPARSE
        self.curves.data = drawn

    def show_map(self, gains: Floats, shares: Floats) -> None:
        """Draw the heat map: gains, and shares (gains, depth + 1); layer 0 has none."""
        places = np.log10(gains)
        step = float(places[1] - places[0])
        low, tall = float(places[0]) - step / 2, step * len(places)
        picture = np.asarray(shares[:, 1:], np.float32)
        self.map.data = {"picture": [picture], "x": [0.5], "y": [low], "width": [picture.shape[1]], "height": [tall]}
        plot = self.figures["map"]
        plot.y_range.update(start=low, end=low + tall)
        ticks = [float(place) for place in places[:: len(places) // 4]]
        plot.yaxis.ticker = FixedTicker(ticks=ticks)
        plot.yaxis.major_label_overrides = {tick: f"{10**tick:.3g}" for tick in ticks}

    def clear_map(self) -> None:
        """Draw no heat map."""
        self.map.data = {key: [] for key in _MAP}

    def mark(self, state: State) -> None:
        """Draw a line in the heat map at the gain that is chosen."""
        gain = abs(state.law.gain)
        for line in (self.around, self.chosen):
            line.visible = gain > 0
            line.location = float(np.log10(gain)) if gain > 0 else 0.0

    def paint(self, dark: bool) -> None:
        """Take the colors of a light or a dark page."""
        text, grid, paper = INK[dark]
        for plot in self.figures.values():
            plot.update(border_fill_color=paper, background_fill_color=paper)
            for axis in plot.axis:
                axis.update(
                    axis_label_text_color=text, major_label_text_color=text, axis_line_color=text,
                    major_tick_line_color=text, minor_tick_line_color=None,
                )  # fmt: skip
            plot.grid.grid_line_color = grid
        self.bar.update(major_label_text_color=text, background_fill_alpha=0.0, major_tick_line_color=text)
        for place, band, line, dots, exact, limit in self.lines:
            color = (ON_DARK if dark else ON_LIGHT)[place]
            band.glyph.fill_color = color
            line.glyph.line_color = color
            dots.glyph.update(fill_color=color, line_color=color)
            exact.glyph.line_color = limit.glyph.line_color = text


def _no_curves() -> dict[str, list[float]]:
    lines = [f"{name} {end}" for panel in PANELS for name in panel.lines for end in ENDS]
    return {key: [] for key in ("layer", *lines)}


def _figure(axis: str, **ranges: Any) -> Any:
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", toolbar_location=None, tools="", x_axis_label="layer",
        y_axis_label=axis, outline_line_color=None, min_border_right=12, **ranges,
    )  # fmt: skip
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = "13px"
    plot.axis.major_label_text_font_size = "12px"
    plot.xaxis.ticker.update(min_interval=1, desired_num_ticks=5)
    plot.yaxis.ticker.desired_num_ticks = 5
    return plot


def _log10(values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(values > 0, np.log10(values), np.nan))


def limits(parts: list[Floats], scale: str) -> tuple[float, float]:
    """Return what an axis shows: all finite values, and enough room that noise looks like noise.

    Examples
    --------
    >>> limits([np.array([np.nan, 0.5])], "share"), limits([np.array([3.0, 3.1])], "exponent")
    ((-0.03, 1.03), (2.49, 3.61))
    """
    if scale == "share":
        return -0.03, 1.03
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if scale == "cosine":
        return min(low, 0.0) - 0.03, 1.03
    spare = max(LEAST_SPAN[scale] - (high - low), 0.0) / 2
    low, high = low - spare, high + spare
    margin = MARGIN * (high - low)
    return round(low - margin, 9), round(high + margin, 9)
