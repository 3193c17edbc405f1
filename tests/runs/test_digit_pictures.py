"""The recipe of the built-in dataset, whole: the slowest test of the suite (its real training)."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from gsmflow.recipes.flags import recipe_for
from gsmflow.runs.digit_pictures import draw_digit_pairs
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import changed
from train_DIGITS import PIXELS

# docs/settings.md, seed 0
MEASURED_H = 0.877
MEASURED_H_WITH_PENALTY = 0.882
# docs/cada_vae.md, seed 0
MEASURED_H_OF_CADA_VAE = 0.932
MEASURED_H_OF_ESZSL = 0.860


def test_digits_reach_the_measured_h_and_are_above_eszsl(tmp_path: Path) -> None:
    recipe = replace(PIXELS, out=tmp_path, device="cpu", oracle=True, beside=("eszsl",))
    result = run_experiment(Job(recipe), Console(quiet=True))
    ours, eszsl = result.metrics, result.metrics["baselines"]["ESZSL"]
    assert ours["H"] > MEASURED_H - 0.01
    assert ours["calibrated"]["H"] > MEASURED_H_WITH_PENALTY - 0.01
    assert ours["H"] > eszsl["H"]
    assert ours["calibrated"]["H"] > eszsl["calibrated"]["H"]
    assert ours["AUSUC"] > eszsl["AUSUC"]
    assert ours["H"] < result.metrics["oracle"]["H"]
    draw_digit_pairs(result, tmp_path / "digits.png")
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_cada_vae_on_digits_reaches_the_measured_h(tmp_path: Path) -> None:
    recipe = recipe_for({"pixels": PIXELS}, "pixels", "cada-vae")
    settings = {"beside": (), "calibrate": False, "oracle": True}
    recipe = changed(recipe, out=tmp_path, device="cpu", **settings)
    metrics = run_experiment(Job(recipe), Console(quiet=True)).metrics
    assert metrics["model"] == "CADA-VAE"
    assert metrics["H"] > MEASURED_H_OF_CADA_VAE - 0.01
    assert metrics["H"] > MEASURED_H_OF_ESZSL + 0.03
    assert metrics["oracle"]["H"] > metrics["H"] - 0.02
