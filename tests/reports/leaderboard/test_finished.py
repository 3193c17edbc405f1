"""The file of a leaderboard's runs: what is written is read again, and damage is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.evaluation.bootstrap import RightAnswers
from gsmflow.reports.leaderboard.finished import (
    FinishedRun,
    OtherClassifier,
    RowsAnswered,
    TestRows,
    read_finished_runs,
    write_finished_runs,
)
from tests.fuzz import examples, mutations, read_or_refused

MEASURES = {
    **{"T1": 0.5, "U": 0.25, "S": 0.75, "H": 0.375, "AUSUC": 0.4},
    "calibrated": {"gamma": 0.1, "U": 0.5, "S": 0.5, "H": 0.5},
}


def run_on(rows: TestRows | None, seed: int = 0) -> FinishedRun:
    rng = np.random.default_rng(seed)
    answered = None if rows is None else RowsAnswered(rows, some_right(rows, seed, rng))
    beside = {}
    if seed % 2:
        # Of an older run, the figures alone are known.
        right = None if rows is None or seed == 3 else some_right(rows, seed, rng)
        beside = {
            "prototypes": OtherClassifier({**MEASURES, "T1": 0.625}, right),
            "né": OtherClassifier(MEASURES, None),
        }
    return FinishedRun(MEASURES, answered, 1.5, None, "a processor", "abc1234+changes", beside)


def some_right(rows: TestRows, seed: int, rng: np.random.Generator) -> RightAnswers:
    n, m = len(rows.labels), int((~rows.class_is_seen[rows.labels]).sum())
    return RightAnswers(
        gzsl=rng.random(n) < 0.5,
        zsl=rng.random(m) < 0.5 if m else None,
        gzsl_calibrated=rng.random(n) < 0.5 if seed else None,
    )


def assert_same_answers(found: RightAnswers | None, expected: RightAnswers | None) -> None:
    assert (found is None) == (expected is None)
    for kind in ("gzsl", "zsl", "gzsl_calibrated"):
        np.testing.assert_array_equal(getattr(found, kind, None), getattr(expected, kind, None))


def rows_of(labels: list[int], seen: list[bool]) -> TestRows:
    return TestRows(np.array(labels, dtype=np.int32), np.array(seen))


@st.composite
def many_runs(draw: st.DrawFn) -> dict[str, FinishedRun]:
    classes = draw(st.lists(st.booleans(), min_size=1, max_size=4))
    label = st.integers(0, len(classes) - 1)
    splits = draw(st.lists(st.lists(label, max_size=20), min_size=1, max_size=3))
    rows = [None, *(rows_of(labels, classes) for labels in splits)]
    picked = draw(st.lists(st.sampled_from(rows), max_size=5))
    return {f"data/method/seed{i}": run_on(of_run, i) for i, of_run in enumerate(picked)}


@given(many_runs())
@examples(60)
def test_runs_are_read_as_written(tmp_path: Path, runs: dict[str, FinishedRun]) -> None:
    path = tmp_path / "leaderboard.safetensors"
    write_finished_runs(path, runs)
    found = read_finished_runs(path)
    assert [*found] == [*runs]
    for name, run in runs.items():
        other = found[name]
        for field in ("measures", "seconds", "peak_mib", "device", "commit"):
            assert getattr(other, field) == getattr(run, field)
        assert [*other.beside] == [*run.beside]
        for classifier, theirs in run.beside.items():
            assert other.beside[classifier].measures == theirs.measures
            assert_same_answers(other.beside[classifier].right, theirs.right)
        if run.answered is None:
            assert other.answered is None
            continue
        assert other.answered is not None
        assert other.answered.rows.equals(run.answered.rows)
        assert_same_answers(other.answered.right, run.answered.right)


def test_run_with_another_classifier_has_its_figures_and_answers_and_no_costs() -> None:
    run = run_on(rows_of([0, 1, 2, 1], [True, True, False]), 1)
    other = run.with_classifier("prototypes")
    assert (other.measures["T1"], other.measures["U"]) == (0.625, MEASURES["U"])
    assert other.answered is not None
    assert other.answered.right is run.beside["prototypes"].right
    assert (other.seconds, other.peak_mib, other.device) == (None, None, run.device)
    assert run.with_classifier("né").answered is None


def test_rows_that_runs_share_take_their_room_once_and_answers_a_bit_each(tmp_path: Path) -> None:
    rows = rows_of([0, 1] * 40_000, [True, False])
    sizes = []
    for count in (1, 11):
        path = tmp_path / f"{count}.safetensors"
        write_finished_runs(path, {str(seed): run_on(rows, 1) for seed in range(count)})
        sizes.append(path.stat().st_size)
    bits = 2 * (80_000 + 40_000 + 80_000)  # of the run, and of one classifier beside
    assert (sizes[1] - sizes[0]) / 10 == pytest.approx(bits / 8, rel=0.05)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("kept") / "leaderboard.safetensors"
    rows = rows_of([0, 1, 2, 1, 0, 2, 2, 1, 0], [True, True, False])
    write_finished_runs(path, {"a": run_on(rows, 0), "b": run_on(rows, 1), "c": run_on(None)})
    return path.read_bytes()


@given(st.data())
@examples(300)
def test_damage_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, data: st.DataObject
) -> None:
    path = tmp_path / "leaderboard.safetensors"
    path.write_bytes(data.draw(mutations(content)))
    read_or_refused(lambda: read_finished_runs(path))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (b"0.75", b"7.75", "field 'S': found 7.75, expected"),
        (b"0.625", b"6.125", "run b, prototypes, field 'T1': found 6.125, expected"),
        (b"abc1234", rb"\\ud800", "expected"),
        (b"1.5", b"-15", "field .*seconds'?: found -15"),
        (b'"runs"', b'"rums"', "not readable as runs of a leaderboard"),
    ],
)
def test_other_values_are_refused(
    tmp_path: Path, content: bytes, old: bytes, new: bytes, part: str
) -> None:
    path = tmp_path / "leaderboard.safetensors"
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(InputError, match=part):
        read_finished_runs(path)
