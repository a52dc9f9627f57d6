"""One-signed columns of dW: where they are, and whether they are what makes the path of gradient descent zigzag."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import beta

from stabsim import figures
from stabsim.activations import Activation
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Regression, Trained, train
from stabsim.verdicts import LARGEST_Z, change, judge, largest_z, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 400, "paper": 10_000}
WIDTH, DEPTH = 8, 3
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
NOT_NEGATIVE = ("sigmoid", "relu", "softplus")
SIGN_KEPT = ("tanh", "leaky_relu", "gelu", "linear")  # f has the sign of its argument
MEANS = (0.0, 1.0)  # of the inputs
GIVEN = 50_000  # samples that those of another mean than 0 are drawn from
SHARE = "weight_gradient_one_signed_column_fraction"
STRAIGHT = "straightness"
CHANCE = 2.0 ** (1 - WIDTH)  # that all of a column have one sign if every sign is drawn

TRAINED = {"quick": 100, "paper": 1000}
STEPS, RATE, SAMPLES = 100, 0.01, 256
TRAINED_BATCHES = (1, 16, SAMPLES)
HIDDEN = 2  # the layer that f's sign is about
# Straight regression on inputs uniform between -1 and 1, moved by an offset: from 1 on they are not negative.
OFFSETS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SETS = {"quick": 12, "paper": 60}  # of data
ORDERS = 8  # of mini-batches for each
OFFSET_STEPS, OFFSET_RATE = 200, 0.005
CONTOUR = "#c8c8c8"
PICTURE_STEPS, PICTURE_RATE, TARGET = 60, 0.5, np.array([1.0, -0.5])


def _raised_tanh(x: Scalar) -> Any:
    return el.tanh(x) + 1.0


def _slope_of_tanh(x: Scalar) -> Any:
    return 1.0 - el.tanh(x) ** 2


def _centered_sigmoid(x: Scalar) -> Any:
    return 0.5 * el.tanh(0.5 * x)


def _slope_of_sigmoid(x: Scalar) -> Any:
    return 0.25 - 0.25 * el.tanh(0.5 * x) ** 2


def _lowered_relu(x: Scalar) -> Any:
    return max(x, 0.0) - 0.4


def _slope_of_relu(x: Scalar) -> Any:
    return 1.0 if x > 0 else 0.0


def pairs() -> dict[str, tuple[str | Activation, str | Activation, str]]:
    """Return activations of one shape, first the one that is not negative, then the one about 0, and their weights."""
    raised = Activation("raised_tanh", _raised_tanh, _slope_of_tanh)
    centered = Activation("centered_sigmoid", _centered_sigmoid, _slope_of_sigmoid)
    lowered = Activation("lowered_relu", _lowered_relu, _slope_of_relu)
    return {
        "sigmoid": ("sigmoid", centered, "lecun_normal"),
        "tanh": (raised, "tanh", "lecun_normal"),
        "relu": ("relu", lowered, "he_normal"),
    }


NAMES = {
    "sigmoid": ("sigmoid", "sigmoid \N{MINUS SIGN} 0.5"), "tanh": ("tanh + 1", "tanh"),
    "relu": ("ReLU", "ReLU \N{MINUS SIGN} 0.4"),
}  # fmt: skip


def cases(scale: str) -> Iterator[Case]:
    """Yield every activation with every batch, and inputs about 0 and about 1."""
    moved = np.random.default_rng(0).normal(MEANS[1], 1.0, (GIVEN, WIDTH))
    for name in NOT_NEGATIVE + SIGN_KEPT:
        for mean in MEANS:
            for batch in BATCHES if mean == 0 or name in ("linear", "relu") else BATCHES[: name == "tanh"]:
                task = make_task(
                    Network((WIDTH,) * (DEPTH + 1), name, "he_normal" if name == "relu" else "lecun_normal"),
                    batch=batch, quantities=(SHARE,), sampler="dense", inputs=moved if mean else None,
                )  # fmt: skip
                yield Case(task, NETS[scale], {"activation": name, "mean": mean, "batch": batch})


@cache
def share_of_inputs(mean: float, batch: int) -> float:
    """Return the probability that a column of dW of layer 1 has one sign, in a linear net, or with a single sample.

    Inputs are independent normals of that mean. Given ds, a column is normal with mean times the sum of ds, and the
    variance is their sum of squares; where ds are independent normals, as they are in a linear net, the first by the
    root of the second is sqrt(batch) times a coordinate of a random unit vector, its square Beta(1/2, (batch - 1)/2).
    """

    def given(square: float) -> float:
        shift = mean * math.sqrt(batch * square)
        return float(ndtr(shift) ** WIDTH + ndtr(-shift) ** WIDTH)

    if batch == 1:
        return given(1.0)
    law = beta(0.5, (batch - 1) / 2)  # of a square; integrated over its root, where the density has no pole
    return float(quad(lambda u: given(u * u) * law.pdf(u * u) * 2 * u, 0.0, 1.0)[0])


def shares(table: DataFrame) -> DataFrame:
    """Return the shares with what is known of them exactly."""
    rows = select(table, quantity=SHARE)
    keys = zip(rows["layer"], rows["activation"], rows["mean"], rows["batch"], strict=True)
    return rows.assign(theory=[_theory(*key) for key in keys])


def _theory(layer: int, activation: str, mean: float, batch: int) -> float:
    if layer == 1 and (batch == 1 or activation == "linear"):
        return share_of_inputs(mean, batch)
    if batch > 1:
        return math.nan
    return 1.0 if activation in NOT_NEGATIVE else CHANCE


def measure(scale: str) -> DataFrame:
    """Train nets whose f is about 0 or not, straight regressions with moved and turned inputs, and nets to look at."""
    import pandas

    return pandas.concat([_trained(scale), _moved(scale), _picture()], ignore_index=True)


def _trained(scale: str) -> DataFrame:
    import pandas

    data = Regression(Network((WIDTH, 16, 1), "tanh", "lecun_normal"), samples=SAMPLES)
    parts = []
    for name, (raised, about_zero, weights) in pairs().items():
        for kind, f in enumerate((raised, about_zero)):
            for batch in TRAINED_BATCHES:
                trained = train(
                    Network((WIDTH, 16, 16, 1), f, weights), nets=TRAINED[scale], steps=STEPS, data=data, seed=1,
                    optimizer=f"sgd(learning_rate={RATE})", batch=batch, quantities=("loss", SHARE, STRAIGHT),
                )  # fmt: skip
                rows = select(trained.table, step=STEPS, quantity=(SHARE, STRAIGHT), layer=HIDDEN)
                rows = pandas.concat([rows, select(trained.table, step=STEPS, quantity="loss")])
                parts.append(rows.assign(part="nets", setting=name, kind=kind, batch=batch, offset=0.0))
    return pandas.concat(parts)


def _turn(width: int) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(1).normal(size=(width, width)))[0]


def _moved(scale: str) -> DataFrame:
    """Return how straight the path of a straight regression is, with a standard error over sets of data."""
    import pandas

    rows = []
    settings = [("as it is", offset) for offset in OFFSETS] + [("turned", 1.0)]
    for setting, offset in settings:
        for batch in TRAINED_BATCHES:
            found: dict[str, list[float]] = {SHARE: [], STRAIGHT: []}
            for number in range(SETS[scale]):
                generator = np.random.default_rng(number)
                x, coefficients = generator.uniform(-1, 1, (SAMPLES, WIDTH)), generator.normal(size=(WIDTH, 1))
                inputs = x + offset
                trained = train(
                    Network((WIDTH, 1), "linear", "zeros"), nets=ORDERS, steps=OFFSET_STEPS, batch=batch,
                    data=(inputs @ _turn(WIDTH) if setting == "turned" else inputs, x @ coefficients),
                    optimizer=f"sgd(learning_rate={OFFSET_RATE})", seed=number, record=range(0, OFFSET_STEPS + 1, 20),
                    quantities=(SHARE, STRAIGHT), precision="float64",
                )  # fmt: skip
                found[SHARE].append(float(trained.values(SHARE)[:, :, 1].mean()))
                found[STRAIGHT].append(float(trained.values(STRAIGHT)[:, -1, 1].mean()))
            for quantity, values in found.items():
                error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
                rows.append(("offset", setting, batch, offset, quantity, 1, float(np.mean(values)), error))
    names = ["part", "setting", "batch", "offset", "quantity", "layer", "estimate", "std_error"]
    return with_interval(pandas.DataFrame(rows, columns=names))


def picture() -> dict[str, tuple[NDArray[Any], NDArray[Any], Trained]]:
    """Return inputs, best weights and the trained net of two weights, with inputs above 0, turned and centered."""
    positive = np.random.default_rng(3).uniform(0, 1, (64, 2))
    turn = np.array([[1.0, -1.0], [1.0, 1.0]]) / math.sqrt(2)
    found = {}
    settings = {"above 0": (positive, TARGET), "turned": (positive @ turn, TARGET @ turn)}
    settings["centered"] = (positive - 0.5, TARGET)
    for name, (inputs, best) in settings.items():
        trained = train(
            Network((2, 1), "linear", "zeros"), nets=1, steps=PICTURE_STEPS, seed=2,
            data=(inputs, (inputs @ best)[:, np.newaxis]), optimizer=f"sgd(learning_rate={PICTURE_RATE})",
            record=range(PICTURE_STEPS + 1), quantities=("loss",), train_biases=False, keep_weights=True,
            precision="float64",
        )  # fmt: skip
        found[name] = inputs, best, trained
    return found


def _picture() -> DataFrame:
    import pandas

    parts = []
    for name, (_, _, trained) in picture().items():
        for number, path in enumerate(trained.weights(1)[0, :, :, 0].T, start=1):
            frame = {"step": trained.steps, "quantity": f"weight {number}", "estimate": path, "layer": 1}
            parts.append(pandas.DataFrame(frame).assign(part="picture", setting=name, batch=1))
    return pandas.concat(parts)


CAPTION_OF_SIGNS = (
    f"Share of the columns of a weight gradient whose elements all have one sign, against the batch: nets of {DEPTH} "
    f"layers of {WIDTH} units. (a) Layer 2, by activation. (b) Layer 1, by the mean of the inputs. {figures.THEORY} "
    f"{figures.BANDS}"
)
CAPTION = (
    "Whether one-signed columns make paths of gradient descent zigzag; straightness is the distance gone over the "
    f"length of the path. (a) Straightness of the weights and biases of layer {HIDDEN} after {STEPS} steps, for "
    "activations that are not negative and for the same moved to have both signs, by batch. (b) Straightness in "
    f"linear regression and (c) share of one-signed columns, against the mean of the inputs. {figures.BANDS_AND_BARS}"
)
CAPTION_OF_PATHS = (
    f"Paths of {PICTURE_STEPS} steps of gradient descent in two weights on lines of equal loss. (a) Inputs above 0. "
    "(b) The same inputs turned by 45°. (c) The same inputs with their mean taken off. Star: the least loss."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw shares against the batch, straightness of nets and of regressions, and paths of two weights."""
    import pandas

    table, measured = shares(collected.table), collected.measured.assign(theory=math.nan)
    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.8)
    upper = select(table, layer=2, mean=0.0, activation=("sigmoid", "softplus", "relu", "tanh", "gelu"))
    label = "share of columns of $dW_{}$ of one sign"
    _against_batch(axes[0, 0], upper.assign(theory=math.nan), by="activation", ylabel=label.format(2))
    inputs = select(table, layer=1, activation=("linear", "relu"))
    inputs = inputs.assign(
        line=inputs["activation"].map(figures.spelled) + ", inputs about " + inputs["mean"].map("{:g}".format)
    )
    _against_batch(axes[0, 1], inputs, by="line", ylabel=label.format(1))
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([upper, inputs])
    yield Drawing(figure, drawn, "signs", f"{CAPTION_OF_SIGNS} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=2.6)
    nets = _named(select(measured, part="nets", quantity=STRAIGHT))
    order = [f"batch {batch}" for batch in TRAINED_BATCHES]
    dots = figures.dot_plot(
        axes[0, 0], nets, rows="name", by="line", order=order,
        xlabel=f"straightness of $W_{HIDDEN}$, $b_{HIDDEN}$\nafter {STEPS} steps",
    )  # fmt: skip
    axes[0, 0].get_legend().remove()
    figure.legend(handles=dots, loc="outside lower center", ncols=3, handlelength=1.0)
    axes[0, 0].set_xlim(0, 1.03)
    moved = select(measured, part="offset", setting="as it is")
    moved = moved[(moved["quantity"] == STRAIGHT) | (moved["batch"] == 1)]
    moved = moved.assign(line="batch " + moved["batch"].astype(str), layer=moved["offset"])
    xlabel = "mean of the inputs,\neach within 1 of it"
    for panel, quantity, ylabel in (
        (axes[0, 1], STRAIGHT, "straightness, linear regression"),
        (axes[0, 2], SHARE, "share of one-signed columns"),
    ):
        rows = select(moved, quantity=quantity)
        figures.against_depth(panel, rows, by="line", order=order, xlabel=xlabel, ylabel=ylabel)
        panel.set_ylim(-0.03, 1.05)
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([nets, moved]), caption=CAPTION)

    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=2.55)
    for panel, (name, (inputs_of, best, _)) in zip(axes.flat, picture().items(), strict=True):
        _draw_path(panel, inputs_of, best, select(measured, part="picture", setting=name))
    path, best = axes[0, 0].lines
    contour = axes[0, 0].plot([], [], color=CONTOUR, linewidth=0.8, label="equal loss")
    figure.legend(handles=[path, best, *contour], loc="outside lower center", ncols=3)
    figures.panel_labels(axes.flat, ["inputs above 0", "the same, turned by 45°", "the same, centered"])
    yield Drawing(figure, select(measured, part="picture"), "paths", CAPTION_OF_PATHS)


def _against_batch(axes: Axes, rows: DataFrame, *, by: str, ylabel: str) -> None:
    axes.set_xscale("log", base=2)
    rows = rows.assign(layer=rows["batch"])
    figures.against_depth(axes, rows, by=by, label=figures.spelled, xlabel="samples in the batch", ylabel=ylabel)
    axes.set_xticks(BATCHES, labels=list(map(str, BATCHES)))
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)


def _named(rows: DataFrame) -> DataFrame:
    names = [NAMES[setting][int(kind)] for setting, kind in zip(rows["setting"], rows["kind"], strict=True)]
    return rows.assign(name=names, line="batch " + rows["batch"].astype(str))


def _draw_path(axes: Axes, inputs: NDArray[Any], best: NDArray[Any], rows: DataFrame) -> None:
    """Draw the path of two weights on contours of the loss."""
    first, second = (rows[rows["quantity"] == f"weight {number}"]["estimate"].to_numpy() for number in (1, 2))
    middle, reach = best / 2, 1.05
    grid = np.linspace(-reach, reach, 81)
    x, y = np.meshgrid(middle[0] + grid, middle[1] + grid)
    away = np.stack([x - best[0], y - best[1]], axis=-1)
    loss = np.einsum("...i,ij,...j->...", away, inputs.T @ inputs / len(inputs), away)
    axes.contour(
        x, y, np.sqrt(loss), levels=np.sqrt(loss.max()) * np.linspace(0.05, 1, 10), colors=CONTOUR, linewidths=0.5
    )
    axes.plot(
        first, second, color=figures.PALETTE[1], linewidth=0.9, marker="o", markersize=1.8, label="steps of descent"
    )
    axes.plot(*best, color=figures.PALETTE[3], marker="*", markersize=7, linestyle="none", zorder=5, label="least loss")
    axes.set_aspect("equal")
    axes.set_xlabel("weight 1")
    axes.set_ylabel("weight 2")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold the parts of the claim against the estimates."""
    table, measured = shares(collected.table), collected.measured.assign(theory=math.nan)
    yield _single_sample(table)
    yield _mini_batches(table, measured)
    yield _inputs(table)
    yield _path(measured)


def _single_sample(table: DataFrame) -> Verdict:
    """A23: with one sample all columns of f >= 0 have one sign, and of an f that keeps signs 2^(1 - n) of them."""
    rows = select(table, batch=1, mean=0.0, layer=(2, 3))
    not_negative, kept = select(rows, activation=NOT_NEGATIVE), select(rows, activation=SIGN_KEPT)
    z = largest_z(kept)
    holds = bool((not_negative["estimate"] == 1.0).all()) and z < LARGEST_Z
    row = pick(rows, activation="relu", layer=2)
    note = (
        f"share of one-signed columns of dW of layer 2, ReLU, one sample: {_counts(not_negative)}. "
        f"Of {', '.join(SIGN_KEPT)} it is 2^(1 - n), {CHANCE:.4f} with n = {WIDTH} units (largest |z| {z:.1f})"
    )
    return judge("A23", row, holds, note, when="the batch is one sample (the signs)")


def _counts(rows: DataFrame) -> str:
    nets = rows[rows["layer"] == 2].groupby("activation", sort=False)
    return ", ".join(
        f"all columns in {int(each['nets'].iloc[0])} of {int(each['nets'].iloc[0])} nets of {name}"
        if float(each["estimate"].iloc[0]) == 1.0
        else f"{float(each['estimate'].iloc[0]):.4f} in {name}"
        for name, each in nets
    )


def _mini_batches(table: DataFrame, measured: DataFrame) -> Verdict:
    """A23: mini-batches do not have it, which is to say that no more columns have one sign than by chance.

    By chance a column has one sign with probability 2^(1 - n), n fair coins: exactly so with an odd f, since turning
    the signs of all weights into and out of a unit turns those of its entries of dW alone.
    """
    found = {
        (name, batch): pick(table, mean=0.0, layer=2, activation=name, batch=batch)
        for name in (*NOT_NEGATIVE, "tanh")
        for batch in (16, 128)
    }
    rows = select(table, mean=0.0, layer=2, batch=(16, 128)).assign(theory=CHANCE)
    z = {name: largest_z(select(rows, activation=name)) for name in (*NOT_NEGATIVE, "tanh")}
    kept = [name for name in NOT_NEGATIVE if z[name] >= LARGEST_Z and found[name, 128].estimate > CHANCE]
    of_nets = select(measured, part="nets", quantity=SHARE, kind=0)
    trained = [
        (NAMES[name][0], *(pick(of_nets, setting=name, batch=batch).estimate for batch in TRAINED_BATCHES[1:]))
        for name in NAMES
    ]
    note = (
        "share of one-signed columns of dW of layer 2, sigmoid, 128 samples, gradients of samples being independent. "
        "With 16 and 128 samples: "
        + ", ".join(
            f"{name} {found[name, 16].estimate:.3f} and {found[name, 128].estimate:.3f} (|z| {z[name]:.1f})"
            for name in (*NOT_NEGATIVE, "tanh")
        )
        + f"; by chance {CHANCE:.4f}. "
        + (f"Of {', '.join(kept)} batches leave more: entries of a column share the mean of f. " if kept else "")
        + f"After {STEPS} steps of training, 16 and all {SAMPLES} samples: "
        + ", ".join(f"{name} {some:.2f} and {whole:.2f}" for name, some, whole in trained)
    )
    when = "f is about 0 (mini-batches)" if kept else ""
    return judge("A23", found["sigmoid", 128], z["tanh"] < LARGEST_Z, note, when=when)


def _inputs(table: DataFrame) -> Verdict:
    """A23: in layer 1 inputs that are not about 0 do the same, by a law that is exact in linear nets."""
    rows = select(table, layer=1)
    z = largest_z(rows)
    moved = pick(rows, activation="tanh", mean=1.0, batch=1)
    centered = pick(rows, activation="tanh", mean=0.0, batch=1)
    note = (
        f"share of one-signed columns of dW of layer 1, tanh, one sample, inputs of mean and variance 1; of mean 0 "
        f"it is {centered.estimate:.4f}. The law Phi(m)^n + Phi(-m)^n, and that of batches of a linear net, hold "
        f"(largest |z| {z:.1f} of {int(np.isfinite(rows['theory']).sum())})"
    )
    holds = moved.ci_low > centered.ci_high and z < LARGEST_Z
    return judge("A23", moved, holds, note, when="the inputs are not about 0 (the signs of layer 1)")


def _path(measured: DataFrame) -> Verdict:
    """A23, the path: is it one-signed columns that make it zigzag? They go when inputs are turned; the path stays."""
    nets = select(measured, part="nets", quantity=STRAIGHT)
    apart = {}
    for name in NAMES:
        for batch in TRAINED_BATCHES:
            raised, about = (pick(nets, setting=name, kind=kind, batch=batch) for kind in (0, 1))
            difference, error = change(about, raised)
            apart[name, batch] = (raised.estimate, about.estimate, difference / error)
    single = select(measured, part="offset", batch=1)
    keys = zip(single["setting"], single["offset"], single["quantity"], strict=True)
    value = dict(zip(keys, single["estimate"], strict=True))
    turned = abs(value["turned", 1.0, STRAIGHT] / value["as it is", 1.0, STRAIGHT] - 1)
    lost = value["turned", 1.0, SHARE] < 0.5 < value["as it is", 1.0, SHARE]
    causes = not (turned < 1e-9 and lost)
    meant = (
        "; the straightness stays, so that signs, a matter of the axes, are not what bends the path"
        if not causes
        else ""
    )
    note = (
        f"straightness (distance by length) of the path of a straight regression, {OFFSET_STEPS} steps, one sample, "
        f"inputs turned by a rotation; theory: not turned. One-signed columns were {value['as it is', 1.0, SHARE]:.2f} "
        f"and become {value['turned', 1.0, SHARE]:.2f}{meant}. Straightness (and one-signed columns) by the mean of "
        "the inputs: "
        + ", ".join(
            f"{offset:g} {value['as it is', offset, STRAIGHT]:.3f} ({value['as it is', offset, SHARE]:.2f})"
            for offset in (0.0, 1.0, 3.0)
        )
        + ". That of W_2 in nets: "
        + "; ".join(
            f"{NAMES[name][0]} {one:.3f}, {NAMES[name][1]} {other:.3f} (z {z:+.1f})"
            for (name, batch), (one, other, z) in apart.items()
            if batch == 1
        )
    )
    row = pick(single, setting="turned", quantity=STRAIGHT)
    return judge("A23", row._replace(theory=value["as it is", 1.0, STRAIGHT]), causes, note)


study = Study(
    name="zigzag",
    title="One-signed columns of dW against batch, activation and inputs, and the path of gradient descent",
    cases=cases,
    draw=draw,
    claims=("A23",),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
