"""The plain baseline and the package compute the same thing, in float64."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.plain import (
    PlainModel,
    PlainTrainer,
    plain_copy,
    plain_pair,
    plain_softmax,
    plain_synthesis,
)
from gsmflow.core.errors import InputError
from gsmflow.core.rng import BatchRandom
from gsmflow.data.dataset import Problem, Rows
from gsmflow.learning.contract import Losses
from gsmflow.learning.feed import MemoryFeed, join
from gsmflow.learning.softmax import SoftmaxClassifier, SoftmaxConfig, fit_softmax
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.gsmflow import GSMFlow
from tests.builders import feed_of, seeded
from tests.methods.test_gsmflow import UNSEEN, make_model, make_problem

CPU = torch.device("cpu")
# Thirty rows: three batches of nine, and three rows left out of every epoch.
TRAINING = TrainingConfig(batch_size=9, learning_rate=1e-3, weight_decay=0.01)
PERTURBATIONS = [
    {"perturbation": False},
    {"pi": 0.3},
    {"pi": 0.3, "perturbation_dropout": 0.4},
]


def make_double_problem(d: int = 4) -> Problem:
    problem = make_problem(d)
    features = problem.train.features.astype(np.float64)
    return replace(problem, train=Rows(features, problem.train.labels))


def make_trainer(
    model: GSMFlow, problem: Problem, config: TrainingConfig, generator: torch.Generator
) -> Trainer:
    return Trainer(model, feed_of(problem), config, generator)


def package_loss(
    model: GSMFlow, problem: Problem, rows: Tensor, generator: torch.Generator
) -> Losses:
    features, labels = problem.train.features[rows], problem.train.labels[rows]
    return model.loss(torch.from_numpy(features), torch.from_numpy(labels), BatchRandom(generator))


def make_plain_trainer(
    plain: PlainModel, problem: Problem, config: TrainingConfig, generator: torch.Generator
) -> PlainTrainer:
    return PlainTrainer(plain, problem.train.features, problem.train.labels, config, generator)


def gradients_as_weights(model: GSMFlow) -> PlainModel:
    """A plain copy of a model whose weights are the model's gradients."""
    carrier = deepcopy(model)
    with torch.no_grad():
        for parameter, original in zip(carrier.parameters(), model.parameters(), strict=True):
            assert original.grad is not None
            assert original.grad.any()
            parameter.copy_(original.grad)
    return plain_copy(carrier)


def assert_same(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_every_weight_is_copied_once() -> None:
    model = make_model().double()
    with torch.no_grad():
        for i, value in enumerate(model.parameters()):
            value.copy_(torch.arange(value.numel()).reshape(value.shape) + 10_000 * i)
    ours, theirs = (
        torch.nn.utils.parameters_to_vector(m.parameters()) for m in (model, plain_copy(model))
    )
    assert torch.equal(ours.sort().values, theirs.sort().values)


@pytest.mark.parametrize("d", [2, 5, 7])
def test_flows_are_equal(d: int) -> None:
    model = make_model(make_problem(d), blocks=3).double()
    plain = plain_copy(model)
    x = 2 * torch.randn(8, d, generator=seeded(1), dtype=torch.float64)
    classes = torch.tensor([5, 1, 7, 0, 1, 5, 3, 2])
    condition = plain.positioning(plain.semantics[classes])
    every = model.condition(torch.arange(8))
    offsets = model.flow.offsets(every)
    assert_same(condition, every[classes], 1e-12)
    z, log_det = plain(x, condition)
    expected_z, expected_log_det = model.flow(x, offsets, classes)
    assert log_det.abs().min() > 1e-3
    assert_same(z, expected_z, 1e-10)
    assert_same(log_det, expected_log_det, 1e-10)
    assert_same(plain.inverse(x, condition), model.flow.inverse(x, offsets, classes), 1e-10)


def test_copy_shares_no_memory_and_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    model = make_model()
    plain = plain_copy(model)
    assert torch.equal(torch.get_rng_state(), before)
    ours = {value.data_ptr() for value in model.state_dict().values()}
    assert not ours & {value.data_ptr() for value in plain.state_dict().values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copy_has_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    problem = make_problem()
    plain = plain_copy(make_model(problem).to(dtype))
    assert {value.dtype for value in plain.parameters()} == {dtype}
    make_plain_trainer(plain, problem, TRAINING, seeded(0)).step()
    features, _ = plain_synthesis(plain, np.array(UNSEEN), 2, seeded(0))
    assert features.dtype == dtype


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("condition_blocks", "first"),
        ("relative_positioning", False),
        ("prototype_trains_condition", True),
    ],
)
def test_model_of_another_form_is_refused(switch: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"found {switch} {value}, expected"):
        plain_copy(make_model(**{switch: value}))


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_losses_and_gradients_of_a_step_are_equal(
    weight: float, perturbation: dict[str, Any]
) -> None:
    problem = make_double_problem()
    model = make_model(problem, prototype_weight=weight, **perturbation).double()
    trainer = make_plain_trainer(plain_copy(model), problem, TRAINING, seeded(3))
    found = trainer.step()
    # The generator first draws the order of the rows, then the noise of the batch.
    generator = seeded(3)
    rows = torch.randperm(len(problem.train), generator=generator)[: TRAINING.batch_size]
    losses = package_loss(model, problem, rows, generator)
    losses.total.backward()
    assert found.keys() == losses.parts.keys()
    for name, value in losses.parts.items():
        assert_same(found[name], value.detach(), 1e-10)
    expected = dict(gradients_as_weights(model).named_parameters())
    for name, parameter in trainer.model.named_parameters():
        assert_same(parameter.grad, expected[name].detach(), 1e-10)


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_weights_after_two_epochs_are_equal(perturbation: dict[str, Any]) -> None:
    problem = make_double_problem()
    model = make_model(problem, prototype_weight=2.5, **perturbation).double()
    plain_trainer = make_plain_trainer(plain_copy(model), problem, TRAINING, seeded(3))
    start = {name: value.clone() for name, value in plain_trainer.model.state_dict().items()}
    trainer = make_trainer(model, problem, TRAINING, seeded(3))
    steps = trainer.steps_per_epoch
    assert steps == 3
    for _ in range(2):
        means = trainer.run_epoch()
        parts = [plain_trainer.step() for _ in range(steps)]
        for name, mean in means.items():
            assert mean == pytest.approx(np.mean([float(p[name]) for p in parts]), rel=1e-8)
    expected = dict(plain_copy(model).named_parameters())
    for name, value in plain_trainer.model.named_parameters():
        assert_same(value.detach(), expected[name].detach(), 1e-9)
        assert (value - start[name]).abs().max() > 1e-3


def test_step_accepts_a_batch_size_above_the_number_of_rows() -> None:
    problem = make_double_problem()
    config = replace(TRAINING, batch_size=100)
    model = make_model(problem).double()
    plain_trainer = make_plain_trainer(plain_copy(model), problem, config, seeded(3))
    means = make_trainer(model, problem, config, seeded(3)).run_epoch()
    parts = plain_trainer.step()
    assert {name: float(value) for name, value in parts.items()} == pytest.approx(means, rel=1e-9)


def test_synthesis_equals_that_of_the_package() -> None:
    model = make_model().double()
    features, labels = plain_synthesis(plain_copy(model), np.array(UNSEEN), 6, seeded(4))
    assert labels.tolist() == np.repeat(UNSEEN, 6).tolist()
    generator = seeded(4)
    expected = [model.sample(torch.full((6,), c), generator) for c in UNSEEN]
    assert_same(features, torch.cat(expected), 1e-10)
    assert not features.requires_grad


def make_rows() -> tuple[Tensor, Tensor, Any]:
    """Overlapping classes whose numbers are neither contiguous nor in the order of columns."""
    classes = np.array([9, 2, 5])
    labels = torch.from_numpy(classes[np.arange(50) % 3])
    noise = torch.randn(50, 4, generator=seeded(6), dtype=torch.float64)
    return noise + torch.stack([labels == int(c) for c in (2, 9, 5, 2)], dim=1), labels, classes


def assert_same_classifier(plain: torch.nn.Sequential, expected: SoftmaxClassifier) -> None:
    assert_same(plain[0].weight.detach(), expected.weight, 1e-9)
    assert_same(plain[0].bias.detach(), expected.bias, 1e-9)
    features = torch.randn(5, expected.weight.shape[1], generator=seeded(8)).to(expected.weight)
    scores = features @ expected.weight.T + expected.bias
    # The plain classifier returns log-probabilities.
    assert_same(plain(features).detach(), scores.log_softmax(dim=1), 1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        # Later passes shuffle shuffled rows, so that batches are equal only in the first pass ...
        {"batch_size": 10, "epochs": 1},
        # ... and always if a batch has all rows.
        {"batch_size": 50, "epochs": 7},
    ],
)
def test_classifier_equals_that_of_the_package(settings: dict[str, Any]) -> None:
    features, labels, classes = make_rows()
    config = SoftmaxConfig(lr=0.05, **settings)
    found = plain_softmax(features, labels, classes, config, CPU, seeded(2))
    expected = fit_softmax(MemoryFeed(features, labels), classes, config, seeded(2))
    assert_same_classifier(found, expected)


def test_classifier_uses_every_row_once_in_a_pass_with_its_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[tuple[Tensor, Tensor]] = []
    criterion = torch.nn.functional.nll_loss

    def spy(output: Tensor, target: Tensor, *options: Any, **named: Any) -> Tensor:
        batches.append((output.detach(), target))
        return criterion(output, target, *options, **named)

    monkeypatch.setattr(torch.nn.functional, "nll_loss", spy)
    features, labels, classes = make_rows()
    # At this learning rate the weights stay the same, so that an output identifies its row.
    config = SoftmaxConfig(lr=1e-12, batch_size=16, epochs=3)
    classifier = plain_softmax(features, labels, classes, config, CPU, seeded(2))
    outputs = classifier(features).detach()
    assert [len(target) for _, target in batches] == [16, 16, 16, 16] * 3
    output, target = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    rows = torch.cdist(output, outputs).argmin(dim=1)
    assert torch.equal(torch.from_numpy(classes)[target], labels[rows])
    # Twelve batches are three passes over the fifty rows and the beginning of a fourth.
    orders = [rows[start : start + 50].tolist() for start in (0, 50, 100)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(rows[150:].tolist())) == len(rows[150:]) == 42
    assert len({tuple(order) for order in orders}) == 3


def test_pair_of_classifiers_equals_that_of_the_package() -> None:
    problem = make_double_problem()
    model = make_model(problem).double()
    config = SoftmaxConfig(lr=0.05, batch_size=100, epochs=3)
    seen_features, seen_labels = map(
        torch.from_numpy, (problem.train.features, problem.train.labels)
    )
    gzsl, zsl = plain_pair(
        plain_copy(model), seen_features, seen_labels, np.array(UNSEEN), 6, config, seeded(4)
    )
    generator = seeded(4)
    made = torch.cat([model.sample(torch.full((6,), c), generator) for c in UNSEEN])
    made_labels = torch.tensor(UNSEEN).repeat_interleave(6)
    unseen = MemoryFeed(made, made_labels)
    expected = fit_softmax(join(feed_of(problem), unseen), np.arange(8), config, generator)
    assert_same_classifier(gzsl, expected)
    expected = fit_softmax(unseen, np.array(UNSEEN), config, generator)
    assert_same_classifier(zsl, expected)
