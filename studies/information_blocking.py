"""Which zeros of f and f' stop which learning: rules, checked zero by zero and counted, and how many samples they stop.

Constructed zeros: f or f' of nets of an f without zeros is set to 0 at an element, a row, a column, a layer. Natural
zeros: those of traced nets of narrow ReLU layers, with and without biases, and of hard tanh with large weights.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import stabsim
from stabsim import Network, figures, stops
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import Rules, pooled
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import LARGEST_Z, judge, largest_z, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Tensors = list[NDArray[Any]]

NETS = {"quick": 4000, "paper": 400_000}  # simulated
CONSTRUCTED = {"quick": 2000, "paper": 20_000}  # nets of each f and kind of zeros
TRACED = {"quick": 1000, "paper": 10_000}
DEPTH, BATCH, WIDTHS = 20, 8, (2, 4, 8, 16)
QUANTITIES = (
    "activation_dead_net_fraction",
    "preactivation_gradient_dead_sample_fraction",
    "preactivation_gradient_dead_net_fraction",
    "preactivation_gradient_blocked_by_derivative_fraction",
    "preactivation_gradient_blocked_by_activation_fraction",
    "preactivation_gradient_shut_fraction",
    "weight_gradient_idle_sample_fraction",
    "weight_gradient_dead_net_fraction",
)
DEAD = "activation_dead_sample_fraction"

SHAPE = (4, (4, 5, 4, 5, 4))  # samples, widths of the nets with constructed zeros
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {  # f and f' that are never exactly 0
    "softplus": (lambda s: np.logaddexp(0, s), lambda s: 1 / (1 + np.exp(-s))),
    "tanh": (np.tanh, lambda s: 1 - np.tanh(s) ** 2),
    "leaky ReLU": (lambda s: np.where(s > 0, s, 0.01 * s), lambda s: np.where(s > 0, 1.0, 0.01)),
}
NATURAL = {
    "ReLU": Network((4, *(2,) * 6), "relu", "he_normal"),
    "ReLU with biases": Network((4, *(2,) * 6), "relu", "he_normal", 0.3),
    "hard tanh": Network((4, *(2,) * 6), "hard_tanh", "normal(std=1.5)"),
}
ZERO_ROW = {"ReLU": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}
NOT_SO = "nothing"  # in the name of a rule where a note may be read so, and it is not so
SHARE = "share of"  # in the name of what is no rule, but counted for the note


def cases(scale: str) -> Iterator[Case]:
    """Yield narrow ReLU nets."""
    for width in WIDTHS:
        task = make_task(
            Network((width,) * (DEPTH + 1), "relu", "he_normal"), batch=BATCH, quantities=(*QUANTITIES, DEAD)
        )
        yield Case(task, NETS[scale], {"width": width})


# --- what is checked: (rule, nets where it holds, nets or zeros that it is checked on) ------------------


def run(name: str, weights: Tensors, inputs: Any, gradient: Any, f_0: Any = None, slope_0: Any = None) -> Any:
    """Return z and ds of many nets (nets, samples, units) by layer; what is masked (by layer) of f or f' is 0."""
    f, slope = FUNCTIONS[name]
    z, d = [inputs], [inputs]
    for layer, w in enumerate(weights, start=1):
        s = z[-1] @ w
        z.append(np.where((f_0 or {}).get(layer, False), 0.0, f(s)))
        d.append(np.where((slope_0 or {}).get(layer, False), 0.0, slope(s)))
    ds = [gradient * d[-1]]
    for w, below in zip(weights[:0:-1], d[-2:0:-1], strict=True):
        ds.append((ds[-1] @ w.mT) * below)
    return z, [inputs, *ds[::-1]]


def gives(ran: Any, layer: int) -> NDArray[Any]:
    """Return what each sample gives to dW of a layer, (nets, samples, fan_in, fan_out)."""
    z, ds = ran
    return np.asarray(z[layer - 1][..., :, None] * ds[layer][..., None, :])


def constructed(rules: Rules, nets: int) -> None:
    """Check the rules on zeros that are put where they are wanted: in each net at its own sample, unit and layer."""
    batch, widths = SHAPE
    rng, depth = np.random.default_rng(1), len(widths) - 1
    for name in FUNCTIONS:
        part = f"constructed, {name}"
        weights = [rng.normal(size=(nets, *fans)) * fans[0] ** -0.5 for fans in itertools.pairwise(widths)]
        inputs, gradient = rng.normal(size=(nets, batch, widths[0])), rng.normal(size=(nets, batch, widths[-1]))

        masked = functools.partial(run, name, weights, inputs, gradient)
        plain = masked()
        for layer in range(1, depth + 1):
            sample = np.arange(batch)[:, None] == rng.integers(batch, size=(nets, 1, 1))
            unit = np.arange(widths[layer]) == rng.integers(widths[layer], size=(nets, 1, 1))
            of_derivative(rules, part, layer, plain, masked, sample, unit)
            if layer < depth:
                of_activation(rules, part, layer, plain, masked, sample, unit)
        blocks = rng.integers(1, depth + 1, size=(nets, batch, 1))  # the layer at which each sample is blocked
        hit = masked(None, {layer: blocks == layer for layer in range(1, depth + 1)})
        for layer in range(1, depth + 1):
            below, learning = layer <= blocks.min(axis=(1, 2)), learns(hit, layer)
            rules.add("A13", part, "the layers up to the shallowest block stop", ~learning[below])
            rules.add("A13", part, "all layers above it learn", learning[~below])


def of_derivative(rules: Rules, part: str, layer: int, plain: Any, masked: Any, sample: Any, unit: Any) -> None:
    """Check what zeros of f' at a layer stop (A10, A11, A12, A14)."""
    passed_on = "no zero is passed on to a shallower layer"
    hit = masked(None, {layer: sample & unit})
    rules.add("A10", part, "the sample gives 0 to the column", none(gives(hit, layer), (sample & unit)[..., None, :]))
    rules.add("A10", part, "the rest of ds stays", stays(plain[1][layer], hit[1][layer], ~(sample & unit)))
    for below in range(1, layer):
        rules.add("A10", part, passed_on, np.all(hit[1][below], axis=(1, 2)))
        rules.add("A10", part, f"{NOT_SO} changes below", stays(plain[1][below], hit[1][below], sample))
    hit = masked(None, {layer: sample})
    for at in range(1, layer + 1):
        here, there = gives(plain, at), gives(hit, at)
        rules.add("A11", part, "the sample gives 0 to this layer and all below", none(there, sample[..., None]))
        rules.add("A11", part, "other samples give what they gave", stays(here, there, ~sample[..., None]))
    hit = masked(None, {layer: True})
    for at in range(1, len(plain[0])):
        rule = "this layer and all below stop" if at <= layer else "layers above learn"
        rules.add("A12", part, rule, learns(hit, at) != (at <= layer))
    hit = masked(None, {layer: unit})
    stopped = ~np.any(gives(hit, layer).sum(axis=1), axis=1)
    rules.add("A14", part, "the column of dW is 0, and no other is", np.all(stopped == unit[:, 0], axis=1))
    for below in range(1, layer):
        rules.add("A14", part, passed_on, np.all(hit[1][below], axis=(1, 2)))


def of_activation(rules: Rules, part: str, layer: int, plain: Any, masked: Any, sample: Any, unit: Any) -> None:
    """Check what zeros of f at a layer, f' being what it is, stop (A15)."""
    above = gives(masked({layer: sample & unit}), layer + 1)
    rules.add(
        "A15",
        part,
        "element: the sample gives 0 to the row of dW above",
        none(above, (sample & unit)[..., None]),
    )
    hit = masked({layer: sample})
    for at in range(1, len(plain[0])):
        given = ~none(gives(hit, at), sample[..., None])
        if at == layer + 1:
            rules.add("A15", part, "row: the sample gives 0 to dW above", ~given)
        elif at == layer:
            rules.add("A15", part, f"row: {NOT_SO} goes to dW of its own layer", ~given)
        elif at < layer:
            rules.add("A15", part, "row: layers below get something", given)
        else:
            spreads = FUNCTIONS[part.removeprefix("constructed, ")][0](np.zeros(1))[0] == 0
            rules.add("A16", part, "a row f = 0 stays 0 further up just where f(0) = 0", given != spreads)
    stopped = ~np.any(gives(masked({layer: unit}), layer + 1).sum(axis=1), axis=2)
    rules.add("A15", part, "column: the row of dW above is 0, and no other is", np.all(stopped == unit[:, 0], axis=1))


def learns(ran: Any, layer: int) -> NDArray[np.bool_]:
    """Return of which nets dW of a layer is not all 0."""
    return np.asarray(np.any(gives(ran, layer).sum(axis=1), axis=(1, 2)))


def none(values: Any, where: Any) -> Any:
    """Return of which nets all values there are 0."""
    return ~np.any(np.where(where, values, 0.0), axis=tuple(range(1, values.ndim)))


def stays(one: Any, other: Any, where: Any) -> Any:
    """Return of which nets all values there are the same, to the last bit."""
    return ~np.any(where & (one != other), axis=tuple(range(1, one.ndim)))


def natural(rules: Rules, part: str, seen: Any) -> None:
    """Check the rules on the zeros that a net of the simulator has: dW is the simulator's."""
    z, d, ds, dw = seen.activation, seen.derivative, seen.preactivation_gradient, seen.weight_gradient
    depth = len(z) - 1
    shut_rows = [np.zeros(BATCH, bool)] + [~np.any(d[layer], axis=1) for layer in range(1, depth + 1)]
    for layer in range(1, depth + 1):
        rules.add("A10", part, "the sample gives 0 to the column", ds[layer][d[layer] == 0] == 0)
        if layer < depth:
            lost = (ds[layer] == 0) & (d[layer] != 0)
            rows = np.broadcast_to(~np.any(ds[layer + 1], axis=1, keepdims=True), lost.shape)
            rules.add("A10", part, "what else is 0 in ds is of a row that is 0 above", rows[lost])
        below = range(1, layer + 1)
        rows = np.array([~np.any(ds[at][shut_rows[layer]], axis=1) for at in below])
        rules.add("A11", part, "the sample gives 0 to this layer and all below", rows)
        if shut_rows[layer].all():
            rules.add("A12", part, "this layer and all below stop", [not np.any(dw[at]) for at in below])
        rules.add("A14", part, "the column of dW is 0", ~np.any(dw[layer][:, ~np.any(d[layer], axis=0)], axis=0))
        rules.add(
            "A15", part, "column: the row of dW above is 0", ~np.any(dw[layer][~np.any(z[layer - 1], axis=0)], axis=1)
        )
        dead = ~np.any(z[layer], axis=1)
        if part == "ReLU":
            rules.add(
                "A16",
                part,
                "a row f = 0 stays 0 in all deeper layers",
                [~np.any(z[at][dead], axis=1) for at in range(layer + 1, depth + 1)],
            )
            rules.add(
                "A16", part, "it gives 0 to all layers", [~np.any(ds[at][dead], axis=1) for at in range(1, depth + 1)]
            )
        elif layer < depth:
            rules.add(
                "A16", part, f"{SHARE} rows f = 0 that come alive in the next", np.any(z[layer + 1][dead], axis=1)
            )
    uppermost = np.array([np.flatnonzero(rows).max(initial=0) for rows in np.transpose(shut_rows)])
    whole = np.all(shut_rows, axis=1)
    if uppermost.min() > 0:
        rules.add("A13", part, f"{SHARE} nets that stop in which no layer f' = 0 is all 0", not whole.any())
    if uppermost.min() > 0 and not whole.any():
        stopped = [not np.any(dw[at]) for at in range(1, uppermost.min() + 1)]
        rules.add("A13", part, "the layers up to the shallowest block stop", stopped)


def zero_rows(rules: Rules, nets: int) -> None:
    """Check what becomes of a sample of zeros (A16)."""
    stays_0, comes_alive = "a row f = 0 stays 0 in all deeper layers", "a row of zeros comes alive at once"
    nothing, passed = "it gives 0 to all layers", "f' lets its gradient through to all layers"
    for part, name in ZERO_ROW.items():
        for net in range(nets):
            seen = stabsim.trace(Network((4, *(5,) * 5), name, "lecun_normal"), net=net, inputs=np.zeros((1, 4)))
            alive, left = (
                np.array([np.any(v) for v in tensor[1:]]) for tensor in (seen.activation, seen.preactivation_gradient)
            )
            rules.add("A16", part, comes_alive if name == "sigmoid" else stays_0, np.all(alive == (name == "sigmoid")))
            rules.add("A16", part, nothing if name == "relu" else passed, np.all(left == (name != "relu")))


def measure(scale: str) -> DataFrame:
    """Return how often each rule holds, of how many checks."""
    rules = Rules()
    constructed(rules, CONSTRUCTED[scale])
    for part, network in NATURAL.items():
        for net in range(TRACED[scale]):
            natural(rules, part, stabsim.trace(network, net=net, batch=BATCH))
    zero_rows(rules, TRACED[scale])
    return rules.table()


# --- figures and verdicts -------------------------------------------------------------------------------


CAPTION = (
    f"Samples that zeros stop in narrow ReLU nets with He's weights, {DEPTH} layers deep. (a) Share of samples whose "
    f"activations are not all 0, against depth. (b) Share of nets in which any of {BATCH} samples is still alive. (c) "
    "Share of samples at a layer of width 4 whose gradient is stopped, by zeros of the signal below or by zeros of "
    f"the derivative here or above. {figures.THEORY} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw how many samples and nets survive, and by what samples are stopped; then two nets, sample by sample."""
    import pandas

    table = collected.table
    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=2.3)
    parts = [surviving(select(table, quantity=DEAD)), surviving(select(table, quantity=QUANTITIES[0]))]
    for panel, rows, label in zip(axes[0], parts, ("samples", f"nets of {BATCH} samples"), strict=False):
        figures.against_depth(panel, rows, by="width", label="width {}".format, ylabel=f"share of live {label}")
    axes[0, 0].get_legend().set_loc((0.45, 0.6))
    parts.append(select(table, width=4, quantity=QUANTITIES[3:5]))
    draw_causes(axes[0, 2], parts[2])
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.5, sharey=True)
    parts = [draw_net(panel, network, name) for panel, (name, network) in zip(axes[0], PICTURES.items(), strict=True)]
    axes[0, 0].set_ylabel("sample")
    axes[0, 0].bar(0, 0, color="white", edgecolor="black", linewidth=0.5, label="not stopped")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=1.6, columnspacing=1.2)
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat(parts), "net", CAPTION_OF_NET)


def surviving(rows: DataFrame) -> DataFrame:
    """Return shares of what is alive, from those of what is dead."""
    return rows.assign(
        estimate=1 - rows["estimate"], ci_low=1 - rows["ci_high"], ci_high=1 - rows["ci_low"], theory=1 - rows["theory"]
    )


LOOKS = {  # of a cause: name, lightness, hatching
    stops.Cause.BY_ACTIVATION: ("stopped by a row f = 0 below", "#7d7d7d", "...."),
    stops.Cause.BY_DERIVATIVE: ("stopped by a row f' = 0 here or above", "#d2d2d2", "////"),
}


def draw_causes(axes: Axes, rows: DataFrame) -> None:
    """Draw shares of samples stopped by f and by f' on top of each other, with the exact laws."""
    bottom, law, layers = np.zeros(DEPTH), np.zeros(DEPTH), np.arange(1, DEPTH + 1)
    for quantity, code in ((QUANTITIES[4], stops.Cause.BY_ACTIVATION), (QUANTITIES[3], stops.Cause.BY_DERIVATIVE)):
        found = select(rows, quantity=quantity, layer=tuple(layers)).sort_values("layer")
        top = bottom + found["estimate"].to_numpy()
        _, color, hatch = LOOKS[code]
        axes.fill_between(layers, bottom, top, facecolor=color, hatch=hatch, edgecolor="black", linewidth=0)
        law = law + found["theory"].to_numpy()
        axes.plot(
            layers,
            law,
            color="black",
            linestyle="dashed",
            label="_theory" if code == stops.Cause.BY_ACTIVATION else "theory",
        )
        bottom = top
    axes.set(xlabel="layer", ylabel="share stopped, width 4", ylim=(0, 1), xlim=(0, DEPTH))
    axes.set_xticks(range(0, DEPTH, 6))
    box: Any = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    for x, y, words in ((1.8, 0.6, "by f' = 0"), (9.5, 0.12, "by f = 0 below")):
        axes.text(x, y, words, fontsize=7, bbox=box)
    axes.legend(loc="upper right", borderaxespad=0.0)


PICTURES = {
    "ReLU": Network((4,) * 13, "relu", "he_normal"),
    "ReLU with biases": Network((4,) * 13, "relu", "he_normal", 0.2),
}
CAPTION_OF_NET = (
    f"Which of {BATCH} samples stop, where, in two ReLU nets of {PICTURES['ReLU'].depth} layers of "
    f"{PICTURES['ReLU'].widths[0]} units: (a) without biases, (b) with biases. The layer at the cross has all of a "
    "sample's units off: below it the sample's gradient is 0 by f' (hatched), above it dW is 0 by f (dotted). With "
    "biases a sample can come alive again above."
)


def draw_net(axes: Axes, network: Network, title: str) -> DataFrame:
    """Draw the samples of one net against its layers: where each is stopped, by what, and which layer does it."""
    import pandas

    every = (stabsim.what_stops(stabsim.trace(network, net=net, batch=BATCH)) for net in range(1000))
    found = next(found for found in every if is_telling(found))
    rows = [
        (title, sample, layer, found.cause[sample, layer], found.layer[sample])
        for sample, layer in np.ndindex(found.cause.shape) if layer > 0
    ]  # fmt: skip
    for code, (label, color, hatch) in LOOKS.items():
        samples, layers = np.nonzero(found.cause == code)
        axes.bar(
            layers, np.full(len(layers), 0.8), 1.0, samples + 0.6, color=color, hatch=hatch, edgecolor="black",
            linewidth=0, label=label,
        )  # fmt: skip
    hit = np.flatnonzero(found.layer >= 0)
    axes.plot(
        found.layer[hit], hit + 1, linestyle="none", marker="X", markersize=8, markerfacecolor="white",
        markeredgecolor="black", label="the layer that stops it",
    )  # fmt: skip
    axes.set(
        xlabel=f"layer ({title})", xlim=(0.4, network.depth + 0.6), ylim=(BATCH + 0.6, 0.4), yticks=range(1, BATCH + 1),
        xticks=range(1, network.depth + 1),
    )  # fmt: skip
    return pandas.DataFrame(rows, columns=["net", "sample", "layer", "cause", "stopped_at"])


def is_telling(found: stops.Stops) -> bool:
    """Return whether about half of the samples are stopped, at layers of their own."""
    stopped = found.layer[found.layer >= 0]
    return 4 <= len(stopped) <= 6 and len(set(stopped)) >= 3


# What is counted beside the rules of a claim: in the name of the rule, in which nets, and whether it is never so. Where
# it never is, notes say how often it is not.
ASIDE = {
    "A10": (NOT_SO, "", True),
    "A13": (f"{SHARE} nets", "ReLU", True),
    "A15": (NOT_SO, "", True),
    "A16": (f"{SHARE} rows", "ReLU with biases", False),
}
NOTES = {
    "A10": "No zero is passed on, but values of that sample's gradient below do change (in {0} checks)",
    "A11": "The others' gradients stay the same to the last bit",
    "A12": "Layers above go on learning",
    "A13": "The layer of the shallowest block stops, too; all above it learn. ReLU nets without biases never get "
    "there: a sample once dead is dead at the last layer, which is then all 0 (some layer was all 0 in {0} nets that "
    "stop)",
    "A14": "In layers below no element becomes 0, though values change",
    "A15": "While f' is not 0, dW of f's own layer, below it, gets something of the sample (in {0} checks)",
    "A16": "tanh keeps a row of zeros, but f'(0) = 1 lets its gradient through: only dW of the layers above gets "
    "nothing. With biases, rows of ReLU that are 0 come alive in the next layer in {0}",
}
WHEN = {"A15": "dW is that of the layer above, whose input f is", "A16": "there are no biases"}


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the counts, and zeros of ReLU nets against their laws."""
    for claim, note in NOTES.items():
        counts = select(collected.measured, claim=claim)
        rules = counts[~counts["rule"].str.contains(f"{NOT_SO}|{SHARE}")]
        row = pooled(rules)
        holds = bool((rules["estimate"] == 1.0).all()) and row.ci_low > 0.99
        if claim in ASIDE:
            name, part, never = ASIDE[claim]
            aside = pooled(counts[counts["rule"].str.contains(name) & (counts["part"].isin([part]) | (part == ""))])
            count = aside.checks - aside.holds if never else aside.holds
            note = note.format(f"{count} of {aside.checks}")
            holds = holds and (aside.estimate == 0.0) == never
        note = f"holds in {row.holds} of {row.checks} checks. {note}"
        if claim == "A16":
            z = largest_z(select(collected.table, quantity=(DEAD, QUANTITIES[1], *QUANTITIES[3:5])))
            holds, note = (
                holds and z < LARGEST_Z,
                f"{note}. Dead and blocked samples of ReLU meet their laws (|z| < {z:.1f})",
            )
        yield judge(claim, row, holds, note, when=WHEN.get(claim, ""))


study = Study(
    name="information_blocking",
    title="Which zeros of f and f' stop which learning, counted",
    cases=cases,
    draw=draw,
    claims=("A10", "A11", "A12", "A13", "A14", "A15", "A16"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
