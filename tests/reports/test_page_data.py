"""What a run keeps of its test split: against the whole scores, and scikit-learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA
from torch import Tensor

from gsmflow.core.errors import InputError
from gsmflow.evaluation.bootstrap import RightAnswers, right_answers
from gsmflow.evaluation.metrics import SeenUnseenCurve
from gsmflow.evaluation.protocol import Outcome
from gsmflow.learning.feed import MemoryFeed
from gsmflow.learning.sampling import FeatureSampler, synthesize
from gsmflow.reports.page_data import (
    Answers,
    ClassShifts,
    PageData,
    Probabilities,
    draw_features,
    pick_answers,
    pick_pictured,
    read_page_data,
    thin_curve,
    write_page_data,
)
from tests.builders import seeded
from tests.fuzz import examples, mutations, read_or_refused

SEEN, UNSEEN = np.array([1, 3, 6]), np.array([2, 7])
CLASSES = np.concatenate([SEEN, UNSEEN])


def make_outcome(seed: int, dtype: type = np.float32) -> Outcome:
    """Random scores, half of them whole numbers so that many are equal."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([CLASSES, rng.choice(CLASSES, 40)])
    scores = rng.integers(-3, 4, (len(labels), 5)).astype(dtype)
    scores[::2] += rng.normal(size=scores[::2].shape).astype(dtype)
    return Outcome.of_scores(scores, scores[np.isin(labels, UNSEEN), 3:], labels, CLASSES, SEEN)


@given(st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]), st.floats(-9, 9))
@settings(deadline=None, max_examples=50)
def test_answers_at_any_gamma_are_those_of_all_scores(
    seed: int, dtype: type, anywhere: float
) -> None:
    outcome = make_outcome(seed, dtype)
    answers = pick_answers(outcome, None)
    np.testing.assert_array_equal(CLASSES[answers.labels], outcome.labels)
    gaps = answers.seen_scores.astype(np.float64) - answers.unseen_scores
    for gamma in (0.0, anywhere, *gaps[:5].tolist()):
        seen = answers.seen_scores.astype(np.float64) - gamma >= answers.unseen_scores
        found = CLASSES[np.where(seen, answers.seen, answers.unseen)]
        np.testing.assert_array_equal(found, outcome.predictions(gamma))


def test_thinned_curve_keeps_its_ends_and_stays_close() -> None:
    count = 12345
    steps = np.linspace(0, 1, count)
    whole = SeenUnseenCurve(np.arange(count + 1.0), 1 - steps**2, steps)
    unseen, seen = thin_curve(whole)
    assert len(unseen) == 1000
    assert (unseen[0], seen[0], unseen[-1], seen[-1]) == (0, 1, 1, 0)
    np.testing.assert_allclose(seen, 1 - unseen**2)
    short = SeenUnseenCurve(np.arange(4.0), np.array([1, 0.5, 0]), np.array([0, 0.2, 1]))
    np.testing.assert_array_equal(thin_curve(short), [[0, 0.2, 1], [1, 0.5, 0]])


class Around:
    """Draws features around a point for each class, with noise."""

    def __init__(self, d: int) -> None:
        self.d = d

    def sampler(self, classes: Tensor) -> FeatureSampler:
        def draw(positions: Tensor, generator: torch.Generator) -> Tensor:
            return classes[positions, None] + torch.randn(
                len(positions), self.d, generator=generator
            )

        return draw


@pytest.mark.parametrize("many", [10, 1000])
@pytest.mark.parametrize(("d", "rows"), [(70, 30), (6, 30), (1, 5), (3, 1)])
def test_sample_is_in_its_principal_components(
    d: int, rows: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.reports.page_data._MANY_ROWS", many)
    labels = torch.tensor([7, 2] * rows)
    features = torch.randn(len(labels), d, generator=seeded(1)) * torch.arange(1, d + 1)
    unseen = MemoryFeed(features, labels)
    classes = np.array([2, 5, 7])  # there are no rows of 5
    sample = draw_features(Around(d), unseen, classes, seeded(0))
    again = draw_features(Around(d), unseen, classes, seeded(0))
    np.testing.assert_array_equal(sample.points, again.points)
    assert sample.real.sum() == len(labels)  # as few as these are all drawn
    np.testing.assert_array_equal(sample.labels[sample.real], 2 * (labels == 7).int())
    synthesized = sample.labels[~sample.real]
    each = 60
    assert np.bincount(synthesized).tolist() == [each, 0, each]

    # The generator and the classes are the same, and so are the features that are synthesized.
    theirs, _ = synthesize(Around(d), torch.tensor([2, 7]), each, seeded(0))
    together = torch.cat([features, theirs]).double().numpy()
    kept = min(50, d)
    reference = PCA(n_components=kept, svd_solver="full").fit(together)
    # The sign of a component is arbitrary.
    expected = np.abs(reference.transform(together))
    np.testing.assert_allclose(np.abs(sample.points), expected, atol=1e-3)
    np.testing.assert_allclose(sample.shares, reference.explained_variance_ratio_, atol=1e-6)


def make_page_data() -> PageData:
    outcome = make_outcome(0)
    points = torch.randn(20, 4, generator=seeded(2)).numpy()
    unseen = MemoryFeed(torch.from_numpy(points), torch.tensor([2, 7] * 10))
    real, synthesized = (
        ClassShifts(np.array([0.5, share]), np.array([1, 2, np.nan, 4, 5])) for share in (1.0, 0.1)
    )
    return PageData(
        answers=pick_answers(outcome, None),
        curves={"Ours, né <i>": thin_curve(outcome.curve()), "curves.0": np.zeros((2, 3))},
        sample=draw_features(Around(4), unseen, np.array([2, 7]), seeded(0)),
        shifts={"": real, "Ours, né <i>": synthesized},
        right=right_answers(outcome, 0.5),
        right_beside={"new": right_answers(outcome, -1.0), "right.0": right_answers(outcome)},
        probabilities=Probabilities(np.random.default_rng(1).random(len(outcome.labels))),
    )


def test_page_data_is_read_back_unchanged(tmp_path: Path) -> None:
    page_data, file = make_page_data(), tmp_path / "page_data.safetensors"
    write_page_data(file, page_data)
    found = read_page_data(file, 5)
    assert list(found.curves) == list(page_data.curves)
    assert list(found.shifts) == ["", "Ours, né <i>"]
    pairs = [(found.answers, page_data.answers), (found.sample, page_data.sample)]
    pairs += [(found.right, page_data.right), (found.probabilities, page_data.probabilities)]
    assert list(found.right_beside) == list(page_data.right_beside)
    pairs += zip(found.right_beside.values(), page_data.right_beside.values(), strict=True)
    pairs += list(zip(found.shifts.values(), page_data.shifts.values(), strict=True))
    for ours, theirs in pairs:
        for name, values in vars(theirs).items():
            np.testing.assert_array_equal(getattr(ours, name), values)
            assert values is None or getattr(ours, name).dtype == values.dtype
    for name, curve in page_data.curves.items():
        np.testing.assert_array_equal(found.curves[name], curve)


def damaged(change: str, page_data: PageData) -> PageData:
    answers, sample = page_data.answers, page_data.sample
    if change == "class":
        return replace(page_data, answers=replace(answers, seen=answers.seen + 5))
    if change == "length":
        return replace(page_data, answers=Answers(**{**vars(answers), "seen": answers.seen[1:]}))
    if change == "probability":
        return replace(page_data, probabilities=Probabilities(np.full(len(answers.labels), 2.0)))
    if change == "few probabilities":
        return replace(page_data, probabilities=Probabilities(np.ones(3)))
    if change == "few answers":
        right = RightAnswers(np.ones(3, dtype=bool))
        return replace(page_data, right_beside={"other": right})
    if change == "sample":
        return replace(page_data, sample=replace(sample, real=sample.real[1:]))
    return replace(page_data, curves={"Ours": np.zeros((3, 2))})


@pytest.mark.parametrize(
    "change",
    ["class", "length", "probability", "few probabilities", "few answers", "sample", "curve"],
)
def test_page_data_that_does_not_fit_is_refused(tmp_path: Path, change: str) -> None:
    file = tmp_path / "page_data.safetensors"
    write_page_data(file, damaged(change, make_page_data()))
    with pytest.raises(InputError, match="not readable as what this run kept") as caught:
        read_page_data(file, 5)
    assert str(file) in str(caught.value)


def test_damaged_page_data_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "page_data.safetensors"
    write_page_data(file, make_page_data())
    content = file.read_bytes()
    for broken in (b"", content[:100], content[:-9], b"\xff" * 8 + content):
        file.write_bytes(broken)
        with pytest.raises(InputError, match="not readable as what this run kept"):
            read_page_data(file, 5)
    file.write_bytes(content)
    with pytest.raises(InputError, match="not of 6 classes"):
        read_page_data(file, 6)
    save_file(load_file(file), file)  # without what the arrays are called
    with pytest.raises(InputError, match="delete it to do without"):
        read_page_data(file, 5)


@examples(200)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole, file = folder / "whole.safetensors", folder / "damaged.safetensors"
    if not whole.is_file():
        write_page_data(whole, make_page_data())
    file.write_bytes(data.draw(mutations(whole.read_bytes())))
    read_or_refused(lambda: read_page_data(file, 5))


def test_of_many_classes_a_sample_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.data.splits.MOST_DIAGNOSED", 6)
    labels = torch.arange(9).repeat(4)
    features = torch.randn(36, 5, generator=seeded(1))
    sample = draw_features(Around(5), MemoryFeed(features, labels), np.arange(9), seeded(0))
    real, synthesized = (np.unique(sample.labels[side]) for side in (sample.real, ~sample.real))
    assert len(real) == 6
    np.testing.assert_array_equal(real, synthesized)


def test_names_of_pictures_are_kept_in_their_order(tmp_path: Path) -> None:
    answers = pick_answers(make_outcome(0), None)
    names = {row: f"größe/{row} 花.png" for row in (7, 0, 3)}
    page_data = PageData(answers=answers, curves={}, sample=None, shifts={}, pictures=names)
    file = tmp_path / "page_data.safetensors"
    write_page_data(file, page_data)
    assert [*read_page_data(file, len(CLASSES)).pictures.items()] == [*names.items()]
    write_page_data(file, replace(page_data, pictures={}))
    assert read_page_data(file, len(CLASSES)).pictures == {}
    write_page_data(file, replace(page_data, pictures={len(answers.labels): "a.png"}))
    with pytest.raises(InputError, match="pictures are not names of answered rows"):
        read_page_data(file, len(CLASSES))


@given(st.integers(0, 2**32), st.sampled_from([None, -2.0, 0.5]))
@settings(deadline=None, max_examples=50)
def test_pictured_rows_come_in_turns_of_classes_with_the_highest_scores_first(
    seed: int, gamma: float | None
) -> None:
    outcome = make_outcome(seed)
    order = pick_pictured(pick_answers(outcome, None), len(SEEN), gamma).tolist()
    said, best = outcome.predictions(gamma), outcome.best
    groups: dict[tuple[int, bool], list[tuple[float, int]]] = {}
    for row, (label, answer) in enumerate(zip(outcome.labels, said, strict=True)):
        score = float(best.unseen_scores[row])
        if answer in SEEN:
            score = float(best.seen_scores[row]) - (gamma or 0.0)
        position = CLASSES.tolist().index(label)
        groups.setdefault((position, bool(label == answer)), []).append((-score, row))
    keys = {
        row: (position < len(SEEN) or rank >= 12, rank, position, right)
        for (position, right), group in groups.items()
        for rank, (_, row) in enumerate(sorted(group))
    }
    assert order == sorted(range(len(outcome.labels)), key=keys.__getitem__)
