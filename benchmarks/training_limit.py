"""How long the parts of a training step take alone: matrix products, the optimizer, taking the samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from stabsim.threads import single_threaded_blas
from stabsim.training import optimizer as optimizer_of

REPEATS, ROUNDS = 50, 7


def _normal(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def products(widths: tuple[int, ...], batch: int) -> Callable[[], None]:
    """Return what does all matrix products of a step: forward, dW, and dz of all layers but the input."""
    z = [_normal(batch, width) for width in widths]
    w = [_normal(*fans) for fans in pairwise(widths)]
    dz, dw = [np.empty_like(each) for each in z], [np.empty_like(each) for each in w]

    def run() -> None:
        for layer in range(len(w)):
            np.matmul(z[layer], w[layer], out=dz[layer + 1])
        for layer in reversed(range(len(w))):
            np.matmul(z[layer].T, z[layer + 1], out=dw[layer])
            if layer > 0:
                np.matmul(z[layer + 1], w[layer].T, out=dz[layer])

    return run


def flops(widths: tuple[int, ...], batch: int) -> int:
    """Return how many multiplications and additions these are."""
    sizes = [fan_in * fan_out for fan_in, fan_out in pairwise(widths)]
    return 2 * batch * (3 * sum(sizes) - sizes[0])


def optimizer_step(widths: tuple[int, ...], spec: str) -> Callable[[], None]:
    """Return what takes a step of the optimizer with all parameters."""
    count = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))
    points, gradient, descent = _normal(count), _normal(count), optimizer_of(spec)
    state = descent.start(points)
    return lambda: descent.step(points, gradient, state)


def taking(widths: tuple[int, ...], batch: int) -> Callable[[], Any]:
    """Return what copies the samples of a mini-batch."""
    inputs, taken = _normal(4000, widths[0]), np.empty((batch, widths[0]), np.float32)
    chosen = np.random.default_rng(1).integers(0, len(inputs), batch)
    return lambda: np.take(inputs, chosen, axis=0, out=taken, mode="clip")


def seconds(make: Callable[[], Callable[[], Any]], threads: int) -> float:
    """Return the median time of one call, as many threads calling their own at the same time."""

    def repeat(function: Callable[[], Any]) -> None:
        for _ in range(REPEATS):
            function()

    functions, times = [make() for _ in range(threads)], []
    with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(repeat, functions))
        for _ in range(ROUNDS):
            start = time.perf_counter()
            list(pool.map(repeat, functions))
            times.append((time.perf_counter() - start) / REPEATS)
    return float(np.median(times))


def told(widths: tuple[int, ...], batch: int, threads: int, optimizer: str, step: float) -> str:
    """Write how long the parts of a step take alone, of what a step takes."""
    parts = {
        "matrix products": lambda: products(widths, batch),
        "optimizer": lambda: optimizer_step(widths, optimizer),
        "taking samples": lambda: taking(widths, batch),
    }
    found = {name: seconds(make, threads) for name, make in parts.items()}
    found["all else (activations, loss, counting, drawing)"] = step - sum(found.values())
    speed = flops(widths, batch) / found["matrix products"] / 1e9
    shares = "; ".join(f"{name} {1e3 * each:.3f} ms, {each / step:.0%}" for name, each in found.items())
    return f"  a step of stabsim takes {1e3 * step:.3f} ms of a core: {shares}; products at {speed:.0f} GFLOP/s a core"
