"""Clipping of dW: what a clipped dW is, from one pass over dW as it is, which itself is left alone.

dW comes as ``value * 2**exponent``, and the bound is a true one, m 2^k. What is clipped is in units of its own, so that
neither a bound far below dW nor one far above it is lost: that of the bound where the norm is the bound, and otherwise
that of dW, or ``2**(k + FAR)`` if dW is larger than that.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import record as r
from stabsim.kernels.compile import REASSOCIATE, kernel, wide_vectors
from stabsim.kernels.signature import ADAPTIVE, NORM, VALUE
from stabsim.kernels.views import flat

FAR = 400  # powers of two by which what is clipped may exceed the bound: the square of the bound is a normal number


@kernel()
def clip(settings, row, dw, exponent, w, w_exponent):
    """Write what becomes of dW; of the norm of all layers together `finish_global_norm` does when all are known."""
    if settings.kind == VALUE:
        _by_value(settings, row, dw, exponent)
    elif settings.kind == ADAPTIVE:
        _by_unit(settings, row, dw, exponent, w, w_exponent)
    else:
        total, squares = _sums(flat(dw))
        _write(row, 0.0, total / dw.size, squares / dw.size, exponent, 1.0 if squares > 0 else math.nan)
        if settings.kind == NORM:
            _by_factor(row, settings.bound, squares, exponent)


@kernel()
def _write(row, clipped, mean, square, exponent, cosine):
    row[r.CLIPPED_FRACTION] = clipped
    row[r.CLIPPED_GRADIENT + r.M1] = mean
    row[r.CLIPPED_GRADIENT + r.M2] = square
    row[r.CLIPPED_GRADIENT + r.SQUARE] = square
    row[r.CLIPPED_GRADIENT + r.EXPONENT] = exponent
    row[r.CLIPPED_COSINE] = cosine


@kernel()
def _by_factor(row, bound, squares, exponent):
    """Multiply what is in a row so that a norm of ``sqrt(squares) * 2**exponent`` becomes the bound, if it is larger.

    ``squares`` may be those of more than this row.
    """
    m, k = math.frexp(bound)
    norm = math.sqrt(squares)
    if norm > math.ldexp(m, k - exponent):
        row[r.CLIPPED_FRACTION] = 1.0
        row[r.CLIPPED_GRADIENT + r.M1] *= m / norm
        row[r.CLIPPED_GRADIENT + r.M2] *= m / norm * (m / norm)
        row[r.CLIPPED_GRADIENT + r.SQUARE] *= m / norm * (m / norm)
        row[r.CLIPPED_GRADIENT + r.EXPONENT] += k - exponent


@kernel()
def finish_global_norm(settings, rows, widths):
    """Multiply what is in the rows of all layers so that their norm together is the bound, if it is larger."""
    unit = -np.inf
    for l in range(1, widths.size):
        if rows[l, r.CLIPPED_GRADIENT + r.SQUARE] > 0:
            unit = max(unit, rows[l, r.CLIPPED_GRADIENT + r.EXPONENT])
    if unit == -np.inf:
        return
    squares = 0.0
    for l in range(1, widths.size):
        shift = max(rows[l, r.CLIPPED_GRADIENT + r.EXPONENT] - unit, -1000.0)
        squares += widths[l - 1] * widths[l] * math.ldexp(rows[l, r.CLIPPED_GRADIENT + r.SQUARE], 2 * int(shift))
    for l in range(1, widths.size):
        _by_factor(rows[l], settings.bound, squares, np.int64(unit))


@kernel(fastmath=REASSOCIATE)
def _sums(values):
    """Return the sum and the sum of squares."""
    wide_vectors()
    total = 0.0
    squares = 0.0
    for i in range(values.size):
        x = np.float64(values[i])
        total += x
        squares += x * x
    return total, squares


@kernel()
def _by_value(settings, row, dw, exponent):
    k = math.frexp(settings.bound)[1]
    unit = min(exponent, np.int64(k + FAR))
    bound = math.ldexp(settings.bound, -unit)
    lift = math.ldexp(1.0, min(exponent - unit, 1000))
    clipped, before, total, squares, both = _clip_values(flat(dw), lift, bound)
    _write(row, clipped / dw.size, total / dw.size, squares / dw.size, unit, _cosine(before, squares, both))


@kernel()
def _cosine(xx, yy, xy):
    """Return the cosine from the inner products, NaN if one of both is 0."""
    return xy / (math.sqrt(xx) * math.sqrt(yy)) if xx > 0 and yy > 0 else math.nan


@kernel(fastmath=REASSOCIATE)
def _clip_values(values, lift, bound):
    """Clip x lift to -bound .. bound; return how many are, and the sums of x^2, y, y^2 and x y, y being the result."""
    wide_vectors()
    clipped = np.int64(0)
    before = 0.0
    total = 0.0
    squares = 0.0
    both = 0.0
    for i in range(values.size):
        x = np.float64(values[i])
        y = x * lift
        clipped += np.int64(1) if abs(y) > bound else np.int64(0)
        y = bound if y > bound else y
        y = -bound if y < -bound else y
        before += x * x
        total += y
        squares += y * y
        both += x * y
    return clipped, before, total, squares, both


@kernel()
def _by_unit(settings, row, dw, exponent, w, w_exponent):
    """Clip each column of dW by the norm of that column of W."""
    k = math.frexp(settings.bound * settings.epsilon)[1]
    unit = min(exponent, np.int64(k + FAR))
    lift = math.ldexp(1.0, min(exponent - unit, 1000))
    clipped, before, total, squares, both = 0, 0.0, 0.0, 0.0, 0.0
    for j in range(dw.shape[1]):
        column, g, own = 0.0, 0.0, 0.0
        for i in range(dw.shape[0]):
            x = np.float64(dw[i, j])
            v = np.float64(w[i, j])
            column += x
            g += x * x
            own += v * v
        size = max(math.ldexp(math.sqrt(own), w_exponent), settings.epsilon)
        bound = math.ldexp(settings.bound * size, -unit)
        norm = math.sqrt(g)
        factor = lift
        if norm * lift > bound:
            clipped += 1
            factor = bound / norm
        before += g
        total += factor * column
        squares += factor * norm * (factor * norm)
        both += factor * g
    _write(row, clipped / dw.shape[1], total / dw.size, squares / dw.size, unit, _cosine(before, squares, both))
