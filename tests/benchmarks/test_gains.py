"""The benchmarks of predicted class means, on small data."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats

from benchmarks import gains, residuals
from gsmflow.data.checks import check_dataset
from tests.builders import make_dataset, write_gbu


def test_gain_and_error_give_the_paired_t_statistic() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 30))
    expected = stats.ttest_rel(first, second)
    mean, error = gains.gain(first, second)
    np.testing.assert_allclose(mean / error, expected.statistic)
    assert np.isnan(gains.gain(first[:1], second[:1])[1])


def test_every_seen_class_is_evaluated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gbu(tmp_path / "TINY", make_dataset())
    choice = {"ridge": 0.1, "shrinkage": 0.05, "classifier_lr": 3e-3}
    monkeypatch.setattr(gains.GaussianPrototypes, "choose", lambda *given: choice)
    found: list[gains.Pair] = []
    inner = gains.pairs

    def watched(options: gains.Options) -> Iterator[gains.Pair]:
        for pair in inner(options):
            found.append(pair)
            yield pair

    monkeypatch.setattr(gains, "pairs", watched)
    printed = StringIO()
    options = gains.Options(dataset="TINY", features="res101", data=tmp_path)
    gains.main(options, Console(file=printed, width=120))
    evaluated = [np.setdiff1d(pair.gaussian.labels, pair.gaussian.seen_classes) for pair in found]
    together = np.concatenate(evaluated)
    seen = check_dataset(make_dataset()).seen_classes
    assert len(set(together)) == len(together) > len(seen) - len(evaluated[0])
    assert set(together) <= set(seen)
    lines = printed.getvalue().splitlines()
    assert sum(line.startswith("draw ") for line in lines) == len(found)
    (row,) = [line for line in lines if line.strip("│ ").startswith("T1")]
    assert f" {len(together)} " in row
    for pair in found:
        np.testing.assert_array_equal(pair.gaussian.labels, pair.discriminant.labels)


def test_unit_gaussian_classifies_by_the_nearest_mean(tmp_path: Path) -> None:
    write_gbu(tmp_path / "TINY", make_dataset())
    options = residuals.Options(dataset="TINY", features="res101", transform="none", data=tmp_path)
    data = residuals.residuals_of(options)
    answers = data.classes[torch.cdist(data.unseen, data.prototypes).argmin(dim=1).numpy()]
    right = np.mean([(answers[data.labels == c] == c).mean() for c in data.classes])
    printed = StringIO()
    residuals.main(options, Console(file=printed, width=120))
    (row,) = [line for line in printed.getvalue().splitlines() if "unit Gaussian" in line]
    assert f" {100 * right:.1f} " in row
    assert printed.getvalue().count("flow, ") == 4
