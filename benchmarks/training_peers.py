"""Nets trained by PyTorch: modules with autograd, stacked nets by ``torch.func``, and products written out."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Work:
    """What some nets are trained on, and how."""

    inputs: Any
    labels: Any
    starts: list[list[Any]]  # W (fan_in, fan_out) and b of each layer of each net
    batch: int
    optimizer: str
    kind: str  # a name of TORCH


# By name: how many nets a process trains at a time.
TORCH = {"modules": 1, "func of 4": 4, "func of 16": 16} | {f"bmm of {nets}": nets for nets in (1, 2, 4, 16)}


@contextlib.contextmanager
def one_thread(processes: int) -> Iterator[ProcessPoolExecutor | None]:
    """Give processes in which PyTorch has one thread each; nothing where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        print("torch: absent, it is not installed")
        yield None
        return
    set_threads(processes)
    with ProcessPoolExecutor(processes, get_context("spawn"), set_threads, (1,)) as pool:
        yield pool


def set_threads(count: int) -> None:
    """Set the number of PyTorch's threads."""
    import torch

    torch.set_num_threads(count)


def run_torch(work: Work, steps: int) -> list[float]:
    """Train, and return the last mini-batch's loss of each net after its step."""
    train = {"modules": _modules, "func": _func, "bmm": _bmm}[work.kind.split()[0]]
    return train(work, steps)


def _data(work: Work, steps: int) -> tuple[Any, Any, Any]:
    """Return inputs, labels and the samples of every mini-batch, (steps, nets, batch)."""
    import torch

    x, y = torch.from_numpy(work.inputs), torch.from_numpy(work.labels)
    return x, y, torch.randint(len(x), (steps, len(work.starts), work.batch))


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


def _module(widths: list[int]) -> Any:
    import torch

    layers: list[Any] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU(inplace=True)]
    return torch.nn.Sequential(*layers[:-1])


def _widths(start: list[Any]) -> list[int]:
    return [weights.shape[0] for weights, _ in start] + [start[-1][0].shape[1]]


def _modules(work: Work, steps: int) -> list[float]:
    import torch

    x, y, chosen = _data(work, steps)
    losses = []
    for net, start in enumerate(work.starts):
        module = _module(_widths(start))
        with torch.no_grad():
            for linear, (weights, biases) in zip(module[::2], start, strict=True):
                linear.weight.copy_(torch.from_numpy(weights.T.copy()))
                linear.bias.copy_(torch.from_numpy(biases))
        optimizer = _optimizer(work, list(module.parameters()))
        for batch in chosen[:, net]:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(module(x.index_select(0, batch)), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(float(torch.nn.functional.cross_entropy(module(x[batch]), y[batch])))
    return losses


def _func(work: Work, steps: int) -> list[float]:
    """Train stacked nets by the gradient of ``torch.func``, vectorized."""
    import torch

    x, y, chosen = _data(work, steps)
    module = _module(_widths(work.starts[0])).to("meta")
    names = [name for name, _ in module.named_parameters()]
    leaves = [each for layer in zip(*work.starts, strict=True) for each in _stacked(layer, turned=True)]
    stacked = dict(zip(names, leaves, strict=True))

    def loss(parameters: Any, inputs: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(torch.func.functional_call(module, parameters, (inputs,)), labels)

    gradient = torch.func.vmap(torch.func.grad(loss))
    optimizer = _optimizer(work, leaves)
    for batch in chosen:
        given = x[batch]
        found = gradient({name: each.detach() for name, each in stacked.items()}, given, y[batch])
        for name, each in stacked.items():
            each.grad = found[name]
        optimizer.step()
    with torch.no_grad():
        return list(torch.func.vmap(loss)(stacked, x[batch], y[batch]).tolist())


def _stacked(layer: Any, *, turned: bool) -> list[Any]:
    """Return W and b of one layer of all nets."""
    import torch

    weights, biases = (np.stack(each) for each in zip(*layer, strict=True))
    weights = np.ascontiguousarray(weights.swapaxes(1, 2)) if turned else weights
    return [torch.from_numpy(each).clone().requires_grad_() for each in (weights, biases)]


def _bmm(work: Work, steps: int) -> list[float]:
    """Train stacked nets with forward and backward passes written out."""
    import torch

    x, y, chosen = _data(work, steps)
    layers = [_stacked(layer, turned=False) for layer in zip(*work.starts, strict=True)]
    for each in (each for layer in layers for each in layer):
        each.grad = torch.empty_like(each)
    optimizer = _optimizer(work, [each for layer in layers for each in layer])

    def forward(given: Any) -> list[Any]:
        signals = [given]
        for place, (weights, biases) in enumerate(layers):
            s = torch.baddbmm(biases[:, None], signals[-1], weights)
            signals.append(s if place == len(layers) - 1 else s.relu_())
        return signals

    with torch.no_grad():
        for batch in chosen:
            signals, labels = forward(x[batch]), y[batch][..., None]
            ds = torch.softmax(signals[-1], -1)
            ds.scatter_add_(-1, labels, torch.full((1, 1, 1), -1.0).expand_as(labels))
            ds /= work.batch
            for place in reversed(range(len(layers))):
                weights, biases = layers[place]
                torch.bmm(signals[place].mT, ds, out=weights.grad)
                torch.sum(ds, 1, out=biases.grad)
                if place > 0:
                    dz = torch.bmm(ds, weights.mT)
                    ds = torch.ops.aten.threshold_backward(dz, signals[place], 0)
            optimizer.step()
        logs = torch.log_softmax(forward(x[batch])[-1], -1)
        return list(-logs.gather(-1, y[batch][..., None]).mean((1, 2)).numpy())
