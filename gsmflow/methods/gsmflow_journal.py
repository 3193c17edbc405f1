"""GSMFlow's journal version: the flow is also trained on adversarially changed rows.

Chen et al., IEEE Transactions on Multimedia. Before the flow, a relation network learns on real
rows how well a row and the semantics of a class belong together. It is frozen, and a copy of each
row is changed by gradient steps to what the network still recognises but is unsure of
(`gsmflow.methods.relation_augmentation`). The flow is trained on rows and copies. The class means
of its prototype loss and the classifiers take real rows alone. The anchors of the relative
positioning are chosen from all classes, seen and unseen. With ``augment`` off and ``anchors`` seen,
it is GSMFlow.

Differences from the published code
-----------------------------------
- The model of the last epoch is taken, not the best of all epochs on the test rows.
- In each epoch every row has one turn, as it is or as its copy, with even chances; the code takes
  batches from the rows and copies together, for as many steps.
- The semantics that the flow is conditioned on are scaled as in GSMFlow here. The relation network
  takes them as they are in the file, as in the code.
- T1 has a classifier of its own in the same run, in place of a run of its own.
- For FLO the code takes batches of 64 rows, the relation network's number, but as many steps as
  batches of the 256 that it names would take. The published settings here have the 64, and the
  epochs in which there are as many steps.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.learning.contract import Losses
from gsmflow.learning.feed import Feed, Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods import gsmflow
from gsmflow.methods.gsmflow import AnchorPool, GSMFlow, GSMFlowConfig
from gsmflow.methods.relation_augmentation import RelationNet, augmented_feed

__all__ = ["METHOD", "GSMFlowJournal", "GSMFlowJournalConfig"]


@dataclass(frozen=True)
class GSMFlowJournalConfig(GSMFlowConfig):
    """The settings of a `GSMFlowJournal`."""

    anchors: AnchorPool = "all"
    """Classes that the anchors are chosen from: seen, or all."""
    augment: bool = True
    """Whether the flow is also trained on adversarially changed rows; off: as GSMFlow."""
    relation_hidden: Annotated[int, Range(min=1)] = 2048
    """Hidden units of the relation network."""
    relation_epochs: Annotated[int, Range(min=1)] = 50
    """Passes over the training rows for the relation network."""
    relation_batch_size: Annotated[int, Range(min=1)] = 256
    """Rows per step of the relation network, and rows that are changed together."""
    relation_lr: Annotated[float, Range(above=0)] = 3e-4
    """Adam's learning rate for the relation network."""
    relation_weight_decay: Annotated[float, Range(min=0)] = 3e-6
    """Adam's L2 penalty on the relation network."""
    augment_steps: Annotated[int, Range(min=1)] = 20
    """Gradient steps that change a row."""
    augment_rate: Annotated[float, Range(above=0)] = 20.0
    """Factor on the gradient in each of these steps."""
    augment_entropy: Annotated[float, Range(min=0)] = 10.0
    """Weight of the entropy that these steps raise, beside the relation loss that they lower."""

    @property
    def relation_training(self) -> TrainingConfig:
        """The settings of the training of the relation network."""
        return TrainingConfig(
            epochs=self.relation_epochs,
            batch_size=self.relation_batch_size,
            learning_rate=self.relation_lr,
            weight_decay=self.relation_weight_decay,
            lr_decay=1.0,
        )


class GSMFlowJournal(GSMFlow):
    """A GSMFlow, and the relation network that changes its training rows.

    Parameters are those of `GSMFlow`.
    """

    config_class: ClassVar[type[GSMFlowConfig]] = GSMFlowJournalConfig
    config: GSMFlowJournalConfig

    def __init__(self, config: GSMFlowJournalConfig, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        self.relation: RelationNet | None = None
        if config.augment:
            seen = self.seen_classes
            self.relation = RelationNet(
                self.feature_dim,
                torch.empty_like(self.semantics[seen]),
                seen,
                config.relation_hidden,
                None,
            ).frozen()

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: GSMFlowJournalConfig, generators: Generators
    ) -> "GSMFlowJournal":
        """A model for a problem, on the CPU; arguments as `Model.for_problem` has.

        The flow is untrained, the relation network is trained.
        """
        model = super().for_problem(scaled, config, generators)
        if config.augment:
            model.relation = _trained_relation(scaled, config, generators)
        return model

    def training_feed(self, feed: Feed, generator: torch.Generator) -> Feed:
        """The rows with their changed copies; arguments as `Augmenting.training_feed` has."""
        if self.relation is None:
            return feed
        return augmented_feed(
            self.relation,
            feed,
            generator,
            batch_size=self.config.relation_batch_size,
            steps=self.config.augment_steps,
            rate=self.config.augment_rate,
            entropy_weight=self.config.augment_entropy,
        )

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The loss of `GSMFlow`, of rows or their copies.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``, or followed by those of the copies, ``(n, 2 d)``, of which
            one is chosen for each row.
        labels, draws
            As of `GSMFlow.loss`; the choice is drawn too.
        """
        if features.shape[1] > self.feature_dim:
            original, changed = features.chunk(2, dim=1)
            takes_changed = draws.normal(features[:, :1]) > 0
            features = torch.where(takes_changed, changed, original)
        return super().loss(features, labels, draws)


def _trained_relation(
    scaled: Scaled, config: GSMFlowJournalConfig, generators: Generators
) -> RelationNet:
    """A relation network, trained on the problem's rows and frozen, on the CPU."""
    problem, feed = scaled.problem, scaled.feed
    relation = RelationNet(
        feed.feature_dim,
        torch.tensor(problem.semantics[problem.seen_classes]),
        torch.tensor(problem.seen_classes),
        config.relation_hidden,
        generators.on_cpu("relation weights"),
    ).to(feed.labels.device)
    random = generators.on_device("relation training")
    Trainer(relation, feed, config.relation_training, random, graphs=scaled.graphs).run()
    return relation.cpu().frozen()


METHOD = Method(
    name="gsmflow-journal",
    label="GSMFlow (journal)",
    paper="Chen et al., IEEE TMM; after the published code",
    kind="generative",
    config=GSMFlowJournalConfig,
    model=GSMFlowJournal,
    published={
        "APY": {
            "feature_scaling": "minmax",
            "relation_epochs": 50,
            "relation_batch_size": 200,
            "relation_weight_decay": 3e-6,
            "relation_lr": 1e-3,
            "augment_rate": 30.0,
            "augment_steps": 20,
            "augment_entropy": 10.0,
            "epochs": 600,
            "learning_rate": 3e-4,
            "batch_size": 200,
            "weight_decay": 1e-5,
            "lr_decay_every": 20,
            "lr_decay": 0.55,
            "blocks": 5,
            "prototype_weight": 3.0,
            "pi": 0.02,
            "classifier_lr": 1e-3,
            "classifier_batch_size": 1200,
            "classifier_epochs": 20,
            "samples_per_class": 9000,
        },
        "AWA2": {
            "feature_scaling": "minmax",
            "relation_epochs": 50,
            "relation_batch_size": 256,
            "relation_weight_decay": 3e-6,
            "relation_lr": 3e-4,
            "augment_rate": 100.0,
            "augment_steps": 30,
            "augment_entropy": 20.0,
            "epochs": 1000,
            "learning_rate": 3e-4,
            "batch_size": 256,
            "weight_decay": 3e-6,
            "lr_decay_every": 17,
            "lr_decay": 0.92,
            "blocks": 3,
            "prototype_weight": 10.0,
            "pi": 0.15,
            "classifier_lr": 5e-3,
            "classifier_batch_size": 1200,
            "classifier_epochs": 30,
            "samples_per_class": 50000,
        },
        "AWA1/classic": {"feature_scaling": "centred"},
        "CUB": {
            "relation_epochs": 100,
            "relation_batch_size": 256,
            "relation_weight_decay": 1e-6,
            "relation_lr": 1e-4,
            "augment_rate": 20.0,
            "augment_steps": 20,
            "augment_entropy": 10.0,
            "epochs": 1500,
            "learning_rate": 1e-4,
            "batch_size": 256,
            "weight_decay": 3e-5,
            "lr_decay_every": 25,
            "lr_decay": 0.8,
            "blocks": 3,
            "prototype_weight": 1.0,
            "pi": 0.05,
            "classifier_lr": 3e-3,
            "classifier_batch_size": 600,
            "classifier_epochs": 50,
            "samples_per_class": 600,
        },
        # As many steps as 60 and 1,000 epochs have, and a decay each 30, with 256 rows a step.
        "FLO": {
            "relation_epochs": 14,
            "relation_batch_size": 64,
            "relation_weight_decay": 1e-6,
            "relation_lr": 3e-4,
            "augment_rate": 20.0,
            "augment_steps": 20,
            "augment_entropy": 1.0,
            "epochs": 239,
            "learning_rate": 1e-4,
            "batch_size": 64,
            "weight_decay": 1e-4,
            "lr_decay_every": 8,
            "lr_decay": 0.8,
            "blocks": 3,
            "prototype_weight": 3.0,
            "pi": 0.1,
            "classifier_lr": 5e-3,
            "classifier_batch_size": 1000,
            "classifier_epochs": 30,
            "samples_per_class": 3000,
        },
        "DIGITS": {
            "hidden": 128,
            "condition_dim": 64,
            "semantics_scaling": "none",
            "blocks": 3,
            "pi": 0.1,
            "relation_hidden": 128,
            "relation_epochs": 2,
            "relation_lr": 1e-3,
            "augment_steps": 5,
            "epochs": 6,
            "learning_rate": 1e-3,
            "samples_per_class": 100,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 100,
            "classifier_epochs": 5,
        },
    },
    short={
        "": {
            "schedule": "fast",
            "batch_size": 256,
            "hidden": 1024,
            "relation_epochs": 4,
            "relation_hidden": 512,
            "augment_steps": 5,
            "samples_per_class": 300,
            "classifier_lr": 1e-3,
        },
    },
    variants={**gsmflow.METHOD.variants, "no-augmentation": {"augment": False}},
    search={
        **gsmflow.METHOD.search,
        "augment_steps": TimesOneOf((0.5, 1, 2), when=("augment", True)),
        "augment_rate": Times(0.2, 5, when=("augment", True)),
        "augment_entropy": Times(0.1, 10, when=("augment", True)),
    },
)
