"""How long gradient descent stays at saddles: noise, batch size, learning rate, rounding; and noise of no help."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import exact_interval
from stabsim.datasets import classification
from stabsim.initializers import Initializer
from stabsim.landscape import Landscape, find
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.escape import escape_probability, linear_covariance
from stabsim.training import Regression
from stabsim.verdicts import LARGEST_Z, counted, judge, largest_z, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

    Floats = NDArray[np.float64]

# x1^2 - x2^2: its walkers, noises and learning rates
WALKERS = {"quick": 1000, "paper": 20_000}
NOISES = tuple(10.0**-power for power in range(1, 9))
RATES = (0.01, 0.05, 0.25)
SHOWN_RATE = 0.05
CURVATURE, DROP = 2.0, 1.0  # second derivatives, and by how much the loss must have fallen
LONGEST = 30.0  # steps times ln(1 + rate curvature); rounding takes about 37
FORMATS = ("float32", "float64")

# saddles of nets
NETWORK = Network((6, 4, 3), "tanh", "lecun_normal")
SAMPLES, SEARCHES = 128, {"quick": 24, "paper": 150}
SADDLES = {"quick": 3, "paper": 20}
NET_WALKERS = {"quick": 100, "paper": 1000}
BATCHES = {"quick": (1, 8, 64), "paper": (1, 4, 16, 64, 256)}
NET_RATES = (0.05, 0.1, 0.2, 0.4)
NET_RATE, NET_BATCH, NET_DROP = 0.1, 8, 0.01
TEACHER = Regression(Network((6, 8, 3), "tanh", Initializer("normal", gain=2.0, fan="in")), SAMPLES)
STEEP = -0.1  # lowest eigenvalues up to which saddles are looked at: others hold nets for thousands of steps
NEAR = 0.25  # all of the mean slope's interval is to be so near to the linear law, which a fall of NET_DROP leaves
DRAWS = 1000  # of the law of quadratic forms
PATIENCE = 12.0  # steps times ln(1 + rate abs(lowest eigenvalue)) at saddles that noise may not leave
NOISE = "weight_gradient_mean_square"


def cases(scale: str) -> Iterator[Case]:
    """Yield random nets with batches of growing size: how the mean gradient falls."""
    for batch in (1, 4, 16, 64):
        task = make_task(Network((16,) * 3, "tanh", "lecun_normal"), batch=batch, quantities=(NOISE,))
        yield Case(task, WALKERS[scale], {"batch": batch})


# --- x1^2 - x2^2 ----------------------------------------------------------------------------------------


def measure(scale: str) -> DataFrame:
    """Return escapes from x1^2 - x2^2, with noise and with rounding alone, and from saddles of nets."""
    import pandas

    parts = [ideal(rate, WALKERS[scale]) for rate in RATES]
    parts += [rounded(rate, name, WALKERS[scale]) for rate in RATES for name in FORMATS]
    surface = Landscape(NETWORK, data(), threads=None if scale == "paper" else 1)  # few walkers are not worth a pool
    saddles = found_saddles(surface, scale)
    for number, saddle in enumerate(saddles):
        for batch in BATCHES[scale]:
            parts.append(escapes(surface, saddle, NET_RATE, batch, NET_WALKERS[scale], number))
    parts += [
        escapes(surface, saddles[0], rate, NET_BATCH, NET_WALKERS[scale], 0) for rate in NET_RATES if rate != NET_RATE
    ]
    parts.append(plain(saddles))
    parts += [symmetric(each, name, saddle, scale) for each, name, saddle in symmetric_saddles(surface)]
    return pandas.concat(parts, ignore_index=True)


def ideal(rate: float, walkers: int) -> DataFrame:
    """Return the share of walkers that have left x1^2 - x2^2, where they started, and when half of them have."""
    import pandas

    steps = math.ceil(LONGEST / math.log1p(rate * CURVATURE))
    generator = np.random.Generator(np.random.Philox(round(1 / rate)))
    noise = np.array(NOISES)[:, np.newaxis]
    x, y = np.zeros((2, len(NOISES), walkers))
    shares = np.zeros((steps + 1, len(NOISES)))
    for step in range(1, steps + 1):
        x -= rate * (CURVATURE * x + noise * generator.standard_normal(x.shape))
        y -= rate * (-CURVATURE * y + noise * generator.standard_normal(y.shape))
        shares[step] = np.mean(0.5 * CURVATURE * (x * x - y * y) < -DROP, axis=1)
    parts = []
    for size, share in zip(NOISES, shares.T, strict=True):
        every = np.arange(steps + 1)
        law = escape_probability(every, rate, size, drop=DROP, curvature=CURVATURE)
        tags: Any = {"learning_rate": rate, "noise": size, "setting": "noise"}
        parts.append(time_row(every, share, walkers, law).assign(part="time", **tags))
        kept = (law > 0.01) & (law < 0.99)
        kept[:: max(1, steps // 60)] = True
        parts.append(share_rows(every[kept], share[kept], walkers, law[kept]).assign(part="share", **tags))
    return pandas.concat(parts, ignore_index=True)


def share_rows(steps: Any, shares: Floats, walkers: int, law: Floats) -> DataFrame:
    """Return shares of walkers with exact intervals, next to their law."""
    import pandas

    low, high = exact_interval(np.round(shares * walkers), walkers)
    columns = {"step": steps, "estimate": shares, "ci_low": low, "ci_high": high, "theory": law}
    return pandas.DataFrame(columns).assign(nets=walkers)


def time_row(steps: Any, shares: Floats, walkers: int, law: Floats) -> DataFrame:
    """Return after how many steps half of the walkers have left, with its interval, and half by the law."""
    import pandas

    half = 1.96 * 0.5 / math.sqrt(walkers)
    levels = {"estimate": 0.5, "ci_low": 0.5 - half, "ci_high": 0.5 + half}
    times = {name: crossing(steps, shares, level) for name, level in levels.items()}
    return pandas.DataFrame({**times, "theory": crossing(steps, law, 0.5), "nets": walkers}, index=[0])


def crossing(steps: Any, shares: Floats, level: float) -> float:
    """Return where shares first reach a level, between steps by a straight line; NaN where they do not."""
    above = np.flatnonzero(shares >= level)
    if not len(above) or above[0] == 0:
        return math.nan
    at = above[0]
    part = (level - shares[at - 1]) / (shares[at] - shares[at - 1])
    return float(steps[at - 1] + part * (steps[at] - steps[at - 1]))


def rounded(rate: float, name: str, walkers: int) -> DataFrame:
    """Return after how many steps descent without noise leaves a saddle, from the line that leads to it.

    Saddles have axes turned by random angles, and coordinates from 1 to 2; each start is the point on the axis of
    ascent at the distance 1, rounded. One that starts at the saddle itself has the gradient 0 and stays.
    """
    import pandas

    generator, number = np.random.Generator(np.random.Philox(1)), np.dtype(name).type
    angle = generator.uniform(0.0, 2 * math.pi, walkers)
    axis = np.stack([np.cos(angle), np.sin(angle)])
    hessian = CURVATURE * (2 * axis[:, np.newaxis] * axis - np.eye(2)[:, :, np.newaxis])
    bent, middle = hessian.astype(name), generator.uniform(1.0, 2.0, (2, walkers)).astype(name)
    x, at_rest = (middle + axis).astype(name), middle.copy()
    left = np.full(walkers, -1)
    for step in range(1, math.ceil(2 * LONGEST / math.log1p(rate * CURVATURE)) + 1):
        x = x - number(rate) * _times(bent, x - middle)
        at_rest = at_rest - number(rate) * _times(bent, at_rest - middle)
        away = (x - middle).astype(np.float64)
        below = 0.5 * np.sum(away * _times(hessian, away), axis=0) < -DROP
        left[below & (left < 0)] = step
    gone = np.sort(np.where(left < 0, np.iinfo(np.int64).max, left)).astype(float)
    half = round(1.96 * 0.5 * math.sqrt(walkers))
    places = {"estimate": walkers // 2, "ci_low": walkers // 2 - half, "ci_high": walkers // 2 + half}
    times = {key: gone[place] for key, place in places.items()}
    noise = float(np.finfo(name).eps) / rate  # of a gradient whose step is one unit in the last place
    tags = {"part": "time", "setting": name, "learning_rate": rate, "noise": noise, "nets": walkers}
    still = counted(np.all(at_rest == middle, axis=0))
    rest = pandas.DataFrame({**still, **tags, "part": "at_rest"}, index=[0])
    return pandas.concat([pandas.DataFrame({**times, **tags}, index=[0]), rest], ignore_index=True)


def _times(matrices: Any, vectors: Any) -> Any:
    """Return products of matrices (2, 2, walkers) with vectors (2, walkers)."""
    return matrices[:, 0] * vectors[0] + matrices[:, 1] * vectors[1]


# --- saddles of nets ------------------------------------------------------------------------------------


class Saddle(NamedTuple):
    """A critical point, the spectrum of its Hessian, and the covariance of one sample's gradient among eigenvectors."""

    point: Floats
    loss: float
    values: Floats
    vectors: Floats
    noise: Floats


def data() -> tuple[Floats, Floats]:
    """Return digits 0, 1 and 2 reduced to 6 components."""
    inputs, classes = NETWORK.widths[0], NETWORK.widths[-1]
    return classification("digits", components=inputs, classes=range(classes), samples=SAMPLES)


def look(surface: Landscape, point: Floats) -> Saddle:
    """Return what is known of descent next to a critical point."""
    values, vectors = np.linalg.eigh(surface.hessian(point))
    each = surface.gradient(np.tile(point, (SAMPLES, 1)), np.arange(SAMPLES)[:, np.newaxis]) @ vectors
    noise = np.cov(each, rowvar=False, bias=True)
    return Saddle(point, float(surface.loss(point)), values, vectors, noise)


def found_saddles(surface: Landscape, scale: str) -> list[Saddle]:
    """Return saddles that a search for zeros of the gradient has found: of different losses first, the lowest first."""
    ends = find(surface, surface.draw(SEARCHES[scale], seed=2), max_steps=200)
    saddles = [look(surface, point) for point in ends.points[ends.critical & (ends.negative > 0)]]
    seen: dict[float, int] = {}
    order: list[tuple[int, int, Saddle]] = []
    for saddle in sorted(saddles, key=lambda saddle: saddle.loss):
        if saddle.values[0] < STEEP:
            level = round(saddle.loss, 4)
            seen[level] = seen.get(level, -1) + 1
            order.append((seen[level], len(order), saddle))
    return [saddle for *_, saddle in sorted(order, key=lambda each: each[:2])][: SADDLES[scale]]


def linear_law(saddle: Saddle, rate: float, batch: int, steps: Any) -> Floats:
    """Return the share of nets whose loss has fallen, if Hessian and noise stay what they are at the saddle."""
    normal = np.random.Generator(np.random.Philox(7)).standard_normal((DRAWS, len(saddle.values)))
    shares = []
    for step in steps:
        covariance = linear_covariance(int(step), rate, saddle.values, saddle.noise / batch)
        scales, axes = np.linalg.eigh(covariance)
        away = (normal * np.sqrt(np.maximum(scales, 0.0))) @ axes.T
        shares.append(np.mean(0.5 * away**2 @ saddle.values < -NET_DROP))
    return np.array(shares)


def horizon(saddle: Saddle, rate: float, batch: int) -> int:
    """Return 1.6 times the steps after which half have left by the linear law, found by doubling and halving."""
    low, high = 0, 1
    while linear_law(saddle, rate, batch, [high])[0] < 0.5:
        low, high = high, 2 * high
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if linear_law(saddle, rate, batch, [middle])[0] < 0.5 else (low, middle)
    return math.ceil(1.6 * high)


def escapes(surface: Landscape, saddle: Saddle, rate: float, batch: int, walkers: int, number: int) -> DataFrame:
    """Return the share of nets that mini-batches have taken off a saddle, by step, and when half of them have left."""
    import pandas

    last = horizon(saddle, rate, batch)
    checks = np.unique(np.linspace(0, last, min(last, 40) + 1).astype(int))
    shares = walk(surface, saddle, rate, checks, walkers, batch=batch, seed=number).mean(axis=1)
    law = linear_law(saddle, rate, batch, checks)
    tags = {"learning_rate": rate, "batch": batch, "saddle": number, "lowest": saddle.values[0], "setting": "net"}
    time = time_row(checks, shares, walkers, law).assign(part="net_time", **tags)
    return pandas.concat(
        [time, share_rows(checks, shares, walkers, law).assign(part="net_share", **tags)], ignore_index=True
    )


def walk(
    surface: Landscape, saddle: Saddle, rate: float, checks: Any, walkers: int, *, batch: int = 0, noise: float = 0.0,
    seed: int = 0,
) -> NDArray[np.bool_]:  # fmt: skip
    """Return which nets are below the saddle after some steps, of mini-batches or of all samples with noise added.

    Shape (checks, walkers). The samples of a mini-batch are drawn independently, so that its noise is that of one
    sample over the batch.
    """
    generator = np.random.Generator(np.random.Philox([seed, batch]))
    points = np.tile(saddle.point, (walkers, 1))
    below, done = [], 0
    for check in checks:
        for _ in range(int(check) - done):
            samples = generator.integers(SAMPLES, size=(walkers, batch)) if batch else None
            points -= rate * surface.gradient(points, samples)
            if noise:
                points -= rate * noise * generator.standard_normal(points.shape)
        done = int(check)
        below.append(surface.loss(points) < saddle.loss - NET_DROP)
    return np.array(below)


def plain(saddles: list[Saddle]) -> DataFrame:
    """Return after how many steps descent on all samples, from where the search ended, has left; NaN if it has not."""
    import pandas

    surface = Landscape(NETWORK, data(), threads=1)
    points = np.stack([saddle.point for saddle in saddles])
    level = np.array([saddle.loss - NET_DROP for saddle in saddles])
    growth = np.log1p(-NET_RATE * np.array([saddle.values[0] for saddle in saddles]))
    left = np.full(len(saddles), math.nan)
    steps = math.ceil(2 * LONGEST / growth.min())
    for step in range(1, steps + 1):
        points -= NET_RATE * surface.gradient(points)
        if step % 10 == 0:
            left[np.isnan(left) & (surface.loss(points) < level)] = step
    columns = {"part": "plain", "saddle": np.arange(len(saddles)), "estimate": left, "step": steps}
    return pandas.DataFrame(columns).assign(learning_rate=NET_RATE, nets=1)


def symmetric_saddles(surface: Landscape) -> Iterator[tuple[Landscape, str, Saddle]]:
    """Yield saddles whose units are alike: all weights 0, and minima of nets with a unit less, of which one is doubled.

    A doubled unit has half of the outgoing weights each: the net computes the same, and what was a minimum is a saddle
    if the direction that tells the two apart descends (Fukumizu & Amari 2000, Neural Networks 13).
    """
    inputs, _, outputs = NETWORK.widths
    zero = np.zeros(surface.parameters)
    zero[-outputs:] = surface.targets.mean(axis=0)
    yield surface, "all weights 0", look(surface, zero)
    for hidden in (1, 2, 3):
        narrow, wide = (
            Landscape(Network((inputs, units, outputs), "tanh", "lecun_normal"), TEACHER, threads=1)
            for units in (hidden, hidden + 1)
        )
        ends = find(narrow, narrow.draw(3, seed=3), method="l_bfgs", max_steps=2000)
        for point in ends.points[ends.critical & (ends.negative == 0)][:1]:
            incoming, outgoing = (
                point[narrow.layers[0]].reshape(-1, hidden),
                point[narrow.layers[1]].reshape(-1, outputs),
            )
            for unit in range(hidden):
                columns = np.concatenate([incoming, incoming[:, [unit]]], axis=1)
                rows = np.concatenate([outgoing[:-1], outgoing[[unit, -1]]])
                rows[[unit, hidden]] *= 0.5
                saddle = look(wide, np.concatenate([columns.ravel(), rows.ravel()]))
                if saddle.values[0] < STEEP:
                    yield wide, "a doubled unit", saddle


def symmetric(surface: Landscape, name: str, saddle: Saddle, scale: str) -> DataFrame:
    """Return how many nets leave a saddle of equal units, by mini-batches and by as much noise in all directions."""
    import pandas

    steps = math.ceil(PATIENCE / math.log1p(-NET_RATE * saddle.values[0]))
    walkers, rows = NET_WALKERS[scale] // 4, []
    size = math.sqrt(np.trace(saddle.noise) / NET_BATCH / len(saddle.values))
    along = math.sqrt(max(saddle.noise[0, 0], 0.0) / NET_BATCH)
    settings = (("mini-batches", along, NET_BATCH, 0.0), ("normal noise", size, 0, size))
    for setting, noise, batch, added in settings:
        left = counted(walk(surface, saddle, NET_RATE, [steps], walkers, batch=batch, noise=added))
        rows.append({"setting": setting, "noise": noise, "lowest": saddle.values[0], "step": steps, **left})
    return pandas.DataFrame(rows).assign(part="symmetric", kind=name, learning_rate=NET_RATE, theory=math.nan)


# --- figures and verdict --------------------------------------------------------------------------------


CAPTION = (
    "How long noise takes to drive gradient descent off saddles. (a) Share that has left the saddle of x₁² - x₂² "
    f"against steps, by the size of the noise, learning rate {SHOWN_RATE:g}. (b) Learning rate η times the steps until "
    "half have left, against the noise; open: rounding in float64 and float32 alone. (c) Steps at a saddle of tanh "
    f"nets against the learning rate, batch {NET_BATCH}; (d) share that has left it, by batch; (e) steps against the "
    "batch at saddles of several lowest eigenvalues. (f) Share that has left saddles of equal units (lowest "
    "eigenvalue): noise of mini-batches treats such units alike, normal noise does not. Dashed: theory, exact in (a) "
    f"and (b), a linear law at nets. {figures.BANDS_AND_BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw shares that have left and times against noise, of x1^2 - x2^2 and of nets, and saddles that noise leaves."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.6)
    shares = select(measured, part="share", learning_rate=SHOWN_RATE, noise=NOISES[::2])
    names = [f"$10^{{{math.log10(noise):.0f}}}$" for noise in shares["noise"]]
    against_steps(axes[0, 0], shares.assign(line=names), "line", "share below the saddle, $x_1^2 - x_2^2$")
    times = select(measured, part="time")
    draw_times(axes[0, 1], times)
    draw_rates(axes[0, 2], select(measured, part="net_time", saddle=0, batch=NET_BATCH))
    net = select(measured, part="net_share", saddle=0, learning_rate=NET_RATE)
    names = [f"batch {batch:.0f}" for batch in net["batch"]]
    against_steps(axes[1, 0], net.assign(line=names), "line", "share below a saddle of nets")
    steps = select(measured, part="net_time", learning_rate=NET_RATE)
    ordered = steps.drop_duplicates("saddle").sort_values("lowest")["saddle"].to_numpy()
    few = select(steps, saddle=(ordered[0], ordered[len(ordered) // 2], ordered[-1]))  # steepest, middle, flattest
    names = [f"{lowest:.2f}".replace("-", "\N{MINUS SIGN}") for lowest in few["lowest"]]
    figures.against_depth(
        axes[1, 1], few.assign(layer=np.log2(few["batch"]), line=names), by="line", xlabel="log2 of the batch",
        ylabel="steps until half have left",
    )  # fmt: skip
    axes[1, 1].text(1.08, 1.0, r"$\lambda_{\min}$", transform=axes[1, 1].transAxes, va="bottom")  # of the numbers below
    held = select(measured, part="symmetric")
    draw_symmetric(axes[1, 2], held)
    figures.panel_labels(axes.flat)
    yield Drawing(
        figure,
        pandas.concat([shares, times, net, steps, select(measured, part="net_time", saddle=0), held]),
        caption=CAPTION,
    )


def against_steps(axes: Axes, rows: DataFrame, by: str, ylabel: str) -> None:
    """Draw shares against steps."""
    figures.against_depth(axes, rows.assign(layer=rows["step"]), by=by, xlabel="steps", ylabel=ylabel)
    if (legend := axes.get_legend()) is not None:  # the panels beside say what is dashed
        legend.remove()


def draw_times(axes: Axes, rows: DataFrame) -> None:
    """Draw steps times learning rate against noise, with the exact law, and where rounding is the only noise."""
    for index, rate in enumerate(RATES):
        each = select(rows, learning_rate=rate, setting="noise").sort_values("noise")
        looks: Any = figures.line(index) | {"linestyle": "none"}
        errors = rate * np.array([each["estimate"] - each["ci_low"], each["ci_high"] - each["estimate"]])
        axes.errorbar(each["noise"], rate * each["estimate"], errors, label=rf"$\eta$ = {rate:g}", **looks)
        sizes = np.geomspace(1e-16, NOISES[0], 12)
        lines = [rate * law_time(rate, float(size)) for size in sizes]
        axes.plot(sizes, lines, color="black", linestyle="dashed", linewidth=0.7)
        points = select(rows, learning_rate=rate, setting=FORMATS)
        axes.plot(points["noise"], rate * points["estimate"], **(looks | {"markerfacecolor": "white"}))
    axes.set(xscale="log", xlabel="noise of the gradient", ylabel=r"$\eta \times$ steps until half have left")
    axes.plot([], [], color="black", linestyle="dashed", linewidth=0.7, label="exact")
    axes.plot([], [], "o", color="black", markerfacecolor="white", label="rounding")
    axes.legend(loc="lower left", fontsize=6)


def draw_symmetric(axes: Axes, rows: DataFrame) -> None:
    """Draw shares that have left saddles of equal units, the legend in room of its own below them."""
    names = [f"{kind}\n({lowest:.2f})" for kind, lowest in zip(rows["kind"], rows["lowest"], strict=True)]
    seen = rows.drop(columns="theory").assign(name=[name.replace("-", "\N{MINUS SIGN}") for name in names])
    figures.dot_plot(axes, seen, rows="name", by="setting", xlabel="share that has left")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom + 1.4, top)
    axes.legend(loc="lower center", handlelength=1.0, fontsize=6)


def law_time(rate: float, noise: float) -> float:
    """Return after how many steps half have left x1^2 - x2^2 by the exact law, a real number."""
    low, high = 0.0, 100.0 / math.log1p(rate * CURVATURE)
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (
            (middle, high)
            if escape_probability(middle, rate, noise, drop=DROP, curvature=CURVATURE) < 0.5
            else (low, middle)
        )
    return high


def draw_rates(axes: Axes, rows: DataFrame) -> None:
    """Draw steps at one saddle of nets against the learning rate."""
    rows = rows.sort_values("learning_rate")
    looks: Any = figures.line(0) | {"linestyle": "none"}
    errors = np.array([rows["estimate"] - rows["ci_low"], rows["ci_high"] - rows["estimate"]])
    axes.errorbar(rows["learning_rate"], rows["estimate"], errors, **looks)
    axes.plot(
        rows["learning_rate"], rows["theory"], color="black", linestyle="dashed", linewidth=0.8, label="linear law"
    )
    axes.set(xscale="log", xlabel="learning rate", ylabel="steps until half have left")
    axes.set_xticks(NET_RATES, labels=[f"{rate:g}" for rate in NET_RATES])
    axes.minorticks_off()
    figures.set_scale(axes, "log")
    axes.legend(loc="lower left", title=f"batch {NET_BATCH}", fontsize=6, title_fontsize=6)


def slopes(rows: DataFrame) -> tuple[Floats, Floats]:
    """Return how many steps longer nets stay for each e-fold of the batch, at each saddle, measured and by the law."""
    found = [
        [np.polyfit(np.log(each["batch"]), each[column], 1)[0] for column in ("estimate", "theory")]
        for _, each in rows.groupby("saddle")
    ]
    measured, law = np.array(found).T
    return measured, law


def taken(rows: DataFrame) -> str:
    """Write how many nets of how many have left."""
    nets = rows["nets"].to_numpy()
    return f"{round(float(rows['estimate'].to_numpy() @ nets))} of {int(nets.sum())}"


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold E07 against the exact law, against saddles of nets, and against saddles of equal units."""
    import pandas

    measured = collected.measured
    z = largest_z(select(measured, part="share"))
    steps = select(measured, part="net_time", learning_rate=NET_RATE)
    longer, law = slopes(steps)
    ratio = mean_with_interval(longer / law)
    near = abs(ratio["ci_low"] - 1.0) < NEAR and abs(ratio["ci_high"] - 1.0) < NEAR
    few, many = (select(steps, batch=batch) for batch in (steps["batch"].min(), steps["batch"].max()))
    grows = bool((many["ci_low"].to_numpy() > few["ci_high"].to_numpy()).all())
    waits = select(measured, part="plain")
    waited = waits["estimate"].fillna(math.inf).to_numpy() / many["estimate"].to_numpy()
    stuck = int(waits["estimate"].isna().sum())
    held = select(measured, part="symmetric")
    batches, normal = (select(held, setting=setting) for setting in ("mini-batches", "normal noise"))
    ends = [exact_interval(each["estimate"] @ each["nets"], each["nets"].sum()) for each in (batches, normal)]
    helpless = bool(ends[0][1] < ends[1][0])
    holds = z < LARGEST_Z and near and grows and bool((waited > 1).all())
    noise = select(collected.table, quantity=NOISE, layer=1)
    square = noise["estimate"].to_numpy() / noise["batch"].to_numpy() ** 2  # of the mean gradient
    ranges = [f"{each['estimate'].min():.0f} to {each['estimate'].max():.0f}" for each in (few, many)]
    note = (
        "steps that nets stay longer at a saddle for each e-fold of the batch, over what the linear law says (about "
        f"1 / (2 ln(1 + eta abs(lambda)))), mean of {ratio['nets']} saddles of nets {NETWORK.widths} on digits, whose "
        f"interval has to be within {NEAR:g} of 1; half have "
        f"left after {ranges[0]} steps at batch {few['batch'].iloc[0]:.0f}, after {ranges[1]} at "
        f"{many['batch'].iloc[0]:.0f}; without noise, by rounding alone, they stay {waited.min():.1f} times as long "
        f"and more, {stuck} of {len(waits)} longer than {waits['step'].iloc[0]:.0f} steps. "
        "Of random nets with random output gradients the mean square of the batch's mean gradient falls "
        f"{square[0] / square[-1]:.1f} times from a batch of {noise['batch'].iloc[0]} to {noise['batch'].iloc[-1]}. "
        f"x1^2 - x2^2: as the exact law, logarithmic in 1 / noise (largest |z| {z:.1f}). From {len(batches)} saddles "
        f"whose units are alike (all weights 0, or a doubled unit; lowest eigenvalue below {STEEP:g}) mini-batches "
        f"took {taken(batches)} nets in "
        f"{PATIENCE:g} / ln(1 + eta abs(lambda)) steps, normal noise of the same size {taken(normal)}: that of "
        f"mini-batches is at most {batches['noise'].max():.1g} along the lowest eigenvector"
    )
    row = pandas.DataFrame({**ratio, "theory": 1.0}, index=[0])
    when = "the noise has a part along a direction of descent" if helpless else ""
    yield judge("E07", pick(row), holds, note, when=when)


study = Study(
    name="saddle_escape",
    title="Off a saddle: how long noise, batch size, learning rate and rounding take",
    cases=cases,
    draw=draw,
    claims=("E07",),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
