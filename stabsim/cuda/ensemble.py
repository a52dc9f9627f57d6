"""Plans run on a device: which it runs, and chunks of nets in waves of as many as its memory holds."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stabsim.devices import DeviceError
from stabsim.kernels import record as r
from stabsim.samplers import dense, matrix_free, matrix_free_batch

if TYPE_CHECKING:
    from stabsim.cuda.plans import Plan
    from stabsim.moments import Sums
    from stabsim.task import Task

# The CPU's samplers that a device has, too, each with the class that runs it; imported when it is.
SAMPLERS = (
    (matrix_free.SAMPLER, "matrix_free", "OneSample"),
    (matrix_free_batch.SAMPLER, "matrix_free_batch", "MatrixFreeBatch"),
    (dense.SAMPLER, "dense", "Dense"),
)


WAVE_BYTES = 2**32  # of the nets that are run together


class Runner(Protocol):
    """The nets of a plan on a device."""

    def __init__(self, plan: Plan) -> None: ...

    @property
    def bytes_a_net(self) -> int:
        """Return what a net takes beside its record."""
        ...

    def run(self, first: int, record: Any, ask: Any) -> None:
        """Write the record (nets, depth + 1, columns) of nets from ``first`` on; ``ask`` is the device's."""
        ...


def refuses(task: Task) -> str:
    """Return why a device does not run a task, in words; nothing if it does.

    Examples
    --------
    >>> from stabsim import Network
    >>> from stabsim.arguments import make_task
    >>> refuses(make_task(Network((8, 8), "relu", "he_normal", normalization="layer")))
    "device='cuda' does not run nets with normalization='layer(epsilon=1e-05)'"
    >>> refuses(make_task(Network((8, 8), "relu", "he_normal")))
    ''
    """
    if task.features:
        return f"device='cuda' does not run nets with {' and '.join(dict.fromkeys(task.arguments.values()))}"
    whole = [quantity.name for quantity in task.functions if quantity.whole]
    if whole:
        return f"device='cuda' does not run quantity {whole[0]!r}, which is a function of a whole matrix"
    return ""


def runner(plan: Plan) -> Runner:
    """Return what runs the nets of a plan on the device."""
    module, name = next(where for sampler, *where in SAMPLERS if sampler is plan.sampler)
    made: Runner = getattr(importlib.import_module(f"stabsim.cuda.{module}"), name)(plan)
    return made


def run(plan: Plan, chunks: Iterable[tuple[int, int]]) -> Generator[Sums]:
    """Yield the sums of chunks in their order.

    Raises
    ------
    DeviceError
        If there is no device, it cannot compile a user's function, or it has no memory for one net.
    """
    from stabsim.cuda import shim

    shim.require()
    with shim.one_stream():
        nets, ask = runner(plan), shim.to_device(plan.ask)
    for first, last in chunks:
        with shim.one_stream():
            sums = run_chunk(plan, nets, ask, first, last)
        yield sums


def run_chunk(plan: Plan, nets: Runner, ask: Any, first: int, last: int) -> Sums:
    """Return the sums of nets ``first`` .. ``last - 1``."""
    from stabsim.cuda import shim
    from stabsim.cuda.sums import summarize

    wave = nets_at_once(nets.bytes_a_net, 8 * plan.blank.size, last - first, shim.free_memory())
    ask = ask._replace(counts=shim.to_device(plan.no_counts()))
    with shim.memory_errors(f"{wave} nets at a time"):
        record = shim.empty((last - first, *plan.blank.shape), np.float64)
        for start in range(first, last, wave):
            nets.run(start, record[start - first : min(start + wave, last) - first], ask)
        counts = shim.to_host(ask.counts)
        return summarize(
            record, plan.task.table_quantities, sizes=plan.sizes, pivots=plan.pivots, blank=plan.blank,
            samples=plan.task.sample_quantities,
            histograms={tensor: counts[r.OBSERVED.index(tensor)] for tensor, _ in plan.task.histograms},
        )  # fmt: skip


def nets_at_once(bytes_a_net: int, bytes_a_record: int, nets: int, free: int) -> int:
    """Return how many of a chunk's nets are run together, beside the chunk's record.

    As many as `WAVE_BYTES` holds, whatever card it is; where less is free, half of that, a quarter, ... The number may
    change bits: the library multiplies more matrices at once in another way.

    Raises
    ------
    DeviceError
        If one net does not fit.

    Examples
    --------
    >>> nets_at_once(1000, 10, 64, free=2**33), nets_at_once(1000, 10, 64, free=20_000)
    (64, 16)
    """
    wave = max(1, min(nets, WAVE_BYTES // bytes_a_net))
    while wave * bytes_a_net + nets * bytes_a_record > free:
        if wave == 1:
            needed = bytes_a_net + nets * bytes_a_record
            raise DeviceError(
                f"device='cuda' has {free / 2**20:.0f} MiB of memory to give, and one net with the records of a chunk "
                f"needs {needed / 2**20:.0f} MiB: reduce widths, depth or batch"
            )
        wave = -(-wave // 2)
    return wave
