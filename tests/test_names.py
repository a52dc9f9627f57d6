import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from stabsim import names
from tests import strategies


@given(name=strategies.WORDS, parameters=strategies.parameters)
def test_what_is_written_is_read_back_exactly(name: str, parameters: dict[str, float | str]) -> None:
    assert names.parse(names.format_name(name, parameters)) == (name, parameters)


@given(name=strategies.WORDS, parameters=strategies.parameters)
def test_spaces_and_quotes_do_not_matter(name: str, parameters: dict[str, float | str]) -> None:
    inside = " , ".join(f"{key} = {value!r}" for key, value in parameters.items())
    assert names.parse(f"  {name} ( {inside} ) ") == (name, parameters)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "cannot read ''"),
        ("leaky relu", "cannot read 'leaky relu'"),
        ("relu(", "cannot read 'relu('"),
        ("relu)", "cannot read 'relu)'"),
        ("1relu", "cannot read '1relu'"),
        ("leaky_relu(0.2)", "cannot read '0.2' in 'leaky_relu(0.2)': name every parameter"),
        ("leaky_relu(slope=0.2,)", "cannot read ''"),
        ("leaky_relu(slope=0.2; 1)", "cannot read the value '0.2; 1'"),
        ("leaky_relu(slope=0.2, slope=0.3)", "parameter 'slope' is given twice"),
        ("leaky_relu(slope=nan)", "cannot read the value 'nan'"),
        ("leaky_relu(slope=-Infinity)", "cannot read the value '-Infinity'"),
        ("leaky_relu(slope='inf')", "cannot read the value"),
        ("leaky_relu(slope=1e999)", "cannot read the value '1e999'"),
        ("leaky_relu(slope=1_0)", "cannot read the value '1_0'"),
        ("leaky_relu(slope=1+1)", "cannot read the value '1+1'"),
        ("leaky_relu(slope=)", "cannot read the value ''"),
        ("leaky_relu(slope=\u0663)", "cannot read the value '\u0663'"),
        ("he_normal(fan='out)", "cannot read the value"),
        ("he_normal(fan=print('out'))", "cannot read the value"),
    ],
)
def test_a_bad_spelling_is_refused_with_the_text(text: str, fragment: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot read|^parameter") as caught:
        names.parse(text)
    assert fragment in str(caught.value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, 3, b"relu", ["relu"]])
def test_a_name_is_a_str(text: Any) -> None:
    with pytest.raises(TypeError, match="a name must be a str"):
        names.parse(text)


def test_numbers_are_written_in_the_shortest_way() -> None:
    assert names.format_name("f", {"a": 1, "b": np.float64(0.1), "c": -0.0, "d": 1e-300, "e": "out"}) == (
        "f(a=1, b=0.1, c=0, d=1e-300, e=out)"
    )


@pytest.mark.parametrize("value", ["two words", "nan", "", "a,b", "0.5"])
def test_a_word_that_could_not_be_read_back_is_not_written(value: str) -> None:
    with pytest.raises(ValueError, match="must be a finite number or a word"):
        names.format_name("f", {"a": value})


def test_unknown_names_list_the_nearest_first() -> None:
    error = names.unknown("activation", "Leaky-ReLU", ["tanh", "relu", "leaky_relu", "silu"])
    assert str(error) == "unknown activation 'Leaky-ReLU'; known, nearest first: leaky_relu, relu, silu, tanh"


@pytest.mark.parametrize(("known", "more"), [(12, ""), (13, " and 1 more"), (58, " and 46 more")])
def test_of_many_names_the_nearest_twelve_are_listed(known: int, more: str) -> None:
    claims = [f"A{number:02d}" for number in range(known)]
    listed = str(names.unknown("claim", "A7", claims)).partition("nearest first: ")[2]
    assert listed.startswith("A07, A17, " if known > 17 else "A07, ") and listed.endswith(more)
    assert listed.count("A") == 12


LONG = ("f(a=" + "9" * 50_000 + "x)", "a" + " " * 50_000 + "b", "f(a=x" + " " * 50_000 + "y)", "f" + "(" * 50_000)


@pytest.mark.parametrize("text", LONG, ids=["digits", "spaces", "value", "parentheses"])
def test_a_long_spelling_is_refused_at_once_in_a_short_line(text: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match="cannot read") as caught:
        names.parse(text)
    assert len(str(caught.value)) < 300 and time.process_time() - start < 1.0  # it took minutes


@pytest.mark.parametrize(
    "value", ["x" * 50_000, 10**5000, np.zeros((9, 9)), ["a"], None], ids=lambda value: type(value).__name__
)
def test_whatever_is_no_known_name_is_refused_in_a_short_line(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^unknown scale .*; known, nearest first: ") as caught:
        names.check_known("scale", value, ("quick", "paper"))
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_known_names_of_a_file_are_spelled_in_one_line() -> None:
    assert str(names.unknown("column", "b", ["a\nb", "c"])).endswith(r"nearest first: 'a\nb', c")
