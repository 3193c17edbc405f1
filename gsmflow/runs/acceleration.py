"""Whether a run records its steps as CUDA graphs and compiles its loss."""

import torch
from rich.console import Console

from gsmflow.core.graphs import CudaGraphs, Graphs
from gsmflow.recipes.recipe import Recipe

__all__ = ["compiles", "graphs_of"]

# With --compile auto, a loss is compiled for so many steps. Compiling takes about 20
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


def compiles(recipe: Recipe, device: torch.device, steps: int) -> bool:
    """Whether the loss of a training of some steps is compiled."""
    if recipe.compile != "auto":
        return recipe.compile == "on"
    # Steps that are launched kernel by kernel gain little: they wait for the launches.
    return device.type == "cuda" and recipe.cuda_graphs == "on" and steps >= _STEPS_THAT_PAY
