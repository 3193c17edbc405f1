"""The processes that train one model together, through Lightning Fabric."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["SINGLE_PROCESS", "Group", "joined_group"]

_Value = TypeVar("_Value")

# While the first process measures or saves, the others wait for it at the next step.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True, eq=False)
class Group:
    """One process's view of the team; without a fabric it is alone.

    Attributes
    ----------
    fabric
        Lightning's, launched.
    """

    fabric: "Fabric | None" = None

    @property
    def index(self) -> int:
        """Which process this is; the one of index 0 alone writes, prints and judges."""
        return 0 if self.fabric is None else self.fabric.global_rank

    @property
    def size(self) -> int:
        """How many processes there are."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, prints and judges."""
        return self.index == 0

    def device(self, name: str) -> torch.device:
        """The device of this process: the one of this name, or its own in a team."""
        return pick_device(name) if self.fabric is None else self.fabric.device

    def share(self, rows: Tensor) -> Tensor:
        """The rows of a batch ``(n,)`` that are this process's; ``n`` is a multiple of `size`."""
        return rows.tensor_split(self.size)[self.index]

    def wrap(self, module: Any, method: str) -> Callable[..., Any]:
        """A method of a torch module, after whose backward all hold the mean of the gradients."""
        if self.fabric is None:
            return getattr(module, method)  # type: ignore[no-any-return]
        wrapped = self.fabric.setup_module(module, move_to_device=False)
        wrapped.mark_forward_method(method)
        return getattr(wrapped, method)  # type: ignore[no-any-return]

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.fabric is None:
            return value
        return torch.as_tensor(self.fabric.all_reduce(value, reduce_op="mean"))

    def share_result(self, make: Callable[[], _Value]) -> _Value:
        """What the first process makes, or its `InputError`, for all of them."""
        if self.fabric is None:
            return make()
        result: _Value | None = None
        mistake: str | None = None
        if self.is_main:
            try:
                result = make()
            except InputError as error:
                mistake = str(error)
        result, mistake = self.fabric.broadcast((result, mistake))
        if mistake is not None:
            raise InputError(mistake)
        return result  # type: ignore[return-value]

    def main_first(self, make: Callable[[], _Value]) -> _Value:
        """What each process makes for itself, the first before the others."""
        made: list[_Value] = []
        self.share_result(lambda: made.append(make()))
        return made[0] if made else make()


SINGLE_PROCESS = Group()


@contextmanager
def joined_group(device: str, devices: int, nodes: int) -> Iterator[Group]:
    """A context in which the processes of a run are there, started or joined.

    Under torchrun the processes are there already; otherwise the first one starts the others
    with its own command line.

    Parameters
    ----------
    device
        A name that `pick_device` knows.
    devices
        Processes on each node, each with a device of its own (on the CPU, a process).
    nodes
        Number of nodes.

    Raises
    ------
    InputError
        If there are fewer devices, or the device is one that a team cannot use.
    """
    if devices * nodes == 1:
        yield SINGLE_PROCESS
        return
    kind = pick_device(device)
    if kind.type == "mps" or kind != torch.device(kind.type):
        raise InputError(
            f"--device: found {device} with --devices {devices} --nodes {nodes}, expected cpu or "
            "cuda where several processes train together"
        )
    if kind.type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"--devices: found {devices}, expected at most {torch.cuda.device_count()}, the number "
            "of GPUs here"
        )
    # Imported where it is used: it takes a second that a run of one process need not wait.
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    strategy = DDPStrategy(timeout=_PATIENCE)
    fabric = Fabric(accelerator=kind.type, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    try:
        yield Group(fabric)
    finally:
        # Else its threads would be running when the interpreter ends, which may abort it.
        torch.distributed.destroy_process_group()
