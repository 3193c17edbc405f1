"""The benchmark: this package against a plain baseline, on one machine, in one run."""
