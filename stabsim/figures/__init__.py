"""Figures: a style, plots of tidy tables, and files with stable bytes."""

from stabsim.figures.captions import BANDS, BANDS_AND_BARS, BARS, LIMIT, THEORY, of_nets
from stabsim.figures.labels import spelled
from stabsim.figures.one_ensemble import overview
from stabsim.figures.plots import against_depth, dot_plot, heat_map, panel_labels, set_scale
from stabsim.figures.style import (
    COLUMN,
    DIVERGING,
    KINDS,
    MARKERS,
    PAGE,
    PALETTE,
    SEQUENTIAL,
    line,
    panels,
    save,
    save_file,
    style,
)

__all__ = [
    "BANDS",
    "BANDS_AND_BARS",
    "BARS",
    "COLUMN",
    "DIVERGING",
    "KINDS",
    "LIMIT",
    "MARKERS",
    "PAGE",
    "PALETTE",
    "SEQUENTIAL",
    "THEORY",
    "against_depth",
    "dot_plot",
    "heat_map",
    "line",
    "of_nets",
    "overview",
    "panel_labels",
    "panels",
    "save",
    "save_file",
    "set_scale",
    "spelled",
    "style",
]
