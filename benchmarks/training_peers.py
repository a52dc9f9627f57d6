"""Nets trained by PyTorch: modules with autograd, stacked nets by ``torch.func``, and products written out."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np

# By name: how many nets a process trains at a time.
TORCH = {"modules": 1, "func of 4": 4, "func of 16": 16} | {f"bmm of {nets}": nets for nets in (1, 2, 4, 16)}


@dataclass(frozen=True)
class Work:
    """What is trained by PyTorch, and how."""

    kind: str  # a name of TORCH
    optimizer: str
    widths: tuple[int, ...]
    batch: int


_data: list[Any] = []  # of this process: inputs and labels


def prepare(threads: int, inputs: Any, labels: Any) -> None:
    """Set the number of PyTorch's threads in this process, and keep the samples for all that it will train."""
    import torch

    torch.set_num_threads(threads)
    _data[:] = torch.from_numpy(inputs), torch.from_numpy(labels)


@contextlib.contextmanager
def processes(count: int, inputs: Any, labels: Any) -> Iterator[ProcessPoolExecutor | None]:
    """Give processes in which PyTorch has one thread each, as many as it has in this one; nothing without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        print("torch: absent, it is not installed")
        yield None
        return
    prepare(count, inputs, labels)
    with ProcessPoolExecutor(count, get_context("spawn"), prepare, (1, inputs, labels)) as pool:
        yield pool


def run_torch(work: Work, steps: int) -> list[float]:
    """Train new nets, and return the last mini-batch's loss of each after its step."""
    nets = TORCH[work.kind]
    x, y = _data
    return {"modules": _modules, "func": _func, "bmm": _bmm}[work.kind.split()[0]](work, nets, steps, x, y)


def _optimizer(work: Work, parameters: list[Any]) -> Any:
    return _make(work.optimizer, parameters, **_quickest(work.optimizer, tuple(each.shape for each in parameters)))


def _make(name: str, parameters: list[Any], **options: bool) -> Any:
    import torch

    kind, rate = {"sgd": (torch.optim.SGD, 0.01), "adam": (torch.optim.Adam, 0.001)}[name]
    return kind(parameters, lr=rate, **options)


@cache
def _quickest(name: str, shapes: tuple[Any, ...]) -> dict[str, bool]:
    """Return the options of the quickest implementation of an optimizer for parameters of these shapes."""
    import torch

    found = []
    for options in ({"fused": True}, {"foreach": True}, {"foreach": False}):
        parameters = [torch.zeros(shape, requires_grad=True) for shape in shapes]
        for each in parameters:
            each.grad = torch.ones_like(each)
        optimizer, times = _make(name, parameters, **options), []
        for _ in range(40):
            start = time.perf_counter()
            optimizer.step()
            times.append(time.perf_counter() - start)
        found.append((float(np.median(times)), options))
    return min(found, key=lambda each: each[0])[1]


def _drawn(work: Work, nets: int, *, turned: bool) -> list[list[Any]]:
    """Return W and b of the layers, of all nets: normal weights of variance 2 / fan_in, no biases."""
    import torch

    layers = []
    for fan_in, fan_out in pairwise(work.widths):
        weights = torch.randn(nets, *((fan_out, fan_in) if turned else (fan_in, fan_out))) * math.sqrt(2 / fan_in)
        layers.append([weights.requires_grad_(), torch.zeros(nets, fan_out, requires_grad=True)])
    return layers


def _module(widths: tuple[int, ...]) -> Any:
    import torch

    layers: list[Any] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU(inplace=True)]
    return torch.nn.Sequential(*layers[:-1])


def _modules(work: Work, nets: int, steps: int, x: Any, y: Any) -> list[float]:
    """Train net by net with autograd."""
    import torch

    losses = []
    for _ in range(nets):
        module, loss = _module(work.widths), torch.nn.functional.cross_entropy
        with torch.no_grad():
            for linear, (weights, biases) in zip(module[::2], _drawn(work, 1, turned=True), strict=True):
                linear.weight.copy_(weights[0])
                linear.bias.copy_(biases[0])
        optimizer = _optimizer(work, list(module.parameters()))
        for batch in torch.randint(len(x), (steps, work.batch)):
            optimizer.zero_grad(set_to_none=True)
            loss(module(x.index_select(0, batch)), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(float(loss(module(x[batch]), y[batch])))
    return losses


def _func(work: Work, nets: int, steps: int, x: Any, y: Any) -> list[float]:
    """Train stacked nets by the gradient of ``torch.func``, vectorized."""
    import torch

    module = _module(work.widths).to("meta")
    leaves = [each for layer in _drawn(work, nets, turned=True) for each in layer]
    stacked = dict(zip([name for name, _ in module.named_parameters()], leaves, strict=True))

    def loss(parameters: Any, inputs: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(torch.func.functional_call(module, parameters, (inputs,)), labels)

    gradient, optimizer = torch.func.vmap(torch.func.grad(loss)), _optimizer(work, leaves)
    for batch in torch.randint(len(x), (steps, nets, work.batch)):
        found = gradient({name: each.detach() for name, each in stacked.items()}, x[batch], y[batch])
        for name, each in stacked.items():
            each.grad = found[name]
        optimizer.step()
    with torch.no_grad():
        return list(torch.func.vmap(loss)(stacked, x[batch], y[batch]).tolist())


def _bmm(work: Work, nets: int, steps: int, x: Any, y: Any) -> list[float]:
    """Train stacked nets with forward and backward passes written out."""
    import torch

    layers = _drawn(work, nets, turned=False)
    leaves = [each for layer in layers for each in layer]
    for each in leaves:
        each.grad = torch.empty_like(each)
    optimizer, minus_one = _optimizer(work, leaves), torch.full((1, 1, 1), -1.0).expand(nets, work.batch, 1)

    def forward(given: Any) -> list[Any]:
        signals = [given]
        for place, (weights, biases) in enumerate(layers):
            s = torch.baddbmm(biases[:, None], signals[-1], weights)
            signals.append(s if place == len(layers) - 1 else s.relu_())
        return signals

    with torch.no_grad():
        for batch in torch.randint(len(x), (steps, nets, work.batch)):
            signals, labels = forward(x[batch]), y[batch][..., None]
            ds = torch.softmax(signals[-1], -1).scatter_add_(-1, labels, minus_one).div_(work.batch)
            for place in reversed(range(len(layers))):
                weights, biases = layers[place]
                torch.bmm(signals[place].mT, ds, out=weights.grad)
                torch.sum(ds, 1, out=biases.grad)
                if place > 0:
                    ds = torch.ops.aten.threshold_backward(torch.bmm(ds, weights.mT), signals[place], 0)
            optimizer.step()
        logarithms = torch.log_softmax(forward(x[batch])[-1], -1)
        return list((-logarithms.gather(-1, labels).mean((1, 2))).tolist())
