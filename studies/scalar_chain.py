"""Chains of one unit a layer: products of factors f'(s) w, and how rarely one of them is above 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq

from stabsim import figures
from stabsim.activations import activation
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.finite_width import log_norm
from stabsim.theory.scalar_chain import (
    mean_log_derivative,
    mean_log_weight,
    steep_probability,
    steep_width,
    widest_steep,
)
from stabsim.tracing import trace
from stabsim.verdicts import LARGEST_Z, change, counted, judge, largest_z, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

NETS = {"quick": {"chain": 20_000, "wide": 200}, "paper": {"chain": 200_000, "wide": 10_000}}
CHAINS = ("sigmoid", "tanh", "relu")
DEPTHS = (4, 30)
POWERS = ((1.5, 100), (0.8, 100), (0.2, 30), (5.0, 30))  # a weight, and how often it is multiplied
LONGEST = max(depth for _, depth in POWERS)
PRINTED = {1.5: "4e+17", 0.8: "2e-10", 0.2: "1e-21", 5.0: "9e+20"}
WIDEST_PRINTED = ("0.45", "6.9")  # the width, and abs(w)
WIDTH = 64
WIDE = ((1.5, 100), (0.8, 100))
# Weights on both sides of the least one with an interval, 4 and 1.
WEIGHTS = (0.5, 1.05, 1.2, 1.5, 2.0, 2.5, 3.0, 3.9, 4.05, 4.5, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 25.0, 40.0)
FINE = tuple(round(0.01 * hundredths, 2) for hundredths in range(400, 1201))  # where the widest interval is looked for
POINTS = 20_001
REACH = 2.5  # of x about the middle of the interval
ENOUGH = 200  # chains in which a gradient arrives, for a share of them
CHECKED = 200  # chains whose gradient is recomputed
NORM = "activation_gradient_log10_norm"
OF_WEIGHT, OF_DERIVATIVE = "activation_gradient_log10_gain", "preactivation_gradient_log10_gain"
ROUNDING = 1e-5  # of log10 of a product in float32
ONE = np.ones((1, 1))


def cases(scale: str) -> Iterator[Case]:
    """Yield chains of random weights, chains of equal weights, and wide nets with the same factor a layer."""
    nets = NETS[scale]
    for name in CHAINS:
        for depth in DEPTHS:
            task = make_task(
                chain(name, depth), output_gradient=ONE, quantities=(NORM, OF_WEIGHT, OF_DERIVATIVE),
                samples=(OF_WEIGHT, OF_DERIVATIVE),
            )  # fmt: skip
            yield Case(task, nets["chain"], {"part": "chain", "setting": name, "factor": 0.0, "depth": depth})
    for factor, depth in POWERS:
        task = make_task(
            Network((1,) * (depth + 1), "linear", f"constant(value={factor})"), output_gradient=ONE,
            precision="float64", quantities=(NORM,),
        )  # fmt: skip
        yield Case(task, 2, {"part": "power", "setting": "one unit", "factor": factor, "depth": depth})
    for factor, depth in WIDE:
        # sigma_w^2 E f'^2 is the square of the factor: half of the units of a ReLU are on.
        network = Network((WIDTH,) * (depth + 1), "relu", f"he_normal(gain={factor * math.sqrt(2.0)!r})")
        tags: dict[str, str | float] = {"part": "wide", "setting": "ReLU", "factor": factor, "depth": depth}
        yield Case(make_task(network, quantities=(NORM,)), nets["wide"], tags)


def chain(name: str, depth: int) -> Network:
    """Return chains with weights and biases from N(0, 1)."""
    return Network((1,) * (depth + 1), name, "normal(std=1)", bias_std=1.0)


def measure(scale: str) -> DataFrame:
    """Return how wide the steep interval is, on a grid of x and by its ends; how often a gradient is the formula's."""
    import pandas

    rows: list[dict[str, Any]] = [_steep(name, weight) for name in ("sigmoid", "tanh") for weight in WEIGHTS]
    rows.extend(_between_ends(weight) for weight in FINE)
    for depth in DEPTHS:
        held = [_as_formula(depth, net) for net in range(CHECKED)]
        rows.append({"part": "formula", "setting": "sigmoid", "weight": 0.0, "depth": depth, **counted(held)})
    return pandas.DataFrame(rows)


def _steep(name: str, weight: float) -> dict[str, Any]:
    """Return the share of a grid of x on which abs(dz_0) > 1, times its length, with the length of half a step."""
    x = np.linspace(-REACH, REACH, POINTS)[:, None]
    network = Network((1, 1), name, f"constant(value={weight})")
    seen = trace(network, batch=POINTS, inputs=x, output_gradient=np.ones((POINTS, 1)), precision="float64")
    step = 2.0 * REACH / (POINTS - 1)
    width = step * float((np.abs(seen.activation_gradient[0]) > 1.0).sum())
    ends = {"estimate": width, "ci_low": width - step, "ci_high": width + step}
    return {"part": "steep", "setting": name, "weight": weight, "depth": 1, **ends, "nets": POINTS}


def _between_ends(weight: float) -> dict[str, Any]:
    """Return how far sigmoid's interval reaches on both sides of 0, where it is steepest: two roots."""
    slope = activation("sigmoid")

    def beyond(x: float) -> float:
        return abs(slope.evaluate("derivative", weight * x) * weight) - 1.0

    ends = [brentq(beyond, 0.0, end, xtol=1e-13) if beyond(0.0) > 0.0 > beyond(end) else 0.0 for end in (-REACH, REACH)]
    width = ends[1] - ends[0]
    row = {"estimate": width, "ci_low": width, "ci_high": width}
    return {"part": "ends", "setting": "sigmoid", "weight": weight, "depth": 1, **row, "nets": 1}


def _as_formula(depth: int, net: int) -> bool:
    """Return whether ds_1 is dz_L s'(s_L) w_L ... s'(s_1), with s' from weights, biases and x alone."""
    seen = trace(chain("sigmoid", depth), net=net, output_gradient=ONE, precision="float64")
    z, product = float(seen.activation[0][0, 0]), 1.0
    for layer in range(1, depth + 1):
        weight, bias = seen.weight[layer], seen.bias[layer]
        assert weight is not None and bias is not None
        w = float(weight[0, 0])
        z = 1.0 / (1.0 + math.exp(-(w * z + float(bias[0]))))
        product *= z * (1.0 - z) * (w if layer > 1 else 1.0)
    found = seen.preactivation_gradient[1]
    assert found is not None
    return math.isclose(float(found[0, 0]), product, rel_tol=1e-10)


def factors(collected: Collected) -> DataFrame:
    """Return the share of factors abs(f'(s_l) w_l) above 1 by layer, among the chains in which a gradient arrives.

    At layer 0 the share with any such factor of chains whose f' is nowhere 0 (a ReLU's is; that of a saturated tanh is
    to float32, in a few of 200,000). Signs of a ReLU's s are fair coins whatever else there is, so that its share is
    the same at every layer.
    """
    import pandas

    rows = []
    for case, result in collected.results:
        if case.tags["part"] != "chain":
            continue
        name, logs = str(case.tags["setting"]), _log_factors(result.samples)
        above, arrived = logs > 0.0, ~np.isnan(logs)
        for layer in range(1, logs.shape[1] + 1):
            here = arrived[:, layer - 1]
            if here.sum() >= ENOUGH:
                theory = steep_probability(name) if layer == 1 or name == "relu" else math.nan
                rows.append({**case.tags, "layer": layer, **counted(above[here, layer - 1]), "theory": theory})
        through = arrived.all(axis=1)
        if through.sum() >= ENOUGH:
            rows.append({**case.tags, "layer": 0, **counted(above[through].any(axis=1)), "theory": math.nan})
    return pandas.DataFrame(rows)


def _log_factors(samples: dict[str, Any]) -> Any:
    """Return log10 of abs(f'(s_l) w_l), (nets, depth); -inf where f' is 0, NaN where nothing arrives."""
    slopes, weights = samples[OF_DERIVATIVE][:, 1:], samples[OF_WEIGHT][:, :-1]
    return np.where(np.isneginf(slopes), -np.inf, slopes + weights)


def _log_gradients(samples: dict[str, Any]) -> Any:
    """Return log10 of abs(dC/db_1) = abs(ds_1) of each chain."""
    return samples[OF_DERIVATIVE][:, 1:].sum(axis=1) + samples[OF_WEIGHT][:, 1:-1].sum(axis=1)


def mean_logs(table: DataFrame) -> DataFrame:
    """Return the means of log10 of f' and of abs(w), by layer, of chains whose f' is never 0, next to theory."""
    import pandas

    parts = []
    for name in ("sigmoid", "tanh"):
        for depth in DEPTHS:
            rows = select(table, part="chain", setting=name, depth=depth)
            slopes = select(rows, quantity=OF_DERIVATIVE).sort_values("layer")
            weights = select(rows, quantity=OF_WEIGHT)
            weights = weights[weights["layer"] < depth]  # that of the last layer would be above it
            parts.append(slopes.assign(theory=mean_log_derivative(depth, name) / math.log(10.0)))
            parts.append(weights.assign(theory=mean_log_weight() / math.log(10.0)))
    return pandas.concat(parts)


CAPTION = (
    "Chains of one unit a layer, whose gradients are products of factors f'(s) w. (a) Width of the set of inputs x on "
    "which a factor exceeds 1 in size, against the weight, with the largest widths of all. (b) Share of factors "
    f"beyond 1 in chains of {DEPTHS[-1]} layers with standard normal weights and biases. (c) Density of log10 of the "
    "first bias's gradient in sigmoid chains; dotted: the normal law of the same mean and spread. (d) Gradients on "
    f"their way back in chains of equal weights and in ReLU nets of width {WIDTH} with the same factor a layer "
    f"(geometric mean). {figures.THEORY} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw the steep interval, the share of factors above 1, the law of dC/db_1, and powers against depth."""
    import pandas

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.6)
    steep = select(collected.measured, part="steep")
    _draw_steep(axes[0, 0], steep)
    above = factors(collected)
    shown = above[(above["layer"] > 0) & (above["depth"] == DEPTHS[-1])]
    label = "share of $|f'(s_l)\\,w_l|$ > 1"
    figures.against_depth(axes[0, 1], shown, by="setting", label=figures.spelled, ylabel=label)
    axes[0, 1].set_ylim(-0.01, 0.27)
    first = select(shown, setting="relu")["layer"].min()
    if first > 1:
        axes[0, 1].text(
            1, 0.202, f"ReLU: below layer {first} gradients\narrive in fewer than {ENOUGH} chains", fontsize=7
        )
    density = _draw_gradients(axes[1, 0], collected)
    powers = select(collected.table, part=("power", "wide"), quantity=NORM)
    powers = powers.assign(
        back=powers["depth"] - powers["layer"],
        line=[_named(*row) for row in zip(powers["part"], powers["factor"], powers["depth"], strict=True)],
    )
    at_last = powers[powers["back"] == 0].set_index("line")["estimate"]
    offset = powers["line"].map(at_last)  # gradients of wide nets start with the norm of a normal vector
    relative = powers.assign(
        layer=powers["back"], theory=np.nan, infinite_width=np.nan,
        **{column: powers[column] - offset for column in ("estimate", "ci_low", "ci_high")},
    ).sort_values(["factor", "part"])  # fmt: skip
    figures.against_depth(
        axes[1, 1], relative, by="line", scale="exponent", xlabel="layers from the last", ylabel="$|dz_l|$ / $|dz_L|$"
    )
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([steep, shown, density, relative]), caption=CAPTION)


def _named(part: str, factor: float, depth: int) -> str:
    if part == "wide":
        return f"×{factor:g}, ReLU, width {WIDTH}"
    return f"×{factor:g} a layer" + ("" if depth == LONGEST else f", depth {depth}")


def _draw_steep(panel: Axes, steep: DataFrame) -> None:
    grid = np.geomspace(0.5, 40.0, 400)
    for index, name in enumerate(("sigmoid", "tanh")):
        rows = select(steep, setting=name)
        panel.plot(rows["weight"], rows["estimate"], label=name, **figures.line(index) | {"linestyle": "none"})
        panel.plot(grid, steep_width(grid, name), color="black", linestyle="dashed", linewidth=0.8, zorder=1)
        best = widest_steep(name)
        panel.annotate(
            f"{best.width:.5f} at {best.weight:.3f}", best, xytext=(4, 3), textcoords="offset points", fontsize=7
        )
    panel.plot([], [], color="black", linestyle="dashed", linewidth=0.8, label="theory")
    panel.set_xscale("log")
    panel.set_xticks([0.5, 1, 2, 4, 10, 40], labels=["0.5", "1", "2", "4", "10", "40"])
    panel.minorticks_off()
    panel.set_ylim(-0.03, 1.2)
    panel.legend(loc="upper center", ncols=3, columnspacing=1.0)
    panel.set(xlabel="$|w|$", ylabel="width of the set of $x$\nwith $|f'(wx+b)\\,w|$ > 1")


def _draw_gradients(panel: Axes, collected: Collected) -> DataFrame:
    """Draw the density of log10 of abs(dC/db_1) of sigmoid's chains beside the normal one with its mean and spread."""
    import pandas

    parts = []
    for case, result in collected.results:
        if (case.tags["part"], case.tags["setting"]) != ("chain", "sigmoid"):
            continue
        values = _log_gradients(result.samples)
        index = DEPTHS.index(int(case.tags["depth"]))
        density, ends = np.histogram(values, bins=60, density=True)
        middle = 0.5 * (ends[1:] + ends[:-1])
        looks = figures.line(index) | {"markevery": 6}
        panel.plot(middle, density, label=f"depth {case.tags['depth']}", **looks)
        spread = values.std()
        normal = np.exp(-0.5 * ((middle - values.mean()) / spread) ** 2) / (spread * math.sqrt(2.0 * math.pi))
        panel.plot(middle, normal, color="black", linestyle="dotted", linewidth=1.0)
        parts.append(
            pandas.DataFrame({**case.tags, "quantity": "density", "layer": 1, "x": middle, "estimate": density})
        )
    panel.plot([], [], color="black", linestyle="dotted", linewidth=1.0, label="normal law")
    panel.legend(loc="upper left")
    panel.set(xlabel="log10 of $|dC/db_1|$, sigmoid", ylabel="density")
    return pandas.concat(parts)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    yield _products(collected.table)
    yield _formula(collected)
    yield _narrow(collected)
    yield _powers(collected.table)


def _power(table: DataFrame, factor: float) -> tuple[Any, float]:
    """Return the row of dz_0 of a chain of equal weights, and the product itself."""
    row = pick(table, part="power", factor=factor, quantity=NORM, layer=0)
    return row, 10.0**row.estimate


def _products(table: DataFrame) -> Verdict:
    """B01: both numbers, and that the norm of a wide net's gradient grows by the same factor a layer."""
    numbers = {factor: _power(table, factor) for factor, _ in WIDE}
    right = all(_matches(factor, value) for factor, (_, value) in numbers.items())
    grown, z = {}, 0.0
    for factor, depth in WIDE:
        rows = select(table, part="wide", factor=factor, quantity=NORM)
        grown[factor], error = change(pick(rows, layer=depth), pick(rows, layer=0))
        exact = log_norm((WIDTH,) * (depth + 1), activation="relu", gain=factor * math.sqrt(2.0)).mean
        z = max(z, abs(grown[factor] - exact / (2.0 * math.log(10.0))) / error)
    row = numbers[1.5][0]
    note = (
        f"log10 of 1.5^100 = {numbers[1.5][1]:.3g}; 0.8^100 = {numbers[0.8][1]:.3g}, as gradients of chains. Over 100 "
        f"layers the norm of a ReLU net's gradient (width {WIDTH}, sigma_w^2 E f'^2 = 1.5^2 and 0.8^2) grows by 10^"
        f"{grown[1.5]:.2f} and 10^{grown[0.8]:.2f}, less than without a spread between nets and as the exact law of "
        f"finite width has it (largest |z| {z:.1f})"
    )
    return judge("B01", row._replace(theory=100 * math.log10(1.5)), right and z < LARGEST_Z, note)


def _matches(factor: float, value: float) -> bool:
    return f"{value:.0e}" == PRINTED[factor]


def _formula(collected: Collected) -> Verdict:
    """D02: the gradient is the product; no factor with abs(w) < 1 is above 1/4; means of logs are as exact."""
    formula = select(collected.measured, part="formula")
    found = zip(formula["depth"], formula["estimate"] * formula["nets"], formula["nets"], strict=True)
    counts = ", ".join(f"{share:.0f} of {nets} at depth {depth}" for depth, share, nets in found)
    small, kept = 0, 0
    for case, result in collected.results:
        if (case.tags["part"], case.tags["setting"]) == ("chain", "sigmoid"):
            below = result.samples[OF_WEIGHT][:, :-1] < 0.0
            small += int(below.sum())
            kept += int((_log_factors(result.samples)[below] <= math.log10(0.25) + ROUNDING).sum())
    z = largest_z(mean_logs(collected.table))
    values = next(
        _log_gradients(result.samples)
        for case, result in collected.results
        if (case.tags["part"], case.tags["setting"], case.tags["depth"]) == ("chain", "sigmoid", 4)
    )
    exact = (mean_log_derivative(4).sum() + 3 * mean_log_weight()) / math.log(10.0)
    skew = float(np.mean((values - values.mean()) ** 3) / values.std() ** 3)
    lopsided = abs(skew) > LARGEST_Z * math.sqrt(6.0 / len(values))  # the standard error of a normal law's
    tail = f", a longer {'lower' if skew < 0 else 'upper'} tail than a log-normal law's" if lopsided else ""
    note = (
        f"share of sigmoid's chains whose dC/db_1 is the product to 1e-10: {counts}. With abs(w) < 1 the factor is at "
        f"most 1/4 in {kept} of {small}. log10 of abs(dC/db_1) at depth 4, weights and biases from N(0, 1): "
        f"mean {values.mean():.3f} (exact {exact:.3f}), standard deviation {values.std():.2f}, skewness {skew:.2f}"
        f"{tail}; means of logs of f' and w as exact (largest |z| {z:.1f})"
    )
    holds = bool((formula["estimate"] == 1.0).all()) and 0 < small == kept and z < LARGEST_Z
    return judge("D02", next(formula.assign(theory=1.0).itertuples()), holds, note)


def _narrow(collected: Collected) -> Verdict:
    """D03: the interval is as wide as theory has it at every weight, empty up to 4, and widest where it is claimed."""
    steep, fine = select(collected.measured, part="steep"), select(collected.measured, part="ends")
    step = 2.0 * REACH / (POINTS - 1)
    theory = np.concatenate(
        [steep_width(rows["weight"], str(name)) for name, rows in steep.groupby("setting", sort=False)]
    )
    error = float((steep["estimate"] - theory).abs().max())
    sigmoid = select(steep, setting="sigmoid")
    best = widest_steep()
    widest: Any = next(fine[fine["estimate"] == fine["estimate"].max()].assign(theory=best.width).itertuples())
    apart = fine[fine["weight"] != widest.weight]["weight"]
    resolution = float((apart - widest.weight).abs().min())
    empty = bool((sigmoid[sigmoid["weight"] <= 4.0]["estimate"] == 0.0).all())
    elsewhere = float(sigmoid["estimate"].max())
    above = factors(collected)
    shares = {name: pick(above, setting=name, depth=DEPTHS[-1], layer=0) for name in ("sigmoid", "tanh")}
    relu = pick(above, setting="relu", depth=DEPTHS[-1], layer=DEPTHS[-1])
    z = largest_z(above)
    holds = (
        error <= 1.001 * step
        and empty
        and elsewhere <= widest.estimate + step
        and abs(widest.weight - best.weight) <= resolution
        and (f"{widest.estimate:.2f}", f"{widest.weight:.1f}") == WIDEST_PRINTED
        and z < LARGEST_Z
    )
    note = (
        f"widest interval of x with abs(s'(wx + b) w) > 1, its ends being roots, at abs(w) = {widest.weight:.2f} among "
        f"weights from {fine['weight'].min():g} to {fine['weight'].max():g} in steps of {resolution:.2g} (theory "
        f"{best.width:.5f} at {best.weight:.4f}); on a grid of x with a step of {step:.5f} the widest of "
        f"{len(sigmoid)} weights from {sigmoid['weight'].min():g} to {sigmoid['weight'].max():g} is {elsewhere:.4f}, "
        f"and the largest difference from theory, tanh too, {error:.5f}. Share of chains of {DEPTHS[-1]} layers from "
        "N(0, 1) with any factor above 1: "
        + ", ".join(f"{name} {row.estimate:.3g}" for name, row in shares.items())
        + f"; share of the factors in open chains of ReLU {relu.estimate:.3f} (largest |z| of shares {z:.1f})"
    )
    return judge("D03", widest, holds, note)


def _powers(table: DataFrame) -> Verdict:
    """E01: both powers to the digit that is given."""
    small, large = _power(table, 0.2), _power(table, 5.0)
    note = f"log10 of 0.2^30 = {small[1]:.4g}, as the gradient of a chain of 30 linear units; 5^30 = {large[1]:.4g}"
    theory = small[0]._replace(theory=30 * math.log10(0.2))
    return judge("E01", theory, _matches(0.2, small[1]) and _matches(5.0, large[1]), note)


study = Study(
    name="scalar_chain",
    title="One unit a layer: products of factors, and where one is above 1",
    cases=cases,
    draw=draw,
    claims=("B01", "D02", "D03", "E01"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
