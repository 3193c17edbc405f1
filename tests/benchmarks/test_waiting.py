import io

import pytest
from rich.console import Console

from benchmarks import waiting
from gsmflow.core.threads import SPIN_COUNT


def test_epochs_are_timed_after_one_that_is_not() -> None:
    seconds = waiting.time_epochs(1, 1)
    assert len(seconds) == 1
    assert seconds[0] > 0


def test_table_has_a_row_for_every_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[dict[str, str], int]] = []

    def measure(policy: dict[str, str], options: waiting.Options, threads: int) -> str:
        measured.append((dict(policy), threads))
        return f"{len(measured)}.00"

    monkeypatch.setattr(waiting, "_median_seconds", measure)
    console = Console(file=io.StringIO(), width=120)
    waiting.main(waiting.Options(), console)
    assert f"GOMP_SPINCOUNT={SPIN_COUNT} " in console.file.getvalue()
    assert [threads for _, threads in measured] == [1, 1, *([2] * 14)]
    assert ({"OMP_WAIT_POLICY": "PASSIVE"}, 2) in measured
