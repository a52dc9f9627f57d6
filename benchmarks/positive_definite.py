"""Probabilities that GOE matrices are positive definite, by importance splitting: seconds, errors, coverage.

    python benchmarks/positive_definite.py [--largest 60] [--times 300]

And matrices a second of which the negative eigenvalues are counted, beside NumPy.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings

import numpy as np

from stabsim.landscape.matrix_ensembles import index_counts
from stabsim.landscape.positive_definite import positive_definite_estimate
from stabsim.theory.random_matrix import log_positive_definite_probability
from stabsim.threads import single_threaded_blas

ROWS = (*range(1, 11), 20, 40, 60)
COVERAGE = ((2, 50, 8), (3, 20, 8), (3, 100, 32), (6, 50, 32), (20, 20, 8), (20, 20, 32), (40, 20, 32))


def splitting(largest: int) -> None:
    positive_definite_estimate(2)  # compiles
    print("n    ln P exactly     ln P estimated   relative error      z  seconds")
    for n in (n for n in ROWS if n <= largest):
        start = time.perf_counter()
        found = positive_definite_estimate(n)
        taken, exact = time.perf_counter() - start, log_positive_definite_probability(n)
        z = (math.exp(found.log_estimate - exact) - 1) / found.relative_error
        print(f"{n:2d} {exact:16.6f} {found.log_estimate:18.6f} {found.relative_error:16.2%} {z:6.2f} {taken:8.2f}")


def coverage(times: int) -> None:
    print("n  particles repetitions   spread of repetitions   coverage")
    warnings.simplefilter("ignore", RuntimeWarning)  # few particles on purpose
    for n, particles, repetitions in COVERAGE:
        exact, hits, spreads = log_positive_definite_probability(n), 0, []
        for seed in range(times):
            found = positive_definite_estimate(n, particles=particles, repetitions=repetitions, seed=seed)
            hits += found.log_ci_low <= exact <= found.log_ci_high
            spreads.append(found.relative_error * math.sqrt(repetitions))
        print(f"{n:2d} {particles:8d} {repetitions:9d} {np.median(spreads):16.2f} {hits / times:16.1%}", flush=True)


def with_numpy(n: int, matrices: int) -> None:
    entries = np.random.default_rng(0).standard_normal((matrices, n, n))
    np.sum(np.linalg.eigvalsh(entries + entries.transpose(0, 2, 1)) < 0, axis=1)


def counting() -> None:
    print("n      GOE here   equal variance here      NumPy   (matrices a second, one thread)")
    for n, matrices in ((5, 100_000), (10, 40_000), (50, 3_000)):
        rates = []
        for ensemble in ("goe", "equal_variance"):
            index_counts(n, ensemble, matrices=10, threads=1)
            start = time.perf_counter()
            index_counts(n, ensemble, matrices=matrices, threads=1)
            rates.append(matrices / (time.perf_counter() - start))
        start = time.perf_counter()
        with single_threaded_blas():
            with_numpy(n, matrices)
        rates.append(matrices / (time.perf_counter() - start))
        print(f"{n:2d} {rates[0]:12,.0f} {rates[1]:16,.0f} {rates[2]:16,.0f}", flush=True)


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=60)
    parser.add_argument("--times", type=int, default=300)
    options = parser.parse_args()
    splitting(options.largest)
    coverage(options.times)
    counting()


if __name__ == "__main__":
    main()
