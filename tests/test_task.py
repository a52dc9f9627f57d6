"""Every bad argument is refused in one line that says which, repeats its value and what is allowed."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Network
from stabsim.arguments import make_task
from stabsim.quantities import QUANTITIES
from stabsim.structures import Cell, Gate
from stabsim.task import Task

NETWORK = Network((4, 5, 3), "tanh", "glorot_normal")
SKIPPED = Network((4, 4, 4), "tanh", "glorot_normal", normalization="rms", skip="skip")
NOT_A_NUMBER = np.ones((3, 4))
NOT_A_NUMBER[2, 1] = math.nan
INFINITE = np.ones((2, 3))
INFINITE[1, 0] = -math.inf

Bad = tuple[dict[str, Any], type[Exception], str]

NETS: list[Bad] = [
    ({"nets": 0}, ValueError, "nets must be an integer from 1 to 4294967296, not 0"),
    ({"nets": -5}, ValueError, "nets must be an integer from 1 to 4294967296, not -5"),
    ({"nets": 2**32 + 1}, ValueError, "not 4294967297"),
    ({"nets": True}, TypeError, "nets must be an integer from 1 to 4294967296, not True"),
    ({"nets": 3.5}, TypeError, "not 3.5"),
    ({"nets": 3.0}, TypeError, "not 3.0"),
    ({"nets": "10"}, TypeError, "not '10'"),
    ({"nets": None}, TypeError, "not None"),
    ({"nets": math.nan}, TypeError, "not nan"),
    ({"threads": 0}, ValueError, "threads must be an integer from 1 to 1024, not 0"),
    ({"threads": -1}, ValueError, "not -1"),
    ({"threads": 1.5}, TypeError, "not 1.5"),
    ({"threads": True}, TypeError, "not True"),
    ({"device": "cdua"}, ValueError, "unknown device 'cdua'; known, nearest first: cuda, cpu"),
    ({"device": None}, ValueError, "unknown device None"),
    ({"device": "cuda", "threads": 2}, ValueError, "threads=2 is for device='cpu', not for device='cuda': leave it"),
    ({"device": "cuda", "precision": "float16"}, ValueError, "device='cuda' does not run nets with precision"),
    ({"samples": "activation_mean"}, TypeError, "'activation_mean'"),
    ({"samples": ("activation_meen",)}, ValueError, "'activation_meen'; known, nearest first: activation_mean"),
    ({"samples": ("activation_correlation",)}, ValueError, "'activation_correlation' needs batch >= 2, got batch=1"),
    ({"quantities": "activation_mean"}, TypeError, "'activation_mean'"),
    ({"quantities": (3,)}, TypeError, "3"),
    ({"quantities": 3}, TypeError, "quantities must be a sequence of names or of Quantity, not 3"),
    ({"samples": 3}, TypeError, "samples must be a sequence of names or of Quantity, not 3"),
    ({"samples": "activation_mean"}, TypeError, "samples='activation_mean': a sequence of names is wanted"),
    ({"samples": None}, TypeError, "samples must be a sequence of names of quantities, () for none, not None"),
    ({"histograms": 3}, TypeError, "histograms must map tensors to (low, high, bins), not 3"),
    ({"quantities": ()}, ValueError, "quantities=()"),
    ({"quantities": ("mean",)}, ValueError, "unknown quantity 'mean'; known, nearest first: "),
    ({"quantities": ("activation_correlation",)}, ValueError, "needs batch >= 2, got batch=1"),
    ({"saturation": -0.1}, ValueError, "saturation must be a finite number >= 0, not -0.1"),
    ({"saturation": math.nan}, ValueError, "saturation must be a finite number >= 0, not nan"),
    ({"saturation": "small"}, TypeError, "not 'small'"),
    ({"histograms": {"weight": (0, 1, 5)}}, ValueError, "unknown histogram of 'weight'; known, nearest first: "),
    ({"histograms": {"activation": (0, 1)}}, TypeError, "histograms['activation'] must be (low, high, bins)"),
    ({"histograms": {"activation": 5}}, TypeError, "not 5"),
    ({"histograms": {"activation": (1, 1, 5)}}, ValueError, "needs low < high, not 1.0 and 1.0"),
    ({"histograms": {"activation": (0, math.inf, 5)}}, ValueError, "not inf"),
    ({"histograms": {"activation": (0, 1, 0)}}, ValueError, "bins of histograms['activation']"),
    ({"histograms": {"activation": (0, 1, 2.5)}}, TypeError, "not 2.5"),
    ({"histograms": {"activation": (0, 1, 5), "preactivation": (0, 1, 6)}}, ValueError, "the same number of bins"),
]  # fmt: skip

OF_BOTH: list[Bad] = [
    ({"network": "tanh"}, TypeError, "network must be a stabsim.Network, not 'tanh'"),
    ({"batch": 0}, ValueError, "batch must be an integer from 1 to 4294967295, not 0"),
    ({"batch": -2}, ValueError, "not -2"),
    ({"batch": 2**32}, ValueError, "not 4294967296"),
    ({"batch": 1.0}, TypeError, "not 1.0"),
    ({"batch": True}, TypeError, "not True"),
    ({"seed": -1}, ValueError, "seed must be an integer from 0 to 18446744073709551615, not -1"),
    ({"seed": 2**64}, ValueError, "not 18446744073709551616"),
    ({"seed": None}, TypeError, "not None"),
    ({"seed": "7"}, TypeError, "not '7'"),
    ({"precision": "float17"}, ValueError, "unknown precision 'float17'; known, nearest first: float"),
    ({"precision": np.float32}, ValueError, "unknown precision <class 'numpy.float32'>"),
    ({"inputs": "digts"}, ValueError, "unknown data set 'digts'; known, nearest first: digits"),
    ({"inputs": "digits"}, ValueError, "inputs must have shape (samples, widths[0]) = (..., 4), not (1797, 64)"),
    ({"inputs": np.ones((3, 5))}, ValueError, "(..., 4), not (3, 5)"),
    ({"inputs": np.ones(4)}, ValueError, "(..., 4), not (4,)"),
    ({"inputs": np.ones((0, 4))}, ValueError, "not (0, 4)"),
    ({"inputs": NOT_A_NUMBER}, ValueError, "inputs must be finite, but inputs[2, 1] is nan"),
    ({"inputs": [["a"] * 4]}, TypeError, "inputs must be an array of numbers"),
    ({"inputs": [[1, 2], [3]]}, TypeError, "inputs must be an array of numbers"),
    ({"inputs": np.ones((2, 4)), "batch": 3}, ValueError, "inputs has 2 samples, fewer than batch=3"),
    ({"inputs": np.ones((2, 4), complex)}, TypeError, "inputs must be an array of numbers"),
    ({"inputs": [["1"] * 4]}, TypeError, "inputs must be an array of numbers"),
    ({"output_gradient": np.ones((2, 3))}, ValueError, "output_gradient must have batch=1 rows, not 2"),
    ({"output_gradient": np.ones((1, 4))}, ValueError, "(batch, widths[-1]) = (..., 3), not (1, 4)"),
    ({"output_gradient": INFINITE, "batch": 2}, ValueError, "output_gradient[1, 0] is -inf"),
    ({"output_gradient": 1.0}, ValueError, "not ()"),
    (
        {"network": Network((4, 5), "tanh", "glorot_normal", 1e-40)},
        ValueError,
        "biases of standard deviation 1e-40 are outside the normal range of float32",
    ),
    (
        {"network": Network((4, 5), "tanh", "glorot_normal", 1e39)},
        ValueError,
        "biases of standard deviation 1e+39 are outside the normal range of float32",
    ),
]

OF_SIMULATE: list[Bad] = [
    ({"sampler": "fast"}, ValueError, "unknown sampler 'fast'; known, nearest first: "),
    ({"sampler": None}, ValueError, "unknown sampler None"),
]

OF_TRACE: list[Bad] = [
    ({"net": -1}, ValueError, "net must be an integer from 0 to 4294967295, not -1"),
    ({"net": 2**32}, ValueError, "not 4294967296"),
    ({"net": 0.0}, TypeError, "not 0.0"),
]


def assert_refused(call: Any, kind: type[Exception], fragment: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is kind
    assert fragment in message
    assert "\n" not in message


@pytest.mark.parametrize(("arguments", "kind", "fragment"), [*NETS, *OF_BOTH, *OF_SIMULATE])
def test_simulate_refuses(arguments: dict[str, Any], kind: type[Exception], fragment: str) -> None:
    given: dict[str, Any] = {"network": NETWORK, "nets": 2, **arguments}
    assert_refused(lambda: stabsim.simulate(given.pop("network"), **given), kind, fragment)


@pytest.mark.parametrize(("arguments", "kind", "fragment"), [*OF_TRACE, *OF_BOTH])
def test_trace_refuses(arguments: dict[str, Any], kind: type[Exception], fragment: str) -> None:
    given: dict[str, Any] = {"network": NETWORK, **arguments}
    assert_refused(lambda: stabsim.trace(given.pop("network"), **given), kind, fragment)


def test_unknown_names_list_the_nearest_first() -> None:
    with pytest.raises(ValueError, match="nearest first") as caught:
        stabsim.simulate(NETWORK, nets=2, samples=("weight_gradient_log10norm",))
    listed, more = str(caught.value).rpartition(": ")[2].rsplit(" and ", 1)
    names = listed.split(", ")
    assert names[0] == "weight_gradient_log10_norm" and set(names) < set(QUANTITIES)
    assert more == f"{len(QUANTITIES) - len(names)} more"


def test_what_cannot_be_allocated_is_said_before_anything_runs() -> None:
    with pytest.raises(MemoryError, match="reduce widths, depth, batch or threads"):
        stabsim.simulate(Network((130_000, 130_000), "relu", "he_normal"), nets=1, sampler="dense")


def test_integers_of_numpy_are_integers() -> None:
    options: dict[str, Any] = {"nets": np.int64(3), "batch": np.int32(2), "seed": np.uint64(2**64 - 1)}
    result = stabsim.simulate(NETWORK, **options)
    assert (result.nets, result.task.batch, result.task.seed) == (3, 2, 2**64 - 1)
    assert type(result.task.seed) is int


def test_arrays_are_copied() -> None:
    inputs = np.ones((2, 4))
    task = make_task(NETWORK, inputs=inputs)
    key = task.identity
    inputs[0, 0] = 5
    assert task.identity == key and task.inputs is not None and task.inputs[0, 0] == 1


DIFFERENT: list[dict[str, Any]] = [
    {"network": Network((4, 5, 3), "tanh", "glorot_uniform")},
    {"batch": 2},
    {"seed": 1},
    {"inputs": np.ones((2, 4))},
    {"inputs": np.zeros((2, 4))},
    {"output_gradient": np.ones((1, 3))},
    {"precision": "float64"},
    {"saturation": 0.02},
    {"quantities": ("activation_mean",)},
    {"samples": ("activation_mean",)},
    {"histograms": {"activation": (0, 1, 5)}},
    {"histograms": {"activation": (0, 1, 6)}},
    {"device": "cuda"},
]


def keyed(arguments: dict[str, Any]) -> Task:
    given: dict[str, Any] = {"network": NETWORK, **arguments}
    return make_task(given.pop("network"), **given)


def test_the_key_names_everything_that_affects_the_answer() -> None:
    tasks = [keyed(arguments) for arguments in [{}, *DIFFERENT]]
    assert len({task.identity for task in tasks}) == len(tasks)
    assert len(set(tasks)) == len(tasks)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"sampler": "dense"}),  # which is the cheaper for nets as small
        ({"inputs": np.ones((2, 4))}, {"inputs": [[1] * 4] * 2}),
        ({"inputs": np.ones((2, 4))}, {"inputs": np.ones((2, 4), np.float32)}),
        ({"inputs": np.ones((2, 4))}, {"inputs": np.asfortranarray(np.ones((2, 4)))}),
        ({"histograms": {"activation": (0, 1, 5)}}, {"histograms": {"activation": (0.0, 1.0, np.int64(5))}}),
        (
            {"quantities": ("activation_mean", "preactivation_mean")},
            {"quantities": ["preactivation_mean", "activation_mean"]},
        ),
        (
            {"histograms": {"activation": (0, 1, 5), "preactivation": (0, 2, 5)}},
            {"histograms": {"preactivation": (0, 2, 5), "activation": (0, 1, 5)}},
        ),
    ],
)
def test_the_key_is_the_same_however_it_is_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert keyed(one) == keyed(other)
    assert hash(keyed(one)) == hash(keyed(other))


@pytest.mark.parametrize(
    ("widths", "options", "number"),
    [
        ((10**15, 2), {}, 10**15),
        ((2**34 + 1, 2), {"sampler": "matrix_free"}, 2**34 + 1),
        ((2**33 + 1, 2), {"sampler": "matrix_free", "precision": "float64"}, 2**33 + 1),
        ((2, 10**8), {"sampler": "matrix_free", "batch": 1000}, 10**11),
        ((2**18, 2**18), {"sampler": "dense"}, 2**36),
    ],
)
def test_layers_larger_than_the_random_stream_are_refused(
    widths: tuple[int, ...], options: dict[str, Any], number: int
) -> None:
    with pytest.raises(ValueError, match=f"a layer may have up to .* not {number}: reduce widths or batch"):
        make_task(Network(widths, "relu", "he_normal"), **options)


def test_layers_as_large_as_the_random_stream_are_taken() -> None:
    assert make_task(Network((2**34, 2), "relu", "he_normal"), sampler="matrix_free").network.widths[0] == 2**34


def of_cell(cell: str | Cell, weights: str = "glorot_normal") -> Network:
    return Network((4, 4, 4), "tanh", weights, cell=cell)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (of_cell("lstm"), {"clipping": "norm"}, "clipping='norm(bound=1)' does not go with cell='lstm'"),
        (of_cell("rnn"), {"precision": "float16"}, "precision='float16' does not go with cell='rnn'"),
        (
            SKIPPED,
            {"precision": "float16"},
            "precision='float16' does not go with normalization='rms(epsilon=1e-05)'",
        ),
        (of_cell("gru"), {"sampler": "matrix_free"}, "sampler='matrix_free' does not run nets with cell='gru'"),
        (
            SKIPPED,
            {"sampler": "matrix_free", "clipping": "value", "batch": 2},
            "sampler='matrix_free' does not run nets with clipping='value(bound=1)'",
        ),
        (
            of_cell("rnn", "orthogonal"),
            {"sampler": "matrix_free"},
            "sampler='matrix_free' needs weights of law 'normal', not 'orthogonal': only their law is known without "
            "their entries; recurrent_weights may be 'normal' or 'orthogonal'",
        ),
        (
            of_cell(Cell("rnn", "identity")),
            {"sampler": "matrix_free"},
            "sampler='matrix_free' needs recurrent weights of law 'normal' or 'orthogonal', not 'identity': only their "
            "law is known without their entries",
        ),
        (
            of_cell(Cell("lstm", gates={"forget": Gate(bias=1e300)})),
            {},
            "the forget gate's bias of mean 1e+300: outside the normal range of float32, which a gate needs",
        ),
    ],
)
def test_what_does_not_go_together_is_named_by_its_arguments(
    network: Network, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_task(network, **options)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_inputs_of_gates_must_be_held_by_float32(cell: str) -> None:
    inputs = np.ones((2, 2, 4))
    for size in (0.0, 1e-36, 1e36):
        inputs[1, 0] = -size
        make_task(of_cell(cell), inputs=inputs)
    for size in (1e-37, 1e37):
        inputs[1, 0] = -size
        make_task(of_cell("rnn"), inputs=inputs)
        message = f"inputs: with cell='{cell}' the largest absolute value of each time step must be 0 or from 1e-36"
        with pytest.raises(ValueError, match=f"^{re.escape(f'{message} to 1e+36, not {size}')}$"):
            make_task(of_cell(cell), inputs=inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"histograms": np.zeros(0)}, "histograms must map tensors to"),
        ({"histograms": 0}, "histograms must map tensors to"),
        ({"quantities": np.array(3)}, "quantities must be a sequence of names or of Quantity, not array"),
        ({"sampler": np.zeros((9, 9))}, "unknown sampler array"),
        ({"precision": ["float32"]}, r"unknown precision \['float32'\]"),
    ],
)
def test_arrays_and_lists_in_place_of_names_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        make_task(Network((3, 3), "relu", "he_normal"), **options)
    assert "\n" not in str(caught.value)


def test_the_cost_of_a_net_beyond_every_machine_is_a_number() -> None:
    """NumPy's truth values would make of it a number of 64 bits."""
    with pytest.raises(ValueError, match="a layer may have up to"):
        make_task(Network((10**10, 3), "relu", "normal"), batch=10**9)


@pytest.mark.parametrize("whole", [np.array(0.5), np.zeros(0), 1, None])
def test_a_quantity_is_of_the_whole_matrix_or_not(whole: Any) -> None:
    with pytest.raises(TypeError, match="whole must be True or False, not"):
        stabsim.Quantity("activation", "top", "value", function=lambda x: x, whole=whole)
    with pytest.raises(TypeError, match="tensor of a quantity must be a str, not"):
        stabsim.Quantity(whole, "top", "value", function=lambda x: x)
