"""How fast layers change: those next to the output against those next to the input, by dW and in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import dataset
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import train
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
TRAINED = {"quick": 30, "paper": 1000}
RATE, TRAINING_BATCH = 15.0, 10  # Nielsen's 3.0: the cost is the mean over 10 outputs, not half of the sum
RECORDED = (1, 10, 100, 300, 1000, 3000, 5000)  # steps
MOVED = ("path_length", "distance")
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


def labelled() -> tuple[str, NDArray[Any], NDArray[Any]]:
    """Return digits where they are installed, else normal inputs labelled by the largest of linear functions."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        generator = np.random.default_rng(0)
        inputs = generator.normal(size=(1797, LAYERS[0]))
        name, labels = "normal inputs", (inputs @ generator.normal(size=(LAYERS[0], LAYERS[-1]))).argmax(axis=1)
    else:
        found = load_digits()
        name, inputs, labels = "digits", found.data / 16.0, found.target
    return name, inputs, np.eye(LAYERS[-1])[labels]


def measure(scale: str) -> DataFrame:
    """Train sigmoid nets; return log10 of how much further hidden layer 3 has gone than layer 1, and the loss.

    Root mean squares over weights and biases are compared, of what is trained: of the length of the path and of the
    distance from the start.
    """
    import pandas

    name, inputs, targets = labelled()
    size = math.log10((LAYERS[0] + 1) / (LAYERS[2] + 1)) / 2
    rows = []
    for start, (weights, bias_std) in STARTS.items():
        trained = train(
            Network(LAYERS, "sigmoid", weights, bias_std=bias_std), nets=TRAINED[scale], steps=RECORDED[-1],
            optimizer=f"sgd(learning_rate={RATE})", batch=TRAINING_BATCH, data=(inputs, targets),
            output_activation="sigmoid", seed=1, record=RECORDED, quantities=("loss", *MOVED),
        )  # fmt: skip
        found = {
            quantity: np.log10(values[:, :, NEXT_TO_OUTPUT] / values[:, :, NEXT_TO_INPUT]) + size
            for quantity, values in ((quantity, trained.values(quantity)) for quantity in MOVED)
        }
        found["loss"] = trained.values("loss")[:, :, 0]
        for quantity, values in found.items():
            errors = values.std(axis=0, ddof=1) / math.sqrt(len(values))
            for step, mean, error in zip(RECORDED, values.mean(axis=0), errors, strict=True):
                rows.append((name, start, quantity, step, mean, error, len(values)))
    columns = ["part", "weights", "quantity", "step", "estimate", "std_error", "nets"]
    return with_interval(pandas.DataFrame(rows, columns=columns)).assign(theory=np.nan)


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


CAPTION = (
    "By how much the hidden layer next to the output is ahead of the one next to the input, before training: nets of "
    f"widths {', '.join(map(str, LAYERS))} by activation and law of the weights, quadratic cost, batch {BATCH}. (a) "
    "log10 of the ratio of the norms of the weights' gradients, (b) of the gradients by pre-activations, mean over "
    f"nets. Right of 0 (line) the layer near the output is the faster one. {figures.BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw by how much the layer next to the output is ahead."""
    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.3, sharey=True)
    part = _shown_inputs(collected.table)
    found = speeds(collected.table, part)
    for panel, quantity, label in ((axes[0, 0], WEIGHT_GRADIENT, "dW"), (axes[0, 1], DELTA, "ds")):
        rows = select(found, quantity=quantity).drop(columns="theory")
        dots = figures.dot_plot(
            panel, rows, rows="activation", by="weights",
            xlabel=f"log10 of {label} of hidden layer 3 / of layer 1",
        )  # fmt: skip
        panel.get_legend().remove()
        panel.axvline(0.0, color="black", linewidth=0.6)
    figure.legend(handles=dots, title="weights", loc="outside right center", handlelength=1.0)
    figures.panel_labels(axes.flat)
    yield Drawing(figure, found, caption=f"{CAPTION} {figures.of_nets(case.nets for case, _ in collected.results)}")


def _shown_inputs(table: DataFrame) -> str:
    return "digits" if (table["part"] == "digits").any() else "normal"


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the claim against trained nets, and against dW before training."""
    yield _trained_layers(collected.measured)
    yield _slow_layer(collected.table)


def _trained_layers(measured: DataFrame) -> Verdict:
    """D01: how much further hidden layer 3 goes than layer 1, from every start, and up to which step it is far."""
    found = {
        (start, quantity, step): pick(measured, weights=start, quantity=quantity, step=step)
        for start in STARTS for quantity in (*MOVED, "loss") for step in RECORDED
    }  # fmt: skip
    far = {start: _far_until(select(measured, weights=start, quantity="distance")) for start in STARTS}
    row = found["Xavier", "distance", RECORDED[2]]
    always = all(far[start] == list(RECORDED) for start in STARTS)
    few = ", ".join(
        f"up to step {far[start][-1]} ({start}; there by a factor of "
        f"{10 ** found[start, 'distance', far[start][-1]].estimate:.2g})"
        for start in STARTS if far[start]
    )  # fmt: skip
    note = (
        f"log10 of the root mean square change of hidden layer 3 over that of layer 1 after {RECORDED[2]} steps from "
        f"Xavier's weights, sigmoid nets {LAYERS} trained on {row.part}. The factors after "
        f"{', '.join(map(str, RECORDED))} steps, of the distance from the start (of the path's length; loss): "
        + "; ".join(
            f"{start} "
            + ", ".join(
                f"{10 ** found[start, 'distance', step].estimate:.2g} "
                f"({10 ** found[start, 'path_length', step].estimate:.2g}; {found[start, 'loss', step].estimate:.3f})"
                for step in RECORDED
            )
            for start in STARTS
        )
    )
    factor = f'"far more slowly" is by a factor of {FAR:g}'
    return judge("D01", row, any(far.values()), note, when=factor if always else f"{factor}: in training {few}")


def _far_until(rows: DataFrame) -> list[int]:
    """Return the recorded steps from the first on up to the last one at which layer 3 is still far ahead."""
    return [row.step for row in takewhile(lambda row: row.ci_low > math.log10(FAR), _rows(rows))]


def _slow_layer(table: DataFrame) -> Verdict:
    """D01: by how much dW of the hidden layer next to the output is larger than of the one next to the input."""
    part = _shown_inputs(table)
    found = speeds(table, part)
    rows = select(found, quantity=WEIGHT_GRADIENT)
    row = pick(rows, activation="sigmoid", weights="Xavier")
    ratios = {(r.activation, r.weights): 10.0**r.estimate for r in _rows(rows)}
    deltas = {(r.activation, r.weights): 10.0**r.estimate for r in _rows(select(found, quantity=DELTA))}
    far = [
        start for start in STARTS
        if pick(rows, activation="sigmoid", weights=start).ci_low > math.log10(FAR)
    ]  # fmt: skip
    note = (
        f"log10 of the root mean square of dW of hidden layer 3 over that of layer 1 in nets {LAYERS} on {part}, "
        "sigmoid with Xavier. The factors for dW (and ds): "
        + "; ".join(
            f"{name}, {start} {ratio:.2g} ({deltas[name, start]:.2g})" for (name, start), ratio in ratios.items()
        )
    )
    words = " and ".join(f"{start} ({ratios['sigmoid', start]:.2g})" for start in far)
    when = f'dW before training is meant and "far more slowly" is by a factor of {FAR:g}: {words}'
    return judge("D01", row, bool(far), note, when=when)


def _rows(table: DataFrame) -> list[Any]:
    return list(table.itertuples())


study = Study(
    name="layer_speeds",
    title="How fast layers change, next to the output and next to the input",
    cases=cases,
    draw=draw,
    claims=("D01",),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
