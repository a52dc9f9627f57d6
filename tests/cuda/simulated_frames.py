"""Frames and semi-orthogonal weights on the device against those of the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim.cuda import frames, orthogonal, shim
from stabsim.kernels import frames as cpu
from stabsim.kernels import laws, philox

TYPES = [np.float32, np.float64]


def rows_of(kind: str, count: int, width: int, dtype: Any) -> NDArray[Any]:
    """Return rows of a kind."""
    rng = np.random.default_rng(count * width)
    rows = rng.standard_normal((count, width))
    if kind == "repeated":
        rows[count // 2 :] = rows[: count - count // 2]
    if kind == "dependent":
        rows[2::3] = rows[0] - 2.0 * rows[1]
    if kind == "parallel":  # 1 - correlation = 1e-6
        rows[1:] = rows[0] + np.sqrt(2e-6) * rows[1:]
    if kind == "zero":
        rows[::2] = 0.0
    if kind in ("huge", "tiny"):
        rows *= (1e30 if kind == "huge" else 1e-30) if dtype == np.float32 else (1e290 if kind == "huge" else 1e-290)
        rows[1:3] *= 1e-5 if kind == "huge" else 1e-9  # tiny: subnormal in float32
    return rows.astype(dtype)


def on_processor(rows: NDArray[Any], start: int, c: NDArray[Any]) -> None:
    cpu.orthonormalize(rows, start, c, np.empty(cpu.PANEL * (rows.shape[0] + rows.shape[1]), rows.dtype))


def on_device(rows: NDArray[Any], start: int, c: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the frames and C."""
    stacks = shim.to_device(rows), shim.to_device(c)
    frames.orthonormalize(stacks[0], start, stacks[1])
    return shim.to_host(stacks[0]), shim.to_host(stacks[1])


def tolerance(kind: str, dtype: Any) -> float:
    """Return what may differ: that of nearly parallel rows is their rounding over sin of the angle between them."""
    return (300 if kind != "parallel" else 3e5) * float(np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("kind", "nets", "count", "width"),
    [
        ("random", 2, 1, 5), ("random", 1, 7, 5), ("random", 2, 5, 17), ("repeated", 1, 6, 17), ("dependent", 1, 7, 17),
        ("parallel", 1, 5, 17), ("parallel", 1, 17, 33), ("parallel", 1, 3, 133), ("zero", 1, 5, 17),
        ("huge", 1, 4, 17), ("tiny", 1, 4, 17),
    ],
)  # fmt: skip
def test_frames_are_those_of_the_processor(kind: str, nets: int, count: int, width: int, dtype: Any) -> None:
    rows = np.stack([rows_of(kind, count, width + net, dtype)[:, :width] for net in range(nets)])
    given = rows.astype(np.float64)
    expected, expected_c = rows.copy(), np.full((nets, count, count), np.nan, dtype)
    c = expected_c.copy()
    for net in range(nets):
        on_processor(expected[net], 0, expected_c[net])
    rows, c = on_device(rows, 0, c)

    known = min(count, width)  # of more rows than columns, what is left of the others is rounding
    bound = tolerance(kind, dtype)
    assert np.array_equal(np.any(rows, axis=2), np.any(expected, axis=2))
    np.testing.assert_allclose(rows[:, :known], expected[:, :known], rtol=0, atol=bound)
    size = np.abs(given).max(axis=2, keepdims=True) + np.finfo(dtype).tiny
    np.testing.assert_allclose((c / size)[:, :known], (expected_c / size)[:, :known], rtol=0, atol=bound * width**0.5)
    products = rows.astype(float) @ rows.astype(float).transpose(0, 2, 1)
    alive = np.any(rows, axis=2)
    np.testing.assert_allclose(
        products, np.stack([np.diag(row.astype(float)) for row in alive]), rtol=0, atol=50 * float(np.finfo(dtype).eps)
    )
    np.testing.assert_allclose(
        (c.astype(float) / size) @ rows.astype(float), given / size, rtol=0, atol=100 * float(np.finfo(dtype).eps)
    )


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_are_added_to_a_frame(dtype: Any) -> None:
    rows = np.random.default_rng(1).standard_normal((1, 6, 17)).astype(dtype)
    rows[0, 4] = rows[0, 1]
    c = np.zeros((1, 6, 6), dtype)
    on_processor(rows[0, :3], 0, c[0, :3, :3].copy())
    expected, expected_c = rows.copy(), c.copy()
    on_processor(expected[0], 3, expected_c[0])
    rows, c = on_device(rows, 3, c)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=tolerance("random", dtype))
    np.testing.assert_allclose(c, expected_c, rtol=0, atol=tolerance("random", dtype))
    assert not rows[0, 4].any()


def test_nothing_else_than_nan_comes_of_nan() -> None:
    rows = np.random.default_rng(2).standard_normal((1, 4, 5))
    rows[0, 1, 2] = np.nan
    expected, c = rows.copy(), np.zeros((1, 4, 4))
    on_processor(expected[0], 0, c[0].copy())
    rows, c = on_device(rows, 0, c)
    assert np.array_equal(np.isnan(rows), np.isnan(expected))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("fan_in", "fan_out"), [(17, 5), (5, 17), (7, 7), (1, 6)])
def test_semi_orthogonal_weights_are_those_of_the_processor(
    fan_in: int, fan_out: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "PANEL", 4)
    nets, seed, layer, scale = 2, np.uint64(7), np.uint32(3), dtype(0.5)
    weights, expected = (np.empty((nets, fan_in, fan_out), dtype) for _ in range(2))
    zero = np.uint64(0)
    for net in range(nets):
        number = np.uint32(net)
        laws.law("normal", np.dtype(dtype))(weights[net], zero, seed, philox.WEIGHT, layer, number, dtype(1))
        laws.law("orthogonal", np.dtype(dtype))(expected[net], zero, seed, philox.WEIGHT, layer, number, scale)
    made = shim.to_device(weights)
    orthogonal.make_semi_orthogonal(made, float(scale))
    condition = 100 if fan_in == fan_out else 10
    np.testing.assert_allclose(shim.to_host(made), expected, rtol=0, atol=condition * 100 * float(np.finfo(dtype).eps))
