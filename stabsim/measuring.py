"""What one net costs: seconds and bytes, forward and backward, measured in a process of its own on one thread.

    python -m stabsim.measuring SAMPLER WIDTH DEPTH

prints both. Peers are what a NumPy or PyTorch user would write: the same four statistics of one ReLU net at batch 1.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ENOUGH = 0.1  # seconds


class Cost(NamedTuple):
    """Of one net: seconds of many in a row, and the peak memory of one above what the process held before."""

    seconds: float
    bytes: float


def cost_of_net(sampler: str, width: int, depth: int) -> Cost:
    """Return what one ReLU net of equal widths costs.

    Parameters
    ----------
    sampler : str
        "matrix_free" or "dense" of this package, "numpy" or "torch".
    width, depth : int
        Units a layer and layers.

    Raises
    ------
    ValueError
        If it cannot be measured, such as for lack of memory: with the last line of what went wrong.
    """
    command = [sys.executable, "-m", "stabsim.measuring", sampler, str(width), str(depth)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"{sampler} at width {width} and depth {depth} cannot be measured: {reason}")
    seconds, size = done.stdout.split()
    return Cost(float(seconds), float(size))


def measurable() -> list[str]:
    """Return the samplers that are installed."""
    return [name for name in SAMPLERS if name != "torch" or importlib.util.find_spec("torch") is not None]


def _this_package(sampler: str) -> Callable[[int, int, int], None]:
    def run(width: int, depth: int, nets: int) -> None:
        import stabsim

        network = stabsim.Network((width,) * (depth + 1), "relu", "he_normal")
        quantities = (
            "activation_variance",
            "activation_zero_fraction",
            "activation_gradient_variance",
            "preactivation_gradient_zero_fraction",
        )
        stabsim.simulate(network, nets=nets, sampler=sampler, quantities=quantities, threads=1)

    return run


def _numpy(width: int, depth: int, nets: int) -> None:
    normal = np.random.default_rng().standard_normal
    for _ in range(nets):
        activation: Any = normal((1, width), np.float32)
        layers = []
        for _ in range(depth):
            weights = normal((width, width), np.float32)
            weights *= np.float32(math.sqrt(2 / width))
            activation = np.maximum(activation @ weights, 0)
            layers.append((weights, activation > 0, activation.var(), (activation == 0).mean()))
        gradient: Any = normal((1, width), np.float32)
        for weights, mask, *_ in reversed(layers):
            inner = gradient * mask
            gradient = inner @ weights.T
            _ = gradient.var(), (inner == 0).mean()


def _torch(width: int, depth: int, nets: int) -> None:
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(nets):
            activation = torch.randn(1, width)
            layers = []
            for _ in range(depth):
                weights = torch.randn(width, width).mul_(math.sqrt(2 / width))
                activation = torch.relu_(activation @ weights)
                zeros = (activation == 0).float().mean()
                layers.append((weights, activation > 0, activation.var(), zeros))
            gradient = torch.randn(1, width)
            for weights, mask, *_ in reversed(layers):
                inner = gradient * mask
                gradient = inner @ weights.T
                _ = gradient.var(), (inner == 0).float().mean()


SAMPLERS: dict[str, Callable[[int, int, int], None]] = {
    "matrix_free": _this_package("matrix_free"),
    "dense": _this_package("dense"),
    "numpy": _numpy,
    "torch": _torch,
}


def peak_of(run: Callable[[], Any]) -> float:
    """Return how many bytes the process held at most while it ran, above what it held before; NaN but on Linux."""
    forget = Path("/proc/self/clear_refs")  # see proc(5)
    if not forget.exists():
        return math.nan
    forget.write_text("5")
    before = _status("VmRSS")
    run()
    return float(max(_status("VmHWM") - before, 0))


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {field}")


def seconds_of(run: Callable[[int], Any]) -> float:
    """Return the least seconds a net of three runs, or of one that is long, of nets that take a tenth of a second."""
    nets, times = 1, list[float]()
    while len(times) < 3:
        start = time.perf_counter()
        run(nets)
        elapsed = time.perf_counter() - start
        if elapsed < ENOUGH:
            nets *= 2
        else:
            times.append(elapsed / nets)
            if elapsed > 10 * ENOUGH:
                break
    return min(times)


def main(sampler: str, width: int, depth: int) -> None:
    """Measure in this process, and print."""
    run = SAMPLERS[sampler]
    run(8, 2, 1)  # what is imported and compiled on first use
    size = peak_of(lambda: run(width, depth, 1))
    print(seconds_of(lambda nets: run(width, depth, nets)), size)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
