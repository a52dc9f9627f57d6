"""Units and samples that a ReLU shuts off: how many there are at the start, by width, depth and data, and for how long.

A unit is dead if it is off for all samples of a batch, for all of a data set, or for all inputs there are; a net is
born dead if it is 0 for all inputs. Whether a dead unit recovers is looked at in gradients, and by training small nets.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import stabsim
from stabsim import Network, figures
from stabsim.activations import activation
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import Rules, pooled, with_shares
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory import zeros
from stabsim.training import train
from stabsim.verdicts import LARGEST_Z, judge, largest_z, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Floats = NDArray[np.float64]

NETS = {  # simulated, by part
    "quick": {"samples": 20_000, "born": 50_000, "units": 100, "digits": 150, "all": 2000},
    "paper": {"samples": 10**6, "born": 10**6, "units": 2000, "digits": 2000, "all": 10**5},
}
TRACED = {"quick": 300, "paper": 10_000}
TRAINED = {"quick": 500, "paper": 10_000}
DEPTH = 20
NARROW = (2, 4, 8, 16)
BORN = (2, 3, 4)
UNITS = (4, 32, 512)
SAMPLES = 10  # orthogonal ones, as the columns of the identity
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu")
LINE = np.tan(np.linspace(-1.5699, 1.5699, 300))[:, None]  # inputs on the line, to +-1000
FIRST = (1, 2, 3, 5, 10)  # units of the first layer behind which units are looked at

ZERO, DEAD_SAMPLE, DEAD_UNIT, DEAD_NET = (
    f"activation_{name}_fraction" for name in ("zero", "dead_sample", "dead_unit", "dead_net")
)
GRADIENT = ("preactivation_gradient_zero_fraction", "preactivation_gradient_dead_unit_fraction")


def cases(scale: str) -> Iterator[Case]:
    """Yield narrow nets, nets on the line, nets of orthogonal samples, of real data, and of all inputs of the line."""
    nets = NETS[scale]
    for width in NARROW:
        network = Network((width,) * (DEPTH + 1), "relu", "he_normal")
        yield _case("samples", f"width {width}", nets["samples"], network, (ZERO, DEAD_SAMPLE, *GRADIENT))
    for width in BORN:
        network = Network((1, *(width,) * DEPTH), "relu", "he_normal")
        yield _case("born", f"width {width}", nets["born"], network, (DEAD_NET,), np.array([[1.0], [-1.0]]))
    for width in UNITS:
        network = Network((SAMPLES, *(width,) * DEPTH), "relu", "he_normal")
        yield _case("units", f"width {width}", nets["units"], network, (DEAD_UNIT,), np.eye(SAMPLES))
    if importlib.util.find_spec("sklearn") is not None:
        for name in ACTIVATIONS:
            network = Network((64, *(50,) * 10), name, "he_normal")
            yield _case("digits", name, nets["digits"], network, (DEAD_UNIT,), "digits", 1797)
    for units in FIRST:
        network = Network((1, units, 50), "relu", "normal(std=1)", 1.0)
        yield _case("all", f"{units} units", nets["all"], network, (DEAD_UNIT,), LINE)


def _case(
    part: str, setting: str, nets: int, network: Network, names: tuple[str, ...], inputs: Any = None, batch: int = 0
) -> Case:
    batch = batch or (1 if inputs is None else len(inputs))
    task = make_task(network, batch=batch, inputs=inputs, quantities=names)
    return Case(task, nets, {"part": part, "setting": setting})


# --- what becomes of dead units -------------------------------------------------------------------------


def measure(scale: str) -> DataFrame:
    """Return how often what is said of dead units holds, and of trained nets the share that is dead, by step."""
    import pandas

    rules = Rules()
    for name in ("relu", "leaky_relu"):
        for net in range(TRACED[scale]):
            gradients(rules, name, stabsim.trace(Network((3, 8, 8, 8), name, "he_normal", 0.5), net=net, batch=6))
    curves = [trained(rules, name, TRAINED[scale]) for name in ("relu", "leaky_relu")]
    return pandas.concat([rules.table(), *curves], ignore_index=True)


def gradients(rules: Rules, name: str, seen: Any) -> None:
    """Check the gradients of units that are negative for all samples."""
    for s, dw, ds in zip(
        seen.preactivation[1:], seen.weight_gradient[1:], seen.preactivation_gradient[1:], strict=True
    ):
        off = np.all(s < 0, axis=0)
        moved = np.any(dw[:, off], axis=0) | (ds[:, off].sum(axis=0) != 0)
        fed = np.any(ds)  # of a net that has died above, nothing moves
        if name == "relu":
            rules.add("D05", name, "the gradient of its weights and bias is exactly 0", ~moved)
        elif fed:
            rules.add("D05", name, "leaky ReLU: the gradient of its weights and bias is not 0", moved)


STEPS, RATE, EVERY = 400, 0.05, 20
LAYERS = (1, 2)  # hidden ones
TOGETHER = 200  # nets, of which all steps are kept


def trained(rules: Rules, name: str, nets: int) -> DataFrame:
    """Train small nets by gradient descent, count which units that were dead at the start recover; return the shares.

    Layer 1 sees inputs that stay what they are, layer 2 what layer 1 makes of them.
    """
    import pandas

    x = np.random.default_rng(2).normal(size=(8, 2))
    y = np.sin(2 * x.sum(axis=1, keepdims=True))
    slope, counts = activation(name).evaluate("derivative", -1.0), np.zeros((len(LAYERS), STEPS // EVERY + 1, 2), int)
    for first in range(0, nets, TOGETHER):
        found = train(
            Network((2, 6, 6, 1), name, "he_normal", 0.5), nets=min(TOGETHER, nets - first), steps=STEPS,
            optimizer=f"sgd(learning_rate={RATE})", data=(x, y), batch=len(x), seed=first, record=range(STEPS + 1),
            quantities=("loss",), precision="float64", keep_weights=True,
        )  # fmt: skip
        z = x
        for place, layer in enumerate(LAYERS):
            w, b = found.weights(layer)[found.diverged_after < 0], found.biases(layer)[found.diverged_after < 0]
            s = z @ w + b[:, :, np.newaxis]
            z, off = np.where(s > 0, s, slope * s), np.all(s <= 0, axis=2)  # off: nets, steps, units
            dead = off[:, 0]
            if slope == 0.0:
                stays = np.all(w[:, -1] == w[:, 0], axis=1) & (b[:, -1] == b[:, 0])
                rule = "while it is dead its weights and bias stay, to the last bit"
                rules.add("D05", name, rule, stays[off.all(axis=1)])
            alive = ~off[:, -1][dead]
            if slope == 0.0 and layer == 1:
                rules.add("D05", name, "a unit of layer 1 that is dead never recovers", ~alive)
            elif slope == 0.0:
                rules.add("D05", name, "share of dead units of layer 2 that recover as layer 1 moves", alive)
            elif layer == 1:
                rules.add("D05", name, "share of such units of layer 1 that recover", alive)
            still = off[:, ::EVERY].swapaxes(1, 2)[dead]
            counts[place] += np.stack([still.sum(axis=0), np.full(still.shape[1], len(still))], axis=1)
    rows = [
        (name, layer, step * EVERY, *counts[place, step])
        for place, layer in enumerate(LAYERS)
        for step in range(counts.shape[1])
    ]
    curve = pandas.DataFrame(rows, columns=["part", "at", "step", "holds", "checks"])
    return with_shares(curve).assign(theory=math.nan)


# --- figures and verdicts -------------------------------------------------------------------------------


CAPTION = (
    "Units, samples and nets that ReLU shuts off, in nets with He's weights and no biases, unless told. (a) Share of "
    "activations that are 0, by width. (b) Share of nets with one input that are 0 for all inputs, between a lower "
    f"and an upper bound (hatched). (c) Share of units that are off for all of {SAMPLES} orthogonal samples. (d) The "
    "same for a whole set of digits, by activation; gray: where the interval of a share of 0 ends. (e) Share of units "
    "of the second layer, with normal weights and biases, that are off on all of the line, against units of the "
    "first: dashes are the exact law. (f) Share of dead units of small nets that are still dead after training; gray: "
    f"where the interval of a share of 1 ends. {figures.THEORY} {figures.LIMIT} {figures.BANDS_AND_BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw zeros and dead nets and units against depth, width, activation and inputs, and how long units stay dead."""
    import pandas

    table, measured = collected.table, collected.measured
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.4)
    rows = select(table, part="samples", quantity=ZERO).query("layer > 0")
    figures.against_depth(axes[0, 0], rows, by="setting", ylabel="share of $f(s_l)$ = 0")
    axes[0, 0].get_legend().set_loc((0.4, 0.22))
    parts = [rows, draw_born(axes[0, 1], select(table, part="born"))]
    rows = select(table, part="units").query("layer > 0")
    limit = [zeros.unit_dead_probability_at(layer, SAMPLES) for layer in rows["layer"]]
    rows = rows.assign(infinite_width=limit, theory=math.nan)  # exact in layer 1 only
    figures.against_depth(axes[0, 2], rows, by="setting", ylabel=f"share of units dead on {SAMPLES} samples")
    axes[0, 2].get_legend().set_loc((0.35, 0.54))
    parts.append(rows)
    rows = select(table, part="digits").query("layer > 0")
    if len(rows):
        label = "share of units dead on all digits"
        once = intervals_once(axes[1, 0], rows, 0.0)
        figures.against_depth(axes[1, 0], once, by="setting", label=figures.spelled, ylabel=label)
        axes[1, 0].set_ylim(top=1.15 * axes[1, 0].get_ylim()[1])  # room for the legend
        axes[1, 0].legend(handles=axes[1, 0].lines[:1], loc="upper left", borderaxespad=0.0, handlelength=1.2)
    parts += [rows, draw_all_inputs(axes[1, 1], select(table, part="all", layer=2))]
    curve = measured[measured["step"].notna() & ~((measured["part"] == "leaky_relu") & (measured["at"] == 2))]
    settings = [f"{figures.spelled(part)}, layer {at:.0f}" for part, at in zip(curve["part"], curve["at"], strict=True)]
    curve = curve.assign(setting=settings, layer=curve["step"])
    once = intervals_once(axes[1, 2], curve, 1.0)
    figures.against_depth(axes[1, 2], once, by="setting", xlabel="step of training", ylabel="share still dead")
    axes[1, 2].legend(handles=axes[1, 2].lines[:1], loc="lower left", borderaxespad=0.0, handlelength=1.2)
    low, high = axes[1, 2].get_ylim()
    axes[1, 2].set_ylim(bottom=low - 0.2 * (high - low))  # room for the legend
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([*parts, curve]), caption=CAPTION)


def intervals_once(axes: Axes, rows: DataFrame, share: float) -> DataFrame:
    """Draw the ends of the intervals of shares that are 0 or 1, the widest of each layer, as one thin line.

    They would hide each other and what is near. Returns the rows without these intervals.
    """
    column = "ci_low" if share else "ci_high"
    equal = rows["estimate"] == share
    ends = rows[equal].groupby("layer")[column].agg("min" if share else "max")
    axes.plot(ends.index, ends, color="#7d7d7d", linewidth=0.6, label=f"95% bound at {share:g}")
    return rows.assign(**{end: rows[end].mask(equal) for end in ("ci_low", "ci_high")})


def draw_born(axes: Axes, rows: DataFrame) -> DataFrame:
    """Draw nets that are dead for all inputs of the line, between their bounds; return them with these."""
    low, high = born_bounds(rows)
    rows = rows.assign(lower=low, upper=high)
    for _, each in rows.groupby("setting"):
        axes.fill_between(
            each["layer"], each["lower"], each["upper"], facecolor="#d9d9d9", hatch="||||", edgecolor="#7d7d7d",
            linewidth=0,
        )  # fmt: skip
    figures.against_depth(axes, rows, by="setting", ylabel="share of nets dead for all inputs")
    axes.legend(handles=axes.collections[:1], labels=["bounds"], loc="lower right")
    return rows


def born_bounds(rows: DataFrame) -> tuple[Floats, Floats]:
    """Return the bounds of rows of nets on the line."""
    widths = rows["setting"].str.removeprefix("width ").astype(int)
    bounds = [
        zeros.born_dead_bounds(width, layer) if layer else (0.0, 0.0)
        for width, layer in zip(widths, rows["layer"], strict=True)
    ]
    low, high = np.array(bounds).T
    return low, high


def draw_all_inputs(axes: Axes, rows: DataFrame) -> DataFrame:
    """Draw units of layer 2 that are dead on all of the line against the units before; return them with their law."""
    units = np.array([int(setting.removesuffix(" units")) for setting in rows["setting"]])
    law = [zeros.always_dead_probability(1, int(n)) if n <= 2 else math.nan for n in units]
    rows = rows.assign(theory=law)
    looks: Any = figures.line(0) | {"linestyle": "none"}
    errors = np.array([rows["estimate"] - rows["ci_low"], rows["ci_high"] - rows["estimate"]])
    axes.errorbar(units, rows["estimate"], errors, capsize=2, **looks)
    axes.plot(units, law, color="black", linestyle="none", marker="_", markersize=14, label="exact law\n(≤ 2 units)")
    axes.set(
        xlabel="units of layer 1",
        ylabel="share of units of layer 2\ndead on all of the line",
        ylim=(0, None),
        xlim=(0.3, 10.7),
    )
    axes.legend(loc="lower right", handlelength=2.2, handletextpad=0.4, borderaxespad=0.0)
    return rows


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates and counts."""
    yield _spreading(collected)
    yield _relu_zeros(collected)
    yield _never_recovers(collected)


def _spreading(collected: Collected) -> Verdict:
    """A16: a dead sample stays dead, so the share of these follows the law of independent layers."""
    table = collected.table
    samples = select(table, part="samples")
    z = largest_z(samples)
    row = pick(samples, setting="width 4", quantity=DEAD_SAMPLE, layer=DEPTH)
    digits = select(table, part="digits", layer=10)
    dead = dict(zip(digits["setting"], digits["estimate"], strict=True))
    others = all(share == 0 for name, share in dead.items() if name != "relu")
    found = ", ".join(f"{name} {share:.3f}" for name, share in dead.items())
    born = select(table, part="born").query("layer > 1")
    low, high = born_bounds(born)
    nearest = largest_z(born.assign(theory=np.clip(born["estimate"], low, high)))
    note = (
        f"share of samples dead at layer {DEPTH} of width 4. Zeros of f and ds and dead samples meet their laws "
        f"(|z| < {z:.1f}), dead nets on the line the bounds of Lu et al. 2019 (|z| < {nearest:.1f}). "
        f"Units at layer 10 dead on all digits: {found or 'not looked at'}"
    )
    return judge("A16", row, max(z, nearest) < LARGEST_Z and others, note, when="there are no biases")


def _relu_zeros(collected: Collected) -> Verdict:
    """A17: the share of zeros is 1 - (1 - 2^-n)^(l-1) / 2: half at once, and more only in narrow nets."""
    rows = select(collected.table, part="samples", quantity=ZERO)
    sixth = {width: pick(rows, setting=f"width {width}", layer=6) for width in NARROW}
    z = largest_z(rows)
    grows = all(
        pick(rows, setting=f"width {width}", layer=DEPTH).ci_low > pick(rows, setting=f"width {width}", layer=1).ci_high
        for width in NARROW[:3]
    )
    note = (
        "share of zeros at layer 6, by width: "
        + ", ".join(f"{width}: {row.estimate:.4f}" for width, row in sixth.items())
        + f". 1 - (1 - 2^-n)^(l-1) / 2, |z| < {z:.1f}: it grows by what dies, which is next to nothing in wide nets"
    )
    return judge("A17", sixth[2], z < LARGEST_Z and grows and sixth[4].ci_low > 0.5, note, when="the net is narrow")


def _never_recovers(collected: Collected) -> Verdict:
    """D05: f = f' = 0 leave no gradient; but the inputs of a unit above layer 1 may change."""
    counts = select(collected.measured, claim="D05")
    shares = counts["rule"].str.startswith("share")
    row = pooled(counts[~shares])
    above, leaky = (pick(counts[shares], part=name) for name in ("relu", "leaky_relu"))
    law = largest_z(select(collected.table, part="units").query("layer == 1"))
    holds = (
        bool((counts[~shares]["estimate"] == 1.0).all()) and above.ci_low > 0 and leaky.ci_low > 0 and law < LARGEST_Z
    )
    note = (
        f"holds in {row.holds} of {row.checks} checks. What is dead in layer 2 gets no gradient either, but its inputs "
        f"move: {above.holds} of {above.checks} such units recover in {STEPS} steps; of leaky units of layer 1 "
        f"{leaky.holds} of {leaky.checks}"
    )
    return judge("D05", row, holds, note, when="its inputs stay what they are, as those of layer 1 do")


study = Study(
    name="dying_relu",
    title="Dead units and samples of ReLU: how many there are, and for how long",
    cases=cases,
    draw=draw,
    claims=("A16", "A17", "D05"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
