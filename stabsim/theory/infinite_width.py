"""What the quantities of a task tend to as all widths go to infinity, for every activation: mean field.

Pre-activations become Gaussian and layers self-averaging (Poole et al. 2016, arXiv:1606.05340), gradients independent
of the forward pass (Schoenholz et al. 2017, arXiv:1611.01232; Yang 2020, arXiv:2006.14548). A net of finite width
differs by terms in depth / width, so these are limits to look at, not laws to be held to an interval.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stabsim.activations import Activation, fingerprint
from stabsim.task import Task
from stabsim.theory import quadrature
from stabsim.theory.exact import HARMLESS, layer_scales, zero_where
from stabsim.theory.gaussian import GaussianMoments, at_correlation, signal_moments
from stabsim.theory.jacobian import slope_variation
from stabsim.theory.jacobian_spectrum import squared_singular_value_edge

Floats = NDArray[np.float64]

_CENTERED = ("normal", "uniform", "truncated_normal", "orthogonal")
SMALLEST_VARIANCE = 1e-190  # below, squares of signals leave float64
LOG10_E = math.log10(math.e)
SMALLEST_SQUARE = 1e-300  # below, float64 loses digits


def predict_wide(task: Task, quantity: str) -> Floats:
    """Return the limit of a quantity at every layer, (depth + 1,), as widths go to infinity; NaN where none is known.

    Fan-ins times weight variances, ratios of widths and biases are kept. There is no limit for weights that are not
    random, for gradients where the output gradient is given (it makes f' and W depend on each other), and where a
    variance leaves float64.

    Examples
    --------
    >>> from stabsim.network import Network
    >>> from stabsim.arguments import make_task
    >>> task = make_task(Network((100,) * 4, "tanh", "lecun_normal"))
    >>> predict_wide(task, "activation_mean_square").round(4)
    array([1.    , 0.3943, 0.2365, 0.1667])
    """
    return WideLimit(task).predict(quantity)


@functools.lru_cache(maxsize=4096)  # nets with laws of one variance, in studies, pass the same
def _moments_of_one(activation: Activation, _fingerprint: str, variance: float) -> GaussianMoments[Floats]:
    """Return the moments of one row; by the fingerprint, too: what a user's function refers to may have changed."""
    return signal_moments(activation, np.array([variance]))


class WideLimit:
    """Means over a layer, for each row of given inputs, (layers, rows); layer 0 is the input."""

    @np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
    def __init__(self, task: Task) -> None:
        network = task.network
        self.task = task
        self.widths = np.array(network.widths, np.float64)
        rows = task.inputs
        squares = np.ones(1) if rows is None else np.square(rows).mean(axis=1)
        shape = (len(self.widths), len(squares))
        self.q, self.mean, self.square, self.passed = (np.full(shape, np.nan) for _ in range(4))
        self.mean[0] = 0.0 if rows is None else rows.mean(axis=1)
        self.square[0] = squares
        if rows is not None:  # a row that is not 0 whose square is
            self.square[0, rows.any(axis=1) & (squares == 0.0)] = np.nan
        gamma, bias_std = layer_scales(network)
        self.biases = bias_std**2
        self.weights = np.concatenate([[np.nan], self.widths[:-1] * gamma[1:]])  # fan-in times weight variance
        self.back = self.widths * gamma  # fan-out times weight variance
        skip = network.skip
        self.starts = network.shortcuts
        self.shortcut, self.branch = map(np.float64, (skip.shortcut, skip.branch) if skip else (0.0, 1.0))
        self.between = skip is not None and skip.activation == "between"
        self.known = task.features - HARMLESS <= {"skip"} and (skip is None or skip.activation in ("inside", "between"))
        if self.known:
            self._go_forward(network.activation)

    @np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
    def predict(self, quantity: str) -> Floats:
        """Return the limit of a quantity at every layer, (depth + 1,); NaN where none is known."""
        law = _LIMITS.get(quantity)
        if law is None or not self.known or self.task.network.weights.law not in _CENTERED:
            return np.full(len(self.widths), np.nan)
        values = np.asarray(law(self), np.float64)
        return np.where(np.isfinite(values), values, np.nan)

    def _go_forward(self, activation: Activation) -> None:
        """Fill in layer after layer, as far as variances can be held; a fixed point is not computed again."""
        found: GaussianMoments[Floats] | None = None
        known_by = fingerprint(activation)
        for layer in range(1, len(self.widths)):
            q = self.weights[layer] * self.square[layer - 1] + self.biases[layer]
            self.q[layer] = q
            if not np.all((q == 0.0) | ((q >= SMALLEST_VARIANCE) & (q <= quadrature.LARGEST_VARIANCE))):
                return
            if found is None or not np.array_equal(q, self.q[layer - 1]):
                try:
                    found = (
                        _moments_of_one(activation, known_by, float(q[0]))
                        if len(q) == 1
                        else signal_moments(activation, q)
                    )
                except quadrature.QuadratureError:
                    return
            self.mean[layer], self.square[layer] = found.mean, found.mean_square
            self.passed[layer] = found.derivative_mean_square
            if self.starts[layer] >= 0:
                self._add_shortcut(layer)

    def _add_shortcut(self, layer: int) -> None:
        """Add the signal at the block's start to what a branch has become: uncorrelated but for their means."""
        start, a, c = self.starts[layer], self.branch, self.shortcut
        if self.between:
            self.mean[layer], self.square[layer], self.passed[layer] = 0.0, self.q[layer], 1.0
        crossed = 2.0 * a * c * self.mean[start] * self.mean[layer]
        self.square[layer] = c**2 * self.square[start] + crossed + a**2 * self.square[layer]
        self.mean[layer] = c * self.mean[start] + a * self.mean[layer]

    @functools.cached_property
    def log10_gradients(self) -> tuple[Floats, Floats]:
        """Return log10 of the mean squares of ds and of dz, (layers, rows)."""
        ds, dz = np.full_like(self.q, np.nan), np.full_like(self.q, np.nan)
        if self.task.output_gradient is not None:
            return ds, dz
        passed, back = np.log10(self.passed), np.log10(self.back)
        scaled, kept = np.log10(np.square([self.branch, self.shortcut]))
        dz[-1] = 0.0
        waiting = np.full_like(self.q, -np.inf)
        for layer in range(len(ds) - 1, 0, -1):
            start = self.starts[layer]
            ds[layer] = dz[layer] + passed[layer]
            if start >= 0:
                ds[layer] += scaled
                waiting[start] = dz[layer] + kept
            dz[layer - 1] = ds[layer] + back[layer]
            if np.any(waiting[layer - 1] > -np.inf):
                dz[layer - 1] = LOG10_E * np.logaddexp(dz[layer - 1] / LOG10_E, waiting[layer - 1] / LOG10_E)
        return ds, dz

    @property
    def gradients(self) -> tuple[Floats, Floats]:
        """Return the mean squares of ds and of dz, (layers, rows); NaN where float64 does not hold them."""
        powers = (10.0**each for each in self.log10_gradients)
        ds, dz = (np.where((each == 0.0) | (each > SMALLEST_SQUARE), each, np.nan) for each in powers)
        return ds, dz

    @functools.cached_property
    def log10_jacobians(self) -> Floats:
        """Return log10 of the mean square of the singular values of dz_L/dz_l, (layers, rows); W and f' are free."""
        steps = np.log10(self.passed[1:]) + np.log10(self.back[1:, None])
        sums = np.concatenate([np.cumsum(steps[::-1], axis=0)[::-1], np.zeros((1, self.q.shape[1]))])
        return np.asarray(sums + np.log10(self.widths / np.minimum(self.widths, self.widths[-1]))[:, None])

    @functools.cached_property
    def spreads(self) -> Floats:
        """Return the relative variance of their squares, (layers,); of samples of one kind.

        With r = tr (J J^T)^2 n / (tr J J^T)^2 and m inputs, n units, a layer makes it r n/m + 1 (independent weights),
        r n/m (orthogonal, n >= m) or r n/m + 1 - n/m (orthogonal, n < m), and f' adds its `slope_variation`.
        """
        activation, widths, q = self.task.network.activation, self.widths, self.q[1:, 0]
        alike = activation.positively_homogeneous or not np.ptp(self.q[1:], axis=1).any()
        if not (alike and np.all((q > 0.0) & np.isfinite(q))):
            return np.full(len(widths), np.nan)
        variation = {each: slope_variation(activation, each) for each in dict.fromkeys(q.tolist())}
        orthogonal = self.task.network.weights.law == "orthogonal"
        found = np.zeros(len(widths))
        for layer in range(len(widths) - 1):
            ratio = 1.0
            for above in range(layer, len(widths) - 1):
                share = widths[above + 1] / widths[above]
                ratio = share * ratio + (max(1.0 - share, 0.0) if orthogonal else 1.0) + variation[float(q[above])]
            found[layer] = min(widths[layer] / widths[-1], 1.0) * ratio - 1.0
        return found

    @functools.cached_property
    def log10_largest(self) -> Floats:
        """Return log10 of the largest singular value, (layers,): of one width, f being linear or a ReLU."""
        activation, weights = self.task.network.activation, self.task.network.weights.law
        slopes = activation.asymptotes if activation.positively_homogeneous else None
        if np.ptp(self.widths) > 0 or slopes is None or not (slopes[0] == slopes[1] or slopes[0][0] == 0.0):
            return np.full(len(self.widths), np.nan)
        kind = "linear" if slopes[0] == slopes[1] else "relu"
        law = "orthogonal" if weights == "orthogonal" else "normal"
        edges = [squared_singular_value_edge(depth, kind, law) for depth in range(len(self.widths) - 1, 0, -1)]
        return np.asarray(0.5 * (np.log10([*edges, 1.0]) + self.log10_jacobians[:, 0]))

    @functools.cached_property
    def correlation(self) -> Floats:
        """Return the cosine of two samples' z: standard normal inputs, or two that are given."""
        found, rows = np.full(len(self.widths), np.nan), self.task.inputs
        if (
            self.task.network.skip is not None
            or self.task.batch < 2
            or (rows is not None and (len(rows) != 2 or not rows.any(axis=1).all()))
        ):
            return found
        found[0] = 0.0 if rows is None else rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])
        last = np.zeros(3)
        for layer in range(1, len(found)):
            p, q = self.q[layer, [0, -1]]
            before = math.sqrt(self.square[layer - 1, 0] * self.square[layer - 1, -1])
            c = (self.weights[layer] * found[layer - 1] * before + self.biases[layer]) / math.sqrt(p * q)
            size = math.sqrt(self.square[layer, 0] * self.square[layer, -1])
            if not (math.isfinite(c) and size > 0.0):
                break
            now = np.array([p, q, min(max(c, -1.0), 1.0)])
            if np.allclose(now, last, rtol=1e-13, atol=1e-15):  # everything has come to rest
                found[layer] = found[layer - 1]
            else:
                try:
                    found[layer] = at_correlation(self.task.network.activation, *map(float, now))[0] / size
                except quadrature.QuadratureError:
                    break
            last = now
        return found


def _log10_norm(limit: WideLimit, log10_squares: Floats, sizes: Floats) -> Floats:
    """Return log10 of the norm of a row: batches of given rows mix norms, so one sample or rows that are alike."""
    if limit.task.batch > 1 and np.ptp(limit.square[0]) > 0.0:
        return np.full(len(limit.widths), np.nan)
    return np.asarray(0.5 * (log10_squares.mean(axis=1) + np.log10(sizes)))


def _log10_weight_gradient(limit: WideLimit) -> Floats:
    """Return log10 of the mean square of an entry of dW of one sample, (layers, rows)."""
    squares = np.full_like(limit.q, np.nan)
    if limit.task.batch == 1:
        squares[1:] = np.log10(limit.square[:-1]) + limit.log10_gradients[0][1:]
    return squares


def _variance(limit: WideLimit) -> Floats:
    return np.asarray(limit.square.mean(axis=1) - limit.mean.mean(axis=1) ** 2)


_LIMITS: dict[str, Callable[[WideLimit], Floats]] = {
    "preactivation_mean": lambda limit: zero_where(limit.q.mean(axis=1)),
    "preactivation_mean_square": lambda limit: limit.q.mean(axis=1),
    "preactivation_variance": lambda limit: limit.q.mean(axis=1),
    "preactivation_kurtosis": lambda limit: 3.0 * np.square(limit.q).mean(axis=1) / limit.q.mean(axis=1) ** 2,
    "activation_mean": lambda limit: limit.mean.mean(axis=1),
    "activation_mean_square": lambda limit: limit.square.mean(axis=1),
    "activation_variance": _variance,
    "activation_log10_norm": lambda limit: _log10_norm(limit, np.log10(limit.square), limit.widths),
    "activation_correlation": lambda limit: limit.correlation,
    "derivative_mean_square": lambda limit: limit.passed.mean(axis=1),
    "activation_gradient_mean": lambda limit: zero_where(limit.gradients[1].mean(axis=1)),
    "activation_gradient_mean_square": lambda limit: limit.gradients[1].mean(axis=1),
    "activation_gradient_variance": lambda limit: limit.gradients[1].mean(axis=1),
    "activation_gradient_log10_norm": lambda limit: _log10_norm(limit, limit.log10_gradients[1], limit.widths),
    "preactivation_gradient_mean": lambda limit: zero_where(limit.gradients[0].mean(axis=1)),
    "preactivation_gradient_mean_square": lambda limit: limit.gradients[0].mean(axis=1),
    "preactivation_gradient_variance": lambda limit: limit.gradients[0].mean(axis=1),
    "preactivation_gradient_log10_norm": lambda limit: _log10_norm(limit, limit.log10_gradients[0], limit.widths),
    "weight_gradient_mean_square": lambda limit: (10.0 ** _log10_weight_gradient(limit)).mean(axis=1),
    "weight_gradient_log10_norm": lambda limit: _log10_norm(
        limit, _log10_weight_gradient(limit), np.concatenate([[np.nan], limit.widths[:-1] * limit.widths[1:]])
    ),
    "singular_value_mean_square": lambda limit: (10.0**limit.log10_jacobians).mean(axis=1),
    "singular_value_log10_norm": lambda limit: _log10_norm(
        limit, limit.log10_jacobians, np.minimum(limit.widths, limit.widths[-1])
    ),
    "singular_value_log10_largest": lambda limit: limit.log10_largest,
    "singular_value_spread": lambda limit: limit.spreads,
}
