"""Recurrent nets a second against PyTorch: its ``nn.LSTM`` and ``nn.RNN`` net by net, and stacked weights with ``bmm``.

    python benchmarks/recurrent_peers.py [--seconds 1.5] [--rounds 3] [--steps 100] [--width 128] [--batch 16]

Each contestant draws weights of variance 1 / width, standard normal inputs and a standard normal gradient by the last
state afresh for every net, in float32, and reduces to the mean square of the gradient by the input of every time step.
Nobody forms dW. This package takes the sampler that it takes by itself: of a wide RNN, as with ``--cells rnn --width
4096 --steps 50 --batch 1``, the one without weights. Absolute rates drift with the machine: compare ratios in a run.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from timing import Peer, absent, nets_per_second

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def torch_loop(steps: int, width: int, batch: int, nets: int, *, cell: str) -> Any:
    """Run one net after the other through PyTorch's module, with its own backward pass."""
    import torch

    kinds: dict[str, Callable[..., Any]] = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    module = kinds[cell](width, width, bias=False)
    module.requires_grad_(False)  # no dW
    results = np.empty((nets, steps))
    for net in range(nets):
        for parameter in module.parameters():
            parameter.normal_(0.0, 1.0 / math.sqrt(width))
        x = torch.randn(steps, batch, width, requires_grad=True)
        states, _ = module(x)
        states[-1].backward(torch.randn(batch, width))
        assert x.grad is not None
        results[net] = x.grad.square().mean((1, 2)).numpy()
    return results


def torch_bmm(steps: int, width: int, batch: int, nets: int, *, cell: str, chunk: int) -> Any:
    """Run chunks of nets at once with batched matrix products, forward and backward written out."""
    run = {"rnn": _rnn, "lstm": _lstm}[cell]
    return np.concatenate([run(steps, width, batch, size) for size in _chunks(nets, chunk)])


def _drawn(cell: str, steps: int, width: int, batch: int, nets: int) -> Iterator[Any]:
    """Yield products of inputs with their weights by time step, those weights, and those on the state."""
    import torch

    columns = GATES[cell] * width
    v, w = (torch.randn(nets, width, columns).mul_(1.0 / math.sqrt(width)) for _ in range(2))
    x = torch.randn(nets, steps * batch, width)
    yield torch.bmm(x, v).view(nets, steps, batch, columns)
    yield v
    yield w


def _of_inputs(ds: Any, v: Any, steps: int, batch: int) -> Any:
    """Return the mean squares of dx of every net and time step, given ds (nets, steps, batch, columns)."""
    import torch

    dx = torch.bmm(ds.view(ds.shape[0], steps * batch, -1), v.mT)
    return dx.square_().view(ds.shape[0], steps, -1).mean(2).numpy()


def _rnn(steps: int, width: int, batch: int, nets: int) -> Any:
    import torch

    with torch.inference_mode():
        sums, v, w = _drawn("rnn", steps, width, batch, nets)
        h = torch.zeros(nets, batch, width)
        for t in range(steps):
            h = torch.tanh(torch.baddbmm(sums[:, t], h, w))
            sums[:, t] = h
        dh, w = torch.randn(nets, batch, width), w.mT
        for t in reversed(range(steps)):
            ds = dh * (1.0 - sums[:, t].square())
            sums[:, t] = ds
            dh = torch.bmm(ds, w)
        return _of_inputs(sums, v, steps, batch)


def _lstm(steps: int, width: int, batch: int, nets: int) -> Any:
    import torch

    with torch.inference_mode():
        sums, v, w = _drawn("lstm", steps, width, batch, nets)
        h = torch.zeros(nets, batch, width)
        cells = [torch.zeros(nets, batch, width)]
        for t in range(steps):
            s = torch.baddbmm(sums[:, t], h, w)
            s[..., : 2 * width].sigmoid_()
            s[..., 2 * width : 3 * width].tanh_()
            s[..., 3 * width :].sigmoid_()
            i, f, g, o = s.split(width, -1)
            cells.append(f * cells[-1] + i * g)
            h = o * torch.tanh(cells[-1])
            sums[:, t] = s
        dh, dc, w = torch.randn(nets, batch, width), torch.zeros(nets, batch, width), w.mT
        for t in reversed(range(steps)):
            i, f, g, o = sums[:, t].split(width, -1)
            out = torch.tanh(cells[t + 1])
            dc = dc + dh * o * (1.0 - out.square())
            ds = torch.cat([
                dc * g * i * (1.0 - i), dc * cells[t] * f * (1.0 - f), dc * i * (1.0 - g.square()),
                dh * out * o * (1.0 - o),
            ], -1)  # fmt: skip
            dc = dc * f
            sums[:, t] = ds
            dh = torch.bmm(ds, w)
        return _of_inputs(sums, v, steps, batch)


def _chunks(nets: int, chunk: int) -> Iterator[int]:
    for first in range(0, nets, chunk):
        yield min(chunk, nets - first)


def this_package(steps: int, width: int, batch: int, nets: int, *, cell: str, quantities: Any) -> Any:
    """Run this package."""
    import stabsim

    network = stabsim.Network((width,) * (steps + 1), "tanh", "lecun_normal", cell=cell)
    return stabsim.simulate(network, nets=nets, batch=batch, quantities=quantities)


def contestants(cell: str, width: int) -> dict[str, Peer]:
    """Return the contestants of a cell; chunk sizes are contestants of their own, if their weights take up to 1 GB."""
    peers: dict[str, Peer] = {
        "stabsim": functools.partial(this_package, cell=cell, quantities=("input_gradient_mean_square",)),
        "stabsim_all": functools.partial(this_package, cell=cell, quantities=None),
        "torch_loop": functools.partial(torch_loop, cell=cell),
    }
    fit = [chunk for chunk in (1, 4, 16, 64) if chunk * 8 * GATES[cell] * width**2 <= 2**30]
    for chunk in fit if cell != "gru" else ():
        peers[f"torch_bmm_{chunk}"] = functools.partial(torch_bmm, cell=cell, chunk=chunk)
    return peers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5, help="least time of one measurement (default 1.5)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each contestant (default 3)")
    parser.add_argument("--steps", type=int, default=100, help="time steps (default 100)")
    parser.add_argument("--width", type=int, default=128, help="inputs and units of the state (default 128)")
    parser.add_argument("--batch", type=int, default=16, help="samples (default 16)")
    parser.add_argument("--cells", nargs="+", default=list(GATES), choices=list(GATES), help="default all of them")
    options = parser.parse_args()
    for cell in options.cells:
        functions = contestants(cell, options.width)
        missing = absent(functions)
        for name in missing:
            print(f"{name}: absent, its library is not installed")
        functions = {name: function for name, function in functions.items() if name not in missing}
        size = options.steps, options.width, options.batch
        rates = nets_per_second(functions, *size, seconds=options.seconds, rounds=options.rounds)
        best = max((rate for name, rate in rates.items() if not name.startswith("stabsim")), default=math.nan)
        print(f"{cell}, {size[0]} time steps, width {size[1]}, batch {size[2]}")
        for name, rate in rates.items():
            print(f"  {name:14s} {rate:10.1f} nets/s, {rate / best:8.2f} of the best peer")


if __name__ == "__main__":
    main()
