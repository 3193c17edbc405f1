"""GSMFlow's journal version: without the augmentation it is GSMFlow, with it rows take turns."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import RowsRequest
from gsmflow.learning.feed import PairedFeed, class_means
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig
from gsmflow.methods.gsmflow_journal import METHOD, GSMFlowJournal, GSMFlowJournalConfig
from gsmflow.methods.relation_augmentation import augmented_feed, relation_loss
from tests.builders import generators, make_dataset, scaled_of, seeded

PROBLEM = training_problem(check_dataset(make_dataset(noise=0.1)), "test")
SCALED = scaled_of(PROBLEM)
SMALL: dict[str, Any] = {"blocks": 2, "hidden": 8, "condition_dim": 6}
RELATION: dict[str, Any] = {
    "relation_hidden": 16,
    "relation_epochs": 3,
    "relation_batch_size": 10,
    "augment_steps": 2,
}


def make_model(**changes: Any) -> GSMFlowJournal:
    config = GSMFlowJournalConfig(**(SMALL | RELATION | changes))
    return GSMFlowJournal.for_problem(SCALED, config, generators(0))


def trained(model: GSMFlow) -> dict[str, Tensor]:
    config = TrainingConfig(epochs=3, batch_size=16, learning_rate=1e-2)
    trainer = Trainer(model, SCALED.feed, config, seeded(4))
    for _ in range(3):
        trainer.run_epoch()
    return model.state_dict()


def test_without_augmentation_it_is_gsmflow_to_the_bit() -> None:
    plain = GSMFlow.for_problem(SCALED, GSMFlowConfig(**SMALL), generators(0))
    found, expected = trained(make_model(augment=False, anchors="seen")), trained(plain)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_flow_has_the_same_initial_weights_with_augmentation() -> None:
    with_relation, without = make_model().state_dict(), make_model(augment=False).state_dict()
    assert {name for name in with_relation if name not in without} == {
        f"relation.{name}"
        for name in (
            "of_features",
            "of_semantics",
            "bias",
            "output",
            "output_bias",
            "semantics",
            "classes",
        )
    }
    assert all(torch.equal(with_relation[name], value) for name, value in without.items())


def test_relation_network_learns_from_rows_and_semantics_as_they_are() -> None:
    model = make_model(relation_epochs=60, relation_lr=1e-2)
    relation = model.relation
    assert relation is not None
    assert relation.semantics.numpy() == pytest.approx(PROBLEM.semantics[PROBLEM.seen_classes])
    features, labels = SCALED.feed.take(torch.arange(56)), SCALED.feed.labels
    relations = relation(features)
    assert relation_loss(relations, relation.columns(labels)) < 0.05
    right = relations.argmax(dim=1) == relation.columns(labels)
    assert right.float().mean() > 0.9
    assert not list(relation.parameters())


def test_training_changes_the_flow_and_not_the_relation_network() -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = trained(model)
    for name, value in before.items():
        is_flow = name.startswith(("flow.", "positioning.layers."))
        assert torch.equal(value, after[name]) is not is_flow, name


def test_each_row_of_a_batch_is_real_or_its_changed_copy() -> None:
    model = make_model(perturbation=False)
    feed = model.training_feed(SCALED.feed, seeded(6))
    assert isinstance(feed, PairedFeed)
    rows = torch.arange(0, 56, 3)
    labels = feed.labels[rows]
    found = model.loss(feed.take(rows), labels, BatchRandom(seeded(7)))
    takes_changed = torch.randn(len(rows), 1, generator=seeded(7)) > 0
    assert takes_changed.any()
    assert not takes_changed.all()
    chosen = torch.stack(
        [
            feed.values[row] if changed else SCALED.feed.take(row[None])[0]
            for row, changed in zip(rows, takes_changed[:, 0], strict=True)
        ]
    )
    plain = GSMFlow.loss(model, chosen, labels, BatchRandom(seeded(8)))
    torch.testing.assert_close(found.total, plain.total)


@pytest.mark.parametrize(
    "change", [{"augment_rate": 60.0}, {"augment_entropy": 40.0}, {"augment_steps": 4}]
)
def test_settings_of_the_augmentation_reach_the_copies(change: dict[str, Any]) -> None:
    model, other = make_model(), make_model(**change)
    found, expected = (m.training_feed(SCALED.feed, seeded(6)) for m in (other, model))
    assert isinstance(found, PairedFeed)
    assert isinstance(expected, PairedFeed)
    config = other.config
    assert other.relation is not None
    same = augmented_feed(
        other.relation,
        SCALED.feed,
        seeded(6),
        batch_size=10,
        steps=config.augment_steps,
        rate=config.augment_rate,
        entropy_weight=config.augment_entropy,
    )
    assert isinstance(same, PairedFeed)
    assert torch.equal(found.values, same.values)
    assert not torch.equal(found.values, expected.values)


def test_penalty_reaches_the_relation_network() -> None:
    plain, penalised = (
        make_model(relation_weight_decay=decay, relation_epochs=40).relation for decay in (0.0, 1.0)
    )
    assert plain is not None
    assert penalised is not None
    assert penalised.of_features.norm() < 0.8 * plain.of_features.norm()


def test_class_means_and_classifiers_take_real_rows_alone() -> None:
    model = make_model()
    seen = torch.from_numpy(PROBLEM.seen_classes)
    torch.testing.assert_close(model.class_means, class_means(SCALED.feed, seen))
    request = RowsRequest(SCALED, seeded(1), samples_per_class=2, capacity_bytes=2**20)
    feed = model.classifier_rows(request).gzsl()  # type: ignore[union-attr]
    assert torch.equal(feed.take(torch.arange(56)), SCALED.feed.take(torch.arange(56)))
    assert len(feed.labels) == 56 + 2 * len(PROBLEM.unseen_classes)


def test_anchors_are_chosen_from_all_classes() -> None:
    ours = make_model().positioning
    plain = GSMFlow.for_problem(SCALED, GSMFlowConfig(**SMALL, anchors="all"), generators(0))
    assert ours is not None
    assert plain.positioning is not None
    assert torch.equal(ours.anchors, plain.positioning.anchors)


def test_published_settings_are_complete_for_each_dataset_of_the_paper() -> None:
    own = {f.name for f in fields(GSMFlowJournalConfig)} - {f.name for f in fields(GSMFlowConfig)}
    for dataset in ("APY", "AWA2", "CUB", "FLO"):
        assert own - {"augment", "relation_hidden"} <= METHOD.published[dataset].keys()
