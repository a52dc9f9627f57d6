"""The oracle: a net in NumPy and float64, each line a definition, nothing shared with the package."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

from tests import naive_stopping

Floats = NDArray[Any]
Statistics = dict[str, Callable[[Floats], float]]


@dataclass(frozen=True)
class Formula:
    """f and f', and the finite limits of f at -inf and +inf (None where there is none)."""

    f: Callable[[Floats], Floats]
    derivative: Callable[[Floats], Floats]
    low: float | None = None
    high: float | None = None


def _normal_density(x: Floats) -> Floats:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _cosh_power_minus_2(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return 1 / np.cosh(x) ** 2


def linear(alpha: float = 1.0, beta: float = 0.0) -> Formula:
    return Formula(lambda x: alpha * x + beta, lambda x: np.full_like(x, alpha))


def relu() -> Formula:
    return Formula(lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0), low=0.0)


def leaky_relu(slope: float = 0.01) -> Formula:
    return Formula(lambda x: np.where(x > 0, x, slope * x), lambda x: np.where(x > 0, 1.0, slope))


def elu(alpha: float = 1.0) -> Formula:
    def f(x: Floats) -> Floats:
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    return Formula(f, lambda x: np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))), low=-alpha)


def selu() -> Formula:
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    inner = elu(alpha)
    return Formula(lambda x: scale * inner.f(x), lambda x: scale * inner.derivative(x), low=-scale * alpha)


def gelu() -> Formula:
    return Formula(lambda x: x * ndtr(x), lambda x: ndtr(x) + x * _normal_density(x), low=0.0)


def gelu_tanh() -> Formula:
    def v(x: Floats) -> Floats:
        return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)

    def derivative(x: Floats) -> Floats:
        slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
        return 0.5 * (1 + np.tanh(v(x))) + 0.5 * x * _cosh_power_minus_2(v(x)) * slope

    return Formula(lambda x: 0.5 * x * (1 + np.tanh(v(x))), derivative, low=0.0)


def silu() -> Formula:
    return Formula(lambda x: x * expit(x), lambda x: expit(x) * (1 + x * expit(-x)), low=0.0)


def softplus() -> Formula:
    return Formula(lambda x: np.logaddexp(0, x), expit, low=0.0)


def sigmoid() -> Formula:
    return Formula(expit, lambda x: expit(x) * expit(-x), low=0.0, high=1.0)


def scaled_sigmoid() -> Formula:
    return Formula(lambda x: 4 * expit(x) - 2, lambda x: 4 * expit(x) * expit(-x), low=-2.0, high=2.0)


def tanh() -> Formula:
    return Formula(np.tanh, _cosh_power_minus_2, low=-1.0, high=1.0)


def lecun_tanh() -> Formula:
    return Formula(
        lambda x: 1.7159 * np.tanh(2 * x / 3),
        lambda x: 1.7159 * 2 / 3 * _cosh_power_minus_2(2 * x / 3),
        -1.7159,
        1.7159,
    )


def hard_tanh() -> Formula:
    return Formula(lambda x: np.clip(x, -1, 1), lambda x: np.where(np.abs(x) < 1, 1.0, 0.0), low=-1.0, high=1.0)


def relu6() -> Formula:
    return Formula(lambda x: np.clip(x, 0, 6), lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0), low=0.0, high=6.0)


def softsign() -> Formula:
    return Formula(lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2)


def error_function() -> Formula:
    return Formula(erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x), low=-1.0, high=1.0)


def sine() -> Formula:
    return Formula(np.sin, np.cos)


FORMULAS: dict[str, Callable[..., Formula]] = {
    "linear": linear,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "scaled_sigmoid": scaled_sigmoid,
    "tanh": tanh,
    "lecun_tanh": lecun_tanh,
    "hard_tanh": hard_tanh,
    "softsign": softsign,
    "erf": error_function,
    "sine": sine,
}


@dataclass(frozen=True)
class Net:
    """Every tensor of one net by layer, in the names of `stabsim.Trace`."""

    activation: list[Any]
    preactivation: list[Any]
    derivative: list[Any]
    activation_gradient: list[Any]
    preactivation_gradient: list[Any]
    weight: list[Any]
    bias: list[Any]
    weight_gradient: list[Any]
    seen: list[Any] = field(default_factory=list)  # by f, where there is f ...
    value: list[Any] = field(default_factory=list)  # ... and what it makes of it


@dataclass
class HiddenWeights:
    """The weights of one layer of many nets, of which is drawn only what is asked of them (Lu, arXiv:2101.07464).

    z W is asked first, once: it needs G = U W, U being an orthonormal basis of the rows of z. Given G, W is drawn
    anew for ds W^T, but only on the complement of U: with ``project=False``, wrongly, everywhere.
    """

    rng: np.random.Generator
    fans: tuple[int, int]
    std: float
    orthogonal: bool = False
    project: bool = True

    __array_ufunc__ = None  # so that z @ weights is asked here

    def __rmatmul__(self, z: Floats) -> Floats:
        """Return z W, for z (nets, batch, fan_in)."""
        z = self._padded(z)
        self.u = _row_basis(z)
        nets, rows, _ = self.u.shape
        self.g = self._drawn(nets, rows, self.fans[1]) * np.any(self.u, axis=2, keepdims=True)
        return self._scaled(z @ self.u.mT @ self.g, self.fans[1])

    @property
    def mT(self) -> _TransposedHiddenWeights:  # noqa: N802
        return _TransposedHiddenWeights(self)

    def times_transposed(self, ds: Floats) -> Floats:
        """Return ds W^T, for ds (nets, batch, fan_out)."""
        ds = self._padded(ds)
        known = ds @ self.g.mT
        root = _root(ds - known @ self.g if self.orthogonal else ds)
        fresh = self._drawn(len(root), root.shape[2], self.fans[0], self.u if self.project else None)
        return self._scaled(known @ self.u + root @ fresh, self.fans[0])

    def _drawn(self, nets: int, rows: int, width: int, beside: Floats | None = None) -> Floats:
        """Draw rows of normals, or orthonormal ones, within the complement of the rows of ``beside``."""
        drawn = self.rng.normal(size=(nets, rows, max(self.fans) if self.orthogonal else width))
        if beside is not None:
            drawn -= drawn @ beside.mT @ beside
        return _orthonormalized(drawn) if self.orthogonal else drawn

    def _padded(self, v: Floats) -> Floats:
        """Append zeros where W is a corner of a square orthogonal matrix."""
        return np.pad(v, ((0, 0), (0, 0), (0, max(self.fans) - v.shape[2]))) if self.orthogonal else v

    def _scaled(self, v: Floats, width: int) -> Floats:
        return self.std * (math.sqrt(max(self.fans)) if self.orthogonal else 1.0) * v[:, :, :width]


@dataclass
class _TransposedHiddenWeights:
    weights: HiddenWeights

    __array_ufunc__ = None

    def __rmatmul__(self, ds: Floats) -> Floats:
        return self.weights.times_transposed(ds)


def _row_basis(v: Floats) -> Floats:
    """Return orthonormal rows that span the rows of v, and rows of zeros where v has a lower rank."""
    _, sizes, rows = np.linalg.svd(v, full_matrices=False)
    return np.asarray(rows * (sizes > 1e-10 * sizes[:, :1])[:, :, None])


def _root(v: Floats) -> Floats:
    """Return M with M M^T = v v^T, whose last columns are 0 where v has a lower rank."""
    left, sizes, _ = np.linalg.svd(v, full_matrices=False)
    return np.asarray(left * sizes[:, None, :])


def _orthonormalized(rows: Floats) -> Floats:
    """Return orthonormal rows by QR with a positive diagonal of R: of normal rows, uniformly distributed ones."""
    q, r = np.linalg.qr(rows.mT)
    signs = np.sign(np.diagonal(r, axis1=1, axis2=2))
    return np.asarray((q * signs[:, None, :]).mT)


@dataclass(frozen=True)
class Normalization:
    """n = (s - mean) / sqrt(variance + epsilon) over the samples of each unit, or over the units of each sample."""

    kind: str
    epsilon: float

    def _parts(self, s: Floats) -> tuple[Floats, Floats]:
        """Return the deviations, and what to multiply them with; 0 where there are none to within rounding."""
        mean = 0.0 if self.kind == "rms" else self._mean(s)
        variance = self._mean((s - mean) ** 2)
        variance = np.where(variance <= (16 * 2.0**-52) ** 2 * (variance + mean**2), 0.0, variance)
        deviations = np.where(variance > 0, s - mean, 0.0)
        with np.errstate(divide="ignore"):
            return deviations, np.where(variance + self.epsilon > 0, 1 / np.sqrt(variance + self.epsilon), 0.0)

    def forward(self, s: Floats) -> Floats:
        deviations, scale = self._parts(s)
        return np.asarray(deviations * scale)

    def backward(self, s: Floats, g: Floats) -> Floats:
        """Return the gradient by s, given that by n."""
        deviations, scale = self._parts(s)
        through_mean = 0.0 if self.kind == "rms" else self._mean(g)
        return np.asarray(scale * (g - through_mean) - scale**3 * deviations * self._mean(g * deviations))

    def _mean(self, v: Floats) -> Floats:
        return np.asarray(np.mean(v, axis=-2 if self.kind == "batch" else -1, keepdims=True))


@dataclass(frozen=True)
class Identity:
    """No normalization."""

    def forward(self, s: Floats) -> Floats:
        return s

    def backward(self, s: Floats, g: Floats) -> Floats:
        return g


@dataclass(frozen=True)
class Blocks:
    """Shortcuts from the layers ``starts`` to the layers that they map to, and where f stands in a branch."""

    ends: dict[int, int]
    place: str = "inside"
    branch: float = 1.0
    shortcut: float = 1.0


def run(
    weights: Sequence[Any],
    biases: Sequence[Any],
    formula: Formula,
    inputs: Floats,
    gradient: Floats,
    normalization: Normalization | None = None,
    blocks: Blocks | None = None,
) -> Net:
    """Run one net forward and backward; item 0 of weights and biases stands for the input, and is None.

    With `HiddenWeights`, and nets first in every other array: many nets at once. ds is the gradient by z W + b.
    """
    norm: Any = normalization or Identity()
    blocks = blocks or Blocks({})
    a, c, place = blocks.branch, blocks.shortcut, blocks.place
    starts = {end: start for start, end in blocks.ends.items()}
    z: list[Any] = [inputs]
    s: list[Any] = [inputs]  # the stream of "before" begins with the inputs
    d: list[Any] = [None]
    seen_by_f: list[Any] = [None]
    values: list[Any] = [None]
    depth = len(weights) - 1
    for layer in range(1, depth + 1):
        f = z[-1] @ weights[layer] + biases[layer]
        there = layer in starts
        start = starts.get(layer, 0)
        if place == "before" and there:
            f = c * s[start] + a * f
        if place == "after" and there and normalization is None:
            f = c * z[start] + a * f
        s.append(f)
        seen = norm.forward(f)
        if place == "after" and there and normalization is not None:
            seen = c * z[start] + a * seen
        if place == "between" and there:
            z.append(c * z[start] + a * f)
            d.append(np.ones_like(f))
            seen_by_f.append(None)
            values.append(None)
        else:
            value = formula.f(seen)
            z.append(c * z[start] + a * value if place == "inside" and there else value)
            d.append(formula.derivative(seen))
            seen_by_f.append(seen)
            values.append(value)
    dz: list[Any] = [np.zeros_like(v) for v in z]
    by_s: list[Any] = [np.zeros_like(v) for v in z]  # by the stream
    ds: list[Any] = [None] * (depth + 1)
    dw: list[Any] = [None] * (depth + 1)
    dz[depth] = dz[depth] + gradient
    for layer in range(depth, 0, -1):
        there = layer in starts
        start = starts.get(layer, 0)
        if there and place in ("inside", "between"):
            dz[start] = dz[start] + c * dz[layer]
        g = dz[layer] * d[layer]
        if there and place == "after":
            dz[start] = dz[start] + c * g
        if there and place == "between":
            ds[layer] = a * g
        elif there and place == "before":
            by_s[layer] = by_s[layer] + norm.backward(s[layer], g)
            by_s[start] = by_s[start] + c * by_s[layer]
            ds[layer] = a * by_s[layer]
        else:
            ds[layer] = by_s[layer] + norm.backward(s[layer], a * g if there else g)
        dw[layer] = z[layer - 1].mT @ ds[layer]
        dz[layer - 1] = dz[layer - 1] + ds[layer] @ weights[layer].mT
    dz[0] = dz[0] + by_s[0]
    return Net(z, [None, *s[1:]], d, dz, ds, list(weights), list(biases), dw, seen_by_f, values)


def quantities(net: Any, formula: Formula, bound: float = 0.01, unit: float = 2.0**-52) -> dict[str, list[float]]:
    """Return every quantity of one net by layer, from its tensors; NaN where it does not exist."""
    found: dict[str, list[float]] = {}
    for tensor, statistics in STATISTICS.items():
        for statistic, function in statistics.items():
            found[f"{tensor}_{statistic}"] = [
                math.nan if matrix is None else function(matrix) for matrix in getattr(net, tensor)
            ]
    found["activation_saturated_fraction"] = saturated_fractions(net.preactivation, net.activation, formula, bound)
    found["derivative_saturated_fraction"] = [math.nan] + [
        sum(abs(v) < bound for v in d.flat) / d.size for d in net.derivative[1:]
    ]
    return found | naive_stopping.quantities(net, unit)


def saturated_fractions(seen: list[Any], values: list[Any], formula: Formula, bound: float = 0.01) -> list[float]:
    """Return the saturated share of f, by what it sees and makes of it; 0 where there is none, NaN for the input."""
    pairs = list(zip(seen, values, strict=True))[1:]
    return [math.nan] + [0.0 if s is None else saturated_fraction(s, z, formula, bound) for s, z in pairs]


def mean(v: Floats) -> float:
    return float(np.sum(v) / v.size)


def mean_square(v: Floats) -> float:
    return float(np.sum(v * v) / v.size)


def variance(v: Floats) -> float:
    return mean_square(v - mean(v))


def kurtosis(v: Floats) -> float:
    return mean_square((v - mean(v)) ** 2) / variance(v) ** 2 if variance(v) > 0 else math.nan


def log10_norm(v: Floats) -> float:
    """Return log10 of the root mean square, over samples, of the row norm."""
    squares = [math.fsum(x * x for x in row) for row in v]
    return 0.5 * math.log10(math.fsum(squares) / len(squares)) if any(squares) else -math.inf


def log10_frobenius_norm(v: Floats) -> float:
    squares = math.fsum(x * x for x in v.flat)
    return 0.5 * math.log10(squares) if squares > 0 else -math.inf


def zero_fraction(v: Floats) -> float:
    return sum(bool(x == 0) for x in v.flat) / v.size


def dead_row_fraction(v: Floats) -> float:
    return sum(bool(np.all(row == 0)) for row in v) / len(v)


def dead_column_fraction(v: Floats) -> float:
    return dead_row_fraction(v.T)


def one_signed_column_fraction(v: Floats) -> float:
    """Return the share, of the columns that are not all 0, of those without a change of sign."""
    alive = [column for column in v.T if np.any(column != 0)]
    return sum(bool(np.all(c >= 0) or np.all(c <= 0)) for c in alive) / len(alive) if alive else math.nan


def correlation(v: Floats) -> float:
    """Return the mean cosine of samples 1 and 2, 3 and 4, ... but for pairs with a zero sample."""
    pairs = [(v[i], v[i + 1]) for i in range(0, len(v) - 1, 2) if np.any(v[i]) and np.any(v[i + 1])]
    cosines = [float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) for a, b in pairs]
    return sum(cosines) / len(cosines) if cosines else math.nan


def saturated_fraction(s: Floats, z: Floats, formula: Formula, bound: float) -> float:
    """Return the share of units within the bound of the limit of f on their side of 0, to which 0 is on the left."""
    count = 0
    for x, value in zip(s.flat, z.flat, strict=True):
        limit = formula.high if x > 0 else formula.low
        count += limit is not None and abs(value - limit) < bound
    return count / s.size


_POWERS: Statistics = {"mean": mean, "mean_square": mean_square, "variance": variance, "kurtosis": kurtosis}
_DEAD: Statistics = {
    "zero_fraction": zero_fraction,
    "dead_sample_fraction": dead_row_fraction,
    "dead_unit_fraction": dead_column_fraction,
}
_GRADIENT: Statistics = {
    "mean": mean,
    "mean_square": mean_square,
    "variance": variance,
    "log10_norm": log10_norm,
    "zero_fraction": zero_fraction,
}
STATISTICS: dict[str, Statistics] = {
    "preactivation": _POWERS,
    "activation": {**_POWERS, **_DEAD, "log10_norm": log10_norm, "correlation": correlation},
    "derivative": {**_DEAD, "mean_square": mean_square},
    "activation_gradient": _GRADIENT,
    "preactivation_gradient": _GRADIENT,
    "weight_gradient": {
        "mean_square": mean_square,
        "log10_norm": log10_frobenius_norm,
        "zero_fraction": zero_fraction,
        "dead_row_fraction": dead_row_fraction,
        "dead_column_fraction": dead_column_fraction,
        "one_signed_column_fraction": one_signed_column_fraction,
    },
}


_OF_MANY: dict[str, Callable[[Floats], Floats]] = {
    "mean": lambda v: np.mean(v, axis=(1, 2)),
    "mean_square": lambda v: np.mean(v * v, axis=(1, 2)),
    "zero_fraction": lambda v: np.mean(v == 0, axis=(1, 2)),
}


def quantities_of_many(net: Net) -> dict[str, Floats]:
    """Return means, mean squares and shares of zeros of many nets, (nets, layers); NaN where there is no tensor."""
    nowhere = np.full(len(net.activation[0]), math.nan)
    found = {}
    for tensor, (name, function) in product(STATISTICS, _OF_MANY.items()):
        if name in STATISTICS[tensor]:
            columns = [nowhere if v is None else function(v) for v in getattr(net, tensor)]
            found[f"{tensor}_{name}"] = np.stack(columns, axis=1)
    return found


def ensemble(statistic: str, values: Floats) -> tuple[float, float]:
    """Return the statistic over all nets' values (nets, ...), with its delete-one-net jackknife standard error."""
    nets = len(values)
    function = _POWERS[statistic]
    left_out = np.array([function(np.delete(values, net, axis=0)) for net in range(nets)])
    error = math.sqrt((nets - 1) / nets * np.sum((left_out - left_out.mean()) ** 2))
    return function(values), error


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Return the mean of one number per net and its standard error; NaN and inf are left out."""
    kept = values[np.isfinite(values)]
    return float(np.mean(kept)), float(np.std(kept, ddof=1) / math.sqrt(len(kept)))
