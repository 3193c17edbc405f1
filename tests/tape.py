"""A graph for the CPU: it records operations on tensors and repeats them, as a CUDA graph does."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What a CUDA graph cannot record: reading a value, a shape that depends on values, and a copy of
# values from Python.
FORBIDDEN = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::unique",
    "aten::lift_fresh",
    "aten::item",
)


class Tape:
    """A `Graph` that repeats each operation on the same tensors, with no line of Python between."""

    def __init__(self) -> None:
        self._operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def warm_up(self, function: Callable[[], object]) -> None:
        function()

    def record(self, function: Callable[[], object], generator: torch.Generator | None) -> None:
        recorder = _Recorder(function_generator=generator)
        # A CUDA graph does none of the recorded work. Here it is done, and then undone.
        with recorder:
            function()
        recorder.undo()
        self._operations = recorder.operations

    @torch.no_grad()
    def replay(self) -> None:
        for operation, arguments, keywords, outputs in self._operations:
            results = list(_tensors(operation(*arguments, **keywords)))
            for output, result in zip(outputs, results, strict=True):
                if output.data_ptr() != result.data_ptr():
                    output.copy_(result)


class _Recorder(TorchDispatchMode):
    """Keeps the operations that run inside it, and the tensors' values before they were changed."""

    def __init__(self, function_generator: torch.Generator | None) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self._generator = function_generator
        self._state = None if function_generator is None else function_generator.get_state()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name
        keywords = kwargs or {}
        if name in FORBIDDEN:
            raise RuntimeError(f"{name} cannot be recorded")
        if torch.Tag.nondeterministic_seeded in func.tags:
            self._check_generator(name, keywords.get("generator"))
        for tensor in _changed(func, args, keywords):
            self._keep(tensor)
        result = func(*args, **keywords)
        outputs = list(_tensors(result))
        if not func.is_view:
            self.operations.append((func, args, keywords, outputs))
        return result

    def _check_generator(self, name: str, generator: torch.Generator | None) -> None:
        """Refuse numbers of another generator than the one that continues at each replay."""
        known = self._generator
        if generator is None or known is None:
            raise RuntimeError(f"{name} draws from a generator that is not known to the graph")
        # Operations get another object for the same generator: compare what it would draw.
        if not torch.equal(generator.get_state(), known.get_state()):
            raise RuntimeError(f"{name} draws from another generator")

    def _keep(self, tensor: Tensor) -> None:
        key = tensor.untyped_storage().data_ptr()
        if key not in self._before:
            whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())  # type: ignore[call-overload]
            self._before[key] = (whole, whole.clone())

    def undo(self) -> None:
        for whole, before in self._before.values():
            whole.copy_(before)
        if self._generator is not None:
            self._generator.set_state(self._state)


def _changed(func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation writes to."""
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else keywords.get(argument.name)
            yield from _tensors(value)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))
