"""Exact Hessians of the loss of fully connected nets, point by point.

To change W of layer l by V changes s_l by z_(l-1) V. So the Hessian by the weights of layers l <= m is made of that by
added pre-activations, Q = d2 loss / ds_l ds_m of each sample, and of D = dz_(m-1) / ds_l, since what is added to s_m
depends on z_(m-1):

    d2 loss / dW_l[i, j] dW_m[p, q] = sum over samples of z_(l-1)[i] (z_(m-1)[p] Q[j, q] + D[j, p] ds_m[q]),

without D where l = m. Both are pulled back like gradients: for m > l, Q_l = f'(s_l) W_(l+1) Q_(l+1), and likewise D;
Q_ll = f' W Q W^T f' + diag(dz f''). So each unit j of each layer takes one product of z^T with a matrix (samples,
parameters from layer l on). Where the gradient by the outputs is put to 0, what is left is the Gauss-Newton part.
(Bishop 1992, Neural Computation 4, who has the recursion; here by samples, so that products are matrices'.)
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import boolean, float64, void

from stabsim.kernels import products
from stabsim.kernels import surface as sf
from stabsim.kernels.compile import CONTRACT, atom, kernel
from stabsim.kernels.views import as_matrix, borrow, stretch


@kernel()
def _columns(problem):
    """Return where Q of each layer starts among the columns of a unit, D behind it, and how many there are from l on.

    The last layer comes first, so that each layer adds columns at the end. It has no D.
    """
    depth = problem.widths.size - 1
    at, ends = np.zeros(depth + 1, np.int64), np.zeros(depth + 1, np.int64)
    end = np.int64(0)
    for l in range(depth, 0, -1):
        at[l] = end
        end += problem.widths[l] * (2 if l < depth else 1)
        ends[l] = end
    return at, ends


@atom
def _of_outputs(problem, signals, rows, pulled):
    """Write Q of the last layer, (units, rows, units)."""
    depth = problem.widths.size - 1
    d, bend = sf.part(problem, signals.d, depth, rows), sf.part(problem, signals.bend, depth, rows)
    units = problem.widths[depth]
    out = as_matrix(stretch(pulled, np.int64(0), units * rows * units), units * rows, units)
    for j in range(units):
        for b in range(rows):
            row = out[j * rows + b]
            for q in range(units):
                row[q] = d[b, j] * signals.curvature[b, j, q] * d[b, q]
            row[j] += bend[b, j]


@kernel(fastmath=CONTRACT)
def _scale_rows(product, factors, j, width, out):
    """Write the rows of unit j, one a sample, times f' of the sample, into wider rows."""
    for b in range(factors.shape[0]):
        by, source, row = factors[b, j], product[b], out[b]
        for v in range(width):
            row[v] = by * source[v]


@atom
def _pull_back(problem, signals, vector, at, l, rows, columns, ends, above, below, work):
    """Write Q and D of layer l, (units, rows, columns), from those of the layer above."""
    units, upper, width, wide = problem.widths[l], problem.widths[l + 1], ends[l + 1], ends[l]
    d, bend = sf.part(problem, signals.d, l, rows), sf.part(problem, signals.bend, l, rows)
    weights = as_matrix(stretch(vector, at[l + 1], units * upper), units, upper)
    product = as_matrix(stretch(work, np.int64(0), units * rows * width), units, rows * width)
    np.dot(weights, as_matrix(stretch(above, np.int64(0), upper * rows * width), upper, rows * width), product)
    first = columns[l + 1]
    for j in range(units):
        out = as_matrix(stretch(below, j * rows * wide, rows * wide), rows, wide)
        _scale_rows(as_matrix(product[j], rows, width), d, j, width, out)
        for b in range(rows):
            row = out[b]
            for q in range(units):
                total = 0.0
                for k in range(upper):
                    total += row[first + k] * weights[q, k]
                row[width + q] = total * d[b, q]
                row[width + units + q] = 0.0
            row[width + j] += bend[b, j]
            row[width + units + j] = d[b, j]


@kernel(fastmath=CONTRACT)
def _meet(z, pulled, first, width, inner, units, delta, out, place):
    """Write what the rows of a unit meet in layer m: z[p] Q[q] + D[p] ds[q].

    D starts at ``inner`` and has as many numbers as there are units p, which a bias is not one of.
    """
    rows, fan_in = z.shape
    for b in range(rows):
        row, target, ds = pulled[b], out[b], delta[b]
        for p in range(fan_in):
            x, start = z[b, p], place + p * width
            y = row[inner + p] if p < units else 0.0
            for q in range(width):
                target[start + q] = x * row[first + q] + y * ds[q]


@atom
def _write_rows(problem, signals, at, l, rows, columns, ends, pulled, work, out):
    """Write the rows of the Hessian of layer l, from its own columns on: of one unit after another."""
    depth, end = problem.widths.size - 1, at[problem.widths.size]
    size, units = end - at[l], problem.widths[l]
    met = as_matrix(stretch(work, np.int64(0), rows * size), rows, size)
    z = sf.inputs_of(problem, signals, l - 1, rows)
    for j in range(units):
        unit = as_matrix(stretch(pulled, j * rows * ends[l], rows * ends[l]), rows, ends[l])
        for m in range(l, depth + 1):
            inner = problem.widths[m - 1] if m > l else np.int64(0)  # units that what is added here reaches
            inputs, delta = sf.inputs_of(problem, signals, m - 1, rows), sf.part(problem, signals.delta, m, rows)
            place = columns[m - 1] + inner
            _meet(inputs, unit, columns[m], problem.widths[m], place, inner, delta, met, at[m] - at[l])
        products.write_matrix(z.T, met, out[at[l] + j : at[l + 1] : units, at[l] :])


@kernel()
def _mirror(matrix):
    """Copy the upper triangle to the lower one, in blocks that stay in the cache."""
    step = 32
    for first in range(0, matrix.shape[0], step):
        for left in range(first, matrix.shape[0], step):
            for i in range(first, min(first + step, matrix.shape[0])):
                for j in range(max(left, i + 1), min(left + step, matrix.shape[0])):
                    matrix[j, i] = matrix[i, j]


def _hessians(
    widths, biased, functions,
    inputs, targets, chosen, points, whole, hessians
):  # fmt: skip
    problem = sf.make_problem(widths, biased, functions)
    at, rows, depth = sf.starts(problem), chosen.shape[1], problem.widths.size - 1
    columns, ends = _columns(problem)
    signals, y = sf.allocate(problem, rows), np.empty((rows, targets.shape[1]))
    widest = problem.widths[1:].max()
    above, below = np.empty(widest * rows * ends[1]), np.empty(widest * rows * ends[1])
    work = np.empty(rows * max(at[depth + 1], widest * ends[1]))
    sf.gather(problem, signals, inputs, targets, chosen[0], y)
    for i in range(points.shape[0]):
        vector, out = borrow(points)[i], borrow(hessians)[i]
        sf.differentiate(problem, signals, y, vector, at, whole)
        _of_outputs(problem, signals, rows, above)
        _write_rows(problem, signals, at, depth, rows, columns, ends, above, work, out)
        for l in range(depth - 1, 0, -1):
            _pull_back(problem, signals, vector, at, l, rows, columns, ends, above, below, work)
            _write_rows(problem, signals, at, l, rows, columns, ends, below, work, out)
            above, below = below, above
        _mirror(out)


@functools.cache
def hessian() -> Any:
    """Return the compiled function that writes Hessians (points, P, P), the whole of them or the Gauss-Newton part."""
    arguments = *sf.PROBLEM, *sf.DATA, float64[:, ::1], boolean, float64[:, :, ::1]
    return kernel(void(*arguments), cache="hessian")(_hessians)
