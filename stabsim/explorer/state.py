"""What the page is set to: a frozen value, the link that holds it, and what is said of values that are not allowed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlencode

from stabsim import structures
from stabsim.activations import activation
from stabsim.arguments import CHOICES, PRECISIONS
from stabsim.checks import brief, number, reason, whole_number
from stabsim.initializers import Initializer, initializer
from stabsim.names import check_known, unknown
from stabsim.network import Network
from stabsim.task import LARGEST_SEED

NONE = "none"  # as links and the page spell what is not there
DEEPEST, WIDEST = 1000, 8192  # layers, units
MOST_NETS, LARGEST_BATCH = 65_536, 256
LARGEST_BIAS_STD = 100.0
LONGEST_LINK = 8000  # characters
MAPPED = {  # what the heat map may show
    "derivative_saturated_fraction": "units with |f'| < 0.01",
    "derivative_zero_fraction": "units with f' = 0",
    "activation_zero_fraction": "units with f = 0",
    "activation_saturated_fraction": "units at a limit of f",
    "derivative_dead_sample_fraction": "samples with f' = 0 in all units",
    "forget_gate_saturated_fraction": "saturated forget gates",
}


@dataclass(frozen=True)
class State:
    """What the page is set to.

    Parameters
    ----------
    depth, width : int
        Layers, and units of every layer and of the input.
    gain : float or None
        Standard deviation of a weight times sqrt(fan); None: the initializer's own.
    activation, weights : str
        Names, with or without parameters.
    bias_std : float
        Standard deviation of the biases.
    normalization, skip : str
        Names, with or without parameters, or "none".
    cell : str
        "feedforward", "rnn", "lstm" or "gru"; depth is then the number of time steps.
    batch, nets, seed : int
        As `stabsim.simulate` takes them.
    sampler, precision : str
        As `stabsim.simulate` takes them.
    share : str
        What the heat map shows: one of `MAPPED`.

    Examples
    --------
    >>> State.read(State(depth=20, gain=1.5).link).state == State(depth=20, gain=1.5)
    True
    """

    depth: int = 50
    width: int = 512
    gain: float | None = None
    activation: str = "tanh"
    weights: str = "glorot_normal"
    bias_std: float = 0.0
    normalization: str = NONE
    skip: str = NONE
    cell: str = "feedforward"
    batch: int = 1
    nets: int = 256
    seed: int = 0
    sampler: str = "auto"
    precision: str = "float32"
    share: str = "derivative_saturated_fraction"

    @property
    def texts(self) -> dict[str, str]:
        """Return every value as the page and a link spell it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: "" if value is None else str(value).removesuffix(".0") for name, value in values.items()}

    @property
    def link(self) -> str:
        """Return the query string that holds all of it."""
        return urlencode(self.texts)

    @cached_property
    def law(self) -> Initializer:
        """Return the law of the weights, with the gain that is set.

        Raises
        ------
        ValueError
            If a gain is set of constants: it would be their value.
        """
        own = initializer(self.weights)
        if self.gain is not None and own.law == "constant":
            raise ValueError(f"gain must be empty with weights={self.weights!r}, which are constants, not {self.gain}")
        return own if self.gain is None else replace(own, gain=self.gain)

    @cached_property
    def network(self) -> Network:
        """Return the network.

        Raises
        ------
        TypeError, ValueError
            If values do not go with each other.
        """
        normalization, skip = (None if text == NONE else text for text in (self.normalization, self.skip))
        widths = (self.width,) * (self.depth + 1)
        return Network(widths, self.activation, self.law, self.bias_std, normalization, skip, self.cell)

    @staticmethod
    def read(link: str) -> Reading:
        """Read a query string; what is missing is as in a new page, and nothing that is given is left out.

        Parameters
        ----------
        link : str
            With or without a question mark in front.

        Examples
        --------
        >>> reading = State.read("depth=20&activation=tanhh")
        >>> reading.problems["activation"].partition(";")[0], reading.texts["activation"], reading.state
        ("unknown activation 'tanhh'", 'tanhh', None)
        """
        texts, problems = State().texts, {}
        if len(link) > LONGEST_LINK:
            return Reading(texts, {"": f"a link may have {LONGEST_LINK} characters, not {len(link)}"}, None)
        given = parse_qsl(link.removeprefix("?"), keep_blank_values=True)
        for name, _ in given:
            if name not in texts:
                problems[""] = reason(unknown("part of the link", name, texts))
            elif [other for other, _ in given].count(name) > 1:
                problems[name] = f"{name} is given twice by the link"
        texts |= {name: text.strip() for name, text in given if name in texts}
        values: dict[str, Any] = {}
        for name, check in CHECKS.items():
            try:
                values[name] = check(name, texts[name])
            except (TypeError, ValueError) as error:
                problems.setdefault(name, str(error))
        state = None if problems else State(**values)
        if state is not None:
            try:
                _ = state.network
            except (TypeError, ValueError, OverflowError) as error:
                return Reading(texts, {"": str(error)}, None)
        return Reading(texts, problems, state)


@dataclass(frozen=True)
class Reading:
    """What a link says: every text as it was given, what is not allowed by name ("": of the whole), else the state."""

    texts: dict[str, str]
    problems: dict[str, str]
    state: State | None


Check = Callable[[str, str], Any]


def _whole(least: int, most: int) -> Check:
    def check(name: str, text: str) -> int:
        try:
            value: Any = int(text)
        except ValueError:
            value = text
        return whole_number(name, value, least, most)

    return check


def _real(low: float, high: float, *, open_ends: bool = False) -> Check:
    def check(name: str, text: str) -> float:
        try:
            value: Any = float(text)
        except ValueError:
            value = text
        return number(name, value, low, high, open_ends=open_ends)

    return check


def _gain(name: str, text: str) -> float | None:
    return _real(0.0, 1e6, open_ends=True)(name, text) if text else None


def _spelled(resolve: Callable[[str], object]) -> Check:
    """Return the check of a name with parameters, which stays as it is spelled."""

    def check(name: str, text: str) -> str:
        if not text:
            raise ValueError(f"{name} must be a name, not {brief(text)}")
        resolve(text)
        return text

    return check


def _unless_none(resolve: Callable[[str], object]) -> Check:
    check = _spelled(resolve)
    return lambda name, text: NONE if text.lower() == NONE else check(name, text)


def _one_of(known: Collection[str]) -> Check:
    def check(name: str, text: str) -> str:
        check_known(name, text, known)
        return text

    return check


CHECKS: dict[str, Check] = {
    "depth": _whole(1, DEEPEST),
    "width": _whole(1, WIDEST),
    "gain": _gain,
    "activation": _spelled(activation),
    "weights": _spelled(initializer),
    "bias_std": _real(0.0, LARGEST_BIAS_STD),
    "normalization": _unless_none(structures.normalization),
    "skip": _unless_none(structures.skip),
    "cell": _spelled(structures.cell),
    "batch": _whole(1, LARGEST_BATCH),
    "nets": _whole(2, MOST_NETS),
    "seed": _whole(0, LARGEST_SEED),
    "sampler": _one_of(CHOICES),
    "precision": _one_of(PRECISIONS),
    "share": _one_of(MAPPED),
}
