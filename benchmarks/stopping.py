"""Nets a minute on all cores of which everything about zeros is asked: what stops samples, gains and ranks.

    python benchmarks/stopping.py [--width 16] [--depth 20] [--batch 8] [--nets 40000] [--runs 3]

Both samplers, and what is drawn unless told; once before the clock starts, so that what must be compiled is.
"""

from __future__ import annotations

import argparse
import time

import stabsim
from stabsim import Network
from stabsim.quantities import PLAIN, QUANTITIES

BASE = ("activation_mean_square", "preactivation_gradient_mean_square")
SHARES = tuple(
    name
    for name in PLAIN
    if name.endswith(("zero_fraction", "gain")) or any(word in name for word in ("dead", "blocked", "idle", "shut"))
)
RANKS = tuple(name for name in QUANTITIES if name.endswith("rank"))
ASKED = {"two mean squares": BASE, "all zeros and gains": SHARES, "all of these and all ranks": SHARES + RANKS}


def main() -> None:
    """Print nets a minute: the best of some runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--nets", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    network = Network((options.width,) * (options.depth + 1), "relu", "he_normal")
    print(f"{network!r}, batch {options.batch}: nets a minute")
    for asked, names in ASKED.items():
        for sampler in ("auto", "dense", "matrix_free"):

            def run(nets: int, names: tuple[str, ...] = names, sampler: str = sampler) -> float:
                start = time.perf_counter()
                stabsim.simulate(network, nets=nets, batch=options.batch, sampler=sampler, quantities=names, seed=1)
                return time.perf_counter() - start

            run(options.nets // 10)
            fastest = min(run(options.nets) for _ in range(options.runs))
            print(f"{asked:28s} {sampler:12s} {60 * options.nets / fastest:12,.0f}", flush=True)


if __name__ == "__main__":
    main()
