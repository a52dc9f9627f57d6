"""Is what ``stabsim run --dry-run`` predicts true? Chunks of every study are simulated, timed and encoded on one core.

    python benchmarks/costs.py [--seconds 0.02] [--cases 8] [--list] [STUDY ...]

Of each study some cases that lie apart, of each as many nets of a chunk as should take so many seconds. Times are those
of the processor, the least of some; what is compiled or started once is left out. Prices are those of one core of an
AMD EPYC, so the median of predicted / measured says how fast this machine is; what lies around it is the error.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stabsim.chunk import encode
from stabsim.costs import Cost, bytes_of_chunk
from stabsim.discovery import files, load
from stabsim.study import Study
from stabsim.work import Work

if TYPE_CHECKING:
    from stabsim.plan import Plan

ROUNDS = 5  # of a case; the first starts the thread, and does not count


class Compared(NamedTuple):
    """What was predicted of some nets of a case, and what they took."""

    label: str
    predicted: Cost
    measured: Cost

    @property
    def of_time(self) -> float:
        """Return predicted / measured of core time."""
        return self.predicted.nanoseconds / self.measured.nanoseconds

    @property
    def of_bytes(self) -> float:
        """Return predicted / measured of bytes."""
        return self.predicted.bytes / self.measured.bytes


def compare(label: str, plan: Plan, seconds: float) -> Compared:
    """Simulate as many nets as should take so many seconds, several times."""
    a_net = plan.sampler.nanoseconds(plan.task)
    nets = min(max(1, int(seconds * 1e9 / a_net)), plan.chunk_nets)
    list(plan.run([(0, 1)], 1))  # compiles
    rounds = [(time.process_time(), sums) for sums in plan.run([(0, nets)] * ROUNDS, 1)]
    least = float(np.diff([end for end, _ in rounds]).min()) * 1e9
    size = len(encode("00" * 16, 0, nets, rounds[0][1].to_arrays()))
    return Compared(label, Cost(nets * a_net, bytes_of_chunk(plan, nets)), Cost(least, size))


def compare_cases(study: Study, scale: str, cases: int, seconds: float) -> list[Compared]:
    """Compare some cases of a study."""
    works = [Work(case) for case in study.checked_cases(scale)]
    return [compare(work.case.label, work.plan, seconds) for work in works[:: -(-len(works) // cases)]]


def line(name: str, found: Sequence[Compared]) -> str:
    """Return a row of the table."""
    cells = []
    for ratios, parts in (
        ([each.of_time for each in found], [(each.predicted.seconds, each.measured.seconds) for each in found]),
        ([each.of_bytes for each in found], [(each.predicted.bytes, each.measured.bytes) for each in found]),
    ):
        predicted, measured = np.sum(parts, axis=0)
        cells.append(f"{predicted / measured:7.2f}  {min(ratios):6.2f} .. {max(ratios):5.2f}")
    return f"{name:24s} {len(found):5d}  {'   '.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", help="all unless named")
    parser.add_argument("--scale", choices=["quick", "paper"], default="quick")
    parser.add_argument("--seconds", type=float, default=0.02, help="that a round of a case should take (default 0.02)")
    parser.add_argument("--cases", type=int, default=8, help="of a study, at most (default 8)")
    parser.add_argument("--list", action="store_true", help="a line a case, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of nets that overflow on purpose
    known = files()
    print("predicted / measured     cases  core time, single cases   bytes, single cases")
    together: list[Compared] = []
    for name in options.studies or known:
        found = compare_cases(load(known[name]), options.scale, options.cases, options.seconds)
        together += found
        print(line(name, found), flush=True)
        for each in found if options.list else ():
            print(f"    {each.label:60s} {each.of_time:6.2f} {each.of_bytes:6.2f}")
    print(line("all", together))
    for what, ratios in (
        ("core time", [each.of_time for each in together]),
        ("bytes", [each.of_bytes for each in together]),
    ):
        median = float(np.median(ratios))
        within = [np.mean([1 / factor <= ratio / median <= factor for ratio in ratios]) for factor in (1.5, 2.0)]
        print(
            f"{what}: median {median:.2f}; within a factor of 1.5 of it {within[0]:.0%} of cases, of 2 {within[1]:.0%}"
        )


if __name__ == "__main__":
    main()
