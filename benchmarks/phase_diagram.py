"""Mean field by theory and by simulation, at the sizes of the figures of Poole et al. 2016 (arXiv:1606.05340).

python benchmarks/phase_diagram.py

Their code, deepchaos, took 135 s for a phase diagram of 41 x 41 points, 325 s for correlation maps of 500 angles
through 39 layers at three scales of weights, and 302 s for the simulation below, on a machine like ours.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

import stabsim
from stabsim import theory
from stabsim.threads import available

Floats = NDArray[np.float64]

ACTIVATION = "tanh"
POINTS = 41
WEIGHTS = np.linspace(0.1, 4.0, POINTS)  # sigma_w
BIASES = np.linspace(0.0, 2.0, POINTS)  # sigma_b
NORMS = np.linspace(0.15, 15.0, 100)  # mean squares of inputs
VECTORS = 20
WIDTH = 1000
QUANTITY = "activation_mean_square"


def phase_diagram() -> float:
    """Return the seconds of q* and chi at every point of the grid."""
    start = time.perf_counter()
    theory.phase_diagram(ACTIVATION, WEIGHTS[:, None] ** 2, BIASES**2)
    return time.perf_counter() - start


def correlation_maps() -> float:
    """Return the seconds of 500 angles through 39 layers at sigma_w = 1.3, 2.5 and 4, sigma_b = 0.3."""
    start = time.perf_counter()
    for weight in (1.3, 2.5, 4.0):
        correlation: Floats | float = np.cos(np.linspace(0.0, math.pi, 500))
        for _ in range(39):
            correlation = theory.correlation_map(ACTIVATION, correlation, weight**2, 0.3**2)
    return time.perf_counter() - start


def length_map(point: tuple[float, float], inputs: Floats) -> tuple[Floats, Floats]:
    """Return the variance map at every norm with its standard error: each net is shown one of the inputs."""
    weight, bias = point
    network = stabsim.Network((WIDTH, WIDTH), ACTIVATION, stabsim.Initializer("normal", weight, "in"), bias)
    nets = VECTORS * len(NORMS)
    result = stabsim.simulate(
        network, nets=nets, inputs=inputs, seed=1, threads=1, quantities=(QUANTITY,), samples=(QUANTITY,)
    )
    before, after = result.samples[QUANTITY].T
    norm = np.searchsorted(0.5 * (NORMS[1:] + NORMS[:-1]), before)
    count, total, squares = (np.bincount(norm, after**power, len(NORMS)) for power in (0, 1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        error = np.sqrt((squares / count - mean**2) / (count - 1)) * stdtrit(count - 1, 0.975) / 1.96
    return weight**2 * mean + bias**2, weight**2 * error


def simulation() -> tuple[float, float, float]:
    """Return seconds, the share of 95% intervals that hold theory, and the mean distance in standard errors."""
    random = np.random.default_rng(3)
    rows = random.standard_normal((len(NORMS), WIDTH))
    rows *= np.sqrt(NORMS / np.square(rows).mean(axis=1))[:, None]
    grid = [(float(weight), float(bias)) for weight in WEIGHTS for bias in BIASES]
    length_map(grid[0], rows)  # compiles
    start = time.perf_counter()
    with ThreadPoolExecutor(available()) as pool:
        found = list(pool.map(lambda point: length_map(point, rows), grid))
    seconds = time.perf_counter() - start
    estimates, errors = (np.array(each) for each in zip(*found, strict=True))
    exact = np.array([theory.variance_map(ACTIVATION, w**2 * NORMS + b**2, w**2, b**2) for w, b in grid])
    z = (estimates - exact) / errors
    z = z[np.isfinite(z)]
    return seconds, float((np.abs(z) < 1.96).mean()), float(z.mean())


def main() -> None:
    theory.phase_diagram(ACTIVATION, 1.0, 1.0)  # loads what is compiled
    print(f"phase diagram by theory, {POINTS} x {POINTS}: {phase_diagram():.2f} s")
    print(f"correlation maps by theory, 3 x 500 angles x 39 layers: {correlation_maps():.3f} s")
    seconds, covered, shift = simulation()
    print(
        f"{POINTS} x {POINTS} points, {len(NORMS)} norms, {VECTORS} vectors, width {WIDTH}, simulated: {seconds:.1f} s"
    )
    print(f"  {covered:.1%} of 95% intervals hold theory, mean z {shift:+.3f}")


if __name__ == "__main__":
    main()
