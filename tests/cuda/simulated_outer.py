"""Zeros and signs of dW on the device against those of the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim.cuda import outer, shim
from stabsim.kernels import outer as cpu
from stabsim.kernels import record as r

TYPES = [np.float32, np.float64]
COLUMNS = [
    r.WEIGHT_GRADIENT_ZERO, r.WEIGHT_GRADIENT_DEAD_ROW, r.WEIGHT_GRADIENT_DEAD_COLUMN,
    r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN,
]  # fmt: skip


def factors(kind: str, samples: int, fan_in: int, fan_out: int, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return z and ds with zeros of a kind."""
    rng = np.random.default_rng(samples * fan_in)
    z, ds = rng.standard_normal((samples, fan_in)), rng.standard_normal((samples, fan_out))
    if kind == "sparse":
        z *= rng.random(z.shape) < 2.0 / samples
        ds *= rng.random(ds.shape) < 1.0 / samples
    if kind == "signed":
        z, ds = np.abs(z), ds * (rng.random(ds.shape) < 2.0 / samples)
    if kind == "dead":
        ds[:] = 0.0
    if kind == "tiny":
        z, ds = np.abs(z) * 1e-19, ds * 1e-18  # products are subnormal in float32
    return z.astype(dtype), ds.astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["random", "sparse", "signed", "dead", "tiny"])
@pytest.mark.parametrize(("samples", "fan_in", "fan_out"), [(3, 5, 17), (12, 17, 5), (13, 35, 5), (70, 7, 33)])
def test_zeros_and_signs_are_those_of_the_processor(
    kind: str, samples: int, fan_in: int, fan_out: int, dtype: Any
) -> None:
    pairs = [factors(kind if net == 0 else "sparse", samples, fan_in, fan_out, dtype) for net in range(2)]
    z, ds = (np.stack(each) for each in zip(*pairs, strict=True))
    record, expected = np.full((2, 2, 3, r.COLUMNS), np.nan)
    for net in range(2):
        cpu.record_zeros(expected[net, 1], z[net], ds[net])
        cpu.record_one_signed_columns(expected[net, 1], z[net], ds[net])
    found = shim.to_device(record)
    outer.record_zeros(shim.to_device(z), shim.to_device(ds), found, 1, True)
    assert np.isfinite(expected[:, 1, COLUMNS[:3]]).all()
    assert np.array_equal(shim.to_host(found), expected, equal_nan=True)
