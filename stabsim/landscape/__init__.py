"""Landscapes."""
