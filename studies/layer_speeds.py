"""How fast layers change at initialization: dW and ds next to the output against those next to the input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import dataset
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import change, judge, pick, select, with_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 200, "paper": 20_000}
ACTIVATIONS = ("sigmoid", "tanh", "relu")
LAYERS = (64, 30, 30, 30, 10)  # Nielsen's net, on digits of 8 x 8 pixels
NEXT_TO_INPUT, NEXT_TO_OUTPUT = 1, 3  # hidden layers
BATCH = 50
STARTS = {"N(0, 1)": ("normal(std=1)", 1.0), "Xavier": ("glorot_normal", 0.0), "He": ("he_normal", 0.0)}
FAR = 3.0  # "far more slowly": by this factor
DELTA = "preactivation_gradient_log10_norm"
WEIGHT_GRADIENT = "weight_gradient_log10_norm"


def cases(scale: str) -> Iterator[Case]:
    """Yield Nielsen's net on digits and on normal inputs, with every activation and every law of the weights."""
    for part, inputs in nielsen_inputs().items():
        for name in ACTIVATIONS:
            for start, (weights, bias_std) in STARTS.items():
                task = make_task(
                    Network(LAYERS, name, weights, bias_std=bias_std), batch=BATCH, inputs=inputs,
                    output_gradient=quadratic_cost_gradient(), quantities=(DELTA, WEIGHT_GRADIENT),
                )  # fmt: skip
                yield Case(task, NETS[scale], {"part": part, "activation": name, "weights": start})


def nielsen_inputs() -> dict[str, NDArray[Any] | None]:
    """Return inputs by name: normal ones, and digits with pixels from 0 to 1 where they are installed."""
    try:
        return {"normal": None, "digits": dataset("digits_raw") / 16.0}
    except ValueError:
        return {"normal": None}


def quadratic_cost_gradient() -> NDArray[Any]:
    """Return the gradient of a mean quadratic cost where all outputs are 1/2, for labels that are drawn once."""
    labels = np.random.default_rng(0).integers(0, LAYERS[-1], BATCH)
    return (0.5 - np.eye(LAYERS[-1])[labels]) / BATCH


def speeds(table: DataFrame, part: str) -> DataFrame:
    """Return log10 of how much larger dW and ds are next to the output than next to the input, both of equal widths."""
    import pandas

    sizes = {WEIGHT_GRADIENT: math.sqrt(LAYERS[0] / LAYERS[2]), DELTA: 1.0}  # root mean squares are compared
    found = []
    for name in ACTIVATIONS:
        for start in STARTS:
            for quantity, size in sizes.items():
                rows = select(table, part=part, activation=name, weights=start, quantity=quantity)
                slow, fast = pick(rows, layer=NEXT_TO_INPUT), pick(rows, layer=NEXT_TO_OUTPUT)
                ratio, error = change(slow, fast)
                ratio += math.log10(size)
                found.append((part, name, start, quantity, ratio, error))
    columns = ["part", "activation", "weights", "quantity", "estimate", "std_error"]
    return with_interval(pandas.DataFrame(found, columns=columns)).assign(theory=np.nan)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw by how much the layer next to the output is ahead."""
    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.3, sharey=True)
    part = _shown_inputs(collected.table)
    found = speeds(collected.table, part)
    for panel, quantity, label in ((axes[0, 0], WEIGHT_GRADIENT, "dW"), (axes[0, 1], DELTA, "ds")):
        rows = select(found, quantity=quantity).drop(columns="theory")
        rows = rows.assign(activation=rows["activation"].map(figures.spelled))
        dots = figures.dot_plot(
            panel, rows, rows="activation", by="weights",
            xlabel=f"log10 of {label} of hidden layer 3 / of layer 1",
        )  # fmt: skip
        panel.get_legend().remove()
        panel.axvline(0.0, color="black", linewidth=0.6)
    figure.legend(handles=dots, title="weights", loc="outside right center", handlelength=1.0)
    figures.panel_labels(axes.flat)
    yield Drawing(figure, found)


def _shown_inputs(table: DataFrame) -> str:
    return "digits" if (table["part"] == "digits").any() else "normal"


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the claim against the estimates."""
    yield _slow_layer(collected.table)


def _slow_layer(table: DataFrame) -> Verdict:
    """D01: by how much dW of the hidden layer next to the output is larger than of the one next to the input."""
    part = _shown_inputs(table)
    found = speeds(table, part)
    rows = select(found, quantity=WEIGHT_GRADIENT)
    row = pick(rows, activation="sigmoid", weights="Xavier")
    ratios = {(r.activation, r.weights): 10.0**r.estimate for r in _rows(rows)}
    deltas = {(r.activation, r.weights): 10.0**r.estimate for r in _rows(select(found, quantity=DELTA))}
    wild = pick(rows, activation="sigmoid", weights="N(0, 1)")
    holds = row.ci_low > math.log10(FAR) and pick(rows, activation="sigmoid", weights="He").ci_low > math.log10(FAR)
    everywhere = wild.ci_low > math.log10(FAR)
    note = (
        f"log10 of the root mean square of dW of hidden layer 3 over that of layer 1 in nets {LAYERS} on {part}, "
        "sigmoid with Xavier. The factors for dW (and ds): "
        + "; ".join(
            f"{name}, {start} {ratio:.2g} ({deltas[name, start]:.2g})" for (name, start), ratio in ratios.items()
        )
    )
    return judge("D01", row, holds, note, when="" if everywhere else "the weights are Xavier's or He's, not N(0, 1)")


def _rows(table: DataFrame) -> list[Any]:
    return list(table.itertuples())


study = Study(
    name="layer_speeds",
    title="How fast layers change at initialization, next to the output and next to the input",
    cases=cases,
    draw=draw,
    claims=("D01",),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
