"""Exact Hessians and the signs of their eigenvalues, of many small nets: against PyTorch, in one run.

    python benchmarks/hessian.py [--seconds 3] [--rounds 3]

The same nets (tanh, squared error), data and points for all; nets a second, the best of some rounds, in which the
contestants take turns. PyTorch: torch.func.hessian over vmap, then torch.linalg.eigvalsh, with all threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim import Network
from stabsim.landscape import Landscape, inertia

NETS = {(10, 8, 8, 1): (64, 64), (16, 12, 12, 4): (64, 16), (64, 10, 10, 10): (128, 8)}  # samples, points at a time
Counts = NDArray[np.int64]
Contestant = Callable[[Landscape, NDArray[np.float64]], Counts]  # from points to numbers of negative eigenvalues


def ours(surface: Landscape, points: NDArray[np.float64]) -> Counts:
    return inertia(surface.hessian(points)).negative


def pytorch(surface: Landscape, points: NDArray[np.float64]) -> Counts:
    import torch

    x, y = torch.tensor(surface.inputs), torch.tensor(surface.targets)

    def loss(vector: Any) -> Any:
        z = x
        for layer, ((fan_in, fan_out), place) in enumerate(zip(surface.network.fans, surface.layers, strict=True)):
            both = vector[place].reshape(fan_in + 1, fan_out)
            z = z @ both[:-1] + both[-1]
            z = z if layer == surface.network.depth - 1 else torch.tanh(z)
        return torch.mean((z - y) ** 2)

    hessians = torch.func.vmap(torch.func.hessian(loss))(torch.tensor(points))
    values = torch.linalg.eigvalsh(hessians).numpy()
    band = values.shape[1] * np.finfo(float).eps * np.abs(values).max(axis=1)
    return np.asarray((values < -band[:, None]).sum(axis=1))


CONTESTANTS: dict[str, Contestant] = {"stabsim": ours, "torch": pytorch}


def surface_of(widths: tuple[int, ...], samples: int) -> Landscape:
    """Return the loss of tanh nets on random data."""
    draws = np.random.default_rng(0)
    data = draws.normal(size=(samples, widths[0])), draws.normal(size=(samples, widths[-1]))
    return Landscape(Network(widths, "tanh", "lecun_normal"), data)


def rates(widths: tuple[int, ...], samples: int, count: int, seconds: float, rounds: int) -> dict[str, float]:
    """Return nets a second of every contestant that is installed; all must find the same signs."""
    surface = surface_of(widths, samples)
    points = surface.draw(count)
    names = [name for name in CONTESTANTS if name == "stabsim" or importlib.util.find_spec(name)]
    found = {name: CONTESTANTS[name](surface, points[:2]) for name in names}
    assert all((each == found["stabsim"]).all() for each in found.values()), found
    best = dict.fromkeys(names, 0.0)
    for _ in range(rounds):
        for name in names:
            start, done = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                CONTESTANTS[name](surface, points)
                done += count
            best[name] = max(best[name], done / (time.perf_counter() - start))
    return best


def main() -> None:
    """Print nets a second, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for widths, (samples, count) in NETS.items():
        surface = surface_of(widths, samples)
        best = rates(widths, samples, count, options.seconds, options.rounds)
        told = ", ".join(f"{name} {rate:.4g} nets/s" for name, rate in best.items())
        ratio = f": {best['stabsim'] / best['torch']:.1f} times" if "torch" in best else ": PyTorch is not installed"
        print(f"{widths}, {samples} samples, {surface.parameters} parameters: {told}{ratio}", flush=True)


if __name__ == "__main__":
    main()
