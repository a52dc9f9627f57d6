"""Training in float16 and bfloat16: which learning rates are left, what vanishes, what overflows, and what helps.

Nets learn to tell handwritten digits of 8 x 8 pixels apart. Every format trains the same nets on the same mini-batches.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, train
from stabsim.verdicts import counted, judge, k_of_n, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 20, "paper": 500}  # before training
WIDTH, PIXELS, CLASSES, BATCH = 32, 64, 10, 32
SCALE = 10  # power of two of the loss scale
PLAIN, MASTER, SCALED, BOTH, WIDE = (
    "float16", "float16, master", "float16, scaled", "float16, scaled, master", "bfloat16",
)  # fmt: skip
FORMATS: dict[str, dict[str, Any]] = {
    "float32": {},
    WIDE: {"precision": "bfloat16", "master_weights": False},
    PLAIN: {"precision": "float16", "master_weights": False},
    MASTER: {"precision": "float16"},
    SCALED: {"precision": "float16", "loss_scale": 2.0**SCALE, "master_weights": False},
    BOTH: {"precision": "float16", "loss_scale": 2.0**SCALE},
}
LEARNED = 0.3  # of the samples that it was trained on are told apart

DEPTH = 8
GAINS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
WINDOW = {  # nets, steps and powers of ten of the learning rate
    "quick": (4, 200, (-6, -5, -4, -3, -2, -1.5, -1, -0.5, 0, 1)),
    "paper": (24, 600, tuple(power / 2 for power in range(-14, 5))),
}  # fmt: skip
STABLE = (-6.0, 3.0)  # log10 of root mean squares of dW
INSIDE, BELOW, ABOVE, OUTSIDE = "inside", "below", "above", "outside"

VANISHING: dict[str, tuple[tuple[int, ...], str, str, bool]] = {  # widths, activation, weights, trained biases
    "sigmoid": ((PIXELS, *(WIDTH,) * 4, CLASSES), "sigmoid", "normal(std=0.01)", True),
    "tanh": ((PIXELS, *(WIDTH,) * 6, CLASSES), "tanh", "normal(std=0.01)", True),
    "tanh, no biases": ((PIXELS, *(WIDTH,) * 6, CLASSES), "tanh", "normal(std=0.01)", False),
}
STUCK = "tanh, no biases"
VANISHED = {"quick": (4, 400), "paper": (60, 1000)}  # nets and steps
ADAM = (0.001, 0.01, 0.1)
LOOKED = 1  # steps after which it is seen who has moved
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
    with warnings.catch_warnings():  # those that diverge are counted
        warnings.filterwarnings("ignore", ".* nets diverged", RuntimeWarning)
        return train(
            network, data=split("digits").train, batch=BATCH, loss="softmax_cross_entropy", **FORMATS[form], **given
        )


def measure(scale: str) -> DataFrame:
    """Train nets of every gain at every learning rate, and nets whose gradients vanish, in every format."""
    import pandas

    parts = [_window(scale), *(_vanishing(scale, net) for net in VANISHING)]
    return pandas.concat(parts, ignore_index=True).assign(theory=math.nan)


def _window(scale: str) -> DataFrame:
    """Return shares of nets that learn and diverge by format, gain and rate, and how many learn by size of gradients.

    "moved" is how far all W have moved by how far those of the same net have in float32.
    """
    import pandas

    nets, steps, powers = WINDOW[scale]
    rows: list[dict[str, Any]] = []
    sizes: dict[tuple[str, str], list[NDArray[Any]]] = {}
    for number, gain in enumerate(GAINS):
        exact: dict[float, NDArray[Any]] = {}
        for form in FORMATS:
            held = {}
            for power in powers:
                found = trained(
                    Network(_widths(), "relu", _he(gain)), form=form, nets=nets, steps=steps, seed=number,
                    optimizer=f"sgd(learning_rate={10.0**power!r})", record=(0, steps),
                    quantities=("loss", "accuracy", NORM), keep_weights=True,
                )  # fmt: skip
                with np.errstate(invalid="ignore"):
                    held[power] = found.values("accuracy")[:, -1, 0] > LEARNED
                outcomes = {"learned": held[power], "diverged": found.diverged_after >= 0}
                tags = {"part": "window", "setting": form, "gain": gain, "rate": power}
                rows += [tags | {"quantity": name} | counted(values) for name, values in outcomes.items()]
                moved = _moved(found)
                if form == "float32":
                    exact[power] = moved
                    place = _place(found.values(NORM)[:, 0, 1:])
                with np.errstate(invalid="ignore", divide="ignore"):
                    kept = moved / exact[power]
                rows.append(tags | {"quantity": "moved"} | mean_with_interval(kept[np.isfinite(kept)]))
            best = max(held.values(), key=lambda each: each.sum())
            for where in (INSIDE, BELOW, ABOVE):
                sizes.setdefault((form, where), []).append(best[place == where])
            sizes.setdefault((form, OUTSIDE), []).append(best[place != INSIDE])
    for (form, where), values in sizes.items():
        tags = {"part": "range", "setting": form, "quantity": where}
        if (each := np.concatenate(values)).size:
            rows.append(tags | counted(each))
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
    for form in ONE_EACH:
        for rate in ADAM:
            found = trained(
                Network(widths, activation, weights), form=form, nets=nets, steps=steps, seed=1, record=record,
                optimizer=f"adam(learning_rate={rate})", train_biases=biases, keep_weights=True,
                quantities=("loss", "accuracy", ZEROS),
            )  # fmt: skip
            tags = {"part": "vanishing", "setting": form, "net": net, "rate": rate}
            for place, step in enumerate(record):
                loss = found.values("loss")[:, place, 0]
                rows.append(tags | {"quantity": "loss", "step": step} | mean_with_interval(loss[np.isfinite(loss)]))
            accuracy = np.nan_to_num(found.values("accuracy")[:, -1, 0], nan=1 / CLASSES)
            rows.append(tags | {"quantity": "accuracy"} | mean_with_interval(accuracy))
            if rate != ADAM[1]:
                continue
            for layer in range(1, len(widths)):
                for name, place in (("zeros", 0), ("zeros at the end", -1)):
                    zeros = found.values(ZEROS)[:, place, layer]
                    rows.append(tags | {"quantity": name, "layer": layer} | mean_with_interval(zeros))
                w = found.weights(layer)
                still = (w[:, 1] == w[:, 0]).all(axis=(1, 2))
                rows.append(tags | {"quantity": "unmoved", "layer": layer} | counted(still))
    return pandas.DataFrame(rows)


# --- figures -------------------------------------------------------------------------------------------


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw which nets learn at which rate, and what becomes of nets whose gradients vanish."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.3, sharex=True, sharey=True)
    rows = signed(measured)
    label = "share that learns (+), diverges\n(\N{MINUS SIGN}, hatched); white: neither"
    for panel, form in zip(axes.flat, FORMATS, strict=True):
        figures.heat_map(
            panel, select(rows, setting=form), rows="gain", columns="rate", center=0.0, limits=(-1.0, 1.0),
            annotate=False, label=label if panel in axes[:, 2] else "",
        )  # fmt: skip
        panel.set(
            xlabel="log10 of the learning rate" if panel in axes[1] else "",
            ylabel="gain (1: He's weights)" if panel in axes[:, 0] else "",
        )
    figures.panel_labels(axes.flat, list(FORMATS))
    yield Drawing(figure, rows)

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
    yield Drawing(figure, pandas.concat([zeros, loss]), "vanishing")


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
    """B03: float16 overflows first; and at each gain, which rates diverge, learn, and stand still."""
    windows = {(form, gain): window(measured, form, gain) for form in FORMATS for gain in GAINS}
    shares = select(measured, part="window")
    lowest, highest = shares["rate"].min(), shares["rate"].max()

    def all_lost(form: str, gain: float) -> bool:
        rows = select(shares, setting=form, gain=gain, quantity="diverged", rate=lowest)
        return bool((rows["estimate"] > 0.5).all())

    overflow = {form: [gain for gain in GAINS if all_lost(form, gain)] for form in FORMATS}
    first = {form: min(gains, default=math.inf) for form, gains in overflow.items()}
    halves = [form for form in FORMATS if form.startswith("float16")]
    earlier = all(first[form] < min(first["float32"], first[WIDE]) for form in halves)
    too_large = all(
        pick(shares, setting=form, gain=1.0, quantity="diverged", rate=highest).ci_low > 0.1 for form in FORMATS
    )
    too_small = all(
        pick(shares, setting=form, gain=1.0, quantity="learned", rate=lowest).estimate == 0.0 for form in FORMATS
    )
    still = {form: pick(shares, setting=form, gain=1.0, quantity="moved", rate=lowest) for form in FORMATS}
    row = pick(shares, setting=MASTER, gain=first[MASTER] if math.isfinite(first[MASTER]) else GAINS[-1],
               quantity="diverged", rate=lowest)  # fmt: skip
    note = (
        f"share of nets in float16 that diverge even at the rate 1e{lowest:g}, ReLU, {DEPTH} hidden layers, weights "
        f"{row.gain:g} times He's. Gain from which most do: "
        + ", ".join(f"{form} {gain:g}" if math.isfinite(gain) else f"{form} none" for form, gain in first.items())
        + ". Powers of ten of the rates at which most nets learn, by gain: "
        + "; ".join(
            f"{gain:g}: " + ", ".join(f"{form} {_ends(windows[form, gain])}" for form in FORMATS) for gain in GAINS
        )
        + f". At gain 1 and the rate 1e{lowest:g} all W have moved, of the distance in float32, by "
        + ", ".join(f"{found.estimate:.2f} ({form})" for form, found in still.items())
    )
    return judge("B03", row, earlier and too_large and too_small, note.replace("inf", "none"))


def _ends(powers: tuple[float, ...]) -> str:
    return f"{powers[0]:g} to {powers[-1]:g}" if powers else "none"


def _zeros(measured: DataFrame) -> Verdict:
    """B04: where gradients are exact zeros, which layers have them, and whether a rate helps."""
    vanishing = select(measured, part="vanishing")
    zeros = {
        (net, form): select(vanishing, quantity="zeros", net=net, setting=form)["estimate"].to_numpy()
        for net in VANISHING for form in ONE_EACH
    }  # fmt: skip
    best = {
        (net, form): max(
            _rows(select(vanishing, quantity="accuracy", net=net, setting=form)), key=lambda row: row.estimate
        )
        for net in VANISHING for form in ONE_EACH
    }  # fmt: skip
    first = all(zeros[net, MASTER][0] > max(zeros[net, other][0] for other in ("float32", WIDE)) for net in VANISHING)
    lower = zeros["sigmoid", MASTER]
    ordered = lower[0] > 0.5 > lower[-1]
    no_rate = [net for net in VANISHING if best[net, MASTER].ci_high < best[net, "float32"].ci_low]
    after = {
        net: pick(vanishing, quantity="zeros at the end", net=net, setting=MASTER, layer=2).estimate
        for net in VANISHING
    }
    back = [net for net in VANISHING if net not in no_rate and after[net] < 0.5 < zeros[net, MASTER][1]]
    unmoved = select(vanishing, quantity="unmoved", net="sigmoid", setting=MASTER)
    row: Any = best[STUCK, MASTER]
    note = (
        f"accuracy of tanh nets without biases and with weights of std 0.01, float16 with master weights, at the best "
        f"of Adam's rates {', '.join(f'{rate:g}' for rate in ADAM)}. Accuracy: "
        + "; ".join(
            f"{net} " + ", ".join(f"{form} {best[net, form].estimate:.2f}" for form in ONE_EACH) for net in VANISHING
        )
        + ". Share of dW that is exactly 0 before training, float16, layers from the input: "
        + "; ".join(f"{net} {', '.join(f'{share:.2f}' for share in zeros[net, MASTER])}" for net in VANISHING)
        + f" (float32 {zeros['tanh', 'float32'][0]:.2f} in layer 1: pixels that are always 0). Sigmoid nets whose W "
        f"has not moved in {LOOKED} step: {', '.join(k_of_n(each) for each in _rows(unmoved))}. "
        + "At the end, of dW of layer 2: "
        + ", ".join(f"{net} {share:.2f}" for net, share in after.items())
        + (f". {', '.join(back)} come to as much as in float32: biases still have gradients" if back else "")
    )
    when = f"nothing that still has a gradient can bring the others back: {', '.join(no_rate)}" if back else ""
    return judge("B04", row, first and ordered and bool(no_rate), note, when=when)


def _range(measured: DataFrame) -> Verdict:
    """B05: how many nets learn whose gradients start inside [1e-6, 1e3] in all layers, and outside."""
    rows = select(measured, part="range")
    found = {(row.setting, row.quantity): row for row in _rows(rows)}
    needs = [form for form in FORMATS if found[form, OUTSIDE].ci_high < found[form, INSIDE].ci_low]
    enough = [form for form in FORMATS if found[form, INSIDE].ci_low > 0.5]
    parts = [where for where in (INSIDE, BELOW, ABOVE) if ("float32", where) in found]
    row: Any = found[MASTER, INSIDE]
    note = (
        f"share of nets that learn at their best rate in float16 with master weights, of those whose dW has root mean "
        f"squares inside [1e-6, 1e3] in all layers before training (ReLU, {DEPTH} hidden layers, {_list(GAINS)} times "
        f"He's weights). {', '.join(parts).capitalize()}: "
        + "; ".join(f"{form} " + ", ".join(k_of_n(found[form, where]) for where in parts) for form in FORMATS)
        + (". To be inside is not enough" if not enough else "")
    )
    meant = "it is meant as necessary" if not enough else ""
    formats = "" if len(needs) == len(FORMATS) else f"numbers are {', '.join(needs)}"
    when = ", and ".join(words for words in (meant, formats) if words)
    return judge("B05", row, bool(needs), note, when=when)


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
