"""One step of training, given the gradient: it is clipped, weight decay is added, and the optimizer moves the net.

Clipped are W and each vector beside it, as tensors of their own: "value" their elements, "norm" each by its norm,
"global_norm" all by that of all together, "adaptive" each column of W and each vector by the norm of what it moves.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels import learner as k
from stabsim.kernels.compile import CONTRACT, REASSOCIATE, atom, kernel, wide_vectors
from stabsim.kernels.learner import depth_of, fan_in_of, moving, part, vector_of, weights_of, width_of
from stabsim.kernels.signature import ADAPTIVE, GLOBAL_NORM, NORM, VALUE
from stabsim.kernels.views import flat, stretch

# What clipping did to a layer: tensors, columns or elements that are clipped and all of them, and the sums of x^2, y^2
# and x y, of what moves before and after.
CLIPPED, ALL, BEFORE, AFTER, BOTH = range(5)
COUNTED = 5


@kernel(fastmath=REASSOCIATE)
def _clip_elements(values, bound):
    """Clip to -bound .. bound; return how many are, and the sums."""
    wide_vectors()
    most = values.dtype.type(bound)
    clipped, before, after, both = np.int64(0), 0.0, 0.0, 0.0
    for i in range(values.size):
        x = values[i]
        y = most if x > most else x
        y = -most if y < -most else y
        clipped += np.int64(0) if x == y else np.int64(1)
        before += np.float64(x) * np.float64(x)
        after += np.float64(y) * np.float64(y)
        both += np.float64(x) * np.float64(y)
        values[i] = y
    return clipped, before, after, both


@kernel()
def _count(counts, clipped, size, before, after, both):
    counts[CLIPPED] += clipped
    counts[ALL] += size
    counts[BEFORE] += before
    counts[AFTER] += after
    counts[BOTH] += both


@kernel()
def _clip_norm(values, own, squares, bound, counts):
    """Multiply so that a norm of ``sqrt(squares)`` becomes the bound, if it is larger; ``own`` are those of values."""
    norm = math.sqrt(squares)
    factor = bound / norm if norm > bound else 1.0
    if norm > bound:
        blocks.scale(values, factor)
    _count(counts, norm > bound, 1, own, own * factor * factor, own * factor)


@kernel(fastmath=CONTRACT)
def _add_squares(values, sums):
    wide_vectors()
    for j in range(sums.size):
        sums[j] += np.float64(values[j]) * np.float64(values[j])


@kernel(fastmath=CONTRACT)
def _multiply_columns(values, factors):
    wide_vectors()
    for j in range(values.size):
        values[j] *= factors[j]


@kernel()
def _clip_columns(dw, w, clip, counts):
    """Clip each column of dW by the norm of that of W."""
    columns = dw.shape[1]
    squares, own, factors = np.zeros(columns), np.zeros(columns), np.ones(columns)
    for i in range(dw.shape[0]):
        _add_squares(dw[i], squares)
        _add_squares(w[i], own)
    for j in range(columns):
        bound = clip.bound * max(math.sqrt(own[j]), clip.epsilon)
        norm = math.sqrt(squares[j])
        if norm > bound:
            factors[j] = bound / norm
        _count(counts, norm > bound, 1, squares[j], squares[j] * factors[j] ** 2, squares[j] * factors[j])
    for i in range(dw.shape[0]):
        _multiply_columns(dw[i], factors)


@atom
def _vectors(learner, l):
    """Return how many vectors beside W move."""
    weights = fan_in_of(learner, l) * width_of(learner, l)
    return (learner.problem.layout[k.MOVING, l] - weights) // width_of(learner, l)


@kernel(apart=True)
def clip(learner, squares, counts):
    """Clip the gradient in place, and count; ``squares`` are the squared norms of the whole, and of each layer."""
    rule = learner.course.clip
    for l in range(1, counts.shape[0]):
        blocks.fill(counts[l], 0.0)
        gradient = moving(learner, k.GRADIENT, l)
        dw = weights_of(learner, k.GRADIENT, l)
        if rule.kind == VALUE:
            clipped, before, after, both = _clip_elements(gradient, rule.bound)
            _count(counts[l], clipped, gradient.size, before, after, both)
        elif rule.kind == GLOBAL_NORM:
            _clip_norm(gradient, squares[l], squares[0], rule.bound, counts[l])
        else:
            if rule.kind == NORM:
                own = blocks.dot(flat(dw), flat(dw))
                _clip_norm(flat(dw), own, own, rule.bound, counts[l])
            else:
                _clip_columns(dw, weights_of(learner, k.PARAMETERS, l), rule, counts[l])
            for number in range(_vectors(learner, l)):
                of_one = vector_of(learner, k.GRADIENT, l, number)
                moved = vector_of(learner, k.PARAMETERS, l, number)
                bound = rule.bound
                if rule.kind == ADAPTIVE:
                    bound *= max(math.sqrt(blocks.dot(moved, moved)), rule.epsilon)
                own = blocks.dot(of_one, of_one)
                _clip_norm(of_one, own, own, bound, counts[l])


@kernel(fastmath=CONTRACT)
def _add_decay(gradient, values, factor):
    wide_vectors()
    by = values.dtype.type(factor)
    for i in range(values.size):
        gradient[i] += by * values[i]


@atom
def move(learner, step):
    """Take one step: weight decay is that of an L2 penalty on W, the others are left alone."""
    course = learner.course
    course.settings[0] = course.rates[step]
    for l in range(1, depth_of(learner) + 1):
        at, size, nothing = learner.problem.layout[k.WEIGHTS_AT, l], learner.problem.layout[k.MOVING, l], np.int64(0)
        if course.weight_decay != 0.0:
            dw, w = weights_of(learner, k.GRADIENT, l), weights_of(learner, k.PARAMETERS, l)
            _add_decay(flat(dw), flat(w), course.weight_decay)
        first = stretch(part(learner, k.FIRST), at, size if course.remembered > 0 else nothing)
        second = stretch(part(learner, k.SECOND), at, size if course.remembered > 1 else nothing)
        learner.optimizer(
            moving(learner, k.PARAMETERS, l), moving(learner, k.GRADIENT, l), first, second, step + 1,
            course.settings,
        )  # fmt: skip
