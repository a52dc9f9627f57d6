"""How often clipping binds at initialization, and what it does to the size and the direction of weight gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import judge, pick, select

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": {"digits": 100, "deep": 40}, "paper": {"digits": 2000, "deep": 4000}}
DIGITS = (784, 300, 50, 50, 50, 50, 10)
BATCH = 32
VALUE = "value(bound=1.0)"
WEIGHTS = {
    "He": "he_normal",
    "Xavier": "glorot_normal",
    "2 He": f"he_normal(gain={2 * math.sqrt(2)})",
    "N(0, 1)": "normal(std=1)",
}
WIDTH = 64
DEPTH = 40
DEEP_BATCH = 4
KINDS = (VALUE, "norm(bound=1.0)", "global_norm(bound=1.0)", "adaptive(bound=0.01)")
NAMES = {"value": "value 1", "norm": "norm 1", "global_norm": "global norm 1", "adaptive": "adaptive 0.01"}
GAINS = (4.0, 3.0, 2.0, 1.5, 1.25, 1.0, 0.8)
WILD, CALM = GAINS[0], GAINS[-1]
STABLE = (1e-6, 1e3)  # root mean squares of gradients
FRACTION, COSINE = "weight_gradient_clipped_fraction", "clipped_gradient_cosine"
BEFORE, AFTER = "weight_gradient_log10_norm", "clipped_gradient_log10_norm"
QUANTITIES = (FRACTION, COSINE, BEFORE, AFTER)


def loss_gradient() -> NDArray[Any]:
    """Return the gradient of a mean cross-entropy by what goes into the softmax, where all outputs are about 0."""
    labels = np.random.default_rng(0).integers(0, DIGITS[-1], BATCH)
    return (1.0 / DIGITS[-1] - np.eye(DIGITS[-1])[labels]) / BATCH


def cases(scale: str) -> Iterator[Case]:
    """Yield the net for digits with every initializer, and deep nets with every clipping and gain."""
    nets = NETS[scale]
    for name, weights in WEIGHTS.items():
        for loss, factor in (("mean", 1.0), ("sum", float(BATCH))):
            task = make_task(
                Network(DIGITS, "relu", weights), batch=BATCH, output_gradient=factor * loss_gradient(),
                clipping=VALUE, quantities=QUANTITIES,
            )  # fmt: skip
            yield Case(task, nets["digits"], {"part": "digits", "setting": name, "loss": loss, "gain": 1.0})
    for gain in GAINS:
        network = Network((WIDTH,) * (DEPTH + 1), "tanh", f"lecun_normal(gain={gain})")
        for kind in KINDS:
            task = make_task(network, batch=DEEP_BATCH, clipping=kind, quantities=QUANTITIES)
            yield Case(
                task,
                nets["deep"],
                {"part": "deep", "setting": NAMES[kind.split("(")[0]], "loss": "normal", "gain": gain},
            )


DEEP = f"tanh nets of {DEPTH} layers of {WIDTH} units"
CAPTION_OF_DIGITS = (
    "Share of the elements of each layer's weight gradient that a clip by value at 1 changes before training: a ReLU "
    f"net of widths {', '.join(map(str, DIGITS))}, batch {BATCH}, by the law of the weights. The loss is (a) the mean, "
    f"(b) the sum over the batch. {figures.BANDS}"
)
CAPTION = (
    f"Four ways to clip gradients that explode: {DEEP}, gain {WILD:g}. (a) Norm of the gradient of each layer's "
    "weights (geometric mean), unclipped and clipped: each element, each layer's norm, the norm over all layers, or "
    "each unit's norm against that of its weights. (b) Cosine between the clipped gradient and the unclipped one: "
    f"clips by norm keep the direction within a layer, those of single elements or units do not. {figures.BANDS}"
)
CAPTION_OF_MAP = (
    f"What a clip by value at 1 does to {DEEP}, against layer and gain: (a) the share of the elements of a layer's "
    "weight gradient that it changes, (b) the cosine between the clipped gradient and the unclipped one."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw the net for digits, exploding nets with every clipping, and maps of what clipping by value turns."""
    import pandas

    table = collected.table
    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.5)
    digits = select(table, part="digits")
    parts = []
    for panel, loss in zip(axes[0], ("mean", "sum"), strict=True):
        rows = select(digits, loss=loss, quantity=FRACTION)
        figures.against_depth(panel, rows, by="setting", ylabel=f"share of dW clipped at 1, {loss} loss")
        panel.set_ylim(-0.03, 1.03)
        parts.append(rows)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, "digits", f"{CAPTION_OF_DIGITS} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.5)
    unclipped = select(table, part="deep", gain=WILD, setting=NAMES["value"], quantity=BEFORE)
    norms = pandas.concat(
        [unclipped.assign(setting="unclipped"), select(table, part="deep", gain=WILD, quantity=AFTER)]
    )
    turned = select(table, part="deep", gain=WILD, quantity=COSINE)
    order = ["unclipped", *NAMES.values()]
    label = f"norm of dW, tanh, gain {WILD:g}"
    figures.against_depth(axes[0, 0], norms, by="setting", order=order, scale="exponent", ylabel=label)
    figures.against_depth(axes[0, 1], turned, by="setting", order=order, ylabel="cosine to the unclipped dW")
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([norms, turned])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.6, sharey=True)
    parts = []
    for panel, quantity, low, label in (
        (axes[0, 0], FRACTION, 0.0, "share of elements clipped (value 1)"),
        (axes[0, 1], COSINE, 0.4, "cosine to the unclipped dW (value 1)"),
    ):
        rows = select(table, part="deep", setting=NAMES["value"], quantity=quantity)
        figures.heat_map(panel, rows, rows="gain", columns="layer", limits=(low, 1.0), label=label, annotate=False)
        panel.set_ylabel("gain, tanh" if quantity == FRACTION else "")
        parts.append(rows)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, "map", f"{CAPTION_OF_MAP} {figures.of_nets(drawn['nets'])}")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = collected.table
    yield _digits(table)
    yield _remedy(table)
    yield _window(table)


def _digits(table: DataFrame) -> Verdict:
    """D07: how often a clip at 1.0 binds in the net for digits, and what it changes."""
    rows = select(table, part="digits")
    most = {
        (name, loss): select(rows, setting=name, loss=loss, quantity=FRACTION)["estimate"].max()
        for name in WEIGHTS
        for loss in ("mean", "sum")
    }
    least = {key: select(rows, setting=key[0], loss=key[1], quantity=COSINE)["estimate"].min() for key in most}
    row = pick(rows, setting="N(0, 1)", loss="mean", quantity=FRACTION, layer=3)
    summed = select(rows, setting="He", loss="sum", quantity=FRACTION)
    turned = select(rows, setting="N(0, 1)", loss="mean", quantity=COSINE)
    never = most["He", "mean"] == 0.0 and most["Xavier", "mean"] == 0.0
    holds = never and row.ci_low > 0.0 and bool((summed["ci_low"] > 0.0).any() and (turned["ci_high"] < 1.0).any())
    note = (
        "share of dW of layer 3 beyond 1.0 with weights from N(0, 1). Largest share of a layer and least cosine: "
        + "; ".join(f"{name}, {loss} loss {most[name, loss]:.2g} and {least[name, loss]:.2f}" for name, loss in most)
        + ". At initialization, with inputs from N(0, 1) and outputs about 0; training is not looked at"
    )
    return judge("D07", row, holds, note, when="the weights are too large, or the loss is a sum over the batch")


def _remedy(table: DataFrame) -> Verdict:
    """D04, clipping: it bounds gradients that explode, each kind in its way, and does nothing for those that vanish."""
    rows = select(table, part="deep", layer=1)
    before = pick(rows, setting=NAMES["value"], gain=WILD, quantity=BEFORE)
    after = {name: pick(rows, setting=name, gain=WILD, quantity=AFTER) for name in NAMES.values()}
    turned = {name: pick(rows, setting=name, gain=WILD, quantity=COSINE).estimate for name in NAMES.values()}
    small = [pick(rows, setting=name, gain=CALM, quantity=AFTER).estimate for name in NAMES.values()]
    vanished = pick(rows, setting=NAMES["value"], gain=CALM, quantity=BEFORE)
    bounded = all(row.ci_high < before.ci_low - 1.0 for row in after.values())
    same = max(abs(value - vanished.estimate) for value in small) < 0.5
    note = (
        f"log10 of the norm of dW at layer 1 of {DEPTH} before clipping, tanh, gain {WILD:g}; after it "
        + ", ".join(f"{name} {row.estimate:.1f} (cosine {turned[name]:.2f})" for name, row in after.items())
        + f". With gain {CALM:g} it is {vanished.estimate:.1f} with and without: clipping makes no gradient larger"
    )
    holds = bounded and same and turned[NAMES["norm"]] > 1 - 1e-9 > turned[NAMES["value"]]
    return judge("D04", before, holds, note, when="gradients explode")


def _window(table: DataFrame) -> Verdict:
    """B05, clipping: which kinds bring the gradients of all layers of an exploding net into the stable range."""
    found = {}
    for name in ("unclipped", *NAMES.values()):
        plain = name == "unclipped"
        kind = NAMES["value"] if plain else name
        rows = select(table, part="deep", gain=WILD, setting=kind, quantity=BEFORE if plain else AFTER)
        sizes = 10.0 ** (rows["estimate"].to_numpy() - math.log10(WIDTH))
        found[name] = (float(sizes.min()), float(sizes.max()))
    inside = [name for name, (low, high) in found.items() if low >= STABLE[0] and high <= STABLE[1]]
    single = [NAMES[kind] for kind in ("value", "norm")]
    holds = "unclipped" not in inside and all(name in inside for name in single)
    note = (
        f"log10 of the norm of dW at layer 1, tanh, gain {WILD:g}, clipped by value 1. Root mean squares of dW over "
        f"{DEPTH} layers: "
        + ", ".join(f"{name} {low:.0e} to {high:.0e}" for name, (low, high) in found.items())
        + ". One factor for all layers keeps the direction, and the distance between layers"
    )
    row = pick(table, part="deep", gain=WILD, setting=NAMES["value"], quantity=AFTER, layer=1)
    return judge("B05", row, holds, note, when="gradients explode and each layer is clipped by itself")


study = Study(
    name="gradient_clipping",
    title="Gradient clipping at initialization: how often it binds, and what it does to direction",
    cases=cases,
    draw=draw,
    claims=("B05", "D04", "D07"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
