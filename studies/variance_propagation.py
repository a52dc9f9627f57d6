"""How the variance of signals and gradients travels through linear nets: n gamma = 1, Xavier, alpha and beta."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import LARGEST_Z, converged, judge, largest_z, pick, select

if TYPE_CHECKING:
    from pandas import DataFrame

NETS = {"quick": {"deep": 48, "shallow": 1000}, "paper": {"deep": 1000, "shallow": 100_000}}

WIDTH, DEEP, SHALLOW = 100, 1000, 20
FACTORS = (0.5, 0.9, 1.0, 1.1, 2.0)  # n gamma: the factor on the variance, a layer
FUNNEL = (400, 300, 200, 100, 50, 100, 200, 300, 400)
FANS = {
    "fan in": "lecun_normal",
    "fan out": "he_normal(fan=out, gain=1)",
    "Xavier normal": "glorot_normal",
    "Xavier uniform": "glorot_uniform",
}
LINES = ((1.0, 0.0), (1.0, 0.5), (1.1, 0.0), (0.9, 0.0), (0.9, 0.5), (-1.0, 0.0))  # alpha, beta
CHAINS = {0.2: 30, 5.0: 30, 0.8: 100, 1.5: 100}  # weight: depth
SMALL = ((100, 3), (100, 50))  # width, depth of nets with weights of standard deviation 0.01

NORMS = ("activation_log10_norm", "activation_gradient_log10_norm")
MEANS = ("activation_mean", "activation_mean_square", "activation_variance", "activation_gradient_mean_square")


def cases(scale: str) -> Iterator[Case]:
    """Yield deep nets for norms and shallow ones for means: the plain mean of a deep net is owned by few nets."""
    deep, shallow = NETS[scale]["deep"], NETS[scale]["shallow"]
    for factor in FACTORS:
        weights = f"lecun_normal(gain={math.sqrt(factor)!r})"
        for part, depth, nets, quantities in (("deep", DEEP, deep, NORMS), ("shallow", SHALLOW, shallow, MEANS)):
            task = make_task(Network((WIDTH,) * (depth + 1), "linear", weights), quantities=quantities)
            yield Case(task, nets, {"part": part, "setting": _factor(factor)})
    for name, weights in FANS.items():
        task = make_task(Network(FUNNEL, "linear", weights), quantities=MEANS)
        yield Case(task, shallow, {"part": "fans", "setting": name})
    for alpha, beta in LINES:
        network = Network((WIDTH,) * (SHALLOW + 1), f"linear(alpha={alpha}, beta={beta})", "lecun_normal")
        yield Case(make_task(network, quantities=MEANS), shallow, {"part": "line", "setting": _line(alpha, beta)})
    for weight, depth in CHAINS.items():
        network = Network((1,) * (depth + 1), "linear", f"constant(value={weight})")
        one = np.ones((1, 1))
        task = make_task(network, inputs=one, output_gradient=one, precision="float64", quantities=NORMS)
        yield Case(task, 2, {"part": "chain", "setting": _chain(weight)})
    for width, depth in SMALL:
        network = Network((width,) * (depth + 1), "linear", "normal(std=0.01)")
        yield Case(make_task(network, quantities=NORMS), 16, {"part": "small", "setting": _small(width, depth)})


def _factor(factor: float) -> str:
    return f"nγ = {factor:g}"


def _line(alpha: float, beta: float) -> str:
    return f"α = {alpha:g}, β = {beta:g}"


def _chain(weight: float) -> str:
    return f"w = {weight:g}"


def _small(width: int, depth: int) -> str:
    return f"width {width}, depth {depth}"


PANELS = (  # part, quantity, scale, name of the axis
    ("deep", NORMS[0], "exponent", "norm of $z_l$ (geometric mean)"),
    ("fans", MEANS[1], "log", "mean square of $z_l$"),
    ("line", MEANS[1], "log", "mean square of $z_l$"),
    ("deep", NORMS[1], "exponent", "norm of $dz_l$ (geometric mean)"),
    ("fans", MEANS[3], "log", "mean square of $dz_l$"),
    ("chain", NORMS[0], "exponent", "$|z_l|$ of one unit a layer"),
)


CAPTION = (
    f"Signals (upper row) and gradients (lower row) in linear nets. (a), (d) Typical norm through {DEEP:,} layers of "
    f"width {WIDTH}, by the factor nγ on the variance, a layer. (b), (e) Mean square through widths from {max(FUNNEL)} "
    f"down to {min(FUNNEL)} and up again: weights scaled by fan in, by fan out, or by both, as Xavier's. (c) Mean "
    "square where activations are α s + β. (f) Nets of one unit a layer, all weights w: a power of w. "
    f"{figures.THEORY} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw norms to depth 1000, mean squares through a funnel of widths, alpha and beta, and single weights."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.4)
    parts = [select(collected.table, part=part, quantity=quantity) for part, quantity, _, _ in PANELS]
    for panel, rows, (_, _, scale, name) in zip(axes.flat, parts, PANELS, strict=True):
        figures.against_depth(panel, rows, by="setting", scale=scale, ylabel=name)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = collected.table
    last = select(table, part="shallow", setting=_factor(1.0))
    forward = converged(select(table, part="shallow", quantity=MEANS[:3]))
    backward = converged(select(table, part="shallow", quantity=MEANS[3]))
    for claim, rows, quantity, layer in (("B06", forward, MEANS[1], 20), ("B07", backward, MEANS[3], 0)):
        z = largest_z(rows)
        note = f"mean square after 20 layers at nγ = 1; over all nγ the largest |z| against (nγ)^l is {z:.1f}"
        yield judge(claim, pick(last, quantity=quantity, layer=layer), z < LARGEST_Z, note)
    yield _xavier(table)
    yield _small_weights(table)
    yield _alpha_beta(table)
    for claim, settings in (("B01", (1.5, 0.8)), ("E01", (0.2, 5.0))):
        yield _chains(claim, table, settings)
    yield _products(table)


def _xavier(table: DataFrame) -> Verdict:
    """B08: Xavier's law is exact for both of its distributions, and keeps neither direction where widths change."""
    rows = converged(select(table, part="fans"))
    z = largest_z(rows)
    ratios = {name: pick(rows, setting=name, quantity=MEANS[1], layer=4).estimate for name in FANS}
    back = {name: pick(rows, setting=name, quantity=MEANS[3], layer=4).estimate for name in FANS}
    compromise = (
        ratios["fan in"] < ratios["Xavier normal"] < ratios["fan out"] and back["fan out"] < back["Xavier normal"]
    )
    note = (
        f"mean square at the waist (width {min(FUNNEL)}) of a funnel: fan in {ratios['fan in']:.2f}, "
        f"Xavier {ratios['Xavier normal']:.2f}, fan out {ratios['fan out']:.2f}; largest |z| {z:.1f}"
    )
    waist = pick(rows, setting="Xavier uniform", quantity=MEANS[1], layer=4)
    return judge("B08", waist, z < LARGEST_Z and compromise, note)


def _small_weights(table: DataFrame) -> Verdict:
    """B09: what standard deviation 0.01 leaves of the norm."""
    norms = select(table, part="small", quantity=NORMS[0])
    deep = _small(100, 50)
    start, end = (pick(norms, setting=deep, layer=layer) for layer in (0, 50))
    shallow = (
        pick(norms, setting=_small(100, 3), layer=3).estimate - pick(norms, setting=_small(100, 3), layer=0).estimate
    )
    lost = end.estimate - start.estimate
    note = (
        f"log10 norm at the last of 50 layers of width 100: 10^{lost:.0f} of the input's is left; 3 layers leave "
        f"10^{shallow:.1f}, so small nets are fine only in that nothing underflows"
    )
    return judge("B09", end, lost < -10 and shallow > -4, note)


def _alpha_beta(table: DataFrame) -> Verdict:
    """B10: forward the variance is kept iff |alpha| = 1 and beta = 0, backward iff |alpha| = 1."""
    rows = converged(select(table, part="line"))
    z = largest_z(rows)

    def kept(line: tuple[float, float], quantity: str) -> bool:
        layers = select(rows, setting=_line(*line), quantity=quantity)["estimate"]
        return bool((abs(layers - 1.0) < 0.15).all())

    forward = all(kept(line, MEANS[2]) == (abs(line[0]) == 1.0 and line[1] == 0.0) for line in LINES)
    backward = all(kept(line, MEANS[3]) == (abs(line[0]) == 1.0) for line in LINES)
    drifted = pick(rows, setting=_line(1.0, 0.5), quantity=MEANS[2], layer=20)
    mean = pick(rows, setting=_line(1.0, 0.5), quantity=MEANS[0], layer=20)
    note = (
        f"variance after 20 layers at α = 1, β = 0.5 (mean {mean.estimate:.2f}): β feeds nγβ² into the next layer's "
        f"variance too. α = -1 does as well as 1; backward β plays no part. Largest |z| against theory {z:.1f}"
    )
    when = "forward |α| = 1 is joined by β = 0"
    return judge("B10", drifted, z < LARGEST_Z and forward and backward, note, when=when)


def _chains(claim: str, table: DataFrame, weights: tuple[float, ...]) -> Verdict:
    """B01, E01: a product of equal numbers, forward and backward, against arithmetic."""
    found, exact = [], []
    for weight in weights:
        depth = CHAINS[weight]
        forward = pick(table, part="chain", setting=_chain(weight), quantity=NORMS[0], layer=depth)
        backward = pick(table, part="chain", setting=_chain(weight), quantity=NORMS[1], layer=0)
        found += [forward.estimate, backward.estimate]
        exact += [depth * math.log10(weight)] * 2
    note = "log10 of " + " and ".join(f"{w:g}^{CHAINS[w]} = {10 ** (CHAINS[w] * math.log10(w)):.1e}" for w in weights)
    row = pick(table, part="chain", setting=_chain(weights[0]), quantity=NORMS[0], layer=CHAINS[weights[0]])
    return judge(claim, row._replace(theory=exact[0]), bool(np.allclose(found, exact, rtol=1e-12)), note)


def _products(table: DataFrame) -> Verdict:
    """E02: X W_1 ... W_l vanishes or explodes; at n gamma = 1 its typical norm still falls, by 1/(2n) a layer."""
    norms = select(table, part="deep", quantity=NORMS[0])
    ends = {factor: pick(norms, setting=_factor(factor), layer=1000) for factor in FACTORS}
    z = largest_z(norms)
    apart = ends[0.5].ci_high < -100 and ends[2.0].ci_low > 100
    note = (
        f"log10 norm after 1000 layers of width 100 at nγ = 1 (10^1 at the start: the typical net loses 1/(2n) of it a "
        f"layer while the mean square is kept); nγ = 0.5: 10^{ends[0.5].estimate:.0f}, "
        f"nγ = 2: 10^{ends[2.0].estimate:.0f}; largest |z| {z:.1f}"
    )
    return judge("E02", ends[1.0], z < LARGEST_Z and apart, note)


study = Study(
    name="variance_propagation",
    title="Variance of signals and gradients in linear nets: nγ = 1, Xavier, α and β",
    cases=cases,
    draw=draw,
    claims=("B01", "B06", "B07", "B08", "B09", "B10", "E01", "E02"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
