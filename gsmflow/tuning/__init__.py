"""Search for a script's hyperparameters on the validation classes: ``python -m gsmflow tune``."""
