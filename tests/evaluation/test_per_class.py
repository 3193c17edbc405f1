import csv
from collections import Counter
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.per_class import (
    ClassAnswers,
    answers_by_class,
    read_confusion,
    read_per_class,
    write_confusion,
    write_per_class,
)
from gsmflow.evaluation.protocol import Outcome

# Seen and unseen class numbers interleave and leave gaps; columns are in neither one's order.
CLASSES, SEEN = np.array([6, 1, 3, 7, 2]), np.array([1, 3, 6])
UNSEEN = np.array([7, 2])
NAMES = ["-", "one", "two", "three", "-", "-", 'six, "6"', "größe"]


def make_scores(
    seed: int, n: int = 40, without: int | None = None
) -> tuple[NDArray[np.float32], IntArray]:
    """Random scores, whole numbers so that many are equal, and labels; one class may have none."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([CLASSES, rng.choice(CLASSES, n)])
    labels = labels[labels != without]
    scores = rng.integers(0, 4, (len(labels), 5)) + 2 * (labels[:, None] == CLASSES)
    scores[:, :3] += 1  # the usual bias towards seen classes
    return scores.astype(np.float32), labels


def make_outcome(seed: int, n: int = 40, without: int | None = None) -> Outcome:
    scores, labels = make_scores(seed, n, without)
    return Outcome.of_scores(scores, scores[np.isin(labels, UNSEEN), 3:], labels, CLASSES, SEEN)


def test_answers_of_a_hand_made_case_are_counted() -> None:
    # Columns: seen classes 6, 1, 3, unseen 7, 2.
    table = [
        ([9, 0, 0, 0, 0], 6),  # right by 9
        ([2, 0, 0, 1, 0], 6),  # right, lost to 7 with a gamma of 1.5
        ([0, 0, 5, 4, 0], 1),  # lost to 3
        ([0, 0, 4, 5, 0], 1),  # lost to 7: as frequent, but a later column
        ([0, 0, 5, 4, 0], 7),  # lost to 3, right with it, right among the unseen
        ([0, 0, 5, 0, 0], 7),  # lost to 3
        ([0, 0, 0, 0, 5], 7),  # lost to 2 in both settings
        ([0, 0, 0, 5, 0], 7),  # right
        ([0, 0, 0, 0, 5], 2),  # right
    ]
    scores, labels = (np.array(part) for part in zip(*table, strict=True))
    outcome = Outcome.of_scores(scores, scores[labels % 5 == 2, 3:], labels, CLASSES, SEEN)
    found = [astuple(record) for record in answers_by_class(outcome, 1.5, NAMES)]
    assert found == [
        ('six, "6"', "seen", 2, 1.0, 0.5, None, None, None),
        ("one", "seen", 2, 0.0, 0.0, None, "three", 0.5),
        ("three", "seen", 0, None, None, None, None, None),
        ("größe", "unseen", 4, 0.25, 0.5, 0.75, "three", 0.5),
        ("two", "unseen", 1, 1.0, 1.0, 1.0, None, None),
    ]
    without = answers_by_class(outcome, None, NAMES)
    assert [record.gzsl_calibrated for record in without] == [None] * 5
    assert [record.gzsl for record in without] == [row[3] for row in found]


@given(st.integers(0, 2**32), st.floats(-3, 3))
@settings(deadline=None)
def test_accuracies_equal_sklearn_recalls(seed: int, gamma: float) -> None:
    outcome = make_outcome(seed)
    records = answers_by_class(outcome, gamma, NAMES)
    for found, answers in (
        ([record.gzsl for record in records], outcome.predictions()),
        ([record.gzsl_calibrated for record in records], outcome.predictions(gamma)),
    ):
        expected = recall_score(outcome.labels, answers, labels=CLASSES, average=None)
        assert found == pytest.approx(expected.tolist())
    is_unseen = np.isin(outcome.labels, UNSEEN)
    answers = UNSEEN[make_scores(seed)[0][is_unseen, 3:].argmax(axis=1)]
    expected = recall_score(outcome.labels[is_unseen], answers, labels=UNSEEN, average=None)
    expected_zsl = [None, None, None, *expected.tolist()]
    assert [record.zsl for record in records] == pytest.approx(expected_zsl)


@given(st.integers(0, 2**32), st.floats(-3, 3))
@settings(deadline=None)
def test_means_over_classes_equal_the_measures_of_the_run(seed: int, gamma: float) -> None:
    outcome = make_outcome(seed)
    records, measures = answers_by_class(outcome, gamma, NAMES), measure(outcome, gamma)
    seen, unseen = ([r for r in records if r.kind == kind] for kind in ("seen", "unseen"))
    assert np.mean([r.gzsl for r in seen]) == pytest.approx(measures.plain["S"])
    assert np.mean([r.gzsl for r in unseen]) == pytest.approx(measures.plain["U"])
    assert np.mean([r.zsl for r in unseen]) == pytest.approx(measures.plain["T1"])
    assert np.mean([r.gzsl_calibrated for r in unseen]) == pytest.approx(measures.calibrated["U"])
    whole = balanced_accuracy_score(outcome.labels, outcome.predictions())
    assert np.mean([r.gzsl for r in records]) == pytest.approx(whole)


@pytest.mark.parametrize("without", [None, 3, 2])
def test_most_frequent_wrong_answer_equals_brute_force(without: int | None) -> None:
    outcome = make_outcome(0, without=without)
    answers = CLASSES[make_scores(0, without=without)[0].argmax(axis=1)]
    for c, record in zip(CLASSES, answers_by_class(outcome, None, NAMES), strict=True):
        wrong = [a for a, label in zip(answers, outcome.labels, strict=True) if a != c == label]
        most = max(CLASSES, key=wrong.count)  # the first of several
        assert record.rows == np.count_nonzero(outcome.labels == c)
        if wrong:
            assert record.wrong_answer == NAMES[most]
            assert record.wrong_share == pytest.approx(wrong.count(most) / record.rows)
        else:
            assert (record.wrong_answer, record.wrong_share) == (None, None)


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("gamma", [None, 0.5])
def test_per_class_file_holds_the_records(tmp_path: Path, gamma: float | None) -> None:
    outcome = make_outcome(1, without=3)
    write_per_class(tmp_path / "new" / "per_class.csv", outcome, gamma, NAMES)
    header, *lines = read_csv(tmp_path / "new" / "per_class.csv")
    assert header == [field.name for field in fields(ClassAnswers)]
    records = answers_by_class(outcome, gamma, NAMES)
    # Numbers are written in full: read back, they are the same bits.
    for line, record in zip(lines, records, strict=True):
        for cell, value in zip(line, astuple(record), strict=True):
            assert cell == "" if value is None else type(value)(cell) == value
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["per_class.csv"]


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_confusion_file_holds_the_matrix_of_sklearn(tmp_path: Path, gamma: float) -> None:
    outcome = make_outcome(2, without=3)
    write_confusion(tmp_path / "confusion.csv", outcome, NAMES, gamma)
    header, *lines = read_csv(tmp_path / "confusion.csv")
    names = [NAMES[c] for c in CLASSES]
    assert header[1:] == names
    assert [line[0] for line in lines] == names
    shifted = make_scores(2, without=3)[0] - gamma * np.isin(CLASSES, SEEN)
    answers = CLASSES[shifted.argmax(axis=1)]
    expected = confusion_matrix(outcome.labels, answers, labels=CLASSES)
    assert [[int(cell) for cell in line[1:]] for line in lines] == expected.tolist()


def test_written_answers_are_read_back(tmp_path: Path) -> None:
    outcome = make_outcome(0, without=3)
    write_per_class(tmp_path / "per_class.csv", outcome, 0.5, NAMES)
    found = read_per_class(tmp_path / "per_class.csv")
    assert found == answers_by_class(outcome, 0.5, NAMES)
    write_confusion(tmp_path / "confusion.csv", outcome, NAMES)
    expected = confusion_matrix(outcome.labels, outcome.predictions(), labels=CLASSES)
    found = read_confusion(tmp_path / "confusion.csv", 5)
    np.testing.assert_array_equal(found.toarray(), expected)


def test_confusion_of_many_classes_is_a_list_of_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    classes, labels = np.arange(1001), rng.integers(0, 1001, 400)
    labels[:100] = 7  # of which some answers are the same
    answers = np.where(labels == 7, rng.integers(0, 3, 400), rng.integers(0, 1001, 400))
    scores = (answers[:, None] == classes).astype(np.float32)
    zsl_scores = scores[labels >= 900, 900:]
    outcome = Outcome.of_scores(scores, zsl_scores, labels, classes, classes[:900])
    names = [f"c{c}" for c in classes]
    write_confusion(tmp_path / "confusion.csv", outcome, names)
    header, *lines = read_csv(tmp_path / "confusion.csv")
    assert header == ["true position", "answer position", "rows", "true class", "answer"]
    pairs = Counter(zip(labels.tolist(), answers.tolist(), strict=True))
    expected = [[str(a), str(b), str(n), names[a], names[b]] for (a, b), n in sorted(pairs.items())]
    assert lines == expected
    found = read_confusion(tmp_path / "confusion.csv", 1001)
    np.testing.assert_array_equal(
        found.toarray(), confusion_matrix(labels, answers, labels=classes)
    )
    with pytest.raises(InputError, match="expected the file that this run wrote"):
        read_confusion(tmp_path / "confusion.csv", 5)
    mistakes = answers_by_class(outcome, None, names)[7]
    assert mistakes.wrong_answer == names[max(range(3), key=lambda a: pairs[7, a])]
    assert mistakes.wrong_share == max(pairs[7, a] for a in range(3)) / mistakes.rows


HEADER = ",".join(field.name for field in fields(ClassAnswers))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: found ''"),
        (["name,kind"], "line 1: found 'name,kind', expected the header of such a file"),
        ([HEADER, "a,seen,3,1.0"], "line 2: found 'a,seen,3,1.0' (not enough values"),
        ([HEADER, "a,seen,3,1.5,,,,"], "line 2: found 'a,seen,3,1.5,,,,' (1.5 is no share of 1)"),
        ([HEADER, "a,both,3,1,,,,"], "(both and 3 are no kind and no number of rows)"),
        ([HEADER, "a,seen,x,1,,,,"], "line 2: found 'a,seen,x,1,,,,' (invalid literal"),
        ([HEADER, "a,seen,3,1,,,,"], "found 1 classes, expected seen, then unseen ones"),
        ([HEADER, "a,unseen,3,1,,,,", "b,seen,3,1,,,,"], "found 2 classes, expected seen, then"),
    ],
)
def test_damaged_answers_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    file = tmp_path / "per_class.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        read_per_class(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "t,a,b\na,1,2", "t,a,b\na,1,2\nb,1,x", "t,a,b\na,1,2\nb,1,-1"]
)
def test_damaged_confusion_matrix_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "confusion.csv"
    file.write_text(text)
    with pytest.raises(InputError, match="found no counts of 2 classes with 2 answers each"):
        read_confusion(file, 2)
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not readable"):
        read_confusion(file, 2)


def test_no_name_is_run_by_a_spreadsheet_and_all_come_back(tmp_path: Path) -> None:
    outcome, names = make_outcome(0), ["-", "=1+1", "+a", "@SUM(A1)", "-", "-", "-x", "'=b"]
    write_per_class(tmp_path / "per_class.csv", outcome, 0.5, names)
    write_confusion(tmp_path / "confusion.csv", outcome, names)
    for file in tmp_path.iterdir():
        with file.open(newline="", encoding="utf-8") as stream:
            cells = [cell for line in csv.reader(stream) for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    found = read_per_class(tmp_path / "per_class.csv")
    assert [record.name for record in found] == [names[c] for c in outcome.classes]
    assert read_confusion(tmp_path / "confusion.csv", len(CLASSES)).sum() == len(outcome.labels)
