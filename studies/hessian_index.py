"""Index of the Hessian: at critical points of nets on digits, against loss, and at the start of training.

Points that minimize the loss and points that minimize the norm of the gradient; only what is critical has an index.
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
from stabsim.counting import exact_z
from stabsim.datasets import classification
from stabsim.landscape import METHODS, Ends, GaussianField, Kind, Landscape, Surface, find, inertia
from stabsim.landscape.ends import Tolerances
from stabsim.landscape.gradient_norm import Settings
from stabsim.landscape.minimizers import gradient_descent
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.saddle_index import bray_dean_index, wigner_wishart_index
from stabsim.threads import count_threads
from stabsim.verdicts import LARGEST_Z, counted, judge, k_of_n, largest_z, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

    Floats = NDArray[np.float64]

NETS = {"quick": 4, "paper": 30}  # that are drawn for each search
STEPS = {"quick": 150, "paper": 1000}  # of a search for small gradients
DRAWN = {"quick": 6, "paper": 200}  # of which spectra are taken before training
FIELDS = {"quick": 20, "paper": 300}  # starts in a Gaussian field, for each number of steps
DIMENSIONS, WAVES, DESCENTS = 20, 1000, (0, 3, 6, 10)

NETWORK = Network((4, 3, 4), "tanh", "lecun_normal")  # 31 parameters
SAMPLES, CLASSES = 720, 4  # all digits 0 to 3 that there are
HIDDEN = NETWORK.widths[1]
MINIMIZING = {  # steps
    "quick": {"gradient_descent": 500, "l_bfgs": 1500, "newton_cg": 300},
    "paper": {"gradient_descent": 5000, "l_bfgs": 5000, "newton_cg": 1000},
}
SIZES = (0.3, 1.0)  # of random starts, in those of the law
PATH = (50, 150, 500)  # steps of gradient descent, after which a search for small gradients starts
SHAKEN = 0.05  # of each parameter, by which points are perturbed before it
STARTS = {"random": "random", "path": "on paths of descent", "reduced": "minima without some units"}

ACTIVATIONS = ("tanh", "sigmoid", "softplus", "gelu", "silu", "sine")
LAWS = ("lecun_normal", "glorot_normal", "he_normal")
DRAWN_WIDTHS = (6, 6, 6, 10)
GRADIENT = "activation_gradient_log10_norm"


def data(components: int, classes: int) -> tuple[Floats, Floats]:
    """Return digits as principal components."""
    return classification("digits", components=components, classes=range(classes), samples=SAMPLES)


def cases(scale: str) -> Iterator[Case]:
    """Yield the nets whose spectra are taken before training: how large their gradients are."""
    inputs = data(DRAWN_WIDTHS[0], DRAWN_WIDTHS[-1])[0][:32]
    for name in ACTIVATIONS:
        for law in LAWS:
            task = make_task(Network(DRAWN_WIDTHS, name, law), batch=32, inputs=inputs, quantities=(GRADIENT,))
            yield Case(task, 10 * DRAWN[scale], {"activation": name, "weights": law})


# --- measuring ------------------------------------------------------------------------------------------


def measure(scale: str) -> DataFrame:
    """Return end points of searches, of nets and of a Gaussian field, and spectra of nets before training."""
    import pandas

    ends = pandas.concat([*searches(scale)], ignore_index=True)
    return pandas.concat([ends, *field(scale), spectra(scale), shares(ends)], ignore_index=True)


def searches(scale: str) -> Iterator[DataFrame]:
    """Yield the ends of each search in the loss of small nets; no start serves two, so that ends are independent."""
    surface = Landscape(NETWORK, data(NETWORK.widths[0], CLASSES))
    fresh = (surface.draw(NETS[scale], seed=seed) for seed in itertools.count(1))
    for method, steps in MINIMIZING[scale].items():
        yield _row(find(surface, next(fresh), method=method, max_steps=steps), method=method, starts="random")
    generator = np.random.Generator(np.random.Philox(1))
    for name, points in (
        ("random", [size * next(fresh) for size in SIZES]),
        ("path", [descended(surface, size * next(fresh), steps) for size in SIZES for steps in PATH]),
        ("reduced", [reduced(surface, next(fresh), off) for off in range(1, HIDDEN + 1)]),
    ):
        shaken = np.concatenate(points)
        shaken *= 1 + (name != "random") * SHAKEN * generator.standard_normal(shaken.shape)
        shaken += (name == "reduced") * SHAKEN * generator.standard_normal(shaken.shape)  # zeros, too
        yield _row(find(surface, shaken, max_steps=STEPS[scale]), method="levenberg_marquardt", starts=name)


def _row(ends: Ends, **tags: Any) -> DataFrame:
    return ends.table.assign(part="nets", minimizes=METHODS[tags["method"]].minimizes, **tags)


def descended(surface: Surface, points: Floats, steps: int) -> Floats:
    """Return where gradient descent is after some steps."""
    return gradient_descent(surface, points, Settings(Tolerances(), steps, count_threads(None)))[0]


def reduced(surface: Landscape, points: Floats, off: int) -> Floats:
    """Return minima of nets without some of the hidden units: critical points, since such units get no gradient."""
    stays = np.ones(surface.parameters)
    stays[surface.layers[0]].reshape(-1, HIDDEN)[:, :off] = 0.0  # weights and biases of these units
    stays[surface.layers[1]].reshape(-1, CLASSES)[:off] = 0.0  # and what the next layer makes of them
    return find(surface, stays * points, method="l_bfgs", max_steps=1000).points


def field(scale: str) -> Iterator[DataFrame]:
    """Yield critical points of a Gaussian field, searched from where gradient descent is after some steps."""
    surface = GaussianField(DIMENSIONS, WAVES, seed=1)
    generator = np.random.Generator(np.random.Philox(2))
    for steps in DESCENTS:
        starts = 3 * math.sqrt(DIMENSIONS) * generator.standard_normal((FIELDS[scale], DIMENSIONS))
        ends = find(surface, descended(surface, starts, steps), max_steps=300)
        found = ends.table.assign(part="field", method="levenberg_marquardt", minimizes="gradient_norm")
        yield found.assign(loss=found["loss"] / (2 * DIMENSIONS))  # in units of the threshold


def spectra(scale: str) -> DataFrame:
    """Return shares of negative eigenvalues of nets before training, and how they spread over nets."""
    import pandas

    given, rows = data(DRAWN_WIDTHS[0], DRAWN_WIDTHS[-1]), []
    for name in ACTIVATIONS:
        for law in LAWS:
            surface = Landscape(Network(DRAWN_WIDTHS, name, law), given, loss="softmax_cross_entropy")
            share = inertia(surface.hessian(surface.draw(DRAWN[scale], seed=2))).negative / surface.parameters
            tags = {"activation": name, "weights": law}
            independent = 0.5 / math.sqrt(surface.parameters)
            rows.append({**tags, "quantity": "negative", **mean_with_interval(share), "theory": 0.5})
            rows.append({**tags, "quantity": "spread", **spread_with_interval(share), "theory": independent})
    return pandas.DataFrame(rows).assign(part="spectra")


def spread_with_interval(values: Floats) -> dict[str, float]:
    """Return the standard deviation of normal values, with its 95% interval by chi-square, and how many they are."""
    from scipy.special import chdtri

    n, spread = len(values), float(values.std(ddof=1))
    low, high = (spread * math.sqrt((n - 1) / float(chdtri(n - 1, tail))) for tail in (0.025, 0.975))
    return {"estimate": spread, "ci_low": low, "ci_high": high, "nets": n}


def shares(ends: DataFrame) -> DataFrame:
    """Return the share of saddles among saddles and minima, with its exact interval, by what searches minimize."""
    import pandas

    rows = []
    for minimizes, part in ends.groupby("minimizes"):
        found = critical(part)
        held = found["negative"][(found["negative"] > 0) | (found["zero"] == 0)] > 0
        share = counted(held) if len(held) else {"estimate": math.nan, "ci_low": 0.0, "ci_high": 1.0, "nets": 0}
        rows.append(share | {"minimizes": minimizes, "theory": 1 - 0.5 ** _parameters()})
    return pandas.DataFrame(rows).assign(part="share")


# --- figures and verdicts -------------------------------------------------------------------------------


def critical(rows: DataFrame) -> DataFrame:
    """Return the critical points."""
    return select(rows, kind="critical")


CAPTION = (
    "Signs of curvature at critical points and before training. (a) Share of negative eigenvalues of the Hessian at "
    f"critical points of tanh nets of widths {', '.join(map(str, NETWORK.widths))} on digits, against their loss; "
    "lines: two random-matrix models, fitted. (b) How searches end that minimize the loss, or the norm g of the "
    "gradient from several starts. (c) The same as (a) for critical points of a Gaussian random field: gray, single "
    "points; line, the limit of many dimensions. (d) Share of negative eigenvalues of nets before training, by "
    "activation and law of the weights; here bars are the spread over nets, and gray is that of as many independent "
    "signs. In (c) bars are 95% intervals."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw index against loss, kinds of ends, index of a Gaussian field, and shares before training."""
    measured = collected.measured
    nets, waves = select(measured, part="nets"), select(measured, part="field")
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=5.0)
    draw_index(axes[0, 0], nets)
    draw_kinds(axes[0, 1], nets)
    draw_field(axes[1, 0], waves)
    draw_spectra(axes[1, 1], select(measured, part="spectra"))
    figures.panel_labels(axes.flat)
    yield Drawing(figure, measured, caption=CAPTION)


def draw_index(axes: Axes, rows: DataFrame) -> None:
    """Draw the index of critical points against their loss, with both random-matrix models, fitted."""
    found = critical(rows)
    parts = {f"min. $|g|$, {label}": select(found, minimizes="gradient_norm", starts=name) for name, label in
             STARTS.items()} | {"min. loss, random": select(found, minimizes="loss")}  # fmt: skip
    for number, (label, part) in enumerate(parts.items()):
        looks: Any = figures.line(number) | {"linestyle": "none", "markersize": 4}
        axes.plot(part["loss"], part["index"], label=label, alpha=0.8, **looks)
    searched = select(found, minimizes="gradient_norm")
    grid = np.linspace(0, found["loss"].max() if len(found) else 1, 200)
    for model, style in ((fitted_wigner_wishart, "-"), (fitted_bray_dean, "--")):
        if len(searched) > 5:
            label, curve = model(searched["loss"].to_numpy(), searched["index"].to_numpy())
            axes.plot(grid, [curve(loss) for loss in grid], color="black", linestyle=style, label=label, marker="")
    least = 0.7 * found["loss"].min() if len(found) else 0.0
    axes.set(xlabel="loss at the critical point", ylabel="index / parameters", ylim=(-0.02, None), xlim=(least, None))
    axes.locator_params(axis="x", nbins=5)  # or labels touch
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=6)


def fitted_wigner_wishart(losses: Floats, shares: Floats) -> tuple[str, Any]:
    """Return the index of Pennington & Bahri with the energy scale that fits best: label and curve."""
    ratio = _parameters() / (SAMPLES * CLASSES)
    scales = np.geomspace(0.1, 1000, 200)
    errors = [np.mean(([wigner_wishart_index(ratio, s * x) for x in losses] - shares) ** 2) for s in scales]
    best = float(scales[int(np.argmin(errors))])
    return "Wigner–Wishart, fitted", lambda loss: wigner_wishart_index(ratio, best * loss)


def fitted_bray_dean(losses: Floats, shares: Floats) -> tuple[str, Any]:
    """Return the index of Bray & Dean with the center and threshold that fit best: label and curve."""
    best, least = (0.0, 1.0), math.inf
    for center in np.linspace(losses.min(), 2 * losses.max(), 40):
        for threshold in np.geomspace(0.05, 5, 40) * losses.max():
            guess = [bray_dean_index(float(np.clip((x - center) / threshold, -1, 1))) for x in losses]
            if (error := float(np.mean((guess - shares) ** 2))) < least:
                best, least = (float(center), float(threshold)), error
    return "Bray–Dean, fitted", lambda loss: bray_dean_index(float(np.clip((loss - best[0]) / best[1], -1, 1)))


def _parameters() -> int:
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in NETWORK.fans)


KINDS = {
    "minima": "minimum", "saddles": "saddle", "degenerate": "none negative, some zero",
    "receding": "receding", "gradient_flat": "gradient-flat", "unfinished": "unfinished",
}  # fmt: skip


def kinds_of(rows: DataFrame) -> dict[str, int]:
    """Return how many ends are of each kind, critical ones by their signs."""
    is_critical = rows["kind"] == Kind.CRITICAL.name.lower()
    saddle = is_critical & (rows["negative"] > 0)
    strict = is_critical & (rows["negative"] == 0) & (rows["zero"] == 0)
    found = {"minima": int(strict.sum()), "saddles": int(saddle.sum())}
    found["degenerate"] = int(is_critical.sum()) - found["minima"] - found["saddles"]
    return found | {name: int((rows["kind"] == name).sum()) for name in ("receding", "gradient_flat", "unfinished")}


def groups(rows: DataFrame) -> dict[str, DataFrame]:
    """Return the ends of each search by its name, minimizers of the loss first."""
    names = {"gradient_descent": "gradient descent", "l_bfgs": "L-BFGS", "newton_cg": "Newton-CG"}
    found = {label: select(rows, method=name) for name, label in names.items()}
    searched = select(rows, minimizes="gradient_norm")
    return found | {f"min. $|g|$,\n{label}": select(searched, starts=name) for name, label in STARTS.items()}


def draw_kinds(axes: Axes, rows: DataFrame) -> None:
    """Draw which shares of ends are of which kind, as bars."""
    parts = groups(rows)
    shares = np.array([[count / max(1, len(part)) for count in kinds_of(part).values()] for part in parts.values()])
    left = np.zeros(len(parts))
    hatches = ("", "", "....", "////", "xxxx", "")
    colors = (figures.PALETTE[1], figures.PALETTE[3], figures.PALETTE[5], "#ffffff", "#ffffff", "#d9d9d9")
    for share, label, hatch, color in zip(shares.T, KINDS.values(), hatches, colors, strict=True):
        axes.barh(range(len(parts)), share, left=left, label=label, color=color, hatch=hatch, edgecolor="#404040",
                  linewidth=0.4, height=0.7)  # fmt: skip
        left += share
    axes.set_yticks(range(len(parts)), list(parts))
    axes.invert_yaxis()
    axes.set(xlabel="share of searches that end there", xlim=(0, 1))
    axes.legend(loc="upper center", bbox_to_anchor=(0.3, -0.2), ncols=2, fontsize=6, handlelength=1.5)


def draw_field(axes: Axes, rows: DataFrame) -> None:
    """Draw the mean energy of critical points of a Gaussian field at each index, beside its limit."""
    import pandas

    found = critical(rows)
    mean = found.groupby("index")["loss"].apply(lambda each: pandas.Series(mean_with_interval(each))).unstack()
    looks: Any = figures.line(0) | {"linestyle": "none"}
    axes.plot(found["loss"], found["index"], color="#b0b0b0", marker=".", linestyle="none", markersize=2)
    half = mean["ci_high"] - mean["estimate"]
    axes.errorbar(mean["estimate"], mean.index, xerr=half, label="mean at each index", capsize=2, **looks)
    grid = np.linspace(-1, 0.5, 200)
    axes.plot(grid, [bray_dean_index(float(x)) for x in grid], color="black", label="Bray & Dean, N → ∞", marker="")
    axes.set(xlabel=f"energy / threshold, Gaussian field, N = {DIMENSIONS}", ylabel="index / N")
    axes.legend(loc="upper left")


def draw_spectra(axes: Axes, rows: DataFrame) -> None:
    """Draw the share of negative eigenvalues before training, with its spread over nets."""
    for number, law in enumerate(LAWS):
        part, spread = (select(rows, weights=law, quantity=name) for name in ("negative", "spread"))
        looks: Any = figures.line(number) | {"linestyle": "none"}
        places = np.arange(len(part)) + 0.2 * (number - 1)
        axes.errorbar(places, part["estimate"], spread["estimate"], capsize=2, label=figures.spelled(law), **looks)
    half = float(select(rows, quantity="spread")["theory"].iloc[0])
    axes.axhspan(0.5 - half, 0.5 + half, color="#d9d9d9", label="independent signs")
    axes.set_xticks(range(len(ACTIVATIONS)), [figures.spelled(name) for name in ACTIVATIONS], rotation=30)
    axes.set(ylabel="share of negative eigenvalues\nat the start, ± spread over nets", ylim=(0.36, 0.65))
    axes.legend(loc="upper left", ncols=2, fontsize=6)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold both claims against counts of critical points."""
    measured = collected.measured
    nets, share = select(measured, part="nets"), select(measured, part="share")
    searched, trained = (pick(share, minimizes=name) for name in ("gradient_norm", "loss"))
    yield _independent_signs(searched, select(nets, minimizes="gradient_norm"), select(measured, part="spectra"))
    yield _descent_finds_saddles(trained, searched, nets)


ALMOST_SURE = 0.9  # of critical points, with confidence


def _independent_signs(row: Any, ends: DataFrame, starts: DataFrame) -> Verdict:
    """E05: were signs independent, all critical points that small gradients lead to would be saddles."""
    found = critical(ends)
    index = mean_with_interval(found["index"])
    varies = found["index"].nunique() > 1  # or it has no correlation
    rank = float(found["loss"].corr(found["index"], method="spearman")) if varies else math.nan
    half, spread = (select(starts, quantity=name) for name in ("negative", "spread"))
    ratio = spread["estimate"] / spread["theory"]
    distances = {
        "the share of saddles": float(exact_z(round((1 - row.estimate) * row.nets), row.nets, 1 - row.theory))
        if row.nets else math.inf,
        "the share of negative signs before training": largest_z(half),
        "their spread over nets": largest_z(spread),
    }  # fmt: skip
    off = [name for name, z in distances.items() if not z < LARGEST_Z]
    note = (
        f"share of saddles among saddles and minima found by minimizing |g|: {k_of_n(row)}; independent signs make it "
        f"1 - 0.5^{_parameters()}. The mean share of negative eigenvalues there is {index['estimate']:.3f} "
        f"[{index['ci_low']:.3f}, {index['ci_high']:.3f}], of independent signs 1/2, and goes with the loss (rank "
        f"correlation {rank:.2f}). Before training {half['estimate'].min():.2f} to {half['estimate'].max():.2f} of "
        "eigenvalues are negative, by activation and weights, and their number spreads over nets "
        f"{ratio.min():.2f} to {ratio.max():.2f} times as much as that of independent signs. Largest |z| of "
        + ", of ".join(f"{name} {z:.1f}" for name, z in distances.items())
    )
    when = f"it says no more than 'almost surely': {', '.join(off)} are not those of independent signs" if off else ""
    return judge("E05", row, row.ci_low > ALMOST_SURE, note, when=when)


def _descent_finds_saddles(row: Any, other: Any, ends: DataFrame) -> Verdict:
    """E06: what minimizers of the loss end at, beside what minimizers of the gradient end at."""
    holds = row.ci_low > ALMOST_SURE
    trained, searched = (select(ends, minimizes=name) for name in ("loss", "gradient_norm"))
    left_out = [kinds_of(part)["degenerate"] for part in (trained, searched)]
    note = (
        "share of saddles among saddles and minima found by minimizing the loss from random starts: "
        f"{k_of_n(row)}; by minimizing |g| {k_of_n(other)} [{other.ci_low:.3f}, {other.ci_high:.3f}]. Each search has "
        f"a start of its own; {left_out[0]} and {left_out[1]} degenerate critical points (no eigenvalue negative, some "
        f"0) do not count. All ends of the first: {_told(trained)}; of the second: {_told(searched)}"
    )
    return judge("E06", row, holds, note)


def _told(rows: DataFrame) -> str:
    """Write how many ends are of which kind, but for those of which there are none."""
    return ", ".join(f"{count} {KINDS[name]}" for name, count in kinds_of(rows).items() if count)


study = Study(
    name="hessian_index",
    title="Index of critical points against their loss, and signs of curvature before training",
    cases=cases,
    draw=draw,
    claims=("E05", "E06"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
