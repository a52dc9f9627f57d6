"""Figures: a style, plots of tidy tables, and files with stable bytes."""

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
    "COLUMN",
    "DIVERGING",
    "KINDS",
    "MARKERS",
    "PAGE",
    "PALETTE",
    "SEQUENTIAL",
    "against_depth",
    "dot_plot",
    "heat_map",
    "line",
    "overview",
    "panel_labels",
    "panels",
    "save",
    "save_file",
    "set_scale",
    "spelled",
    "style",
]
