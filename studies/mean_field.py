"""Order and chaos: variance and correlation maps of wide tanh nets, their fixed points, and the phase diagram.

In content after Poole et al. 2016 (arXiv:1606.05340), figures 1 and 2, and Schoenholz et al. 2017 (arXiv:1611.01232),
figures 1 and 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures, theory
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.initializers import Initializer
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import LARGEST_Z, change, judge, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

NETS = {"quick": {"map": 24, "phase": 12}, "paper": {"map": 1000, "phase": 400}}

ACTIVATION = "tanh"
WIDTH = 1000
WEIGHTS = (1.3, 2.5, 4.0)  # sigma_w of the maps
BIAS = 0.3  # sigma_b of the maps
LENGTHS = (0.2, 5.0, 14.0)  # q_1
CORRELATIONS = (0.0, 0.5, 0.9)  # c_1
MAP_DEPTH = 12
PHASE_DEPTH = 20
PHASE_WEIGHTS = np.linspace(0.5, 4.0, 8)
PHASE_BIASES = np.linspace(0.0, 2.0, 6)
SMALLEST = 1e-6  # variance, where everything shrinks to 0: tanh is its slope there
FINE = 41  # points of theory along each axis of the phase diagram

LENGTH, COSINE = ("preactivation_mean_square", "activation_mean_square"), "activation_correlation"
GRADIENT = "activation_gradient_log10_norm"


def cases(scale: str) -> Iterator[Case]:
    """Yield nets that start off the fixed point, pairs of samples on it, and a grid of weights and biases on it."""
    for weight in WEIGHTS:
        for length in LENGTHS:
            inputs = _inputs(weight, BIAS, length)
            task = make_task(_network(weight, BIAS, MAP_DEPTH), inputs=inputs, quantities=LENGTH)
            yield Case(task, NETS[scale]["map"], _tags("length", weight, BIAS, length))
        for correlation in CORRELATIONS:
            inputs = _pair(weight, BIAS, correlation)
            quantities = (LENGTH[1], COSINE)
            task = make_task(_network(weight, BIAS, MAP_DEPTH), batch=2, inputs=inputs, quantities=quantities)
            yield Case(task, NETS[scale]["map"], _tags("correlation", weight, BIAS, correlation))
    for weight in PHASE_WEIGHTS.tolist():
        for bias in PHASE_BIASES.tolist():
            inputs = _inputs(weight, bias, max(_fixed(weight, bias).variance, SMALLEST))
            task = make_task(_network(weight, bias, PHASE_DEPTH), inputs=inputs, quantities=(GRADIENT,))
            yield Case(task, NETS[scale]["phase"], _tags("phase", weight, bias, 0.0))


def _tags(part: str, weight: float, bias: float, start: float) -> dict[str, str | float]:
    return {"part": part, "weight_std": weight, "bias_std": bias, "start": start}


def _network(weight: float, bias: float, depth: int) -> Network:
    return Network((WIDTH,) * (depth + 1), ACTIVATION, Initializer("normal", weight, "in"), bias)


@functools.cache
def _fixed(weight: float, bias: float) -> theory.FixedPoint:
    """Return the fixed point, q* to 10 digits: another rounding of quadrature is no other task."""
    found = theory.fixed_point(ACTIVATION, weight**2, bias**2)
    return replace(found, variance=float(f"{found.variance:.10e}"))


def _inputs(weight: float, bias: float, length: float) -> Any:
    """Return a sample whose pre-activations in layer 1 have that variance."""
    return np.full((1, WIDTH), math.sqrt((length - bias**2) / weight**2))


def _pair(weight: float, bias: float, correlation: float) -> Any:
    """Return two samples whose pre-activations in layer 1 have the variance q* and that correlation."""
    length = _fixed(weight, bias).variance
    one = _inputs(weight, bias, length)[0]
    cosine = (correlation * length - bias**2) / (length - bias**2)
    across = one * np.where(np.arange(WIDTH) % 2, -1.0, 1.0)
    return np.array([one, cosine * one + math.sqrt(1.0 - cosine**2) * across])


def lengths(table: DataFrame) -> DataFrame:
    """Return the variance of pre-activations at every layer, q_l, with its limit."""
    return select(table, part="length", quantity=LENGTH[0]).assign(limit=lambda rows: rows["infinite_width"])


def correlations(table: DataFrame) -> DataFrame:
    """Return the correlation of the pre-activations of layer l + 1 from the cosine and the mean square of z_l."""
    rows = select(table, part="correlation")
    keys = ["weight_std", "start", "layer"]
    square = select(rows, quantity=LENGTH[1]).set_index(keys)
    cosine = select(rows, quantity=COSINE).set_index(keys).copy()

    def pre(name: str) -> Any:
        signal = cosine.index.get_level_values("weight_std") ** 2 * square[name].reindex(cosine.index)
        return signal, signal + BIAS**2

    signal, total = pre("estimate")
    for name in ("estimate", "ci_low", "ci_high"):
        cosine[name] = (signal * cosine[name] + BIAS**2) / total
    cosine["std_error"] *= signal / total
    signal, total = pre("infinite_width")
    cosine["limit"] = (signal * cosine["infinite_width"] + BIAS**2) / total
    found = cosine.reset_index().assign(quantity="preactivation_correlation", infinite_width=np.nan)
    return found[found["layer"] < MAP_DEPTH].assign(layer=lambda rows: rows["layer"] + 1)


def growth(table: DataFrame) -> DataFrame:
    """Return log10 of the factor on the mean square of gradients, a layer: chi."""
    import pandas

    rows = []
    for (weight, bias), group in select(table, part="phase").groupby(["weight_std", "bias_std"], sort=True):
        first, last = (pick(group, layer=layer) for layer in (0, PHASE_DEPTH))
        squared, error = (2.0 * each / PHASE_DEPTH for each in change(last, first))
        rows.append((weight, bias, squared, error, math.log10(_fixed(weight, bias).chi), first.nets))
    columns = ["weight_std", "bias_std", "estimate", "std_error", "limit", "nets"]
    found = pandas.DataFrame(rows, columns=columns).assign(quantity="log10_chi", theory=np.nan)
    return with_interval(found)


CAPTION = (
    f"Order and chaos in tanh nets of width {WIDTH:,}, in content after Poole et al. (2016) and Schoenholz et al. "
    "(2017). (a) Variance of pre-activations from layer to layer, by weight scale, and (b) its way to the fixed point "
    f"from several starts, at a bias scale of {BIAS:g}. (d), (e) The same for the correlation of two samples; gray: "
    "unchanged. (c) Factor χ on squared gradients, a layer, against weight and bias scale: colors are the limit of "
    "infinite width, dots the simulation, and the line is χ = 1. (f) χ against the weight scale. Dashed: the limit of "
    f"infinite width. {figures.BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw maps, the way to their fixed points, the phase diagram and chi along a line of it."""
    import pandas

    length, correlation, chi = lengths(collected.table), correlations(collected.table), growth(collected.table)
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.6)
    q, c = np.linspace(0.0, 15.0, 61), np.linspace(0.0, 1.0, 61)
    for index, weight in enumerate(WEIGHTS):
        looks = figures.line(index)
        variances = theory.variance_map(ACTIVATION, q, weight**2, BIAS**2)
        _map(axes[0, 0], select(length, weight_std=weight), q, variances, looks, f"σ$_w$ = {weight:g}")
        cosines = theory.correlation_map(ACTIVATION, c, weight**2, BIAS**2)
        _map(axes[1, 0], select(correlation, weight_std=weight), c, cosines, looks, f"σ$_w$ = {weight:g}")
        _ways(axes[0, 1], select(length, weight_std=weight), looks)
        _ways(axes[1, 1], select(correlation, weight_std=weight), looks)
    axes[0, 0].set(xlabel="variance $q_l$ of $s_l$", ylabel="$q_{l+1}$")
    axes[0, 1].set(xlabel="layer $l$", ylabel="$q_l$")
    axes[1, 0].set(xlabel="correlation $c_l$ of two $s_l$", ylabel="$c_{l+1}$")
    axes[1, 1].set(xlabel="layer $l$", ylabel="$c_l$")
    axes[1, 0].legend(fontsize=6, loc="lower right")
    _phases(axes[0, 2], chi)
    _chi(axes[1, 2], chi)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([length, correlation, chi])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")


_LIMIT: dict[str, Any] = {"color": "black", "linestyle": "dashed", "linewidth": 0.8, "zorder": 3}


def _map(panel: Axes, rows: DataFrame, x: Any, y: Any, looks: dict[str, Any], label: str) -> None:
    """Draw what a layer makes of what it is given, over the map of infinite width and the diagonal."""
    for _, way in rows.sort_values("layer").groupby("start"):
        before, after = way.iloc[:-1], way.iloc[1:]
        panel.plot(before["estimate"], after["estimate"], **looks | {"linestyle": "none"}, label=label)
        label = ""
    panel.plot(x, y, **_LIMIT)
    panel.plot(x[[0, -1]], x[[0, -1]], color="0.7", linewidth=0.6, zorder=0)


def _ways(panel: Axes, rows: DataFrame, looks: dict[str, Any]) -> None:
    for _, way in rows.sort_values("layer").groupby("start"):
        error: Any = [way["estimate"] - way["ci_low"], way["ci_high"] - way["estimate"]]
        panel.errorbar(way["layer"], way["estimate"], error, **looks | {"linestyle": "none"})
        panel.plot(way["layer"], way["limit"], **_LIMIT)


def _phases(panel: Axes, chi: DataFrame) -> None:
    """Draw chi of theory as a map, its critical line, and chi of simulated gradients as dots in the same colors."""
    weights = np.linspace(PHASE_WEIGHTS[0], PHASE_WEIGHTS[-1], FINE)
    biases = np.linspace(PHASE_BIASES[0], PHASE_BIASES[-1], FINE)
    values = np.log10(theory.phase_diagram(ACTIVATION, weights**2, biases[:, None] ** 2)[1])
    shades: dict[str, Any] = {"cmap": figures.DIVERGING, "vmin": -0.6, "vmax": 0.6}
    mesh = panel.pcolormesh(weights, biases, values, shading="gouraud", rasterized=True, **shades)
    panel.contour(weights, biases, values, levels=[0.0], colors="black", linewidths=1.0)
    panel.scatter(
        chi["weight_std"], chi["bias_std"], c=chi["estimate"], s=14, edgecolors="black", linewidths=0.5, clip_on=False,
        zorder=3, **shades,
    )  # fmt: skip
    panel.text(0.95, 0.1, "chaos", transform=panel.transAxes, ha="right", fontsize=7)
    panel.text(0.05, 0.88, "order", transform=panel.transAxes, fontsize=7, color="white")
    panel.text(0.54, 0.88, "χ = 1", transform=panel.transAxes, fontsize=7)
    bar = panel.figure.colorbar(mesh, ax=panel, ticks=[-0.6, -0.3, 0.0, 0.3, 0.6])
    bar.set_label("log$_{10}$ χ")
    panel.set(xlabel="weight scale σ$_w$", ylabel="bias scale σ$_b$")


def _chi(panel: Axes, chi: DataFrame) -> None:
    weights = np.linspace(PHASE_WEIGHTS[0], PHASE_WEIGHTS[-1], FINE)
    for index, bias in enumerate((PHASE_BIASES[0], PHASE_BIASES[2], PHASE_BIASES[-1])):
        rows = select(chi, bias_std=bias)
        error = rows["ci_high"] - rows["estimate"]
        looks = figures.line(index) | {"linestyle": "none"}
        panel.errorbar(rows["weight_std"], rows["estimate"], error, **looks, label=f"σ$_b$ = {bias:g}")
        panel.plot(weights, np.log10(theory.phase_diagram(ACTIVATION, weights**2, bias**2)[1]), **_LIMIT)
    panel.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
    panel.set(xlabel="weight scale σ$_w$", ylabel="log$_{10}$ χ (gradients, a layer)")
    panel.legend(fontsize=6, title="dashed: infinite width", title_fontsize=6)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """A07: the gradient tends to 0 with depth exactly where chi is below 1, that is below the critical line."""
    chi = growth(collected.table)
    z = (np.abs(chi["estimate"] - chi["limit"]) - _room(chi)).clip(lower=0) / chi["std_error"]
    clear = chi[np.abs(chi["limit"]) > LARGEST_Z * chi["std_error"]]
    same = (np.sign(clear["estimate"]) == np.sign(clear["limit"])).all() and clear["limit"].lt(0).any()
    row = pick(chi[np.isclose(chi["weight_std"], 1.0)], bias_std=PHASE_BIASES[1])
    note = (
        f"log10 of the factor on the mean square of gradients, a layer, at σ_w = 1, σ_b = {PHASE_BIASES[1]:g}; of "
        f"{len(clear)} points with clear signs {int(clear['limit'].lt(0).sum())} vanish and the others explode, all as "
        f"χ = σ_w² E f'² says (largest |z| over all {len(chi)} points, beyond terms in 1/width, {z.max():.1f}). "
        "Theory: infinite width"
    )
    holds = bool(same and z.max() < LARGEST_Z)
    yield judge("A07", row._replace(theory=row.limit), holds, note, when="χ = σ_w² E f'² < 1")


def _room(chi: DataFrame) -> Any:
    """Return twice what finite width takes off the mean logarithm: half the variance of a layer's factor.

    To first order, with Gaussian gradients, |ds|^2 / |dz|^2 varies by (3 E f'^4 / (E f'^2)^2 - 1) / n, and
    |W^T ds|^2 / |ds|^2 by 2 / n.
    """
    points = zip(chi["weight_std"], chi["bias_std"], strict=True)
    lengths = [max(_fixed(weight, bias).variance, SMALLEST) for weight, bias in points]
    varied = np.array([theory.jacobian.slope_variation(ACTIVATION, length) for length in lengths])
    return 2.0 * (3.0 * varied + 4.0) / (2.0 * WIDTH) / math.log(10.0)


study = Study(
    name="mean_field",
    title="Order and chaos: variance and correlation maps of wide nets, and their phase diagram",
    cases=cases,
    draw=draw,
    claims=("A07",),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
