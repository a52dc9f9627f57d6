"""Steps of gradient descent a second: this package's trainer, a loop in NumPy and, where installed, one in PyTorch.

All on one thread, tanh nets with a linear last layer, mini-batches drawn at random, SGD with a constant learning rate:
``python benchmarks/descent.py``.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from stabsim import Network
from stabsim.threads import single_threaded_blas
from stabsim.training import Regression, train

SETTINGS = (((8, 16, 1), 1), ((8, 16, 1), 32), ((16, 32, 32, 1), 1), ((16, 32, 32, 1), 32), ((64, 128, 128, 10), 32))
SAMPLES, RATE, SECONDS = 256, 0.01, 1.0


def ours(widths: Sequence[int], batch: int, steps: int) -> None:
    """Train 16 nets, a sixteenth of the steps each."""
    data = Regression(Network((widths[0], widths[-1]), "linear", "lecun_normal"), samples=SAMPLES)
    network = Network(widths, "tanh", "lecun_normal")
    optimizer = f"sgd(learning_rate={RATE})"
    steps = -(-steps // 16)
    train(network, nets=16, steps=steps, optimizer=optimizer, data=data, batch=batch, quantities=("loss",), threads=1)


def with_numpy(widths: Sequence[int], batch: int, steps: int) -> None:
    """Train one net."""
    generator = np.random.default_rng(0)
    x, y = (generator.normal(size=(SAMPLES, width)).astype(np.float32) for width in (widths[0], widths[-1]))
    weights = [generator.normal(size=fans).astype(np.float32) / np.float32(fans[0] ** 0.5) for fans in pairwise(widths)]
    biases = [np.zeros(width, np.float32) for width in widths[1:]]
    for _ in range(steps):
        rows = generator.integers(0, SAMPLES, batch)
        z = [x[rows]]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            z.append(np.tanh(z[-1] @ w + b))
        ds = (z[-1] @ weights[-1] + biases[-1] - y[rows]) * np.float32(2 / (batch * widths[-1]))
        for layer in range(len(weights) - 1, -1, -1):
            dw, db = z[layer].T @ ds, ds.sum(axis=0)
            if layer > 0:
                ds = (ds @ weights[layer].T) * (1 - z[layer] * z[layer])
            weights[layer] -= np.float32(RATE) * dw
            biases[layer] -= np.float32(RATE) * db


def with_torch(widths: Sequence[int], batch: int, steps: int) -> None:
    """Train one net, as its tutorials do."""
    import torch

    torch.set_num_threads(1)
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    x, y = torch.randn(SAMPLES, widths[0]), torch.randn(SAMPLES, widths[-1])
    for _ in range(steps):
        rows = torch.randint(0, SAMPLES, (batch,))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(x[rows]), y[rows]).backward()
        optimizer.step()


def steps_a_second(run: Callable[[Sequence[int], int, int], None], widths: Sequence[int], batch: int) -> float:
    """Return how many steps a second are done, from a run of about a second."""
    run(widths, batch, 100)
    steps, taken = 400, 0.0
    while taken < SECONDS:
        steps = 4 * steps if taken < SECONDS / 8 else int(1.5 * steps * SECONDS / taken)
        start = time.perf_counter()
        run(widths, batch, steps)
        taken = time.perf_counter() - start
    return steps / taken


def main() -> None:
    """Print a table."""
    contestants = {"stabsim": ours, "NumPy": with_numpy}
    if importlib.util.find_spec("torch"):
        contestants["PyTorch"] = with_torch
    print(f"{'widths':>20} {'batch':>5} " + " ".join(f"{name:>12}" for name in contestants))
    with single_threaded_blas():
        for widths, batch in SETTINGS:
            rates = [steps_a_second(run, widths, batch) for run in contestants.values()]
            print(f"{widths!s:>20} {batch:5d} " + " ".join(f"{rate:12,.0f}" for rate in rates))


if __name__ == "__main__":
    main()
