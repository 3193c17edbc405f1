"""SDGZSL: synthesized and real features whose semantic part is split off and classified.

Chen et al., "Semantics Disentangling for Generalized Zero-Shot Learning", ICCV 2021. A conditional
variational autoencoder decodes features from latents and semantics. A second autoencoder encodes
real and decoded features as a code of two parts. Of the semantic part, a relation network is to
tell the class of a row among those of its batch. The total correlation of both parts is reduced: a
discriminator tells codes from codes whose parts belong to different rows, and the encoder is to
make both alike. The classifiers are trained on the semantic parts of real seen and synthesized
unseen rows.

As published, the discriminator's two outputs are squashed by a sigmoid and then taken as logits, so
that it can hardly learn. Without this, ``--no-squashed-scores``, the encoder deceives it without
bounds where the weight of the total correlation is as published.

A step is a step of the discriminator, in which the other networks do not see it, and some steps of
the other networks that do; each takes a batch. So an epoch has as many batches as several of the
published code, and the published numbers of epochs are divided by as many.

Differences from the published code:

- The last iteration counts, not the best one on test rows. T1 is of the same model.
- The weights of KL divergence and of total correlation rise with the share of the training that is
  done, by as much per epoch.
- All features are scaled to [0, 1]; the published code leaves those of the E-PGN files as they are.
- CUB's settings are those for attributes, with sentences too. For these the published script has
  other weights and sizes, for the features of the E-PGN files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.errors import InputError
from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import (
    Batch,
    ClassifierRows,
    Losses,
    Optimizer,
    ParameterGroup,
    RowsRequest,
)
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.encoded_rows import encoded_rows
from gsmflow.methods.layers import dense, draw_weights, dropout
from gsmflow.methods.pair_comparator import PairComparator
from gsmflow.methods.positioning import SemanticsScalingName
from gsmflow.methods.synthesizing import SynthesizingModel
from gsmflow.methods.vae import gaussian_kl, reparameterise, squared_errors

__all__ = ["METHOD", "SDGZSL", "CodeEncoder", "SDGZSLConfig", "relation_error"]

_SLOPE = 0.2
_VARIANCE_DROPOUT = 0.2
_SMALLEST_VARIANCE = 1e-12
# The published code gives the normalization's momentum, it seems, where its epsilon belongs.
_NORMALIZATION_EPSILON = 0.8


@dataclass(frozen=True)
class SDGZSLConfig:
    """The settings of an `SDGZSL`."""

    latent_dim: Annotated[int, Range(min=1)] = 20
    """Length of the latent vectors."""
    hidden: Annotated[int, Range(min=1)] = 2048
    """Units of each hidden layer."""
    posterior_hidden: Annotated[int, Range(min=1)] = 128
    """Outputs of the encoder's last layer before the latents' means and variances."""
    semantic_dim: Annotated[int, Range(min=1)] = 1024
    """Length of the semantic part of the code, which is classified."""
    residual_dim: Annotated[int, Range(min=1)] = 1024
    """Length of the other part of the code."""
    encoder_dropout: Annotated[float, Range(min=0, max=0.99)] = 0.4
    """Share of the encoder's second hidden layer's units that are dropped in training."""
    decoder_dropout: Annotated[float, Range(min=0, max=0.99)] = 0.5
    """Share of each of the decoder's hidden layers' units that are dropped in training."""
    autoencoder_dropout: Annotated[float, Range(min=0, max=0.99)] = 0.2
    """Share of the code's, of its decoder's hidden units and of its outputs that are dropped in
    training."""
    relation_weight: Annotated[float, Range(min=0)] = 3.0
    """Weight (gamma) of the relation network's error."""
    correlation_weight: Annotated[float, Range(min=0)] = 0.3
    """Full weight (beta) of the total correlation of the code's parts."""
    discriminator_weight: Annotated[float, Range(above=0)] = 0.3
    """Weight of the discriminator's loss; to Adam it matters beside the weight decay alone."""
    correlation_steps: Annotated[int, Range(min=1)] = 2
    """Steps of the other networks after each step of the discriminator."""
    kl_rise: Annotated[float, Range(min=0)] = 4.0
    """The weight of the KL divergence is the share of the training that is done times this, at most
    1."""
    correlation_rise: Annotated[float, Range(min=0)] = 0.4
    """The weight of the total correlation is the share of the training that is done times this, at
    most 1, times --correlation-weight."""
    squashed_scores: bool = True
    """Whether a sigmoid squashes the discriminator's logits first, as published."""
    samples_per_class: Annotated[int, Range(min=1)] = 1200
    """Synthesized features per unseen class."""
    semantics_scaling: SemanticsScalingName = "none"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 1.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


def relation_error(scores: Tensor, labels: Tensor) -> Tensor:
    """Squared error of relations, a mean over rows and over the distinct classes of the batch.

    The means of several codes of each row are added up.

    Parameters
    ----------
    scores
        Relation in [0, 1] of each row to the class of each row of the batch, ``(m * n, n)``: ``m``
        codes of the rows, one after the other.
    labels
        Class of each row, ``(n,)``. A relation should be 1 to the own class, 0 to others.
    """
    same = (labels[:, None] == labels).to(scores)
    # A class with several rows counts once. The number of classes would be a shape that depends on
    # values.
    weights = 1 / same.sum(dim=0)
    errors = (scores.view(-1, *same.shape) - same).square() * weights
    return errors.sum() / (len(labels) * weights.sum())


class CodeEncoder(nn.Module):
    """From features to codes; calling it gives their semantic parts.

    Parameters
    ----------
    feature_dim, semantic_dim, residual_dim
        Sizes.
    dropped
        Share of the code that is dropped in training.
    """

    def __init__(
        self, feature_dim: int, semantic_dim: int, residual_dim: int, dropped: float
    ) -> None:
        super().__init__()
        self.semantic_dim = semantic_dim
        self.dropped = dropped
        self.layer = dense(feature_dim, semantic_dim + residual_dim)

    def codes(self, features: Tensor, draws: BatchRandom) -> Tensor:
        """Whole codes ``(n, semantic + residual)`` of features ``(n, d)``, in training."""
        return dropout(_activated(self.layer(features)), self.dropped, draws)

    def forward(self, features: Tensor) -> Tensor:
        """Semantic parts ``(n, semantic_dim)`` of features ``(n, d)``."""
        weight, bias = (p[: self.semantic_dim] for p in (self.layer.weight, self.layer.bias))
        return at_least_float32(_activated(functional.linear(features, weight, bias)))


class FeatureEncoder(nn.Module):
    """From features and semantics to a diagonal Gaussian over latents; for the settings' sizes."""

    def __init__(self, config: SDGZSLConfig, input_dim: int) -> None:
        super().__init__()
        self.dropped = config.encoder_dropout
        self.first = dense(input_dim, config.hidden)
        self.second = dense(config.hidden, config.hidden)
        self.third = dense(config.hidden, config.posterior_hidden)
        self.mean = dense(config.posterior_hidden, config.latent_dim)
        self.variance = dense(config.posterior_hidden, config.latent_dim)

    def forward(self, inputs: Tensor, draws: BatchRandom) -> tuple[Tensor, Tensor]:
        """Means and log-variances, ``(n, latent_dim)`` each, in training."""
        second = self.second(_activated(self.first(inputs)))
        third = self.third(_activated(dropout(second, self.dropped, draws)))
        before = at_least_float32(dropout(self.variance(third), _VARIANCE_DROPOUT, draws))
        variance = functional.softplus(before).clamp_min(_SMALLEST_VARIANCE)
        return at_least_float32(self.mean(third)), variance.log()


class FeatureDecoder(nn.Module):
    """From latents and semantics to features; for the settings' sizes."""

    def __init__(self, config: SDGZSLConfig, input_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.dropped = config.decoder_dropout
        self.first = dense(input_dim, config.hidden)
        self.second = dense(config.hidden, config.hidden)
        self.third = dense(config.hidden, config.hidden)
        self.output = dense(config.hidden, feature_dim)
        self.second_normalization, self.third_normalization = (
            nn.BatchNorm1d(config.hidden, eps=_NORMALIZATION_EPSILON) for _ in range(2)
        )

    def forward(self, inputs: Tensor, draws: BatchRandom | None = None) -> Tensor:
        """Features ``(n, d)``. With ``draws`` in training: units are dropped, batches normalized.

        Without, hidden units are normalized by the running statistics of the training.
        """
        hidden = _activated(dropout(self.first(inputs), self.dropped, draws))
        hidden = self._normalized(self.second(hidden), self.second_normalization, draws)
        hidden = self._normalized(self.third(hidden), self.third_normalization, draws)
        return at_least_float32(_activated(self.output(_activated(hidden))))

    def _normalized(
        self, values: Tensor, layer: nn.BatchNorm1d, draws: BatchRandom | None
    ) -> Tensor:
        """Hidden units ``(n, hidden)``, normalized and then dropped."""
        normalized = functional.batch_norm(
            at_least_float32(values),
            layer.running_mean,
            layer.running_var,
            layer.weight,
            layer.bias,
            training=draws is not None,
            eps=layer.eps,
        )
        return dropout(normalized, self.dropped, draws)


class SDGZSL(SynthesizingModel):
    """All networks.

    Weights and biases start uniformly distributed within ``1 / sqrt(inputs)``. Parameters as
    `ClassModel` has them.
    """

    config_class = SDGZSLConfig
    config: SDGZSLConfig
    kl_weight: Tensor
    correlation_weight: Tensor

    def __init__(
        self,
        config: SDGZSLConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        d, a, hidden = feature_dim, self.semantics.shape[1], config.hidden
        semantic, code = config.semantic_dim, config.semantic_dim + config.residual_dim
        self.feature_encoder = FeatureEncoder(config, d + a)
        self.feature_decoder = FeatureDecoder(config, config.latent_dim + a, d)
        self.code_encoder = CodeEncoder(
            d, semantic, config.residual_dim, config.autoencoder_dropout
        )
        self.code_hidden, self.code_output = dense(code, hidden), dense(hidden, d)
        self.discriminator = dense(code, 2)
        draw_weights(self, "torch", generator)
        self.relation = PairComparator(semantic, a, hidden, slope=0.0)
        self.relation.draw_weights(generator)
        # Tensors, which a recorded step can read.
        self.register_buffer("kl_weight", torch.zeros(()), persistent=False)
        self.register_buffer("correlation_weight", torch.zeros(()), persistent=False)

    @property
    def noise_dim(self) -> int:
        """Length of the latent vectors."""
        return self.config.latent_dim

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)``, decoded from latents ``(n, k)``, semantics ``(n, a)``."""
        decoded: Tensor = self.feature_decoder(torch.cat([noise, semantics], dim=1))
        return decoded

    @property
    def encoder(self) -> nn.Module:
        """The encoder of the codes: features are classified by their semantic parts."""
        return self.code_encoder

    def warm_up(self, done: float) -> None:
        """Set the weights of the losses for the share of the epochs that is done, in [0, 1)."""
        self.kl_weight.fill_(min(self.config.kl_rise * done, 1.0))
        risen = min(self.config.correlation_rise * done, 1.0)
        self.correlation_weight.fill_(self.config.correlation_weight * risen)

    def batches_per_step(self) -> int:
        """A batch for the step of the discriminator and for each step that sees it."""
        return 1 + self.config.correlation_steps

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of the discriminator and of all other networks."""
        discriminator = list(self.discriminator.parameters())
        known = {id(parameter) for parameter in discriminator}
        others = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return {
            "discriminator": ParameterGroup(discriminator),
            "networks": ParameterGroup(others),
        }

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """A step with the discriminator's own, then those that see it; see `StepTrained`.

        Raises
        ------
        InputError
            If a batch has one row: the decoder normalizes over the rows of a batch.
        """
        first = next(batches)
        if len(first.labels) == 1:
            raise InputError(
                "--batch-size: found batches of one row, expected at least 2 rows: sdgzsl "
                "normalizes hidden units over the rows of a batch"
            )
        losses, codes = self.losses(first, random)
        discrimination = self.discriminator_loss(codes.detach(), random)
        optimizers["discriminator"].minimize(discrimination)
        optimizers["networks"].minimize(losses.total)
        for batch in batches:
            losses, codes = self.losses(batch, random)
            correlation = self.total_correlation(codes)
            optimizers["networks"].minimize(losses.total + self.correlation_weight * correlation)
        return {
            **losses.parts,
            "correlation": correlation,
            "discriminator": discrimination,
        }

    def losses(self, batch: Batch, random: BatchRandom) -> tuple[Losses, Tensor]:
        """All losses of the networks but the total correlation, and the codes that it is of.

        Codes are ``(2, n, semantic + residual)``, of decoded and of real rows.
        """
        features, labels = batch
        semantics = self.semantics[labels]
        mean, log_variance = self.feature_encoder(torch.cat([features, semantics], dim=1), random)
        latents = reparameterise(mean, log_variance, random)
        decoded = self.feature_decoder(torch.cat([latents, semantics], dim=1), random)
        codes = self.code_encoder.codes(torch.cat([decoded, features]), random)
        again = self._decoded_codes(codes, random)
        scores = torch.sigmoid(self.relation(codes[:, : self.config.semantic_dim], semantics))
        parts = {
            "reconstruction": squared_errors(decoded, features).mean(),
            "kl": gaussian_kl(mean, log_variance).mean(),
            "relation": relation_error(scores, labels),
            "codes": 2 * functional.mse_loss(again, features.repeat(2, 1)),
        }
        total = (
            parts["reconstruction"]
            + self.kl_weight * parts["kl"]
            + self.config.relation_weight * parts["relation"]
            + parts["codes"]
        )
        return Losses(total, parts), at_least_float32(codes).view(2, len(labels), -1)

    def total_correlation(self, codes: Tensor) -> Tensor:
        """The estimate of the total correlation that the encoder reduces, a scalar.

        It is the mean log-odds of codes ``(2, n, semantic + residual)`` being whole, summed over
        decoded and real rows.
        """
        scores = self._scores(codes)
        return (scores[..., 0] - scores[..., 1]).mean(dim=1).sum()

    def discriminator_loss(self, codes: Tensor, random: BatchRandom) -> Tensor:
        """Cross-entropies of whole codes (0) and of those with parts of different rows (1)."""
        n, split = codes.shape[1], self.config.semantic_dim
        losses = []
        for whole in codes:
            semantic, residual = whole[:, :split], whole[:, split:]
            mixed = torch.cat([semantic[random.subset(n, n)], residual[random.subset(n, n)]], dim=1)
            for column, rows in enumerate((whole, mixed)):
                losses.append(-self._scores(rows).log_softmax(dim=1)[:, column].mean())
        return self.config.discriminator_weight * torch.stack(losses).sum()

    def _scores(self, codes: Tensor) -> Tensor:
        """The discriminator's two logits of each code, ``(..., 2)``."""
        logits = at_least_float32(self.discriminator(codes))
        return torch.sigmoid(logits) if self.config.squashed_scores else logits

    def _decoded_codes(self, codes: Tensor, random: BatchRandom) -> Tensor:
        """Features ``(n, d)``, decoded from codes, in training."""
        dropped = self.config.autoencoder_dropout
        hidden = dropout(_activated(self.code_hidden(codes)), dropped, random)
        return at_least_float32(dropout(_activated(self.code_output(hidden)), dropped, random))

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Semantic parts of real seen rows and of synthesized unseen rows, streamed if many."""
        return encoded_rows(request, self, self.encoder)


def _activated(values: Tensor) -> Tensor:
    return functional.leaky_relu(values, _SLOPE)


METHOD = Method(
    name="sdgzsl",
    label="SDGZSL",
    paper="Chen et al., ICCV 2021; after the published code",
    kind="generative",
    config=SDGZSLConfig,
    model=SDGZSL,
    # Rises and epochs are those of the published code, for its number of epochs and the steps that
    # a step has here.
    published={
        "": {
            "feature_scaling": "minmax",
            "epochs": 133,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "lr_decay": 1.0,
            "weight_decay": 1e-6,
            "precision": "fp32",
            "classifier_lr": 5e-3,
            "classifier_batch_size": 1200,
            "classifier_epochs": 50,
        },
        "APY": {
            "relation_weight": 0.1,
            "correlation_weight": 1.0,
            "discriminator_weight": 1.0,
            "semantic_dim": 128,
            "residual_dim": 128,
            "kl_rise": 0.02 * 400,
            "classifier_epochs": 20,
        },
        "AWA2": {
            "epochs": 73,
            "learning_rate": 3e-5,
            "relation_weight": 0.5,
            "correlation_weight": 1.0,
            "kl_rise": 0.01 * 220,
            "correlation_rise": 0.001 * 220,
            "samples_per_class": 5000,
            "classifier_lr": 3e-3,
            "classifier_batch_size": 5000,
        },
        "CUB": {
            "epochs": 150,
            "weight_decay": 1e-8,
            "relation_weight": 5.0,
            "correlation_weight": 0.003,
            "semantic_dim": 2048,
            "residual_dim": 2048,
            "encoder_dropout": 0.1,
            "decoder_dropout": 0.1,
            "autoencoder_dropout": 0.0,
            "correlation_steps": 3,
            "kl_rise": 0.001 * 600,
            "correlation_rise": 1e-4 * 600,
            "samples_per_class": 1000,
            "classifier_lr": 2e-3,
            "classifier_batch_size": 1000,
        },
        "FLO": {
            "epochs": 100,
            "correlation_weight": 0.1,
            "discriminator_weight": 0.1,
            "semantic_dim": 2048,
            "residual_dim": 2048,
            "decoder_dropout": 0.4,
            "correlation_steps": 3,
            "kl_rise": 0.001 * 400,
            "classifier_lr": 3e-3,
        },
        "SUN": {
            "epochs": 100,
            "learning_rate": 3e-4,
            "relation_weight": 30.0,
            "discriminator_weight": 0.5,
            "semantic_dim": 2048,
            "residual_dim": 2048,
            "decoder_dropout": 0.2,
            "autoencoder_dropout": 0.4,
            "correlation_steps": 3,
            "kl_rise": 0.001 * 400,
            "correlation_rise": 3e-4 * 400,
            "samples_per_class": 400,
            "classifier_lr": 1e-3,
            "classifier_batch_size": 400,
        },
        "AWA1/classic": {"feature_scaling": "centred"},
        "DIGITS": {
            "feature_scaling": "none",
            "hidden": 128,
            "posterior_hidden": 64,
            "semantic_dim": 128,
            "residual_dim": 128,
            "encoder_dropout": 0.0,
            "decoder_dropout": 0.1,
            "autoencoder_dropout": 0.0,
            "relation_weight": 0.1,
            "correlation_weight": 0.003,
            "correlation_steps": 1,
            "kl_rise": 0.4,
            "epochs": 3,
            "learning_rate": 1e-3,
            "samples_per_class": 100,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 100,
            "classifier_epochs": 8,
        },
    },
    short={
        "": {
            "schedule": "fast",
            "fast_epochs": 4,
            "fast_learning_rate": 1e-3,
            "precision": "auto",
            "hidden": 1024,
            "semantic_dim": 512,
            "residual_dim": 512,
            "semantics_scaling": "norm",
            "semantics_norm": 5.0,
        },
        "AWA1": {"fast_epochs": 1},
        "AWA2": {"fast_epochs": 1},
    },
    variants={
        "no-correlation": {"correlation_weight": 0.0},
        "no-relation": {"relation_weight": 0.0},
        "logits": {"squashed_scores": False},
    },
    search={
        "latent_dim": TimesOneOf((0.5, 1, 2)),
        "semantic_dim": TimesOneOf((0.5, 1, 2)),
        "relation_weight": Times(0.1, 10),
        "correlation_weight": Times(0.1, 10),
        "kl_rise": Times(0.1, 10),
        "squashed_scores": OneOf((True, False)),
        "samples_per_class": Times(0.25, 2),
    },
)
