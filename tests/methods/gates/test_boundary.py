"""The boundary gate's model: losses by hand, learning, and unseen classes."""

import json

import numpy as np
import torch

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import open_held_out, training_problem
from gsmflow.learning.feed import Scaled, scale_problem
from gsmflow.learning.trainer import Trainer
from gsmflow.methods.gates.boundary import BoundaryConfig, HypersphericalVAEs, boundary_training
from tests.builders import generators, make_dataset, seeded

SMALL = BoundaryConfig(
    latent_dim=8,
    hidden=32,
    epochs=12,
    batch_size=14,
    learning_rate=2e-2,
)


def made_up() -> tuple[HypersphericalVAEs, Scaled]:
    problem = training_problem(check_dataset(make_dataset()), "test")
    scaled = scale_problem(problem, "l2", torch.device("cpu"), "memory")
    return HypersphericalVAEs.for_problem(scaled, SMALL, generators(0)), scaled


def test_loss_is_the_weighted_sum_of_its_parts_and_is_reproducible() -> None:
    model, scaled = made_up()
    rows = torch.arange(8)
    batch = scaled.feed.take(rows), scaled.feed.labels[rows]
    loss = model.loss(*batch, BatchRandom(seeded(1)))
    parts = loss.parts
    total = parts["reconstruction"] + 0.1 * parts["transport"] + parts["classification"]
    torch.testing.assert_close(loss.total, total)
    torch.testing.assert_close(model.loss(*batch, BatchRandom(seeded(1))).total, loss.total)
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_posterior_is_a_direction_and_a_concentration_above_a_hundred() -> None:
    model, scaled = made_up()
    direction, kappa = model.image_encoder(scaled.feed.take(torch.arange(5)))
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(5))
    assert (kappa > 100).all()
    cosine = model.nearest_cosine(scaled.feed.take(torch.arange(5)))
    directions, _ = model.semantics_encoder(model.semantics)
    expected = (direction @ directions.T).max(dim=1).values
    torch.testing.assert_close(cosine, expected)


def test_model_of_the_same_state_gives_the_same_cosines() -> None:
    model, scaled = made_up()
    description = json.loads(json.dumps(model.describe()))
    again = HypersphericalVAEs.from_state(description, model.state_dict())
    rows = scaled.feed.take(torch.arange(20))
    torch.testing.assert_close(
        again.nearest_cosine(rows), model.nearest_cosine(rows), rtol=0, atol=0
    )


def test_training_aligns_rows_with_the_direction_of_their_class() -> None:
    model, scaled = made_up()
    trainer = Trainer(model, scaled.feed, boundary_training(SMALL), seeded(2))
    history = [trainer.run_epoch() for _ in range(SMALL.epochs)]
    assert history[-1]["classification"] < 0.5 * history[0]["classification"]
    held_out = open_held_out(check_dataset(make_dataset()), "test")
    features = torch.from_numpy(scaled.scaling(held_out.seen.features))
    with torch.no_grad():
        rows, _ = model.image_encoder(features)
        directions, _ = model.semantics_encoder(model.semantics)
    answers = scaled.problem.seen_classes[(rows @ directions.T).argmax(dim=1).numpy()]
    assert np.mean(answers == held_out.seen.labels) > 0.6
