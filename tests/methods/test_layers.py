"""Dense layers' initial weights, and dropout, by their distributions."""

import math

import pytest
import torch
from torch import nn

from gsmflow.core.rng import BatchRandom
from gsmflow.methods.layers import InitialWeightsName, dense, draw_weights, dropout, perceptron
from tests.builders import seeded


def test_perceptron_has_relu_between_its_layers_or_after_each() -> None:
    kinds = [type(layer) for layer in perceptron((3, 4, 5))]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in perceptron((3, 4), relu_output=True)] == [nn.Linear, nn.ReLU]


def test_weights_that_nobody_drew_are_nan() -> None:
    layer = dense(3, 2)
    assert all(parameter.isnan().all() for parameter in layer.parameters())
    assert layer(torch.zeros(1, 3)).isnan().all()


def test_layers_are_made_without_the_global_generator() -> None:
    before = torch.get_rng_state()
    draw_weights(perceptron((3, 4, 5)), "xavier", seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "bound"), [("torch", 1 / math.sqrt(400)), ("xavier", math.sqrt(6 / 500))]
)
def test_weights_are_uniform_within_the_bound(name: InitialWeightsName, bound: float) -> None:
    network = perceptron((400, 100))
    draw_weights(network, name, seeded(0))
    weight, bias = network.parameters()
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert bool(bias.any()) == (name == "torch")
    assert bias.abs().max() <= bound


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    values = torch.full((300, 400), 3.0)
    dropped = dropout(values, 0.7, BatchRandom(seeded(1)))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.7, abs=0.01)
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 3 / 0.3))
    # No row and no column shares its mask.
    for axis in (0, 1):
        assert (dropped == 0).float().mean(dim=axis).std() < 0.05


def test_without_random_numbers_or_a_share_nothing_is_dropped() -> None:
    values = torch.ones(3, 4)
    assert dropout(values, 0.7, None) is values
    assert dropout(values, 0.0, BatchRandom(seeded(1))) is values
