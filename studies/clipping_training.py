"""Gradient clipping in training: how often it binds, what it changes, and which nets it saves from divergence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
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
    nets: int  # of the claim
    steps: int  # with the clip of the claim
    bounds: tuple[float, ...]  # other than that of the claim
    bounded: int  # nets for each
    until: int  # steps with each bound
    gains: tuple[float, ...]
    rates: tuple[float, ...]
    saved: int  # nets with each gain and rate
    few: int  # steps of those
    started: int  # nets that are only started


EFFORT = {
    "quick": Effort(5000, 4, 150, (1e-3, 1e-2, 1e-1), 4, 30, (1.5, 2.0), (0.1, 0.3), 5, 40, 64),
    "paper": Effort(
        None, 6, 5500, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1), 8, 300, (1.0, 1.5, 2.0, 4.0),
        (0.01, 0.1, 0.3, 1.0), 8, 100, 400,
    ),
}  # fmt: skip
STARTS = (1.0, 2.0, 4.0, 8.0)  # gains of nets that are only started
DIGITS = (784, 300, 50, 50, 50, 50, 10)
BATCH, RATE, BOUND = 200, 0.01, 1.0
KINDS = ("value", "norm", "global_norm")
NONE = "none"
NAMES = {NONE: "not clipped", "value": "value 1", "norm": "norm 1", "global_norm": "global norm 1"}
LEARNED = 0.5  # test accuracy
LAYERS = range(1, len(DIGITS))
ACCURACY, LOSS = "test_accuracy", "batch_loss"
ENGAGED, COSINE, CLIPPED = "clip_engagement", "clip_cosine", "clipped_fraction"
STARTED = "weight_gradient_clipped_fraction"


def data(scale: str) -> Split:
    """Return the digits, at quick scale no more than 5,000."""
    return split(mnist_at_hand(), samples=EFFORT[scale].samples)


def network(gain: float = 1.0) -> Network:
    """Return the net of the claim, its weights multiplied by a gain."""
    return Network(DIGITS, "relu", f"he_normal(gain={math.sqrt(2) * gain!r})")


def loss_gradient(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the gradient of a mean cross-entropy by what goes into the softmax, where all outputs are about 0."""
    return (1.0 / DIGITS[-1] - labels) / len(labels)


def cases(scale: str) -> Iterator[Case]:
    """Yield the net before training with every gain, on the first digits: which share of dW is beyond the bound."""
    inputs, labels = (each[:BATCH] for each in data(scale).train)
    for gain in STARTS:
        task = make_task(
            network(gain), batch=BATCH, inputs=inputs, output_gradient=loss_gradient(labels),
            clipping=f"value(bound={BOUND})", quantities=(STARTED,),
        )  # fmt: skip
        yield Case(task, EFFORT[scale].started, {"gain": gain})


def trained(
    digits: Split, nets: int, steps: int, clipping: str = NONE, bound: float = BOUND, *, gain: float = 1.0,
    rate: float = RATE, keep_weights: bool = False, every: int | None = None,
) -> Trained:  # fmt: skip
    """Return nets trained as the claim says, unless told otherwise; those that diverge are counted."""
    clipped = clipping != NONE
    with counting_divergence():
        return train(
            network(gain), nets=nets, steps=steps, data=digits.train, test=digits.test, batch=BATCH,
            loss="softmax_cross_entropy", optimizer=f"sgd(learning_rate={rate})", seed=1,
            clipping=f"{clipping}(bound={bound!r})" if clipped else None, keep_weights=keep_weights,
            record=range(0, steps + 1, every or steps),
            quantities=(ACCURACY, LOSS, *((ENGAGED, COSINE, CLIPPED) * clipped)),
        )  # fmt: skip


def measure(scale: str) -> DataFrame:
    """Train the nets of the claim with and without the clip, with other bounds, and where gradients explode."""
    import pandas

    digits = data(scale)
    rows = [*_claim(digits, scale), *_bounds(digits, scale), *_explosions(digits, scale)]
    return pandas.DataFrame(rows).assign(theory=math.nan)


def _claim(digits: Split, scale: str) -> Iterator[dict[str, Any]]:
    """Yield what the clip of the claim does: to which steps, to which weights, and to accuracy and loss."""
    effort = EFFORT[scale]
    every = effort.steps // 5
    tags = {"part": "claim", "gain": 1.0, "rate": RATE}
    plain, clipped = (
        trained(digits, effort.nets, effort.steps, kind, keep_weights=True, every=every) for kind in (NONE, "value")
    )
    yield from _means(plain, bound=math.inf, clipping=NONE, **tags)
    tags |= {"bound": BOUND, "clipping": "value"}
    yield from _means(clipped, **tags)
    yield from _differences(clipped, plain, **tags)
    for place, step in enumerate(clipped.steps):
        binds = clipped.values(ENGAGED)[:, place, 0] > 0
        yield tags | {"quantity": "binds", "step": step, "layer": 0} | counted(binds)
        same = np.ones(effort.nets, bool)
        for layer in LAYERS:
            one, other = (each.weights(layer)[:, place] for each in (plain, clipped))
            same &= (one == other).all(axis=(1, 2))
        yield tags | {"quantity": "bit_equal", "step": step, "layer": 0} | counted(same)


def _means(trained: Trained, **tags: Any) -> Iterator[dict[str, Any]]:
    """Yield means over nets of all that was recorded."""
    for quantity in trained.quantities:
        values = trained.values(quantity)
        for place, step in enumerate(trained.steps):
            for layer in range(values.shape[2]):
                if not np.isnan(values[:, :, layer]).all():
                    found = values[:, place, layer]
                    row = mean_with_interval(found[np.isfinite(found)])
                    yield tags | {"quantity": quantity, "step": step, "layer": layer} | row


def _differences(clipped: Trained, plain: Trained, **tags: Any) -> Iterator[dict[str, Any]]:
    """Yield by how much the clip changes accuracy and loss: means over nets of the differences of the same net."""
    for quantity in (ACCURACY, LOSS):
        for place, step in enumerate(clipped.steps):
            there = plain.steps.index(step)
            nets = slice(len(clipped.record))
            change = clipped.values(quantity)[:, place, 0] - plain.values(quantity)[nets, there, 0]
            yield tags | {"quantity": f"{quantity}_change", "step": step, "layer": 0} | mean_with_interval(change)


def _bounds(digits: Split, scale: str) -> Iterator[dict[str, Any]]:
    """Yield what clips by value with other bounds do."""
    effort = EFFORT[scale]
    every = effort.until // 5
    plain = trained(digits, effort.bounded, effort.until, every=every)
    yield from _means(plain, part="bound", gain=1.0, rate=RATE, bound=math.inf, clipping=NONE)
    for bound in (*effort.bounds, BOUND):
        tags = {"part": "bound", "gain": 1.0, "rate": RATE, "bound": bound, "clipping": "value"}
        clipped = trained(digits, effort.bounded, effort.until, "value", bound, every=every)
        yield from _means(clipped, **tags)
        yield from _differences(clipped, plain, **tags)


def _explosions(digits: Split, scale: str) -> Iterator[dict[str, Any]]:
    """Yield how many nets diverge, and how many learn, with every gain, learning rate and clip, and whom it saves."""
    effort = EFFORT[scale]
    learned: dict[str, list[Any]] = {kind: [] for kind in NAMES}
    exploded = []
    common = {"bound": BOUND, "step": effort.few, "layer": 0}
    for gain in effort.gains:
        for rate in effort.rates:
            for kind in NAMES:
                tags = common | {"part": "explosion", "gain": gain, "rate": rate, "clipping": kind}
                found = trained(digits, effort.saved, effort.few, kind, gain=gain, rate=rate)
                diverged = found.diverged_after >= 0
                learned[kind].append(found.values(ACCURACY)[:, -1, 0] > LEARNED)  # of those that diverged it is NaN
                yield tags | {"quantity": "diverged"} | counted(diverged)
                yield tags | {"quantity": "learned"} | counted(learned[kind][-1])
                if kind == NONE:
                    exploded.append(diverged)
                else:
                    yield tags | {"quantity": ENGAGED} | mean_with_interval(found.values(ENGAGED)[~diverged, -1, 0])
    for kind in KINDS:
        change = np.array(learned[kind], int) - np.array(learned[NONE], int)
        for part, there in (("exploded", np.array(exploded)), ("elsewhere", ~np.array(exploded))):
            yield common | {"part": part, "clipping": kind, "quantity": "saved"} | saved(change, there)


def saved(change: NDArray[Any], there: NDArray[Any]) -> dict[str, float]:
    """Return the mean over nets of the change by the clip, of each net over the settings that count for it.

    ``change`` (settings, nets) is 1 where a net learns only with the clip, -1 where only without; settings of one net
    are not independent, so each net is one number.
    """
    settings = there.sum(axis=0)
    each = (change * there).sum(axis=0)[settings > 0] / settings[settings > 0]
    return counted(each > 0) if each.size and np.isin(each, (0, 1)).all() else mean_with_interval(each)


NET = f"a ReLU net of widths {', '.join(map(str, DIGITS))} on handwritten digits, mini-batches of {BATCH}"
CAPTION = (
    f"Clipping every element of the gradient at a bound, in training of {NET}, learning rate {RATE:g}. (a) Share of "
    "the steps in which the clip binds, and share of the elements of the first gradient that it changes in the first "
    "and in the last layer. (b) Cosine between the clipped gradient and the gradient itself in the first step. (c) "
    "Change of test accuracy in the same net, with the same mini-batches, by the clip (dashed: none). (d) Test "
    f"accuracy against steps. {figures.BANDS}"
)
CAPTION_OF_EXPLOSIONS = (
    f"Whom clipping saves where gradients explode: {NET}, weights of He times a gain (rows), by learning rate "
    f"(columns). (a)–(d) Share of nets that diverge; (e)–(h) share that learn, with a test accuracy above {LEARNED:g}. "
    f"From left to right: not clipped; each element at {BOUND:g}; each layer's gradient, and that of the whole net, by "
    f"its norm at {BOUND:g}."
)
CAPTION_OF_START = (
    f"Share of the elements of the gradient of each layer's weights that are beyond {BOUND:g} before training, for "
    f"weights of He times a gain: {NET}. A clip at {BOUND:g} changes the others not at all. {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw bounds against what they clip, turn and cost, and which nets diverge and learn where gradients explode."""
    import pandas

    measured = collected.measured
    bounds = select(measured, part="bound", clipping="value")
    last = int(bounds["step"].max())
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.6)
    shares = [
        select(bounds, quantity=quantity, step=step, layer=layer).assign(line=line)
        for quantity, step, layer, line in (
            (ENGAGED, last, 0, "of steps"),
            (CLIPPED, 0, 1, "of dW, layer 1"),
            (CLIPPED, 0, LAYERS[-1], "of dW, layer 6"),
        )
    ]
    clips = pandas.concat(shares).sort_values("bound")
    turned = _layers(select(bounds, quantity=COSINE, step=0))
    _against_bound(
        axes[0, 0],
        clips,
        by="line",
        order=[each["line"].iloc[0] for each in shares],
        ylabel="share clipped (of dW: first step)",
    )
    axes[0, 0].set_ylim(-0.03, 1.03)
    _against_bound(axes[0, 1], turned, by="line", ylabel="cosine to the gradient\nnot clipped, first step")
    changed = select(bounds, quantity=f"{ACCURACY}_change", step=last).assign(line="by the clip", theory=0.0)
    _against_bound(axes[1, 0], changed, by="line", ylabel=f"change of test accuracy\nby the clip, {last} steps")
    axes[1, 0].artists[0].remove()  # the one line is named by the axis
    axes[1, 0].legend(handles=[axes[1, 0].lines[1]], labels=["not clipped"], loc="lower right")
    paths = select(measured, part="bound", quantity=ACCURACY)
    paths = paths[paths["bound"].isin((1e-4, 1e-3, 1e-2, BOUND, math.inf))].sort_values("bound")
    names = ["not clipped" if math.isinf(bound) else f"bound {bound:g}" for bound in paths["bound"]]
    paths = paths.assign(line=names)
    figures.against_depth(
        axes[1, 1], paths.assign(layer=paths["step"]), by="line", xlabel="steps", ylabel="test accuracy"
    )
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([clips, turned, changed, paths])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=2, columns=4, width=figures.PAGE, height=3.7)
    explosions = select(measured, part="explosion")
    parts = []
    for quantity, upper in (("diverged", axes[0]), ("learned", axes[1])):
        for panel, kind in zip(upper, NAMES, strict=True):
            rows = select(explosions, quantity=quantity, clipping=kind).sort_values(["gain", "rate"])
            rows = rows.assign(gain=rows["gain"].map("{:g}".format), rate=rows["rate"].map("{:g}".format))
            bar = figures.heat_map(panel, rows, rows="gain", columns="rate", limits=(0, 1), digits=2).colorbar
            if bar is not None:  # the numbers are in the cells
                bar.remove()
            panel.set_xlabel("learning rate" if quantity == "learned" else "")
            panel.set_ylabel(f"share {quantity}\n\ngain, times He" if kind == NONE else "")
            parts.append(rows)
    figures.panel_labels(axes.flat, [NAMES[kind] for kind in NAMES] * 2)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, "explosions", f"{CAPTION_OF_EXPLOSIONS} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(width=figures.COLUMN, height=2.4)
    started = collected.table.assign(line=collected.table["gain"].map("gain {:g}".format))
    figures.against_depth(axes[0, 0], started, by="line", ylabel="share of dW beyond 1\nbefore training")
    yield Drawing(figure, started, "start", f"{CAPTION_OF_START} {figures.of_nets(started['nets'])}")


def _layers(rows: DataFrame) -> DataFrame:
    """Return the rows of the net and of three layers, with a name for each."""
    names = {0: "net", 1: "layer 1", 3: "layer 3", LAYERS[-1]: f"layer {LAYERS[-1]}"}
    rows = select(rows, layer=tuple(names))
    return rows.assign(line=rows["layer"].map(names)).sort_values(["layer", "bound"])


def _against_bound(axes: Axes, rows: DataFrame, **looks: Any) -> None:
    axes.set_xscale("log")
    figures.against_depth(axes, rows.assign(layer=rows["bound"]), xlabel="bound of each element", **looks)
    axes.set_xticks([10.0**power for power in range(math.floor(math.log10(rows["bound"].min())), 1)])
    axes.minorticks_off()


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold both claims against the trained nets."""
    measured = collected.measured
    yield _binding(collected.table, measured)
    yield _remedy(measured)


def _last(rows: DataFrame) -> DataFrame:
    return select(rows, step=rows["step"].max())


def _binding(table: DataFrame, measured: DataFrame) -> Verdict:
    """D07: a clip at 1.0 binds in training, and changes it."""
    claim = _last(select(measured, part="claim", clipping="value"))
    row, same = pick(claim, quantity="binds"), pick(claim, quantity="bit_equal")
    often = pick(claim, quantity=ENGAGED, layer=0)
    changes = {name: pick(claim, quantity=f"{name}_change") for name in (ACCURACY, LOSS)}
    note = (
        f"share of nets in which a clip by value at {BOUND:g} ever binds in {int(row.step)} steps; it binds in a share "
        f"of {often.estimate:.2g} of the steps. Weights with and without it are equal to the bit in {k_of_n(same)} "
        f"nets; test accuracy changes by {_interval(changes[ACCURACY])}, loss by {_interval(changes[LOSS])}. "
        + _smaller(measured)
        + _larger(table, measured)
    )
    return judge("D07", row, bool(row.estimate > 0 and same.estimate < 1), note)


def _smaller(measured: DataFrame) -> str:
    """Write what smaller bounds do."""
    bounds = select(measured, part="bound", clipping="value")
    turned = select(bounds, quantity=COSINE, layer=0, step=0)
    bounds = _last(bounds)
    engaged, hurt = select(bounds, quantity=ENGAGED, layer=0), select(bounds, quantity=f"{ACCURACY}_change")
    first, always, hurts = (
        _largest(rows)
        for rows in (engaged[engaged["estimate"] > 0], engaged[engaged["estimate"] == 1], hurt[hurt["ci_high"] < 0])
    )
    return (
        f"By other bounds, {int(bounds['step'].max())} steps: share of steps that bind {_by_bound(engaged)}, cosine to "
        f"the gradient in the first step {_by_bound(turned)}, change of test accuracy {_by_bound(hurt)}: it ever binds "
        f"at {first}, binds in all steps at {always}, and accuracy surely falls at {hurts}. "
    )


def _larger(table: DataFrame, measured: DataFrame) -> str:
    """Write where a clip at 1.0 binds: with larger weights and rates."""
    engaged = select(measured, part="explosion", clipping="value", quantity=ENGAGED)
    engaged = engaged[engaged["ci_low"] > 0]
    cells = zip(engaged["gain"], engaged["rate"], engaged["estimate"], strict=True)
    start = select(table, layer=tuple(LAYERS)).groupby("gain")["estimate"].max()
    return (
        f"At {BOUND:g} it surely binds with larger weights or rates, in a share of steps of "
        + (", ".join(f"{share:.2f} (gain {gain:g}, rate {rate:g})" for gain, rate, share in cells) or "none of those")
        + ". Largest share of dW of a layer beyond it before training: "
        + ", ".join(f"gain {gain:g} {share:.2g}" for gain, share in start.items())
    )


def _interval(row: Any) -> str:
    return f"{row.estimate:+.2g} [{row.ci_low:+.2g}, {row.ci_high:+.2g}]"


def _largest(rows: DataFrame) -> str:
    return f"{rows['bound'].max():g} and below" if len(rows) else "none of them"


def _by_bound(rows: DataFrame) -> str:
    pairs = zip(rows["bound"], rows["estimate"], strict=True)
    return "; ".join(f"{bound:g}: {value:.3g}" for bound, value in sorted(pairs))


def _nets(measured: DataFrame, kind: str, quantity: str) -> int:
    """Return in how many trainings, of all gains and rates, something has happened."""
    rows = select(measured, part="explosion", clipping=kind, quantity=quantity)
    return round(float((rows["estimate"] * rows["nets"]).sum()))


def _remedy(measured: DataFrame) -> Verdict:
    """D04, clipping: nets learn with it in settings in which they diverge without it."""
    explosions = select(measured, part="explosion")
    rows = {kind: pick(measured, part="exploded", clipping=kind) for kind in KINDS}
    elsewhere = {kind: pick(measured, part="elsewhere", clipping=kind) for kind in KINDS}
    counts = {
        (kind, quantity): _nets(measured, kind, quantity) for kind in NAMES for quantity in ("diverged", "learned")
    }
    useful = [kind for kind in KINDS if rows[kind].ci_low > 0 and counts[kind, "diverged"] < counts[NONE, "diverged"]]
    total = int(select(explosions, clipping=NONE, quantity="learned")["nets"].sum())
    note = (
        "share of the settings in which a net diverges without a clip where it learns with one (a number a net, then "
        f"the mean over {explosions['nets'].max():.0f} nets; the same mini-batches; 0: no use); learned: test accuracy "
        f"above {LEARNED:g} after {int(explosions['step'].max())} steps. "
        + "; ".join(f"{NAMES[kind]} {_interval(row)}" for kind, row in rows.items())
        + ". In the other settings it changes the share that learns by "
        + "; ".join(f"{NAMES[kind]} {_interval(row)}" for kind, row in elsewhere.items())
        + f". Of {total} trainings: "
        + "; ".join(
            f"{NAMES[kind]}: {counts[kind, 'diverged']} diverge, {counts[kind, 'learned']} learn" for kind in NAMES
        )
        + f". Gains (up to {explosions['gain'].max():g} He) and rates (up to {explosions['rate'].max():g}) were chosen "
        "where nets without a clip begin to diverge. Not to diverge is not to learn"
    )
    row = min((rows[kind] for kind in useful or KINDS), key=lambda each: each.estimate)
    often = "most" if row.ci_low > 0.5 else "some"
    when = f"the net diverges without a clip (large weights or learning rates), in {often} of those settings"
    if len(useful) < len(KINDS):
        when += f", and clipped by {' or '.join(NAMES[kind] for kind in useful)}"
    return judge("D04", row, bool(useful), note, when=when)


study = Study(
    name="clipping_training",
    title="Gradient clipping in training: how often it binds, what it changes, and which nets it saves",
    cases=cases,
    draw=draw,
    claims=("D07", "D04"),
    verdicts=verdicts,
    measure=measure,
    on_mnist=True,
)

if __name__ == "__main__":
    run_script(study)
