"""Memory that tensors ask for, compared with the machine's before they get it."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch.overrides import TorchFunctionMode

from gsmflow.core.errors import InputError, one_line

__all__ = ["bounded_tensors"]

_GIBIBYTE = 2**30
# What torch says where it gets no memory, and how much of it is shown.
_NO_MEMORY = re.compile("allocate memory|not enough memory|out of memory|overflow")
_SHOWN = 120
_BY_SHAPE = (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand)


class _TooLargeError(Exception):
    """A tensor that does not fit; its text is its shape and its size."""


class _Bounded(TorchFunctionMode):
    """Refuses a tensor that is larger than the machine's memory before it is made."""

    def __init__(self) -> None:
        super().__init__()
        self._most = psutil.virtual_memory().total

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type[Any]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func in _BY_SHAPE and str(options.get("device")) != "meta":
            first = options.get("size", args[0] if args else ())
            shape = tuple(first) if isinstance(first, Sequence) else tuple(args)
            self._check(shape, options.get("dtype") or torch.get_default_dtype())
        elif func is torch.empty_like:
            self._check(tuple(args[0].shape), args[0].dtype)
        return func(*args, **options)

    def _check(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        asked = math.prod(shape) * dtype.itemsize
        if asked > self._most:
            raise _TooLargeError(
                f"a tensor of shape {shape}, {asked // _GIBIBYTE:,} GiB, expected no more than the "
                f"{self._most // _GIBIBYTE:,} GiB of this machine"
            )


@contextmanager
def bounded_tensors(what: str) -> Iterator[None]:
    """A context in which no tensor is made that is larger than the machine's memory.

    Parameters
    ----------
    what
        What asks for tensors, for messages.

    Raises
    ------
    InputError
        In place of asking for the memory.
    """
    try:
        with _Bounded():
            yield
    except _TooLargeError as error:
        raise InputError(f"{what}: found settings that ask for {error}") from error
    except (RuntimeError, MemoryError) as error:
        # What is made of tensors otherwise, such as by repeating their rows.
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise InputError(
            f"{what}: found settings that ask for more memory than there is "
            f"({one_line(error)[:_SHOWN]}), expected smaller ones"
        ) from error
