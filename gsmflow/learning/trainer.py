"""The training loop: any model with ``loss()``, epoch by epoch, resumable to the same numbers."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import write_tensors
from gsmflow.core.precision import Precision, autocast, tf32_products
from gsmflow.core.rng import BatchRandom
from gsmflow.learning.contract import Losses, WarmedUp
from gsmflow.learning.feed import Feed

__all__ = ["Schedule", "Trainer", "TrainingConfig", "learning_rate"]

_Model = TypeVar("_Model", bound=nn.Module)
Schedule: TypeAlias = Literal["published", "fast"]

_WARM_UP = 0.1


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of the loop; defaults are the published ones where the datasets agree."""

    schedule: Schedule = "published"
    """published: many epochs, the learning rate falling in steps. fast: few epochs, the learning
    rate rising, then falling along a cosine, and the weights averaged over the last steps."""
    epochs: int = 300
    """Passes over the training rows (published); the last partial batch of each is left out."""
    batch_size: int = 256
    """Rows per step."""
    learning_rate: float = 3e-4
    """Adam's learning rate at the start (published)."""
    weight_decay: float = 1e-5
    """Adam's L2 penalty."""
    amsgrad: bool = False
    """Whether Adam divides by the largest second moment so far (AMSGrad)."""
    lr_decay: float = 0.8
    """Factor on the learning rate after every --lr-decay-every epochs (published)."""
    lr_decay_every: int = 15
    """Epochs between two decays of the learning rate (published)."""
    fast_epochs: int = 12
    """Passes over the training rows (fast)."""
    fast_learning_rate: float = 6e-4
    """Adam's learning rate at its highest (fast)."""
    averaging: float = 0.95
    """Share of the averaged weights that a step keeps, against the weights it adds (fast)."""

    @property
    def total_epochs(self) -> int:
        """Passes over the training rows under the schedule that is set."""
        return self.epochs if self.schedule == "published" else self.fast_epochs


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """Adam's learning rate in a step, counted from 0 over all epochs."""
    if config.schedule == "published":
        epoch = step // steps_per_epoch
        return float(config.learning_rate * config.lr_decay ** (epoch // config.lr_decay_every))
    total = config.total_epochs * steps_per_epoch
    warm_up = max(1, round(_WARM_UP * total))
    if step < warm_up:
        return config.fast_learning_rate * (step + 1) / warm_up
    share = (step - warm_up) / max(1, total - warm_up)
    return config.fast_learning_rate * (1 + math.cos(math.pi * share)) / 2


class Trainer(Generic[_Model]):
    """Trains a model with Adam on a schedule.

    The whole state (weights, their average, moments, generator, epoch) can be saved after any
    epoch; a trainer that loads it goes on, on the CPU, to bit-identical results.

    Parameters
    ----------
    model
        Any torch module with a ``loss(features (n, d), labels (n,), draws) -> Losses``, on the
        device of the rows; one that is `WarmedUp` is told before each epoch how much is done.
    feed
        The training rows.
    config
        Settings.
    generator
        Source of batches and perturbations, on the device of the rows; in the same state in all
        processes of a team.
    precision
        Of the matrix products in a step.
    team
        The processes that train this model together, each on its share of every batch.
    """

    def __init__(
        self,
        model: _Model,
        feed: Feed,
        config: TrainingConfig,
        generator: torch.Generator,
        *,
        precision: Precision = "fp32",
        group: Group = SINGLE_PROCESS,
    ) -> None:
        self.model = model
        self.feed = feed
        self.config = config
        self.generator = generator
        self.precision = precision
        self.group = group
        self.epoch = 0
        self._loss: Callable[[Tensor, Tensor, BatchRandom], Losses] = group.wrap(model, "loss")
        self._parameters = list(model.parameters())
        self._optimizer = torch.optim.Adam(
            self._parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            amsgrad=config.amsgrad,
            fused=True,
        )
        self._average: AveragedModel | None = None
        if config.schedule == "fast":
            average = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(model, multi_avg_fn=average)

    @property
    def result(self) -> _Model:
        """What the training has led to so far: the model, or that of the averaged weights."""
        return self.model if self._average is None else cast(_Model, self._average.module)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch, ``>= 1``."""
        return max(1, len(self.feed.labels) // self.config.batch_size)

    def run_epoch(self, on_step: Callable[[], object] = lambda: None) -> dict[str, float]:
        """Train one epoch, calling ``on_step`` after each step.

        Returns
        -------
        dict
            The mean of each part of the loss over the epoch's steps.
        """
        n, device = len(self.feed.labels), self.feed.labels.device
        batch_size = min(self.config.batch_size, n - n % self.group.size)
        model: object = self.model
        if isinstance(model, WarmedUp):
            model.warm_up(self.epoch / self.config.total_epochs)
        order = torch.randperm(n, generator=self.generator, device=device)
        sums: dict[str, Tensor] = {}
        with tf32_products(self.precision):
            for step in range(self.steps_per_epoch):
                self._set_learning_rate(self.epoch * self.steps_per_epoch + step)
                parts = self._step(order[step * batch_size : (step + 1) * batch_size])
                for name, value in parts.items():
                    sums[name] = sums.get(name, torch.zeros((), device=device)) + value
                on_step()
        self.epoch += 1
        # Read once an epoch: reading a number makes the device finish what it was given.
        return {
            name: float(self.group.mean(total)) / self.steps_per_epoch
            for name, total in sums.items()
        }

    def _set_learning_rate(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step, self.steps_per_epoch)

    def _step(self, batch: Tensor) -> dict[str, Tensor]:
        rows = self.group.share(batch)
        draws = BatchRandom(self.generator, self.group.index, self.group.size)
        with autocast(self.precision, rows.device):
            losses = self._loss(self.feed.take(rows), self.feed.labels[rows], draws)
        self._optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return {name: value.detach() for name, value in losses.parts.items()}

    def save(self, path: Path, progress: Mapping[str, object]) -> None:
        """Write the state to one safetensors file, atomically.

        Parameters
        ----------
        path
            The file.
        progress
            JSON-ready facts of the caller's, given back by `load`.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, parameter in enumerate(self._parameters):
            for name, value in self._optimizer.state[parameter].items():
                tensors[f"optimizer.{i}.{name}"] = value
        if self._average is not None:
            tensors |= {f"average.{k}": v for k, v in self._average.state_dict().items()}
        tensors["generator"] = self.generator.get_state()
        state = {"epoch": self.epoch, "progress": progress}
        write_tensors(path, tensors, {"state": json.dumps(state)})

    def load(self, path: Path) -> dict[str, object]:
        """Take back the state that `save` wrote; return its ``progress``.

        Raises
        ------
        InputError
            If the file is damaged or belongs to another model.
        """
        device = self.feed.labels.device
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.model.load_state_dict(_below("model.", tensors))
            if self._average is not None:
                self._average.load_state_dict(_below("average.", tensors))
            for i, parameter in enumerate(self._parameters):
                names = ["step", "exp_avg", "exp_avg_sq"]
                names += ["max_exp_avg_sq"] if self.config.amsgrad else []
                slots = {name: tensors[f"optimizer.{i}.{name}"] for name in names}
                # A fused Adam keeps its step count beside the parameters.
                self._optimizer.state[parameter] = {k: v.to(device) for k, v in slots.items()}
            self.generator.set_state(tensors["generator"])
            self.epoch = state["epoch"]
            progress: dict[str, object] = state["progress"]
        except Exception as error:
            raise InputError(
                f"{path}: not readable as the saved state of this run ({one_line(error)}), "
                "expected a file that this run wrote; delete it to start again"
            ) from error
        return progress


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
