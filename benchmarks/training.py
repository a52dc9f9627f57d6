"""Trained nets an hour: 784-100-100-100-100-10, ReLU, 2000 steps of 128 digits, against PyTorch in the same run.

    python benchmarks/training.py [--optimizers sgd adam] [--steps 400] [--rounds 5] [--limit]

PyTorch in float32: modules with autograd, ``torch.func`` over stacked nets (``vmap`` of ``grad``), and forward and
backward written out with ``bmm``; each in one process with two threads, and in two processes with one thread each;
of its optimizer's implementations (fused, foreach, loop) the quickest. Its mini-batches are drawn at once, ours one by
one. The mean loss of the last mini-batches is printed. Contestants take turns, and
ratios are of one turn: absolute rates drift with the machine. ``--limit`` adds how long parts of a step take alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from training_limit import told
from training_peers import TORCH, Work, processes, run_torch

from stabsim import Network
from stabsim.datasets import mnist_at_hand, split
from stabsim.training import train

NETWORK = Network((784, 100, 100, 100, 100, 10), "relu", "he_normal")
STEPS, BATCH, CORES = 2000, 128, 2
OPTIMIZERS = {"sgd": "sgd(learning_rate=0.01)", "adam": "adam(learning_rate=0.001)"}
Contestant = Callable[[int], list[float]]  # from steps to the last loss of each net


@cache
def digits() -> Any:
    """Return inputs and one-hot targets."""
    return split(mnist_at_hand(), scale="unit").train


def this_package(steps: int, *, optimizer: str, nets: int) -> list[float]:
    """Train nets by this package."""
    trained = train(
        NETWORK, nets=nets, steps=steps, data=digits(), batch=BATCH, loss="softmax_cross_entropy",
        optimizer=OPTIMIZERS[optimizer], order="with_replacement", record=(steps,), quantities=("last_batch_loss",),
        threads=CORES,
    )  # fmt: skip
    return list(trained.values("last_batch_loss")[:, 0, 0])


def contestants(optimizer: str, pool: ProcessPoolExecutor | None) -> Iterator[tuple[str, Contestant]]:
    """Yield this package, and all kinds of PyTorch with threads and with processes."""
    yield "stabsim", partial(this_package, optimizer=optimizer, nets=2 * CORES)
    if pool is not None:
        for kind in TORCH:
            work = Work(kind, optimizer, NETWORK.widths, BATCH)
            yield f"torch {kind}, {CORES} threads", partial(run_torch, work)
            yield f"torch {kind}, {CORES} processes", partial(_side_by_side, pool, work)


def _side_by_side(pool: ProcessPoolExecutor, work: Work, steps: int) -> list[float]:
    return [loss for found in pool.map(run_torch, [work] * CORES, [steps] * CORES) for loss in found]


def rates(functions: dict[str, Contestant], steps: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return trained nets an hour of every contestant in every round, and the mean loss at the end."""
    losses = {name: float(np.mean(function(steps))) for name, function in functions.items()}  # the warm-up
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            nets = len(function(steps))
            found[name].append(nets * 3600 * steps / STEPS / (time.perf_counter() - start))
    return found, losses


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=list(OPTIMIZERS))
    parser.add_argument(
        "--steps", type=int, default=400, help=f"timed, of {STEPS}, to which it is scaled (default 400)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant (default 5)")
    parser.add_argument("--limit", action="store_true", help="time the products of a step alone, too")
    options = parser.parse_args()
    inputs, targets = digits()
    with processes(CORES, inputs.astype(np.float32), targets.argmax(axis=1)) as pool:
        for optimizer in options.optimizers:
            functions = dict(contestants(optimizer, pool))
            found, losses = rates(functions, options.steps, options.rounds)
            peers = {name: statistics.median(each) for name, each in found.items() if name != "stabsim"}
            best = max(peers, key=peers.__getitem__, default="stabsim")
            print(f"{OPTIMIZERS[optimizer]}, {STEPS} steps: nets an hour, loss after {options.steps} steps")
            for name, each in found.items():
                ratio = sorted(ours / theirs for ours, theirs in zip(found["stabsim"], each, strict=True))
                print(
                    f"  {name:32s} {statistics.median(each):8.0f} {losses[name]:7.3f}   stabsim is "
                    f"{statistics.median(ratio):5.2f} ({ratio[0]:.2f} to {ratio[-1]:.2f}) times as fast"
                    + (", the best peer" if name == best and peers else ""),
                    flush=True,
                )
            if options.limit:
                seconds = 3600 / statistics.median(found["stabsim"]) / STEPS * CORES
                print(told(NETWORK.widths, BATCH, CORES, OPTIMIZERS[optimizer], seconds), flush=True)


if __name__ == "__main__":
    main()
