"""What a kernel records of one layer of one net: a row of ``COLUMNS`` float64 numbers.

Six tensors have five columns each, starting at the tensor's number: the mean of the first four powers of
``value / 2**exponent - pivot``, then the exponent. Fractions follow. Kernels add to a record that holds 0 where a
column is wanted and NaN where it is not, or does not exist at the layer.
"""

from __future__ import annotations

# Offsets from a tensor's first column.
M1, M2, M3, M4, EXPONENT = range(5)
MOMENT_COLUMNS = 5

PREACTIVATION = 0
ACTIVATION = 5
DERIVATIVE = 10
ACTIVATION_GRADIENT = 15
PREACTIVATION_GRADIENT = 20
WEIGHT_GRADIENT = 25
TENSORS = {
    "preactivation": PREACTIVATION,
    "activation": ACTIVATION,
    "derivative": DERIVATIVE,
    "activation_gradient": ACTIVATION_GRADIENT,
    "preactivation_gradient": PREACTIVATION_GRADIENT,
    "weight_gradient": WEIGHT_GRADIENT,
}

# The fractions of all-zero rows and columns stand behind that of zeros.
ACTIVATION_ZERO = 30
ACTIVATION_DEAD_SAMPLE = 31
ACTIVATION_DEAD_UNIT = 32
ACTIVATION_SATURATED = 33
ACTIVATION_CORRELATION = 34
DERIVATIVE_ZERO = 35
DERIVATIVE_DEAD_SAMPLE = 36
DERIVATIVE_DEAD_UNIT = 37
DERIVATIVE_SATURATED = 38
ACTIVATION_GRADIENT_ZERO = 39
PREACTIVATION_GRADIENT_ZERO = 40
WEIGHT_GRADIENT_ZERO = 41
WEIGHT_GRADIENT_DEAD_ROW = 42
WEIGHT_GRADIENT_DEAD_COLUMN = 43
WEIGHT_GRADIENT_ONE_SIGNED_COLUMN = 44
COLUMNS = 45
