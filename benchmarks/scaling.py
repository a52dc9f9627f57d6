"""Are two workers twice as fast as one? Engines on one machine, in alternation, against what its cores can do.

    python benchmarks/scaling.py [--rounds 4] [--chunks 12] [--out DIR]

The same chunks with one worker and with two, stored as they come; the clock starts when each worker has brought its
first chunk, so that starting them does not count. "kernel alone" is ``Plan.simulate`` on one thread and on two, each
with buffers of its own, without store, sums and pools: what this machine scales to at best. Which share of a run goes
into storing is measured beside it: where nets are heavy and few quantities asked for, and where it is the reverse.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stabsim.arguments import make_task
from stabsim.collect import Gathering, Report, simulate, write_tasks
from stabsim.engines import ENGINES, Engine, local
from stabsim.moments import Sums
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.store import Store
from stabsim.study import Case
from stabsim.task import Task
from stabsim.threads import single_threaded_blas
from stabsim.work import Chunk, Work

if TYPE_CHECKING:
    from pandas import DataFrame

NETWORK = Network((128,) * 33, "relu", "he_normal")
FEW = ("activation_log10_norm", "activation_gradient_log10_norm")
TASK = make_task(NETWORK, sampler="dense", quantities=FEW)  # chunks of half a second
TABLE = make_task(NETWORK)  # all quantities
STORED = 40  # chunks that are stored to see how long that takes


def chunked(task: Task, chunks: int) -> Work:
    """Return a case of so many chunks."""
    return Work(Case(task, chunks * Plan(task).chunk_nets).seeded(0))


def seconds_a_chunk(engine: Engine, workers: int, work: Work, out: Path) -> float:
    """Return the seconds between arrivals at the store, from the first of each worker on."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory(dir=out) as folder, Store(folder) as store:
        write_tasks([work], store)
        gathering = Gathering([work], store)
        simulate(gathering, list(work.chunks), workers, lambda *_: ends.append(time.perf_counter()), engine)
    return (ends[-1] - ends[workers - 1]) / (len(ends) - workers)


class Timed(Gathering):
    """A gathering that knows how long it has been storing and merging."""

    storing = 0.0

    def add(self, chunk: Chunk, sums: Sums, report: Report) -> None:
        """Add a chunk."""
        start = time.perf_counter()
        super().add(chunk, sums, report)
        self.storing += time.perf_counter() - start


def storing_share(task: Task, chunks: int, out: Path) -> float:
    """Return the share of a run on one thread that goes into storing and merging chunks."""
    work = chunked(task, chunks)
    list(work.plan.run([(0, 1)], 1))  # compiles
    with tempfile.TemporaryDirectory(dir=out) as folder, Store(folder) as store:
        write_tasks([work], store)
        gathering = Timed([work], store)
        start = time.perf_counter()
        simulate(gathering, list(work.chunks), 1, lambda *_: None, local)
        return gathering.storing / (time.perf_counter() - start)


def kernel_seconds(workers: int, work: Work, chunks: int) -> float:
    """Return the seconds a chunk of nothing but the kernel, on so many threads."""
    plan, nets = work.plan, work.plan.chunk_nets
    buffers = plan.allocate(plan.layout, workers)
    records = [np.empty((nets, *plan.blank.shape)) for _ in range(workers)]
    plan.simulate(0, buffers[0], records[0][:1])  # compiles

    def run(number: int) -> None:
        for chunk in range(number, chunks, workers):
            plan.simulate(chunk * nets, buffers[number], records[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(workers)]
    with single_threaded_blas():
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return (time.perf_counter() - start) / chunks


def storing_seconds(out: Path) -> float:
    """Return the median seconds in which a coordinator receives, stores and merges a chunk of all quantities."""
    work = chunked(TABLE, STORED)
    (sums,) = work.plan.run([(0, work.plan.chunk_nets)], 1)
    parcel, times = pickle.dumps(sums), []
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder, Store(folder) as store:
        write_tasks([work], store)
        gathering = Gathering([work], store)
        for chunk in work.chunks:
            start = time.perf_counter()
            arrived: Sums = pickle.loads(parcel)
            gathering.add(chunk, arrived, lambda *_: None)
            times.append(time.perf_counter() - start)
        size = next(Path(folder).rglob("*.npz")).stat().st_size
    print(f"storing a chunk of {size / 1e3:.0f} kB takes {1e3 * statistics.median(times):.1f} ms")
    return statistics.median(times)


def engines() -> dict[str, Engine]:
    """Return those that run on this machine, and say which is not there."""
    found: dict[str, Engine] = {name: engine for name, engine in ENGINES.items() if name in ("local", "dask")}
    if find_spec("distributed") is None:
        del found["dask"]
        print("engine dask is not installed: it is left out")
    return found


def measured_points(out: Path, chunks: int = 16) -> DataFrame:
    """Return, for each engine and one and two workers, the share of their time that the kernel alone would take."""
    import pandas

    work = chunked(TASK, chunks)
    alone = kernel_seconds(1, work, chunks)
    rows = [
        {"engine": name, "workers": workers, "seconds": alone,
         "efficiency": alone / (workers * seconds_a_chunk(engine, workers, work, out))}
        for name, engine in engines().items()
        for workers in (1, 2)
    ]  # fmt: skip
    return pandas.DataFrame(rows)


def compare(rounds: int, chunks: int, out: Path) -> dict[str, list[float]]:
    """Return, of the kernel alone and of each engine, how many times as fast two workers were in each round."""
    work = chunked(TASK, chunks)
    found: dict[str, list[float]] = {"kernel alone": []}
    there = engines()
    for _ in range(rounds):
        ratio = kernel_seconds(1, work, chunks) / kernel_seconds(2, work, chunks)
        found["kernel alone"].append(ratio)
        for name, engine in there.items():
            one, two = (seconds_a_chunk(engine, workers, work, out) for workers in (1, 2))
            found.setdefault(name, []).append(one / two)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each (default 4)")
    parser.add_argument("--chunks", type=int, default=12, help="of a measurement (default 12)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where chunks are stored for the time")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, ratios in compare(options.rounds, options.chunks, options.out).items():
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{name:12s}  two workers are {middle:.2f} times as fast as one ({low:.2f} to {high:.2f})")
    for name, task in {"few quantities": TASK, "all": TABLE}.items():
        share = storing_share(task, options.chunks, options.out)
        print(f"storing takes {share:.1%} of a run on one thread: sampler {task.sampler}, {name}")


if __name__ == "__main__":
    main()
