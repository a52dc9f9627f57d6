"""Which fraction of f and f' is zero, or nearly so, against depth, for every activation and scale of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stabsim import figures
from stabsim.activations import ACTIVATIONS, activation
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.verdicts import LARGEST_Z, judge, largest_z, pick, select

if TYPE_CHECKING:
    from pandas import DataFrame

NETS = {"quick": {"map": 128, "narrow": 4000, "zero": 4}, "paper": {"map": 2000, "narrow": 400_000, "zero": 100}}
DEPTH = 30
WIDTH = 100
GAINS = (0.1, 0.5, 1.0, 2.0, 5.0, 20.0)
NARROW = (2, 4, 8, 100)  # widths of ReLU nets
QUANTITIES = (
    "activation_zero_fraction",
    "activation_log10_norm",
    "derivative_zero_fraction",
    "derivative_saturated_fraction",
    "derivative_mean_square",
    "activation_gradient_log10_norm",
)
DEAD = ("activation_zero_fraction", "activation_dead_sample_fraction", "derivative_dead_sample_fraction")


def cases(scale: str) -> Iterator[Case]:
    """Yield every activation with every gain, narrow ReLU nets, and nets that are shown a sample of zeros."""
    nets = NETS[scale]
    for name in ACTIVATIONS:
        for gain in GAINS:
            network = Network((WIDTH,) * (DEPTH + 1), name, f"lecun_normal(gain={gain})")
            yield Case(make_task(network, quantities=QUANTITIES), nets["map"], _tags("map", name, gain))
    for width in NARROW:
        task = make_task(Network((width,) * (DEPTH + 1), "relu", "he_normal"), quantities=(*QUANTITIES, *DEAD))
        yield Case(task, nets["narrow"], _tags("narrow", f"width {width}", 2**0.5))
    for name in ACTIVATIONS:
        network = Network((WIDTH,) * 11, name, "lecun_normal")
        task = make_task(network, inputs=np.zeros((1, WIDTH)), quantities=DEAD)
        yield Case(task, nets["zero"], _tags("zero", name, 1.0))


def _tags(part: str, setting: str, gain: float) -> dict[str, str | float]:
    return {"part": part, "setting": setting, "gain": gain}


CAPTION = (
    "Zeros against depth. (a) Share of activations that are 0 in ReLU nets with He's weights, by width. (b) Share of "
    "units whose derivative is below 0.01, (c) norm of the activations and (d) norm of the gradient (geometric means) "
    f"in tanh nets of width {WIDTH}, by the gain of the weights. {figures.THEORY} {figures.LIMIT} {figures.BANDS}"
)
CAPTION_OF_MAP = (
    f"Zeros in layer {DEPTH} of nets of width {WIDTH}, by activation (rows) and gain of the weights (columns): share "
    "of units whose (a) activation is 0, (b) derivative is 0, (c) derivative is below 0.01 in size."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw zeros of narrow ReLU nets, tanh against gain, and maps of every activation against gain."""
    import pandas

    table = collected.table
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.4)
    narrow = select(table, part="narrow", quantity="activation_zero_fraction")
    figures.against_depth(axes[0, 0], narrow, by="setting", ylabel="share of $f(s_l)$ = 0, ReLU")
    parts = [narrow]
    for panel, name, quantity, scale, label in (
        (axes[0, 1], "tanh", "derivative_saturated_fraction", "linear", "share of $f'(s_l)$ < 0.01, tanh"),
        (axes[1, 0], "tanh", "activation_log10_norm", "exponent", "norm of $z_l$, tanh"),
        (axes[1, 1], "tanh", "activation_gradient_log10_norm", "exponent", "norm of $dz_l$, tanh"),
    ):
        rows = select(table, part="map", setting=name, quantity=quantity)
        figures.against_depth(panel, rows, by="gain", label="gain {:g}".format, scale=scale, ylabel=label)
        parts.append(rows)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=3.4, sharey=True)
    parts = []
    for panel, quantity, title in (
        (axes[0, 0], "activation_zero_fraction", f"$f(s_{{{DEPTH}}})$ = 0"),
        (axes[0, 1], "derivative_zero_fraction", f"$f'(s_{{{DEPTH}}})$ = 0"),
        (axes[0, 2], "derivative_saturated_fraction", f"$|f'(s_{{{DEPTH}}})|$ < 0.01"),
    ):
        rows = select(table, part="map", quantity=quantity, layer=DEPTH)
        figures.heat_map(panel, rows, rows="setting", columns="gain", limits=(0.0, 1.0), label=f"share of {title}")
        panel.set_ylabel("")
        parts.append(rows)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, "map", f"{CAPTION_OF_MAP} {figures.of_nets(drawn['nets'])}")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = collected.table
    deep = select(table, part="map", layer=DEPTH)
    yield _filters(deep)
    yield _compounding(table)
    yield _unsuitable_scale(table)
    yield _spreading(table)
    yield _relu_zeros(table)
    yield _tanh(deep)


def _slope(name: str, x: float) -> float:
    return activation(name).evaluate("derivative", x)


def _filters(deep: DataFrame) -> Verdict:
    """A06: what f' lets through: values of f' on a grid, and shares of f' below 0.01 in nets."""
    grid = np.linspace(-30, 30, 6001)
    sigmoid = np.array([_slope("sigmoid", x) for x in grid])
    tanh = np.array([_slope("tanh", x) for x in grid])
    relu = {_slope("relu", x) for x in grid}
    far_sigmoid, far_tanh = sigmoid[np.abs(grid) > 5].max(), tanh[np.abs(grid) > 3].max()
    holds = relu == {0.0, 1.0} and sigmoid.max() == 0.25 and tanh.max() == 1.0 and tanh.min() > 0
    row = pick(deep, setting="tanh", gain=20.0, quantity="derivative_saturated_fraction")
    note = (
        f"share of tanh's f' below 0.01 at layer {DEPTH} with weights 20 times too large; "
        f"largest f' of sigmoid beyond 5: {far_sigmoid:.4f}, of tanh beyond 3: {far_tanh:.4f}"
    )
    return judge("A06", row, holds and max(far_sigmoid, far_tanh) < 0.01 and row.ci_low > 0.5, note)


def _loss(table: DataFrame, name: str, gain: float) -> float:
    """Return the log10 of the factor by which a net's gradient changes, a layer."""
    rows = select(table, part="map", setting=name, gain=gain, quantity="activation_gradient_log10_norm")
    return float(pick(rows, layer=0).estimate - pick(rows, layer=DEPTH).estimate) / DEPTH


def _compounding(table: DataFrame) -> Verdict:
    """A07: every layer multiplies by W^T and f': the gradient vanishes unless W makes up for it."""
    bounded = {name: _loss(table, name, 1.0) for name in ("sigmoid", "tanh", "hard_tanh", "erf")}
    passed = pick(table, part="map", setting="relu", gain=1.0, quantity="derivative_mean_square", layer=1)
    open_units = passed.estimate / (
        1.0 - pick(table, part="map", setting="relu", gain=1.0, quantity="derivative_zero_fraction", layer=1).estimate
    )
    made_up = _loss(table, "tanh", 2.0)
    holds = all(loss < 0 for loss in bounded.values()) and abs(open_units - 1.0) < 1e-12 and made_up > 0
    note = (
        "log10 of the gradient's norm lost a layer at gain 1: "
        + ", ".join(f"{name} {loss:.2f}" for name, loss in bounded.items())
        + f"; tanh at gain 2 makes up for it ({made_up:+.2f}); "
        f"f'^2 of a ReLU's open units is {open_units:.3f}, but half are shut"
    )
    row = pick(table, part="map", setting="tanh", gain=1.0, quantity="activation_gradient_log10_norm", layer=0)
    return judge("A07", row, holds, note)


def _unsuitable_scale(table: DataFrame) -> Verdict:
    """A08: with an unsuitable scale f gets closer to 0 with depth: true of too small a scale only."""
    rows = select(table, part="map", quantity="activation_log10_norm")
    small = {name: _falls(rows, name, 0.1) for name in ("relu", "tanh", "gelu", "silu", "elu")}
    large = {name: _falls(rows, name, 5.0) for name in ("relu", "tanh", "gelu", "silu", "elu")}
    holds = all(small.values()) and not any(large.values())
    note = (
        "log10 norm at the last layer of tanh at gain 0.1. Too small a scale drives f to 0 with depth for "
        + ", ".join(name for name, falls in small.items() if falls)
        + "; too large a scale does not (it saturates or explodes); sigmoid's f goes to 1/2, not 0"
    )
    row = pick(rows, setting="tanh", gain=0.1, layer=DEPTH)
    return judge("A08", row, holds, note, when="the scale is too small and f(0) = 0")


def _falls(rows: DataFrame, name: str, gain: float) -> bool:
    layers = select(rows, setting=name, gain=gain).sort_values("layer")["estimate"].to_numpy()
    return bool((np.diff(layers[1:]) < 0).all() and layers[-1] < layers[1] - 1)


def _spreading(table: DataFrame) -> Verdict:
    """A16, first part: a row of zeros stays one where f(0) = 0, in every activation of the registry."""
    dead = select(table, part="zero", quantity="activation_dead_sample_fraction", layer=10)
    stays = {name: pick(dead, setting=name).estimate == 1.0 for name in ACTIVATIONS}
    expected = {name: activation(name).evaluate("f", 0.0) == 0.0 for name in ACTIVATIONS}
    alive = pick(table, part="narrow", setting="width 2", quantity="activation_dead_sample_fraction", layer=DEPTH)
    moves_on = ", ".join(name for name, kept in stays.items() if not kept)
    note = (
        f"share of samples dead at layer {DEPTH} of ReLU nets of width 2. A zero row stays zero through 10 layers "
        f"wherever f(0) = 0 (without bias), tanh included; not for {moves_on}. "
        "Of ReLU and tanh only ReLU gets there from inputs that are not zero"
    )
    born = (
        alive.estimate > 0.5
        and pick(table, part="map", setting="tanh", gain=1.0, quantity="activation_zero_fraction", layer=DEPTH).estimate
        == 0
    )
    return judge("A16", alive, stays == expected and born, note)


def _relu_zeros(table: DataFrame) -> Verdict:
    """A17: the share of zeros is 1 - (1 - 2^-n)^(l-1) / 2: half at once, and more only in narrow nets."""
    rows = select(table, part="narrow", quantity="activation_zero_fraction")
    z = largest_z(rows)
    sixth = {width: pick(rows, setting=f"width {width}", layer=6) for width in NARROW}
    holds = z < LARGEST_Z and sixth[2].ci_low > 0.5 and sixth[4].ci_low > 0.5
    note = (
        "share of zeros at layer 6, by width: "
        + ", ".join(f"{width}: {row.estimate:.3f}" for width, row in sixth.items())
        + f". The exact law is 1 - (1 - 2^-n)^(l-1) / 2 (largest |z| {z:.1f}): half at once, no growth in wide nets"
    )
    return judge("A17", sixth[2], holds, note, when="the net is narrow")


def _tanh(deep: DataFrame) -> Verdict:
    """A18: tanh shrinks to 0 unless W stretches, and saturates if it stretches too much."""
    norm = {gain: pick(deep, setting="tanh", gain=gain, quantity="activation_log10_norm") for gain in GAINS}
    shut = {gain: pick(deep, setting="tanh", gain=gain, quantity="derivative_saturated_fraction") for gain in GAINS}
    shrinks = norm[0.5].ci_high < 0 and norm[1.0].ci_high < norm[2.0].ci_low
    saturates = shut[0.5].estimate == 0 and shut[2.0].estimate < 0.1 and shut[20.0].ci_low > 0.5
    note = (
        f"share of f' below 0.01 at layer {DEPTH} at gain 20; gain 5: {shut[5.0].estimate:.2f}, gain 1: "
        f"{shut[1.0].estimate:.2f}. Norm of z: gain 0.5 10^{norm[0.5].estimate:.1f}, "
        f"gain 1 10^{norm[1.0].estimate:.1f}, gain 2 10^{norm[2.0].estimate:.1f}"
    )
    return judge("A18", shut[20.0], shrinks and saturates, note)


study = Study(
    name="zero_fractions",
    title="Zeros of f and f' against depth, activation and scale of the weights",
    cases=cases,
    draw=draw,
    claims=("A06", "A07", "A08", "A16", "A17", "A18"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
