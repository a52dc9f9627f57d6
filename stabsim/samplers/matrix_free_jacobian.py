"""W is never formed, and of the singular values of dz_L/dz_0 the mean square and the largest are known."""

from __future__ import annotations

import numpy as np

from stabsim.kernels import batch
from stabsim.kernels import matrix_free_jacobian as m
from stabsim.samplers.base import Layout, Prices, Sampler, Terms, side_by_side
from stabsim.task import Task

# fmt: off
PRICES: dict[str, Prices] = {  # by hand, of widths 1000 to 100,000
    "jacobian": {
        "float32": {"layer": 10_000, "value": 3.0, "pair": 0.3},
        "float64": {"layer": 10_000, "value": 6.0, "pair": 0.6},
    },
}
# fmt: on


def steps(task: Task) -> int:
    """Return how many steps of bidiagonalization there are at most."""
    return min(m.STEPS, *task.network.widths)


def layout(task: Task) -> Layout:
    """Return where the kernel keeps a net."""
    units, count = np.array(task.network.widths, np.int64), steps(task) + 1
    below = np.concatenate([[0], units[:-1]])
    here = np.concatenate([[0], units[1:]])
    sizes = np.zeros((m.BUFFERS, len(units)), np.int64)
    sizes[[batch.Z, batch.D, batch.S, batch.DZ, batch.DS, batch.B]] = units
    sizes[[m.U, m.BACK]] = count * below
    sizes[[m.IMAGES, m.F]] = count * here
    sizes[m.RIGHT, 0], sizes[m.LEFT, 0] = steps(task) * units[0], steps(task) * units[-1]
    sizes[[m.VECTOR, m.ANSWER], 0] = max(units)
    sizes[m.TIES, 0] = 4 * (count + 1)
    return Layout(sizes, side_by_side(sizes, [batch.Z, batch.D, m.U, m.IMAGES, m.F, m.BACK]), kept=True)


def terms(task: Task, fan_in: int, fan_out: int) -> Terms:
    """Return how much of what a layer takes."""
    count = steps(task) + 1
    return {"layer": 1, "value": count * (fan_in + fan_out), "pair": count**2 * (fan_in + fan_out)}


SAMPLER = Sampler(
    name="matrix_free",
    meaning="W is never formed; of dz_L/dz_0, mean square and largest singular value: weights of law normal",
    kernel=m.matrix_free_jacobian_sampler,
    layout=layout,
    kind=lambda _task: "jacobian",
    prices=PRICES,
    terms=terms,
    laws=("normal",),
    samples=range(1, 2),
    features=frozenset({"jacobian"}),
    needs=frozenset({"jacobian"}),
)
