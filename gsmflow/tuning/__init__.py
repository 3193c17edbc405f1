"""The search for a script's hyperparameters on validation classes: ``python -m gsmflow tune``."""
