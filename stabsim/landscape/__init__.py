"""Landscapes: the loss of small nets as a function of their parameters, with exact derivatives and critical points."""
