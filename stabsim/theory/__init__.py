"""What is known without simulating: predictions beside every estimate, NaN where no formula applies."""

from stabsim.theory.exact import predict

__all__ = ["predict"]
