"""The prototype classifier of ZLAP: cosine similarities to prototypes that semantics predict.

Chen et al., "Zero-Shot Logit Adjustment", IJCAI 2022. A network ``P`` maps the semantics of a class
to its prototype. It is trained by cross-entropy on real rows of seen and synthesized rows of unseen
classes, with the logits ``cos(x, P(s_c)) / temperature + log p(c | side) + log p(side)``, where the
side of a class is seen or unseen. The log-priors are there in training alone, so that the network
learns to make up for them: scores are the cosine similarities, divided by the temperature.

Differences from the published code
-----------------------------------
- The classifier is taken at its last epoch, not at the best of its epochs on the test rows.
- T1, which the code does not measure, takes the prototypes of the unseen classes from the same
  network: among them all log-priors are equal, and cancel. Trained on the few synthesized rows
  alone, as the softmax of T1 is, a network would take a few dozen steps.
- In the code, ``p(seen) / p(unseen)`` is a constant of each dataset, found for 10 rows of each
  unseen class. By default it is here the ratio of the training rows, whatever their number.
- Semantics are brought to length 1, as those of the published datasets are in their files.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.settings import Range
from gsmflow.learning.softmax import (
    ADAM_BETAS,
    ClassifierTask,
    Head,
    SoftmaxClassifier,
    TrainedClassifierConfig,
)

__all__ = ["PrototypesConfig", "log_priors"]

_INITIAL_STD = 0.02
_SLOPE = 0.2


@dataclass(frozen=True)
class PrototypesConfig(TrainedClassifierConfig):
    """The settings of the prototype classifier; defaults are the published ones."""

    usual_samples: ClassVar[int | None] = 10

    lr: Annotated[float, Range(above=0)] = 1e-4
    """Adam's learning rate in the first epochs (betas 0.5, 0.999)."""
    batch_size: Annotated[int, Range(min=1)] = 512
    """Rows per step of the classifier."""
    epochs: Annotated[int, Range(min=1)] = 60
    """Passes over the classifier's rows, real and synthesized."""
    weight_decay: Annotated[float, Range(min=0)] = 1e-4
    """Adam's L2 penalty on the weights and biases of the prototype network."""
    lr_decay: Annotated[float, Range(above=0, max=1)] = 0.5
    """Factor on the classifier's learning rate after every --classifier-lr-decay-every epochs."""
    lr_decay_every: Annotated[int, Range(min=1)] = 30
    """Epochs of the classifier between two decays of its learning rate."""
    hidden: Annotated[int, Range(min=1)] = 1024
    """Hidden units of the network from semantics to prototypes."""
    temperature: Annotated[float, Range(above=0)] = 0.04
    """Divides the cosine similarities."""
    prior_ratio: Annotated[float | None, Range(above=0)] = None
    """How many times more likely a row is of a seen than of an unseen class, in the log-priors of
    the training: more makes unseen classes more likely answers. None: as many times as there are
    more rows of seen classes. Published for 10 rows of each unseen class: 1000 for AWA2, 300 for
    aPY, 60 for SUN, 30 for CUB with sentences."""

    def head(self, task: ClassifierTask, generator: torch.Generator) -> Head:
        """An untrained prototype network."""
        return _PrototypeHead(self, task, generator)

    @property
    def for_zsl(self) -> None:
        """None: T1's classifier has the prototypes of the unseen classes."""

    def lr_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return float(self.lr * self.lr_decay ** (epoch // self.lr_decay_every))


def log_priors(counts: Tensor, is_seen: Tensor, ratio: float | None) -> Tensor:
    """``log p(class | side) + log p(side)`` of classes, ``(k,)``, in fp64.

    Among seen classes, the prior is the frequency of a class; unseen classes are equally likely.

    Parameters
    ----------
    counts
        Rows of each class, ``(k,)``.
    is_seen
        Which of the classes are seen, ``(k,)``.
    ratio
        ``p(seen) / p(unseen)``; None: the ratio of their rows.
    """
    counts = counts.double()
    seen, unseen = counts[is_seen].sum(), counts[~is_seen].sum()
    odds = seen / unseen if ratio is None else torch.full_like(seen, ratio)
    of_seen = (counts / seen).log() - torch.log1p(1 / odds)
    of_unseen = -(~is_seen).sum().log() - torch.log1p(odds)
    return torch.where(is_seen, of_seen, of_unseen)


class _PrototypeHead:
    """The network from semantics to prototypes, with semantics and log-priors of the classes."""

    def __init__(
        self, config: PrototypesConfig, task: ClassifierTask, generator: torch.Generator
    ) -> None:
        problem, like = task.problem, task.no_rows
        assert problem is not None
        self._config = config
        self._classes = task.classes
        semantics = torch.from_numpy(problem.semantics[task.classes]).to(like)
        self._semantics = functional.normalize(semantics)
        is_seen = torch.from_numpy(np.isin(task.classes, problem.seen_classes)).to(like.device)
        self._log_priors = log_priors(task.counts, is_seen, config.prior_ratio).to(like)
        sizes = semantics.shape[1], config.hidden, like.shape[1]
        self._network = nn.Sequential(
            _linear(sizes[0], sizes[1], like, generator),
            nn.LeakyReLU(_SLOPE),
            _linear(sizes[1], sizes[2], like, generator),
        )
        self._lr = torch.tensor(config.lr, device=like.device)  # a recorded step reads it
        self.optimizer = torch.optim.Adam(
            self._network.parameters(),
            lr=self._lr,
            betas=ADAM_BETAS,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rate of an epoch."""
        self._lr.fill_(self._config.lr_of(epoch))

    def logits(self, features: Tensor) -> Tensor:
        """Logits ``(n, k)`` of a batch ``(n, d)``, with the log-priors."""
        return functional.normalize(features) @ self._weight().T + self._log_priors

    def classifier(self) -> SoftmaxClassifier:
        """The prototypes as a linear classifier of rows of length 1, without the log-priors."""
        with torch.no_grad():
            weight = self._weight()
        bias = weight.new_zeros(len(weight))
        return SoftmaxClassifier(weight, bias, self._classes, unit_rows=True)

    def _weight(self) -> Tensor:
        """The prototypes at length ``1 / temperature``, ``(k, d)``."""
        prototypes: Tensor = self._network(self._semantics)
        return functional.normalize(prototypes) / self._config.temperature


def _linear(inputs: int, outputs: int, like: Tensor, generator: torch.Generator) -> nn.Linear:
    """A linear layer of the type and on the device of a tensor."""
    layer = nn.Linear(inputs, outputs, device="meta", dtype=like.dtype).to_empty(device=like.device)
    nn.init.normal_(layer.weight, std=_INITIAL_STD, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
