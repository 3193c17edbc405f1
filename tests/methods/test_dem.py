"""DEM against numpy, finite differences and the published settings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.dem import DEM, DEMConfig, SimilarityName
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients

SMALL = DEMConfig(hidden=9, semantics_scaling="none")
RANDOM = BatchRandom(seeded(2))
TRAINING = TrainingConfig(epochs=6, batch_size=8, learning_rate=1e-2, weight_decay=1e-3)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"))


def make_model(scaled: Scaled, **changes: Any) -> DEM:
    return DEM.for_problem(scaled, replace(SMALL, **changes), generators(0))


def numpy_prototypes(model: DEM) -> np.ndarray[Any, Any]:
    """Prototypes of every class, ``(classes, d)``."""
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    hidden = np.maximum(model.semantics.numpy() @ w["hidden.weight"].T + w["hidden.bias"], 0)
    output = hidden @ w["output.weight"].T + w["output.bias"]
    return np.asarray(np.maximum(output, 0) if model.config.output_relu else output)


@pytest.mark.parametrize("relu", [True, False])
def test_loss_is_the_mean_squared_error_over_all_entries(scaled: Scaled, relu: bool) -> None:
    model = make_model(scaled, output_relu=relu).double()
    features, labels = scaled.feed.take(torch.arange(12)).double(), scaled.feed.labels[:12]
    expected = np.mean((numpy_prototypes(model)[labels.numpy()] - features.numpy()) ** 2)
    found = model.loss(features, labels, RANDOM)
    assert found.total.item() == pytest.approx(expected)
    assert found.parts == {"squared_error": found.total}


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_scores_equal_scipy(scaled: Scaled, similarity: SimilarityName) -> None:
    model = make_model(scaled, similarity=similarity)
    features = scaled.feed.take(torch.arange(7))
    prototypes = numpy_prototypes(model)[scaled.problem.classes]
    expected = -cdist(features.numpy(), prototypes, similarity)
    gzsl, zsl = model.class_scores(features)
    np.testing.assert_allclose(gzsl, expected + (similarity == "cosine"), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(zsl, gzsl[:, len(scaled.problem.seen_classes) :])


def test_sizes_and_initial_weights_are_the_published_ones() -> None:
    classes = torch.arange(3)
    buffers = {"seen_classes": classes[:2], "unseen_classes": classes[2:]}
    model = DEM(DEMConfig(), 2048, seeded(0), semantics=torch.zeros(3, 85), **buffers)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "hidden.weight": (1600, 85),
        "hidden.bias": (1600,),
        "output.weight": (2048, 1600),
        "output.bias": (2048,),
    }
    # A normal distribution that is cut at two standard deviations has 0.88 of its deviation.
    for layer in (model.hidden, model.output):
        assert 0.19 < layer.weight.abs().max().item() <= 0.2
        assert layer.weight.std().item() == pytest.approx(0.088, rel=0.01)
        assert torch.equal(layer.bias, torch.full_like(layer.bias, 0.1))


def test_weight_decay_is_the_penalty_of_the_paper(scaled: Scaled) -> None:
    """The first step of Adam with weight decay equals that on the penalised loss without."""
    penalty, batch = 0.3, (scaled.feed.take(torch.arange(8)), scaled.feed.labels[:8])
    decayed, penalised = make_model(scaled), make_model(scaled)
    of_decay = torch.optim.Adam(decayed.parameters(), lr=1e-2, eps=1e-3, weight_decay=penalty)
    of_penalty = torch.optim.Adam(penalised.parameters(), lr=1e-2, eps=1e-3)
    decayed.loss(*batch, RANDOM).total.backward()
    squares = [p.square().sum() / 2 for p in penalised.parameters()]
    (penalised.loss(*batch, RANDOM).total + penalty * torch.stack(squares).sum()).backward()
    of_decay.step()
    of_penalty.step()
    for ours, theirs in zip(decayed.parameters(), penalised.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    model = make_model(scaled).double()
    features, labels = scaled.feed.take(torch.arange(10)).double(), scaled.feed.labels[:10]

    def loss() -> torch.Tensor:
        total: torch.Tensor = model.loss(features, labels, RANDOM).total
        return total

    assert_gradients(model, loss, step=1e-6, relative=1e-4, absolute=1e-7)


def test_norm_is_the_mean_length_of_seen_semantics(scaled: Scaled) -> None:
    model = make_model(scaled, semantics_scaling="norm", semantics_norm=412.0)
    lengths = model.semantics[model.seen_classes].norm(dim=1)
    assert lengths.mean().item() == pytest.approx(412)


def test_training_is_deterministic_and_lowers_the_loss(scaled: Scaled) -> None:
    models, histories = [make_model(scaled), make_model(scaled)], []
    for model in models:
        trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
        histories.append([trainer.run_epoch()["squared_error"] for _ in range(6)])
    assert histories[0] == histories[1]
    assert histories[0][-1] < histories[0][0]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name
