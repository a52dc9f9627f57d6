"""Every initializer with every activation: how much the norm of signal and gradient changes, a layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stabsim import figures
from stabsim.activations import ACTIVATIONS, activation
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.initializers import INITIALIZERS
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import LARGEST_Z, change, judge, pick, select, with_interval

if TYPE_CHECKING:
    from pandas import DataFrame

NETS = {"quick": 40, "paper": 2000}
WIDTH = 100
DEPTH = 30
XAVIER = ("glorot_normal", "glorot_uniform")
PAIR = ["weights", "activation"]
FORWARD, BACKWARD = "activation_log10_norm", "activation_gradient_log10_norm"


def cases(scale: str) -> Iterator[Case]:
    """Yield each pair on nets of equal widths."""
    for weights in INITIALIZERS:
        for name in ACTIVATIONS:
            task = make_task(Network((WIDTH,) * (DEPTH + 1), name, weights), quantities=(FORWARD, BACKWARD))
            yield Case(task, NETS[scale], {"weights": weights, "activation": name})


def growth(collected: Collected) -> DataFrame:
    """Return, for each pair and direction, log10 of the factor on the norm a layer, with its interval.

    Forward, the first layer is left out: the input's law is not that of a layer. Ends of one net's path are treated
    as independent, which makes the intervals too wide, never too narrow, where they are positively correlated.
    """
    import pandas

    parts = []
    for quantity, start, end in ((FORWARD, 1, DEPTH), (BACKWARD, DEPTH, 0)):
        rows = select(collected.table, quantity=quantity).reset_index()
        ends = [select(rows, layer=layer) for layer in (start, end)]
        pairs = ends[0].merge(ends[1], on=PAIR, suffixes=("_first", "_last"))  # one is missing where all nets are dead
        first, last = (
            pandas.DataFrame({name: pairs[name + side] for name in ("estimate", "std_error")})
            for side in ("_first", "_last")
        )
        grown, error = (each / abs(end - start) for each in change(first, last))
        found = pairs[["index_first", *PAIR]].assign(quantity=quantity, estimate=grown, std_error=error)
        parts.append(found.assign(nets=pairs["nets_last"]))
    frame = pandas.concat(parts).sort_values("index_first", ignore_index=True).drop(columns="index_first")
    return with_interval(frame.astype(dict.fromkeys(PAIR, str))).assign(theory=np.nan)


CAPTION = (
    f"Every initializer (rows) with every activation (columns), nets of {DEPTH} layers of {WIDTH} units: log10 of the "
    "factor a layer on the norm of (a) the signal and (b) the gradient on its way back, geometric mean over nets. "
    "White keeps the norm, blue lets it vanish, orange lets it explode; colors end at factors of 10 and 1/10. A dash: "
    "the norm is 0 somewhere on the way, and there is no factor."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw both directions as maps."""
    table = growth(collected)
    figure, axes = figures.panels(rows=2, columns=1, width=figures.PAGE, height=7.4)
    for panel, quantity, tensor in ((axes[0, 0], FORWARD, "z"), (axes[1, 0], BACKWARD, "dz")):
        rows = select(table, quantity=quantity)
        label = f"log10 of the factor on the norm of ${tensor}$, a layer"
        figures.heat_map(
            panel, rows, rows="weights", columns="activation", center=0.0, limits=(-1.0, 1.0), digits=2, label=label
        )
        panel.set(xlabel="", ylabel="")
    figures.panel_labels(axes.flat)
    yield Drawing(figure, table, caption=f"{CAPTION} {figures.of_nets(table['nets'])}")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = growth(collected)

    def rate(weights: str, name: str, quantity: str = FORWARD) -> float:
        return float(pick(table, weights=weights, activation=name, quantity=quantity).estimate)

    xavier = {name: rate("glorot_normal", name, BACKWARD) for name in ("tanh", "relu")}
    he = {name: rate("he_normal", name, BACKWARD) for name in ("tanh", "relu")}
    note = (
        "log10 of the factor on the gradient's norm a layer (0 is right): Xavier "
        f"tanh {xavier['tanh']:+.3f}, ReLU {xavier['relu']:+.3f}; He tanh {he['tanh']:+.3f}, ReLU {he['relu']:+.3f}"
    )
    right = abs(he["relu"]) < 0.01 < abs(xavier["relu"]) and abs(xavier["tanh"]) < abs(xavier["relu"])
    yield judge("A19", pick(table, weights="he_normal", activation="relu", quantity=BACKWARD), right, note)
    yield _both_laws(table)
    yield _small_weights(table)
    yield _identities(table)


def _both_laws(table: DataFrame) -> Verdict:
    """B08: Xavier's normal and uniform law have one variance, so they act alike with every activation."""
    laws = [select(table, weights=name).set_index(["activation", "quantity"]) for name in XAVIER]
    difference = laws[0]["estimate"] - laws[1]["estimate"]
    z = float((difference / np.hypot(laws[0]["std_error"], laws[1]["std_error"])).abs().max())
    row = pick(table, weights="glorot_uniform", activation="linear", quantity=FORWARD)
    note = (
        "log10 of the factor on a linear net's norm; normal and uniform law differ by at most "
        f"{z:.1f} standard errors over all activations and both directions"
    )
    return judge("B08", row, z < LARGEST_Z and abs(row.estimate) < 0.01, note)


def _small_weights(table: DataFrame) -> Verdict:
    """B09: with standard deviation 0.01 a gradient loses the same factor in every layer, whatever the activation."""
    rates = select(table, weights="normal", quantity=BACKWARD)
    row = pick(rates, activation="tanh")
    note = (
        "log10 of the factor on the gradient's norm a layer at width 100, tanh; over all activations it is "
        f"{rates['estimate'].min():.2f} to {rates['estimate'].max():.2f}: two layers leave a hundredth, {DEPTH} nothing"
    )
    return judge("B09", row, row.ci_high < -0.9 and rates["estimate"].max() < -0.8, note)


def _identities(table: DataFrame) -> Verdict:
    """B11: to first order at 0 tanh and (for x > 0) ReLU are the identity, sigmoid is not; 4 sigmoid - 2 is."""
    x = 1e-2

    def value(name: str) -> float:
        return activation(name).evaluate("f", x)

    series = (
        abs(value("tanh") - (x - x**3 / 3)) < x**5
        and value("relu") == x
        and abs(value("sigmoid") - (0.5 + x / 4 - x**3 / 48)) < x**5
        and abs(value("scaled_sigmoid") - x) < x**3 / 10
    )
    rows = {
        name: pick(table, weights="glorot_normal", activation=name, quantity=BACKWARD)
        for name in ("sigmoid", "scaled_sigmoid", "tanh")
    }
    repaired = abs(rows["scaled_sigmoid"].estimate) < 0.05 < abs(rows["sigmoid"].estimate)
    note = "log10 of the factor on the gradient's norm a layer with Xavier: " + ", ".join(
        f"{name} {row.estimate:+.3f}" for name, row in rows.items()
    )
    return judge("B11", rows["scaled_sigmoid"], series and repaired, note)


study = Study(
    name="initializers",
    title="Every initializer with every activation",
    cases=cases,
    draw=draw,
    claims=("A19", "B08", "B09", "B11"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
