"""Gradients through time: RNNs of every spectral radius, LSTMs of every forget bias, and GRUs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.structures import Cell, Gate
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.recurrent import log_cell_gradient
from stabsim.verdicts import change, judge, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

NETS = {"quick": 200, "paper": 5000}
WIDTH, STEPS = 100, 100
LAG = 100
STATE, CELL = "activation_gradient_log10_norm", "cell_state_gradient_log10_norm"
RANGE = (-6.0, 3.0)  # log10 of the gradients that stable training wants

RADII = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
KINDS = {  # of RNNs whose spectral radius is swept: activation, law of W, law of V
    "linear, Gaussian": ("linear", "lecun_normal", "zeros"),
    "tanh, Gaussian": ("tanh", "lecun_normal", "lecun_normal"),
    "tanh, orthogonal": ("tanh", "orthogonal", "lecun_normal"),
}
BIASES = (0.0, 1.0, 2.0, 5.0)  # of the forget gate
SMALL = "normal(std=0.001)"
# The largest eigenvalue is the radius but for terms in 1 / sqrt(width) (Rider & Sinclair 2014, arXiv:1209.6085).
ROOM = math.log10(1.0 + WIDTH**-0.5)
FROM, TO = 80, 20  # time steps between which gradients change at the rate that is drawn


def _gated(kind: str, **gates: Gate) -> Cell:
    return Cell(kind, gates=gates)


def _cases() -> Iterator[tuple[str, str, Network]]:
    """Yield what a case is for, what it is called, and its network."""
    widths = (WIDTH,) * (STEPS + 1)
    for name, (activation, law, of_inputs) in KINDS.items():
        for radius in RADII:
            cell = Cell("rnn", recurrent_weights=f"{law}(gain={radius})")
            yield "radius", f"{name} {radius:g}", Network(widths, activation, of_inputs, cell=cell)
    # (Le, Jaitly & Hinton 2015, arXiv:1504.00941); a unit passes a gradient on while it is above 0.
    cell = Cell("rnn", recurrent_weights="identity")
    yield "unit", "IRNN", Network(widths, "relu", "lecun_normal", cell=cell)
    for weights, label in (("lecun_normal", "forget bias"), (SMALL, "small weights, forget bias")):
        for bias in BIASES:
            network = Network(widths, "tanh", weights, cell=_gated("lstm", forget=Gate(bias=bias)))
            yield "forget", f"{label} {bias:g}", network
    for bias in (0.0, 2.0):
        yield (
            "update",
            f"GRU, update bias {bias:g}",
            Network(widths, "tanh", "lecun_normal", cell=_gated("gru", update=Gate(bias=bias))),
        )


def cases(scale: str) -> Iterator[Case]:
    """Yield nets with standard normal inputs at every time step, whose loss sees the last state."""
    for purpose, name, network in _cases():
        quantities = (STATE, CELL) if network.cell.kind == "lstm" else (STATE,)
        task = make_task(network, quantities=quantities)
        yield Case(task, NETS[scale], {"purpose": purpose, "setting": name, "cell": network.cell.kind})


def decay(table: DataFrame) -> DataFrame:
    """Return log10 of the gradient's norm by lag, relative to that at the last time step."""
    import pandas

    parts = []
    for _, rows in table.groupby(["setting", "quantity"], sort=False, observed=True):
        last = pick(rows, layer=STEPS)
        difference, error = change(last, rows)
        error = np.where(rows["layer"] == STEPS, 0.0, error)
        found = rows.assign(estimate=difference, std_error=error, layer=STEPS - rows["layer"])
        parts.append(with_interval(found).sort_values("layer"))
    return pandas.concat(parts)


def rates(table: DataFrame) -> DataFrame:
    """Return log10 of the factor on the gradient's norm at each step back, by spectral radius."""
    import pandas

    rows = []
    for name in KINDS:
        for radius in RADII:
            lines = select(table, setting=f"{name} {radius:g}", quantity=STATE)
            start, end = (pick(lines, layer=layer) for layer in (FROM, TO))
            estimate, error = (number / (FROM - TO) for number in change(start, end))
            limit = math.log10(radius) if name.startswith("linear") else math.nan
            rows.append((name, radius, estimate, error, limit))
    found = pandas.DataFrame(rows, columns=["kind", "layer", "estimate", "std_error", "infinite_width"])
    return with_interval(found).assign(theory=math.nan)


def _with_path(rows: DataFrame) -> DataFrame:
    """Add what the forget gate alone passes: sigma(bias)^lag."""
    bias = rows["setting"].str.extract(r"bias ([\d.]+)$", expand=False).astype(float)
    pairs = zip(bias, rows["layer"], strict=True)
    return rows.assign(path=[log_cell_gradient(b, int(lag)) / math.log(10) for b, lag in pairs])


SHOWN = {  # settings whose decay is compared: cell and quantity in words
    "tanh, Gaussian 1": "RNN, Gaussian",
    "tanh, orthogonal 1": "RNN, orthogonal",
    "IRNN": "IRNN",
    "GRU, update bias 0": "GRU",
    "GRU, update bias 2": "GRU, bias 2",
    "forget bias 1": "LSTM, bias 1",
    "forget bias 5": "LSTM, bias 5",
}


def _compared(table: DataFrame) -> DataFrame:
    rows = decay(select(table, setting=tuple(SHOWN)))
    rows = rows[(rows["quantity"] == CELL) | (rows["cell"] != "lstm")]
    return rows.assign(line=rows["setting"].map(SHOWN))


CAPTION = (
    f"Gradients through time in recurrent nets of {WIDTH} units (geometric means of norms). (a) Gradient by the state "
    f"against the lag, of RNNs, GRUs and LSTMs (by the cell), relative to lag 0; gray: from 10^{RANGE[0]:.0f} to "
    f"10^{RANGE[1]:.0f}. (b) log10 of the factor of each step back against the spectral radius of the recurrent "
    "weights. (c), (d) Gradient by the cell of LSTMs of several forget biases, with tiny weights and with larger "
    f"ones; dashed: what the forget gate passes on by its bias alone. {figures.LIMIT} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw gradients against lag, their rate against the spectral radius, and what forget gates pass."""
    import pandas

    table = collected.table
    compared, swept = _compared(table), rates(table)
    forget = _with_path(decay(select(table, purpose="forget", quantity=CELL)))
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.8)
    looks: dict[str, Any] = {"scale": "exponent", "xlabel": "lag (time steps before the last)"}
    order = list(SHOWN.values())
    figures.against_depth(
        axes[0, 0],
        compared,
        by="line",
        order=order,
        ylabel="gradient by the state (LSTM: the\ncell's), relative to lag 0",
        **looks,
    )
    _between(axes[0, 0])
    figures.against_depth(
        axes[0, 1],
        swept,
        by="kind",
        xlabel="spectral radius of $W$",
        ylabel="log10 of the factor on the\ngradient's norm, each step back",
    )
    axes[0, 1].axhline(0.0, color="black", linewidth=0.5)
    for panel, label, std in ((axes[1, 0], "small weights, forget bias", 0.001), (axes[1, 1], "forget bias", 0.1)):
        rows = forget[forget["setting"].str.startswith(label)]
        rows = rows.assign(line="bias " + rows["setting"].str.removeprefix(f"{label} "), theory=math.nan)
        text = f"gradient by the cell,\nweights of std {std:g}"
        figures.against_depth(panel, rows, by="line", ylabel=text, **looks)
        paths = [lines.sort_values("layer") for _, lines in rows.groupby("line")]
        for number, path in enumerate(paths):
            name = None if number else r"gate alone, $\sigma(b)^\mathrm{lag}$"
            panel.plot(path["layer"], path["path"], color="black", linestyle="dashed", linewidth=0.8, label=name)
        panel.set_ylim(-32.0, 3.0)
        panel.legend(handles=panel.lines[-len(paths) :][:1], loc="lower left")
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([compared, swept, forget])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")


def _between(panel: Axes) -> None:
    """Shade the gradients that stable training wants."""
    panel.axhspan(*RANGE, color="0.9", zorder=0)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    yield _one_matrix(collected.table)
    yield _in_range(collected.table)


def _one_matrix(table: DataFrame) -> Verdict:
    """A09: powers of one matrix vanish or explode, as its spectral radius is below 1 or above."""
    found = rates(table)
    linear = select(found, kind="linear, Gaussian")
    below, above = linear[linear["layer"] < 1], linear[linear["layer"] > 1]
    near = float((linear["estimate"] - linear["infinite_width"]).abs().max())
    orthogonal = pick(found, kind="tanh, orthogonal", layer=1.0)
    saturated = pick(found, kind="tanh, Gaussian", layer=3.0)
    shrinks, grows = pick(linear, layer=0.9), pick(linear, layer=1.1)
    holds = bool((below["ci_high"] < 0).all() and (above["ci_low"] > 0).all()) and near < ROOM
    note = (
        f"log10 of the factor on the gradient's norm a step back, of a linear RNN of spectral radius 0.9; of 1.1 "
        f"{grows.estimate:+.4f}; largest distance from log10 of the radius {near:.4f}, bound {ROOM:.3f} = "
        f"log10(1 + 1/sqrt(width)). What decides over many steps is the modulus of the eigenvalues: the largest "
        f"singular value tends to 2 r = {2 * shrinks.layer:g} where the gradient vanishes. With "
        f"tanh and inputs of variance 1, f' shrinks it too: {orthogonal.estimate:+.3f} with orthogonal W, "
        f"{saturated.estimate:+.3f} with Gaussian W of radius 3. Theory: infinite width"
    )
    return judge("A09", shrinks._replace(theory=shrinks.infinite_width), holds, note)


def _in_range(table: DataFrame) -> Verdict:
    """B05: products leave the range of stable training, and cells that add do not, if their gates are open."""
    compared = _compared(table)
    at_end = select(compared, layer=LAG).set_index("line")
    inside = (at_end["ci_low"] > RANGE[0]) & (at_end["ci_high"] < RANGE[1])
    lags = {line: _steps_inside(select(compared, line=line)) for line in SHOWN.values()}
    opened = pick(select(compared, layer=LAG), line="LSTM, bias 5")
    holds = bool(inside["LSTM, bias 5"]) and not inside["RNN, Gaussian"] and not inside["RNN, orthogonal"]
    kept = ", ".join(f"{line} {lag}" for line, lag in lags.items())
    note = (
        f"log10 of the gradient by an LSTM's cell, forget bias 5, over {LAG} steps. Steps within 1e-6 .. 1e3, to "
        f"{LAG}: {kept}. The sum of a cell keeps its gradient only as far as its gate is open: sigma(1)^{LAG} is "
        f"{10 ** (log_cell_gradient(1.0, LAG) / math.log(10)):.0e}"
    )
    return judge("B05", opened, holds, note, when="the forget gate is opened by its bias")


def _steps_inside(rows: DataFrame) -> int:
    """Return the last lag up to which the mean of log10 stays in the range."""
    outside = rows[(rows["estimate"] < RANGE[0]) | (rows["estimate"] > RANGE[1])]
    return int(outside["layer"].min()) - 1 if len(outside) else LAG


study = Study(
    name="recurrent",
    title="Gradients through time: spectral radius, forget gates, and what keeps them",
    cases=cases,
    draw=draw,
    claims=("A09", "B05"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
