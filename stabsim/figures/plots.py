"""Plots of tidy tables: each takes an Axes and rows; none simulates or reads a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, cast

import numpy as np
import pandas
import seaborn
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from stabsim.figures import style
from stabsim.figures.labels import EndLabels, spelled

_THEORY: dict[str, Any] = {"color": "black", "linestyle": "dashed", "linewidth": 0.8}
_LIMIT: dict[str, Any] = {"color": "black", "linestyle": "dotted", "linewidth": 1.0}
_TICK: dict[str, Any] = {"color": "black", "linestyle": "none", "marker": "|", "markersize": 7, "markeredgewidth": 0.8}
_TICKS = {"theory": "theory", "infinite_width": "infinite width"}  # columns drawn as ticks, and what the legend says


def against_depth(
    axes: Axes,
    table: pandas.DataFrame,
    *,
    by: str,
    at: str = "layer",
    order: Sequence[Hashable] | None = None,
    label: Callable[[Any], str] = str,
    labels: str = "ends",
    scale: str = "linear",
    xlabel: str = "layer",
    ylabel: str = "",
) -> list[Line2D]:
    """Draw estimate against layer, a line for each value of a column, with intervals, labels and theory.

    Theory that is exact is dashed; where there is none, the limit of infinite width is dotted.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    table : DataFrame
        Rows of one quantity: layer, estimate, ci_low, ci_high, theory, perhaps infinite_width, and the column ``by``.
    by : str
        Column that tells the lines apart.
    at : str
        Column of the horizontal places, if not the layer.
    order : sequence, optional
        Its values in the order of their colors; None takes them as they come in the table.
    label : callable
        Text at the end of a line, from its value.
    labels : str
        "ends", right of the panel, or "legend", for lines that end far from its right side.
    scale : str
        "linear"; "log", a logarithmic axis; "exponent", a linear axis for values that are log10 already,
        with ticks written as powers of ten.
    xlabel, ylabel : str
        Names of the axes with their units.

    Raises
    ------
    ValueError
        A column is missing, a value is not in ``order``, a line has two rows for one layer, or ``labels`` is unknown.
    """
    if labels not in ("ends", "legend"):
        raise ValueError(f"labels={labels!r} is not known: ends or legend")
    _need(table, [by, at, "estimate", "ci_low", "ci_high", "theory"])
    order = _order(table, by, order)
    lines = []
    for index, value in enumerate(order):
        rows = table[table[by] == value].sort_values(at)
        if repeated := rows[at][rows[at].duplicated()].tolist():
            raise ValueError(f"table has two rows with {by}={value!r} and {at}={repeated[0]}: pass one quantity")
        if len(rows):
            lines.append(_line(axes, rows, at, index, label(value)))
    drawn = [("theory", table["theory"], _THEORY), ("infinite width", _limit(table), _LIMIT)]
    handles = [] if labels == "ends" else list(lines)
    handles += [Line2D([], [], label=label, **looks) for label, values, looks in drawn if np.isfinite(values).any()]
    if handles:
        axes.legend(handles=handles, loc="best")
    if labels == "ends":
        axes.add_artist(EndLabels(axes, lines))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))
    set_scale(axes, scale)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return lines


def _order(table: pandas.DataFrame, by: str, order: Sequence[Hashable] | None) -> list[Hashable]:
    """Return the values of a column in the order that is asked for, or else as they come."""
    found = list(dict.fromkeys(table[by]))
    order = found if order is None else list(order)
    if unknown := [value for value in found if value not in order]:
        raise ValueError(f"order={order!r} lacks {unknown[0]!r}, which is in column {by!r}")
    return order


def _line(axes: Axes, rows: pandas.DataFrame, at: str, index: int, label: str) -> Line2D:
    looks = style.line(index)
    layer, estimate = rows[at].to_numpy(), rows["estimate"].to_numpy(float)
    # About eight markers a line, staggered so that those of lines on top of each other can be seen.
    step = max(1, len(rows) // 8)
    (line,) = axes.plot(layer, estimate, label=label, markevery=(index * step // 3 % step, step), **looks)
    axes.fill_between(layer, rows["ci_low"], rows["ci_high"], color=looks["color"], alpha=0.25, linewidth=0)
    axes.plot(layer, rows["theory"].where(np.isfinite(rows["theory"])), zorder=3, **_THEORY)
    axes.plot(layer, _limit(rows), zorder=3, **_LIMIT)
    return line


def _limit(rows: pandas.DataFrame) -> pandas.Series[float]:
    """Return the limit of infinite width where there is no exact theory."""
    limit = rows.get("infinite_width", pandas.Series(np.nan, rows.index)).astype(float)
    return limit.where(~np.isfinite(rows["theory"]) & np.isfinite(limit))


def set_scale(axes: Axes, scale: str) -> None:
    """Make the vertical axis, once drawn on, linear, logarithmic or linear in exponents of ten, with few labels."""
    if scale == "log":
        axes.set_yscale("log", nonpositive="clip")
        low, high = axes.get_ylim()
        if high < 30 * low:  # too few decades to label: plain numbers at uneven distances
            axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
            axes.yaxis.set_major_formatter(ticker.ScalarFormatter())
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        else:
            axes.yaxis.set_major_locator(ticker.LogLocator(numticks=7))
            axes.yaxis.set_minor_locator(ticker.LogLocator(subs="auto", numticks=7))
            axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    elif scale == "exponent":
        low, high = axes.get_ylim()
        if 10 ** min(high - low, 2.0) < 30:  # as above
            axes.set_yticks(*_numbers_between(low, high))
        else:
            axes.yaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"$10^{{{value:.0f}}}$"))
    elif scale != "linear":
        raise ValueError(f"scale={scale!r} is not known: linear, log or exponent")


def _numbers_between(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return log10 of a few round numbers between two powers of ten, and how they are written."""
    power = math.floor(high)
    rounded = ticker.MaxNLocator(5).tick_values(10 ** (low - power), 10 ** (high - power))
    found = {power + math.log10(value): value for value in rounded if value > 0}
    places = [place for place in found if low <= place <= high]
    if -4 <= power <= 4:
        return places, [f"{10.0**place:.3g}" for place in places]
    return places, [rf"${found[place]:.3g} \cdot 10^{{{power}}}$" for place in places]


def heat_map(
    axes: Axes,
    table: pandas.DataFrame,
    *,
    rows: str,
    columns: str,
    values: str = "estimate",
    label: str = "",
    center: float | None = None,
    limits: tuple[float, float] | None = None,
    digits: int = 1,
    annotate: bool | None = None,
) -> QuadMesh:
    """Draw one column of a table as colored cells, with the number written into each where there is room.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    table : DataFrame
        One row for each cell.
    rows, columns : str
        Columns of the table that name a cell's place, in the order in which they come; names are spelled out.
    values : str
        Column to draw; NaN cells are grey with a dash, infinite ones take the color of the end.
    label : str
        What the values are, with unit, for the color bar.
    center : float, optional
        None for a sequential map; a value for a diverging map around it.
    limits : (low, high), optional
        Values at the ends of the color bar; None takes the smallest and largest finite value.
    digits : int
        Decimals of the numbers in the cells; one less for each digit before the point beyond the first.
    annotate : bool, optional
        Write the numbers; None does so up to 300 cells. Cells below ``center`` are hatched otherwise.
    """
    _need(table, [rows, columns, values])
    if table.duplicated([rows, columns]).any():
        raise ValueError(f"table has two rows for one cell of {rows!r} and {columns!r}: pass one quantity and layer")
    names = [list(dict.fromkeys(table[name])) for name in (rows, columns)]
    cells = table.pivot(index=rows, columns=columns, values=values).loc[names[0], names[1]].to_numpy(float)
    norm = _norm(cells, center, limits)
    shown = np.clip(cells, norm.vmin, norm.vmax)
    colormap = style.SEQUENTIAL if center is None else style.DIVERGING
    axes.set_facecolor(style.MISSING)
    few = cells.size <= 300
    border: dict[str, Any] = (
        {"edgecolor": "white", "linewidth": 0.5} if few else {"edgecolor": "face", "linewidth": 0.1}
    )
    seaborn.heatmap(
        shown, mask=np.isnan(shown), cmap=colormap, norm=norm, cbar=False, ax=axes,
        xticklabels=False, yticklabels=False, **border,
    )  # fmt: skip
    mesh = cast(QuadMesh, axes.collections[0])
    if annotate or (annotate is None and few):
        _write_cells(axes, mesh, cells, digits)
    elif center is not None:
        _hatch(axes, cells < center)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _name_cells(axes.xaxis, names[1])
    _name_cells(axes.yaxis, names[0])
    if max(len(str(name)) for name in names[1]) > 3:
        for text in axes.get_xticklabels():
            text.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    axes.set(xlabel=columns, ylabel=rows)
    bar = cast(Figure, axes.get_figure(root=True)).colorbar(
        mesh, ax=axes, label=label, pad=0.02, aspect=30, extend=_beyond(cells, norm)
    )
    bar.outline.set_visible(False)
    return mesh


def _name_cells(axis: Axis, names: list[Any]) -> None:
    """Name every cell, or about a dozen where the names are many numbers."""
    numbers = all(isinstance(name, (int, float)) for name in names)
    step = -(-len(names) // 13) if numbers else 1
    axis.set_ticks(np.arange(0, len(names), step) + 0.5, labels=[spelled(str(name)) for name in names[::step]])


def _norm(cells: NDArray[Any], center: float | None, limits: tuple[float, float] | None) -> Normalize:
    finite = cells[np.isfinite(cells)]
    low, high = limits or ((finite.min(), finite.max()) if len(finite) else (0.0, 1.0))
    if center is not None:  # the same color on both sides is the same distance
        reach = max(high - center, center - low) or 1.0
        low, high = center - reach, center + reach
    return Normalize(low, high if high > low else low + 1.0)


def _beyond(cells: NDArray[Any], norm: Normalize) -> str:
    below, above = bool((cells < norm.vmin).any()), bool((cells > norm.vmax).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def _write_cells(axes: Axes, mesh: QuadMesh, cells: NDArray[Any], digits: int) -> None:
    for (row, column), value in np.ndenumerate(cells):
        text = _number(float(value), digits)
        background = style.MISSING if np.isnan(value) else mesh.cmap(mesh.norm(np.clip(value, *mesh.get_clim())))
        color = "white" if style.lightness(background) < 55 else "black"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6, color=color, in_layout=False)


def _number(value: float, digits: int) -> str:
    """Return a number of nearly the same length, whatever its size, so that it fits its cell.

    >>> _number(-0.001, 2), _number(1.234, 2), _number(15.89, 2), _number(120.4, 2), _number(math.inf, 2)
    ('0.00', '1.23', '15.9', '120', '∞')
    """
    if math.isnan(value):
        return "–"
    decimals = max(digits + 1 - len(f"{abs(value):.0f}"), 0)
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("inf", "∞").replace("-", "\N{MINUS SIGN}")


def _hatch(axes: Axes, cells: NDArray[Any]) -> None:
    """Hatch cells, all as one patch: a patch a cell took most of the time of a map."""
    squares = [Path.unit_rectangle().transformed(Affine2D().translate(x, y)) for y, x in np.argwhere(cells)]
    if squares:
        every = Path.make_compound_path(*squares)
        axes.add_patch(PathPatch(every, fill=False, hatch="/////", edgecolor="white", linewidth=0))


def dot_plot(
    axes: Axes,
    table: pandas.DataFrame,
    *,
    rows: str,
    by: str,
    values: str = "estimate",
    order: Sequence[Hashable] | None = None,
    label: Callable[[Any], str] = str,
    xlabel: str = "",
) -> list[Line2D]:
    """Draw one column of a table as dots beside names, a marker for each value of a column, with intervals and theory.

    Dots of one name are moved apart a little, so that equal ones are all seen. Theory is a black line across.

    Parameters
    ----------
    axes : Axes
        Where to draw; panels that share their vertical axis must have the same names in the same order.
    table : DataFrame
        One row for each dot, perhaps with ci_low, ci_high, and theory or infinite_width.
    rows : str
        Column with the names, from the top in the order in which they come; they are spelled out.
    by : str
        Column that tells the markers apart.
    values : str
        Column to draw; NaN draws nothing.
    order : sequence, optional
        Values of ``by`` in the order of their colors; None takes them as they come in the table.
    label : callable
        What the legend calls a marker, from its value; there is no legend for a single one without theory.
    xlabel : str
        What the values are, with unit.

    Raises
    ------
    ValueError
        A column is missing, a value is not in ``order``, or two rows have one name and one marker.
    """
    _need(table, [rows, by, values])
    if table.duplicated([rows, by]).any():
        raise ValueError(f"table has two rows for one dot of {rows!r} and {by!r}: pass one quantity and layer")
    order, names = _order(table, by, order), list(dict.fromkeys(table[rows]))
    handles = []
    for index, value in enumerate(order):
        part = table[table[by] == value]
        heights = part[rows].map(names.index).to_numpy(float) + 0.24 * (index - 0.5 * (len(order) - 1))
        looks = style.line(index) | {"linestyle": "none"}
        handles += axes.plot(part[values], heights, label=label(value), zorder=3, **looks)
        if {"ci_low", "ci_high"} <= set(part):
            axes.hlines(heights, part["ci_low"], part["ci_high"], color=looks["color"], linewidth=1.0)
        for column in [name for name in _TICKS if name in part]:
            axes.plot(part[column], heights, zorder=2, **_TICK)
    axes.set_yticks(range(len(names)), labels=[spelled(str(name)) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y")
    axes.set(xlabel=xlabel)
    legend = list(handles)
    for column, name in _TICKS.items():
        if column in table and np.isfinite(table[column]).any():
            legend.append(Line2D([], [], label=name, **_TICK))
    if len(legend) > 1:
        axes.legend(handles=legend, loc="best", handlelength=1.0)
    return handles


def panel_labels(panels: Iterable[Axes], titles: Sequence[str] | None = None) -> None:
    """Write (a), (b), ... and, where given, a title above the left end of each panel."""
    for number, axes in enumerate(panels):
        title = f"  {titles[number]}" if titles else ""
        axes.set_title(rf"$\bf{{({chr(ord('a') + number)})}}${title}", loc="left")


def _need(table: pandas.DataFrame, columns: list[str]) -> None:
    if missing := [name for name in columns if name not in table.columns]:
        raise ValueError(f"table lacks column {missing[0]!r}; it has {', '.join(map(str, table.columns))}")
