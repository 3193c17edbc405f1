"""Generalized zero-shot learning with GSMFlow."""
