"""The limits of this machine: products by BLAS and normals, on as many threads as nets are spread over."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from stabsim.kernels import laws, philox
from stabsim.threads import available, single_threaded_blas

SINGLE = np.dtype(np.float32)


@numba.njit(nogil=True)
def _products(times, z, w, s):  # type: ignore[no-untyped-def]
    """Multiply forward and backward, as a net does, over and over."""
    for _ in range(times):
        np.dot(z, w, s)
        np.dot(s, w.T, z)


def _rate(work: Callable[[int], Any], amount: float, seconds: float) -> float:
    """Return the amount a second of all threads together, each doing ``work(times)``."""
    threads = available()
    with ThreadPoolExecutor(threads) as pool, single_threaded_blas():
        times = 1
        while True:
            start = time.perf_counter()
            list(pool.map(work, [times] * threads))
            elapsed = time.perf_counter() - start
            if elapsed > seconds:
                return amount * times * threads / elapsed
            times *= 2


def flops_per_second(batch: int, width: int, *, seconds: float = 1.0) -> float:
    """Return what BLAS does with the products of a layer of that shape, float32."""

    def work(times: int) -> None:
        rng = np.random.default_rng(0)
        w = rng.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width))
        w = np.linalg.qr(w)[0]  # orthogonal: products stay in range however often they are made
        z = rng.standard_normal((batch, width), np.float32)
        _products(times, z, w, np.empty_like(z))

    work(1)
    return _rate(work, 4.0 * batch * width * width, seconds)


def normals_per_second(*, seconds: float = 1.0) -> float:
    """Return how many float32 standard normals are drawn."""
    law = laws.law("normal", SINGLE)

    def work(times: int) -> None:
        out = np.empty((256, 256), np.float32)
        for layer in range(times):
            law(out, np.uint64(0), np.uint64(1), philox.WEIGHT, np.uint32(layer), np.uint32(0), np.float32(1))

    work(1)
    return _rate(work, 256.0 * 256.0, seconds)


def nanoseconds_a_normal(*, seconds: float = 1.0, rounds: int = 5) -> dict[str, float]:
    """Return the least time of one float32 normal on one core, here and of the peers that are installed."""
    size = 2**20
    out = np.empty((1, size), np.float32)
    law = laws.law("normal", SINGLE)
    generator = np.random.default_rng()
    zero, one = np.uint32(0), np.float32(1)
    draws: dict[str, Callable[[], Any]] = {
        "stabsim": lambda: law(out, np.uint64(0), np.uint64(1), philox.WEIGHT, zero, zero, one),
        "numpy": lambda: generator.standard_normal(size, np.float32),
    }
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(1)
        tensor = torch.empty(size)
        draws["torch"] = tensor.normal_
    best = dict.fromkeys(draws, float("inf"))
    for _ in range(rounds):
        for name, draw in draws.items():
            draw()
            start, times = time.perf_counter(), 0
            while time.perf_counter() - start < seconds / rounds:
                draw()
                times += 1
            best[name] = min(best[name], (time.perf_counter() - start) / times / size * 1e9)
    if "torch" in draws:
        torch.set_num_threads(available())
    return best
