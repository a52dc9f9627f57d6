"""One net in training: the vector of its parameters, what else it is kept in, and what it is told.

The vector holds, of each layer, W (fan_in, fan_out) and behind it b (fan_out,): the first so many numbers that move.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numba import float32, float64, int64, types, uint64, void

from stabsim.kernels import laws
from stabsim.kernels.compile import atom
from stabsim.kernels.views import as_matrix, borrow, stretch

# How nets are trained.
Course = namedtuple(
    "Course", "widths batch rows steps rate times weights_at moving weight_scale bias_scale perturbation signals_at"
)
# Where a net is kept.
Memory = namedtuple("Memory", "parameters start gradient before s z d dz units extremes")


def signature(dtype: np.dtype[Any]) -> Any:
    """Return the type of the trainer: its arguments, in order, with what each is."""
    real = float32 if dtype == np.float32 else float64
    loop = types.FunctionType(void(real[::1], real[::1], real[::1]))
    law = laws.pointer(dtype)
    course = {
        "widths": int64[::1],  # (depth + 1,)
        "batch": int64,
        "rows": int64,  # samples that there is room for, at least the batch
        "steps": int64,
        "rate": float64,
        "times": int64[::1],  # numbers of steps after which to record, rising
        "weights_at": int64[::1],  # (depth + 1,): where the parameters of a layer start
        "moving": int64[::1],  # (depth + 1,): how many of them move
        "weight_scale": real[::1],
        "bias_scale": real[::1],
        "perturbation": float64,  # standard deviation of what is added to every weight and bias that moves
        "signals_at": int64[::1],  # (depth + 1,): where the signals of a layer start
    }
    assert tuple(course) == Course._fields
    return void(
        int64,  # number of the first net
        uint64,  # seed
        law,  # of standard normals
        loop,  # activation
        loop,  # activation of the last layer
        law,  # of weights
        law,  # of biases
        types.NamedTuple(tuple(course.values()), Course),
        types.NamedUniTuple(real[::1], len(Memory._fields), Memory),
        real[:, :, ::1],  # inputs (1: of all nets, or nets; samples, widths[0])
        real[:, :, ::1],  # targets (likewise; samples, widths[-1])
        float64[:, :, :, ::1],  # record (nets, times, depth + 1, COLUMNS): NaN to start with
        int64[::1],  # (nets,): steps before a net diverged, -1 to start with
        real[:, :, ::1],  # parameters (nets, times, all of them), or (0, 0, 0): not kept
    )


Learner = namedtuple("Learner", "seed number normal activation output_activation weights bias_law course memory")


@atom
def make_learner(seed, number, normal, activation, output_activation, weights, bias_law, course, memory):
    """Return a net with its arrays borrowed."""
    return Learner(
        seed=seed,
        number=number,
        normal=normal,
        activation=activation,
        output_activation=output_activation,
        weights=weights,
        bias_law=bias_law,
        course=Course(
            widths=borrow(course.widths), batch=course.batch, rows=course.rows, steps=course.steps, rate=course.rate,
            times=borrow(course.times), weights_at=borrow(course.weights_at), moving=borrow(course.moving),
            weight_scale=borrow(course.weight_scale), bias_scale=borrow(course.bias_scale),
            perturbation=course.perturbation, signals_at=borrow(course.signals_at),
        ),
        memory=Memory(
            parameters=borrow(memory.parameters), start=borrow(memory.start), gradient=borrow(memory.gradient),
            before=borrow(memory.before), s=borrow(memory.s), z=borrow(memory.z), d=borrow(memory.d),
            dz=borrow(memory.dz), units=borrow(memory.units), extremes=borrow(memory.extremes),
        ),
    )  # fmt: skip


@atom
def weights_of(learner, vector, l):
    """Return W, or dW, of a layer of a vector of parameters."""
    fan_in, fan_out = learner.course.widths[l - 1], learner.course.widths[l]
    return as_matrix(stretch(vector, learner.course.weights_at[l], fan_in * fan_out), fan_in, fan_out)


@atom
def bias_of(learner, vector, l):
    """Return b, or db, likewise."""
    fan_in, fan_out = learner.course.widths[l - 1], learner.course.widths[l]
    return stretch(vector, learner.course.weights_at[l] + fan_in * fan_out, fan_out)


@atom
def moving(learner, vector, l):
    """Return what moves of a layer."""
    return stretch(vector, learner.course.weights_at[l], learner.course.moving[l])


@atom
def signal(learner, vector, l, rows):
    """Return the signals of a layer."""
    width = learner.course.widths[l]
    return as_matrix(stretch(vector, learner.course.signals_at[l], rows * width), rows, width)
