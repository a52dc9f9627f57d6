"""The matrix-free samplers but for their law: memory, range, bits, degenerate batches, and their pieces."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import stabsim
from stabsim import Initializer, Network, samplers
from stabsim.arguments import make_task
from stabsim.kernels import blocks, frames, matrix_free, outer
from stabsim.kernels import record as r
from stabsim.plan import Plan
from stabsim.quantities import PLAIN
from tests.checks import WRONG, assert_agrees, must_fail
from tests.test_scaling import GAINS, NORMS, exact_backward_linear, exact_forward

Numbers = NDArray[Any]

WIDTHS = (9, 5, 1100, 7, 30, 8)
LAWS = ("he_normal", "orthogonal")


def run(network: Network, nets: int = 40, **options: Any) -> stabsim.Result:
    return stabsim.simulate(network, nets=nets, sampler="matrix_free", seed=3, **options)


# Bits and memory.


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("law", LAWS)
def test_threads_change_no_bit(law: str, batch: int) -> None:
    network = Network(WIDTHS, "gelu", law, bias_std=0.3)
    tables = [run(network, batch=batch, threads=threads).table for threads in (1, 2, 3)]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("law", LAWS)
def test_what_is_drawn_again_is_what_would_have_been_kept(
    law: str, batch: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    histograms = {"preactivation": (-3, 3, 8), "activation_gradient": (-3, 3, 8)}
    for activation, bias, gain in (("relu", 0.0, 1.4), ("tanh", 0.5, 1.0), ("gelu", 0.1, 2.0**30), ("silu", 0, 1e-9)):
        network = Network(WIDTHS, activation, Initializer(law.removeprefix("he_"), gain), bias)
        results = []
        for budget in (2**27, 0):
            monkeypatch.setattr(samplers.matrix_free_batch, "KEEP_WEIGHTS", budget)
            monkeypatch.setattr(samplers.matrix_free, "KEEP_VECTORS", budget)
            task = make_task(network, batch=batch, sampler="matrix_free", precision=precision)
            assert samplers.sampler_of(task).layout(task).kept == (budget > 0)
            results.append(run(network, batch=batch, precision=precision, histograms=histograms))
        assert results[0].table.equals(results[1].table)
        for tensor in histograms:
            assert np.array_equal(results[0].histograms[tensor][1], results[1].histograms[tensor][1])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "widths",
    [
        (9, 5),
        (5, 9),
        (6, 7, 4),
        (4097, 3, 5000),
        (4096, 3, 2),
        (2100, 3, 5, 7, 4),
        (1100, 5, 1100, 7, 9),
        (1300, 7, 6, 5, 4, 3, 2),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_need_be_kept(widths: tuple[int, ...], batch: int, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shallow nets; wide ones, of which nothing is drawn ahead though all is kept; all ends of groups drawn ahead."""
    tables = []
    for budget in (2**27, 0):
        monkeypatch.setattr(samplers.matrix_free_batch, "KEEP_WEIGHTS", budget)
        monkeypatch.setattr(samplers.matrix_free, "KEEP_VECTORS", budget)
        tables.append(run(Network(widths, "relu", law), batch=batch).table)
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("budget", [2**27, 0])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_asking_for_less_gives_the_same_numbers(batch: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One tensor at a time: without weight gradients frames are made in place, without others less is summed."""
    monkeypatch.setattr(samplers.matrix_free_batch, "KEEP_WEIGHTS", budget)
    monkeypatch.setattr(samplers.matrix_free, "KEEP_VECTORS", budget)
    names = [name for name, entry in PLAIN.items() if entry.smallest_batch <= batch]
    groups = {PLAIN[name].tensor for name in names}
    subsets = [tuple(name for name in names if PLAIN[name].tensor == tensor) for tensor in groups]
    subsets += [("activation_zero_fraction", "derivative_zero_fraction"), ("activation_variance",)]
    for law in LAWS:
        network = Network(WIDTHS, "relu", law, bias_std=0.2)
        table = run(network, batch=batch).table.astype({"quantity": str})
        for subset in subsets:
            few = run(network, batch=batch, quantities=subset).table.astype({"quantity": str})
            assert few.equals(table[table["quantity"].isin(subset)].reset_index(drop=True)), subset


@pytest.mark.parametrize("batch", [1, 4])
def test_memory_depends_neither_on_depth_nor_on_the_square_of_the_width(batch: int) -> None:
    def length(width: int, depth: int) -> int:
        task = make_task(Network((width,) * (depth + 1), "relu", "he_normal"), batch=batch, sampler="matrix_free")
        return sum(Plan(task).layout.lengths)

    assert length(10**6, 1000) - length(10**6, 100) <= 900 * 64  # C of a batch
    assert length(2 * 10**6, 100) <= 2 * length(10**6, 100)


MEMORY = """
import sys
import stabsim
from stabsim.measuring import peak_of
network = stabsim.Network((1_000_000,) * (int(sys.argv[1]) + 1), "relu", "he_normal")
stabsim.simulate(stabsim.Network((8, 8), "relu", "he_normal"), nets=2, sampler="matrix_free")
results = []
peak = peak_of(lambda: results.append(stabsim.simulate(network, nets=1, threads=2)))
result = results[0]
assert result.task.sampler == "matrix_free"
assert abs(result.estimates("activation_zero_fraction").estimate[-1] - 0.5) < 0.01
print(peak)
"""


def test_a_net_a_million_wide_takes_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, "20"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30e6  # NaN, which fails, but on Linux


# Range.


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("batch", [1, 2])
def test_ten_thousand_layers_of_a_thousand_units(gain: float, batch: int) -> None:
    width, depth = (1000, 10_000) if batch == 1 else (40, 3000)
    network = Network((width,) * (depth + 1), "linear", Initializer("normal", gain))
    result = run(network, nets=16, batch=batch, quantities=NORMS)
    if batch == 1:
        for name, expected in (
            ("activation_log10_norm", exact_forward("linear", width, depth, gain)),
            ("activation_gradient_log10_norm", exact_backward_linear(width, depth, gain)),
        ):
            found = result.estimates(name)
            assert_agrees(found.estimate[::500], expected[::500], found.std_error[::500])
            must_fail(assert_agrees, 1.05 * found.estimate[::500], expected[::500], found.std_error[::500])
    assert all(np.isfinite(result.estimates(name).estimate[1:]).all() for name in NORMS)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu", "sigmoid"])
@pytest.mark.parametrize("gain", [1e-12, 1e12])
def test_extreme_gains_agree_with_dense(activation: str, gain: float, batch: int) -> None:
    network = Network((12, 9, 14, 11), activation, Initializer("normal", gain), bias_std=0.0)
    names = (*NORMS, "derivative_mean_square", "derivative_zero_fraction")
    a, b = (
        stabsim.simulate(network, nets=2000, batch=batch, sampler=sampler, quantities=names, seed=5)
        for sampler in ("dense", "matrix_free")
    )
    for name in names:
        x, y = a.estimates(name), b.estimates(name)
        here = np.isfinite(x.estimate) & (np.minimum(x.nets, y.nets) > 200)  # by chance few nets are alive
        assert np.all(np.abs(x.nets - y.nets) < 250)
        if here.any():
            assert_agrees(x.estimate[here], y.estimate[here], np.hypot(x.std_error, y.std_error)[here])


# Degenerate batches, and what goes in.


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_samples_that_repeat_stay_the_same_and_those_that_are_dead_stay_dead(law: str, precision: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 20))
    inputs = np.array([x[0], x[0], x[1], 2 * x[1], np.zeros(20), np.zeros(20), x[2], -x[2]])
    network = Network((20, 30, 25, 40), "linear", law)
    result = run(network, batch=8, inputs=inputs, precision=precision, samples=("activation_correlation",))
    # Pairs: the same, twice, dead (left out), opposite.
    rounding = 1e-6 if precision == "float32" else 1e-14
    assert np.abs(result.samples["activation_correlation"] - 1 / 3).max() < rounding
    assert np.allclose(result.estimates("activation_dead_sample_fraction").estimate, 0.25)
    assert np.allclose(result.estimates("derivative_dead_sample_fraction").estimate[1:], 0)


def test_nearly_parallel_samples_keep_what_tells_them_apart() -> None:
    """1 - c = 1e-9: its logarithm moves as in dense nets."""
    x, y = np.random.default_rng(1).standard_normal((2, 50))
    y -= (x @ y) / (x @ x) * x
    near = x + math.sqrt(2e-9) * math.sqrt((x @ x) / (y @ y)) * y
    network = Network((50, 40, 60, 50, 45), "tanh", "glorot_normal")
    logs = []
    for sampler in ("dense", "matrix_free"):
        result = stabsim.simulate(
            network, nets=20_000, batch=2, inputs=np.array([x, near]), sampler=sampler, precision="float64", seed=2,
            samples=("activation_correlation",), quantities=("activation_correlation",),
        )  # fmt: skip
        logs.append(np.log10(1 - result.samples["activation_correlation"]))
    assert abs(logs[1][0, 0] + 9) < 1e-5
    means, spreads = [log.mean(axis=0)[1:] for log in logs], [log.std(axis=0)[1:] for log in logs]
    error = np.hypot(*spreads) / math.sqrt(20_000)
    assert_agrees(means[0], means[1], error)
    assert_agrees(spreads[0], spreads[1], error / math.sqrt(2))
    must_fail(assert_agrees, means[0] + math.log10(1.05), means[1], error)
    must_fail(assert_agrees, 1.05 * spreads[0], spreads[1], error / math.sqrt(2))


@pytest.mark.parametrize("batch", [1, 4])
def test_real_inputs_and_a_given_gradient(batch: int) -> None:
    gradient = np.random.default_rng(4).standard_normal((batch, 6))
    network = Network((64, 20, 30, 6), "elu", "he_normal", bias_std=0.2)
    a, b = (
        stabsim.simulate(
            network, nets=3000, batch=batch, inputs="digits", output_gradient=gradient, sampler=sampler, seed=6
        )
        for sampler in ("dense", "matrix_free")
    )
    table = a.table.merge(b.table, on=["quantity", "layer"])
    assert len(table) == len(a.table) == len(b.table)
    errors = np.hypot(table["std_error_x"], table["std_error_y"])
    assert_agrees(table["estimate_x"][errors > 0], table["estimate_y"][errors > 0], errors[errors > 0])
    assert np.allclose(table["estimate_x"][errors == 0], table["estimate_y"][errors == 0])


def test_a_users_own_activation() -> None:
    swoosh = stabsim.Activation("swoosh", f=lambda x: x * x / 2 - x, derivative=lambda x: x - 1)
    for batch in (1, 3):
        a, b = (
            stabsim.simulate(
                Network((10, 12, 8), swoosh, "glorot_normal"), nets=2000, batch=batch, sampler=sampler, seed=8
            )
            for sampler in ("dense", "matrix_free")
        )
        for name in ("activation_log10_norm", "activation_gradient_log10_norm", "activation_mean"):
            x, y = a.estimates(name), b.estimates(name)
            assert_agrees(x.estimate, y.estimate, np.hypot(x.std_error, y.std_error))


# Blocks: vectors longer than one are taken off each other block by block.


def detached(z: Numbers, h: Numbers, sizes: tuple[int, ...]) -> Numbers:
    """Take h off z as the sampler does, in blocks of these sizes."""
    parts = [slice(sum(sizes[:k]), sum(sizes[: k + 1])) for k in range(len(sizes))]
    debt, beyond, rest, out = 0.0, 0.0, 0.0, h.copy()
    for part in parts:
        beyond, rest = blocks.add_exactly(beyond, rest, float(z[part] @ z[part]))
    for part in parts:
        squares = float(z[part] @ z[part])
        beyond, rest = blocks.add_exactly(beyond, rest, -squares)
        c, debt = matrix_free.detach(squares, float(z[part] @ h[part]), debt, max(beyond + rest, 0.0))
        out[part] += c * z[part]
    return out


SIZES = (3, 1, 4, 2)
VECTORS = {
    "usual": np.arange(1.0, 11.0) * np.where(np.arange(10) % 3, 1, -1),
    "dead blocks": np.array([0, 0, 0, 5.0, 1, -2, 0, 3, 0, 0]),
    "all in one block": np.array([0, 0, 0, 0, 1.0, 2, 3, 4, 0, 0]),
    "small ones last": np.array([1.0, 2, 3, 1e-3, 1e-6, 0, 0, 1e-6, 1e-9, 1e-9]),
    "small ones first": np.array([1e-9, 0, 0, 1e-6, 1e-3, 0, 0, 0, 1, 2]),
}


@pytest.mark.parametrize("name", VECTORS)
def test_blocks_together_have_the_law_of_what_is_left_of_a_whole_vector(name: str) -> None:
    """That is a normal vector of covariance I - u u^T, u = z / |z|: linear in h, so what it does to I says it all."""
    z = VECTORS[name]
    u = z / np.linalg.norm(z)
    turned = np.array([detached(z, row, SIZES) for row in np.eye(10)])
    assert np.allclose(turned @ u, 0, atol=1e-12)
    assert np.allclose(turned.T @ turned, np.eye(10) - np.outer(u, u), atol=1e-12)
    assert np.allclose([detached(z, row, (10,)) for row in np.eye(10)], np.eye(10) - np.outer(u, u), atol=1e-12)


def test_blocks_each_for_itself_would_not() -> None:
    z, sizes = VECTORS["usual"], (5, 5)
    u = z / np.linalg.norm(z)
    apart = np.array(
        [np.concatenate([detached(z[:5], row[:5], (5,)), detached(z[5:], row[5:], (5,))]) for row in np.eye(10)]
    )
    right = np.array([detached(z, row, sizes) for row in np.eye(10)])
    expected = np.eye(10) - np.outer(u, u)
    assert np.allclose(right.T @ right, expected, atol=1e-12)
    assert np.abs(apart.T @ apart - expected).max() > 0.05


def ends_of_two_blocks(tail: float, nets: int) -> Numbers:
    """Return of each net, for an input of 3 and ``tail`` in two blocks, dz of both, and z . dz as the layer says.

    The net is linear with one layer and a gradient of ones, so z . dz is the sum of z W. Of dz the last block is kept,
    of one unit, behind which the one before has left its other units.
    """
    inputs = np.zeros((1, 1025))
    inputs[0, [1, 1024]] = 3.0, tail
    network = Network((1025, 4), "linear", "lecun_normal")
    options: dict[str, Any] = {"inputs": inputs, "output_gradient": np.ones((1, 4)), "precision": "float64"}
    plan = Plan(make_task(network, sampler="matrix_free", **options))
    (buffers,) = plan.allocate(plan.layout)
    rows = []
    for number in range(nets):
        plan.simulate(number, buffers, np.empty((1, *plan.blank.shape)))
        start = plan.layout.offsets[matrix_free.P, 1]
        projected = buffers[matrix_free.P][start : start + 4].sum()
        rows.append((buffers[matrix_free.DZ][1], buffers[matrix_free.DZ][0], projected))
    return np.array(rows)


@pytest.mark.parametrize("tail", [4.0, 4e-9])
def test_the_sampler_takes_vectors_off_each_other_across_blocks(tail: float, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = 50_000
    found = ends_of_two_blocks(tail, nets)
    first, last, projected = found.T
    assert np.allclose(3.0 * first + tail * last, projected, rtol=0, atol=1e-13)
    squares, products = last**2 * 1025 / 4, last * projected * 1025 / 4 / tail  # both 1 in the mean
    for values in (squares, products):
        mean, error = values.mean(), values.std() / math.sqrt(nets)
        if values is squares or tail == 4.0:  # else products are lost in their spread
            assert_agrees(mean, 1.0, error)
            must_fail(assert_agrees, WRONG * mean, 1.0, error)
    if tail == 4.0:
        # Each block for itself would have both along (3, 4), so that the last is projected * 4 / 25.
        assert np.abs(last - projected * 4 / 25).max() > 0.01
    monkeypatch.setattr(samplers.matrix_free, "KEEP_VECTORS", 0)  # they are drawn anew: the same ones
    np.testing.assert_array_equal(ends_of_two_blocks(tail, 1000), found[:1000])


def test_other_laws_are_refused() -> None:
    with pytest.raises(ValueError, match="sampler='matrix_free' needs weights of law 'normal' or 'orthogonal', not 'u"):
        run(Network((4, 4), "relu", "he_uniform"))


def test_auto_takes_the_cheaper_one_that_is_allowed() -> None:
    def chosen(width: int, batch: int, weights: str = "he_normal", **options: Any) -> str:
        return make_task(Network((width,) * 5, "relu", weights), batch=batch, **options).sampler

    assert chosen(128, 1) == chosen(2048, 8) == chosen(512, 64) == chosen(512, 1, "orthogonal") == "matrix_free"
    assert chosen(100, 1000) == chosen(32, 64) == chosen(512, 1, "he_uniform") == "dense"
    for quantities in (None, ("activation_mean",), ("weight_gradient_zero_fraction",)):
        for width, batch in ((128, 32), (100, 24), (64, 8), (64, 16)):
            asked: dict[str, Any] = {"quantities": quantities, "samples": ("activation_variance",)}
            assert chosen(width, batch, **asked) == chosen(width, batch)


# The pieces.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "width", "start"),
    [
        (1, 1, 0),
        (3, 2, 0),
        (5, 40, 0),
        (20, 300, 0),
        (30, 64, 11),
        (64, 12, 0),
        (200, 100, 0),
        (240, 12, 0),
        (350, 300, 0),
    ],
)
@pytest.mark.parametrize("apart", [1.0, 1e-4])
def test_frames(rows: int, width: int, start: int, apart: float, dtype: Any) -> None:
    rng = np.random.default_rng(rows)
    matrix = (rng.standard_normal(width) + apart * rng.standard_normal((rows, width))).astype(dtype)
    matrix[:start] = np.linalg.qr(rng.standard_normal((width, start)))[0].T
    if rows > 4:
        matrix[start + 2] = 0
        matrix[start + 4] *= 1e-25
        matrix[start + 3] = matrix[start + 1]
    frame, c = matrix.copy(), np.zeros((rows, rows), dtype)
    frames.orthonormalize(frame, start, c, np.empty(frames.PANEL * (width + 2 * rows), dtype))
    precision = 100 * np.finfo(dtype).eps * max(1.0, min(rows, width) / 64)  # errors add up over a frame's rows
    gram = frame.astype(np.float64) @ frame.T.astype(np.float64)
    alive = np.diag(gram) > 0.5
    assert np.abs(gram - np.diag(alive)).max() < precision
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1)
    directions = matrix / np.where(lengths > 0, lengths, 1.0)[:, None]
    rank = np.linalg.matrix_rank(directions)
    assert alive.sum() <= min(rows, width)
    if apart == 1 or dtype == np.float64:
        assert alive.sum() == rank
    c[range(start), range(start)] = 1
    assert np.all(np.abs(c @ frame - matrix).max(axis=1) <= precision * lengths)
    assert not np.triu(c[start:, start:], 1).any() and not c[start:, ~alive].any()


@pytest.mark.parametrize(("samples", "fan_in", "fan_out"), [(2, 200, 150), (7, 30, 40), (40, 20, 30), (130, 25, 9)])
@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.95])
def test_zeros_and_signs_of_a_product_that_is_not_formed(samples: int, fan_in: int, fan_out: int, zeros: float) -> None:
    rng = np.random.default_rng(samples)
    z, ds = (
        np.where(rng.random((samples, width)) < zeros, 0, rng.standard_normal((samples, width)))
        for width in (fan_in, fan_out)
    )
    z = np.abs(z)
    ds[:, ::3] = np.abs(ds[:, ::3])
    ds[0] = 0
    dw = z.T @ ds
    row = np.full(r.COLUMNS, np.nan)
    outer.record_zeros(row, z, ds)
    outer.record_one_signed_columns(row, z, ds)
    dead = ~dw.any(axis=0)
    one_signed = ((dw >= 0).all(axis=0) | (dw <= 0).all(axis=0)) & ~dead
    assert row[r.WEIGHT_GRADIENT_ZERO] == pytest.approx((dw == 0).mean(), abs=1e-15)
    assert row[r.WEIGHT_GRADIENT_DEAD_ROW] == pytest.approx((~dw.any(axis=1)).mean(), abs=1e-15)
    assert row[r.WEIGHT_GRADIENT_DEAD_COLUMN] == pytest.approx(dead.mean(), abs=1e-15)
    expected = one_signed.sum() / (~dead).sum() if not dead.all() else math.nan
    assert row[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN] == pytest.approx(expected, nan_ok=True)


def test_both_ways_of_counting_pairs_agree() -> None:
    rng = np.random.default_rng(0)
    a, b = (outer.supports((rng.random((12, width)) < 0.3).astype(float)) for width in (50, 70))
    assert outer.disjoint_pairs(a, b) == outer.disjoint_pairs_by_table(a, b, 12) > 0


@pytest.mark.slow  # a second for each layer that would take 4 TB
def test_a_million_units_and_a_thousand_layers_within_a_hundred_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, "1000"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100e6
