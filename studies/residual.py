"""Residual nets: which scaling of the branch keeps the signal, and what products turned into sums do to gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.structures import Skip
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.residual import normalized_branch_variance
from stabsim.verdicts import LARGEST_Z, converged, judge, largest_z, pick, select

if TYPE_CHECKING:
    from pandas import DataFrame

NETS = {"quick": 1000, "paper": 20_000}
WIDTH = 256
BLOCKS = 50  # of two layers
DEPTHS = (5, 10, 20, 50, 100)  # in blocks
BATCH = 16  # where there is a batch norm
SIGNAL, GRADIENT = "activation_mean_square", "activation_gradient_mean_square"
NORM, GRADIENT_NORM = "activation_log10_norm", "activation_gradient_log10_norm"
STREAM, STREAM_GRADIENT_NORM = "preactivation_variance", "preactivation_gradient_log10_norm"
QUANTITIES = (SIGNAL, GRADIENT, NORM, GRADIENT_NORM)
STABLE = (-6.0, 3.0)  # log10 of the sizes that B05 asks of gradients

# With He's weights in front of f, those behind it keep the mean square of a ReLU if theirs is 1 / fan-in.
KEEPING = math.sqrt(0.5)
ONE, TWICE, ROOT, RECIPROCAL, FIXUP, ZERO = (
    "branch 1", "branch 1, He twice", "branch $1/\\sqrt{L}$", "branch $1/L$", "Fixup", "last weights 0",
)  # fmt: skip
SCALED = (ONE, ROOT, RECIPROCAL)
PLAIN = ("no shortcut, Xavier", "no shortcut, He")
NORMALIZED = ("pre-activation", "post-activation", "no shortcut")


def skip(name: str, blocks: int) -> Skip:
    """Return the residual connections of two layers with f between them."""
    if name == FIXUP:
        return Skip.fixup(blocks)
    branch = {ROOT: blocks**-0.5, RECIPROCAL: 1.0 / blocks}.get(name, 1.0)
    last = {TWICE: 1.0, ZERO: 0.0}.get(name, KEEPING)
    return Skip(branch, layers=2, activation="between", last=last)


def cases(scale: str) -> Iterator[Case]:
    """Yield ReLU nets with every scaling, at several depths; without shortcuts; and with batch normalization."""
    nets = NETS[scale]
    for name in (ONE, TWICE, ROOT, RECIPROCAL, FIXUP, ZERO):
        for blocks in DEPTHS if name in SCALED else (BLOCKS,):
            network = Network(_widths(blocks), "relu", "he_normal", skip=skip(name, blocks))
            yield Case(
                make_task(network, quantities=QUANTITIES), nets, {"part": "scaled", "setting": name, "blocks": blocks}
            )
    for name, weights in zip(PLAIN, ("glorot_normal", "he_normal"), strict=True):
        network = Network(_widths(BLOCKS), "relu", weights)
        yield Case(
            make_task(network, quantities=QUANTITIES), nets, {"part": "scaled", "setting": name, "blocks": BLOCKS}
        )
    orders = (Skip(layers=2, activation="before"), Skip(layers=2, activation="after"), None)
    for name, order in zip(NORMALIZED, orders, strict=True):
        network = Network(_widths(BLOCKS), "relu", "he_normal", normalization="batch(epsilon=0)", skip=order)
        task = make_task(network, batch=BATCH, quantities=(STREAM, STREAM_GRADIENT_NORM))
        yield Case(task, nets // 10, {"part": "normalized", "setting": name, "blocks": BLOCKS})


def _widths(blocks: int) -> tuple[int, ...]:
    return (WIDTH,) * (2 * blocks + 1)


def at_blocks(table: DataFrame) -> DataFrame:
    """Return the rows at the ends of blocks, by block."""
    rows = table[table["layer"] % 2 == 0]
    return rows.assign(layer=rows["layer"] // 2)


def growth(table: DataFrame) -> DataFrame:
    """Return the last mean square of every depth, by depth: the inputs' is 1."""
    rows = select(table, part="scaled", setting=SCALED, quantity=SIGNAL)
    return rows[rows["layer"] == 2 * rows["blocks"]].assign(layer=lambda last: last["blocks"])


def stream(table: DataFrame) -> DataFrame:
    """Return the variance of what shortcuts carry: it grows by what each branch adds, 1."""
    rows = at_blocks(select(table, part="normalized", quantity=STREAM))
    carried = select(rows, setting=NORMALIZED[0])
    known = {block: normalized_branch_variance(block) for block in carried["layer"]}  # the inputs have variance 1
    return rows.assign(theory=rows["layer"].map(known).where(rows["setting"] == NORMALIZED[0]))


CAPTION = (
    f"Signals and gradients in residual ReLU nets of {BLOCKS} blocks of two layers, width {WIDTH}, by the factor on "
    "the branch, where L is the number of blocks. (a), (b) Mean square of the signal against the block. (c) Mean "
    "square at the last block against the number of blocks. (d) Mean square of the gradient on its way back. (e) "
    "Variance of pre-activations and (f) norm of their gradient (geometric mean) with batch normalization, by where "
    f"it stands, {BATCH} samples. {figures.THEORY} {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw signals and gradients against blocks, growth against depth, and nets with batch normalization."""
    import pandas

    table = collected.table
    deep = at_blocks(select(table, part="scaled", blocks=BLOCKS))
    apart, together = (TWICE, ONE, ROOT, PLAIN[0]), (ROOT, RECIPROCAL, FIXUP, ZERO)
    normalized = at_blocks(select(table, part="normalized", quantity=STREAM_GRADIENT_NORM))
    panels = (
        (select(deep, quantity=SIGNAL, setting=apart), "block $l$", "mean square of $x_l$", "log"),
        (select(deep, quantity=SIGNAL, setting=together), "block $l$", "mean square of $x_l$", "linear"),
        (select(growth(table), setting=(ROOT, RECIPROCAL)), "blocks $L$", "mean square of $x_L$", "linear"),
        (select(deep, quantity=GRADIENT, setting=apart), "block $l$", "mean square of $dx_l$", "log"),
        (stream(table), "block $l$", "variance of $s$, batch norm", "log"),
        (normalized, "block $l$", "norm of $ds$, batch norm", "exponent"),
    )
    figure, axes = figures.panels(rows=2, columns=3, width=figures.PAGE, height=4.4)
    for panel, (rows, xlabel, ylabel, kind) in zip(axes.flat, panels, strict=True):
        figures.against_depth(panel, rows, by="setting", scale=kind, xlabel=xlabel, ylabel=ylabel)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([rows for rows, *_ in panels])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    yield _variance(collected.table)
    yield _sums(collected.table)


def _variance(table: DataFrame) -> Verdict:
    """A22: x + F(x) doubles the variance a block; which scalings of the branch keep it.

    (1 + 1/L)^L and (1 + 1/L^2)^L are below e at every depth: that is to keep it. Behind a batch norm it grows by 1.
    """
    rows = converged(select(table, part="scaled", setting=(*SCALED, TWICE, FIXUP, ZERO), quantity=(SIGNAL, GRADIENT)))
    carried = stream(table)
    z = max(largest_z(rows), largest_z(carried))
    ends = {name: pick(growth(table), setting=name, layer=BLOCKS) for name in SCALED}
    kept = ends[ROOT].ci_low < math.e and ends[RECIPROCAL].ci_low < math.e
    doubled = pick(growth(table), setting=ONE, layer=DEPTHS[1])
    behind = pick(carried, setting=NORMALIZED[0], layer=BLOCKS)
    note = (
        f"mean square after {BLOCKS} blocks x + F(x) / sqrt(L), towards e = {math.e:.3f}; scaled by 1 / L "
        f"{ends[RECIPROCAL].estimate:.3f}; unscaled it doubles: {doubled.estimate:.4g} after {DEPTHS[1]}; Fixup and "
        f"zero last weights keep it. With batch norm in front of the branch the variance is {behind.estimate:.1f} "
        f"after {BLOCKS} (theory {behind.theory:g}). Largest |z| of signals, gradients and that variance "
        f"against theory {z:.1f}"
    )
    when = "the branch is scaled by 1 / sqrt(L) or less"
    return judge("A22", ends[ROOT], z < LARGEST_Z and kept and doubled.ci_low > math.e, note, when=when)


def _sums(table: DataFrame) -> Verdict:
    """B05: with shortcuts gradients at the input of 100 layers are of the size of those at the output."""
    rows = select(table, part="scaled", blocks=BLOCKS, quantity=GRADIENT_NORM, layer=0)
    sizes = {name: pick(rows, setting=name) for name in (ROOT, FIXUP, ZERO, ONE, *PLAIN)}
    size = {name: row.estimate - 0.5 * math.log10(WIDTH) for name, row in sizes.items()}
    inside = {name: STABLE[0] < value < STABLE[1] for name, value in size.items()}
    holds = inside[ROOT] and inside[FIXUP] and inside[ZERO] and not inside[ONE] and not inside[PLAIN[0]]
    note = (
        f"log10 of the norm of dx_0 after {BLOCKS} blocks of two layers, branch 1 / sqrt(L): its numbers are of size "
        f"10^{size[ROOT]:.1f}, those at the output 1; branch 1: 10^{size[ONE]:.1f}; without shortcuts "
        f"Xavier 10^{size[PLAIN[0]]:.1f}, He 10^{size[PLAIN[1]]:.1f}"
    )
    return judge("B05", sizes[ROOT], holds, note, when="the branch is scaled by 1 / sqrt(L) or less")


study = Study(
    name="residual",
    title="Residual nets: which scaling of the branch keeps signals and gradients",
    cases=cases,
    draw=draw,
    claims=("A22", "B05"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
