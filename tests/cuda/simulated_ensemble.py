"""Ensembles from one end to the other on a device: the table of the same nets on the CPU, in waves or at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import stabsim
from stabsim.arguments import make_task
from stabsim.cuda import ensemble, shim
from stabsim.devices import DeviceError
from stabsim.plan import Plan
from stabsim.running import run_study
from stabsim.study import Case, Study

NETWORK = stabsim.Network(widths=(20, 7, 9), activation="tanh", weights="he_normal", bias_std=0.1)
WAYS = [("matrix_free", 1), ("matrix_free", 3), ("dense", 3)]
CUBE = stabsim.Quantity("activation", "mean_cube", "value", function=lambda z: z**3)
NORMS = ("activation_log10_norm", "activation_gradient_log10_norm")


def assert_same_tables(table: pandas.DataFrame, expected: pandas.DataFrame) -> None:
    named = ["quantity", "layer"]
    pandas.testing.assert_frame_equal(table[named], expected[named])
    for column in ("estimate", "std_error", "ci_low", "ci_high", "theory", "nets", "top_share"):
        np.testing.assert_allclose(table[column], expected[column], rtol=1e-5, atol=1e-6, err_msg=column)


def both(**arguments: Any) -> tuple[Any, Any]:
    """Return the results of the device and of the CPU."""
    cuda, cpu = (stabsim.simulate(NETWORK, nets=3, seed=3, device=device, **arguments) for device in ("cuda", "cpu"))
    return cuda, cpu


@pytest.mark.parametrize(
    ("sampler", "batch"), [WAYS[0], *(pytest.param(*way, marks=pytest.mark.slow) for way in WAYS[1:])]
)
def test_the_table_is_that_of_the_cpu(sampler: str, batch: int) -> None:
    cuda, cpu = both(sampler=sampler, batch=batch)
    assert_same_tables(cuda.table, cpu.table)
    with pytest.raises(AssertionError):
        assert_same_tables(cuda.table.assign(estimate=1.05 * cuda.table["estimate"]), cpu.table)


def test_samples_histograms_and_a_user_statistic() -> None:
    cuda, cpu = both(
        sampler="matrix_free",
        quantities=("activation_mean_square", CUBE),
        samples=("activation_gradient_log10_norm", CUBE),
        histograms={"preactivation": (-3.0, 3.0, 12)},
    )
    assert_same_tables(cuda.table, cpu.table)
    for name, values in cpu.samples.items():
        np.testing.assert_allclose(cuda.samples[name], values, rtol=1e-5, atol=1e-6)
    for found, expected in zip(cuda.histograms["preactivation"], cpu.histograms["preactivation"], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("sampler", "batch"), [WAYS[0], WAYS[-1]])
def test_waves_change_no_bit(sampler: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for products by cuBLAS, which may be made in another way."""
    plan = Plan(make_task(NETWORK, sampler=sampler, batch=batch, quantities=NORMS, device="cuda"))
    (whole,) = ensemble.run(plan, [(0, 3)])
    records, a_net = 3 * 8 * plan.blank.size, ensemble.runner(plan).bytes_a_net
    monkeypatch.setattr(shim, "free_memory", lambda: records + 2 * a_net)
    (waves,) = ensemble.run(plan, [(0, 3)])
    tolerance = 0.0 if shim.SIMULATED or batch == 1 else 1e-6
    for name, array in whole.to_arrays().items():
        np.testing.assert_allclose(waves.to_arrays()[name], array, rtol=tolerance, atol=0.0)


def test_too_little_memory_for_a_net_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "free_memory", lambda: 2**10)
    with pytest.raises(DeviceError, match=r"has 0 MiB .* one net .* needs \d+ MiB: reduce widths, depth or batch"):
        stabsim.simulate(NETWORK, nets=5, sampler="matrix_free", device="cuda")


def test_a_study_of_both_devices_has_the_nets_of_one(tmp_path: Path) -> None:
    normalized = make_task(stabsim.Network((5, 7, 7), "tanh", "glorot_normal", normalization="layer"), quantities=NORMS)
    plain = make_task(NETWORK, sampler="matrix_free", quantities=NORMS)
    cases = [Case(normalized, 3, {"kind": "normalized"}), Case(plain, 3, {"kind": "plain"})]
    study = Study("tiny", "A tiny study", lambda scale: cases, lambda collected: [])
    cpu, cuda = (run_study(study, out=tmp_path, device=device).collected.table for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda["estimate"], cpu["estimate"], rtol=1e-5, atol=1e-6)
    same = cuda["estimate"].to_numpy() == cpu["estimate"].to_numpy()
    assert same[cpu["kind"] == "normalized"].all() and not same[cpu["kind"] == "plain"].all()
