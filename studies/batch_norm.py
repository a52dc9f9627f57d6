"""Batch normalization at initialization: what it pins, what scales of weights do with it, and how gradients grow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.normalization import batch_norm_gradient_rate
from stabsim.verdicts import LARGEST_Z, change, judge, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {
    "quick": {"rate": 2**19, "depth": 8, "scale": 16, "shift": 32},
    "paper": {"rate": 2**25, "depth": 100, "scale": 400, "shift": 1000},
}  # of rates: units times samples, shared out among as many nets

RATE_WIDTH, RATE_DEPTH = 1024, 5
RATE_BATCHES = (4, 8, 16, 32, 64, 256, 1024)
RATED = ("relu", "gelu", "tanh", "sigmoid", "linear")

DEPTH, BATCH, WIDTH = 100, 32, 256
SMALL = "normal(std=0.01)"  # on 256 units a gain of 0.16
DEEP = ("relu", "tanh", "sigmoid")

SCALED_DEPTH = 20
SCALES = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 1))  # standard deviations of a weight
EXACT, USUAL = "batch(epsilon=0)", "batch(epsilon=1e-05)"
NONE = "none"

SHIFTED_DEPTH = 10
GREAT, MOVED, ALIKE, STANDARD = "3 times as large", "moved by 2", "alike", "standard normal"
JUDGED = tuple(float(batch) for batch in RATE_BATCHES if batch >= 6)  # a batch of 4: means of a tail without variance
LARGEST, SMALLEST = 1e3, 1e-6  # what gradients should stay within (claim B05)
SAME = 0.05  # of a norm, as a share: what nets of finite width and one batch differ by all the same
SQUARED = 4 * SAME  # of the ratio of two mean squares, as a logarithm
RATE_SLACK, DEEP_SLACK = 1.0 / RATE_WIDTH, 1.0 / WIDTH  # of a rate, as a share: at width n it moves by about 1 / n

NORM, GRADIENT = "activation_log10_norm", "activation_gradient_log10_norm"
WEIGHT_GRADIENT, SQUARES = "weight_gradient_log10_norm", "activation_gradient_mean_square"
SQUARE, MEAN, CORRELATION = "activation_mean_square", "activation_mean", "activation_correlation"


def normalized(name: str) -> str | None:
    """Return the normalization that a tag names."""
    return None if name == NONE else name


def input_batches() -> dict[str, NDArray[np.float64]]:
    """Return batches of inputs (BATCH, WIDTH) of different laws."""
    rng = np.random.default_rng(0)
    rows, common = rng.normal(size=(BATCH, WIDTH)), rng.normal(size=(1, WIDTH))
    return {
        STANDARD: rows,
        GREAT: 3.0 * rows,
        MOVED: rows + 2.0,
        ALIKE: math.sqrt(0.1) * rows + math.sqrt(0.9) * common,
    }


def cases(scale: str) -> Iterator[Case]:
    """Yield nets for rates, against depth, against the scale of the weights, and on batches of several laws."""
    nets = NETS[scale]
    for name in RATED:
        for batch in RATE_BATCHES:
            network = Network((RATE_WIDTH,) * (RATE_DEPTH + 1), name, "lecun_normal", normalization=EXACT)
            task = make_task(network, batch=batch, quantities=(SQUARES,), samples=(SQUARES,))
            few = max(8, nets["rate"] // (RATE_WIDTH * batch))
            yield Case(task, few, _tags("rate", name, EXACT, float(batch)))
    for name in DEEP:
        for norm in (NONE, EXACT):
            network = Network((WIDTH,) * (DEPTH + 1), name, SMALL, normalization=normalized(norm))
            task = make_task(network, batch=BATCH, quantities=(NORM, GRADIENT))
            yield Case(task, nets["depth"], _tags("depth", name, norm, 0.01))
    for norm in (NONE, USUAL, EXACT):
        for std in SCALES:
            network = Network(
                (WIDTH,) * (SCALED_DEPTH + 1), "relu", f"normal(std={std!r})", normalization=normalized(norm)
            )
            task = make_task(network, batch=BATCH, quantities=(NORM, GRADIENT, WEIGHT_GRADIENT))
            yield Case(task, nets["scale"], _tags("scale", "relu", norm, std))
    for norm in (NONE, EXACT):
        for law, rows in input_batches().items():
            network = Network((WIDTH,) * (SHIFTED_DEPTH + 1), "relu", "he_normal", normalization=normalized(norm))
            task = make_task(network, batch=BATCH, inputs=rows, quantities=(SQUARE, MEAN, CORRELATION))
            yield Case(task, nets["shift"], _tags("shift", law, norm, 0.0))


def _tags(part: str, setting: str, norm: str, number: float) -> dict[str, str | float]:
    return {"part": part, "setting": setting, "normalization": norm, "number": number}


def rates(collected: Collected) -> DataFrame:
    """Return by what the gradient's squared norm grows a layer, beside the theory of infinite width.

    From the last layer but one, below which samples are alike, to the first, whose inputs have another variance.
    """
    import pandas

    rows = []
    for case, result in collected.results:
        if case.tags["part"] == "rate":
            squares = result.samples[SQUARES]
            above, below, power = squares[:, RATE_DEPTH - 1], squares[:, 1], RATE_DEPTH - 2
            ratio = below.mean() / above.mean()
            error = np.std(below - ratio * above, ddof=1) / math.sqrt(len(squares)) / above.mean()
            rate = ratio ** (1 / power)
            theory = batch_norm_gradient_rate(str(case.tags["setting"]), int(case.tags["number"]))
            found = {"estimate": rate, "std_error": rate * error / ratio / power, "infinite_width": theory}
            rows.append({**case.tags, "layer": int(case.tags["number"]), "theory": math.nan, **found})
    return with_interval(pandas.DataFrame(rows))


CAPTION = (
    "Gradients and signals of nets with and without batch normalization, before training. (a) Factor a layer on the "
    f"mean square of the gradient, with batch normalization, against the batch: width {RATE_WIDTH:,}. (b) Norm of the "
    f"gradient on its way back (geometric mean) in nets of {DEPTH} layers of {WIDTH} units, weights of law {SMALL}, "
    f"batch {BATCH}. (c) Norm of the last activation and (d) of the gradient of the first weights of ReLU nets of "
    f"{SCALED_DEPTH} layers, against the standard deviation of the weights: batch normalization takes the scale out, "
    f"unless its epsilon outweighs small variances. {figures.LIMIT} {figures.BANDS}"
)
CAPTION_OF_SHIFT = (
    f"What becomes of four batches of {BATCH} inputs in ReLU nets with He's weights, {SHIFTED_DEPTH} layers of {WIDTH} "
    f"units: standard normal ones, the same {GREAT} or {MOVED}, and inputs that have most of their variance in common. "
    "(a), (b) Mean square of activations; (c), (d) cosine between the activations of two samples. On the left "
    "without, on the right with batch normalization, behind which scale and shift of the inputs are no longer seen. "
    f"{figures.THEORY} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw rates, gradients against depth and what weight scales do; then what batches of inputs do."""
    import pandas

    table = collected.table
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.8)
    parts = [rates(collected)]
    panel = axes[0, 0]
    figures.against_depth(panel, parts[0], by="setting", xlabel="batch", ylabel="growth of $|dz_l|^2$ a layer")
    panel.set_xscale("log", base=2)
    panel.set_xticks(RATE_BATCHES, labels=[str(batch) for batch in RATE_BATCHES])
    panel.minorticks_off()
    deep = _named(select(table, part="depth", quantity=GRADIENT))
    figures.against_depth(
        axes[0, 1],
        deep.assign(layer=DEPTH - deep["layer"]),
        by="line",
        scale="exponent",
        xlabel=f"layers from the last, {DEPTH} $-$ $l$",
        ylabel="norm of $dz_l$, weights of std 0.01",
    )
    parts.append(deep)
    for panel, quantity, layer, label in (
        (axes[1, 0], NORM, SCALED_DEPTH, f"norm of $z_{{{SCALED_DEPTH}}}$"),
        (axes[1, 1], WEIGHT_GRADIENT, 1, "norm of $dW_1$"),
    ):
        rows = select(table, part="scale", quantity=quantity, layer=layer)
        rows = rows.assign(layer=np.log10(rows["number"]))
        rows = rows.assign(line=rows["normalization"].map(_words), infinite_width=np.nan, theory=np.nan)
        figures.against_depth(
            panel, rows, by="line", scale="exponent", xlabel="log10 of the weights' std", ylabel=label
        )
        parts.append(rows)
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat(parts), caption=CAPTION)

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.4, sharex=True)
    parts = []
    for row, (quantity, scale, label) in enumerate(
        ((SQUARE, "log", "mean square of $z_l$"), (CORRELATION, "linear", "cosine of two samples' $z_l$"))
    ):
        for column, norm in enumerate((NONE, EXACT)):
            rows = select(table, part="shift", normalization=norm, quantity=quantity)
            panel = axes[row, column]
            figures.against_depth(panel, rows, by="setting", scale=scale, ylabel=f"{label}\n{_words(norm)}")
            parts.append(rows)
        _same_limits(axes[row, 0], axes[row, 1])
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, "shift", f"{CAPTION_OF_SHIFT} {figures.of_nets(drawn['nets'])}")


def _same_limits(one: Axes, other: Axes) -> None:
    limits = [*one.get_ylim(), *other.get_ylim()]
    for panel in (one, other):
        panel.set_ylim(min(limits), max(limits))


def _words(norm: str) -> str:
    return {NONE: "without", EXACT: "batch norm", USUAL: "batch norm, epsilon 1e-5"}[norm]


def _named(rows: DataFrame) -> DataFrame:
    return rows.assign(line=rows["setting"] + ", " + rows["normalization"].map(_words))


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = collected.table
    yield _shift(table)
    yield _insensitive(table)
    yield _within_range(collected)
    yield _remedy(table)


def drift(table: DataFrame, norm: str, law: str, layer: int) -> float:
    """Return by what factor, as a logarithm, another law of the inputs changes the mean square of z."""
    rows = select(table, part="shift", normalization=norm, quantity=SQUARE, layer=layer)
    return abs(math.log(pick(rows, setting=law).estimate / pick(rows, setting=STANDARD).estimate))


def _shift(table: DataFrame) -> Verdict:
    """A04, with W fixed: other inputs change what layers see, as much in deep ones; not so with batch norm."""
    layers = range(1, SHIFTED_DEPTH + 1)
    moved = [drift(table, NONE, law, layer) for law in (GREAT, MOVED) for layer in layers]
    pinned = [drift(table, EXACT, law, layer) for law in (GREAT, MOVED, ALIKE) for layer in layers]
    great = [drift(table, NONE, GREAT, layer) for layer in layers]
    cosine = select(table, part="shift", quantity=CORRELATION, layer=SHIFTED_DEPTH)
    alike, apart = (pick(cosine, setting=ALIKE, normalization=norm).estimate for norm in (NONE, EXACT))
    even = max(great) - min(great) < SQUARED
    holds = min(moved) > SQUARED > max(pinned) and even and alike > 0.9
    squares = select(table, part="shift", normalization=NONE, quantity=SQUARE, layer=SHIFTED_DEPTH)
    row, standard = (pick(squares, setting=law) for law in (GREAT, STANDARD))
    note = (
        f"mean square of z at layer {SHIFTED_DEPTH} of ReLU nets on inputs 3 times as large; on standard ones "
        f"{standard.estimate:.2f}, and {math.exp(min(great)):.2f} to {math.exp(max(great)):.2f} times as large at all "
        f"layers: deeper ones shift no more. Batch norm leaves mean squares within "
        f"{math.expm1(max(pinned)):.1%} on all batches, and takes the cosine of samples that are alike from "
        f"{alike:.2f} to {apart:.2f}. What an update of W does is not seen at initialization"
    )
    return judge("A04", row, holds, note, when="W is fixed, but deeper layers do not shift more")


def _insensitive(table: DataFrame) -> Verdict:
    """A20, at initialization: outputs and gradients by z are those of any scale, where epsilon does not count."""
    scaled = select(table, part="scale")

    def spread(norm: str, quantity: str, layer: int, times: float = 0.0, least: float = 0.0) -> tuple[float, float]:
        """Return by how much log10 of (norm * std^times) differs over the scales, and what chance allows."""
        rows = select(scaled, normalization=norm, quantity=quantity, layer=layer)
        rows = rows[rows["number"] > least]
        values = rows["estimate"] + times * np.log10(rows["number"])
        return float(values.max() - values.min()), LARGEST_Z * math.sqrt(2.0) * float(rows["std_error"].max())

    outputs = [spread(EXACT, NORM, layer) for layer in (1, SCALED_DEPTH)]
    gradients = [spread(EXACT, GRADIENT, layer) for layer in (0, 1, 2)]
    inverse = spread(EXACT, WEIGHT_GRADIENT, 1, times=1.0)
    # Without batch norm ReLU nets are homogeneous: every layer passed has the scale as a factor.
    powers = [spread(NONE, NORM, SCALED_DEPTH, -SCALED_DEPTH), spread(NONE, GRADIENT, 1, 1 - SCALED_DEPTH)]
    alike = all(found < chance for found, chance in (*outputs, *gradients, inverse, *powers))
    plain, plain_gradient = spread(NONE, NORM, SCALED_DEPTH)[0], spread(NONE, GRADIENT, 1)[0]
    usual, _ = spread(USUAL, NORM, SCALED_DEPTH, least=3e-3)  # variances of s 100 times epsilon and more
    below, _ = spread(USUAL, NORM, SCALED_DEPTH)
    holds = alike and usual < math.log10(1.0 + SAME) < below
    row = pick(scaled, normalization=EXACT, quantity=NORM, layer=SCALED_DEPTH, number=SCALES[0])
    note = (
        f"log10 of the norm of z at layer {SCALED_DEPTH} of ReLU nets, weights of standard deviation 1e-4; over 1e-4 "
        f"... 1 it differs by {outputs[-1][0]:.4f}, that of dz_1 by {gradients[1][0]:.4f} (chance: below "
        f"{gradients[1][1]:.4f}), without batch norm by {plain:.0f} and {plain_gradient:.0f}. With epsilon 1e-5 it "
        f"differs by {usual:.3f} down to 0.003, and by {below:.1f} down to 1e-4, where epsilon is above the variance "
        f"of s. |dW_1| times the scale is constant within {inverse[0]:.4f} decades: steps shrink as weights grow"
    )
    return judge("A20", row, holds, note, when="epsilon is far below the variance of s")


def _within_range(collected: Collected) -> Verdict:
    """B05: normalization keeps gradients in range but for depths at which its own growth, the rate, leaves it."""
    table, found = collected.table, rates(collected)
    rows = select(found, number=JUDGED)
    beyond = (rows["estimate"] - rows["infinite_width"]).abs() - RATE_SLACK * rows["infinite_width"]
    z = beyond.clip(lower=0.0) / rows["std_error"]
    deep = select(table, part="depth", quantity=GRADIENT, layer=0)
    start = 0.5 * math.log10(WIDTH)  # of the injected gradient's norm
    factor = {
        (name, norm): pick(deep, setting=name, normalization=norm).estimate - start
        for name in DEEP
        for norm in (NONE, EXACT)
    }
    lost = max(factor[name, NONE] for name in DEEP)
    kept = {name: factor[name, EXACT] for name in DEEP}
    allowed = {name: 2 * math.log(LARGEST) / math.log(batch_norm_gradient_rate(name, BATCH)) for name in DEEP}
    leaves = {name: kept[name] > math.log10(LARGEST) for name in DEEP}
    right = all(leaves[name] == (allowed[name] < DEPTH) for name in DEEP)
    holds = z.max() < LARGEST_Z and lost < math.log10(SMALLEST) and right and not leaves["sigmoid"]
    row = pick(found, setting="relu", number=float(BATCH))
    grown = ", ".join(f"{name} {kept[name]:+.1f}" for name in DEEP)
    depths = ", ".join(f"{depth:.0f} ({name})" for name, depth in allowed.items())
    note = (
        f"growth of the gradient's squared norm a layer, ReLU, batch {BATCH} (theory: infinite width; {len(rows)} "
        f"rates within {z.max():.1f} standard errors and {RATE_SLACK:.1%}, 1 / width; a batch of {RATE_BATCHES[0]} is "
        f"drawn, not judged: its mean is of a heavy tail). Over {DEPTH} layers, weights of std 0.01, log10 of the "
        f"factor on the norm: {grown}; without at most {lost:.0f}. By the rate the gradient is above "
        f"1e3 after {depths} layers"
    )
    return judge(
        "B05", row._replace(theory=row.infinite_width), holds, note, when="the net is not too deep for the rate"
    )


def _remedy(table: DataFrame) -> Verdict:
    """D04: a net whose gradient vanished passes it on with batch norm, growing no faster than by the rate of theory.

    A mean of logarithms is below the logarithm of the mean, so the rate bounds it from above.
    """
    rows = select(table, part="depth", quantity=GRADIENT)
    lost: dict[str, float] = {}
    kept: dict[str, float] = {}
    for name in DEEP:
        for norm, factors in ((NONE, lost), (EXACT, kept)):
            last, first = (pick(rows, setting=name, normalization=norm, layer=layer) for layer in (DEPTH, 0))
            factors[name] = change(last, first)[0] / DEPTH
    bound = {name: 0.5 * math.log10(batch_norm_gradient_rate(name, BATCH) * (1.0 + DEEP_SLACK)) for name in DEEP}
    vanished = all(factor * DEPTH < math.log10(SMALLEST) for factor in lost.values())
    holds = vanished and all(0.0 < kept[name] < bound[name] for name in DEEP)
    row = pick(rows, setting="tanh", normalization=EXACT, layer=0)
    note = (
        f"log10 of the gradient's norm at the input of tanh nets of {DEPTH} layers with batch norm, weights of "
        "std 0.01. Decades gained a layer, without and with (at most, by the rate of theory): "
        + ", ".join(f"{name} {lost[name]:+.2f} and {kept[name]:+.3f} ({bound[name]:.3f})" for name in DEEP)
    )
    return judge("D04", row, holds, note)


study = Study(
    name="batch_norm",
    title="Batch normalization at initialization: inputs, weight scales, gradients",
    cases=cases,
    draw=draw,
    claims=("A04", "A20", "B05", "D04"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
