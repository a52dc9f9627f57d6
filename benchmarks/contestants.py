"""The same work by this package and by its peers: random ReLU nets, forward and backward, four statistics a layer.

Each peer draws He weights and standard normal inputs and output gradients afresh for every net, in
float32, and reduces to the variance of z, the share of zeros in z, the variance of dz and the share of
zeros in ds: z and ds of layers 1 to depth, dz of layers 0 to depth - 1, each variance within the net, about its
own mean. A peer whose library is not installed is named as absent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Peer = Callable[[int, int, int, int], Any]  # (depth, width, batch, nets) -> statistics of each net and layer

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


def _torch(depth: int, width: int, batch: int, nets: tuple[int, ...], draw: Callable[[], Any] | None = None) -> Any:
    import torch

    draw = draw or (lambda: torch.randn(*nets, width, width).mul_(math.sqrt(2 / width)))
    with torch.inference_mode():
        results = torch.empty(*nets, depth, 4)
        activation = torch.randn(*nets, batch, width)
        weights, masks = [], []
        for layer in range(depth):
            weights.append(draw())
            activation = torch.relu_(torch.matmul(activation, weights[-1]))
            masks.append(activation > 0)
            results[..., layer, 0] = activation.var((-2, -1), correction=0)
            results[..., layer, 1] = (activation == 0).float().mean((-2, -1))
        gradient = torch.randn(*nets, batch, width)
        for layer in reversed(range(depth)):
            inner = gradient * masks[layer]
            gradient = torch.matmul(inner, weights[layer].mT)
            results[..., layer, 2] = gradient.var((-2, -1), correction=0)
            results[..., layer, 3] = (inner == 0).float().mean((-2, -1))
        return results.cpu().numpy()


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


def torch_orthogonal(depth: int, width: int, batch: int, nets: int) -> Any:
    """Run one net after the other in PyTorch with its orthogonal initialization."""
    import torch

    def weights() -> Any:
        return torch.nn.init.orthogonal_(torch.empty(width, width), gain=math.sqrt(2))

    return np.stack([_torch(depth, width, batch, (), weights) for _ in range(nets)])


def this_package(
    depth: int, width: int, batch: int, nets: int, *,
    sampler: str, quantities: tuple[str, ...] | None = QUANTITIES, weights: str = "he_normal", device: str = "cpu",
) -> Any:  # fmt: skip
    """Run this package, with the same four statistics unless told."""
    import stabsim

    network = stabsim.Network(widths=(width,) * (depth + 1), activation="relu", weights=weights)
    return stabsim.simulate(network, nets=nets, batch=batch, sampler=sampler, quantities=quantities, device=device)


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
OURS: dict[str, Peer] = {
    "stabsim_dense": functools.partial(this_package, sampler="dense"),
    "stabsim_matrix_free": functools.partial(this_package, sampler="matrix_free"),
    "stabsim_all": functools.partial(this_package, sampler="auto", quantities=None),  # no peer has all quantities
}
ORTHOGONAL: dict[str, Peer] = {
    "stabsim_orthogonal": functools.partial(
        this_package, sampler="matrix_free", weights=f"orthogonal(gain={math.sqrt(2)})"
    ),
    "torch_orthogonal": torch_orthogonal,
}
