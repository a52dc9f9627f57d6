"""``trace``: every tensor of one net, to look at, to teach with and to test against."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from stabsim.arguments import make_task
from stabsim.checks import whole_number
from stabsim.kernels import dense, recurrent
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.samplers.base import Layout, side_by_side
from stabsim.samplers.dense import forms_weight_gradients
from stabsim.samplers.dense import sizes as dense_sizes
from stabsim.samplers.recurrent import laid_out
from stabsim.task import LARGEST_NET, Task
from stabsim.threads import single_threaded_blas

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """All tensors of one net, by layer 0 .. depth; None where a tensor does not exist at layer 0.

    Activations, pre-activations, f' and their gradients have shape (batch, width), weights and their gradients
    (fan_in, fan_out), biases (fan_out,). Values are float64, so what exceeds its range is 0 or inf here. Of a
    simulated number format, and of a recurrent cell whose state or gradients leave its range, they may be inf or NaN.

    Of a recurrent net layers are time steps. The activation is the state h_t, pre-activations and their gradients are
    those of all gates side by side (batch, gates * state), and f' is that of an RNN. Weights and biases are listed by
    gate instead, in the order of PyTorch: ``weight`` on the input and ``recurrent_weight`` on the state, with their
    gradients summed over time. What is below only recurrent nets have, and the state of the cell only an LSTM. Last
    comes the network that was traced.
    """

    activation: list[Floats]
    preactivation: list[Floats | None]
    derivative: list[Floats | None]
    activation_gradient: list[Floats]
    preactivation_gradient: list[Floats | None]
    weight: list[Floats | None]
    bias: list[Floats | None]
    weight_gradient: list[Floats | None]
    recurrent_weight: list[Floats] = field(default_factory=list)
    recurrent_weight_gradient: list[Floats] = field(default_factory=list)
    bias_gradient: list[Floats] = field(default_factory=list)
    input: list[Floats | None] = field(default_factory=list)
    input_gradient: list[Floats | None] = field(default_factory=list)
    cell_state: list[Floats] = field(default_factory=list)
    cell_state_gradient: list[Floats] = field(default_factory=list)
    network: Network | None = None

    @property
    def structures(self) -> dict[str, str]:
        """Return what there is beside plain layers, by its name, and what gives it."""
        return {} if self.network is None else self.network.arguments


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
    return _recurrent(task, net) if network.cell.recurrent else _feedforward(task, net)


class _Seen:
    """The buffers of one net that was run, as float64."""

    def __init__(self, task: Task, net: int, layout: Layout) -> None:
        self.plan, self.offsets = Plan(task), layout.offsets
        (self.buffers,) = self.plan.allocate(layout)
        with single_threaded_blas():
            record = np.empty((1, *self.plan.blank.shape))
            self.exponents = self.plan.simulate(net, self.buffers, record, layout=layout)

    def part(self, buffer: SupportsIndex, start: int, exponent: int, *shape: int) -> Floats:
        """Return so many numbers of a buffer from one on, times a power of two."""
        values = self.buffers[buffer][start : start + math.prod(shape)].astype(np.float64).reshape(shape)
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(values, exponent))

    def layer(self, buffer: SupportsIndex, number: int, *shape: int) -> Floats:
        """Return a layer's part of a buffer."""
        return self.part(buffer, int(self.offsets[buffer, number]), int(self.exponents[buffer, number]), *shape)


def _feedforward(task: Task, net: int) -> Trace:
    network, batch = task.network, task.batch
    sizes = dense_sizes(task)
    offsets = side_by_side(sizes, [np.int64(buffer) for buffer in range(dense.BUFFERS)])
    seen = _Seen(task, net, Layout(sizes, offsets, kept=True, keeps_s=True))
    samples = [(batch, width) for width in network.widths]
    layers = range(1, len(samples))
    z, dz = (
        [seen.layer(buffer, number, *samples[number]) for number in (0, *layers)] for buffer in (dense.Z, dense.DZ)
    )
    s, d, ds = (
        [seen.layer(buffer, number, *samples[number]) for number in layers] for buffer in (dense.S, dense.D, dense.DS)
    )
    w = [seen.layer(dense.W, number, *network.fans[number - 1]) for number in layers]
    if not forms_weight_gradients(task):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            dw = [np.outer(below, above) for below, above in zip(z, ds, strict=False)]
    else:
        dw = [seen.layer(dense.DW, number, *network.fans[number - 1]) for number in layers]
    biased = seen.plan.problem.bias_scale.any()
    b = [seen.layer(dense.B, i, n) if biased else np.zeros(n) for i, n in enumerate(network.widths[1:], start=1)]
    return Trace(z, [None, *s], [None, *d], dz, [None, *ds], [None, *w], [None, *b], [None, *dw], network=network)


def _recurrent(task: Task, net: int) -> Trace:
    seen = _Seen(task, net, laid_out(task, kept=True, keeps_s=True))
    (inputs, state), steps, batch = task.network.widths[:2], task.network.depth, task.batch
    gates, lstm = len(task.network.fans) // 2, task.network.cell.kind == "lstm"
    times, problem = range(1, steps + 1), seen.plan.problem

    def at(buffer: SupportsIndex, place: int, time: int, width: int = state) -> Floats:
        exponent = int(seen.exponents[buffer, time])
        return seen.part(buffer, place * batch * width, exponent, batch, width)

    def every(buffer: SupportsIndex) -> list[Floats]:
        return [at(buffer, time, time) for time in range(steps + 1)]

    def of_gates(t: int) -> Floats:
        return np.hstack([at(recurrent.S, (t - 1) * gates + gate, t) for gate in range(gates)])

    def every_input(buffer: SupportsIndex) -> list[Floats | None]:
        return [None, *(at(buffer, t - 1, t, inputs) for t in times)]

    def bias(gate: int) -> Floats:
        mean = problem.bias_mean[gate] if len(problem.bias_mean) else 0.0
        biased = problem.bias_scale[gate + 1] != 0 or mean != 0
        return seen.part(recurrent.B, gate * state, 0, state) if biased else np.zeros(state)

    ds = [at(recurrent.DS, t - 1, t, gates * state) for t in times]
    w = seen.part(recurrent.W, 0, 0, gates, inputs + state, state)
    dw = seen.part(recurrent.DW, 0, int(seen.exponents[recurrent.DW, 1]), inputs + state, gates * state)
    exponents = problem.weight_exponent[1:].reshape(2, gates, 1, 1)
    with np.errstate(over="ignore", under="ignore"):
        of_inputs, of_state = np.ldexp(w[:, :inputs], exponents[0]), np.ldexp(w[:, inputs:], exponents[1])
    return Trace(
        activation=every(recurrent.H),
        preactivation=[None, *(of_gates(t) for t in times)],
        derivative=[None] * (steps + 1) if gates > 1 else [None, *(at(recurrent.D, t - 1, 0) for t in times)],
        activation_gradient=every(recurrent.DH),
        preactivation_gradient=[None, *ds],
        weight=list(of_inputs),
        bias=[bias(gate) for gate in range(gates)],
        weight_gradient=list(np.split(dw[:inputs], gates, axis=1)),
        recurrent_weight=list(of_state),
        recurrent_weight_gradient=list(np.split(dw[inputs:], gates, axis=1)),
        bias_gradient=list(np.split(np.sum([each.sum(axis=0) for each in ds], axis=0), gates)),
        input=every_input(recurrent.X),
        input_gradient=every_input(recurrent.DX),
        cell_state=every(recurrent.C) if lstm else [],
        cell_state_gradient=every(recurrent.DC) if lstm else [],
        network=task.network,
    )
