"""Training without a run directory: make a model, train its epochs, ask it for rows.

Nothing here writes files, prints or shows progress; the caller does.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from gsmflow.core.errors import DivergedError
from gsmflow.core.memory import bounded_tensors
from gsmflow.core.precision import Precision
from gsmflow.core.rng import Generators
from gsmflow.core.settings import flag_of
from gsmflow.learning.contract import Choosing, Model, RowsRequest
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer
from gsmflow.recipes.recipe import Recipe

__all__ = [
    "check_finite",
    "classifier_generators",
    "make_model",
    "reservoir_bytes",
    "rows_request",
    "train_epochs",
]

_Module = TypeVar("_Module", bound=nn.Module)

# Rows of each unseen class for a classifier, where the model has no setting for their number.
_SAMPLES_PER_CLASS = 300
_BLOWN_UP = 1e6
_RESERVOIR_BYTES = 2**29


def make_model(
    recipe: Recipe,
    model_class: type[Model],
    scaled: Scaled,
    device: torch.device,
    choice: dict[str, Any] | None = None,
) -> Model:
    """A recipe's model for a problem, on a device; not yet trained if it is `Trainable`.

    ``choice`` holds the settings that a `Choosing` model chose on validation classes; None for
    other models.

    Raises
    ------
    InputError
        If its settings ask for a tensor that is larger than the machine's memory.
    """
    generators = Generators(recipe.seed, scaled.problem.split, device)
    with bounded_tensors(_largest_setting(recipe)):
        if choice is not None:
            assert issubclass(model_class, Choosing)
            model = model_class.for_choice(scaled, recipe.method, choice, generators)
        else:
            model = model_class.for_problem(scaled, recipe.method, generators)
    return model.to(device)


def _largest_setting(recipe: Recipe) -> str:
    """The method's largest whole number, as a flag with its value; its name if it has none."""
    whole = {name: value for name, value in vars(recipe.method).items() if type(value) is int}
    if not whole:
        return f"--model {recipe.model}"
    name = max(whole, key=whole.__getitem__)
    return f"{flag_of(name)} {whole[name]}"


def train_epochs(
    trainer: Trainer[_Module],
    history: list[dict[str, float]],
    on_step: Callable[[], object] = lambda: None,
) -> Iterator[tuple[dict[str, float], float]]:
    """Train to the last epoch.

    Parameters
    ----------
    trainer
        A new trainer, or one with a loaded state.
    history
        The records of the finished epochs; the record of each further epoch is appended.
    on_step
        Called after each step.

    Yields
    ------
    tuple
        After each epoch, its record (``epoch`` and the mean of each loss term) and its seconds.

    Raises
    ------
    DivergedError
        If the loss is not finite, or grows without bounds.
    """
    while trainer.epoch < trainer.config.total_epochs:
        start = time.monotonic()
        losses = trainer.run_epoch(on_step)
        check_finite({f"{name} loss": v for name, v in losses.items()}, trainer.epoch)
        history.append({"epoch": trainer.epoch, **losses})
        _check_bounded(history)
        yield history[-1], time.monotonic() - start


def check_finite(values: Mapping[str, float], epoch: int) -> None:
    """Raise `DivergedError` if one of the named values is not finite after an epoch."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged: found a {name} of {value} in epoch {epoch}, expected a "
                "finite number; lower --learning-rate or bring the features to another scale with "
                "--feature-scaling"
            )


def _check_bounded(history: Sequence[Mapping[str, float]]) -> None:
    """Raise `DivergedError` if a loss has grown far above its value in the first epoch.

    Such a loss may stay finite for many epochs, but does not recover.
    """
    first, last = history[0], history[-1]
    for name, value in last.items():
        bound = _BLOWN_UP * max(1.0, abs(first[name]))
        if value > bound:
            raise DivergedError(
                f"training diverged: found a {name} loss of {value:.2g} in epoch {last['epoch']}, "
                f"expected at most {bound:.2g}, {_BLOWN_UP:.0e} times that of the first epoch; "
                "lower --learning-rate or bring the features to another scale with "
                "--feature-scaling"
            )


def rows_request(
    recipe: Recipe,
    scaled: Scaled,
    precision: Precision,
    on_samples: Callable[[int], object] = lambda count: None,
) -> RowsRequest:
    """The request to a model for the rows that the classifiers learn from."""
    generators = Generators(recipe.seed, scaled.problem.split, scaled.feed.labels.device)
    return RowsRequest(
        scaled,
        generators.on_device("synthesis"),
        samples_per_class=recipe.samples_per_class or _SAMPLES_PER_CLASS,
        capacity_bytes=reservoir_bytes(recipe, scaled.feed.labels.device),
        samples_per_seen_class=recipe.samples_per_class,
        precision=precision,
        on_samples=on_samples,
    )


def reservoir_bytes(recipe: Recipe, device: torch.device) -> int:
    """Memory for synthesized rows.

    It depends on a GPU's memory but not on how much of it is free, so that the same run on the same
    machine streams or does not.
    """
    if recipe.reservoir_mib is not None:
        return recipe.reservoir_mib * 2**20
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 4
    return _RESERVOIR_BYTES


def classifier_generators(
    recipe: Recipe, scaled: Scaled
) -> tuple[torch.Generator, torch.Generator]:
    """Random generators of the GZSL and of the ZSL classifier, on the device of the rows."""
    generators = Generators(recipe.seed, scaled.problem.split, scaled.feed.labels.device)
    return generators.on_device("classifier"), generators.on_device("zsl classifier")
