"""Running recipes: run directories, checkpoints, training stages, experiments, seeds, variants."""
