"""Progress of long work: a bar on a terminal, and in a log a line at least every 30 seconds.

`progress` opens a level of the work, and `counted` and `counting` one inside it, wherever they are
called below: what computes needs no console for it. All levels share one line, such as ``final
training: 12 of 60 epochs, 2 min left``.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

__all__ = ["Advance", "counted", "counting", "duration_text", "heartbeat", "progress"]

_Item = TypeVar("_Item")
# Called with how much was done since the last call; 1 where nothing is said.
Advance: TypeAlias = Callable[..., object]
Clock: TypeAlias = Callable[[], float]

# Work is counted step by step, and a line comes with a step: the rest of the 30 seconds is for it.
_LINE_SECONDS = 20.0
_BAR_SECONDS = 0.1


@dataclass(eq=False)
class _Level:
    """A piece of work whose parts are counted; ``size`` counts are one of the ``unit``.

    What is ``repeated`` within its work says nothing of the time that is left.
    """

    text: str
    unit: str
    total: int | None
    first: int
    size: int
    repeated: bool
    started: float
    done: int

    def __str__(self) -> str:
        done, unit = self.done // self.size, f" {self.unit}" if self.unit else ""
        if self.total is not None:
            count = f"{done:,} of {self.total // self.size:,}{unit}"
        else:
            count = f"{done:,}{unit}" if self.unit else ""
        return ": ".join(part for part in (self.text, count) if part)

    def seconds_left(self, now: float) -> float | None:
        """At the speed so far; None where that is not known."""
        if self.total is None or self.repeated or self.done == self.first:
            return None
        return (now - self.started) * (self.total - self.done) / (self.done - self.first)


class _Heartbeat:
    """The levels of the work of a process, and where their progress is shown."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._levels: list[_Level] = []
        self._last = clock()
        self._process = os.getpid()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    @property
    def is_of_this_process(self) -> bool:
        """False in a forked one, whose output is another's."""
        return self._process == os.getpid()

    @contextmanager
    def level(
        self,
        text: str,
        unit: str,
        total: int | None,
        done: int = 0,
        *,
        size: int = 1,
        repeated: bool = False,
    ) -> Iterator[Advance]:
        """A context in which a piece of work is counted."""
        level = _Level(text, unit, total, done, size, repeated, self._clock(), done)
        self._levels.append(level)

        def advance(count: int = 1) -> None:
            level.done += count
            self._tell()

        try:
            yield advance
        finally:
            self._levels.remove(level)

    @contextmanager
    def bar(self) -> Iterator[None]:
        """A context with a bar on a terminal; the outermost one is shown."""
        if self._bar is not None or not self._console.is_terminal:
            yield
            return
        columns = TextColumn("{task.description}"), BarColumn(bar_width=20)
        with Progress(*columns, console=self._console, transient=True) as self._bar:
            self._task = self._bar.add_task(self._line(self._clock()), total=None)
            try:
                yield
            finally:
                self._show(self._bar)
                self._bar = None

    def _tell(self) -> None:
        """Update the bar, or print a line if the last is long ago."""
        now, bar = self._clock(), self._bar
        if now - self._last < (_LINE_SECONDS if bar is None else _BAR_SECONDS):
            return
        self._last = now
        if bar is None:
            self._console.print(self._line(now), soft_wrap=True)
        else:
            self._show(bar)

    def _show(self, bar: Progress) -> None:
        """Update the bar, which is of the outermost work whose amount is known."""
        known = [level for level in self._levels if level.total is not None]
        total, done = (known[0].total, known[0].done) if known else (None, 0)
        text = self._line(self._clock())
        bar.update(self._task, description=text, total=total, completed=done)

    def _line(self, now: float) -> str:
        counting = (level for level in self._levels if level.unit or level.total is not None)
        outermost = next(counting, None)
        left = None if outermost is None else outermost.seconds_left(now)
        parts = [text for text in map(str, self._levels) if text]
        return ", ".join([*parts, *([] if left is None else [f"{duration_text(left)} left"])])


_CURRENT: ContextVar[_Heartbeat | None] = ContextVar("heartbeat", default=None)


def _current() -> _Heartbeat | None:
    found = _CURRENT.get()
    return found if found is not None and found.is_of_this_process else None


@contextmanager
def heartbeat(console: Console, *, clock: Clock = time.monotonic) -> Iterator[None]:
    """A context whose work shows its progress, with one clock for all of it.

    Inside another such context, it changes nothing.

    Parameters
    ----------
    console
        Where lines are printed, or a bar is shown if it is a terminal.
    clock
        Gives seconds.
    """
    if _current() is not None:
        yield
        return
    token = _CURRENT.set(_Heartbeat(console, clock))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def progress(
    console: Console,
    text: str,
    total: int | None = None,
    done: int = 0,
    *,
    unit: str = "",
    size: int = 1,
    clock: Clock = time.monotonic,
) -> Iterator[Advance]:
    """A context in which a piece of work shows its progress; see the module.

    Parameters
    ----------
    console, clock
        As of `heartbeat`; those of the work around it count, if there is any.
    text
        What the work is.
    total
        How much there is; None where that is not known.
    done
        How much was done before.
    unit
        What is counted, such as ``"rows"``.
    size
        How many counts are one of the unit, as the steps of an epoch.

    Yields
    ------
    callable
        To be called with how much was done since the last call.
    """
    with heartbeat(console, clock=clock):
        beat = _CURRENT.get()
        assert beat is not None
        with beat.level(text, unit, total, done, size=size) as advance, beat.bar():
            yield advance


@contextmanager
def counting(
    unit: str, total: int | None = None, *, size: int = 1, repeated: bool = False
) -> Iterator[Advance]:
    """A context that counts parts of the work around it; yields as `progress`.

    Parameters
    ----------
    unit
        What is counted, such as ``"values of gamma"``.
    total
        How many there are; None where that is not known.
    size
        How many counts are one of the unit.
    repeated
        Whether there are more such loops in that work, so that this one says nothing of the time
        that is left.
    """
    beat = _current()
    if beat is None:
        yield lambda count=1: None
        return
    with beat.level("", unit, total, size=size, repeated=repeated) as advance:
        yield advance


def counted(
    items: Iterable[_Item], unit: str, total: int | None = None, *, repeated: bool = False
) -> Iterator[_Item]:
    """The items, each counted when the next is asked for.

    Parameters
    ----------
    items
        Parts of the work around it.
    unit, total, repeated
        As of `counting`.
    """
    with counting(unit, total, repeated=repeated) as advance:
        for item in items:
            yield item
            advance()


def duration_text(seconds: float) -> str:
    """Seconds in words: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
