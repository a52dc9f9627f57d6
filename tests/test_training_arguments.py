"""Arguments of training that are refused, each in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stabsim import Network
from stabsim.training import Regression, train
from tests.test_training import FAST, LINEAR, several

WRONG_TEACHER: Any = 3
PLAIN = Network((4, 3, 2), "tanh", "lecun_normal")
NORMALIZED = Network((4, 3, 2), "tanh", "lecun_normal", normalization="batch")
EQUAL = (4, 3, 3, 2)
X, Y = np.ones((5, 4)), np.tile([1.0, 0.0], (5, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": 3}, "network must be a stabsim.Network, not 3"),
        (
            {"network": Network((4, 2, 2), "tanh", "lecun_normal", cell="rnn")},
            "data must be a pair (inputs, targets) of arrays with cell='rnn', not Regression(",
        ),
        ({"network": Network((3, 2), "tanh", "lecun_normal")}, "the teacher of data has 4 inputs and 2 outputs"),
        ({"nets": 0}, "nets must be an integer from 1"),
        ({"steps": -1}, "steps must be an integer from 0"),
        ({"optimizer": "sgd(learning_rate=-0.1)"}, "optimizer: learning_rate must be a finite number >= 0, not -0.1"),
        ({"batch": 25}, "batch must be an integer from 1 to 24, not 25"),
        ({"seed": -1}, "seed must be an integer"),
        ({"record": (0, 11)}, "record must be one or more numbers of steps from 0 to steps=10, not (0, 11)"),
        ({"record": ()}, "record must be one or more numbers of steps from 0 to steps=10, not ()"),
        ({"record": (-1,)}, "record must be one or more numbers of steps from 0 to steps=10, not (-1,)"),
        ({"output_weights": 3}, "output_weights must be a name or a stabsim Initializer, not 3"),
        ({"output_activation": None}, "output_activation must be a name or a stabsim Activation, not None"),
        ({"keep_weights": 1}, "keep_weights must be True or False, not 1"),
        ({"data": (np.full((5, 4), 1e300), np.ones((5, 2)))}, "inputs must be up to 3.4e+38, what float32 holds, not"),
        ({"data": (np.empty((0, 4)), np.empty((0, 2)))}, "at least one row, not (0, 4)"),
        ({"data": (np.ones((5, 4), bool), np.ones((5, 2)))}, "inputs must be an array of numbers"),
        ({"data": (np.ones((5, 4)), 1j * np.ones((5, 2)))}, "not of complex128"),
        ({"nets": 2**32}, "records of all nets need"),
        ({"network": Network((4, 10**6, 10**6, 2), "tanh", "lecun_normal"), "threads": 1}, "1 nets at a time need"),
        ({"data": Regression(Network((4, 2), "linear", "lecun_normal"), samples=10**12)}, "nets at a time need"),
        ({"output_activation": "rlu"}, "output_activation: unknown activation 'rlu'"),
        ({"output_weights": "he"}, "output_weights: unknown initializer 'he'"),
        ({"perturbation": -1.0}, "perturbation must be a finite number >= 0, not -1.0"),
        ({"perturbation": 1e-60}, "perturbation 1e-60: outside the normal range of float32"),
        ({"optimizer": "sdg"}, "optimizer: unknown optimizer 'sdg'"),
        ({"optimizer": 0.1}, "optimizer must be a name or a stabsim Optimizer, not 0.1"),
        ({"optimizer": "adam(beta1=1)"}, "optimizer: beta1 must be a finite number >= 0 and < 1, not 1.0"),
        ({"optimizer": "sgd(learning_rate=1e-60)"}, "learning_rate=1e-60 of sgd: outside the normal range of float32"),
        ({"schedule": "linear"}, "schedule: unknown schedule 'linear'"),
        ({"schedule": "step(every=0)"}, "schedule: every must be an integer from 1"),
        ({"schedule": None}, "schedule must be a name or a stabsim Schedule, not None"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"loss": None}, "loss must be one of mean_squared_error"),
        ({"loss": "logistic"}, "loss must be 'mean_squared_error' with a Regression, not 'logistic'"),
        ({"loss": "logistic", "data": (X, Y + 1)}, "targets of logistic must be from 0 to 1, not 1 to 2"),
        (
            {"loss": "softmax_cross_entropy", "data": (X, Y * 0)},
            "targets of softmax_cross_entropy must be",
        ),
        (
            {"loss": "softmax_cross_entropy", "data": (X, Y), "test": (X, 2 * Y)},
            "targets of softmax_cross_entropy must be",
        ),
        ({"order": "shuffled"}, "unknown order 'shuffled'"),
        ({"order": "with_replacement", "batch": 0}, "batch must be an integer from 1"),
        ({"clipping": "vlaue"}, "unknown clipping 'vlaue'"),
        ({"clipping": "value(bound=0)"}, "bound of clipping must be a finite number > 0, not 0"),
        ({"clipping": "value(bound=1e-60)"}, "bound of clipping 1e-60: outside the normal range of float32"),
        ({"clipping": 1.0}, "clipping must be None, a name or a stabsim.Clipping, not 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be a finite number >= 0, not -0.1"),
        ({"running_momentum": 1.0}, "running_momentum must be a finite number >= 0 and < 1, not 1.0"),
        ({"running_momentum": "0.9"}, "running_momentum must be a finite number"),
        ({"normalize_output": None}, "normalize_output must be True or False, not None"),
        ({"master_weights": 1}, "master_weights must be True or False, not 1"),
        ({"master_weights": False}, "master_weights=False needs a precision of float16"),
        ({"normalize_output": True}, "normalize_output=True needs a normalization to have an effect"),
        ({"running_momentum": 0.5}, "running_momentum=0.5 needs batch normalization to have an effect"),
        (
            {
                "network": Network((4, 2, 2), "tanh", "zeros", skip="skip(activation=between)"),
                "output_activation": "tanh",
            },
            "output_activation='tanh' needs a last layer with f",
        ),
        (
            {"data": (X, np.eye(2)[[0, 1, 0, 1, 1]]), "test": (X, Y / 2), "quantities": ("test_accuracy",)},
            "'test_accuracy' does not exist in this training: it needs test=(inputs, targets) of classes",
        ),
        ({"test": (X * 1e300, Y)}, "inputs of test must be up to 3.4e+38"),
        ({"precision": "float16", "quantities": ("mean_shift_both",), "batch": 4}, "numbers that are not rounded"),
        ({"quantities": ("loss", [1])}, "quantities must be names, not [1]"),
        ({"loss_scale": 2.0}, "loss_scale=2.0 needs a precision of float16"),
        ({"loss_scale": 3.0, "precision": "float16"}, "loss_scale must be a power of two, not 3.0"),
        ({"network": NORMALIZED, "batch": 1}, "batch must be an integer from 2 to 24, not 1"),
        ({"network": NORMALIZED, "batch": 1, "order": "with_replacement"}, "batch must be an integer from 2"),
        ({"test": 3}, "test must be a pair (inputs, targets) of arrays, not 3"),
        ({"test": (X[:, :3], Y)}, "inputs of test must have shape (samples, widths[0]) = (..., 4)"),
        ({"test": (X, Y[:, :1])}, "targets of test must have shape (samples, widths[-1]) = (..., 2)"),
        ({"test": (X, Y[:3])}, "inputs and targets of test must have as many samples, not 5 and 3"),
        ({"test": (X * np.nan, Y)}, "inputs of test must be finite"),
        ({"quantities": "loss"}, "quantities must be a sequence of one or more names, not 'loss'"),
        ({"quantities": ("loss", "los")}, "unknown quantity of training 'los'"),
        ({"quantities": ("singular_value_spread",)}, "unknown quantity of training 'singular_value_spread'"),
        ({"quantities": ("accuracy",)}, "quantity 'accuracy' does not exist in this training: targets are no classes"),
        (
            {"quantities": ("test_loss",)},
            "'test_loss' does not exist in this training: it needs test=(inputs, targets)",
        ),
        ({"quantities": ("clip_cosine",)}, "'clip_cosine' does not exist in this training: it needs clipping"),
        (
            {"quantities": ("mean_shift_both",)},
            "'mean_shift_both' does not exist in this training: it needs batch >= 2",
        ),
        ({"quantities": ("activation_correlation",)}, "does not exist in this training: it needs batch >= 2"),
        (
            {"quantities": ("activation_saturated_fraction",), "network": Network(EQUAL, "tanh", "zeros", skip="skip")},
            "does not exist in this training: sums of residual connections have no limits",
        ),
        ({"quantities": ()}, "quantities must be a sequence of one or more names, not ()"),
        ({"precision": "float8"}, "unknown precision 'float8'"),
        ({"train_biases": 1}, "train_biases must be True or False, not 1"),
        ({"threads": 0}, "threads must be an integer from 1"),
        ({"data": 3}, "data must be a Regression or a pair (inputs, targets) of arrays, not 3"),
        ({"data": (np.ones((5, 3)), np.ones((5, 2)))}, "inputs must have shape (samples, widths[0]) = (..., 4)"),
        ({"data": (np.ones((5, 4)), np.ones((4, 2)))}, "inputs and targets must have as many samples, not 5 and 4"),
        ({"data": (np.full((5, 4), np.inf), np.ones((5, 2)))}, "inputs must be finite, but inputs[0, 0] is inf"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"network": PLAIN, "nets": 2, "steps": 10, "optimizer": FAST, "data": LINEAR}
    with pytest.raises((TypeError, ValueError, MemoryError), match=re.escape(message)) as caught:
        train(**(arguments | given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Regression(teacher=WRONG_TEACHER), "teacher must be a stabsim.Network, not 3"),
        (lambda: Regression(PLAIN, samples=0), "samples must be an integer from 1"),
        (lambda: Regression(PLAIN, noise=-1), "noise must be a finite number >= 0, not -1.0"),
        (lambda: several(1).values("los"), "unknown quantity 'los'"),
        (lambda: several(1).weights(4), "layer must be from 1 to 3, not 4"),
        (lambda: several(1).scales(1), "layer 1 is not normalized"),
        (lambda: several(1, normalization="batch").running_moments(3), "layer 3 is not normalized"),
        (lambda: several(1, quantities=("loss",)).values("accuracy"), "unknown quantity 'accuracy'"),
        (lambda: several(1, keep_weights=False).weights(1), "weights were not kept: keep_weights=True keeps them"),
    ],
)  # fmt: skip
def test_other_bad_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()
