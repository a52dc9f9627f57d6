"""Training in float16 and bfloat16: which learning rates are left, what vanishes, what overflows, and what helps.

Nets learn to tell handwritten digits of 8 x 8 pixels apart. Every format trains the same nets on the same mini-batches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, counting_divergence, train
from stabsim.verdicts import counted, judge, k_of_n, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 20, "paper": 500}  # before training
WIDTH, PIXELS, CLASSES, BATCH = 32, 64, 10, 32
SCALE = 10  # power of two of the loss scale
PLAIN, MASTER, BOTH, WIDE = "float16", "float16, master", "float16, scaled, master", "bfloat16"
FORMATS: dict[str, dict[str, Any]] = {
    "float32": {},
    WIDE: {"precision": "bfloat16", "master_weights": False},
    PLAIN: {"precision": "float16", "master_weights": False},
    MASTER: {"precision": "float16"},
    BOTH: {"precision": "float16", "loss_scale": 2.0**SCALE},
}
HALVES = (PLAIN, MASTER, BOTH)
LEARNED, WELL = 0.3, 0.5  # of the samples that it was trained on are told apart

DEPTH = 8
GAINS = (0.25, 0.5, 1.0, 2.0, 4.0)
WINDOW = {  # nets, steps and powers of ten of the learning rate
    "quick": (6, 150, tuple(range(-5, 2))),
    "paper": (12, 300, tuple(power / 2 for power in range(-14, 3))),
}
OVERFLOW, FIRST = (*GAINS, 8.0), {"quick": 12, "paper": 200}  # gains and nets of which one step is taken
STABLE = (-6.0, 3.0)  # log10 of root mean squares of dW
INSIDE, BELOW, ABOVE = "inside", "below", "above"

VANISHING: dict[str, tuple[tuple[int, ...], str, str, bool]] = {  # widths, activation, weights, trained biases
    "sigmoid": ((PIXELS, *(WIDTH,) * 4, CLASSES), "sigmoid", "normal(std=0.01)", True),
    "tanh": ((PIXELS, *(WIDTH,) * 6, CLASSES), "tanh", "normal(std=0.01)", True),
    "tanh, no biases": ((PIXELS, *(WIDTH,) * 6, CLASSES), "tanh", "normal(std=0.01)", False),
}
STUCK = "tanh, no biases"
VANISHED = {"quick": (6, 400), "paper": (32, 800)}  # nets and steps
ADAM = (0.003, 0.01, 0.03)
LOOKED = 1  # steps after which it is seen who has moved
ALIKE = 0.05  # of accuracy: "as well as in float32"
ABOVE_CHANCE = 1 / CLASSES + ALIKE  # set after first results
ONE_EACH = ("float32", WIDE, MASTER, BOTH)  # formats with weights that small steps can move
ZEROS = "weight_gradient_zero_fraction"
NORM = "weight_gradient_log10_norm"


def cases(scale: str) -> Iterator[Case]:
    """Yield the gradients of untrained nets of every gain."""
    for gain in GAINS:
        task = make_task(Network(_widths(), "relu", _he(gain)), batch=BATCH, quantities=(NORM,))
        yield Case(task, NETS[scale], {"gain": gain})


def _widths() -> tuple[int, ...]:
    return (PIXELS, *(WIDTH,) * DEPTH, CLASSES)


def _he(gain: float) -> str:
    return f"he_normal(gain={gain * math.sqrt(2.0)!r})"


def trained(network: Network, *, form: str, **given: Any) -> Trained:
    """Return nets that were trained on digits in a format."""
    with counting_divergence():
        return train(
            network, data=split("digits").train, batch=BATCH, loss="softmax_cross_entropy", **FORMATS[form], **given
        )


def measure(scale: str) -> DataFrame:
    """Train nets of every gain at every learning rate, and nets whose gradients vanish, in every format."""
    import pandas

    parts = [_overflow(scale), _window(scale), *(_vanishing(scale, net) for net in VANISHING)]
    return pandas.concat(parts, ignore_index=True).assign(theory=math.nan)


def _overflow(scale: str) -> DataFrame:
    """Return shares of nets that are not finite after a single step at the lowest rate: no step is too long there."""
    import pandas

    rows: list[dict[str, Any]] = []
    lowest = min(WINDOW[scale][2])
    for number, gain in enumerate(OVERFLOW):
        for form in FORMATS:
            found = trained(
                Network(_widths(), "relu", _he(gain)), form=form, nets=FIRST[scale], steps=1, seed=100 + number,
                optimizer=f"sgd(learning_rate={10.0**lowest!r})", record=(1,), quantities=("loss",),
            )  # fmt: skip
            tags = {"part": "overflow", "setting": form, "gain": gain, "rate": lowest, "quantity": "lost"}
            rows.append(tags | counted(~np.isfinite(found.values("loss")[:, -1, 0])))
    return pandas.DataFrame(rows)


def _window(scale: str) -> DataFrame:
    """Return what becomes of nets by format, gain and rate, and how many learn at the best rate by gain.

    "moved" is how far all W have moved by how far those of the same net have in float32.
    """
    import pandas

    nets, steps, powers = WINDOW[scale]
    rows: list[dict[str, Any]] = []
    for number, gain in enumerate(GAINS):
        exact: NDArray[Any] = np.array([])
        for form in FORMATS:
            accuracies = {}
            for power in powers:
                slowest = gain == 1.0 and power == min(powers)
                placed = form == "float32" and power == min(powers)
                record = (0, steps) if slowest or placed else (steps,)
                found = trained(
                    Network(_widths(), "relu", _he(gain)), form=form, nets=nets, steps=steps, seed=number,
                    optimizer=f"sgd(learning_rate={10.0**power!r})", record=record,
                    quantities=("accuracy", NORM) if placed else ("accuracy",), keep_weights=slowest,
                )  # fmt: skip
                accuracy = accuracies[power] = np.nan_to_num(found.values("accuracy")[:, -1, 0], nan=1 / CLASSES)
                tags = {"part": "window", "setting": form, "gain": gain, "rate": power, "step": steps}
                outcomes = {"learned": accuracy > LEARNED, "diverged": found.diverged_after >= 0}
                rows += [tags | {"quantity": name} | counted(values) for name, values in outcomes.items()]
                rows.append(tags | {"quantity": "accuracy"} | mean_with_interval(accuracy))
                if slowest:
                    moved = _moved(found)
                    exact = moved if form == "float32" else exact
                    rows.append(tags | {"quantity": "moved"} | mean_with_interval(moved / exact))
                if placed:
                    place = _place(found.values(NORM)[:, 0, 1:])
                    tags = {"part": "range", "setting": form, "gain": gain}
                    rows += [tags | {"quantity": where} | counted(place == where) for where in (INSIDE, BELOW, ABOVE)]
            best = max(accuracies.values(), key=lambda each: float((each > LEARNED).sum() + each.mean()))
            for level in (LEARNED, WELL):
                tags = {"part": "range", "setting": form, "gain": gain, "quantity": f"above {level:g}"}
                rows.append(tags | counted(best > level))
    return pandas.DataFrame(rows)


def _moved(found: Trained) -> NDArray[Any]:
    """Return how far all W of a net have moved."""
    squares = [((w[:, -1] - w[:, 0]) ** 2).sum(axis=(1, 2)) for w in map(found.weights, range(1, DEPTH + 2))]
    distance: NDArray[Any] = np.sqrt(np.sum(squares, axis=0, dtype=np.float64))
    return distance


def _place(norms: NDArray[Any]) -> NDArray[Any]:
    """Return of nets where the root mean squares of dW of all layers are: inside the range, or below or above it."""
    widths = _widths()
    elements = np.array([before * after for before, after in itertools.pairwise(widths)])
    rms = norms - np.log10(elements) / 2
    return np.where(rms.max(axis=1) > STABLE[1], ABOVE, np.where(rms.min(axis=1) < STABLE[0], BELOW, INSIDE))


def _vanishing(scale: str, net: str) -> DataFrame:
    """Return zeros of dW by layer and which layers have moved, and what becomes of nets at Adam's rates."""
    import pandas

    widths, activation, weights, biases = VANISHING[net]
    nets, steps = VANISHED[scale]
    record = (0, LOOKED, *range(100, steps + 1, 100))
    rows: list[dict[str, Any]] = []
    exact: NDArray[Any] = np.array([])
    for form in ONE_EACH:
        accuracies = []
        for rate in ADAM:
            followed = rate == ADAM[1]
            found = trained(
                Network(widths, activation, weights), form=form, nets=nets, steps=steps, seed=1,
                record=record if followed else (steps,), optimizer=f"adam(learning_rate={rate})", train_biases=biases,
                keep_weights=followed, quantities=("loss", "accuracy", ZEROS) if followed else ("accuracy",),
            )  # fmt: skip
            tags = {"part": "vanishing", "setting": form, "net": net, "rate": rate}
            accuracies.append(np.nan_to_num(found.values("accuracy")[:, -1, 0], nan=1 / CLASSES))
            rows.append(tags | {"quantity": "accuracy"} | mean_with_interval(accuracies[-1]))
            if not followed:
                continue
            for place, step in enumerate(record):
                loss = found.values("loss")[:, place, 0]
                rows.append(tags | {"quantity": "loss", "step": step} | mean_with_interval(loss[np.isfinite(loss)]))
            for layer in range(1, len(widths)):
                for name, place in (("zeros", 0), ("zeros at the end", -1)):
                    zeros = found.values(ZEROS)[:, place, layer]
                    rows.append(tags | {"quantity": name, "layer": layer} | mean_with_interval(zeros))
                w = found.weights(layer)
                still = (w[:, 1] == w[:, 0]).all(axis=(1, 2))
                rows.append(tags | {"quantity": "unmoved", "layer": layer} | counted(still))
        best = max(accuracies, key=lambda each: float(each.mean()))
        exact = best if form == "float32" else exact
        tags = {"part": "vanishing", "setting": form, "net": net}
        for name, values in (("best", best), ("over float32", best - exact)):
            rows.append(tags | {"quantity": name} | mean_with_interval(values))
    return pandas.DataFrame(rows)


# --- figures -------------------------------------------------------------------------------------------


CAPTION = (
    f"Which ReLU nets of {DEPTH} hidden layers of {WIDTH} units learn to tell digits apart, against the learning rate "
    "and the gain of the weights: orange, the share of nets that learn (accuracy on the training samples above "
    f"{LEARNED:g}); blue and hatched, the share that diverge, where these are more; white, neither. (a) float32, (b) "
    "bfloat16, (c) float16, (d) float16 with master weights in float32, (e) the same with the loss scaled by "
    f"2^{SCALE}. All formats train the same nets on the same mini-batches."
)
CAPTION_OF_VANISHING = (
    f"Gradients that vanish in float16, in nets that start from weights of law {VANISHING[STUCK][2]}. (a), (b) Share "
    "of the elements of each layer's weight gradient that are 0 in the first step, of sigmoid and of tanh nets: "
    f"master weights alone, and with the loss scaled by 2^{SCALE}. (c) Training loss of tanh nets without biases with "
    f"Adam, learning rate {ADAM[1]:g}, by format. {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw which nets learn at which rate, and what becomes of nets whose gradients vanish."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.3, sharex=True, sharey=True)
    rows = signed(measured)
    names = list(dict.fromkeys(rows["rate"]))
    powers = [float(name.replace("\N{MINUS SIGN}", "-")) for name in names]
    for panel, form in zip(axes.flat, FORMATS, strict=False):
        mesh = figures.heat_map(
            panel, select(rows, setting=form), rows="gain", columns="rate", center=0.0, limits=(-1.0, 1.0),
            annotate=False,
        )  # fmt: skip
        if mesh.colorbar is not None:
            mesh.colorbar.remove()  # one for all, in the place of a sixth format
        whole = [place for place, rate in enumerate(powers) if rate == int(rate)]
        panel.set_xticks(
            [place + 0.5 for place in whole], labels=[names[place] for place in whole], rotation=0, ha="center"
        )
        panel.set(xlabel="", ylabel="gain (1: He's weights)" if panel in axes[:, 0] else "")
    for panel in (*axes[1, :2], axes[0, 2]):
        panel.set_xlabel("log10 of the learning rate")
    axes[0, 2].tick_params(axis="x", labelbottom=True)
    axes[1, 2].set_axis_off()
    place = axes[1, 2].inset_axes((0.05, 0.6, 0.9, 0.1))
    bar = figure.colorbar(mesh, cax=place, orientation="horizontal")
    bar.set_label("share of nets: positive, learns;\nnegative and hatched, diverges;\nwhite, neither")
    bar.set_ticks([-1.0, -0.5, 0.0, 0.5, 1.0])
    bar.outline.set_visible(False)
    figures.panel_labels(list(axes.flat)[: len(FORMATS)], list(FORMATS))
    yield Drawing(figure, rows, caption=f"{CAPTION} {figures.of_nets(rows['nets'])}")

    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=2.4)
    vanishing = select(measured, part="vanishing")
    zeros = select(vanishing, quantity="zeros", setting=(MASTER, BOTH), net=("sigmoid", "tanh"))
    for panel, net in zip(axes.flat, ("sigmoid", "tanh"), strict=False):
        figures.against_depth(
            panel, select(zeros, net=net), by="setting", order=list(ONE_EACH), label=_short,
            ylabel="share of dW that is 0" if panel is axes[0, 0] else "",
        )  # fmt: skip
        panel.set_ylim(-0.03, 1.05)
    loss = select(vanishing, quantity="loss", net=STUCK, rate=ADAM[1])
    _against_steps(axes[0, 2], loss)
    figures.panel_labels(axes.flat, ["sigmoid, step 0", "tanh, step 0", STUCK])
    drawn = pandas.concat([zeros, loss])
    yield Drawing(figure, drawn, "vanishing", f"{CAPTION_OF_VANISHING} {figures.of_nets(drawn['nets'])}")


def _short(form: str) -> str:
    """Return the name of a format where all weights can move in small steps."""
    return form.removesuffix(", master")


def signed(measured: DataFrame) -> DataFrame:
    """Return shares of nets that learn, or, negative, that diverge where fewer learn."""
    window = select(measured, part="window")
    learned, diverged = (select(window, quantity=name) for name in ("learned", "diverged"))
    lost = diverged["estimate"].to_numpy()
    rows = learned.assign(estimate=np.where(lost > learned["estimate"], -lost, learned["estimate"]))
    names = [f"{rate:g}".replace("-", "\N{MINUS SIGN}") for rate in rows["rate"]]
    return rows.assign(rate=names).sort_values("gain", ascending=False, kind="stable")


def _against_steps(axes: Axes, rows: DataFrame) -> None:
    figures.against_depth(
        axes,
        rows.assign(layer=rows["step"]),
        by="setting",
        order=list(ONE_EACH),
        label=_short,
        xlabel="steps",
        ylabel="loss",
    )


# --- verdicts ------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the trained nets."""
    measured = collected.measured
    yield _rates(measured)
    yield _zeros(measured)
    yield _range(measured)


def window(measured: DataFrame, form: str, gain: float) -> tuple[float, ...]:
    """Return the powers of ten of the rates at which most nets of a gain learn."""
    rows = select(measured, part="window", setting=form, gain=gain, quantity="learned")
    return tuple(sorted(rows[rows["estimate"] > 0.5]["rate"]))


def _rates(measured: DataFrame) -> Verdict:
    """B03: float16 overflows first; and which rates diverge, learn, and stand still, and whether fewer are left."""
    lost = {(row.setting, row.gain): row for row in _rows(select(measured, part="overflow"))}
    shares = select(measured, part="window")
    lowest, highest = shares["rate"].min(), shares["rate"].max()
    most = {form: min((gain for gain in OVERFLOW if lost[form, gain].ci_low > 0.5), default=None) for form in FORMATS}
    others = ("float32", WIDE)

    def before(form: str) -> list[float]:
        return [g for g in OVERFLOW if all(lost[form, g].ci_low > lost[other, g].ci_high for other in others)]

    earlier = {form: before(form) for form in HALVES}
    windows = {(form, gain): window(measured, form, gain) for form in FORMATS for gain in GAINS}
    accuracy = {
        (form, rate): pick(shares, setting=form, gain=1.0, quantity="accuracy", rate=rate)
        for form in FORMATS for rate in sorted(set(shares["rate"]))
    }  # fmt: skip
    tops = {form: max(row.ci_low for (f, _), row in accuracy.items() if f == form) for form in FORMATS}
    too_large = all(
        pick(shares, setting=form, gain=1.0, quantity="diverged", rate=highest).ci_low > 0.5 for form in FORMATS
    )
    too_small = all(accuracy[form, lowest].ci_high < tops[form] for form in FORMATS)
    learning = {form: [gain for gain in GAINS if windows[form, gain]] for form in FORMATS}
    narrower = all(
        len(gains) > 1 and len(windows[form, gains[-1]]) < len(windows[form, gains[0]])
        for form, gains in learning.items()
    )
    still = {form: pick(shares, setting=form, gain=1.0, quantity="moved", rate=lowest) for form in FORMATS}
    row = lost[MASTER, (earlier[MASTER] or list(OVERFLOW))[0]]
    note = (
        f"share of nets in float16 with master weights that are not finite after one step at the rate 1e{lowest:g}, "
        f"ReLU, {DEPTH} hidden layers, weights {row.gain:g} times He's. Gain from which more than half surely are: "
        + ", ".join(f"{form} {'none' if gain is None else f'{gain:g}'}" for form, gain in most.items())
        + ". Powers of ten of the rates at which more than half learn, by gain: "
        + "; ".join(
            f"{gain:g}: " + ", ".join(f"{form} {_ends(windows[form, gain])}" for form in FORMATS) for gain in GAINS
        )
        + f". At gain 1 the rate 1e{highest:g} is too large, and at 1e{lowest:g} accuracy is "
        + ", ".join(f"{accuracy[form, lowest].estimate:.2f} ({form})" for form in FORMATS)
        + "; there all W have moved, of the distance in float32, by "
        + ", ".join(f"{found.estimate:.2f} ({form})" for form, found in still.items())
    )
    tops_fall = all(
        windows[form, low][-1] > windows[form, high][-1]
        for form, gains in learning.items() for low, high in itertools.pairwise(gains)
    )  # fmt: skip
    when = "" if narrower else "'delicate' is that too large a rate diverges and too small a one stands still"
    when += "; the rates at which nets learn become smaller with gain, not fewer" if when and tops_fall else ""
    return judge("B03", row, all(earlier.values()) and too_large and too_small, note, when=when)


def _ends(powers: tuple[float, ...]) -> str:
    return f"{powers[0]:g} to {powers[-1]:g}" if powers else "none"


def outcome(best: dict[str, Any], over: Any) -> str:
    """Return what becomes of a net in float16, of accuracies at the best rate and their paired difference."""
    if not best["float32"].ci_low > ABOVE_CHANCE:
        return "not sure to learn in float32 either"
    if best[MASTER].ci_high < ABOVE_CHANCE:
        return "stuck"
    if best["float32"].ci_low > LEARNED and over.ci_low > -ALIKE and over.ci_high < ALIKE:
        return "learns as well as in float32"
    return "learns" if best[MASTER].ci_low > ABOVE_CHANCE else "undecided"


def _zeros(measured: DataFrame) -> Verdict:
    """B04: net by net, where gradients are exact zeros, which layers have them, and whether a rate helps."""
    vanishing = select(measured, part="vanishing")
    zeros = {
        (net, form): select(vanishing, quantity="zeros", net=net, setting=form)["estimate"].to_numpy()
        for net in VANISHING for form in ONE_EACH
    }  # fmt: skip
    best = {
        net: {form: pick(vanishing, quantity="best", net=net, setting=form) for form in ONE_EACH} for net in VANISHING
    }
    over = {net: pick(vanishing, quantity="over float32", net=net, setting=MASTER) for net in VANISHING}
    came = {net: outcome(best[net], over[net]) for net in VANISHING}
    first = all(zeros[net, MASTER][0] > max(zeros[net, other][0] for other in ("float32", WIDE)) for net in VANISHING)
    ordered = [net for net in VANISHING if zeros[net, MASTER][0] > 0.5 > zeros[net, MASTER][-1]]
    stuck = [net for net in VANISHING if came[net] == "stuck"]
    shown = [net for net in stuck if net in ordered]
    unmoved = select(vanishing, quantity="unmoved", net="sigmoid", setting=MASTER)
    after = {
        net: pick(vanishing, quantity="zeros at the end", net=net, setting=MASTER, layer=2).estimate
        for net in VANISHING
    }
    row: Any = best[(shown or stuck or [STUCK])[0]][MASTER]
    note = (
        f"accuracy of {row.net} nets with weights of std 0.01, float16 with master weights, at the best of Adam's "
        f"rates {_list(ADAM)}, the only ones tried. Accuracy, and what becomes of float16 ('learns': its interval is "
        f"above {ABOVE_CHANCE:g}, which was set after first results): "
        + "; ".join(
            f"{net} "
            + ", ".join(f"{form} {_of(best[net][form])}" for form in ONE_EACH)
            + f", float16 over float32 {_of(over[net])}: {came[net]}"
            for net in VANISHING
        )
        + ". Share of dW that is exactly 0 before training, float16, layers from the input: "
        + "; ".join(f"{net} {', '.join(f'{share:.2f}' for share in zeros[net, MASTER])}" for net in VANISHING)
        + f" (float32 {zeros['tanh', 'float32'][0]:.2f} in layer 1: pixels that are always 0). Sigmoid nets whose W "
        f"has not moved in {LOOKED} step: {', '.join(k_of_n(each) for each in _rows(unmoved))}. "
        + "At the end, of dW of layer 2: "
        + ", ".join(f"{net} {share:.2f}" for net, share in after.items())
        + f". Layers next to the input suffer most, and the top ones do not, in: {', '.join(ordered) or 'none'}; "
        + f"no rate helps: {', '.join(stuck) or 'none'}; both at once: {', '.join(shown) or 'none'}"
    )
    return judge("B04", row, first and bool(stuck), note, when=_stuck_when(stuck, shown, zeros))


def _stuck_when(stuck: list[str], shown: list[str], zeros: dict[tuple[str, str], NDArray[Any]]) -> str:
    """Return of which nets no rate trains, and whether layers next to the input alone are to blame."""
    if set(shown) == set(VANISHING):
        return ""
    frozen = all(not VANISHING[net][3] for net in stuck)
    words = "biases are not trained" if frozen else f"nets are {', '.join(stuck)}"
    if all((zeros[net, MASTER] == 1.0).all() for net in stuck):
        return f"{words}; then all layers, the top ones too, have gradients of exactly 0"
    return words if shown else f"{words}; there the top layers are hit as well"


def _range(measured: DataFrame) -> Verdict:
    """B05: by gain, how many nets learn whose gradients start inside [1e-6, 1e3] in all layers, and outside."""
    rows = select(measured, part="range")
    found = {(row.setting, row.gain, row.quantity): row for row in _rows(rows)}
    learned, well = f"above {LEARNED:g}", f"above {WELL:g}"
    places = (INSIDE, BELOW, ABOVE)
    place = {gain: places[int(np.argmax([found["float32", gain, name].estimate for name in places]))] for gain in GAINS}
    inside = [gain for gain in GAINS if place[gain] == INSIDE]
    best = {form: max((found[form, gain, learned].ci_low for gain in inside), default=0.0) for form in FORMATS}
    hurt = {
        where: [
            form for form in FORMATS
            if all(found[form, gain, learned].ci_high < best[form] for gain in GAINS if place[gain] == where)
        ]
        for where in (BELOW, ABOVE)
    }  # fmt: skip
    enough = all(found[form, gain, learned].ci_low > 0.5 for form in FORMATS for gain in inside)
    by_format = [where for where in hurt if hurt[where] and "float32" not in hurt[where]]
    barren = [
        where for where in hurt
        if all(found[f, g, learned].ci_high < 0.5 for f in FORMATS for g in GAINS if place[g] == where)
        and where in place.values()
    ]  # fmt: skip
    plain = enough and all(len(forms) == len(FORMATS) for forms in hurt.values())
    window = select(measured, part="window")
    row: Any = found[MASTER, next((gain for gain in GAINS if place[gain] in by_format), GAINS[0]), learned]
    note = (
        f"share of nets that learn (accuracy above {LEARNED:g}) at their best rate in float16 with master weights, "
        f"ReLU, {DEPTH} hidden layers, weights {row.gain:g} times He's. Gain (root mean squares of dW in all layers "
        f"before training, in [1e-6, 1e3]): nets above {LEARNED:g} and above {WELL:g}: "
        + "; ".join(
            f"{gain:g} ({place[gain]}, {k_of_n(found['float32', gain, place[gain]])}): "
            + ", ".join(
                f"{form} {k_of_n(found[form, gain, learned])} and {k_of_n(found[form, gain, well])}" for form in FORMATS
            )
            for gain in GAINS
        )
        + ("" if enough else ". To be inside is not enough")
        + ". Gain sets gradients and the signal alike. The means that the claim names are not tested here"
    )
    words = {ABOVE: "above 1e3", BELOW: "below 1e-6"}
    forms = [form for form in FORMATS if any(form in hurt[where] for where in by_format)]
    when = f"numbers are {' or '.join(forms)} and gradients {' or '.join(words[w] for w in by_format)} are meant"
    when += "".join(
        f"; {words[where]} no format learned here, at rates up to 1e{window['rate'].max():g} in "
        f"{window['step'].max():g} steps"
        for where in barren
    )  # fmt: skip
    return judge("B05", row, plain or bool(by_format), note, when="" if plain else when)


def _of(row: Any) -> str:
    return f"{row.estimate:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"


def _rows(table: DataFrame) -> list[Any]:
    return list(table.itertuples())


def _list(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)


study = Study(
    name="half_precision_training",
    title="Training in float16 and bfloat16: learning rates, zeros, overflow, loss scaling and master weights",
    cases=cases,
    draw=draw,
    claims=("B03", "B04", "B05"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
