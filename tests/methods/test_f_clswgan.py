"""f-CLSWGAN and what is added to its generator's loss, against loops."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.f_clswgan import FCLSWGAN, METHOD, FCLSWGANConfig, LinearRegressor
from gsmflow.methods.seen_softmax import fit_seen_softmax
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.learning.test_graphs import Watched
from tests.methods.gradients import assert_gradients
from tests.tape import Tape

SMALL = FCLSWGANConfig(hidden=9, critic_steps=2, seen_lr=0.05, seen_batch_size=8, seen_epochs=5)
ADDED: dict[str, dict[str, Any]] = {
    "classification": {"classification_weight": 0.7},
    "cycle": {"cycle_weight": 0.7},
    "centres": {"centre_weight": 0.7},
    "soul rows": {"soul_row_weight": 0.7},
    "soul classes": {"soul_class_weight": 0.7, "soul_classes": 4, "soul_rows": 3},
    "relations": {"relation_weight": 0.7, "relation_margin": 0.02, "relation_neighbours": 3},
}
TRAINING = TrainingConfig(
    epochs=6, batch_size=8, learning_rate=1e-2, weight_decay=0.0, lr_decay=1.0
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"), "minmax")


def make_model(scaled: Scaled, **changes: Any) -> FCLSWGAN:
    config = replace(SMALL, **({"classification_weight": 0.0} | changes))
    return FCLSWGAN.for_problem(scaled, config, generators(0)).double()


def batch_of(scaled: Scaled) -> Batch:
    rows = torch.arange(0, 56, 5)
    return Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])


def synthesized(model: FCLSWGAN, labels: Tensor) -> Tensor:
    """The first rows that a generator's loss synthesizes, with noise from seed 2."""
    semantics = model.semantics[labels]
    noise = torch.randn(semantics.shape, generator=seeded(2), dtype=torch.float64)
    return model.generator(noise, semantics).detach()  # type: ignore[no-any-return]


def loss_of(model: FCLSWGAN, scaled: Scaled) -> tuple[Tensor, dict[str, Tensor]]:
    return model.generator_loss(batch_of(scaled), BatchRandom(seeded(2)))


def class_rows(scaled: Scaled) -> dict[int, Tensor]:
    rows = scaled.feed.take(torch.arange(len(scaled.feed.labels))).double()
    return {int(c): rows[scaled.feed.labels == c] for c in scaled.problem.seen_classes}


# --- parts of the loss ---------------------------------------------------------------------------


@pytest.mark.parametrize("part", ADDED)
def test_part_is_weighted_and_its_gradient_equals_differences(scaled: Scaled, part: str) -> None:
    model = make_model(scaled, **ADDED[part])
    total, parts = loss_of(model, scaled)
    assert list(parts) == ["adversarial", part]
    assert parts[part] > 0
    expected = parts["adversarial"] + 0.7 * parts[part]
    torch.testing.assert_close(total, expected)
    for parameter in model.critic.parameters():
        parameter.requires_grad_(False)

    def added() -> Tensor:
        return loss_of(model, scaled)[1][part]

    assert_gradients(model.generator, added, step=1e-5, relative=1e-2, absolute=1e-6)
    assert all(p.grad is not None and p.grad.norm() > 0 for p in model.generator.parameters())


def test_classification_loss_is_that_of_the_frozen_seen_classifier(scaled: Scaled) -> None:
    model, labels = make_model(scaled, classification_weight=0.7), batch_of(scaled).labels
    softmax = fit_seen_softmax(scaled, SMALL, generators(0))
    logits = softmax.scores(synthesized(model, labels).float().numpy())
    columns = np.searchsorted(scaled.problem.seen_classes, labels.numpy())
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(shares[np.arange(len(labels)), columns]).mean()
    assert loss_of(model, scaled)[1]["classification"].item() == pytest.approx(expected, rel=1e-4)
    assert "seen_weight" not in dict(model.named_parameters())


def test_cycle_loss_is_the_squared_distance_of_regressed_semantics(scaled: Scaled) -> None:
    model, labels = make_model(scaled, cycle_weight=0.7), batch_of(scaled).labels
    made = synthesized(model, labels).numpy()
    regressed = made @ model.regressor_weight.numpy().T + model.regressor_bias.numpy()
    errors = ((regressed - scaled.problem.semantics[labels]) ** 2).sum(axis=1)
    assert loss_of(model, scaled)[1]["cycle"].item() == pytest.approx(errors.mean(), rel=1e-5)


def test_regression_approaches_least_squares(scaled: Scaled) -> None:
    semantics = torch.tensor(scaled.problem.semantics)
    regressor = LinearRegressor(semantics, scaled.feed.feature_dim, seeded(0))
    n = len(scaled.feed.labels)
    config = replace(TRAINING, epochs=600, batch_size=n, learning_rate=0.05)
    trainer = Trainer(regressor, scaled.feed, config, seeded(1))
    losses = [trainer.run_epoch()["regression"] for _ in range(600)]
    inputs = np.column_stack([scaled.feed.take(torch.arange(n)).numpy(), np.ones(n)])
    targets = scaled.problem.semantics[scaled.feed.labels.numpy()]
    _, squares, *_ = np.linalg.lstsq(inputs.astype(np.float64), targets, rcond=None)
    assert losses[-1] == pytest.approx(squares.sum() / n, rel=0.02)


def test_centre_loss_takes_the_means_of_the_real_rows(scaled: Scaled) -> None:
    model, labels = make_model(scaled, centre_weight=0.7), batch_of(scaled).labels
    made, real = synthesized(model, labels), class_rows(scaled)
    distances = [
        float((made[labels == c].mean(dim=0) - real[c].mean(dim=0)).norm())
        for c in set(labels.tolist())
    ]
    expected = sum(distances) / len(real)
    assert loss_of(model, scaled)[1]["centres"].item() == pytest.approx(expected, rel=1e-5)


def test_soul_losses_take_the_nearest_centre_of_the_own_class(scaled: Scaled) -> None:
    model, labels = make_model(scaled, soul_row_weight=0.7), batch_of(scaled).labels
    made, seen = synthesized(model, labels), scaled.problem.seen_classes.tolist()
    distances = [
        min(float((row - soul).square().sum()) for soul in model.souls[seen.index(int(c))])
        for row, c in zip(made, labels, strict=True)
    ]
    assert loss_of(model, scaled)[1]["soul rows"].item() == pytest.approx(np.mean(distances))


def test_soul_classes_are_means_of_rows_of_random_seen_classes(scaled: Scaled) -> None:
    model = make_model(scaled, **ADDED["soul classes"])
    random = BatchRandom(seeded(2))
    found = model.generator_loss(batch_of(scaled), random)[1]["soul classes"].item()
    again, labels = BatchRandom(seeded(2)), batch_of(scaled).labels
    again.normal(model.semantics[labels])
    columns = again.subset(4, len(scaled.problem.seen_classes)).tolist()
    assert len(set(columns)) == 4
    noise = again.normal(torch.zeros(12, model.semantics.shape[1], dtype=torch.float64))
    distances = []
    for i, column in enumerate(columns):
        semantics = model.semantics[model.seen_classes[column]].expand(3, -1)
        mean = model.generator(noise[3 * i : 3 * i + 3], semantics).detach().mean(dim=0)
        distances.append(min(float((mean - s).square().sum()) for s in model.souls[column]))
    assert found == pytest.approx(np.mean(distances))


def test_relations_compare_with_the_most_similar_other_seen_classes(scaled: Scaled) -> None:
    model = make_model(scaled, **ADDED["relations"])
    seen, semantics = scaled.problem.seen_classes, scaled.problem.semantics.astype(np.float64)
    unit = semantics / np.linalg.norm(semantics, axis=1, keepdims=True)
    for c, (near, values) in enumerate(zip(model.neighbours, model.similarities, strict=True)):
        cosines = {i: float(unit[c] @ unit[k]) for i, k in enumerate(seen) if k != c}
        expected = sorted(cosines, key=lambda i: -cosines[i])[:3]
        assert near.tolist() == expected
        np.testing.assert_allclose(values, [cosines[i] for i in expected], atol=1e-6)


def test_relation_loss_is_a_sum_over_the_classes_of_a_batch(scaled: Scaled) -> None:
    """LsrGAN's loss, section 3.2 of the paper, class by class."""
    model = make_model(scaled, **ADDED["relations"])
    made, labels = batch_of(scaled)
    assert len(labels.unique()) > 2
    expected = 0.0
    for c in labels.unique():
        mean = made[labels == c].mean(dim=0)
        for k, similarity in zip(model.neighbours[c], model.similarities[c], strict=True):
            cosine = torch.cosine_similarity(mean, model.centres[k].to(mean), dim=0)
            over, under = cosine - similarity - 0.02, similarity - 0.02 - cosine
            expected += (over.clamp(min=0) ** 2 + under.clamp(min=0) ** 2).item() / 3
    assert model._relation_loss(made, labels).item() == pytest.approx(expected, rel=1e-4)


def test_relation_loss_reaches_seen_and_unseen_classes(scaled: Scaled) -> None:
    model = make_model(scaled, **ADDED["relations"])
    batch, met = batch_of(scaled), []
    relation_loss = model._relation_loss
    model._relation_loss = lambda made, labels: (  # type: ignore[method-assign]
        met.append(labels) or relation_loss(made, labels)
    )
    model.generator_loss(batch, BatchRandom(seeded(2)))
    assert torch.equal(met[0], batch.labels)
    assert set(met[1].tolist()) <= set(scaled.problem.unseen_classes.tolist())
    assert len(met[1]) == len(batch.labels)


def test_unseen_classes_are_drawn_uniformly(scaled: Scaled) -> None:
    model, drawn = make_model(scaled, **ADDED["relations"]), []
    relation_loss = model._relation_loss
    model._relation_loss = lambda made, labels: (  # type: ignore[method-assign]
        drawn.append(labels) or relation_loss(made, labels)
    )
    random = BatchRandom(seeded(0))
    for _ in range(300):
        model.generator_loss(batch_of(scaled), random)
    classes, counts = torch.unique(torch.cat(drawn[1::2]), return_counts=True)
    assert classes.tolist() == scaled.problem.unseen_classes.tolist()
    n, share = 300 * len(batch_of(scaled).labels), 1 / len(classes)
    assert (counts - n * share).abs().max() < 4 * (n * share * (1 - share)) ** 0.5


# --- training ------------------------------------------------------------------------------------


def trained(scaled: Scaled, **changes: Any) -> tuple[FCLSWGAN, list[dict[str, float]]]:
    config = replace(SMALL, hidden=32, **changes)
    model = FCLSWGAN.for_problem(scaled, config, generators(0))
    trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
    return model, [trainer.run_epoch() for _ in range(25)]


@pytest.mark.parametrize("part", ADDED)
def test_training_lowers_the_part_and_changes_nothing_that_is_fixed(
    scaled: Scaled, part: str
) -> None:
    heavy = {k: 30 * v if k.endswith("_weight") else v for k, v in ADDED[part].items()}
    model, losses = trained(scaled, **heavy)
    assert losses[-1][part] < 0.8 * losses[0][part]
    fresh = FCLSWGAN.for_problem(scaled, model.config, generators(0))
    for name, tensor in fresh.named_buffers():
        assert torch.equal(tensor, model.get_buffer(name)), name


def test_all_parts_train_together_and_resume(scaled: Scaled, tmp_path: Any) -> None:
    together = {name: value for changes in ADDED.values() for name, value in changes.items()}
    config = replace(SMALL, adaptive_penalty=True, **together)

    def make() -> Trainer[FCLSWGAN]:
        model = FCLSWGAN.for_problem(scaled, config, generators(0))
        return Trainer(model, scaled.feed, TRAINING, seeded(3))

    undisturbed, killed, resumed = make(), make(), make()
    expected = [undisturbed.run_epoch() for _ in range(6)]
    for _ in range(3):
        killed.run_epoch()
    killed.save(tmp_path / "state", {})
    resumed.load(tmp_path / "state")
    assert [resumed.run_epoch() for _ in range(3)] == expected[3:]
    for name, tensor in undisturbed.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert undisturbed.model.penalty_weight != 10


def test_all_parts_can_be_recorded(scaled: Scaled) -> None:
    together = {name: value for changes in ADDED.values() for name, value in changes.items()}
    config, graphs = replace(SMALL, adaptive_penalty=True, **together), Watched(Tape)
    histories = []
    for given in (None, graphs):
        model = FCLSWGAN.for_problem(scaled, config, generators(0))
        trainer = Trainer(model, scaled.feed, TRAINING, seeded(3), graphs=given)
        histories.append([trainer.run_epoch() for _ in range(3)])
    assert graphs.reasons == []
    assert graphs.replays > 0
    for ours, theirs in zip(*histories, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


def test_means_of_synthesized_classes_come_near_the_real_ones(scaled: Scaled) -> None:
    model, _ = trained(scaled, centre_weight=5.0)
    draw = model.sampler(torch.tensor(scaled.problem.seen_classes))
    real = class_rows(scaled)
    means = torch.stack([rows.mean(dim=0) for rows in real.values()])
    positions = torch.arange(len(real)).repeat_interleave(50)
    made = draw(positions, seeded(1)).unflatten(0, (len(real), 50)).mean(dim=1)
    spread = (means - means.mean(dim=0)).norm()
    assert (made - means).norm() < 0.5 * spread


@pytest.mark.parametrize("dataset", ["AWA1", "AWA2", "CUB", "SUN", "FLO", "APY"])
def test_published_settings_have_the_classifiers_batch_of_this_family(dataset: str) -> None:
    settings = METHOD.settings_for(dataset, "res101")
    assert settings["classifier_batch_size"] == settings["samples_per_class"]
    assert settings["batch_size"] == 64
