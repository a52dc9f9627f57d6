"""Gains that are published against those that are exact, and what the difference does over 100 layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stabsim import figures
from stabsim.activations import ACTIVATIONS
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.gains import DIRECTIONS, centered_gain, gain, published_gain
from stabsim.verdicts import change, judge, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

NETS = {"quick": 400, "paper": 10_000}
WIDTH = 1000
DEPTH = 100
# A net of finite width differs from the limit by terms in depth / width: the mean of log10 |dz_0| of a ReLU net is
# 5 / (4 ln 10) DEPTH / WIDTH = 0.054 lower (Hanin & Nica, arXiv:1812.05994), and up to 0.06 was found for the others.
ROOM = DEPTH / WIDTH

EXACT, PYTORCH, XAVIER, HE, OTHER = "exact", "PyTorch", "Xavier", "He", "other"  # where a gain is from
SMALL, LARGE = 0.9, 20.0
UNSTABLE = ("gelu", "silu")  # a net that drifts off mean square 1 goes on: the slope of the variance map is above 1

SQUARE, MEAN, VARIANCE = "preactivation_mean_square", "activation_mean", "activation_variance"
NORM, GRADIENT = "activation_log10_norm", "activation_gradient_log10_norm"
SATURATED, PASSED, SHUT = "derivative_saturated_fraction", "derivative_mean_square", "derivative_zero_fraction"
QUANTITIES = (SQUARE, MEAN, VARIANCE, NORM, GRADIENT, SATURATED, PASSED, SHUT)


def forward_gain(name: str) -> float:
    """Return the exact gain to 10 digits: another rounding of quadrature is no other task."""
    return round(gain(name), 10)


def gains() -> Iterator[tuple[str, str, float]]:
    """Yield activation, source and value of every gain that is simulated, each value once."""
    for name in ACTIVATIONS:
        exact, published = forward_gain(name), published_gain(name)
        yield name, EXACT, exact
        if published is not None and not math.isclose(published, exact, rel_tol=1e-9):
            yield name, PYTORCH, published
    yield from (("tanh", OTHER, SMALL), ("tanh", XAVIER, 1.0), ("tanh", HE, math.sqrt(2.0)), ("tanh", OTHER, LARGE))
    yield "relu", XAVIER, 1.0  # He's is the exact one


def cases(scale: str) -> Iterator[Case]:
    """Yield nets of equal widths, on inputs that give the first pre-activations mean square 1."""
    for name, source, value in gains():
        network = Network((WIDTH,) * (DEPTH + 1), name, f"lecun_normal(gain={value!r})")
        task = make_task(
            network,
            inputs=np.full((1, WIDTH), 1.0 / value),
            quantities=QUANTITIES,
            samples=(NORM,) if name in UNSTABLE else (),
        )
        setting = f"{name} {value:.4g}"
        yield Case(task, NETS[scale], {"setting": setting, "activation": name, "source": source, "gain": value})


def growth(collected: Collected) -> DataFrame:
    """Return log10 of the factor on the gradient's norm over all layers, from the last to the input.

    Both ends are treated as independent, which makes the intervals too wide, never too narrow.
    """
    rows = select(collected.table, quantity=GRADIENT)
    last, first = (select(rows, layer=layer).set_index("setting") for layer in (DEPTH, 0))
    grown, error = change(last, first)
    found = first.assign(
        estimate=grown,
        std_error=error,
        theory=np.nan,
        infinite_width=(first["infinite_width"] - last["infinite_width"]).round(8) + 0.0,  # gains have 10 digits
    ).reset_index()
    return with_interval(found)


def published_and_exact() -> DataFrame:
    """Return every gain by activation and source, NaN where nothing is published, and NFNet's error in percent."""
    import pandas

    rows: list[tuple[str, str, float | None]] = []
    for name in ACTIVATIONS:
        rows += [(name, f"exact, {direction}", gain(name, direction)) for direction in DIRECTIONS]
        rows.append((name, PYTORCH, published_gain(name)))
        constant = published_gain(name, "nfnet")
        rows.append((name, "NFNet", None if constant is None else 100.0 * (constant / centered_gain(name) - 1.0)))
    return pandas.DataFrame(rows, columns=["activation", "source", "estimate"]).astype({"estimate": float})


NET = f"{DEPTH} layers of {WIDTH:,} units"
CAPTION = (
    "Gains of activations, published and exact. (a) The gain that keeps the mean square of signals and the one that "
    "keeps that of gradients, at mean square 1, beside PyTorch's. (b) By how much NFNet's constants exceed the exact "
    f"gain for centered activations. (c) Factor on the gradient's norm on its way back through {NET}, at the gain that "
    "keeps signals: simulation, and the limit of infinite width (ticks), which takes mean square 1 for stable. "
    f"{figures.BARS}"
)
CAPTION_OF_DEPTH = (
    f"What gains do over {NET}; labels name activation and gain. (a) Mean square of pre-activations. (b) Mean and "
    "variance of activations of SELU at the exact and at PyTorch's gain. (c) Norms of the activations of single GELU "
    "and SiLU nets at their exact gains, where mean square 1 is an unstable fixed point. (d) Norm of the gradient on "
    f"its way back (geometric mean). {figures.THEORY} {figures.LIMIT} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw gains and the gradient's growth by activation, then signals and gradients against depth."""
    import pandas

    exact, grown = published_and_exact(), select(growth(collected), source=EXACT)
    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=4.2, sharey=True)
    nfnet = exact["source"] == "NFNet"
    for panel, rows, by, label in (
        (axes[0, 0], exact[~nfnet], "source", "gain"),
        (axes[0, 1], exact[nfnet], "source", "NFNet's gain / exact,\ncentered, $-$ 1 (%)"),
        (
            axes[0, 2],
            grown.assign(dots="simulated"),
            "dots",
            f"log10 of $|dz_0|$ / $|dz_{{{DEPTH}}}|$\nat exact forward gain",
        ),
    ):
        figures.dot_plot(panel, rows, rows="activation", by=by, xlabel=label)
    _ticks(axes[0, 0], "log", (0.75, 1.0, 1.5, 2.0, 3.0, 5.0))
    _ticks(axes[0, 2], "symlog", (-30.0, -3.0, -1.0, 0.0, 1.0, 3.0))
    axes[0, 2].set_xlim(-100.0, 12.0)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([exact, grown])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.6)
    table = collected.table
    squares, gradients = _shown(table, SQUARE), _shown(table, GRADIENT)
    figures.against_depth(axes[0, 0], squares, by="setting", scale="log", ylabel="mean square of $s_l$")
    selu = _selu(table)
    figures.against_depth(axes[0, 1], selu, by="line", ylabel="mean and variance of $z_l$, SELU")
    paths = _paths(axes[1, 0], collected)
    back = gradients.assign(layer=DEPTH - gradients["layer"])  # so that lines are labeled where they are apart
    figures.against_depth(
        axes[1, 1],
        back,
        by="setting",
        scale="exponent",
        xlabel=f"layers from the last, {DEPTH} $-$ $l$",
        ylabel="norm of $dz_l$",
    )
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([squares, selu, paths, gradients])
    yield Drawing(figure, drawn, "depth", f"{CAPTION_OF_DEPTH} {figures.of_nets(drawn['nets'])}")


def _ticks(panel: Axes, scale: str, ticks: tuple[float, ...]) -> None:
    panel.set_xscale(scale)
    panel.set_xticks(ticks, labels=[f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    panel.minorticks_off()


def _shown(table: DataFrame, quantity: str) -> DataFrame:
    """Return the rows that are drawn against depth, in the order of their colors."""
    import pandas

    shown = [("tanh", PYTORCH), ("tanh", EXACT), ("tanh", XAVIER), ("selu", EXACT), ("selu", PYTORCH), ("relu", EXACT)]
    if quantity == SQUARE:
        shown += [("sigmoid", EXACT), ("sigmoid", PYTORCH)]
    rows = select(table, quantity=quantity)
    return pandas.concat([select(rows, activation=name, source=source) for name, source in shown])


def _selu(table: DataFrame) -> DataFrame:
    rows = select(table, activation="selu", quantity=(MEAN, VARIANCE))
    rows = rows[rows["layer"] > 0]  # the input is a constant
    what = rows["quantity"].astype(str).str.removeprefix("activation_")
    return rows.assign(line=what + ", gain " + rows["gain"].map("{:.3g}".format))


def _paths(panel: Axes, collected: Collected, shown: int = 16) -> DataFrame:
    """Draw norms of single nets at a gain that is exact, but where mean square 1 is no stable fixed point."""
    import pandas

    parts = []
    for index, name in enumerate(UNSTABLE):
        ((case, result),) = [each for each in collected.results if each[0].tags["activation"] == name]
        norms = result.samples[NORM]
        looks = figures.line(3 * index) | {"marker": None, "linewidth": 0.6}
        lines = panel.plot(norms[:shown].T, **looks)
        lines[0].set_label(f"{case.tags['setting']}\n({np.mean(norms[:, -1] < norms[:, 1]):.0%} of nets shrink)")
        net, layer = np.indices(norms[:shown].shape)
        path = {"net": net.ravel(), "layer": layer.ravel(), "estimate": norms[:shown].ravel()}
        parts.append(pandas.DataFrame({**case.tags, "quantity": NORM, **path}))
        limit = select(result.table, quantity=NORM)
        panel.plot(limit["layer"], limit["infinite_width"], color="black", linestyle="dotted", linewidth=1.0)
    panel.plot([], [], color="black", linestyle="dotted", linewidth=1.0, label="infinite width")
    figures.set_scale(panel, "exponent")
    panel.locator_params(axis="x", nbins=4, integer=True)
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    panel.set(xlabel="layer", ylabel="norm of $z_l$, single nets")
    return pandas.concat(parts)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    yield _compounding(collected)
    yield _tanh(collected.table)
    yield _xavier(collected)


def _compounding(collected: Collected) -> Verdict:
    """A07: ds tends to 0 with depth unless W makes up for f', as the factor sigma_w^2 E f'^2 of a wide net says."""
    table, grown = collected.table, growth(collected)
    gone = {name: pick(grown, activation=name, gain=1.0) for name in ("sigmoid", "tanh")}
    deeper = all(_falls_backward(table, row.setting) and row.ci_high < -0.5 for row in gone.values())
    stable = select(grown, source=EXACT)
    stable = stable[~stable["activation"].isin((*UNSTABLE, "gelu_tanh"))]
    predicted = (stable["estimate"] - stable["infinite_width"]).abs().max()
    layers = select(table, activation="relu", source=EXACT)
    open_units = (
        select(layers, quantity=PASSED).set_index("layer")["estimate"]
        + select(layers, quantity=SHUT).set_index("layer")["estimate"]
    )
    made_up = pick(grown, activation="tanh", source=EXACT)
    relu = pick(grown, activation="relu", source=EXACT)
    holds = (
        deeper
        and predicted < ROOM
        and made_up.ci_low > 1
        and abs(relu.estimate) < ROOM
        and np.allclose(open_units, 1.0, rtol=0, atol=1e-12)
    )
    note = (
        f"log10 of the factor on the gradient's norm over {DEPTH} layers of sigmoid at gain 1; tanh "
        f"{gone['tanh'].estimate:+.2f}. At the gain that keeps the signal W makes up for tanh's "
        f"f' and more ({made_up.estimate:+.2f}), for ReLU's shut units just ({relu.estimate:+.2f}); the factor a layer "
        f"is E f'^2 / E f^2 ({len(stable)} activations, largest distance {predicted:.2f}). Theory: infinite width"
    )
    sigmoid = gone["sigmoid"]
    return judge("A07", sigmoid._replace(theory=sigmoid.infinite_width), holds, note)


def _falls_backward(table: DataFrame, setting: str) -> bool:
    rows = select(table, setting=setting, quantity=GRADIENT).sort_values("layer")
    return bool((np.diff(rows["estimate"]) > 0).all())


def _tanh(table: DataFrame) -> Verdict:
    """A18: tanh shrinks to 0 up to gain 1, at 1 as a power of depth; above it does not, far above it saturates."""
    rows = select(table, activation="tanh")
    exact, small = forward_gain("tanh"), pick(rows, gain=SMALL, quantity=SQUARE, layer=DEPTH).estimate
    half, end, kept = (
        pick(rows, gain=value, quantity=SQUARE, layer=layer)
        for value, layer in ((1.0, DEPTH // 2), (1.0, DEPTH), (exact, DEPTH))
    )
    shut = {value: pick(rows, gain=value, quantity=SATURATED, layer=DEPTH) for value in (exact, LARGE)}
    power = math.log2(end.estimate / half.estimate)
    holds = (
        small < SMALL ** (2 * (DEPTH - 1))  # |tanh x| < |x|
        and abs(power + 1.0) < 2 * ROOM
        and abs(kept.estimate - 1.0) < ROOM
        and shut[exact].estimate < 0.01
        and shut[LARGE].ci_low > 0.5
    )
    note = (
        f"mean square of s at layer {DEPTH} at gain 1 (1 at first); it falls as l^{power:.2f}. Gain {SMALL:g} leaves "
        f"{small:.0e}, gain {exact:.4f} {kept.estimate:.3f}; share of f' below 0.01 at gain {LARGE:g} "
        f"{shut[LARGE].estimate:.2f}, at gain {exact:.4f} {shut[exact].estimate:.4f}. Theory: "
        "infinite width"
    )
    return judge("A18", end._replace(theory=end.infinite_width), holds, note)


def _xavier(collected: Collected) -> Verdict:
    """A19: with Xavier's gain tanh's gradient loses a factor of about the depth, ReLU's one of 2^(depth / 2)."""
    grown = growth(collected)
    tanh, relu = (pick(grown, activation=name, source=XAVIER) for name in ("tanh", "relu"))
    he, he_tanh = pick(grown, activation="relu", source=EXACT), pick(grown, activation="tanh", source=HE)
    as_predicted = all(abs(row.estimate - row.infinite_width) < ROOM for row in (tanh, relu, he, he_tanh))
    holds = as_predicted and 10 * abs(tanh.estimate) < abs(relu.estimate) and he_tanh.ci_low > 1
    note = (
        f"log10 of the factor on the gradient's norm over {DEPTH} layers, ReLU with He. Xavier: tanh "
        f"{tanh.estimate:+.2f} (in the limit {tanh.infinite_width:+.2f}), ReLU {relu.estimate:+.2f}; He with tanh "
        f"{he_tanh.estimate:+.2f}. Theory: infinite width"
    )
    return judge("A19", he._replace(theory=he.infinite_width), holds, note)


study = Study(
    name="gains",
    title="Published and exact gains, and what they do over 100 layers",
    cases=cases,
    draw=draw,
    claims=("A07", "A18", "A19"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
