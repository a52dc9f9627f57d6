"""Compiled entry points: no two may share a symbol, or one runs as the other once both come from the disk cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim.activations import ACTIVATIONS, activation
from stabsim.activations.compiled import block
from stabsim.kernels import (
    compile,
    dense,
    laws,
    matrix_free,
    matrix_free_batch,
    matrix_index,
    optimizers,
    passages,
    positive_definite,
    sums,
    trainer,
)

PRECISIONS = [np.dtype(name) for name in ("float32", "float64")]

RUN_AS_OTHERS = """
import sys
import numpy as np
from numba import float32, types, void
from stabsim.activations import activation
from stabsim.activations.compiled import block
from stabsim.kernels.compile import kernel

loops = [block(activation(name), "float32") for name in sys.argv[1:]]
if len(loops) > 1:
    pointer = types.FunctionType(void(float32[::1], float32[::1], float32[::1]))

    def call(function, s, z, d):
        function(s, z, d)

    call = kernel(void(pointer, float32[::1], float32[::1], float32[::1]))(call)
    for loop in loops:
        s, z, d = np.full((3, 1), -1, np.float32)
        call(loop, s, z, d)
        print(float(z[0]))
"""


def symbols(dispatcher: Any) -> list[str]:
    """Return the linker's symbols without the number that differs from process to process."""
    names = [result.fndesc.llvm_func_name for result in dispatcher.overloads.values()]
    return [re.sub(r"B\d+v\d+B", "B", name) for name in names]


def test_every_entry_point_has_a_symbol_of_its_own() -> None:
    compiled = [block(activation(name), dtype) for name in ACTIVATIONS for dtype in PRECISIONS]
    compiled += [block(activation(f"leaky_relu(slope={slope})"), "float32") for slope in (0.1, 0.2)]
    compiled += [laws.law(name, dtype) for name in laws.LAWS for dtype in PRECISIONS]
    compiled += [optimizers.loop(rule, dtype) for rule in optimizers.RULES for dtype in PRECISIONS]
    compiled += [passages.runner(), *map(passages.profile, passages.PROFILES)]
    compiled += [positive_definite.grow(), matrix_index.count_index()]
    samplers = (
        dense.dense_sampler, matrix_free.matrix_free_sampler, matrix_free_batch.matrix_free_batch_sampler,
        dense.structured_dense_sampler, matrix_free_batch.structured_matrix_free_sampler, trainer.trainer,
    )  # fmt: skip
    compiled += [sampler(dtype) for sampler in samplers for dtype in PRECISIONS]
    compiled += [sums.sum_record(), sums.log2_mean_squares()]
    found = [name for dispatcher in compiled for name in symbols(dispatcher)]
    assert len(found) == len(compiled)
    assert len(set(found)) == len(found)


def test_what_two_processes_have_cached_a_third_can_tell_apart(tmp_path: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent), "PATH": ""}

    def run(*names: str) -> list[float]:
        command = [sys.executable, "-c", RUN_AS_OTHERS, *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return [float(line) for line in done.stdout.split()]

    for name in ("relu", "sigmoid"):
        run(name)
    relu, sigmoid = run("relu", "sigmoid")
    assert relu == 0 and 0.2 < sigmoid < 0.3


def test_what_is_compiled_is_part_of_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "stabsim"
    shutil.copytree(Path(stabsim.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compile, "_PACKAGE", package)
    hashes = [compile.source_hash.__wrapped__()]
    for name in ("kernels/philox.py", "activations/relu.py", "plan.py"):
        with (package / name).open("a") as file:
            file.write("# edited\n")
        hashes.append(compile.source_hash.__wrapped__())
    assert len(set(hashes[:3])) == 3 and hashes[3] == hashes[2]
