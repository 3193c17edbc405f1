"""What makes training steps faster on a GPU: CUDA graphs, and compiled blocks."""

import torch
from rich.console import Console
from torch import nn

from gsmflow.core.graphs import CudaGraphs, Graphs
from gsmflow.learning.contract import Compilable
from gsmflow.recipes.recipe import Recipe

__all__ = ["compile_blocks", "graphs_of"]

# With --compile auto, a training is compiled if it has so many steps. Compiling takes about 20
# seconds on a GPU, and a compiled step in a graph takes about a millisecond less.
_STEPS_THAT_PAY = 20_000


def graphs_of(recipe: Recipe, device: torch.device, console: Console) -> Graphs | None:
    """The graphs that a run records its steps with; None if it does not.

    A warning, once for each reason, says why some steps are not recorded.
    """
    if recipe.cuda_graphs == "off":
        return None
    warned: set[str] = set()

    def warn(reason: str) -> None:
        if reason not in warned:
            warned.add(reason)
            console.print(
                f"warning: --cuda-graphs: {reason}; these steps are launched kernel by kernel",
                soft_wrap=True,
            )

    if device.type != "cuda":
        warn(f"found on with device {device}, which has none")
        return None
    return CudaGraphs(device, warn)


def compile_blocks(recipe: Recipe, model: nn.Module, steps: int, console: Console) -> None:
    """Compile what a model offers to, if the recipe asks for it or a training is long enough.

    Parameters
    ----------
    recipe
        The recipe.
    model
        The model to train.
    steps
        Training steps.
    console
        For a line before, and a warning with the reason if it fails.
    """
    if not isinstance(model, Compilable) or not _compiles(recipe, model, steps):
        return
    console.print("compiling the coupling blocks")
    reason = model.compile_for_training()
    if reason is not None:
        console.print(
            f"warning: --compile: not possible here ({reason}); they run uncompiled",
            soft_wrap=True,
        )


def _compiles(recipe: Recipe, model: nn.Module, steps: int) -> bool:
    """Whether a training of some steps is compiled."""
    if recipe.compile != "auto":
        return recipe.compile == "on"
    # Steps that are launched kernel by kernel gain nothing: they wait for the launches.
    on_gpu = next(model.parameters()).device.type == "cuda"
    return on_gpu and recipe.cuda_graphs == "on" and steps >= _STEPS_THAT_PAY
