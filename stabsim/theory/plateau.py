"""How many steps optimizers take across a plateau: a stretch of constant slope, with or without noise.

On a constant slope, what an optimizer remembers has a closed form in the number of steps, and so has each step;
rules are those of `stabsim.training.Optimizer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stabsim import names
from stabsim.checks import factor, number, whole_number

Floats = NDArray[np.float64]

_ADAM = ("learning_rate", "beta1", "beta2", "epsilon")
RULES = {  # and what each takes
    "sgd": ("learning_rate",),
    "momentum": ("learning_rate", "momentum"),
    "nesterov": ("learning_rate", "momentum"),
    "adagrad": ("learning_rate", "epsilon"),
    "rmsprop": ("learning_rate", "decay", "epsilon"),
    "adam": _ADAM,
    "adamw": (*_ADAM, "weight_decay"),
}
PLACES = ("corrected", "uncorrected")  # of epsilon, which adam may be told
_FORGOTTEN = 1e-10  # by how much steps may still change where they are taken as constant
_SUMMED = 2000  # steps of adagrad, whose memory does not end: an integral takes over
_MOST_SUMMED = 10**7


def crossing_steps(
    rule: str,
    parameters: Mapping[str, float | str],
    width: float,
    slope: float,
    *,
    outside: float = 0.0,
    steps_outside: int = 0,
) -> float:
    """Return after how many steps an optimizer has gone downhill by the width of a plateau.

    Parameters
    ----------
    rule : str
        One of `RULES`.
    parameters : mapping
        All its hyperparameters, by the names of `stabsim.training.OPTIMIZERS`; ``epsilon_beside`` of adam may be left
        out. Of adamw, learning_rate weight_decay may be up to 2: beyond, points swing further and further.
    width, slope : float
        > 0, and from 0.
    outside, steps_outside : float, int
        The constant slope that it has been on before, and for how many steps; no memory unless told.

    Returns
    -------
    float
        A whole number as long as steps change, from there on a real one; infinite where the width is never reached.

    Raises
    ------
    TypeError, ValueError
        If the rule or a hyperparameter is unknown or missing, or an argument is outside its range.

    Notes
    -----
    Without memory: sgd width / (rate slope); momentum and nesterov (1 - momentum) times as many, and about
    1 / (1 - momentum) more; adagrad (width / (2 rate))^2, rmsprop and adam width / rate, whatever the slope is, as long
    as it is large against epsilon; adamw -ln(1 - weight_decay width) / (rate weight_decay), never from width =
    1 / weight_decay on, the plateau beginning at 0. What is remembered of a steep slope makes steps smaller by
    slope / outside: in adagrad for good, in rmsprop and adam until decay^n is slope^2 / outside^2.

    Examples
    --------
    >>> crossing_steps("sgd", {"learning_rate": 0.0625}, 1.0, 0.5)
    32.0
    >>> crossing_steps("adam", {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}, 1.0, 1e-3)
    101.0
    """
    if rule not in RULES:
        raise names.unknown("rule", rule, RULES)
    far, g = number("width", width, 0.0, open_ends=True), number("slope", slope, 0.0)
    steep, before = number("outside", outside, 0.0), whole_number("steps_outside", steps_outside, 0)
    given = _checked(rule, parameters)
    done = _summed(rule, given, g, steep)
    k = np.arange(1.0, done + 1)
    sizes = _sizes(rule, given, g, steep, before, k)
    if rule == "adamw":
        from scipy.signal import lfilter

        kept = 1.0 - given["learning_rate"] * given["weight_decay"]
        come = lfilter([1.0], [1.0, -kept], sizes)  # x = kept x + size
        limit = sizes[-1] / (1.0 - kept) if kept < 1.0 else math.inf
    else:
        come, kept, limit = np.cumsum(sizes), 1.0, math.inf
    reached = np.flatnonzero(come >= far * (1.0 - 1e-12))
    if len(reached):
        return float(k[reached[0]])
    if rule == "adagrad":
        return _beyond_by_adagrad(given, g, far - float(come[-1]), float(steep**2 * before), done)
    last = float(sizes[-1])
    if g == 0.0 or last == 0.0 or far >= limit or kept <= 0.0:  # what is left leads no further: swings become smaller
        return math.inf
    if kept < 1.0:
        return done + math.log((limit - far) / (limit - float(come[-1]))) / math.log(kept)
    return done + (far - float(come[-1])) / last


def _checked(rule: str, parameters: Mapping[str, float | str]) -> dict[str, float]:
    """Return the hyperparameters of a rule as numbers; of the places of epsilon, the number."""
    optional = {"epsilon_beside": PLACES[0]} if rule == "adam" else {}
    names.check_parameters(rule, parameters, (*RULES[rule], *optional))
    missing = [key for key in RULES[rule] if key not in parameters]
    if missing:
        raise ValueError(f"parameters of {rule} must be {', '.join(RULES[rule])}: {missing[0]} is missing")
    given = {}
    for key, value in (optional | dict(parameters)).items():
        if key == "epsilon_beside":
            if value not in PLACES:
                raise names.unknown(key, value, PLACES)
            given[key] = float(PLACES.index(str(value)))
        elif key in ("learning_rate", "weight_decay", "epsilon"):
            given[key] = number(key, value, 0.0, open_ends=key == "epsilon")
        else:
            given[key] = factor(key, value)
    if rule == "adamw":
        number("learning_rate times weight_decay", given["learning_rate"] * given["weight_decay"], 0.0, 2.0)
    return given


def _summed(rule: str, given: Mapping[str, float], g: float, steep: float) -> int:
    """Return after how many steps those of a constant slope no longer change."""
    if rule == "adagrad":
        return _SUMMED
    slowest = max((given.get(key, 0.0) for key in ("momentum", "decay", "beta1", "beta2")), default=0.0)
    if slowest == 0.0:
        return 10
    remembered = (max(1.0, steep / g) if g > 0.0 else 1 / _FORGOTTEN) ** 2 / _FORGOTTEN
    return min(_MOST_SUMMED, math.ceil(math.log(remembered) / -math.log(slowest)) + 10)


def _sizes(rule: str, given: Mapping[str, float], g: float, steep: float, before: int, k: Floats) -> Floats:
    """Return the steps on the plateau, from the first."""
    rate = given["learning_rate"]
    if rule == "sgd":
        return np.full(len(k), rate * g)
    if rule in ("momentum", "nesterov"):
        mu = given["momentum"]
        velocity = _mean(mu, g, steep, before, k) * rate / (1.0 - mu)
        return velocity if rule == "momentum" else mu * velocity + rate * g
    epsilon = given["epsilon"]
    if rule == "adagrad":
        root = np.sqrt(steep**2 * before + k * g * g)
        return rate * g / (root + epsilon)
    if rule == "rmsprop":
        return rate * g / (np.sqrt(_mean(given["decay"], g * g, steep**2, before, k)) + epsilon)
    beta1, beta2 = given["beta1"], given["beta2"]
    m = _mean(beta1, g, steep, before, k) / (1.0 - beta1 ** (before + k))
    v = _mean(beta2, g * g, steep**2, before, k) / (1.0 - beta2 ** (before + k))
    if given.get("epsilon_beside"):
        return np.asarray(rate * m / (np.sqrt(v) + epsilon / np.sqrt(1.0 - beta2 ** (before + k))))
    return np.asarray(rate * m / (np.sqrt(v) + epsilon))


def _mean(decay: float, now: float, then: float, before: int, k: Floats) -> Floats:
    """Return the running mean, from 0, of ``before`` numbers and then k others."""
    remembered = decay**k
    return np.asarray(now * (1.0 - remembered) + then * (1.0 - decay**before) * remembered)


def _beyond_by_adagrad(given: Mapping[str, float], g: float, far: float, h: float, done: int) -> float:
    """Return after how many steps, of which some are done, the rest of the way is gone: an integral over steps."""
    if g == 0.0 or given["learning_rate"] == 0.0:
        return math.inf
    c, start = given["epsilon"] / g, math.sqrt(h / g**2 + done + 0.5)  # midpoints: steps done + 1, done + 2, ...

    def left(root: float) -> float:
        return 2.0 * (root - start - c * math.log((root + c) / (start + c))) - far / given["learning_rate"]

    low, high = start, start + 1.0
    while left(high) < 0.0:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if left(middle) < 0.0 else (low, middle)
    return high**2 - h / g**2 - 0.5


def noisy_crossing_steps(width: float, drift: float, deviation: float) -> float:
    """Return the mean number of steps of a random walk across a plateau behind which it is steep.

    Parameters
    ----------
    width : float
        > 0; the walk starts at 0, and cannot go below.
    drift, deviation : float
        Mean and standard deviation of a step, >= 0 and > 0.

    Returns
    -------
    float
        With D = deviation^2 / 2: width / drift - D / drift^2 (1 - exp(-drift width / D)), and width^2 / (2 D) without
        drift.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    Mean first passage of Brownian motion between a reflecting and an absorbing end (Redner 2001, A Guide to
    First-Passage Processes, section 2.2). Gradient descent with noise sigma on each gradient: drift rate slope,
    deviation rate sigma; heavy ball: both by 1 - momentum; rules that divide by the root mean square of gradients: both
    by sqrt(slope^2 + sigma^2).

    Examples
    --------
    >>> noisy_crossing_steps(1.0, 0.0, 0.01), round(noisy_crossing_steps(1.0, 0.01, 0.01), 6)
    (10000.0, 99.5)
    """
    far = number("width", width, 0.0, open_ends=True)
    mean, spread = number("drift", drift, 0.0), number("deviation", deviation, 0.0, open_ends=True)
    half = 0.5 * spread**2
    ratio = mean * far / half
    if ratio < 1e-4:  # two terms of the series are exact to 1e-9
        return far**2 / half * (0.5 - ratio / 6.0)
    return far / mean + half / mean**2 * math.expm1(-ratio)


def saddle_escape_steps(start: float, end: float, curvature: float, rate: float, momentum: float = 0.0) -> float:
    """Return after how many steps gradient descent or heavy ball has gone down from a saddle, in the long run.

    Parameters
    ----------
    start, end : float
        Distances from the saddle along the direction of negative curvature, > 0; it starts at rest.
    curvature : float
        Minus the second derivative there, > 0.
    rate : float
        > 0.
    momentum : float, default 0
        From 0, below 1.

    Returns
    -------
    float
        A real number: the logarithm of end by the growing part of the start, by that of the factor a step, the larger
        root of z^2 - (1 + momentum + rate curvature) z + momentum.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Examples
    --------
    >>> round(saddle_escape_steps(1e-6, 1.0, 2.0, 0.01), 2)
    697.66
    """
    near, far = number("start", start, 0.0, open_ends=True), number("end", end, 0.0, open_ends=True)
    mu = factor("momentum", momentum)
    product = number("rate", rate, 0.0, open_ends=True) * number("curvature", curvature, 0.0, open_ends=True)
    double = 1.0 + mu + product
    root = math.sqrt(double**2 - 4.0 * mu)
    larger, smaller = 0.5 * (double + root), 0.5 * (double - root)
    growing = near * (1.0 + product - smaller) / root  # of x_t = a larger^t + b smaller^t, x_1 = (1 + product) x_0
    return max(0.0, math.log(far / growing) / math.log(larger))
