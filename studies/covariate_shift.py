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

NETS = {"quick": 5, "paper": 20}
STEPS = {"quick": 250, "paper": 2000}
WIDTHS, BATCH, SAMPLES = (784, *(64,) * 7, 10), 64, 1000
DEPTH = len(WIDTHS) - 1
HIDDEN = range(1, DEPTH)
WEIGHTS = {"tanh": "glorot_normal", "relu": "he_normal"}
F: dict[str, Callable[[Any], Any]] = {"tanh": np.tanh, "relu": lambda s: np.maximum(s, 0.0)}
EPSILON = 1e-5
NORMALIZATIONS = {"none": None, "batch": f"batch(epsilon={EPSILON:g})"}
RATES = (0.01, 0.03, 0.1)
MIDDLE = RATES[1]
PINNED = 0.5  # of the drift without batch norm that is left with it, at most
EQUAL = math.log(1.5)  # of log variance from layer to layer, rms, up to which variances are taken for equal
ALIKE = 1.5  # times as much at most, at the same loss
VARIANCE = "activation_variance"
BY_WEIGHTS = "wasserstein_weights"
EARLY = 16  # steps, after which rates are compared, and once more at the end
BATCHES, PAIRS, RELABELED = (16, 64, 256), 4, 4  # sizes; pairs of mini-batches of each net; new labels of each pair
CLASSES = 5  # the digits below against the others: pairs that are samples of two distributions

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
            for rate in RATES if normalization == "none" else (MIDDLE,):
                trained = train(
                    network(name, normalization), nets=NETS[scale], steps=STEPS[scale], data=data, batch=BATCH,
                    loss="softmax_cross_entropy", optimizer=f"sgd(learning_rate={rate!r})",
                    record=times(STEPS[scale]), quantities=("loss", VARIANCE, BY_WEIGHTS), keep_weights=rate == MIDDLE,
                )  # fmt: skip
                tags = {"activation": name, "normalization": normalization, "rate": rate}
                rows += [tags | row for row in _curves(trained)]
                if rate == MIDDLE:
                    rows += [tags | row for row in (*_layers(trained), *_seen(trained, data[0]), *_nets(trained))]
                    rows += [tags | row for row in _by_batches(trained, data)]
                drift[name, normalization, rate] = _mean_drift(trained)
                losses[name, normalization, rate] = trained.values("loss")[:, :, 0]
        rows += [{"activation": name} | row for row in _rates(name, drift, losses, times(STEPS[scale]))]
        pinned = drift[name, "batch", MIDDLE][:, -1] / drift[name, "none", MIDDLE][:, -1]
        rows.append({"activation": name, "rate": MIDDLE} | _geometric("pinned", "ratio", pinned))
    return pandas.DataFrame(rows).assign(theory=math.nan)


def _row(part: str, quantity: str, values: Any, *, step: int = -1, layer: int = -1) -> dict[str, Any]:
    values = np.asarray(values)[np.isfinite(values)]
    return {"part": part, "quantity": quantity, "step": step, "layer": layer} | mean_with_interval(values)


def _geometric(part: str, quantity: str, values: Any, *, layer: int = -1) -> dict[str, Any]:
    """Return the geometric mean over nets: see `_mean_drift`; NaN of what is 0."""
    with np.errstate(divide="ignore"):
        row = _row(part, quantity, np.log(values), layer=layer)
    return row | {end: math.exp(row[end]) for end in ("estimate", "ci_low", "ci_high")}


def _mean_drift(trained: Trained) -> NDArray[np.float64]:
    """Return the drift of inputs by weights, the geometric mean of layers 2 and up: nets, steps.

    Few units of ReLU that were nearly closed at the start, with next to no standard deviation, own other means.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(trained.values(BY_WEIGHTS)[:, :, 2:]).mean(axis=2)))


def _by_batches(trained: Trained, data: tuple[Any, Any]) -> Iterator[dict[str, Any]]:
    """Yield drift of inputs by batches before training, by layer and size, and how it compares with other labels.

    Pairs of mini-batches have no sample in common, and standard deviations are those of all samples. Without batch
    norm, ln of the drift by that after samples of both batches have been labeled anew: of any two, and of classes.
    """
    low = data[1].argmax(axis=1) < CLASSES
    drift: dict[int, list[Any]] = {size: [] for size in BATCHES}
    excess: dict[str, list[float]] = {"excess": [], "excess_classes": []}
    for net in range(len(trained.record)):
        random = np.random.Generator(np.random.Philox(net))
        whole = _inputs(trained, net, data[0])
        std = [z.std(axis=0) for z in whole]

        def seen(rows: Any, net: int = net, whole: Signals = whole) -> Signals:
            if trained.network.normalization is None:
                return [z[rows] for z in whole]
            return _inputs(trained, net, data[0][rows])

        def of(rows: Any, size: int, seen: Any = seen, std: Signals = std) -> tuple[Signals, list[float]]:
            pair = seen(rows[:size]), seen(rows[size : 2 * size])
            both = [np.concatenate(each) for each in zip(*pair, strict=True)]
            return both, [apart(z[:size], z[size:], own) for z, own in zip(both, std, strict=True)]

        orders = [random.permutation(len(data[0])) for _ in range(PAIRS)]
        for size in BATCHES:
            drift[size].append(np.mean([of(rows, size)[1] for rows in orders], axis=0))
        if trained.network.normalization is None:
            halves = [
                np.concatenate([random.choice(np.flatnonzero(which), BATCH, replace=False) for which in (low, ~low)])
                for _ in range(PAIRS)
            ]
            for quantity, pairs in (("excess", orders), ("excess_classes", halves)):
                each = [_excess(*of(rows, BATCH), std, random) for rows in pairs]
                excess[quantity].append(float(np.mean(each)))
    for size, found in drift.items():
        for layer, values in enumerate(np.array(found).T, 2):
            yield _geometric("batches", f"batch {size}", values, layer=layer)
    if trained.network.normalization is None:
        logarithms = np.log([np.array(drift[size]) for size in BATCHES]).mean(axis=2)
        yield _row("batches", "power", np.polyfit(np.log(BATCHES), logarithms, 1)[0])
        slopes = np.polyfit(np.arange(2, DEPTH + 1), np.log(np.array(drift[BATCH])).T, 1)[0]
        yield _row("batches", "slope", slopes)
        for quantity, values in excess.items():
            yield _row("batches", quantity, values)


def _inputs(trained: Trained, net: int, inputs: NDArray[np.float64]) -> Signals:
    """Return what layers 2 and up take before training."""
    f = F[trained.network.activation.name]
    return [f(s) for s in forward(trained, net, 0, inputs)]


def apart(one: NDArray[np.float64], other: NDArray[np.float64], std: NDArray[np.float64]) -> float:
    """Return the mean over units of the Wasserstein distance of as many samples, in standard deviations."""
    varied = std > 0
    distance = np.abs(np.sort(one[:, varied], axis=0) - np.sort(other[:, varied], axis=0)).mean(axis=0)
    return float((distance / std[varied]).mean())


def _excess(both: Signals, found: list[float], std: Signals, random: np.random.Generator) -> float:
    """Return ln of the distance of two batches by that of as many samples of both, the mean over layers."""
    orders = [random.permutation(2 * BATCH) for _ in range(RELABELED)]
    chance = [
        np.mean([apart(z[order[:BATCH]], z[order[BATCH:]], own) for order in orders])
        for z, own in zip(both, std, strict=True)
    ]
    return float(np.mean(np.log(found) - np.log(chance)))


def _unequal(trained: Trained) -> NDArray[np.float64]:
    """Return the root mean square over hidden layers of ln Var(z_(l+1)) / Var(z_l): nets, steps."""
    logarithms = np.log(trained.values(VARIANCE)[:, :, 1:-1])
    return np.asarray(np.sqrt((np.diff(logarithms, axis=2) ** 2).mean(axis=2)))


def _curves(trained: Trained) -> Iterator[dict[str, Any]]:
    """Yield what is against steps."""
    for place, step in enumerate(trained.steps):
        yield _row("curve", "loss", trained.values("loss")[:, place, 0], step=step)
        yield _row("curve", "drift", _mean_drift(trained)[:, place], step=step)
        yield _row("curve", "unequal", _unequal(trained)[:, place], step=step)


def _layers(trained: Trained) -> Iterator[dict[str, Any]]:
    """Yield drift by weights of each layer's input at the end, and variances there."""
    for layer in range(1, DEPTH + 1):
        yield _geometric("layer", BY_WEIGHTS, trained.values(BY_WEIGHTS)[:, -1, layer], layer=layer)
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
    variance = trained.values(VARIANCE)
    for when, place in (("start", 0), ("end", -1)):
        yield _row("net", f"across_{when}", np.log(variance[:, place, DEPTH - 1] / variance[:, place, 1]))


def _rates(
    name: str, drift: dict[Any, Any], losses: dict[Any, Any], looked: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Yield how much later nets of the smallest rate are than those of the largest, and what drift the same loss costs.

    Logarithms of ratios, without batch norm: of drift after as many steps, early and at the end; of the steps until
    drift is half of the smaller one of both at the end; of the steps until a loss is reached, the smallest that both
    reach; and of the drift there. Nets that have diverged at either rate are left out.
    """
    steps = np.array(looked, float)
    slow, fast = ((name, "none", rate) for rate in (RATES[0], RATES[-1]))
    found: dict[str, list[float]] = {"later_drift": [], "later_loss": [], "drift_at_loss": []}
    finite = np.all([np.isfinite(each[key]).all(axis=1) for each in (drift, losses) for key in (slow, fast)], axis=0)
    for quantity, place in (("drift_early", looked.index(EARLY)), ("drift_end", -1)):
        yield _row("rates", quantity, np.log(drift[slow][finite, place] / drift[fast][finite, place]))
    for net in np.flatnonzero(finite):
        moved = [drift[key][net] for key in (slow, fast)]
        lost = [losses[key][net] for key in (slow, fast)]
        half, reached = 0.5 * min(each[-1] for each in moved), max(each.min() for each in lost)
        times_of_drift = [_when(half, each, steps) for each in moved]
        times_of_loss = [_when(-reached, -each, steps) for each in lost]
        at_loss = [_when(-reached, -loss, own) for loss, own in zip(lost, moved, strict=True)]
        for quantity, (a, b) in zip(found, (times_of_drift, times_of_loss, at_loss), strict=True):
            found[quantity].append(math.log(a / b))
    for quantity, values in found.items():
        yield _row("rates", quantity, values)


def _when(level: float, rising: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return what another value is where one first reaches a level, both linear between times.

    Raises
    ------
    ValueError
        If the level is never reached, or at the start already.
    """
    place = int(np.argmax(rising >= level))
    if place == 0:
        raise ValueError(f"level must be reached after the start and by the end, not {level:g} of {rising.tolist()}")
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


CAPTION = (
    f"How far the inputs of layers move in training: nets of {DEPTH} layers, {WIDTHS[1]} units wide, on digits, with "
    "batch normalization (BN) and without it. (a) Drift of a layer's input at the end of training, by the weights "
    "below: the Wasserstein distance to its law at the start, in standard deviations, geometric mean of nets. (b) The "
    f"same distance between two mini-batches of {BATCH}, before training. (c) By how much the mean of what f sees has "
    "moved. (d) How unequal the variances of adjacent hidden layers are, against steps. (e), (f) Drift of tanh nets "
    "at several learning rates, against steps and against the loss that they have reached; elsewhere the rate is "
    f"{MIDDLE:g}. {figures.BANDS}"
)


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
        (axes[0, 1], by_size, f"batch {BATCH}", "drift of the input by\nbatches (std)", 2),
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
        else:  # wide intervals of logarithms are cut
            panel.set_ylim(0.5 * drawn[-1]["estimate"].min(), 4.0 * drawn[-1]["estimate"].max())
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
    rows = pandas.concat([*drawn, unequal, rated])
    yield Drawing(figure, rows, caption=f"{CAPTION} {figures.of_nets(rows['nets'])}")


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
    yield _batches(measured)
    yield _deeper(measured)
    yield _pinned(measured)
    yield _variances(collected.table, measured)
    yield _small_rates(measured)


def _net(measured: DataFrame, quantity: str, name: str, normalization: str = "none") -> Any:
    return pick(measured, part="net", quantity=quantity, activation=name, normalization=normalization, rate=MIDDLE)


def _written(row: Any) -> str:
    return f"{row.estimate:.3g} [{row.ci_low:.3g}, {row.ci_high:.3g}]"


def _each(rows: dict[str, Any]) -> str:
    return ", ".join(f"{_written(row)} ({name})" for name, row in rows.items())


def _factors(rows: dict[str, Any]) -> str:
    """Write estimates of logarithms as factors."""
    return ", ".join(
        f"{math.exp(row.estimate):.3g} [{math.exp(row.ci_low):.3g}, {math.exp(row.ci_high):.3g}] ({name})"
        for name, row in rows.items()
    )


def _shown(rows: dict[str, Any], holds: list[str]) -> tuple[str, Any]:
    """Return the first activation of which it holds, or else the first of all, and its row."""
    name = (holds or list(rows))[0]
    return name, rows[name]


def _batches(measured: DataFrame) -> Verdict:
    """A04: with W fixed, what layers see of another batch differs more than samples of one distribution do."""
    found = select(measured, part="batches", normalization="none")
    sizes = select(found, quantity=f"batch {BATCH}")
    any_two, classes, power, slope = (
        {name: pick(found, quantity=quantity, activation=name) for name in WEIGHTS}
        for quantity in ("excess", "excess_classes", "power", "slope")
    )
    more, of_classes = ([name for name, row in each.items() if row.ci_low > 0] for each in (any_two, classes))
    always = len(more) == len(WEIGHTS)
    name, row = _shown(any_two, more) if always else _shown(classes, of_classes)
    note = (
        f"ln of the Wasserstein distance of layers' inputs between {'any two' if always else 'such'} batches of "
        f"{BATCH}, W fixed, by that after their samples are labeled anew, {name}, without batch norm, mean of layers 2 "
        f"to {DEPTH}. As factors: two mini-batches of the same digits {_factors(any_two)}; one of digits below "
        f"{CLASSES}, the other of the rest {_factors(classes)}. The distance of two mini-batches is "
        f"{sizes['estimate'].min():.2f} to {sizes['estimate'].max():.2f} standard deviations in all layers, goes as "
        f"their size to the power {_each(power)}, and ln of it grows from layer to layer by {_each(slope)}. Labels "
        "anew took the place of a fixed threshold after first results: two small samples of one law passed it"
    )
    conditions = (
        f"the batches are of different distributions, as digits below {CLASSES} and the others; two mini-batches are "
        f"not sure to differ more than samples of one law with {' or '.join(n for n in WEIGHTS if n not in more)}"
    )
    if len(of_classes) < len(WEIGHTS):
        conditions += f"; and f is {' or '.join(of_classes)}"
    return judge("A04", row, bool(more if always else of_classes), note, when="" if always else conditions)


def _deeper(measured: DataFrame) -> Verdict:
    """A04: as W is updated, deeper layers drift more."""
    slopes = {name: _net(measured, "slope", name) for name in WEIGHTS}
    normed = {name: _net(measured, "slope", name, "batch") for name in WEIGHTS}
    ends = {}
    for name in WEIGHTS:
        rows = select(measured, part="layer", quantity=BY_WEIGHTS, activation=name, normalization="none", rate=MIDDLE)
        ends[name] = [pick(rows, layer=layer).estimate for layer in (2, DEPTH)]
    more = [name for name, row in slopes.items() if row.ci_low > 0 and ends[name][1] > ends[name][0]]
    told = [f"{first:.3g} to {last:.3g} ({name})" for name, (first, last) in ends.items()]
    shown, row = _shown(slopes, more)
    note = (
        "by how much ln of the Wasserstein distance of a layer's input from that at the start grows by layer, "
        f"{shown}, without batch norm, same mini-batch, at the end, layers 2 to {DEPTH}. Without batch norm "
        f"{_each(slopes)}; "
        f"with it {_each(normed)}. The distances from layer 2 to {DEPTH}, in standard deviations: {', '.join(told)}"
    )
    when = "" if len(more) == len(WEIGHTS) else f"f is {' or '.join(more)}"
    return judge("A04", row, bool(more), note, when=when)


def _pinned(measured: DataFrame) -> Verdict:
    """A04: batch norm pins what layers take, not only the mean and variance of what f sees."""
    left = {name: pick(measured, part="pinned", activation=name) for name in WEIGHTS}
    pins = [name for name, row in left.items() if row.ci_high < PINNED]
    curves = select(measured, part="curve", quantity="drift", rate=MIDDLE)
    last = select(curves, step=curves["step"].max())

    def both(found: Callable[[str, str], Any]) -> str:
        return ", ".join(f"{found(n, 'batch').estimate:.2g} for {found(n, 'none').estimate:.2g} ({n})" for n in WEIGHTS)

    inputs = both(lambda name, norm: pick(last, activation=name, normalization=norm))
    weights = both(lambda name, norm: _net(measured, "seen_weights", name, norm))
    batches = both(lambda name, norm: _net(measured, "seen_batches", name, norm))
    shown, row = _shown(left, pins)
    note = (
        f"drift of layers' inputs z by weights with batch norm, by that of the same nets without, at the end, {shown}, "
        f"mean of layers 2 to {DEPTH}; taken for pinned below {PINNED:g}, which was chosen, and put to z, after first "
        f"results. {_each(left)}. Their Wasserstein distances, in standard deviations at the start, are {inputs}. "
        f"Further the shift of the mean of what f sees is {weights} by weights, {batches} by another mini-batch; with "
        "batch norm that mean is a trained number, so this is no test of it"
    )
    when = "" if len(pins) == len(WEIGHTS) else f"f is {' or '.join(pins)}"
    return judge("A04", row, bool(pins), note, when=when)


def _variances(table: DataFrame, measured: DataFrame) -> Verdict:
    """A21: variances are equal at the start, not after some steps; with batch norm they stay."""
    found = {
        (name, norm, what): _net(measured, what, name, norm)
        for name in WEIGHTS for norm in NORMALIZATIONS
        for what in ("unequal_start", "unequal_change", "unequal_end", "across_start", "across_end")
    }  # fmt: skip
    equal = {name: found[name, "none", "unequal_start"].ci_high < EQUAL for name in WEIGHTS}
    unequal = {name: found[name, "none", "unequal_end"].ci_low > EQUAL for name in WEIGHTS}
    kept = {name: found[name, "batch", "unequal_end"].ci_high < EQUAL for name in WEIGHTS}
    holds = [name for name in WEIGHTS if equal[name] and unequal[name] and kept[name]]
    shown, row = _shown({name: found[name, "none", "unequal_end"] for name in WEIGHTS}, holds)

    def written(norm: str) -> str:
        return "; ".join(
            f"{n} from {_written(found[n, norm, 'unequal_start'])} to {_written(found[n, norm, 'unequal_end'])}, by "
            f"{_written(found[n, norm, 'unequal_change'])}"
            for n in WEIGHTS
        )

    def across(norm: str) -> str:
        return ", ".join(
            " to ".join(f"{math.exp(found[n, norm, f'across_{when}'].estimate):.2g}" for when in ("start", "end"))
            + f" ({n})"
            for n in WEIGHTS
        )

    many = select(table, normalization="none", quantity=VARIANCE)
    wide = [
        pick(many, activation=n, layer=DEPTH - 1).estimate / pick(many, activation=n, layer=1).estimate
        for n in WEIGHTS
    ]  # fmt: skip
    note = (
        f"rms over hidden layers of ln Var(z_(l+1)) / Var(z_l) at the end, {shown}, without batch norm; taken for "
        f"equal up to ln 1.5 = {EQUAL:.3f} a layer, sure at either end of training and with batch norm: one standard "
        f"for all three, set after first results. Without batch norm {written('none')}. With it {written('batch')}. "
        f"Var(z_{DEPTH - 1}) / Var(z_1) goes from {across('none')} without batch norm, from {across('batch')} with it; "
        f"at the start it is {wide[0]:.2g} (tanh) and {wide[1]:.2g} (relu) of 8 times as many nets without"
    )
    when = "" if len(holds) == len(WEIGHTS) else f"f is {' or '.join(holds)}"
    return judge("A21", row._replace(theory=EQUAL), bool(holds), note, when=when)


def _small_rates(measured: DataFrame) -> Verdict:
    """A21: a small learning rate delays the drift, and learning with it; at the end nets may have caught up."""
    rates = select(measured, part="rates")
    early, end, later, slower, same = (
        {name: pick(rates, quantity=quantity, activation=name) for name in WEIGHTS}
        for quantity in ("drift_early", "drift_end", "later_drift", "later_loss", "drift_at_loss")
    )
    behind = [name for name in WEIGHTS if early[name].ci_high < 0 and slower[name].ci_low > 0]
    caught_up = [name for name in behind if not end[name].ci_high < 0]
    alike = all(-math.log(ALIKE) < row.ci_low and row.ci_high < math.log(ALIKE) for row in same.values())
    steps = int(select(measured, part="curve")["step"].max())
    shown, row = _shown(early, behind)
    note = (
        f"ln of the layers' drift with rate {RATES[0]:g} by that with {RATES[-1]:g} after {EARLY} steps, {shown}, "
        f"without batch norm. As factors: after {EARLY} steps {_factors(early)}, after {steps} {_factors(end)}. Steps "
        f"to the same drift, by which alone no smaller rate can fail: {_factors(later)}; to the same loss "
        f"{_factors(slower)}; gradient flow has {RATES[-1] / RATES[0]:g}. Drift at the same loss: {_factors(same)}: "
        + ("it comes with what is learned, at any rate" if alike else "not sure to be the same within a factor of 1.5")
        + ". Drift after as many steps was added after first results"
    )
    conditions = [] if len(behind) == len(WEIGHTS) else [f"f is {' or '.join(behind)}"]
    if caught_up:
        ratios = _factors({name: end[name] for name in caught_up})
        conditions.append(
            f"nets are still learning: after {steps} steps drift at rate {RATES[0]:g} is {ratios} times that at "
            f"{RATES[-1]:g}: delayed, not avoided"
        )
    return judge("A21", row, bool(behind), note, when="; ".join(conditions))


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
