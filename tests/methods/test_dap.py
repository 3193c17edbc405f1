from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, training_problem
from gsmflow.learning.feed import MemoryFeed, Scaled
from gsmflow.methods.binary_attributes import binary_attributes
from gsmflow.methods.criteria import CRITERIA
from gsmflow.methods.criterion_model import CriterionModel
from gsmflow.methods.dap import DAP, DAPConfig, LogisticRegressions
from gsmflow.methods.iap import IAP, IAPConfig
from gsmflow.methods.seen_softmax import fit_seen_softmax
from gsmflow.runs import experiment
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from tests.builders import generators, make_dataset, scaled_of, tiny_recipe, write_mat

INDIRECT = IAPConfig(seen_lr=0.05, seen_batch_size=8, seen_epochs=10)
DIRECT = DAPConfig(attribute_penalty=0.1)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def attributes_of(problem: Problem) -> NDArray[Any]:
    return problem.semantics > problem.semantics.mean(axis=0)


def brute_force(problem: Problem, p: NDArray[Any]) -> NDArray[Any]:
    """Scores ``(n, classes)`` of every class, from probabilities of attributes, in plain loops."""
    b = attributes_of(problem)
    prior = b[problem.seen_classes].mean(axis=0)
    scores = np.zeros((len(p), len(b)))
    for row, c, m in np.ndindex(len(p), *b.shape):
        if 0 < prior[m] < 1:
            likelihood = p[row, m] if b[c, m] else 1 - p[row, m]
            scores[row, c] += np.log(likelihood) - np.log(prior[m] if b[c, m] else 1 - prior[m])
    return scores


def assert_scores(model: CriterionModel, problem: Problem, p: NDArray[Any]) -> None:
    rows = torch.from_numpy(problem.train.features)
    expected = brute_force(problem, np.clip(p, 1e-6, 1 - 1e-6))
    gzsl, zsl = model.class_scores(rows)
    np.testing.assert_allclose(gzsl, expected[:, problem.classes], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(zsl, expected[:, problem.unseen_classes], rtol=1e-3, atol=1e-2)


def test_attributes_are_above_their_mean_over_all_classes(problem: Problem) -> None:
    found = binary_attributes(problem, DIRECT)
    np.testing.assert_array_equal(found, attributes_of(problem))


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_regressions_are_logistic_with_an_l2_penalty(problem: Problem, penalty: float) -> None:
    b = attributes_of(problem)
    # Dimensions of such different scales are hard for L-BFGS without its change of coordinates.
    features = problem.train.features * np.array([100, 1, 1, 1, 1, 0.01], dtype=np.float32) + 1
    feed = MemoryFeed(torch.from_numpy(features), torch.from_numpy(problem.train.labels))
    targets = torch.from_numpy(b.astype(np.float32))
    weight, bias = LogisticRegressions(feed, targets).fit(penalty)
    x = features.astype(np.float64)
    for m, y in enumerate(b[problem.train.labels].T):
        model = LogisticRegression(
            C=1 / (penalty * len(y)), tol=1e-10, solver="newton-cholesky", max_iter=1000
        ).fit(x, y)
        p = 1 / (1 + np.exp(-x @ weight[m].numpy() - bias[m].item()))
        np.testing.assert_allclose(p, model.predict_proba(x)[:, 1], atol=5e-3)


def test_direct_scores_are_sums_over_the_attributes(problem: Problem) -> None:
    model = DAP.for_problem(scaled_of(problem), DIRECT, generators(0))
    x = problem.train.features.astype(np.float64)
    columns = []
    for y in attributes_of(problem)[problem.train.labels].T:
        regression = LogisticRegression(C=1 / (0.1 * len(y)), tol=1e-8).fit(x, y)
        columns.append(regression.predict_proba(x)[:, 1])
    assert_scores(model, problem, np.stack(columns, axis=1))


def test_indirect_scores_are_sums_over_the_attributes(problem: Problem) -> None:
    scaled = scaled_of(problem)
    model = IAP.for_problem(scaled, INDIRECT, generators(0))
    logits = fit_seen_softmax(scaled, INDIRECT, generators(0)).scores(problem.train.features)
    posteriors = softmax(logits.astype(np.float64), axis=1)
    assert_scores(model, problem, posteriors @ attributes_of(problem)[problem.seen_classes])


def fitted_models(scaled: Scaled, file: str = "") -> list[CriterionModel]:
    return [
        DAP.for_problem(scaled, replace(DIRECT, binary_attributes=file), generators(0)),
        IAP.for_problem(scaled, replace(INDIRECT, binary_attributes=file), generators(0)),
    ]


@pytest.mark.parametrize("unseen_too", [True, False])
def test_constant_attribute_stays_finite_and_changes_nothing(unseen_too: bool) -> None:
    dataset = make_dataset()
    dataset.semantics[:, 2] = 0.7
    if not unseen_too:  # constant over the seen classes alone
        dataset.semantics[dataset.unseen_classes, 2] = -5
    problem = training_problem(check_dataset(dataset), "test")
    without = replace(problem, semantics=np.delete(problem.semantics, 2, axis=1))
    rows = torch.from_numpy(dataset.features)
    pairs = zip(*map(fitted_models, map(scaled_of, (problem, without))), strict=True)
    for model, smaller in pairs:
        scores = model.class_scores(rows)[0]
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, smaller.class_scores(rows)[0])


# --- attributes from a file ----------------------------------------------------------------------


def write_attributes(file: Path, values: Any, **fields: Any) -> str:
    write_mat(file, {"attr": np.asarray(values), **fields})
    return str(file)


def test_attributes_of_the_file_replace_the_threshold(problem: Problem, tmp_path: Path) -> None:
    flipped = ~attributes_of(problem)
    file = write_attributes(tmp_path / "flipped.mat", flipped.astype(np.uint8))
    opposite = replace(problem, semantics=-problem.semantics)
    rows = torch.from_numpy(problem.train.features)
    pairs = zip(
        fitted_models(scaled_of(problem), file), fitted_models(scaled_of(opposite)), strict=True
    )
    for from_file, from_semantics in pairs:
        for ours, theirs in zip(
            from_file.class_scores(rows), from_semantics.class_scores(rows), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_attributes_that_are_the_same_for_all_seen_classes_are_refused(
    problem: Problem, tmp_path: Path
) -> None:
    values = np.ones((10, 3))
    values[problem.unseen_classes] = 0
    file = write_attributes(tmp_path / "ones.mat", values)
    with pytest.raises(InputError, match=r"ones\.mat: found no attribute that some seen classes"):
        fitted_models(scaled_of(problem), file)


def run_tiny(folder: Path, model: str, **changes: Any) -> RunResult:
    settings: dict[str, Any] = {"run": "run", "beside": (), "model": model}
    recipe = tiny_recipe(folder, **settings | changes)
    return run_experiment(Job(recipe), Console(quiet=True))


@pytest.mark.usefixtures("quick_pictures")
@pytest.mark.parametrize("model", ["dap", "iap"])
def test_changed_or_missing_file_is_refused_until_the_model_is_saved(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 2, size=(10, 7))
    path = tmp_path / "attributes.mat"
    file = write_attributes(path, values)

    def crash(*arguments: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit_final", crash)
        with pytest.raises(KeyboardInterrupt):
            run_tiny(tmp_path, model, binary_attributes=file)
    write_attributes(path, 1 - values)
    with pytest.raises(InputError, match=r"attributes\.mat: found other attributes than those"):
        run_tiny(tmp_path, model, binary_attributes=file, resume=True)
    path.unlink()
    with pytest.raises(InputError, match=r"attributes\.mat: no such file, expected the binary"):
        run_tiny(tmp_path, model, binary_attributes=file, resume=True)
    write_attributes(path, values)
    whole = run_tiny(tmp_path, model, binary_attributes=file, resume=True)
    path.unlink()
    again = run_tiny(tmp_path, model, binary_attributes=file, resume=True)
    assert again.metrics == whole.metrics
    features = whole.held_out.unseen.features
    kept = open_trained(whole.directory, torch.device("cpu")).scorer.gzsl_scores(features)
    np.testing.assert_array_equal(
        kept, open_trained(again.directory, torch.device("cpu")).scorer.gzsl_scores(features)
    )


def test_models_of_the_same_choice_are_fitted_once(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    penalties: list[float] = []
    fit = LogisticRegressions.fit
    monkeypatch.setattr(
        LogisticRegressions, "fit", lambda self, p: (penalties.append(p), fit(self, p))[1]
    )
    choice = {c: {"attribute_penalty": p} for c, p in zip(CRITERIA, (0.1, 1.0, 0.1), strict=True)}
    model = DAP.for_choice(scaled_of(problem), DAPConfig(), choice, generators(0))
    assert penalties == [0.1, 1.0]
    weight = model.state_dict()["weight"]
    assert torch.equal(weight[0], weight[2])
    assert not torch.equal(weight[0], weight[1])
