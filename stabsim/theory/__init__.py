"""What is known without simulating: predictions beside every estimate, NaN where no formula applies."""

from stabsim.theory.exact import predict
from stabsim.theory.finite_width import jacobian_moments, log_norm, squared_norm_moment
from stabsim.theory.gains import centered_gain, gain, published_gain
from stabsim.theory.gaussian import GaussianMoments, moments
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

__all__ = [
    "FixedPoint",
    "GaussianMoments",
    "batch_norm_gradient_rate",
    "centered_gain",
    "correlation_map",
    "critical_weight_variance",
    "fixed_point",
    "gain",
    "jacobian_moments",
    "log_norm",
    "moments",
    "phase_diagram",
    "positive_definite_probability",
    "predict",
    "predict_wide",
    "published_gain",
    "squared_norm_moment",
    "variance_map",
]
