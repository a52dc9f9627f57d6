"""What each statistic costs: time of one net on one core that asks for it, above one that asks for next to nothing.

    python benchmarks/cost_of_quantities.py [--width 128] [--depth 32] [--batch 8] [--seconds 0.1]

Quantities that are recorded together cost what the first of them costs. All sums over nets are left out, which are the
same for every quantity. Shares are of the net that asks for nothing but one forward (or one backward) quantity.
"""

from __future__ import annotations

import argparse

from samplers import measure

from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.quantities import PLAIN, Quantity

BASE = {False: "activation_mean_square", True: "activation_gradient_mean_square"}
OWN = (
    Quantity("activation", "own_share_above_one", "fraction", function=lambda x: x > 1.0),
    Quantity("activation_gradient", "own_mean_size", "value", function=lambda x: abs(x)),
)


def main() -> None:
    """Measure every quantity with each sampler, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8, help="samples of the two columns for batches (default 8)")
    parser.add_argument("--seconds", type=float, default=0.1, help="a fifth of the time of one measurement")
    options = parser.parse_args()
    network = Network((options.width,) * (options.depth + 1), "relu", "he_normal")
    columns = {
        "matrix-free, 1 sample": ("matrix_free", 1),
        f"matrix-free, {options.batch}": ("matrix_free", options.batch),
        f"dense, {options.batch}": ("dense", options.batch),
    }

    def cost(quantities: tuple[str | Quantity, ...] | None, sampler: str, batch: int) -> float:
        return measure(make_task(network, sampler=sampler, batch=batch, quantities=quantities), options.seconds)

    print(f"{network!r}: microseconds a net, and what a quantity adds in %")
    print(f"{'':46s}" + "".join(f"{name:>24s}" for name in columns))
    base: dict[bool, dict[str, float]] = {}
    for backward, name in BASE.items():
        base[backward] = {column: cost((name,), *how) for column, how in columns.items()}
        print(f"{name:46s}" + "".join(f"{each / 1e3:21.1f} us" for each in base[backward].values()))
    for quantity in (*PLAIN.values(), *OWN):
        if quantity.name in BASE.values():
            continue
        cells = []
        for column, (sampler, batch) in columns.items():
            start = base[quantity.backward]
            if batch < quantity.smallest_batch:
                cells.append(f"{'-':>24s}")
                continue
            added = cost((BASE[quantity.backward], quantity), sampler, batch) / start[column] - 1
            cells.append(f"{100 * added:23.0f}%")
        print(f"{quantity.name:46s}" + "".join(cells), flush=True)
    everything = [cost(None, *how) / base[True][column] - 1 for column, how in columns.items()]
    print(f"{'all of the table':46s}" + "".join(f"{100 * added:23.0f}%" for added in everything))


if __name__ == "__main__":
    main()
