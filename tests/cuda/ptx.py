"""Kernels without a GPU: which ones a run launches, with what, and their PTX as NVVM compiles it."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numba
import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from stabsim.cuda import shim

CAPABILITIES = ((8, 0), (9, 0))  # A100, H100


@dataclass(frozen=True)
class Launch:
    """A kernel, and what it is launched with."""

    kernel: shim.Kernel
    arguments: tuple[Any, ...]
    blocks: int | tuple[int, int]
    threads: int
    shared: int

    @property
    def name(self) -> str:
        return self.kernel.function.__qualname__

    @property
    def signature(self) -> tuple[Any, ...]:
        """Return Numba's types of the arguments, which decide what is compiled."""
        return tuple(map(numba.typeof, self.arguments))


class _NumPy(SimpleNamespace):
    """NumPy, with what `shim` takes of CuPy besides."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _array_library() -> _NumPy:
    pool = SimpleNamespace(free_bytes=lambda: 0)
    runtime = SimpleNamespace(memGetInfo=lambda: (2**30, 2**30))
    stream = SimpleNamespace(synchronize=lambda: None)
    streams = SimpleNamespace(null=contextlib.nullcontext())
    return _NumPy(
        empty=np.zeros,  # numbers that nothing computes could overflow in products
        asnumpy=np.array,
        get_default_memory_pool=lambda: pool,
        cuda=SimpleNamespace(runtime=runtime, get_current_stream=lambda: stream, Stream=streams),
    )


def launches(run: Callable[[], Any]) -> list[Launch]:
    """Return what a run launches, in its order: NumPy keeps the arrays, and no kernel is executed."""
    seen: list[Launch] = []

    def record(kernel: shim.Kernel, blocks: Any, threads: int, arguments: tuple[Any, ...], shared: int) -> None:
        grid = np.atleast_1d(blocks)
        assert (grid > 0).all() and grid[1:].max(initial=0) < 2**16, f"a device refuses a grid of {blocks}"
        assert threads % 32 == 0 and 0 < threads <= 1024 and 0 <= shared <= 48 * 1024
        seen.append(Launch(kernel, arguments, blocks, threads, shared))

    with (
        mock.patch.object(shim, "xp", _array_library()),
        mock.patch.object(shim, "require"),
        mock.patch.object(shim.Kernel, "_launch", record),
    ):
        run()
    return seen


def each_once(seen: list[Launch]) -> list[Launch]:
    """Return the launches that differ in what has to be compiled for them."""
    return list({(id(launch.kernel), launch.signature): launch for launch in seen}.values())


def compile_to_ptx(kernel: shim.Kernel, arguments: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """Return a kernel's PTX for arguments as they are launched, and a compute capability."""
    signature = tuple(map(numba.typeof, arguments))
    with _device(capability):
        text, _ = shim.cuda.compile(kernel.function, signature, device=False, abi="numba", cc=capability, output="ptx")
    return str(text)


def spilled_bytes(text: str, capability: tuple[int, int], registers: int | None = None) -> int:
    """Return how much a thread of a kernel has to put aside once its PTX is machine code, with so many registers.

    Raises
    ------
    Exception
        Of the library, if the assembler does not take it.
    """
    from cuda.bindings import nvjitlink

    major, minor = capability
    options = [f"-arch=sm_{major}{minor}", "-verbose", "-Xptxas=-v"]
    options += [] if registers is None else [f"-maxrregcount={registers}"]
    link = nvjitlink.create(len(options), options)
    try:
        code = text.encode() + b"\0"
        nvjitlink.add_data(link, nvjitlink.InputType.PTX, code, len(code), "kernel")
        nvjitlink.complete(link)
        said = bytearray(nvjitlink.get_info_log_size(link))
        nvjitlink.get_info_log(link, said)
        assert nvjitlink.get_linked_cubin_size(link) > 0
        return sum(map(int, re.findall(r"(\d+) bytes spill stores", said.decode())))
    finally:
        nvjitlink.destroy(link)


@contextlib.contextmanager
def _device(capability: tuple[int, int]) -> Iterator[None]:
    """Stand in for the GPU that numba-cuda asks what to compile its device functions for."""
    found = SimpleNamespace(compute_capability=capability)
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=found):
        yield


@functools.cache
def reason_against() -> str:
    """Return why nothing can be compiled here, in one line, or nothing."""
    try:
        from numba.cuda.cudadrv import nvvm

        nvvm.NVVM()
    except Exception as error:  # of the library: whatever its loader says
        return f"NVVM cannot be loaded ({' '.join(str(error).split())[:200]}): no kernel can be compiled"
    return ""


def require_nvvm() -> None:
    """Skip the test at hand, with the reason, where nothing can be compiled."""
    if reason := reason_against():
        pytest.skip(reason)
