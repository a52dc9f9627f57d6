"""Plateaus: whether one is met by chance, how long each optimizer takes to cross one, and what helps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import exact_interval
from stabsim.landscape import Landscape
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory import plateau, zeros
from stabsim.training import OPTIMIZERS, Optimizer, optimizer, passages
from stabsim.verdicts import LARGEST_Z, judge, largest_z, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Floats = NDArray[np.float64]


class Effort(NamedTuple):
    """How many of everything."""

    cases: int
    gradients: int  # nets whose gradients are looked at
    most_steps: int  # on a profile
    runs: int  # with noise
    nets: int  # that are trained
    steps: int
    gains: tuple[int, ...]


EFFORT = {
    "quick": Effort(100, 4000, 10**5, 20, 10, 300, (1, 16, 64)),
    "paper": Effort(5000, 200_000, 3 * 10**7, 400, 60, 4000, (1, 4, 8, 16, 32, 64)),
}
SPEED, OUTSIDE = 0.01, 100  # what each optimizer goes a step, after so many on a slope of 1
RATES = {"momentum": 0.001, "nesterov": 0.001, "adagrad": 0.1}  # with these; all others: SPEED
SLOPES = tuple(10.0**-power for power in range(9))
NOISY_SLOPES = (1.0, 0.1, 0.01, 0.001, 0.0)
NOISE = 1.0
FLAT = 1e-3  # slope at which a plateau is held against a saddle: both begin with it
NET_RATES = {  # with which nets of gain 1 take about the same number of steps
    "sgd": 3.0, "momentum": 0.3, "nesterov": 0.3, "adagrad": 0.08, "rmsprop": 0.015, "adam": 0.02, "adamw": 0.02,
}  # fmt: skip
NET_RATE = 0.02  # of an optimizer that is not named
LOW, LEARNED = 0.02, 0.95  # loss below which a plateau is crossed; accuracy from which a net has learned
CLASSES, INPUTS, SAMPLES, HIDDEN = 3, 8, 30, 8
COUNTS = (1, 2, 3, 5, 10, 20, 50, 100)  # of components of a gradient
SMALL = 0.1  # the probability that one is small
LARGE = 16  # times the weights at which saturated nets are looked at
DEAD = (INPUTS, *(4,) * 8, 1)  # 148 weights
NORMALIZED = ("none", "batch")
SATURATED, GRADIENT = "derivative_saturated_fraction", "weight_gradient_log10_norm"
THROWN, BOUND = 300.0, 0.01  # a learning rate that throws nets onto plateaus, and the norm gradients are clipped to


def digits() -> tuple[Floats, Floats]:
    """Return the first principal components of three digits, of variance 1; without scikit-learn, normal clusters."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        labels = np.random.default_rng(0).integers(0, CLASSES, 300)
        x = np.random.default_rng(1).normal(size=(300, 64)) + 2 * np.random.default_rng(2).normal(size=(3, 64))[labels]
    else:
        found = load_digits()
        kept = found.target < CLASSES
        x, labels = found.data[kept], found.target[kept]
    u, *_ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    inputs = math.sqrt(len(x)) * u[:SAMPLES, :INPUTS] * np.sign(u[0, :INPUTS])  # signs of vectors are arbitrary
    return inputs, np.eye(CLASSES)[labels[:SAMPLES]]


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
    """Cross plateaus, leave saddles, train saturated nets, and count small gradients."""
    import pandas

    effort = EFFORT[scale]
    rows = [*crossings(effort), *noisy(effort), *saddles(effort), *trained(effort), *remedies(effort)]
    rows += [*thrown(effort), *cliffs(effort), *chances(effort), *dead(effort)]
    columns = ["part", "line", "x", "quantity", "estimate", "ci_low", "ci_high", "theory", "nets"]
    return pandas.DataFrame(rows, columns=columns)


Row = tuple[str, str, float, str, float, float, float, float, int]


def exactly(part: str, line: str, x: float, quantity: str, value: float, theory: float = math.nan) -> Row:
    """Return a row of a number without chance; negative ones, which stand for never, are NaN."""
    number = float(value) if value >= 0 else math.nan
    return part, line, x, quantity, number, number, number, theory, 1


def mean(part: str, line: str, x: float, quantity: str, values: Floats, theory: float = math.nan) -> Row:
    """Return a row of a mean over nets or runs."""
    center, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return part, line, x, quantity, center, center - half, center + half, theory, len(values)


def median(part: str, line: str, x: float, quantity: str, values: Floats) -> Row:
    """Return a row of a median, with the 95% interval of order statistics."""
    n, ordered = len(values), np.sort(values)
    reach = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return part, line, x, quantity, float(np.median(values)), float(ordered[low]), float(ordered[high]), math.nan, n


def share(part: str, line: str, x: float, quantity: str, held: Any, theory: float = math.nan) -> Row:
    """Return a row of the share of nets or runs in which something holds."""
    n, k = np.size(held), int(np.sum(held))
    low, high = exact_interval(k, n)
    return part, line, x, quantity, k / n, float(low), float(high), theory, n


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
                yield exactly(part, name, slope, "steps", last - first if last >= 0 else -1, theory)


def noisy(effort: Effort) -> Iterator[Row]:
    """Yield mean steps across it where gradients are noisy, and off a saddle; those of runs that do not arrive: all."""
    most = min(effort.most_steps, 10**6)
    for name in OPTIMIZERS:
        chosen = made(name)
        normalized = name in ("rmsprop", "adam", "adamw")
        for slope in NOISY_SLOPES:
            size = math.hypot(slope, NOISE) if normalized else 1.0
            theory = math.nan if name == "adagrad" else plateau.noisy_crossing_steps(
                1.0, SPEED * slope / size, SPEED * NOISE / size
            )  # fmt: skip
            found = passages(
                f"plateau(slope={slope!r})", chosen, np.zeros((effort.runs, 1)), [1.0], most_steps=most, noise=NOISE
            ).steps[:, 0]
            yield share("noise", name, slope, "never", found < 0)
            at_least = np.where(found < 0, most, found).astype(float)
            yield mean("noise", name, slope, "steps", at_least, math.nan if np.any(found < 0) else theory)
        found = passages("saddle", chosen, np.zeros((effort.runs, 2)), [1.0], most_steps=most, noise=NOISE).steps[:, 0]
        yield mean("noisy saddle", name, 0.0, "steps", np.where(found < 0, most, found).astype(float))


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
            yield exactly("saddle", name, slope, "steps", steps, theory)


def cliffs(effort: Effort) -> Iterator[Row]:
    """Yield steps into a bowl between a cliff, where it starts, and a plateau, with and without clipping."""
    for slope in (0.1, 0.01, 0.001):
        for line, bound in (("free", math.inf), ("clipped", 1.0)):
            spec = f"cliff(steep=1000, slope={slope!r})"
            found = passages(
                spec, "sgd(learning_rate=0.1)", [[-0.2]], [-0.1], most_steps=effort.most_steps, bound=bound
            )
            yield exactly("cliff", line, slope, "steps", found.steps[0, 0])


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
    return Landscape(network, digits(), loss, "sigmoid" if loss == "mean_squared_error" else "linear")


def trained(effort: Effort) -> Iterator[Row]:
    """Yield, for each optimizer and gain of the weights, steps, shares that never cross and losses at the end."""
    surface = surface_of()
    start = surface.draw(effort.nets, seed=1)
    points = np.concatenate([gain * start for gain in effort.gains])
    for name in OPTIMIZERS:
        rate = NET_RATES.get(name, NET_RATE)
        found = train(surface, points, f"{name}(learning_rate={rate!r})", effort.steps, every=effort.steps)
        for place, gain in enumerate(effort.gains):
            nets = slice(place * effort.nets, (place + 1) * effort.nets)
            crossed, loss = found.crossed[nets], found.loss[nets]
            yield share("nets", name, gain, "never", np.isinf(crossed))
            yield median("nets", name, gain, "steps", np.minimum(crossed, effort.steps + 1.0))
            yield median("nets", name, gain, "loss", loss)
            for quantity, some in (("loss of crossed", ~np.isinf(crossed)), ("loss of stuck", np.isinf(crossed))):
                if some.sum() > 1:
                    yield mean("nets", name, gain, quantity, loss[some])
            if gain == LARGE:
                for step in np.unique(np.geomspace(1, effort.steps, 25).astype(int)).tolist():
                    yield share("open", name, float(step), "not crossed", crossed > step)


def remedies(effort: Effort) -> Iterator[Row]:
    """Yield shares of nets that have not learned: by loss, by size of the weights, and where these are too large."""
    steps = max(effort.steps // 2, 100)
    for loss in ("mean_squared_error", "logistic"):
        surface = surface_of(loss)
        start = surface.draw(effort.nets, seed=2)
        points = []
        for where in ("all", "last"):
            for gain in effort.gains:
                scaled = start.copy()
                layers = surface.layers if where == "all" else surface.layers[-1:]
                for layer in layers:
                    scaled[:, layer] *= gain
                points.append((where, gain, scaled))
        for name in ("sgd", "adam"):
            spec = f"{name}(learning_rate={NET_RATES[name]!r})"
            found = train(surface, np.concatenate([each for *_, each in points]), spec, steps)
            for place, (where, gain, _) in enumerate(points):
                learned = found.learned[place * effort.nets : (place + 1) * effort.nets]
                yield share("loss", f"{name}, {loss}, {where}", gain, "not learned", np.isinf(learned))


def thrown(effort: Effort) -> Iterator[Row]:
    """Yield shares of nets that have not learned, with clipping and without: born on a plateau, or thrown onto one."""
    surface, steps = surface_of(), max(effort.steps // 2, 100)
    start = surface.draw(effort.nets, seed=3)
    for line, gain, rate in (("born there", LARGE, NET_RATES["sgd"]), ("thrown there", 1, THROWN)):
        for clipped, bound in ((0, math.inf), (1, BOUND)):
            found = train(surface, gain * start, f"sgd(learning_rate={rate!r})", steps, bound)
            yield share("clipping", line, clipped, "not learned", np.isinf(found.learned))


# --- gradients of random nets ---------------------------------------------------------------------------


def chances(effort: Effort) -> Iterator[Row]:
    """Yield how often k components of a gradient are small at once, in nets and where each comes from another net."""
    generator = np.random.Generator(np.random.Philox(4))
    for name, gain, last in (("tanh", 1, "linear"), ("sigmoid", LARGE, "sigmoid")):
        network = Network((INPUTS, 6, 6, 6, CLASSES), name, f"lecun_normal(gain={gain})")
        surface = Landscape(network, digits(), output_activation=last)
        sizes = np.abs(surface.gradient(surface.draw(effort.gradients, seed=4)))
        sizes = sizes[:, generator.permutation(surface.parameters)[: COUNTS[-1]]]
        small = sizes <= np.quantile(sizes, SMALL, axis=0)
        for line, held in ((name, small), (f"{name}, shuffled", generator.permuted(small, axis=0))):
            together = np.cumprod(held, axis=1, dtype=np.bool_)
            for k in COUNTS:
                yield share("chance", line, k, "all small", together[:, k - 1], SMALL**k)


def dead(effort: Effort) -> Iterator[Row]:
    """Yield how often all of a gradient is exactly 0 in narrow ReLU nets, of one sample and of many."""
    inputs, targets = digits()
    network = Network(DEAD, "relu", "he_normal")
    for samples in (1, SAMPLES):
        surface = Landscape(network, (inputs[:samples], targets[:samples, :1]), train_biases=False)
        none = ~np.any(surface.gradient(surface.draw(effort.gradients, seed=5)), axis=1)
        law = zeros.dead_probability(DEAD[:-1]) if samples == 1 else math.nan
        yield share("dead", "relu", samples, "exactly 0", none, law)


# --- figures --------------------------------------------------------------------------------------------


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw steps across plateaus, what becomes of saturated nets, what helps, and how rare small gradients are."""
    measured = collected.measured
    yield draw_profiles(measured)
    yield draw_nets(measured)
    yield draw_remedies(measured, collected.table)
    yield draw_chances(measured)


def against(axes: Axes, rows: DataFrame, xlabel: str, power: float = 1.0, **looks: Any) -> DataFrame:
    """Draw lines against the logarithm of x, to the base of ten or of 10^(1 / power); return the rows."""
    rows = rows[rows["x"] > 0]
    rows = rows.assign(layer=power * np.log10(rows["x"]), theory=rows["theory"].where(np.isfinite(rows["theory"])))
    figures.against_depth(axes, rows, xlabel=xlabel, **({"by": "line"} | looks))
    return rows


def draw_profiles(measured: DataFrame) -> Drawing:
    """Draw steps against the slope, from rest, with a memory, with noise, and off a saddle."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=5.0)
    parts = {"rest": "from rest", "memory": "after a slope of 1", "noise": "noisy gradients", "saddle": "off a saddle"}
    rows = []
    for place, part in zip(axes.flat, parts, strict=True):
        found = select(measured, part=part, quantity="steps")
        ylabel = "steps off a saddle" if part == "saddle" else "steps across a plateau"
        rows.append(
            against(place, found, "log10 of 1 / slope", -1.0, scale="log", ylabel=ylabel, order=list(OPTIMIZERS))
        )
        place.set_ylim(5, 2e5 if part in ("noise", "saddle") else 1e11)
    figures.panel_labels(axes.flat, list(parts.values()))
    return Drawing(figure, pandas.concat(rows))


def draw_nets(measured: DataFrame) -> Drawing:
    """Draw how many saturated nets are still on their plateau, by step and by size of the weights, and their loss."""
    import pandas

    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=2.5)
    label = f"share with a loss above {LOW:g}"
    looks: dict[str, Any] = {"order": list(OPTIMIZERS), "ylabel": label}
    rows = [against(axes[0, 0], select(measured, part="open"), "log10 of steps", **looks)]
    for place, quantity, more in (
        (axes[0, 1], "never", looks | {"ylabel": f"{label}\nat the end"}),
        (axes[0, 2], "loss", looks | {"ylabel": "median loss at the end", "scale": "log"}),
    ):
        found = select(measured, part="nets", quantity=quantity)
        rows.append(against(place, found, "log2 of the weights' factor", 1 / math.log10(2), **more))
    figures.panel_labels(axes.flat)
    return Drawing(figure, pandas.concat(rows), "nets")


def draw_remedies(measured: DataFrame, table: DataFrame) -> Drawing:
    """Draw nets that have not learned, by loss and start and by clipping, and what batch normalization does."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.4)
    power = 1 / math.log10(2)
    found = select(measured, part="loss")
    found = found[found["line"].str.startswith("sgd")]
    names = found["line"].str.removeprefix("sgd, ").replace(LOSS_NAMES)
    factor = "log2 of the weights' factor"
    rows = [against(axes[0, 0], found.assign(line=names), factor, power, ylabel="share that has not learned, SGD")]
    clipped = select(measured, part="clipping")
    clipped = clipped.assign(gradient=["clipped" if x else "as it is" for x in clipped["x"]])
    figures.dot_plot(axes[0, 1], clipped, rows="line", by="gradient", xlabel="share that has not learned, SGD")
    rows.append(clipped)
    last = table[table["layer"] == 1]
    for place, quantity, ylabel in (
        (axes[1, 0], SATURATED, "share of $|f'|$ < 0.01, layer 1"), (axes[1, 1], GRADIENT, "norm of dW, layer 1"),
    ):  # fmt: skip
        found = select(last, quantity=quantity)
        lines = [
            f"{name}{', batch norm' if kind == 'batch' else ''}"
            for name, kind in zip(found["activation"], found["normalization"], strict=True)
        ]
        found = found.assign(line=lines, x=found["gain"].astype(float), infinite_width=math.nan, theory=math.nan)
        scale = "exponent" if quantity == GRADIENT else "linear"
        rows.append(against(place, found, factor, power, ylabel=ylabel, scale=scale))
    figures.panel_labels(axes.flat)
    return Drawing(figure, pandas.concat(rows), "remedies")


LOSS_NAMES = {
    "mean_squared_error, all": "squares, all layers", "mean_squared_error, last": "squares, last layer",
    "logistic, all": "entropy, all layers", "logistic, last": "entropy, last layer",
}  # fmt: skip


def draw_chances(measured: DataFrame) -> Drawing:
    """Draw how often the first k components of a gradient are small at once."""
    figure, axes = figures.panels(width=figures.COLUMN, height=2.4)
    found = select(measured, part="chance")
    seen = found["estimate"] > 0
    with np.errstate(divide="ignore"):
        logs = found.assign(**{name: np.log10(found[name]) for name in ("estimate", "ci_low", "ci_high", "theory")})
    logs = logs.assign(estimate=logs["estimate"].where(seen), ci_low=logs["ci_low"].where(seen))
    rows = against(
        axes[0, 0], logs.assign(ci_high=logs["ci_high"].where(seen), line=[CHANCE_NAMES[line] for line in logs["line"]]),
        "log10 of components", ylabel="share of nets with all small", scale="exponent",
    )  # fmt: skip
    axes[0, 0].set_ylim(-7, 0.2)
    return Drawing(figure, rows, "chance")


CHANCE_NAMES = {
    "tanh": "tanh", "sigmoid": f"sigmoid, weights × {LARGE}", "tanh, shuffled": "tanh, shuffled",
    "sigmoid, shuffled": "sigmoid, shuffled",
}  # fmt: skip


# --- verdicts -------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the three claims against what was measured."""
    measured = collected.measured
    yield _by_chance(measured)
    yield _crossing(measured)
    yield _what_helps(measured, collected.table)


def _by_chance(measured: DataFrame) -> Verdict:
    """E08: 0.1^100, if components are independent; in nets they are not."""
    found = select(measured, part="chance")
    k = COUNTS[-1]
    z = largest_z(found[found["line"].str.endswith("shuffled")])
    power = k * math.log10(SMALL)
    tanh, sigmoid = (pick(found, line=name, x=k) for name in ("tanh", "sigmoid"))
    three = {name: pick(found, line=name, x=3) for name in ("tanh", "sigmoid")}
    none, many = (pick(measured, part="dead", x=x) for x in (1, SAMPLES))
    dependent = [name for name, row in three.items() if row.ci_low > row.theory] + ["ReLU"] * (none.ci_low > SMALL**k)
    weights = sum(a * b for a, b in itertools.pairwise(DEAD))
    note = (
        f"share of sigmoid nets (weights {LARGE} times LeCun's) of which {k} components of the gradient are at once "
        f"among their smallest {SMALL:.0%}; independent ones: 10^{power:.0f}. Shuffled between nets, components follow "
        f"{SMALL:g}^k (|z| < {z:.1f}). Three at once: tanh {three['tanh'].estimate:.5f}, saturated sigmoid "
        f"{three['sigmoid'].estimate:.5f}, independent {SMALL**3:g}; {k} at once in {tanh.estimate * tanh.nets:.0f} and "
        f"{sigmoid.estimate * sigmoid.nets:.0f} of {tanh.nets}. All {weights} of a narrow ReLU net are exactly 0 with "
        f"probability {none.estimate:.3f} (law {none.theory:.3f}) of one sample and {many.estimate:.3f} of {SAMPLES}"
    )
    independent = z < LARGEST_Z and sigmoid.ci_high >= SMALL**k
    when = "components are independent, as those of saturated and of dying nets are not" if dependent else ""
    return judge("E08", sigmoid, independent, note, when=when)


FAR = 3.0  # "cost more": by this factor


def _ratios(measured: DataFrame, plateau_part: str, saddle_part: str, slope: float) -> dict[str, float]:
    """Return steps across a plateau by those off a saddle; where budgets ended first, by closed form or at least."""
    found = {}
    for name in OPTIMIZERS:
        row = pick(measured, part=plateau_part, line=name, x=slope, quantity="steps")
        off = pick(measured, part=saddle_part, line=name, x=slope, quantity="steps")
        found[name] = (row.theory if math.isnan(row.estimate) else row.estimate) / off.estimate
    return found


def _crossing(measured: DataFrame) -> Verdict:
    """E09: steps across plateaus follow their closed forms, some never end, and cost more than saddles."""
    exact = select(measured, part=("rest", "memory"), quantity="steps")
    exact = exact[np.isfinite(exact["estimate"]) & (exact["theory"] > 50)]
    off = float((np.abs(exact["estimate"] / exact["theory"] - 1)).max())
    still = select(measured, part=("rest", "memory"), x=0.0, quantity="steps")["estimate"].isna()
    rest, noise = _ratios(measured, "rest", "saddle", FLAT), _ratios(measured, "noise", "noisy saddle", 0.0)
    nets = select(measured, part="nets", x=float(LARGE))
    never = {name: pick(nets, line=name, quantity="never") for name in OPTIMIZERS}
    stuck, crossed = (
        select(nets, quantity=f"loss of {which}").set_index("line")["estimate"] for which in ("stuck", "crossed")
    )
    good = select(measured, part="nets", x=1.0, quantity="loss")
    high = bool(len(stuck)) and float(stuck.min()) > float(good["ci_high"].max())
    some = [name for name, row in never.items() if row.ci_low > 0]
    cheap = [name for name, ratio in rest.items() if ratio <= FAR]
    costly = all(ratio > FAR for ratio in noise.values())
    holds = off < 0.02 and bool(still.all()) and high and bool(some) and costly
    row = pick(measured, part="noise", line="sgd", x=0.0, quantity="steps")
    note = (
        f"mean steps of SGD across a plateau of width 1 and slope 0 under noise; rates at which all go {SPEED:g} a step "
        f"on a slope of 1. {len(exact)} crossings meet closed forms to {off:.1%}; with slope 0 none ends without noise. "
        f"Steps by those off a saddle of the same slope {FLAT:g}: {_listed(rest)}; with noise and slope 0: "
        f"{_listed(noise)}. Saturated sigmoid nets (weights × {LARGE}) that never cross: "
        + ", ".join(f"{name} {row.estimate:.0%}" for name, row in never.items())
        + f"; their loss at the end {stuck.min():.3f} to {stuck.max():.3f}, of those that cross "
        + (f"{crossed.min():.4f} to {crossed.max():.4f}" if len(crossed) else "(none)")
    )
    when = (
        f"gradients are noisy: without noise {', '.join(cheap)} cross in as many steps whatever the slope"
        if cheap
        else ""
    )
    return judge("E09", row, holds, note, when=when)


def _listed(ratios: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())


def _less(rows: Sequence[Any]) -> bool:
    """Return whether the second share is below the first, beyond chance."""
    return bool(rows[1].ci_high < rows[0].ci_low)


def _what_helps(measured: DataFrame, table: DataFrame) -> Verdict:
    """E10: each of the four, where it can be held against nets without it."""

    def of_loss(loss: str, where: str, gain: float) -> Any:
        return pick(measured, part="loss", line=f"sgd, {loss}, {where}", x=gain)

    squares, largest = of_loss("mean_squared_error", "all", LARGE), float(table["gain"].max())
    entropy, small = of_loss("logistic", "all", LARGE), of_loss("mean_squared_error", "all", 1)
    hard = of_loss("logistic", "all", largest)
    clipping = {
        line: [pick(measured, part="clipping", line=line, x=x) for x in (0, 1)]
        for line in ("born there", "thrown there")
    }
    saturated, gradients = (
        [pick(table, quantity=quantity, activation="sigmoid", normalization=kind, gain=largest, layer=1)
         for kind in NORMALIZED]
        for quantity in (SATURATED, GRADIENT)
    )  # fmt: skip
    helps = {
        "a loss without plateaus": _less([squares, entropy]), "a start away from them": _less([squares, small]),
        "clipping before": _less(clipping["thrown there"]),
        "batch norm": _less(saturated) and gradients[1].ci_low > gradients[0].ci_high,
    }  # fmt: skip
    on_it = _less(clipping["born there"])
    (free, bound), (born, born_clipped) = clipping["thrown there"], clipping["born there"]
    falls = {line: pick(measured, part="cliff", line=line, x=0.1).estimate for line in ("free", "clipped")}
    note = (
        f"share of sigmoid nets, weights × {LARGE}, squared error, SGD, that have not learned. With cross-entropy "
        f"{entropy.estimate:.2f} (weights × {largest:g}: {hard.estimate:.2f}, since hidden units saturate too); weights "
        f"× 1: {small.estimate:.2f}. Clipped to a norm of {BOUND:g}: {born_clipped.estimate:.2f} instead of "
        f"{born.estimate:.2f} where nets are born on a plateau, {bound.estimate:.2f} instead of {free.estimate:.2f} where "
        f"a learning rate of {THROWN:g} throws them there; off a cliff, {falls['clipped']:.0f} steps instead of "
        f"{falls['free']:.0f}. Batch norm, weights × {largest:g}, layer 1: {saturated[1].estimate:.2f} saturated instead "
        f"of {saturated[0].estimate:.2f}, gradient 10^{gradients[1].estimate:.1f} instead of "
        f"10^{gradients[0].estimate:.1f}, at the start: nets are not trained with it here. Helps: "
        + ", ".join(f"{name} {'yes' if yes else 'no'}" for name, yes in helps.items())
    )
    when = "" if on_it else "clipping is to keep nets off a plateau: on one it changes nothing"
    return judge("E10", squares, all(helps.values()), note, when=when)


study = Study(
    name="plateau",
    title="Plateaus: met by chance or not, steps to cross them by optimizer, and what helps",
    cases=cases,
    draw=draw,
    claims=("E08", "E09", "E10"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
