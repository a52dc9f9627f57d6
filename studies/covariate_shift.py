"""How far what layers see moves in training, by other batches and by other weights, with and without batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import mnist_at_hand, split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, train
from stabsim.verdicts import judge, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 4, "paper": 32}
STEPS = {"quick": 300, "paper": 3000}
WIDTHS, BATCH, SAMPLES = (784, *(64,) * 7, 10), 64, 1000
DEPTH = len(WIDTHS) - 1
HIDDEN = range(1, DEPTH)
WEIGHTS = {"tanh": "glorot_normal", "relu": "he_normal"}
F: dict[str, Callable[[Any], Any]] = {"tanh": np.tanh, "relu": lambda s: np.maximum(s, 0.0)}
EPSILON = 1e-5
NORMALIZATIONS = {"none": None, "batch": f"batch(epsilon={EPSILON:g})"}
RATES = (0.01, 0.03, 0.1)
MIDDLE = RATES[1]
EQUAL = math.log(1.5)  # of log variance from layer to layer, rms, up to which variances are taken for equal
ALIKE = 1.5  # times as much at most, at the same loss
VARIANCE = "activation_variance"
BY_BATCHES, BY_WEIGHTS = "wasserstein_batches", "wasserstein_weights"
BATCHES, LOOKS = (16, 64, 256), 5  # of which drift by batches is measured, on so many others than the first

Signals = list["NDArray[np.float64]"]


def network(name: str, normalization: str) -> Network:
    """Return the law of the nets before training."""
    return Network(WIDTHS, name, WEIGHTS[name], normalization=NORMALIZATIONS[normalization])


def digits() -> tuple[Any, Any]:
    """Return digits, pixels from 0 to 1, and their classes."""
    inputs, targets = split(mnist_at_hand(), scale="unit").train
    return inputs[:SAMPLES], targets[:SAMPLES]


def cases(scale: str) -> Iterator[Case]:
    """Yield nets before training: variances from layer to layer."""
    inputs = digits()[0]
    for name in WEIGHTS:
        for normalization in NORMALIZATIONS:
            task = make_task(
                network(name, normalization), batch=BATCH, inputs=inputs, quantities=(VARIANCE,), sampler="dense"
            )
            yield Case(task, 8 * NETS[scale], {"activation": name, "normalization": normalization})


def times(steps: int) -> tuple[int, ...]:
    """Return after how many steps it is looked: about three times a decade."""
    powers = np.arange(0, math.log10(steps), 0.4)
    return (0, *sorted({round(10**power) for power in powers}), steps)


def measure(scale: str) -> DataFrame:
    """Train nets of both activations, with and without batch norm, at each rate: the same weights, the same batches."""
    import pandas

    data, rows, drift, losses = digits(), [], {}, {}
    for name in WEIGHTS:
        for normalization in NORMALIZATIONS:
            for rate in RATES:
                trained = train(
                    network(name, normalization), nets=NETS[scale], steps=STEPS[scale], data=data, batch=BATCH,
                    loss="softmax_cross_entropy", optimizer=f"sgd(learning_rate={rate!r})",
                    record=times(STEPS[scale]), quantities=("loss", VARIANCE, BY_WEIGHTS), keep_weights=True,
                )  # fmt: skip
                tags = {"activation": name, "normalization": normalization, "rate": rate}
                rows += [tags | row for row in (*_curves(trained), *_seen(trained, data[0]), *_nets(trained))]
                drift[name, normalization, rate] = _mean_drift(trained)
                losses[name, normalization, rate] = trained.values("loss")[:, :, 0]
            rows += list(_rates(name, normalization, drift, losses, times(STEPS[scale])))
            rows += list(_by_size(name, normalization, NETS[scale], data))
    return pandas.DataFrame(rows).assign(theory=math.nan)


def _row(part: str, quantity: str, values: Any, *, step: int = -1, layer: int = -1) -> dict[str, Any]:
    values = np.asarray(values)[np.isfinite(values)]
    return {"part": part, "quantity": quantity, "step": step, "layer": layer} | mean_with_interval(values)


def _mean_drift(trained: Trained) -> NDArray[np.float64]:
    """Return the drift of inputs by weights, the geometric mean of layers 2 and up: nets, steps.

    Few units of ReLU that were nearly closed at the start, with next to no standard deviation, own other means.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(trained.values(BY_WEIGHTS)[:, :, 2:]).mean(axis=2)))


def _by_size(name: str, normalization: str, nets: int, data: tuple[Any, Any]) -> Iterator[dict[str, Any]]:
    """Yield drift by batches of several sizes, of nets that are not trained, by layer; and by which power it goes."""
    tags = {"activation": name, "normalization": normalization, "rate": 0.0}
    logarithms = []
    for batch in BATCHES:
        looked = train(
            network(name, normalization), nets=nets, steps=LOOKS, data=data, batch=batch,
            loss="softmax_cross_entropy", optimizer="sgd(learning_rate=1e-12)", record=range(1, LOOKS),
            quantities=(BY_BATCHES,),
        )  # fmt: skip
        drift = looked.values(BY_BATCHES).mean(axis=1)
        for layer in range(1, DEPTH + 1):
            yield tags | _row("batches", f"batch {batch}", drift[:, layer], layer=layer)
        logarithms.append(np.log(drift[:, 2:]))
    powers = np.polyfit(np.log(BATCHES), np.array(logarithms).reshape(len(BATCHES), -1), 1)[0]
    yield tags | _row("batches", "power", powers.reshape(nets, -1).mean(axis=1))
    slopes = np.polyfit(np.arange(2, DEPTH + 1), logarithms[BATCHES.index(BATCH)].T, 1)[0]
    yield tags | _row("batches", "slope", slopes)


def _unequal(trained: Trained) -> NDArray[np.float64]:
    """Return the root mean square over hidden layers of ln Var(z_(l+1)) / Var(z_l): nets, steps."""
    logarithms = np.log(trained.values(VARIANCE)[:, :, 1:-1])
    return np.asarray(np.sqrt((np.diff(logarithms, axis=2) ** 2).mean(axis=2)))


def _curves(trained: Trained) -> Iterator[dict[str, Any]]:
    """Yield what is against steps, drift by weights of each layer's input at the end, and variances there."""
    for place, step in enumerate(trained.steps):
        yield _row("curve", "loss", trained.values("loss")[:, place, 0], step=step)
        yield _row("curve", "drift", _mean_drift(trained)[:, place], step=step)
        yield _row("curve", "unequal", _unequal(trained)[:, place], step=step)
    for layer in range(1, DEPTH + 1):
        yield _row("layer", BY_WEIGHTS, trained.values(BY_WEIGHTS)[:, -1, layer], layer=layer)
    for layer in HIDDEN:
        yield _row("layer", VARIANCE, trained.values(VARIANCE)[:, -1, layer], layer=layer)


def _nets(trained: Trained) -> Iterator[dict[str, Any]]:
    """Yield by how much drift grows from layer to layer, and by how much variances come apart, net by net."""
    logarithms = np.log(trained.values(BY_WEIGHTS)[:, -1, 2:])
    yield _row("net", "slope", np.polyfit(np.arange(2, DEPTH + 1), logarithms.T, 1)[0])
    unequal = _unequal(trained)
    yield _row("net", "unequal_start", unequal[:, 0])
    yield _row("net", "unequal_end", unequal[:, -1])
    yield _row("net", "unequal_change", unequal[:, -1] - unequal[:, 0])


def _rates(
    name: str, normalization: str, drift: dict[Any, Any], losses: dict[Any, Any], looked: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Yield how much later nets of the smallest rate are than those of the largest, and what drift the same loss costs.

    Logarithms of ratios: of the steps until drift is half of the smaller one of both at the end, of the steps until a
    loss is reached, the smallest that both reach, and of the drift there.
    """
    steps = np.array(looked, float)
    slow, fast = ((name, normalization, rate) for rate in (RATES[0], RATES[-1]))
    found: dict[str, list[float]] = {"later_drift": [], "later_loss": [], "drift_at_loss": []}
    for net in range(len(drift[slow])):
        moved = [drift[key][net] for key in (slow, fast)]
        lost = [losses[key][net] for key in (slow, fast)]
        half, reached = 0.5 * min(each[-1] for each in moved), max(each.min() for each in lost)
        times_of_drift = [_when(half, each, steps) for each in moved]
        times_of_loss = [_when(-reached, -each, steps) for each in lost]
        at_loss = [_when(-reached, -loss, own) for loss, own in zip(lost, moved, strict=True)]
        for quantity, (a, b) in zip(found, (times_of_drift, times_of_loss, at_loss), strict=True):
            found[quantity].append(math.log(a / b))
    for quantity, values in found.items():
        yield {"activation": name, "normalization": normalization, "rate": 0.0} | _row("rates", quantity, values)


def _when(level: float, rising: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return what another value is where one first reaches a level, both linear between times."""
    place = int(np.argmax(rising >= level))
    share = (level - rising[place - 1]) / (rising[place] - rising[place - 1])
    return float(other[place - 1] + share * (other[place] - other[place - 1]))


# --- what f sees ----------------------------------------------------------------------------------------


def forward(trained: Trained, net: int, place: int, inputs: NDArray[np.float64]) -> Signals:
    """Return what f sees in every hidden layer of a net: s, or what batch norm with its scale and shift makes of it."""
    f, z, found = F[trained.network.activation.name], inputs, []
    for layer in HIDDEN:
        s = z @ trained.weights(layer)[net, place].astype(float) + trained.biases(layer)[net, place]
        if trained.network.normalization is not None:
            s = (s - s.mean(axis=0)) / np.sqrt(s.var(axis=0) + EPSILON)
            s = s * trained.scales(layer)[net, place] + trained.shifts(layer)[net, place]
        found.append(s)
        z = f(s)
    return found


def _seen(trained: Trained, inputs: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    """Yield by how much the means of what f sees move, by other weights and by another mini-batch."""
    one, other = inputs[:BATCH], inputs[BATCH : 2 * BATCH]
    moved: dict[str, list[list[float]]] = {"weights": [], "batches": []}
    for net in range(len(trained.record)):
        start = forward(trained, net, 0, one)
        for cause, now in (("weights", forward(trained, net, -1, one)), ("batches", forward(trained, net, 0, other))):
            moved[cause].append([shift(a, b) for a, b in zip(start, now, strict=True)])
    for cause, nets in moved.items():
        for layer, values in zip(HIDDEN, np.array(nets).T, strict=True):
            yield _row("layer", f"seen_{cause}", values, layer=layer)
        yield _row("net", f"seen_{cause}", np.mean(nets, axis=1))


def shift(then: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Return the root mean square over units of the mean's shift, in standard deviations at the start."""
    return float(np.sqrt((((now.mean(axis=0) - then.mean(axis=0)) / then.std(axis=0)) ** 2).mean()))


# --- figures and verdicts -------------------------------------------------------------------------------


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw drift by layer and cause, what f sees, drift against steps and against loss, and variances."""
    import pandas

    measured = collected.measured
    lines = [
        figures.spelled(name) + (", BN" if norm == "batch" else "")
        for name, norm in zip(measured["activation"], measured["normalization"], strict=True)
    ]
    measured = measured.assign(line=lines)
    figure, axes = figures.panels(rows=3, columns=2, width=figures.PAGE, height=6.4)
    layers, by_size = select(measured, part="layer", rate=MIDDLE), select(measured, part="batches")
    by_layer = (
        (axes[0, 0], layers, BY_WEIGHTS, "drift of the input by\nweights (std)", 2),
        (axes[0, 1], by_size, f"batch {BATCH}", "drift of the input by\nbatches (std)", 1),
        (axes[1, 0], layers, "seen_weights", "shift of the mean of what\n$f$ sees by weights (std)", 1),
    )
    drawn = []
    for panel, found, quantity, ylabel, first in by_layer:
        rows = select(found, quantity=quantity)
        drawn.append(rows[rows["layer"] >= first])
        linear = quantity == f"batch {BATCH}"
        figures.against_depth(panel, drawn[-1], by="line", scale="linear" if linear else "log", ylabel=ylabel)
        if linear:
            panel.set_ylim(bottom=0)
    curves = select(measured, part="curve")
    unequal = select(curves, quantity="unequal", rate=MIDDLE)
    _against_steps(axes[1, 1], unequal, by="line", ylabel=r"rms of ln Var($z_{l+1}$) / Var($z_l$)")
    rated = select(curves, activation="tanh", quantity=("drift", "loss"))
    named = rated["normalization"].map({"none": "rate ", "batch": "BN, rate "}) + rated["rate"].map("{:g}".format)
    rated = rated.assign(line=named)
    drift = select(rated, quantity="drift")
    _against_steps(axes[2, 0], drift, by="line", ylabel="drift by weights (std), tanh")
    _against_loss(axes[2, 1], rated)
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([*drawn, unequal, rated]))


def _against_steps(axes: Axes, rows: DataFrame, *, by: str, ylabel: str) -> None:
    rows = rows.assign(layer=rows["step"])
    axes.set_xscale("symlog", linthresh=1.0)
    figures.against_depth(axes, rows, by=by, xlabel="steps", ylabel=ylabel)
    ticks = [0] + [10**power for power in range(round(math.log10(rows["step"].max())) + 1)]
    axes.set_xticks(ticks, labels=list(map(str, ticks)))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)


def _against_loss(axes: Axes, rows: DataFrame) -> None:
    """Draw drift against the loss that is reached, which falls to the right."""
    for index, (line, own) in enumerate(rows.groupby("line", sort=False)):
        loss, drift = (select(own, quantity=quantity).sort_values("step") for quantity in ("loss", "drift"))
        (drawn,) = axes.plot(loss["estimate"], drift["estimate"], label=line, **figures.line(index))
        axes.fill_between(
            loss["estimate"], drift["ci_low"], drift["ci_high"], color=drawn.get_color(), alpha=0.25, linewidth=0
        )
    axes.invert_xaxis()
    axes.text(0.03, 0.97, "lines as in (e)", transform=axes.transAxes, va="top", fontsize=7)
    axes.set(xlabel="training loss (nats)", ylabel="drift by weights (std), tanh", ylim=(0, None))


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the parts of both claims against what was measured."""
    measured = collected.measured
    yield _by_batches(measured)
    yield _deeper(measured)
    yield _pinned(measured)
    yield _variances(collected.table, measured)
    yield _small_rates(measured)


def _net(measured: DataFrame, quantity: str, name: str, normalization: str = "none") -> Any:
    return pick(measured, part="net", quantity=quantity, activation=name, normalization=normalization, rate=MIDDLE)


def _written(row: Any) -> str:
    return f"{row.estimate:.3g} [{row.ci_low:.3g}, {row.ci_high:.3g}]"


def _by_batches(measured: DataFrame) -> Verdict:
    """A04: with W fixed, another mini-batch changes what every layer sees: by as much as small samples differ."""
    found = select(measured, part="batches", normalization="none")
    rows = select(found, quantity=f"batch {BATCH}")
    power, slope = (
        {name: pick(found, quantity=quantity, activation=name) for name in WEIGHTS} for quantity in ("power", "slope")
    )
    by_chance = all(abs(row.estimate + 0.5) < 0.1 for row in power.values())
    deeper = [name for name, row in slope.items() if row.ci_low > 0]
    note = (
        f"Wasserstein distance of the last layer's input on another mini-batch of {BATCH}, W fixed, tanh, in standard "
        f"deviations; in all layers {rows['estimate'].min():.2f} to {rows['estimate'].max():.2f}. It goes as the batch "
        "to the power "
        + ", ".join(f"{_written(row)} ({name})" for name, row in power.items())
        + (": no other distribution, but samples of one" if by_chance else "")
        + ". From layer to layer ln of it grows by "
        + ", ".join(f"{_written(row)} ({name})" for name, row in slope.items())
        + f": deeper layers drift more by batches with {' and '.join(deeper) or 'neither'}"
    )
    row = pick(rows, activation="tanh", layer=DEPTH)
    when = "mini-batches are small samples: it falls as their root" if by_chance else ""
    return judge("A04", row, bool((rows["ci_low"] > 0).all() and (rows["estimate"] < 1.0).all()), note, when=when)


def _deeper(measured: DataFrame) -> Verdict:
    """A04: as W is updated, deeper layers drift more."""
    slopes = {name: _net(measured, "slope", name) for name in WEIGHTS}
    normed = {name: _net(measured, "slope", name, "batch") for name in WEIGHTS}
    more = [name for name, row in slopes.items() if row.ci_low > 0]
    drifts = {
        name: select(measured, part="layer", quantity=BY_WEIGHTS, activation=name, normalization="none", rate=MIDDLE)
        for name in WEIGHTS
    }
    ends = [f"{pick(rows, layer=2).estimate:.3f} to {pick(rows, layer=DEPTH).estimate:.3f} ({name})"
            for name, rows in drifts.items()]  # fmt: skip
    note = (
        "by how much ln of the Wasserstein distance of a layer's input from that at the start grows by layer, tanh, "
        f"without batch norm, same mini-batch, at the end, layers 2 to {DEPTH}; relu {_written(slopes['relu'])}; with "
        f"batch norm tanh {_written(normed['tanh'])}, relu {_written(normed['relu'])}. The distances from layer 2 to "
        f"{DEPTH}, in standard deviations: {', '.join(ends)}"
    )
    when = "" if len(more) == len(WEIGHTS) else f"f is {', '.join(more)}"
    return judge("A04", slopes["tanh"], bool(more), note, when=when)


def _pinned(measured: DataFrame) -> Verdict:
    """A04: batch norm pins the distribution: of what f sees, or of what the layer behind takes."""
    seen = {(name, norm): _net(measured, "seen_weights", name, norm) for name in WEIGHTS for norm in NORMALIZATIONS}
    batches = {key: _net(measured, "seen_batches", *key) for key in seen}
    curves = select(measured, part="curve", quantity="drift", rate=MIDDLE)
    last = select(curves, step=curves["step"].max())
    inputs = {key: pick(last, activation=key[0], normalization=key[1]) for key in seen}

    def less(found: dict[Any, Any], factor: float = 1.0) -> bool:
        return all(found[name, "batch"].ci_high < factor * found[name, "none"].ci_low for name in WEIGHTS)

    exact = all(abs(batches[name, "batch"].estimate) < 1e-9 for name in WEIGHTS)
    pins, keeps = exact and less(seen, 0.5), less(inputs, 0.5)

    def both(found: dict[Any, Any]) -> str:
        return ", ".join(f"{found[n, 'batch'].estimate:.2g} for {found[n, 'none'].estimate:.2g} ({n})" for n in WEIGHTS)

    note = (
        "shift of the mean of what f sees by the weights after training, mean of the hidden layers, tanh with batch "
        f"norm, in standard deviations. With batch norm for without: {both(seen)}; by another mini-batch "
        f"{both(batches)}: its mean and variance are trained numbers, shift and scale, and no mini-batch moves them. "
        f"Of the layers' inputs z behind f, by weights, the Wasserstein distance is {both(inputs)}: "
        + ("less" if less(inputs) else "not less")
    )
    when = "" if keeps else "the mean and variance of what f sees are meant, not all of the distribution of z"
    return judge("A04", seen["tanh", "batch"], pins, note, when=when)


def _variances(table: DataFrame, measured: DataFrame) -> Verdict:
    """A21: variances are equal at the start, not after some steps; with batch norm they stay."""
    found = {
        (name, norm, when): _net(measured, f"unequal_{when}", name, norm)
        for name in WEIGHTS for norm in NORMALIZATIONS for when in ("start", "change", "end")
    }  # fmt: skip
    equal = {name: found[name, "none", "start"].ci_high < EQUAL for name in WEIGHTS}
    apart = {name: found[name, "none", "change"].ci_low > 0 for name in WEIGHTS}
    kept = {name: found[name, "batch", "end"].ci_high < EQUAL for name in WEIGHTS}
    holds = [name for name in WEIGHTS if equal[name] and apart[name] and kept[name]]
    start = select(table, normalization="none", quantity=VARIANCE)
    last = select(measured, part="layer", normalization="none", quantity=VARIANCE, rate=MIDDLE)

    def ends(rows: DataFrame) -> str:
        each = [[pick(rows, activation=name, layer=layer).estimate for layer in (1, DEPTH - 1)] for name in WEIGHTS]
        return ", ".join(f"{a:.3g} to {b:.3g} ({name})" for name, (a, b) in zip(WEIGHTS, each, strict=True))

    def written(norm: str) -> str:
        return ", ".join(
            f"{found[n, norm, 'start'].estimate:.2f} to {found[n, norm, 'end'].estimate:.2f}, by "
            f"{_written(found[n, norm, 'change'])} ({n})"
            for n in WEIGHTS
        )

    note = (
        "by how much the rms over hidden layers of ln Var(z_(l+1)) / Var(z_l) has grown at the end, tanh, without "
        f"batch norm. It goes from {written('none')}; with batch norm from {written('batch')}. From layer "
        f"1 to {DEPTH - 1} Var(z) goes at the start from {ends(start)}, at the end from {ends(last)}; taken for equal "
        f"up to {EQUAL:.2f} a layer"
    )
    when = "" if len(holds) == len(WEIGHTS) else f"f is {', '.join(holds)}"
    return judge("A21", found["tanh", "none", "change"], bool(holds), note, when=when)


def _small_rates(measured: DataFrame) -> Verdict:
    """A21: a small learning rate delays the drift, and learning with it; compared at the same loss, too."""
    rates = select(measured, part="rates", normalization="none")
    later, slower, same = (
        {name: pick(rates, quantity=quantity, activation=name) for name in WEIGHTS}
        for quantity in ("later_drift", "later_loss", "drift_at_loss")
    )
    alike = all(abs(row.estimate) < math.log(ALIKE) for row in same.values())

    def factor(rows: dict[str, Any]) -> str:
        return ", ".join(
            f"{math.exp(row.estimate):.3g} [{math.exp(row.ci_low):.3g}, {math.exp(row.ci_high):.3g}] ({name})"
            for name, row in rows.items()
        )

    note = (
        f"ln of the steps until the layers' inputs have drifted so far with rate {RATES[0]:g}, by those with "
        f"{RATES[-1]:g}, tanh, without batch norm; gradient flow has ln {RATES[-1] / RATES[0]:g}. Steps to the same "
        f"drift, as a factor: {factor(later)}; to the same loss: {factor(slower)}. Drift at the same loss: "
        f"{factor(same)}: "
        + ("it comes with what is learned, at any rate" if alike else "it is not the same for what is learned")
    )
    row = later["tanh"]._replace(theory=math.log(RATES[-1] / RATES[0]))
    return judge("A21", row, all(row.ci_low > 0 for row in (*later.values(), *slower.values())), note)


study = Study(
    name="covariate_shift",
    title="Covariate shift: by batches and by weights, layer by layer, and what batch norm pins",
    cases=cases,
    draw=draw,
    claims=("A04", "A21"),
    verdicts=verdicts,
    measure=measure,
    on_mnist=True,
)

if __name__ == "__main__":
    run_script(study)
