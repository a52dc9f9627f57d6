"""The matrix-free sampler for one sample a net, on a device.

Up to `WIDEST` units, a net has a block of threads, which goes through all of its layers by itself. Wider nets have
many, and each step of a layer is two launches: of the parts, and of what follows from their sums. Which it is depends
on the widths alone, so that the bits do not depend on how many nets there are, or on the card.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim.cuda import draws, shim
from stabsim.cuda.backward import record_gains
from stabsim.cuda.block import WARP, shared_bytes, threads_for
from stabsim.cuda.observe import observer
from stabsim.cuda.one_sample import MORE, Place, Step, Steps, net_of
from stabsim.cuda.shim import Kernel, cuda
from stabsim.cuda.units import steps
from stabsim.kernels import blocking, gains
from stabsim.kernels import matrix_free as m

if TYPE_CHECKING:
    from stabsim.cuda.plans import Plan

WIDEST = 8 * int(m.BLOCK)  # units of a block of threads


@shim.device
def start_sums(net, part):
    """Forget a part's sums."""
    for c in range(cuda.threadIdx.x, net.sums.shape[1], cuda.blockDim.x):
        net.sums[part, c] = 0.0
    cuda.syncthreads()


@shim.device
def gather(net, l):
    """Add up the sums of all parts, and add them to the record."""
    for c in range(cuda.threadIdx.x, net.sums.shape[1], cuda.blockDim.x):
        total = 0.0
        for part in range(net.sums.shape[0]):
            total += net.sums[part, c]
        net.sums[0, c] = total
        if c < net.record.shape[1]:
            net.record[l, c] += total  # NaN, where it is not wanted, stays so
    cuda.syncthreads()


def _whole(step: Step) -> Any:
    """Return what a block of threads does that has a net to itself."""
    part, finish = step

    @shim.device
    def run(net, l):
        start_sums(net, 0)
        part(net, l, 0, 1)
        gather(net, l)
        if cuda.threadIdx.x == 0:
            finish(net, l)
        cuda.syncthreads()

    return run


@functools.cache
def _launches(step: Step) -> tuple[Kernel, Kernel]:
    """Return a step as two kernels, of the parts and of the end."""
    part, finish = step

    @shim.kernel
    def parts(first, seed, l, problem, given, ask, place):
        net = net_of(cuda.blockIdx.x, first, seed, problem, given, ask, place)
        start_sums(net, cuda.blockIdx.y)
        part(net, l, cuda.blockIdx.y, cuda.gridDim.y)

    @shim.kernel
    def end(first, seed, l, problem, given, ask, place):
        net = net_of(cuda.blockIdx.x, first, seed, problem, given, ask, place)
        gather(net, l)
        if cuda.threadIdx.x == 0:
            finish(net, l)

    return parts, end


@functools.cache
def _whole_kernel(each: Steps) -> Kernel:
    scale, regime, forward, back, input_back = map(_whole, each)

    @shim.kernel
    def simulate_nets(first, seed, problem, given, ask, place):
        net = net_of(cuda.blockIdx.x, first, seed, problem, given, ask, place)
        depth = problem.widths.size - 1
        for l in range(depth + 1):
            if l > 0:
                scale(net, l)
                regime(net, l)
            forward(net, l)
        if ask.backward:
            for l in range(depth, 0, -1):
                back(net, l)
            input_back(net, 0)
            if ask.looking and cuda.threadIdx.x == 0:
                gains.record_gains(net.record, ask.wanted, problem.widths, np.int64(1))

    return simulate_nets


class OneSample:
    """Nets of a plan through which one sample goes.

    Parameters
    ----------
    plan : Plan
        Of a task that the CPU's matrix-free sampler for one sample runs.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, task = plan, plan.task
        self._given, self._problem = shim.to_device(plan.given), shim.to_device(plan.problem)
        self._widest = max(task.network.widths)
        tile = draws.LANES * draws.words_of(task.dtype)
        self._steps = steps(
            task.dtype, plan.functions[1], observer(plan.functions[-1], plan.ask.observing),
            task.network.weights.bias_law, plan.blank.shape[1],
            full=all(width % tile == 0 for width in task.network.widths),
        )  # fmt: skip

    @property
    def _parts(self) -> int:
        """Return how many blocks of threads a net has."""
        return -(-self._widest // WIDEST)

    @property
    def _blocks(self) -> int:
        """Return how many blocks of units the widest layer has."""
        return -(-self._widest // int(m.BLOCK))

    @property
    def bytes_a_net(self) -> int:
        """Return what a net takes beside its record."""
        numbers = m.STATE + m.BUFFERS + 2 * self._blocks + 1
        return 8 * int(len(self._plan.widths) * numbers + self._parts * (self._plan.blank.shape[1] + MORE) + 4)

    def run(self, first: int, record: shim.Array, ask: Any) -> None:
        """Write the record (nets, depth + 1, columns) of nets from ``first`` on; ``ask`` is the device's."""
        record[...] = ask.blank
        place = self._place(record)
        words = draws.words_of(self._plan.task.dtype)
        nets, threads = record.shape[0], threads_for(draws.groups_of(min(self._widest, int(m.BLOCK)), words))
        seed = np.uint64(self._plan.task.seed)
        given = tuple(map(shim.launched, (self._problem, self._given, ask, place)))
        shared = shared_bytes(threads)
        if self._parts == 1:
            _whole_kernel(self._steps)(nets, threads, np.int64(first), seed, *given, shared=shared)
            return

        def step(each: Step, l: int) -> None:
            parts, end = _launches(each)
            parts((nets, self._parts), threads, np.int64(first), seed, np.int64(l), *given, shared=shared)
            end(nets, threads, np.int64(first), seed, np.int64(l), *given)

        scale, regime, forward, back, input_back = self._steps
        depth = len(self._plan.widths) - 1
        for l in range(depth + 1):
            for each in (scale, regime, forward) if l > 0 else (forward,):
                step(each, l)
        if self._plan.task.backward:
            for l in range(depth, 0, -1):
                step(back, l)
            step(input_back, 0)
            if self._plan.ask.looking:
                problem, _, *asked = given
                record_gains(-(-nets // WARP), WARP, problem, *asked)

    def _place(self, record: shim.Array) -> Place:
        nets, layers, columns = record.shape
        place = Place(
            record=record,
            states=shim.zeros((nets, layers, m.STATE), np.float64),
            exponents=shim.zeros((nets, m.BUFFERS, layers), np.int64),
            runs=shim.zeros((nets, layers, 1), np.int64),
            stops=shim.zeros((nets, 1), np.int64),
            ties=shim.zeros((nets, layers, self._blocks, 2), np.float64),
            gradient=shim.zeros((nets, 3), np.float64),
            sums=shim.zeros((nets, self._parts, columns + MORE), np.float64),
        )
        place.exponents[:, m.Z, 0] = self._plan.given.input_exponent
        place.gradient[:, 2] = self._plan.given.gradient_exponent
        place.stops[...] = blocking.NOWHERE
        return place
