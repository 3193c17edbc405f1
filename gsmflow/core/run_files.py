"""Names of the files in a run directory."""

__all__ = [
    "ABLATION_FILE",
    "ADDED_FILE",
    "CHOICE_FILE",
    "DATA_FILE",
    "DESCRIPTION_FILE",
    "ENVIRONMENT_FILE",
    "LOG_FILE",
    "METRICS_FILE",
    "RECIPE_FILE",
    "SWEEP_FILE",
]

ABLATION_FILE = "ablation.json"
ADDED_FILE = "added.json"
CHOICE_FILE = "choice.json"
DATA_FILE = "data.json"
DESCRIPTION_FILE = "model.json"
ENVIRONMENT_FILE = "environment.json"
LOG_FILE = "log.jsonl"
METRICS_FILE = "metrics.json"
RECIPE_FILE = "recipe.json"
SWEEP_FILE = "sweep.json"
