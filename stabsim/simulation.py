"""``simulate``: a network and a number of nets in, a table of estimates with intervals out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from stabsim.arguments import make_task
from stabsim.checks import brief, whole_number
from stabsim.clipping import Clipping
from stabsim.devices import CPU
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import Quantity
from stabsim.result import Result, growing
from stabsim.target import check_target
from stabsim.task import LARGEST_NET, Bins
from stabsim.threads import count_threads

Progress = Callable[[Result, int], None]


def simulate(
    network: Network,
    *,
    nets: int,
    batch: int = 1,
    seed: int = 0,
    inputs: str | NDArray[Any] | None = None,
    output_gradient: NDArray[Any] | None = None,
    sampler: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = CPU,
    samples: Sequence[str | Quantity] = (),
    progress: Progress | None = None,
    quantities: Sequence[str | Quantity] | None = None,
    histograms: Mapping[str, Bins] | None = None,
    saturation: float = 0.01,
    target_rel_error: float | None = None,
    clipping: str | Clipping | None = None,
    loss_scale: float = 1.0,
) -> Result:
    """Run an ensemble of randomly initialized nets forward and backward, and estimate how signals travel.

    Parameters
    ----------
    network : Network
        The law of one net.
    nets : int
        How many independent nets to draw.
    batch : int
        Samples that go through each net together; 1 unless told.
    seed : int
        From 0 to 2**64 - 1. A net is a function of the seed and its number alone: the same arguments give the same
        bits, whatever the number of threads.
    inputs : None, str or array (samples, widths[0])
        None: standard normal, new for each net. A name: a real data set (``"digits"``, ``"digits_raw"``). Each net
        draws ``batch`` of the samples without replacement; all of them, in order, if there are as many. Of a recurrent
        net: (samples, time steps, widths[0]); standard normals are new at every time step.
    output_gradient : None or array (batch, widths[-1])
        The gradient of the loss by the last activations, which are the last state of a recurrent net. None: standard
        normal, new for each net.
    sampler : str
        "dense" forms W. "matrix_free" draws only what samples and gradients ask of W, which is exact in law and linear
        in the width, but for zeros and signs of the dW of a batch. (Zeros of dW are those of generic values: sums that
        cancel exactly, as with inputs and an output gradient of whole numbers, do not count.) It needs weights of law
        "normal" or "orthogonal", and draws other nets than "dense" with the same seed. "auto" takes the cheaper one
        for the network, batch and precision (of singular values: see ``quantities``); which that was is
        ``result.task.sampler``.
    precision : str
        "float32" or "float64"; sums over values are float64 in both. Or a number format that is simulated: "float16",
        "bfloat16", "float8_e5m2" or "float8_e4m3". All tensors are rounded to it, to nearest, ties to even; products
        of matrices are summed in float32, as tensor cores do, and bias and f are float32 before they are rounded.
    threads : int, optional
        As many as there are processors, unless told. Of device "cpu" only.
    device : str
        "cpu", or "cuda": an NVIDIA GPU (``pip install 'stabsim[cuda]'``). The nets are those of the same seed on the
        CPU, their numbers the same but for rounding. It runs feedforward nets without normalization and residual
        connections, in float32 or float64, without what else ``docs/gpu.md`` names.
    samples : sequence of str or Quantity
        Quantities, names or your own, to keep for every net, in ``result.samples``.
    progress : callable, optional
        Called after each chunk with the result so far and the number of nets asked for.
    quantities : sequence of str or Quantity, optional
        Quantities, names or your own, to estimate; all of them unless told, but for ranks and singular values, which
        cost more than the net, and are named. What is not asked for is not computed. "singular_value" is of the
        Jacobians dz_L/dz_l of each sample: with "dense" all of it at every layer, with "matrix_free", one sample and
        weights of law "normal" the mean square and the largest at layer 0. "auto" takes "dense" up to 512 units, and
        where any layer has more, "matrix_free", if it gives what is asked for.
    histograms : mapping of str to (low, high, bins), optional
        Tensors ("activation", "preactivation", "derivative", "activation_gradient", "preactivation_gradient",
        "singular_value") whose values are counted in equal bins, the same number for all.
    saturation : float
        Below this, f' and the distance of f to its limit count as saturated.
    target_rel_error : float, optional
        Between 0 and 1. Nets are drawn, a chunk at a time, until both ends of the interval of each of the
        ``quantities`` at each layer are within this much of its estimate, or until there are ``nets`` of them:
        ``result.reached_target`` says which. Intervals are then a confidence sequence, which holds the truth with 95%
        whenever one stops; they are 1.5 to 2.5 times as wide as those of as many nets fixed ahead. Of a log10 norm it
        is the error of the norm; of a fraction below the target, it is by the target in place of the estimate. Never
        reached: with fewer than 100 nets, by quantities without an estimate, and where few nets own the mean
        (``top_share`` above 0.2).
        Quantities whose truth may be 0 (means, correlation) have no relative error: name ``quantities`` without them.
    clipping : None, str or Clipping
        How gradients by the weights are clipped: "value", "norm", "global_norm" or "adaptive", with their bound. All
        quantities are of what is not clipped, but for those that say so.
    loss_scale : float
        Of a simulated number format: a power of two by which the injected gradient is multiplied. Estimates are of
        gradients divided by it again.

    Returns
    -------
    Result
        With ``table``, ``samples`` and ``histograms``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed: its name, its value and what is allowed.
    MemoryError
        If one net does not fit into memory.
    stabsim.devices.DeviceError
        If there is no GPU that can be used, what it is used by is not installed, or one net does not fit into its
        memory.

    Warns
    -----
    RuntimeWarning
        If nets overflow, which only an activation without known asymptotes, an unbounded one in a gated cell, or a
        simulated number format can make them do: estimates are of the nets that do not, as many as the table says. If
        ``target_rel_error`` is not reached: which quantity, at which layer, is furthest from it.

    Examples
    --------
    >>> network = Network(widths=(64,) * 11, activation="relu", weights="he_normal")
    >>> result = simulate(network, nets=500, seed=1)
    >>> row = result.table.set_index(["quantity", "layer"]).loc[("activation_mean_square", 10)]
    >>> bool(row.ci_low < row.theory < row.ci_high)
    True
    """
    task = make_task(
        network, batch=batch, seed=seed, inputs=inputs, output_gradient=output_gradient, sampler=sampler,
        precision=precision, saturation=saturation, quantities=quantities, samples=samples, histograms=histograms,
        clipping=clipping, loss_scale=loss_scale, device=device,
    )  # fmt: skip
    nets = whole_number("nets", nets, 1, LARGEST_NET)
    if progress is not None and not callable(progress):
        raise TypeError(
            f"progress must be None or a function of a Result and the number of nets, not {brief(progress)}"
        )
    target = None if target_rel_error is None else check_target(target_rel_error, task)
    plan = Plan(task)
    with contextlib.closing(growing(plan, plan.chunks(nets), count_threads(threads, device), target=target)) as results:
        for result in results:
            if progress is not None:
                progress(result, nets)
            if result.reached_target:
                break
    for problem in ("; ".join(result.overflowed()), result.missed()):
        if problem:
            warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return result
