"""The speed benchmark: the package against a plain baseline, on one machine in one run."""
