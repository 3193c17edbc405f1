"""A relation network of rows and classes, and rows that are moved until it is unsure of them.

From the journal version of GSMFlow. The network says how well a row and the semantics of a class
belong together, from 0 to 1. Trained on real rows, it is then frozen, and copies of the rows are
changed by gradient steps to what it still recognises but is unsure of.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.rng import BatchRandom
from gsmflow.learning.contract import Losses
from gsmflow.learning.feed import Feed, PairedFeed

__all__ = ["RelationNet", "augmented_feed", "mean_entropy", "relation_loss"]


class RelationNet(nn.Module):
    """The relation of a row and a class: ``sigmoid(v . relu(W [x; s] + b) + c)``.

    ``W`` has a part for features and one for semantics, each of which is multiplied once for a row
    and once for a class. The initial weights are those of torch's linear layers.

    Parameters
    ----------
    feature_dim
        ``d``.
    semantics
        Semantics of the classes, ``(k, a)``; kept as a buffer.
    classes
        Ascending class numbers, ``(k,)``; kept as a buffer.
    hidden
        Units of the hidden layer.
    generator
        Source of the initial weights; None if they are loaded.
    """

    semantics: Tensor
    classes: Tensor
    of_features: Tensor
    of_semantics: Tensor
    bias: Tensor
    output: Tensor
    output_bias: Tensor

    def __init__(
        self,
        feature_dim: int,
        semantics: Tensor,
        classes: Tensor,
        hidden: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        # Copies: a file of tensors cannot hold memory that two of them share.
        self.register_buffer("semantics", semantics.clone())
        self.register_buffer("classes", classes.clone())
        a = semantics.shape[1]
        first, second = (feature_dim + a) ** -0.5, hidden**-0.5
        self.of_features = _uniform((hidden, feature_dim), first, generator)
        self.of_semantics = _uniform((hidden, a), first, generator)
        self.bias = _uniform((hidden,), first, generator)
        self.output = _uniform((hidden,), second, generator)
        self.output_bias = _uniform((1,), second, generator)

    def forward(self, features: Tensor) -> Tensor:
        """Relations ``(n, k)``, in (0, 1), of scaled features ``(n, d)`` and all classes."""
        rows = functional.linear(features, self.of_features)
        classes = functional.linear(self.semantics, self.of_semantics, self.bias)
        hidden = (rows[:, None] + classes).relu_()
        return torch.sigmoid(hidden @ self.output + self.output_bias)

    def frozen(self) -> "RelationNet":
        """The network itself, with buffers in place of its parameters."""
        for name, parameter in list(self.named_parameters()):
            delattr(self, name)
            self.register_buffer(name, parameter.detach())
        return self

    def columns(self, labels: Tensor) -> Tensor:
        """The column of each label, ``(n,)``."""
        return torch.searchsorted(self.classes, labels)

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The `relation_loss` of a batch ``(n, d)`` with labels ``(n,)``; nothing is drawn."""
        loss = relation_loss(self(features), self.columns(labels))
        return Losses(loss, {"relation": loss})


def _uniform(
    shape: tuple[int, ...], bound: float, generator: torch.Generator | None
) -> nn.Parameter:
    parameter = nn.Parameter(torch.full(shape, torch.nan))
    if generator is not None:
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return parameter


def relation_loss(relations: Tensor, columns: Tensor) -> Tensor:
    """The mean squared distance of relations ``(n, k)`` from 1 for a row's class, else from 0.

    The mean is over the rows and over the classes that occur in the batch, whose columns are given,
    ``(n,)``.
    """
    occurs = _occurring(relations, columns)
    # Not torch's one_hot: on a CPU it reads the classes to check them.
    classes = torch.arange(relations.shape[1], device=columns.device)
    target = (columns[:, None] == classes).to(relations)
    errors = (relations - target).square() * occurs
    return errors.sum() / (len(relations) * occurs.sum())


def mean_entropy(relations: Tensor, columns: Tensor) -> Tensor:
    """The entropy in nats of the softmax of a row's relations, a mean over rows ``(n, k)``.

    The softmax is over the classes that occur in the batch, whose columns are given, ``(n,)``.
    """
    occurs = _occurring(relations, columns)
    shares = relations.masked_fill(~occurs, -torch.inf)
    mean = (shares.softmax(dim=1) * relations).sum(dim=1)
    return (shares.logsumexp(dim=1) - mean).mean()


def _occurring(relations: Tensor, columns: Tensor) -> Tensor:
    """Which classes occur in a batch, ``(k,)``, in tensors of the same shapes for any batch."""
    none = torch.zeros(relations.shape[1], dtype=torch.bool, device=columns.device)
    return none.index_fill(0, columns, True)


def augmented_feed(
    relation: RelationNet,
    feed: Feed,
    generator: torch.Generator,
    *,
    batch_size: int,
    steps: int,
    rate: float,
    entropy_weight: float,
) -> PairedFeed:
    """Each row of a feed with its changed copy.

    In batches of rows in random order, the copies take gradient steps that lower the relation loss
    less the weighted entropy.

    Parameters
    ----------
    relation
        The trained network, frozen, on the device of the rows.
    feed
        The rows, all of the network's classes.
    generator
        Source of the order, on the device of the rows.
    batch_size
        Rows of a batch; the last batch is filled up with rows of the one before.
    steps, rate
        The number of gradient steps, and the factor on the gradient.
    entropy_weight
        The weight of the entropy.
    """
    labels = feed.labels
    n = len(labels)
    size = min(batch_size, n)
    order = torch.randperm(n, generator=generator, device=labels.device)
    changed = torch.empty((n, feed.feature_dim), device=labels.device)
    for start in range(0, n, size):
        rows = order[min(start, n - size) :][:size]
        features, columns = feed.take(rows), relation.columns(labels[rows])
        for _ in range(steps):
            features.requires_grad_()
            relations = relation(features)
            objective = relation_loss(relations, columns)
            objective = objective - entropy_weight * mean_entropy(relations, columns)
            (gradient,) = torch.autograd.grad(objective, features)
            features = (features - rate * gradient).detach()
        changed[rows] = features
    return PairedFeed(feed, changed)
