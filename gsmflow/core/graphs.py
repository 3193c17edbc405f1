"""Graphs: the device work of a function, recorded once and repeated without launching each kernel.

A training step of small kernels waits for their launches most of the time. A CUDA graph launches
all of them at once.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["CudaGraphs", "Graph", "Graphs", "Recorded", "RecordingError", "allow_recording"]

# Calls before the recording: they make what a function makes once, such as an optimizer's state.
_WARM_UP_CALLS = 3


class Graph(Protocol):
    """Records the device work of a function, and repeats it.

    Repeating does what the recorded work did, to the same memory: no line of Python runs again, and
    the function's branches stay as they were. Random numbers continue the generator's stream.
    """

    def warm_up(self, function: Callable[[], object]) -> None:
        """Call a function as it will be recorded, but do its work at once."""

    def record(self, function: Callable[[], object], generator: torch.Generator | None) -> None:
        """Record the work of a function; none of it is done yet.

        Parameters
        ----------
        function
            It may not wait for the device or read one of its values.
        generator
            The generator whose numbers it draws on the device; None if it draws none.
        """

    def replay(self) -> None:
        """Do the recorded work."""


class Graphs(Protocol):
    """The graphs of a device."""

    def make(self) -> Graph:
        """A new graph."""

    def refuse(self, reason: str) -> None:
        """Note that some work is not recorded, and why; it is then done as without graphs."""

    def side_by_side(self, jobs: Sequence[Iterator[object]]) -> None:
        """Run iterators to their ends, in turn; what they do on the device may overlap."""


class RecordingError(Exception):
    """A function could not be recorded.

    Attributes
    ----------
    reason
        Why, in one line.
    generator_state
        The state of the generator before the recording, empty without one. A failed recording
        leaves the generator itself unusable.
    """

    def __init__(self, reason: str, generator_state: Tensor) -> None:
        super().__init__(reason)
        self.reason = reason
        self.generator_state = generator_state


class _CudaGraph:
    """A `Graph` of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        # The default stream cannot be recorded. The warm-up is on the stream of the recording,
        # because the gradients of a weight accumulate on the stream of its first use.
        self._stream = _new_stream(device)

    def warm_up(self, function: Callable[[], object]) -> None:
        """Call a function on the stream of the recording."""
        with self._on_stream():
            function()

    def record(self, function: Callable[[], object], generator: torch.Generator | None) -> None:
        """Record the work of a function; arguments as `Graph.record` has."""
        if generator is not None:
            # With this, each replay goes on from where the generator's stream is.
            self._graph.register_generator_state(generator)
        torch.cuda.synchronize(self._device)
        with self._on_stream(), _no_garbage_collection():
            self._graph.capture_begin()
            try:
                function()
            except BaseException:
                with suppress(RuntimeError):  # it fails too; the first error has the reason
                    self._graph.capture_end()
                raise
            self._graph.capture_end()

    def replay(self) -> None:
        """Do the recorded work on the current stream."""
        self._graph.replay()

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """A context on the stream of the recording, in order with the work before and after."""
        outer = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            yield
        outer.wait_stream(self._stream)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A context in which no object is collected whose end may call the device."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class CudaGraphs:
    """The `Graphs` of a CUDA device.

    Parameters
    ----------
    device
        The device.
    on_refusal
        Called with the reason when some work is not recorded.
    """

    def __init__(self, device: torch.device, on_refusal: Callable[[str], object]) -> None:
        self._device = device
        self._on_refusal = on_refusal

    def make(self) -> Graph:
        """A new CUDA graph."""
        return _CudaGraph(self._device)

    def refuse(self, reason: str) -> None:
        """Call ``on_refusal``."""
        self._on_refusal(reason)

    def side_by_side(self, jobs: Sequence[Iterator[object]]) -> None:
        """Advance iterators in turn, each on a CUDA stream, until all have ended."""
        outer = torch.cuda.current_stream(self._device)
        streams = [_new_stream(self._device) for _ in jobs]
        for stream in streams:
            stream.wait_stream(outer)
        pending = list(zip(streams, jobs, strict=True))
        while pending:
            for pair in list(pending):
                stream, job = pair
                with torch.cuda.stream(stream):
                    try:
                        next(job)
                    except StopIteration:
                        pending.remove(pair)
        for stream in streams:
            outer.wait_stream(stream)


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def allow_recording(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer be recorded; it refuses otherwise, and warns if it is not recorded then."""
    for group in optimizer.param_groups:
        group["capturable"] = True


class Recorded:
    """Calls of one function that are run as they are at first, then recorded, then repeated.

    It does not hold the function, whose owner may hold it: so the memory of both is free as soon as
    the owner is.

    Parameters
    ----------
    graph
        Records and repeats the function.
    generator
        The generator whose numbers the function draws on the device; None if it draws none.
    """

    def __init__(self, graph: Graph, generator: torch.Generator | None = None) -> None:
        self._graph = graph
        self._generator = generator
        self._calls = 0
        self._is_recorded = False

    def call(
        self,
        function: Callable[[], object],
        before_recording: Callable[[], object] = lambda: None,
    ) -> None:
        """Do the function's work once.

        Parameters
        ----------
        function
            The same in every call. It does the same work on the same memory: what differs between
            calls is read from tensors that are changed in place.
        before_recording
            Called once, right before the recording.

        Raises
        ------
        RecordingError
            If the recording failed; the work of this call is then not done.
        """
        if self._calls < _WARM_UP_CALLS:
            self._calls += 1
            self._graph.warm_up(function)
            return
        if not self._is_recorded:
            before_recording()
            self._record(function)
        self._graph.replay()

    def _record(self, function: Callable[[], object]) -> None:
        state = torch.empty(0) if self._generator is None else self._generator.get_state()
        try:
            self._graph.record(function, self._generator)
        except Exception as error:  # an operation that waits, a driver, an older torch ...
            # The first line is the reason; CUDA's errors go on with general advice.
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise RecordingError(reason, state) from error
        self._is_recorded = True
