"""Plateaus: how long each optimizer takes to cross one, whether saddles cost as much, and what helps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import classification
from stabsim.landscape import Landscape
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory import plateau
from stabsim.threads import count_threads
from stabsim.training import OPTIMIZERS, Optimizer, optimizer, passages
from stabsim.verdicts import (
    LARGEST_Z,
    Row,
    among,
    counted,
    exactly,
    judge,
    largest_z,
    mean_with_interval,
    median_with_interval,
    pick,
    select,
    tabulated,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Floats = NDArray[np.float64]


class Effort(NamedTuple):
    """How many of everything."""

    cases: int
    most_steps: int  # on a profile
    runs: int  # with noise
    nets: int  # that are trained
    steps: int
    gains: tuple[int, ...]


EFFORT = {
    "quick": Effort(100, 10**5, 20, 12, 300, (1, 4, 16, 64)),
    "paper": Effort(5000, 10**7, 400, 60, 5000, (1, 4, 8, 16, 32, 64)),
}
SPEED, OUTSIDE = 0.01, 100  # what each optimizer goes a step, after so many on a slope of 1
RATES = {"momentum": 0.001, "nesterov": 0.001, "adagrad": 0.1}  # with these; all others: SPEED
SLOPES = tuple(10.0**-power for power in range(9))
NOISY_SLOPES = (1.0, 0.1, 0.01, 0.001, 0.0)
NOISE = 1.0
FLAT = (1e-3, 1e-6)  # slopes at which a plateau is held against a saddle: both begin with them
BEYOND = 0.1  # slope of the plateau behind a cliff
NET_RATES = {  # with which nets of gain 1 take about the same number of steps
    "sgd": 3.0, "momentum": 0.3, "nesterov": 0.3, "adagrad": 0.08, "rmsprop": 0.015, "adam": 0.02, "adamw": 0.02,
}  # fmt: skip
NET_RATE = 0.02  # of an optimizer that is not named
LOW, LEARNED = 0.02, 0.95  # loss below which a plateau is crossed; accuracy from which a net has learned
CLASSES, INPUTS, SAMPLES, HIDDEN = 3, 8, 30, 8
LARGE = 16  # times the weights at which saturated nets are looked at
FAR = 3.0  # "cost more": by this factor at both slopes, and with noise by both ends of intervals
NORMALIZED = ("none", "batch")
SATURATED, GRADIENT = "derivative_saturated_fraction", "weight_gradient_log10_norm"
THROWN, BOUND = 300.0, 0.01  # a learning rate that throws nets onto plateaus, and the norm gradients are clipped to


def digits() -> tuple[Floats, Floats]:
    """Return the first digits 0, 1 and 2 as principal components of all of them."""
    inputs, targets = classification("digits", components=INPUTS, classes=range(CLASSES))
    return inputs[:SAMPLES], targets[:SAMPLES]


def cases(scale: str) -> Iterator[Case]:
    """Yield saturated nets without and with batch normalization."""
    inputs, _ = digits()
    for kind in NORMALIZED:
        for name in ("sigmoid", "tanh"):
            for gain in EFFORT[scale].gains:
                network = Network(
                    (INPUTS, *(HIDDEN,) * 3), name, f"lecun_normal(gain={gain})",
                    normalization=None if kind == "none" else kind,
                )  # fmt: skip
                task = make_task(network, batch=SAMPLES, inputs=inputs, quantities=(SATURATED, GRADIENT))
                yield Case(task, EFFORT[scale].cases, {"normalization": kind, "activation": name, "gain": gain})


def measure(scale: str) -> DataFrame:
    """Cross plateaus, leave saddles, and train saturated nets."""
    effort = EFFORT[scale]
    rows = [*crossings(effort), *noisy(effort), *saddles(effort), *trained(effort), *remedies(effort)]
    return tabulated([*rows, *thrown(effort), *cliffs(effort)])


# --- functions of one and two numbers -------------------------------------------------------------------


def made(name: str) -> Optimizer:
    """Return an optimizer that goes `SPEED` a step on a slope of 1."""
    return optimizer(f"{name}(learning_rate={RATES.get(name, SPEED)!r})")


def crossings(effort: Effort) -> Iterator[Row]:
    """Yield steps across a plateau of width 1, from rest and with a memory of the slope before it."""
    for name in OPTIMIZERS:
        chosen = made(name)
        way = passages("plateau(slope=1)", chosen, [[0.0]], [1e9], most_steps=OUTSIDE).ends[0, 0]
        for slope in (*SLOPES, 0.0):
            spec = f"plateau(slope={slope!r}, edge=0.001)"
            starts = [[0.0], [1e-9 - way]]
            steps = passages(spec, chosen, starts, [0.0, 1.0], most_steps=effort.most_steps).steps
            for part, (first, last), outside in zip(("rest", "memory"), steps, (0.0, 1.0), strict=True):
                theory = plateau.crossing_steps(
                    name, chosen.parameters, 1.0, slope, outside=outside, steps_outside=OUTSIDE * (outside > 0)
                )
                yield exactly(part, name, slope, "steps", last - first if last >= 0 else math.nan, theory)


def noisy(effort: Effort) -> Iterator[Row]:
    """Yield mean steps across it where gradients are noisy, and off a saddle; those of runs that do not arrive: all."""
    most = 10**5  # ten times the mean
    for name in OPTIMIZERS:
        chosen = made(name)
        normalized = name in ("rmsprop", "adam", "adamw")
        for slope in NOISY_SLOPES:
            size = math.hypot(slope, NOISE) if normalized else 1.0
            theory = math.nan if name in ("adagrad", "adamw") else plateau.noisy_crossing_steps(
                1.0, SPEED * slope / size, SPEED * NOISE / size
            )  # fmt: skip
            found = passages(
                f"plateau(slope={slope!r})", chosen, np.zeros((effort.runs, 1)), [1.0], most_steps=most, noise=NOISE
            ).steps[:, 0]
            yield among("noise", name, slope, "never", counted(found < 0))
            at_least = mean_with_interval(np.where(found < 0, most, found))
            yield among("noise", name, slope, "steps", at_least, math.nan if np.any(found < 0) else theory)
        found = passages("saddle", chosen, np.zeros((effort.runs, 2)), [1.0], most_steps=most, noise=NOISE).steps[:, 0]
        yield among("noisy saddle", name, 0.0, "steps", mean_with_interval(np.where(found < 0, most, found)))


def saddles(effort: Effort) -> Iterator[Row]:
    """Yield steps off x^2 - y^2 from where its slope along y is as small as that of a plateau."""
    for name in OPTIMIZERS:
        chosen = made(name)
        for slope in SLOPES:
            steps = passages("saddle", chosen, [[1.0, slope / 2]], [1.0], most_steps=effort.most_steps).steps[0, 0]
            theory = math.nan
            if name in ("sgd", "momentum"):
                rate, factor = (float(chosen.parameters.get(key, 0.0)) for key in ("learning_rate", "momentum"))
                theory = plateau.saddle_escape_steps(slope / 2, 1.0, 2.0, rate, factor)
            yield exactly("saddle", name, slope, "steps", steps if steps >= 0 else math.nan, theory)


def cliffs(effort: Effort) -> Iterator[Row]:
    """Yield steps into a bowl between a cliff, where it starts, and a plateau, with and without clipping."""
    for line, bound in (("free", math.inf), ("clipped", 1.0)):
        found = passages(
            f"cliff(steep=1000, slope={BEYOND!r})", "sgd(learning_rate=0.1)", [[-0.2]], [-0.1],
            most_steps=effort.most_steps, bound=bound,
        )  # fmt: skip
        steps = found.steps[0, 0]
        yield exactly("cliff", line, BEYOND, "steps", steps if steps >= 0 else math.nan)


# --- nets -----------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """Steps after which nets had a loss below `LOW` and an accuracy of `LEARNED`, inf for never; where they ended."""

    crossed: Floats
    learned: Floats
    loss: Floats


def train(
    surface: Landscape, points: Floats, spec: str | Optimizer, steps: int, bound: float = math.inf, every: int = 5
) -> Trained:
    """Train nets on all samples; gradients longer than the bound are scaled to it."""
    chosen, at = optimizer(spec), points.copy()
    state = chosen.start(at)
    crossed, learned = np.full((2, len(at)), np.inf)
    for step in range(steps + 1):
        loss, gradient = surface.loss_and_gradient(at)
        crossed[np.isinf(crossed) & (loss < LOW)] = step
        if step % every == 0:
            open_ones = np.flatnonzero(np.isinf(learned))
            if len(open_ones):
                done = surface.accuracy(at[open_ones]) >= LEARNED
                learned[open_ones[done]] = step
        if step < steps:
            length = np.linalg.norm(gradient, axis=1, keepdims=True)
            factor = np.minimum(1.0, bound / np.maximum(length, 1e-300)) if bound < math.inf else 1.0
            chosen.step(at, gradient * factor, state)
    return Trained(crossed, learned, loss)


def surface_of(loss: str = "mean_squared_error") -> Landscape:
    """Return the landscape of sigmoid nets on digits; under cross-entropy, the last sigmoid is part of the loss."""
    network = Network((INPUTS, HIDDEN, CLASSES), "sigmoid", "lecun_normal")
    last = "sigmoid" if loss == "mean_squared_error" else "linear"
    return Landscape(network, digits(), loss, last, threads=1)  # nets are small: what is trained runs side by side


def side_by_side(calls: Sequence[tuple[Any, ...]]) -> list[Trained]:
    """Return what `train` makes of each list of arguments."""
    with ThreadPoolExecutor(count_threads(None)) as pool:
        return list(pool.map(lambda call: train(*call), calls))


def trained(effort: Effort) -> Iterator[Row]:
    """Yield, for each optimizer and gain of the weights, steps, shares that never cross and losses at the end."""
    surface = surface_of()
    start = surface.draw(effort.nets, seed=1)
    points = np.concatenate([gain * start for gain in effort.gains])
    specs = [f"{name}(learning_rate={NET_RATES.get(name, NET_RATE)!r})" for name in OPTIMIZERS]
    calls = [(surface, points, spec, effort.steps, math.inf, effort.steps) for spec in specs]
    for name, found in zip(OPTIMIZERS, side_by_side(calls), strict=True):
        for place, gain in enumerate(effort.gains):
            nets = slice(place * effort.nets, (place + 1) * effort.nets)
            crossed, loss = found.crossed[nets], found.loss[nets]
            yield among("nets", name, gain, "never", counted(np.isinf(crossed)))
            yield among("nets", name, gain, "loss", median_with_interval(loss))
            for quantity, some in (("loss of crossed", ~np.isinf(crossed)), ("loss of stuck", np.isinf(crossed))):
                if some.sum() > 1:
                    yield among("nets", name, gain, quantity, mean_with_interval(loss[some]))
            if gain == LARGE:
                for step in np.unique(np.geomspace(1, effort.steps, 25).astype(int)).tolist():
                    yield among("open", name, float(step), "not crossed", counted(crossed > step))


def remedies(effort: Effort) -> Iterator[Row]:
    """Yield shares of nets that have not learned: by loss, by size of the weights, and where these are too large."""
    calls, lines = [], []
    for loss in ("mean_squared_error", "logistic"):
        surface = surface_of(loss)
        start = surface.draw(effort.nets, seed=2)
        for where, layers in (("all", surface.layers), ("last", surface.layers[-1:])):
            points = [start.copy() for _ in effort.gains]
            for gain, scaled in zip(effort.gains, points, strict=True):
                for layer in layers:
                    scaled[:, layer] *= gain
            spec = f"sgd(learning_rate={NET_RATES['sgd']!r})"
            calls.append((surface, np.concatenate(points), spec, effort.steps // 2))
            lines.append(f"{loss}, {where}")
    for line, found in zip(lines, side_by_side(calls), strict=True):
        for gain, learned in zip(effort.gains, np.split(found.learned, len(effort.gains)), strict=True):
            yield among("loss", line, gain, "not learned", counted(np.isinf(learned)))


def thrown(effort: Effort) -> Iterator[Row]:
    """Yield shares of nets that have not learned, with clipping and without: born on a plateau, or thrown onto one."""
    surface = surface_of()
    start = surface.draw(effort.nets, seed=3)
    settings = [
        (line, bound, gain, f"sgd(learning_rate={rate!r})")
        for line, gain, rate in (("born on a plateau", LARGE, NET_RATES["sgd"]), ("thrown onto one", 1, THROWN))
        for bound in (math.inf, BOUND)
    ]
    calls = [(surface, gain * start, spec, effort.steps // 2, bound) for _, bound, gain, spec in settings]
    for (line, bound, *_), found in zip(settings, side_by_side(calls), strict=True):
        yield among("clipping", line, float(bound < math.inf), "not learned", counted(np.isinf(found.learned)))


# --- figures --------------------------------------------------------------------------------------------


CAPTION = (
    "Steps that optimizers take across a plateau, against how flat it is; learning rates are such that all go equally "
    f"far a step after {OUTSIDE} steps on a slope of 1. (a) From rest. (b) After {OUTSIDE} steps on a slope of 1, "
    "which optimizers remember. (c) With noisy gradients. (d) Off a saddle that begins with the same slope. "
    f"{figures.THEORY} {figures.BANDS}"
)
SATURATED_NETS = f"sigmoid nets of {HIDDEN} hidden units that learn to tell {CLASSES} digits apart"
CAPTION_OF_NETS = (
    f"Optimizers on plateaus of saturated nets: {SATURATED_NETS}, their weights enlarged by a factor. (a) Share of "
    f"nets with a loss above {LOW:g} against steps, at a factor of {LARGE}. (b) That share at the end and (c) the "
    f"median loss at the end, against the factor. {figures.BANDS} Those of shares of 0 and 1 are left out."
)
CAPTION_OF_REMEDIES = (
    f"What helps against plateaus of saturated nets: {SATURATED_NETS}. (a) Share that has not learned with SGD, by "
    "loss (squared error or cross-entropy) and by the layers whose weights are enlarged. (b) The same of nets that "
    "start on a plateau and of nets that a large learning rate throws onto one, with clipped gradients and without. "
    "(c) Share of derivatives near 0 in the first layer of sigmoid and tanh nets and (d) norm of its weight gradient "
    "(geometric mean) before training, against the factor on the weights, with and without batch normalization. "
    f"{figures.BANDS_AND_BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw steps across plateaus, what becomes of saturated nets, and what helps."""
    measured = collected.measured
    yield draw_profiles(measured)
    yield draw_nets(measured)
    yield draw_remedies(measured, collected.table)


def against(axes: Axes, rows: DataFrame, xlabel: str, power: float = 1.0, **looks: Any) -> DataFrame:
    """Draw lines against the logarithm of x, to the base of ten or of 10^(1 / power); return the rows.

    Intervals of shares of 0 and 1 would hide each other, and are left out.
    """
    rows = rows[rows["x"] > 0]
    rows = rows.assign(layer=power * np.log10(rows["x"]), theory=rows["theory"].where(np.isfinite(rows["theory"])))
    inside = ~rows["estimate"].isin((0.0, 1.0))
    shown = rows.assign(ci_low=rows["ci_low"].where(inside), ci_high=rows["ci_high"].where(inside))
    figures.against_depth(axes, shown, xlabel=xlabel, **({"by": "line"} | looks))
    return rows


def of_optimizers(**looks: Any) -> dict[str, Any]:
    """Return looks of lines, one for each optimizer."""
    return {"order": list(OPTIMIZERS), "label": figures.spelled} | looks


def draw_profiles(measured: DataFrame) -> Drawing:
    """Draw steps against the slope, from rest, with a memory, with noise, and off a saddle."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=5.0)
    parts = {
        "rest": "from rest", "memory": f"after {OUTSIDE} steps on a slope of 1", "noise": "noisy gradients",
        "saddle": "a saddle instead",
    }  # fmt: skip
    rows = []
    for place, part in zip(axes.flat, parts, strict=True):
        found = select(measured, part=part, quantity="steps")
        ylabel = "steps off a saddle" if part == "saddle" else "steps across a plateau"
        looks = of_optimizers(scale="log", ylabel=ylabel)
        rows.append(against(place, found, "log10 of 1 / slope", -1.0, **looks))
        place.set_ylim(5, 2e5 if part in ("noise", "saddle") else 1e11)
        place.get_legend().set_loc("upper left")
    figures.panel_labels(axes.flat, list(parts.values()))
    return Drawing(figure, pandas.concat(rows), caption=CAPTION)


def draw_nets(measured: DataFrame) -> Drawing:
    """Draw how many saturated nets are still on their plateau, by step and by size of the weights, and their loss."""
    import pandas

    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=2.5)
    label = f"share with a loss above {LOW:g}"
    rows = [against(axes[0, 0], select(measured, part="open"), "log10 of steps", **of_optimizers(ylabel=label))]
    for place, quantity, looks in (
        (axes[0, 1], "never", of_optimizers(ylabel=f"{label}\nat the end")),
        (axes[0, 2], "loss", of_optimizers(ylabel="median loss at the end", scale="log")),
    ):
        found = select(measured, part="nets", quantity=quantity)
        rows.append(against(place, found, "log2 of the weights' factor", 1 / math.log10(2), **looks))
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(rows)
    return Drawing(figure, drawn, "nets", f"{CAPTION_OF_NETS} {figures.of_nets(drawn['nets'])}")


def draw_remedies(measured: DataFrame, table: DataFrame) -> Drawing:
    """Draw nets that have not learned, by loss and start and by clipping, and what batch normalization does."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.4)
    factor, power = "log2 of the weights' factor", 1 / math.log10(2)
    found = select(measured, part="loss")
    names = [LINES[line] for line in found["line"]]
    rows = [against(axes[0, 0], found.assign(line=names), factor, power, ylabel="share that has not learned, SGD")]
    clipped = select(measured, part="clipping")
    clipped = clipped.assign(gradient=["clipped" if x else "not clipped" for x in clipped["x"]])
    figures.dot_plot(axes[0, 1], clipped, rows="line", by="gradient", xlabel="share that has not learned, SGD")
    axes[0, 1].get_legend().set_loc("center left")
    rows.append(clipped)
    for place, quantity, looks in (
        (axes[1, 0], SATURATED, {"ylabel": "share of $|f'|$ < 0.01, layer 1"}),
        (axes[1, 1], GRADIENT, {"ylabel": "norm of dW, layer 1", "scale": "exponent"}),
    ):
        found = select(table, quantity=quantity, layer=1)
        lines = [
            f"{name}, batch norm" if kind == "batch" else name
            for name, kind in zip(found["activation"], found["normalization"], strict=True)
        ]
        found = found.assign(line=lines, x=found["gain"].astype(float), infinite_width=math.nan, theory=math.nan)
        rows.append(against(place, found, factor, power, **looks))
    figures.panel_labels(axes.flat)
    return Drawing(figure, pandas.concat(rows), "remedies", CAPTION_OF_REMEDIES)


LINES = {
    "mean_squared_error, all": "squares, all layers", "mean_squared_error, last": "squares, last layer",
    "logistic, all": "entropy, all layers", "logistic, last": "entropy, last layer",
}  # fmt: skip


# --- verdicts -------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold both claims against what was measured."""
    measured = collected.measured
    yield _crossing(measured)
    yield _what_helps(measured, collected.table)


def ratios(measured: DataFrame, part: str, slope: float) -> dict[str, float]:
    """Return steps across a plateau by those off a saddle; where the budget ended first, by the closed form."""
    both = select(measured, part=(part, "saddle"), x=slope, quantity="steps")
    across, off = (select(both, part=each).set_index("line") for each in (part, "saddle"))
    steps = across["estimate"].fillna(across["theory"])
    return {name: float(steps[name] / off["estimate"][name]) for name in OPTIMIZERS}


def noisy_ratios(measured: DataFrame) -> dict[str, float]:
    """Return how many times as long noise takes across a plateau without slope as off a saddle, at least."""
    both = select(measured, part=("noise", "noisy saddle"), x=0.0, quantity="steps")
    across, off = (select(both, part=part).set_index("line") for part in ("noise", "noisy saddle"))
    return {name: float(across["ci_low"][name] / off["ci_high"][name]) for name in OPTIMIZERS}


def listed(values: Mapping[str, Any], form: str = ".3g") -> str:
    """Write numbers of optimizers, those of one between slashes."""
    return ", ".join(
        f"{figures.spelled(name)} {' / '.join(format(value, form) for value in np.atleast_1d(each))}"
        for name, each in values.items()
    )


def at_both(measured: DataFrame, part: str) -> dict[str, tuple[float, ...]]:
    """Return the ratios of each optimizer at the slopes `FLAT`."""
    each = [ratios(measured, part, slope) for slope in FLAT]
    return {name: tuple(found[name] for found in each) for name in OPTIMIZERS}


def _crossing(measured: DataFrame) -> Verdict:
    """E09: steps across plateaus follow their closed forms, some never end, and cost more than saddles."""
    exact = select(measured, part=("rest", "memory"), quantity="steps")
    still = exact[exact["x"] == 0.0]["estimate"].isna()
    exact = exact[np.isfinite(exact["estimate"]) & (exact["theory"] > 50)]
    off = float((np.abs(exact["estimate"] / exact["theory"] - 1)).max())
    walks = select(measured, part="noise", quantity="steps")
    known = walks[(walks["x"] < 1.0) & np.isfinite(walks["theory"])]
    z, beside = largest_z(known), float(np.abs(known["estimate"] / known["theory"] - 1).max())
    rest, memory, noise = at_both(measured, "rest"), at_both(measured, "memory"), noisy_ratios(measured)
    dear = [figures.spelled(name) for name, ratio in rest.items() if min(ratio) > FAR]
    left = select(measured, part="noise", x=0.0, quantity="never")
    stays, ending = high_plateaus(measured)
    laws = off < 0.02 and z < LARGEST_Z and bool(still.all())
    holds = laws and stays and min(noise.values()) > FAR
    note = (
        f"mean steps of SGD across a plateau of width 1 and slope 0, with noise {NOISE:g} on gradients, at rates that "
        f"go {SPEED:g} a step on a slope of 1. {len(exact)} crossings without noise meet closed forms to {off:.1%}; "
        f"those with it the law of Brownian motion, which knows no momentum ({', '.join(_named(known))}: |z| < {z:.1f},"
        f" by {beside:.0%} at most); on a slope of 0 {int(still.sum())} of {len(still)} never end without noise; with "
        f"it, runs that do not within the steps they have: {listed(_shares(left[left['estimate'] > 0]), '.0%') or 0}. "
        f"Steps by those off a saddle that begins with slopes {FLAT[0]:g} / {FLAT[1]:g}: {listed(rest)}; coming "
        f"from a slope of 1: {listed(memory)}; with noise, slope 0, at least: {listed(noise)}; dear is what costs "
        f"{FAR:g} times as much. {ending}"
    )
    when = "gradients are noisy" + (f", or the optimizer is {', '.join(dear)}" if dear else "")
    row = pick(walks, line="sgd", x=0.0)
    return judge("E09", row, holds, note, when="" if len(dear) == len(rest) else when)


def _named(rows: DataFrame) -> list[str]:
    """Return the optimizers of rows, as texts spell them."""
    return [figures.spelled(name) for name in dict.fromkeys(rows["line"])]


def _shares(rows: DataFrame) -> dict[str, float]:
    """Return estimates by optimizer."""
    return dict(zip(rows["line"], rows["estimate"], strict=True))


def high_plateaus(measured: DataFrame) -> tuple[bool, str]:
    """Return whether nets stay on plateaus, at losses above all of nets that start beside them, and the numbers."""
    nets = select(measured, part="nets", x=float(LARGE))
    never = select(nets, quantity="never")
    stuck, crossed = (select(nets, quantity=f"loss of {which}")["estimate"] for which in ("stuck", "crossed"))
    good = select(measured, part="nets", x=1.0, quantity="loss")["ci_high"].max()
    stays = len(stuck) > 0 and bool(stuck.min() > good) and bool((never["ci_low"] > 0).any())
    ending = (
        f"Sigmoid nets (weights × {LARGE}) that never come below a loss of {LOW:g}: {listed(_shares(never), '.0%')}"
    )
    if len(stuck):
        ending += f"; they end at {stuck.min():.2g} to {stuck.max():.2g}, with weights × 1 below {good:.1g}"
    if len(crossed):
        ending += f", those that cross at {crossed.min():.1g} to {crossed.max():.1g}"
    return stays, ending


def less(without: Any, with_it: Any) -> bool:
    """Return whether the second share is below the first, beyond chance."""
    return bool(with_it.ci_high < without.ci_low)


def _what_helps(measured: DataFrame, table: DataFrame) -> Verdict:
    """E10: a loss, a start and clipping, held against nets without it; batch norm is only looked at.

    That fewer of its units are saturated at the start is by construction, and no net is trained with it.
    """

    def not_learned(loss: str, gain: float) -> Any:
        return pick(measured, part="loss", line=f"{loss}, all", x=gain)

    def layer(quantity: str) -> list[Any]:
        given = {"activation": "sigmoid", "gain": LARGE, "layer": 1}
        return [pick(table, quantity=quantity, normalization=kind, **given) for kind in NORMALIZED]

    squares, entropy = not_learned("mean_squared_error", LARGE), not_learned("logistic", LARGE)
    small, hard = not_learned("mean_squared_error", 1), not_learned("logistic", max(table["gain"]))
    born, thrown = (
        [pick(measured, part="clipping", line=line, x=x) for x in (0.0, 1.0)]
        for line in ("born on a plateau", "thrown onto one")
    )
    free, clipped = (pick(measured, part="cliff", line=line).estimate for line in ("free", "clipped"))
    saturated, gradients = layer(SATURATED), layer(GRADIENT)
    helps = {"the loss": less(squares, entropy), "the start": less(squares, small), "clipping": less(*thrown)}
    note = (
        f"share of sigmoid nets, weights × {LARGE}, squared error, SGD, that have not learned. Cross-entropy: "
        f"{entropy.estimate:.2f} (weights × {max(table['gain'])}: {hard.estimate:.2f}, hidden units being saturated "
        f"too); weights × 1: {small.estimate:.2f}. Gradients clipped to {BOUND:g}: {born[1].estimate:.2f} instead of "
        f"{born[0].estimate:.2f} of nets born on a plateau, {thrown[1].estimate:.2f} instead of "
        f"{thrown[0].estimate:.2f} of those that a learning rate of {THROWN:g} throws onto one; off a cliff "
        f"{clipped:.0f} steps instead of {free:.0f}. Helps: "
        + ", ".join(f"{name} {'yes' if yes else 'no'}" for name, yes in helps.items())
        + f". Batch norm is not judged: no net is trained with it, and at the start, where it leaves "
        f"{saturated[1].estimate:.2f} of layer 1 saturated instead of {saturated[0].estimate:.2f} (norm of its dW "
        f"10^{gradients[1].estimate:.2f} instead of 10^{gradients[0].estimate:.2f}), it does so by construction"
    )
    when = "" if less(*born) else "clipping is there before the plateau: nets that are on one it does not free"
    return judge("E10", squares, all(helps.values()), note, when=when)


study = Study(
    name="plateau",
    title="Plateaus: steps to cross them by optimizer, and what helps",
    cases=cases,
    draw=draw,
    claims=("E09", "E10"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
