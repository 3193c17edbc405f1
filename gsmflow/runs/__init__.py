"""Run directories, checkpoints, stages, one experiment, seeds and variants."""
