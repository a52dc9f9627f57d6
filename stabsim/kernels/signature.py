"""The arguments that every sampler takes; ``stabsim.plan`` makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import boolean, float32, float64, int64, types, uint64, void

from stabsim.kernels import laws


def signature(dtype: np.dtype[Any], buffers: int, weights: Any) -> Any:
    """Return the type of a sampler with so many buffers: its arguments, in order, with what each is."""
    real = float32 if dtype == np.float32 else float64
    return void(
        int64,  # number of the first net
        uint64,  # seed
        int64[::1],  # widths (depth + 1,)
        int64,  # batch
        types.UniTuple(real[::1], buffers),
        int64[:, ::1],  # offsets (BUFFERS, depth + 1): where a layer's part of a buffer starts
        int64[:, ::1],  # exponents (BUFFERS, depth + 1): left by the last net, 0 to start with
        real[:, ::1],  # inputs (samples, widths[0]); no rows: standard normals
        int64,  # ... times 2 to this
        real[:, ::1],  # gradient at the last layer (batch, widths[-1]); no rows: standard normals
        int64,  # ... times 2 to this
        laws.pointer(dtype),  # of standard normals
        types.FunctionType(void(real[::1], real[::1], real[::1])),  # activation
        float64[:, :, ::1],  # its shape (3, 2, 2): near 0, far from it, at 0; below and above; slope and offset
        boolean,  # whether nets are positively homogeneous: f is, and there is no bias
        weights,  # their law, a pointer; matrix-free: whether they are semi-orthogonal, else Gaussian
        real[::1],  # scale of the weights of each layer ...
        int64[::1],  # ... times 2 to this
        laws.pointer(dtype),  # of biases
        real[::1],  # scale of the biases of each layer
        boolean[::1],  # wanted columns of the record
        boolean,  # whether to run backward
        float64,  # below this f' and the distance of f to its limit are saturated
        float64[::1],  # pivots of the activations of each layer
        float64[:, ::1],  # histograms: least value and bins a unit
        int64[:, :, ::1],  # histograms: counts (tensor, layer, bins + 2)
        float64[:, ::1],  # what the record of a net starts from (depth + 1, COLUMNS)
        float64[:, :, ::1],  # record (nets, depth + 1, COLUMNS)
    )
