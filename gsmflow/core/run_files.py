"""Names of the files in a run directory."""

__all__ = ["ABLATION_FILE", "ADDED_FILE", "METRICS_FILE", "RECIPE_FILE", "SWEEP_FILE"]

ABLATION_FILE = "ablation.json"
ADDED_FILE = "added.json"
METRICS_FILE = "metrics.json"
RECIPE_FILE = "recipe.json"
SWEEP_FILE = "sweep.json"
