"""Products of Hessians with vectors, without the Hessian: all signals with their changes along the vector.

Pearlmutter 1994, Neural Computation 6: the change of the gradient along a vector costs about two gradients. Where the
gradient by the outputs is put to 0, what is left is the Gauss-Newton part (Schraudolph 2002, Neural Computation 14).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import boolean, float64, void

from stabsim.kernels import blocks
from stabsim.kernels import surface as sf
from stabsim.kernels.compile import CONTRACT, atom, kernel
from stabsim.kernels.views import borrow, flat


@kernel(fastmath=CONTRACT)
def _add_products(x, y, out):
    """Add products element by element."""
    for i in range(out.size):
        out[i] += x[i] * y[i]


@kernel()
def _add(values, out):
    """Add element by element."""
    for i in range(out.size):
        out[i] += values[i]


@atom
def _change_forward(problem, signals, changes, vector, direction, at, rows):
    """Write the change of s and z of all layers; inputs do not change."""
    depth = problem.widths.size - 1
    blocks.fill(flat(sf.inputs_of(problem, changes, 0, rows)), 0.0)
    for l in range(1, depth + 1):
        ds, dz = sf.part(problem, changes.s, l, rows), sf.part(problem, changes.d, l, rows)
        np.dot(sf.inputs_of(problem, signals, l - 1, rows), sf.matrix(problem, direction, at, l), ds)
        if l > 1:
            np.dot(sf.inputs_of(problem, changes, l - 1, rows), sf.matrix(problem, vector, at, l), dz)
            _add(flat(dz), flat(ds))
        blocks.copy(flat(ds), flat(dz))
        blocks.multiply_in_place(flat(dz), flat(sf.part(problem, signals.d, l, rows)))
        if l < depth:
            sf.widen(dz, sf.inputs_of(problem, changes, l, rows), 0.0)


@atom
def _change_of_gradient(problem, signals, changes, rows):
    """Write the change of the gradient by the outputs: curvature times their change, which is in d."""
    depth = problem.widths.size - 1
    dz, out = sf.part(problem, changes.d, depth, rows), sf.part(problem, changes.delta, depth, rows)
    for b in range(rows):
        for j in range(out.shape[1]):
            total = 0.0
            for q in range(out.shape[1]):
                total += signals.curvature[b, j, q] * dz[b, q]
            out[b, j] = total


@atom
def _change_back(problem, signals, changes, vector, direction, at, rows, product):
    """Write the change of the gradient by all parameters."""
    depth = problem.widths.size - 1
    for l in range(depth, 0, -1):
        delta, change = sf.part(problem, signals.delta, l, rows), sf.part(problem, changes.delta, l, rows)
        blocks.multiply_in_place(flat(change), flat(sf.part(problem, signals.d, l, rows)))
        bend, ds = flat(sf.part(problem, signals.bend, l, rows)), flat(sf.part(problem, changes.s, l, rows))
        _add_products(bend, ds, flat(change))
        out, other = sf.matrix(problem, product, at, l), sf.matrix(problem, changes.c, at, l)
        np.dot(sf.inputs_of(problem, signals, l - 1, rows).T, change, out)
        if l > 1:
            np.dot(sf.inputs_of(problem, changes, l - 1, rows).T, delta, other)
            _add(flat(other), flat(out))
            below, spare = sf.part(problem, changes.delta, l - 1, rows), sf.part(problem, changes.d, l - 1, rows)
            sf.pull_back(problem, vector, at, l, change, below)
            sf.pull_back(problem, direction, at, l, delta, spare)
            _add(flat(spare), flat(below))


def _products(
    widths, biased, functions,
    inputs, targets, chosen, points, vectors, whole, products
):  # fmt: skip
    problem = sf.make_problem(widths, biased, functions)
    at, rows = sf.starts(problem), chosen.shape[1]
    signals, y = sf.allocate(problem, rows), np.empty((rows, targets.shape[1]))
    spare = sf.allocate(problem, rows)
    changes = sf.Signals(
        spare.s, spare.z, spare.d, np.empty(points.shape[1]), spare.delta, spare.bend, spare.gradient, spare.curvature
    )
    sf.gather(problem, signals, inputs, targets, chosen[0], y)
    for i in range(vectors.shape[0]):
        vector = borrow(points)[i if points.shape[0] > 1 else 0]
        if i == 0 or points.shape[0] > 1:
            sf.differentiate(problem, signals, y, vector, at, whole)
        _change_forward(problem, signals, changes, vector, borrow(vectors)[i], at, rows)
        _change_of_gradient(problem, signals, changes, rows)
        _change_back(problem, signals, changes, vector, borrow(vectors)[i], at, rows, borrow(products)[i])


@functools.cache
def products() -> Any:
    """Return the compiled function that writes products (vectors, P) of Hessians at points (vectors or 1, P)."""
    arguments = *sf.PROBLEM, *sf.DATA, float64[:, ::1], float64[:, ::1], boolean, float64[:, ::1]
    return kernel(void(*arguments), cache="hessian_vector")(_products)
