"""Singular values of the Jacobian of many layers: their law against free probability, spread, largest and condition."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import special_ortho_group

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.result import Result
from stabsim.structures import Cell
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory import jacobian_spectrum
from stabsim.theory.mean_field import critical_weight_variance, fixed_point
from stabsim.verdicts import LARGEST_Z, counted, judge, k_of_n, largest_z, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {
    "quick": {"spectrum": 16, "product": 32, "recurrent": 32, "wide": 4, "one": 200},
    "paper": {"spectrum": 48, "product": 1000, "recurrent": 1000, "wide": 40, "one": 1000},
}
WIDTHS = {"quick": 160, "paper": 400}
DEPTH = 24
SHOWN = (2, 6, 24)  # layers whose singular values are drawn
ENOUGH = 20  # singular values in a bin that is drawn; neighbors with fewer are merged
BINS = (0.0, 6.15, 41)  # 1 is inside of one
BIAS = 1e-3  # variance of the biases of critical tanh nets: the smaller, the closer to linear ones
ACTIVATIONS = ("linear", "relu", "tanh")
LAWS = {"normal": "lecun_normal", "orthogonal": "orthogonal"}
SPREAD, LARGEST = "singular_value_spread", "singular_value_log10_largest"
CONDITION, ZERO, NORM = "singular_value_log10_condition", "singular_value_zero_fraction", "singular_value_log10_norm"
GRADIENT = "activation_gradient_log10_norm"
FACTORS = (1.5, 0.8)
LAYERS = 100
RADII = (0.75, 1.0, 1.3)
STEPS = 40
OF_ONE = 48  # width of nets whose W has very uneven singular values: exponentials of normals, times a rotation
UNEVEN = 2.0  # their standard deviation
BEFORE, AFTER = 200, 400  # steps over which their gradient's growth is measured, and log10 of it a step
WIDE, WIDE_DEPTHS = 10_000, (1, 2, 4, 8, 16, 24)  # nets whose weights are not formed
KINDS = {  # of nets whose Jacobian is a product of many
    "orthogonal": ("linear", "orthogonal"), "normal": ("linear", "lecun_normal"), "tanh": ("tanh", "lecun_normal"),
}  # fmt: skip


@functools.cache
def _critical(activation: str) -> tuple[float, float, float]:
    """Return the gain and the variance of biases of critical nets, and the mean square of inputs that stays."""
    if activation != "tanh":
        return (2.0**0.5 if activation == "relu" else 1.0), 0.0, 1.0
    squared = critical_weight_variance(activation, BIAS)
    return squared**0.5, BIAS, (fixed_point(activation, squared, BIAS).variance - BIAS) / squared


def cases(scale: str) -> Iterator[Case]:
    """Yield critical nets, deep ones of two gains, and recurrent ones."""
    nets, width = NETS[scale], WIDTHS[scale]
    quantities = (LARGEST, CONDITION, SPREAD, ZERO)
    for activation in ACTIVATIONS:
        gain, bias, square = _critical(activation)
        for law, weights in LAWS.items():
            network = Network((width,) * (DEPTH + 1), activation, f"{weights}(gain={gain!r})", bias**0.5)
            task = make_task(
                network, quantities=quantities, histograms={"singular_value": BINS}, precision="float64",
                inputs=np.full((1, width), square**0.5), sampler="dense",
            )  # fmt: skip
            yield Case(task, nets["spectrum"], _tags("spectrum", activation, law, gain))
    for activation in ("linear", "relu"):
        gain, _, _ = _critical(activation)
        for depth in WIDE_DEPTHS:
            network = Network((WIDE,) * (depth + 1), activation, f"{LAWS['normal']}(gain={gain!r})")
            task = make_task(network, quantities=(LARGEST,), sampler="matrix_free")
            yield Case(task, nets["wide"], _tags("wide", activation, "normal", gain, depth))
    for kind, (activation, weights) in KINDS.items():
        for gain in FACTORS:
            network = Network((24,) * (LAYERS + 1), activation, f"{weights}(gain={gain})")
            task = make_task(network, quantities=(LARGEST, NORM), sampler="dense", precision="float64")
            yield Case(task, nets["product"], _tags("product", activation, kind, gain))
    for law, weights in LAWS.items():
        for radius in RADII:
            cell = Cell("rnn", recurrent_weights=f"{weights}(gain={radius})")
            network = Network((100,) * (STEPS + 1), "linear", "lecun_normal", cell=cell)
            task = make_task(network, quantities=(GRADIENT,))
            yield Case(task, nets["recurrent"], _tags("recurrent", "linear", law, radius))


def _tags(part: str, activation: str, law: str, gain: float, depth: int = 0) -> dict[str, str | float]:
    return {"part": part, "activation": activation, "law": law, "gain": gain, "depth": depth}


def measure(scale: str) -> DataFrame:
    """Return, of nets of one W each, whether gradients go by the spectral radius of W or by its singular values.

    Singular values are scaled to a mean square of 1, which is what a random vector is multiplied by in one step; the
    radius is above or below it. log10 of the factor a step is measured on dh = W dh, over the last steps of many.
    """
    import pandas

    generator = np.random.default_rng(0)
    nets = NETS[scale]["one"]
    rates, radii, largest = np.empty((3, nets))
    for net in range(nets):
        singular = np.exp(UNEVEN * generator.normal(size=OF_ONE))
        singular /= math.sqrt(float((singular**2).mean()))
        matrix = special_ortho_group.rvs(OF_ONE, random_state=generator) * singular
        radii[net] = math.log10(float(np.abs(np.linalg.eigvals(matrix)).max()))
        largest[net] = math.log10(float(singular.max()))
        gradient, total = generator.normal(size=OF_ONE), 0.0
        for step in range(AFTER):
            gradient = matrix @ gradient
            norm = float(np.linalg.norm(gradient))
            gradient /= norm
            total += math.log10(norm) if step >= BEFORE else 0.0
        rates[net] = total / (AFTER - BEFORE)
    below = (radii < 0.0) & (largest > 0.0)
    values = {
        "rate - radius": rates - radii,
        "farther from rms": np.abs(rates) - np.abs(rates - radii),  # log10 of the root mean square is 0
        "farther from largest": np.abs(rates - largest) - np.abs(rates - radii),
    }
    rows: list[dict[str, Any]] = [
        {"quantity": name, "estimate": each.mean(), "std_error": each.std(ddof=1) / math.sqrt(nets), "nets": nets}
        for name, each in values.items()
    ]
    found = with_interval(pandas.DataFrame(rows))
    shares = [
        {"quantity": "vanishes", **counted(rates[below] < 0.0)},
        {"quantity": "explodes", **counted(rates[radii > 0.0] > 0.0)},
    ]
    ends = {"least": radii.min(), "most": radii.max()}
    return pandas.concat([found, pandas.DataFrame(shares)], ignore_index=True).assign(theory=0.0, **ends)


CAPTION = (
    "Singular values of the Jacobian of several layers, of critical nets: densities, without the values that are 0, "
    "by how many layers are between. (a)–(c) Normal and (d)–(f) orthogonal weights; from left to right linear, ReLU "
    f"and tanh nets. {figures.LIMIT}"
)
CAPTION_OF_DEPTH = (
    "Spread of the singular values σ of the Jacobian against the layers between, of critical nets: (a) variance of σ² "
    "over its squared mean, (b) the largest σ, (c) the condition number and (d) the share of σ that is 0, as far as "
    f"they are defined. Crosses: nets of width {WIDE:,}. {figures.LIMIT} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw the spectra beside their limits, and what becomes of them with depth."""
    import pandas

    width = f" Width: {collected.results[0][0].task.network.widths[0]}."
    results = {(c.tags["activation"], c.tags["law"]): r for c, r in collected.results if c.tags["part"] == "spectrum"}
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.2, sharex=True, sharey=True)
    parts = []
    for row, law in enumerate(LAWS):
        for column, activation in enumerate(ACTIVATIONS):
            found = _spectra(axes[row, column], results[activation, law], activation, law)
            parts.append(found.assign(activation=activation, law=law))
    figures.panel_labels(axes.flat, [f"{figures.spelled(name)}, {law}" for law in LAWS for name in ACTIVATIONS])
    for row in range(2):
        axes[row, 0].set_ylabel("density")
    for column in range(3):
        axes[1, column].set_xlabel(r"singular value $\sigma$ of $dz_L/dz_l$")
    axes[0, 0].legend(title="layers", fontsize=6, title_fontsize=6, handlelength=1.2, loc="upper right")
    yield Drawing(figure, pandas.concat(parts, ignore_index=True), caption=CAPTION + width)

    rows = _by_depth(collected.table)
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.8)
    parts = []
    for panel, quantity, names, scale, label in (
        (axes[0, 0], SPREAD, None, "linear", r"variance of $\sigma^2$ / squared mean"),
        (axes[0, 1], LARGEST, None, "linear", r"log$_{10}$ of the largest $\sigma$"),
        (axes[1, 0], CONDITION, ("linear", "tanh"), "linear", r"log$_{10}$ of the condition number"),
        (axes[1, 1], ZERO, ("relu",), "linear", r"share of $\sigma$ that is 0"),
    ):
        chosen = select(rows, quantity=quantity)
        chosen = chosen if names is None else select(chosen, activation=names)
        if quantity == CONDITION:  # where some nets have none, those that do are the best ones
            chosen = chosen[chosen["nets"] == chosen["nets"].max()]
        order = [f"{figures.spelled(name)}, {law}" for name in names or ACTIVATIONS for law in LAWS]
        figures.against_depth(
            panel, chosen, by="setting", order=order, scale=scale, xlabel="layers between, $L - l$", ylabel=label
        )
        parts.append(chosen)
    wide = select(collected.table, part="wide", quantity=LARGEST)
    _draw_wide(axes[0, 1], wide)
    axes[1, 0].text(
        0.98, 0.43,
        "normal: further on the smallest $\\sigma$\nis below rounding in some nets\n"
        "ReLU: infinite, as some $\\sigma$ are 0",
        transform=axes[1, 0].transAxes, horizontalalignment="right", verticalalignment="center", fontsize=6,
    )  # fmt: skip
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([*parts, wide])
    yield Drawing(figure, drawn, "depth", f"{CAPTION_OF_DEPTH}{width} {figures.of_nets(drawn['nets'])}")


def _draw_wide(panel: Axes, wide: DataFrame) -> None:
    """Add the largest singular values of wide nets, in the colors of the narrow ones."""
    looks: dict[str, Any] = {"linestyle": "none", "marker": "x", "markersize": 5, "markeredgewidth": 1.3, "zorder": 4}
    for place, (activation, law) in enumerate(itertools.product(ACTIVATIONS, LAWS)):
        rows = select(wide, activation=activation, law=law)
        panel.plot(rows["depth"], rows["estimate"], color=figures.line(place)["color"], **looks)
    points = panel.plot([], [], color="black", label=f"width {WIDE:,}", **looks)
    legend = panel.get_legend()
    handles = legend.legend_handles if legend else []
    panel.set_ylim(top=1.35)
    panel.legend(handles=[*handles, *points], loc="upper left")


def _spectra(panel: Axes, result: Result, activation: str, law: str) -> DataFrame:
    """Draw densities of singular values that are not 0, and their limits; return the numbers drawn."""
    import pandas

    every, counts = result.histograms["singular_value"]
    parts = []
    for place, depth in enumerate(SHOWN):
        edges, inside = merged(every, counts[DEPTH - depth, 1:-1])
        middle = 0.5 * (edges[1:] + edges[:-1])
        shares = inside / counts[DEPTH - depth].sum() / np.diff(edges)
        panel.plot(middle, shares, linewidth=1.0, label=depth, markevery=(place, 3), **figures.line(place))
        theory = np.full(len(middle), np.nan)
        if activation != "tanh" and (activation, law) != ("linear", "orthogonal"):
            below = jacobian_spectrum.squared_singular_value_distribution(edges**2, depth, activation, law)
            theory = np.diff(below) / np.diff(edges)
            panel.plot(middle, np.where(theory > 0, theory, np.nan), color="black", linestyle=":", linewidth=0.9,
                       zorder=3, label="infinite width" if place == len(SHOWN) - 1 else None)  # fmt: skip
        parts.append(pandas.DataFrame(
            {"depth": depth, "low": edges[:-1], "high": edges[1:], "density": shares, "infinite_width": theory}
        ))  # fmt: skip
    if activation == "tanh":
        panel.text(0.97, 0.94, "limit: no closed form", fontsize=6, transform=panel.transAxes, ha="right", va="top")
    elif not any(np.isfinite(part["infinite_width"]).any() for part in parts):
        panel.text(1.25, 7.0, "all are 1, at every depth", fontsize=6, va="center")
    panel.set_yscale("log")
    panel.set(xlim=(-0.15, every[-1]), ylim=(1e-3, 30.0))
    return pandas.concat(parts, ignore_index=True)


def merged(edges: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return edges and counts of bins that hold ENOUGH each, from the first to the last that is not empty."""
    filled = np.flatnonzero(counts)
    starts, held = [int(filled[0])], 0
    for place in range(filled[0], filled[-1] + 1):
        if held >= ENOUGH and counts[place:].sum() >= ENOUGH:  # else what is left joins the last one
            starts, held = [*starts, place], 0
        held += counts[place]
    return edges[[*starts, filled[-1] + 1]], np.add.reduceat(counts[: filled[-1] + 1], starts)


def _by_depth(table: DataFrame) -> DataFrame:
    """Return the rows of critical nets, by how many layers are between instead of by layer."""
    rows = select(table, part="spectrum").copy()
    rows["setting"] = rows["activation"].map(figures.spelled) + ", " + rows["law"]
    rows["layer"] = DEPTH - rows["layer"]
    return rows.sort_values("layer", kind="stable")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = collected.table
    yield _one_matrix(table, collected.measured)
    yield _product(table)


def _rate(table: DataFrame, quantity: str, last: int, **values: object) -> float:
    """Return the log10 by which a quantity grows a layer, from the last layer to the first."""
    rows = select(table, quantity=quantity, **values)
    return float(pick(rows, layer=0).estimate - pick(rows, layer=last).estimate) / last


def _one_matrix(table: DataFrame, measured: DataFrame) -> Verdict:
    """A09: gradients of linear recurrent nets go by the spectral radius of W, not by its singular values."""
    rates = {
        (law, radius): 10 ** _rate(table, GRADIENT, STEPS, part="recurrent", law=law, gain=radius)
        for law in LAWS for radius in RADII
    }  # fmt: skip
    of_radius, rms, largest, vanishes, explodes = (
        pick(measured, quantity=name)
        for name in ("rate - radius", "farther from rms", "farther from largest", "vanishes", "explodes")
    )
    z = largest_z(select(measured, quantity="rate - radius"))
    nearest = rms.ci_low > 0.0 and largest.ci_low > 0.0
    note = (
        f"share of linear nets, one W each with singular values above 1 and a spectral radius below, whose gradient "
        f"shrinks from step {BEFORE} to {AFTER} (width {OF_ONE}, singular values from very small to large, mean square "
        f"1, {vanishes.nets} nets); it grows in {k_of_n(explodes)} with a radius above 1. Radii from "
        f"{10**of_radius.least:.2f} to {10**of_radius.most:.2f}. log10 of the factor a step less that of the radius: "
        f"{of_radius.estimate:+.5f} (|z| {z:.1f}); it is nearer to the radius than to the root mean square of the "
        f"singular values by {rms.estimate:.3f}, than to the largest by {largest.estimate:.3f}. Factor a step over "
        f"{STEPS} steps, width 100: " + ", ".join(f"{law} {radius} {rate:.3f}" for (law, radius), rate in rates.items())
    )
    holds = z < LARGEST_Z and nearest and min(vanishes.ci_low, explodes.ci_low) > 0.5
    row = vanishes._replace(theory=1.0)
    when = "all singular values are on one side of 1; where they are not, the spectral radius decides"
    return judge("A09", row, holds, note, when=when)


def _product(table: DataFrame) -> Verdict:
    """B01: 1.5^100 and 0.8^100, and products of as many Jacobians."""
    rates = {
        (kind, gain): 10 ** _rate(table, NORM, LAYERS, part="product", law=kind, gain=gain)
        for kind in KINDS for gain in FACTORS
    }  # fmt: skip
    large = pick(table, part="product", law="orthogonal", gain=FACTORS[0], layer=0, quantity=LARGEST)
    small = pick(table, part="product", law="orthogonal", gain=FACTORS[1], layer=0, quantity=LARGEST)
    exact = [LAYERS * math.log10(gain) for gain in FACTORS]
    numbers = abs(large.estimate - exact[0]) < 1e-9 and abs(small.estimate - exact[1]) < 1e-9
    sides = all(rates[kind, 1.5] > 1.0 > rates[kind, 0.8] for kind in KINDS)
    note = (
        f"log10 of the largest singular value of {LAYERS} orthogonal W of gain 1.5: 1.5^100 = {1.5**100:.2e}, "
        f"0.8^100 = {0.8**100:.2e}. Factor of the Jacobian's norm a layer: "
        + ", ".join(f"{kind} {gain} {rate:.3f}" for (kind, gain), rate in rates.items())
        + ". With tanh the signal grows until f' makes up for most of the gain"
    )
    return judge("B01", large, numbers and sides, note)


study = Study(
    name="jacobian_spectrum",
    title="Singular values of the Jacobian against depth, activation and law of the weights",
    cases=cases,
    draw=draw,
    claims=("A09", "B01"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
