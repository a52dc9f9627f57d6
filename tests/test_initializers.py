import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabsim.initializers import ALIASES, FANS, INITIALIZERS, LAWS, Initializer, initializer
from stabsim.kernels import laws
from tests import strategies

FAN_IN, FAN_OUT = 300, 50

# Standard deviation of a weight in a layer from 300 to 50 units, as the sources give it.
PUBLISHED = {
    "normal": 0.01,
    "uniform": 0.05 / math.sqrt(3),
    "truncated_normal": 0.02,
    "glorot_normal": math.sqrt(2 / 350),
    "glorot_uniform": math.sqrt(6 / 350) / math.sqrt(3),
    "he_normal": math.sqrt(2 / 300),
    "he_uniform": math.sqrt(6 / 300) / math.sqrt(3),
    "lecun_normal": math.sqrt(1 / 300),
    "lecun_uniform": math.sqrt(3 / 300) / math.sqrt(3),
    "orthogonal": 1 / math.sqrt(300),
    "zeros": 0.0,
    "constant": 1.0,
    "identity": 1.0,
    "torch_default": 1 / math.sqrt(300) / math.sqrt(3),
    "keras_default": math.sqrt(6 / 350) / math.sqrt(3),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_entry_has_its_published_standard_deviation(name: str) -> None:
    std = initializer(name).weight_std(FAN_IN, FAN_OUT)
    assert std == pytest.approx(PUBLISHED[name], rel=1e-15)
    assert initializer(name).weight_variance(FAN_IN, FAN_OUT) == pytest.approx(std**2, rel=1e-15)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_entry_has_a_source_and_is_named_by_its_values(name: str) -> None:
    assert INITIALIZERS[name].source
    assert str(initializer(name)) == name


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_an_alias_is_the_same_initializer(alias: str, name: str) -> None:
    assert initializer(alias) == initializer(name)
    assert hash(initializer(alias)) == hash(initializer(name))
    assert str(initializer(alias)) == name


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("normal(std=0.3)", Initializer("normal", 0.3, "none")),
        ("uniform(bound=0.3)", Initializer("uniform", 0.3 / math.sqrt(3), "none")),
        ("truncated_normal(std=0.3)", Initializer("truncated_normal", 0.3, "none")),
        ("he_normal(fan=out)", Initializer("normal", math.sqrt(2), "out")),
        ('kaiming_uniform(fan="out", gain=1)', Initializer("uniform", 1.0, "out")),
        ("xavier_normal(gain=1.5)", Initializer("normal", 1.5, "average")),
        ("orthogonal(gain=2)", Initializer("orthogonal", 2.0, "largest")),
        ("constant(value=-0.5)", Initializer("constant", -0.5, "none")),
        ("constant(value=0)", initializer("zeros")),
        ("identity(gain=0.9)", Initializer("identity", 0.9, "none")),
        (Initializer("normal", 2.0), Initializer("normal", 2.0)),
    ],
)
def test_parameters_reach_the_initializer(spec: str | Initializer, expected: Initializer) -> None:
    assert initializer(spec) == expected


@given(gain=strategies.GAINS, fan_in=st.integers(1, 10**6), fan_out=st.integers(1, 10**6))
def test_the_standard_deviation_is_gain_over_root_fan_whatever_the_law(gain: float, fan_in: int, fan_out: int) -> None:
    expected = {"in": fan_in, "out": fan_out, "average": (fan_in + fan_out) / 2, "largest": max(fan_in, fan_out)}
    for fan in FANS:
        stds = {Initializer(law, gain, fan).weight_std(fan_in, fan_out) for law in LAWS}
        assert stds == {gain / math.sqrt(expected.get(fan, 1))}


@given(fan_in=st.integers(1, 10**6), fan_out=st.integers(1, 10**6))
def test_variance_is_kept_forward_or_backward(fan_in: int, fan_out: int) -> None:
    lecun, he_out, glorot = initializer("lecun_normal"), initializer("he_normal(fan=out)"), initializer("glorot_normal")
    assert fan_in * lecun.weight_variance(fan_in, fan_out) == pytest.approx(1, rel=1e-14)
    assert fan_out * he_out.weight_variance(fan_in, fan_out) / 2 == pytest.approx(1, rel=1e-14)
    assert (fan_in + fan_out) / 2 * glorot.weight_variance(fan_in, fan_out) == pytest.approx(1, rel=1e-14)


def test_biases_are_the_networks_unless_the_initializer_sets_them() -> None:
    assert initializer("he_normal").bias_std(FAN_IN, 0.3) == 0.3
    assert initializer("keras_default").bias_std(FAN_IN, 0.0) == 0
    torch = initializer("torch_default")
    assert torch.bias_law == "uniform"
    assert torch.bias_std(FAN_IN, 0.0) == pytest.approx(1 / math.sqrt(3 * FAN_IN), rel=1e-15)


def test_an_initializer_is_frozen_and_normalized() -> None:
    values = Initializer("constant", -0.0)
    assert math.copysign(1, values.gain) == 1
    assert type(Initializer("normal", 2).gain) is float
    with pytest.raises(FrozenInstanceError):
        values.gain = 1.0  # type: ignore[misc]
    assert [field.name for field in fields(Initializer)] == ["law", "gain", "fan", "bias_law", "bias_gain"]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"law": "norml"}, "unknown law 'norml'; known, nearest first: normal"),
        ({"law": None}, "unknown law None; known, nearest first:"),
        ({"fan": "inn"}, "unknown fan 'inn'; known, nearest first: in"),
        ({"bias_law": "gauss"}, "unknown bias_law 'gauss'"),
        ({"gain": math.nan}, "gain of the normal law must be a finite number > 0, not nan"),
        ({"gain": math.inf}, "not inf"),
        ({"gain": 0}, "gain of the normal law must be a finite number > 0, not 0.0"),
        ({"gain": -1.5}, "not -1.5"),
        ({"gain": True}, "not True"),
        ({"gain": "2"}, "not '2'"),
        ({"law": "orthogonal", "gain": 0.0}, "gain of the orthogonal law must be a finite number > 0, not 0.0"),
        ({"law": "orthogonal", "gain": -1.0}, "not -1.0"),
        ({"law": "orthogonal", "gain": math.nan}, "not nan"),
        ({"law": "constant", "gain": math.nan}, "gain of the constant law must be a finite number, not nan"),
        ({"bias_gain": -0.1}, "bias_gain must be a finite number >= 0, not -0.1"),
        ({"bias_gain": math.nan}, "bias_gain must be a finite number >= 0, not nan"),
    ],
)
def test_a_bad_initializer_is_refused(arguments: dict[str, Any], fragment: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Initializer(**{"law": "normal", **arguments})
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "fragment"),
    [
        ("he_norml", "unknown initializer 'he_norml'; known, nearest first: he_normal"),
        ("normal(sigma=0.1)", "unknown parameter of normal 'sigma'; known, nearest first: std"),
        ("zeros(gain=1)", "zeros takes no parameters, not 'gain'"),
        ("normal(std=0)", "std must be a finite number > 0, not 0.0"),
        ("normal(std=small)", "std must be a finite number, not 'small'"),
        ("uniform(bound=-1)", "bound must be a finite number > 0, not -1.0"),
        ("he_normal(fan=average)", "unknown fan 'average'; known, nearest first: "),
        ("he_normal(fan=1)", "unknown fan 1.0"),
        ("orthogonal(gain=-1)", "gain of the orthogonal law must be a finite number > 0, not -1.0"),
        (0.1, "weights must be a name or a stabsim.Initializer, not 0.1"),
    ],
)
def test_a_bad_name_is_refused(spec: Any, fragment: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        initializer(spec)
    assert fragment in str(caught.value)


def test_every_law_is_compiled_and_every_compiled_law_is_known() -> None:
    assert sorted(laws.LAWS) == sorted(LAWS)
