"""CN-ZSL against numpy, finite differences and the paper's proposition on variances."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.cn_zsl import (
    CNZSL,
    METHOD,
    ClassStandardization,
    CNZSLConfig,
    DivisorName,
    PrototypeNetwork,
    normalized_attributes,
)
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients

SMALL = CNZSLConfig(hidden=7)
RANDOM = BatchRandom(seeded(2))
TRAINING = TrainingConfig(epochs=6, batch_size=8, learning_rate=1e-2, weight_decay=1e-4)
DIVISORS: list[DivisorName] = ["variance", "deviation"]


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"))


def make_model(scaled: Scaled, **changes: Any) -> CNZSL:
    return CNZSL.for_problem(scaled, replace(SMALL, **changes), generators(0))


def trained(scaled: Scaled, **changes: Any) -> CNZSL:
    model = make_model(scaled, **changes)
    trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
    for _ in range(TRAINING.epochs):
        trainer.run_epoch()
    return model


def numpy_standardized(
    values: NDArray[Any], mean: NDArray[Any], variance: NDArray[Any], divisor: DivisorName
) -> NDArray[Any]:
    spread = variance + 1e-5
    return np.asarray((values - mean) / (spread if divisor == "variance" else np.sqrt(spread)))


def numpy_logits(model: CNZSL, features: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Logits of rows by the published formulas, with the statistics of the given classes."""
    config = model.config
    weights = {name: p.detach().numpy() for name, p in model.network.named_parameters()}

    def linear(name: str, values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(values @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0))

    def cn(values: NDArray[Any]) -> NDArray[Any]:
        mean, variance = values.mean(axis=0), values.var(axis=0, ddof=1)
        return numpy_standardized(values, mean, variance, config.cn_divisor)

    values = np.maximum(linear("hidden.0", model.semantics.numpy()[classes]), 0)
    values = cn(np.maximum(cn(linear("hidden.1", values)), 0))
    prototypes = np.maximum(linear("output", values), 0)
    x = 5 * features / np.linalg.norm(features, axis=1, keepdims=True)
    p = 5 * prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    return np.asarray(x @ p.T)


@pytest.mark.parametrize("divisor", DIVISORS)
def test_class_standardization_equals_numpy(divisor: DivisorName) -> None:
    layer = ClassStandardization(4, divisor).double()
    mean, variance = np.zeros(4), np.ones(4)
    for step in range(3):
        values = torch.randn(6, 4, generator=seeded(step), dtype=torch.float64) * 2 + 1
        array = values.numpy()
        of_step = array.mean(axis=0), array.var(axis=0, ddof=1)
        expected = numpy_standardized(array, *of_step, divisor)
        np.testing.assert_allclose(layer.over_classes(values), expected)
        mean, variance = 0.9 * mean + 0.1 * of_step[0], 0.9 * variance + 0.1 * of_step[1]
        np.testing.assert_allclose(layer.mean, mean)
        np.testing.assert_allclose(layer.variance, variance)
    one = torch.randn(1, 4, generator=seeded(9), dtype=torch.float64)
    expected = numpy_standardized(one.numpy(), mean, variance, divisor)
    np.testing.assert_allclose(layer(one), expected)


@pytest.mark.parametrize("divisor", DIVISORS)
def test_loss_equals_numpy(scaled: Scaled, divisor: DivisorName) -> None:
    model = make_model(scaled, cn_divisor=divisor).double()
    features, labels = scaled.feed.take(torch.arange(12)).double(), scaled.feed.labels[:12]
    seen = scaled.problem.seen_classes
    logits = numpy_logits(model, features.numpy(), seen)
    columns = np.searchsorted(seen, labels.numpy())
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), columns]
    found = model.loss(features, labels, RANDOM)
    assert found.total.item() == pytest.approx(losses.mean())
    assert found.parts == {"cross_entropy": found.total}


def test_attributes_have_a_mean_square_of_one_and_a_zero_vector_stays() -> None:
    semantics = torch.rand(5, 9, generator=seeded(0))
    found = normalized_attributes(semantics)
    torch.testing.assert_close(found.square().mean(dim=1), torch.ones(5))
    torch.testing.assert_close(found / found[:, :1], semantics / semantics[:, :1])
    assert not normalized_attributes(torch.zeros(1, 9)).any()


def test_last_layer_keeps_the_variance_of_the_logits() -> None:
    """The paper's proposition, for features and hidden units of mean 0 and variance 1."""
    a, h, d = 60, 400, 300
    config = CNZSLConfig(hidden=h, cn_divisor="deviation")
    network = PrototypeNetwork(config, a, d, seeded(0))
    weight = network.output.weight.detach()
    assert weight.var().item() == pytest.approx(1 / (h * d), rel=0.02)
    assert weight.abs().max().item() <= math.sqrt(3 / (h * d))
    hidden: list[torch.Tensor] = []
    network.output.register_forward_hook(lambda layer, inputs, output: hidden.append(inputs[0]))
    semantics = normalized_attributes(torch.randn(200, a, generator=seeded(1)))
    network(semantics, of_step=True)
    features = torch.randn(500, d, generator=seeded(2))
    logits = features @ (hidden[0].detach() @ weight.T).T
    assert logits.var().item() == pytest.approx(1, rel=0.1)
    # With torch's initial weights, the variance grows with the number of dimensions.
    plain = PrototypeNetwork(replace(config, small_init=False), a, d, seeded(0)).output.weight
    assert (features @ (hidden[0] @ plain.T).T).var().item() == pytest.approx(d / 3, rel=0.1)


def test_sizes_and_other_initial_weights_are_the_published_ones() -> None:
    network = PrototypeNetwork(CNZSLConfig(), 85, 2048, seeded(0))
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if p.ndim > 1}
    assert shapes == {
        "hidden.0.weight": (1024, 85),
        "hidden.1.weight": (1024, 1024),
        "output.weight": (2048, 1024),
    }
    for name, parameter in network.named_parameters():
        bound = {"hidden.0": 85**-0.5}.get(name.rpartition(".")[0], 1024**-0.5)
        if name != "output.weight":
            assert 0.9 * bound < parameter.abs().max().item() <= bound


@pytest.mark.parametrize("relu", [True, False])
def test_prototypes_may_be_negative_without_relu_at_the_end(relu: bool) -> None:
    network = PrototypeNetwork(CNZSLConfig(hidden=20, output_relu=relu), 30, 50, seeded(0))
    inputs: list[torch.Tensor] = []
    network.output.register_forward_hook(lambda layer, given, output: inputs.append(given[0]))
    prototypes = network(torch.randn(4, 30, generator=seeded(1)))
    linear = inputs[0] @ network.output.weight.T + network.output.bias
    torch.testing.assert_close(prototypes, linear.clamp(min=0) if relu else linear)
    assert (linear < 0).any()


def test_without_hidden_layers_prototypes_are_linear_in_the_semantics() -> None:
    config = CNZSLConfig(hidden_layers=0)
    network = PrototypeNetwork(config, 30, 2000, seeded(0))
    assert {name for name, _ in network.named_parameters()} == {"output.weight", "output.bias"}
    assert not network.normalizations
    assert network.output.weight.var().item() == pytest.approx(1 / (30 * 2000), rel=0.02)
    semantics = torch.randn(4, 30, generator=seeded(1))
    expected = semantics @ network.output.weight.T + network.output.bias
    torch.testing.assert_close(network(semantics), expected)
    torch.testing.assert_close(network(semantics, of_step=True), expected)


def test_scores_of_a_class_do_not_depend_on_which_classes_are_asked(scaled: Scaled) -> None:
    model = trained(scaled)
    semantics = model.semantics
    every = model.network(semantics)
    for subset in ([0], [9, 2], [3, 4, 5, 8]):
        torch.testing.assert_close(model.network(semantics[subset]), every[subset])
    gzsl, zsl = model.class_scores(scaled.feed.take(torch.arange(5)))
    np.testing.assert_array_equal(zsl, gzsl[:, len(model.seen_classes) :])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.class_scores(scaled.feed.take(torch.arange(5)))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_running_statistics_approach_those_of_the_seen_classes(scaled: Scaled) -> None:
    model = make_model(scaled)
    batch = scaled.feed.take(torch.arange(8)), scaled.feed.labels[:8]
    for _ in range(200):  # the weights stay the same
        model.loss(*batch, RANDOM)
    seen = model.semantics[model.seen_classes]
    torch.testing.assert_close(
        model.network(seen), model.network(seen, of_step=True), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("changes", [{}, *METHOD.variants.values()], ids=str)
def test_gradients_equal_finite_differences(scaled: Scaled, changes: dict[str, Any]) -> None:
    model = make_model(scaled, **changes).double()
    features, labels = scaled.feed.take(torch.arange(10)).double(), scaled.feed.labels[:10]

    def loss() -> torch.Tensor:
        total: torch.Tensor = model.loss(features, labels, RANDOM).total
        return total

    assert_gradients(model, loss, step=1e-6, relative=1e-4, absolute=1e-7)


def test_plain_perceptron_has_no_statistics_and_dot_products(scaled: Scaled) -> None:
    model = trained(scaled, **METHOD.variants["mlp-no-an-no-ns"])
    assert len(model.network.normalizations) == 0
    torch.testing.assert_close(model.semantics, torch.tensor(scaled.problem.semantics))
    features = scaled.feed.take(torch.arange(5))
    scores, _ = model.class_scores(features)
    classes = torch.from_numpy(scaled.problem.classes)
    prototypes = model.network(model.semantics[classes])
    torch.testing.assert_close(torch.from_numpy(scores), features @ prototypes.T)


def test_training_is_deterministic(scaled: Scaled) -> None:
    first, second = trained(scaled), trained(scaled)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_one_seen_class_cannot_be_standardised(scaled: Scaled) -> None:
    problem = replace(scaled.problem, seen_classes=scaled.problem.seen_classes[:1])
    with pytest.raises(InputError, match="seen classes: found 1, expected at least 2"):
        make_model(replace(scaled, problem=problem))
    make_model(replace(scaled, problem=problem), class_normalization=False)
