"""Figures of every method on the built-in digit pairs, so that a change of one is noticed."""

from pathlib import Path

import pytest
from rich.console import Console

from gsmflow.data.dataset import Dataset
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.flags import published_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import changed, make_joint_dataset, make_recipe
from train_DIGITS import PIXELS

# T1, U, S and calibrated H in percent of seed 0, measured with one thread in fp32.
MEASURED = {
    "devise": (93.7, 79.0, 86.1, 85.0),
    "sje": (95.4, 89.5, 90.6, 90.3),
    "ale": (95.2, 85.1, 89.2, 88.7),
    "ale-ce": (96.6, 89.4, 92.0, 91.8),
    "latem": (94.4, 73.4, 88.9, 85.1),
    "dem": (89.9, 68.8, 79.5, 78.1),
    "sae": (92.2, 82.8, 87.6, 86.4),
    "gfzsl": (90.5, 0.3, 80.0, 71.6),
    "conse": (92.8, 16.3, 89.0, 77.2),
    "costa": (94.9, 68.0, 88.8, 87.6),
    "dap": (96.4, 87.4, 93.9, 92.5),
    "iap": (94.4, 18.8, 88.6, 83.1),
    "eszsl": (92.8, 87.1, 85.0, 87.0),
    "discriminant": (96.4, 94.0, 87.6, 89.8),
    "gaussian-prototypes": (94.5, 93.6, 80.0, 87.7),
    "sync": (96.2, 91.0, 85.2, 86.8),
    "exem": (92.0, 77.0, 85.1, 83.8),
    "exem-sync": (94.3, 90.7, 84.0, 87.3),
    "cmt": (93.0, 79.5, 88.6, 87.9),
    "cmt-star": (93.0, 81.6, 80.0, 81.3),
    "cmt-loop": (93.0, 80.3, 76.7, 79.3),
    "revise": (63.1, 42.0, 62.9, 50.4),
    "cn-zsl": (90.8, 74.8, 81.1, 80.5),
    "cvae": (90.8, 82.2, 84.3, 84.2),
    "se-gzsl": (92.5, 57.8, 90.3, 87.3),
    "gdan": (90.8, 67.3, 90.1, 86.1),
    "f-clswgan": (88.8, 74.3, 82.9, 80.0),
    "f-vaegan": (89.1, 79.4, 81.3, 79.5),
    "tf-vaegan": (91.7, 73.1, 93.7, 85.6),
    "sdgzsl": (91.5, 70.7, 85.8, 82.5),
    "izf": (91.2, 64.9, 90.1, 87.0),
    "ce-gzsl": (83.0, 48.2, 92.8, 72.4),
    "free": (77.8, 37.2, 77.3, 65.5),
    "gsmflow-journal": (86.6, 58.9, 86.3, 78.7),
}
# The same of a short training of GSMFlow, with another classifier than its softmax.
MEASURED_CLASSIFIERS = {"prototypes": (95.4, 90.9, 88.3, 88.7)}
# The same on a made dataset whose features lie in the space of its semantics, as these need.
MEASURED_JOINT = {"clip-prompts": (98.0, 91.3, 85.7, 88.2)}
SHORT_FLOW = {
    "hidden": 128,
    "condition_dim": 64,
    "epochs": 4,
    "learning_rate": 2e-3,
    "samples_per_class": 10,
    "classifier_lr": 5e-4,
    "classifier_epochs": 20,
}
# Those with a test of their own, tests/runs/test_digit_pictures.py: minutes of training.
ELSEWHERE = {"gsmflow", "cada-vae"}
# Fewer steps or units than published, where these take long.
SHORTER: dict[str, dict[str, int]] = {
    "revise": {"epochs": 15},
    "cmt": {"iterations": 60},
    "cmt-star": {"iterations": 60},
    "cmt-loop": {"iterations": 60},
    "cn-zsl": {"hidden": 512, "epochs": 30},
    "sdgzsl": {"epochs": 2},
    "ce-gzsl": {"comparator_hidden": 16, "embedding_dim": 64},
}
# Sums in another order, on another processor, move a trained method's figures by a point.
TOLERANCE = 2.0


pytestmark = pytest.mark.usefixtures("quick_pictures")


def test_every_method_has_figures() -> None:
    assert MEASURED.keys() | MEASURED_JOINT.keys() == METHODS.keys() - ELSEWHERE


@pytest.mark.parametrize("name", MEASURED)
def test_method_on_digit_pairs_has_the_measured_figures(name: str, tmp_path: Path) -> None:
    recipe = changed(published_recipe(PIXELS, name), **SHORTER.get(name, {}))
    assert figures_of(recipe, tmp_path) == pytest.approx(MEASURED[name], abs=TOLERANCE)


@pytest.mark.parametrize("name", MEASURED_CLASSIFIERS)
def test_classifier_on_digit_pairs_has_the_measured_figures(name: str, tmp_path: Path) -> None:
    recipe = changed(changed(PIXELS, classifier=name), **SHORT_FLOW)
    expected = MEASURED_CLASSIFIERS[name]
    assert figures_of(recipe, tmp_path) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", MEASURED_JOINT)
def test_method_on_a_joint_space_has_the_measured_figures(name: str, tmp_path: Path) -> None:
    dataset = make_joint_dataset(classes=20, unseen=5, val=4, per_class=60, a=8, noise=0.6)
    recipe = published_recipe(make_recipe(dataset="TINY"), name)
    expected = MEASURED_JOINT[name]
    assert figures_of(recipe, tmp_path, dataset) == pytest.approx(expected, abs=TOLERANCE)


def figures_of(recipe: Recipe, folder: Path, dataset: Dataset | None = None) -> list[float]:
    """T1, U, S and calibrated H of a run, in percent."""
    settings = {
        **{"out": folder, "device": "cpu", "precision": "fp32", "beside": ()},
        "validation_draws": 1,
    }
    job = Job(changed(recipe, **settings), dataset=dataset)
    metrics = run_experiment(job, Console(quiet=True)).metrics
    found = [metrics["T1"], metrics["U"], metrics["S"], metrics["calibrated"]["H"]]
    return [100 * share for share in found]
