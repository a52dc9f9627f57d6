"""Optimizers on bowls: who zigzags, who is faster, and what becomes of learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.quadratic import optimal_gradient_descent
from stabsim.threads import count_threads
from stabsim.training import optimizer
from stabsim.verdicts import (
    Row,
    among,
    counted,
    exactly,
    judge,
    mean_with_interval,
    median_with_interval,
    pick,
    select,
    tabulated,
)

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = NDArray[np.float64]


class Effort(NamedTuple):
    """How many of everything."""

    starts: int  # at the notes' learning rates
    scanned: int  # starts for each learning rate that is tried
    rates: int  # a factor of ten
    long: int  # steps, of learning rates


EFFORT = {"quick": Effort(400, 20, 6, 6000), "paper": Effort(10_000, 200, 24, 10**5)}
START, CURVATURES = np.array([-7.0, 2.0]), np.array([0.1, 2.0])  # the notes': x^2/20 + y^2
RADIUS, NOTES = float(np.hypot(*START)), float(CURVATURES[1] / CURVATURES[0])  # the condition number, 20
SPECS = {  # the book's presets, and rates of ours for those that it does not run on the bowl
    "sgd": "bowl_sgd",
    "momentum": "bowl_momentum",
    "nesterov": "nesterov(learning_rate=0.1)",
    "adagrad": "bowl_adagrad",
    "rmsprop": "rmsprop(learning_rate=0.3)",
    "adam": "bowl_adam",
    "adamw": "adamw(learning_rate=0.3)",
}
CLAIMED = ("momentum", "adagrad", "rmsprop", "adam")  # those of which C01 speaks
SHOWN, LATER = 30, 1000  # steps of the book, and steps by which points are to be near
NEAR = 0.01  # by the distance at the start
MOST = 0.9  # "zigzags less": from so many of the starts
CONDITIONS = (1, 2, 5, 20, 100)
SCAN_STEPS, SCANNED = 400, (1e-3, 2.0)  # and learning rates, at a larger curvature of 1 and a radius of 1
FREE = tuple(name for name in SPECS if name != "adamw")  # whose decay draws to the minimum, which is at 0
NOISE, MARKS = 1.0, 25
FLAT = 0.05  # slopes of log10 learning rate by log10 steps between which it stays: a tenth of AdaGrad's -1/2
SLOW = 0.1  # a rate of AdaGrad so small that its steps nearly make a flow


def cases(scale: str) -> Iterator[Case]:
    """Yield linear nets of one layer, whose loss is a bowl: how large the gradients of single samples are."""
    task = make_task(Network((2, 1), "linear", "lecun_normal"), quantities=("weight_gradient_mean_square",))
    yield Case(task, EFFORT[scale].starts, {"net": "one linear layer"})


def measure(scale: str) -> DataFrame:
    """Return paths, zigzag, steps by learning rate, and effective rates."""
    effort = EFFORT[scale]
    return tabulated([*paths(), *zigzags(effort), *gains(), *scans(effort), *effective_rates(effort)])


# --- bowls ----------------------------------------------------------------------------------------------


class Bowls(NamedTuple):
    """Points (n, 2), each on a bowl of its own, with curvatures along two axes that are turned."""

    starts: Floats
    steep: Floats  # (n, 2): the axis of the larger curvature, the second one
    diagonal: Floats  # (n, 2), of the matrix of second derivatives
    beside: Floats  # (n, 1)

    def gradient(self, points: Floats) -> Floats:
        """Return gradients at points (n, 2)."""
        return self.diagonal * points + self.beside * points[:, ::-1]


def bowls(starts: Floats, curvatures: Floats, angles: Floats) -> Bowls:
    """Return bowls that are turned by angles (n,)."""
    c, s = np.cos(angles), np.sin(angles)
    low, high = curvatures
    diagonal = np.stack([low * c**2 + high * s**2, low * s**2 + high * c**2], -1)
    return Bowls(starts, np.stack([-s, c], -1), diagonal, ((low - high) * s * c)[:, None])


def random_bowls(key: int, count: int, curvatures: Floats, turned: bool, radius: float = RADIUS) -> Bowls:
    """Return bowls with starts on a circle, all directions alike, aligned with the coordinates or turned at random."""
    start, turn = np.random.Generator(np.random.Philox(key)).uniform(0.0, 2.0 * np.pi, (2, count))
    return bowls(radius * np.stack([np.cos(start), np.sin(start)], -1), curvatures, turn * turned)


class Zigzag(NamedTuple):
    """Of each path: length by distance, turns back along the steep axis, distances by that at the start."""

    length: Floats
    flips: Floats
    distance: Floats  # (steps + 1, n)

    def reached(self) -> Floats:
        """Return after how many steps each path is near the minimum for good; inf for never."""
        away = self.distance > NEAR
        last = len(away) - np.argmax(away[::-1], axis=0)
        return np.where(away[-1], np.inf, last.astype(float))


def zigzag(spec: str, made: Bowls, steps: int) -> Zigzag:
    """Return how paths zigzag in the steps that are shown, and how near they come in all."""
    path = optimizer(spec).path(made.starts, made.gradient, steps)
    shown = np.diff(path[: SHOWN + 1], axis=0)
    steep = np.einsum("tnj,nj->tn", shown, made.steep)
    gone = np.linalg.norm(path[SHOWN] - path[0], axis=1)
    return Zigzag(
        np.linalg.norm(shown, axis=2).sum(axis=0) / gone,
        np.sum(steep[1:] * steep[:-1] < 0.0, axis=0).astype(float),
        np.linalg.norm(path, axis=2) / np.linalg.norm(path[0], axis=1),
    )


def paths() -> Iterator[Row]:
    """Yield the notes' own paths, and that of SGD where both curvatures are the larger one."""
    for part, curvatures in (("path", CURVATURES), ("round path", CURVATURES[[1, 1]])):
        made = bowls(START[None], curvatures, np.zeros(1))
        for name, spec in SPECS.items():
            path = optimizer(spec).path(made.starts, made.gradient, SHOWN)[:, 0]
            for axis, values in zip("xy", path.T, strict=True):
                yield from (exactly(part, name, float(t), axis, value) for t, value in enumerate(values))
            found = zigzag(spec, made, LATER)
            yield exactly(part, name, SHOWN, "length", found.length[0])
            yield exactly(part, name, SHOWN, "flips", found.flips[0])
            yield exactly(part, name, LATER, "reached", found.reached()[0])


def zigzags(effort: Effort) -> Iterator[Row]:
    """Yield zigzag at the notes' learning rates from random starts on their bowl, turned and not, and a round one."""
    kinds = {"aligned": (CURVATURES, False), "turned": (CURVATURES, True), "round": (CURVATURES[[1, 1]], False)}
    for key, (part, (curvatures, turned)) in enumerate(kinds.items()):
        made = random_bowls(key, effort.starts, curvatures, turned)
        sgd = zigzag(SPECS["sgd"], made, LATER)
        for name, spec in SPECS.items():
            found = zigzag(spec, made, LATER)
            yield among(part, name, SHOWN, "length", median_with_interval(found.length))
            yield among(part, name, SHOWN, "flips", median_with_interval(found.flips))
            yield among(part, name, LATER, "reached", median_with_interval(found.reached()))
            yield among(part, name, LATER, "near", counted(found.distance[-1] <= NEAR))
            cycle = half_steps(spec) if name == "rmsprop" else 0.0
            yield among(part, name, LATER, "distance", median_with_interval(found.distance[-1]), cycle)
            if name != "sgd":
                yield among(part, name, SHOWN, "less", counted(found.length < sgd.length))


def half_steps(spec: str) -> float:
    """Return how far from the minimum it is, by the radius, where both numbers go back and forth by the rate."""
    return float(optimizer(spec).parameters["learning_rate"]) / math.sqrt(2.0) / RADIUS


def gains() -> Iterator[Row]:
    """Yield by how much momentum multiplies steps of gradients that alternate and of steady ones, in the long run."""
    chosen = optimizer(SPECS["momentum"])
    rate, momentum = (float(chosen.parameters[key]) for key in ("learning_rate", "momentum"))
    for line, sign in (("steady", 1.0), ("alternating", -1.0)):
        points, state = np.zeros(1), chosen.start(np.zeros(1))
        for step in range(LATER):
            chosen.step(points, np.array([sign**step]), state)
        gain = abs(float(state.memories[0][0])) / rate
        yield exactly("gain", line, momentum, "velocity", gain, 1.0 / (1.0 - sign * momentum))


# --- the best learning rate of each ---------------------------------------------------------------------


def scans(effort: Effort) -> Iterator[Row]:
    """Yield, for every condition number, steps and zigzag of each optimizer at its own best learning rate."""
    count, kinds = effort.scanned, [(condition, turned) for condition in CONDITIONS for turned in (False, True)]
    parts = [
        random_bowls(100 + key, count, np.array([1.0 / condition, 1.0]), turned, 1.0)
        for key, (condition, turned) in enumerate(kinds)
    ]
    made = Bowls(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    powers = np.arange(round(effort.rates * math.log10(SCANNED[0])), effort.rates * math.log10(SCANNED[1]) + 1e-9)
    optima = [optimal_gradient_descent(1.0 / condition, 1.0).rate for condition in CONDITIONS]
    rates = np.sort([*10.0 ** (powers / effort.rates), *optima[1:]])  # 1 is among them
    calls = [(f"{name}(learning_rate={float(rate)!r})", made, SCAN_STEPS) for name in FREE for rate in rates]
    with ThreadPoolExecutor(count_threads(None)) as pool:
        found = list(pool.map(lambda call: summary(*call), calls))
    steps, length, flips = np.moveaxis(np.array(found).reshape(len(FREE), len(rates), 3, len(kinds), count), 2, 0)
    limited = np.minimum(steps, SCAN_STEPS)
    best = np.argmin(np.median(limited, axis=3) + 1e-3 * np.mean(limited, axis=3), axis=1)  # the means where equal
    for place, (condition, turned) in enumerate(kinds):
        part = "best, turned" if turned else "best"
        for at, name in enumerate(FREE):
            chosen = at, best[at, place], place
            yield exactly(part, name, condition, "rate", rates[chosen[1]])
            yield among(part, name, condition, "reached", median_with_interval(steps[chosen]))
            yield among(part, name, condition, "length", median_with_interval(length[chosen]))
            yield among(part, name, condition, "flips", median_with_interval(flips[chosen]))
            speedup = limited[0, best[0, place], place] / limited[chosen]
            yield among(part, name, condition, "speedup", median_with_interval(speedup))


def summary(spec: str, made: Bowls, steps: int) -> Floats:
    """Return steps until near, length by distance and turns back of each path (3, n); inf and NaN where it diverges."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = zigzag(spec, made, steps)
        there = np.isfinite(found.distance[-1])
        return np.stack([np.where(there, found.reached(), np.inf), found.length, found.flips])


# --- effective learning rates ---------------------------------------------------------------------------


def effective_rates(effort: Effort) -> Iterator[Row]:
    """Yield learning rates by the root of what is summed, of AdaGrad and RMSProp: where gradients vanish and do not."""
    made = random_bowls(50, effort.starts // 10, CURVATURES, turned=False)
    noise = np.random.Generator(np.random.Philox(51))
    gradients: dict[str, Callable[[Floats], Floats]] = {
        "bowl": made.gradient,
        "noisy bowl": lambda x: made.gradient(x) + NOISE * noise.standard_normal(x.shape),
        "slope": np.ones_like,
    }
    specs = {"adagrad": SPECS["adagrad"], "rmsprop": SPECS["rmsprop"]}
    for part, gradient in gradients.items():
        starts = np.zeros_like(made.starts) if part == "noisy bowl" else made.starts  # what noise does, alone
        for name, spec in specs.items():
            yield from followed(part, name, spec, starts, gradient, effort.long)
    slow = f"adagrad(learning_rate={SLOW}, epsilon=1e-7)"
    *_, (_, last, _) = watched(slow, made.starts, made.gradient, effort.long)
    law = 4.0 * SLOW**2 / (CURVATURES * made.starts**2)
    far = np.abs(made.starts) > 0.5 * RADIUS
    yield among("limit", "adagrad", SLOW, "ratio", median_with_interval((last / law)[far]), 1.0)


def watched(
    spec: str, starts: Floats, gradient: Callable[[Floats], Floats], steps: int
) -> Iterator[tuple[int, Floats, float]]:
    """Yield, at some steps, the effective rates and the share of numbers whose rate has risen in a step so far."""
    chosen, points = optimizer(spec), starts.copy()
    state = chosen.start(points)
    rate, epsilon = (float(chosen.parameters[key]) for key in ("learning_rate", "epsilon"))
    marks = set(np.unique(np.geomspace(1, steps, MARKS).round().astype(int)).tolist()) | {steps // 10, steps}
    before, risen = np.full_like(points, np.inf), 0
    for step in range(1, steps + 1):
        chosen.step(points, gradient(points), state)
        now = rate / (np.sqrt(state.memories[0]) + epsilon)
        risen += int(np.sum(now > before))
        before = now
        if step in marks:
            yield step, now, risen / (step * now.size)


def followed(
    part: str, name: str, spec: str, starts: Floats, gradient: Callable[[Floats], Floats], steps: int
) -> Iterator[Row]:
    """Yield means of effective rates, how often they rose, and the slope of the last factor of ten of steps."""
    seen = list(watched(spec, starts, gradient, steps))
    for step, now, _ in seen:
        yield among(part, name, float(step), "rate", median_with_interval(now[:, 1]))
    (before,) = (now for step, now, _ in seen if step == steps // 10)
    _, last, risen = seen[-1]
    yield exactly(part, name, float(steps), "risen", risen)
    slope = np.log10(last / before)[:, 1]
    yield among(part, name, float(steps), "slope", mean_with_interval(slope), -0.5 if name == "adagrad" else math.nan)


# --- figures --------------------------------------------------------------------------------------------


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw paths, and zigzag with speed and learning rates."""
    yield draw_paths(collected.measured)
    yield draw_comparison(collected.measured)


CAPTION = (
    f"Paths of {SHOWN} steps on the bowl x²/{2 / CURVATURES[0]:g} + y² from ({START[0]:g}, {START[1]:g}), with "
    "learning rates as in the notes or close to them: (a) SGD, (b) momentum, (c) Nesterov, (d) AdaGrad, (e) RMSProp, "
    "(f) Adam, (g) AdamW; and (h) SGD on a round bowl, where it overshoots without leaving its line. Gray: lines of "
    "equal loss; cross: the minimum."
)
CAPTION_OF_COMPARISON = (
    f"Optimizers on random bowls. (a) Length of the path over the distance gone in {SHOWN} steps, on bowls whose axes "
    "are those of the coordinates, on turned ones and on round ones. (b) Steps of SGD over steps of another optimizer "
    f"to come within {NEAR:g} of the distance at the start, each at its best learning rate, against the condition "
    "number; above 1 (line) it is faster than SGD. (c) The same on turned bowls. (d) Effective learning rates of "
    f"AdaGrad and RMSProp over steps, on a bowl, with noise, and on a slope. {figures.BANDS_AND_BARS}"
)


def draw_paths(measured: DataFrame) -> Drawing:
    """Draw the notes' paths on lines of equal loss, and SGD's on the round bowl."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=4, width=figures.PAGE, height=3.7)
    x, y = np.meshgrid(np.linspace(-8.0, 8.0, 321), np.linspace(-8.0, 8.0, 321))
    titles, rows = [], []
    for place, (panel, name) in enumerate(zip(axes.flat, (*SPECS, "sgd"), strict=True)):
        part, curvatures = ("path", CURVATURES) if place < len(SPECS) else ("round path", CURVATURES[[1, 1]])
        loss = 0.5 * (curvatures[0] * x**2 + curvatures[1] * y**2)
        panel.contour(x, y, loss, levels=LEVELS[part], colors=CONTOUR, linewidths=0.5)
        found = select(measured, part=part, line=name, quantity=("x", "y"))
        ways = [select(found, quantity=axis)["estimate"].to_numpy() for axis in "xy"]
        looks = figures.line(place % len(SPECS)) | {"markersize": 2.0, "linewidth": 0.8}
        panel.plot(*ways, **looks)
        panel.plot(0.0, 0.0, marker="+", color="black", markersize=6, linestyle="none", zorder=4)
        panel.set_box_aspect(1.0)
        panel.set(xlim=(-8.0, 4.0), ylim=(-3.0, 3.0))
        titles.append(figures.spelled(name) + (", round bowl" if part != "path" else ""))
        rows.append(found)
    axes[1, 3].set(xlim=(-8.0, 8.0), ylim=(-8.0, 8.0))
    for panel in axes[1]:
        panel.set_xlabel("x")
    for panel in axes[:, 0]:
        panel.set_ylabel("y")
    figures.panel_labels(axes.flat, titles)
    return Drawing(figure, pandas.concat(rows), caption=CAPTION)


def draw_comparison(measured: DataFrame) -> Drawing:
    """Draw lengths of paths, speed at the best learning rates, and how effective learning rates go on."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.8)
    lengths = select(measured, part=("aligned", "turned", "round"), quantity="length")
    xlabel = f"path / distance, {SHOWN} steps"
    figures.dot_plot(axes[0, 0], lengths.assign(theory=math.nan), rows="line", by="part", xlabel=xlabel)
    axes[0, 0].set_xscale("log")
    rows = [lengths]
    for panel, part in ((axes[0, 1], "best"), (axes[1, 0], "best, turned")):
        found = select(measured, part=part, quantity="speedup", line=FREE[1:])
        found = found.assign(layer=np.log10(found["x"]), theory=math.nan)
        figures.against_depth(
            panel, found, by="line", order=list(SPECS), label=figures.spelled, scale="log",
            ylabel="steps of SGD by steps", xlabel="log10 of the condition number",
        )  # fmt: skip
        panel.axhline(1.0, color=CONTOUR, linewidth=0.8, zorder=0)
        rows.append(found)
    effective = select(measured, part=tuple(RATE_PARTS), quantity="rate")
    lines = [f"{figures.spelled(line)}, {RATE_PARTS[part]}" for part, line in effective[["part", "line"]].to_numpy()]
    effective = effective.assign(layer=np.log10(effective["x"]), line=lines, theory=math.nan)
    order = [f"{figures.spelled(name)}, {word}" for word in RATE_PARTS.values() for name in FREE]  # colors as above
    figures.against_depth(
        axes[1, 1], effective, by="line", order=order, scale="log", xlabel="log10 of steps",
        ylabel="effective learning rate of y",
    )  # fmt: skip
    titles = ("zigzag at the notes' rates", "speed at best rates", "speed at best rates, turned", "AdaGrad and RMSProp")
    figures.panel_labels(axes.flat, titles)
    return Drawing(figure, pandas.concat([*rows, effective]), "comparison", CAPTION_OF_COMPARISON)


LEVELS = {"path": (0.1, 0.5, 1.5, 3.0, 5.5), "round path": (1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0)}
RATE_PARTS = {"bowl": "bowl", "noisy bowl": "noise", "slope": "slope"}
CONTOUR = "#b0b0b0"


# --- verdicts -------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the three claims against what was measured."""
    measured = collected.measured
    yield _zigzags(measured)
    yield _round(measured)
    yield _rates(measured)


def listed(rows: DataFrame, form: str = ".3g") -> str:
    """Write estimates of optimizers."""
    pairs = zip(rows["line"], rows["estimate"], strict=True)
    return ", ".join(f"{figures.spelled(line)} {format(value, form)}" for line, value in pairs)


def spelled(names: list[str], between: str = ", ") -> str:
    """Write names of optimizers."""
    return between.join(figures.spelled(name) for name in names)


def _zigzags(measured: DataFrame) -> Verdict:
    """C01: SGD turns back nearly each step; the others' paths are shorter, and come near for good."""
    aligned, turned = (select(measured, part=part) for part in ("aligned", "turned"))
    flips = pick(aligned, line="sgd", quantity="flips")
    less = {
        part: select(rows, quantity="less", line=CLAIMED) for part, rows in (("aligned", aligned), ("turned", turned))
    }
    near = select(aligned, quantity="near", line=CLAIMED)
    there = near[near["ci_low"] > MOST]["line"].tolist()
    steady, alternating = (pick(measured, part="gain", line=line) for line in ("steady", "alternating"))
    shorter = bool((less["aligned"]["ci_low"] > MOST).all())
    holds = flips.ci_low > MOST * (SHOWN - 2) and shorter and 2 * len(there) > len(near)
    holds = holds and alternating.estimate < 1.0 < steady.estimate
    row = pick(aligned, line="momentum", quantity="length")
    sgd = pick(aligned, line="sgd", quantity="length")
    own = select(measured, part="path")
    product = float(optimizer(SPECS["sgd"]).parameters["learning_rate"]) * CURVATURES[1]
    cycle = pick(aligned, line="rmsprop", quantity="distance")
    note = (
        f"length of Momentum's path by the distance it covers in {SHOWN} steps, median of {row.nets:.0f} starts at the "
        f"notes' distance in all directions (SGD {sgd.estimate:.3g}, with {flips.estimate:.0f} turns back along y in "
        f"{SHOWN - 1}; its rate times curvature is {product:.2g}, and it turns back above 1). All: "
        f"{listed(select(aligned, quantity='length'))}; from (-7, 2): {listed(select(own, quantity='length'))}, turns "
        f"{listed(select(own, quantity='flips'), '.0f')}. Shorter than SGD's from the same start in "
        f"{listed(less['aligned'], '.1%')}; with turned axes {listed(less['turned'], '.1%')}. Less zigzag is not "
        f"faster: within {NEAR:.0%} for good after {listed(select(aligned, quantity='reached'), '.0f')} steps. "
        f"RMSProp stays {cycle.estimate:.3g} of the start away ({cycle.theory:.3g}: half its rate in x and y, back and "
        f"forth). Momentum multiplies steady gradients by {steady.estimate:.3g} (theory {steady.theory:.3g}), "
        f"and alternating ones by {alternating.estimate:.3g} "
        f"({alternating.theory:.3g}): they are halved, not cancelled"
    )
    when = "" if len(there) == len(near) else f"the optimizer is {spelled(there, ' or ')}; {_away(aligned, there)}"
    return judge("C01", row, holds, note, when=when)


def _away(aligned: DataFrame, there: list[str]) -> str:
    """Say how far from (0, 0) the others stay at our rates."""
    told = []
    for name in [name for name in CLAIMED if name not in there]:
        rate, stays = optimizer(SPECS[name]).parameters["learning_rate"], pick(aligned, line=name, quantity="distance")
        told.append(f"{figures.spelled(name)} at our rate of {rate:g} stays {stays.estimate:.2g} of the start away")
    return ", ".join(told)


def _round(measured: DataFrame) -> Verdict:
    """C02: on a round bowl, at its best rate, SGD goes straight and none is faster; at the notes' it does not."""
    best = select(measured, part="best", quantity=("length", "flips", "speedup", "reached", "rate"))
    at_one, at_notes = select(best, x=1.0), select(best, x=NOTES)
    row, flips = (pick(at_one, line="sgd", quantity=quantity) for quantity in ("length", "flips"))
    others = tuple(name for name in FREE if name != "sgd")
    speed, before = (select(rows, quantity="speedup", line=others) for rows in (at_one, at_notes))
    turned = select(measured, part="best, turned", x=NOTES, quantity="speedup", line=others)
    steep = select(best, x=float(CONDITIONS[-1]), quantity="speedup", line=others)
    straight = abs(row.estimate - 1.0) < 0.01 and row.ci_high < 1.01 and flips.ci_high == 0.0
    slower = bool((speed["ci_high"] <= 1.0).all())
    was_there = bool((before["ci_low"] > 1.0).any()) and pick(at_notes, line="sgd", quantity="length").ci_low > 1.5
    notes, length = (pick(measured, part="round", line="sgd", quantity=quantity) for quantity in ("flips", "length"))
    back = notes.ci_low > MOST * (SHOWN - 2)
    momentum = float(optimizer(SPECS["momentum"]).parameters["momentum"])
    note = (
        f"length of SGD's path by the distance it covers, on a round bowl at its best rate, which is "
        f"{pick(at_one, line='sgd', quantity='rate').estimate:.3g} / curvature: it is there in one step. Steps of SGD "
        f"by those of others to come within {NEAR:.0%} for good, each at its own best rate: {listed(speed)}; on bowls "
        f"of condition {NOTES:g} {listed(before)} (turned: {listed(turned)}), of condition {CONDITIONS[-1]} "
        f"{listed(steep)}. So on the notes' bowl {faster(before)} faster than SGD at its best, with turned axes "
        f"{faster(turned)}; a momentum of {momentum:g} pays only above a condition of about {gain_from(momentum):.0f}. "
        f"At the notes' rate SGD goes back and forth on a round bowl too: {notes.estimate:.0f} turns of {SHOWN - 1}, "
        f"path {length.estimate:.3g} times the distance, along a straight line through the minimum, the others "
        f"{listed(select(measured, part='round', quantity='length', line=others))}"
    )
    when = "each learning rate is its own best" if back else ""
    return judge("C02", row, straight and slower and was_there, note, when=when)


def faster(rows: DataFrame) -> str:
    """Say which optimizers are faster than SGD beyond chance."""
    names = rows[rows["ci_low"] > 1.0]["line"].tolist()
    return f"{spelled(names) or 'none'} {'are' if len(names) > 1 else 'is'}"


def gain_from(momentum: float) -> float:
    """Return the condition number at which SGD's best factor a step, (k - 1) / (k + 1), is the root of the momentum."""
    root = math.sqrt(momentum)
    return (1.0 + root) / (1.0 - root)


def _rates(measured: DataFrame) -> Verdict:
    """C03: AdaGrad's rates never rise, and go to 0 where gradients do not vanish; RMSProp's stay."""
    slopes = {
        (part, name): pick(measured, part=part, line=name, quantity="slope")
        for part in RATE_PARTS
        for name in ("adagrad", "rmsprop")
    }
    risen = {part: pick(measured, part=part, line="adagrad", quantity="risen").estimate for part in RATE_PARTS}
    again = pick(measured, part="noisy bowl", line="rmsprop", quantity="risen").estimate
    row, bowl = slopes["noisy bowl", "adagrad"], slopes["bowl", "adagrad"]
    falls = all(each == 0.0 for each in risen.values())
    to_zero = row.ci_high < -0.4 and slopes["slope", "adagrad"].ci_high < -0.4
    alive = all(stays(slopes[part, "rmsprop"]) for part in RATE_PARTS)
    ends = stays(bowl)
    limit, edge = pick(measured, part="limit", quantity="ratio"), 2.0 / CURVATURES[1]
    last = {name: pick(measured, part="bowl", line=name, quantity="rate", x=row.x) for name in ("adagrad", "rmsprop")}
    note = (
        f"slope of log10 of AdaGrad's effective rate, rate / (sqrt(h) + epsilon), by log10 of steps in the last decade "
        f"of {row.x:.0f}, with normal noise on gradients; on a constant slope "
        f"{slopes['slope', 'adagrad'].estimate:.3f}: -1/2 where the squares grow as steps do. It rose in "
        f"{sum(risen.values()):.0%} of steps. On the bowl itself gradients "
        f"vanish, their squares have a finite sum, and it ends at {last['adagrad'].estimate:.3g} in y (slope "
        f"{bowl.estimate:.1g}): not at 0; for small rates at 4 rate^2 / (curvature start^2), measured "
        f"{limit.estimate:.3g} of that at a rate of {limit.x:g}. RMSProp's goes on: slope "
        f"{slopes['noisy bowl', 'rmsprop'].estimate:.3f} with noise, where it rose in {again:.0%} of steps; on the "
        f"bowl it ends at {last['rmsprop'].estimate:.3g} in y; 2 / curvature, the edge of stability, is {edge:g}"
    )
    when = "the squares of gradients have no finite sum, as with noise; else it ends above 0" if ends else ""
    return judge("C03", row, falls and to_zero and alive, note, when=when)


def stays(slope: Any) -> bool:
    """Return whether a slope is nearly 0, its whole interval."""
    return bool(max(abs(slope.ci_low), abs(slope.ci_high)) < FLAT)


study = Study(
    name="optimizer_bowl",
    title="Optimizers on bowls: zigzag, speed and effective learning rates",
    cases=cases,
    draw=draw,
    claims=("C01", "C02", "C03"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
