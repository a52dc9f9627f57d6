"""One figure of one ensemble: what becomes of signals and gradients on their way through the layers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from stabsim.figures.plots import against_depth, panel_labels, set_scale
from stabsim.figures.style import PAGE, panels

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


class Panel(NamedTuple):
    """The name of an axis, its scale, and what each quantity is called that is drawn in it."""

    ylabel: str
    scale: str
    lines: dict[str, str]


PANELS = (
    Panel("norm of $z_l$", "exponent", {"activation_log10_norm": "signal"}),
    Panel("norm of $dz_l$", "exponent", {"activation_gradient_log10_norm": "gradient"}),
    Panel(
        "share of units",
        "linear",
        {
            "activation_zero_fraction": "$f(s_l)$ = 0",
            "derivative_zero_fraction": "$f'(s_l)$ = 0",
            "derivative_saturated_fraction": "$|f'(s_l)|$ < bound",
        },
    ),
    Panel("norm of $dW_l$", "exponent", {"weight_gradient_log10_norm": "gradient by weights"}),
)
DRAWN = frozenset(name for panel in PANELS for name in panel.lines)
WIDEST = 110  # characters of a title's line
NARROWEST = 0.5  # of an axis: decades, so that noise of a constant does not fill a panel


def overview(table: pandas.DataFrame, title: str = "") -> Figure:
    """Draw norms of signals and gradients, and shares of zeros, against depth, with 95% intervals and theory.

    Parameters
    ----------
    table : DataFrame
        `Result.table` of one ensemble. A panel whose quantities it lacks is left empty, and says so.
    title : str
        Above the panels: which ensemble it is, where no caption says so.

    Returns
    -------
    Figure
        Two by two panels, as wide as a page. Theory that is exact is dashed, the limit of infinite width dotted.

    Raises
    ------
    ValueError
        If the table has nothing of what is drawn.

    Examples
    --------
    >>> import stabsim
    >>> from stabsim import figures
    >>> result = stabsim.simulate(stabsim.Network((32,) * 11, "tanh", "glorot_normal"), nets=100)
    >>> with figures.style():
    ...     figure = figures.overview(result.table)
    >>> len(figure.axes)
    4
    """
    if not DRAWN & set(table["quantity"]):
        raise ValueError(f"table has none of the quantities that are drawn: {', '.join(sorted(DRAWN))}")
    figure, axes = panels(2, 2, width=PAGE)
    for place, panel in zip(axes.flat, PANELS, strict=True):
        _draw(place, panel, table[table["quantity"].isin(panel.lines)])
    panel_labels(axes.flat)
    if title:
        figure.suptitle("\n".join(textwrap.wrap(title, WIDEST)), x=0.01, ha="left")
    return figure


def _draw(axes: Axes, panel: Panel, rows: pandas.DataFrame) -> None:
    axes.set(xlabel="layer", ylabel=panel.ylabel)
    if rows.empty:
        axes.text(0.5, 0.5, "not in the table", ha="center", va="center", transform=axes.transAxes)
        return
    rows = rows.astype({"quantity": str})
    order = [name for name in panel.lines if name in set(rows["quantity"])]
    against_depth(
        axes, rows, by="quantity", order=order, label=panel.lines.__getitem__, labels="legend",
        scale=panel.scale, ylabel=panel.ylabel,
    )  # fmt: skip
    if panel.scale == "linear":
        axes.set_ylim(-0.02, 1.02)
    else:
        low, high = axes.get_ylim()
        middle, reach = (low + high) / 2, max(high - low, 2 * NARROWEST) / 2
        axes.set_ylim(middle - reach, middle + reach)
        set_scale(axes, panel.scale)
    if rows["layer"].nunique() == 1:
        axes.set_xlim(rows["layer"].iloc[0] - 1, rows["layer"].iloc[0] + 1)
