"""Distributed training: a group of processes that train one model, through Lightning Fabric."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["SINGLE_PROCESS", "Group", "joined_group"]

_Value = TypeVar("_Value")

# While the main process measures or saves, the others wait for it at the next step.
_TIMEOUT = timedelta(days=2)
# The connections of a process that dies close before it is gone.
_FAREWELL_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Group:
    """A process's view of its distributed group.

    Attributes
    ----------
    fabric
        A launched Lightning Fabric; None for a single process.
    """

    fabric: "Fabric | None" = None

    @property
    def index(self) -> int:
        """The rank of this process, from 0."""
        return 0 if self.fabric is None else self.fabric.global_rank

    @property
    def size(self) -> int:
        """The number of processes."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def is_main(self) -> bool:
        """Whether this is the process of rank 0, which alone writes, prints and evaluates."""
        return self.index == 0

    def device(self, name: str) -> torch.device:
        """The device of this process: the named one, or in a group the one Fabric assigned."""
        return pick_device(name) if self.fabric is None else self.fabric.device

    def share(self, rows: Tensor) -> Tensor:
        """Rows ``(n / size,)`` of a batch ``(n,)`` for this process; `size` divides ``n``."""
        return rows.tensor_split(self.size)[self.index]

    def wrap(self, module: Any, method: str) -> Callable[..., Any]:
        """Wrap a module's method: its backward pass averages gradients over all processes."""
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
        """Call a function in the main process; all return its result or raise its `InputError`."""
        if self.fabric is None:
            return make()
        result: _Value | None = None
        message: str | None = None
        if self.is_main:
            try:
                result = make()
            except InputError as error:
                message = str(error)
        result, message = self.fabric.broadcast((result, message))
        if message is not None:
            raise InputError(message)
        return result  # type: ignore[return-value]

    def main_first(self, make: Callable[[], _Value]) -> _Value:
        """Call a function in each process, in the main process before the others."""
        results: list[_Value] = []
        self.share_result(lambda: results.append(make()))
        return results[0] if results else make()


SINGLE_PROCESS = Group()


@contextmanager
def joined_group(device: str, devices: int, nodes: int) -> Iterator[Group]:
    """A context in which this process belongs to the distributed group of its run.

    Under torchrun all processes run already. Otherwise the main process starts the others with
    its own command line.

    Parameters
    ----------
    device
        A name that `pick_device` accepts.
    devices
        Processes on each node: one for each GPU, or as many CPU processes.
    nodes
        Number of nodes.

    Raises
    ------
    InputError
        If the node has fewer GPUs, or the device cannot be used by several processes.
    UnavailableError
        If another process of the group has ended.
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
    # The import takes a second, which a run of a single process does not need.
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    strategy = DDPStrategy(timeout=_TIMEOUT)
    fabric = Fabric(accelerator=kind.type, devices=devices, num_nodes=nodes, strategy=strategy)
    parent = os.getppid()
    fabric.launch()
    try:
        yield Group(fabric)
    except RuntimeError as error:
        if not _is_of_lost_process(error):
            raise
        lost = UnavailableError(
            f"--devices {devices} --nodes {nodes}: found that another of the {devices * nodes} "
            "processes has ended, expected all of them to train together; the same command with "
            "--resume continues"
        )
        time.sleep(_FAREWELL_SECONDS)
        if os.getppid() != parent:  # it was the main process, which alone prints
            print(f"error: {lost}", file=sys.stderr)
        raise lost from error
    finally:
        # Its threads would still run when the interpreter exits, which can crash it.
        torch.distributed.destroy_process_group()


def _is_of_lost_process(error: RuntimeError) -> bool:
    """Whether an error says that the connection to another process is lost."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return any(word in str(error) for word in ("gloo", "Connection closed by peer"))
