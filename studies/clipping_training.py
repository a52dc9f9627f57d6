"""Gradient clipping in training: how often it binds, what it changes, and which nets it saves from divergence."""

from __future__ import annotations

import math
import warnings
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
from stabsim.training import Trained, train
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
    "quick": Effort(5000, 3, 400, (1e-4, 1e-3, 1e-2, 1e-1), 4, 60, (1.0, 1.5, 2.0), (0.1, 0.3), 4, 40, 64),
    "paper": Effort(
        None, 32, 400, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1), 16, 400, (0.5, 1.0, 1.5, 2.0, 4.0),
        (0.01, 0.1, 0.3, 1.0), 12, 100, 400,
    ),
}  # fmt: skip
STARTS = (1.0, 2.0, 4.0, 8.0)  # gains of nets that are only started
DIGITS = (784, 300, 50, 50, 50, 50, 10)
BATCH, RATE, BOUND = 200, 0.01, 1.0
LONG = {"quick": 0, "paper": 4}, 5500  # nets that are trained for as long as 55,000 samples take for 20 epochs
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* nets diverged", RuntimeWarning)
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
    every = effort.steps // 10
    tags = {"part": "claim", "gain": 1.0, "rate": RATE}
    plain, clipped = (
        trained(digits, effort.nets, effort.steps, kind, keep_weights=True, every=every) for kind in (NONE, "value")
    )
    yield from _means(plain, bound=math.inf, clipping=NONE, **tags)
    tags |= {"bound": BOUND, "clipping": "value"}
    yield from _means(clipped, **tags)
    yield from _differences(clipped, plain, **tags)
    for place, step in enumerate(clipped.steps):
        same = np.ones(effort.nets, bool)
        for layer in LAYERS:
            one, other = (each.weights(layer)[:, place] for each in (plain, clipped))
            same &= (one == other).all(axis=(1, 2))
        yield tags | {"quantity": "bit_equal", "step": step, "layer": 0} | counted(same)
    nets, steps = LONG[0][scale], LONG[1]
    if nets:
        yield from _means(trained(digits, nets, steps, "value", every=steps // 10), **tags | {"part": "long"})


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
    """Yield how many nets diverge, and how many learn, with every gain, learning rate and clip."""
    effort = EFFORT[scale]
    for gain in effort.gains:
        for rate in effort.rates:
            learned = {}
            for kind in (NONE, *KINDS):
                tags = {"part": "explosion", "gain": gain, "rate": rate, "clipping": kind}
                tags |= {"bound": BOUND, "step": effort.few, "layer": 0}
                found = trained(digits, effort.saved, effort.few, kind, gain=gain, rate=rate)
                learned[kind] = found.values(ACCURACY)[:, -1, 0] > LEARNED  # of those that diverged it is NaN
                yield tags | {"quantity": "diverged"} | counted(found.diverged_after >= 0)
                yield tags | {"quantity": "learned"} | counted(learned[kind])
                yield tags | {"quantity": "only with"} | counted(learned[kind] & ~learned[NONE])
                yield tags | {"quantity": "only without"} | counted(learned[NONE] & ~learned[kind])
                if kind != NONE:
                    engaged = mean_with_interval(found.values(ENGAGED)[found.diverged_after < 0, -1, 0])
                    yield tags | {"quantity": ENGAGED} | engaged


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw bounds against what they clip, turn and cost, and which nets diverge and learn where gradients explode."""
    import pandas

    measured = collected.measured
    bounds = select(measured, part="bound", clipping="value")
    last = int(bounds["step"].max())
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.6)
    engaged = _layers(select(bounds, quantity=ENGAGED, step=last))
    turned = _layers(select(bounds, quantity=COSINE, step=0))
    _against_bound(axes[0, 0], engaged, by="line", ylabel="share of steps\nin which the clip binds")
    axes[0, 0].set_ylim(-0.03, 1.03)
    _against_bound(axes[0, 1], turned, by="line", ylabel="cosine to the unclipped\ngradient, first step")
    changed = select(bounds, quantity=f"{ACCURACY}_change", step=last).assign(line="clipped", theory=0.0)
    _against_bound(axes[1, 0], changed, by="line", ylabel=f"change of test accuracy\nby the clip, {last} steps")
    axes[1, 0].legend(handles=[axes[1, 0].lines[1]], labels=["not clipped"], loc="lower right")
    paths = select(measured, part="bound", quantity=ACCURACY)
    paths = paths[paths["bound"].isin((1e-4, 1e-3, 1e-2, BOUND, math.inf))].sort_values("bound")
    names = ["not clipped" if math.isinf(bound) else f"bound {bound:g}" for bound in paths["bound"]]
    paths = paths.assign(line=names)
    figures.against_depth(
        axes[1, 1], paths.assign(layer=paths["step"]), by="line", xlabel="steps", ylabel="test accuracy"
    )
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([engaged, turned, changed, paths]))

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
    yield Drawing(figure, pandas.concat(parts), "explosions")

    figure, axes = figures.panels(width=figures.COLUMN, height=2.4)
    started = collected.table.assign(line=collected.table["gain"].map("gain {:g}".format))
    figures.against_depth(axes[0, 0], started, by="line", ylabel="share of dW beyond 1\nbefore training")
    yield Drawing(figure, started, "start")


def _layers(rows: DataFrame) -> DataFrame:
    """Return the rows of the net and of three layers, with a name for each."""
    names = {0: "net", 1: "layer 1", 3: "layer 3", LAYERS[-1]: f"layer {LAYERS[-1]}"}
    rows = select(rows, layer=tuple(names))
    return rows.assign(line=rows["layer"].map(names)).sort_values(["layer", "bound"])


def _against_bound(axes: Axes, rows: DataFrame, **looks: Any) -> None:
    axes.set_xscale("log")
    figures.against_depth(axes, rows.assign(layer=rows["bound"]), xlabel="bound of each element", **looks)
    axes.set_xticks([10.0**power for power in range(-4, 1)])
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
    row = pick(claim, quantity=ENGAGED, layer=0)
    layers = select(claim, quantity=ENGAGED, layer=tuple(LAYERS))["estimate"]
    same = pick(claim, quantity="bit_equal")
    changes = {name: pick(claim, quantity=f"{name}_change") for name in (ACCURACY, LOSS)}
    binds = row.estimate > 0 and same.estimate < 1
    elsewhere = select(measured, part="explosion", clipping="value", quantity=ENGAGED)
    exploding = elsewhere[elsewhere["ci_low"] > 0]
    saved, lost = (_pooled(measured, "value", name) for name in ("only with", "only without"))
    bounds = _last(select(measured, part="bound", clipping="value"))
    beginning = select(bounds, quantity=ENGAGED, layer=0)
    first = beginning[beginning["estimate"] > 0]["bound"].max()
    always = beginning[beginning["estimate"] == 1]["bound"].max()
    hurt = select(bounds, quantity=f"{ACCURACY}_change")
    hurts = hurt[hurt["ci_high"] < 0]["bound"].max()
    long = select(measured, part="long", quantity=ENGAGED, layer=0)
    longer = ""
    if len(long):
        end = pick(_last(long))
        longer = f" (in {LONG[1]} steps of {end.nets:.0f} nets a share of {end.estimate:.2g})"
    turned = select(measured, part="bound", clipping="value", quantity=COSINE, layer=0, step=0)
    start = select(table, layer=tuple(LAYERS)).groupby("gain")["estimate"].max()
    note = (
        f"share of {int(claim['step'].max())} steps in which a clip by value at {BOUND:g} binds anywhere; largest of a "
        f"layer {layers.max():.2g}{longer}. Weights with and without it are equal to the bit in {k_of_n(same)} nets; "
        f"test accuracy changes by {_interval(changes[ACCURACY])}, loss by {_interval(changes[LOSS])}. "
        f"By other bounds, {int(bounds['step'].max())} steps: share of steps that bind "
        + _by_bound(beginning)
        + ", cosine to the gradient in the first step "
        + _by_bound(turned)
        + ", change of test accuracy "
        + _by_bound(hurt)
        + f": the clip first binds at {first:g}, in all steps at {always:g}, and accuracy falls from {hurts:g} down. "
        f"At {BOUND:g}, with larger weights or rates ("
        + ", ".join(f"gain {gain:g}, rate {rate:g}: {share:.2f}" for gain, rate, share in _cells(exploding))
        + f") it binds: {saved} nets learn only with it, {lost} only without. "
        "Largest share of dW of a layer beyond it before training: "
        + ", ".join(f"gain {gain:g} {share:.2g}" for gain, share in start.items())
    )
    matters = len(exploding) > 0 and saved + lost > 0
    when = "" if binds else "weights or learning rates are larger (here it never binds, and changes no bit)"
    return judge("D07", row, bool(binds or matters), note, when=when)


def _interval(row: Any) -> str:
    return f"{row.estimate:+.2g} [{row.ci_low:+.2g}, {row.ci_high:+.2g}]"


def _by_bound(rows: DataFrame) -> str:
    pairs = zip(rows["bound"], rows["estimate"], strict=True)
    return "; ".join(f"{bound:g}: {value:.3g}" for bound, value in sorted(pairs))


def _cells(rows: DataFrame) -> Iterator[tuple[float, float, float]]:
    yield from zip(rows["gain"], rows["rate"], rows["estimate"], strict=True)


def _pooled(measured: DataFrame, kind: str, quantity: str) -> int:
    """Return how many nets there are, of all gains and rates."""
    rows = select(measured, part="explosion", clipping=kind, quantity=quantity)
    return round(float((rows["estimate"] * rows["nets"]).sum()))


def _remedy(measured: DataFrame) -> Verdict:
    """D04, clipping: of the nets whose learning depends on the clip, most learn with it; none diverges more."""
    import pandas

    explosions = select(measured, part="explosion")
    found, shares = [], {}
    for kind in KINDS:
        saved, lost = (_pooled(measured, kind, name) for name in ("only with", "only without"))
        low, high = exact_interval(saved, saved + lost) if saved + lost else (0.0, 1.0)
        share = saved / (saved + lost) if saved + lost else math.nan
        shares[kind] = (saved, lost)
        found.append((kind, share, float(low), float(high), 0.5))
    rows = pandas.DataFrame(found, columns=["clipping", "estimate", "ci_low", "ci_high", "theory"])
    total = int(select(explosions, clipping=NONE, quantity="learned")["nets"].sum())
    counts = {
        (kind, quantity): _pooled(measured, kind, quantity) for kind in NAMES for quantity in ("diverged", "learned")
    }
    useful = [NAMES[kind] for kind, low in zip(rows["clipping"], rows["ci_low"], strict=True) if low > 0.5]
    fewer = all(counts[kind, "diverged"] < counts[NONE, "diverged"] for kind in KINDS)
    note = (
        "share that learns with a clip by value, of the nets that learn either only with it or only without (the same "
        f"net with the same mini-batches; one half: no use). Of {total} nets with gains and learning rates up to "
        f"{explosions['gain'].max():g} He and {explosions['rate'].max():g}, {int(explosions['step'].max())} steps; "
        f"learned: test accuracy above {LEARNED:g}. "
        + "; ".join(
            f"{NAMES[kind]}: {counts[kind, 'diverged']} diverge, {counts[kind, 'learned']} learn"
            + (f", {shares[kind][0]} only with it, {shares[kind][1]} only without" if kind in shares else "")
            for kind in NAMES
        )
        + ". Not to diverge is not to learn: clipped steps can still be so long that all units die"
    )
    row = pick(rows, clipping="value")
    when = "gradients explode, from large weights or learning rates"
    if len(useful) < len(KINDS):
        when += f", and clipped by {' or '.join(useful)}"
    return judge("D04", row, bool(useful) and fewer, note, when=when)


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
