"""Nets a second against NumPy, PyTorch and JAX, and against the limits of the machine, in one run.

    python benchmarks/peers.py [--seconds 1.5] [--rounds 3] [--out figures]

Writes ``benchmark_peers.csv`` and figures. Absolute rates drift with the machine: compare ratios within one run. A
peer whose library is not installed is named as absent. The roofline is the time that the products and the normals of a
net take alone, at rates measured in the same run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contestants import ORTHOGONAL, OURS, PEERS, Peer
from limits import flops_per_second, nanoseconds_a_normal, normals_per_second
from timing import absent, nets_per_second

if TYPE_CHECKING:
    from pandas import DataFrame

# Depth, width, batch; and the one case where weights are orthogonal.
CASES = ((32, 128, 1), (32, 128, 64), (32, 512, 1), (32, 512, 64), (32, 2048, 8), (5, 100, 1000))
ORTHOGONAL_CASE = (32, 1024, 1)


def roofline(depth: int, width: int, batch: int) -> float:
    """Return the nets a second that products and normals alone would allow."""
    flops = depth * 4.0 * batch * width**2 / flops_per_second(batch, width)
    normals = (depth * width**2 + 2.0 * batch * width) / normals_per_second()
    return 1.0 / (flops + normals)


def measure(seconds: float, rounds: int) -> DataFrame:
    """Return one row a case and contestant."""
    import pandas

    missing = absent({**OURS, **PEERS, **ORTHOGONAL})
    for name in missing:
        print(f"{name}: absent, its library is not installed")
    rows = []
    for functions, cases in (({**OURS, **PEERS}, CASES), (ORTHOGONAL, (ORTHOGONAL_CASE,))):
        present = {name: function for name, function in functions.items() if name not in missing}
        rows += [row for case in cases for row in compare(present, *case, seconds=seconds, rounds=rounds)]
    return pandas.DataFrame(
        rows,
        columns=["depth", "width", "batch", "contestant", "nets_per_second", "ratio_to_best_peer", "share_of_limit"],
    )


def compare(
    functions: dict[str, Peer], depth: int, width: int, batch: int, *, seconds: float, rounds: int
) -> Iterator[tuple[int, int, int, str, float, float, float]]:
    """Yield a row a contestant of one case; the limit is that of forming W, which matrix-free nets pass by."""
    rates = nets_per_second(functions, depth, width, batch, seconds=seconds, rounds=rounds)
    best = max((rate for name, rate in rates.items() if not name.startswith("stabsim")), default=math.nan)
    limit = roofline(depth, width, batch)
    print(f"depth {depth}, width {width}, batch {batch}: products and normals alone {limit:.1f} nets/s")
    for name, rate in rates.items():
        print(f"  {name:19s} {rate:10.1f} nets/s, {rate / best:8.2f} of best peer, {rate / limit:7.2f} of the limit")
        yield depth, width, batch, name, rate, rate / best, rate / limit


def draw(table: DataFrame, directory: Path) -> None:
    """Draw the rate of this package and of the best peer of each library."""
    from stabsim import figures

    table = table[~table["contestant"].isin(["stabsim_all", *ORTHOGONAL])]
    ours = table["contestant"].str.startswith("stabsim")
    library = table["contestant"].where(ours, table["contestant"].str.split("_").str[0])
    case = [f"{row.depth} x {row.width}, batch {row.batch}" for row in table.itertuples()]
    best = table.assign(library=library, case=case).groupby(["case", "library"], sort=False)["nets_per_second"].max()
    with figures.style():
        figure, axes = figures.panels(width=figures.COLUMN, height=2.6)
        names = list(dict.fromkeys(case))
        for index, name in enumerate(dict.fromkeys(library)):
            rates = [best.get((case, name), float("nan")) for case in names]
            looks = figures.line(index) | {"linestyle": "none"}
            axes[0, 0].plot(rates, range(len(names)), label=name, **looks)
        axes[0, 0].set(xscale="log", xlabel="nets a second, two cores", yticks=range(len(names)))
        axes[0, 0].set_yticklabels(names)
        axes[0, 0].invert_yaxis()
        axes[0, 0].legend(loc="lower left", fontsize=6)
        figures.save(figure, "benchmark_peers", directory, table)


def main() -> None:
    """Measure, print, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5, help="least time of one measurement (default 1.5)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each contestant (default 3)")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figure (default figures)")
    options = parser.parse_args()
    for name, nanoseconds in nanoseconds_a_normal().items():
        print(f"{name:10s} {nanoseconds:6.2f} ns a float32 normal, one core")
    table = measure(options.seconds, options.rounds)
    draw(table, options.out)


if __name__ == "__main__":
    main()
