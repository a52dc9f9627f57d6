"""Names with parameters, spelled the same in Python and on the command line: ``leaky_relu(slope=0.2)``.

Shared by all registries: `parse` and `format_name` are inverse to each other, `unknown` is the one text for a
name that no registry knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping

from stabsim.checks import brief, named, number

LISTED = 12  # known names in an error about an unknown one, at most

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# In each, a character can be matched in one way only: reading takes a time linear in the length.
_CALL = re.compile(rf"(?P<name>{_WORD.pattern})\s*(?:\((?P<arguments>.*)\))?", re.DOTALL)
_ARGUMENT = re.compile(rf"(?P<key>{_WORD.pattern})\s*=\s*(?P<value>.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = {"nan", "inf", "infinity"}


def parse(text: str) -> tuple[str, dict[str, float | str]]:
    """Split a name with parameters into the name and its parameters.

    Parameters
    ----------
    text : str
        A name, or a name with ``parameter=value`` pairs in parentheses; a value is a finite number or a word,
        bare or quoted.

    Raises
    ------
    TypeError
        If ``text`` is not a str.
    ValueError
        If ``text`` is spelled in any other way; values are never evaluated.

    Examples
    --------
    >>> parse("leaky_relu(slope=0.2)")
    ('leaky_relu', {'slope': 0.2})
    >>> parse('he_normal(fan="out")') == parse("he_normal(fan=out)")
    True
    """
    if not isinstance(text, str):
        raise TypeError(f"a name must be a str such as 'leaky_relu(slope=0.2)', not {brief(text)}")
    call = _CALL.fullmatch(text.strip())
    if call is None:
        raise ValueError(f"cannot read {brief(text)}: write a name, or name(parameter=value, ...)")
    parameters: dict[str, float | str] = {}
    inside = call["arguments"]
    for argument in inside.split(",") if inside and inside.strip() else ():
        pair = _ARGUMENT.fullmatch(argument.strip())
        if pair is None:
            raise ValueError(
                f"cannot read {brief(argument.strip())} in {brief(text)}: name every parameter, as in slope=0.2"
            )
        if pair["key"] in parameters:
            raise ValueError(f"parameter {brief(pair['key'])} is given twice in {brief(text)}")
        parameters[pair["key"]] = _value(pair["value"], text)
    return call["name"], parameters


def format_name(name: str, parameters: Mapping[str, float | str]) -> str:
    """Write a name with parameters in its canonical spelling, which `parse` reads back exactly.

    Parameters
    ----------
    name : str
        The name.
    parameters : mapping
        Values by parameter, in the order of writing; without any, there are no parentheses.

    Raises
    ------
    TypeError, ValueError
        If a value is neither a finite number nor a word.

    Examples
    --------
    >>> format_name("linear", {"alpha": 1.0, "beta": 0.1})
    'linear(alpha=1, beta=0.1)'
    """
    written = ", ".join(f"{key}={_written(key, value)}" for key, value in parameters.items())
    return f"{name}({written})" if written else name


def unknown(kind: str, value: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not among the known ones, of which it lists the nearest `LISTED`.

    Examples
    --------
    >>> unknown("activation", "rleu", ["tanh", "elu", "relu"])
    ValueError("unknown activation 'rleu'; known, nearest first: relu, elu, tanh")
    """
    from difflib import SequenceMatcher

    shown = brief(value)
    asked = (value if isinstance(value, str) else shown)[: len(shown)].lower()

    def likeness(name: str) -> float:
        return SequenceMatcher(None, asked, name.lower()).ratio()

    nearest = sorted(known, key=likeness, reverse=True)
    more = f" and {len(nearest) - LISTED} more" if len(nearest) > LISTED else ""
    return ValueError(f"unknown {kind} {shown}; known, nearest first: {', '.join(map(named, nearest[:LISTED]))}{more}")


def check_known(kind: str, value: object, known: Collection[str]) -> None:
    """Raise the error of `unknown` for what is no str, or not among the known ones.

    Examples
    --------
    >>> check_known("scale", "quick", ("quick", "paper"))
    """
    if not isinstance(value, str) or value not in known:
        raise unknown(kind, value, known)


def check_parameters(name: str, parameters: Iterable[str], known: Collection[str]) -> None:
    """Raise ValueError for the first parameter that a name does not take.

    Examples
    --------
    >>> check_parameters("leaky_relu", {"slope": 0.2}, ["slope"])
    """
    for parameter in parameters:
        if not known:
            raise ValueError(f"{name} takes no parameters, not {brief(parameter)}")
        if parameter not in known:
            raise unknown(f"parameter of {name}", parameter, known)


def _value(written: str, text: str) -> float | str:
    if _NUMBER.fullmatch(written) and math.isfinite(float(written)):
        return float(written)
    word = written[1:-1] if len(written) > 1 and written[0] == written[-1] and written[0] in "'\"" else written
    if _WORD.fullmatch(word) and word.lower() not in _NOT_FINITE:
        return word
    raise ValueError(f"cannot read the value {brief(written)} in {brief(text)}: write a finite number or a word")


def _written(key: str, value: float | str) -> str:
    if isinstance(value, str):
        if _WORD.fullmatch(value) and value.lower() not in _NOT_FINITE:
            return value
        raise ValueError(f"parameter {key}={brief(value)} must be a finite number or a word")
    return repr(number(f"parameter {key}", value)).removesuffix(".0")
