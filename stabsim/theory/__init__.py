"""What is known without simulating: predictions beside every estimate, NaN where no formula applies.

The functions that are asked for most are here; the modules hold all of them, by subject.
"""

from stabsim.theory import (
    closed_forms,
    escape,
    finite_width,
    gains,
    gaussian,
    jacobian,
    jacobian_spectrum,
    landscape,
    mean_field,
    normalization,
    number_formats,
    overshoot,
    plateau,
    quadratic,
    random_matrix,
    recurrent,
    residual,
    saddle_index,
    saturation,
    spectra,
    zeros,
)
from stabsim.theory.gains import gain, published_gain
from stabsim.theory.gaussian import moments
from stabsim.theory.infinite_width import predict_wide
from stabsim.theory.mean_field import (
    FixedPoint,
    correlation_map,
    critical_weight_variance,
    fixed_point,
    phase_diagram,
    variance_map,
)
from stabsim.theory.normalization import batch_norm_gradient_rate
from stabsim.theory.random_matrix import positive_definite_probability
from stabsim.theory.residual_laws import predict

__all__ = [
    "FixedPoint",
    "batch_norm_gradient_rate",
    "closed_forms",
    "correlation_map",
    "critical_weight_variance",
    "escape",
    "finite_width",
    "fixed_point",
    "gain",
    "gains",
    "gaussian",
    "jacobian",
    "jacobian_spectrum",
    "landscape",
    "mean_field",
    "moments",
    "normalization",
    "number_formats",
    "overshoot",
    "phase_diagram",
    "plateau",
    "positive_definite_probability",
    "predict",
    "predict_wide",
    "published_gain",
    "quadratic",
    "random_matrix",
    "recurrent",
    "residual",
    "saddle_index",
    "saturation",
    "spectra",
    "variance_map",
    "zeros",
]
