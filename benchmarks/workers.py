"""How many workers can a study use? A simulation of 10 to 10,000, with failures, stragglers and one coordinator.

    python benchmarks/workers.py [--chunks 4000] [--service SECONDS] [--out figures] [--without-measuring]

A worker takes a chunk, runs it, fails now and then (its chunk is lost, and it comes back after a while), and sends what
it has found to the coordinator, which stores one arrival after the other and hands out the next chunk for each: at most
``WINDOW`` chunks a worker are under way, as in engine "dask". What storing takes is measured, unless told.
``benchmark_workers.csv`` and a figure: the share of the time of all workers that went into chunks that were stored,
next to closed forms. Few workers with short chunks are done before the first of them fails.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Generator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy
from numpy.typing import NDArray
from scaling import measured_points, storing_seconds

from stabsim import figures

if TYPE_CHECKING:
    from pandas import DataFrame

Events = Generator[Any, Any, None]

WORKERS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
SECONDS = (0.1, 1.0, 10.0, 60.0)  # of a chunk
WINDOW = 3  # chunks under way for each worker: one runs, others are at hand when it ends
LEAST = 10  # chunks for each worker
SETTLED, ENDING = 0.2, 0.8  # shares of the chunks between which it is looked at


@dataclass(frozen=True)
class Farm:
    """Workers, what they do and how they fail; times in seconds.

    Parameters
    ----------
    workers, chunks : int
        How many.
    seconds : float
        Of a chunk on a worker of median speed.
    service : float
        That the coordinator takes for each arrival.
    dispatch : float
        That a worker waits for between two chunks, whatever is at hand.
    spread : float
        Standard deviation of the logarithm of the workers' speeds.
    stragglers, slowness : float
        Share of workers that take longer, and how many times.
    failures : float
        Of a worker, a second that it runs; exponential.
    restart : float
        Until a worker that has failed is back.
    window : int
        Chunks under way for each worker, at most.
    seed : int
        Of speeds and failures.
    """

    workers: int
    chunks: int
    seconds: float
    service: float = 0.0
    dispatch: float = 0.0
    spread: float = 0.0
    stragglers: float = 0.0
    slowness: float = 3.0
    failures: float = 0.0
    restart: float = 0.0
    window: int = WINDOW
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of the chunks, in the order in which they were stored.

    Parameters
    ----------
    order : array of int (chunks,)
        Their numbers.
    stored : array (chunks,)
        When.
    useful : array (chunks,)
        Seconds of a worker that went into each.
    lost : int
        Runs that a failure ended.
    """

    workers: int
    order: NDArray[np.int64]
    stored: NDArray[np.float64]
    useful: NDArray[np.float64]
    lost: int

    @property
    def efficiency(self) -> float:
        """Return useful / held time of all workers until the last chunk is stored: with the ragged end."""
        return float(self.useful.sum() / (self.workers * self.stored[-1]))

    @property
    def steady(self) -> float:
        """Return the same of the time in between, when there is enough to do for everyone."""
        rounds = len(self.order) / self.workers
        first, last = (round(share * rounds) * self.workers - 1 for share in (SETTLED, ENDING))
        held = self.workers * (self.stored[last] - self.stored[first])
        return float(self.useful[first + 1 : last + 1].sum() / held)


class Simulation:
    """One run of a farm."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.clock = simpy.Environment()
        self.ready: simpy.Store = simpy.Store(self.clock)
        self.arrived: simpy.Store = simpy.Store(self.clock)
        self.waiting = iter(range(farm.chunks))
        self.lost = 0
        self.rows: list[tuple[int, float, float]] = []
        self.random = np.random.default_rng(farm.seed)
        pace = np.exp(farm.spread * self.random.standard_normal(farm.workers))
        slow = self.random.random(farm.workers) < farm.stragglers
        self.seconds = farm.seconds * pace * np.where(slow, farm.slowness, 1.0)
        for chunk in itertools.islice(self.waiting, farm.window * farm.workers):
            self.ready.put(chunk)
        for number in range(farm.workers):
            self.clock.process(self.work(float(self.seconds[number])))
        self.end = self.clock.process(self.coordinate())

    def run(self) -> Outcome:
        """Run it until all chunks are stored."""
        self.clock.run(self.end)
        order, stored, useful = (np.array(column) for column in zip(*self.rows, strict=True))
        return Outcome(self.farm.workers, order, stored, useful, self.lost)

    def work(self, seconds: float) -> Events:
        """Run chunks on one worker, for ever."""
        farm, clock = self.farm, self.clock
        if farm.failures and self.random.random() < (down := farm.failures * farm.restart) / (1.0 + down):
            yield clock.timeout(farm.restart * self.random.random())  # as if it had been running for long
        while True:
            chunk = yield self.ready.get()
            life = self.random.exponential(1.0 / farm.failures) if farm.failures else math.inf
            if life < seconds:
                yield clock.timeout(farm.dispatch + life)
                self.lost += 1
                self.ready.put(chunk)
                yield clock.timeout(farm.restart)
            else:
                yield clock.timeout(farm.dispatch + seconds)
                self.arrived.put((chunk, seconds))

    def coordinate(self) -> Events:
        """Store one arrival after the other, and hand out another chunk for each."""
        while len(self.rows) < self.farm.chunks:
            chunk, seconds = yield self.arrived.get()
            yield self.clock.timeout(self.farm.service)
            self.rows.append((chunk, self.clock.now, seconds))
            if (following := next(self.waiting, None)) is not None:
                self.ready.put(following)


def expected_seconds(seconds: float, failures: float, restart: float) -> float:
    """Return how long a worker takes for a chunk on average, failures and all: a renewal process.

    >>> expected_seconds(2.0, 0.0, 10.0), round(expected_seconds(1.0, 0.5, 1.0), 3)
    (2.0, 1.946)
    """
    if not failures:
        return seconds
    return math.expm1(failures * seconds) * (1.0 / failures + restart)


def expected_efficiency(farm: Farm) -> float:
    """Return what all workers of median speed come to: the lesser of what they do and of what is stored."""
    a_chunk = expected_seconds(farm.seconds, farm.failures, farm.restart) + farm.dispatch
    return farm.seconds / max(a_chunk, farm.service * farm.workers)


def run_all(chunks: int, service: float, dispatch: float) -> DataFrame:
    """Return a row for each number of workers and size of chunks, without failures and with them."""
    import pandas

    rows = []
    for failing, seconds, workers in itertools.product((False, True), SECONDS, WORKERS):
        farm = Farm(workers, chunks, seconds, service, dispatch, spread=0.1, stragglers=0.01)
        if failing:  # machines that are cheap because they are taken away: once an hour, for two minutes
            farm = replace(farm, chunks=5 * chunks, failures=1 / 3600, restart=120.0)
        farm = replace(farm, chunks=max(farm.chunks, LEAST * workers))
        outcome = Simulation(farm).run()
        found = {"steady": outcome.steady, "efficiency": outcome.efficiency, "lost": outcome.lost}
        rows.append(asdict(farm) | {"failing": failing, "expected": expected_efficiency(farm)} | found)
    return pandas.DataFrame(rows)


def print_table(table: DataFrame) -> None:
    """Print efficiency by workers and seconds of a chunk."""
    for failing, part in table.groupby("failing"):
        print(f"\n{'with' if failing else 'without'} failures: useful share of the workers' time (with the ragged end)")
        print("  workers" + "".join(f"{f'chunks of {seconds:g} s':>20s}" for seconds in SECONDS))
        for workers, rows in part.groupby("workers"):
            cells = [f"{row.steady:.3f} ({row.efficiency:.3f})" for row in rows.itertuples()]
            print(f"{workers:9d}" + "".join(f"{cell:>20s}" for cell in cells))


def print_limits(service: float) -> None:
    """Print where the coordinator is saturated."""
    print(f"\nthe coordinator stores a chunk in {1e3 * service:.1f} ms, so it keeps up with")
    for seconds in SECONDS:
        shards = math.ceil(WORKERS[-1] * service / seconds)
        print(f"{int(seconds / service):9d} workers at chunks of {seconds:g} s; {WORKERS[-1]} need {shards} shards")


def draw(table: DataFrame, points: DataFrame, directory: Path) -> None:
    """Draw efficiency against the number of workers, theory dashed, with what was measured on this machine."""
    import pandas

    many = np.geomspace(WORKERS[0], WORKERS[-1], 200)
    with figures.style():
        figure, axes = figures.panels(2, 1, height=4.6, sharex=True)
        for panel, failing in zip(axes.flat, (False, True), strict=True):
            part = table[table["failing"] == failing]
            for index, (seconds, rows) in enumerate(part.groupby("seconds")):
                looks = figures.line(index)
                label = f"chunks of {seconds:g} s"
                panel.plot(rows["workers"], rows["steady"], linestyle="", label=label, zorder=3, **looks)
                farm = Farm(**{each.name: rows.iloc[0][each.name] for each in fields(Farm)})
                expected = [expected_efficiency(replace(farm, workers=number)) for number in many]
                panel.plot(many, expected, color=looks["color"], linestyle="--", linewidth=0.8)
            panel.set(xscale="log", ylim=(0, 1.05), ylabel="useful share of the time")
            panel.set_title("each fails once an hour, for 2 min" if failing else "no failures")
        axes[0, 0].plot([], [], color="0.3", linestyle="--", linewidth=0.8, label="closed forms")
        for index, (engine, rows) in enumerate(points.groupby("engine", sort=False)):
            label = f"{engine}, measured, {rows['seconds'].iloc[0]:.1g} s"
            axes[0, 0].plot(
                rows["workers"], rows["efficiency"], linestyle="", marker="x+"[index], color="black", markersize=6,
                label=label, zorder=5,
            )  # fmt: skip
        axes[1, 0].set_xlabel("number of workers")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figures.panel_labels(axes.flat)
        both = [each for each in (table, points) if len(each)]
        figures.save(figure, "benchmark_workers", directory, pandas.concat(both, ignore_index=True))


def main() -> None:
    """Measure, simulate, print, and write the table and the figure."""
    import pandas

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--chunks",
        type=int,
        default=4000,
        help="of a run, at least 10 a worker (default 4000)",
    )
    parser.add_argument("--service", type=float, help="seconds that the coordinator takes for a chunk, not measured")
    parser.add_argument("--dispatch", type=float, default=0.002, help="seconds between two chunks (default 0.002)")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figure (default figures)")
    parser.add_argument("--without-measuring", action="store_true", help="no measured points")
    options = parser.parse_args()
    service = storing_seconds(options.out) if options.service is None else options.service
    points = pandas.DataFrame(columns=["engine", "workers", "seconds", "efficiency"])
    if not options.without_measuring:
        points = measured_points(options.out)
        print(points.to_string(index=False))
    table = run_all(options.chunks, service, options.dispatch)
    print_table(table)
    print_limits(service)
    draw(table, points, options.out)


if __name__ == "__main__":
    main()
