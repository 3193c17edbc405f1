"""Recipes (dataset, method, training and protocol): their flags, checks, files and training."""
