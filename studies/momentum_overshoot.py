"""Momentum on bowls of one number: when its term exceeds that of the gradient, and when and how far it overshoots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory import overshoot
from stabsim.training import optimizer
from stabsim.verdicts import Row, among, counted, exactly, judge, k_of_n, pick, select, tabulated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Floats = NDArray[np.float64]


class Effort(NamedTuple):
    """How many of everything."""

    nets: int
    momenta: int
    bowls: int  # for each momentum


EFFORT = {"quick": Effort(400, 40, 60), "paper": Effort(10_000, 400, 500)}
NOTES, CURVATURES = "bowl_momentum", np.array([0.1, 2.0])  # the notes': x^2/20 + y^2
CROSSING_STEPS, EXACT = 400, 1e-6
LOWEST, HIGHEST = 1e-3, 4.0  # of rate times curvature on the map
SHOWN_MOMENTA = (0.0, 0.25, 0.5, 0.9, 0.99)
KINDS = ("neither", "outweighs", "crosses", "both")


def cases(scale: str) -> Iterator[Case]:
    """Yield linear nets of one weight, whose loss is a bowl of one number: how large the gradients of samples are."""
    task = make_task(Network((1, 1), "linear", "lecun_normal"), quantities=("weight_gradient_mean_square",))
    yield Case(task, EFFORT[scale].nets, {"net": "one weight"})


def measure(scale: str) -> DataFrame:
    """Return how many first swings are as theory says, where they lie on the map, and how far they go."""
    effort = EFFORT[scale]
    random = np.random.Generator(np.random.Philox(60))
    return tabulated([*swings(random, effort), *overshoots(random), *notes(random)])


def swings(random: np.random.Generator, effort: Effort) -> Iterator[Row]:
    """Yield in how many random bowls of one number the first swing is as theory says, and where they lie on the map."""
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    errors: list[float] = []
    for place in range(effort.momenta):
        momentum = (place + float(random.uniform())) / effort.momenta
        highest = 2.0 * (1.0 + momentum)
        evenly, by_decade = random.uniform(0.0, 1.0, (2, effort.bowls // 2))
        products = np.concatenate([highest * evenly, highest * (LOWEST / highest) ** by_decade])
        seen = first_swing(random, products, momentum)
        turn = overshoot.turning_steps(products, momentum)
        outweighs = np.isfinite(overshoot.outweighing_steps(products, momentum))
        known = ~(np.isfinite(turn) & (turn >= CROSSING_STEPS - 1))  # slower ones are not seen
        expected, found = kind_of(np.isfinite(turn), outweighs), kind_of(seen.turned, seen.outweighed)
        for kind in KINDS:
            right[kind] += (found == expected)[known & (expected == kind)].tolist()
        both = known & seen.turned & np.isfinite(turn)
        errors += np.abs(seen.overshoot[both] / overshoot.first_overshoot(products[both], momentum) - 1.0).tolist()
        if place % (effort.momenta // EFFORT["quick"].momenta) == 0:
            for product, kind in zip(products[:: len(products) // 15], found[:: len(products) // 15], strict=True):
                yield exactly("map", str(kind), float(product), "momentum", momentum)
    for kind, each in right.items():
        yield among("swing", kind, 0.0, "as theory", counted(each), 1.0)
    yield exactly("swing", "all", 0.0, "largest error", max(errors))


def overshoots(random: np.random.Generator) -> Iterator[Row]:
    """Yield how far first swings go beyond the minimum, by rate times curvature."""
    for momentum in SHOWN_MOMENTA:
        products = np.linspace(0.0, 2.0 * (1.0 + momentum), 101)[1:]
        seen = first_swing(random, products, momentum)
        laws = overshoot.first_overshoot(products, momentum)
        for product, far, law in zip(products, np.maximum(seen.overshoot, 0.0), laws, strict=True):
            yield exactly("overshoot", f"{momentum:g}", float(product), "overshoot", far, float(law))


def notes(random: np.random.Generator) -> Iterator[Row]:
    """Yield how far, and after how many steps, those of the notes' bowl go along either axis."""
    chosen = optimizer(NOTES).parameters
    rate, momentum = (float(chosen[key]) for key in ("learning_rate", "momentum"))
    products = rate * CURVATURES
    seen = first_swing(random, products, momentum)
    laws, turns = overshoot.first_overshoot(products, momentum), overshoot.turning_steps(products, momentum)
    for axis, product, far, law, turn in zip("xy", products, seen.overshoot, laws, turns, strict=True):
        yield exactly("notes", axis, float(product), "overshoot", far, float(law))
        yield exactly("notes", axis, float(product), "steps", turn)


def kind_of(crosses: Any, outweighs: Any) -> NDArray[np.str_]:
    """Return what a first swing does, in a word."""
    return np.asarray(np.array(KINDS)[2 * np.asarray(crosses, int) + np.asarray(outweighs, int)])


class Swing(NamedTuple):
    """Of each path's first swing: whether it turns, whether its momentum outweighs, and how far it goes beyond."""

    turned: Any
    outweighed: Any
    overshoot: Floats


def first_swing(random: np.random.Generator, products: Floats, momentum: float) -> Swing:
    """Run momentum on bowls of one number, from random starts at a random rate, until each turns behind the minimum."""
    rate, starts = float(10.0 ** random.uniform(-3.0, 1.0)), random.normal(0.0, 10.0, products.shape)
    spec = f"momentum(learning_rate={rate!r}, momentum={momentum!r})"
    curvatures = (products / rate)[:, None]
    path = optimizer(spec).path(starts[:, None], lambda x: curvatures * x, CROSSING_STEPS)[:, :, 0] / starts
    velocity = np.diff(path, axis=0, prepend=path[:1])
    turning = (path[:-1] < 0.0) & (velocity[1:] >= 0.0)
    turned = turning.any(axis=0)
    last = np.where(turned, np.argmax(turning, axis=0), len(path))
    swinging = (np.arange(len(path))[:, None] <= last) & (np.abs(path) > 1e-200)  # below, digits are lost
    outweighs = (momentum * np.abs(velocity) > products * np.abs(path)) & swinging
    return Swing(turned, outweighs.any(axis=0), -np.min(np.where(swinging, path, np.inf), axis=0))


# --- figures --------------------------------------------------------------------------------------------


CAPTION = (
    "Gradient descent with momentum on bowls of one number. (a) What the first swing does, by learning rate times "
    "curvature and momentum: it overshoots the minimum, or the momentum term comes to exceed that of the gradient, or "
    "both, or neither. Shades are regions by theory, points random bowls, stars the two axes of the notes' bowl. (b) "
    "How far the first swing overshoots, as a share of the distance at the start, by momentum. Dashed: in (a) where "
    "descent begins to diverge, in (b) exact theory."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw where heavy ball crosses and momentum outweighs, with random bowls, and how far it overshoots."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=3.2)
    points, notes = select(measured, part="map"), select(measured, part="notes", quantity="overshoot")
    _map(axes[0, 0], points, notes)
    table = select(measured, part="overshoot")
    figures.against_depth(
        axes[0, 1], table, at="x", by="line", label=lambda name: f"momentum {name}", labels="legend",
        xlabel="learning rate × curvature", ylabel="first overshoot / start",
    )  # fmt: skip
    axes[0, 1].set_xlim(0.0, HIGHEST)
    figures.panel_labels(axes.flat)
    yield Drawing(figure, pandas.concat([points, notes, table]), caption=CAPTION)


def _map(panel: Axes, points: DataFrame, notes: DataFrame) -> None:
    """Shade the regions of theory and draw random bowls on them, by what their first swing does."""
    p, a = np.meshgrid(np.geomspace(LOWEST, HIGHEST, 1000), np.linspace(0.0, 0.999, 500))
    crosses, outweighs = np.isfinite(overshoot.turning_steps(p, a)), np.isfinite(overshoot.outweighing_steps(p, a))
    shades = np.where(crosses, np.where(outweighs, 2.0, 1.0), np.where(outweighs, 3.0, 0.0))
    panel.contourf(p, a, shades, levels=[-0.5, 0.5, 1.5, 2.5, 3.5], colors=SHADES, antialiased=False)
    for place, kind in enumerate(KINDS):
        found = select(points, line=kind)
        looks = figures.line(PLACES[kind]) | {"linestyle": "none", "markersize": 1.8, "markeredgewidth": 0.4}
        panel.plot(found["x"], found["estimate"], label=WORDS[kind], zorder=3 + place, **looks)
    momenta = np.linspace(0.0, 0.999, 200)
    panel.plot(
        2.0 * (1.0 + momenta), momenta, color="black", linestyle="dashed", linewidth=0.8, label="diverges beyond"
    )
    momentum = [float(optimizer(NOTES).parameters["momentum"])] * len(notes)
    panel.plot(notes["x"], momentum, marker="*", color="white", markeredgecolor="black", markersize=8,
               linestyle="none", zorder=9, label="notes, x and y")  # fmt: skip
    panel.set(xscale="log", xlim=(LOWEST, HIGHEST), ylim=(0.0, 1.0), ylabel="momentum")
    panel.set_xlabel("learning rate × curvature")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, columnspacing=1.0, handletextpad=0.4)


SHADES = ("#ffffff", "#e4ecf4", "#b9d2e8", "#f3dfc1")  # neither, crosses, both, outweighs
PLACES = {"neither": 2, "outweighs": 0, "crosses": 3, "both": 1}
WORDS = {
    "neither": "neither", "outweighs": "momentum term larger", "crosses": "overshoots", "both": "both",
}  # fmt: skip


# --- verdicts -------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """C04: exactly where theory says, which is counted in random bowls."""
    measured = collected.measured
    swing = select(measured, part="swing", quantity="as theory")
    error = pick(measured, part="swing", quantity="largest error").estimate
    row = pick(swing, line="both")
    right = bool((swing["estimate"] == 1.0).all()) and error < EXACT
    x, y = (pick(measured, part="notes", line=axis, quantity="overshoot") for axis in "xy")
    steps = {axis: pick(measured, part="notes", line=axis, quantity="steps").estimate for axis in "xy"}
    found = ", ".join(f"{WORDS[str(each.line)]} {k_of_n(each)}" for each in swing.itertuples())
    note = (
        f"share of random bowls of one number that do what theory says, of those in which the momentum term is to "
        f"exceed the gradient term in the first swing and x to cross. In all four kinds: {found}; first overshoots to "
        f"{error:.1g}. With p = rate x curvature and a = momentum, from rest: x crosses if and only if p > (1 - "
        f"sqrt(a))^2; the momentum term exceeds the gradient term before x first turns, for a > 1/4, if and only if "
        f"1/2 - a < p < 1 + a: without overshooting up to p = (1 - sqrt(a))^2, and from p = 1 + a on x overshoots "
        f"without it. x turns after n = ceil(pi / theta) - 1 steps, cos(theta) = (1 + a - p) / (2 sqrt(a)), at least "
        f"a^(pi / (2 theta)) of the start behind the minimum; p - 1 if n is 1. On the notes' bowl: x {x.estimate:.1%} "
        f"after {steps['x']:.0f} steps (theory {x.theory:.1%}), y {y.estimate:.1%} after {steps['y']:.0f} (theory "
        f"{y.theory:.1%})"
    )
    when = "(1 - sqrt(momentum))^2 < rate x curvature < 1 + momentum, the momentum being above 1/4"
    yield judge("C04", row, right, note, when=when)


study = Study(
    name="momentum_overshoot",
    title="Momentum on bowls: when its term exceeds the gradient's, and when and how far it overshoots",
    cases=cases,
    draw=draw,
    claims=("C04",),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
