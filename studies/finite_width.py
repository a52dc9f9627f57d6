"""What finite width does that mean field does not see: log-normal norms, means that few nets own, layers that die."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.estimates import UNCONVERGED
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.finite_width import log_norm, log_normal_spread
from stabsim.theory.zeros import dead_probability
from stabsim.verdicts import LARGEST_Z, converged, judge, largest_z, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from pandas import DataFrame

NETS = {
    "quick": {"spread": 3000, "factor": 4000, "dead": 4000},
    "paper": {"spread": 20_000, "factor": 50_000, "dead": 400_000},
}
RUNS = {"quick": {100: 100, 1000: 50, 10_000: 12}, "paper": {100: 1000, 1000: 300, 10_000: 50}}  # runs, by their nets

WEIGHTS = {"linear": "lecun_normal", "relu": "he_normal"}
NAMES = {"linear": "linear", "relu": "ReLU"}
WIDTHS = (10, 30, 100)
SHOWN_DEPTH = 100
RATIOS = (0.1, 1.0, 4.0)  # depth / width
FEWEST_IN_BIN = 10  # of a density that is drawn
FAR = 2.0  # the factor by which an estimate is called far off

WIDTH, DEPTH = 16, 64  # of the nets whose mean square is estimated again and again
KEPT = math.exp(-log_norm((WIDTH, WIDTH)).mean)  # n gamma at which the typical linear net keeps its norm: 1 + 1/n + ...
FACTORS = (0.9, 1.0, KEPT, 1.1)  # n gamma
NARROW = (2, 4, 6, 8, 10)

NORM, MEAN, SQUARE = "activation_log10_norm", "activation_mean", "activation_mean_square"
DEAD = "activation_dead_sample_fraction"

_SHARE = "share of the sum held by 1% of nets"
_EXACT: dict[str, Any] = {"color": "black", "linewidth": 0.8, "linestyle": "dashed"}
_HANIN_NICA: dict[str, Any] = {"color": "0.8", "linewidth": 3.0, "zorder": 0}
_GREY: dict[str, Any] = {"color": "0.5", "linewidth": 0.8}
_FLAGGED: dict[str, Any] = {"color": "0.4", "marker": "o", "markerfacecolor": "white", "linestyle": "none"}


def cases(scale: str) -> Iterator[Case]:
    """Yield nets whose norms are kept, linear nets of several scales, runs of few and of many nets, and narrow nets."""
    nets = NETS[scale]
    for activation in WEIGHTS:
        for width in WIDTHS:
            task = make_task(
                _network(activation, width, max(4 * width, SHOWN_DEPTH)), quantities=(NORM,), samples=(NORM,)
            )
            yield Case(task, nets["spread"], _tags("spread", activation, width))
    for factor in FACTORS:
        network = _network("linear", WIDTH, DEPTH, f"lecun_normal(gain={math.sqrt(factor)!r})")
        task = make_task(network, quantities=(NORM, MEAN, SQUARE))
        yield Case(task, nets["factor"], _tags("factor", "linear", WIDTH, factor=factor))
    sizes = [size for size, runs in RUNS[scale].items() for _ in range(runs)]
    for run, size in enumerate(sizes):
        task = make_task(_network("relu", WIDTH, DEPTH), seed=run, quantities=(SQUARE,))
        yield Case(task, size, _tags("mean", "relu", WIDTH, run=run))
    for width in NARROW:
        task = make_task(_network("relu", width, SHOWN_DEPTH), quantities=(DEAD,))
        yield Case(task, nets["dead"], _tags("dead", "relu", width))


def _network(activation: str, width: int, depth: int, weights: str = "") -> Network:
    return Network((width,) * (depth + 1), activation, weights or WEIGHTS[activation])


def _tags(part: str, activation: str, width: int, *, factor: float = 1.0, run: int = 0) -> dict[str, str | float]:
    return {"part": part, "activation": activation, "width": width, "factor": factor, "run": run}


def growths(collected: Collected) -> Iterator[tuple[str, int, Any]]:
    """Yield activation, width and ln(|z_l|^2 / |z_0|^2) of every net, (nets, depth + 1); NaN once a net is dead."""
    for case, result in collected.results:
        if case.tags["part"] == "spread":
            norms = result.samples[NORM]
            with np.errstate(invalid="ignore"):
                growth = 2.0 * math.log(10.0) * (norms - norms[:, :1])
            yield (
                str(case.tags["activation"]),
                case.task.network.widths[0],
                np.where(np.isfinite(growth), growth, np.nan),
            )


def spreads(collected: Collected) -> DataFrame:
    """Return mean and standard deviation of ln(|z_l|^2 / |z_0|^2) over live nets, layer by layer, with exact theory."""
    import pandas

    tables = []
    for activation, width, growth in growths(collected):
        layer = np.arange(1, SHOWN_DEPTH + 1)
        values = growth[:, layer]
        nets, mean, std = np.isfinite(values).sum(axis=0), np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1)
        fourth = np.nanmean((values - mean) ** 4, axis=0)
        step = log_norm((width, width), activation=activation)
        of_std = np.sqrt(fourth - std**4) / (2.0 * std)
        for statistic, estimate, error, theory in (
            ("mean", mean, std, layer * step.mean),
            ("standard deviation", std, of_std, np.sqrt(layer * step.variance)),
        ):
            columns = {"layer": layer, "estimate": estimate, "std_error": error / np.sqrt(nets), "theory": theory}
            tags = {"statistic": statistic, "activation": activation, "width": width, "nets": nets}
            tables.append(pandas.DataFrame(tags | columns))
    table = pandas.concat(tables, ignore_index=True)
    return with_interval(table)


def densities(collected: Collected) -> DataFrame:
    """Return the density over live nets of ln(|z_l|^2 / |z_0|^2) at each depth / width, with the exact normal."""
    import pandas

    tables = []
    for activation, width, growth in growths(collected):
        for ratio in RATIOS:
            depth = round(ratio * width)
            values = growth[:, depth][np.isfinite(growth[:, depth])]
            exact = log_norm((width,) * (depth + 1), activation=activation)
            beta = log_normal_spread((width,) * (depth + 1), activation)
            edges = -0.5 * beta + math.sqrt(beta) * np.linspace(-5.25, 4.75, 21)
            counts, _ = np.histogram(values, edges)
            middle, scale = 0.5 * (edges[1:] + edges[:-1]), len(values) * (edges[1] - edges[0])
            columns = {
                "growth": middle,
                "nets": counts,
                "estimate": counts / scale,
                "theory": _normal(middle, exact.mean, exact.variance),
                "infinite_width": _normal(middle, -0.5 * beta, beta),
            }
            table = pandas.DataFrame({"activation": activation, "width": width, "ratio": ratio} | columns)
            tables.append(table[table["nets"] >= FEWEST_IN_BIN])
    return pandas.concat(tables, ignore_index=True)


def _normal(x: Any, mean: float, variance: float) -> Any:
    return np.exp(-0.5 * (x - mean) ** 2 / variance) / math.sqrt(2.0 * math.pi * variance)


def coverages(rows: DataFrame) -> DataFrame:
    """Return the share of runs whose 95% interval holds the exact mean, by number of nets and layer."""
    import pandas
    from scipy.stats import binomtest

    holds = (rows["ci_low"] <= rows["theory"]) & (rows["theory"] <= rows["ci_high"])
    table = holds.groupby([rows["nets"], rows["layer"]]).agg(["sum", "count"]).reset_index()
    intervals = [
        binomtest(int(held), int(runs)).proportion_ci(method="wilson")
        for held, runs in zip(table["sum"], table["count"], strict=True)
    ]
    ends = pandas.DataFrame(intervals, columns=["ci_low", "ci_high"])
    return table.assign(quantity="coverage", estimate=table["sum"] / table["count"], theory=0.95).join(ends)


KEPT_NORMS = "linear nets with LeCun's and ReLU nets with He's weights"
CAPTION = (
    f"Norms of activations in {KEPT_NORMS}, which keep the mean square. (a), (b) Density over nets of the logarithm of "
    f"the squared norm, for ratios of depth to width of {', '.join(f'{ratio:g}' for ratio in RATIOS)}: dashed, a "
    "normal law of the exact mean and variance; gray, the log-normal limit of Hanin and Nica. (c) Mean and (d) "
    "standard deviation of this logarithm against depth. (e) Geometric mean of the norm of linear nets of width "
    f"{WIDTH}; it is kept at nγ = {KEPT:.3g}, not at 1. (f) Share of samples that a ReLU net has set to 0. "
    f"{figures.THEORY} {figures.BANDS}"
)
CAPTION_OF_MEANS = (
    f"How far the plain mean over nets can be trusted in deep nets: mean squares of ReLU nets of width {WIDTH}, by "
    "number of nets. (a) The estimate against depth, of one run of each size. (b) Share of the sum that the largest "
    f"1% of nets hold; dotted, that of a log-normal law. Open markers, and the gray line: above {UNCONVERGED:g} a mean "
    "is flagged as not converged. (c) Estimates of many runs over the exact value, against that share; lines: off by "
    f"a factor of {FAR:g}. (d) How often 95% intervals hold the exact value. {figures.THEORY} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw the law of norms over nets, and then what becomes of the plain mean of their squares."""
    yield _norms(collected)
    yield _means(select(collected.table, part="mean"))


def _norms(collected: Collected) -> Drawing:
    import pandas

    table, law, spread = collected.table, densities(collected), spreads(collected)
    spread["setting"] = [f"{NAMES[a]}, {w}" for a, w in zip(spread["activation"], spread["width"], strict=True)]
    figure, axes = figures.panels(rows=3, columns=2, width=figures.PAGE, height=6.6)
    for panel, (activation, rows) in zip(axes[0], law.groupby("activation", sort=False), strict=True):
        _densities(panel, rows, str(activation))
    for panel, (statistic, rows) in zip(axes[1], spread.groupby("statistic", sort=False), strict=True):
        figures.against_depth(panel, rows, by="setting", ylabel=rf"{statistic} of $\ln(|z_l|^2 / |z_0|^2)$")
    factors = select(table, part="factor", quantity=NORM)
    name = "norm of $z_l$ (geometric mean), linear"
    figures.against_depth(axes[2, 0], factors, by="factor", label=_factor, scale="exponent", ylabel=name)
    dead = select(table, part="dead")
    exact = [
        dead_probability((width,) * (layer + 1)) for width, layer in zip(dead["width"], dead["layer"], strict=True)
    ]
    dead = dead.assign(theory=exact)
    figures.against_depth(axes[2, 1], dead, by="width", label="width {}".format, ylabel="share of dead samples, ReLU")
    figures.panel_labels(axes.flat)
    return Drawing(figure, pandas.concat([law, spread, factors, dead]), caption=CAPTION)


def _factor(factor: float) -> str:
    return f"nγ = {factor:.3g}"


def _densities(panel: Axes, rows: DataFrame, activation: str) -> None:
    for index, (width, part) in enumerate(rows.groupby("width", sort=False)):
        looks = figures.line(index) | {"linestyle": "none", "zorder": 3.0}
        panel.plot(part["growth"], part["estimate"], label=f"width {width}", **looks)
    for width, ratio in rows[["width", "ratio"]].drop_duplicates().itertuples(index=False):
        widths = (width,) * (round(ratio * width) + 1)
        exact, beta = log_norm(widths, activation=activation), log_normal_spread(widths, activation)
        _curve(panel, -0.5 * beta, beta, **_HANIN_NICA)
        _curve(panel, exact.mean, exact.variance, **_EXACT)
        if width == WIDTHS[-1]:
            x = -0.5 * beta - math.sqrt(beta)
            panel.annotate(f"$L/n$ = {ratio:g}", (x, 1.3 * _normal(x, -0.5 * beta, beta)), ha="right", fontsize=7)
    for looks, label in ((_EXACT, "normal of exact\nmean, variance"), (_HANIN_NICA, "Hanin & Nica")):
        panel.plot([], [], label=label, **looks)
    panel.set(yscale="log", xlabel=rf"$\ln(|z_L|^2 / |z_0|^2)$, {NAMES[activation]}", ylabel="density over nets")
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _curve(panel: Axes, mean: float, variance: float, **looks: Any) -> None:
    x = mean + math.sqrt(variance) * np.linspace(-3.2, 3.2, 65)
    panel.plot(x, _normal(x, mean, variance), **looks)


def _means(rows: DataFrame) -> Drawing:
    import pandas

    first = rows[rows["run"].isin(rows.groupby("nets")["run"].min())]
    some = rows[(rows["layer"] % 8 == 0) & (rows["layer"] > 0)]
    shares, covered = _shares(first), coverages(rows)
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.8)
    for panel, part, scale, name in (
        (axes[0, 0], first, "log", "mean square of $z_l$, ReLU"),
        (axes[0, 1], shares, "linear", _SHARE),
        (axes[1, 1], covered, "linear", "share of 95% intervals that hold"),
    ):
        lines = figures.against_depth(panel, part, by="nets", label="{:,} nets".format, scale=scale, ylabel=name)
        if "top_share" in part:
            _open_flagged(panel, part, lines)
    axes[0, 1].axhline(UNCONVERGED, **_GREY)
    _legend(axes[0, 0], ("exact", _EXACT), ("flagged", _FLAGGED))
    _legend(axes[0, 1], ("log-normal", _EXACT | {"linestyle": "dotted"}), ("flagged", _FLAGGED))
    _legend(axes[1, 1], ("95%", _EXACT))
    _misses(axes[1, 0], some)
    figures.panel_labels(axes.flat)
    return Drawing(figure, pandas.concat([first, shares, some, covered]), "mean", CAPTION_OF_MEANS)


def _legend(panel: Axes, *entries: tuple[str, dict[str, Any]]) -> None:
    panel.legend(handles=[panel.plot([], [], label=label, **looks)[0] for label, looks in entries])


def _shares(rows: DataFrame) -> DataFrame:
    """Return ``top_share`` as the estimate, and what 1% of log-normal values hold: Phi(sqrt(beta) + z_0.01)."""
    from scipy.special import ndtr, ndtri

    beta = log_normal_spread((WIDTH, WIDTH), "relu") * rows["layer"]
    limit = ndtr(np.sqrt(beta) + ndtri(0.01))
    nothing = {"std_error": np.nan, "ci_low": np.nan, "ci_high": np.nan, "theory": np.nan}
    return rows.assign(quantity="top_share", estimate=rows["top_share"], infinite_width=limit, **nothing)


def _open_flagged(panel: Axes, rows: DataFrame, lines: list[Line2D]) -> None:
    """Open the markers of lines where few nets own the mean, as ``Result.unconverged`` says."""
    for line, (_, run) in zip(lines, rows.groupby("nets", sort=False), strict=True):
        every: Any = line.get_markevery()
        marked = run.sort_values("layer").iloc[every[0] :: every[1]]
        flagged = marked[marked["top_share"] > UNCONVERGED]
        looks: dict[str, Any] = {"color": line.get_color(), "marker": line.get_marker(), "zorder": 4}
        panel.plot(flagged["layer"], flagged["estimate"], linestyle="none", markerfacecolor="white", **looks)


def _misses(panel: Axes, rows: DataFrame) -> None:
    """Draw how far off means are against the share by which they are flagged, and count those that slip through.

    All runs are counted; more than a hundred of a kind would cover each other.
    """
    for index, (nets, part) in enumerate(rows.groupby("nets")):
        ratio = part["estimate"] / part["theory"]
        far = np.abs(np.log(ratio)) > math.log(FAR)
        missed = far & ~(part["top_share"] > UNCONVERGED)
        looks = figures.line(index) | {"linestyle": "none", "markersize": 2.2, "markeredgewidth": 0.3}
        label = f"{nets:,} nets: {missed.sum()} of {far.sum()}"
        shown = part["run"] < part["run"].min() + 100
        panel.plot(part["top_share"][shown], ratio[shown], label=label, **looks)
    panel.axvline(UNCONVERGED, **_GREY)
    for factor in (FAR, 1.0 / FAR):
        panel.axhline(factor, **_GREY)
    panel.set(xlabel=_SHARE, ylabel="estimate / exact mean square", yscale="log", xlim=(0.0, 1.02))
    panel.set_ylim(bottom=panel.get_ylim()[0] / 500)  # room for the legend
    title = f"off by a factor of {FAR:g}\nor more, not flagged:"
    panel.legend(title=title, title_fontsize=7, alignment="left", loc=(0.21, 0.01), markerscale=1.5)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    rows = select(collected.table, part="factor")
    yield _constant_variance(converged(select(rows, quantity=(MEAN, SQUARE))), select(rows, quantity=NORM))
    yield _products(select(rows, quantity=NORM))


def _ends(norms: DataFrame, factor: float) -> tuple[Any, Any]:
    rows = select(norms, factor=factor)
    return pick(rows, layer=0), pick(rows, layer=DEPTH)


def _kept(norms: DataFrame, factor: float) -> bool:
    first, last = _ends(norms, factor)
    return bool(last.ci_low < first.ci_high and first.ci_low < last.ci_high)


def _constant_variance(means: DataFrame, norms: DataFrame) -> Verdict:
    """B06: the variance over all nets is kept iff n gamma = 1; the norm of a typical net iff it is about 1 + 1/n."""
    z = max(largest_z(means), largest_z(norms))
    squares = select(means, quantity=SQUARE)
    ends = {factor: select(squares, factor=factor).sort_values("layer").iloc[-1] for factor in FACTORS}
    only = ends[0.9].ci_high < 1.0 < min(ends[KEPT].ci_low, ends[1.1].ci_low)
    typical = [factor for factor in FACTORS if _kept(norms, factor)]
    first, last = _ends(norms, 1.0)
    note = (
        f"mean square of linear nets of width {WIDTH} at nγ = 1, layer {ends[1.0].layer}, the last that few nets do "
        f"not own; the typical (geometric mean) norm falls there by 10^{first.estimate - last.estimate:.2f} in {DEPTH} "
        f"layers, and is kept at nγ = {KEPT:.4f}, where the mean square grows. Largest |z| against theory {z:.1f}"
    )
    when = "the variance is that over all nets, not that of a typical one"
    return judge("B06", ends[1.0], z < LARGEST_Z and only and typical == [KEPT], note, when=when)


def _products(norms: DataFrame) -> Verdict:
    """E02: the typical norm of X W_1 ... W_l falls at n gamma = 1 too; where it is kept, nets spread apart."""
    z = largest_z(norms)
    ends = {factor: _ends(norms, factor) for factor in FACTORS}
    falls = all(last.ci_high < first.ci_low for first, last in (ends[0.9], ends[1.0]))
    rises = ends[1.1][1].ci_low > ends[1.1][0].ci_high
    start, end = (row.std_error * math.sqrt(row.nets) for row in ends[KEPT])
    first, last = ends[1.0]
    loss = math.log(10.0) * (first.estimate - last.estimate) / DEPTH
    note = (
        f"log10 norm after {DEPTH} layers of width {WIDTH} at nγ = 1, from {first.estimate:.2f}: the typical net loses "
        f"{loss:.4f} of it a layer, 1/(2n) = {0.5 / WIDTH:.4f}. At nγ = {KEPT:.4f} it is kept, but its standard "
        f"deviation over nets grows from {start:.2f} to {end:.2f}; largest |z| {z:.1f}"
    )
    return judge("E02", last, z < LARGEST_Z and falls and rises and end > 2.0 * start, note)


study = Study(
    name="finite_width",
    title="What finite width does: log-normal norms, means that few nets own, layers that die",
    cases=cases,
    draw=draw,
    claims=("B06", "E02"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
