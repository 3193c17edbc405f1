"""GSMFlow: a conditional flow with relative positioning and visual perturbation.

Chen et al., "Mitigating Generation Shifts for Generalized Zero-Shot Learning", ACM MM 2021.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import (
    ClassifierRows,
    Losses,
    RowsRequest,
    real_and_synthesized,
    with_tensors,
)
from gsmflow.learning.feed import Scaled, class_means
from gsmflow.learning.method import Method
from gsmflow.learning.search import Between, OneOf, Times, TimesOneOf
from gsmflow.methods.positioning import (
    RelativePositioning,
    SemanticsScalingName,
    anchor_classes,
    scaled_semantics,
)

__all__ = ["METHOD", "AnchorPool", "GSMFlow", "GSMFlowConfig"]

AnchorPool: TypeAlias = Literal["seen", "all"]

_Flow = TypeVar("_Flow", bound="GSMFlow")

# The prototype loss takes a subset of the seen classes if there are more than this many times
# ``prototype_classes``.
_SUBSET_FACTOR = 4


@dataclass(frozen=True)
class GSMFlowConfig:
    """The settings of a `GSMFlow`; defaults are the published values where the datasets agree.

    The three ideas of the paper are switches: ``condition_blocks``, ``perturbation`` and
    ``relative_positioning``.
    """

    blocks: Annotated[int, Range(min=1)] = 5
    """Number of coupling blocks, K."""
    hidden: Annotated[int, Range(min=1)] = 2048
    """Hidden units of each coupling subnet."""
    condition_dim: Annotated[int, Range(min=1)] = 1024
    """Length of the relatively positioned condition."""
    condition_blocks: Literal["all", "first"] = "all"
    """Blocks that see the condition: all (paper) or the first alone (ablation)."""
    relative_positioning: bool = True
    """Whether the condition is relative to three anchor classes; off: the semantics themselves."""
    anchors: AnchorPool = "seen"
    """Classes that the anchors are chosen from: seen, or all (published aPY code)."""
    semantics_scaling: SemanticsScalingName = "norm"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 20.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""
    perturbation: bool = True
    """Whether noise is added to the features in training (visual perturbation)."""
    pi: Annotated[float, Range(min=0)] = 0.05
    """Standard deviation of that noise, in units of the scaled features."""
    perturbation_dropout: Annotated[float, Range(min=0, max=1)] = 0.0
    """Share of dimensions left free of noise, drawn anew for each batch, 0 to 1."""
    semantics_noise: Annotated[float, Range(min=0)] = 0.0
    """Standard deviation of noise on the semantics in training, as a share of how far the seen
    classes' semantics are from their mean (root mean square); 0 as published."""
    prototype_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight (lambda) of the prototype loss; 0 leaves it out."""
    prototype_classes: Annotated[int, Range(min=1)] = 64
    """Seen classes in a step's prototype loss, drawn anew for each step, where there are more than
    four times as many; otherwise all."""
    prototype_trains_condition: bool = False
    """Whether the prototype loss also trains the condition's layers (published code: no)."""
    samples_per_class: Annotated[int, Range(min=1)] = 300
    """Synthesized features per unseen class."""

    def prototypes_of(self, seen: int) -> int:
        """Number of classes in a step's prototype loss, given the number of seen classes."""
        return seen if seen <= _SUBSET_FACTOR * self.prototype_classes else self.prototype_classes


class GSMFlow(nn.Module):
    """A conditional flow over image features that synthesizes features of any class.

    Parameters
    ----------
    config
        Settings.
    semantics
        Scaled semantics of every class, ``(classes, a)``.
    seen_classes
        Ascending class numbers, ``(seen,)``.
    class_means
        Mean of each seen class's training features, ``(seen, d)``.
    anchor_rows
        Classes whose semantics are the anchors, ``(3,)``.
    generator
        Source of the initial weights.

    Attributes
    ----------
    config_class
        The settings' class.
    """

    config_class: ClassVar[type[GSMFlowConfig]] = GSMFlowConfig
    semantics: Tensor
    seen_classes: Tensor
    class_means: Tensor
    semantics_spread: Tensor

    def __init__(
        self,
        config: GSMFlowConfig,
        *,
        semantics: Tensor,
        seen_classes: Tensor,
        class_means: Tensor,
        anchor_rows: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("semantics", semantics)
        self.register_buffer("seen_classes", seen_classes)
        self.register_buffer("class_means", class_means)
        seen_semantics = semantics[seen_classes]
        spread = (seen_semantics - seen_semantics.mean(dim=0)).square().mean().sqrt()
        self.register_buffer("semantics_spread", spread, persistent=False)
        condition_dim = semantics.shape[1]
        self.positioning: RelativePositioning | None = None
        if config.relative_positioning:
            condition_dim = config.condition_dim
            anchors = semantics[anchor_rows]
            self.positioning = RelativePositioning(anchors, condition_dim, generator)
        # FrEIA takes a second to import. Code that only reads the settings should not wait for it.
        from gsmflow.methods.coupling_flow import ConditionalFlow

        self.flow: ConditionalFlow = ConditionalFlow(
            class_means.shape[1],
            condition_dim,
            blocks=config.blocks,
            hidden=config.hidden,
            condition_blocks=config.condition_blocks,
            generator=generator,
        )

    @classmethod
    def for_problem(cls: type[_Flow], scaled: Scaled, config: Any, generators: Generators) -> _Flow:
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has."""
        problem, feed = scaled.problem, scaled.feed
        seen, semantics = problem.seen_classes, scaled_semantics(problem, config)
        pool = seen if config.anchors == "seen" else problem.classes
        seen_classes = torch.tensor(seen)
        return cls(
            config,
            semantics=torch.tensor(semantics),
            seen_classes=seen_classes,
            class_means=class_means(feed, seen_classes.to(feed.labels.device)).cpu(),
            anchor_rows=torch.from_numpy(anchor_classes(semantics, pool)),
            generator=generators.on_cpu("initial weights"),
        )

    @classmethod
    def from_state(
        cls: type[_Flow], description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> _Flow:
        """A model from what `describe` and ``state_dict`` gave."""
        model = cls(
            cls.config_class(**description["config"]),
            semantics=tensors["semantics"],
            seen_classes=tensors["seen_classes"],
            class_means=tensors["class_means"],
            anchor_rows=torch.zeros(3, dtype=torch.int64),
            generator=None,
        )
        model.load_state_dict(tensors)
        return model

    def describe(self) -> dict[str, Any]:
        """Settings and sizes, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {
            "model": type(self).__name__,
            "config": asdict(self.config),
            "classes": self.semantics.shape[0],
            "semantics_dim": self.semantics.shape[1],
            "seen": self.class_means.shape[0],
            "feature_dim": self.feature_dim,
        }

    def with_classes(self: _Flow, problem: Problem) -> _Flow:
        """The same model, with the semantics of a problem's further unseen classes; on the CPU."""
        semantics = torch.tensor(scaled_semantics(problem, self.config))
        return with_tensors(self, {"semantics": semantics})

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.class_means.shape[1]

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Unperturbed real seen rows and synthesized unseen rows, streamed if there are many."""
        return real_and_synthesized(request, self)

    def condition(
        self, classes: Tensor, normal: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Conditions ``(n, h)`` of classes ``(n,)``.

        ``normal`` gives standard normal numbers in the shape of a tensor, for the noise on the
        semantics in training. Without it there is no noise.
        """
        semantics = self.semantics[classes]
        if normal is not None and self.config.semantics_noise > 0:
            spread = self.config.semantics_noise * self.semantics_spread
            semantics = semantics + spread * normal(semantics)
        return semantics if self.positioning is None else self.positioning(semantics)

    def perturb(self, features: Tensor, draws: BatchRandom) -> Tensor:
        """Visual perturbation (paper, sec. 3.3): ``x + pi * mask * N(0, I)``, ``(n, d)``.

        The mask drops dimensions of the noise, the same for the whole batch, not rescaled.
        """
        noise = draws.normal(features)
        if self.config.perturbation_dropout > 0:
            kept = draws.uniform(features.shape[1]) >= self.config.perturbation_dropout
            noise = noise * kept
        return features + self.config.pi * noise

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The training loss of one batch (paper, eq. 4 to 8).

        ``mean(z^2) / 2 - mean(log_det) / d``, plus ``lambda`` times the mean squared distance,
        over seen classes and dimensions, between the inverse of ``z = 0`` and the class mean.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.
        labels
            Seen classes, ``(n,)``.
        draws
            Source of the perturbation, of the noise on the semantics, and of the subset of
            classes in the prototype loss.
        """
        if self.config.perturbation:
            features = self.perturb(features, draws)
        seen, positions, seen_offsets = self.seen_classes, None, None
        if len(seen) <= len(labels):  # one condition per class
            positions = torch.searchsorted(seen, labels)
            condition = self.condition(seen, draws.shared_normal)
            offsets, detached = self.flow.offsets_and_apart(condition)
            seen_offsets = offsets if self.config.prototype_trains_condition else detached
        else:  # more classes than rows: one condition per row
            offsets = self.flow.offsets(self.condition(labels, draws.normal))
        z, log_det = self.flow(features, offsets, positions)
        likelihood = z.square().mean() / 2 - log_det.mean() / self.feature_dim
        parts = {"likelihood": likelihood}
        total = likelihood
        if self.config.prototype_weight > 0:
            parts["prototype"] = self._prototype_loss(draws, seen_offsets)
            total = total + self.config.prototype_weight * parts["prototype"]
        return Losses(total, parts)

    def _prototype_loss(self, draws: BatchRandom, seen_offsets: list[Tensor] | None) -> Tensor:
        """The prototype loss of one batch.

        Parameters
        ----------
        draws
            Source of the subset of classes.
        seen_offsets
            The flow's offsets of all seen classes; None if they are not computed yet.
        """
        classes, means = self.seen_classes, self.class_means
        count = self.config.prototypes_of(len(classes))
        if count < len(classes):
            # The mean over a random subset is an unbiased estimate of the mean over all.
            chosen = draws.subset(count, len(classes))
            classes, means, seen_offsets = classes[chosen], means[chosen], None
        if seen_offsets is None:
            condition = self.condition(classes)
            if not self.config.prototype_trains_condition:
                condition = condition.detach()
            seen_offsets = self.flow.offsets(condition)
        centres = self.flow.inverse(torch.zeros_like(means), seen_offsets)
        return nn.functional.mse_loss(centres, means)

    @torch.no_grad()
    def sampler(self, classes: Tensor) -> Callable[[Tensor, torch.Generator], Tensor]:
        """A function that synthesizes scaled features of classes ``(k,)``.

        What depends on the class alone is computed here, once.

        Returns
        -------
        Callable
            Given positions in ``classes``, ``(n,)``, and a generator on their device: one
            synthesized feature vector for each, ``(n, d)``.
        """
        offsets = self.flow.offsets(self.condition(classes))

        @torch.no_grad()
        def draw_features(positions: Tensor, generator: torch.Generator) -> Tensor:
            z = torch.randn(
                (len(positions), self.feature_dim),
                generator=generator,
                device=positions.device,
                dtype=self.class_means.dtype,
            )
            return self.flow.inverse(z, offsets, positions)

        return draw_features

    def sample(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Synthesized features ``(n, d)`` of classes ``(n,)``, seen or unseen."""
        distinct, positions = torch.unique(classes, return_inverse=True)
        return self.sampler(distinct)(positions, generator)

    @torch.no_grad()
    def log_prob(self, features: Tensor, classes: Tensor) -> Tensor:
        """Exact log-density ``log p(x | class)`` in nats, ``(n,)``, of features ``(n, d)``."""
        distinct, positions = torch.unique(classes, return_inverse=True)
        z, log_det = self.flow(features, self.flow.offsets(self.condition(distinct)), positions)
        density: Tensor = log_det - (z.square() + math.log(2 * math.pi)).sum(dim=1) / 2
        return density


METHOD = Method(
    name="gsmflow",
    label="GSMFlow",
    paper="Chen et al., ACM MM 2021; after the published code",
    kind="generative",
    config=GSMFlowConfig,
    model=GSMFlow,
    short={"": {"schedule": "fast"}},
    variants={
        "condition-first": {"condition_blocks": "first"},
        "no-perturbation": {"perturbation": False},
        "no-positioning": {"relative_positioning": False},
        "no-prototypes": {"prototype_weight": 0.0},
    },
    search={
        "hidden": TimesOneOf((0.5, 1, 2)),
        "relative_positioning": OneOf((True, False)),
        "condition_dim": TimesOneOf((0.25, 0.5, 1), when=("relative_positioning", True)),
        "pi": Times(0.2, 5, when=("perturbation", True)),
        "prototype_weight": Times(0.1, 10),
        "semantics_norm": Times(0.25, 4, when=("semantics_scaling", "norm")),
        "semantics_noise": Between(0, 1),
        "samples_per_class": Times(0.25, 2),
    },
)
