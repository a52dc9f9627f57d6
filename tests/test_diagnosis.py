"""Verdicts on networks whose fate is known, how often they are wrong, and repairs that were simulated."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import stabsim
from stabsim.diagnosis import Diagnosis, Judgment, diagnose, diagnosing, judge, judge_each
from stabsim.diagnosis.criteria import places, quantities
from stabsim.diagnosis.deciding import decide, looks_of, task_of
from stabsim.diagnosis.repairing import Candidate, candidates
from stabsim.network import Network
from stabsim.result import Result
from stabsim.structures import Skip

QUIET: dict[str, Any] = {"formats": False, "repair": False, "seed": 1}


def square(width: int, depth: int, activation: str, weights: str, **more: Any) -> Network:
    return Network((width,) * (depth + 1), activation, weights, **more)


KNOWN = {  # (network, what becomes of it, of which): by theory, see each
    "tanh below critical": (square(64, 50, "tanh", "lecun_normal(gain=0.5)"), "vanishing", "signal"),  # chi = 1/4
    "tanh in chaos": (square(64, 50, "tanh", "lecun_normal(gain=3)"), "exploding", "gradient"),  # chi = 1.86
    "tanh critical": (square(64, 50, "tanh", "lecun_normal"), "stable", ""),
    "tanh at its ends": (square(64, 50, "tanh", "lecun_normal(gain=20)"), "saturated", "signal"),
    "sigmoid": (square(64, 50, "sigmoid", "lecun_normal"), "vanishing", "gradient"),  # f' <= 1/4
    "relu, He": (square(64, 50, "relu", "he_normal"), "stable", ""),
    "relu, Glorot": (square(64, 50, "relu", "glorot_normal"), "vanishing", "signal"),  # 2^(-1/2) a layer
    "relu, narrow": (square(4, 50, "relu", "he_normal"), "dead", "signal"),  # 1 - (1 - 1/16)^50 = 0.96
    "selu": (square(64, 50, "selu", "lecun_normal"), "stable", ""),
    "no weights": (square(64, 5, "tanh", "zeros"), "dead", "signal"),
    "linear, orthogonal, deep": (square(8, 1000, "linear", "orthogonal"), "stable", ""),
    "linear, gain 1.02, deep": (square(8, 1000, "linear", "orthogonal(gain=1.02)"), "exploding", "signal"),  # 10^8.6
    "batch norm": (square(64, 50, "relu", "he_normal", normalization="batch"), "exploding", "gradient"),  # Yang 2019
    "residual": (square(64, 50, "relu", "he_normal", skip="skip"), "exploding", "signal"),  # 2^50 of mean squares
    "residual, scaled": (square(64, 50, "relu", "he_normal", skip=Skip.scaled(50)), "stable", ""),
    "Fixup": (square(64, 50, "relu", "he_normal", skip=Skip.fixup(25)), "stable", ""),
    "rnn": (square(16, 100, "tanh", "lecun_normal(gain=0.5)", cell="rnn"), "vanishing", "gradient"),
    "irnn": (square(16, 20, "relu", "identity", cell="rnn"), "stable", ""),
    "lstm": (square(16, 100, "tanh", "glorot_uniform", cell="lstm"), "vanishing", "gradient"),
    "lstm that remembers": (square(16, 100, "tanh", "glorot_uniform", cell="lstm(forget_bias=5)"), "stable", ""),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_networks(name: str) -> None:
    network, kind, of = KNOWN[name]
    found = diagnose(network, **QUIET)
    assert (found.verdict.kind, found.stable) == (kind, kind == "stable"), found
    assert not of or found.verdict.of == of
    assert found.verdict.kind in repr(found) and found.verdict.sentence.split(":")[0] in repr(found)


@pytest.mark.slow
def test_ten_thousand_layers_of_orthogonal_tanh_are_stable() -> None:
    """Both fall as powers of the depth: q as 1/(2 l)."""
    found = diagnose(square(8, 10_000, "tanh", "orthogonal"), **QUIET)
    assert found.stable and -3.0 < found.signal.estimate < -1.5


def test_theory_is_next_to_the_number_it_is_of() -> None:
    """Linear nets of one sample: the exact law of their norms is within the interval, and 5% beside it is not."""
    found = diagnose(square(8, 40, "linear", "lecun_normal(gain=0.8)"), batch=1, **QUIET | {"nets": 4000})
    result = many(found.network, nets=4000, seed=2)
    for each in judge_each(result):
        assert each.law == "exact" and each.kind == "vanishing"
        assert each.ci_low < each.theory < each.ci_high
        assert not each.ci_low < 1.05 * each.theory < each.ci_high


def many(network: Network, nets: int, seed: int, batch: int = 1) -> Result:
    task = task_of(network, told=(), batch=batch)
    names = quantities(task)
    return stabsim.simulate(network, nets=nets, seed=seed, batch=batch, quantities=names)


class TestNearTheBound:
    """Gaussian linear nets, whose log norms are known exactly; the tolerance is put beside the truth."""

    network = square(8, 20, "linear", "lecun_normal(gain=0.8)")
    ensembles = 150
    nets = 128

    def truth(self) -> float:
        """Return the exact change of the signal, the larger of both."""
        exact, _ = many(self.network, 2, 0).theory("activation_log10_norm")
        return float(exact[-1] - exact[0])

    @pytest.fixture(scope="class")
    @classmethod
    def results(cls) -> list[Result]:
        return [many(cls.network, cls.nets, seed) for seed in range(cls.ensembles)]

    def verdicts(self, results: list[Result], beside: float) -> list[Judgment]:
        tolerance = 10.0 ** -(self.truth() + beside)
        return [judge_each(result, tolerance)[0] for result in results]

    @pytest.mark.parametrize("beside", [-0.02, 0.02])
    def test_wrong_verdicts_are_rarer_than_5_percent(self, results: list[Result], beside: float) -> None:
        """A bound of 0.02 decades inside or outside: too near for so few nets, so that most are undecided."""
        wrong_kind = "vanishing" if beside < 0 else "stable"
        kinds = [each.kind for each in self.verdicts(results, beside)]
        assert binomtest(kinds.count(wrong_kind), len(kinds), 0.05, alternative="greater").pvalue > 1e-3
        assert kinds.count("undecided") > self.ensembles / 2

    def test_without_intervals_they_would_be_wrong_far_more_often(self, results: list[Result]) -> None:
        """The twin of the above: it would be seen."""
        truth = self.truth()
        guesses = [each.estimate < truth - 0.02 for each in self.verdicts(results, -0.02)]
        assert binomtest(sum(guesses), len(guesses), 0.05, alternative="greater").pvalue < 1e-6

    def test_far_from_the_bound_all_are_decided_and_right(self, results: list[Result]) -> None:
        assert {each.kind for each in self.verdicts(results, -0.5)} == {"stable"}
        assert {each.kind for each in self.verdicts(results, 0.5)} == {"vanishing"}

    def test_looking_again_and_again_is_wrong_no_more_often(self) -> None:
        truth, wrong, decided = self.truth(), 0, 0
        for seed in range(60):
            task = task_of(self.network, told=(), batch=1, seed=seed)
            _, signal, _ = decide(
                task, 10.0 ** -(truth - 0.04), looks_of(128, 2048), threads=1, progress=lambda *_: None
            )
            wrong += signal.kind == "vanishing"
            decided += signal.kind == "stable"
        assert binomtest(wrong, 60, 0.05, alternative="greater").pvalue > 1e-3
        assert decided > 0

    def test_what_cannot_be_decided_says_between_what(self) -> None:
        found = diagnose(self.network, batch=1, tolerance=10.0 ** -self.truth(), nets=128, formats=False, seed=3)
        assert found.verdict.kind == "undecided" and found.verdict.between == ("stable", "vanishing")
        assert not found.stable and not found.tried
        assert "undecided between stable and vanishing" in repr(found) and "raise nets" in repr(found)


def test_too_few_nets_decide_nothing() -> None:
    """Two nets may agree by chance."""
    found = diagnose(square(8, 5, "tanh", "lecun_normal"), nets=2, **QUIET)
    assert found.verdict.kind == "undecided" and found.result.nets == 2


def test_more_nets_are_drawn_until_it_is_decided() -> None:
    few, more = (diagnose(square(16, 20, "relu", "he_normal"), **QUIET, tolerance=t) for t in (1000.0, 2.05))
    assert few.result.nets == 128 < more.result.nets


def test_recurrent_nets_have_time_steps_and_no_layers() -> None:
    found = diagnose(square(8, 40, "tanh", "lecun_normal(gain=0.05)", cell="rnn"), seed=1, repair=False)
    assert "is all 0 at time step" in repr(found) and "layer" not in repr(found)


def test_widths_do_not_count_as_signals() -> None:
    """Linear maps that keep the size of a unit: norms fall a hundredfold, units do not."""
    network = Network((10_000, 1000, 100, 1), "linear", "lecun_normal")
    signal, _ = judge_each(many(network, 128, 1, batch=4), tolerance=10.0)
    assert signal.kind == "stable"


def test_the_worst_layer_counts() -> None:
    """Weights of std 0.1 shrink signals fivefold in 4 units, and grow them 6.4-fold in 4096: both ends are alike."""
    network = Network((64, *(4,) * 6, *(4096,) * 6), "linear", "normal(std=0.1)")
    signal, _ = judge_each(many(network, 128, 1, batch=2))
    assert (signal.kind, signal.layer) == ("vanishing", 7)
    assert abs(many(network, 128, 1, batch=2).theory("activation_log10_norm")[1][-1] - 1.5) < 1.0


def test_the_inside_of_a_branch_is_left_out() -> None:
    network = Network((4,) * 7, "relu", "he_normal", skip="skip(layers=2, activation=between)")
    signal, gradient = places(network)
    assert signal.tolist() == [0, 2, 4, 6] and gradient.tolist() == [6, 4, 2]


def test_judging_is_pure_and_asks_for_its_quantities() -> None:
    result = many(square(16, 10, "tanh", "lecun_normal"), 200, 1, batch=4)
    assert judge(result) == judge(result)
    few = stabsim.simulate(result.network, nets=10, quantities=("activation_mean",))
    with pytest.raises(
        ValueError, match=r"result must have quantities=activation_dead_sample_fraction, .* to be judged"
    ):
        judge(few)
    for tolerance in (1.0, 0.5, math.nan, math.inf, -3.0):
        with pytest.raises(ValueError, match="tolerance must be a finite number > 1"):
            judge(result, tolerance)


class TestRepair:
    def test_the_first_gain_of_theory_repairs_tanh(self) -> None:
        found = diagnose(square(64, 50, "tanh", "lecun_uniform(gain=3)"), seed=1, formats=False)
        assert found.repair is not None and found.repair.change == "weights='lecun_uniform'"
        assert found.repair.verdict.kind == "stable"

    def test_relu_gets_he(self) -> None:
        found = diagnose(square(64, 50, "relu", "lecun_normal"), seed=1, formats=False)
        assert found.repair is not None and math.isclose(found.repair.network.weights.gain, math.sqrt(2), rel_tol=1e-3)

    def test_narrow_nets_get_wider(self) -> None:
        """7 units lose 32% of the samples in 50 layers, 14 one in 300, where all layers are as wide."""
        found = diagnose(Network((16, *(7,) * 49, 16), "relu", "he_normal"), seed=1, formats=False)
        assert found.verdict.kind == "dead" and found.repair is not None
        assert found.repair.network.widths[1] > 7 and found.repair.change.startswith("widths=")

    def test_it_was_simulated_with_a_seed_of_its_own(self) -> None:
        found = diagnose(square(64, 50, "tanh", "lecun_normal(gain=3)"), seed=1, formats=False)
        assert resimulated(found)

    def test_its_intervals_are_as_wide_as_all_that_are_proposed_ask_for(self) -> None:
        found = diagnose(square(64, 50, "tanh", "lecun_normal(gain=3)"), seed=1, formats=False)
        repair = found.repair
        assert repair is not None
        again = many(repair.network, repair.nets, repair.seed, batch=16)
        proposed = len(list(candidates(found.network, found.verdict)))
        looks = len(looks_of(diagnosing.FIRST_OF_REPAIR, diagnosing.MOST_OF_REPAIR))
        together, alone = (judge(again, looks=each * looks) for each in (proposed, 1))
        assert 1 < proposed <= diagnosing.MOST_REPAIRS
        assert (repair.verdict.ci_low, repair.verdict.ci_high) == pytest.approx((together.ci_low, together.ci_high))
        assert together.ci_low < alone.ci_low and together.ci_high > alone.ci_high

    def test_one_that_was_not_simulated_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The twin: a repair with the numbers of another net, here of what was to be repaired but with a name."""
        stable = judge(many(square(64, 50, "tanh", "lecun_normal"), 128, 9, batch=16))

        def typed_in(task: Any, *_: Any, **__: Any) -> tuple[Result, Judgment, Judgment]:
            result = many(task.network, 128, 5, batch=16)
            return (result, *judge_each(result)) if task.seed == 1 else (result, stable, stable)

        monkeypatch.setattr(diagnosing, "decide", typed_in)
        assert not resimulated(diagnose(square(64, 50, "tanh", "lecun_normal(gain=3)"), seed=1, formats=False))

    def test_what_does_not_repair_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        worse = [Candidate("weights='zeros'", square(16, 30, "sigmoid", "zeros"))]
        monkeypatch.setattr(diagnosing, "candidates", lambda *_: iter(worse))
        found = diagnose(square(16, 30, "sigmoid", "lecun_normal"), seed=1, formats=False)
        assert found.repair is None and len(found.tried) == 1 and not found.tried[0].holds
        assert "none of the 1 changes that were simulated is stable" in repr(found)

    def test_no_change_is_the_network_itself_or_proposed_twice(self) -> None:
        verdict = diagnose(square(4, 50, "relu", "he_normal"), **QUIET).verdict
        for network, _, _ in KNOWN.values():
            proposed = [each.network for each in candidates(network, verdict)]
            assert proposed and network not in proposed and len(set(proposed)) == len(proposed)

    def test_what_is_printed_makes_the_network(self) -> None:
        names = {"Skip": Skip, "Cell": stabsim.Cell, "Gate": stabsim.Gate, "Initializer": stabsim.Initializer}
        verdict = diagnose(square(4, 50, "relu", "he_normal"), **QUIET).verdict
        for network, _, _ in KNOWN.values():
            for each in candidates(network, verdict):
                given = eval(f"dict({each.change})", names)
                assert replace(network, **given) == each.network, each.change


def resimulated(found: Diagnosis) -> bool:
    """Return whether the repair's numbers are those of its network, drawn with its seed, which is a new one."""
    repair, task = found.repair, found.result.task
    assert repair is not None
    again = many(repair.network, repair.nets, repair.seed, batch=task.batch)
    expected = next(each for each in judge_each(again) if each.of == repair.verdict.of)
    same = math.isclose(expected.estimate, repair.verdict.estimate, rel_tol=1e-9)
    return same and repair.seed != task.seed and repair.network != found.network


class TestDocument:
    found = staticmethod(lambda: diagnose(square(4, 30, "relu", "he_normal"), seed=1, formats=False))

    def test_it_is_one_json_document_without_nan(self) -> None:
        found = self.found()
        text = found.to_json()
        document = json.loads(text, parse_constant=lambda name: pytest.fail(name))
        assert document["verdict"] == found.verdict.kind == "dead" and document["stable"] is False
        assert set(document) == {
            "verdict", "stable", "sentence", "network", "batch", "nets", "seed", "format", "tolerance", "signal",
            "gradient", "mean_field", "shares", "formats", "repair", "tried",
        }  # fmt: skip
        assert document["signal"]["estimate"] == found.signal.estimate
        assert set(document["gradient"]) == set(Judgment.__dataclass_fields__)
        again = document["network"]
        assert Network(**{**again, "widths": tuple(again["widths"])}) == found.network

    def test_the_report_is_short_lines_and_the_table_is_tidy(self) -> None:
        found = self.found()
        assert max(map(len, repr(found).splitlines()[1:])) <= 110
        assert {"quantity", "layer", "estimate", "ci_low", "ci_high", "theory"} <= set(found.table.columns)

    def test_dead_units_and_samples_are_told_by_layer(self) -> None:
        """Of the samples 1 - (1 - 1/16)^l are dead at layer l: more than half from layer 11 on."""
        found = diagnose(square(4, 30, "relu", "he_normal"), **QUIET | {"nets": 1024})
        share = next(each for each in found.shares if each.quantity == "activation_dead_sample_fraction")
        assert share.ci_low < 1 - (15 / 16) ** share.layer < share.ci_high and share.layer >= 28
        assert math.isclose(share.theory, 1 - (15 / 16) ** share.layer)
        assert share.first_above_half is not None and 11 <= share.first_above_half <= 20


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"nets": 1}, "nets must be an integer from 2"),
        ({"nets": 2.5}, "nets must be an integer"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"batch": 0}, "batch must be an integer from 1"),
        ({"tolerance": 1}, "tolerance must be a finite number > 1, not 1"),
        ({"format": "float17"}, "unknown format 'float17'; known, nearest first: float16"),
        ({"format": 16}, "unknown format 16"),
        ({"formats": "yes"}, "formats must be True or False, not 'yes'"),
        ({"repair": 1}, "repair must be True or False, not 1"),
        ({"threads": 0}, "threads must be"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"inputs": "nothing"}, "unknown data set 'nothing'"),
        ({"inputs": np.zeros((3, 5))}, "inputs must have shape"),
        ({"inputs": 3}, "inputs must "),
        ({"progress": 3}, "progress must be None or a function"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error) as refusal:
        diagnose(square(4, 3, "tanh", "lecun_normal"), **arguments)
    assert "\n" not in str(refusal.value)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(TypeError, match=r"network must be a stabsim.Network, not 'tanh'"):
        diagnose("tanh")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [list, np.array])
def test_few_inputs_make_a_small_batch(kind: Any) -> None:
    found = diagnose(square(8, 5, "tanh", "lecun_normal"), inputs=kind([[1.0] * 8, [0.5] * 8]), **QUIET)
    assert found.result.task.batch == 2


def test_inputs_of_zeros_are_dead() -> None:
    found = diagnose(square(8, 5, "tanh", "lecun_normal"), inputs=np.zeros((20, 8)), **QUIET)
    assert found.verdict.kind == "dead" and found.result.task.batch == 16
