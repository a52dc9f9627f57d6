"""Where signals and gradients leave narrow number formats, against depth and gain, and what scaling the loss saves."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.number_formats import FORMATS, NumberFormat
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.mean_field import fixed_point
from stabsim.theory.number_formats import depth_at
from stabsim.verdicts import judge, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

NETS = {"quick": 12, "paper": 400}
WIDTH = 100
DEPTH = 60
OCTAVE = 3  # gains an octave
GAINS = tuple(round(2.0 ** (step / OCTAVE), 2) for step in range(2 * OCTAVE, -2 * OCTAVE - 1, -1))
SCALED_GAIN = 0.8  # of the nets whose loss is scaled
SMALL = 2.0**-10  # root mean square of the gradient that is injected there
SCALE_POWERS = tuple(range(30, -1, -2))
SCALES = tuple(2.0**power for power in SCALE_POWERS)
LOST = 0.05  # a larger share of gradients at 0 or not finite is no stable training
STABLE = (1e-6, 1e3)  # sizes of gradients that stable training wants (claim B05)
LEVELS = (("largest", "-"), ("smallest_normal", "--"), ("flush_threshold", "-"))
LEGEND = (("an end of the range", "-"), ("the smallest normal number", "--"))
ORDER = ("float16", "bfloat16", "float8_e5m2", "float8_e4m3")
FORWARD = ("activation_failed_fraction", "preactivation_overflow_fraction")
BACKWARD = (
    "activation_gradient_failed_fraction", "activation_gradient_overflow_fraction", "activation_gradient_zero_fraction",
)  # fmt: skip


def cases(scale: str) -> Iterator[Case]:
    """Yield ReLU nets forward and tanh nets backward for every format and gain, and tanh nets for every loss scale.

    Forward, tanh nets would never overflow; so it is in them that the backward pass is seen alone.
    """
    small = SMALL * np.random.default_rng(0).normal(size=(1, WIDTH))
    for name in ORDER:
        for gain in GAINS:
            relu, tanh = (
                Network((WIDTH,) * (DEPTH + 1), activation, f"lecun_normal(gain={gain * balanced})")
                for activation, balanced in (("relu", math.sqrt(2.0)), ("tanh", 1.0))
            )
            tags: dict[str, str | float] = {"format": name, "gain": gain, "loss_scale": 1.0}
            yield Case(make_task(relu, precision=name, quantities=FORWARD), NETS[scale], {"part": "forward", **tags})
            yield Case(make_task(tanh, precision=name, quantities=BACKWARD), NETS[scale], {"part": "backward", **tags})
        network = Network((WIDTH,) * (DEPTH + 1), "tanh", f"lecun_normal(gain={SCALED_GAIN})")
        for loss_scale in SCALES:
            task = make_task(network, precision=name, loss_scale=loss_scale, output_gradient=small, quantities=BACKWARD)
            tags = {"part": "scaled", "format": name, "gain": SCALED_GAIN, "loss_scale": loss_scale}
            yield Case(task, NETS[scale], tags)


FORMATS_DRAWN = (
    f"(a) float16, (b) bfloat16, (c) float8 E5M2 and (d) float8 E4M3, nets of {DEPTH} layers of {WIDTH} units"
)
LINES = (
    "Lines: where the root mean square of wide nets reaches an end of the format's range (solid) or its smallest "
    "normal number (dashed)."
)
CAPTION_OF_LOSS_SCALE = (
    f"What scaling the loss saves: {FORMATS_DRAWN}, tanh, gain {SCALED_GAIN:g}, with a gradient of root mean square "
    f"2^{math.log2(SMALL):.0f} at the last layer. Share of a layer's gradient that is not finite (orange) or 0 (blue, "
    f"hatched), against layers passed and the factor on the loss. {LINES}"
)


def caption_of(nets: str, failing: str) -> str:
    """Return the caption of a map of nets that fail."""
    return (
        f"Where narrow number formats fail, against layers passed and gain: {FORMATS_DRAWN}. Share of {nets} nets "
        f"whose {failing} overflows (orange) or is all 0 (blue, hatched); a gain of 1 keeps mean squares. {LINES}"
    )


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw maps of the nets that fail on their way forward and back, and of the gradients that a scaled loss loses."""
    table = collected.table
    rows = _signed(table, "forward", "activation_failed_fraction", "preactivation_overflow_fraction")
    yield Drawing(
        _maps(rows, "gain", _failed("ReLU, forward"), _gain_lines), rows, "forward", caption_of("ReLU", "signal")
    )
    rows = _signed(table, "backward", "activation_gradient_failed_fraction", "activation_gradient_overflow_fraction")
    yield Drawing(
        _maps(rows, "gain", _failed("tanh, backward"), _gain_lines),
        rows,
        "backward",
        caption_of("tanh", "gradient, on its way back,"),
    )
    rows = _signed(table, "scaled", "activation_gradient_zero_fraction", "activation_gradient_overflow_fraction")
    label = "share of $dz_l$ lost:\nnot finite (+), zero (\N{MINUS SIGN}, hatched)"
    yield Drawing(_maps(rows, "loss scale", label, _scale_lines), rows, "loss_scale", CAPTION_OF_LOSS_SCALE)


def _failed(nets: str) -> str:
    return f"share of nets failed ({nets}):\nby overflow (+), by zeros (\N{MINUS SIGN}, hatched)"


def _signed(table: DataFrame, part: str, share: str, overflow: str) -> DataFrame:
    """Return what is lost: a share of nets that fail, or of zeros, negative unless numbers are not finite there."""
    over = select(table, part=part, quantity=overflow)[["format", "gain", "loss_scale", "layer", "estimate"]]
    rows = select(table, part=part, quantity=share)
    rows = rows.merge(over.rename(columns={"estimate": "overflow"}), "left", ["format", "gain", "loss_scale", "layer"])
    lost = rows["estimate"] if share.endswith("failed_fraction") else rows["overflow"]
    rows["lost"] = lost.where(rows["overflow"] > 0, -rows["estimate"])
    rows["passed"] = rows["layer"] if part == "forward" else DEPTH - rows["layer"]
    rows["loss scale"] = [f"2$^{{{math.log2(value):.0f}}}$" for value in rows["loss_scale"]]
    return rows.sort_values(["format", "gain", "loss_scale", "passed"], ascending=[True, False, False, True])


def _maps(rows: DataFrame, vertical: str, label: str, lines: Any) -> Any:
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=5.0, sharex=True, sharey=True)
    for panel, name in zip(axes.flat, ORDER, strict=True):
        part = select(rows, format=name)
        figures.heat_map(
            panel, part, rows=vertical, columns="passed", values="lost", center=0.0, limits=(-1.0, 1.0), label=label
        )
        lines(panel, FORMATS[name], str(rows["part"].iloc[0]))
        below, left = panel in axes[1], panel in axes[:, 0]
        ylabel = {"gain": "gain (1 keeps mean squares)"}.get(vertical, vertical) if left else ""
        panel.set(xlabel="layers passed" if below else "", ylabel=ylabel)
    entries = [Line2D([], [], label=label, **_looks(dashes)) for label, dashes in LEGEND]
    axes[0, 1].legend(handles=entries, loc="center", title="wide nets: root mean square at", title_fontsize=7)
    figures.panel_labels(axes.flat, ORDER)
    return figure


@functools.cache
def _factor(gain: float, part: str) -> float:
    """Return the factor on the mean square, a layer: of wide nets."""
    return gain**2 if part == "forward" or gain <= 1.0 else fixed_point("tanh", gain**2).chi


def _crossing(level: float, factor: float, start: float = 1.0) -> float:
    """Return the depth at which a level is reached: NaN where it never is, 0 where the start is beyond it."""
    if start == level or (start > level) == (level > 1.0):
        return 0.0
    if factor == 1.0 or (level > start) != (factor > 1.0):
        return math.nan
    return depth_at(level, factor, start=start).depth


def _gain_lines(panel: Axes, form: NumberFormat, part: str) -> None:
    """Draw where the root mean square of wide nets reaches the ends of a format, and the end of its normal numbers."""
    gains = 2.0 ** np.linspace(-2.0, 2.0, 201)
    factors = [_factor(gain, part) for gain in gains]
    for name, dashes in LEVELS:
        depths = np.array([_crossing(getattr(form, name), factor) for factor in factors])
        _line(panel, depths, OCTAVE * (2.0 - np.log2(gains)), dashes)


def _scale_lines(panel: Axes, form: NumberFormat, _part: str) -> None:
    """Do the same for gradients that shrink, against the scale of the loss."""
    powers = np.linspace(SCALE_POWERS[-1], SCALE_POWERS[0], 201)
    for name, dashes in LEVELS[1:]:
        level = getattr(form, name)
        starts = [SMALL * 2.0**power for power in powers]
        _line(panel, np.array([_crossing(level, SCALED_GAIN**2, start) for start in starts]), _place(powers), dashes)
    height = float(_place(math.log2(form.largest / SMALL)))
    if height >= 0:
        _line(panel, np.array([0.0, DEPTH]), np.array([height, height]), "-")


def _place(power: Any) -> Any:
    """Return the row of a scale, from the top."""
    return (SCALE_POWERS[0] - power) / (SCALE_POWERS[0] - SCALE_POWERS[1])


def _line(panel: Axes, depths: Any, rows: Any, dashes: str) -> None:
    shown = np.where(depths <= DEPTH, depths, np.nan)
    panel.plot(shown + 0.5, rows + 0.5, **_looks(dashes))


def _looks(dashes: str) -> dict[str, Any]:
    return {"color": "black", "linestyle": dashes, "linewidth": 1.0}


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    table = collected.table
    yield _overflow(table)
    yield _vanishing(table)
    yield _range(table)


def _first_failing(table: DataFrame, part: str, name: str, gain: float) -> float:
    """Return after how many layers half of the nets have failed: NaN if they have not."""
    tensor = "activation" if part == "forward" else "activation_gradient"
    rows = select(table, part=part, format=name, gain=gain, quantity=f"{tensor}_failed_fraction")
    failed = rows[rows["estimate"] >= 0.5]["layer"]
    if failed.empty:
        return math.nan
    return float(failed.min() if part == "forward" else DEPTH - failed.max())


def _overflow(table: DataFrame) -> Verdict:
    """B03: exploding signals and gradients overflow, in float16 long before bfloat16, where theory has them."""
    found, predicted = {}, {}
    for part in ("forward", "backward"):
        for name in ORDER:
            found[part, name] = _first_failing(table, part, name, GAINS[0])
            predicted[part, name] = _crossing(FORMATS[name].largest, _factor(GAINS[0], part))
    near = all(
        math.isnan(layer) if predicted[key] > DEPTH else abs(layer - predicted[key]) <= 3.0
        for key, layer in found.items()
    )
    first = all(
        found[part, "float8_e4m3"] < found[part, "float16"] and not found[part, "bfloat16"] <= found[part, "float16"]
        for part in ("forward", "backward")
    )
    row = pick(
        table, part="backward", format="float16", gain=GAINS[0], quantity="activation_gradient_failed_fraction", layer=0
    )
    note = (
        f"share of tanh nets of gain {GAINS[0]:g} whose gradient in float16 has overflown {DEPTH} layers down. Layers "
        "until half of the nets have failed, forward (ReLU) and backward (tanh), and where the root mean square leaves "
        "the range: "
        + "; ".join(
            f"{name} {found['forward', name]:.0f} ({predicted['forward', name]:.1f}) and "
            f"{found['backward', name]:.0f} ({predicted['backward', name]:.1f})"
            for name in ORDER
        )
        + ". bfloat16 has the range of float32; the learning rate is not looked at here"
    )
    return judge("B03", row, near and first and row.ci_low > 0.5, note.replace("nan", "none"))


def _vanishing(table: DataFrame) -> Verdict:
    """B04: vanishing gradients become exact zeros next to the input; scaling the loss brings them back."""
    zeros = select(table, part="scaled", quantity="activation_gradient_zero_fraction")
    bottom = {(name, scale): pick(zeros, format=name, loss_scale=scale, layer=1) for name in ORDER for scale in SCALES}
    top = pick(zeros, format="float16", loss_scale=1.0, layer=DEPTH - 5)
    plain, scaled = bottom["float16", 1.0], bottom["float16", 2.0**20]
    wide = bottom["bfloat16", 1.0]
    note = (
        f"share of exact zeros in dz of layer 1 of {DEPTH}, tanh, gain {SCALED_GAIN:g}, float16, a gradient of "
        f"{SMALL:.0e} at the output: without scaling; at layer {DEPTH - 5} {top.estimate:.2f}; with the loss times "
        f"2^20 {scaled.estimate:.3f}; in bfloat16 without scaling {wide.estimate:.3f}. A learning rate multiplies "
        "zeros, a loss scale acts before they are made"
    )
    holds = plain.ci_low > 0.5 and max(top.estimate, scaled.estimate, wide.estimate) < LOST
    return judge("B04", plain, holds, note)


def _range(table: DataFrame) -> Verdict:
    """B05: the window of gradients that a format holds, by the share that is lost at each root mean square.

    Root mean squares are those of wide nets, by theory: the gain times less at each layer down.
    """
    lost = select(table, part="scaled", quantity="activation_gradient_zero_fraction").merge(
        select(table, part="scaled", quantity="activation_gradient_overflow_fraction"),
        on=["format", "loss_scale", "layer"],
    )
    sizes = (lost["loss_scale"] * SMALL * SCALED_GAIN ** (DEPTH - lost["layer"])).to_numpy()
    share = (lost["estimate_x"] + lost["estimate_y"]).to_numpy()
    kept = {}
    for name in ORDER:
        good = sizes[(lost["format"] == name).to_numpy() & (share < LOST)]
        kept[name] = (float(good.min(initial=math.inf)), float(good.max(initial=0.0)))
    low, _ = kept["float16"]
    inside = [name for name, ends in kept.items() if ends[0] <= STABLE[0] and ends[1] >= STABLE[1]]
    note = (
        f"least root mean square (by theory) of a gradient of which float16 loses less than {100 * LOST:.0f}%. "
        f"Windows, of the sizes {sizes.min():.0e} to {sizes.max():.0e} that were tried: "
        + ", ".join(f"{name} {ends[0]:.0e} to {ends[1]:.0e}" for name, ends in kept.items())
        + ". Remedies are the subject of other studies"
    )
    verdict = f"holds when numbers are {' or '.join(inside)}" if inside else "fails"
    return Verdict("B05", verdict, low, low, low, math.nan, note)


study = Study(
    name="float_formats",
    title="Narrow number formats: where signals and gradients leave them, and what scaling the loss saves",
    cases=cases,
    draw=draw,
    claims=("B03", "B04", "B05"),
    verdicts=verdicts,
)

if __name__ == "__main__":
    run_script(study)
