"""Whether a gradient is small by chance: as rarely as independent components are, or because something shuts it off."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.landscape import Landscape
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory import zeros
from stabsim.verdicts import LARGEST_Z, counted, judge, k_of_n, largest_z, pick, select

if TYPE_CHECKING:
    from pandas import DataFrame

NETS = {"quick": 10_000, "paper": 200_000}
SMALL = 0.1  # the probability that a component is small
COUNTS = (1, 2, 3, 5, 10, 20, 50, 100)  # of components
WIDTHS = (8, 6, 6, 6, 3)
LARGE = 16  # times LeCun's weights, so that sigmoids are saturated
KINDS = {  # activation, factor of the weights, activation of the last layer
    "tanh": ("tanh", 1, "linear"), f"sigmoid, × {LARGE}": ("sigmoid", LARGE, "sigmoid"),
}  # fmt: skip
SAMPLES = 30
DEAD = (8, *(4,) * 8)  # a narrow ReLU net
WEIGHTS = sum(a * b for a, b in itertools.pairwise(DEAD))
ZERO = "weight_gradient_dead_net_fraction"


def cases(scale: str) -> Iterator[Case]:
    """Yield narrow ReLU nets without biases, of one sample and of many."""
    for samples in (1, SAMPLES):
        task = make_task(Network(DEAD, "relu", "he_normal"), batch=samples, quantities=(ZERO,), sampler="dense")
        yield Case(task, NETS[scale], {"samples": samples})


def measure(scale: str) -> DataFrame:
    """Count nets in which the first k components, in an order drawn once, are all small.

    A component is small in the nets in which it is among its smallest tenth. Shuffled: each component comes from a net
    of its own, so that they are independent.
    """
    import pandas

    generator = np.random.Generator(np.random.Philox(4))
    inputs = generator.normal(size=(SAMPLES, WIDTHS[0]))
    targets = np.eye(WIDTHS[-1])[generator.integers(0, WIDTHS[-1], SAMPLES)]
    rows = []
    for kind, (activation, gain, last) in KINDS.items():
        network = Network(WIDTHS, activation, f"lecun_normal(gain={gain})")
        surface = Landscape(network, (inputs, targets), output_activation=last)
        sizes = np.abs(surface.gradient(surface.draw(NETS[scale], seed=4)))
        sizes = sizes[:, generator.permutation(surface.parameters)[: COUNTS[-1]]]
        small = sizes <= np.quantile(sizes, SMALL, axis=0)
        for line, held in ((kind, small), (f"{kind}, shuffled", generator.permuted(small, axis=0))):
            together = np.cumprod(held, axis=1, dtype=np.bool_)
            rows += [{"line": line, "components": k, "theory": SMALL**k} | counted(together[:, k - 1]) for k in COUNTS]
    return pandas.DataFrame(rows)


def zero(table: DataFrame) -> DataFrame:
    """Return how often all of a gradient is exactly 0, by samples, with the law of one sample."""
    rows = select(table, quantity=ZERO, layer=1)
    law = zeros.dead_probability(DEAD)
    return rows.assign(theory=[law if samples == 1 else math.nan for samples in rows["samples"]])


CAPTION = (
    "Gradients that are small by chance: share of nets in which as many components of the gradient as the axis says "
    f"are small at once, each being small in a share of {SMALL:g} of nets; tanh nets, the same with components "
    f"shuffled among nets, and saturated sigmoid nets of widths {', '.join(map(str, WIDTHS))}. Single points: narrow "
    "ReLU nets whose gradient is 0 in all components. "
    f"Dashed: as of independent components. {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw how often k components are small at once, and how often all are 0."""
    import pandas

    found = select(collected.measured, line=(*KINDS, f"{next(iter(KINDS))}, shuffled"))
    dead = zero(collected.table)
    names = [f"ReLU, all of {WEIGHTS} are 0,\n{samples} sample{'s' * (samples > 1)}" for samples in dead["samples"]]
    rows = pandas.concat([found, dead.assign(line=names, components=WEIGHTS, theory=math.nan)])
    seen = rows["estimate"] > 0
    with np.errstate(divide="ignore"):
        logs = {name: np.log10(rows[name]).where(seen) for name in ("estimate", "ci_low", "ci_high")}
        logs |= {"theory": np.log10(rows["theory"]), "layer": np.log10(rows["components"])}
    figure, axes = figures.panels(width=1.3 * figures.COLUMN, height=2.6)
    figures.against_depth(
        axes[0, 0], rows.assign(infinite_width=math.nan, **logs), by="line", scale="exponent",
        xlabel="log10 of the number of components", ylabel="share of nets with all small",
    )  # fmt: skip
    axes[0, 0].set_ylim(-6.3, 0.3)
    axes[0, 0].get_legend().set_loc("upper center")
    yield Drawing(figure, rows, caption=CAPTION)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """E08: 0.1^100, if components are independent; in nets they are not."""
    measured, k = collected.measured, COUNTS[-1]
    z = largest_z(measured[measured["line"].str.endswith("shuffled")])
    all_of, three = ({kind: pick(measured, line=kind, components=n) for kind in KINDS} for n in (k, 3))
    one, many = (pick(zero(collected.table), samples=samples) for samples in (1, SAMPLES))
    dependent = [kind for kind, row in three.items() if row.ci_low > row.theory]
    dependent += ["ReLU"] * bool(one.ci_low > SMALL**k)

    def of(rows: dict[str, Any]) -> str:
        return ", ".join(f"{kind} {k_of_n(row)}" for kind, row in rows.items())

    decisive = all_of[f"sigmoid, × {LARGE}"]
    note = (
        f"share of sigmoid nets (weights × {LARGE}) in which {k} components of the gradient are at once among their "
        f"smallest {SMALL:.0%}; independent: 10^{k * math.log10(SMALL):.0f}. Shuffled between nets, k of them follow "
        f"{SMALL:g}^k (|z| < {z:.1f}). Three at once: {of(three)}; {k} at once: {of(all_of)}. All {WEIGHTS} of a "
        f"narrow ReLU net are exactly 0 with probability {one.estimate:.4f} (law {one.theory:.4f}) of one sample and "
        f"{many.estimate:.4f} of {SAMPLES}. More often than independent ones: {', '.join(dependent) or 'none'}. "
        "That it holds rests on shuffled components and on the law of one sample: arithmetic that nets cannot refute; "
        "they decide only when it is about them"
    )
    when = "components are independent: those of saturated and of dying nets are not" if dependent else ""
    law = largest_z(zero(collected.table))
    yield judge("E08", decisive, max(z, law) < LARGEST_Z, note, when=when)


study = Study(
    name="zero_gradients",
    title="Gradients that are small by chance: as rare as if components were independent, or not",
    cases=cases,
    draw=draw,
    claims=("E08",),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
