"""Steps of training against the oracle: every optimizer, loss, schedule, clipping, decay and order of samples."""

from __future__ import annotations

from typing import Any

import pytest

from stabsim import Network
from tests.checks import must_fail
from tests.training_cases import assert_same_path, both

PLAIN = Network((3, 5, 4, 2), "tanh", "he_normal", bias_std=0.2)
OPTIMIZERS = (
    "sgd(learning_rate=0.2)",
    "momentum(learning_rate=0.1, momentum=0.8)",
    "nesterov(learning_rate=0.1, momentum=0.7)",
    "adagrad(learning_rate=0.1, epsilon=1e-4)",
    "rmsprop(learning_rate=0.02, decay=0.8, epsilon=1e-3)",
    "adam(learning_rate=0.03, beta1=0.8, beta2=0.9, epsilon=1e-3)",
    "adam(learning_rate=0.03, epsilon=1e-4, epsilon_beside=uncorrected)",
    "adamw(learning_rate=0.03, epsilon=1e-4, weight_decay=0.5)",
)
LOSSES = ("softmax_cross_entropy", "mean_squared_error", "logistic")
SCHEDULES = ("constant", "step(every=4, factor=0.5)", "cosine(end=0.1, warmup=3)")
CLIPPINGS = (
    None, "value(bound=0.05)", "norm(bound=0.1)", "global_norm(bound=0.2)", "adaptive(bound=0.1, epsilon=0.3)",
)  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "loss", "schedule", "clipping"),
    [
        (name, LOSSES[i % 3], SCHEDULES[(i + i // 3) % 3], CLIPPINGS[i % 5])
        for i, name in enumerate((*OPTIMIZERS, *OPTIMIZERS[::3]))
    ],
)
def test_steps_are_those_of_the_oracle(optimizer: str, loss: str, schedule: str, clipping: str | None) -> None:
    assert_same_path(*both(PLAIN, loss=loss, optimizer_name=optimizer, schedule=schedule, clipping=clipping))


@pytest.mark.parametrize(
    "given",
    [
        {"weight_decay": 0.2},
        {"weight_decay": 0.2, "clipping": "norm(bound=0.05)", "optimizer_name": "momentum(learning_rate=0.1)"},
        {"order": "with_replacement"},
        {"order": "with_replacement", "batch": 20},
        {"batch": 13},
        {"batch": 1},
        {"train_biases": False, "clipping": "norm(bound=0.2)", "optimizer_name": "adam(learning_rate=0.02)"},
        {"output_activation": "sigmoid"},
    ],
)
def test_what_else_there_is(given: dict[str, Any]) -> None:
    assert_same_path(*both(PLAIN, **given))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_learning_rate_that_is_wrong_by_a_millionth_is_found(optimizer: str) -> None:
    trained, oracle, _ = both(PLAIN, optimizer_name=optimizer)
    name, rest = optimizer.split("learning_rate=")
    rate, end = (rest.split(",", 1)[0], "," + rest.split(",", 1)[1]) if "," in rest else (rest[:-1], ")")
    wrong = f"{name}learning_rate={float(rate) * (1 + 1e-6)!r}{end}"
    must_fail(assert_same_path, trained, oracle, both(PLAIN, optimizer_name=wrong)[2])
