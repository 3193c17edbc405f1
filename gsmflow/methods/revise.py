"""ReViSE: autoencoders of features and of semantics, with codes that are aligned and embedded.

Tsai et al., "Learning Robust Visual-Semantic Embeddings", ICCV 2017, after the paper's description
and the constants of a public re-implementation. One autoencoder is of features, the other of
semantics. The code of a row and that of a class are each embedded by a layer with tanh; the class
whose embedding has the largest dot product with that of the row answers. Four losses are minimised:

- the reconstruction of the features, with a contractive term, which keeps codes from changing with
  the features;
- the reconstruction of the semantics;
- the maximum mean discrepancy (MMD) of the codes of rows from those of classes;
- a hinge loss that ranks a row's own class above the other seen classes by a margin.

Features and semantics are ``log(1 + x)`` and of length 1.

Differences from the descriptions:

- The adaptation to unlabelled test rows is left out.
- The decoders end without ReLU, so that features and semantics may be negative.
- The contractive term, ``||J||^2`` for the Jacobian ``J`` of a row's code, is estimated without
  bias by ``||v'J||^2`` with one vector ``v`` of standard normal numbers for each row. The exact
  value would cost more than all the rest of a step. The re-implementation's term has no gradient.
- The codes of classes are those of all seen classes, once each, and the estimate of the MMD is
  unbiased, so that it takes samples of different sizes.
- The number of epochs is fixed; the last partial batch of an epoch is left out.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import Losses
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.bilinear import hinges, largest_hinge, summed_hinge
from gsmflow.methods.layers import dense, draw_weights, perceptron
from gsmflow.methods.mean_discrepancy import gaussian_kernel, mean_discrepancy
from gsmflow.methods.semantic_model import SemanticModel

__all__ = [
    "METHOD",
    "AlignedName",
    "FeatureEncoder",
    "RankingName",
    "ReViSE",
    "ReViSEConfig",
]

AlignedName: TypeAlias = Literal["codes", "embeddings"]
RankingName: TypeAlias = Literal["largest", "summed"]


@dataclass(frozen=True)
class ReViSEConfig:
    """The settings of a `ReViSE`."""

    hidden: Annotated[int, Range(min=1)] = 500
    """Units of the hidden layers of the autoencoder of features."""
    code_dim: Annotated[int, Range(min=1)] = 100
    """Length of the codes of both autoencoders."""
    joint_dim: Annotated[int, Range(min=1)] = 50
    """Length of the embeddings; 75 or 100 in the paper."""
    log_features: bool = True
    """Whether the inputs are the logarithms of 1 plus the features; a negative feature gets the
    negative logarithm of 1 plus its absolute value."""
    reconstruction_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight of both reconstructions, which are mean squared errors, and of the contractive
    term."""
    contraction: Annotated[float, Range(min=0)] = 1e-4
    """Weight of the contractive term beside the squared error of the features."""
    alignment_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight of the maximum mean discrepancy."""
    aligned: AlignedName = "codes"
    """What the discrepancy is of: the codes, or their embeddings."""
    sharpness: Annotated[float, Range(above=0)] = 32.0
    """The factor s in the kernel of the discrepancy, exp(-s times the squared distance)."""
    ranking: RankingName = "largest"
    """The hinge of the wrong class with the highest score, or the sum over all wrong classes."""
    margin: Annotated[float, Range(min=0)] = 0.3
    """By how much the score of the own class is to be the highest."""
    semantics_decay: Annotated[float, Range(min=0)] = 1e-3
    """L2 penalty on the parameters of the semantics' autoencoder and embedding, besides
    --weight-decay."""


class FeatureEncoder(nn.Module):
    """From inputs to codes, by two layers with ReLU.

    Parameters
    ----------
    feature_dim, hidden, code_dim
        Sizes.
    """

    def __init__(self, feature_dim: int, hidden: int, code_dim: int) -> None:
        super().__init__()
        self.first = dense(feature_dim, hidden)
        self.second = dense(hidden, code_dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Codes ``(n, code_dim)`` of inputs ``(n, d)``."""
        return torch.relu(self.activations(inputs)[1])

    def activations(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What ReLU is applied to in both layers, ``(n, hidden)`` and ``(n, code_dim)``."""
        before = self.first(inputs)
        return before, self.second(torch.relu(before))

    def squared_products(self, activations: tuple[Tensor, Tensor], vectors: Tensor) -> Tensor:
        """``||v'J||^2`` of each row, ``(n,)``, for the Jacobian ``J (code_dim, d)`` of its code.

        Parameters
        ----------
        activations
            Those of the rows, as `activations` gave them.
        vectors
            ``v`` of each row, ``(n, code_dim)``.
        """
        of_hidden, of_codes = activations
        products = ((vectors * (of_codes > 0)) @ self.second.weight) * (of_hidden > 0)
        # With the products of the first layer's weights, there is no (n, d) matrix.
        gram = self.first.weight @ self.first.weight.T
        return ((products @ gram) * products).float().sum(dim=1)


class ReViSE(SemanticModel):
    """The autoencoders and the embeddings of their codes.

    The layers start as torch's do: uniformly distributed within ``1 / sqrt(inputs)`` of 0.
    Processes that share a batch each estimate the discrepancy from their own rows. Parameters as
    `SemanticModel` has them.
    """

    config_class = ReViSEConfig
    config: ReViSEConfig

    def __init__(
        self,
        config: ReViSEConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        a, hidden, k = self.semantics.shape[1], config.hidden, config.code_dim
        self.feature_encoder = FeatureEncoder(feature_dim, hidden, k)
        self.feature_decoder = perceptron((k, hidden, feature_dim))
        self.feature_embedding = dense(k, config.joint_dim)
        self.semantics_encoder = dense(a, k)
        self.semantics_decoder = dense(k, a)
        self.semantics_embedding = dense(k, config.joint_dim)
        draw_weights(self, "torch", generator)

    @classmethod
    def semantics_of(cls, problem: Problem, config: ReViSEConfig) -> Tensor:
        """The semantics of every class, each at length 1, ``(classes, a)``."""
        return functional.normalize(torch.tensor(problem.semantics))

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The four weighted losses and the penalty, of rows ``(n, d)`` of seen classes ``(n,)``."""
        inputs, semantics = self._inputs(features), self.semantics[self.seen_classes]
        activations = self.feature_encoder.activations(inputs)
        codes, class_codes = torch.relu(activations[1]), self._class_codes(semantics)
        embeddings = torch.tanh(self.feature_embedding(codes))
        class_embeddings = torch.tanh(self.semantics_embedding(class_codes))
        contractions = self.feature_encoder.squared_products(activations, draws.normal(codes))
        aligned = {
            "codes": (codes, class_codes),
            "embeddings": (embeddings, class_embeddings),
        }[self.config.aligned]
        columns = torch.searchsorted(self.seen_classes, labels)
        scores = (embeddings @ class_embeddings.T).float()
        of_ranking = {"largest": largest_hinge, "summed": summed_hinge}[self.config.ranking]
        parts = {
            "features": _squared_error(self.feature_decoder(codes), inputs),
            "contraction": contractions.mean(),
            "semantics": _squared_error(self.semantics_decoder(class_codes), semantics),
            "discrepancy": mean_discrepancy(*aligned, gaussian_kernel(self.config.sharpness)),
            "ranking": of_ranking(hinges(scores, columns, self.config.margin)).mean(),
        }
        reconstruction = (
            parts["features"] + self.config.contraction * parts["contraction"] + parts["semantics"]
        )
        total = (
            parts["ranking"]
            + self.config.reconstruction_weight * reconstruction
            + self.config.alignment_weight * parts["discrepancy"]
            + self.config.semantics_decay / 2 * self._semantics_squares()
        )
        return Losses(total, parts)

    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """Dot products ``(n, k)`` of embedded features ``(n, d)`` and classes ``(k,)``."""
        embeddings = torch.tanh(
            self.feature_embedding(self.feature_encoder(self._inputs(features)))
        )
        class_codes = self._class_codes(self.semantics[classes])
        return embeddings @ torch.tanh(self.semantics_embedding(class_codes)).T

    def _inputs(self, features: Tensor) -> Tensor:
        """The inputs of the autoencoder, ``(n, d)``, of features."""
        if not self.config.log_features:
            return features
        return features.sign() * features.abs().log1p()

    def _class_codes(self, semantics: Tensor) -> Tensor:
        """Codes ``(k, code_dim)`` of semantics ``(k, a)``."""
        return torch.relu(self.semantics_encoder(semantics))

    def _semantics_squares(self) -> Tensor:
        """The sum of squares of all parameters on the side of the semantics."""
        layers = (self.semantics_encoder, self.semantics_decoder, self.semantics_embedding)
        squares = [p.square().sum() for layer in layers for p in layer.parameters()]
        return torch.stack(squares).sum()


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    """The mean squared error over all entries."""
    return functional.mse_loss(output.to(target), target)


METHOD = Method(
    name="revise",
    label="ReViSE",
    paper="Tsai et al., ICCV 2017; after the paper's description",
    kind="compatibility",
    config=ReViSEConfig,
    model=ReViSE,
    published={
        "": {
            "feature_scaling": "none",
            "epochs": 300,
            "batch_size": 1024,
            "learning_rate": 1e-4,
            "lr_decay": 1.0,
            "weight_decay": 0.0,
            "precision": "fp32",
        },
    },
    # As many steps as with the published batches.
    short={"": {"epochs": 75, "batch_size": 256, "precision": "auto"}},
    variants={
        "no-contraction": {"contraction": 0.0},
        "no-alignment": {"alignment_weight": 0.0},
        "no-reconstruction": {"reconstruction_weight": 0.0},
    },
    search={
        "hidden": TimesOneOf((0.5, 1, 2)),
        "joint_dim": TimesOneOf((1, 1.5, 2)),
        "reconstruction_weight": Times(0.1, 10),
        "alignment_weight": Times(0.1, 10),
        "aligned": OneOf(("codes", "embeddings")),
        "sharpness": Times(0.03, 4),
        "ranking": OneOf(("largest", "summed")),
        "margin": Times(0.1, 10),
    },
)
