"""SGD, Momentum, AdaGrad, Adam and RMSProp on handwritten digits, over many seeds, beside the losses of one run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import dataset, mnist_at_hand, split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, train
from stabsim.verdicts import judge, mean_with_interval, median_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame


class Effort(NamedTuple):
    """How many of everything."""

    nets: int
    steps: int
    others: int  # nets at other learning rates, and with fewer samples
    parts: tuple[float, ...]  # of the samples


EFFORT = {
    "quick": Effort(6, 501, 4, (0.25,)),
    "paper": Effort(64, 2000, 16, (0.125, 0.25, 0.5)),
}
NETWORK = Network((784, 100, 100, 100, 100, 10), "relu", "he_normal")
BATCH, EVERY = 128, 100
# What the notes print at iteration 100 is the loss of the batch just used, behind the step of iteration 100: the 101st.
FIRST = 101
NOTES = {"sgd": 1.6, "momentum": 0.34, "adagrad": 0.16, "adam": 0.25}
OTHERS = tuple(name for name in NOTES if name != "sgd")
SHOWN = (*NOTES, "rmsprop")
RATES = (0.03, 0.1, 0.3)  # of SGD, besides its 0.01
SEED = 1  # the same weights and mini-batches for all optimizers
QUANTITIES = ("last_batch_loss", "loss", "test_loss", "test_accuracy")
LAST = "last_batch_loss"


def cases(scale: str) -> Iterator[Case]:
    """Yield the nets before training: how large the digits leave signals and gradients."""
    quantities = ("activation_mean_square", "weight_gradient_log10_norm")
    task = make_task(NETWORK, batch=BATCH, inputs=mnist_at_hand(), quantities=quantities, sampler="dense")
    yield Case(task, EFFORT[scale].nets, {"net": "before training"})


def measure(scale: str) -> DataFrame:
    """Train nets by every optimizer, by SGD at other learning rates, and on parts of the samples."""
    import pandas

    effort = EFFORT[scale]
    whole, steps = len(dataset(mnist_at_hand())), effort.steps
    times = sorted({1, 26, 51, *range(FIRST, steps + 1, EVERY), steps})
    main = {name: _trained(f"mnist_{name}", effort.nets, times) for name in SHOWN}
    rates = {rate: _trained(f"mnist_sgd(learning_rate={rate})", effort.others, times) for rate in RATES}
    frames = [_summary(nets, part="optimizers", line=name) for name, nets in main.items()]
    frames += [_summary(nets, part="rates", line=f"{rate:g}") for rate, nets in rates.items()]
    frames += [_ratios(main[one], main[other], part="ratio", line=f"{one}/{other}") for one, other in _pairs()]
    frames += [
        _ratios(nets, main[name], part="rate ratio", line=f"{rate:g}/{name}")
        for rate, nets in rates.items()
        for name in NOTES
    ]
    ends = sorted({FIRST, steps})
    for part in effort.parts:
        for name in NOTES:
            nets = _trained(f"mnist_{name}", effort.others, ends, samples=round(part * whole))
            frames.append(_summary(nets, part="samples", line=name))
    return pandas.concat(frames, ignore_index=True)


def _pairs() -> list[tuple[str, str]]:
    return [("sgd", other) for other in OTHERS] + [("adagrad", other) for other in OTHERS if other != "adagrad"]


def _trained(optimizer: str, nets: int, record: Sequence[int], samples: int | None = None) -> Trained:
    data = split(mnist_at_hand(), scale="unit", samples=samples)
    with warnings.catch_warnings():  # those that diverge are counted
        warnings.filterwarnings("ignore", ".* nets diverged", RuntimeWarning)
        return train(
            NETWORK, nets=nets, steps=max(record), data=data.train, test=data.test, batch=BATCH,
            order="with_replacement", loss="softmax_cross_entropy", optimizer=optimizer, record=record,
            quantities=QUANTITIES, seed=SEED,
        )  # fmt: skip


def _summary(trained: Trained, **tags: Any) -> DataFrame:
    """Return medians over nets, and where a single net is with 95%."""
    import pandas

    rows = []
    for quantity in QUANTITIES:
        for place, step in enumerate(trained.steps):
            values = trained.values(quantity)[:, place, 0]
            values = values[np.isfinite(values)]
            found = median_with_interval(values)
            low, high = single(values, logarithmic=quantity != "test_accuracy")
            rows.append({
                "quantity": quantity, "step": step, **found, "below": low / found["estimate"],
                "above": high / found["estimate"], "inside": float(np.mean((values >= low) & (values <= high))),
                "samples": trained.training.samples, "diverged": len(trained.record) - len(values),
            })  # fmt: skip
    return pandas.DataFrame(rows).assign(theory=math.nan, **tags)


def single(values: NDArray[np.float64], *, logarithmic: bool = True) -> tuple[float, float]:
    """Return the 95% prediction interval of one more value, of a normal law or one whose logarithms are normal.

    Student's: mean -+ t s sqrt(1 + 1/n), t of n - 1 degrees of freedom.
    """
    from scipy.special import stdtrit

    each = np.log(values) if logarithmic else values
    n = len(each)
    reach = float(stdtrit(n - 1, 0.975)) * each.std(ddof=1) * math.sqrt(1 + 1 / n)
    ends = each.mean() - reach, each.mean() + reach
    low, high = np.exp(ends) if logarithmic else ends
    return float(low), float(high)


def _ratios(one: Trained, other: Trained, **tags: Any) -> DataFrame:
    """Return means of log10 of the ratio of losses, net by net: weights and mini-batches are the same."""
    import pandas

    rows = []
    for quantity in (LAST, "loss", "test_loss"):
        nets = min(len(one.record), len(other.record))
        first, second = (each.values(quantity)[:nets, :, 0] for each in (one, other))
        for place, step in enumerate(one.steps):
            logarithm = np.log10(first[:, place] / second[:, place])
            found = mean_with_interval(logarithm[np.isfinite(logarithm)])
            rows.append({"quantity": quantity, "step": step, **found})
    return pandas.DataFrame(rows).assign(theory=math.nan, **tags)


# --- figures --------------------------------------------------------------------------------------------


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw loss and accuracy against steps, single runs beside the notes' numbers, and SGD at other rates."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=5.0)
    main = select(measured, part="optimizers")
    losses, accuracy = select(main, quantity=LAST), select(main, quantity="test_accuracy")
    _against_steps(axes[0, 0], losses, SHOWN, ylabel="loss of the batch just used", scale="log")
    for index, name in enumerate(SHOWN):
        if name in NOTES:
            looks = figures.line(index) | {"markerfacecolor": "white", "markersize": 6, "linestyle": "none"}
            axes[0, 0].plot(FIRST, NOTES[name], zorder=4, **looks)
    _against_steps(axes[0, 1], accuracy, SHOWN, ylabel="test accuracy", scale="linear")
    axes[0, 1].set_ylim(bottom=0.5)
    dots = _singles(measured)
    figures.dot_plot(
        axes[1, 0], dots, rows="optimizer", by="line", values="estimate",
        xlabel=f"loss after {FIRST} steps, log10:\nmedian, 95% of single runs",
    )  # fmt: skip
    slow = pandas.concat([
        select(losses, line=("sgd", "momentum")),
        select(measured, part="rates", quantity=LAST),
    ])  # fmt: skip
    names = {"sgd": "SGD 0.01", "momentum": "momentum 0.01"} | {f"{rate:g}": f"SGD {rate:g}" for rate in RATES}
    slow = slow.assign(line=slow["line"].map(names))
    _against_steps(axes[1, 1], slow, tuple(names.values()), ylabel="loss of the batch just used", scale="log")
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([losses, accuracy, dots, slow]))
    yield _fewer_samples(measured)


def _against_steps(axes: Axes, rows: DataFrame, order: tuple[str, ...], **looks: Any) -> None:
    figures.against_depth(
        axes,
        of_single_nets(rows).assign(layer=rows["step"]),
        by="line",
        order=order,
        label=figures.spelled,
        xlabel="steps",
        **looks,
    )


def _singles(measured: DataFrame) -> DataFrame:
    """Return log10 of the losses at the notes' first step, with the bands of single runs and the notes' numbers."""
    rows = of_single_nets(_at_first(measured))
    logarithms = {name: np.log10(rows[name]) for name in ("estimate", "ci_low", "ci_high", "theory")}
    return rows.assign(optimizer=rows["line"].map(figures.spelled), **logarithms)


def of_single_nets(rows: DataFrame) -> DataFrame:
    """Return medians with the 95% bands of single nets in the place of the intervals of the medians."""
    return rows.assign(ci_low=rows["estimate"] * rows["below"], ci_high=rows["estimate"] * rows["above"])


def _at_first(measured: DataFrame) -> DataFrame:
    """Return the losses at the step whose numbers the notes give, these being the theory."""
    rows = select(measured, part="optimizers", quantity=LAST, step=FIRST, line=tuple(NOTES))
    return rows.assign(theory=rows["line"].map(NOTES))


def _fewer_samples(measured: DataFrame) -> Drawing:
    """Draw losses of batches and of test samples against the number of samples that batches are drawn from."""
    import pandas

    steps = sorted(set(select(measured, part="samples")["step"]))
    figure, axes = figures.panels(columns=len(steps), width=figures.PAGE, height=2.6)
    drawn = []
    for place, step in zip(axes.flat, steps, strict=True):
        rows = select(measured, step=step, part=("samples", "optimizers"), line=tuple(NOTES), quantity=LAST)
        looks = rows.assign(layer=np.log10(rows["samples"]))
        figures.against_depth(
            place, looks, by="line", order=tuple(NOTES), label=figures.spelled, scale="log",
            xlabel="log10 of the samples for training", ylabel=f"loss of the batch just used,\n{step} steps",
        )  # fmt: skip
        drawn.append(rows)
    figures.panel_labels(axes.flat)
    return Drawing(figure, pandas.concat(drawn), part="samples")


# --- verdicts -------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the order of the optimizers and the notes' numbers against many nets."""
    yield _order(collected.measured)
    yield _numbers(collected.measured)


def order_by_step(measured: DataFrame) -> DataFrame:
    """Return, by step from the notes' first, whether SGD is slowest, the others are close and AdaGrad is ahead.

    Net by net, in log10 of the loss: slowest if the intervals of its distances from all others are above 0; close if
    the others are less apart than the slowest of them is from SGD; ahead likewise.
    """
    import pandas

    rows = []
    ratios = select(measured, part="ratio", quantity=LAST)
    for step in sorted({step for step in ratios["step"] if step >= FIRST}):
        now = select(ratios, step=step)
        slow = select(now, line=tuple(f"sgd/{other}" for other in OTHERS))
        lead = select(now, line=tuple(f"adagrad/{other}" for other in OTHERS))
        apart = max(0.0, float(-lead["estimate"].min())) - min(0.0, float(-lead["estimate"].max()))
        rows.append({
            "step": step, "slowest": bool((slow["ci_low"] > 0).all()), "apart": apart,
            "close": apart < float(slow["estimate"].min()), "ahead": bool((lead["ci_high"] < 0).all()),
        })  # fmt: skip
    return pandas.DataFrame(rows)


def _order(measured: DataFrame) -> Verdict:
    """C05: SGD is clearly slowest, the other three are close, AdaGrad is slightly ahead."""
    steps = order_by_step(measured)
    parts = {name: _spans(steps, steps[name]) for name in ("slowest", "close", "ahead")}
    together = steps["slowest"] & steps["close"] & steps["ahead"]
    overtakes = {rate: [name for name in OTHERS if _ratio(measured, rate, name).ci_high < 0] for rate in RATES}
    faster = [rate for rate, names in overtakes.items() if names]
    conditions = [f"the learning rate of SGD is its {0.01:g}"] if faster else []
    conditions += [f"steps are {_spans(steps, together)}"] if not together.all() else []
    ratios = select(measured, part="ratio", quantity=LAST, step=FIRST)
    nearest = select(ratios, line=tuple(f"sgd/{other}" for other in OTHERS)).sort_values("estimate").iloc[0]
    other = nearest["line"].split("/")[1]
    note = (
        f"log10 of the loss of SGD by that of {figures.spelled(other)} after {FIRST} steps, the same weights and "
        f"batches; theory: the notes'. By log10 of the loss of the batch just used: SGD is slowest at steps "
        f"{parts['slowest']}; the other three are less apart than from SGD at {parts['close']} "
        f"({', '.join(f'{row.apart:.2f} at {row.step}' for row in steps.iloc[[0, -1]].itertuples())}); AdaGrad is "
        f"ahead of both at {parts['ahead']}. {_table(measured)}. SGD at other learning rates, {_told_rates(measured)}"
    )
    row = nearest.to_dict() | {"theory": math.log10(NOTES["sgd"] / NOTES[other])}
    return judge("C05", _Row(**{name: row[name] for name in _Row._fields}), bool(together.any()), note,
                 when=" and ".join(conditions))  # fmt: skip


class _Row(NamedTuple):
    estimate: float
    ci_low: float
    ci_high: float
    theory: float


def _ratio(measured: DataFrame, rate: float, name: str) -> Any:
    return pick(measured, part="rate ratio", line=f"{rate:g}/{name}", quantity=LAST, step=FIRST)


def _spans(steps: DataFrame, held: Any) -> str:
    """Write the steps at which something held: "101 to 401 and 601", "all" or "none"."""
    if held.all():
        return "all"
    places = [-2, *np.flatnonzero(held), len(steps) + 1]
    starts = [after for before, after in pairwise(places[:-1]) if after > before + 1]
    ends = [before for before, after in pairwise(places[1:]) if after > before + 1]
    at = steps["step"].to_numpy()
    spans = [f"{at[a]}" if a == b else f"{at[a]} to {at[b]}" for a, b in zip(starts, ends, strict=True)]
    return " and ".join(spans) or "none"


def _table(measured: DataFrame) -> str:
    """Write medians of the loss."""
    rows = select(measured, part="optimizers", quantity=LAST)
    steps = [step for step in sorted(set(rows["step"])) if step in (FIRST, 201, 501, 1001, 1901)]
    by_name = [
        f"{figures.spelled(name)} " + ", ".join(f"{pick(rows, line=name, step=step).estimate:.3g}" for step in steps)
        for name in SHOWN
    ]
    return f"Medians after {', '.join(map(str, steps))} steps: {'; '.join(by_name)}"


def _told_rates(measured: DataFrame) -> str:
    rows = select(measured, part="rates", quantity=LAST)
    last = max(rows["step"])
    return f"after {FIRST} and {last} steps: " + "; ".join(
        f"{rate:g} " + " and ".join(f"{pick(rows, line=f'{rate:g}', step=step).estimate:.3g}" for step in (FIRST, last))
        for rate in RATES
    )


def _numbers(measured: DataFrame) -> Verdict:
    """C05: the losses of one run each, of which the notes give those at iteration 100."""
    rows: list[Any] = list(of_single_nets(_at_first(measured)).itertuples())
    inside = [row.line for row in rows if row.ci_low <= row.theory <= row.ci_high]
    told = "; ".join(
        f"{figures.spelled(row.line)} {row.theory:g} {'inside' if row.line in inside else 'OUTSIDE'} "
        f"{row.ci_low:.3g} to {row.ci_high:.3g}, median {row.estimate:.3g}"
        for row in rows
    )
    widest = max(rows, key=lambda row: abs(math.log(row.theory / row.estimate)) / math.log(row.above / row.below))
    median = pick(_at_first(measured), line=widest.line)
    shares = select(measured, part="optimizers", quantity=LAST)["inside"]
    note = (
        f"median loss of {figures.spelled(widest.line)} after {FIRST} steps; theory: the notes'. Notes' numbers and "
        f"95% bands of single nets: {told}. Bands hold {float(shares.mean()):.0%} of our nets over all steps. Of later "
        f"steps the notes give no numbers. {_told_samples(measured)}"
    )
    names = [figures.spelled(name) for name in inside]
    when = "" if len(inside) == len(rows) else f"the optimizer is {' or '.join(names)}"
    return judge("C05", median, bool(inside), note, when=when)


def _told_samples(measured: DataFrame) -> str:
    """Write what fewer samples change, since the notes' runs draw from 60,000."""
    rows = select(measured, part="samples", quantity=LAST)
    least, last = min(rows["samples"]), max(rows["step"])
    main = select(measured, part="optimizers")
    samples = int(main["samples"].iloc[0])

    def changes(step: int) -> str:
        return ", ".join(
            f"{figures.spelled(name)} {pick(rows, line=name, step=step, samples=least).estimate:.3g} and "
            f"{pick(main, line=name, step=step, quantity=LAST).estimate:.3g} "
            f"(test {pick(main, line=name, step=step, quantity='test_loss').estimate:.3g})"
            for name in NOTES
        )

    return (
        f"Batches are drawn from {samples} samples (the notes': 60000). Median losses with {least} and all, "
        f"after {FIRST} steps: {changes(FIRST)}; after {last}: {changes(last)}"
    )


study = Study(
    name="optimizer_mnist",
    title="Optimizers on handwritten digits: losses and accuracies of many nets beside those of one run",
    cases=cases,
    draw=draw,
    claims=("C05",),
    verdicts=verdicts,
    measure=measure,
    on_mnist=True,
)

if __name__ == "__main__":
    run_script(study)
