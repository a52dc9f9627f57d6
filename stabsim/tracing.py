"""``trace``: every tensor of one net, to look at, to teach with and to test against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from stabsim.arguments import make_task
from stabsim.checks import whole_number
from stabsim.kernels import dense
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.samplers.base import Layout, side_by_side
from stabsim.samplers.dense import forms_weight_gradients
from stabsim.samplers.dense import sizes as dense_sizes
from stabsim.task import LARGEST_NET
from stabsim.threads import single_threaded_blas

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """All tensors of one net, by layer 0 .. depth; None where a tensor does not exist at layer 0.

    Activations, pre-activations, f' and their gradients have shape (batch, width), weights and their gradients
    (fan_in, fan_out), biases (fan_out,). Values are float64, so what exceeds its range is 0 or inf here.
    """

    activation: list[Floats]
    preactivation: list[Floats | None]
    derivative: list[Floats | None]
    activation_gradient: list[Floats]
    preactivation_gradient: list[Floats | None]
    weight: list[Floats | None]
    bias: list[Floats | None]
    weight_gradient: list[Floats | None]


def trace(
    network: Network,
    *,
    net: int = 0,
    batch: int = 1,
    seed: int = 0,
    inputs: str | NDArray[Any] | None = None,
    output_gradient: NDArray[Any] | None = None,
    precision: str = "float32",
    loss_scale: float = 1.0,
) -> Trace:
    """Return every tensor of one net of the ensemble that `stabsim.simulate` draws with ``sampler="dense"``.

    The other arguments being the same. Matrix-free nets have no W to show.

    Parameters
    ----------
    network : Network
        The law of the nets.
    net : int
        The number of the net in the ensemble, from 0.
    batch, seed, inputs, output_gradient, precision, loss_scale
        As in `stabsim.simulate`. Tensors of a simulated number format are as rounded, and gradients divided by the
        scale of the loss again.

    Returns
    -------
    Trace
        The tensors, forward and backward.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed: its name, its value and what is allowed.

    Examples
    --------
    >>> seen = trace(Network(widths=(3, 4, 2), activation="tanh", weights="glorot_normal"), batch=5)
    >>> bool(np.allclose(seen.activation[2], np.tanh(seen.activation[1] @ seen.weight[2])))
    True
    """
    task = make_task(
        network,
        batch=batch,
        seed=seed,
        inputs=inputs,
        output_gradient=output_gradient,
        sampler="dense",
        precision=precision,
        loss_scale=loss_scale,
    )
    net = whole_number("net", net, 0, LARGEST_NET - 1)
    plan = Plan(task)
    sizes = dense_sizes(task)
    offsets = side_by_side(sizes, [np.int64(buffer) for buffer in range(dense.BUFFERS)])
    layout = Layout(sizes, offsets, kept=True, keeps_s=True)
    (buffers,) = plan.allocate(layout)
    with single_threaded_blas():
        exponents = plan.simulate(net, buffers, np.empty((1, *plan.blank.shape)), layout=layout)

    def tensor(buffer: SupportsIndex, number: int, *shape: int) -> Floats:
        start = int(offsets[buffer, number])
        values = buffers[buffer][start : start + math.prod(shape)].astype(np.float64).reshape(shape)
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(values, exponents[buffer, number]))

    samples = [(batch, width) for width in network.widths]
    layers = range(1, len(samples))
    z, dz = ([tensor(buffer, number, *samples[number]) for number in (0, *layers)] for buffer in (dense.Z, dense.DZ))
    s, d, ds = (
        [tensor(buffer, number, *samples[number]) for number in layers] for buffer in (dense.S, dense.D, dense.DS)
    )
    w = [tensor(dense.W, number, *network.fans[number - 1]) for number in layers]
    if not forms_weight_gradients(task):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            dw = [np.outer(below, above) for below, above in zip(z, ds, strict=False)]
    else:
        dw = [tensor(dense.DW, number, *network.fans[number - 1]) for number in layers]
    biased = plan.problem.bias_scale.any()
    b = [tensor(dense.B, i, n) if biased else np.zeros(n) for i, n in enumerate(network.widths[1:], start=1)]
    return Trace(z, [None, *s], [None, *d], dz, [None, *ds], [None, *w], [None, *b], [None, *dw])
