"""The gate `boundary`: two hyperspherical VAEs, of features and of semantics.

Chen et al., "A Boundary Based Out-of-Distribution Classifier for Generalized Zero-Shot Learning",
ECCV 2020. Both posteriors are von Mises-Fisher distributions on one sphere; the semantics' mean
direction is the direction of a class.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.data.scaling import fit_feature_scaling
from gsmflow.learning.contract import Losses
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.gates.base import GateKind
from gsmflow.methods.layers import draw_weights

__all__ = [
    "GATE",
    "BoundaryConfig",
    "HypersphericalVAEs",
    "boundary_training",
    "draw_von_mises_fisher",
    "transport_cost",
]

# Lower bound of the concentrations.
_LOWEST_KAPPA = 100.0
# Latents per posterior in the transport term.
_LATENTS = 10
_TRANSPORT_WEIGHT = 0.1
# Weight of the entropy and number of iterations of the entropic optimal transport.
_EPSILON, _ITERATIONS = 0.1, 100


@dataclass(frozen=True)
class BoundaryConfig:
    """The settings of the boundary gate; defaults are the published ones."""

    share: Annotated[float, Range(above=0, max=1)] = 0.95
    """Share of held-out seen rows that the gate's threshold accepts."""
    latent_dim: Annotated[int, Range(min=2)] = 64
    """Dimensions of the space whose unit sphere the boundary gate works on."""
    hidden: Annotated[int, Range(min=1)] = 512
    """Hidden units of the boundary gate's encoders and decoders."""
    epochs: Annotated[int, Range(min=1)] = 500
    """The boundary gate's passes over its training rows; published are 500 to 1000."""
    batch_size: Annotated[int, Range(min=1)] = 128
    """The boundary gate's rows per step."""
    learning_rate: Annotated[float, Range(above=0)] = 1e-4
    """Adam's learning rate for the boundary gate."""


def boundary_training(config: BoundaryConfig) -> TrainingConfig:
    """The training settings of the gate's model: Adam with a constant learning rate."""
    return TrainingConfig(
        schedule="published",
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_decay=1.0,
        weight_decay=0.0,
    )


class SphereEncoder(nn.Module):
    """From inputs to a von Mises-Fisher distribution: a direction and a concentration.

    Parameters
    ----------
    input_dim, hidden, latent_dim
        Sizes.
    """

    def __init__(self, input_dim: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_dim, hidden)
        self.direction = nn.Linear(hidden, latent_dim)
        self.kappa = nn.Linear(hidden, 1)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean directions ``(n, latent_dim)`` and concentrations ``(n,)`` of inputs ``(n, d)``."""
        hidden = torch.relu(self.hidden(inputs))
        # In float32: bf16 is too coarse for directions that differ by little.
        direction, kappa = self.direction(hidden).float(), self.kappa(hidden).float()
        kappa = functional.softplus(kappa[:, 0]) + _LOWEST_KAPPA
        return functional.normalize(direction, dim=1), kappa


class HypersphericalVAEs(nn.Module):
    """Autoencoders of features and of semantics whose latents are aligned on a sphere.

    Parameters
    ----------
    config
        Settings.
    semantics
        Semantics of each seen class, of length 1, ``(s, a)``.
    seen_classes
        Ascending class numbers, ``(s,)``.
    feature_dim
        ``d``.
    generator
        Source of the initial weights (Xavier uniform; biases are 0).
    """

    semantics: Tensor
    seen_classes: Tensor

    def __init__(
        self,
        config: BoundaryConfig,
        *,
        semantics: Tensor,
        seen_classes: Tensor,
        feature_dim: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.capturable = False  # rejection sampling goes on until all proposals are accepted
        self.register_buffer("semantics", semantics)
        self.register_buffer("seen_classes", seen_classes)
        hidden, k, a = config.hidden, config.latent_dim, semantics.shape[1]
        # Making a layer draws from torch's global generator; the fork leaves that unchanged.
        with torch.random.fork_rng(devices=[]):
            self.image_encoder = SphereEncoder(feature_dim, hidden, k)
            self.semantics_encoder = SphereEncoder(a, hidden, k)
            self.image_decoder = _decoder(k, hidden, feature_dim)
            self.semantics_decoder = _decoder(k, hidden, a)
            self.classifier = nn.Linear(k, len(seen_classes))
        draw_weights(self, "xavier", generator)

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: BoundaryConfig, generators: Generators
    ) -> "HypersphericalVAEs":
        """A model for a problem's seen classes, untrained, on the CPU.

        Parameters
        ----------
        scaled
            The problem, and its training rows scaled to length 1.
        config
            Settings.
        generators
            Sources of random numbers.
        """
        problem = scaled.problem
        semantics = problem.semantics[problem.seen_classes]
        return cls(
            config,
            semantics=torch.from_numpy(fit_feature_scaling(semantics, "l2")(semantics)),
            seen_classes=torch.tensor(problem.seen_classes),
            feature_dim=scaled.feed.feature_dim,
            generator=generators.on_cpu("initial weights"),
        )

    @classmethod
    def from_state(
        cls, description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> "HypersphericalVAEs":
        """A model from what `describe` and ``state_dict`` gave."""
        model = cls(
            BoundaryConfig(**description["config"]),
            semantics=tensors["semantics"],
            seen_classes=tensors["seen_classes"],
            feature_dim=description["feature_dim"],
            generator=torch.Generator(),
        )
        model.load_state_dict(tensors)
        return model

    def describe(self) -> dict[str, Any]:
        """Settings and sizes, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {
            "model": "HypersphericalVAEs",
            "config": asdict(self.config),
            "feature_dim": self.image_encoder.hidden.in_features,
        }

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The training loss of one batch: ``reconstruction + 0.1 transport + classification``.

        Reconstruction: the mean absolute error of both modalities, each decoded from one latent of
        either posterior. Transport: the optimal transport cost between ten latents of one posterior
        and ten of the other, averaged over rows. Classification: the cross-entropy of one linear
        layer on latents, averaged over both posteriors.

        Parameters
        ----------
        features
            Features of length 1, ``(n, d)``.
        labels
            Seen classes, ``(n,)``.
        draws
            Source of the latents.
        """
        columns = torch.searchsorted(self.seen_classes, labels)
        semantics = self.semantics[columns]
        image_latents, semantics_latents = (
            draw_von_mises_fisher(direction, kappa, _LATENTS, draws.generator)
            for direction, kappa in (
                self.image_encoder(features),
                self.semantics_encoder(semantics),
            )
        )
        latents = image_latents[:, 0], semantics_latents[:, 0]
        errors = [
            functional.l1_loss(decoder(latent).float(), target)
            for decoder, target in (
                (self.image_decoder, features),
                (self.semantics_decoder, semantics),
            )
            for latent in latents
        ]
        parts = {
            "reconstruction": torch.stack(errors).sum(),
            "transport": transport_cost(
                image_latents, semantics_latents, _EPSILON, _ITERATIONS
            ).mean(),
            "classification": torch.stack(
                [
                    functional.cross_entropy(self.classifier(latent).float(), columns)
                    for latent in latents
                ]
            ).mean(),
        }
        total = (
            parts["reconstruction"]
            + _TRANSPORT_WEIGHT * parts["transport"]
            + parts["classification"]
        )
        return Losses(total, parts)

    @torch.no_grad()
    def nearest_cosine(self, features: Tensor) -> Tensor:
        """Cosine ``(n,)`` of each row's direction to that of the nearest seen class.

        Parameters
        ----------
        features
            Features of length 1, ``(n, d)``.
        """
        directions, _ = self.semantics_encoder(self.semantics)
        rows, _ = self.image_encoder(features)
        nearest: Tensor = (rows @ directions.T).amax(dim=1)
        return nearest


def _decoder(latent_dim: int, hidden: int, output_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, output_dim))


def draw_von_mises_fisher(
    direction: Tensor, kappa: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Sample from von Mises-Fisher distributions, whose density is ``C exp(kappa direction . x)``.

    Wood (1994): rejection sampling of the cosine ``w`` to the direction; the component orthogonal
    to it is uniform. One normal vector ``g`` gives both: its cosine to the direction has the
    distribution that the proposal needs, and its orthogonal component is uniform and independent of
    that cosine. Gradients reach the direction, and ``kappa`` through the accepted proposal; the
    acceptance rate is treated as constant.

    Parameters
    ----------
    direction
        Unit vectors, ``(n, m)``, ``m >= 2``.
    kappa
        Concentrations, ``(n,)``, above 0.
    count
        Samples of each.
    generator
        On the device of the directions.

    Returns
    -------
    Tensor
        Unit vectors, ``(n, count, m)``.
    """
    n, m = direction.shape
    mean, k = direction[:, None], kappa[:, None].expand(n, count)
    b = (m - 1) / (2 * k + (4 * k.square() + (m - 1) ** 2).sqrt())
    with torch.no_grad():
        cosine, orthogonal = _accepted_proposals(mean, k, b, generator)
    z = (1 + cosine) / 2
    w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
    # Made orthogonal to the direction again, so that gradients reach the direction.
    orthogonal = orthogonal - (orthogonal * mean).sum(dim=2, keepdim=True) * mean
    orthogonal = functional.normalize(orthogonal, dim=2)
    return w[..., None] * mean + (1 - w.square()).clamp(min=0).sqrt()[..., None] * orthogonal


def _accepted_proposals(
    mean: Tensor, k: Tensor, b: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The proposals of Wood's rejection sampling that were accepted.

    Parameters
    ----------
    mean
        Mean directions, ``(n, 1, m)``.
    k, b
        Concentrations and the parameters of the proposal, ``(n, count)``.
    generator
        Source of the proposals.

    Returns
    -------
    tuple of Tensor
        Cosines before the proposal's transform, ``(n, count)``, and components orthogonal to the
        mean directions, ``(n, count, m)``.
    """
    n, count = k.shape
    m = mean.shape[2]
    x = (1 - b) / (1 + b)
    constant = k * x + (m - 1) * (1 - x.square()).log()
    cosine, orthogonal = k.new_empty(n, count), k.new_empty(n, count, m)
    pending = torch.ones_like(k, dtype=torch.bool)
    while pending.any():
        rows, samples = pending.nonzero(as_tuple=True)
        shape = (len(rows), m)
        g = torch.randn(shape, generator=generator, device=k.device, dtype=k.dtype)
        u = torch.rand(len(rows), generator=generator, device=k.device, dtype=k.dtype)
        row_mean, row_b = mean[rows, 0], b[rows, samples]
        along = (g * row_mean).sum(dim=1)
        t = along / g.norm(dim=1)
        z = (1 + t) / 2
        w = (1 - (1 + row_b) * z) / (1 - (1 - row_b) * z)
        log_ratio = k[rows, samples] * w + (m - 1) * (1 - x[rows, samples] * w).log()
        accepted = log_ratio - constant[rows, samples] >= u.log()
        rows, samples = rows[accepted], samples[accepted]
        cosine[rows, samples] = t[accepted]
        orthogonal[rows, samples] = (g - along[:, None] * row_mean)[accepted]
        pending[rows, samples] = False
    return cosine, orthogonal


def transport_cost(first: Tensor, second: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Cost ``(n,)`` of the entropic optimal transport between sets of equally weighted points.

    The cost of a pair of points is their squared distance. Sinkhorn's iterations (Cuturi, NeurIPS
    2013) find the transport plan. Gradients treat it as constant, which is exact at its optimum.

    Parameters
    ----------
    first, second
        ``(n, k, m)`` and ``(n, l, m)``.
    epsilon
        Weight of the entropy, above 0. A smaller weight is closer to unregularized transport.
    iterations
        Maximum number of iterations.
    """
    # This import takes a third of a second, which only training the boundary gate should pay.
    from ot.batch import solve_batch

    costs = (first[:, :, None] - second[:, None]).square().sum(dim=3)
    solved = solve_batch(costs, epsilon, max_iter=iterations, method="log_sinkhorn")
    cost: Tensor = solved.value_linear
    return cost


GATE = GateKind("boundary", BoundaryConfig)
