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

# T1, U, S and AUSUC in percent of seed 0, measured with one thread in fp32.
MEASURED = {
    "devise": (93.7, 79.0, 86.1, 80.9),
    "sje": (95.4, 89.5, 90.6, 87.2),
    "ale": (95.2, 85.1, 89.2, 85.3),
    "ale-ce": (96.6, 89.4, 92.0, 89.6),
    "latem": (94.4, 73.4, 88.9, 83.0),
    "dem": (89.9, 68.8, 79.5, 71.6),
    "sae": (92.2, 82.8, 87.6, 82.0),
    "gfzsl": (90.5, 0.3, 80.0, 65.6),
    "conse": (92.8, 16.3, 89.0, 77.6),
    "costa": (94.9, 68.0, 88.8, 84.4),
    "dap": (96.4, 87.4, 93.9, 90.4),
    "iap": (94.4, 18.8, 88.6, 81.5),
    "eszsl": (92.8, 87.1, 85.0, 81.6),
    "discriminant": (96.4, 94.0, 87.6, 87.2),
    "gaussian-prototypes": (94.5, 93.6, 80.0, 83.6),
    "sync": (96.2, 91.0, 85.2, 85.5),
    "exem": (92.0, 77.0, 85.1, 78.3),
    "exem-sync": (89.2, 85.5, 76.7, 78.1),
    "cmt": (93.1, 80.8, 88.8, 82.7),
    "cmt-star": (93.1, 83.5, 79.4, 80.2),
    "cmt-loop": (93.1, 81.7, 75.1, 78.7),
    "revise": (63.1, 42.0, 62.9, 39.4),
    "cn-zsl": (90.8, 74.8, 81.1, 74.1),
    "cvae": (90.8, 82.2, 84.3, 80.2),
    "se-gzsl": (92.5, 57.8, 90.3, 83.8),
    "gdan": (90.8, 67.3, 90.1, 83.2),
    "f-clswgan": (88.8, 74.3, 82.9, 76.0),
    "f-vaegan": (89.1, 79.4, 81.3, 76.4),
    "tf-vaegan": (91.7, 74.0, 92.9, 86.8),
    "sdgzsl": (91.5, 70.7, 85.8, 79.1),
    "izf": (91.2, 64.9, 90.1, 83.9),
    "ce-gzsl": (83.0, 48.2, 92.8, 73.1),
    "free": (77.1, 34.6, 78.4, 59.4),
    "gsmflow-journal": (86.5, 58.9, 86.2, 76.0),
}
# The same of a short training of GSMFlow, with another classifier than its softmax.
MEASURED_CLASSIFIERS = {"prototypes": (95.4, 90.9, 88.3, 86.8)}
# The same on a made dataset whose features lie in the space of its semantics, as these need.
MEASURED_JOINT = {"clip-prompts": (98.0, 91.3, 85.7, 85.5)}
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
    """T1, U, S and AUSUC of a run, in percent."""
    settings = {
        **{"out": folder, "device": "cpu", "precision": "fp32", "beside": ()},
        "calibrate": False,  # half of the time; AUSUC is of every calibration factor
    }
    job = Job(changed(recipe, **settings), dataset=dataset)
    metrics = run_experiment(job, Console(quiet=True)).metrics
    return [100 * metrics[name] for name in ("T1", "U", "S", "AUSUC")]
