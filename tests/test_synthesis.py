"""Synthesized rows: how many, of which class, in which order."""

import pytest
import torch
from torch import Tensor

from gsmflow.dataset import check_dataset, training_problem
from gsmflow.model import GSMFlow, ModelConfig
from gsmflow.synthesis import Sampler, synthesize
from tests.builders import feed_of, make_dataset, seeded


class LabelledNoise:
    """Draws ``(class, noise)``, so that a row shows the class it was drawn for."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.sizes: list[int] = []

    def sample(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        self.sizes.append(len(classes))
        noise = torch.randn(len(classes), generator=generator)
        return torch.stack([classes.float(), noise], dim=1).to(self.dtype)


def make_gsmflow() -> GSMFlow:
    problem = training_problem(check_dataset(make_dataset()), "test")
    config = ModelConfig(blocks=1, hidden=4, condition_dim=3)
    return GSMFlow.for_problem(problem, feed_of(problem), config, seeded(0))


def test_rows_come_class_by_class_in_the_order_given() -> None:
    features, labels = synthesize(LabelledNoise(), torch.tensor([7, 2, 9]), 3, seeded(0))
    assert labels.tolist() == [7, 7, 7, 2, 2, 2, 9, 9, 9]
    assert features[:, 0].tolist() == labels.tolist()
    assert features.shape == (9, 2)


@pytest.mark.parametrize("per_class", [1, 1365, 4095, 4096, 4097, 9000])
def test_every_class_gets_its_rows_whatever_the_chunks(per_class: int) -> None:
    model = LabelledNoise()
    features, labels = synthesize(model, torch.tensor([4, 0, 3]), per_class, seeded(0))
    assert labels.unique(return_counts=True)[1].tolist() == [per_class] * 3
    assert torch.equal(features[:, 0].long(), labels)
    assert sum(model.sizes) == 3 * per_class
    # No row is written twice or left unwritten: all noise is distinct and Gaussian.
    noise = features[:, 1]
    assert len(noise.unique()) > 0.99 * len(noise)
    assert noise.isfinite().all()
    assert noise.abs().max() < 6


def test_a_large_request_is_drawn_in_pieces() -> None:
    model = LabelledNoise()
    synthesize(model, torch.arange(5), 20_000, seeded(0))
    assert max(model.sizes) < 20_000


@pytest.mark.parametrize("model", [LabelledNoise(), make_gsmflow()])
def test_rows_are_the_generators(model: Sampler) -> None:
    classes = torch.tensor([8, 1])
    runs = [synthesize(model, classes, 2500, seeded(s))[0] for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_one_chunk_is_one_draw_of_the_model() -> None:
    model, classes = make_gsmflow(), torch.tensor([8, 1])
    features, labels = synthesize(model, classes, 5, seeded(0))
    assert torch.equal(features, model.sample(labels, seeded(0)))
    assert features.shape == (10, 6)
    assert not features.requires_grad


def test_features_keep_the_samplers_type() -> None:
    features, labels = synthesize(LabelledNoise(torch.float64), torch.tensor([1]), 2, seeded(0))
    assert features.dtype == torch.float64
    assert labels.dtype == torch.int64
