"""Nets a second of peers doing the same work: random ReLU nets, forward and backward, with four statistics a layer.

Each peer draws He weights and standard normal inputs and output gradients afresh for every net, in
float32, and reduces to the variance of z, the share of zeros in z, the variance of dz and the share of
zeros in ds. A peer whose library is not installed is named as absent.

    python benchmarks/peers.py [--seconds 1.5] [--rounds 3]
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Peer = Callable[[int, int, int, int], Any]  # (depth, width, batch, nets) -> statistics of each net and layer

CASES = ((32, 128, 1), (32, 128, 64), (32, 512, 1), (32, 512, 64), (5, 100, 1000))  # depth, width, batch

QUANTITIES = (
    "activation_variance",
    "activation_zero_fraction",
    "activation_gradient_variance",
    "preactivation_gradient_zero_fraction",
)


def numpy_loop(depth: int, width: int, batch: int, nets: int) -> Any:
    """Run one net after the other; BLAS uses all cores."""
    generator = np.random.default_rng(0)

    def normal(shape: tuple[int, int]) -> Any:
        return generator.standard_normal(shape, dtype=np.float32)

    scale = np.float32(math.sqrt(2 / width))
    results = np.zeros((nets, depth, 4))
    for net in range(nets):
        activation = normal((batch, width))
        weights, masks = [], []
        for layer in range(depth):
            weights.append(normal((width, width)))
            weights[-1] *= scale
            activation = np.maximum(activation @ weights[-1], 0)
            masks.append(activation > 0)
            results[net, layer, :2] = activation.var(), (activation == 0).mean()
        gradient = normal((batch, width))
        for layer in reversed(range(depth)):
            inner = gradient * masks[layer]
            gradient = inner @ weights[layer].T
            results[net, layer, 2:] = gradient.var(), (inner == 0).mean()
    return results


def torch_loop(depth: int, width: int, batch: int, nets: int) -> Any:
    """Run one net after the other in PyTorch, its matrix products on all cores."""
    return np.stack([_torch(depth, width, batch, ()) for _ in range(nets)])


def torch_bmm(depth: int, width: int, batch: int, nets: int, *, chunk: int) -> Any:
    """Run chunks of nets at once in PyTorch with batched matrix products."""
    return np.concatenate([_torch(depth, width, batch, (size,)) for size in _chunks(depth, width, nets, chunk)])


def _torch(depth: int, width: int, batch: int, nets: tuple[int, ...]) -> Any:
    import torch

    with torch.inference_mode():
        results = torch.empty(*nets, depth, 4)
        activation = torch.randn(*nets, batch, width)
        weights, masks = [], []
        for layer in range(depth):
            weights.append(torch.randn(*nets, width, width).mul_(math.sqrt(2 / width)))
            activation = torch.relu_(torch.matmul(activation, weights[-1]))
            masks.append(activation > 0)
            results[..., layer, 0] = activation.var((-2, -1))
            results[..., layer, 1] = (activation == 0).float().mean((-2, -1))
        gradient = torch.randn(*nets, batch, width)
        for layer in reversed(range(depth)):
            inner = gradient * masks[layer]
            gradient = torch.matmul(inner, weights[layer].mT)
            results[..., layer, 2] = gradient.var((-2, -1))
            results[..., layer, 3] = (inner == 0).float().mean((-2, -1))
        return results.numpy()


def jax_vmap(depth: int, width: int, batch: int, nets: int, *, chunk: int) -> Any:
    """Run chunks of nets at once in JAX: one compiled function, ``vmap`` over nets, ``scan`` over layers."""
    import jax

    run = _jax_nets(depth, width, batch)
    sizes = _chunks(depth, width, nets, chunk)
    return np.concatenate([run(jax.random.split(jax.random.key(seed), size)) for seed, size in enumerate(sizes)])


@functools.cache
def _jax_nets(depth: int, width: int, batch: int) -> Any:
    import jax
    import jax.numpy as jnp

    def forward(activation: Any, weights: Any) -> Any:
        activation = jax.nn.relu(activation @ weights)
        return activation, (activation.var(), (activation == 0).mean(), activation > 0)

    def backward(gradient: Any, layer: Any) -> Any:
        weights, mask = layer
        inner = gradient * mask
        gradient = inner @ weights.T
        return gradient, (gradient.var(), (inner == 0).mean())

    def net(key: Any) -> Any:
        keys = jax.random.split(key, 3)
        weights = jax.random.normal(keys[0], (depth, width, width)) * math.sqrt(2 / width)
        _, (variance, zeros, masks) = jax.lax.scan(forward, jax.random.normal(keys[1], (batch, width)), weights)
        start = jax.random.normal(keys[2], (batch, width))
        _, backward_results = jax.lax.scan(backward, start, (weights, masks), reverse=True)
        return jnp.stack([variance, zeros, *backward_results], axis=-1)

    return jax.jit(jax.vmap(net))


def _chunks(depth: int, width: int, nets: int, chunk: int) -> Iterator[int]:
    """Yield sizes of chunks of nets, whose weights stay within 1 GiB."""
    chunk = max(1, min(chunk, 2**28 // (depth * width * width)))
    for first in range(0, nets, chunk):
        yield min(chunk, nets - first)


def stabsim_dense(depth: int, width: int, batch: int, nets: int) -> Any:
    """Run this package's dense sampler with the same four statistics."""
    import stabsim

    network = stabsim.Network(widths=(width,) * (depth + 1), activation="relu", weights="he_normal")
    return stabsim.simulate(network, nets=nets, batch=batch, sampler="dense", quantities=QUANTITIES)


# A name starts with its library. Chunk sizes are peers of their own, so that the best one is the one to beat.
PEERS: dict[str, Peer] = {
    "numpy_loop": numpy_loop,
    "torch_loop": torch_loop,
    "torch_bmm_8": functools.partial(torch_bmm, chunk=8),
    "torch_bmm_64": functools.partial(torch_bmm, chunk=64),
    "jax_vmap_1": functools.partial(jax_vmap, chunk=1),
    "jax_vmap_8": functools.partial(jax_vmap, chunk=8),
    "jax_vmap_16": functools.partial(jax_vmap, chunk=16),
}
OURS: dict[str, Peer] = {"stabsim_dense": stabsim_dense}


def absent(functions: Mapping[str, Peer]) -> list[str]:
    """Return the names of the functions whose library is not installed."""
    return [name for name in functions if importlib.util.find_spec(name.split("_")[0]) is None]


def enough_nets(function: Peer, depth: int, width: int, batch: int, *, seconds: float) -> int:
    """Return a number of nets that takes at least about so many seconds: a power of two, so that chunks are full.

    It is also the warm-up: the last call has the shapes of the timed ones, so nothing is compiled then.
    """
    nets, elapsed = 1, 0.0
    function(depth, width, batch, nets)
    while (elapsed := _elapsed(function, depth, width, batch, nets)) < seconds / 2:
        nets *= 2
    return nets if elapsed >= seconds else 2 * nets


def nets_per_second(
    functions: Mapping[str, Peer], depth: int, width: int, batch: int, *, seconds: float = 1.5, rounds: int = 3
) -> dict[str, float]:
    """Return the median rate of each function over interleaved rounds A B C A B C ..., so that drift hits all alike.

    Parameters
    ----------
    functions : mapping of str to callable
        Name -> function; each is warmed up first.
    depth, width, batch : int
        Layers, units a layer, samples.
    seconds : float
        The least that one measurement takes, about.
    rounds : int
        Measurements of each function.
    """
    nets = {name: enough_nets(function, depth, width, batch, seconds=seconds) for name, function in functions.items()}
    rates: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            rates[name].append(nets[name] / _elapsed(function, depth, width, batch, nets[name]))
    return {name: statistics.median(found) for name, found in rates.items()}


def _elapsed(function: Peer, depth: int, width: int, batch: int, nets: int) -> float:
    start = time.perf_counter()
    function(depth, width, batch, nets)
    return time.perf_counter() - start


def main() -> None:
    """Print nets a second of every installed peer in every case."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="least time of one measurement (default 1.5)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each peer (default 3)")
    options = parser.parse_args()
    functions = PEERS
    for name in absent(functions):
        print(f"{name}: absent, its library is not installed")
    present = {name: function for name, function in functions.items() if name not in absent(functions)}
    for depth, width, batch in CASES:
        print(f"depth {depth}, width {width}, batch {batch}")
        rates = nets_per_second(present, depth, width, batch, seconds=options.seconds, rounds=options.rounds)
        for name, rate in rates.items():
            print(f"  {name:14s} {rate:10.1f} nets/s")


if __name__ == "__main__":
    main()
