"""The plain baseline: the published recipe as research code writes it, without optimizations.

Every result equals the package's up to rounding (``tests/benchmarks/test_plain.py``), but the code
is slow on purpose. The flow is FrEIA's ``GLOWCouplingBlock``, which multiplies the condition for
each row. Rows are gathered one by one, each of the two losses has a backward pass, and the rows of
the classifier are copied for every epoch. All random numbers are drawn on the host.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import GLOWCouplingBlock
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.learning.softmax import SoftmaxConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig

__all__ = [
    "PlainModel",
    "PlainPositioning",
    "PlainTrainer",
    "plain_copy",
    "plain_pair",
    "plain_softmax",
    "plain_synthesis",
]

_Floats: TypeAlias = NDArray[np.floating[Any]]

# The baseline implements only the published form of the model.
_PUBLISHED_FORM = {
    "condition_blocks": "all",
    "relative_positioning": True,
    "prototype_trains_condition": False,
}


class PlainPositioning(nn.Module):
    """Relative positioning as three Linear layers, computed for every row of a batch.

    Parameters
    ----------
    anchors
        Semantics of the anchor classes, ``(3, a)``.
    condition_dim
        Length of the condition, ``h``.
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor, condition_dim: int) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors.clone())
        self.layers = nn.ModuleList(nn.Linear(anchors.shape[1], condition_dim) for _ in anchors)

    def forward(self, semantics: Tensor) -> Tensor:
        """Conditions ``(n, h)`` of semantics ``(n, a)``."""
        responses = [
            torch.relu(layer(semantics - anchor))
            for layer, anchor in zip(self.layers, self.anchors, strict=True)
        ]
        return torch.as_tensor(sum(responses))


class PlainModel(nn.Module):
    """The model of FrEIA's own blocks, with the condition concatenated to every row.

    Each block multiplies the condition of every row in each of its two subnets. `plain_copy`
    makes it.

    Parameters
    ----------
    semantics
        Scaled semantics of every class, ``(classes, a)``.
    seen_classes
        Ascending class numbers, ``(seen,)``.
    class_means
        Mean of each seen class's training features, ``(seen, d)``.
    anchors
        Semantics of the anchor classes, ``(3, a)``.
    config
        Settings of the package's model.
    """

    semantics: Tensor
    seen_classes: Tensor
    class_means: Tensor

    def __init__(
        self,
        *,
        semantics: Tensor,
        seen_classes: Tensor,
        class_means: Tensor,
        anchors: Tensor,
        config: GSMFlowConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("semantics", semantics.clone())
        self.register_buffer("seen_classes", seen_classes.clone())
        self.register_buffer("class_means", class_means.clone())
        d = class_means.shape[1]

        def subnet(dim_in: int, dim_out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(dim_in, config.hidden),
                nn.LeakyReLU(0.2),
                nn.Linear(config.hidden, dim_out),
            )

        self.positioning = PlainPositioning(anchors, config.condition_dim)
        self.flow = SequenceINN(d)
        for _ in range(config.blocks):
            self.flow.append(
                GLOWCouplingBlock,
                cond=0,
                cond_shape=(config.condition_dim,),
                subnet_constructor=subnet,
                clamp=1.0,
                split_len=d // 2,
            )

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.class_means.shape[1]

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(n, d)`` and log-determinants ``(n,)``.

        Parameters
        ----------
        x
            Features, ``(n, d)``.
        condition
            One condition per row, ``(n, h)``.
        """
        z, log_det = self.flow(x, c=[condition])
        return z, log_det

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """Features ``(n, d)`` of latents ``(n, d)`` under one condition per row, ``(n, h)``."""
        x, _ = self.flow(z, c=[condition], rev=True)
        return torch.as_tensor(x)


def plain_copy(model: GSMFlow) -> PlainModel:
    """Copy a model's weights into a plain model: the same function, on the same device.

    Raises
    ------
    InputError
        If the model does not have the published form.
    """
    for name, expected in _PUBLISHED_FORM.items():
        found = getattr(model.config, name)
        if found != expected:
            raise InputError(f"the plain baseline: found {name} {found}, expected {expected}")
    assert model.positioning is not None
    # Torch's layers draw initial weights, which are overwritten below.
    with torch.random.fork_rng(devices=[]):
        plain = PlainModel(
            semantics=model.semantics,
            seen_classes=model.seen_classes,
            class_means=model.class_means,
            anchors=model.positioning.anchors,
            config=model.config,
        ).to(model.class_means)
    plain.positioning.layers.load_state_dict(model.positioning.layers.state_dict())
    for theirs, ours, projection in zip(
        plain.flow, model.flow.inn, model.flow.projections, strict=True
    ):
        # FrEIA's subnet2 acts on the first half, its subnet1 on the second.
        halves = ((theirs.subnet2, ours.from_second), (theirs.subnet1, ours.from_first))
        columns = projection.get_parameter("weight").detach().chunk(2)
        for (subnet, our_subnet), condition_columns in zip(halves, columns, strict=True):
            weight = torch.cat([our_subnet.input.weight.detach(), condition_columns], dim=1)
            subnet[0].load_state_dict({"weight": weight, "bias": our_subnet.input.bias.detach()})
            subnet[2].load_state_dict(our_subnet.output.state_dict())
    return plain


class PlainTrainer:
    """The training loop, one step at a time.

    Rows and their semantics are gathered on the host one by one and sent to the model's device.
    The likelihood and the prototype loss have a backward pass each, and the first keeps its graph.
    The optimizer is torch's default Adam with a constant learning rate.

    Parameters
    ----------
    model
        Trained in place, with the settings of ``model.config``.
    features, labels
        All scaled training rows on the host, ``(n, d)`` and ``(n,)``.
    config
        Settings.
    generator
        A CPU generator for batches and perturbations.
    """

    def __init__(
        self,
        model: PlainModel,
        features: _Floats,
        labels: IntArray,
        config: TrainingConfig,
        generator: torch.Generator,
    ) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._features = features
        self._labels = labels
        self._semantics = model.semantics.cpu().numpy()
        self._seen_semantics = self._semantics[model.seen_classes.cpu().numpy()]
        self._generator = generator
        self._batches = self._draw_rows(config.batch_size)

    def step(self) -> dict[str, Tensor]:
        """Train on the next batch; return the terms of the loss, detached scalars."""
        features, semantics = self._gather(next(self._batches))
        if self.model.config.perturbation:
            features = self._perturb(features)
        return self._descend(features, semantics)

    def _draw_rows(self, batch_size: int) -> Iterator[IntArray]:
        """Yield batches of one permutation after another; an incomplete last batch is dropped."""
        n = len(self._labels)
        while True:
            order = torch.randperm(n, generator=self._generator).numpy()
            for start in range(0, max(n - batch_size, 0) + 1, batch_size):
                yield order[start : start + batch_size]

    def _gather(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        features = np.array([self._features[i] for i in rows])
        labels = np.array([self._labels[i] for i in rows])
        semantics = np.array([self._semantics[c] for c in labels])
        return self._to_device(features), self._to_device(semantics)

    def _to_device(self, values: _Floats) -> Tensor:
        return torch.from_numpy(values).to(self.model.class_means)

    def _perturb(self, features: Tensor) -> Tensor:
        config = self.model.config
        noise = torch.randn(features.shape, generator=self._generator, dtype=features.dtype)
        if config.perturbation_dropout > 0:
            uniform = torch.rand(features.shape[1], generator=self._generator)
            noise = (uniform >= config.perturbation_dropout) * noise
        return features + config.pi * noise.to(features.device)

    def _descend(self, features: Tensor, semantics: Tensor) -> dict[str, Tensor]:
        model = self.model
        self.optimizer.zero_grad()
        z, log_det = model(features, model.positioning(semantics))
        likelihood = torch.mean(z**2) / 2 - torch.mean(log_det) / model.feature_dim
        likelihood.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        terms = {"likelihood": likelihood.detach()}
        if model.config.prototype_weight > 0:
            with torch.no_grad():
                condition = model.positioning(self._to_device(self._seen_semantics))
            centres = model.inverse(torch.zeros_like(model.class_means), condition)
            prototype = nn.functional.mse_loss(centres, model.class_means)
            (model.config.prototype_weight * prototype).backward()  # type: ignore[no-untyped-call]
            terms["prototype"] = prototype.detach()
        self.optimizer.step()
        return terms


@torch.no_grad()
def plain_synthesis(
    model: PlainModel, classes: IntArray, per_class: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Synthesize all rows class by class and keep them on the host.

    The semantics of a class are repeated for each of its rows, and each row's condition is
    computed from them.

    Parameters
    ----------
    model
        A trained model.
    classes
        Class numbers, ``(k,)``.
    per_class
        Samples per class.
    generator
        A CPU generator.

    Returns
    -------
    tuple of Tensor
        Features ``(k * per_class, d)`` and classes ``(k * per_class,)`` on the host.
    """
    table = model.semantics.cpu().numpy()
    shape, dtype = (per_class, model.feature_dim), model.class_means.dtype
    features, labels = [], []
    for c in classes:
        semantics = torch.from_numpy(np.tile(table[c], (per_class, 1))).to(model.class_means)
        z = torch.randn(shape, generator=generator, dtype=dtype).to(model.class_means)
        features.append(model.inverse(z, model.positioning(semantics)).cpu())
        labels.append(torch.full((per_class,), int(c)))
    return torch.cat(features), torch.cat(labels)


def plain_softmax(
    features: Tensor,
    labels: Tensor,
    classes: IntArray,
    config: SoftmaxConfig,
    device: torch.device,
    generator: torch.Generator,
) -> nn.Sequential:
    """Train the softmax classifier; every pass copies all rows into a new order.

    Linear, LogSoftmax and negative log-likelihood, under Adam with betas (0.5, 0.999). A batch that
    a pass leaves incomplete is filled with the first rows of the next.

    Parameters
    ----------
    features, labels
        Training rows on the host, ``(n, d)`` and ``(n,)``; batches go to the device one by one.
    classes
        The class of each score column, ``(k,)``.
    config
        Settings.
    device
        The device of the classifier.
    generator
        A CPU generator for the initial weights (Xavier normal) and the orders.

    Returns
    -------
    nn.Sequential
        Features ``(n, d)`` to log-probabilities ``(n, k)``.
    """
    targets = torch.empty_like(labels)
    for column, c in enumerate(classes):
        targets[labels == int(c)] = column
    # Torch's layer draws initial weights, which are overwritten below.
    with torch.random.fork_rng(devices=[]):
        linear = nn.Linear(features.shape[1], len(classes), dtype=features.dtype)
    nn.init.xavier_normal_(linear.weight, generator=generator)
    nn.init.zeros_(linear.bias)
    classifier = nn.Sequential(linear, nn.LogSoftmax(dim=1)).to(device)
    criterion = nn.NLLLoss()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=config.lr, betas=(0.5, 0.999))
    n = len(targets)
    batch_size = min(config.batch_size, n)
    start = n
    for _ in range(config.epochs):
        for _ in range(0, n, batch_size):
            end = start + batch_size
            rows, expected = features[start:end], targets[start:end]
            if end > n:
                order = torch.randperm(n, generator=generator)
                features, targets = features[order], targets[order]
                end -= n
                rows = torch.cat([rows, features[:end]])
                expected = torch.cat([expected, targets[:end]])
            start = end
            loss = criterion(classifier(rows.to(device)), expected.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return classifier


def plain_pair(
    model: PlainModel,
    features: Tensor,
    labels: Tensor,
    unseen_classes: IntArray,
    per_class: int,
    config: SoftmaxConfig,
    generator: torch.Generator,
    on_synthesized: Callable[[], object] = lambda: None,
) -> tuple[nn.Sequential, nn.Sequential]:
    """Synthesize samples and train both classifiers.

    Parameters
    ----------
    model
        A trained model.
    features, labels
        All scaled training rows of seen classes on the host, ``(n, d)`` and ``(n,)``.
    unseen_classes
        Ascending class numbers, ``(unseen,)``.
    per_class
        Samples per unseen class.
    config
        Settings of the classifiers.
    generator
        A CPU generator.
    on_synthesized
        Called after the synthesis, so that both steps can be timed.

    Returns
    -------
    tuple of nn.Sequential
        The GZSL classifier of seen and unseen classes in ascending order, trained on real seen
        and synthesized rows; and the ZSL classifier, trained on the synthesized rows only.
    """
    made, made_labels = plain_synthesis(model, unseen_classes, per_class, generator)
    on_synthesized()
    all_features = torch.cat([features, made])
    all_labels = torch.cat([labels, made_labels])
    classes = np.union1d(model.seen_classes.cpu().numpy(), unseen_classes)
    device = model.class_means.device
    gzsl = plain_softmax(all_features, all_labels, classes, config, device, generator)
    zsl = plain_softmax(made, made_labels, unseen_classes, config, device, generator)
    return gzsl, zsl
