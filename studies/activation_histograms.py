"""Histograms of activations and gradients, layer by layer: what the standard deviation of the weights does.

Five layers of 100 units, 1,000 standard normal inputs (claim C07), and the activations and back-propagated gradients of
tanh nets as in Glorot & Bengio 2010, figures 6 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.result import Result
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import judge, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

WIDTHS = (100,) * 6
BATCH = 1000
NETS = {"quick": 20, "paper": 2000}
BINS = 60

# Standard deviation of the weights. One listing in the notes multiplies by sqrt(n) where 1/sqrt(n) is meant.
SPREADS = {"1": 1.0, "0.01": 0.01, "1/√n": 0.1, "√n (mistake)": 10.0}
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, 2.0)}
GLOROT = {"uniform on ±1/√n": "uniform(bound=0.1)", "Xavier": "glorot_uniform"}

QUANTITIES = (
    "activation_mean",
    "activation_variance",
    "activation_kurtosis",
    "activation_saturated_fraction",
    "derivative_saturated_fraction",
    "activation_log10_norm",
    "activation_gradient_variance",
    "activation_gradient_log10_norm",
)


def cases(scale: str) -> Iterator[Case]:
    """Yield every activation with every spread, and tanh with the two laws of Glorot & Bengio."""
    for activation, (low, high) in RANGES.items():
        for name, std in SPREADS.items():
            network = Network(WIDTHS, activation, f"normal(std={std})")
            bins = {"activation": (low, high, BINS)}
            task = make_task(network, batch=BATCH, quantities=QUANTITIES, histograms=bins)
            yield Case(task, NETS[scale], {"activation": activation, "weights": name})
    for name, weights in GLOROT.items():
        bins = {"activation": (-1.0, 1.0, BINS), "activation_gradient": (-2.5, 2.5, BINS)}
        task = make_task(Network(WIDTHS, "tanh", weights), batch=BATCH, quantities=QUANTITIES, histograms=bins)
        yield Case(task, NETS[scale], {"activation": "tanh", "weights": name})


NETS_DRAWN = (
    f"nets of {len(WIDTHS) - 1} layers of {WIDTHS[0]} units, layer by layer, on {BATCH:,} standard normal inputs"
)
CAPTION = (
    f"Activations of {NETS_DRAWN}: sigmoid (a)–(d), tanh (e)–(h), ReLU (i)–(l); normal weights of standard deviation "
    f"{', '.join(SPREADS)} from left to right, n being the inputs of a unit. Each line is a layer's histogram over all "
    f"nets, in {BINS} equal bins; where many values of the last layer are beyond them, the panel says how many. Piles "
    "at the ends of the range are saturated units; all near f(0), units carry no signal."
)
CAPTION_OF_GRADIENTS = (
    f"Histograms of (a), (c) activations and (b), (d) back-propagated gradients of tanh {NETS_DRAWN}, as in Glorot and "
    "Bengio (2010), figures 6 and 7. Weights are uniform on ±1/√n in (a), (b) and Xavier's in (c), (d). What to "
    "compare is how wide the histograms stay from layer to layer."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw one figure of activations, and one of activations and gradients of tanh nets."""
    nets = figures.of_nets(case.nets for case, _ in collected.results)
    results = {(case.tags["activation"], case.tags["weights"]): result for case, result in collected.results}
    figure, axes = figures.panels(rows=3, columns=4, width=figures.PAGE, height=5.2, sharex="row")
    tables = []
    for row, activation in enumerate(RANGES):
        for column, name in enumerate(SPREADS):
            tables.append(_layers(axes[row, column], results[activation, name], "activation"))
            tables[-1].insert(0, "case", f"{activation}, {name}")
        axes[row, 0].set_ylabel(f"{figures.spelled(activation)}\nshare of a bin")
    for panel in axes[2]:
        panel.set_xlabel("activation $z_l$")
    _layer_legend(axes[0, 1])
    figures.panel_labels(axes.flat, [f"std {name}" for name in SPREADS] + [""] * 8)
    yield Drawing(figure, _join(tables), caption=f"{CAPTION} {nets}")

    figure, axes = figures.panels(rows=2, columns=2, width=figures.COLUMN * 1.4, height=3.4, sharex="col")
    tables = []
    for row, name in enumerate(GLOROT):
        for column, tensor in enumerate(("activation", "activation_gradient")):
            tables.append(_layers(axes[row, column], results["tanh", name], tensor))
            tables[-1].insert(0, "case", f"tanh, {name}")
        axes[row, 0].set_ylabel(f"{name}\nshare of a bin")
    axes[1, 0].set_xlabel("activation $z_l$")
    axes[1, 1].set_xlabel("gradient $dz_l$")
    _layer_legend(axes[0, 1])
    figures.panel_labels(axes.flat)
    yield Drawing(figure, _join(tables), "gradients", f"{CAPTION_OF_GRADIENTS} {nets}")


def _layers(panel: Axes, result: Result, tensor: str) -> DataFrame:
    """Draw one step line a layer, and say how much lies outside; return the numbers drawn."""
    import pandas

    edges, counts = result.histograms[tensor]
    shares = counts / counts.sum(axis=1, keepdims=True)
    for layer in range(1, len(counts)):
        panel.stairs(shares[layer, 1:-1], edges, color=figures.line(layer - 1)["color"], linewidth=1.0, label=layer)
    outside = 1.0 - shares[-1, 1:-1].sum()
    if outside > 0.05:
        panel.text(
            0.97,
            0.95,
            f"{outside:.0%} of layer {len(counts) - 1}\nis outside",
            transform=panel.transAxes,
            ha="right",
            va="top",
            fontsize=6,
        )
    panel.set_yscale("log")
    panel.set_ylim(1e-4, 1.5)
    layers, bins = np.meshgrid(np.arange(1, len(counts)), np.arange(len(edges) - 1), indexing="ij")
    return pandas.DataFrame(
        {
            "tensor": tensor,
            "layer": layers.ravel(),
            "low": edges[:-1][bins.ravel()],
            "high": edges[1:][bins.ravel()],
            "count": counts[1:, 1:-1].ravel(),
        }
    )


def _layer_legend(panel: Axes) -> None:
    panel.legend(title="layer", ncols=1, fontsize=6, title_fontsize=6, handlelength=1.2, loc="upper right")


def _join(tables: list[DataFrame]) -> DataFrame:
    import pandas

    return pandas.concat(tables, ignore_index=True)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """C07: piles at the ends, a pile at one half, spread, and a bell; and what the mistake does."""
    last = select(collected.table, layer=5)

    def value(activation: str, weights: str, quantity: str) -> float:
        return float(pick(last, activation=activation, weights=weights, quantity=quantity).estimate)

    saturated = {name: value("sigmoid", name, "activation_saturated_fraction") for name in SPREADS}
    spread = {name: value("sigmoid", name, "activation_variance") ** 0.5 for name in SPREADS}
    bell = value("tanh", "1/√n", "activation_kurtosis")
    ends = saturated["1"] > 0.3 and saturated["√n (mistake)"] > saturated["1"]
    pile = spread["0.01"] < 0.05
    even = saturated["1/√n"] < 0.01 and spread["1/√n"] > 2 * spread["0.01"]
    note = (
        f"sigmoid, share of layer 5 within 0.01 of 0 or 1: std 1 {saturated['1']:.2f}, "
        f"√n {saturated['√n (mistake)']:.2f}, 1/√n {saturated['1/√n']:.3f}; "
        f"spread around 0.5: std 0.01 {spread['0.01']:.3f}, 1/√n {spread['1/√n']:.3f}; "
        f"tanh at 1/√n has kurtosis {bell:.2f}"
    )
    row = pick(last, activation="sigmoid", weights="1", quantity="activation_saturated_fraction")
    yield judge("C07", row, ends and pile and even and 2.2 < bell < 4.0, note)


study = Study(
    name="activation_histograms",
    title="Histograms of activations and gradients against the spread of the weights",
    cases=cases,
    draw=draw,
    claims=("C07",),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
