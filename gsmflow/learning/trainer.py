"""The training loop for `Trainable` models; a resumed training gives bit-identical results."""

import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from gsmflow.core.denormals import flushing_denormals
from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import refuse_folder, write_tensors
from gsmflow.core.graphs import Graphs, Recorded, RecordingError, allow_recording
from gsmflow.core.precision import Precision, autocast, tf32_products
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import (
    Augmenting,
    Batch,
    Capturable,
    Losses,
    LossTrained,
    Optimizer,
    ParameterGroup,
    StepTrained,
    WarmedUp,
)
from gsmflow.learning.feed import Feed, is_in_memory

__all__ = ["Schedule", "Trainer", "TrainingConfig", "learning_rate", "steps_per_epoch"]

_Model = TypeVar("_Model", bound=nn.Module)
Schedule: TypeAlias = Literal["published", "fast"]

_Step: TypeAlias = Callable[
    [Iterator[Batch], BatchRandom, Mapping[str, Optimizer]], Mapping[str, Tensor]
]

# Share of the steps in which the fast schedule's learning rate rises.
_WARM_UP = 0.1
# The name of the single optimizer of a `LossTrained` model.
_LOSS = "loss"


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of the training loop; defaults are GSMFlow's where its datasets agree."""

    schedule: Schedule = "published"
    """published: many epochs, the learning rate falling in steps. fast: few epochs, the learning
    rate rising, then falling along a cosine, and the weights averaged over the last steps."""
    epochs: Annotated[int, Range(min=1)] = 300
    """Passes over the training rows (published)."""
    batch_size: Annotated[int, Range(min=1)] = 256
    """Rows per step."""
    batches: Literal["passes", "drawn"] = "passes"
    """passes: each epoch takes the rows in a new order and leaves out the last partial batch.
    drawn: each batch is drawn anew from all rows, for as many steps as a pass has batches, the
    partial one included."""
    learning_rate: Annotated[float, Range(above=0)] = 3e-4
    """Adam's learning rate at the start (published)."""
    weight_decay: Annotated[float, Range(min=0)] = 1e-5
    """Adam's L2 penalty."""
    amsgrad: bool = False
    """Whether Adam divides by the largest second moment so far (AMSGrad)."""
    lr_decay: Annotated[float, Range(above=0, max=1)] = 0.8
    """Factor on the learning rate after every --lr-decay-every epochs (published)."""
    lr_decay_every: Annotated[int, Range(min=1)] = 15
    """Epochs between two decays of the learning rate (published)."""
    lr_decay_clock: Literal["gsmflow", "epochs"] = "gsmflow"
    """What counts as an epoch for --lr-decay-every. gsmflow: as many steps as a pass has batches,
    the partial one included, where step 0 completes the first, as in its published code; epochs:
    the epochs of the training."""
    fast_epochs: Annotated[int, Range(min=1)] = 12
    """Passes over the training rows (fast)."""
    fast_learning_rate: Annotated[float, Range(above=0)] = 6e-4
    """Adam's learning rate at its highest (fast)."""
    averaging: Annotated[float, Range(min=0, max=1)] = 0.95
    """Share of the averaged weights that a step keeps, against the weights it adds (fast)."""

    @property
    def total_epochs(self) -> int:
        """Passes over the training rows under the selected schedule."""
        return self.epochs if self.schedule == "published" else self.fast_epochs

    def with_epochs(self, epochs: int) -> "TrainingConfig":
        """The same with so many epochs under the selected schedule."""
        if self.schedule == "published":
            return replace(self, epochs=epochs)
        return replace(self, fast_epochs=epochs)


def learning_rate(config: TrainingConfig, step: int, n: int) -> float:
    """Adam's learning rate in a step of training on ``n`` rows; step 0 is the first of all."""
    if config.schedule == "published":
        if config.lr_decay_clock == "gsmflow":
            epoch = math.ceil(step / math.ceil(n / config.batch_size))
        else:
            epoch = step // steps_per_epoch(n, config)
        return float(config.learning_rate * config.lr_decay ** (epoch // config.lr_decay_every))
    total = config.total_epochs * steps_per_epoch(n, config)
    warm_up = max(1, round(_WARM_UP * total))
    if step < warm_up:
        return config.fast_learning_rate * (step + 1) / warm_up
    share = (step - warm_up) / max(1, total - warm_up)
    return config.fast_learning_rate * (1 + math.cos(math.pi * share)) / 2


def steps_per_epoch(n: int, config: TrainingConfig) -> int:
    """Optimizer steps in one epoch on ``n >= 1`` rows, ``>= 1``."""
    if config.batches == "drawn":
        return math.ceil(n / config.batch_size)
    return max(1, n // config.batch_size)


class _Adam:
    """The Adam of one `ParameterGroup`.

    If its steps are recorded, its learning rate is a tensor, which a recorded step reads.
    """

    def __init__(self, group: ParameterGroup, config: TrainingConfig, *, recorded: bool) -> None:
        self.parameters = list(group.parameters)
        self._factor = group.learning_rate_factor
        self._moments = ["step", "exp_avg", "exp_avg_sq"]
        self._moments += ["max_exp_avg_sq"] if config.amsgrad else []
        rate = config.learning_rate * self._factor
        self._adam = torch.optim.Adam(
            self.parameters,
            lr=torch.tensor(rate, device=self.parameters[0].device) if recorded else rate,
            betas=group.betas,
            weight_decay=config.weight_decay,
            amsgrad=config.amsgrad,
            fused=True,
        )

    def set_learning_rate(self, value: float) -> None:
        """Set the schedule's learning rate for the next steps."""
        for group in self._adam.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value * self._factor)
            else:
                group["lr"] = value * self._factor

    def prepare_recording(self) -> None:
        """Let the next steps be recorded."""
        allow_recording(self._adam)

    def minimize(self, loss: Tensor) -> None:
        """Take one gradient step on a scalar loss, changing these parameters alone."""
        self._adam.zero_grad()
        # A backward pass runs in the precision of its forward pass, whatever autocast is set here.
        with autocast("fp32", loss.device):
            loss.backward(  # type: ignore[no-untyped-call]
                inputs=[p for p in self.parameters if p.requires_grad]
            )
        self._step()

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Take one step with given gradients of the parameters; those with None stay unchanged."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self._step()

    def _step(self) -> None:
        """Take one step with the gradients that the parameters have."""
        with autocast("fp32", self.parameters[0].device):
            self._adam.step()
        # Drop autocast's bf16 copies of the old weights: this step may have more forward passes.
        torch.clear_autocast_cache()

    def state(self) -> dict[str, Tensor]:
        """The moments of each parameter that was optimized so far, named by its index."""
        return {
            f"{i}.{name}": self._adam.state[parameter][name]
            for i, parameter in enumerate(self.parameters)
            if parameter in self._adam.state
            for name in self._moments
        }

    def load_state(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore the moments from `state`."""
        self._adam.state.clear()
        for i in sorted({int(name.partition(".")[0]) for name in tensors}):
            parameter = self.parameters[i]
            moments = {name: tensors[f"{i}.{name}"] for name in self._moments}
            for name, value in moments.items():
                if name != "step" and value.shape != parameter.shape:
                    raise ValueError(f"moments of shape {tuple(value.shape)}")
            # A fused Adam keeps its step count on the device of the parameters.
            self._adam.state[parameter] = {k: v.to(device) for k, v in moments.items()}


class _Average(Generic[_Model]):
    """A copy of a model with an exponential moving average of its parameters.

    Unlike torch's `AveragedModel`, it reads no counter from the device in each step.
    """

    def __init__(self, model: _Model, keep: float) -> None:
        self.model = deepcopy(model)
        self._added = 1 - keep
        self._is_started = False

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the parameters of the model after a step; its buffers are copied."""
        averages: list[Tensor] = list(self.model.parameters())
        values: list[Tensor] = list(model.parameters())
        if self._is_started:
            torch._foreach_lerp_(averages, values, self._added)
        else:
            torch._foreach_copy_(averages, values)
        for copied, value in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(value)
        self._is_started = True

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore an average that has been updated."""
        self.model.load_state_dict(tensors)
        self._is_started = True


class _Sums:
    """The sums over an epoch's steps of the parts of the loss, on the device.

    The memory of the sums stays the same, so that recorded steps can add to them.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()
        self._names: tuple[str, ...] = ()

    def reset(self) -> None:
        """Begin an epoch."""
        self._counts.clear()
        for total in self._totals.values():
            total.zero_()

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Add the parts of a step."""
        self._names = tuple(parts)
        for name, value in parts.items():
            if name not in self._totals:
                self._totals[name] = torch.zeros_like(value.detach())
            self._totals[name] += value.detach()

    def count(self) -> None:
        """Count a step with the parts that were last added; a recorded step adds the same ones."""
        self._counts.update(self._names)

    def means(self, group: Group) -> dict[str, float]:
        """The mean of each part over the steps that have it, and over the processes of a group."""
        # Read once per epoch: reading a number waits for the device.
        return {
            name: float(group.mean(self._totals[name])) / count
            for name, count in self._counts.items()
        }


def _step_of(loss: Callable[[Tensor, Tensor, BatchRandom], Losses]) -> _Step:
    """The training step of a `LossTrained` model: minimise its loss on one batch."""

    def step(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> Mapping[str, Tensor]:
        features, labels = next(batches)
        losses = loss(features, labels, random)
        optimizers[_LOSS].minimize(losses.total)
        return losses.parts

    return step


class Trainer(Generic[_Model]):
    """Trains a model with Adam on a schedule.

    The whole state (weights, their average, moments, generator, epoch) can be saved after any
    epoch. A trainer that loads it continues, on the CPU, to bit-identical results.

    Parameters
    ----------
    model
        A torch module that is `LossTrained` or `StepTrained`, on the device of the rows. If it is
        `WarmedUp`, its ``warm_up`` is called before each epoch.
    feed
        The training rows; a model that is `Augmenting` makes others of them.
    config
        Settings.
    generator
        Source of batches and of the model's random numbers, on the device of the rows; in the same
        state in all processes of a group.
    precision
        Precision of the matrix products in a step.
    group
        The processes that train this model together, each on its share of every batch.
    graphs
        The graphs of the rows' device, to record steps and repeat them; None to run every step as
        it is.

    Raises
    ------
    InputError
        If the model is `StepTrained` and the group has several processes.
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
        graphs: Graphs | None = None,
    ) -> None:
        trained: object = model  # as a Module, the type checker would exclude protocols
        if isinstance(trained, Augmenting):
            feed = trained.training_feed(feed, generator)
        self.model = model
        self.feed = feed
        self.config = config
        self.generator = generator
        self.precision = precision
        self.group = group
        self.epoch = 0
        self._training_step: _Step
        groups: Mapping[str, ParameterGroup]
        if isinstance(trained, StepTrained):
            if group.size > 1:
                raise InputError(
                    f"--devices: found {group.size} processes, expected 1 for a model that has "
                    "several optimizers"
                )
            self._training_step, groups = trained.training_step, trained.parameter_groups()
            self._batches_per_step = trained.batches_per_step()
        else:
            self._training_step = _step_of(group.wrap(model, "loss"))
            groups = {_LOSS: ParameterGroup(list(model.parameters()))}
            self._batches_per_step = 1
        refusal = _why_not_recorded(trained, feed, group)
        if graphs is not None and refusal is not None:
            graphs.refuse(refusal)
            graphs = None
        self._graphs, recorded = graphs, graphs is not None
        self._optimizers = {
            name: _Adam(params, config, recorded=recorded) for name, params in groups.items()
        }
        self._average = _Average(model, config.averaging) if config.schedule == "fast" else None
        self._sums = _Sums()
        # The rows of the current step, whose memory a recorded step reads.
        self._rows = torch.zeros(
            (self._batches_per_step, self._batch_size // group.size),
            dtype=torch.int64,
            device=feed.labels.device,
        )
        self._recorded = self._new_recording()

    @property
    def result(self) -> _Model:
        """The trained model so far; under the fast schedule the one with averaged weights."""
        return self.model if self._average is None else self._average.model

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch, ``>= 1``."""
        return steps_per_epoch(len(self.feed.labels), self.config)

    def compile_loss(self) -> str | None:
        """Compile the loss with torch.compile, which takes half a minute.

        Returns
        -------
        str or None
            Why it failed, in which case the loss runs uncompiled; None if it succeeded.
        """
        model: object = self.model
        if isinstance(model, StepTrained) or not isinstance(model, LossTrained):
            return "the model has a training step in place of a loss"
        if self.group.size > 1:
            return "several processes train together"
        # Torch limits how often a function is recompiled, and other models count towards that.
        torch.compiler.reset()
        compiled = torch.compile(model.loss)
        rows = torch.arange(self._batch_size, device=self.feed.labels.device)
        batch = Batch(self.feed.take(rows), self.feed.labels[rows])
        # With the generator of the training: for another one it might be compiled again.
        state, buffers = self.generator.get_state(), list(self.model.buffers())
        values = [buffer.clone() for buffer in buffers]  # a loss may update statistics
        try:
            # The first call compiles.
            with warnings.catch_warnings():
                # The compiler advises against fp32, which was asked for.
                warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
                with tf32_products(self.precision), autocast(self.precision, rows.device):
                    losses = compiled(*batch, BatchRandom(self.generator))
                losses.total.backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # a missing compiler, an unknown processor, a driver ...
            return one_line(error)
        finally:
            self.generator.set_state(state)
            for buffer, value in zip(buffers, values, strict=True):
                buffer.copy_(value)
            self.model.zero_grad()
        self._training_step = _step_of(compiled)
        return None

    def run(self) -> None:
        """Train all epochs that are left."""
        while self.epoch < self.config.total_epochs:
            self.run_epoch()

    def run_epoch(self, on_step: Callable[[], object] = lambda: None) -> dict[str, float]:
        """Train one epoch, calling ``on_step`` after each step.

        Returns
        -------
        dict
            The mean of each part of the loss over the epoch's steps.
        """
        model: object = self.model
        if isinstance(model, WarmedUp):
            model.warm_up(self.epoch / self.config.total_epochs)
        self._sums.reset()
        with tf32_products(self.precision), flushing_denormals():
            for step, rows in enumerate(self._rows_of_steps()):
                self._set_learning_rate(self.epoch * self.steps_per_epoch + step)
                self._rows.copy_(rows)
                self._run_step()
                self._sums.count()
                on_step()
        self.epoch += 1
        return self._sums.means(self.group)

    @property
    def _batch_size(self) -> int:
        """Rows of a batch, over all processes."""
        n = len(self.feed.labels)
        return min(self.config.batch_size, n - n % self.group.size)

    def _rows_of_steps(self) -> Tensor:
        """The process's rows of an epoch, ``(steps, batches, batch_size / processes)``.

        An epoch of steps that take several batches has as many passes over the rows. Batches that
        are drawn are the beginnings of a pass each.
        """
        n, device = len(self.feed.labels), self.feed.labels.device
        steps, batches = self.steps_per_epoch, self._batches_per_step
        passes, taken = batches, steps * self._batch_size
        if self.config.batches == "drawn":
            passes, taken = steps * batches, self._batch_size
        orders = [
            torch.randperm(n, generator=self.generator, device=device)[:taken]
            for _ in range(passes)
        ]
        order = torch.cat(orders).view(steps * batches, self._batch_size)
        return self.group.share(order.T).T.reshape(steps, batches, -1)

    def _set_learning_rate(self, step: int) -> None:
        rate = learning_rate(self.config, step, len(self.feed.labels))
        for optimizer in self._optimizers.values():
            optimizer.set_learning_rate(rate)

    def _run_step(self) -> None:
        """Take a step on the current rows, recorded if that is possible."""
        if self._recorded is None:
            self._step()
            return
        try:
            self._recorded.call(self._step, self._prepare_recording)
            return
        except RecordingError as failure:
            assert self._graphs is not None
            self._graphs.refuse(failure.reason)
            self._graphs = self._recorded = None
            self.generator = torch.Generator(self.generator.device)
            self.generator.set_state(failure.generator_state)
        # Outside of the handler: the error holds the losses of the recording, and with them the
        # stream on which gradients accumulate.
        self._step()

    def _new_recording(self) -> Recorded | None:
        """Steps to be recorded; None without graphs."""
        if self._graphs is None:
            return None
        return Recorded(self._graphs.make(), self.generator)

    def _prepare_recording(self) -> None:
        for optimizer in self._optimizers.values():
            optimizer.prepare_recording()

    def _step(self) -> None:
        random = BatchRandom(self.generator, self.group.index, self.group.size)
        batches = (Batch(self.feed.take(rows), self.feed.labels[rows]) for rows in self._rows)
        expected = f"expected the {self._batches_per_step} of batches_per_step()"
        with autocast(self.precision, self.feed.labels.device):
            try:
                parts = self._training_step(batches, random, self._optimizers)
            except StopIteration as error:
                raise ValueError(f"training_step: found more batches taken, {expected}") from error
        if next(batches, None) is not None:
            raise ValueError(f"training_step: found fewer batches taken, {expected}")
        if self._average is not None:
            self._average.update(self.model)
        self._sums.add(parts)

    def save(self, path: Path, progress: Mapping[str, object]) -> None:
        """Write the state to one safetensors file, atomically.

        Parameters
        ----------
        path
            The file.
        progress
            JSON-ready values of the caller, which `load` returns.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        moments = {
            f"optimizer.{name}.{key}": value
            for name, optimizer in self._optimizers.items()
            for key, value in optimizer.state().items()
        }
        tensors |= moments
        if self._average is not None:
            tensors |= {f"average.{k}": v for k, v in self._average.model.state_dict().items()}
        tensors["generator"] = self.generator.get_state()
        state = {"epoch": self.epoch, "moments": sorted(moments), "progress": progress}
        write_tensors(path, tensors, {"state": json.dumps(state)})

    def load(self, path: Path) -> dict[str, Any]:
        """Restore the state that `save` wrote; return its ``progress``.

        Raises
        ------
        InputError
            If the file is damaged or belongs to another model.
        """
        device = self.feed.labels.device
        try:
            refuse_folder(path)
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.model.load_state_dict(_with_prefix("model.", tensors))
            if self._average is not None:
                self._average.load_state(_with_prefix("average.", tensors))
            # Look up every name that was written: a file without one of them is damaged.
            moments = {name: tensors[name] for name in state["moments"]}
            known = tuple(f"optimizer.{name}." for name in self._optimizers)
            if not all(name.startswith(known) for name in moments):
                raise ValueError("moments of other optimizers")
            for name, optimizer in self._optimizers.items():
                optimizer.load_state(_with_prefix(f"optimizer.{name}.", moments), device)
            self.generator.set_state(tensors["generator"])
            self.epoch = state["epoch"]
            progress: dict[str, Any] = state["progress"]
            # The optimizers have new moments, which a step that is recorded already does not know.
            self._recorded = self._new_recording()
        except Exception as error:
            raise InputError(
                f"{path}: not readable as the saved state of this run ({one_line(error)}), "
                "expected a file that this run wrote; delete it to start again"
            ) from error
        return progress


def _why_not_recorded(model: object, feed: Feed, group: Group) -> str | None:
    """Why the steps of a training cannot be recorded; None if nothing is known to prevent it."""
    if isinstance(model, Capturable) and not model.capturable:
        return f"the training steps of {type(model).__name__} differ from each other"
    if not is_in_memory(feed):
        return "the features are not in the memory of the device"
    if group.size > 1:
        return "several processes train together"
    return None


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
