"""Wide nets, layer after layer: variance and correlation maps, fixed points, their depth scales, the critical line.

Weights have variance ``weight_variance / fan_in`` (sigma_w^2), biases ``bias_variance`` (sigma_b^2), whatever their
laws. Then, as the width goes to infinity, pre-activations are Gaussian, and all follows from two maps:
Poole et al. 2016 (arXiv:1606.05340), Schoenholz et al. 2017 (arXiv:1611.01232).
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import activations, checks
from stabsim.activations import Activation
from stabsim.theory import quadrature
from stabsim.theory.gaussian import PairMoments, at_correlation, moments, pair_moments

Floats = NDArray[np.float64]

LARGEST = quadrature.LARGEST_VARIANCE  # beyond it a variance counts as infinite, and below 1e-30 as 0
WEIGHT_VARIANCES = (1e-9, 1e9)  # sigma_w^2 that is allowed; sigma_b^2 up to the larger end
SMALLEST_BIAS_VARIANCE = 1e-12
CROSSED = 1e-14  # a relative distance from the diagonal that is no rounding
ROUNDING = 1e-12  # chi this close to 1 counts as 1


def variance_map(
    activation: str | Activation, variance: ArrayLike, weight_variance: ArrayLike, bias_variance: ArrayLike = 0.0
) -> float | Floats:
    """Return the variance of the next layer's pre-activations: sigma_w^2 E f(s)^2 + sigma_b^2.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    variance : float or array
        q of this layer's pre-activations, from 0 to 1e12.
    weight_variance, bias_variance : float or array
        sigma_w^2 (fan-in times the variance of a weight) and sigma_b^2, both >= 0; no biases unless told.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Notes
    -----
    Poole et al. 2016, equation 3. Holds as the width goes to infinity.

    Examples
    --------
    >>> round(variance_map("tanh", 1.0, 2.0, 0.1), 12)
    0.888588980796
    """
    w = checks.array("weight_variance", weight_variance, 0.0)
    b = checks.array("bias_variance", bias_variance, 0.0)
    q = checks.array("variance", variance, 0.0)
    result = w * moments(activation, q).mean_square + b
    return float(result) if np.ndim(result) == 0 else result


@dataclass(frozen=True)
class FixedPoint:
    """Where the maps of variance and correlation end, and how fast they get there.

    Attributes
    ----------
    variance : float
        q*: the limit of the variance map from q = 1; inf where it grows beyond 1e12, 0 where it falls to 0.
    chi : float
        chi_1 = sigma_w^2 E f'(s)^2 at q*: the factor on the mean square of gradients, a layer, and the slope of the
        correlation map at 1. Below 1: order, gradients vanish; above: chaos, they explode.
    correlation : float
        c*: the stable fixed point of the correlation map at q*, 1 in the ordered phase, and where q* is infinite and f
        has straight ends. NaN where q* is 0, or infinite without them; chi is NaN then too.
    variance_depth, correlation_depth : float
        xi_q and xi_c: layers over which the distance from q* and from c* falls by e; inf where it does not fall
        exponentially, 0 where it is gone after one layer.
    """

    variance: float
    chi: float
    correlation: float
    variance_depth: float
    correlation_depth: float


def fixed_point(activation: str | Activation, weight_variance: float, bias_variance: float = 0.0) -> FixedPoint:
    """Return the fixed point of the variance and of the correlation map.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    weight_variance, bias_variance : float
        sigma_w^2 from 1e-9 and sigma_b^2 from 0, both to 1e9; no biases unless told.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, f jumps, or quadrature cannot follow it to the fixed point.

    Notes
    -----
    Poole et al. 2016, equations 3, 5 and 6; depths: Schoenholz et al. 2017, equations 9 and 13; in the limit of
    infinite width. Where q* is infinite, chi is its limit; a ReLU net at its critical point keeps any variance: then
    q* is 1.

    Examples
    --------
    >>> found = fixed_point("tanh", 2.5**2, 0.3**2)
    >>> round(found.variance, 8), round(found.chi, 8), round(found.correlation, 8)
    (4.07912388, 1.58522477, 0.12210375)
    """
    chosen = _continuous(activation)
    w, b = _scales(weight_variance, bias_variance)
    q = _one_fixed_variance(chosen, w, b)
    chi = float(w * _passed(chosen, np.array([q]))[0])
    variance_depth = math.inf if math.isinf(q) else _depth(w * moments(chosen, q).slope)
    if q == 0.0 or math.isnan(chi):
        return FixedPoint(q, chi, math.nan, variance_depth, math.nan)
    if chi <= 1.0 + ROUNDING or math.isinf(q):
        return FixedPoint(q, chi, 1.0, variance_depth, _depth(chi))

    def excess(c: float) -> float:
        return (w * at_correlation(chosen, q, q, c)[0] + b) / q - c

    c = _stable_correlation(excess)
    return FixedPoint(q, chi, c, variance_depth, _depth(w * at_correlation(chosen, q, q, c)[1]))


def _continuous(activation: str | Activation) -> Activation:
    """Return an activation that does not jump: where f does, f' is no density, and chi is infinite."""
    chosen = activations.activation(activation)
    for kink in chosen.kinks:
        step = 1e-9 * max(1.0, abs(kink))
        below, above = (chosen.evaluate("f", kink + side * step) for side in (-1, 1))
        if abs(above - below) > 1e-6 * max(1.0, abs(above), abs(below)):
            raise ValueError(f"activation must be continuous, but {str(chosen)!r} jumps at {kink:g}")
    return chosen


def _scales(weight_variance: float, bias_variance: float) -> tuple[float, float]:
    w = checks.number("weight_variance", weight_variance, *WEIGHT_VARIANCES)
    return w, checks.number("bias_variance", bias_variance, 0.0, WEIGHT_VARIANCES[1])


def _depth(factor: float) -> float:
    """Return the layers over which what is multiplied with the factor falls by e."""
    size = abs(factor)
    if size >= 1.0 - ROUNDING:
        return math.inf
    return -1.0 / math.log(size) if size > 0.0 else 0.0


def _stable_correlation(excess: Callable[[float], float]) -> float:
    """Return where the map crosses the diagonal below 1: it is convex from 0 to 1, above the diagonal's slope at 1."""
    if excess(0.0) <= 1e-14:  # odd f and no bias: uncorrelated samples stay so
        return 0.0
    high = next((c for c in 1.0 - 0.5 ** np.arange(1, 46) if excess(c) < 0.0), None)
    return 1.0 if high is None else _root(excess, 0.0, float(high))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-300, rtol=1e-15))


def phase_diagram(
    activation: str | Activation, weight_variance: ArrayLike, bias_variance: ArrayLike
) -> tuple[Floats, Floats]:
    """Return q* and chi of every pair of variances.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    weight_variance, bias_variance : array
        sigma_w^2 from 1e-9 and sigma_b^2 from 0, both to 1e9, broadcast against each other.

    Returns
    -------
    variance, chi : array
        As in `FixedPoint`; NaN where the activation cannot be followed by quadrature.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Examples
    --------
    >>> q, chi = phase_diagram("relu", [1.0, 2.0, 3.0], 0.1)
    >>> q, chi
    (array([0.2, inf, inf]), array([0.5, 1. , 1.5]))
    """
    chosen = _continuous(activation)
    w = checks.array("weight_variance", weight_variance, *WEIGHT_VARIANCES)
    b = checks.array("bias_variance", bias_variance, 0.0, WEIGHT_VARIANCES[1])
    shape = np.broadcast_shapes(w.shape, b.shape)
    flat = (np.broadcast_to(each, shape).reshape(-1) for each in (w, b))
    q = _fixed_variance(chosen, *flat).reshape(shape)
    return q, w * _passed(chosen, q)


def _passed(activation: Activation, q: Floats) -> Floats:
    """Return E f'^2 at variances that may be infinite, where only the slopes far out count."""
    known = np.isfinite(q)
    found = np.full(q.shape, np.nan)
    if known.any():
        found[known] = moments(activation, q[known]).derivative_mean_square
    if activation.asymptotes is None:
        return found
    (below, _), (above, _) = activation.asymptotes
    return np.where(np.isinf(q), 0.5 * (below**2 + above**2), found)


def _one_fixed_variance(activation: Activation, w: float, b: float) -> float:
    q = float(_fixed_variance(activation, np.array([w]), np.array([b]))[0])
    if math.isnan(q):
        raise quadrature.QuadratureError(
            f"activation {str(activation)!r} cannot be followed to its fixed point at weight_variance={w:g} and "
            f"bias_variance={b:g}: it is too rough for quadrature, or grows too fast, on the way"
        )
    return q


def _fixed_variance(activation: Activation, w: Floats, b: Floats) -> Floats:
    """Return q*, the first fixed point on the way of the map from q = 1 (along which it goes on in one direction).

    Of two fixed points within 4%, the step of the grid on which they are looked for, nothing may be seen.
    """
    parts = [slice(i, i + 256) for i in range(0, len(w), 256)]  # which bounds the memory of their grids
    q = np.concatenate([_first_on_grid(activation, w[part], b[part]) for part in parts])
    at_zero = moments(activation, 0.0)
    if at_zero.mean_square == 0.0:  # near 0 the map is q times its slope: at 1, rounding decides where it ends
        q[(b == 0.0) & (w * at_zero.slope <= 1.0 + ROUNDING) & (q < ROUNDING)] = 0.0
    return q


@functools.lru_cache(maxsize=64)
def _grid(activation: Activation) -> tuple[Floats, Floats, Floats]:
    """Return variances, 16 an octave with 1 among them, E f^2 and E f'^2 at them: NaN where quadrature refuses f."""
    grid = np.exp2(np.arange(-16 * 100, 16 * 39 + 1) / 16)
    found = np.full((2, len(grid)), np.nan)
    for start in range(0, len(grid), 16):
        octave = slice(start, min(start + 16, len(grid)))
        # Where an octave is refused, some of its variances may not be.
        for part in (octave, *(slice(i, i + 1) for i in range(octave.start, octave.stop))):
            with contextlib.suppress(quadrature.QuadratureError):
                at = moments(activation, grid[part])
                found[:, part] = at.mean_square, at.derivative_mean_square
                if part == octave:
                    break
    return grid, found[0], found[1]


def _first_on_grid(activation: Activation, w: Floats, b: Floats) -> Floats:
    """Return where map(q) - q first changes its sign on the way from 1; 0 or inf where it never does.

    NaN where the way leads through variances at which quadrature refuses f.
    """
    grid, squares, _ = _grid(activation)
    one = int(np.searchsorted(grid, 1.0))
    excess = (w[:, None] * squares + b[:, None]) / grid - 1.0
    up = excess[:, one] > 0.0
    q = np.where(up, np.inf, 0.0)
    place, before = np.full(len(w), -1), np.full(len(w), -1)
    # A map that is the identity to rounding, as hard tanh's is near 0, does not cross it.
    for rows, way, sign in (
        (np.flatnonzero(up), slice(one, None), -1.0),
        (np.flatnonzero(~up), slice(one, None, -1), 1.0),
    ):
        values, points = excess[rows, way], np.arange(len(grid))[way]
        stops = ~(sign * values <= CROSSED)  # crossed, or NaN
        first = stops.argmax(axis=1)
        place[rows] = np.where(stops.any(axis=1), points[first], -1)
        before[rows] = points[np.maximum(first - 1, 0)]
        q[rows[np.isnan(values[np.arange(len(rows)), first]) & stops.any(axis=1)]] = np.nan
    q[np.abs(excess[:, one]) <= 4e-15] = 1.0
    inside = np.flatnonzero((place >= 0) & ~np.isnan(q) & (q != 1.0))
    if len(inside):
        q[inside] = _between(activation, grid, place[inside], before[inside], w[inside], b[inside])
    return q


def _between(
    activation: Activation, grid: Floats, place: NDArray[Any], before: NDArray[Any], w: Floats, b: Floats
) -> Floats:
    """Return the fixed points between neighbors on the grid."""
    from scipy.optimize import elementwise

    def at(q: Floats, w: Floats, b: Floats) -> Floats:
        return np.asarray((w * moments(activation, q).mean_square + b) / q - 1.0)

    bracket = grid[np.minimum(place, before)], grid[np.maximum(place, before)]
    tolerances = {"xrtol": 1e-15, "xatol": 0.0, "fatol": 0.0, "frtol": 0.0}
    found = elementwise.find_root(at, bracket, args=(w, b), tolerances=tolerances)
    return np.asarray(np.where(found.success, found.x, grid[before]))  # where it is 0 to rounding at the near end


def correlation_map(
    activation: str | Activation,
    correlation: ArrayLike,
    weight_variance: float,
    bias_variance: float = 0.0,
    variance: float | tuple[float, float] | None = None,
) -> float | Floats:
    """Return the correlation of two samples in the next layer, given theirs in this one.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    correlation : float or array
        c of the pre-activations of two samples, from -1 to 1.
    weight_variance, bias_variance : float
        sigma_w^2 from 1e-9 and sigma_b^2 from 0, both to 1e9; no biases unless told.
    variance : float, pair of floats or None
        Variances > 0 of the pre-activations, of both samples or of each. None: the fixed point q*.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, variance is None where q* is 0 or infinite, the next layer is 0, or f is too
        rough for quadrature: so is every f without a closed form at variances of 1e6 and more, where it looks like a
        jump (kinks from 1e4 on).

    Notes
    -----
    Poole et al. 2016, equation 5, in the limit of infinite width. Closed for rays (Cho & Saul 2009), erf (Williams
    1996) and sine; else by Mehler's formula, or quadrature where f has kinks. What depends on the variances alone is
    kept, so further calls cost a series of some tens of terms a correlation.

    Examples
    --------
    >>> correlation_map("relu", [-0.5, 0.0, 1.0], 2.0, variance=1.0).round(8)
    array([0.10899778, 0.31830989, 1.        ])
    """
    chosen = activations.activation(activation)
    w, b = _scales(weight_variance, bias_variance)
    c = checks.array("correlation", correlation, -1.0, 1.0)
    if variance is not None:
        pair = checks.array("variance", variance, 0.0, LARGEST).ravel()
        if len(pair) not in (1, 2) or not np.all(pair > 0.0):
            raise ValueError(f"variance must be a number > 0, two of them or None, not {variance!r}")
        variance = float(pair[0]), float(pair[-1])
    moment, scale = _next_layer(chosen, w, b, variance)
    if scale == 0.0:
        raise ValueError(f"correlation does not exist where the next layer is 0, as of {str(chosen)!r} without biases")
    result = np.clip((w * moment.product(c) + b) / scale, -1.0, 1.0)  # beyond by rounding only
    return float(result) if np.ndim(result) == 0 else result


@functools.lru_cache(maxsize=64)
def _next_layer(
    activation: Activation, w: float, b: float, variance: tuple[float, float] | None
) -> tuple[PairMoments, float]:
    """Return the moments of pairs, and the root of the product of the variances in the next layer."""
    if variance is None:
        q = _one_fixed_variance(activation, w, b)
        if q == 0.0 or math.isinf(q):
            raise ValueError(f"variance must be given where the variance map has no fixed point > 0 (it ends at {q:g})")
        variance = q, q
    after = [w * moments(activation, each).mean_square + b for each in variance]
    return pair_moments(activation, *variance), math.sqrt(after[0] * after[1])


def critical_weight_variance(activation: str | Activation, bias_variance: float = 0.0) -> float:
    """Return sigma_w^2 at which chi is 1: order below it, chaos above.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    bias_variance : float
        sigma_b^2 >= 0; none unless told.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed (biases too small for 10 digits are not), or no sigma_w^2 is critical. Rays from
        the origin, such as ReLU, are critical at one point without biases only; GELU and SiLU nets with few biases
        nowhere, as the variance leaves the fixed point at which chi is 1.

    Notes
    -----
    Schoenholz et al. 2017, section 3. On the critical line q tells everything: sigma_w^2 = 1 / E f'(s)^2 and
    sigma_b^2 = q - sigma_w^2 E f(s)^2, which is solved for q; of several solutions the one with the least q.

    Examples
    --------
    >>> round(critical_weight_variance("tanh", 0.05), 8), round(critical_weight_variance("relu"), 12)
    (1.76095464, 2.0)
    """
    chosen = _continuous(activation)
    q = _critical_variance(chosen, bias_variance)
    return 1.0 / moments(chosen, q).derivative_mean_square


def _critical_variance(activation: Activation, bias_variance: float) -> float:
    """Return q on the critical line: the least that is a fixed point at which nets arrive."""
    b = checks.number("bias_variance", bias_variance, 0.0)
    if 0.0 < b < SMALLEST_BIAS_VARIANCE:
        raise ValueError(f"bias_variance must be 0 or at least {SMALLEST_BIAS_VARIANCE:g}, not {b!r}")

    def excess(q: Floats) -> Floats:
        at = moments(activation, q)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(q - at.mean_square / at.derivative_mean_square - b)

    grid, squares, passed = _grid(activation)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(grid >= 1e-8, grid - squares / passed - b, np.nan)
    candidates = [0.0] if b == 0.0 and moments(activation, 0.0).mean_square == 0.0 else []
    if not activation.positively_homogeneous:  # rays pass one share at every variance: only 0 is critical
        crossings = np.flatnonzero(np.abs(np.diff(np.sign(values))) == 2.0)
        candidates += [_root(lambda q: excess(np.array([q]))[0], *grid[i : i + 2]) for i in crossings]
    for q in candidates:
        share = moments(activation, q).derivative_mean_square
        if share > 0.0 and _arrives(activation, 1.0 / share, b, q):
            return q
    raise ValueError(f"activation {str(activation)!r} has no critical weight variance at bias_variance={b!r}")


def _arrives(activation: Activation, w: float, b: float, q: float) -> bool:
    """Return whether nets get to the fixed point q: it must not be one that they leave, such as GELU's."""
    if activation.positively_homogeneous:
        return b == 0.0
    found = float(_fixed_variance(activation, np.array([w * (1.0 - 1e-9)]), np.array([b]))[0])
    return abs(found - q) <= 1e-4 * q + 1e-6


def critical_approach(activation: str | Activation, bias_variance: float = 0.0) -> float:
    """Return beta of 1 - c_l ~ beta / l: how slowly samples become parallel on the critical line of a smooth f.

    beta = 2 E f'(s)^2 / (q E f''(s)^2).

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, the activation has no second derivative or has kinks (rays: see
        `ray_approach`), or sigma_b = 0 and f(0) = 0, where q is 0 and samples keep their angles.

    Notes
    -----
    Hayou, Doucet & Rousseau 2019 (arXiv:1902.06853), proposition 3, for twice differentiable f: it follows from
    c_(l+1) = c_l + (1 - c_l)^2 sigma_w^2 q E f''^2 / 2 and chi = 1.

    Examples
    --------
    >>> round(critical_approach("tanh", 0.05), 8)
    6.17112614
    """
    chosen = activations.activation(activation)
    if chosen.kinks or chosen.second_derivative is None:
        raise ValueError(f"activation must be smooth, with a second derivative, not {str(chosen)!r}")
    q = _critical_variance(chosen, bias_variance)
    if q == 0.0:
        raise ValueError(
            f"bias_variance must be > 0 where f(0) = 0, as of {str(chosen)!r}: q is 0 on the critical line"
        )
    at = quadrature.normal(chosen, np.array([math.sqrt(q)]))
    second = np.array([chosen.evaluate("second_derivative", s) for s in at.x.flat]).reshape(at.x.shape)
    return float(2.0 * moments(chosen, q).derivative_mean_square / (q * at.mean(second**2, 1)[0]))


def ray_approach(activation: str | Activation) -> float:
    """Return the limit of l^2 (1 - c_l) for f that is two rays from the origin, at its critical point.

    Raises
    ------
    TypeError, ValueError
        If the activation is not positively homogeneous, or is a straight line, which keeps angles.

    Notes
    -----
    The map is c + s (1 - c)^(3/2) near 1, s = 2 sqrt(2) / (3 pi) (a - b)^2 / (a^2 + b^2) for slopes a and b, so the
    limit is 4 / s^2: 9 pi^2 / 2 for ReLU (Hayou et al. 2019, proposition 1).

    Examples
    --------
    >>> round(ray_approach("relu") / math.pi**2, 12)
    4.5
    """
    chosen = activations.activation(activation)
    if not chosen.positively_homogeneous or chosen.asymptotes is None:
        raise ValueError(f"activation must be two rays from the origin, not {str(chosen)!r}")
    (below, _), (above, _) = chosen.asymptotes
    if below == above:
        raise ValueError(f"activation must bend at 0, not {str(chosen)!r}")
    bend = 2.0 * math.sqrt(2.0) / (3.0 * math.pi) * (above - below) ** 2 / (above**2 + below**2)
    return 4.0 / bend**2
