"""CADA-VAE: two variational autoencoders, of features and of semantics, with one latent space.

Schönfeld et al., "Generalized Zero- and Few-Shot Learning via Aligned Variational Autoencoders",
CVPR 2019. Each modality is decoded from its latents and from those of the other modality
(cross-alignment), and the distance between the two posteriors of a row is minimised (distribution
alignment). The classifiers are trained on latents: of seen rows from the image encoder, of unseen
classes from the semantics encoder. Test features are mapped to the mean of their posterior.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import (
    ClassifierRows,
    Losses,
    RowsByEpoch,
    RowsRequest,
    with_tensors,
)
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.sampling import FeatureSampler
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.positioning import SemanticsScalingName, scaled_semantics
from gsmflow.methods.vae import gaussian_kl, reparameterise

__all__ = [
    "CADAVAE",
    "METHOD",
    "CADAVAEConfig",
    "Encoder",
    "Weights",
    "rows_of_each_class",
    "wasserstein_distance",
    "weights_at",
]

_CHUNK = 4096
# A loss weight rises linearly from 0 to its full value between two shares of the training. The
# shares are the published epochs, divided by the published number of epochs, 100.
_WARM_UPS = {"beta": (0.0, 0.93), "gamma": (0.21, 0.75), "delta": (0.06, 0.22)}


@dataclass(frozen=True)
class CADAVAEConfig:
    """The settings of a `CADAVAE`; defaults are the published ones.

    ``gamma`` and ``delta`` are the paper's ablations: CA-VAE has no ``delta``, DA-VAE no ``gamma``.
    """

    latent_dim: Annotated[int, Range(min=1)] = 64
    """Length of the latent vectors."""
    image_encoder_hidden: Annotated[int, Range(min=1)] = 1560
    """Hidden units of the image encoder."""
    semantics_encoder_hidden: Annotated[int, Range(min=1)] = 1450
    """Hidden units of the semantics encoder."""
    image_decoder_hidden: Annotated[int, Range(min=1)] = 1660
    """Hidden units of the image decoder."""
    semantics_decoder_hidden: Annotated[int, Range(min=1)] = 665
    """Hidden units of the semantics decoder."""
    beta: Annotated[float, Range(min=0)] = 0.25
    """Full weight of the KL divergence, reached after 93 percent of the training."""
    gamma: Annotated[float, Range(min=0)] = 2.37
    """Full weight of the cross-alignment, which rises from 21 to 75 percent of the training; 0
    leaves it out (DA-VAE)."""
    delta: Annotated[float, Range(min=0)] = 8.13
    """Full weight of the distribution alignment, which rises from 6 to 22 percent of the training;
    0 leaves it out (CA-VAE)."""
    latents_seen: Annotated[int, Range(min=1)] = 200
    """Latents of the image encoder per seen class, for the GZSL classifier."""
    latents_unseen: Annotated[int, Range(min=1)] = 400
    """Latents of the semantics encoder per unseen class, for the GZSL classifier."""
    latents_zsl: Annotated[int, Range(min=1)] = 200
    """Latents of the semantics encoder per unseen class, for the ZSL classifier."""
    latents_few_shot: Annotated[int, Range(min=1)] = 200
    """Latents per unseen class of the semantics encoder, and as many of the image encoder, for
    both classifiers where there are labelled rows of unseen classes (--shots)."""
    dynamic_latents: bool = False
    """Whether all latents are drawn anew for each epoch of the classifiers."""
    as_published: bool = False
    """Whether to repeat two errors of the published code: latents are drawn with the variance
    instead of the standard deviation, and with the same noise in all dimensions."""
    semantics_scaling: SemanticsScalingName = "none"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 20.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


class Weights(NamedTuple):
    """The weights of the losses other than the reconstruction."""

    beta: float
    gamma: float
    delta: float


def weights_at(config: CADAVAEConfig, done: float) -> Weights:
    """The weights of the losses after a share ``done`` of the training, in [0, 1]."""
    risen = {
        name: min(max((done - start) / (end - start), 0.0), 1.0)
        for name, (start, end) in _WARM_UPS.items()
    }
    return Weights(**{name: share * getattr(config, name) for name, share in risen.items()})


def wasserstein_distance(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """2-Wasserstein distance ``(n,)`` between diagonal Gaussians.

    Parameters
    ----------
    first, second
        Means and logarithms of variances, ``(n, k)`` each.
    """
    (mean, log_variance), (other_mean, other_log_variance) = first, second
    deviations = (log_variance / 2).exp() - (other_log_variance / 2).exp()
    # A norm has a gradient, of 0, where both are the same; a square root has none.
    distance: Tensor = torch.linalg.vector_norm(
        torch.cat([mean - other_mean, deviations], dim=1), dim=1
    )
    return distance


def rows_of_each_class(
    labels: Tensor, classes: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Draw equally many rows of every class; within a class, counts of rows differ by at most one.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``; every one of ``classes`` is among them.
    classes
        Ascending class numbers, ``(k,)``, of all labels.
    count
        Rows per class.
    generator
        On the device of the labels.

    Returns
    -------
    Tensor
        Row numbers, class by class, ``(k * count,)``.
    """
    device = labels.device
    columns = torch.searchsorted(classes, labels)
    order = torch.randperm(len(labels), generator=generator, device=device)
    order = order[columns[order].argsort(stable=True)]
    sizes = torch.bincount(columns, minlength=len(classes))
    starts = sizes.cumsum(0) - sizes
    ranks = torch.arange(count, device=device)
    return order[starts[:, None] + ranks % sizes[:, None]].reshape(-1)


class Encoder(nn.Module):
    """From inputs to a diagonal Gaussian over latents; calling it gives the mean alone.

    Parameters
    ----------
    input_dim, hidden, latent_dim
        Sizes.
    """

    def __init__(self, input_dim: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_dim, hidden)
        self.mean = nn.Linear(hidden, latent_dim)
        self.log_variance = nn.Linear(hidden, latent_dim)

    def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances, ``(n, latent_dim)`` each, of inputs ``(n, d)``."""
        hidden = torch.relu(self.hidden(inputs))
        return at_least_float32(self.mean(hidden)), at_least_float32(self.log_variance(hidden))

    def forward(self, inputs: Tensor) -> Tensor:
        """Means ``(n, latent_dim)`` of inputs ``(n, d)``."""
        return self.posterior(inputs)[0]


def _decoder(latent_dim: int, hidden: int, output_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, output_dim))


class CADAVAE(nn.Module):
    """Variational autoencoders of features and of semantics whose latents are aligned.

    Weights are initialised from Xavier's uniform distribution with gain 0.5, biases with 0.

    Parameters
    ----------
    config
        Settings.
    semantics
        Semantics of every class, ``(classes, a)``.
    feature_dim
        ``d``.
    generator
        Source of the initial weights.
    """

    semantics: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        config: CADAVAEConfig,
        *,
        semantics: Tensor,
        feature_dim: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.feature_dim = feature_dim
        # `Weights` as a tensor, which a recorded step can read after `warm_up` has changed it.
        self.register_buffer(
            "loss_weights", torch.tensor(weights_at(config, 0.0)), persistent=False
        )
        self.register_buffer("semantics", semantics)
        a, k = semantics.shape[1], config.latent_dim
        # Making a layer draws from torch's global generator; the fork leaves that unchanged.
        with torch.random.fork_rng(devices=[]):
            self.image_encoder = Encoder(feature_dim, config.image_encoder_hidden, k)
            self.semantics_encoder = Encoder(a, config.semantics_encoder_hidden, k)
            self.image_decoder = _decoder(k, config.image_decoder_hidden, feature_dim)
            self.semantics_decoder = _decoder(k, config.semantics_decoder_hidden, a)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=0.5, generator=generator)
                nn.init.zeros_(layer.bias)

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: CADAVAEConfig, generators: Generators
    ) -> "CADAVAE":
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has."""
        return cls(
            config,
            semantics=torch.tensor(scaled_semantics(scaled.problem, config)),
            feature_dim=scaled.feed.feature_dim,
            generator=generators.on_cpu("initial weights"),
        )

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "CADAVAE":
        """A model from what `describe` and ``state_dict`` gave."""
        model = cls(
            CADAVAEConfig(**description["config"]),
            semantics=tensors["semantics"],
            feature_dim=description["feature_dim"],
            generator=None,
        )
        model.load_state_dict(tensors)
        return model

    def describe(self) -> dict[str, Any]:
        """Settings and sizes, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {
            "model": "CADA-VAE",
            "config": asdict(self.config),
            "classes": self.semantics.shape[0],
            "semantics_dim": self.semantics.shape[1],
            "feature_dim": self.feature_dim,
        }

    def with_classes(self, problem: Problem) -> "CADAVAE":
        """The same model, with the semantics of a problem's further unseen classes; on the CPU."""
        semantics = torch.tensor(scaled_semantics(problem, self.config))
        return with_tensors(self, {"semantics": semantics})

    @property
    def encoder(self) -> nn.Module:
        """The image encoder: features are classified by the mean of their posterior."""
        return self.image_encoder

    def warm_up(self, done: float) -> None:
        """Set the loss weights for the share of the epochs that is done, in [0, 1)."""
        self.loss_weights.copy_(torch.tensor(weights_at(self.config, done)))

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The training loss of one batch, a sum over rows and dimensions.

        ``L1 reconstruction + beta KL + gamma cross-alignment + delta distribution alignment``; the
        first three are summed over both modalities.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.
        labels
            Seen classes, ``(n,)``.
        draws
            Source of the latents' noise.

        Returns
        -------
        Losses
            The total is weighted; the parts for the log are unweighted means over rows.
        """
        semantics = self.semantics[labels]
        from_image = self.image_encoder.posterior(features)
        from_semantics = self.semantics_encoder.posterior(semantics)
        image_latents = self._latents(from_image, draws)
        semantics_latents = self._latents(from_semantics, draws)
        beta, gamma, delta = self.loss_weights.unbind()
        parts = {
            "reconstruction": _l1(self.image_decoder(image_latents), features)
            + _l1(self.semantics_decoder(semantics_latents), semantics),
            "kl": gaussian_kl(*from_image).sum() + gaussian_kl(*from_semantics).sum(),
            "cross": _l1(self.image_decoder(semantics_latents), features)
            + _l1(self.semantics_decoder(image_latents), semantics),
            "distribution": wasserstein_distance(from_image, from_semantics).sum(),
        }
        total = (
            parts["reconstruction"]
            + beta * parts["kl"]
            + gamma * parts["cross"]
            + delta * parts["distribution"]
        )
        # Processes that share a batch average their gradients, but this loss is a sum.
        return Losses(draws.shares * total, {k: loss / len(labels) for k, loss in parts.items()})

    def _latents(self, posterior: tuple[Tensor, Tensor], draws: BatchRandom) -> Tensor:
        """Latents ``(n, latent_dim)`` drawn from posteriors; see the setting ``as_published``."""
        mean, log_variance = posterior
        if self.config.as_published:
            return mean + log_variance.exp() * draws.normal(mean[:, :1])
        return reparameterise(mean, log_variance, draws)

    @torch.no_grad()
    def sampler(self, classes: Tensor) -> FeatureSampler:
        """Draws scaled features of classes ``(k,)``, decoded from latents of their semantics."""
        mean, log_variance = self.semantics_encoder.posterior(self.semantics[classes])

        @torch.no_grad()
        def draw_features(positions: Tensor, generator: torch.Generator) -> Tensor:
            posterior = mean[positions], log_variance[positions]
            latents = self._latents(posterior, BatchRandom(generator))
            return at_least_float32(self.image_decoder(latents))

        return draw_features

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Latents of equally many real rows of every seen class, and latents of unseen classes.

        The latents of an unseen class come from its semantics. If there are real rows of unseen
        classes, their latents come from the image encoder. These replace the latents of the
        semantics, or, if the request also synthesizes, there are ``latents_few_shot`` of both.
        """

        def gzsl_rows() -> MemoryFeed:
            seen = self._image_latents(request, request.scaled.feed, self.config.latents_seen)
            return _concatenated([seen, *self._unseen_latents(request, self.config.latents_unseen)])

        def zsl_rows() -> MemoryFeed:
            return _concatenated(self._unseen_latents(request, self.config.latents_zsl))

        if self.config.dynamic_latents:
            return RowsByEpoch(gzsl_rows, zsl_rows)
        gzsl, zsl = gzsl_rows(), zsl_rows()
        return RowsByEpoch(lambda: gzsl, lambda: zsl)

    def _unseen_latents(self, request: RowsRequest, count: int) -> list[MemoryFeed]:
        """Latents of unseen classes: ``count`` of each class if they have a single source."""
        real = request.real_unseen
        if real is not None and request.synthesizes:
            count = self.config.latents_few_shot
        feeds = [self._semantics_latents(request, count)] if request.synthesizes else []
        if real is not None:
            feeds.append(self._image_latents(request, real, count))
        return feeds

    @torch.no_grad()
    def _image_latents(self, request: RowsRequest, feed: Feed, count: int) -> MemoryFeed:
        """``count`` latents of the image encoder for each class that a feed has rows of."""
        classes = torch.unique(feed.labels)
        rows = rows_of_each_class(feed.labels, classes, count, request.generator)
        draws = BatchRandom(request.generator)
        latents = [
            self._latents(self.image_encoder.posterior(feed.take(chunk)), draws)
            for chunk in torch.split(rows, _CHUNK)
        ]
        return MemoryFeed(torch.cat(latents), feed.labels[rows])

    @torch.no_grad()
    def _semantics_latents(self, request: RowsRequest, count: int) -> MemoryFeed:
        """``count`` latents of the semantics encoder for each unseen class."""
        device = self.semantics.device
        unseen = torch.from_numpy(request.scaled.problem.unseen_classes).to(device)
        mean, log_variance = self.semantics_encoder.posterior(self.semantics[unseen])
        positions = torch.arange(len(unseen), device=device).repeat_interleave(count)
        posterior = mean[positions], log_variance[positions]
        latents = self._latents(posterior, BatchRandom(request.generator))
        return MemoryFeed(latents, unseen[positions])


def _l1(decoded: Tensor, target: Tensor) -> Tensor:
    """Sum of absolute errors over rows and dimensions."""
    return (at_least_float32(decoded) - target).abs().sum()


def _concatenated(feeds: list[MemoryFeed]) -> MemoryFeed:
    return MemoryFeed(
        torch.cat([feed.features for feed in feeds]), torch.cat([feed.labels for feed in feeds])
    )


# The settings of Schönfeld et al., CVPR 2019. They give no classifier epochs for aPY and FLO; 25 is
# between the values that they give for other datasets. Few-shot epochs are for 1, 2, 5 and 10
# labelled rows. The settings of the digit pairs, of CUB's
# class scores and of AWA1's hand-crafted features were chosen on validation classes
# (docs/cada_vae.md): with min-max scaling, the latter two have such a small reconstruction loss
# that the KL term makes the latents uninformative.
_PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "": {
        "feature_scaling": "minmax",
        "epochs": 100,
        "batch_size": 50,
        "batches": "drawn",
        "learning_rate": 1.5e-4,
        "lr_decay": 1.0,
        "weight_decay": 0.0,
        "amsgrad": True,
        "semantics_scaling": "none",
        "precision": "fp32",
        "classifier_lr": 1e-3,
        "classifier_batch_size": 32,
        "classifier_epochs": 25,
        "classifier_initial_weights": "xavier-uniform",
        "classifier_initial_gain": 0.5,
        "classifier_last_batch": "dropped",
    },
    "SUN": {
        "classifier_epochs": 21,
        "classifier_zsl_epochs": 30,
        "classifier_few_shot_epochs": (22, 29, 29, 79),
        "classifier_few_shot_zsl_epochs": (96, 61, 78, 94),
    },
    "CUB": {
        "classifier_epochs": 23,
        "classifier_zsl_epochs": 22,
        "classifier_few_shot_epochs": (34, 39, 64, 85),
        "classifier_few_shot_zsl_epochs": (46, 31, 73, 67),
    },
    "CUB/resnet_logits": {
        "feature_scaling": "standardised",
        "semantics_scaling": "norm",
        "delta": 20.0,
    },
    "AWA1": {
        "classifier_epochs": 33,
        "classifier_zsl_epochs": 25,
        "classifier_few_shot_epochs": (40, 56, 89, 100),
        "classifier_few_shot_zsl_epochs": (81, 59, 62, 50),
    },
    "AWA1/classic": {"feature_scaling": "centred"},
    "AWA2": {
        "classifier_epochs": 29,
        "classifier_zsl_epochs": 39,
        "classifier_few_shot_epochs": (44, 69, 99, 86),
        "classifier_few_shot_zsl_epochs": (96, 79, 100, 78),
    },
    "DIGITS": {
        "feature_scaling": "none",  # pixels are in [0, 1]
        "latent_dim": 32,
        "image_encoder_hidden": 256,
        "semantics_encoder_hidden": 256,
        "image_decoder_hidden": 256,
        "semantics_decoder_hidden": 128,
        "epochs": 30,
        "batch_size": 128,
        "learning_rate": 3e-3,
        "classifier_lr": 1e-2,
        "classifier_batch_size": 256,
        "classifier_epochs": 10,
    },
}

METHOD = Method(
    name="cada-vae",
    label="CADA-VAE",
    paper="Schönfeld et al., CVPR 2019; after the published code",
    kind="generative",
    config=CADAVAEConfig,
    model=CADAVAE,
    published=_PUBLISHED,
    short={
        "": {"epochs": 40, "batch_size": 256, "learning_rate": 6e-4, "precision": "auto"},
        "AWA1": {"epochs": 16},
        "AWA2": {"epochs": 16},
        "FLO": {"epochs": 30, "batch_size": 50, "learning_rate": 1.5e-4},
    },
    variants={
        "ca-vae": {"delta": 0.0},
        "da-vae": {"gamma": 0.0},
        "as-published": {"as_published": True},
    },
    search={
        "latent_dim": TimesOneOf((0.5, 1, 2)),
        "beta": Times(0.25, 2),
        "gamma": Times(0.25, 4),
        "delta": Times(0.25, 4),
        "latents_unseen": Times(0.25, 2),
        "semantics_norm": Times(0.25, 4, when=("semantics_scaling", "norm")),
    },
)
