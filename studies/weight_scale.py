"""Accuracy and loss after training against the scale of the weights at the start, with and without batch norm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import mnist_at_hand, split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, counting_divergence, train
from stabsim.verdicts import counted, judge, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": {"start": 8, "trained": 3}, "paper": {"start": 64, "trained": 64}}
# Saito 2016, Deep Learning from Scratch, section 6.3: 5 hidden layers, 1000 digits, 20 epochs, plain SGD.
WIDTHS = (784, 100, 100, 100, 100, 100, 10)
SAMPLES, BATCH, EPOCHS, RATE = 1000, 100, 20, 0.01
STEPS = EPOCHS * SAMPLES // BATCH
SCALES = tuple(np.logspace(-4, 0, 9).tolist())  # standard deviations of a weight
EPSILON = 1e-5
NONE, NORMALIZED, TINY, FASTER = "none", "batch norm", "batch norm, tiny epsilon", "batch norm, 10 times the rate"
SETTINGS: dict[str, tuple[str | None, float, tuple[float, ...]]] = {  # normalization, learning rate and scales
    NONE: (None, RATE, SCALES),
    NORMALIZED: ("batch(epsilon=1e-05)", RATE, SCALES),
    TINY: ("batch(epsilon=1e-12)", RATE, SCALES[:1]),
    FASTER: ("batch(epsilon=1e-05)", 10 * RATE, (SCALES[2], *SCALES[4:7])),
}
CLOSE = 0.05  # below the best accuracy: as good
LEARNED, WELL = 0.3, 0.5  # three and five times chance
BEHIND = "accuracy by that of the best scale"
SEEN = {NORMALIZED: "BN", NONE: "without BN", FASTER: "BN, rate 0.1"}
MADE = (1, 2, 5)  # hidden layers whose normalized values are looked at
SQUARE = "activation_mean_square"
ACCURACIES = ("accuracy", "test_accuracy")
# Of relu(n), n standard normal: what is left of the variance of n behind an activation.
RELU_VARIANCE = 0.5 - 0.5 / math.pi
TAKES_OVER = math.sqrt(EPSILON / (WIDTHS[1] * RELU_VARIANCE))  # below, deeper layers vary less and less


def network(normalization: str | None, scale: float) -> Network:
    """Return the law of the nets before training."""
    return Network(WIDTHS, "relu", f"normal(std={scale!r})", normalization=normalization)


def digits() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return samples to train on, and those for testing."""
    found = split(mnist_at_hand(), scale="unit")
    return (found.train[0][:SAMPLES], found.train[1][:SAMPLES]), (found.test[0][:SAMPLES], found.test[1][:SAMPLES])


def cases(scale: str) -> Iterator[Case]:
    """Yield nets with batch norm before training, on mini-batches of digits."""
    inputs = digits()[0][0]
    for size in SCALES:
        task = make_task(
            network(SETTINGS[NORMALIZED][0], size), batch=BATCH, inputs=inputs, quantities=(SQUARE,), sampler="dense"
        )
        yield Case(task, NETS[scale]["start"], {"scale": size})


def variance_left(scale: float, inputs: NDArray[np.float64]) -> list[float]:
    """Return the variance of normalized values, v / (v + epsilon), of every hidden layer, as wide nets have it."""
    spread, found = scale**2 * float(inputs.var(axis=0).sum()), []
    for _ in WIDTHS[1:-1]:
        found.append(spread / (spread + EPSILON))
        spread = scale**2 * WIDTHS[1] * RELU_VARIANCE * found[-1]
    return found


def normalized(table: DataFrame) -> DataFrame:
    """Return the variance of normalized values before training, with its law.

    Columns of W have either sign with the same probability, so half of the mean square is what ReLU lets pass.
    """
    rows = select(table, quantity=SQUARE, layer=MADE)
    inputs = digits()[0][0]
    law = {scale: variance_left(scale, inputs) for scale in SCALES}
    wide = [law[scale][layer - 1] for scale, layer in zip(rows["scale"], rows["layer"], strict=True)]
    doubled = {name: 2.0 * rows[name] for name in ("estimate", "ci_low", "ci_high", "std_error")}
    return rows.assign(**doubled, theory=math.nan, infinite_width=wide, part="start")


def measure(scale: str) -> DataFrame:
    """Train nets from every scale; net i has the same weights and order of samples at all, but for the scale."""
    import pandas

    data, test = digits()
    rows: list[dict[str, Any]] = []
    for setting, (normalization, rate, scales) in SETTINGS.items():
        accuracies = []
        for size in scales:
            with counting_divergence():
                trained = train(
                    network(normalization, size), nets=NETS[scale]["trained"], steps=STEPS, data=data, test=test,
                    batch=BATCH, loss="softmax_cross_entropy", optimizer=f"sgd(learning_rate={rate!r})",
                    quantities=("loss", *ACCURACIES, "dead_unit_fraction", "weight_gradient_mean_square"),
                    record=(0, STEPS),
                )  # fmt: skip
            rows += [{"setting": setting, "scale": size} | row for row in _summary(trained, rate / size)]
            accuracies.append(trained.values("accuracy")[:, -1, 0])
        for size, row in zip(scales, _behind(np.array(accuracies)), strict=True):
            rows.append({"setting": setting, "scale": size} | row)
    return pandas.DataFrame(rows).assign(theory=math.nan)


def _summary(trained: Trained, by: float) -> Iterator[dict[str, Any]]:
    """Yield means over nets at the end, shares of nets that diverged or died, and the first step of W_2 by its size."""
    lost = trained.diverged_after >= 0
    for name in ("loss", *ACCURACIES):
        values = trained.values(name)[~lost, -1, 0]
        yield {"part": "end", "quantity": name, "diverged": int(lost.sum()), **mean_with_interval(values)}
    dead = trained.values("dead_unit_fraction")[:, -1, 1:-1].max(axis=1) == 1.0
    for name, held in (("diverged", lost), ("dead", dead)):
        yield {"part": "end", "quantity": name, "diverged": int(lost.sum()), **counted(held)}
    first = np.log10(by * np.sqrt(trained.values("weight_gradient_mean_square")[:, 0, 2]))
    yield {"part": "end", "quantity": "log10_first_step", **mean_with_interval(first[np.isfinite(first)])}


def _behind(accuracy: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    """Yield by how much nets are behind those of the scale that is best on average, scale by scale, paired.

    Nets that have diverged are behind by as much as can be (accuracy: scales, nets).
    """
    known = np.nan_to_num(accuracy, nan=0.0)
    for values in known - known[np.argmax(known.mean(axis=1))]:
        yield {"part": "end", "quantity": BEHIND, "diverged": 0, **mean_with_interval(values)}


CAPTION = (
    f"Training from weights of any scale: ReLU nets of widths {', '.join(map(str, WIDTHS))} on digits, {EPOCHS} epochs "
    f"of mini-batches of {BATCH} at learning rate {RATE:g}, with batch normalization (BN) and without it, against the "
    "standard deviation of a weight at the start. (a) Training accuracy and (b) training loss at the end. (c) "
    "Variance of normalized values, by layer, before training. (d) Norm of the first step of the second layer's "
    "weights over that of the weights (geometric mean). Gray: where the epsilon of BN takes over; diamonds: BN with a "
    f"tiny epsilon. {figures.LIMIT} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw accuracy and loss against the scale, what epsilon leaves of the variance, and the size of the first step."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.6)
    ends = select(measured, part="end")
    accuracy = select(ends, quantity="accuracy")
    _against_scale(axes[0, 0], accuracy, ylabel=f"training accuracy after {EPOCHS} epochs")
    lost = select(ends, quantity="diverged")
    lost = lost[lost["estimate"] > 0.5]
    axes[0, 0].plot(
        lost["scale"], np.zeros(len(lost)), marker="x", markersize=5, color="black", linestyle="none", clip_on=False,
        label="most nets\ndiverge",
    )  # fmt: skip
    axes[0, 0].set_ylim(-0.03, 1.03)
    named = [each for each in axes[0, 0].lines if each.get_linestyle() == "None"]
    axes[0, 0].legend(handles=named, loc=(0.2, 0.2), handlelength=1.0)
    loss = select(ends, quantity="loss")
    _against_scale(axes[0, 1], loss, ylabel="training loss (nats)", scale="log")
    start = normalized(collected.table)
    figures_rows = start.assign(line="layer " + start["layer"].astype(str), layer=start["scale"])
    _on_logarithmic(axes[1, 0])
    figures.against_depth(
        axes[1, 0], figures_rows, by="line", scale="log", xlabel="standard deviation of a weight",
        ylabel="variance of normalized values,\nbefore training",
    )  # fmt: skip
    _finish(axes[1, 0])
    axes[1, 0].set_ylim(1e-5, 2.0)
    steps = select(ends, quantity="log10_first_step")
    _against_scale(axes[1, 1], steps, ylabel="first step of $W_2$ by its size", scale="exponent")
    axes[1, 1].text(
        TAKES_OVER, -15.0, "  left of this, $\\epsilon$ takes over\n  in batch norm", va="center", fontsize=7
    )
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([accuracy, lost, loss, start, steps])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")


def _against_scale(axes: Axes, rows: DataFrame, *, ylabel: str, scale: str = "linear") -> None:
    _on_logarithmic(axes)
    rows = rows.assign(layer=rows["scale"])
    points: Any = select(rows, setting=TINY).itertuples()  # one scale only, so no line
    for tiny in points:
        axes.plot([tiny.scale] * 2, [tiny.ci_low, tiny.ci_high], color="black", linewidth=0.8)
        axes.plot(
            tiny.scale, tiny.estimate, marker="D", markersize=4, color="black", markerfacecolor="white",
            linestyle="none", label=r"BN, $\epsilon = 10^{-12}$",
        )  # fmt: skip
    figures.against_depth(
        axes, rows[rows["setting"].isin(SEEN)], by="setting", order=list(SEEN), label=SEEN.__getitem__, scale=scale,
        xlabel="standard deviation of a weight", ylabel=ylabel,
    )  # fmt: skip
    _finish(axes)


def _on_logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlim(SCALES[0] / 1.2, SCALES[-1] * 1.2)


def _finish(axes: Axes) -> None:
    """Name the decades, and mark where epsilon takes over."""
    axes.set_xticks([10.0**power for power in range(-4, 1)], labels=[f"$10^{{{power}}}$" for power in range(-4, 1)])
    axes.minorticks_off()
    axes.axvline(TAKES_OVER, color="#7d7d7d", linewidth=0.8, zorder=0)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the claim against what is meant by insensitive: as good at every scale, and learning at all."""
    ends = select(collected.measured, part="end")
    yield _as_good(ends)
    yield _learns(collected.table, ends)


def above(ends: DataFrame, setting: str, quantity: str, least: float) -> DataFrame:
    """Return the rows of scales at which no net diverges and the interval is above what is asked for."""
    rows = select(ends, setting=setting, quantity=quantity, diverged=0).sort_values("scale")
    return rows[rows["ci_low"] > least]


def _span(scales: Any) -> str:
    """Write scales, those in a row as a span."""
    runs: list[list[float]] = []
    for size in SCALES:
        if not np.isclose(size, list(scales)).any():
            runs.append([])
        elif runs and runs[-1]:
            runs[-1].append(size)
        else:
            runs.append([size])
    written = [f"{run[0]:.2g}" + (f" to {run[-1]:.2g}" if len(run) > 1 else "") for run in runs if run]
    return " and ".join(written) or "nowhere"


def _worst(rows: DataFrame) -> Any:
    """Return the row with the lowest end of an interval."""
    return next(rows.sort_values("ci_low").itertuples())


def _at(ends: DataFrame, setting: str, scale: float, quantity: str = "accuracy") -> Any:
    return pick(ends, setting=setting, scale=scale, quantity=quantity)


def _as_good(ends: DataFrame) -> Verdict:
    """A20: accuracy after training is that of the best scale at every scale, or at half of them."""
    good = {setting: above(ends, setting, BEHIND, -CLOSE) for setting in (NORMALIZED, NONE)}
    every = select(ends, setting=NORMALIZED, quantity=BEHIND)
    enough = 2 * len(good[NORMALIZED]) >= len(every)
    row = _worst(good[NORMALIZED] if enough else every)
    best = {}
    for setting in (NORMALIZED, FASTER):
        loss = select(ends, setting=setting, quantity="loss")
        best[setting] = loss["scale"].to_numpy()[np.nanargmin(loss["estimate"].to_numpy())]
    first, last = (_at(ends, NORMALIZED, size) for size in (SCALES[0], SCALES[-1]))
    test = [_at(ends, NORMALIZED, size, "test_accuracy") for size in (SCALES[0], best[NORMALIZED], SCALES[-1])]
    slope = _slope(select(ends, setting=NORMALIZED, quantity="log10_first_step"))
    note = (
        f"training accuracy with batch norm at {row.scale:.2g}, the worst of the scales "
        f"{'that are as good' if enough else 'from 1e-4 to 1'}, by that of the best scale. Surely within "
        f"{CLOSE:g} of the best are {len(good[NORMALIZED])} of {len(every)} scales with batch norm, "
        f"{_span(good[NORMALIZED].scale)}; without it {_span(good[NONE].scale)}."
        f" At least half of the scales are asked for. With batch norm accuracy falls "
        f"to {first.estimate:.2f} at 1e-4 and {last.estimate:.2f} at 1 (on the test part {test[0].estimate:.2f}, "
        f"{test[1].estimate:.2f} at the scale of least loss, {test[2].estimate:.2f}). What a scale changes is the size "
        f"of the steps: the first one of W_2, by its size, goes as the scale to the power {slope:.2f}; and least loss "
        f"is at {best[NORMALIZED]:.2g} with rate {RATE:g}, at {best[FASTER]:.2g} with {10 * RATE:g}. Shares of scales "
        "were judged net by net at first; intervals of each scale took their place after first results"
    )
    when = f"the standard deviation of a weight is {_span(good[NORMALIZED].scale)}"
    return judge("A20", row, enough, note, when="" if len(good[NORMALIZED]) == len(every) else when)


def _slope(rows: DataFrame) -> float:
    """Return the power of the scale by which an estimate of log10 goes, where epsilon counts little."""
    rows = rows[rows["scale"] > 5 * TAKES_OVER]
    return float(np.polyfit(np.log10(rows["scale"]), rows["estimate"], 1)[0])


def _learns(table: DataFrame, ends: DataFrame) -> Verdict:
    """A20: nets with batch norm learn at scales at which others do not; how far down, epsilon decides."""
    learns = {setting: above(ends, setting, "accuracy", LEARNED) for setting in (NORMALIZED, NONE)}
    well = above(ends, NORMALIZED, "accuracy", WELL)
    every = select(ends, setting=NORMALIZED, quantity="accuracy")
    plain = select(ends, setting=NONE, quantity="accuracy")
    perhaps = plain[plain["ci_high"] > LEARNED]  # without it
    wider = len(learns[NORMALIZED]) > len(perhaps) and 2 * len(learns[NORMALIZED]) >= len(every)
    row = _worst(learns[NORMALIZED] if wider else every)
    usual, tiny = (_at(ends, setting, SCALES[0]) for setting in (NORMALIZED, TINY))
    by_epsilon = tiny.ci_low > usual.ci_high
    enough = tiny.ci_high > every["estimate"].max() - CLOSE
    lost, dead = (
        {setting: select(ends, setting=setting, quantity=name) for setting in (NONE, NORMALIZED)}
        for name in ("diverged", "dead")
    )
    diverged = lost[NONE][lost[NONE]["estimate"] > 0.5]
    left = {layer: select(normalized(table), layer=layer).sort_values("scale") for layer in MADE}
    first, deep = (left[layer]["estimate"].iloc[0] for layer in (MADE[0], MADE[-1]))
    half = {layer: rows[rows["estimate"] > 0.5]["scale"].min() for layer, rows in left.items()}
    note = (
        f"training accuracy with batch norm at {row.scale:.2g}, the worst of the scales at which nets "
        f"{'surely learn at all' if wider else 'were trained'}. Nets surely reach {LEARNED:g} at "
        f"{len(learns[NORMALIZED])} of {len(every)} scales with batch norm, {_span(learns[NORMALIZED].scale)}, and "
        f"{WELL:g} at {_span(well.scale)}; without it {LEARNED:g} at {_span(learns[NONE].scale)}, perhaps at "
        f"{_span(perhaps.scale)}. There most nets diverge at {_span(diverged.scale)} "
        f"({_total(lost[NONE])} nets of all scales; {_total(lost[NORMALIZED])} with batch "
        f"norm), {_total(dead[NONE])} have a dead layer ({_total(dead[NORMALIZED])} with batch norm), and the other "
        f"small ones stay at chance. Batch norm does not normalize what varies less than epsilon: of wide nets the "
        f"variance of layer l tends to 0 with l below a scale of (epsilon / 0.341 n)^1/2 = {TAKES_OVER:.2g}; at 1e-4 "
        f"that of normalized values is {first:.2g} in layer 1 and {deep:.2g} in layer {MADE[-1]}, and above 0.5 from "
        f"{half[MADE[0]]:.2g} and {half[MADE[-1]]:.2g} on. At 1e-4 accuracy is {usual.estimate:.2f} "
        f"[{usual.ci_low:.2f}, {usual.ci_high:.2f}], with epsilon 1e-12 {tiny.estimate:.2f} [{tiny.ci_low:.2f}, "
        f"{tiny.ci_high:.2f}]"
        + (
            (": epsilon is why" if enough else ": epsilon is part of why")
            if by_epsilon
            else ": epsilon is not sure to be why"
        )
    )
    when = (
        f"learning at all is asked for, accuracy above {LEARNED:g}, and the standard deviation of a weight is "
        f"{_span(learns[NORMALIZED].scale)}; accuracy is above {WELL:g} at {_span(well.scale)} only"
    )
    return judge("A20", row, wider, note, when=when)


def _total(rows: DataFrame) -> str:
    """Write how many nets of all rows something holds of."""
    return f"{round(float((rows['estimate'] * rows['nets']).sum()))} of {int(rows['nets'].sum())}"


study = Study(
    name="weight_scale",
    title="Training from weights of any scale: what batch norm makes of it, and where its epsilon takes over",
    cases=cases,
    draw=draw,
    claims=("A20",),
    verdicts=verdicts,
    measure=measure,
    on_mnist=True,
)

if __name__ == "__main__":
    run_script(study)
