"""Batch normalization in training: the net of the notes, epochs against steps, running statistics, and bad starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import exact_interval
from stabsim.datasets import Split, mnist_at_hand, split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, counting_divergence, train
from stabsim.verdicts import counted, judge, k_of_n, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame


class Effort(NamedTuple):
    """How many of everything."""

    samples: int | None  # for training and testing
    nets: int
    steps: int  # at least, with the rate of the claim
    fast: int  # steps with the larger rate
    lagging: int  # steps with slow running statistics
    small: int  # steps with few samples
    started: int  # nets from each bad start
    few: int  # steps of those
    simulated: int  # nets that are only started


EFFORT = {
    "quick": Effort(5000, 4, 0, 100, 60, 60, 8, 40, 16),
    "paper": Effort(None, 8, 5500, 1000, 400, 1000, 8, 150, 400),
}
DIGITS = (784, 300, 100, 10)
BATCH, EPOCHS, MOMENTUM, SLOW = 200, 20, 0.9, 0.99
RATE, FAST = 0.01, 0.1
EPSILON = 1e-3  # as in the library that the notes use
NORMALIZED, NONE = f"batch(epsilon={EPSILON})", "none"
NAMES = {NORMALIZED: "batch norm", NONE: "without"}
FEW = 600  # samples
GAINS = (0.01, 10.0)  # of He's weights: too small and too large
GOOD, LEARNED, CLOSE = 0.9, 0.5, 0.01  # accuracies, and a difference of them
RECORDED = (0, 2, 5, 10, 20, 40, 60, 100, 150, 200, 300, 400, 600, 1000, 2000, 3000, 4000, 5500)
ACCURACY, BY_BATCHES, LOSS, GRADIENT = "test_accuracy", "by batches", "batch_loss", "weight_gradient_log10_norm"


def data(scale: str) -> Split:
    """Return the digits, at quick scale no more than 5,000."""
    return split(mnist_at_hand(), samples=EFFORT[scale].samples)


def epochs(digits: Split) -> int:
    """Return how many steps the epochs of the claim are."""
    return EPOCHS * (len(digits.train[0]) // BATCH)


def network(normalization: str, gain: float = 1.0) -> Network:
    """Return the net of the claim, its weights multiplied by a gain."""
    weights = f"he_normal(gain={math.sqrt(2) * gain!r})"
    return Network(DIGITS, "elu", weights, normalization=None if normalization == NONE else normalization)


def cases(scale: str) -> Iterator[Case]:
    """Yield nets before training, with and without batch normalization, from good weights and bad ones."""
    inputs = data(scale).train[0][:BATCH]
    for normalization in NAMES:
        for gain in sorted((1.0, *GAINS)):
            task = make_task(network(normalization, gain), batch=BATCH, inputs=inputs, quantities=(GRADIENT,))
            yield Case(task, EFFORT[scale].simulated, {"normalization": normalization, "gain": gain})


def trained(
    digits: Split, normalization: str, nets: int, steps: int, *, gain: float = 1.0, rate: float = RATE,
    momentum: float = MOMENTUM, samples: int | None = None, keep_weights: bool = False,
) -> Trained:  # fmt: skip
    """Return nets trained as the claim says, unless told otherwise; those that diverge are counted."""
    inputs, targets = (part[:samples] for part in digits.train)
    with counting_divergence():
        return train(
            network(normalization, gain), nets=nets, steps=steps, data=(inputs, targets),
            test=digits.test, batch=BATCH, loss="softmax_cross_entropy", optimizer=f"sgd(learning_rate={rate})", seed=1,
            running_momentum=momentum, normalize_output=normalization != NONE, keep_weights=keep_weights,
            record=[step for step in {*RECORDED, epochs(digits), steps} if step <= steps], quantities=(ACCURACY, LOSS),
        )  # fmt: skip


def outputs_by_batches(nets: Trained, inputs: NDArray[Any], place: tuple[int, ...]) -> NDArray[Any]:
    """Return what goes into the softmax of a net after some steps, each mini-batch normalized by its own statistics.

    ``inputs`` are (mini-batches, samples, features), ``place`` the number of the net and that of what was recorded.
    """
    z: NDArray[Any] = inputs.astype(np.float32)
    s = z
    for layer in range(1, len(DIGITS)):
        s = z @ nets.weights(layer)[place]
        s = (s - s.mean(axis=1, keepdims=True)) / np.sqrt(s.var(axis=1, keepdims=True) + np.float32(EPSILON))
        s = s * nets.scales(layer)[place] + nets.shifts(layer)[place]
        z = np.where(s > 0, s, np.expm1(np.minimum(s, 0)))
    return s


def accuracy_by_batches(nets: Trained, test: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[np.float64]:
    """Return the test accuracy (nets, steps) where each mini-batch is normalized by its own statistics, as in training.

    The last samples, which fill no mini-batch, are left out.
    """
    number = len(test[0]) // BATCH
    inputs, labels = (part[: number * BATCH].reshape(number, BATCH, -1) for part in test)
    found = np.empty(nets.record.shape[:2])
    for place in np.ndindex(found.shape):
        outputs = outputs_by_batches(nets, inputs, place)
        found[place] = (outputs.argmax(axis=-1) == labels.argmax(axis=-1)).mean()
    return found


def measure(scale: str) -> DataFrame:
    """Train the net with and without batch normalization, with two rates, few samples, slow statistics, bad starts."""
    import pandas

    digits, effort = data(scale), EFFORT[scale]
    epoch = len(digits.train[0]) // BATCH
    steps = max(effort.steps, epochs(digits))
    rows = []
    for rate, until in ((RATE, steps), (FAST, effort.fast)):
        normalized, plain = (
            trained(digits, kind, effort.nets, until, rate=rate, keep_weights=kind != NONE and rate == RATE)
            for kind in NAMES
        )
        tags = {"part": "rate", "rate": rate, "epoch": epoch}
        rows += [*_means(normalized, **tags, normalization=NORMALIZED), *_means(plain, **tags, normalization=NONE)]
        change = normalized.values(ACCURACY) - plain.values(ACCURACY)
        rows += _lines("change", change[:, :, 0], normalized.steps, **tags, normalization=NORMALIZED)
        if rate == RATE:
            normal = normalized
            rows += _modes(normalized, digits, momentum=MOMENTUM, epoch=epoch)
    slow = trained(digits, NORMALIZED, effort.nets, effort.lagging, momentum=SLOW, keep_weights=True)
    rows += _modes(slow, digits, momentum=SLOW, epoch=epoch)
    small = trained(digits, NORMALIZED, effort.nets, effort.small, samples=FEW)
    rows += _means(small, part="samples", rate=RATE, normalization=NORMALIZED, epoch=FEW // BATCH)
    rows += _fewer_samples(small, normal, EPOCHS * epoch)
    rows += _starts(digits, effort)
    return pandas.DataFrame(rows).assign(theory=math.nan)


def _means(nets: Trained, **tags: Any) -> Iterator[dict[str, Any]]:
    for quantity in (ACCURACY, LOSS):
        yield from _lines(quantity, nets.values(quantity)[:, :, 0], nets.steps, **tags)


def _lines(quantity: str, values: NDArray[Any], steps: tuple[int, ...], **tags: Any) -> Iterator[dict[str, Any]]:
    for place, step in enumerate(steps):
        there = values[np.isfinite(values[:, place]), place]
        yield tags | {"quantity": quantity, "step": step} | mean_with_interval(there)


def _modes(nets: Trained, digits: Split, **tags: Any) -> Iterator[dict[str, Any]]:
    """Yield accuracies by running statistics and by those of mini-batches, and the difference in the same net."""
    tags |= {"part": "mode", "rate": RATE, "normalization": NORMALIZED}
    running, own = nets.values(ACCURACY)[:, :, 0], accuracy_by_batches(nets, digits.test)
    for quantity, values in ((ACCURACY, running), (BY_BATCHES, own), ("change", running - own)):
        yield from _lines(quantity, values, nets.steps, **tags)


def _fewer_samples(small: Trained, normal: Trained, last: int) -> Iterator[dict[str, Any]]:
    """Yield how much less accurate few samples are after 20 epochs: than more after as many steps, or epochs."""
    step = EPOCHS * (FEW // BATCH)
    at_end = small.values(ACCURACY)[:, small.steps.index(step), 0]
    for quantity, there in (("as many steps", step), ("as many epochs", last)):
        change = at_end - normal.values(ACCURACY)[:, normal.steps.index(there), 0]
        yield {"part": "fewer", "quantity": quantity, "step": step, "rate": RATE} | mean_with_interval(change)


def _starts(digits: Split, effort: Effort) -> Iterator[dict[str, Any]]:
    """Yield how many nets learn from bad starts, with batch normalization and without it."""
    for gain in GAINS:
        learned = {}
        for kind in NAMES:
            nets = trained(digits, kind, effort.started, effort.few, gain=gain)
            learned[kind] = nets.values(ACCURACY)[:, -1, 0] > LEARNED  # of those that diverged it is NaN
            tags = {"part": "start", "gain": gain, "rate": RATE, "normalization": kind, "step": effort.few}
            yield tags | {"quantity": "learned"} | counted(learned[kind])
            yield tags | {"quantity": "diverged"} | counted(nets.diverged_after >= 0)
            yield from _means(nets, part="path", gain=gain, rate=RATE, normalization=kind)
        tags |= {"normalization": NORMALIZED}
        yield tags | {"quantity": "only with"} | counted(learned[NORMALIZED] & ~learned[NONE])
        yield tags | {"quantity": "only without"} | counted(learned[NONE] & ~learned[NORMALIZED])


TRAINED = (
    f"an ELU net of widths {', '.join(map(str, DIGITS))} on handwritten digits, mini-batches of {BATCH}, with batch "
    "normalization and without it"
)
CAPTION = (
    f"Test accuracy of {TRAINED}. (a) Against steps, at two learning rates. (b) What batch normalization changes in "
    "the same net with the same mini-batches (dashed: nothing). (c), (d) Nets with batch normalization at learning "
    f"rate {RATE:g}, trained on all samples and on few, against steps and against epochs: if lines meet in (c) and not "
    f"in (d), steps count. Gray: accuracy {GOOD:g}, and {EPOCHS} epochs. {figures.BANDS}"
)
CAPTION_OF_MODES = (
    f"Two ways to test {TRAINED.removesuffix(' and without it')}. (a) Test accuracy by running means and variances, "
    f"with momentum {MOMENTUM:g} or {SLOW:g}, and by those of the mini-batch itself. (b) The difference between them "
    f"in the same net (dashed: none); below 0, running statistics lag behind the weights. {figures.BANDS}"
)
CAPTION_OF_STARTS = (
    f"Bad starts of {TRAINED}: the weights are He's times a gain. (a) Norm of the gradient of the weights of each "
    f"layer before training (geometric mean). (b) Test accuracy in the first steps at learning rate {RATE:g}. "
    f"{figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw accuracy against steps and epochs, both modes of batch normalization, and bad starts."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.6)
    rates = select(measured, part="rate", quantity=ACCURACY)
    names = rates["normalization"].map(NAMES) + rates["rate"].map(", rate {:g}".format)
    changes = select(measured, part="rate", quantity="change").assign(theory=0.0)
    changes = changes.assign(line=changes["rate"].map("rate {:g}".format))
    _against(axes[0, 0], "step", rates.assign(line=names), ylabel="test accuracy")
    _against(axes[0, 1], "step", changes, ylabel="change of test accuracy\nby batch norm, same net")
    axes[0, 1].get_legend().remove()
    sizes = select(measured, part=("rate", "samples"), rate=RATE, normalization=NORMALIZED, quantity=ACCURACY)
    number = (sizes["epoch"] * BATCH).astype(int)
    sizes = sizes.assign(line=number.map("{:,} samples".format), passed=sizes["step"] / sizes["epoch"])
    sizes = sizes[sizes["step"] <= sizes.groupby("line")["step"].transform("max").min()]
    _against(axes[1, 0], "step", sizes, ylabel="test accuracy, batch norm")
    _against(axes[1, 1], "passed", sizes, ylabel="test accuracy, batch norm", xlabel="epochs")
    for panel in (axes[0, 0], axes[1, 0], axes[1, 1]):
        panel.axhline(GOOD, color="#999999", linewidth=0.6, zorder=0)
    axes[1, 1].axvline(EPOCHS, color="#999999", linewidth=0.6, zorder=0)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([rates, changes, sizes])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.5)
    modes = select(measured, part="mode", quantity=(ACCURACY, BY_BATCHES))
    modes = modes[(modes["quantity"] == ACCURACY) | (modes["momentum"] == MOMENTUM)]
    running = modes["momentum"].map("running, {:g}".format)
    modes = modes.assign(line=running.where(modes["quantity"] == ACCURACY, "of the mini-batch"))
    lags = select(measured, part="mode", quantity="change").assign(theory=0.0)
    lags = lags.assign(line=lags["momentum"].map("momentum {:g}".format))
    _against(axes[0, 0], "step", modes, ylabel="test accuracy by statistics")
    _against(axes[0, 1], "step", lags, ylabel="accuracy by running statistics\nless that by mini-batches")
    axes[0, 1].get_legend().remove()
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([modes, lags])
    yield Drawing(figure, drawn, "modes", f"{CAPTION_OF_MODES} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.6)
    table = collected.table
    before = table.assign(line=table["normalization"].map(NAMES) + table["gain"].map(", gain {:g}".format))
    order = list(dict.fromkeys(before["line"]))
    label = "norm of dW before training"
    figures.against_depth(axes[0, 0], before, by="line", order=order, scale="exponent", ylabel=label)
    paths = select(measured, part="path", quantity=ACCURACY)
    paths = paths.assign(line=paths["normalization"].map(NAMES) + paths["gain"].map(", gain {:g}".format))
    _against(axes[0, 1], "step", paths, ylabel="test accuracy", order=order)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([before, paths])
    yield Drawing(figure, drawn, "starts", f"{CAPTION_OF_STARTS} {figures.of_nets(drawn['nets'])}")


def _against(axes: Axes, column: str, rows: DataFrame, *, xlabel: str = "steps", **looks: Any) -> None:
    rows = rows[rows["step"] > 0]
    axes.set_xscale("log")
    figures.against_depth(axes, rows.assign(layer=rows[column]), by="line", xlabel=xlabel, **looks)
    axes.xaxis.set_minor_formatter("")  # of an axis of about a decade they would be labels on labels
    powers = range(math.ceil(math.log10(rows[column].min())), math.floor(math.log10(rows[column].max())) + 1)
    axes.set_xticks([10.0**power for power in powers], labels=[f"{10.0**power:g}" for power in powers])


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the claims against the trained nets."""
    measured = collected.measured
    yield _trains_well(measured)
    yield _remedy(collected.table, measured)
    yield _plateau(collected.table, measured)


def _first_good(rows: DataFrame) -> float:
    """Return the first number of steps from which on accuracy is surely good; NaN if there is none."""
    doubtful = rows[~(rows["ci_low"] >= GOOD)]["step"].max()
    return float(rows[~(rows["step"] <= doubtful)]["step"].min())


def _trains_well(measured: DataFrame) -> Verdict:
    """D06: the net reaches 90% on test samples in 20 epochs; if not, with how many steps, or which rate."""
    rates = select(measured, part="rate", quantity=ACCURACY)
    claim = select(rates, rate=RATE, normalization=NORMALIZED)
    plain, fast = select(rates, rate=RATE, normalization=NONE), select(rates, rate=FAST)
    epoch = int(claim["epoch"].iloc[0])
    twenty = EPOCHS * epoch
    row, other = pick(claim, step=twenty), pick(plain, step=twenty)
    change = pick(measured, part="rate", rate=RATE, quantity="change", step=twenty)
    reached, after = row.ci_low >= GOOD, _first_good(claim)
    faster = {kind: _first_good(select(fast, normalization=kind)) for kind in NAMES}
    reasons = []
    if not math.isnan(after):
        reasons.append(
            f"there are {after:.0f} steps of batch {BATCH}, which 20 epochs of {epoch * BATCH} samples are not"
        )
    if not math.isnan(faster[NORMALIZED]):
        reasons.append(f"the learning rate is {FAST:g}")
    modes = {
        momentum: select(measured, part="mode", momentum=momentum, quantity="change") for momentum in (MOMENTUM, SLOW)
    }
    late = {momentum: rows[rows["ci_high"] < -CLOSE]["step"] for momentum, rows in modes.items()}
    behind = {momentum: steps.max() if len(steps) else 0.0 for momentum, steps in late.items()}
    at_end = pick(modes[MOMENTUM], step=twenty)
    last = claim["step"].max()
    note = (
        f"test accuracy of {row.nets:.0f} nets by running statistics after 20 epochs, {twenty} steps of {BATCH} of "
        f"{epoch * BATCH} samples ({GOOD:g} is asked for; of 55,000 samples 20 epochs are 5,500 steps). After {last} "
        f"steps it is {_interval(pick(claim, step=last))}, without batch norm {_interval(pick(plain, step=last))}; "
        f"{GOOD:g} is sure after {_steps(after)} and {_steps(_first_good(plain))}, with learning rate {FAST:g} after "
        f"{_steps(faster[NORMALIZED])} and {_steps(faster[NONE])} (of {fast['step'].max()}). "
        f"{_steps_or_epochs(measured)}. Without batch norm {_interval(other)} after {twenty}: it adds "
        f"{_interval(change)} in the same net. Accuracy by running statistics is then {_interval(at_end)} above that "
        f"by those of a batch; it is surely more than {CLOSE:g} below it up to step "
        + ", ".join(f"{step:.0f} with momentum {momentum:g}" for momentum, step in behind.items())
    )
    return judge("D06", row, bool(reached or reasons), note, when="" if reached else ", or ".join(reasons))


def _steps_or_epochs(measured: DataFrame) -> str:
    """Write whether accuracy depends on steps or on epochs, as far as the intervals tell."""
    by_steps, by_epochs = (pick(measured, part="fewer", quantity=f"as many {each}") for each in ("steps", "epochs"))
    far = max(abs(by_steps.ci_low), abs(by_steps.ci_high))
    word = "Steps count more than epochs" if by_epochs.ci_high < -far else "Whether steps count or epochs is not seen"
    return (
        f"{word}: accuracy of {FEW} samples after 20 epochs, {int(by_steps.step)} steps, less that of all samples "
        f"after as many steps is {_interval(by_steps)}, less that after as many epochs {_interval(by_epochs)}"
    )


def _interval(row: Any) -> str:
    return f"{row.estimate:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"


def _steps(number: float) -> str:
    return "no number of steps" if math.isnan(number) else f"{number:.0f} steps"


def _depending(measured: DataFrame, gain: float) -> Any:
    """Return which share learns with batch normalization, of nets that learn only with it or only without."""
    import pandas

    rows = select(measured, part="start", gain=gain)
    saved, lost = (
        round(float((each["estimate"] * each["nets"]).sum()))
        for each in (select(rows, quantity=name) for name in ("only with", "only without"))
    )
    low, high = exact_interval(saved, saved + lost) if saved + lost else (0.0, 1.0)
    share = saved / (saved + lost) if saved + lost else math.nan
    return next(
        pandas.DataFrame(
            [(share, float(low), float(high), 0.5, saved, lost)],
            columns=["estimate", "ci_low", "ci_high", "theory", "saved", "lost"],
        ).itertuples()
    )


def _learned(measured: DataFrame, gain: float) -> str:
    rows = select(measured, part="start", gain=gain)
    return ", ".join(
        f"{name} {k_of_n(pick(rows, normalization=kind, quantity='learned'))} learn "
        f"({k_of_n(pick(rows, normalization=kind, quantity='diverged'))} diverge)"
        for kind, name in NAMES.items()
    )


def _remedy(table: DataFrame, measured: DataFrame) -> Verdict:
    """D04, batch norm: nets that start badly learn with it, and nets that start well are the better for it."""
    each = {gain: _depending(measured, gain) for gain in GAINS}
    useful = [gain for gain in GAINS if each[gain].ci_low > 0.5]
    row = min((each[gain] for gain in useful or GAINS), key=lambda found: found.ci_low)
    changes = select(measured, part="rate", rate=RATE, quantity="change")
    well = pick(changes, step=changes["step"].max())
    steps = select(measured, part="start")["step"].max()
    note = (
        f"share that learns with batch norm, of nets that learn (test accuracy above {LEARNED:g} in {steps:.0f} steps "
        f"of rate {RATE:g}) either only with it or only without, the same net with the same mini-batches; one half: no "
        "use. "
        + "; ".join(f"Weights of {gain:g} He: {_learned(measured, gain)}" for gain in GAINS)
        + f". From He's weights batch norm adds {_interval(well)} to the accuracy after {well.step} steps. "
        + _slow(table)
    )
    when = "the remedy is batch norm"
    if len(useful) < len(GAINS):
        when += f" and the weights are {' or '.join(f'{gain:g}' for gain in useful)} times those of He"
    return judge("D04", row, bool(useful), note, when=when)


def _slow(table: DataFrame) -> str:
    """Write how far a step of the same rate turns large weights, with batch normalization and without."""
    large = max(GAINS)
    parts = []
    for kind, name in NAMES.items():
        sizes = (pick(table, normalization=kind, gain=gain, quantity=GRADIENT, layer=1) for gain in (large, 1.0))
        high, normal = (each.estimate for each in sizes)
        parts.append(f"{name} {10 ** (high - normal):.2g} ({10 ** (high - normal) / large:.2g})")
    return (
        f"Norm of dW of layer 1 before training with weights of {large:g} He, as a multiple of that with weights of He "
        f"(and relative to the weights: how far a step turns them): {', '.join(parts)}"
    )


def _plateau(table: DataFrame, measured: DataFrame) -> Verdict:
    """E10, batch norm: from weights near 0, where gradients vanish, nets leave the plateau with it and not without."""
    row = _depending(measured, GAINS[0])
    path = select(measured, part="path", gain=GAINS[0], quantity=LOSS)
    last = {kind: pick(path, normalization=kind, step=path["step"].max()) for kind in NAMES}
    sizes = {kind: pick(table, normalization=kind, gain=GAINS[0], quantity=GRADIENT, layer=1) for kind in NAMES}
    steeper = sizes[NORMALIZED].ci_low > sizes[NONE].ci_high
    note = (
        "share that learns with batch norm, of the nets that learn either only with it or only without, from "
        f"{GAINS[0]:g} times He's weights: {_learned(measured, GAINS[0])}. Loss after {path['step'].max()} steps "
        f"(chance: {math.log(DIGITS[-1]):.2f}): "
        + ", ".join(f"{NAMES[kind]} {_interval(each)}" for kind, each in last.items())
        + "; log10 of the norm of dW of layer 1 before training: "
        + ", ".join(f"{NAMES[kind]} {each.estimate:.2f}" for kind, each in sizes.items())
        + ". One kind of plateau: that of weights near 0"
    )
    holds = bool(row.ci_low > 0.5 and steeper)
    return judge("E10", row, holds, note, when="what helps is batch norm, and the plateau that of weights near 0")


study = Study(
    name="batch_norm_training",
    title="Batch normalization in training: accuracy against steps and epochs, running statistics, bad starts",
    cases=cases,
    draw=draw,
    claims=("D06", "D04", "E10"),
    verdicts=verdicts,
    measure=measure,
    on_mnist=True,
)

if __name__ == "__main__":
    run_script(study)
