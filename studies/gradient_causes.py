"""Why gradients vanish or explode: what f' = 0, f' < 1, W and z each make of a gradient's norm, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.activations import ACTIVATIONS, activation
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.finite_width import relu_log_gains
from stabsim.tracing import trace
from stabsim.verdicts import LARGEST_Z, counted, judge, largest_z, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 100, "paper": 3000}
WIDTH, DEPTH = 64, 20
MIDDLE = DEPTH // 2
SMALL, XAVIER, HE, LARGE = "too small", "Xavier", "He", "too large"
GAINS = {SMALL: 0.3, XAVIER: 1.0, HE: math.sqrt(2.0), LARGE: 5.0}  # Xavier's law and LeCun's are one at equal widths
OF_DERIVATIVE, OF_WEIGHTS = "preactivation_gradient_log10_gain", "activation_gradient_log10_gain"
SHUT, NORM = "preactivation_gradient_shut_fraction", "activation_log10_norm"
GRADIENT, WEIGHT_GRADIENT = "activation_gradient_log10_norm", "weight_gradient_log10_norm"
SPLIT = (OF_DERIVATIVE, OF_WEIGHTS, SHUT, NORM, GRADIENT, WEIGHT_GRADIENT)
SATURATED, NONE = "derivative_saturated_fraction", "derivative_zero_fraction"  # below 0.01, exactly 0
ZERO, BELOW, W, Z = "f' = 0", "f' otherwise", "W", "z, in dW only"
CAUSES = (ZERO, BELOW, W, Z)
ROUNDING = 1e-4  # of log10 of a norm in float32, over all layers

CHECKED = 200  # nets whose Jacobian is multiplied out
NARROW = (16,) * 9


def cases(scale: str) -> Iterator[Case]:
    """Yield every activation with weights of every scale."""
    for name in ACTIVATIONS:
        for weights, gain in GAINS.items():
            network = Network((WIDTH,) * (DEPTH + 1), name, f"lecun_normal(gain={gain!r})")
            task = make_task(network, quantities=(*SPLIT, SATURATED, NONE), samples=SPLIT)
            yield Case(task, NETS[scale], {"activation": name, "weights": weights})


def measure(scale: str) -> DataFrame:
    """Return in how many nets the Jacobian is what is left of the product of the W, element by element."""
    import pandas

    return pandas.DataFrame([_jacobians(name) for name in ("relu", "leaky_relu", "tanh")])


def _jacobians(name: str) -> dict[str, Any]:
    held, alike = [], []
    for net in range(CHECKED):
        seen = trace(Network(NARROW, name, "he_normal"), net=net, precision="float64")
        jacobian, product, open_product = np.eye(NARROW[0]), np.eye(NARROW[0]), np.eye(NARROW[0])
        on = np.arange(NARROW[0])
        for weight, slope, s in zip(seen.weight[1:], seen.derivative[1:], seen.preactivation[1:], strict=True):
            assert weight is not None and slope is not None and s is not None
            jacobian = jacobian @ weight * slope[0]
            product = product @ weight
            positive = np.flatnonzero(s[0] > 0)
            open_product = open_product @ weight[np.ix_(on, positive)]
            on = positive
        back = seen.activation_gradient[-1] @ jacobian.T
        as_simulated = np.allclose(
            back, seen.activation_gradient[0], rtol=0, atol=1e-11 * np.abs(back).max(initial=0.0)
        )
        shut = np.delete(jacobian, on, axis=1)
        left = jacobian[:, on]
        size = np.abs(open_product).max(initial=0.0)
        as_product = not shut.any() and np.allclose(left, open_product, rtol=0, atol=1e-12 * size)
        held.append(as_simulated and as_product)
        if len(on) and left.any():
            alike.append(float(np.corrcoef(left.ravel(), product[:, on].ravel())[0, 1]))
    return {"activation": name, **counted(held), "correlation": float(np.mean(alike))}


def causes(collected: Collected) -> DataFrame:
    """Return what each cause makes of a gradient, in log10 a layer towards the input, over the depth of the map.

    The norm of dW_l is that of z_(l-1) times that of ds_l, one sample being shown: what z does to it is counted by how
    much larger it is at layer 1 than at the last. Nets that stop are left out.
    """
    import pandas

    parts = []
    for case, result in collected.results:
        for cause, values in split(result.samples).items():
            mean = values.mean(axis=1)
            mean = mean[np.isfinite(mean)]
            error = mean.std(ddof=1) / math.sqrt(len(mean))
            row = {**case.tags, "cause": cause, "estimate": mean.mean(), "std_error": error, "nets": len(mean)}
            parts.append(row)
    return with_interval(pandas.DataFrame(parts)).assign(theory=np.nan)


def split(samples: dict[str, Any]) -> dict[str, Any]:
    """Return log10 of what each cause makes of the gradient of each net in each layer, (nets, depth)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = 0.5 * np.log10(1.0 - samples[SHUT][:, 1:])
        below = samples[OF_DERIVATIVE][:, 1:] - zero
    z = samples[NORM]
    change_of_z = (z[:, :1] - z[:, DEPTH - 1 : DEPTH]) / (DEPTH - 1)
    return {ZERO: zero, BELOW: below, W: samples[OF_WEIGHTS][:, :-1], Z: np.broadcast_to(change_of_z, zero.shape)}


def telescoping(collected: Collected) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return, net by net, whether f' and W make up all of the change of dz, and z with them that of dW.

    From the last layer to the input, and from dW of the last layer to that of the first.
    """
    of_gradient, of_weight_gradient = [], []
    for _, result in collected.results:
        alive = np.isfinite(result.samples[GRADIENT][:, 0])
        samples = {name: values[alive] for name, values in result.samples.items()}
        derivative, weights = samples[OF_DERIVATIVE][:, 1:], samples[OF_WEIGHTS][:, :-1]
        dz, dw, z = samples[GRADIENT], samples[WEIGHT_GRADIENT], samples[NORM]
        total = (derivative + weights).sum(axis=1)
        inner = derivative[:, :-1].sum(axis=1) + weights[:, 1:].sum(axis=1) + z[:, 0] - z[:, DEPTH - 1]
        of_gradient.append(np.abs(dz[:, 0] - dz[:, DEPTH] - total) < ROUNDING)
        of_weight_gradient.append(np.abs(dw[:, 1] - dw[:, DEPTH] - inner) < ROUNDING)
    return np.concatenate(of_gradient), np.concatenate(of_weight_gradient)


CAPTION = (
    f"What a layer does to the norm of the gradient on its way back, by cause: nets of {DEPTH} layers of {WIDTH} "
    "units, means over nets of log10 of the factor. Bars above 0 enlarge the gradient, bars below shrink it: units of "
    "f' = 0, the f' of the others, and W; diamonds are the sum. (a)–(c) ReLU, (d)–(f) tanh and (g)–(i) sigmoid, from "
    f"left to right with weights of He, of Xavier, and too large by a gain of {GAINS[LARGE]:g}. Dashed: exact theory "
    "of f' and W in ReLU nets."
)
CAPTION_OF_MAP = (
    f"Causes of vanishing and exploding gradients by activation: nets of {DEPTH} layers of {WIDTH} units, mean over "
    "nets and layers of log10 of the factor by units of f' = 0, by the f' of the others, and by W on the gradient, "
    "and by z on the gradient of the weights. The gain of the weights is (a) too small, (b) Xavier's, (c) He's, (d) "
    "too large."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw the causes layer by layer for three activations, and for all of them as a map."""
    import pandas

    shown = ("relu", "tanh", "sigmoid")
    figure, axes = figures.panels(rows=3, columns=3, width=figures.PAGE, height=5.2, sharex=True, sharey=True)
    parts = []
    for line, name in zip(axes, shown, strict=True):
        for panel, weights in zip(line, (HE, XAVIER, LARGE), strict=True):
            rows = _by_layer(collected, name, weights)
            _bars(panel, rows)
            if name == "relu":
                theory = relu_log_gains(WIDTH, GAINS[weights])
                for value in (theory.derivative, theory.weights):
                    panel.axhline(value / math.log(10.0), color="black", linestyle="dashed", linewidth=0.8)
            parts.append(rows)
    titles = [f"{figures.spelled(name)}, {weights}" for name in shown for weights in (HE, XAVIER, LARGE)]
    figures.panel_labels(axes.flat, titles)
    for panel in axes[:, 0]:
        panel.set_ylabel("log10 of the factor\non $|dz|$ in layer $l$")
    for panel in axes[-1]:
        panel.set_xlabel("layer")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles.append(axes[0, 0].plot([], [], color="black", linestyle="dashed", linewidth=0.8)[0])
    figure.legend(handles, [*labels, "theory, ReLU"], loc="outside lower center", ncols=5)
    yield Drawing(
        figure, pandas.concat(parts), caption=f"{CAPTION} {figures.of_nets(case.nets for case, _ in collected.results)}"
    )

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=7.0, sharex=True, sharey=True)
    table = causes(collected)
    for panel, weights in zip(axes.flat, GAINS, strict=True):
        rows = select(table, weights=weights).assign(estimate=lambda rows: rows["estimate"].round(6) + 0.0)
        mesh = figures.heat_map(
            panel, rows, rows="activation", columns="cause", center=0.0, limits=(-1.0, 1.0), digits=2,
        )  # fmt: skip
        panel.set(xlabel="", ylabel="")
        assert mesh.colorbar is not None
        mesh.colorbar.remove()  # one for all
    bar = figure.colorbar(
        mesh, ax=list(axes.flat), label="log10 of the factor on $|dz|$ or $|dW|$, a layer", aspect=40, pad=0.02
    )
    bar.outline.set_visible(False)
    if names := underflowing(table):
        words = ", ".join(map(figures.spelled, names))
        figure.supxlabel(f"(d): f' = 0 of {words} is underflow, f' too small for float32", fontsize=7)
    figures.panel_labels(axes.flat, [f"{weights} ({GAINS[weights]:.3g})" for weights in GAINS])
    yield Drawing(figure, table, "map", f"{CAPTION_OF_MAP} {figures.of_nets(table['nets'])}")


def underflowing(table: DataFrame) -> list[str]:
    """Return the activations whose f' = 0, with weights that are too large, is underflow: f' is small, and nowhere 0.

    They are those whose f', in float64, has values between 0 and the smallest number of float32 on its way to 0.
    """
    smallest, grid = float(np.finfo(np.float32).smallest_subnormal), np.linspace(-150.0, 150.0, 601)
    return [
        name
        for name in ACTIVATIONS
        if _cause(table, name, LARGE, ZERO) < -0.005
        and any(0.0 < abs(activation(name).evaluate("derivative", float(x))) < smallest for x in grid)
    ]


def _by_layer(collected: Collected, name: str, weights: str) -> DataFrame:
    """Return the means of f' = 0, f' otherwise and W of one case by layer."""
    import pandas

    (result,) = (
        result
        for case, result in collected.results
        if (case.tags["activation"], case.tags["weights"]) == (name, weights)
    )
    means = {cause: values.mean(axis=0) for cause, values in split(result.samples).items() if cause != Z}
    return pandas.concat(
        pandas.DataFrame(
            {"activation": name, "weights": weights, "cause": cause, "layer": np.arange(1, DEPTH + 1), "estimate": mean}
        )
        for cause, mean in means.items()
    )


LOOKS: dict[str, dict[str, Any]] = {
    ZERO: {"color": figures.PALETTE[4], "hatch": "....", "edgecolor": "white"},
    BELOW: {"color": figures.PALETTE[3], "hatch": "////", "edgecolor": "white"},
    W: {"color": figures.PALETTE[5]},
}


def _bars(panel: Axes, rows: DataFrame) -> None:
    """Stack gains above zero, and losses below it."""
    ends = {sign: np.zeros(DEPTH) for sign in (1.0, -1.0)}
    for cause, looks in LOOKS.items():
        part = select(rows, cause=cause)
        value = part["estimate"].to_numpy()
        start = np.where(value < 0.0, ends[-1.0], ends[1.0])
        panel.bar(part["layer"], value, bottom=start, width=0.85, linewidth=0, label=cause, **looks)
        for sign, end in ends.items():
            end += np.where(sign * value > 0.0, value, 0.0)
    panel.axhline(0.0, color="black", linewidth=0.6)
    total = rows.groupby("layer")["estimate"].sum()
    panel.plot(
        total.index, total, linestyle="none", marker="D", markersize=3, markeredgewidth=0.6, markeredgecolor="white",
        color="black", label="sum",
    )  # fmt: skip


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = causes(collected)
    yield _three_causes(collected, table)
    yield _compounding(collected, table)
    yield _tanh(collected)
    yield _jacobian(collected)


def _cause(table: DataFrame, name: str, weights: str, cause: str) -> float:
    return float(pick(table, activation=name, weights=weights, cause=cause).estimate)


def relu_gains(table: DataFrame) -> DataFrame:
    """Return the gains of f' and of W in ReLU nets at every layer and scale of the weights, next to exact theory."""
    import pandas

    parts = []
    for weights, gain in GAINS.items():
        theory = relu_log_gains(WIDTH, gain)
        rows = select(table, activation="relu", weights=weights)
        for quantity, value in ((OF_DERIVATIVE, theory.derivative), (OF_WEIGHTS, theory.weights)):
            parts.append(select(rows, quantity=quantity).assign(theory=value / math.log(10.0)))
    found: DataFrame = pandas.concat(parts)
    return found.dropna(subset="estimate")


def _three_causes(collected: Collected, table: DataFrame) -> Verdict:
    """A05: each cause alone where the others do nothing; of dz f' and W are all, in every net."""
    of_gradient, of_weight_gradient = telescoping(collected)
    relu = relu_gains(collected.table)
    z = largest_z(relu)
    row = pick(relu, weights=HE, quantity=OF_DERIVATIVE, layer=MIDDLE)
    alone = {
        "f' = 0 (ReLU, He)": _cause(table, "relu", HE, ZERO),
        "f' < 1 (sigmoid, Xavier)": _cause(table, "sigmoid", XAVIER, BELOW),
        "small W (linear)": _cause(table, "linear", SMALL, W),
        "large W (linear)": _cause(table, "linear", LARGE, W),
        "f near 0 (tanh, too small, in dW)": -_cause(table, "tanh", SMALL, Z),
    }
    nothing = [abs(_cause(table, "linear", weights, cause)) for weights in GAINS for cause in (ZERO, BELOW)]
    calm = pick(collected.table, activation="tanh", weights=SMALL, quantity=OF_DERIVATIVE, layer=MIDDLE)
    holds = (
        z < LARGEST_Z
        and of_gradient.all()
        and of_weight_gradient.all()
        and max(nothing) < ROUNDING
        and abs(calm.estimate) < 0.01
        and all(value < -0.1 for label, value in alone.items() if "large" not in label)
        and alone["large W (linear)"] > 0.1
    )
    note = (
        "log10 of what a ReLU's f' leaves of a gradient's norm, a layer. The causes one by one, log10 a layer: "
        + ", ".join(f"{label} {value:+.3f}" for label, value in alone.items())
        + f". f' and W are all of the change of dz in {of_gradient.sum()} of {of_gradient.size} nets, and with z "
        f"all of that of dW in {of_weight_gradient.sum()} of {of_weight_gradient.size}: f = 0 takes nothing from dz "
        f"itself, and from dW of its own layer only. ReLU's f' and W as in the exact law (largest |z| {z:.1f}). With "
        f"weights that are too large f' = 0 of {', '.join(underflowing(table)) or 'none'} is underflow of f' in float32"
    )
    return judge(
        "A05", row, bool(holds), note, when="gradients of weights are meant; those of units have two, f' and W"
    )


def bounded() -> list[str]:
    """Return the activations whose f' is nowhere beyond 1 in size, on a grid."""
    grid = np.linspace(-12.0, 12.0, 481)
    return [name for name in ACTIVATIONS if max(abs(activation(name).evaluate("derivative", x)) for x in grid) <= 1.0]


def _compounding(collected: Collected, table: DataFrame) -> Verdict:
    """A07: f' of at most 1 only takes, so only W can make up for it; ReLU's takes by its zeros alone."""
    names = bounded()
    taken = [
        result.samples[OF_DERIVATIVE][:, 1:] for case, result in collected.results if case.tags["activation"] in names
    ]
    values = np.concatenate([np.empty(0), *(each[~np.isnan(each)] for each in taken)])  # NaN: nothing arrived
    never = int((values <= ROUNDING).sum())
    totals = {
        name: {weights: sum(_cause(table, name, weights, cause) for cause in (ZERO, BELOW, W)) for weights in GAINS}
        for name in ("sigmoid", "tanh", "relu")
    }
    rest = max(abs(_cause(table, "relu", weights, BELOW)) for weights in GAINS)
    holds = (
        0 < never == values.size
        and rest < ROUNDING
        and all(total[SMALL] < 0.0 for total in totals.values())
        and totals["sigmoid"][HE] < 0.0
        and totals["tanh"][XAVIER] < 0.0
        and totals["relu"][XAVIER] < 0.0 < totals["relu"][LARGE]
        and pick(table, activation="sigmoid", weights=XAVIER, cause=W).ci_high < 0.1
    )
    note = (
        f"log10 of what sigmoid's f' leaves of a gradient's norm, a layer, with Xavier. f' made it no larger in "
        f"{never} of {values.size} layers of nets ({len(names)} activations with abs(f') <= 1). f' and W together, "
        "log10 a layer, "
        + "; ".join(
            f"{name} " + ", ".join(f"{weights} {value:+.2f}" for weights, value in total.items())
            for name, total in totals.items()
        )
        + f". What a ReLU's open units take is {rest:.0e}"
    )
    return judge("A07", pick(table, activation="sigmoid", weights=XAVIER, cause=BELOW), holds, note)


def shrinking(collected: Collected) -> DataFrame:
    """Return log10 of what the norm of tanh's z is multiplied by from layer 1 to the last, net by net, by weights."""
    import pandas

    rows = []
    for case, result in collected.results:
        if case.tags["activation"] == "tanh":
            norms = result.samples[NORM]
            factor = norms[:, DEPTH] - norms[:, 1]
            error = factor.std(ddof=1) / math.sqrt(len(factor))
            rows.append({"weights": case.tags["weights"], "estimate": factor.mean(), "std_error": error})
    return with_interval(pandas.DataFrame(rows))


def _tanh(collected: Collected) -> Verdict:
    """A18: tanh's z shrinks unless W stretches; with a large W many f' come close to 0, none is 0."""
    rows = select(collected.table, activation="tanh", layer=DEPTH)
    saturated, none, taken = (
        {weights: pick(rows, weights=weights, quantity=quantity) for weights in GAINS}
        for quantity in (SATURATED, NONE, OF_DERIVATIVE)
    )
    factors = shrinking(collected)
    shrunk = {weights: pick(factors, weights=weights) for weights in GAINS}
    shrinks = all(shrunk[weights].ci_high < 0.0 for weights in (SMALL, XAVIER))
    stretched = shrunk[LARGE].ci_low > shrunk[XAVIER].ci_high and shrunk[HE].ci_low > shrunk[XAVIER].ci_high
    saturates = saturated[LARGE].ci_low > saturated[XAVIER].ci_high and taken[LARGE].ci_high < taken[XAVIER].ci_low
    zero = none[LARGE].estimate > 0.0
    note = (
        f"share of units of layer {DEPTH} with f' < 0.01, tanh, weights 5 times Xavier's; f' is exactly 0 in "
        f"{f'a share of {none[LARGE].estimate:.2g}' if zero else 'none'}. With smaller weights: "
        + ", ".join(f"{weights} {saturated[weights].estimate:.3g}" for weights in (HE, XAVIER, SMALL))
        + ". log10 of what f' leaves of a gradient's norm there: "
        + ", ".join(f"{weights} {row.estimate:+.3f}" for weights, row in taken.items())
        + "; of the factor on the norm of z from layer 1 on: "
        + ", ".join(f"{weights} {row.estimate:+.2f}" for weights, row in shrunk.items())
    )
    when = "" if zero else f'"f\' becomes 0" means below 0.01 in a share of the units ({saturated[LARGE].estimate:.2f})'
    row = saturated[LARGE]
    return judge("A18", row, shrinks and stretched and saturates, note, when=when)


def _jacobian(collected: Collected) -> Verdict:
    """B02: what is left of a ReLU's Jacobian is the product of the W, cut to the units that are on."""
    measured = collected.measured.assign(theory=1.0)
    relu, others = pick(measured, activation="relu"), select(measured, activation=("leaky_relu", "tanh"))
    holds = relu.estimate == 1.0 and bool((others["estimate"] == 0.0).all())
    note = (
        f"share of ReLU nets ({len(NARROW) - 1} layers of {NARROW[0]}) whose Jacobian, of {relu.nets}, is 0 at units "
        "that are off and elsewhere the product W_1 W_2 ... of rows and columns of units that are on, in every element "
        f"to 1e-12; of leaky ReLU and tanh {others['estimate'].max():g}. It is not what the whole product of the W has "
        f"in those places: correlation {relu.correlation:.2f}"
    )
    return judge("B02", relu, holds, note, when="each W is cut to the units that are on")


study = Study(
    name="gradient_causes",
    title="What f' = 0, f' < 1, W and z each make of a gradient",
    cases=cases,
    draw=draw,
    claims=("A05", "A07", "A18", "B02"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
