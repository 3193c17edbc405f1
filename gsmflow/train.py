"""The training loop: any model with ``loss()``, epoch by epoch, resumable to the same numbers."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from gsmflow.errors import InputError, one_line
from gsmflow.feed import Feed
from gsmflow.model import Losses
from gsmflow.precision import Precision, autocast, tf32_products
from gsmflow.team import ALONE, Team
from gsmflow.util import Draws, write_tensors

__all__ = ["Trainable", "Trainer", "TrainingConfig"]


class Trainable(Protocol):
    """What the loop asks of a model: torch's module methods, and a loss of one batch."""

    def loss(self, features: Tensor, labels: Tensor, draws: Draws) -> Losses:
        """Losses of a batch ``(n, d)``, ``(n,)``, or of one process's share of it."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What is trained."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything to be saved."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """Take back what `state_dict` gave."""


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of the loop; defaults are the published ones where the datasets agree."""

    epochs: int = 300
    """Passes over the training rows; the last partial batch of a pass is left out."""
    batch_size: int = 256
    """Rows per step."""
    learning_rate: float = 3e-4
    """Adam's learning rate at the start."""
    weight_decay: float = 1e-5
    """Adam's L2 penalty."""
    lr_decay: float = 0.8
    """Factor on the learning rate after every --lr-decay-every epochs."""
    lr_decay_every: int = 15
    """Epochs between two decays of the learning rate."""


class Trainer:
    """Trains a model with Adam and a step-wise decaying learning rate.

    The whole state (weights, moments, generator, epoch) can be saved after any epoch; a trainer
    that loads it goes on, on the CPU, to bit-identical results.

    Parameters
    ----------
    model
        On the device of the rows.
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
        model: Trainable,
        feed: Feed,
        config: TrainingConfig,
        generator: torch.Generator,
        *,
        precision: Precision = "fp32",
        team: Team = ALONE,
    ) -> None:
        self.model = model
        self.feed = feed
        self.config = config
        self.generator = generator
        self.precision = precision
        self.team = team
        self.epoch = 0
        self._loss: Callable[[Tensor, Tensor, Draws], Losses] = team.wrap(model, "loss")
        self._parameters = list(model.parameters())
        self._optimizer = torch.optim.Adam(
            self._parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )

    @property
    def learning_rate(self) -> float:
        """Adam's learning rate in the epoch that comes next."""
        decays = self.epoch // self.config.lr_decay_every
        return float(self.config.learning_rate * self.config.lr_decay**decays)

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
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        n, device = len(self.feed.labels), self.feed.labels.device
        batch_size = min(self.config.batch_size, n - n % self.team.size)
        order = torch.randperm(n, generator=self.generator, device=device)
        sums: dict[str, Tensor] = {}
        with tf32_products(self.precision):
            for step in range(self.steps_per_epoch):
                parts = self._step(order[step * batch_size : (step + 1) * batch_size])
                for name, value in parts.items():
                    sums[name] = sums.get(name, torch.zeros((), device=device)) + value
                on_step()
        self.epoch += 1
        # Read once an epoch: reading a number makes the device finish what it was given.
        return {
            name: float(self.team.mean(total)) / self.steps_per_epoch
            for name, total in sums.items()
        }

    def _step(self, batch: Tensor) -> dict[str, Tensor]:
        rows = self.team.share(batch)
        draws = Draws(self.generator, self.team.index, self.team.size)
        with autocast(self.precision, rows.device):
            losses = self._loss(self.feed.take(rows), self.feed.labels[rows], draws)
        self._optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
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
            prefix = "model."
            self.model.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
            for i, parameter in enumerate(self._parameters):
                names = ("step", "exp_avg", "exp_avg_sq")
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
