"""Metrics, the GZSL protocol with its calibration, figures class by class, generation shifts."""
