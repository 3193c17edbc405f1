"""The boundary gate's model: two hyperspherical VAEs, of features and of semantics.

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

__all__ = [
    "GATE",
    "BoundaryConfig",
    "HypersphericalVAEs",
    "boundary_training",
    "draw_von_mises_fisher",
    "transport_cost",
]

_LOWEST_KAPPA = 100.0
_DRAWS = 10
_TRANSPORT_WEIGHT = 0.1
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
    """How the gate's model is trained: Adam at one learning rate."""
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
        # bf16 has not the digits for directions that differ by little.
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
        self.register_buffer("semantics", semantics)
        self.register_buffer("seen_classes", seen_classes)
        hidden, k, a = config.hidden, config.latent_dim, semantics.shape[1]
        # Torch's layers draw initial weights of their own before these are overwritten.
        with torch.random.fork_rng(devices=[]):
            self.image_encoder = SphereEncoder(feature_dim, hidden, k)
            self.semantics_encoder = SphereEncoder(a, hidden, k)
            self.image_decoder = _decoder(k, hidden, feature_dim)
            self.semantics_decoder = _decoder(k, hidden, a)
            self.classifier = nn.Linear(k, len(seen_classes))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: BoundaryConfig, generators: Generators
    ) -> "HypersphericalVAEs":
        """A model for a problem's seen classes, untrained, on the CPU.

        Parameters
        ----------
        scaled
            The classes, their semantics and the training rows, of length 1.
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
        """The training loss of one batch: reconstruction, 0.1 transport, classification.

        The reconstruction is the mean absolute error of both modalities, each decoded from a draw
        of either posterior; the transport is the mean over rows of the cost between ten draws of
        the one posterior and ten of the other; the classification is the mean cross-entropy of
        one linear layer over the draws of both.

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
        of_image, of_semantics = (
            draw_von_mises_fisher(direction, kappa, _DRAWS, draws.generator)
            for direction, kappa in (
                self.image_encoder(features),
                self.semantics_encoder(semantics),
            )
        )
        latents = of_image[:, 0], of_semantics[:, 0]
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
            "transport": transport_cost(of_image, of_semantics, _EPSILON, _ITERATIONS).mean(),
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
    """Draws from von Mises-Fisher distributions, whose density is ``C exp(kappa direction . x)``.

    Wood (1994): a cosine ``w`` to the direction is accepted or rejected, and the rest of the vector
    is uniform. A normal vector ``g`` serves for both: its cosine to the direction is distributed
    as the proposal's uniform one, and its part across the direction is uniform and independent of
    it. Gradients reach the direction, and ``kappa`` through the accepted proposal; the share that
    is accepted is taken as constant.

    Parameters
    ----------
    direction
        Unit vectors, ``(n, m)``, ``m >= 2``.
    kappa
        Concentrations, ``(n,)``, above 0.
    count
        Draws of each.
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
        cosine, across = _accepted(mean, k, b, generator)
    z = (1 + cosine) / 2
    w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
    # Across the direction again, for its gradient.
    across = across - (across * mean).sum(dim=2, keepdim=True) * mean
    across = functional.normalize(across, dim=2)
    return w[..., None] * mean + (1 - w.square()).clamp(min=0).sqrt()[..., None] * across


def _accepted(
    mean: Tensor, k: Tensor, b: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Uniform cosines ``(n, count)`` that lead to accepted ones, and parts across the direction."""
    n, count = k.shape
    m = mean.shape[2]
    x = (1 - b) / (1 + b)
    constant = k * x + (m - 1) * (1 - x.square()).log()
    cosine, across = k.new_empty(n, count), k.new_empty(n, count, m)
    waiting = torch.ones_like(k, dtype=torch.bool)
    while waiting.any():
        rows, draws = waiting.nonzero(as_tuple=True)
        shape = (len(rows), m)
        g = torch.randn(shape, generator=generator, device=k.device, dtype=k.dtype)
        u = torch.rand(len(rows), generator=generator, device=k.device, dtype=k.dtype)
        own, own_b = mean[rows, 0], b[rows, draws]
        along = (g * own).sum(dim=1)
        t = along / g.norm(dim=1)
        z = (1 + t) / 2
        w = (1 - (1 + own_b) * z) / (1 - (1 - own_b) * z)
        told = k[rows, draws] * w + (m - 1) * (1 - x[rows, draws] * w).log()
        good = told - constant[rows, draws] >= u.log()
        rows, draws = rows[good], draws[good]
        cosine[rows, draws] = t[good]
        across[rows, draws] = (g - along[:, None] * own)[good]
        waiting[rows, draws] = False
    return cosine, across


def transport_cost(first: Tensor, second: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Cost ``(n,)`` of the entropic optimal transport between clouds of equally weighted points.

    The cost of a pair of points is their squared distance. Sinkhorn's iterations (Cuturi, NeurIPS
    2013) find the plan; gradients take it as constant, as is right at its optimum.

    Parameters
    ----------
    first, second
        ``(n, k, m)`` and ``(n, l, m)``.
    epsilon
        Weight of the entropy, above 0; the smaller, the nearer to the optimal transport.
    iterations
        At most so many.
    """
    # A third of a second, which only the boundary gate's training is to pay.
    from ot.batch import solve_batch

    costs = (first[:, :, None] - second[:, None]).square().sum(dim=3)
    solved = solve_batch(costs, epsilon, max_iter=iterations, method="log_sinkhorn")
    cost: Tensor = solved.value_linear
    return cost


GATE = GateKind("boundary", BoundaryConfig)
