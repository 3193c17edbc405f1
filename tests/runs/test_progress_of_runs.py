"""What the log of a run says while it lasts, with a line at every step."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import tiny_recipe


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "gsmflow",
            [r"GSMFlow: final training: 1 of 2 epochs", r"training the classifier, .*epochs"],
        ),
        ("discriminant", [r"final training, 1 of 3 feature transforms, \d+ settings tried"]),
        (
            "sae",
            [r"SAE: choosing settings, 3 of \d+ settings, .*left", "evaluating on the test rows"],
        ),
        ("dap", [r"DAP: choosing settings, \d of 3 settings, \d+ evaluations of the loss"]),
    ],
)
@pytest.mark.usefixtures("quick_pictures")
def test_log_of_a_run_says_what_is_done(
    model: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.progress._LINE_SECONDS", 0.0)
    stream = io.StringIO()
    epochs = {"epochs": 2} if model == "gsmflow" else {}
    recipe = tiny_recipe(tmp_path, model=model, beside=("eszsl",), **epochs)
    run_experiment(Job(recipe), Console(file=stream, width=200))
    text = stream.getvalue()
    always = [r"^reading .*TINY$", r"baselines, ESZSL: choosing settings, 2 of 7 values of gamma"]
    for pattern in [*expected, *always]:
        assert re.search(pattern, text, re.MULTILINE), pattern
