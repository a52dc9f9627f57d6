"""Arguments -> task: every argument of `stabsim.simulate` that affects the answer is checked here, once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import brief, number, rows, whole_number
from stabsim.clipping import Clipping
from stabsim.clipping import clipping as clipping_of
from stabsim.cuda import ensemble
from stabsim.devices import CPU, DEVICES
from stabsim.kernels.record import GATES, OBSERVED
from stabsim.names import check_known
from stabsim.network import Network
from stabsim.number_formats import FORMATS
from stabsim.quantities import Quantity, select
from stabsim.samplers import NAMES, choose, sampler_of
from stabsim.samplers.base import Sampler
from stabsim.task import LARGEST_NET, LARGEST_SEED, Bins, Floats, Task

CHOICES = ("auto", *NAMES)
PRECISIONS = ("float32", "float64", *FORMATS)
LARGEST_GROUP = 2**32  # groups of numbers within a layer are numbered by one word of the random numbers' counter
GATED_INPUTS = (1e-36, 1e36)  # what gates see is brought to a unit that float32 holds
NUMBERS_A_GROUP = {4: 4, 8: 2}  # by the bytes of one


def make_task(
    network: Network,
    *,
    batch: int = 1,
    seed: int = 0,
    inputs: str | NDArray[Any] | None = None,
    output_gradient: NDArray[Any] | None = None,
    sampler: str = "auto",
    precision: str = "float32",
    saturation: float = 0.01,
    quantities: Sequence[str | Quantity] | None = None,
    samples: Sequence[str | Quantity] = (),
    histograms: Mapping[str, Bins] | None = None,
    clipping: str | Clipping | None = None,
    loss_scale: float = 1.0,
    device: str = CPU,
) -> Task:
    """Return a checked task.

    Raises
    ------
    TypeError, ValueError
        With the argument, its value and what is allowed.
    """
    if not isinstance(network, Network):
        instead = ", but its .network may be" if hasattr(type(network), "network") else ""
        raise TypeError(f"network must be a stabsim.Network, not {brief(network)}{instead}")
    batch = whole_number("batch", batch, 1, LARGEST_NET - 1)
    seed = whole_number("seed", seed, 0, LARGEST_SEED)
    for name, value, known in (
        ("sampler", sampler, CHOICES), ("precision", precision, PRECISIONS), ("device", device, DEVICES),
    ):  # fmt: skip
        check_known(name, value, known)
    saturation = number("saturation", saturation, 0.0)
    if samples is None:
        raise TypeError("samples must be a sequence of names of quantities, () for none, not None")
    task = Task(
        network, batch, seed, _inputs(inputs, network, batch), _output_gradient(output_gradient, network, batch),
        sampler, precision, saturation, histograms=_histograms(histograms), clipping=clipping_of(clipping),
        loss_scale=loss_scale_of(loss_scale, precision), device=device,
    )  # fmt: skip
    _check_biases(network, task.dtype.name)
    _check_cell(task)
    wanted = None if quantities is None else select(quantities, batch, task.arguments)
    kept = select(samples, batch, task.arguments, "samples")
    select([q for q in (*(wanted or ()), *kept) if q.function is not None], batch)  # no two of one name
    if wanted is not None and not wanted:
        raise ValueError("quantities=() asks for nothing; None asks for all")
    task = replace(task, quantities=wanted, samples=kept)
    task = replace(task, sampler=choose(task)) if sampler == "auto" else task
    used = sampler_of(task)
    _check_size(task, used)
    _check_statistics(task, used)
    if device != CPU and (refusal := ensemble.refuses(task)):  # whether there is one is not asked: plans may travel
        raise ValueError(refusal)
    return task


def _check_size(task: Task, sampler: Sampler) -> None:
    """Refuse layers that take more random numbers than there are."""
    network = task.network
    weights = max(fan_in * fan_out for fan_in, fan_out in network.fans) if sampler.draws_weights else 0
    most = max(weights, task.batch * max(network.widths))
    allowed = LARGEST_GROUP * NUMBERS_A_GROUP[task.dtype.itemsize]
    if most > allowed:
        raise ValueError(
            f"a layer may have up to {allowed} weights (dense) or samples times units with sampler={task.sampler!r} "
            f"and precision={task.precision!r}, not {most}: reduce widths or batch"
        )


def _check_statistics(task: Task, sampler: Sampler) -> None:
    """Refuse functions of a whole matrix where one sample goes through in parts."""
    whole = [q.name for q in task.functions if q.whole]
    if whole and sampler.in_parts:
        raise ValueError(
            f"quantity {whole[0]!r} is of the whole matrix, and one sample of this network is drawn in parts "
            f"(sampler={task.sampler!r}): give sampler='dense', or batch >= 2"
        )


def _inputs(inputs: Any, network: Network, batch: int) -> Floats | None:
    if inputs is None:
        return None
    if isinstance(inputs, str):
        from stabsim.datasets import dataset

        inputs = dataset(inputs)
    shape, ends = "(samples, widths[0])", network.widths[:1]
    if network.cell.recurrent:
        shape, ends = "(samples, time steps, widths[0])", (network.depth, *ends)
    array = rows("inputs", inputs, shape, ends)
    if len(array) < batch:
        raise ValueError(f"inputs has {len(array)} samples, fewer than batch={batch}, which draws without replacement")
    return array


def _output_gradient(gradient: Any, network: Network, batch: int) -> Floats | None:
    if gradient is None:
        return None
    array = rows("output_gradient", gradient, "(batch, widths[-1])", network.widths[-1:])
    if len(array) != batch:
        raise ValueError(f"output_gradient must have batch={batch} rows, not {len(array)}")
    return array


def _histograms(histograms: Mapping[str, Bins] | None) -> tuple[tuple[str, Bins], ...]:
    checked = []
    histograms = {} if histograms is None else histograms
    if not isinstance(histograms, Mapping):
        raise TypeError(f"histograms must map tensors to (low, high, bins), not {brief(histograms)}")
    for tensor, bins in histograms.items():
        check_known("histogram of", tensor, OBSERVED)
        try:
            low, high, count = bins
        except (TypeError, ValueError):
            raise TypeError(f"histograms[{tensor!r}] must be (low, high, bins), not {brief(bins)}") from None
        low, high = (number(f"histograms[{tensor!r}]", x) for x in (low, high))
        count = whole_number(f"bins of histograms[{tensor!r}]", count, 1, 1_000_000)
        if not low < high:
            raise ValueError(f"histograms[{tensor!r}] needs low < high, not {low!r} and {high!r}")
        checked.append((tensor, (low, high, count)))
    if len({count for _, (_, _, count) in checked}) > 1:
        raise ValueError("histograms must all have the same number of bins")
    return tuple(sorted(checked))


def _check_cell(task: Task) -> None:
    """Refuse weights, biases and inputs of gates that float32 cannot hold, and f' of a gated cell, which has none."""
    network = task.network
    if network.cell.kind not in GATES:
        return
    if "derivative" in dict(task.histograms):
        raise ValueError(
            f"histograms['derivative'] does not exist with cell={network.cell.kind!r}: its state is no f(s)"
        )
    sizes = [("weights of standard deviation", std) for std in network.weight_stds]
    sizes += [(f"the {name} gate's bias of mean", gate.bias) for name, gate in network.cell.gates.items()]
    limits = np.finfo(task.dtype)
    for what, size in sizes:
        if size != 0 and not float(limits.tiny) <= abs(size) <= float(limits.max):
            raise ValueError(f"{what} {size!r}: outside the normal range of {task.dtype.name}, which a gate needs")
    if task.inputs is not None:
        low, high = GATED_INPUTS
        largest = np.abs(task.inputs).max(axis=-1)
        wrong = largest[(largest != 0) & ~((low <= largest) & (largest <= high))]
        if wrong.size:
            raise ValueError(
                f"inputs: with cell={network.cell.kind!r} the largest absolute value of each time step must be 0 or "
                f"from {low:g} to {high:g}, not {float(wrong[0])!r}"
            )


def loss_scale_of(scale: float, precision: str) -> float:
    """Return the checked factor on the injected gradient, which only number formats have."""
    scale = number("loss_scale", scale, 0.0, open_ends=True)
    if scale != 1.0 and precision not in FORMATS:
        raise ValueError(f"loss_scale={scale!r} needs a precision of {', '.join(FORMATS)}, not {precision!r}")
    if math.frexp(scale)[0] != 0.5:
        raise ValueError(f"loss_scale must be a power of two, not {scale!r}")
    return scale


def _check_biases(network: Network, precision: str) -> None:
    """Refuse biases that the precision cannot hold (weights of any scale can be: their power of two is kept apart)."""
    for fan_in in sorted({fan_in for fan_in, _ in network.fans}):
        size = network.weights.bias_std(fan_in, network.bias_std)
        with np.errstate(over="ignore"):
            held = abs(float(np.dtype(precision).type(size)))
        if size != 0 and not np.finfo(precision).tiny <= held < np.inf:
            raise ValueError(f"biases of standard deviation {size!r} are outside the normal range of {precision}")
