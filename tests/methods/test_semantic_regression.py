"""The regression onto semantics against its objective in numpy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning import feed as feeds
from gsmflow.learning.feed import Scaled
from gsmflow.methods.semantic_regression import (
    SemanticRegression,
    SemanticRegressionConfig,
    fit_semantic_regression,
    mapped_slabs,
)
from tests.builders import generators, make_dataset, scaled_of

CONFIG = SemanticRegressionConfig(hidden=7, penalty=0.02, iterations=2000)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"))


def fit(scaled: Scaled, factor: float = 1.0, **changes: Any) -> SemanticRegression:
    semantics = factor * torch.from_numpy(scaled.problem.semantics)
    return fit_semantic_regression(
        scaled.feed, semantics, replace(CONFIG, **changes), generators(0)
    )


def numpy_map(regression: SemanticRegression, x: NDArray[Any]) -> NDArray[Any]:
    w, b, v, c = (tensor.numpy().astype(np.float64) for tensor in regression)
    return np.asarray(np.tanh(x @ w.T + b) @ v.T + c)


def objective(regression: SemanticRegression, scaled: Scaled) -> float:
    """The objective for semantics whose mean length over the rows is 1."""
    s = scaled.problem.semantics[scaled.problem.train.labels].astype(np.float64)
    scale = np.linalg.norm(s, axis=1).mean()
    output = {"output_weight", "output_bias"}
    weights = {
        name: tensor.double() / scale if name in output else tensor.double()
        for name, tensor in regression._asdict().items()
    }
    rows = numpy_map(SemanticRegression(**weights), scaled.problem.train.features)
    squares = sum((tensor**2).sum().item() for tensor in weights.values())
    return float(((rows - s / scale) ** 2).sum(axis=1).mean() / 2 + CONFIG.penalty / 2 * squares)


def test_map_is_a_network_with_one_hidden_layer(scaled: Scaled) -> None:
    regression, x = fit(scaled, iterations=3), scaled.problem.train.features
    expected = numpy_map(regression, x)
    found = regression.map(torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    rows, labels = map(torch.cat, zip(*mapped_slabs(regression, scaled.feed), strict=True))
    np.testing.assert_array_equal(rows.numpy(), found.numpy())
    assert torch.equal(labels, scaled.feed.labels)


def test_no_direction_from_the_fit_lowers_the_objective(scaled: Scaled) -> None:
    fitted = fit(scaled)
    best, rng = objective(fitted, scaled), np.random.default_rng(1)
    assert best < objective(fit(scaled, iterations=5), scaled)
    for _ in range(40):
        moved = SemanticRegression(
            *(t + 0.02 * torch.from_numpy(rng.normal(size=t.shape)) for t in fitted)
        )
        assert objective(moved, scaled) > best


def test_scale_of_the_semantics_does_not_change_the_fit(scaled: Scaled) -> None:
    x = torch.from_numpy(scaled.problem.train.features)
    plain, large = (fit(scaled, factor, iterations=40).map(x) for factor in (1.0, 64.0))
    torch.testing.assert_close(large, 64 * plain, rtol=1e-3, atol=1e-2)


def test_fit_in_slabs_is_that_of_all_rows_and_repeatable(
    scaled: Scaled, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = fit(scaled, iterations=10), fit(scaled, iterations=10)
    for ours, theirs in zip(whole, again, strict=True):
        assert torch.equal(ours, theirs)
    monkeypatch.setattr(feeds, "_CHUNK", 9)
    for ours, theirs in zip(whole, fit(scaled, iterations=10), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)
