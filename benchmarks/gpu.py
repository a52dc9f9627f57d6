"""Nets a second on a GPU, against this machine's processor and against PyTorch and JAX on the same GPU, in one run.

    python benchmarks/gpu.py [--seconds 1.5] [--rounds 3] [--out figures]

Prints a table in Markdown with the date and the card, and writes ``benchmark_gpu.csv``. A peer whose library is not
there, or sees no GPU, is named as absent. The limit is what a kernel draws that does nothing but Philox and Box-Muller,
over the normals that a net takes: matrix-free, two a unit on the way forward and two on the way back; dense, each
weight once.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.util
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import float32

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contestants import PEERS, QUANTITIES, Peer, jax_vmap, this_package, torch_bmm
from timing import nets_per_second

from stabsim.devices import DeviceError

if TYPE_CHECKING:
    from pandas import DataFrame

CASES = ((32, 128, 1), (32, 512, 1), (32, 2048, 1), (32, 128, 8), (32, 512, 8), (32, 512, 64))  # depth, width, batch
PEER_CHUNKS = (16, 64, 256)  # nets at once; the best is the one to beat
OURS: dict[str, Peer] = {
    "stabsim_cuda_matrix_free": functools.partial(this_package, sampler="matrix_free", device="cuda"),
    "stabsim_cuda_dense": functools.partial(this_package, sampler="dense", device="cuda"),
    "stabsim_cuda_all": functools.partial(this_package, sampler="auto", device="cuda", quantities=None),
    "stabsim_cpu": functools.partial(this_package, sampler="auto"),
}
DRAWS = 1024  # groups of normals that each thread of the limit draws
BLOCKS, THREADS = 2048, 256


def torch_on_gpu(depth: int, width: int, batch: int, nets: int, *, chunk: int) -> Any:
    """Run chunks of nets at once in PyTorch, everything on the GPU."""
    import torch

    with torch.device("cuda"):
        return torch_bmm(depth, width, batch, nets, chunk=chunk)


def peers() -> dict[str, Peer]:
    """Return the peers that find a GPU; those that do not are named."""
    found: dict[str, Peer] = {}
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            found |= {f"torch_bmm_{chunk}": functools.partial(torch_on_gpu, chunk=chunk) for chunk in PEER_CHUNKS}
    if importlib.util.find_spec("jax") is not None:
        import jax

        if jax.default_backend() == "gpu":
            found |= {f"jax_vmap_{chunk}": functools.partial(jax_vmap, chunk=chunk) for chunk in PEER_CHUNKS}
    for library in dict.fromkeys(name.split("_")[0] for name in PEERS if not name.startswith("numpy")):
        if not any(name.startswith(library) for name in found):
            print(f"{library}: absent, it is not installed or sees no GPU")
    return found


@functools.cache
def _drawing() -> Any:
    """Return the kernel of the limit: normals that go nowhere but into a sum."""
    from stabsim.cuda import draws, shim
    from stabsim.cuda.shim import cuda
    from stabsim.kernels import philox

    draw = draws.group_law("normal", np.dtype(np.float32))

    @shim.kernel
    def draw_only(sums):  # type: ignore[no-untyped-def] # compiled
        out = cuda.local.array(4, float32)
        total = float32(0)
        first = cuda.grid(1) * DRAWS
        for group in range(first, first + DRAWS):
            draw(out, group, np.uint64(1), philox.PROJECTION, np.uint32(0), np.uint32(0), float32(1))
            total += out[0] + out[1] + out[2] + out[3]
        sums.numbers[0, cuda.grid(1)] = total

    return draw_only


def normals_per_second(rounds: int = 5) -> float:
    """Return how many float32 standard normals the GPU draws, at best."""
    from stabsim.cuda import draws, shim

    sums = draws.Stack(shim.empty((1, BLOCKS * THREADS), np.float32))
    best = math.inf
    for _ in range(rounds + 1):  # the first one compiles
        start = time.perf_counter()
        _drawing()(BLOCKS, THREADS, sums)
        shim.synchronize()
        best = min(best, time.perf_counter() - start)
    return BLOCKS * THREADS * DRAWS * 4 / best


def limit(name: str, depth: int, width: int, batch: int, normals: float) -> float:
    """Return the nets a second that drawing the normals of a net alone would allow; NaN of what is not ours."""
    if name not in ("stabsim_cuda_matrix_free", "stabsim_cuda_dense"):
        return math.nan
    drawn = width**2 if name.endswith("dense") else (4 if batch == 1 else 2) * batch * width
    return normals / (depth * drawn)


def measure(seconds: float, rounds: int) -> DataFrame:
    """Return one row a case and contestant."""
    import pandas

    contestants, normals = {**OURS, **peers()}, normals_per_second()
    print(f"normals a second, drawn and added up only: {normals:.3g}")
    rows = [row for case in CASES for row in compare(contestants, case, normals, seconds, rounds)]
    columns = ["depth", "width", "batch", "contestant", "nets_per_second", "ratio_to_cpu", "ratio_to_best_peer"]
    return pandas.DataFrame(rows, columns=[*columns, "share_of_limit"])


def compare(
    contestants: dict[str, Peer], case: tuple[int, int, int], normals: float, seconds: float, rounds: int
) -> Iterator[tuple[Any, ...]]:
    """Yield a row a contestant of one case."""
    rates = nets_per_second(contestants, *case, seconds=seconds, rounds=rounds)
    best = max((rate for name, rate in rates.items() if not name.startswith("stabsim")), default=math.nan)
    for name, rate in rates.items():
        yield (*case, name, rate, rate / rates["stabsim_cpu"], rate / best, rate / limit(name, *case, normals))


def card() -> str:
    """Return what the GPU is called."""
    from stabsim.cuda import shim

    shim.require()
    return str(shim.name())


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=1.5, help="least that one measurement takes")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each contestant")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="where the table goes")
    arguments = parser.parse_args()
    try:
        print(f"{card()}, {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}; {', '.join(QUANTITIES)}")
    except DeviceError as error:
        print(f"benchmarks/gpu.py: {error}", file=sys.stderr)
        return 1
    table = measure(arguments.seconds, arguments.rounds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out / "benchmark_gpu.csv", index=False)
    print("| depth, width, batch | contestant | nets a second | over this CPU | over the best peer | of the limit |")
    print("|---|---|---|---|---|---|")
    for depth, width, batch, name, rate, *ratios in table.itertuples(index=False, name=None):
        cells = " | ".join("" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios)
        print(f"| {depth}, {width}, {batch} | {name} | {rate:.0f} | {cells} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
