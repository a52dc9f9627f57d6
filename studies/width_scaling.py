"""What width costs and what it does: time and memory of one net, and the spread of norms over nets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import CHOICES, make_task
from stabsim.cli import run_script
from stabsim.measuring import cost_of_net, measurable
from stabsim.network import Network
from stabsim.samplers import sampler_of
from stabsim.study import Case, Collected, Drawing, Study
from stabsim.theory.finite_width import log_norm
from stabsim.verdicts import with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

NETS = {"quick": 1000, "paper": 20_000}
DEPTH = 20
WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
WEIGHTS = {"ReLU": ("relu", "he_normal"), "linear": ("linear", "lecun_normal")}
SLOPES = {"ReLU": 5.0, "linear": 2.0}  # variance of ln |z|^2 a layer, times the width: Hanin & Nica, arXiv:1812.05994
NORMS = {"activation_log10_norm": (DEPTH, 0), "activation_gradient_log10_norm": (0, DEPTH)}  # layers: last, first

# What one net costs: widths at depth 10, then depths at width 1000.
COST_DEPTH, COST_WIDTH = 10, 1000
LIMITS = {"quick": ((1e6, 1e4), (3e3, 3e2)), "paper": ((1e7, 1e4), (1e4, 1e3))}  # matrix-free; all others
LABELS = {"matrix_free": "matrix-free", "dense": "dense", "numpy": "NumPy", "torch": "PyTorch"}


def cases(scale: str) -> Iterator[Case]:
    """Yield nets of equal widths whose norms are kept net by net."""
    for name, (activation, weights) in WEIGHTS.items():
        for width in WIDTHS:
            network = Network((width,) * (DEPTH + 1), activation, weights)
            task = make_task(network, quantities=tuple(NORMS), samples=tuple(NORMS), sampler="matrix_free")
            yield Case(task, NETS[scale], {"activation": name, "width": width})


def measure(scale: str) -> DataFrame:
    """Return seconds and bytes of one net by width and by depth, of this package's samplers and of its peers."""
    import pandas

    rows = []
    for name in measurable():
        widest, deepest = LIMITS[scale][name != "matrix_free"]
        for against, most, least in (("width", widest, 100), ("depth", deepest, 10)):
            for value in _steps(least, most):
                width, depth = (value, COST_DEPTH) if against == "width" else (COST_WIDTH, value)
                try:
                    rows.append((LABELS[name], against, value, *cost_of_net(name, width, depth)))
                except ValueError as error:  # such as for lack of memory
                    warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    return pandas.DataFrame(rows, columns=["sampler", "against", "value", "seconds", "bytes"])


def _steps(least: float, most: float) -> list[int]:
    """Return 1, 3, 10, 30, ... between two of them."""
    number = round(2 * math.log10(most / least))
    return [int(float(f"{least * 10 ** (i / 2):.0e}")) for i in range(number + 1)]


def spreads(collected: Collected) -> DataFrame:
    """Return the variance over nets of ln of the squared norm's growth, a layer, times the width, with its interval."""
    import pandas

    rows = []
    for case, result in collected.results:
        width, activation = case.task.network.widths[0], case.task.network.activation.name
        for quantity, (last, first) in NORMS.items():
            norms = result.samples[quantity]
            growth = 2 * math.log(10) * (norms[:, last] - norms[:, first])
            growth = growth[np.isfinite(growth)]  # narrow ReLU nets die
            variance = growth.var(ddof=1)
            error = math.sqrt(((growth - growth.mean()) ** 4).mean() - variance**2) / math.sqrt(len(growth))
            # Backward, f' of a ReLU net is not independent of its weights.
            known = activation == "linear" or quantity.startswith("activation_log10")
            theory = width * log_norm((width, width), activation=activation).variance if known else math.nan
            rows.append((*case.tags.values(), quantity, width / DEPTH * variance, width / DEPTH * error, theory))
    table = pandas.DataFrame(rows, columns=["activation", "width", "quantity", "estimate", "std_error", "theory"])
    return with_interval(table)


def exponent(rows: DataFrame) -> float:
    """Return the slope of the seconds against the value in logarithms, over the last decade."""
    rows = rows[rows["value"] >= rows["value"].max() / 10]
    return float(np.polyfit(np.log(rows["value"]), np.log(rows["seconds"]), 1)[0])


CAPTION = (
    "What width costs and what it does. Time and memory of one ReLU net, forward and backward: upper row against "
    f"width at depth {COST_DEPTH}, lower row against depth at width {COST_WIDTH:,}, (a), (d) time and (b), (e) memory, "
    "with this package's samplers, NumPy and PyTorch on the machine of the run; slopes are of the logarithms. Open: "
    "weights are drawn again on the way back. (c), (f) Variance over nets of the logarithm of the squared norm of "
    "signals and gradients, times width over depth, of ReLU nets with He's and linear nets with LeCun's weights: "
    f"gray, the limit of Hanin and Nica. {figures.THEORY} {figures.BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw time and memory against width and depth, and what width does to the norms of signals and gradients."""
    import pandas

    costs, table = collected.measured, spreads(collected)
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.4)
    for row, against in enumerate(("width", "depth")):
        where = f"depth {COST_DEPTH}" if against == "width" else f"width {COST_WIDTH}"
        rows = costs[costs["against"] == against]
        _costs(axes[row, 0], rows, "seconds")
        _costs(axes[row, 1], rows, "bytes")
        _mark_drawn_again(axes[row, 1], rows, against)
        for panel, label in ((axes[row, 0], "time per net (s)"), (axes[row, 1], "memory per net (B)")):
            panel.set(xlabel=f"{against} ({where}, batch 1)", ylabel=label)
    for panel, quantity, norm in zip(axes[:, 2], NORMS, ("|z_L|^2 / |z_0|^2", "|dz_0|^2 / |dz_L|^2"), strict=True):
        _spreads(panel, table[table["quantity"] == quantity])
        panel.set(xlabel=f"width (depth {DEPTH})", ylabel=rf"$n$ Var $\ln({norm})$ / $L$")
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([costs, table]), caption=CAPTION)


def _costs(panel: Axes, rows: DataFrame, column: str) -> None:
    for index, (name, part) in enumerate(rows.groupby("sampler", sort=False)):
        label = f"{name}: slope {exponent(part):.2f}" if column == "seconds" else str(name)
        panel.plot(part["value"], part[column].where(part[column] > 0), label=label, **figures.line(index))
    panel.set(xscale="log", yscale="log")
    panel.set_ylim(top=panel.get_ylim()[1] * 10 ** (0.7 * rows["sampler"].nunique()))
    panel.legend(fontsize=6, loc="upper left")


def _mark_drawn_again(panel: Axes, rows: DataFrame, against: str) -> None:
    """Open the markers of this package's nets that are too large for the forward pass to be kept."""
    for index, (name, part) in enumerate(rows.groupby("sampler", sort=False)):
        sampler = {label: key for key, label in LABELS.items()}[str(name)]
        if sampler not in CHOICES:
            continue
        sizes = [(value, COST_DEPTH) if against == "width" else (COST_WIDTH, value) for value in part["value"]]
        tasks = [
            make_task(Network((width,) * (depth + 1), "relu", "he_normal"), sampler=sampler) for width, depth in sizes
        ]
        again = part[[not sampler_of(task).layout(task).kept for task in tasks]]
        looks = figures.line(index) | {"linestyle": "none", "markerfacecolor": "white"}
        panel.plot(again["value"], again["bytes"].where(again["bytes"] > 0), **looks)
    panel.plot(
        [], [], color="0.4", marker="o", markerfacecolor="white", linestyle="none", label="drawn again, not kept"
    )
    panel.set_ylim(top=panel.get_ylim()[1] * 10**0.8)
    panel.legend(fontsize=6, loc="upper left")


def _spreads(panel: Axes, rows: DataFrame) -> None:
    for index, (name, part) in enumerate(rows.groupby("activation", sort=False)):
        errors: Any = [part["estimate"] - part["ci_low"], part["ci_high"] - part["estimate"]]
        panel.errorbar(
            part["width"], part["estimate"], errors, label=name, **figures.line(index) | {"linestyle": "none"}
        )
        panel.plot(part["width"], part["theory"], color="black", linestyle="dashed", linewidth=0.8)
        panel.axhline(SLOPES[str(name)], color="0.6", linewidth=0.8, zorder=0)
    panel.plot([], [], color="black", linestyle="dashed", linewidth=0.8, label="exact")
    panel.plot([], [], color="0.6", linewidth=0.8, label="Hanin & Nica")
    panel.set(xscale="log", xlim=(WIDTHS[0] / 1.4, WIDTHS[-1] * 1.4), ylim=(0, 11))
    panel.legend(ncols=2, fontsize=6, title="bars: 95% intervals", title_fontsize=6)


study = Study(
    name="width_scaling",
    title="What width costs and what it does to norms",
    cases=cases,
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run_script(study)
