"""Classes compared by semantics and by features, against scikit-learn and mixed-up datasets."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import cosine_similarity

from gsmflow.core.tables import terminal_table
from gsmflow.data.dataset import Dataset
from gsmflow.data.similar_classes import ClassComparison, compare_classes, comparison_grid
from tests.builders import make_dataset


def compared(dataset: Dataset) -> ClassComparison:
    found = compare_classes(dataset)
    assert found is not None
    return found


def test_similar_classes_equal_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 4 * 6 * 17)
    dataset = make_dataset(classes=30, unseen=6, val=4)
    means = np.stack([dataset.features[dataset.labels == c].mean(axis=0) for c in range(30)])
    sides = [cosine_similarity(rows) for rows in (dataset.semantics, means)]
    pairs = np.triu_indices(30, k=1)
    found = compared(dataset)
    assert found.agreement == pytest.approx(spearmanr(*(s[pairs] for s in sides)).statistic)
    assert found.compared == 30
    assert len(found.shown) == 5
    for similar in found.shown:
        c = dataset.class_names.index(similar.name)
        for side, names in zip(sides, (similar.by_semantics, similar.by_features), strict=True):
            order = [j for j in np.argsort(-side[c]) if j != c][:3]
            assert names == tuple(dataset.class_names[j] for j in order)


def test_permuted_semantics_disagree_with_the_features() -> None:
    dataset = make_dataset(classes=60, unseen=12, val=6)
    dataset = replace(dataset, features=dataset.semantics[dataset.labels])
    shifted = replace(dataset, semantics=np.roll(dataset.semantics, 1, axis=0))
    right, wrong = compared(dataset), compared(shifted)
    assert right.agreement == pytest.approx(1)
    assert wrong.agreement == pytest.approx(0, abs=0.1)

    def common(found: ClassComparison) -> int:
        return sum(len({*s.by_semantics} & {*s.by_features}) for s in found.shown)

    assert common(right) == 5 * 3
    assert common(wrong) <= 4


def test_classes_without_rows_and_values_that_are_not_finite_do_not_count() -> None:
    dataset = make_dataset(classes=12)
    kept = dataset.labels != 4
    dataset.features[0, 0] = np.nan
    fewer = replace(dataset, features=dataset.features[kept], labels=dataset.labels[kept])
    found = compared(fewer)
    assert found.compared == 11
    named = [name for s in found.shown for name in (s.name, *s.by_semantics, *s.by_features)]
    assert dataset.class_names[4] not in named


def test_few_or_equal_classes_have_no_agreement() -> None:
    assert compare_classes(make_dataset(classes=3, unseen=1, val=1)) is None
    same = replace(make_dataset(), semantics=np.ones((10, 5), np.float32))
    assert compared(same).agreement is None


def test_of_many_classes_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.data.similar_classes.MOST_DIAGNOSED", 7)
    found = compared(make_dataset(classes=30, unseen=6, val=4))
    assert found.compared == 7
    console = Console(width=80, record=True)
    console.print(terminal_table(comparison_grid(found)))
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 80
    assert "pairs of 7 classes" in " ".join(printed.split())
