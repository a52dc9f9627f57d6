"""SGD, Momentum, AdaGrad, Adam and RMSProp on handwritten digits, over many seeds, beside the losses of one run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import dataset, mnist_at_hand, split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, counting_divergence, train
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
    rates: tuple[float, ...]  # of SGD, besides its own
    parts: tuple[float, ...]  # of the samples


EFFORT = {
    "quick": Effort(6, 401, 4, (0.1,), (0.25,)),
    "paper": Effort(32, 2000, 16, (0.03, 0.1, 0.3), (0.125, 0.25, 0.5)),
}
NETWORK = Network((784, 100, 100, 100, 100, 10), "relu", "he_normal")
BATCH, EVERY = 128, 100
# What the notes print at iteration 100 is the loss of the batch just used, behind the step of iteration 100: the 101st.
FIRST = 101
NOTES = {"sgd": 1.6, "momentum": 0.34, "adagrad": 0.16, "adam": 0.25}
OTHERS = tuple(name for name in NOTES if name != "sgd")
SHOWN = (*NOTES, "rmsprop")
NOTES_SAMPLES = 60_000
RATE, MOMENTUM = 0.01, 0.9  # the notes' of SGD and of Momentum
RATES = EFFORT["paper"].rates
SEED = 1  # the same weights and mini-batches for all optimizers
QUANTITIES = ("last_batch_loss", "loss", "test_loss", "test_accuracy")
LAST = "last_batch_loss"
EVERYTHING = {"ci_low": -math.inf, "ci_high": math.inf}
WIDEST = 10.0  # a band of single nets whose ends are a larger factor apart holds nearly every number, and tells nothing


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
    rates = {rate: _trained(f"mnist_sgd(learning_rate={rate})", effort.others, times) for rate in effort.rates}
    frames = [_summary(nets, part="optimizers", line=name) for name, nets in main.items()]
    frames += [_summary(nets, part="rates", line=f"{rate:g}") for rate, nets in rates.items()]
    frames += [_ratios(main[one], main[other], part="ratio", line=f"{one}/{other}") for one, other in _pairs()]
    frames += [
        _ratios(nets, main[name], part="rate ratio", line=f"{rate:g}/{name}")
        for rate, nets in rates.items()
        for name in NOTES
    ]
    for part in effort.parts:
        for name in NOTES:
            nets = _trained(f"mnist_{name}", effort.others, (FIRST,), samples=round(part * whole))
            frames.append(_summary(nets, part="samples", line=name))
    return pandas.concat(frames, ignore_index=True)


def _pairs() -> list[tuple[str, str]]:
    return [("sgd", other) for other in OTHERS] + [("adagrad", other) for other in OTHERS if other != "adagrad"]


def _trained(optimizer: str, nets: int, record: Sequence[int], samples: int | None = None) -> Trained:
    data = split(mnist_at_hand(), scale="unit", samples=samples)
    with counting_divergence():
        return train(
            NETWORK, nets=nets, steps=max(record), data=data.train, test=data.test, batch=BATCH,
            order="with_replacement", loss="softmax_cross_entropy", optimizer=optimizer, record=record,
            quantities=QUANTITIES, seed=SEED,
        )  # fmt: skip


def _summary(trained: Trained, **tags: Any) -> DataFrame:
    """Return medians over nets, and where a single net is with 95%; what has diverged has an infinite loss."""
    import pandas

    rows = []
    for quantity in QUANTITIES:
        for place, step in enumerate(trained.steps):
            values = trained.values(quantity)[:, place, 0]
            diverged = ~np.isfinite(values)
            values = np.where(diverged, 0.0 if quantity == "test_accuracy" else np.inf, values)
            found = median_with_interval(values)
            low, high = single(values, logarithmic=quantity != "test_accuracy")
            rows.append({
                "quantity": quantity, "step": step, **found, "below": low / found["estimate"],
                "above": high / found["estimate"], "samples": trained.training.samples,
                "diverged": int(diverged.sum()),
            })  # fmt: skip
    return pandas.DataFrame(rows).assign(theory=math.nan, **tags)


def single(values: NDArray[np.float64], *, logarithmic: bool = True) -> tuple[float, float]:
    """Return the 95% prediction interval of one more value, of a normal law or one whose logarithms are normal.

    Student's: mean -+ t s sqrt(1 + 1/n), t of n - 1 degrees of freedom; (0, inf) where a value is infinite.
    """
    from scipy.special import stdtrit

    if np.isinf(values).any():
        return 0.0, math.inf
    each = np.log(values) if logarithmic else values
    n = len(each)
    reach = float(stdtrit(n - 1, 0.975)) * each.std(ddof=1) * math.sqrt(1 + 1 / n)
    ends = each.mean() - reach, each.mean() + reach
    low, high = np.exp(ends) if logarithmic else ends
    return float(low), float(high)


def _ratios(one: Trained, other: Trained, **tags: Any) -> DataFrame:
    """Return means of log10 of the ratio of losses, net by net: weights and mini-batches are the same.

    Nothing is known of the mean where a net of one of them has diverged.
    """
    import pandas

    rows = []
    for quantity in (LAST, "loss", "test_loss"):
        nets = min(len(one.record), len(other.record))
        first, second = (each.values(quantity)[:nets, :, 0] for each in (one, other))
        for place, step in enumerate(one.steps):
            logarithm = np.log10(first[:, place] / second[:, place])
            known = bool(np.isfinite(logarithm).all())
            found = mean_with_interval(logarithm) if known else {"estimate": math.nan, **EVERYTHING, "nets": nets}
            rows.append({"quantity": quantity, "step": step, **found})
    return pandas.DataFrame(rows).assign(theory=math.nan, **tags)


# --- figures --------------------------------------------------------------------------------------------


NET = f"a ReLU net of widths {', '.join(map(str, NETWORK.widths))} on handwritten digits, mini-batches of {BATCH}"
CAPTION = (
    f"Optimizers on {NET}, beside the losses of one run each in the notes. (a) Loss of the mini-batch just used and "
    "(b) test accuracy, against steps: medians, with bands that hold 95% of single nets, where they are drawn. (c) "
    f"Loss after {FIRST} steps: bars hold 95% of single nets, ticks are the notes' nets. (d) SGD at several learning "
    "rates beside momentum at the same rate as its slowest: medians with their 95% intervals."
)
CAPTION_OF_SAMPLES = (
    f"Loss of the mini-batch just used after {FIRST} steps against the number of samples that it is drawn from: {NET}. "
    "Filled: medians of nets, with bands that are 95% intervals where there are nets enough; open: the notes' nets, "
    f"of {NOTES_SAMPLES:,} samples."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw loss and accuracy against steps, single nets beside the notes' numbers, and SGD at other rates."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=5.0)
    titles = ("95% of single nets (RMSProp's band left out)", "95% of single nets", "beside one run", "rates of SGD")
    main = of_single_nets(select(measured, part="optimizers"))
    losses, accuracy = select(main, quantity=LAST), select(main, quantity="test_accuracy")
    first = _at_first(measured)
    beside = losses.assign(ci_low=losses["ci_low"].where(losses["line"] != "rmsprop"))  # its band covers the others'
    _against_steps(axes[0, 0], beside, SHOWN, ylabel="loss of the batch just used", scale="log")
    axes[0, 0].set_ylim(top=5.0)  # RMSProp's first step leads to hundreds
    _notes(axes[0, 0], FIRST, "upper right")
    _against_steps(axes[0, 1], accuracy, SHOWN, ylabel="test accuracy", scale="linear")
    axes[0, 1].set_ylim(0.5, 1.0)
    dots = of_single_nets(first).assign(optimizer=first["line"].map(figures.spelled), drawn="95% of our nets, median")
    xlabel = f"loss of the batch just used, {FIRST} steps"
    figures.dot_plot(axes[1, 0], dots, rows="optimizer", by="drawn", xlabel=xlabel)
    axes[1, 0].set_xscale("log")
    axes[1, 0].get_legend().get_texts()[-1].set_text("the notes' nets")
    axes[1, 0].get_legend().set(loc="center left", bbox_to_anchor=(0.0, 0.75))  # between two rows
    names = {"sgd": "SGD 0.01", "momentum": "momentum 0.01"} | {f"{rate:g}": f"SGD {rate:g}" for rate in RATES}
    slow = select(measured, part=("optimizers", "rates"), quantity=LAST, line=tuple(names))
    order = tuple(name for line, name in names.items() if line in set(slow["line"]))
    slow = slow.assign(line=slow["line"].map(names))
    _against_steps(axes[1, 1], slow, order, ylabel="loss of the batch just used, median", scale="log")
    figures.panel_labels(axes.flat, titles)
    drawn = pandas.concat([losses, accuracy, dots, slow])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")
    yield _fewer_samples(measured)


def _against_steps(axes: Axes, rows: DataFrame, order: tuple[str, ...], **looks: Any) -> None:
    figures.against_depth(axes, rows, at="step", by="line", order=order, label=figures.spelled, xlabel="steps", **looks)


def _notes(axes: Axes, place: float, corner: Literal["upper right", "lower right"]) -> None:
    """Draw the notes' numbers as large open markers, beside the names that the panel's legend may have."""
    for index, name in enumerate(NOTES):
        looks = figures.line(index) | {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 6}
        (drawn,) = axes.plot(place, NOTES[name], linestyle="none", zorder=4, **looks)
    named = axes.get_legend()
    names = [] if named is None else list(zip(named.legend_handles, named.get_texts(), strict=True))
    handles: list[Any] = [handle for handle, _ in names]
    texts = [text.get_text() for _, text in names]
    axes.legend([*handles, drawn], [*texts, "the notes' nets"], loc=corner, handlelength=1.0)


def of_single_nets(rows: DataFrame) -> DataFrame:
    """Return medians with the 95% bands of single nets in the place of the intervals of the medians."""
    return rows.assign(ci_low=rows["estimate"] * rows["below"], ci_high=rows["estimate"] * rows["above"])


def _at_first(measured: DataFrame) -> DataFrame:
    """Return the losses at the step whose numbers the notes give, these being the theory."""
    rows = select(measured, part="optimizers", quantity=LAST, step=FIRST, line=tuple(NOTES))
    return rows.assign(theory=rows["line"].map(NOTES))


def _fewer_samples(measured: DataFrame) -> Drawing:
    """Draw losses against the number of samples that batches are drawn from, the notes' at theirs."""
    rows = select(measured, step=FIRST, part=("samples", "optimizers"), line=tuple(NOTES), quantity=LAST)
    figure, axes = figures.panels(height=2.6)
    panel = axes[0, 0]
    figures.against_depth(
        panel, rows, at="samples", by="line", order=tuple(NOTES), label=figures.spelled, labels="legend", scale="log",
        xlabel="samples for training", ylabel=f"loss of the batch just used, {FIRST} steps",
    )  # fmt: skip
    panel.set_xscale("log")
    _notes(panel, NOTES_SAMPLES, "lower right")
    panel.set_xlim(right=1.3 * NOTES_SAMPLES)
    sizes = sorted({int(size) for size in rows["samples"]} | {NOTES_SAMPLES})
    panel.set_xticks(sizes, labels=[f"{size:,}" for size in sizes], minor=False)
    panel.set_xticks([], minor=True)
    return Drawing(figure, rows, part="samples", caption=f"{CAPTION_OF_SAMPLES} {figures.of_nets(rows['nets'])}")


# --- verdicts -------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the order of the optimizers and the notes' numbers against many nets."""
    yield _order(collected.measured)
    yield _numbers(collected.measured)


def order_by_step(measured: DataFrame) -> DataFrame:
    """Return, by step from the notes' first, whether SGD is slowest, the others are close and AdaGrad is ahead.

    All by intervals of log10 of the ratio of losses, net by net. Slowest: SGD's by each other one's are above 0; ahead
    likewise. Close: no two of the others are as far apart as SGD is from the nearest of them; ``share`` of that far.
    """
    import pandas

    rows = []
    ratios = select(measured, part="ratio", quantity=LAST)
    for step in sorted({step for step in ratios["step"] if step >= FIRST}):
        now = select(ratios, step=step)
        slow = select(now, line=tuple(f"sgd/{other}" for other in OTHERS))
        lead = select(now, line=tuple(f"adagrad/{other}" for other in OTHERS))
        apart, at_most = _apart(lead)
        rows.append({
            "step": step, "slowest": bool((slow["ci_low"] > 0).all()), "close": bool(at_most < slow["ci_low"].min()),
            "ahead": bool((lead["ci_high"] < 0).all()), "share": apart / slow["estimate"].min(), "factor": 10**apart,
        })  # fmt: skip
    return pandas.DataFrame(rows)


def _apart(lead: DataFrame) -> tuple[float, float]:
    """Return how far apart AdaGrad and the other two are at most, and the largest end of the intervals.

    That of the other two is of the difference of AdaGrad's ratios, too wide if anything.
    """
    middle, low, high = (lead[name].to_numpy(np.float64) for name in ("estimate", "ci_low", "ci_high"))
    far = [*middle, middle[0] - middle[1]]
    ends = [*low, *high, low[0] - high[1], high[0] - low[1]]
    return float(np.abs(far).max()), float(np.abs(ends).max())


def _order(measured: DataFrame) -> Verdict:
    """C05: SGD is clearly slowest, the other three are close, AdaGrad is slightly ahead, at the step of the notes."""
    steps = order_by_step(measured)
    parts = {name: _spans(steps, steps[name]) for name in ("slowest", "close", "ahead")}
    together = steps["slowest"] & steps["close"] & steps["ahead"]
    rates = select(measured, part="rate ratio", quantity=LAST, step=FIRST)
    conditions = [f"the learning rate of SGD is its {RATE:g}"] if (rates["ci_high"] < 0).any() else []
    if not together.all():
        conditions.append(f"{'steps are' if together.sum() > 1 else 'the step is'} {_spans(steps, together)}")
    ratios = select(measured, part="ratio", quantity=LAST, step=FIRST)
    nearest = select(ratios, line=tuple(f"sgd/{other}" for other in OTHERS)).sort_values("estimate").iloc[0]
    other = nearest["line"].split("/")[1]
    ends = [
        f"{row.share:.2g} times as far apart as from SGD after {row.step} steps (a factor of {row.factor:.2g})"
        for row in steps.iloc[[0, -1]].itertuples()
    ]
    note = (
        f"log10 of the loss of SGD by that of {figures.spelled(other)} after {FIRST} steps, which decide, the same "
        f"weights and batches; theory: the notes'. Losses of the batch just used, from {FIRST} steps on every {EVERY}: "
        f"SGD is surely slowest at steps {parts['slowest']}; the other three are surely closer to each other than to "
        f"SGD, by logarithms, at {parts['close']}: {', '.join(ends)}; AdaGrad is surely ahead of both at "
        f"{parts['ahead']}. {_table(measured)}{_told_diverged(measured)}. {_told_rates(measured)}"
    )
    row = nearest.to_dict() | {"theory": math.log10(NOTES["sgd"] / NOTES[other])}
    decisive = _Row(**{name: row[name] for name in _Row._fields})
    return judge("C05", decisive, bool(together.iloc[0]), note, when=" and ".join(conditions))


def _told_diverged(measured: DataFrame) -> str:
    """Write how many nets have diverged by the end, if any has: their losses are infinite."""
    rows = select(measured, part=("optimizers", "rates"), quantity=LAST)
    rows = rows[(rows["step"] == rows["step"].max()) & (rows["diverged"] > 0)]
    told = (f"{row.diverged:.0f} of {row.nets:.0f} ({figures.spelled(row.line)})" for row in rows.itertuples())
    return f"; nets that diverged: {', '.join(told)}" if len(rows) else ""


class _Row(NamedTuple):
    estimate: float
    ci_low: float
    ci_high: float
    theory: float


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
    """Write where SGD gets at other learning rates, and how it compares with Momentum at the same effective rate."""
    rows = select(measured, part="rates", quantity=LAST)
    last, own = max(rows["step"]), select(measured, part="optimizers", quantity=LAST)
    left = pick(own, line="sgd", step=last).estimate
    reached = {
        name: int(min(step for step, loss in zip(each["step"], each["estimate"], strict=True) if loss <= left))
        for name, each in own.groupby("line", sort=False)
        if name in OTHERS and (each["estimate"] <= left).any()
    }
    effective = RATE / (1 - MOMENTUM)
    same = pick(measured, part="rate ratio", line=f"{effective:g}/momentum", quantity=LAST, step=last)
    return (
        f"What SGD has after {last} steps ({left:.3g}), others have after "
        + ", ".join(f"{step} ({figures.spelled(str(name))})" for name, step in reached.items())
        + f". SGD at other learning rates, after {FIRST} and {last} steps: "
        + "; ".join(
            f"{rate} " + " and ".join(f"{pick(each, step=step).estimate:.3g}" for step in (FIRST, last))
            for rate, each in rows.groupby("line", sort=False)
        )
        + f". At {effective:g}, momentum's {RATE:g}/(1 - {MOMENTUM:g}), its loss is {10**same.estimate:.2f} "
        f"[{10**same.ci_low:.2f}, {10**same.ci_high:.2f}] times momentum's after {last}"
    )


def _numbers(measured: DataFrame) -> Verdict:
    """C05: the losses of one run each, of which the notes give those at iteration 100; most must be in our bands."""
    rows: list[Any] = list(of_single_nets(_at_first(measured)).itertuples())
    places = {row.line: _place(row) for row in rows}
    inside = [line for line, place in places.items() if place == INSIDE]
    told = "; ".join(
        f"{figures.spelled(row.line)} {row.theory:g} {places[row.line]} {row.ci_low:.3g} to {row.ci_high:.3g}, "
        f"median {row.estimate:.3g}"
        for row in rows
    )
    bounded = [row for row in rows if math.isfinite(row.ci_high)] or rows
    farthest = max(bounded, key=lambda row: abs(row.theory - row.estimate) / abs(row.ci_high - row.ci_low))
    note = (
        f"median loss of {figures.spelled(farthest.line)} after {FIRST} steps, the farthest from the notes' number by "
        f"its band; the interval is the 95% band of single nets; theory: the notes'. Notes' numbers and bands of "
        f"{farthest.nets:.0f} nets: {told}. Of later steps the notes give no numbers. {_told_samples(measured)}"
    )
    names = [figures.spelled(name) for name in inside]
    when = "" if len(inside) == len(rows) else f"the optimizer is {' or '.join(names)}"
    return judge("C05", farthest, 2 * len(inside) > len(rows), note, when=when)


INSIDE = "inside"


def _place(row: Any) -> str:
    """Return where the notes' number is, of the band of single nets of a row."""
    if row.ci_high > WIDEST * row.ci_low:
        return f"untold, the ends of the band being more than a factor of {WIDEST:g} apart,"
    return INSIDE if row.ci_low <= row.theory <= row.ci_high else "OUTSIDE"


def _told_samples(measured: DataFrame) -> str:
    """Write what fewer samples change, since the notes' runs draw from 60,000."""
    rows = select(measured, part="samples", quantity=LAST, step=FIRST)
    least, main = int(min(rows["samples"])), select(measured, part="optimizers", step=FIRST)
    changes = ", ".join(
        f"{figures.spelled(name)} {pick(rows, line=name, samples=least).estimate:.3g} and "
        f"{pick(main, line=name, quantity=LAST).estimate:.3g} "
        f"(test {pick(main, line=name, quantity='test_loss').estimate:.3g})"
        for name in NOTES
    )
    return (
        f"Batches are drawn from {int(main['samples'].iloc[0])} samples (the notes': {NOTES_SAMPLES}). Median losses "
        f"with {least} and all, after {FIRST} steps: {changes}"
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
