"""The seconds of a run's stages, as records of its log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from gsmflow.core.devices import synchronize
from gsmflow.reports.stage_seconds import OTHER, STAGE_EVENT
from gsmflow.runs.directory import RunLog

__all__ = ["StageClock"]

_SAVE_EVERY_SECONDS = 20.0
_CPU = torch.device("cpu")


@dataclass
class _Stage:
    """An open stage, with what is not in the log yet."""

    name: str
    seconds: float = 0.0
    epochs: int = 0
    epoch_seconds: float = 0.0


class StageClock:
    """Measures the stages of a run and writes their seconds into its log.

    A second belongs to the innermost open stage alone, so that none is counted twice, and to
    ``other`` where no stage is open. The records of a stage add up: a long training writes one
    every 20 seconds, so that a killed run loses few, and a resumed run appends its own.

    Parameters
    ----------
    log
        Where the records are written; None: nowhere.
    device
        The device whose work a stage waits for before its clock is read.
    """

    def __init__(self, log: RunLog | None = None, device: torch.device = _CPU) -> None:
        self._log = log
        self._device = device
        self._prefix = ""
        self._open = [_Stage(OTHER)]
        self._read_at = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A context whose seconds are those of a stage; stages inside it have their own."""
        self._read()
        self._open.append(_Stage(self._prefix + name))
        try:
            yield
        finally:
            self.save()
            self._open.pop()

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """A context in which the names of stages begin with another name."""
        outer = self._prefix
        self._prefix = f"{outer}{name}: "
        try:
            yield
        finally:
            self._prefix = outer

    def count_epoch(self, seconds: float) -> None:
        """Count an epoch of the open stage, which took these seconds of it."""
        stage = self._open[-1]
        stage.epochs += 1
        stage.epoch_seconds += seconds
        if stage.seconds + time.monotonic() - self._read_at > _SAVE_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Write a record with what the open stage has taken since its last record."""
        self._read()
        stage = self._open[-1]
        epochs = {"epochs": stage.epochs, "epoch_seconds": stage.epoch_seconds}
        self.record(stage.name, stage.seconds, **(epochs if stage.epochs else {}))
        self._open[-1] = _Stage(stage.name)

    def record(self, name: str, seconds: float, **epochs: float) -> None:
        """Write a record of a stage that was measured elsewhere."""
        if self._log is not None:
            self._log.write(STAGE_EVENT, stage=name, seconds=seconds, **epochs)

    def _read(self) -> None:
        """Add the seconds since the last reading to the open stage."""
        synchronize(self._device)
        now = time.monotonic()
        self._open[-1].seconds += now - self._read_at
        self._read_at = now
