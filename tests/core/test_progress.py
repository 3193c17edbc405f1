import io
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gsmflow.core.progress import counted, counting, duration_text, heartbeat, progress


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A log: what was printed, with the second in which it was."""

    def __init__(self, clock: Clock, *, terminal: bool = False) -> None:
        self.stream = io.StringIO()
        self.console = Console(
            file=self.stream, width=200, force_terminal=terminal, color_system=None
        )
        self.lines: list[tuple[float, str]] = []
        plain = self.console.print

        def keep(text: Any, **settings: bool) -> None:
            if isinstance(text, str):  # no control of a bar
                self.lines.append((clock.now, text))
            plain(text, **settings)

        self.console.print = keep  # type: ignore[assignment, method-assign]

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.lines]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), st.integers(1, 30))
def test_log_has_a_line_at_least_every_thirty_seconds(steps: list[float], per_stage: int) -> None:
    clock = Clock()
    log = Log(clock)
    with heartbeat(log.console, clock=clock):
        for start in range(0, len(steps), per_stage):  # stages that are shorter than that too
            stage = steps[start : start + per_stage]
            with progress(log.console, "work", len(stage), unit="rows") as advance:
                for seconds in stage:
                    clock.now += seconds
                    advance()
    times = [0.0, *(when for when, _ in log.lines), clock.now]
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= 30
    assert len(log.lines) <= clock.now / 20


@given(st.integers(2, 50), st.integers(0, 49), st.floats(21, 1000), st.integers(1, 7))
def test_time_left_is_that_at_the_speed_so_far(
    total: int, done: int, seconds: float, size: int
) -> None:
    done = min(done, total - 1)
    clock = Clock()
    log = Log(clock)
    with progress(
        log.console, "fit", total * size, done * size, unit="epochs", size=size, clock=clock
    ) as advance:
        for _ in range(total - done):
            clock.now += seconds
            advance(size)
    left = [(total - done - i) * seconds for i in range(1, total - done + 1)]
    assert log.texts == [
        f"fit: {done + i} of {total} epochs, {duration_text(rest)} left"
        for i, rest in enumerate(left, start=1)
    ]


def test_work_inside_work_shares_its_line() -> None:
    clock = Clock()
    log = Log(clock)
    with progress(log.console, "SAE: choosing settings", clock=clock):
        for _ in counted("ab", "settings", 2):
            with progress(Console(quiet=True), "classifiers"), counting("rows", 4_000) as advance:
                clock.now += 30
                advance(1_000)
            with counting("rows", 10, repeated=True) as advance:
                clock.now += 30
                advance(5)
    assert log.texts == [
        "SAE: choosing settings, 0 of 2 settings, classifiers, 1,000 of 4,000 rows",
        "SAE: choosing settings, 0 of 2 settings, 5 of 10 rows",
        "SAE: choosing settings, 1 of 2 settings, classifiers, 1,000 of 4,000 rows, 2 min left",
        "SAE: choosing settings, 1 of 2 settings, 5 of 10 rows, 2 min left",
    ]


def test_terminal_has_one_bar_and_no_lines() -> None:
    clock = Clock()
    log = Log(clock, terminal=True)
    with (
        progress(log.console, "search", 4, unit="trials", clock=clock) as advance,
        progress(log.console, "training") as advance_training,
    ):
        for _ in range(4):
            clock.now += 100
            advance_training()
            advance()
    assert log.texts == []
    assert "search: 4 of 4 trials" in log.stream.getvalue()


def test_counts_go_on_silently_without_a_console() -> None:
    with counting("rows") as advance:
        advance()
        advance(3)
    assert [*counted(range(3), "rows", 3)] == [0, 1, 2]


def test_forked_process_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    log = Log(clock)
    with progress(log.console, "work", 2, clock=clock):
        monkeypatch.setattr("os.getpid", lambda: -1)
        for _ in counted("ab", "rows", 2):
            clock.now += 100
    assert log.texts == []


def test_work_that_fails_leaves_nothing_behind() -> None:
    clock = Clock()
    log = Log(clock)
    with heartbeat(log.console, clock=clock):
        with pytest.raises(ZeroDivisionError), progress(log.console, "first", 2):
            raise ZeroDivisionError
        with progress(log.console, "second", 2, unit="rows") as advance:
            clock.now += 40
            advance()
    assert log.texts == ["second: 1 of 2 rows, 40 s left"]
    with progress(log.console, "third", clock=clock) as advance:
        clock.now += 40
        advance()
    assert log.texts[1:] == ["third"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (89, "89 s"),
        (120, "2 min"),
        (5000, "83 min"),
        (7200, "2 h"),
        (9000, "2 h 30 min"),
    ],
)
def test_duration_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
