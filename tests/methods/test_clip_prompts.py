"""CLIP prompts against scikit-learn's cosines and log loss, and scipy's softmax."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, open_held_out, training_problem
from gsmflow.estimators import ZeroShotClassifier
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import Scorer
from gsmflow.learning.feed import Scaled
from gsmflow.learning.scorers import direct_scorer
from gsmflow.methods.clip_prompts import ClipPrompts, ClipPromptsConfig, fit_temperature
from gsmflow.recipes.flags import published_recipe
from gsmflow.runs.add_class import grow_dataset
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.load import load
from tests.builders import changed, generators, make_joint_dataset, make_recipe, scaled_of

pytestmark = pytest.mark.usefixtures("quick_pictures")

DATASET = check_dataset(make_joint_dataset(noise=0.5))


def model_of(dataset: Dataset, temperature: float) -> ClipPrompts:
    scaled = scaled_of(training_problem(dataset, "test"))
    return ClipPrompts.for_problem(scaled, ClipPromptsConfig(temperature), generators(0))


def scorer_of(model: ClipPrompts, scaled: Scaled) -> Scorer:
    classes = scaled.problem.seen_classes, scaled.problem.unseen_classes
    scorer = direct_scorer(model, scaled.scaling, classes, torch.device("cpu"), bayes=False)
    assert scorer is not None
    return scorer


def negative_log_likelihood(
    factor: float, cosines: NDArray[np.floating], columns: NDArray[np.int64], bias: float, seen: int
) -> float:
    shifted = cosines - bias * (np.arange(cosines.shape[1]) < seen)
    return float(-log_softmax(factor * shifted, axis=1)[np.arange(len(columns)), columns].mean())


def test_scores_are_the_temperature_times_cosines() -> None:
    problem = training_problem(DATASET, "test")
    rows = DATASET.features[DATASET.test_unseen]
    scaled = scaled_of(problem)
    scorer = scorer_of(model_of(DATASET, 20.0), scaled)
    expected = 20 * cosine_similarity(rows, DATASET.semantics)
    np.testing.assert_allclose(scorer.gzsl_scores(rows), expected[:, problem.classes], atol=1e-4)
    zsl = expected[:, problem.unseen_classes]
    np.testing.assert_allclose(scorer.zsl_scores(rows), zsl, atol=1e-4)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_lengths_of_vectors_change_nothing(of_features: float, of_semantics: float) -> None:
    rows = DATASET.features[:20]
    changed_lengths = replace(DATASET, semantics=DATASET.semantics * np.float32(of_semantics))
    scaled = scaled_of(training_problem(changed_lengths, "test"))
    model = ClipPrompts.for_problem(scaled, ClipPromptsConfig(7.0), generators(0))
    scorer = scorer_of(model, scaled)
    expected = 7 * cosine_similarity(rows, DATASET.semantics)[:, scaled.problem.classes]
    found = scorer.gzsl_scores(rows * np.float32(of_features))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_temperature_has_the_highest_likelihood_of_the_validation_split() -> None:
    problem, held_out = (f(DATASET, "validation") for f in (training_problem, open_held_out))
    scaled = scaled_of(problem)
    config, random = ClipPromptsConfig(), generators(0)
    found = ClipPrompts.choose(scaled, held_out, config, random)["temperature"]
    features = np.concatenate([held_out.seen.features, held_out.unseen.features])
    labels = np.concatenate([held_out.seen.labels, held_out.unseen.labels])
    cosines = cosine_similarity(features, DATASET.semantics[problem.classes])
    columns = np.array([list(problem.classes).index(label) for label in labels])
    plain = ClipPrompts.for_problem(scaled, ClipPromptsConfig(1.0), random)
    scorer = scorer_of(plain, scaled)
    gamma = evaluate(scorer, problem, held_out).curve().best_gamma()
    seen = len(problem.seen_classes)
    losses = {
        factor: negative_log_likelihood(factor * found, cosines, columns, gamma, seen)
        for factor in (0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 2.0)
    }
    assert min(losses, key=losses.__getitem__) == 1.0
    # A minimum of a smooth function: scikit-learn's loss has slope 0 there.
    shifted = cosines - gamma * (np.arange(len(problem.classes)) < seen)
    near = [
        log_loss(
            columns, np.exp(log_softmax(f * found * shifted, axis=1)), labels=range(len(shifted[0]))
        )
        for f in (0.999, 1.001)
    ]
    assert abs(near[1] - near[0]) < 1e-5
    given = ClipPrompts.choose(scaled, held_out, ClipPromptsConfig(3.0), random)
    assert given == {"temperature": 3.0}
    fitted = ClipPrompts.for_choice(scaled, config, {"temperature": found}, random)
    assert fitted.describe()["config"] == {"temperature": found}


def test_temperature_of_probabilities_that_are_known() -> None:
    """Labels that are drawn from a softmax of ten times the cosines give about ten."""
    rng = np.random.default_rng(3)
    cosines = rng.uniform(-1, 1, (20000, 5))
    classes, seen = np.array([1, 4, 5, 0, 2]), np.array([1, 4, 5])
    drawn = (10 * cosines + rng.gumbel(size=cosines.shape)).argmax(axis=1)
    assert fit_temperature(cosines, classes[drawn], classes, seen) == pytest.approx(10, rel=0.05)


def test_temperature_without_a_value_is_refused() -> None:
    scaled = scaled_of(training_problem(DATASET, "test"))
    with pytest.raises(InputError, match="temperature: found no value, expected one"):
        ClipPrompts.for_problem(scaled, ClipPromptsConfig(), generators(0))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"features": DATASET.features[:, :3]}, "features of 3 dimensions and semantics of 5"),
        ({"separate_encoders": "features of a and semantics of b"}, "features of a and semantics"),
    ],
)
def test_features_and_semantics_of_separate_encoders_are_refused(
    changes: dict[str, object], found: str
) -> None:
    dataset = replace(DATASET, **changes)  # type: ignore[arg-type]
    scaled = scaled_of(training_problem(dataset, "validation"))
    held_out = open_held_out(dataset, "validation")
    for call in (
        lambda: ClipPrompts.for_problem(scaled, ClipPromptsConfig(1.0), generators(0)),
        lambda: ClipPrompts.choose(scaled, held_out, ClipPromptsConfig(), generators(0)),
    ):
        with pytest.raises(InputError, match=f"found {found}.*expected those of one image-text"):
            call()


def test_added_class_scores_as_one_present_from_the_start() -> None:
    vector = np.linspace(-1, 1, 5, dtype=np.float32)
    grown = training_problem(grow_dataset(DATASET, {"new": vector}), "test")
    before = model_of(DATASET, 5.0)
    after = before.with_classes(grown)
    whole = model_of(grow_dataset(DATASET, {"new": vector}), 5.0)
    features = scaled_of(grown).feed.take(before.seen_classes)
    for ours, theirs in zip(
        after.class_scores(features), whole.class_scores(features), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert before.class_scores(features)[1].shape[1] == 3


def test_run_is_calibrated_alone_and_beside_the_recommended_method(tmp_path: Path) -> None:
    def run(model: str, *beside: str) -> RunResult:
        recipe = published_recipe(make_recipe(dataset="TINY"), model)
        settings = {"out": tmp_path, "device": "cpu", "beside": beside, "run": model}
        return run_experiment(
            Job(changed(recipe, **settings), dataset=DATASET), Console(quiet=True)
        )

    result = run("clip-prompts")
    metrics = result.metrics
    assert metrics["model"] == "CLIP prompts"
    assert metrics["choices"]["temperature"] > 0
    assert metrics["calibrated"]["gamma"] == metrics["validation"]["gamma"]
    assert metrics["T1"] > 0.6  # the nearest of these texts is mostly the right one
    beside = run("discriminant", "clip-prompts").metrics["baselines"]["CLIP prompts"]
    for name in ("T1", "U", "S", "H", "AUSUC", "calibrated", "choices"):
        assert beside[name] == metrics[name]
    loaded = load(result.directory, device="cpu")
    rows = DATASET.features[DATASET.test_unseen]
    scores = loaded.decision_function(rows)
    scale = metrics["validation"]["temperatures"]["among_all"]
    expected = softmax(scores.astype(np.float64) / scale, axis=1)
    np.testing.assert_allclose(loaded.predict_proba(rows), expected, rtol=1e-5)
    assert loaded.predict(rows).tolist() == loaded.classes_[scores.argmax(axis=1)].tolist()


def test_estimator_takes_a_users_vectors_of_one_length() -> None:
    names = np.array(DATASET.class_names)
    semantics = dict(zip(DATASET.class_names, DATASET.semantics, strict=True))
    estimator = ZeroShotClassifier("clip-prompts", random_state=0, device="cpu")
    train = DATASET.trainval
    estimator.fit(DATASET.features[train], names[DATASET.labels[train]], semantics)
    rows = DATASET.features[DATASET.test_unseen]
    cosines = cosine_similarity(rows, estimator.semantics_)
    temperature = estimator.choice_["temperature"]
    np.testing.assert_allclose(
        estimator.decision_function(rows), temperature * cosines, rtol=1e-3, atol=1e-3
    )
    with pytest.raises(InputError, match="expected those of one image-text encoder"):
        estimator.fit(DATASET.features[train, :4], names[DATASET.labels[train]], semantics)
