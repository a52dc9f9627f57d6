"""Nets in waves, layer by layer, with all samples of a batch together: what `kernels/batch.py` does net by net.

A launch takes a layer of all nets of a wave, a block of threads a net; products of matrices are made by the library.
How weights are drawn and applied is for the samplers to say, as on the processor, in the methods of `Weights`. What a
net's z and f' are is kept of all layers: the device has the memory for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stabsim.cuda import draws, shim
from stabsim.cuda.backward import Back, Gradient, backward_kernel, input_gradient_kernel, record_gains
from stabsim.cuda.block import WARP, shared_bytes, threads_for
from stabsim.cuda.forward import Forward, forward_kernel, input_kernel
from stabsim.cuda.inputs import Choice, choose_rows
from stabsim.cuda.looking import Place
from stabsim.cuda.matrices import MARKS, SUMS
from stabsim.cuda.observe import observer
from stabsim.cuda.plans import Plan
from stabsim.kernels import batch as cpu
from stabsim.kernels import blocking, philox, ranks
from stabsim.kernels import record as r


@dataclass(frozen=True)
class Wave:
    """Nets that are run together: where they are kept, and what is asked of them.

    Parameters
    ----------
    plan : Plan
        Of their task.
    first : int
        The number of the first.
    nets : int
        How many there are.
    problem, ask : group of arrays
        Of the plan, on the device, as kernels take them.
    place : Place
        What each net has.
    z, d : list of array (nets, samples, units)
        Of each layer; layer 0 has no f'.
    products, gradients : array (nets * samples * most units,)
        Of one layer at a time: s and ds, and dz.
    bias : array (nets * most units,)
        Of one layer.
    """

    plan: Plan
    first: int
    nets: int
    problem: Any
    ask: Any
    place: Place
    z: list[shim.Array]
    d: list[shim.Array]
    products: shim.Array
    gradients: shim.Array
    bias: shim.Array

    def part(self, buffer: shim.Array, rows: int, columns: int) -> shim.Array:
        """Return the front of a buffer as (nets, rows, columns)."""
        return buffer[: self.nets * rows * columns].reshape(self.nets, rows, columns)

    def samples_of(self, buffer: shim.Array, l: int) -> shim.Array:
        """Return the front of a buffer as a layer's (nets, samples, units)."""
        return self.part(buffer, self.plan.task.batch, int(self.plan.widths[l]))

    def draw(self, law: str, out: shim.Array, purpose: np.uint32, l: int, scale: Any) -> None:
        """Fill the matrices (nets, rows, columns) of a layer."""
        draws.fill(law, out, self.first, self.plan.task.seed, purpose, l, scale)

    def launch(self, kernel: shim.Kernel, numbers: int, *arguments: Any) -> None:
        """Launch a kernel with a block of threads for each net, which has a matrix of so many numbers."""
        threads = threads_for(numbers)
        kernel(self.nets, threads, *arguments, shared=shared_bytes(threads))


class Weights(Protocol):
    """How the weights of a wave are drawn and applied."""

    def prepare(self, l: int) -> None:
        """Make ready what z W of layer l takes."""

    def factors(self, l: int) -> tuple[shim.Array, shim.Array]:
        """Return two stacks of matrices whose products are z W, in units of 2 to the exponents of z and of W."""

    def recall(self, l: int) -> None:
        """Bring back, where it was not kept, what the backward pass through layer l takes."""

    def pull_back(self, l: int, ds: shim.Array, dz: shim.Array) -> None:
        """Write dz = ds W^T, in units of 2 to the exponents of ds and of W."""

    def weight_gradient(self, l: int, ds: shim.Array) -> None:
        """Record dW = z^T ds."""


class Batches:
    """Nets of a plan, and how they are run.

    Parameters
    ----------
    plan : Plan
        Of a task without features.
    weights : callable
        From a wave to how its weights are drawn and applied.
    bytes_of_weights : int
        What these take of a net.
    """

    def __init__(self, plan: Plan, weights: Callable[[Wave], Weights], bytes_of_weights: int) -> None:
        self._plan, self._weights, self._bytes_of_weights = plan, weights, bytes_of_weights
        self._problem, self._given = shim.to_device(plan.problem), shim.to_device(plan.given)
        dtype, activation = plan.task.dtype, plan.functions[1]
        seen = observer(plan.functions[-1], plan.ask.observing), plan.blank.shape[1]
        self._record_inputs, self._forward = input_kernel(dtype, *seen), forward_kernel(dtype, activation, *seen)
        self._backward, self._record_end = backward_kernel(dtype, *seen), input_gradient_kernel(dtype, *seen)

    @property
    def bytes_a_net(self) -> int:
        """Return what a net takes beside its record."""
        plan, batch = self._plan, self._plan.task.batch
        units, most = int(plan.widths.sum()), int(plan.widths.max())
        numbers = batch * (2 * units + 4 * most) + most  # of which two are copies that products take
        integers = len(plan.widths) * (cpu.COMMON + batch) + 3 * batch + SUMS
        marks = 4 * MARKS * max(batch, most)
        return plan.task.dtype.itemsize * numbers + 8 * integers + marks + self._bytes_of_weights

    def run(self, first: int, record: shim.Array, ask: Any) -> None:
        """Write the record (nets, depth + 1, columns) of nets from ``first`` on; ``ask`` is the device's."""
        wave = self._wave(first, record, ask)
        weights, depth = self._weights(wave), len(self._plan.widths) - 1
        self._start(wave)
        for l in range(1, depth + 1):
            weights.prepare(l)
            self._pass_forward(wave, weights, l)
        if not self._plan.task.backward:
            return
        self._start_back(wave)
        for l in range(depth, 0, -1):
            weights.recall(l)
            self._pass_back(wave, weights, l)
        dz = wave.samples_of(wave.gradients, 0)
        wave.launch(self._record_end, dz[0].size, wave.ask, wave.place, Gradient(dz))
        if self._plan.ask.looking:
            record_gains(-(-wave.nets // WARP), WARP, wave.problem, wave.ask, wave.place)

    def _wave(self, first: int, record: shim.Array, ask: Any) -> Wave:
        plan, dtype = self._plan, self._plan.task.dtype
        nets, layers = record.shape[:2]
        batch, widths, most = plan.task.batch, [int(width) for width in plan.widths], int(plan.widths.max())
        record[...] = ask.blank
        place = Place(
            record=record,
            exponents=shim.zeros((nets, cpu.COMMON, layers), np.int64),
            runs=shim.empty((nets, layers, batch), np.int64),
            stops=shim.empty((nets, batch), np.int64),
            marks=shim.empty((nets, MARKS, max(batch, most)), np.int32),
            regimes=shim.empty((nets, batch), np.int64),
            sums=shim.empty((nets, SUMS), np.float64),
        )
        place.exponents[:, int(cpu.Z), 0] = plan.given.input_exponent
        place.exponents[:, int(cpu.DZ), layers - 1] = plan.given.gradient_exponent
        place.stops[...] = blocking.NOWHERE
        return Wave(
            plan=plan, first=first, nets=nets, place=place,
            problem=shim.launched(self._problem), ask=shim.launched(ask),  # once: every launch takes them
            z=[shim.empty((nets, batch, width), dtype) for width in widths],
            d=[shim.empty((nets, batch, width if l > 0 else 0), dtype) for l, width in enumerate(widths)],
            products=shim.empty(nets * batch * most, dtype), gradients=shim.empty(nets * batch * most, dtype),
            bias=shim.empty(nets * most, dtype),
        )  # fmt: skip

    def _start(self, wave: Wave) -> None:
        """Draw or choose the inputs, and record what is wanted of them."""
        z, place = wave.z[0], wave.place
        if len(self._plan.given.inputs) > 0:
            choice = Choice(self._given.inputs, place.regimes, place.runs[:, 0], z)
            wave.launch(choose_rows, z[0].size, np.int64(wave.first), np.uint64(self._plan.task.seed), choice)
        else:
            wave.draw("normal", z, philox.INPUT, 0, 1)
        wave.launch(self._record_inputs, z[0].size, wave.ask, place, Forward(z, z, z, z))
        self._write_ranks(wave, 0, r.ACTIVATION_RANK, z)

    def _pass_forward(self, wave: Wave, weights: Weights, l: int) -> None:
        plan, z = self._plan, wave.z[l]
        b, scale = wave.part(wave.bias, 1, z.shape[2]), plan.problem.bias_scale[l]
        if scale != 0:
            wave.draw(plan.task.network.weights.bias_law, b, philox.BIAS, l, scale)
        s = wave.samples_of(wave.products, l)
        shim.multiply(*weights.factors(l), s)
        here = Forward(s, b, z, wave.d[l])
        wave.launch(self._forward, z[0].size, np.int64(l), wave.problem, wave.ask, wave.place, here)
        self._write_ranks(wave, l, r.ACTIVATION_RANK, z)

    def _start_back(self, wave: Wave) -> None:
        """Draw or copy the gradient that is injected."""
        depth = len(self._plan.widths) - 1
        dz = wave.samples_of(wave.gradients, depth)
        if len(self._plan.given.output_gradient) > 0:
            dz[...] = self._given.output_gradient
        else:
            wave.draw("normal", dz, philox.OUTPUT_GRADIENT, depth, 1)

    def _pass_back(self, wave: Wave, weights: Weights, l: int) -> None:
        dz, ds = wave.samples_of(wave.gradients, l), wave.samples_of(wave.products, l)
        here = Back(dz, wave.d[l], ds)
        wave.launch(self._backward, dz[0].size, np.int64(l), wave.problem, wave.ask, wave.place, here)
        weights.pull_back(l, ds, wave.samples_of(wave.gradients, l - 1))
        if self._plan.task.weight_gradients:
            weights.weight_gradient(l, ds)
        self._write_ranks(wave, l, r.PREACTIVATION_GRADIENT_RANK, ds)
        self._write_ranks(wave, l, r.WEIGHT_GRADIENT_RANK, wave.z[l - 1], ds)

    def _write_ranks(self, wave: Wave, l: int, column: int, *matrices: shim.Array) -> None:
        """Write the rank and the stable rank of a matrix of each net, or of dW from its factors: on the processor."""
        if not self._plan.task.wanted[column]:
            return
        rows = np.empty((wave.nets, self._plan.blank.shape[1]))
        for row, *of_net in zip(rows, *map(shim.to_host, matrices), strict=True):
            if column == r.WEIGHT_GRADIENT_RANK:
                ranks.record_weight_gradient(row, *of_net)
            else:
                ranks.record_ranks(row, column, *of_net)
        wave.place.record[:, l, column : column + 2] = shim.to_device(rows[:, column : column + 2])
