"""Optimizers: one entry each, with its source, and what runs them on points of any number at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim import checks, names
from stabsim.kernels.optimizers import RULES, loop
from stabsim.training.presets import PRESETS

PRECISIONS = ("float32", "float64")
Settings = tuple[float, ...]
_NOTHING = {precision: np.empty(0, precision) for precision in PRECISIONS}


@dataclass
class State:
    """What an optimizer remembers of points: how many steps it has taken, and up to two numbers of each of theirs.

    Parameters
    ----------
    steps : int
        0 at the start.
    memories : tuple of arrays
        Each of the points' shape: none, one (the velocity, or the sum or mean of squared gradients) or two (the means
        of gradients and of their squares).
    """

    steps: int
    memories: tuple[NDArray[Any], ...]

    def of(self, points: Any) -> State:
        """Return the state of some of the points, copied: their numbers, or True for each.

        Examples
        --------
        >>> optimizer("momentum").start(np.zeros((5, 3))).of([0, 4]).memories[0].shape
        (2, 3)
        """
        return State(self.steps, tuple(memory[points].copy() for memory in self.memories))


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with its hyperparameters; `optimizer` makes it from a name.

    With rate for the learning rate, g for the gradient, sums and means starting from 0:

    - sgd: x -= rate g.
    - momentum: v = momentum v - rate g, x += v. Here the rate is inside the velocity: where a schedule changes it, the
      steps differ from PyTorch's, where v = momentum v + g, x -= rate v. At a rate that stays they are the same.
    - nesterov: the same, with g taken at x + momentum v, which is the point that is told.
    - adagrad: h += g^2, x -= rate g / (sqrt(h) + epsilon).
    - rmsprop: h = decay h + (1 - decay) g^2, and then so.
    - adam: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2; in step t, m' = m / (1 - beta1^t) and
      v' = v / (1 - beta2^t), x -= rate m' / (sqrt(v') + epsilon). With ``epsilon_beside=uncorrected`` epsilon stands
      beside sqrt(v), whose correction then multiplies the whole step.
    - adamw: the same, and x is first multiplied by 1 - rate weight_decay.

    Parameters
    ----------
    name : str
        A name of `OPTIMIZERS`.
    parameters : mapping
        All hyperparameters by name.
    settings : tuple of float
        What the compiled rule takes of them.
    rule : str
        A name of ``stabsim.kernels.optimizers.RULES``.
    source : str
        The publication.

    Examples
    --------
    >>> str(optimizer("momentum(learning_rate=0.1)"))
    'momentum(learning_rate=0.1, momentum=0.9)'
    """

    name: str
    parameters: Mapping[str, float | str] = field(hash=False)
    settings: Settings
    rule: str
    source: str = field(repr=False)

    def __str__(self) -> str:
        return names.format_name(self.name, self.parameters)

    def start(self, points: NDArray[Any]) -> State:
        """Return the state before the first step.

        Parameters
        ----------
        points : array (..., P)
            Of float32 or float64.

        Raises
        ------
        TypeError, ValueError
            If they are no such array, or a setting is outside the normal range of float32.
        """
        dtype = _checked("points", points).dtype
        tiny, most = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
        for key, value in self.parameters.items():
            if isinstance(value, float) and value != 0.0 and not tiny <= abs(value) <= most:
                raise ValueError(
                    f"optimizer: {key}={value!r} of {self.name}: outside the normal range of {dtype.name}, 0 or from "
                    f"{tiny:.3g} to {most:.3g}"
                )
        return State(0, tuple(np.zeros_like(points) for _ in range(RULES[self.rule].memories)))

    def step(self, points: NDArray[Any], gradients: NDArray[Any], state: State) -> None:
        """Take one step in place: points and state change.

        Parameters
        ----------
        points : array (..., P)
            Contiguous; float32 or float64.
        gradients : array (..., P)
            At the points (of nesterov: these are the points ahead), of the same shape and type.
        state : State
            From `start`, for points of that shape and type.

        Raises
        ------
        TypeError, ValueError
            If they do not fit together. What is not finite is passed on: a point becomes NaN, and no other.

        Examples
        --------
        >>> x, descent = np.array([[-7.0, 2.0]]), optimizer("sgd(learning_rate=0.95)")
        >>> state = descent.start(x)
        >>> for _ in range(5):
        ...     descent.step(x, x * [0.1, 2.0], state)
        >>> x.round(8).tolist(), state.steps
        ([[-4.24953036, -1.18098]], 5)
        """
        if not _checked("points", points).flags.writeable:
            raise ValueError("points must be writable: a step changes them")
        if not isinstance(state, State):
            raise TypeError(f"state must be a State, from start of {self.name}, not {checks.brief(state)}")
        for argument, array in (("gradients", gradients), *(("memories", memory) for memory in state.memories)):
            if _checked(argument, array).shape != points.shape or array.dtype != points.dtype:
                raise ValueError(
                    f"{argument} must have shape {points.shape} and type {points.dtype} as the points have, not "
                    f"{array.shape} and {array.dtype}"
                )
        if len(state.memories) != RULES[self.rule].memories:
            raise ValueError(f"state must come from start of {self.name}, not have {len(state.memories)} memories")
        nothing = _NOTHING[points.dtype.name]
        first, second, *_ = (*(memory.reshape(-1) for memory in state.memories), nothing, nothing)
        state.steps += 1
        settings = np.array(self.settings)
        self.loop(points.dtype)(points.reshape(-1), gradients.reshape(-1), first, second, state.steps, settings)

    def path(self, start: NDArray[Any], gradient: Callable[[NDArray[Any]], NDArray[Any]], steps: int) -> NDArray[Any]:
        """Return where points go, which do not change.

        Parameters
        ----------
        start : array (..., P)
            Contiguous; float32 or float64.
        gradient : callable
            From points to gradients, of the same shape and type.
        steps : int
            How many.

        Returns
        -------
        array (steps + 1, ..., P)
            The start first.

        Raises
        ------
        TypeError, ValueError
            As of `step`, or if steps is no whole number.

        Examples
        --------
        >>> optimizer("bowl_adam").path(np.array([-7.0, 2.0]), lambda x: x * [0.1, 2.0], 5)[-1].round(9).tolist()
        [-5.507281284, 0.547713702]
        """
        count = checks.whole_number("steps", steps, 0)
        if not callable(gradient):
            raise TypeError(f"gradient must be a function from points to gradients, not {checks.brief(gradient)}")
        state = self.start(_checked("start", start))
        points = start.copy()
        found = np.empty((count + 1, *start.shape), start.dtype)
        found[0] = start
        for t in range(count):
            self.step(points, gradient(points), state)
            found[t + 1] = points
        return found

    def loop(self, dtype: Any) -> Any:
        """Return the compiled loop void(values, gradient, first, second, step, settings), which kernels take."""
        return loop(self.rule, np.dtype(dtype))


def _checked(argument: str, array: Any) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or array.dtype.name not in PRECISIONS or not array.flags.c_contiguous:
        raise TypeError(f"{argument} must be a contiguous array of float32 or float64, not {checks.brief(array)}")
    return array


def optimizer(spec: str | Optimizer) -> Optimizer:
    """Return the optimizer of a name with parameters.

    Parameters
    ----------
    spec : str or Optimizer
        A name of `OPTIMIZERS` or `PRESETS` with or without parameters; an `Optimizer` is returned as it is.

    Raises
    ------
    TypeError, ValueError
        If the name or a parameter is unknown, or a value is not allowed.

    Examples
    --------
    >>> str(optimizer("rmsprop(learning_rate=0.01)"))
    'rmsprop(learning_rate=0.01, decay=0.9, epsilon=1e-08)'
    >>> str(optimizer("bowl_momentum"))
    'momentum(learning_rate=0.1, momentum=0.9)'
    """
    if isinstance(spec, Optimizer):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"optimizer must be a name or a stabsim.training.Optimizer, not {checks.brief(spec)}")
    name, given = names.parse(spec)
    if name in PRESETS:
        name, preset = names.parse(PRESETS[name])
        given = preset | given
    if name not in OPTIMIZERS:
        raise names.unknown("optimizer", name, (*OPTIMIZERS, *PRESETS))
    entry = OPTIMIZERS[name]
    known = inspect.signature(entry.make).parameters
    names.check_parameters(name, given, known)
    values = {key: given.get(key, parameter.default) for key, parameter in known.items()}
    settings = entry.make(**values)
    checked = {key: value if isinstance(value, str) else float(value) for key, value in values.items()}
    return Optimizer(name, MappingProxyType(checked), settings, entry.rule, entry.source)


def _rate(value: float) -> float:
    return checks.number("learning_rate", value, 0.0)


def _epsilon(value: float) -> float:
    return checks.number("epsilon", value, 0.0, open_ends=True)


def _sgd(learning_rate: float = 0.01) -> Settings:
    return (_rate(learning_rate),)


def _momentum(learning_rate: float = 0.01, momentum: float = 0.9) -> Settings:
    return _rate(learning_rate), checks.factor("momentum", momentum)


def _adagrad(learning_rate: float = 0.01, epsilon: float = 1e-10) -> Settings:
    return _rate(learning_rate), _epsilon(epsilon)


def _rmsprop(learning_rate: float = 0.001, decay: float = 0.9, epsilon: float = 1e-8) -> Settings:
    return _rate(learning_rate), checks.factor("decay", decay), _epsilon(epsilon)


PLACES = ("corrected", "uncorrected")


def _adam(
    learning_rate: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
    epsilon_beside: str = "corrected",
) -> Settings:  # fmt: skip
    names.check_known("epsilon_beside", epsilon_beside, PLACES)
    place = float(PLACES.index(epsilon_beside))
    factors = checks.factor("beta1", beta1), checks.factor("beta2", beta2)
    return _rate(learning_rate), *factors, _epsilon(epsilon), place, 0.0


def _adamw(
    learning_rate: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Settings:  # fmt: skip
    decay = checks.number("weight_decay", weight_decay, 0.0)
    return (*_adam(learning_rate, beta1, beta2, epsilon)[:-1], decay)


@dataclass(frozen=True)
class Entry:
    """A named optimizer: the settings of its hyperparameters, the compiled rule that takes them, and its source."""

    make: Callable[..., Settings]
    rule: str
    source: str


OPTIMIZERS = {
    "sgd": Entry(_sgd, "sgd", "Robbins & Monro 1951"),
    "momentum": Entry(_momentum, "momentum", "Polyak 1964; Rumelhart, Hinton & Williams 1986, Nature 323, equation 9"),
    "nesterov": Entry(_momentum, "nesterov", "Nesterov 1983; Sutskever et al. 2013, as arXiv:1212.0901, equation 7"),
    "adagrad": Entry(_adagrad, "adagrad", "Duchi, Hazan & Singer 2011, JMLR 12, figure 1; epsilon of torch.optim"),
    "rmsprop": Entry(_rmsprop, "rmsprop", "Tieleman & Hinton 2012, lecture 6.5; epsilon of torch.optim"),
    "adam": Entry(_adam, "adam", "Kingma & Ba 2015, arXiv:1412.6980, algorithm 1 (uncorrected: end of section 2)"),
    "adamw": Entry(_adamw, "adam", "Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2; decay as in torch.optim"),
}
