"""Measure training steps of f-CLSWGAN against the plain baseline."""

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.plain_gan import PlainGANTrainer, plain_gan_copy
from benchmarks.speed.measure import in_turn
from benchmarks.speed.sizes import Size, made_up_scaled
from benchmarks.speed.steps import PLAIN, Way, make_trainer, rows_for, ways_on
from gsmflow.core.rng import Generators, make_generator
from gsmflow.methods.f_clswgan import FCLSWGAN, FCLSWGANConfig

__all__ = ["gan_ways_on", "made_up_gan", "measure_gan_steps"]

_CPU = torch.device("cpu")


def gan_ways_on(device: torch.device) -> list[Way]:
    """The ways to take steps on a device; a step with several optimizers is not compiled."""
    return [way for way in ways_on(device) if not way.compiled]


def made_up_gan(size: Size, steps: int) -> FCLSWGAN:
    """An untrained model of a size, on the CPU, whose seen classifier had one pass over the rows.

    The rows are those of some steps.
    """
    problem, _ = rows_for(size, steps, _CPU)
    config = size.recipe.method
    assert isinstance(config, FCLSWGANConfig)
    generators = Generators(size.recipe.seed, problem.split, _CPU)
    scaled = made_up_scaled(problem, _CPU)
    model = FCLSWGAN.for_problem(scaled, replace(config, seen_epochs=1), generators)
    assert isinstance(model, FCLSWGAN)
    return model


def measure_gan_steps(
    size: Size,
    device: torch.device,
    *,
    steps: int,
    repetitions: int,
    on_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time steps of the package and of the baseline, which computes in fp32, in turn.

    Parameters
    ----------
    size
        Size of model and data.
    device
        Where both compute.
    steps
        Steps of the generator in one timing, each after those of the critic.
    repetitions
        Timings of each function, after a warm-up.
    on_round
        Called after each round, for a progress bar.

    Returns
    -------
    dict
        Seconds of one step, by the name of the way and ``"plain"``.
    """
    model = made_up_gan(size, steps)
    problem, feed = rows_for(size, steps, device)
    seed, training = size.recipe.seed, size.recipe.training
    baseline = PlainGANTrainer(
        plain_gan_copy(model).to(device),
        feed.features.cpu().numpy(),
        feed.labels.cpu().numpy(),
        problem.semantics,
        problem.seen_classes,
        training,
        make_generator(_CPU, seed, "training"),
    )

    def train() -> None:
        for _ in range(steps):
            baseline.step()

    functions: list[tuple[str, Callable[[], object]]] = [(PLAIN, train)]
    for way in gan_ways_on(device):
        ours = made_up_gan(size, steps)
        functions.append((way.name, make_trainer(ours, size, feed, device, way).run_epoch))
    seconds = in_turn(functions, repetitions, device, on_round)
    return {name: [s / steps for s in values] for name, values in seconds.items()}
