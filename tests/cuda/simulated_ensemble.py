"""Whole ensembles on a device: the table of the CPU, whatever fits into memory, from Python and as a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stabsim.arguments import make_task
from stabsim.cuda import ensemble, shim
from stabsim.devices import DeviceError
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.running import run_study
from stabsim.simulation import simulate
from stabsim.study import Case, Study

NETWORK = Network((5, 17, 9), "tanh", "glorot_normal", 0.1)
NORMS = ("activation_log10_norm", "activation_gradient_log10_norm")
GIVEN: dict[str, Any] = {
    "sampler": "matrix_free", "quantities": (*NORMS, "activation_mean_square"), "samples": NORMS,
    "histograms": {"activation": (-1.0, 1.0, 8)},
}  # fmt: skip
TOLERANCE = 1e-5  # of float32, after two layers


def bytes_of(nets: int) -> int:
    """Return the free memory that so many nets of a chunk of three take."""
    plan = Plan(make_task(NETWORK, **GIVEN, device="cuda"))
    return 3 * 8 * plan.blank.size + nets * ensemble.runner(plan).bytes_a_net


def test_estimates_are_those_of_the_cpu() -> None:
    here, there = (simulate(NETWORK, nets=3, seed=4, **GIVEN, device=device) for device in ("cpu", "cuda"))
    assert there.table[["quantity", "layer", "nets"]].equals(here.table[["quantity", "layer", "nets"]])
    for column in ("estimate", "std_error"):
        assert np.allclose(there.table[column], here.table[column], rtol=0, atol=TOLERANCE)
    for name in NORMS:
        assert np.allclose(there.samples[name], here.samples[name], rtol=0, atol=TOLERANCE)
    for found, known in zip(there.histograms["activation"], here.histograms["activation"], strict=True):
        assert np.array_equal(found, known)
    other = simulate(NETWORK, nets=3, seed=5, **GIVEN).table.estimate
    assert not np.allclose(there.table.estimate, other, rtol=0, atol=100 * TOLERANCE)


def test_waves_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(NETWORK, nets=3, seed=4, **GIVEN, device="cuda")
    for nets in (1, 2):
        monkeypatch.setattr(shim, "free_memory", lambda nets=nets: bytes_of(nets))
        assert simulate(NETWORK, nets=3, seed=4, **GIVEN, device="cuda").table.equals(whole.table)


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "free_memory", lambda: bytes_of(0))
    with pytest.raises(DeviceError, match=r"^device='cuda' has [^\n]*: reduce widths, depth or batch$"):
        simulate(NETWORK, nets=3, seed=4, **GIVEN, device="cuda")


def test_a_study_of_both_devices_has_the_nets_of_one(tmp_path: Path) -> None:
    normalized = make_task(Network((5, 7, 7), "tanh", "glorot_normal", normalization="layer"), quantities=NORMS)
    plain = make_task(NETWORK, sampler="matrix_free", quantities=NORMS)
    cases = [Case(normalized, 3, {"kind": "normalized"}), Case(plain, 3, {"kind": "plain"})]
    study = Study("tiny", "A tiny study", lambda scale: cases, lambda collected: [])
    here, there = (run_study(study, out=tmp_path, device=device).collected.table for device in ("cpu", "cuda"))
    assert np.allclose(there.estimate, here.estimate, rtol=0, atol=TOLERANCE)
    same = here.estimate.to_numpy() == there.estimate.to_numpy()
    assert same[here.kind == "normalized"].all() and not same[here.kind == "plain"].all()
